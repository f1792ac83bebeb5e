# SPDX-License-Identifier: Apache-2.0
"""FreeSurfer volumes: nibabel agrees, and what surrounds the samples comes back byte for byte."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pellucid.core.errors import FormatError
from pellucid.core.types import Description
from pellucid.formats import mgz, nifti

AFFINE = np.array([[-0.8, 1.2, 0.0, 4.0], [0.6, 1.6, 0.0, 5.0], [0.0, 0.0, -3.0, 6.0], [0.0, 0.0, 0.0, 1.0]])
TAGS = b"\0\0\0\x03tag of some writer"


def full(d: Description) -> tuple[slice, ...]:
    return tuple(slice(0, n) for n in d.shape)


def plain(path: Path) -> bytes:
    raw = path.read_bytes()
    return gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw


def made(path: Path, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Write a file with nibabel, with tags behind its footer; return the samples."""
    nibabel = pytest.importorskip("nibabel")
    values = np.random.default_rng(0).integers(0, 99, shape).astype(dtype)
    image = nibabel.MGHImage(values, AFFINE)
    image.header["tr"], image.header["te"], image.header["ti"] = 2500, 3.5, 900
    nibabel.save(image, path)
    raw = plain(path) + TAGS
    path.write_bytes(gzip.compress(raw) if path.suffix == ".mgz" else raw)
    return values


def copy(path: Path, target: Path, dtype: str = "") -> Description:
    reader = mgz.open(path)
    d = reader.description.with_(dtype=dtype or reader.description.dtype)
    writer = mgz.splice(target, reader, d)
    writer.write(full(d), reader.read(full(d)).astype(d.dtype))
    writer.close()
    reader.close()
    return d


@pytest.mark.parametrize("suffix", [".mgz", ".mgh"])
@pytest.mark.parametrize("shape", [(5, 6, 7), (5, 6, 7, 3)])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "float32"])
def test_a_file_of_nibabel_comes_back_to_the_byte(tmp_path: Path, suffix: str, shape: Any, dtype: str) -> None:
    nibabel = pytest.importorskip("nibabel")
    path = tmp_path / f"a{suffix}"
    values = made(path, shape, dtype)
    reader = mgz.open(path)
    d = reader.description
    assert np.array_equal(reader.read(full(d)), values) and d.axes == ("x", "y", "z", "volume")[: len(shape)]
    assert (d.dtype, d.out_dtype) == (dtype, "float32")
    assert np.allclose(d.acquisition["affine"], AFFINE, rtol=0, atol=1e-6)
    copy(path, tmp_path / f"b{suffix}")
    assert plain(tmp_path / f"b{suffix}") == plain(path)
    copy(path, tmp_path / f"c{suffix}", "float32")
    before, after = plain(path), plain(tmp_path / f"c{suffix}")
    assert after.endswith(TAGS) and before[:20] + before[24:284] == after[:20] + after[24:284]
    again = nibabel.MGHImage.from_bytes(plain(tmp_path / f"c{suffix}"))
    assert again.get_data_dtype() == np.dtype(">f4") and np.array_equal(np.asanyarray(again.dataobj), values)
    assert (again.header["tr"], again.header["te"], again.header["ti"]) == (2500, 3.5, 900)


def test_the_place_is_the_same_in_nifti_and_back(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    values = made(tmp_path / "a.mgz", (5, 6, 7), "int16")
    d = mgz.open(tmp_path / "a.mgz").description
    for module, name in ((nifti, "b.nii.gz"), (mgz, "c.mgz")):
        writer = module.compose(tmp_path / name, d.with_(acquisition={**d.acquisition, "repetition_s": 2.5}))
        writer.write(full(d), values)
        writer.close()
        kind = nibabel.MGHImage if module is mgz else nibabel.Nifti1Image
        again = kind.from_bytes(plain(tmp_path / name))
        assert np.allclose(again.affine, AFFINE, rtol=0, atol=1e-6)
        assert np.array_equal(np.asanyarray(again.dataobj), values)
    assert again.header["tr"] == 2500


def test_an_unknown_orientation_is_remarked_on(tmp_path: Path) -> None:
    made(tmp_path / "a.mgh", (5, 6, 7), "uint8")
    raw = bytearray((tmp_path / "a.mgh").read_bytes())
    raw[28:30] = b"\0\0"
    (tmp_path / "a.mgh").write_bytes(bytes(raw))
    d = mgz.open(tmp_path / "a.mgh").description
    assert d.acquisition["affine"] is None and [code for code, _ in d.notes] == ["no-orientation"]


@pytest.mark.parametrize(
    ("at", "value", "words"),
    [
        (4, 10**9, "ends after|no shape"),
        (8, -5, "no shape"),
        (16, 0, "no shape"),
        (20, 5, "no type"),
        (0, 7, "no type"),
    ],
)
def test_hostile_headers_end_in_a_worded_error(tmp_path: Path, at: int, value: int, words: str) -> None:
    for name in ("a.mgh", "a.mgz"):
        made(tmp_path / name, (5, 6, 7), "int16")
        raw = bytearray(plain(tmp_path / name))
        raw[at : at + 4] = value.to_bytes(4, "big", signed=True)
        (tmp_path / name).write_bytes(gzip.compress(bytes(raw)) if name.endswith("z") else bytes(raw))
        with pytest.raises(FormatError, match=words + "|bytes of samples"):
            mgz.open(tmp_path / name)


def test_types_and_scales_it_cannot_hold_are_refused(tmp_path: Path) -> None:
    d = Description("mgz", (2, 2, 2), ("x", "y", "z"), "int16", slope=2.0)
    with pytest.raises(FormatError, match="no scale"):
        mgz.compose(tmp_path / "a.mgz", d)
    with pytest.raises(FormatError, match="cannot be stored"):
        mgz.compose(tmp_path / "a.mgz", d.with_(dtype="float64", slope=1.0))
