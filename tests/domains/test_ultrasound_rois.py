# SPDX-License-Identifier: Apache-2.0
"""Regions from files: what they hold, what is measured in them, what is said of broken ones."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pellucid.core.errors import FormatError
from pellucid.core.types import Description
from pellucid.domains.ultrasound import metrics, rois

SHAPE = (60, 80)
TSV = (
    "name\tshape\n# drawn by hand\na\trectangle\t10\t20\t5\t25\nc\tcircle\t30\t40\t10\np\tpolygon\t0\t0\t0\t40\t40\t0\n"
)


def written(folder: Path, text: str, name: str = "rois.json") -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_both_kinds_of_file_mean_the_same(tmp_path: Path) -> None:
    shapes = {"a": [10, 20, 5, 25], "c": [30, 40, 10], "p": [[0, 0], [0, 40], [40, 0]]}
    one = rois.read(written(tmp_path, json.dumps(shapes)), SHAPE)
    two = rois.read(written(tmp_path, TSV, "rois.tsv"), SHAPE)
    assert list(one) == list(two) and all(np.array_equal(one[k], two[k]) for k in one)
    assert one["a"].sum() == 200 and one["a"][10:20, 5:25].all()
    assert one["c"].sum() == pytest.approx(np.pi * 100, rel=0.03)
    assert one["p"].sum() == pytest.approx(800, rel=0.05) and one["p"][5, 5] and not one["p"][39, 39]


@pytest.mark.parametrize(
    "text",
    ['{"a": [1]}', '{"a": [0, 99, 0, 5]}', '{"a": [5, 5, 0, 5]}', '{"a": "b"}', '{"a": [[0, 0], [1, 1]]}', "{}", "{"]
    + ["", "a\tsquare\t1", "a\tcircle\t1\t2", "a\tcircle\t1\tx\t2", "\x00\xff", '{"a": [0, 1e999, 0, 5]}'],
)
def test_what_is_no_region_is_said_in_one_line(text: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError) as caught:
        rois.read(written(tmp_path, text), SHAPE)
    assert "\n" not in str(caught.value)
    with pytest.raises(FormatError, match="no such file"):
        rois.read(tmp_path / "none.json", SHAPE)


def test_speckle_has_its_known_figures(tmp_path: Path) -> None:
    values = np.random.default_rng(0).rayleigh(size=(200, 200, 3)).astype(np.float32)
    values[:, 100:] *= 2
    d = Description("npy", values.shape, ("axial", "lateral", "frame"), "float32", "envelope")
    path = written(tmp_path, json.dumps({"left": [0, 200, 0, 100], "background": [0, 200, 100, 200]}))
    found = rois.figures(values, d, path)
    assert found["left_speckle_snr"] == pytest.approx(1.913, abs=0.03) and found["left_n"] == 20_000
    assert found["background_mean_db"] - found["left_mean_db"] == pytest.approx(20 * np.log10(2), abs=0.1)
    assert found["left_cnr"] == pytest.approx(6.02 / (5.57 * np.sqrt(2)), abs=0.03)
    assert 0.4 < found["left_gcnr"] < 0.6 and "background_cnr" not in found
    scaled = rois.figures(1e-6 * values, d, path)
    assert scaled == pytest.approx(found, rel=1e-3, abs=1e-3)


def test_the_shell_prints_regions_before_and_after(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    given = shared_data("ultrasound/clarius/carotid_env.raw")
    path = written(tmp_path, json.dumps({"lumen": [190, 225, 60, 160], "background": [292, 318, 60, 160]}))
    words = [sys.executable, "-m", "pellucid", "ultrasound"]
    clear = tmp_path / "clear.raw"
    subprocess.run([*words, "despeckle", str(given), "-qo", str(clear)], check=True, capture_output=True)
    asked = [*words, "evaluate", str(clear), "--input", str(given), "--rois", str(path), "--json"]
    document = json.loads(subprocess.run(asked, check=True, capture_output=True, text=True).stdout)
    before, after = document["rois_before"], document["rois"]
    assert before["lumen_gcnr"] == pytest.approx(0.760, abs=0.002) and before["lumen_cnr"] == pytest.approx(
        1.47, abs=0.01
    )
    assert after["lumen_gcnr"] > 0.93 and after["lumen_cnr"] > 1.85 and before["lumen_n"] == 3500
    alone = subprocess.run([*words, "evaluate", str(clear), "--rois", str(path)], capture_output=True, text=True)
    assert alone.returncode == 0 and alone.stdout.startswith("result's regions")
    other = [sys.executable, "-m", "pellucid", "image", "evaluate", str(clear), "--rois", str(path)]
    assert subprocess.run(other, capture_output=True).returncode == 2


def test_regions_agree_with_the_metrics_they_are_made_of(tmp_path: Path) -> None:
    values = np.random.default_rng(1).integers(0, 256, SHAPE).astype(np.uint8)
    d = Description("png", SHAPE, ("y", "x"), "uint8", "bmode", acquisition={"dynamic_range_db": 60.0})
    path = written(tmp_path, json.dumps({"a": [0, 30, 0, 40], "a_background": [30, 60, 40, 80]}))
    found = rois.figures(values.astype(np.float32), d, path)
    dB = metrics.decibels(values.astype(np.float32), d)  # noqa: N806
    assert found["a_cnr"] == metrics.cnr(dB[:30, :40], dB[30:, 40:])
    assert found["a_gcnr"] == metrics.gcnr(dB[:30, :40], dB[30:, 40:])
