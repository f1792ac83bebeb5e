# SPDX-License-Identifier: Apache-2.0
"""Directories and tags of DNG and other TIFF-based camera files: where they lie, what they say, how they change.

Tags are changed in place, so that whatever is not understood (maker notes with their own offsets
above all) stays where it was. Format: TIFF 6.0, DNG 1.7.1.0 (Adobe 2023), EXIF 2.32.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from pellucid.core.errors import FormatError

WIDTHS = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}  # bytes by TIFF type
CODES = {1: "B", 3: "H", 4: "I", 5: "I", 6: "b", 8: "h", 9: "i", 10: "i", 11: "f", 12: "d", 13: "I"}
BYTE, ASCII, SHORT, LONG, RATIONAL, SRATIONAL, DOUBLE = 1, 2, 3, 4, 5, 10, 12
MAGIC = {b"II": "<", b"MM": ">"}
CHILDREN = (330, 34665, 34853, 40965)  # SubIFDs, EXIF, GPS, interoperability
MOST_DIRECTORIES, MOST_ENTRIES, MOST_VALUES = 64, 4096, 1 << 22
CFA, LINEAR = 32803, 34892  # PhotometricInterpretation of mosaics and of demosaicked raw data
DNG_VERSION = 50706


@dataclass(frozen=True)
class Entry:
    """One tag: its type and count, and where its value's bytes lie."""

    tag: int
    kind: int
    count: int
    raw: bytes  # the 12 bytes of the entry
    place: int

    @property
    def size(self) -> int:
        """Bytes of the value."""
        return WIDTHS.get(self.kind, 1) * self.count


@dataclass(frozen=True)
class Directory:
    """One directory: where it lies, where its offset is written, what it holds."""

    at: int
    pointer: int
    next: int
    owner: int  # tag that led here, 0 for the main chain
    entries: Mapping[int, Entry]


@dataclass(frozen=True)
class Tree:
    """Every directory of a file and its byte order."""

    path: Path
    order: str
    size: int
    directories: tuple[Directory, ...] = field(default=())

    @property
    def first(self) -> Directory:
        """The first directory, where camera tags lie."""
        return self.directories[0]

    def child(self, tag: int) -> Directory | None:
        """Return the first directory that a tag leads to."""
        return next((d for d in self.directories if d.owner == tag), None)

    def values(self, directory: Directory | None, tag: int) -> Any:
        """Return a tag's values: a tuple of numbers (fractions as floats), or bytes; None where it is absent.

        Raises
        ------
        FormatError
            The value lies outside the file.
        """
        entry = directory.entries.get(tag) if directory else None
        if entry is None or not entry.count:
            return None
        if entry.count > MOST_VALUES or entry.place + entry.size > self.size:
            raise FormatError(self.path, f"tag {tag}", "its value lies outside the file", "copy the file again")
        with self.path.open("rb") as file:
            file.seek(entry.place)
            raw = file.read(entry.size)
        if entry.kind not in CODES or len(raw) < entry.size:
            return raw
        code = CODES[entry.kind]
        found = struct.unpack(f"{self.order}{len(raw) // struct.calcsize(code)}{code}", raw)
        if entry.kind in (RATIONAL, SRATIONAL):
            return tuple(a / b if b else math.nan for a, b in zip(found[::2], found[1::2], strict=True))
        return found

    def text(self, directory: Directory | None, tag: int) -> str:
        """Return a tag's text, empty where it is absent."""
        value = self.values(directory, tag)
        if not isinstance(value, bytes):
            value = bytes(value) if value and all(isinstance(v, int) and 0 <= v < 256 for v in value) else b""
        return str(value.split(b"\0")[0].decode("utf-8", "replace").strip())

    def number(self, directory: Directory | None, tag: int, default: Any = None) -> Any:
        """Return a tag's first value, the default where it is absent or no finite number."""
        value = self.values(directory, tag)
        if value is None or isinstance(value, bytes) or not math.isfinite(value[0]):
            return default
        return value[0]


def is_tiff(head: bytes) -> bool:
    """Whether a file begins as TIFF does."""
    return head[:4] in (b"II*\0", b"MM\0*")


