# SPDX-License-Identifier: Apache-2.0
"""DICOM ultrasound: what is read, what may change, and what second readers say of the derived object."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pellucid.core.errors import FormatError
from pellucid.core.types import Description
from pellucid.formats import dicom_us, find, us_frames

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("pylibjpeg")

FILES = {  # shape of what is presented, notes
    "ExplVR_BigEnd.dcm": ((60, 80), {"content-mask", "burned-in"}),
    "JPGLosslessP14SV1_1s_1f_8b.dcm": ((768, 1024), set()),
    "OBXXXX1A_rle_2frame.dcm": ((600, 800, 2), {"burned-in"}),
    "color-pl.dcm": ((120, 256), {"content-mask", "burned-in"}),
    "examples_jpeg2k.dcm": ((480, 640), {"content-mask", "burned-in"}),
    "examples_palette.dcm": ((350, 800), {"regions-ignored", "content-mask", "burned-in"}),
    "examples_ybr_color.dcm": ((240, 320, 30), {"regions-ignored", "content-mask", "burned-in"}),
    "gdcm-US-ALOKA-16.dcm": ((480, 640), {"burned-in"}),
}
NAMES = ("Citizen", "Jan", "NAME^PATIENT", "CompressedSamples", "Anonymized", "98279", "13US1", "PLA", "BAPTIST")
by_file = pytest.mark.parametrize("name", sorted(FILES))


def everything(description: Description) -> tuple[slice, ...]:
    return tuple(slice(0, n) for n in description.shape)


def colours(path: Path) -> np.ndarray:
    """Return decoded 8-bit frames by pydicom alone: (frames, y, x[, 3])."""
    dataset = pydicom.dcmread(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = pydicom.pixels.pixel_array(dataset)
        if dataset.PhotometricInterpretation == "PALETTE COLOR":
            found = (pydicom.pixels.apply_color_lut(found, dataset) >> 8).astype(np.uint8)
    return found if int(dataset.get("NumberOfFrames") or 1) > 1 else found[None]


def rewritten(
    source: Path, target: Path, change: Callable[[np.ndarray], np.ndarray] | None = None, **hints: Any
) -> Any:
    """Splice a file, samples inside the mask changed; return the mask."""
    reader = find.open_file(source, **hints)
    region = everything(reader.description)
    values, mask = reader.read(region), reader.mask(region[:2])
    if change is not None:
        values = np.where(mask if values.ndim == 2 else mask[..., None], change(values), values)
    writer = dicom_us.splice(target, reader, reader.description)
    writer.write(region, values)
    writer.close()
    again = find.open_file(target)
    assert np.array_equal(again.read(region), values)
    for kept in ("shape", "axes", "dtype", "kind", "spacing", "units", "bad", "lossy"):
        assert getattr(again.description, kept) == getattr(reader.description, kept), kept
    again.close()
    reader.close()
    return mask


@by_file
def test_real_files_say_what_they_are(name: str, shared_data: Callable[[str], Path]) -> None:
    path = shared_data(f"ultrasound/dicom/{name}")
    assert find.candidates(path)[0] == (1.0, "dicom_us")
    reader = find.open_file(path)
    shape, notes = FILES[name]
    d = reader.description
    assert d.shape == shape and d.kind == "bmode" and d.axes == ("y", "x", "frame")[: len(shape)]
    assert d.lossy == (name == "examples_ybr_color.dcm")
    assert d.dtype == "uint8" and {code for code, _ in d.notes} == notes
    said = repr((d.acquisition, d.witnesses, d.notes))
    assert not any(word in said for word in NAMES)
    grey, seen = reader.read(everything(d)), colours(path)
    even = (seen == seen[..., :1]).all(-1) if seen.ndim == 4 else np.ones(seen.shape, bool)
    values = seen[..., 0] if seen.ndim == 4 else seen
    assert np.array_equal(np.moveaxis(grey.reshape(*shape[:2], -1), -1, 0)[even], values[even])
    copy = pickle.loads(pickle.dumps(reader))
    assert np.array_equal(copy.read((slice(3, 9), slice(5, 11), *everything(d)[2:])), grey[3:9, 5:11])
    copy.close()
    reader.close()


@by_file
def test_identity_leaves_every_decoded_pixel(name: str, shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    source = shared_data(f"ultrasound/dicom/{name}")
    rewritten(source, tmp_path / "out.dcm")
    assert np.array_equal(colours(tmp_path / "out.dcm"), colours(source))


@by_file
def test_only_tissue_changes_and_other_readers_agree(
    name: str, shared_data: Callable[[str], Path], tmp_path: Path
) -> None:
    source, target = shared_data(f"ultrasound/dicom/{name}"), tmp_path / "out.dcm"
    mask = rewritten(source, target, lambda v: 255 - v)
    before, after = colours(source), colours(target)
    changed = (before != after).any(-1) if before.ndim == 4 else before != after
    assert not changed[:, ~mask].any()
    assert changed.any() == mask.any()
    assert (after[changed] == after[changed][:, :1]).all() if after.ndim == 4 else True
    sitk = pytest.importorskip("SimpleITK")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(target))).reshape(after.shape), after)
    for tool in ("dcmftest", "dcmdump"):
        if shutil.which(tool):
            done = subprocess.run([tool, str(target)], capture_output=True, text=True, check=False)
            assert done.returncode == 0 and not done.stderr, done.stderr


@by_file
def test_nothing_of_the_header_is_lost(name: str, shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    source, target = shared_data(f"ultrasound/dicom/{name}"), tmp_path / "out.dcm"
    rewritten(source, target)
    old, new = pydicom.dcmread(source), pydicom.dcmread(target)
    ours = {"SOPInstanceUID", "SeriesInstanceUID", "ImageType", "DerivationDescription", "SourceImageSequence"}
    ours |= {"PixelData", "SeriesNumber", "SeriesDescription", "InstanceCreationDate", "InstanceCreationTime"}
    ours |= {"PhotometricInterpretation", "SamplesPerPixel", "PlanarConfiguration", "BitsAllocated", "BitsStored"}
    ours |= {"HighBit", "InstanceCreatorUID"}
    for element in old:
        palette = 0x00281100 <= element.tag < 0x00281300
        if element.keyword in ours or palette or element.tag.element == 0:
            continue
        assert element.tag in new, element
        if element.VR != "SQ":
            assert new[element.tag].value == element.value, element.tag
    assert new.ImageType[0] == "DERIVED" and new.ImageType[1:] == old.ImageType[1:]
    assert new.SOPInstanceUID == new.file_meta.MediaStorageSOPInstanceUID != old.SOPInstanceUID
    assert new.SeriesInstanceUID != old.SeriesInstanceUID and new.StudyInstanceUID == old.StudyInstanceUID
    assert new.SourceImageSequence[-1].ReferencedSOPInstanceUID == old.SOPInstanceUID
    assert new.get("LossyImageCompression") == old.get("LossyImageCompression")
    assert new.file_meta.TransferSyntaxUID == pydicom.uid.RLELossless and new["PixelData"].VR == "OB"


def test_marks_text_and_grey_bar_of_two_panels_stay(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    source, target = shared_data("ultrasound/dicom/gdcm-US-ALOKA-16.dcm"), tmp_path / "out.dcm"
    mask = rewritten(source, target, lambda v: v ^ 0x55)
    before, after = colours(source)[0], colours(target)[0]
    same = (before == after).all(-1)
    green = (before != before[..., :1]).any(-1)
    assert green.sum() == 34329 and same[green].all()
    assert same[40:104, 32:64].all(), "grey bar"
    assert same[:24].all() and same[416:].all(), "title and footer"
    text = (before[24:62, 250:336] > 150).all(-1)
    assert text.sum() > 300 and same[24:62, 250:336][text].all(), "text over the fan"
    assert mask[149:189, 127:182].all(), "bladder"
    assert mask[249:289, 75:187].mean() > 0.99, "uterus"


def test_text_calipers_bar_and_trace_inside_the_tissue_region_stay(
    shared_data: Callable[[str], Path], tmp_path: Path
) -> None:
    source, target = shared_data("ultrasound/dicom/JPGLosslessP14SV1_1s_1f_8b.dcm"), tmp_path / "out.dcm"
    mask = rewritten(source, target, lambda v: 255 - v)
    before = colours(source)[0]
    same = before == colours(target)[0]
    assert same[:160].all() and same[690:].all() and same[:, :100].all() and same[:, 920:].all()
    for y, x in ((320, 629), (436, 689)):  # calipers on tissue
        around = (slice(y - 9, y + 10), slice(x - 9, x + 10))
        drawn = (before[around] == 255) | (before[around] == 0)  # white arms, black rims
        assert drawn.sum() > 100 and same[around][drawn].all()
    assert mask[300:550, 350:600].mean() > 0.98


def jpeg(coded: str, mark: str) -> bytes:
    """Return a stream of a grey screen with a red and a blue patch, coded as RGB or YCbCr, with or without a mark."""
    codecs = pytest.importorskip("imagecodecs")
    picture = np.full((64, 64, 3), 90, np.uint8)
    picture[:16, :16] = (200, 40, 40)
    picture[:16, 48:] = (40, 40, 200)
    stream = codecs.jpeg8_encode(picture, level=98, colorspace="RGB", outcolorspace=coded, subsampling="444")
    out, at = stream[:2], 2
    while stream[at + 1] != 0xDA:
        size = 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
        part = bytearray(stream[at : at + size])
        if part[1] in (0xC0, 0xC1) and mark != "ids":
            part[10:19:3] = b"\1\2\3"
        if part[1] not in (0xE0, 0xEE) or mark == "app":
            out += bytes(part)
        at += size
    tail = bytearray(stream[at:])
    if mark != "ids":
        tail[5:11:2] = b"\1\2\3"
    return out + bytes(tail)


def object_of(path: Path, stream: bytes, photometric: str, **changes: Any) -> Path:
    """Write an ultrasound object around one coded frame."""
    new = Description("dicom_us", (64, 64), ("y", "x"), "uint8")
    writer = dicom_us.compose(path, new)
    writer.write((slice(0, 64), slice(0, 64)), np.zeros((64, 64), np.uint8))
    writer.close()
    dataset = pydicom.dcmread(path)
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, photometric, 0
    for keyword, value in changes.items():
        setattr(dataset, keyword, value)
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.JPEGBaseline8Bit
    dataset.PixelData = pydicom.encaps.encapsulate([stream])
    dataset["PixelData"].VR = "OB"
    dataset.save_as(path)
    return path


@pytest.mark.parametrize("header", ["RGB", "YBR_FULL_422"])
@pytest.mark.parametrize(
    ("coded", "mark"), [("YCBCR", "app"), ("YCBCR", "none"), ("RGB", "app"), ("RGB", "ids"), ("RGB", "none")]
)
def test_jpeg_colours_are_read_as_coded_not_as_marked(header: str, coded: str, mark: str, tmp_path: Path) -> None:
    path = object_of(tmp_path / "x.dcm", jpeg(coded, mark), header)
    reader = dicom_us.open(path)
    frame = next(us_frames.frames(reader.picture)).astype(int)
    assert abs(frame[40, 40] - 90).max() <= 3
    assert abs(frame[8, 8] - (200, 40, 40)).max() <= 6 and abs(frame[8, 56] - (40, 40, 200)).max() <= 6
    told = "photometric" in dict(reader.description.notes)
    assert told == (mark != "none" and (coded == "RGB") != (header == "RGB"))
    reader.close()


def composed(path: Path, shape: tuple[int, ...] = (48, 64), dtype: str = "uint8") -> np.ndarray:
    d = Description(
        "dicom_us",
        shape,
        ("y", "x", "frame")[: len(shape)],
        dtype,
        kind="bmode",
        spacing=(0.2, 0.3, 0.05)[: len(shape)],
        units=("mm", "mm", "s")[: len(shape)],
    )
    top = np.iinfo(dtype).max
    values = np.random.default_rng(4).integers(0, top, shape, endpoint=True).astype(dtype)
    writer = dicom_us.compose(path, d)
    for start in range(0, shape[0], 20):
        part = slice(start, min(start + 20, shape[0]))
        writer.write((part, *(slice(0, n) for n in shape[1:])), values[part])
    writer.close()
    return values


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("shape", [(47, 63), (48, 64, 5)])
def test_a_new_object_has_geometry_and_no_patient(shape: tuple[int, ...], dtype: str, tmp_path: Path) -> None:
    path = tmp_path / "new.dcm"
    values = composed(path, shape, dtype)
    reader = find.open_file(path)
    d = reader.description
    assert np.array_equal(reader.read(everything(d)), values)
    assert d.spacing == pytest.approx((0.2, 0.3, 0.05)[: len(shape)]) and d.dtype == dtype and not d.notes
    assert reader.read((slice(3, 9), slice(4, 9), *everything(d)[2:])).shape == (6, 5, *shape[2:])
    dataset = pydicom.dcmread(path)
    assert dataset.PatientName == "ANONYMOUS" and dataset.StudyDate == ""
    seen = pydicom.pixels.pixel_array(dataset)
    assert np.array_equal(seen, np.moveaxis(values, -1, 0) if len(shape) == 3 else values)
    reader.close()


@pytest.mark.parametrize("syntax", ["rle", "explicit", "j2k"])
def test_every_coding_reads_back(syntax: str, tmp_path: Path) -> None:
    values = composed(tmp_path / "new.dcm", (48, 64, 3))
    rewritten(tmp_path / "new.dcm", tmp_path / "out.dcm", transfer_syntax=syntax)
    assert np.array_equal(pydicom.pixels.pixel_array(tmp_path / "out.dcm"), np.moveaxis(values, -1, 0))


def test_many_frames_of_a_single_frame_object_are_accepted(tmp_path: Path) -> None:
    composed(tmp_path / "new.dcm", (48, 64, 3))
    dataset = pydicom.dcmread(tmp_path / "new.dcm")
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.6.1"
    dataset.FrameTimeVector = [0, 40, 60]
    dataset.save_as(tmp_path / "odd.dcm")
    reader = dicom_us.open(tmp_path / "odd.dcm")
    assert reader.description.shape[2] == 3 and "single-as-multi" in dict(reader.description.notes)
    assert reader.description.acquisition["frame_s"] == pytest.approx(0.05)


def test_claims_that_cannot_be_true_take_no_memory(tmp_path: Path) -> None:
    composed(tmp_path / "new.dcm")
    for changes in ({"Rows": 65535, "Columns": 65535}, {"NumberOfFrames": 10**9}, {"Rows": 0}, {"BitsAllocated": 32}):
        dataset = pydicom.dcmread(tmp_path / "new.dcm")
        for keyword, value in changes.items():
            setattr(dataset, keyword, value)
        dataset.save_as(tmp_path / "bomb.dcm")
        with pytest.raises(FormatError):
            dicom_us.open(tmp_path / "bomb.dcm")
    stream = bytearray(jpeg("YCBCR", "app"))
    at = stream.index(b"\xff\xc0")
    stream[at + 5 : at + 9] = b"\xff\xdc\xff\xdc"
    with pytest.raises(FormatError, match="65500"):
        dicom_us.open(object_of(tmp_path / "wide.dcm", bytes(stream), "YBR_FULL_422"))


def attempt(path: Path) -> None:
    """Read everything of a damaged file: a result or a worded error."""
    try:
        reader = find.open_file(path, ("dicom_us",))
        try:
            if np.prod([float(n) for n in reader.description.shape]) < 1e7:
                reader.read(everything(reader.description))
                reader.mask(everything(reader.description)[:2])
        finally:
            reader.close()
    except FormatError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("name", ["color-pl.dcm", "examples_jpeg2k.dcm", "examples_ybr_color.dcm", "ExplVR_BigEnd.dcm"])
def test_cuts_and_damage_end_in_a_worded_error(name: str, shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    data, path = shared_data(f"ultrasound/dicom/{name}").read_bytes(), tmp_path / "damaged.dcm"
    rng = np.random.default_rng(5)
    for i in range(20):
        path.write_bytes(data[: len(data) * i // 20])
        with pytest.raises(FormatError):
            find.open_file(path, ("dicom_us",))
    for _ in range(13):
        damaged = bytearray(data)
        for _ in range(int(rng.integers(1, 6))):
            damaged[int(rng.integers(132, min(len(damaged), 3000)))] = int(rng.integers(0, 256))
        path.write_bytes(bytes(damaged))
        attempt(path)


def test_flow_frames_of_an_enhanced_object_are_not_touched(tmp_path: Path) -> None:
    composed(tmp_path / "new.dcm", (48, 64, 3))
    dataset = pydicom.dcmread(tmp_path / "new.dcm")
    groups = []
    for kind in ("TISSUE_INTENSITY", "FLOW_VELOCITY", "TISSUE_INTENSITY"):
        item, data = pydicom.Dataset(), pydicom.Dataset()
        data.DataType = kind
        item.ImageDataTypeSequence = [data]
        groups.append(item)
    dataset.PerFrameFunctionalGroupsSequence = groups
    dataset.save_as(tmp_path / "volume.dcm")
    assert dicom_us.open(tmp_path / "volume.dcm").description.bad == (1,)
