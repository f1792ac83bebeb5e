# SPDX-License-Identifier: Apache-2.0
"""NRRD: every header line kept, axes in their roles, places in space equal in ITK, hostile headers refused."""

from __future__ import annotations

import bz2
import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.core.errors import FormatError
from pellucid.core.types import Description
from pellucid.formats import nifti, nrrd, volume

AFFINE = ((-1.9, 0.1, 0.2, 30.0), (0.1, 2.0, -0.3, -40.0), (0.2, 0.3, 2.5, 11.0), (0.0, 0.0, 0.0, 1.0))


def full(d: Description) -> tuple[slice, ...]:
    return tuple(slice(0, n) for n in d.shape)


def read(path: Path) -> tuple[Description, np.ndarray]:
    reader = nrrd.open(path)
    values = reader.read(full(reader.description))
    reader.close()
    return reader.description, values


def copy(path: Path, target: Path, dtype: str = "") -> None:
    """Splice the same samples, in two parts, in another order than the file's."""
    reader = nrrd.open(path)
    d = reader.description.with_(dtype=dtype or reader.description.dtype)
    writer = nrrd.splice(target, reader, d)
    half = d.shape[-1] // 2
    for part in (slice(half, d.shape[-1]), slice(0, half)):
        region = (*full(d)[:-1], part)
        writer.write(region, reader.read(region).astype(d.dtype))
    writer.close()
    reader.close()


def write(path: Path, lines: str, data: bytes) -> Path:
    path.write_bytes(b"NRRD0005\n" + lines.encode() + b"\n\n" + data)
    return path


BASE = "type: short\ndimension: 3\nsizes: 4 5 6\nendian: little\nencoding: raw"
CUBE = np.arange(120, dtype="<i2").reshape(4, 5, 6, order="F")
BYTES = CUBE.tobytes(order="F")


@pytest.mark.parametrize(
    ("name", "shape", "dtype"),
    [
        ("BallBinary30x30x30.nhdr", (30, 30, 30), "int16"),
        ("BallBinary30x30x30_gz.nrrd", (30, 30, 30), "int16"),
        ("BallBinary30x30x30_bz2.nrrd", (30, 30, 30), "int16"),
        ("someones_anatomy.nrrd", (57, 67, 56), "float32"),
        ("test_simple4d_raw.nrrd", (1, 1, 1), "float64"),
    ],
)
def test_real_files_agree_with_pynrrd_and_come_back_with_the_same_header(
    shared_data: Any, tmp_path: Path, name: str, shape: tuple[int, ...], dtype: str
) -> None:
    reference = pytest.importorskip("nrrd")
    path = shared_data(f"mri/nrrd_mha/{name}")
    d, values = read(path)
    wanted, header = reference.read(str(path))
    assert d.shape == shape and d.dtype == dtype
    assert np.array_equal(values, wanted.reshape(shape))
    copy(path, tmp_path / name)
    assert np.array_equal(read(tmp_path / name)[1], values)
    again, other = reference.read(str(tmp_path / name))
    assert np.array_equal(again, wanted)
    same = {k: str(v) for k, v in header.items() if k != "data file"}
    assert same == {k: str(v) for k, v in other.items() if k != "data file"}
    before, after = (nrrd.open(p).header.lines for p in (path, tmp_path / name))
    assert [a for a in before if not a.startswith("data file")] == [a for a in after if not a.startswith("data file")]


def test_the_three_encodings_hold_the_same_ball(shared_data: Any) -> None:
    names = ("BallBinary30x30x30.nhdr", "BallBinary30x30x30_gz.nrrd", "BallBinary30x30x30_bz2.nrrd")
    first, *others = (read(shared_data(f"mri/nrrd_mha/{n}"))[1] for n in names)
    assert set(np.unique(first)) == {0, 257}
    assert all(np.array_equal(first, other) for other in others)


