# SPDX-License-Identifier: Apache-2.0
"""Headers of DICOM files in plain words: one ``Header`` a file, one ``Frame`` a plane.

PS3.3 C.7.6.2 (Image Plane), C.7.6.16 (Multi-frame Functional Groups), C.8.3 and C.8.13 (MR, Enhanced MR).
Names, identifiers and dates of patients are neither read nor kept here.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid.core.errors import FormatError, Missing, PellucidError

if TYPE_CHECKING:
    from pellucid.core.types import Array

MAGIC, PREAMBLE = b"DICM", 128
LIKELY = 0.5  # certainty above which a name alone did not decide
ULTRASOUND = tuple(f"1.2.840.10008.5.1.4.1.1.{tail}" for tail in ("6.1", "3.1", "6", "3", "6.2", "6.3"))
MR = tuple(f"1.2.840.10008.5.1.4.1.1.{tail}" for tail in ("4", "4.1", "4.4", "128.1"))  # 128.1: enhanced PET
EXTRA = "install the extra: pip install 'pellucid[dicom]'"
PANIC = "PanicException"  # how decoders written in Rust fail on damaged data; no Exception
DEFLATED = "1.2.840.10008.1.2.1.99"
LARGEST_DEFLATED = 1 << 30  # bytes of an inflated file; real ones are small
LARGEST_FRAME = 1 << 31  # bytes of one plane; no scanner makes larger ones
SUSPECT_BYTES, SUSPECT_RATIO = 1 << 26, 1000  # a compressed plane that claims more was made to fill the memory
DTYPES = {(8, 0): "uint8", (8, 1): "int8", (16, 0): "uint16", (16, 1): "int16", (32, 0): "uint32", (32, 1): "int32"}
LOCK = threading.RLock()  # filters of warnings belong to the process, not to a thread
PIXELS, FLOATS = 0x7FE00010, (0x7FE00008, 0x7FE00009)


@dataclass(frozen=True)
class Frame:
    """One plane: where it lies, what it shows, and where its samples are.

    Parameters
    ----------
    file, index : int
        Place in the list of files, and of the plane within its file.
    position, orientation : tuple of float, optional
        Of the centre of the first sample, and direction cosines of a row and of a column: LPS, mm.
    spacing : tuple of float, optional
        Between rows, between columns: mm.
    part : str
        ``M P R I`` or what else the image type says (``FIELD_MAP``, ``ADC`` ...).
    types : tuple of str
        The image or frame type, as stored, with what other tags say of the part.
    order : tuple of float
        Sorts the planes of one position into volumes.
    """

    file: int
    index: int
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    spacing: tuple[float, ...] | None
    part: str
    types: tuple[str, ...]
    echo_ms: float | None
    b: float | None
    direction: tuple[float, ...] | None
    order: tuple[float, ...]
    slope: float
    inter: float


@dataclass(frozen=True)
class Header:
    """What one file says; ``options`` and ``offset`` lead to its samples."""

    path: Path
    series: str
    number: int | None
    title: str
    instance: str
    sop_class: str
    modality: str
    shape: tuple[int, int]  # rows, columns
    dtype: str
    colour: bool
    lossy: bool
    offset: int  # of the samples; -1: the file must be inflated first
    options: Mapping[str, Any]
    frames: tuple[Frame, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)


@contextmanager
def worded(path: object, where: str = "header") -> Iterator[None]:
    """Turn whatever a damaged file makes the library raise into one worded line."""
    try:
        with LOCK, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd values are carried; what matters is checked here
            yield
    except PellucidError:
        raise
    except OSError as error:
        if error.errno is None:  # the library's own word for a file that ends early
            raise FormatError(path, where, f"is cut short ({error})", "copy it again from the archive") from None
        raise FormatError(path, "", f"cannot be read ({error.strerror})", "check its permissions") from None
    except BaseException as error:  # pydicom raises what its parsers happen to meet, from KeyError to struct.error
        if not isinstance(error, Exception) and type(error).__name__ != PANIC:
            raise
        text = " ".join(str(error).split())[:120] or type(error).__name__
        raise FormatError(path, where, f"is damaged or not understood ({text})", "copy it again") from None


def library(path: object) -> Any:
    """Return pydicom.

    Raises
    ------
    Missing
        The extra is not installed.
    """
    try:
        import pydicom
        import pydicom.pixels
    except ImportError:
        raise Missing("reading DICOM needs pydicom", path, EXTRA) from None
    return pydicom


def sop_class(head: bytes) -> str:
    """Return the SOP class of the first bytes of a DICOM file; empty where they do not tell."""
    if head[PREAMBLE : PREAMBLE + 4] != MAGIC:
        return ""
    at = head.find(b"\x02\x00\x02\x00UI", PREAMBLE + 4)
    if at < 0:
        return "unknown"
    length = int.from_bytes(head[at + 6 : at + 8], "little")
    return head[at + 8 : at + 8 + length].rstrip(b"\0 ").decode("ascii", "replace") or "unknown"


def is_mosaic(head: bytes) -> bool:
    """Tell whether the image type says that a plane holds many (Siemens)."""
    at = head.find(b"\x08\x00\x08\x00")
    return at >= 0 and b"MOSAIC" in head[at : at + 200]


def read(path: Path, file: int = 0) -> Header:
    """Read the header of one file.

    Raises
    ------
    FormatError
        No DICOM image, damaged, cut short, or of a kind that is not read.
    """
    pydicom = library(path)
    with worded(path), path.open("rb") as stream:
        dataset, offset = _dataset(pydicom, path, stream)
        return _header(pydicom, path, dataset, offset, file)


def whole(path: Path, *, pixels: bool = False) -> Any:
    """Return the dataset of a file, without its samples unless asked."""
    pydicom = library(path)
    with worded(path):
        _check_deflated(path)
        return pydicom.dcmread(path, stop_before_pixels=not pixels)


def _dataset(pydicom: Any, path: Path, stream: Any) -> tuple[Any, int]:
    """Return the dataset without samples, and the offset of their element's value."""
    _check_deflated(path)
    try:
        dataset = pydicom.dcmread(stream, stop_before_pixels=True)
    except pydicom.errors.InvalidDicomError:
        raise FormatError(path, "", "is no DICOM file", "see 'pellucid list formats'") from None
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if not syntax:
        raise FormatError(path, "(0002,0010)", "the transfer syntax is missing", "copy it again from the archive")
    if syntax == DEFLATED:
        return dataset, -1
    start = stream.read(12)
    tag = _tag(start, little=syntax.is_little_endian)
    if tag in FLOATS:
        raise FormatError(path, "pixel data", "are floating-point, which is not read", "convert it to NIfTI first")
    if len(start) < 12 or tag != PIXELS:
        raise FormatError(path, "pixel data", "are missing", _without_pixels(dataset))
    if start[4:6] in (b"OB", b"OW"):
        dataset.pixel_vr = start[4:6].decode()
    return dataset, stream.tell() - (4 if syntax.is_implicit_VR else 0)


