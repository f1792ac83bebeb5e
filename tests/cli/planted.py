# SPDX-License-Identifier: Apache-2.0
"""Small files of every format with one person planted wherever a header takes a text, a number or a day."""

from __future__ import annotations

import json
import struct
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pellucid.core.types import Description
from pellucid.formats import find, png

WHO, DAY, HOME = "ZAPHODX42", "19470823", "/home/zaphodx42/scans"
SPELLED = ("zaphodx42", "19470823", "1947-08-23", "1947:08:23", "1947.08.23")
LINE = f"{WHO} born {DAY} in {HOME}"
ROLES = {"mri": ("x", "y", "z"), "image": ("y", "x"), "raw": ("y", "x"), "speech": ("time", "channel")}
ROLES |= {"hyperspectral": ("line", "sample", "band"), "ultrasound": ("y", "x", "frame")}
SIZES = {"mri": (16, 15, 14), "image": (40, 48), "raw": (64, 80), "speech": (4000, 2)}
SIZES |= {"hyperspectral": (24, 20, 6), "ultrasound": (48, 40, 4)}
TYPES = {"mri": "int16", "image": "uint8", "raw": "uint16", "speech": "int16", "hyperspectral": "int16"}
FACTS: dict[str, dict[str, Any]] = {
    "speech": {"rate_hz": 16000, "bits": 16, "subtype": "PCM_16"},
    "hyperspectral": {
        "wavelengths_nm": [400.0 + 10 * i for i in range(6)],
        "transform": (5.0, 0.0, 9.0, 0.0, -5.0, 8.0),
    },
    "mri": {"affine": np.diag([2.0, 2.0, 2.0, 1.0])},
}


def composed(name: str, field: str, path: Path) -> Path:
    """Write noise in a format, with what the field knows of it."""
    shape, axes, dtype = SIZES[field], ROLES[field], TYPES.get(field, "uint8")
    values = np.random.default_rng(3).integers(20, 200, shape).astype(dtype)
    slope = {"int16": 2.0**-15, "uint8": 1 / 255}.get(dtype, 1.0) if field in ("speech", "image") else 1.0
    made = Description(name, shape, axes, dtype, slope=slope, acquisition=FACTS.get(field, {}))
    writer = find.module_of(name).compose(path, made)
    writer.write(tuple(slice(0, n) for n in shape), values)
    writer.close()
    return path


def tell(dataset: Any) -> None:
    """Put the person into every element of a DICOM dataset that takes a text, a name or a day."""
    pydicom = pytest.importorskip("pydicom")
    texts = dict.fromkeys(("LO", "SH", "ST", "LT", "UT", "UC"), WHO) | {"PN": f"{WHO}^Jane", "AE": WHO}
    texts |= {"DA": DAY, "DT": DAY + "101112", "AS": "042Y", "UR": f"http://{WHO}.org"}
    skipped = ("Manufacturer", "CodeMeaning", "SpecificCharacterSet", "UniversalEntityID")
    for tag, (vr, _, _, retired, keyword) in pydicom.datadict.DicomDictionary.items():
        group = tag >> 16
        if retired or not keyword or vr not in texts or group < 8 or group > 0x4000 or keyword.startswith(skipped):
            continue
        dataset.add_new(tag, vr, texts[vr])
    dataset.StudyInstanceUID = dataset.FrameOfReferenceUID = f"1.2.826.{DAY}.42"
    for group, creator in ((0x0029, "SIEMENS CSA HEADER"), (0x0019, "SIEMENS MR HEADER"), (0x0009, "ACME")):
        block = dataset.private_block(group, creator, create=True)
        block.add_new(0x10, "LO", WHO)
        block.add_new(0x0C, "IS", 1000)
    item = pydicom.Dataset()
    item.PatientName, item.CodeMeaning, item.StudyDate = f"{WHO}^Jane", WHO, DAY
    dataset.OtherPatientIDsSequence = dataset.AnatomicRegionSequence = [item]
    dataset.add_new(0x60000022, "LO", WHO)
    dataset.file_meta.SourceApplicationEntityTitle = WHO
    dataset.preamble = WHO.encode().ljust(128, b"\0")


