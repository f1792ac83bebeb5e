# SPDX-License-Identifier: Apache-2.0
"""Frames of a DICOM ultrasound object, decoded one after the other: grey or RGB, as they look on a screen.

pydicom and its plugins decode. Two things they leave to us: sizes that must be believable before
memory is taken, and JPEG streams whose colours are coded otherwise than the header says.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from pellucid.core.errors import FormatError, Missing
from pellucid.core.lazy import np
from pellucid.formats import dicom_header, plausible

if TYPE_CHECKING:
    from pellucid.core.types import Array

MONO, PALETTE = ("MONOCHROME1", "MONOCHROME2"), "PALETTE COLOR"
COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
BY_HABIT = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51")  # JPEG processes that code YCbCr by habit
LOSSY = (*BY_HABIT, "1.2.840.10008.1.2.4.81")  # and JPEG-LS near-lossless; JPEG 2000 says it in a tag
RLE = "1.2.840.10008.1.2.5"
RLE_MOST = 64.0  # PackBits: two bytes give at most 128
CODED_MOST = 20_000.0  # black frames of JPEG 2000 take a few hundred bytes
ITEM, DELIMITER = (0xFFFE, 0xE000), (0xFFFE, 0xE0DD)
LOOK = 1 << 16  # bytes of a stream in which its size is looked for
LUMA = (299, 587, 114)  # ITU-R BT.601, thousandths; R = G = B gives exactly that value
NEAR = 12  # two components this close (RGB), or this close to 128 (YCbCr), tell a grey pixel
SOF = (0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF, 0xF7)
NUMBERS = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "PixelRepresentation", "NumberOfFrames")


@dataclass(frozen=True)
class Picture:
    """What the header says of the pixels, checked.

    Parameters
    ----------
    bits : int
        Allocated per sample: 8 or 16.
    native : bool
        Not compressed.
    coding : str
        How the JPEG stream codes its colours by its own marks, where it has some.
    palette : array (entries, 3), optional
        8-bit RGB of every index.
    """

    path: Path
    rows: int
    columns: int
    frames: int
    samples: int
    bits: int
    photometric: str
    syntax: str
    native: bool = True
    coding: str = ""
    palette: Any = None

    @property
    def grey(self) -> bool:
        """Whether frames come without a colour axis."""
        return self.photometric in MONO

    @property
    def dtype(self) -> str:
        """Type of the samples that are presented: palettes are seen through, which leaves 8 bit."""
        return "uint16" if self.bits > 8 and self.palette is None else "uint8"

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame as the file stores it, decoded."""
        return self.rows * self.columns * self.samples * self.bits // 8

    @property
    def marked_otherwise(self) -> bool:
        """Whether a JPEG stream says RGB where the header says YCbCr, or the reverse."""
        return bool(self.coding) and (self.coding == "RGB") != (self.photometric == "RGB")


