# SPDX-License-Identifier: Apache-2.0
"""Interleaved PCM samples: how they lie in bytes, and files or pipes that hold nothing else.

A headerless file says nothing of itself: rate, channels and encoding come from the user.
The reader and writer here also serve WAV, W64, RF64 and AIFF, whose samples lie the same way.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from pellucid.core.errors import FormatError
from pellucid.core.lazy import np
from pellucid.core.types import Description, FormatTraits, Reader, Region, Writer

if TYPE_CHECKING:
    from pellucid.core.types import Array

FORMAT = FormatTraits(
    name="pcm",
    title="raw PCM samples",
    suffixes=(".raw", ".pcm", ".s16le", ".s24le", ".s32le", ".f32le"),
    keeps="samples only: there is no header; bytes after the last whole frame travel",
    pipe=True,
)

COPY = 1 << 20  # bytes copied at a time


@dataclass(frozen=True)
class Encoding:
    """How one sample lies on disk and what it becomes in memory.

    ``physical = stored * slope + inter`` puts integer full scale at +-1.
    """

    name: str
    disk: str  # NumPy type; "u1" triples for 24 bit
    stored: str
    width: int  # bytes
    slope: float = 1.0
    inter: float = 0.0
    subtype: str = ""
    big: bool = False

    @property
    def bits(self) -> int:
        """Bits of one sample."""
        return 8 * self.width


def _encodings() -> dict[str, Encoding]:
    table = [
        Encoding("u8", "u1", "uint8", 1, 2.0**-7, -1.0, "PCM_U8"),
        Encoding("s8", "i1", "int8", 1, 2.0**-7, 0.0, "PCM_S8"),
    ]
    for end, mark in (("le", "<"), ("be", ">")):
        big = end == "be"
        table += [
            Encoding("s16" + end, mark + "i2", "int16", 2, 2.0**-15, 0.0, "PCM_16", big),
            Encoding("s24" + end, "u1", "int32", 3, 2.0**-23, 0.0, "PCM_24", big),
            Encoding("s32" + end, mark + "i4", "int32", 4, 2.0**-31, 0.0, "PCM_32", big),
            Encoding("f32" + end, mark + "f4", "float32", 4, subtype="FLOAT", big=big),
            Encoding("f64" + end, mark + "f8", "float64", 8, subtype="DOUBLE", big=big),
        ]
    return {e.name: e for e in table}


ENCODINGS = _encodings()
OFFSET_8 = Encoding("u8", "u1", "int8", 1, 2.0**-7, 0.0, "PCM_U8")  # signed samples in an unsigned file


def encoding_of(description: Description, order: str = "le") -> Encoding | None:
    """Return the encoding that holds a description's stored samples, or None.

    A 24-bit file keeps its samples in int32: the slope tells it from a 32-bit one, then ``bits``.
    """
    name = {"uint8": "u8", "int8": "s8", "int16": "s16" + order, "float32": "f32" + order, "float64": "f64" + order}
    if description.dtype != "int32":
        return ENCODINGS.get(name.get(description.dtype, ""))
    bits = {2.0**-23: 24, 2.0**-31: 32}.get(_scalar(description.slope)) or description.acquisition.get("bits", 32)
    return ENCODINGS[("s24" if bits in (20, 24) else "s32") + order]


def _scalar(slope: Any) -> float:
    return float(slope) if np.ndim(slope) == 0 else float("nan")


def decode(raw: bytes, encoding: Encoding) -> Array:
    """Return stored samples (n,) in native byte order from their bytes."""
    if encoding.width != 3:
        flat = np.frombuffer(raw, encoding.disk)
        return (flat ^ 128).view(np.int8) if encoding == OFFSET_8 else flat.astype(encoding.stored)
    wide = np.zeros((len(raw) // 3, 4), np.uint8)
    triples = np.frombuffer(raw, np.uint8).reshape(-1, 3)
    wide[:, 1:] = triples[:, ::-1] if encoding.big else triples
    return (wide.view("<i4")[:, 0] >> 8).astype(np.int32)  # arithmetic shift keeps the sign


def encode(values: Array, encoding: Encoding) -> bytes:
    """Return the bytes of stored samples of any shape; values beyond 24 bit saturate, never wrap."""
    flat = np.ascontiguousarray(values).reshape(-1)
    if encoding.width != 3:
        flat = flat.view(np.uint8) ^ 128 if encoding == OFFSET_8 else flat
        flat = flat.astype(encoding.disk, copy=False)
        return bytes(flat.tobytes())
    limited = np.clip(flat, -(2**23), 2**23 - 1).astype("<i4")
    triples = limited.view(np.uint8).reshape(-1, 4)[:, :3]
    return bytes((triples[:, ::-1] if encoding.big else triples).tobytes())


def describe(format: str, encoding: Encoding, shape: tuple[int, int], rate: float, **more: Any) -> Description:
    """Return the neutral description of interleaved sound, axes ``(time, channel)``."""
    acquisition = {"rate_hz": rate, "subtype": encoding.subtype, "bits": encoding.bits}
    acquisition.update(more.pop("acquisition", {}))
    return Description(
        format=format,
        shape=shape,
        axes=("time", "channel"),
        dtype=encoding.stored,
        kind="waveform",
        spacing=(1.0 / rate, None),
        units=("s", None),
        slope=encoding.slope,
        inter=encoding.inter,
        out_dtype=encoding.stored,
        acquisition=acquisition,
        **more,
    )


@dataclass
class Interleaved:
    """Reader of frames that lie one after the other from ``offset`` on.

    The file is opened for each read: nothing to lock between threads, nothing to pickle.
    """

    path: Path
    description: Description
    encoding: Encoding
    offset: int = 0
    container: Any = None  # what the splicing writer wants to know of the file

    def read(self, region: Region) -> Array:
        """Return stored samples ``(time, channel)`` of a region."""
        frames, channels = self.description.shape
        start, stop, _ = region[0].indices(frames)
        frame, count = channels * self.encoding.width, max(stop - start, 0)
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset + start * frame)
                raw = file.read(count * frame)
        except OSError as error:
            raise FormatError(self.path, f"frame {start}", error.strerror or "cannot be read") from error
        if len(raw) != count * frame:
            where = f"frame {start + len(raw) // frame}"
            raise FormatError(self.path, where, "the file ends here", "copy the file again from its source")
        return decode(raw, self.encoding).reshape(count, channels)[:, region[1]]

    def close(self) -> None:
        """Nothing is held open."""


@dataclass(frozen=True)
class Stretch:
    """Bytes to copy unchanged from another file."""

    path: Path
    start: int
    stop: int


Pieces = Sequence[bytes | Stretch]


class InterleavedWriter:
    """Writer of frames between a head and a tail that are copied first; regions in any order."""

    def __init__(
        self, path: Path, encoding: Encoding, shape: tuple[int, ...], *, head: Pieces = (), tail: Pieces = ()
    ) -> None:
        self.path, self.encoding, self.shape = path, encoding, shape
        self.clipped = 0
        self._lock = threading.Lock()
        self._file = path.open("wb+")
        self.offset = lay(self._file, head)
        self._file.seek(self.offset + shape[0] * shape[1] * encoding.width)
        lay(self._file, tail)
        self._file.truncate(self._file.tell())

    def write(self, region: Region, values: Array) -> None:
        """Store samples ``(time, channel)`` at their place."""
        frames, channels = self.shape
        start, stop, _ = region[0].indices(frames)
        if self.encoding.width == 3:
            self.clipped += int(np.count_nonzero((values < -(2**23)) | (values >= 2**23)))
        with self._lock:
            if range(channels)[region[1]] != range(channels):
                values = self._merged(start, stop, region[1], values)
            self._file.seek(self.offset + start * channels * self.encoding.width)
            self._file.write(encode(values, self.encoding))

    def _merged(self, start: int, stop: int, which: slice, values: Array) -> Array:
        """Return whole frames: some channels new, the others as written before."""
        channels = self.shape[1]
        frame = channels * self.encoding.width
        self._file.seek(self.offset + start * frame)
        raw = self._file.read((stop - start) * frame).ljust((stop - start) * frame, b"\0")
        whole = decode(raw, self.encoding).reshape(-1, channels)
        whole[:, which] = values
        return whole

    def patch(self, at: int, data: bytes) -> None:
        """Overwrite bytes of the head or tail."""
        with self._lock:
            self._file.seek(at)
            self._file.write(data)

    def close(self) -> None:
        """Flush to disk."""
        if self._file.closed:
            return
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()


def lay(file: IO[bytes], pieces: Pieces) -> int:
    """Write pieces one after the other; return the position reached."""
    for piece in pieces:
        if isinstance(piece, bytes):
            file.write(piece)
            continue
        with piece.path.open("rb") as source:
            source.seek(piece.start)
            left = piece.stop - piece.start
            while left > 0 and (block := source.read(min(left, COPY))):
                file.write(block)
                left -= len(block)
    return file.tell()


def recognise(head: bytes, name: str) -> float:
    """Return a low certainty: only the name can tell, and only when nothing else fits."""
    suffix = Path(name).suffix.lower()
    if suffix in (".raw", ".pcm"):
        return 0.05
    return 0.2 if suffix[1:] in ENCODINGS else 0.0


def open(path: Path, **hints: Any) -> Interleaved:
    """Open a headerless file; hints ``rate`` (Hz), ``channels`` (1), ``encoding`` (``s16le`` ...)."""
    path = Path(path)
    encoding, channels, rate = settings(path, hints)
    try:
        size = path.stat().st_size
    except OSError as error:
        raise FormatError(path, "file", error.strerror or "cannot be read") from error
    frames, rest = divmod(size, channels * encoding.width)
    if not frames:
        raise FormatError(path, "byte 0", "holds no whole frame")
    notes = (("ragged", f"{rest} bytes after the last whole frame are kept as they are"),) if rest else ()
    return Interleaved(path, describe("pcm", encoding, (frames, channels), rate, notes=notes), encoding)


def settings(path: object, hints: dict[str, Any]) -> tuple[Encoding, int, float]:
    """Return encoding, channels and rate from hints, or say which is missing or impossible."""
    name = str(hints.get("encoding") or Path(str(path)).suffix[1:].lower())
    if name not in ENCODINGS:
        raise FormatError(path, "encoding", "a headerless file needs it", f"give one of {', '.join(ENCODINGS)}")
    try:
        rate, channels = float(hints.get("rate") or 0), int(hints.get("channels") or 1)
    except (TypeError, ValueError):
        rate, channels = 0.0, 1
    if not 0 < rate < 1e9:
        raise FormatError(path, "rate", "a headerless file needs it", "give the sampling rate in Hz")
    if not 0 < channels <= 4096:
        raise FormatError(path, "channels", f"{channels} is impossible", "give the number of interleaved channels")
    return ENCODINGS[name], channels, rate


def splice(path: Path, source: Reader, output: Description) -> Writer:
    """Write the same headerless file with other samples."""
    given = getattr(source, "encoding", None)
    encoding = encoding_of(output, "be" if given and given.big else "le")
    if encoding is None:
        raise FormatError(path, "sample type", f"raw PCM does not hold {output.dtype}")
    tail: Pieces = ()
    if encoding == given and tuple(output.shape) == source.description.shape:
        size = source.path.stat().st_size
        frame = output.shape[1] * encoding.width
        tail = (Stretch(source.path, size - size % frame, size),)
    return InterleavedWriter(path, encoding, output.shape, tail=tail)


def compose(path: Path, description: Description) -> Writer:
    """Write little-endian samples without a header."""
    encoding = encoding_of(description)
    if encoding is None or len(description.shape) != 2:
        raise FormatError(path, "sample type", f"raw PCM does not hold {description.dtype} {description.axes}")
    return InterleavedWriter(path, encoding, description.shape)


class Source:
    """Frames that arrive on a pipe; their number is unknown until the end.

    ``description.shape`` is ``(-1, channels)``. Bytes of an unfinished frame wait for the next read.
    """

    def __init__(
        self, stream: IO[bytes], description: Description, encoding: Encoding, limit: int | None = None
    ) -> None:
        self.description, self.encoding = description, encoding
        self.leftover = b""  # bytes of a frame that never came to its end
        self._stream, self._left = stream, limit  # bytes of samples still to come, None: until the end

    def read(self, frames: int) -> Array:
        """Return what is there, at most ``frames`` frames ``(time, channel)``; none at the end only."""
        channels = self.description.shape[1]
        frame = channels * self.encoding.width
        raw = self.leftover
        while len(raw) < frame:
            block = self._take(frames * frame - len(raw))
            if not block:
                self.leftover = raw
                return np.zeros((0, channels), self.encoding.stored)
            raw += block
        whole = len(raw) - len(raw) % frame
        self.leftover = raw[whole:]
        return decode(raw[:whole], self.encoding).reshape(-1, channels)

    def _take(self, count: int) -> bytes:
        count = count if self._left is None else min(count, self._left)
        block: bytes = getattr(self._stream, "read1", self._stream.read)(count) if count else b""
        if self._left is not None:
            self._left -= len(block)
        return block


class Sink:
    """Frames that leave on a pipe, after an optional header."""

    def __init__(self, stream: IO[bytes], encoding: Encoding, header: bytes = b"") -> None:
        self.encoding, self._stream = encoding, stream
        self._stream.write(header)

    def write(self, values: Array) -> None:
        """Send frames ``(time, channel)`` at once."""
        self._stream.write(encode(values, self.encoding))
        self._stream.flush()


def source(stream: IO[bytes], **hints: Any) -> Source:
    """Return a reader of raw samples on a pipe; hints as for ``open``."""
    encoding, channels, rate = settings("standard input", hints)
    return Source(stream, describe("pcm", encoding, (-1, channels), rate), encoding)


def sink(stream: IO[bytes], description: Description) -> Sink:
    """Return a writer of raw little-endian samples to a pipe."""
    encoding = encoding_of(description)
    if encoding is None:
        raise FormatError("standard output", "sample type", f"raw PCM does not hold {description.dtype}")
    return Sink(stream, encoding)