def saved(dataset: Any, path: Path) -> None:
    """Write a dataset whatever its values."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset.save_as(path)


def dicom_us(path: Path) -> None:
    """An ultrasound cine."""
    pydicom = pytest.importorskip("pydicom")
    composed("dicom_us", "ultrasound", path)
    dataset = pydicom.dcmread(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tell(dataset)
    dataset.FrameTime = "40"
    saved(dataset, path)


def dicom(path: Path) -> None:
    """A folder of three slices."""
    pydicom = pytest.importorskip("pydicom")
    source = Path(pydicom.__file__).parent / "data" / "test_files" / "MR_small.dcm"
    if not source.exists():
        pytest.skip("the test files of pydicom are not installed")
    path.mkdir()
    for k in range(3):
        dataset = pydicom.dcmread(source)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tell(dataset)
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.826.{DAY}.7.{k}"
        x, y, z = (float(v) for v in dataset.ImagePositionPatient)
        dataset.ImagePositionPatient, dataset.InstanceNumber = [x, y, z + 2 * k], k + 1
        saved(dataset, path / f"{WHO}_{k}.dcm")


def nifti(path: Path) -> None:
    """A volume with texts, an extension and a JSON beside it."""
    nibabel = pytest.importorskip("nibabel")
    image = nibabel.Nifti1Image(np.random.default_rng(3).integers(20, 200, (16, 15, 14)).astype(np.int16), np.eye(4))
    for key in ("descrip", "aux_file", "db_name", "intent_name", "data_type"):
        image.header[key] = f"{WHO}{DAY}"[: image.header.structarr[key].dtype.itemsize].encode()
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", LINE.encode()))
    nibabel.save(image, path)
    keys = ("PatientName", "PatientID", "AcquisitionDateTime", "InstitutionName", "StudyID", "DeviceSerialNumber")
    keys += ("ProtocolName", "SeriesDescription", "ImageComments", "Unheard", "OperatorsName", "AccessionNumber")
    told: dict[str, Any] = dict.fromkeys(keys, WHO) | {"AcquisitionDate": DAY, "PatientBirthDate": int(DAY)}
    told |= {"EchoTime": 0.08, "RepetitionTime": 2.5, "Modality": "MR", "Nested": {"PatientName": WHO, "FlipAngle": 7}}
    path.with_name(path.name.split(".")[0] + ".json").write_text(json.dumps(told))


def nrrd(path: Path) -> None:
    """Fields, key/value pairs and comments."""
    composed("nrrd", "mri", path)
    head, gap, rest = path.read_bytes().partition(b"\n\n")
    more = [f"# {LINE}", f"content: {WHO}", f"PatientName:={WHO}", f"DICOM_0010_0030:={DAY}", f"path:={HOME}"]
    path.write_bytes(head + "\n".join(["", *more, f"note:={LINE}", "modality:=MR"]).encode() + gap + rest)


def metaimage(path: Path) -> None:
    """Comments, names and fields of others."""
    composed("metaimage", "mri", path)
    head, mark, rest = path.read_bytes().partition(b"ElementDataFile")
    more = f"Comment = {LINE}\nName = {WHO}\nAcquisitionDate = {DAY}\nPatientID = {WHO}\nSource = {HOME}\n"
    path.write_bytes(head + more.encode() + mark + rest)


def mif(path: Path) -> None:
    """Comments and the history of commands."""
    composed("mif", "mri", path)
    data = path.read_bytes()
    more = f"\ncomments: {LINE}\ncommand_history: mrconvert {HOME}/a.mif b.mif\nPatientName: {WHO}\nEND\n".encode()
    at = data.index(b"\nEND\n")
    offset = int(data.split(b"\nfile: . ")[1].split(b"\n")[0])
    new = 1024
    head = data[:at].replace(b"\nfile: . %d" % offset, b"\nfile: . %d" % new) + more
    path.write_bytes(head.ljust(new, b"\0") + data[offset:])


def mgz(path: Path) -> None:
    """Tags behind the samples and bytes nobody uses."""
    composed("mgz", "mri", path)
    data = bytearray(path.read_bytes())
    data[100 : 100 + len(WHO)] = WHO.encode()
    line = f"mri_convert {HOME}/orig.mgz {DAY}".encode()
    path.write_bytes(bytes(data) + struct.pack(">iq", 3, len(line)) + line)


def wav(path: Path) -> None:
    """bext, LIST, iXML, ID3 and unknown chunks."""
    composed("wav", "speech", path)
    bext = LINE.encode().ljust(256, b"\0") + WHO.encode().ljust(32, b"\0") + WHO.encode().ljust(32, b"\0")
    bext += b"1947-08-23" + b"10:11:12" + struct.pack("<QH", 99, 2) + WHO.encode().ljust(64, b"\0") + bytes(190)
    bext += f"A=PCM,F=16000,T={WHO}\r\n".encode()
    info = b"INFOIART" + struct.pack("<I", 10) + WHO.encode() + b"\0"
    chunks = {b"bext": bext, b"LIST": info, b"iXML": LINE.encode(), b"id3 ": LINE.encode(), b"note": LINE.encode()}
    data = path.read_bytes()
    body = b"".join(n + struct.pack("<I", len(p)) + p + b"\0" * (len(p) % 2) for n, p in chunks.items())
    path.write_bytes(data[:4] + struct.pack("<I", len(data) + len(body) - 8) + data[8:12] + body + data[12:])


def aiff(path: Path) -> None:
    """NAME, AUTH, ANNO and ID3."""
    composed("aiff", "speech", path)
    data, text = path.read_bytes(), LINE.encode() + b"\0" * (len(LINE) % 2)
    body = b"".join(n + struct.pack(">I", len(text)) + text for n in (b"NAME", b"AUTH", b"ANNO", b"ID3 ", b"APPL"))
    path.write_bytes(data[:4] + struct.pack(">I", len(data) + len(body) - 8) + data[8:] + body)


def flac(path: Path) -> None:
    """Tags, a picture, an application block and ID3 in front."""
    composed("flac", "speech", path)
    data, text = path.read_bytes(), f"ARTIST={LINE}".encode()
    tags = struct.pack("<I", 3) + b"xyz" + struct.pack("<II", 1, len(text)) + text
    blocks = b"".join(
        bytes([k]) + len(p).to_bytes(3, "big") + p for k, p in ((4, tags), (2, b"abcd" + text), (6, text))
    )
    info = bytes([0]) + data[5:42]
    assert data[4] & 128, "one block"
    body = info + blocks + bytes([129]) + (4).to_bytes(3, "big") + bytes(4) + data[42:]
    tag = WHO.encode().ljust(20, b"\0")
    path.write_bytes(b"ID3\4\0\0" + bytes([0, 0, 0, len(tag)]) + tag + b"fLaC" + body)


def png_(path: Path) -> None:
    """Texts plain and packed, EXIF, a time and an unknown chunk."""
    composed("png", "image", path)
    data = path.read_bytes()
    exif = b"II*\0" + struct.pack("<IH", 8, 2) + struct.pack("<HHII", 274, 3, 1, 6)
    exif += struct.pack("<HHII", 315, 2, len(WHO) + 1, 38) + bytes(4) + WHO.encode() + b"\0"
    chunks = [(b"tEXt", b"Author\0" + LINE.encode()), (b"zTXt", b"Comment\0\0" + zlib.compress(LINE.encode()))]
    chunks += [(b"iTXt", b"Title\0\0\0\0\0" + LINE.encode()), (b"eXIf", exif), (b"prVt", LINE.encode())]
    chunks += [(b"tIME", struct.pack(">HBBBBB", 1947, 8, 23, 1, 2, 3))]
    path.write_bytes(data[:33] + b"".join(png.pack(n, p) for n, p in chunks) + data[33:])


def tiff(path: Path) -> None:
    """Descriptive tags, EXIF-like ones, XMP and private blocks."""
    tifffile = pytest.importorskip("tifffile")
    values = np.random.default_rng(3).integers(20, 200, (40, 48)).astype(np.uint8)
    ascii_tags = (269, 271, 285, 306, 315, 316, 33432, 42032, 42033, 65000)
    extra = [(t, 2, 0, "ACME" if t == 271 else f"{WHO} 1947:08:23", True) for t in ascii_tags]
    extra += [(t, 1, len(LINE), LINE.encode(), True) for t in (700, 33723, 34377, 65001)]
    extra += [(37510, 7, len(LINE), LINE.encode(), True)]
    tifffile.imwrite(path, values, description=LINE, software=WHO, extratags=extra, metadata=None)
    with path.open("ab") as file:
        file.write(LINE.encode())  # left behind by some editor


def ome(path: Path) -> None:
    """OME-XML with an experimenter."""
    tifffile = pytest.importorskip("tifffile")
    values = np.random.default_rng(3).integers(20, 200, (3, 40, 48)).astype(np.uint16)
    tifffile.imwrite(path, values, ome=True, metadata={"axes": "ZYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5})
    with tifffile.TiffFile(path, mode="r+") as tif:
        person = f'<Experimenter ID="Experimenter:0" LastName="{WHO}"/><Image Name="{WHO}" '
        tif.pages[0].tags[270].overwrite(tif.pages[0].description.replace("<Image ", person, 1))


def geotiff(path: Path) -> None:
    """A scene with an owner."""
    rasterio = pytest.importorskip("rasterio")
    composed("geotiff", "hyperspectral", path)
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(TIFFTAG_ARTIST=WHO, TIFFTAG_HOSTCOMPUTER=WHO, TIFFTAG_DATETIME="1947:08:23 01:02:03")
        dataset.update_tags(owner=WHO, source_path=HOME)


def dng(path: Path) -> None:
    """Serial numbers, owner, GPS, maker note, XMP in the file and beside it."""
    from pellucid.formats import dng_tags

    composed("dng", "raw", path)
    with path.open("ab") as file:
        file.write(b"\0" * (path.stat().st_size % 2))
        at, text = file.tell(), WHO.encode() + b"\0"
        file.write(struct.pack("<H", 1) + struct.pack("<HHII", 29, 2, 11, at + 18) + bytes(4) + b"1947:08:23\0")
    first = dng_tags.walk(path).first.at
    texts = (270, 306, 315, 316, 33432, 50735, 50827, 50942, 51105)
    changes: dict[int, Any] = {t: (2, text) for t in texts} | {t: (1, text) for t in (700, 50740)}
    dng_tags.change(path, first, changes | {34853: (4, (at,))})
    exif = dng_tags.walk(path).child(34665)
    if exif is not None:
        more = {t: (2, text) for t in (36867, 42032, 42033, 42037)} | {37500: (7, text), 37510: (7, text)}
        dng_tags.change(path, exif.at, more)
    path.with_suffix(".xmp").write_text(f"<x:xmpmeta>{LINE}</x:xmpmeta>")


def hdf5(path: Path) -> None:
    """Attributes, texts and groups of a person."""
    h5py = pytest.importorskip("h5py")
    composed("hdf5", "hyperspectral", path)
    with h5py.File(path, "r+") as file:
        file.attrs["operator"], file.attrs["history"] = WHO, np.bytes_(LINE)
        file["data"].attrs["PatientName"] = WHO
        file["data"].attrs["long_name"] = "counts"
        file["patient/name"], file["patient/birth_date"] = WHO, int(DAY)
        file["notes/comment"] = np.bytes_(LINE)
        file["elsewhere"] = h5py.ExternalLink(f"{HOME}/x.h5", "/data")


def mat(path: Path) -> None:
    """The text at the start."""
    composed("mat", "hyperspectral", path)
    data = path.read_bytes()
    path.write_bytes(f"MATLAB 5.0 MAT-file, {WHO}, Created on: {DAY}".encode().ljust(116) + data[116:])


def npz(path: Path) -> None:
    """Comments of the archive and of a member."""
    composed("npz", "image", path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.infolist()[0].comment = LINE.encode()
        archive.comment = LINE.encode()


def envi(path: Path) -> None:
    """Description, comments and paths."""
    composed("envi", "hyperspectral", path)
    header = path.with_suffix(".hdr")
    more = f"description = {{\n  {LINE}}}\n; {LINE}\nuser = {WHO}\nfile name = {HOME}/x.img\n"
    header.write_text(header.read_text().rstrip("\n") + "\n" + more)


def clarius(path: Path) -> None:
    """Parameters that name somebody."""
    rng = np.random.default_rng(3)
    frames = b"".join(
        struct.pack("<Q", 10**18 + 10**7 * k) + rng.integers(1, 99, 24 * 40, "u1").tobytes() for k in range(3)
    )
    path.write_bytes(struct.pack("<5I", 1, 3, 24, 40, 1) + frames)
    lines = ["# raw data parameters", "", "frames: 3", "frame rate: 100 Hz", f"operator: {WHO}", f"note: {LINE}"]
    path.with_suffix(".yml").write_text("\n".join([*lines, "type: B pre-scan", "imaging depth: 30 mm"]) + "\n")


def jpeg(path: Path) -> None:
    """A photograph with EXIF and a comment."""
    image = pytest.importorskip("PIL.Image")
    exif = image.Exif()
    exif[274], exif[315] = 6, LINE
    values = np.random.default_rng(3).integers(20, 200, (40, 48)).astype(np.uint8)
    image.fromarray(values).save(path, "jpeg", exif=exif, comment=LINE.encode())


def video(path: Path) -> None:
    """A clip with a title."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w", format="matroska") as clip:
        clip.metadata["title"] = LINE
        stream = clip.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 40, "gray"
        stream.metadata["title"] = LINE
        for _ in range(3):
            pixels = np.random.default_rng(3).integers(20, 200, (48, 40)).astype(np.uint8)
            clip.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="gray")))
        clip.mux(stream.encode())