def claims_dng(head: bytes, path: str) -> bool:
    """Whether the first directory of a TIFF file holds the tag DNGVersion."""
    if not is_tiff(head):
        return False
    order = MAGIC[head[:2]]
    at = struct.unpack(order + "I", head[4:8])[0] if len(head) >= 8 else 0
    raw = head[at:]
    if len(raw) < 2 or len(raw) < 2 + 12 * struct.unpack(order + "H", raw[:2])[0]:
        try:
            with Path(path).open("rb") as file:
                file.seek(at)
                raw = file.read(2 + 12 * 512)
        except (OSError, ValueError, OverflowError):
            return False
    count = struct.unpack(order + "H", raw[:2])[0] if len(raw) >= 2 else 0
    last = min(count, (len(raw) - 2) // 12)
    return any(struct.unpack_from(order + "H", raw, 2 + 12 * k)[0] == DNG_VERSION for k in range(last))


def walk(path: Path) -> Tree:
    """List every directory: the chain, SubIFDs, EXIF, GPS.

    Raises
    ------
    FormatError
        The file is no TIFF, or its first directory lies outside.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(8)
        if not is_tiff(head) or len(head) < 8:
            raise FormatError(path, "byte 0", "is no TIFF file", "copy it again from its source")
        order = MAGIC[head[:2]]
        found: list[Directory] = []
        todo = [(struct.unpack(order + "I", head[4:])[0], 4, 0)]
        while todo and len(found) < MOST_DIRECTORIES:
            at, pointer, owner = todo.pop(0)
            if not 0 < at < size - 2 or any(d.at == at for d in found):
                continue
            directory = _directory(file, order, size, (at, pointer, owner))
            if directory is None:
                continue
            found.append(directory)
            todo += _leads(file, order, size, directory)
            if directory.next and owner == 0:
                todo.append((directory.next, at + 2 + 12 * len(directory.entries), 0))
    if not found:
        raise FormatError(path, "byte 4", "the directory lies outside the file", "copy it again from its source")
    return Tree(path, order, size, tuple(found))


def _directory(file: IO[bytes], order: str, size: int, where: tuple[int, int, int]) -> Directory | None:
    at, pointer, owner = where
    file.seek(at)
    count = struct.unpack(order + "H", file.read(2))[0]
    raw = file.read(12 * count + 4)
    if not 0 < count <= MOST_ENTRIES or len(raw) < 12 * count:
        return None
    entries: dict[int, Entry] = {}
    for k in range(count):
        piece = raw[12 * k : 12 * k + 12]
        tag, kind, number = struct.unpack(order + "HHI", piece[:8])
        inline = WIDTHS.get(kind, 1) * number <= 4
        place = at + 2 + 12 * k + 8 if inline else struct.unpack(order + "I", piece[8:])[0]
        entries.setdefault(tag, Entry(tag, kind, number, piece, place))
    if len(entries) < count:
        return None  # a tag twice: not a directory that can be changed in place
    last = struct.unpack(order + "I", raw[-4:])[0] if len(raw) == 12 * count + 4 else 0
    return Directory(at, pointer, last, owner, entries)


def _leads(file: IO[bytes], order: str, size: int, directory: Directory) -> list[tuple[int, int, int]]:
    found = []
    for tag in CHILDREN:
        entry = directory.entries.get(tag)
        if entry is None or entry.kind not in (LONG, 13) or not 0 < entry.count <= MOST_DIRECTORIES:
            continue
        if entry.place + entry.size > size:
            continue
        file.seek(entry.place)
        offsets = struct.unpack(f"{order}{entry.count}I", file.read(entry.size))
        found += [(at, entry.place + 4 * k, tag) for k, at in enumerate(offsets)]
    return found


def pack(order: str, kind: int, values: Any) -> tuple[int, bytes]:
    """Return count and bytes of values; fractions are given as (numerator, denominator) pairs in a row."""
    if isinstance(values, bytes | str):
        raw = values.encode() + b"\0" if isinstance(values, str) else values
        return len(raw), raw
    flat = list(values)
    count = len(flat) // 2 if kind in (RATIONAL, SRATIONAL) else len(flat)
    return count, struct.pack(f"{order}{len(flat)}{CODES[kind]}", *flat)


def change(path: Path, at: int, changes: Mapping[int, tuple[int, Any] | None]) -> None:
    """Change tags of the directory at byte ``at``: new values, or None to drop a tag.

    Values and the directory itself stay where they are if they fit, and go to the end of the file if not.
    """
    tree = walk(path)
    directory = next(d for d in tree.directories if d.at == at)
    raw = {tag: entry.raw for tag, entry in directory.entries.items()}
    with path.open("r+b") as file:
        for tag, wanted in changes.items():
            old = directory.entries.get(tag)
            raw.pop(tag, None)
            if wanted is None:
                continue
            kind, (count, payload) = wanted[0], pack(tree.order, wanted[0], wanted[1])
            if len(payload) <= 4:
                tail = payload.ljust(4, b"\0")
            else:
                place = old.place if old is not None and old.size >= len(payload) > 4 else _end(file)
                file.seek(place)
                file.write(payload)
                tail = struct.pack(tree.order + "I", place)
            raw[tag] = struct.pack(tree.order + "HHI", tag, kind, count) + tail
        body = struct.pack(tree.order + "H", len(raw)) + b"".join(raw[tag] for tag in sorted(raw))
        body += struct.pack(tree.order + "I", directory.next)
        room = 2 + 12 * len(directory.entries) + 4
        if len(body) <= room:
            file.seek(at)
            file.write(body.ljust(room, b"\0"))
        else:
            place = _end(file)
            file.seek(place)
            file.write(body)
            file.seek(directory.pointer)
            file.write(struct.pack(tree.order + "I", place))


def _end(file: IO[bytes]) -> int:
    """Return the end of a file, on an even byte as TIFF asks."""
    end = file.seek(0, 2)
    if end % 2:
        file.write(b"\0")
    return end + end % 2


def raw_directory(tree: Tree) -> Directory:
    """Return the directory of the raw picture: the largest of those that hold a mosaic or linear raw data.

    Raises
    ------
    FormatError
        There is none.
    """
    found = [
        d
        for d in tree.directories
        if tree.number(d, 262) in (CFA, LINEAR) and tree.number(d, 254, 0) in (0,) and d.owner in (0, 330)
    ]
    if not found:
        raise FormatError(tree.path, "directories", "none holds raw samples", "a picture is denoised as one: rename it")
    return max(found, key=lambda d: (tree.number(d, 256, 0) or 0) * (tree.number(d, 257, 0) or 0))


def segments(tree: Tree, directory: Directory) -> list[tuple[int, int]]:
    """Return (offset, bytes) of each strip or tile.

    Raises
    ------
    FormatError
        They do not fit the file or the picture.
    """
    cut = "the file is cut short: copy it again from its source"
    tiled = 322 in directory.entries
    offsets, counts = tree.values(directory, 324 if tiled else 273), tree.values(directory, 325 if tiled else 279)
    height, width = tree.number(directory, 257, 0), tree.number(directory, 256, 0)
    if not offsets or not counts or len(offsets) != len(counts) or not height or not width:
        raise FormatError(tree.path, "raw directory", "does not say where its samples are", cut)
    rows = tree.number(directory, 323 if tiled else 278, height)
    columns = tree.number(directory, 322, width) if tiled else width
    if not rows or not columns:
        raise FormatError(tree.path, "raw directory", "has strips or tiles of no size", cut)
    wanted = -(-height // min(rows, height)) * -(-width // columns)
    planes = tree.number(directory, 277, 1) if tree.number(directory, 284, 1) == 2 else 1
    if len(offsets) != wanted * planes:
        what = f"lists {len(offsets)} strips or tiles, {wanted * planes} are needed"
        raise FormatError(tree.path, "raw directory", what, cut)
    found = [(int(a), int(n)) for a, n in zip(offsets, counts, strict=True)]
    for place, count in found:
        if place + count > tree.size or not count:
            what = f"strip or tile of {count} bytes does not fit the {tree.size} bytes of the file"
            raise FormatError(tree.path, f"byte {place}", what, cut)
    _enough(tree, directory, sum(count for _, count in found), height * width)
    return found


def _enough(tree: Tree, directory: Directory, held: int, sites: int) -> None:
    """Refuse uncompressed samples that cannot be all there."""
    bits = tree.values(directory, 258) or (1,)
    samples = int(tree.number(directory, 277, 1))
    if tree.number(directory, 259, 1) == 1 and 8 * held < sites * samples * int(bits[0]):
        what = f"{held} bytes hold fewer than {sites} samples of {bits[0]} bits"
        raise FormatError(tree.path, "raw directory", what, "the file is cut short: copy it again from its source")


def matrices(tree: Tree, tags: Iterable[int], rows: int = 3) -> list[list[list[float]]]:
    """Return those of some 3 x 3 matrices that are there and finite."""
    found = []
    for tag in tags:
        values = tree.values(tree.first, tag)
        if values is not None and len(values) == 3 * rows and all(math.isfinite(v) for v in values):
            found.append([[float(v) for v in values[3 * k : 3 * k + 3]] for k in range(rows)])
    return found
