# SPDX-License-Identifier: Apache-2.0
"""What programs read is what the published schemas say."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

ROOT = Path(os.environ.get("PELLUCID_ROOT", Path(__file__).parent.parent.parent))
SCHEMAS = ROOT / "docs" / "schemas"
NAMES = ("info", "plan", "row", "estimate", "evaluate", "methods", "sidecar")
FILES = {
    "mri": ("t1.nii.gz", "--case", "t1", "--size", "24x24x16"),
    "speech": ("voice.wav", "--size", "32000"),
    "image": ("picture.png", "--size", "64x64"),
    "hyperspectral": ("scene.dat", "--size", "24x24x20"),
}

pytestmark = pytest.mark.skipif(
    not SCHEMAS.is_dir(), reason="the schemas are not beside the tests; PELLUCID_ROOT names the repository"
)


def validator(name: str) -> Any:
    schema = json.loads((SCHEMAS / f"{name}.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def holds(name: str, text: str) -> list[dict[str, Any]]:
    """Validate each line of a command's output; return the documents."""
    documents = [json.loads(line) for line in text.splitlines()]
    assert documents, f"no {name} was printed"
    for document in documents:
        validator(name).validate(document)
    return documents


def said(done: Any, code: int = 0) -> str:
    assert done.returncode == code, done.stderr
    return str(done.stdout)


@pytest.mark.parametrize("field", FILES)
def test_every_document_of_a_field_follows_its_schema(field: str, shell: Any) -> None:
    name, *size = FILES[field]
    said(shell(field, "simulate", "-o", name, *size))
    result = name.replace(".", "_denoised.", 1)
    truth = name.replace(".", "_truth.", 1)
    holds("info", said(shell(field, "info", name, "--json")))
    holds("estimate", said(shell(field, "estimate", name, "--json")))
    holds("plan", said(shell(field, "denoise", name, "--dry-run")))
    (printed,) = holds("sidecar", said(shell(field, "denoise", name, "--json", "-q")))
    written = json.loads((shell.folder / f"{result}.pellucid.json").read_text(encoding="utf-8"))
    validator("sidecar").validate(written)
    assert written == printed
    figures = shell(field, "evaluate", result, "--reference", truth, "--input", name, "--json")
    holds("evaluate", said(figures))
    holds("methods", said(shell(field, "methods", "--json")))


def test_rows_of_a_batch_follow_their_schema_on_stdout_and_in_the_status_file(
    shell: Any, volume: Callable[..., Path]
) -> None:
    scan = volume()
    words = ("mri", "denoise", scan.name, "missing.nii.gz", "-o", "out", "--keep-going", "--json", "-q")
    rows = holds("row", said(shell(*words, "--status", "rows.jsonl"), 5))
    assert [r["code"] for r in rows] == [0, 4]
    lines = (shell.folder / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    for line in lines:
        validator("row").validate({"schema": "pellucid/row/1", **json.loads(line)})
    again = holds("row", said(shell(*words, "--resume"), 5))
    assert again[0]["status"] == "unchanged since"


def test_private_and_given_values_follow_the_sidecar_schema(shell: Any, volume: Callable[..., Path]) -> None:
    scan = volume()
    given = ("--sigma", "30", "--profile", "fast", "--private")
    done = shell("mri", "denoise", scan.name, "-o", "a.nii.gz", *given, "--json", "-q")
    (document,) = holds("sidecar", said(done))
    assert "command" not in document and "name" not in document["input"]
    assert document["plan"]["parameters"]["profile"] == {"value": "fast", "from": "given"}
    assert document["plan"]["noise"]["sigma"] == 30


def test_the_document_inside_a_bids_sidecar_follows_the_same_schema(shell: Any, volume: Callable[..., Path]) -> None:
    scan = volume("sub-01_T1w.nii.gz")
    said(shell("mri", "denoise", scan.name, "--profile", "fast", "-q"))
    beside = json.loads((shell.folder / "sub-01_desc-denoised_T1w.json").read_text(encoding="utf-8"))
    assert list(validator("sidecar").iter_errors(beside["Pellucid"])) == []


def test_a_refused_file_follows_the_info_schema(shell: Any, volume: Callable[..., Path]) -> None:
    scan = volume("sub-01_part-phase_bold.nii.gz")
    (document,) = holds("info", said(shell("mri", "info", scan.name, "--json")))
    assert document["denoise"]["refused"]["what"]


@pytest.mark.parametrize("name", NAMES)
def test_a_schema_refuses_an_empty_document_and_an_unknown_version(name: str) -> None:
    for document in ({}, {"schema": f"pellucid/{name}/0"}):
        with pytest.raises(jsonschema.ValidationError):
            validator(name).validate(document)
