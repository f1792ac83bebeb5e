# SPDX-License-Identifier: Apache-2.0
"""Chunks of the IFF family: RIFF, RF64 and BW64, Sony Wave64 and AIFF's FORM.

``walk`` lists the chunks without reading what is inside; ``rebuild`` says which bytes a file with
other samples consists of: every chunk is copied as it lies, but for the few that are replaced.

Layouts: RIFF (Microsoft/IBM 1991), RF64 (EBU Tech 3306), BW64 (ITU-R BS.2088), Wave64 (Sony 2003),
AIFF (Apple 1989).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from pellucid.core.errors import FormatError
from pellucid.core.lazy import np
from pellucid.core.types import Region
from pellucid.formats.pcm import Encoding, InterleavedWriter, Pieces, Stretch

if TYPE_CHECKING:
    from pellucid.core.types import Array

UNKNOWN = 0xFFFFFFFF
PIPED = range(0x7FFFF000, 0x80000000)  # sizes sox and others write where they cannot seek back
LARGEST = (1 << 32) - (1 << 16)  # above this a RIFF becomes an RF64
MOST_CHUNKS = 65536  # a file of empty chunks must not fill the memory
W64_TAILS = (bytes.fromhex("2e91cf11a5d628db04c10000"), bytes.fromhex("f3acd3118cd100c04f8edb8a"))
W64_FORM = b"wave" + W64_TAILS[1]


@dataclass(frozen=True)
class Chunk:
    """One chunk: header from ``start``, ``size`` bytes of payload from ``offset``, all of it to ``end``."""

    id: bytes
    start: int
    offset: int
    size: int
    end: int


@dataclass(frozen=True)
class Container:
    """A file's chunks. ``kind`` is ``RIFF RF64 BW64 W64 FORM``; ``open_ended``: sizes were never filled in."""

    path: Path
    kind: str
    form: bytes
    chunks: tuple[Chunk, ...]
    size: int
    open_ended: bool = False

    def find(self, name: bytes) -> Chunk | None:
        """Return the first chunk of a name."""
        return next((c for c in self.chunks if c.id == name), None)

    def payload(self, chunk: Chunk, limit: int = 1 << 24) -> bytes:
        """Return what a small chunk holds."""
        if chunk.size > limit:
            raise FormatError(self.path, f"byte {chunk.start}", f"{_name(chunk.id)} holds {chunk.size} bytes")
        with self.path.open("rb") as file:
            file.seek(chunk.offset)
            return file.read(chunk.size)


