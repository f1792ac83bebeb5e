# SPDX-License-Identifier: Apache-2.0
"""MetaImage: tracked frames and volumes as PLUS and ITK write them, every header line kept, hostile headers refused."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pellucid.core.errors import FormatError
from pellucid.core.types import Description
from pellucid.formats import metaimage, nifti

AFFINE = ((-1.2, 0.9, 0.0, 30.0), (1.6, 1.2, 0.0, -40.0), (0.0, 0.0, 2.5, 11.0), (0.0, 0.0, 0.0, 1.0))
BASE = (
    "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nDimSize = 4 5 6\n"
    "ElementSpacing = 1 2 3\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
)
CUBE = np.arange(120, dtype="<i2").reshape(4, 5, 6, order="F")
BYTES = CUBE.tobytes(order="F")


def full(d: Description) -> tuple[slice, ...]:
    return tuple(slice(0, n) for n in d.shape)


def read(path: Path) -> tuple[Description, np.ndarray]:
    reader = metaimage.open(path)
    values = reader.read(full(reader.description))
    reader.close()
    return reader.description, values


def copy(path: Path, target: Path, dtype: str = "") -> None:
    reader = metaimage.open(path)
    d = reader.description.with_(dtype=dtype or reader.description.dtype)
    writer = metaimage.splice(target, reader, d)
    writer.write(full(d), reader.read(full(d)).astype(d.dtype))
    writer.close()
    reader.close()


def write(path: Path, lines: str, data: bytes = BYTES) -> Path:
    path.write_bytes(lines.encode() + data)
    return path


def lines_of(path: Path) -> list[str]:
    """Return the header's lines, less the length of compressed samples, which the compressor decides."""
    return [line for line in metaimage.open(path).header.lines if not line.startswith("CompressedDataSize")]