def test_tracked_pictures_are_y_x_with_their_keys(shared_data: Any, tmp_path: Path) -> None:
    grey, values = read(shared_data("ultrasound/sequences/NrrdSample.igs.nrrd"))
    assert (grey.shape, grey.axes, grey.kind, grey.out_dtype) == ((256, 256), ("y", "x"), "bmode", "int16")
    assert values.max() == 183 and abs(values.mean() - 42.496) < 1e-3
    colour, pixels = read(shared_data("ultrasound/sequences/ColorNrrdSample.igs.nrrd"))
    assert (colour.shape, colour.axes, colour.kind) == ((648, 1152, 3), ("y", "x", "channel"), "rgb")
    assert abs(pixels.mean() - 243.242) < 1e-3
    for name in ("NrrdSample.igs.nrrd", "ColorNrrdSample.igs.nrrd"):
        source = shared_data(f"ultrasound/sequences/{name}")
        copy(source, tmp_path / name)
        assert nrrd.open(tmp_path / name).header.lines == nrrd.open(source).header.lines
        assert np.array_equal(read(tmp_path / name)[1], read(source)[1])


def test_one_axis_is_no_image(shared_data: Any) -> None:
    with pytest.raises(FormatError, match="fewer than two"):
        nrrd.open(shared_data("mri/nrrd_mha/test_customFields.nrrd"))


