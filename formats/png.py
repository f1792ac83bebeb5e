# SPDX-License-Identifier: Apache-2.0
"""PNG: grey, RGB, with alpha, 8 and 16 bit. All other chunks are copied byte for byte.

Format: PNG, third edition (W3C 2025). libpng decodes and encodes the pixels; profiles, gamma,
EXIF, text and unknown chunks never pass through it.
"""

from __future__ import annotations

import os
import struct
import threading
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from pellucid.core.errors import FormatError
from pellucid.core.lazy import np
from pellucid.core.types import Description, FormatTraits, Reader, Region, Writer
from pellucid.formats import plausible
from pellucid.formats.png_private import anonymise as anonymise

if TYPE_CHECKING:
    from pellucid.core.types import Array

FORMAT = FormatTraits(
    name="png",
    title="PNG",
    suffixes=(".png",),
    keeps="every chunk but the pixels; alpha; interlacing is undone, palettes and 1 to 4 bits become 8",
)

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MOST_CHUNKS = 1 << 20
GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGB_ALPHA: 4}
DEPTHS = {GREY: (1, 2, 4, 8, 16), RGB: (8, 16), PALETTE: (1, 2, 4, 8), GREY_ALPHA: (8, 16), RGB_ALPHA: (8, 16)}
OURS = (b"IHDR", b"IDAT", b"IEND", b"PLTE")
TIED = (b"tRNS", b"bKGD", b"sBIT", b"hIST")  # meaningless once colour type or depth change


@dataclass(frozen=True)
class Header:
    """IHDR, and where each chunk lies: (name, start, end), neighbouring IDATs as one."""

    width: int
    height: int
    depth: int
    colour: int
    chunks: tuple[tuple[bytes, int, int], ...]

    @property
    def alpha(self) -> bool:
        """Whether the last channel is opacity."""
        return self.colour in (GREY_ALPHA, RGB_ALPHA)

    def has(self, name: bytes) -> bool:
        """Whether there is such a chunk."""
        return any(chunk[0] == name for chunk in self.chunks)


def recognise(head: bytes, name: str) -> float:
    """Return 1 for the signature."""
    return 1.0 if head[:8] == SIGNATURE else 0.0