def picture(path: Path, dataset: Any, file: IO[bytes]) -> Picture:
    """Return the checked header of the pixels; ``file`` stands before Pixel Data.

    Raises
    ------
    FormatError
        Pixels are absent, of a kind no ultrasound object has, cut short, or unbelievably many.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    rows, columns, samples, bits, signed, frames = (int(dataset.get(k) or (k in NUMBERS[2::3])) for k in NUMBERS)
    photometric = str(dataset.get("PhotometricInterpretation") or "")
    wanted = 3 if photometric in COLOURS else 1 if photometric in (*MONO, PALETTE) else 0
    if not (0 < rows <= 65535 and 0 < columns <= 65535 and frames > 0):
        raise FormatError(path, "Rows, Columns, NumberOfFrames", f"are {rows}, {columns}, {frames}")
    if samples != wanted or bits not in (8, 16) or signed or (wanted == 3 and bits != 8):
        what = f"{photometric or 'no photometric interpretation'} with {samples} samples of {bits} bit is not read"
        raise FormatError(path, "image pixel module", what, "convert it to RGB or MONOCHROME2 of 8 bit first")
    made = Picture(path, rows, columns, frames, samples, bits, photometric, str(syntax), not syntax.is_encapsulated)
    marks = _check_native(made, file, syntax) if made.native else _check_coded(made, file)
    if photometric == PALETTE:
        made = replace(made, palette=_palette(dataset, bits))
    return replace(made, coding=marks) if made.syntax in BY_HABIT and samples == 3 else made


def _element(path: Path, file: IO[bytes], order: str) -> bytes:
    head = file.read(12)
    if len(head) < 12 or struct.unpack(order + "HH", head[:4]) != (0x7FE0, 0x0010):
        raise FormatError(path, "Pixel Data", "is not there", "the object holds no picture")
    return head


def _check_native(made: Picture, file: IO[bytes], syntax: Any) -> str:
    """Refuse pixels that are not there."""
    size = made.path.stat().st_size
    order = "<" if syntax.is_little_endian else ">"
    head = _element(made.path, file, order)
    if syntax.is_implicit_VR:
        file.seek(-4, 1)
    length = struct.unpack(order + "I", head[4:8] if syntax.is_implicit_VR else head[8:12])[0]
    needed = made.frame_bytes * made.frames
    if made.photometric == "YBR_FULL_422":  # two pixels share their colour
        needed = needed // 3 * 2
    held = min(length, size - file.tell())
    if held < needed:
        what = f"holds {held} bytes; {made.frames} frames take {needed}"
        raise FormatError(made.path, "Pixel Data", what, "the file is cut short or its header is wrong")
    return ""


def _check_coded(made: Picture, file: IO[bytes]) -> str:
    """Refuse coded pixels that are cut short or unbelievable; return how the first stream codes its colours."""
    _element(made.path, file, "<")
    held, pieces, marks = 0, 0, ""
    for length, start in _fragments(made.path, file):
        if pieces and (found := stream_facts(start)) is not None:
            if found[:2] != (made.rows, made.columns):
                what = f"frame of {found[0]} x {found[1]}, the header says {made.rows} x {made.columns}"
                raise FormatError(made.path, f"byte {file.tell()}", what)
            marks = marks or found[2]
        held, pieces = held + length, pieces + 1
    if made.frames > pieces - 1:  # the first item is the offset table
        raise FormatError(made.path, "NumberOfFrames", f"says {made.frames}; Pixel Data holds {pieces - 1} pieces")
    claimed = made.frame_bytes * made.frames
    plausible.check(made.path, claimed, held, RLE_MOST if made.syntax == RLE else CODED_MOST)
    return marks


def _fragments(path: Path, file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Walk the items of coded pixels; yield the length of each and how it starts."""
    size = path.stat().st_size
    while True:
        head = file.read(8)
        group, element, length = struct.unpack("<HHI", head) if len(head) == 8 else (0, 0, 0)
        if (group, element) == DELIMITER:
            return
        end = file.tell() + length
        if (group, element) != ITEM or end > size:
            raise FormatError(path, f"byte {file.tell()}", "Pixel Data is cut short", "copy it again from its source")
        start = file.read(min(length, LOOK))
        file.seek(end)
        yield length, start


def stream_facts(stream: bytes) -> tuple[int, int, str] | None:
    """Return rows, columns and colour coding of a JPEG family stream; None where it tells nothing.

    The coding is ``RGB`` or ``YBR_FULL_422``, or "" where the stream bears no mark: JFIF means YCbCr,
    Adobe's APP14 says so itself, components named R, G, B mean RGB.
    """
    if stream[:4] == b"\xff\x4f\xff\x51" and len(stream) >= 24:  # JPEG 2000: SIZ follows SOC
        right, lower, left, upper = struct.unpack(">IIII", stream[8:24])
        return lower - upper, right - left, ""
    position, marks = 2, ""
    while stream[:2] == b"\xff\xd8" and position + 4 <= len(stream) and stream[position] == 0xFF:
        mark, length = stream[position + 1], int.from_bytes(stream[position + 2 : position + 4], "big")
        body = stream[position + 4 : position + 2 + length]
        if mark == 0xEE and body[:5] == b"Adobe" and len(body) >= 12:
            marks = "YBR_FULL_422" if body[11] else "RGB"
        elif mark == 0xE0 and body[:4] == b"JFIF":
            marks = marks or "YBR_FULL_422"
        elif mark in SOF and len(body) >= 6:
            named = "RGB" if body[6::3][:3] in (b"RGB", b"rgb") else ""
            return int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big"), marks or named
        position += 2 + max(length, 2)
    return None