def walk(path: Path, samples: bytes = b"data") -> Container:
    """List the chunks of a file.

    Raises
    ------
    FormatError
        The file is no such container, is cut short, or its sizes contradict each other.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            return _Walk(path, file, size, samples).run()
    except OSError as error:
        raise FormatError(path, "file", error.strerror or "cannot be read") from error


class _Walk:
    """One pass over the chunk headers."""

    def __init__(self, path: Path, file: IO[bytes], size: int, samples: bytes) -> None:
        self.path, self.file, self.size, self.samples = path, file, size, samples
        self.kind, self.form, self.declared, self.pos = self._opening()
        self.sizes: dict[bytes, int] = {}  # 64-bit sizes from ds64
        self.open_ended = self.seen = False

    def run(self) -> Container:
        chunks: list[Chunk] = []
        header = 24 if self.kind == "W64" else 8
        while self.pos + header <= self.size:
            chunk = self._next()
            self.seen = self.seen or chunk.id == self.samples
            chunks.append(chunk)
            if len(chunks) > MOST_CHUNKS:
                raise FormatError(self.path, f"byte {self.pos}", f"holds more than {MOST_CHUNKS} chunks")
            self.pos = chunk.end
        if self.pos < self.size:
            chunks.append(Chunk(b"", self.pos, self.pos, self.size - self.pos, self.size))
        if not self.open_ended and self.declared > self.size + 8:  # some writers count the header twice
            what = f"{self.kind} says {self.declared} bytes, the file holds {self.size}"
            raise FormatError(self.path, "byte 4", what, "the file is cut short: copy it again from its source")
        return Container(self.path, self.kind, self.form, tuple(chunks), self.size, self.open_ended)

    def _opening(self) -> tuple[str, bytes, int, int]:
        """Return kind, form, the declared length of the file and where chunks begin."""
        head = self.file.read(40)
        kind = head[:4]
        if kind in (b"RIFF", b"RF64", b"BW64") and len(head) >= 12:
            size = int.from_bytes(head[4:8], "little")
            declared = 0 if size in (0, UNKNOWN) or size in PIPED else size + 8
            return kind.decode(), head[8:12], declared, 12
        if kind == b"FORM" and len(head) >= 12:
            return "FORM", head[8:12], int.from_bytes(head[4:8], "big") + 8, 12
        if head[:16] == b"riff" + W64_TAILS[0] and head[24:40] == W64_FORM:
            return "W64", b"WAVE", int.from_bytes(head[16:24], "little"), 40
        raise FormatError(self.path, "byte 0", "does not begin as RIFF, RF64, Wave64 or AIFF")

    def _next(self) -> Chunk:
        """Return the chunk at ``pos``; bytes behind the samples that are no chunk become a nameless one."""
        start = self.pos
        name, offset, size = self._header()
        if not name:
            if self.seen:
                return Chunk(b"", start, start, self.size - start, self.size)
            raise FormatError(self.path, f"byte {start}", "is no chunk name")
        if name == self.samples and self.kind in ("RIFF", "RF64", "BW64"):
            size = self._samples_size(offset, size)
        elif self.kind in ("RF64", "BW64") and size == UNKNOWN:
            size = self.sizes.get(name, size)
        end = offset + size
        if end > self.size:
            what = f"{_name(name)} says {size} bytes, the file holds {self.size - offset}"
            raise FormatError(self.path, f"byte {start}", what, "the file is cut short: copy it again from its source")
        if name == b"ds64":
            self._read_ds64(offset, size)
        return Chunk(name, start, offset, size, min(end + self._padding(end, size), self.size))

    def _header(self) -> tuple[bytes, int, int]:
        self.file.seek(self.pos)
        if self.kind == "W64":
            head = self.file.read(24)
            name = head[:4] if head[4:16] in W64_TAILS else head[:16]
            return name, self.pos + 24, max(int.from_bytes(head[16:24], "little") - 24, 0)
        head = self.file.read(8)
        printable = all(32 <= b < 127 for b in head[:4])
        return (
            head[:4] if printable else b"",
            self.pos + 8,
            int.from_bytes(head[4:8], "big" if self.kind == "FORM" else "little"),
        )

    def _samples_size(self, offset: int, size: int) -> int:
        """Return the true size of the samples where the header could not say it."""
        here = self.size - offset
        if self.kind != "RIFF" and size == UNKNOWN and self.sizes.get(self.samples):
            return self.sizes[self.samples]
        unfinished = size == 0 and here > 0 and self.declared != self.size and self.declared <= offset
        if size == UNKNOWN or unfinished or (size in PIPED and size > here):
            self.open_ended = True
            return here
        return size

    def _read_ds64(self, offset: int, size: int) -> None:
        """Read RIFF, data and sample counts and the table of other large chunks."""
        self.file.seek(offset)
        raw = self.file.read(min(size, 28 + 12 * 256))
        if len(raw) < 24:
            raise FormatError(self.path, f"byte {offset}", "ds64 is shorter than 24 bytes")
        riff, data, _ = struct.unpack_from("<3Q", raw)
        self.declared, self.sizes = (riff + 8 if riff else 0), {b"data": data}
        count = struct.unpack_from("<I", raw, 24)[0] if len(raw) >= 28 else 0
        for k in range(min(count, (len(raw) - 28) // 12)):
            name, large = struct.unpack_from("<4sQ", raw, 28 + 12 * k)
            self.sizes[name] = large

    def _padding(self, end: int, size: int) -> int:
        """Return the bytes up to the next chunk; writers that forget to pad are understood."""
        if self.kind == "W64":
            return -end % 8
        if size % 2 == 0 or end >= self.size:
            return 0
        self.file.seek(end)
        ahead = self.file.read(4)
        return 0 if all(32 <= b < 127 for b in ahead) else 1


def _name(name: bytes) -> str:
    return repr(name[:4].decode("latin-1"))


def pack(kind: str, name: bytes, payload: bytes) -> bytes:
    """Return one chunk with header and padding."""
    if kind == "W64":
        full = (name + W64_TAILS[1]) if len(name) == 4 else name
        return full + struct.pack("<Q", len(payload) + 24) + payload + b"\0" * (-len(payload) % 8)
    size = struct.pack(">I" if kind == "FORM" else "<I", len(payload))
    return name + size + payload + b"\0" * (len(payload) % 2)


@dataclass(frozen=True)
class Samples:
    """The chunk that holds the samples: ``inner`` precedes them inside it, ``rest`` follows."""

    name: bytes
    frames: int
    size: int  # bytes of samples
    inner: bytes = b""
    rest: Pieces = ()

    @property
    def held(self) -> int:
        """Bytes of payload."""
        return len(self.inner) + self.size + _length(self.rest)


def rebuild(source: Container, replaced: Mapping[bytes, bytes], samples: Samples) -> tuple[Pieces, Pieces]:
    """Return what stands before and after the new samples of a file that is otherwise the source.

    ``replaced`` maps chunk names to new payloads: the first chunk of each name is replaced, all
    others are copied as they lie, in their order.
    """
    before: list[bytes | Stretch] = []
    after: list[bytes | Stretch] = []
    todo, place, table = dict(replaced), before, bytes(4)
    for chunk in source.chunks:
        if chunk.id == samples.name and place is before:
            place = after
        elif chunk.id == b"ds64":
            table = source.payload(chunk)[24:] or table
        elif chunk.id in todo:
            place.append(pack(source.kind, chunk.id, todo.pop(chunk.id)))
        else:
            place.append(Stretch(source.path, chunk.start, chunk.end))
            if source.kind != "W64" and (chunk.end - chunk.start) % 2 and chunk.end < source.size:
                place.append(b"\0")  # its own writer forgot the padding
    return frame((source.kind, source.form), before, samples, after, table=table)


def frame(
    kind: tuple[str, bytes], before: Pieces, samples: Samples, after: Pieces = (), *, table: bytes = bytes(4)
) -> tuple[Pieces, Pieces]:
    """Put the container's header around chunks; a RIFF too large for 32 bits becomes an RF64."""
    name, form = kind
    tail = [*samples.rest, bytes(-samples.held % (8 if name == "W64" else 2)), *after]
    body = _length(before) + len(samples.inner) + samples.size + _length(tail)
    if name == "W64":
        begin = b"riff" + W64_TAILS[0] + struct.pack("<Q", 40 + 24 + body) + W64_FORM
        return [begin, *before, samples.name + W64_TAILS[1], struct.pack("<Q", samples.held + 24), samples.inner], tail
    if name == "FORM":
        begin = b"FORM" + struct.pack(">I", 12 + body) + form
        return [begin, *before, samples.name, struct.pack(">I", samples.held), samples.inner], tail
    if name == "RIFF" and 12 + body <= LARGEST:
        begin = b"RIFF" + struct.pack("<I", 12 + body) + form
        return [begin, *before, samples.name, struct.pack("<I", samples.held), samples.inner], tail
    large = "RF64" if name == "RIFF" else name
    total = 12 + body + 8 + 24 + len(table)
    begin = large.encode() + struct.pack("<I", UNKNOWN) + form
    ds64 = pack(large, b"ds64", struct.pack("<3Q", total, samples.held, samples.frames) + table)
    return [begin, ds64, *before, samples.name, struct.pack("<I", UNKNOWN), samples.inner], tail