def _tag(start: bytes, *, little: bool) -> int:
    order = "little" if little else "big"
    return (int.from_bytes(start[:2], order) << 16) | int.from_bytes(start[2:4], order)  # type: ignore[arg-type]


def _without_pixels(dataset: Any) -> str:
    name = getattr(dataset.file_meta.get("MediaStorageSOPClassUID"), "name", "")
    if not name or "Image Storage" in name:
        return "copy it again from the archive"
    return f"this object is a '{name}'; name an image"


def _check_deflated(path: Path) -> None:
    """Refuse deflated files that would fill the memory, before the library inflates them whole."""
    import zlib

    with path.open("rb") as stream:
        head = stream.read(4096)
        if DEFLATED.encode() not in head[PREAMBLE:]:
            return
        length_at = head.find(b"\x02\x00\x00\x00UL\x04\x00")
        start = length_at + 12 + int.from_bytes(head[length_at + 8 : length_at + 12], "little")
        stream.seek(start if length_at > 0 else 0)
        inflater, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
        while chunk := stream.read(1 << 16):
            while chunk:
                size += len(inflater.decompress(chunk, 1 << 22))
                chunk = inflater.unconsumed_tail
                if size > LARGEST_DEFLATED:
                    raise FormatError(path, "", f"inflates to more than {size} bytes", "save it without deflation")


