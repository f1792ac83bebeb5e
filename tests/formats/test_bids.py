# SPDX-License-Identifier: Apache-2.0
"""BIDS names, the inheritance principle, derivatives."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pellucid.formats import bids


@pytest.mark.parametrize(
    ("name", "desc", "expected"),
    [
        ("sub-01_dwi.nii.gz", "denoised", "sub-01_desc-denoised_dwi.nii.gz"),
        ("sub-01_ses-2_acq-x_run-01_T1w.nii", "denoised", "sub-01_ses-2_acq-x_run-01_desc-denoised_T1w.nii"),
        ("sub-01_dwi.nii.gz", "noise", "sub-01_desc-noise_dwimap.nii.gz"),
        ("sub-01_desc-preproc_bold.nii.gz", "denoised", "sub-01_desc-preprocDenoised_bold.nii.gz"),
        ("scan.nii.gz", "denoised", "scan_denoised.nii.gz"),
        ("scan.v2.hdr", "denoised", "scan.v2_denoised.hdr"),
        ("sub-01.nii.gz", "denoised", "sub-01_denoised.nii.gz"),
        ("mysub-01_dwi.nii", "denoised", "mysub-01_dwi_denoised.nii"),
        ("plain", "denoised", "plain_denoised"),
    ],
)
def test_outputs_are_named_as_derivatives_where_the_input_is_bids(name, desc, expected):
    assert bids.output_name(Path("/data") / name, desc) == Path("/data") / expected


def test_an_output_is_never_called_as_its_input():
    for name in ("sub-01_desc-denoised_dwi.nii.gz", "a.nii", "a_denoised.nii"):
        assert bids.output_name(Path(name)).name != name


@pytest.fixture
def tree(tmp_path):
    folder = tmp_path / "sub-01" / "ses-1" / "dwi"
    folder.mkdir(parents=True)
    (tmp_path / "dataset_description.json").write_text("{}")
    return tmp_path, folder


def write(path: Path, **facts: object) -> None:
    path.write_text(json.dumps(facts))


def test_the_nearest_sidecar_wins_and_the_far_ones_fill_in(tree):
    root, folder = tree
    write(root / "dwi.json", a=1, b=1, c=1)
    write(root / "sub-01" / "sub-01_dwi.json", b=2, c=2)
    write(folder / "sub-01_ses-1_dwi.json", c=3)
    found = bids.inherited(folder / "sub-01_ses-1_dwi.nii.gz", ".json")
    assert bids.merged(found) == {"a": 1, "b": 2, "c": 3}


def test_sidecars_of_other_acquisitions_do_not_apply(tree):
    root, folder = tree
    write(root / "acq-b0_dwi.json", wrong=1)
    write(root / "bold.json", wrong=1)
    write(root / "sub-02_dwi.json", wrong=1)
    write(root.parent / "dwi.json", wrong=1)  # above the data set
    write(folder / "sub-01_ses-1_run-2_dwi.json", wrong=1)
    assert bids.merged(bids.inherited(folder / "sub-01_ses-1_dwi.nii.gz", ".json")) == {}


def test_gradients_at_the_root_are_inherited(tree):
    root, folder = tree
    (root / "dwi.bval").write_text("0 1000")
    assert bids.inherited(folder / "sub-01_ses-1_dwi.nii.gz", ".bval") == [root / "dwi.bval"]


def test_outside_a_data_set_only_the_sibling_counts(tmp_path):
    write(tmp_path / "dwi.json", a=1)
    write(tmp_path / "sub-01_dwi.json", a=2)
    assert bids.inherited(tmp_path / "sub-01_dwi.nii.gz", ".json") == [tmp_path / "sub-01_dwi.json"]
    assert bids.inherited(tmp_path / "none_dwi.nii.gz", ".json") == []


@pytest.mark.parametrize("text", ["[1, 2]", "{broken", "", "[" * 100_000])
def test_a_sidecar_that_is_no_object_counts_as_empty(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    assert bids.merged([tmp_path / "a.json"]) == {}


def test_a_derivative_keeps_the_history_and_names_its_source():
    made = bids.derivative({"EchoTime": 0.07, "GeneratedBy": [{"Name": "x"}]}, "sub-01/dwi/a.nii", "pellucid", "1")
    assert made["GeneratedBy"] == [{"Name": "x"}, {"Name": "pellucid", "Version": "1"}]
    assert made["Sources"] == ["bids:raw:sub-01/dwi/a.nii"]
    assert made["EchoTime"] == 0.07 and made["SkullStripped"] is False


def test_the_description_of_a_derivative_data_set_has_what_bids_requires():
    made = bids.dataset_description("pellucid", "1.0", "https://example.org/raw")
    assert {"Name", "BIDSVersion", "DatasetType", "GeneratedBy", "SourceDatasets"} <= set(made)
    assert made["DatasetType"] == "derivative"