def test_tracked_frames_come_back_with_every_key_in_order(shared_data: Any, tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    path = shared_data("ultrasound/sequences/NwirePhantomFreehandCropped.igs.mha")
    d, values = read(path)
    assert (d.shape, d.axes, d.dtype, d.kind) == ((150, 200, 20), ("y", "x", "frame"), "uint8", "bmode")
    assert d.witnesses["orientation"] == "MFA" and d.out_dtype == "uint8"
    assert d.acquisition["frame_s"] == pytest.approx(0.0783, abs=1e-3)
    assert values.max() == 250 and abs(values.mean() - 2.255) < 1e-3
    copy(path, tmp_path / "out.mha")
    assert lines_of(tmp_path / "out.mha") == lines_of(path)
    assert sum(line.startswith("Seq_Frame") for line in lines_of(path)) > 150
    a, b = sitk.ReadImage(str(path)), sitk.ReadImage(str(tmp_path / "out.mha"))
    assert np.array_equal(sitk.GetArrayFromImage(b), values.transpose(2, 0, 1))
    keys = [k for k in a.GetMetaDataKeys() if k.startswith(("Seq_", "Ultra"))]
    assert keys and all(a.GetMetaData(k) == b.GetMetaData(k) for k in keys)


def test_a_single_frame_comes_back_to_the_byte(shared_data: Any, tmp_path: Path) -> None:
    path = shared_data("ultrasound/sequences/UltrasonixLinearScanConvertedData.igs.mha")
    d, values = read(path)
    assert (d.shape, d.axes, d.kind) == ((400, 260), ("y", "x"), "bmode") and abs(values.mean() - 47.403) < 1e-3
    copy(path, tmp_path / "out.mha")
    assert (tmp_path / "out.mha").read_bytes() == path.read_bytes()


def test_a_volume_has_the_same_place_in_nifti_and_in_itk(shared_data: Any, tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    path = shared_data("mri/nrrd_mha/someones_anatomy.mha")
    d, values = read(path)
    copy(path, tmp_path / "copy.mha")
    assert lines_of(tmp_path / "copy.mha") == lines_of(path)
    for module, name in ((nifti, "out.nii"), (metaimage, "out.mha"), (metaimage, "out.mhd")):
        writer = module.compose(tmp_path / name, d)
        writer.write(full(d), values)
        writer.close()
    for name in ("out.nii", "out.mha", "out.mhd", "copy.mha"):
        a, b = sitk.ReadImage(str(path)), sitk.ReadImage(str(tmp_path / name))
        assert np.array_equal(sitk.GetArrayFromImage(a), sitk.GetArrayFromImage(b))
        for index in ((0, 0, 0), (56, 0, 3), (11, 66, 55)):
            places = a.TransformIndexToPhysicalPoint(index), b.TransformIndexToPhysicalPoint(index)
            assert np.allclose(*places, rtol=0, atol=1e-6), name


@pytest.mark.parametrize("suffix", [".mha", ".mhd"])
def test_what_itk_writes_has_the_place_itk_says(tmp_path: Path, suffix: str) -> None:
    sitk = pytest.importorskip("SimpleITK")
    values = np.random.default_rng(0).integers(-99, 99, (6, 5, 4)).astype("i2")
    image = sitk.GetImageFromArray(values)
    image.SetSpacing((1.5, 2.5, 3.5))
    image.SetOrigin((10.0, 20.0, -30.0))
    image.SetDirection((0.8, 0.0, 0.6, 0.6, 0.0, -0.8, 0.0, 1.0, 0.0))
    for packed in (False, True):
        path = tmp_path / f"itk{packed}{suffix}"
        sitk.WriteImage(image, str(path), packed)
        d, found = read(path)
        assert np.array_equal(found, values.T) and (d.dtype, d.out_dtype) == ("int16", "float32")
        for index in ((0, 0, 0), (3, 1, 5)):
            ras = np.array(d.acquisition["affine"]) @ [*index, 1]
            assert np.allclose(ras[:3] * [-1, -1, 1], image.TransformIndexToPhysicalPoint(index), rtol=0, atol=1e-9)
        copy(path, tmp_path / f"ours{packed}{suffix}", "float32")
        again = sitk.ReadImage(str(tmp_path / f"ours{packed}{suffix}"))
        assert again.GetPixelID() == sitk.sitkFloat32 and again.GetDirection() == image.GetDirection()
        assert np.array_equal(sitk.GetArrayFromImage(again), values)


def test_an_oblique_series_comes_back(tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    d = Description("metaimage", (4, 5, 6, 3), ("x", "y", "z", "volume"), "float32", acquisition={"affine": AFFINE})
    values = np.random.default_rng(1).normal(size=d.shape).astype("f4")
    writer = metaimage.compose(tmp_path / "a.mha", d)
    writer.write(full(d), values)
    writer.close()
    found, again = read(tmp_path / "a.mha")
    assert np.array_equal(again, values) and found.axes == d.axes
    assert np.allclose(found.acquisition["affine"], AFFINE, rtol=0, atol=1e-12)
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "a.mha"))), values.T)