CASES = {
    "dicom": ("mri", "", dicom),
    "dicom_us": ("ultrasound", ".dcm", dicom_us),
    "nifti": ("mri", ".nii", nifti),
    "nifti-gz": ("mri", ".nii.gz", nifti),
    "nifti-pair": ("mri", ".hdr", nifti),
    "nrrd": ("mri", ".nrrd", nrrd),
    "metaimage": ("mri", ".mha", metaimage),
    "mif": ("mri", ".mif", mif),
    "mgz": ("mri", ".mgh", mgz),
    "wav": ("speech", ".wav", wav),
    "aiff": ("speech", ".aiff", aiff),
    "flac": ("speech", ".flac", flac),
    "png": ("image", ".png", png_),
    "tiff": ("image", ".tif", tiff),
    "ome": ("image", ".ome.tif", ome),
    "geotiff": ("hyperspectral", ".tif", geotiff),
    "dng": ("raw", ".dng", dng),
    "hdf5": ("hyperspectral", ".h5", hdf5),
    "mat": ("hyperspectral", ".mat", mat),
    "npz": ("image", ".npz", npz),
    "envi": ("hyperspectral", ".img", envi),
    "jpeg": ("image", ".jpg", jpeg),
    "video": ("ultrasound", ".mkv", video),
    "clarius": ("ultrasound", ".raw", clarius),
}
