# SPDX-License-Identifier: Apache-2.0
"""Every real file has its expected outcome, written down in ``outcomes.tsv``.

Each row: file, field, exit code of the default ``denoise``, method or the words of the refusal, what
``identity`` makes of it, and what ``info`` says first: field, kind and axes, or its error. Folders that are
one subject are rows of their own. ``PELLUCID_WRITE_OUTCOMES=1`` writes the table anew, to be read before it is
committed.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pellucid.core import restore
from pellucid.core.errors import PellucidError
from pellucid.domains import describe, line, look, registry
from pellucid.domains.request import Request
from pellucid.formats import find

TABLE = Path(__file__).parent / "outcomes.tsv"
FOLDERS = {
    "mri": "mri",
    "ultrasound": "ultrasound",
    "hyperspectral": "hyperspectral",
    "raw": "raw",
    "speech": "speech",
    "natural": "image",
}
SUBJECTS = ("mri/dicom_classic", "mri/dicom_phase", "mri/dicom_enhanced")
TRAVELS = (".bval", ".bvec", ".json", ".tsv", ".toml", ".md", ".txt", ".yml")  # companions and lists, not data
HINTS = {
    "headerless_s16le_16k.raw": {"encoding": "s16le", "rate": 16000, "channels": 1},
    "headerless_1920x1080_rggb10_u16le.RAW": {"width": 1920, "height": 1080, "bits": 10, "cfa": "RGGB"},
}
PAIRED = (".hdr", ".img", ".yml", ".raw")  # a half of a pair says nothing without its other half
SHOWN = 90  # characters of a message that the table keeps


def rows() -> list[list[str]]:
    return [text.split("\t") for text in TABLE.read_text().splitlines()[1:]] if TABLE.exists() else []


def request(path: Path, **more: Any) -> Request:
    return Request(field_options=HINTS.get(path.name, {}), **more)


def planned(path: Path, field: str) -> tuple[int, str]:
    """Return the exit code and words of the default ``denoise``, up to the plan."""
    declared = registry.field(field)
    try:
        subject = describe.open_subject(path, declared, request(path))
        try:
            describe.refuse(subject, declared, "")
            plan = line.make_plan(subject, declared, request(path, out=Path("nowhere"), out_folder=True))
            codes = sorted({code for code, _ in plan.warnings})
            return 0, " ".join([plan.method, *(f"({c})" for c in codes)])
        finally:
            subject.reader.close()
    except PellucidError as error:
        return int(error.code), error.what[:SHOWN]


def identity(path: Path, field: str, folder: Path) -> str:
    """Return how a file comes through ``identity``: equal, or why not."""
    declared = registry.field(field)
    try:
        wanted = request(path, out=folder, out_folder=True, method="identity", force=True)
        outcome = line.denoise(path, declared, wanted, lambda *_: None)
    except PellucidError as error:
        return f"{int(error.code)} {error.what[:SHOWN]}"
    hints = HINTS.get(path.name, {})
    before, after = find.open_file(path, (), **hints), find.open_file(outcome.path, (), **hints)
    region = tuple(slice(0, n) for n in before.description.shape)
    a, b = before.read(region), after.read(region)
    same_type = before.description.dtype == after.description.dtype
    pa, pb = restore.physical(a, before.description, region), restore.physical(b, after.description, region)
    exact = same_type and a.tobytes() == b.tobytes() or np.array_equal(pa, pb, equal_nan=True)
    kept = all(getattr(before.description, k) == getattr(after.description, k) for k in ("shape", "axes", "kind"))
    before.close()
    after.close()
    return "equal" if exact and kept else "CHANGED"


def info(path: Path) -> str:
    """Return what ``pellucid info`` says of a file nobody named a field for."""
    wanted = request(path)
    try:
        declared = look.field_of(path, wanted)
        subject = describe.open_subject(path, declared, wanted)
    except PellucidError as error:
        return f"{int(error.code)} {error.what[:SHOWN]}"
    d = subject.description
    subject.reader.close()
    axes = " ".join(f"{a} {n}" for a, n in zip(d.axes, d.shape, strict=True))
    return f"{declared.name} {d.kind} {axes}"


def files(root: Path) -> list[tuple[str, str]]:
    found = []
    for folder, field in FOLDERS.items():
        for path in sorted((root / folder).rglob("*")):
            if path.is_file() and not path.name.endswith(TRAVELS):
                found.append((str(path.relative_to(root)), field))
    return found + [(name, FOLDERS[name.split("/")[0]]) for name in SUBJECTS]


def test_the_table_lists_every_file(shared_data: Any) -> None:
    root = shared_data("mri").parent
    assert [r[:2] for r in rows()] == [list(f) for f in files(root)]


@pytest.mark.parametrize("group", sorted(FOLDERS))
def test_every_file_has_its_outcome(shared_data: Any, tmp_path: Path, group: str) -> None:
    root = shared_data("mri").parent
    for name, field, code, words, through, said in (r for r in rows() if r[0].split("/")[0] == group):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert planned(root / name, field) == (int(code), words), name
            assert identity(root / name, field, tmp_path) == through, name
            assert info(root / name) == said, name


def test_nothing_in_the_table_is_changed_by_identity() -> None:
    assert rows(), "the table is missing"
    assert not [r[0] for r in rows() if r[4] == "CHANGED"]


@pytest.mark.skipif("PELLUCID_WRITE_OUTCOMES" not in os.environ, reason="writes the table, when asked")
def test_write_the_table(shared_data: Any, tmp_path: Path) -> None:
    root = shared_data("mri").parent
    made = ["file\tfield\tcode\tdenoise\tidentity\tinfo"]
    for name, field in files(root):
        code, words = planned(root / name, field)
        through = identity(root / name, field, tmp_path)
        made.append("\t".join([name, field, str(code), words, through, info(root / name)]))
    TABLE.write_text("\n".join(made) + "\n")
    assert len(made) > 1


@pytest.mark.parametrize("group", sorted(FOLDERS))
def test_info_says_the_same_without_the_extension_or_lists_the_candidates(
    shared_data: Any, tmp_path: Path, group: str
) -> None:
    root, bare = shared_data("mri").parent, tmp_path / "nameless"
    seen: set[tuple[str, str]] = set()
    for name, _, _, _, _, said in (r for r in rows() if r[0].split("/")[0] == group and r[0] not in SUBJECTS):
        suffix = "".join(Path(name).suffixes[-2:]).lower()
        if (str(Path(name).parent), suffix) in seen or said[0].isdigit() or Path(name).name in HINTS:
            continue  # one file of each kind in a folder
        seen.add((str(Path(name).parent), suffix))
        bare.write_bytes((root / name).read_bytes())
        found = info(bare)
        alone = said.split()[0] == "4" or any((root / name).with_suffix(s).exists() for s in PAIRED if s != suffix)
        assert found == said or found.startswith("3 ") or (alone and found.startswith("4 ")), (name, found)