def _header(pydicom: Any, path: Path, dataset: Any, offset: int, file: int) -> Header:
    options = pydicom.pixels.as_pixel_options(dataset)
    syntax = dataset.file_meta.TransferSyntaxUID
    options["transfer_syntax_uid"], options["pixel_keyword"] = syntax, "PixelData"
    options["pixel_vr"] = getattr(dataset, "pixel_vr", "OW")
    rows, columns = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
    bits, signed = int(dataset.get("BitsAllocated") or 0), int(dataset.get("PixelRepresentation") or 0)
    if rows < 1 or columns < 1:
        raise FormatError(path, "(0028,0010)", f"{rows} rows and {columns} columns hold no samples")
    if (bits, signed) not in DTYPES:
        raise FormatError(path, "(0028,0100)", f"samples of {bits} bits are not read", "see 'pellucid info'")
    if not 1 <= int(dataset.get("BitsStored") or 0) <= bits:
        raise FormatError(path, "(0028,0101)", f"{dataset.get('BitsStored')} bits stored of {bits}")
    count, samples = int(options["number_of_frames"]), int(dataset.get("SamplesPerPixel") or 1)
    if str(dataset.get("PhotometricInterpretation")) == "YBR_FULL_422" and not syntax.is_encapsulated:
        samples = 2  # colours of two neighbours are stored once
    _check_size(path, options, (count, rows * columns * samples * bits // 8), offset)
    lossy = str(dataset.get("LossyImageCompression") or "") == "01" or syntax in _lossy(pydicom)
    colour = samples > 1 or str(dataset.get("PhotometricInterpretation")) == "PALETTE COLOR"
    from pellucid.formats import dicom_frames

    return Header(
        path=path,
        series=str(dataset.get("SeriesInstanceUID", "")),
        number=_integer(dataset.get("SeriesNumber")),
        title=str(dataset.get("SeriesDescription") or dataset.get("ProtocolName") or "").strip(),
        instance=str(dataset.get("SOPInstanceUID", "")),
        sop_class=str(dataset.get("SOPClassUID", "")),
        modality=str(dataset.get("Modality") or ""),
        shape=(rows, columns),
        dtype=DTYPES[bits, signed],
        colour=colour,
        lossy=lossy,
        offset=offset,
        options=options,
        frames=dicom_frames.frames(path, dataset, count, file),
        facts=dicom_frames.facts(dataset),
    )


def _check_size(path: Path, options: Mapping[str, Any], claimed: tuple[int, int], offset: int) -> None:
    """Refuse headers that claim more samples than the file holds, before memory is taken."""
    count, frame = claimed
    held, syntax = path.stat().st_size - max(offset, 0), options["transfer_syntax_uid"]
    if count < 1 or frame > LARGEST_FRAME:
        raise FormatError(path, "(0028,0008)", f"{count} planes of {frame} bytes")
    if not syntax.is_encapsulated:
        if offset >= 0 and held < count * frame:
            what = f"{count} planes need {count * frame} bytes, the file holds {held}"
            raise FormatError(path, f"byte {path.stat().st_size}", what, "copy it again from the archive")
    elif count > held or (count * frame > SUSPECT_BYTES and count * frame > SUSPECT_RATIO * held):
        what = f"says {count * frame} bytes of samples, the file holds {held} compressed"
        raise FormatError(path, "size", what, "the file is cut short or made to fill the memory")


def _lossy(pydicom: Any) -> tuple[Any, ...]:
    uid = pydicom.uid
    return (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLSNearLossless, uid.JPEG2000, uid.HTJ2K)


def _integer(value: Any) -> int | None:
    try:
        return int(value)
    except (TypeError, ValueError):
        return None


def decode(header: Header, index: int) -> Array:
    """Return the stored samples of one plane: (rows, columns[, samples]), native byte order.

    Raises
    ------
    Missing
        No decoder for this compression is installed.
    FormatError
        The samples are damaged or cut short.
    """
    pydicom = library(header.path)
    syntax = header.options["transfer_syntax_uid"]
    with worded(header.path, f"plane {index + 1}"):
        try:
            decoder = pydicom.pixels.get_decoder(syntax)
        except NotImplementedError:
            raise FormatError(header.path, "pixel data", f"coded as {syntax.name} are not read") from None
        if not decoder.is_available:
            raise Missing(f"samples coded as {syntax.name} need a decoder", header.path, EXTRA)
        if header.offset < 0:
            source = pydicom.dcmread(header.path)
            return _native(decoder.as_array(source, index=index, raw=True)[0], header)
        with header.path.open("rb") as stream:
            stream.seek(header.offset)
            return _native(decoder.as_array(stream, index=index, raw=True, **header.options)[0], header)


def _native(values: Array, header: Header) -> Array:
    if values.shape[:2] != header.shape:
        raise FormatError(header.path, "pixel data", f"decode to {values.shape}, the header says {header.shape}")
    return values.astype(header.dtype, copy=False)
