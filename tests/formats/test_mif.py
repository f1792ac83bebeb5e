# SPDX-License-Identifier: Apache-2.0
"""MRtrix images: strides, transform, gradients and scaling agree with MRtrix itself; header lines are kept."""

from __future__ import annotations

import gzip
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pellucid.core.errors import FormatError
from pellucid.core.types import Description
from pellucid.formats import mif, nifti

MRTRIX = pytest.mark.skipif(shutil.which("mrconvert") is None, reason="MRtrix is not installed")
HEADER = (
    "mrtrix image\ndim: 4,5,6\nvox: 1,2,3\nlayout: +0,+1,+2\ndatatype: Int16LE\ntransform: 1,0,0,7\n"
    "transform: 0,1,0,8\ntransform: 0,0,1,9\ncomments: first\ncomments: second\nfile: . 256\nEND\n"
)
CUBE = np.arange(120, dtype="<i2").reshape(4, 5, 6, order="F")
BYTES = CUBE.tobytes(order="F")


def full(d: Description) -> tuple[slice, ...]:
    return tuple(slice(0, n) for n in d.shape)


def read(path: Path) -> tuple[Description, np.ndarray]:
    reader = mif.open(path)
    values = reader.read(full(reader.description))
    reader.close()
    return reader.description, values


def copy(path: Path, target: Path, dtype: str = "", **changes: Any) -> None:
    reader = mif.open(path)
    d = reader.description.with_(dtype=dtype or reader.description.dtype, **changes)
    writer = mif.splice(target, reader, d)
    values = reader.read(full(d)).astype(d.dtype)
    for part in (slice(2, d.shape[0]), slice(0, 2)):
        writer.write((part, *full(d)[1:]), np.ascontiguousarray(values[part]))
    writer.close()
    reader.close()


def write(path: Path, header: str = HEADER, data: bytes = BYTES) -> Path:
    path.write_bytes(header.encode().ljust(256, b"\0") + data)
    return path


def mrtrix(*words: object) -> str:
    done = subprocess.run([*map(str, words), "-quiet"], check=True, capture_output=True, text=True)
    return done.stdout


def scheme(*words: object) -> np.ndarray:
    return np.array(mrtrix("mrinfo", "-dwgrad", *words).split(), float).reshape(-1, 4)


@MRTRIX
@pytest.mark.parametrize("suffix", [".mif", ".mif.gz", ".mih"])
@pytest.mark.parametrize("strides", ["-1,-2,3,4", "-1,+3,-2,+4", "2,3,4,1", "-2,+3,-4,+1"])
def test_any_strides_mean_what_mrtrix_says(shared_data: Any, tmp_path: Path, suffix: str, strides: str) -> None:
    nibabel = pytest.importorskip("nibabel")
    folder = shared_data("mri/mrtrix_reference/dwi.nii.gz").parent
    path = tmp_path / f"a{suffix}"
    grad = ("-fslgrad", folder / "dwi.bvec", folder / "dwi.bval")
    mrtrix("mrconvert", folder / "dwi.nii.gz", path, "-strides", strides, *grad)
    d, values = read(path)
    source = nibabel.load(folder / "dwi.nii.gz")
    assert np.array_equal(values, np.asanyarray(source.dataobj)[::-1, ::-1])  # its logical axes are nearest to RAS
    corner = source.affine @ [5, 7, 0, 1]
    assert np.allclose(np.array(d.acquisition["affine"])[:, 3], corner, atol=1e-4)
    copy(path, tmp_path / f"b{suffix}")
    if suffix == ".mih":
        assert (tmp_path / "b.dat").read_bytes() == (tmp_path / "a.dat").read_bytes()
    else:
        assert gzip_free(tmp_path / f"b{suffix}") == gzip_free(path)


def gzip_free(path: Path) -> bytes:
    raw = path.read_bytes()
    return gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw


@MRTRIX
def test_gradients_go_to_nifti_and_back(shared_data: Any, tmp_path: Path) -> None:
    folder = shared_data("mri/mrtrix_reference/dwi.nii.gz").parent
    grad = ("-fslgrad", folder / "dwi.bvec", folder / "dwi.bval")
    mrtrix("mrconvert", folder / "dwi.nii.gz", tmp_path / "a.mif", *grad)
    d, values = read(tmp_path / "a.mif")
    for module, name in ((nifti, "b.nii"), (mif, "c.mif")):
        writer = module.compose(tmp_path / name, d)
        writer.write(full(d), values)
        writer.close()
    wanted = scheme(tmp_path / "a.mif")
    found = scheme(tmp_path / "b.nii", "-fslgrad", tmp_path / "b.bvec", tmp_path / "b.bval")
    weighted = wanted[:, 3] > 10
    assert np.allclose(found[weighted, :3], wanted[weighted, :3], atol=1e-5)
    assert np.allclose(found[:, 3], wanted[:, 3], atol=0.01)
    assert np.allclose(scheme(tmp_path / "c.mif")[weighted], wanted[weighted], atol=1e-5)
    mrtrix("mrconvert", tmp_path / "c.mif", tmp_path / "d.mif", "-datatype", "float32")
    assert np.array_equal(read(tmp_path / "d.mif")[1], values)