def test_frames_and_colours_that_are_composed_say_so(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    for axes, shape in ((("y", "x", "frame"), (5, 4, 6)), (("y", "x", "channel"), (5, 4, 3)), (("y", "x"), (5, 4))):
        colour = axes[-1] == "channel"
        d = Description(
            "metaimage", shape, axes, "uint8", "rgb" if colour else "bmode", slope=1 / 255 if colour else 1.0
        )
        values = rng.integers(0, 255, shape).astype("u1")
        writer = metaimage.compose(tmp_path / "a.mha", d)
        writer.write(full(d), values)
        writer.close()
        found, again = read(tmp_path / "a.mha")
        assert found.axes == axes and np.array_equal(again, values)
        assert found.kind == d.kind and found.slope == d.slope


def test_many_channels_are_a_series_and_few_are_vectors(tmp_path: Path) -> None:
    for count, axes, kind in ((12, ("x", "y", "z", "volume"), "unknown"), (6, ("x", "y", "z", "volume"), "vector")):
        data = np.arange(120 * count, dtype="<i2").reshape(count, 4, 5, 6, order="F")
        lines = BASE.replace("ElementType", f"ElementNumberOfChannels = {count}\nElementType")
        d, values = read(write(tmp_path / "a.mha", lines, data.tobytes(order="F")))
        assert (d.axes, d.kind) == (axes, kind) and np.array_equal(values, np.moveaxis(data, 0, -1))


@pytest.mark.parametrize("said", ["RF_REAL", "RF_IQ_LINE", "RF_I_LINE_Q_LINE"])
def test_lines_of_echoes_are_no_picture(tmp_path: Path, said: str) -> None:
    more = f"UltrasoundImageOrientation = FM\nUltrasoundImageType = {said}\nKinds = domain domain list\nElementType"
    d, values = read(write(tmp_path / "a.mha", BASE.replace("ElementType", more)))
    assert d.kind == ("rf" if said == "RF_REAL" else "iq") and d.axes == ("axial", "lateral", "frame")
    assert np.array_equal(values, CUBE)
    d, values = read(write(tmp_path / "a.mha", BASE.replace("ElementType", more.replace("= FM", "= MF"))))
    assert np.array_equal(values, CUBE.transpose(1, 0, 2))


def test_tracked_frames_without_kinds_are_known_by_their_keys(tmp_path: Path) -> None:
    more = "".join(f"Seq_Frame{i:04d}_ImageStatus = OK\n" for i in range(6)) + "ElementType"
    assert read(write(tmp_path / "a.mha", BASE.replace("ElementType", more)))[0].axes == ("y", "x", "frame")


def test_compressed_output_says_how_long_its_samples_are(tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    lines = BASE.replace("ElementSpacing", "CompressedData = True\nElementSpacing")
    path = write(tmp_path / "a.mha", lines, zlib.compress(BYTES))
    assert np.array_equal(read(path)[1], CUBE)  # read without a size
    copy(path, tmp_path / "b.mha")
    header = metaimage.open(tmp_path / "b.mha").header
    assert header.number("CompressedDataSize", 0) == (tmp_path / "b.mha").stat().st_size - header.size
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "b.mha"))), CUBE.T)


def test_text_and_big_endian_samples_are_read(tmp_path: Path) -> None:
    text = " ".join(map(str, CUBE.ravel(order="F"))).encode()
    assert np.array_equal(read(write(tmp_path / "a.mha", BASE.replace("Data = True", "Data = False"), text))[1], CUBE)
    big = CUBE.astype(">i2").tobytes(order="F")
    path = write(tmp_path / "b.mha", BASE.replace("MSB = False", "MSB = True"), big)
    assert np.array_equal(read(path)[1], CUBE)
    copy(path, tmp_path / "c.mha")
    assert (tmp_path / "c.mha").read_bytes() == path.read_bytes()


HOSTILE = {
    "a terabyte": (BASE.replace("4 5 6", "10000 10000 10000"), "ends after"),
    "a size beyond memory": (BASE.replace("4 5 6", "1000000000000 1000000000000 9"), "no shape"),
    "negative": (BASE.replace("4 5 6", "4 -5 6"), "no shape"),
    "no number": (BASE.replace("4 5 6", "4 five 6"), "not 3 numbers"),
    "a parent folder": (BASE.replace("LOCAL", "../a.raw"), "outside the header's folder"),
    "an absolute path": (BASE.replace("LOCAL", "/etc/passwd"), "outside the header's folder"),
    "a missing raw file": (BASE.replace("LOCAL", "a.raw"), "is missing"),
    "a list": (BASE.replace("LOCAL", "LIST"), "several files"),
    "an unknown type": (BASE.replace("MET_SHORT", "MET_OTHER"), "no type"),
    "many axes": (BASE.replace("NDims = 3", "NDims = 99"), "not 99 numbers"),
    "no end": (BASE.replace("ElementDataFile = LOCAL\n", ""), "no line of|ends early"),
    "channels": (BASE.replace("ElementType", "ElementNumberOfChannels = -3\nElementType"), "no number of channels"),
    "a bomb": (
        BASE.replace("4 5 6", "9000 9000 9000").replace("ElementType", "CompressedData = True\nElementType"),
        "bytes of samples",
    ),
    "compressed samples that are not there": (
        BASE.replace("ElementType", "CompressedData = True\nCompressedDataSize = 99999\nElementType"),
        "99999 bytes are promised",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_headers_end_in_a_worded_error(tmp_path: Path, case: str) -> None:
    lines, words = HOSTILE[case]
    with pytest.raises(FormatError, match=words):
        metaimage.open(write(tmp_path / "a.mhd", lines))