def _palette(dataset: Any, bits: int) -> Array:
    """Return 8-bit RGB of every index; segmented tables are expanded, 16-bit entries keep their upper byte."""
    from pydicom.pixels import apply_color_lut

    indices = np.arange(1 << bits, dtype=f"uint{bits}")[None]
    entries = apply_color_lut(indices, dataset)[0]
    wide = entries.dtype.itemsize > 1 and int(entries.max()) > 255  # 8-bit entries come in 16-bit tables too
    return np.ascontiguousarray((entries >> 8 if wide else entries).astype(np.uint8))


def frames(made: Picture, wanted: Any = None) -> Iterator[Array]:
    """Yield decoded frames in order: (rows, columns), or (rows, columns, 3) as RGB; native byte order.

    Parameters
    ----------
    wanted : sequence of int, optional
        Indices of frames; all by default.

    Raises
    ------
    FormatError, Missing
        The pixels are damaged; no decoder is installed.
    """
    library = dicom_header.library(made.path)
    from pydicom.uid import UID

    options: dict[str, Any] = {}
    with dicom_header.worded(made.path, "Pixel Data"):
        if not made.native and not library.pixels.get_decoder(UID(made.syntax)).is_available:
            name = UID(made.syntax).name
            raise Missing(f"pixels coded as {name} need a decoder", made.path, dicom_header.EXTRA)
        if made.syntax in BY_HABIT and made.samples == 3:
            options["photometric_interpretation"] = made.coding or _guess(made)
        decoded = library.pixels.iter_pixels(made.path, indices=wanted, **options)
    count = made.frames if wanted is None else len(wanted)
    for _ in range(count):
        with dicom_header.worded(made.path, "Pixel Data"):
            frame = next(decoded, None)
        if frame is None or frame.shape[:2] != (made.rows, made.columns):
            raise FormatError(made.path, "Pixel Data", "holds fewer frames than the header says")
        if made.palette is not None:
            frame = made.palette[frame]
        yield frame.astype(made.dtype, copy=False)


def _guess(made: Picture) -> str:
    """Return how an unmarked JPEG stream codes colours: most of an ultrasound screen is grey in one of the two."""
    from pydicom.pixels import pixel_array

    options = {"photometric_interpretation": "YBR_FULL_422"}
    first = pixel_array(made.path, index=0, raw=True, **options).astype(np.int16)
    one, two, three = first[..., 0], first[..., 1], first[..., 2]
    as_rgb = ((abs(one - two) <= NEAR) & (abs(two - three) <= NEAR)).mean()
    as_ybr = ((abs(two - 128) <= NEAR) & (abs(three - 128) <= NEAR)).mean()
    if as_rgb == as_ybr:
        return "RGB" if made.photometric == "RGB" else "YBR_FULL_422"
    return "RGB" if as_rgb > as_ybr else "YBR_FULL_422"


def luma(frame: Array) -> Array:
    """Return the grey of a frame: itself, or the rounded luminance of RGB, which is exact where R = G = B."""
    if frame.ndim == 2:
        return frame
    wide = [frame[..., i].astype(np.uint32) * LUMA[i] for i in range(3)]
    return ((wide[0] + wide[1] + wide[2] + 500) // 1000).astype(frame.dtype)