def test_header_lines_are_kept_where_the_type_changes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mif", HEADER.replace("file", "scaling: -4,0.5\nfile"))
    d, values = read(path)
    assert (d.slope, d.inter, d.out_dtype, d.spacing) == (0.5, -4.0, "float32", (1.0, 2.0, 3.0))
    assert np.array_equal(values, CUBE)
    copy(path, tmp_path / "b.mif", "float32", slope=1.0, inter=0.0)
    before, after = (mif.open(p).header.lines for p in (path, tmp_path / "b.mif"))
    assert after == tuple(
        line.replace("Int16LE", "Float32LE") for line in before if not line.startswith(("scaling", "file"))
    )[:-1] + tuple(line for line in after if line.startswith(("file", "END")))
    assert np.array_equal(read(tmp_path / "b.mif")[1], CUBE)
    copy(path, tmp_path / "c.mif")
    assert (tmp_path / "c.mif").read_bytes() == path.read_bytes()


def test_scales_are_written_where_integers_are_composed(tmp_path: Path) -> None:
    d = Description("mif", (4, 5, 6), ("x", "y", "z"), "int16", slope=0.25, inter=3.0)
    writer = mif.compose(tmp_path / "a.mif.gz", d)
    writer.write(full(d), CUBE)
    writer.close()
    found, values = read(tmp_path / "a.mif.gz")
    assert (found.slope, found.inter) == (0.25, 3.0) and np.array_equal(values, CUBE)
    assert [code for code, _ in found.notes] == ["no-orientation"]


def test_axes_beyond_the_fourth_are_one_series_and_said(tmp_path: Path) -> None:
    header = HEADER.replace("4,5,6", "2,2,5,3,1,2").replace("+0,+1,+2", "+0,+1,+2,+3,+4,+5")
    d, values = read(write(tmp_path / "a.mif", header))
    assert (d.shape, d.witnesses["dim"]) == ((2, 2, 5, 6), (2, 2, 5, 3, 1, 2))
    assert np.array_equal(values.ravel(order="F"), np.arange(120))
    with pytest.raises(FormatError, match="lie apart"):
        mif.open(write(tmp_path / "b.mif", header.replace("+0,+1,+2,+3,+4,+5", "+7,+1,+2,+0,+4,-5")))


HOSTILE = {
    "bits": (HEADER.replace("Int16LE", "Bit"), "single bits"),
    "an unknown type": (HEADER.replace("Int16LE", "Int24LE"), "no type"),
    "a terabyte": (HEADER.replace("4,5,6", "10000,10000,10000"), "ends after"),
    "a size beyond memory": (HEADER.replace("4,5,6", "1000000000000,1000000000000,9"), "no shape"),
    "negative": (HEADER.replace("4,5,6", "4,-5,6"), "no shape"),
    "a layout of other axes": (HEADER.replace("+0,+1,+2", "+0,+1"), "does not order 3 axes"),
    "a layout that repeats": (HEADER.replace("+0,+1,+2", "+0,+1,+1"), "does not order 3 axes"),
    "samples in the header": (HEADER.replace(". 256", ". 16"), "inside the header"),
    "a parent folder": (HEADER.replace(". 256", "../a.dat"), "outside the header's folder"),
    "an absolute path": (HEADER.replace(". 256", "/etc/passwd 0"), "outside the header's folder"),
    "a missing file": (HEADER.replace(". 256", "a.dat"), "is missing"),
    "many files": (HEADER.replace(". 256", "a-[0:9].dat"), "several files"),
    "no end": (HEADER.replace("END\n", ""), "no line END"),
    "a short row": (HEADER.replace("transform: 0,1,0,8", "transform: 0,1"), "not 4 numbers"),
    "no number": (HEADER.replace("vox: 1,2,3", "vox: 1,two,3"), "no numbers"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_headers_end_in_a_worded_error(tmp_path: Path, case: str) -> None:
    header, words = HOSTILE[case]
    with pytest.raises(FormatError, match=words):
        mif.open(write(tmp_path / "a.mif", header))


def test_a_compressed_header_that_promises_too_much_is_refused(tmp_path: Path) -> None:
    header = HEADER.replace("4,5,6", "9000,9000,9000")
    (tmp_path / "a.mif.gz").write_bytes(gzip.compress(header.encode().ljust(256, b"\0") + BYTES))
    with pytest.raises(FormatError, match="bytes of samples"):
        mif.open(tmp_path / "a.mif.gz")