def open(path: Path, **hints: Any) -> PngReader:
    """Read the chunk headers of a file."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            header = walk(path, file)
            key = _colour_key(file, header)
    except OSError as error:
        raise FormatError(path, "file", error.strerror or "cannot be read") from error
    row = -(-header.width * CHANNELS[header.colour] * header.depth // 8) + 1
    plausible.check(path, row * header.height, sum(e - s for n, s, e in header.chunks if n == b"IDAT"))
    return PngReader(path, describe(header, key), header)


def walk(path: object, file: IO[bytes]) -> Header:
    """List the chunks; only IHDR is read."""
    size = file.seek(0, 2)
    file.seek(0)
    if file.read(8) != SIGNATURE:
        raise FormatError(path, "byte 0", "is no PNG")
    chunks: list[tuple[bytes, int, int]] = []
    position, ihdr = 8, b""
    while not chunks or chunks[-1][0] != b"IEND":
        file.seek(position)
        head = file.read(8)
        end = position + 12 + int.from_bytes(head[:4], "big")
        if len(head) < 8 or end > size:
            raise FormatError(path, f"byte {position}", "the file is cut short", "copy it again from its source")
        name = head[4:]
        if name == b"IHDR" and not chunks:
            ihdr = file.read(13) if end - position == 25 else b""
        if chunks and name == b"IDAT" == chunks[-1][0]:
            chunks[-1] = (name, chunks[-1][1], end)
        else:
            chunks.append((name, position, end))
        if len(chunks) > MOST_CHUNKS:
            raise FormatError(path, f"byte {position}", f"holds more than {MOST_CHUNKS} chunks")
        position = end
    if not ihdr or b"IDAT" not in (c[0] for c in chunks):
        raise FormatError(path, "chunks", "IHDR or IDAT is missing")
    width, height, depth, colour, packed, filtered, laced = struct.unpack(">IIBBBBB", ihdr)
    if depth not in DEPTHS.get(colour, ()) or packed or filtered or laced > 1 or not 0 < width * height < 1 << 62:
        raise FormatError(path, "IHDR", f"{width} x {height}, {depth} bit, colour type {colour} is impossible")
    return Header(width, height, depth, colour, tuple(chunks))


def _colour_key(file: IO[bytes], header: Header) -> float | None:
    """Return the grey value that stands for "transparent", which is no measurement."""
    found = next((c for c in header.chunks if c[0] == b"tRNS"), None)
    if found is None or header.colour != GREY or header.depth < 8 or found[2] - found[1] != 14:
        return None
    file.seek(found[1] + 8)
    return float(int.from_bytes(file.read(2), "big"))


def describe(header: Header, key: float | None) -> Description:
    """Return the neutral description; opacity is not counted among the channels."""
    grey = header.colour in (GREY, GREY_ALPHA)
    dtype = "uint16" if header.depth == 16 else "uint8"
    kind, notes = ("intensity" if grey else "rgb"), []
    if header.colour == PALETTE:
        kind = "palette"
        notes.append(("palette", "the palette's colours are read and written as RGB"))
    elif header.depth < 8:
        kind = "mask" if header.depth == 1 else kind
        notes.append(("depth", f"{header.depth} bit become 8 bit"))
    if header.has(b"acTL"):
        kind = "animation"
        notes.append(("animation", "only the first picture is read"))
    shape = (header.height, header.width) if grey else (header.height, header.width, 3)
    return Description(
        format="png",
        shape=shape,
        axes=("y", "x", "channel")[: len(shape)],
        dtype=dtype,
        kind=kind,
        spacing=(None,) * len(shape),
        units=(None,) * len(shape),
        slope=1 / 65535 if dtype == "uint16" else 1 / 255,
        nodata=key,
        out_dtype=dtype,
        acquisition={"bits": header.depth},
        witnesses={"colour_type": header.colour, "alpha": header.alpha},
        notes=tuple(notes),
    )


@dataclass
class PngReader:
    """Reader that decodes the picture at the first read and keeps it."""

    path: Path
    description: Description
    header: Header
    _held: list[Array] = field(default_factory=list, repr=False, compare=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if not k.startswith("_")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _held=[], _lock=threading.Lock())

    def read(self, region: Region) -> Array:
        """Return stored samples of a region, without opacity."""
        colours = min(self.pixels().shape[2], 3 if len(self.description.shape) == 3 else 1)
        whole = self.pixels()[:, :, :colours]
        whole = whole if len(self.description.shape) == 3 else whole[:, :, 0]
        return whole[region].copy()

    def alpha(self) -> Array | None:
        """Return opacity ``(y, x)``, or None."""
        pixels = self.pixels()
        return pixels[:, :, -1] if pixels.shape[2] in (2, 4) else None

    def pixels(self) -> Array:
        """Return the whole picture ``(y, x, channel)``, opacity last."""
        with self._lock:
            if not self._held:
                self._held.append(self._decode())
            return self._held[0]

    def _decode(self) -> Array:
        import imagecodecs

        wanted = OURS + ((b"tRNS",) if self.header.colour == PALETTE else ())
        try:
            with self.path.open("rb") as file:
                parts = [_slice(file, s, e) for n, s, e in self.header.chunks if n in wanted]
            pixels: Array = imagecodecs.png_decode(SIGNATURE + b"".join(parts))
        except (imagecodecs.PngError, ValueError, OSError, MemoryError) as error:
            what = f"cannot be decoded ({error})"
            raise FormatError(self.path, "pixels", what, "copy it again from its source") from error
        return pixels.reshape(self.header.height, self.header.width, -1)

    def close(self) -> None:
        """Forget the picture."""
        with self._lock:
            self._held.clear()


def _slice(file: IO[bytes], start: int, stop: int) -> bytes:
    file.seek(start)
    return file.read(stop - start)


def splice(path: Path, source: Reader, output: Description) -> Writer:
    """Write the same picture with other pixels: chunks and opacity travel."""
    return PngWriter(path, output, source if isinstance(source, PngReader) else None)


def compose(path: Path, description: Description) -> Writer:
    """Write a new picture; ``icc_profile`` and ``exif`` of the acquisition become chunks."""
    return PngWriter(path, description, None)


class PngWriter:
    """Writer that holds the picture and encodes it at the end."""

    def __init__(self, path: Path, output: Description, source: PngReader | None) -> None:
        shape = (*output.shape, 1) if len(output.shape) == 2 else tuple(output.shape)
        cine = len(output.shape) == 3 and output.axes[-1] != "channel"  # three frames are no colours
        if output.dtype not in ("uint8", "uint16") or len(shape) != 3 or shape[2] not in (1, 3) or cine:
            what = f"PNG holds 8 or 16 bit, grey or RGB, not {output.dtype} of shape {tuple(output.shape)}"
            raise FormatError(path, "pixels", what, "name the output .tif")
        self.path, self._output, self._source = path, output, source
        self._pixels: Array | None = np.zeros(shape, output.dtype)

    def write(self, region: Region, values: Array) -> None:
        """Store pixels at their place."""
        assert self._pixels is not None
        target = self._pixels if len(self._output.shape) == 3 else self._pixels[:, :, 0]
        target[region] = values

    def close(self) -> None:
        """Encode, put the chunks around, flush to disk."""
        if self._pixels is None:
            return
        import imagecodecs

        pixels, self._pixels = self._pixels, None
        if self._source is not None and (alpha := self._source.alpha()) is not None:
            pixels = np.concatenate([pixels, _same_depth(alpha, pixels.dtype)[:, :, None]], axis=2)
        encoded = bytes(imagecodecs.png_encode(pixels if pixels.shape[2] > 1 else pixels[:, :, 0]))
        with self.path.open("wb") as file:
            for part in self._parts(_split(self.path, encoded)):
                file.write(part)
            file.flush()
            os.fsync(file.fileno())

    def _parts(self, new: dict[bytes, bytes]) -> list[bytes]:
        """Return the file in order: the source's chunks around new header and pixels."""
        parts = [SIGNATURE, new[b"IHDR"]]
        if self._source is None:
            return [*parts, *_facts(self._output), new[b"IDAT"], new[b"IEND"]]
        header = self._source.header
        same = new[b"IHDR"][16:18] == bytes([header.depth, header.colour])
        written = False
        with self._source.path.open("rb") as file:
            for name, start, end in header.chunks:
                if name == b"IDAT" and not written:
                    parts.append(new[b"IDAT"])
                    written = True
                elif name == b"PLTE" and header.colour != PALETTE:  # a suggestion for poor screens
                    parts.append(_slice(file, start, end))
                elif name not in OURS and (same or name not in TIED):
                    parts.append(_slice(file, start, end))
        return [*parts, new[b"IEND"]]


def _split(path: Path, encoded: bytes) -> dict[bytes, bytes]:
    """Return header, pixels and end of what libpng wrote."""
    import io

    found = walk(path, io.BytesIO(encoded))
    return {name: encoded[start:end] for name, start, end in found.chunks}


def _same_depth(alpha: Array, dtype: Any) -> Array:
    """Return opacity in another depth: 255 becomes 65535 and back."""
    if alpha.dtype == dtype:
        return alpha
    wide = alpha.astype(np.uint16) * 257 if dtype == np.uint16 else (alpha.astype(np.uint32) + 128) // 257
    return wide.astype(dtype)


def _facts(description: Description) -> list[bytes]:
    """Return chunks for what a new file should know: profile and EXIF."""
    parts = []
    if profile := description.acquisition.get("icc_profile"):
        parts.append(pack(b"iCCP", b"ICC profile\0\0" + zlib.compress(profile)))
    if exif := description.acquisition.get("exif"):
        parts.append(pack(b"eXIf", exif))
    return parts


def pack(name: bytes, payload: bytes) -> bytes:
    """Return one chunk with length and checksum."""
    return struct.pack(">I", len(payload)) + name + payload + struct.pack(">I", zlib.crc32(name + payload))