def _length(pieces: Pieces) -> int:
    return sum(len(p) if isinstance(p, bytes) else p.stop - p.start for p in pieces)


class PeakWriter(InterleavedWriter):
    """Writer that measures ``PEAK`` again where the source has one: each channel's largest magnitude and its place."""

    def __init__(
        self, path: Path, encoding: Encoding, shape: tuple[int, ...], *, head: Pieces, tail: Pieces, source: Container
    ) -> None:
        super().__init__(path, encoding, shape, head=head, tail=tail)
        self._samples, self._order = (b"SSND", ">") if source.kind == "FORM" else (b"data", "<")
        self._peaks = np.zeros(shape[1]) if source.find(b"PEAK") else None
        self._places = np.zeros(shape[1], np.int64)

    def write(self, region: Region, values: Array) -> None:
        """Store samples and remember the largest."""
        super().write(region, values)
        if self._peaks is None or not len(values):
            return
        first, which = region[0].indices(self.shape[0])[0], region[1]
        size = np.abs(values.astype(np.float64)) * self.encoding.slope
        at = np.argmax(np.where(np.isnan(size), 0, size), axis=0)
        peak, place = size[at, np.arange(size.shape[1])], first + at
        with self._lock:
            old = self._peaks[which]
            better = (peak > old) | ((peak == old) & (place < self._places[which]))
            self._peaks[which] = np.where(better, peak, old)
            self._places[which] = np.where(better, place, self._places[which])

    def close(self) -> None:
        """Fill in ``PEAK`` and flush."""
        if self._peaks is not None and not self._file.closed:
            self._file.flush()
            chunk = walk(self.path, self._samples).find(b"PEAK")
            pairs = zip(self._peaks, self._places, strict=True)
            raw = b"".join(struct.pack(self._order + "fI", peak, min(place, UNKNOWN)) for peak, place in pairs)
            if chunk and chunk.size == 8 + len(raw):
                self.patch(chunk.offset + 8, raw)
        super().close()