def test_a_volume_has_the_same_place_in_nifti_and_in_itk(shared_data: Any, tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    path = shared_data("mri/nrrd_mha/someones_anatomy.nrrd")
    d, values = read(path)
    for module, name in ((nifti, "out.nii.gz"), (nrrd, "out.nrrd")):
        writer = module.compose(tmp_path / name, d)
        writer.write(full(d), values)
        writer.close()
        a, b = sitk.ReadImage(str(path)), sitk.ReadImage(str(tmp_path / name))
        assert np.array_equal(sitk.GetArrayFromImage(a), sitk.GetArrayFromImage(b))
        for index in ((0, 0, 0), (56, 0, 3), (11, 66, 55)):
            places = a.TransformIndexToPhysicalPoint(index), b.TransformIndexToPhysicalPoint(index)
            assert np.allclose(*places, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float64"])
def test_what_itk_writes_keeps_type_and_place_in_nifti_and_nrrd(tmp_path: Path, dtype: str) -> None:
    sitk = pytest.importorskip("SimpleITK")
    values = np.random.default_rng(0).integers(0, 200, (6, 5, 4)).astype(dtype)
    image = sitk.GetImageFromArray(values)
    image.SetSpacing((1.5, 2.5, 3.5))
    image.SetOrigin((10.0, 20.0, -30.0))
    image.SetDirection((0.8, 0.0, 0.6, 0.6, 0.0, -0.8, 0.0, 1.0, 0.0))
    sitk.WriteImage(image, str(tmp_path / "itk.nrrd"), True)
    d, found = read(tmp_path / "itk.nrrd")
    assert np.array_equal(found, values.T) and d.dtype == dtype
    assert d.out_dtype == ("float64" if dtype == "float64" else "float32")
    writer = nifti.compose(tmp_path / "out.nii", d)
    writer.write(full(d), found)
    writer.close()
    copy(tmp_path / "itk.nrrd", tmp_path / "out.nrrd")
    for name in ("out.nii", "out.nrrd"):
        again = sitk.ReadImage(str(tmp_path / name))
        assert again.GetPixelID() == image.GetPixelID() and np.array_equal(sitk.GetArrayFromImage(again), values)
        for index in ((0, 0, 0), (3, 1, 5), (1, 4, 2)):
            places = image.TransformIndexToPhysicalPoint(index), again.TransformIndexToPhysicalPoint(index)
            assert np.allclose(*places, rtol=0, atol=1e-6)


def test_a_series_of_itk_is_a_series(tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    values = np.random.default_rng(0).normal(size=(12, 6, 5, 4)).astype("f4")
    joined = sitk.JoinSeries([sitk.GetImageFromArray(v) for v in values])
    vector = sitk.Compose([sitk.GetImageFromArray(v) for v in values])
    for image in (joined, vector):
        sitk.WriteImage(image, str(tmp_path / "itk.nrrd"))
        d, found = read(tmp_path / "itk.nrrd")
        assert d.axes == ("x", "y", "z", "volume") and np.array_equal(found, values.T)


def test_an_oblique_series_with_gradients_comes_back_from_nrrd(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(4, 3))
    vectors = np.vstack([[0, 0, 0], vectors / np.linalg.norm(vectors, axis=1, keepdims=True)])
    facts = {"affine": AFFINE, "bvals": (0.0, 1000.0, 1000.0, 500.0, 2000.0), "bvecs": tuple(map(tuple, vectors))}
    d = Description("nrrd", (4, 5, 6, 5), ("x", "y", "z", "volume"), "float32", acquisition=facts)
    values = rng.normal(size=d.shape).astype("f4")
    writer = nrrd.compose(tmp_path / "a.nrrd", d)
    writer.write(full(d), values)
    writer.close()
    found, again = read(tmp_path / "a.nrrd")
    assert np.array_equal(again, values) and found.axes == d.axes
    assert np.allclose(found.acquisition["affine"], AFFINE, rtol=0, atol=1e-9)
    assert np.allclose(found.acquisition["bvals"], facts["bvals"])
    assert np.allclose(found.acquisition["bvecs"], vectors, atol=1e-9)


@pytest.mark.parametrize("space", ["left-posterior-superior", "right-anterior-superior", "left-anterior-superior"])
def test_directions_of_every_space_become_ras(tmp_path: Path, space: str) -> None:
    lines = f"{BASE}\nspace: {space}\nspace directions: (2,0,0) (0,3,0) (0,0,4)\nspace origin: (5,6,7)"
    d, _ = read(write(tmp_path / "a.nrrd", lines, BYTES))
    x, y = (-1 if space.startswith("left") else 1), (-1 if "posterior" in space else 1)
    wanted = [[2 * x, 0, 0, 5 * x], [0, 3 * y, 0, 6 * y], [0, 0, 4, 7], [0, 0, 0, 1]]
    assert np.array_equal(d.acquisition["affine"], wanted)
    assert d.acquisition["orientation"] == ("L" if x < 0 else "R") + ("P" if y < 0 else "A") + "S"
    assert d.spacing == (2.0, 3.0, 4.0) and d.out_dtype == "float32"


def test_a_space_that_is_not_anatomical_is_remarked_on(tmp_path: Path) -> None:
    lines = f"{BASE}\nspace: scanner-xyz\nspace directions: (2,0,0) (0,3,0) (0,0,4)"
    d, _ = read(write(tmp_path / "a.nrrd", lines, BYTES))
    assert d.acquisition["affine"] is None and [code for code, _ in d.notes] == ["no-orientation"]


def test_a_diffusion_axis_in_front_is_moved_last_and_goes_back(tmp_path: Path) -> None:
    data = np.arange(2 * 3 * 4 * 5, dtype="<f4").reshape(5, 2, 3, 4, order="F")  # volume fastest
    lines = (
        "# by hand\ntype: float\ndimension: 4\nspace: LPS\nsizes: 5 2 3 4\n"
        "space directions: none (1,0,0) (0,1,0) (0,0,1)\nkinds: vector domain domain domain\nendian: little\n"
        "encoding: gzip\nmeasurement frame: (0,1,0) (1,0,0) (0,0,1)\nmodality:=DWMRI\nDWMRI_b-value:=800\n"
        "DWMRI_gradient_0000:=0 0 0\nDWMRI_NEX_0000:=2\nDWMRI_gradient_0002:=1 0 0\n"
        "DWMRI_gradient_0003:=0 0.5 0\nDWMRI_gradient_0004:=0 0 1"
    )
    path = write(tmp_path / "a.nrrd", lines, gzip.compress(data.tobytes(order="F")))
    d, values = read(path)
    assert d.axes == ("x", "y", "z", "volume") and np.array_equal(values, np.moveaxis(data, 0, -1))
    assert d.acquisition["bvals"] == (0.0, 0.0, 800.0, 200.0, 800.0)
    # the frame turns the first gradient to y; LPS turns its sign; image axes are -x, -y, z of RAS, and det > 0
    assert np.allclose(np.abs(d.acquisition["bvecs"]), [[0, 0, 0], [0, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, 1]])
    copy(path, tmp_path / "b.nrrd")
    assert nrrd.open(tmp_path / "b.nrrd").header.lines == nrrd.open(path).header.lines
    assert np.array_equal(read(tmp_path / "b.nrrd")[1], values)


def test_a_list_of_frames_is_the_series_of_a_picture(tmp_path: Path) -> None:
    kinds = "\nkinds: domain domain list\nspace dimension: 2\nspace directions: (0.2,0) (0,0.3) none"
    more = "".join(f"\nSeq_Frame{i:04d}_Timestamp:={0.04 * i}" for i in range(6))
    d, values = read(write(tmp_path / "a.nrrd", BASE + kinds + more, BYTES))
    assert (d.shape, d.axes, d.spacing) == ((5, 4, 6), ("y", "x", "frame"), (0.3, 0.2, None))
    assert d.acquisition["frame_s"] == pytest.approx(0.04) and d.out_dtype == "int16"
    assert np.array_equal(values, CUBE.transpose(1, 0, 2))


@pytest.mark.parametrize(("said", "kind"), [("RF_REAL", "rf"), ("RF_IQ_LINE", "iq"), ("RF_I_LINE_Q_LINE", "iq")])
def test_lines_of_echoes_are_no_picture(tmp_path: Path, said: str, kind: str) -> None:
    more = f"\nkinds: domain domain list\nultrasound image type:={said}\nultrasound image orientation:=FM"
    d, values = read(write(tmp_path / "a.nrrd", BASE + more, BYTES))
    assert (d.kind, d.axes, d.slope) == (kind, ("axial", "lateral", "frame"), 1.0)
    assert d.witnesses["ultrasound_type"] == said and np.array_equal(values, CUBE)


@pytest.mark.parametrize("codec", ["raw", "gzip", "bzip2", "ascii"])
@pytest.mark.parametrize("endian", ["little", "big"])
def test_every_encoding_comes_back_as_it_was(tmp_path: Path, codec: str, endian: str) -> None:
    data = np.random.default_rng(1).normal(size=(4, 5, 6)).astype(">f4" if endian == "big" else "<f4")
    pack = {"raw": bytes, "gzip": gzip.compress, "bzip2": bz2.compress, "ascii": bytes}[codec]
    raw = pack(data.tobytes(order="F"))
    if codec == "ascii":
        raw = " ".join(f"{v:.9g}" for v in data.ravel(order="F")).encode()
    lines = f"type: float\ndimension: 3\nsizes: 4 5 6\nendian: {endian}\nencoding: {codec}"
    path = write(tmp_path / "a.nrrd", lines, raw)
    assert np.array_equal(read(path)[1], data)
    copy(path, tmp_path / "b.nrrd")
    assert np.array_equal(read(tmp_path / "b.nrrd")[1], data)
    assert (tmp_path / "b.nrrd").read_bytes().startswith(path.read_bytes()[: -len(raw)])
    if codec in ("raw", "bzip2"):
        assert (tmp_path / "b.nrrd").read_bytes() == path.read_bytes()


def test_lines_and_bytes_before_the_samples_are_skipped(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"one\ntwo\nxyz" + BYTES + b"more")
    lines = BASE + "\nline skip: 2\nbyte skip: 3\ndata file: a.bin"
    (tmp_path / "a.nhdr").write_bytes(b"NRRD0005\n" + lines.encode() + b"\n")
    assert np.array_equal(read(tmp_path / "a.nhdr")[1], CUBE)
    (tmp_path / "a.nhdr").write_bytes(b"NRRD0005\n" + lines.replace("skip: 3", "skip: -1").encode() + b"\n")
    (tmp_path / "a.bin").write_bytes(b"one\ntwo\nxyz" + BYTES)
    copy(tmp_path / "a.nhdr", tmp_path / "b.nrrd", "float32")
    d, values = read(tmp_path / "b.nrrd")
    assert d.dtype == "float32" and np.array_equal(values, CUBE)
    copy(tmp_path / "b.nrrd", tmp_path / "c.nhdr")
    assert (tmp_path / "c.raw").stat().st_size == 480 and np.array_equal(read(tmp_path / "c.nhdr")[1], CUBE)


def test_frames_and_pictures_that_are_composed_read_back_the_same(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    cases = [
        (("y", "x", "frame"), "bmode", "uint8", 1.0),
        (("axial", "lateral", "frame"), "rf", "int16", 1.0),
        (("y", "x", "channel"), "rgb", "uint8", 1 / 255),
        (("y", "x"), "intensity", "uint16", 1 / 65535),
        (("y", "x"), "intensity", "float32", 1.0),
    ]
    for axes, kind, dtype, slope in cases:
        d = Description("nrrd", (5, 4, 3)[: len(axes)], axes, dtype, kind, (0.3, 0.2, None)[: len(axes)], slope=slope)
        values = rng.integers(0, 99, d.shape).astype(dtype)
        writer = nrrd.compose(tmp_path / "a.nrrd", d)
        writer.write(full(d), values)
        writer.close()
        found, again = read(tmp_path / "a.nrrd")
        assert np.array_equal(again, values) and (found.axes, found.slope, found.spacing) == (axes, slope, d.spacing)
        assert found.kind == ("unknown" if kind == "intensity" else kind)
    for axes, dtype, slope in ((("y", "x"), "int16", 1 / 32767), (("x", "y", "z"), "int16", 0.5)):
        with pytest.raises(FormatError, match="no scale"):
            nrrd.compose(tmp_path / "b.nrrd", Description("nrrd", (4, 5, 6)[: len(axes)], axes, dtype, slope=slope))


def test_bytes_behind_the_samples_are_remarked_on(tmp_path: Path) -> None:
    d, values = read(write(tmp_path / "a.nrrd", BASE, BYTES + b"1234567"))
    assert ("trailing-bytes", "7 bytes follow the last sample: they are not copied") in d.notes
    assert np.array_equal(values, CUBE)


def test_complex_samples_are_pairs_along_the_first_axis(tmp_path: Path) -> None:
    data = np.random.default_rng(2).normal(size=(2, 3, 4, 5)).astype("<f4")
    kinds = "kinds: complex domain domain domain"
    lines = f"type: float\ndimension: 4\nsizes: 2 3 4 5\n{kinds}\nendian: little\nencoding: raw"
    path = write(tmp_path / "a.nrrd", lines, data.tobytes(order="F"))
    d, values = read(path)
    assert (d.dtype, d.kind) == ("complex64", "complex") and np.array_equal(values, data[0] + 1j * data[1])
    copy(path, tmp_path / "b.nrrd")
    assert (tmp_path / "b.nrrd").read_bytes() == path.read_bytes()


HOSTILE = {
    "a terabyte": (BASE.replace("4 5 6", "10000 10000 10000"), "ends after"),
    "more than memory addresses": (BASE.replace("4 5 6", "1000000000000 1000000000000 9"), "no shape"),
    "gzip that cannot hold it": (BASE.replace("4 5 6", "9000 9000 9000").replace("raw", "gzip"), "bytes of samples"),
    "negative": (BASE.replace("4 5 6", "4 -5 6"), "without samples"),
    "too few sizes": (BASE.replace("4 5 6", "4 5"), "2 sizes for dimension 3"),
    "no number": (BASE.replace("4 5 6", "4 five 6"), "no numbers"),
    "a parent folder": (BASE + "\ndata file: ../a.raw", "outside the header's folder"),
    "an absolute path": (BASE + "\ndata file: /etc/passwd", "outside the header's folder"),
    "a file that is missing": (BASE + "\ndata file: a.raw", "is missing"),
    "many files": (BASE + "\ndata file: a%03d.raw 1 9 1", "several files"),
    "an unknown encoding": (BASE.replace("raw", "hex"), "'hex' is not read"),
    "an unknown type": (BASE.replace("short", "block"), "no type"),
    "no byte order": (BASE.replace("endian: little\n", ""), "says nothing"),
    "a field twice": (BASE + "\nsizes: 4 5 7", "said twice"),
    "many axes": (BASE.replace("dimension: 3", "dimension: 999"), "sizes for dimension"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_headers_end_in_a_worded_error(tmp_path: Path, case: str) -> None:
    lines, words = HOSTILE[case]
    with pytest.raises(FormatError, match=words):
        nrrd.open(write(tmp_path / "a.nrrd", lines, BYTES))


def test_a_stream_is_unpacked_no_further_than_its_samples(tmp_path: Path) -> None:
    bomb = gzip.compress(BYTES + bytes(30 << 20), 9)
    path = write(tmp_path / "a.nrrd", BASE.replace("raw", "gzip"), bomb)
    reader = nrrd.open(path)
    assert np.array_equal(reader.read(full(reader.description)), CUBE)
    assert sum(map(len, volume.unpack(reader.block, 240))) == 240


@pytest.mark.parametrize("codec", ["gzip", "bzip2"])
def test_damaged_and_short_streams_are_worded(tmp_path: Path, codec: str) -> None:
    noise = np.random.default_rng(3).integers(0, 1000, (4, 5, 6)).astype("<i2")
    packed = bytearray({"gzip": gzip.compress, "bzip2": bz2.compress}[codec](noise.tobytes()))
    lines = BASE.replace("raw", codec)
    for keep in (len(packed) // 2, 12):
        with pytest.raises(FormatError, match="ends after|damaged|cannot|promised"):
            read(write(tmp_path / "a.nrrd", lines, bytes(packed[:keep])))
    packed[len(packed) // 2] ^= 0xFF
    with pytest.raises(FormatError, match="damaged|ends after"):
        read(write(tmp_path / "a.nrrd", lines, bytes(packed)))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_any_region_of_any_order_of_axes_is_the_slice_of_the_whole(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(1, 6), min_size=2, max_size=4))
    axes = tuple(data.draw(st.permutations(range(len(shape)))))
    flips = frozenset(data.draw(st.sets(st.sampled_from(range(len(shape))))))
    block = volume.Block(Path("x"), tuple(shape), "<i4", axes, flips)
    stored = np.arange(np.prod(shape)).reshape(shape[::-1])
    whole = block.described(stored)
    assert whole.shape == block.shape and np.array_equal(block.stored(whole), stored)
    starts = [data.draw(st.integers(0, n - 1)) for n in whole.shape]
    region = tuple(slice(a, data.draw(st.integers(a + 1, n))) for a, n in zip(starts, whole.shape, strict=True))
    order = block.region(region)
    assert np.array_equal(block.described(stored[order]), whole[region])
    flat, out = stored.ravel(), np.full([s.stop - s.start for s in order], -1)
    for at, stretch, place in volume.runs(stored.shape, order, 4, whole_rows=True):
        piece = flat[at : at + int(np.prod(stretch))].reshape(stretch)
        out[place] = piece[..., order[-1]] if len(place) < len(order) else piece
    assert np.array_equal(out, stored[order])
