# SPDX-License-Identifier: Apache-2.0
"""The first image directory of a TIFF, read without a library: where its blocks lie and what tags it has.

Answers two questions before any pixel memory is asked for: does the file hold the blocks it
names, and does it carry private tags that the raster library would drop.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pellucid.core.errors import FormatError

SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
WIDTH, HEIGHT, BITS, COMPRESSION, SAMPLES, ROWS, PLANAR, SAMPLE_FORMAT = 256, 257, 258, 259, 277, 278, 284, 339
STRIP_AT, STRIP_BYTES, TILE_WIDTH, TILE_HEIGHT, TILE_AT, TILE_BYTES = 273, 279, 322, 323, 324, 325
MAX_ENTRIES = 4096
MAX_BLOCKS = 1 << 26  # 512 MB of block positions
DEFLATE_RATIO = 1100  # nothing deflate makes expands further (1032:1), LZW and PackBits less
BOUNDED = {5, 8, 32773, 32946}  # compressions with such a bound: LZW, deflate twice, PackBits
SUBSAMPLED = 4  # colour pictures may keep fewer samples of two channels
WIDEST_BLOCK = 2 << 30

# Tags that describe pixels or that GDAL reads and writes itself; any other travels byte for byte.
HANDLED = frozenset(
    {254, 255, 256, 257, 258, 259, 262, 263, 266, 269, 270, 273, 274, 277, 278, 279, 280, 281, 282, 283, 284, 285}
    | {296, 297, 305, 306, 315, 316, 317, 320, 322, 323, 324, 325, 330, 332, 338, 339, 340, 341, 347, 292, 293}
    | {301, 318, 319, 512, 513, 514, 515, 517, 518, 519, 520, 521, 529, 530, 531, 532, 700, 33432}
    | {33550, 33922, 34264, 34735, 34736, 34737, 34675, 42112, 42113, 50844, 50674, 34665, 34853, 40965, 42}
)


@dataclass(frozen=True)
class Directory:
    """The first directory: tag -> (type, count, payload), the sizes that follow from it."""

    order: str
    big: bool
    entries: Mapping[int, tuple[int, int, bytes]]
    pointer: int  # where the position of the first directory is written
    at: int
    following: int  # position of the next directory, 0 = none
    private: Mapping[int, tuple[int, int, bytes]] = field(default_factory=dict)

    def number(self, tag: int, default: int = 0) -> int:
        """Return the first value of an integer tag."""
        values = self.numbers(tag)
        return values[0] if values else default

    def numbers(self, tag: int) -> tuple[int, ...]:
        """Return all values of an integer tag."""
        entry = self.entries.get(tag)
        if entry is None or entry[0] not in (1, 3, 4, 16):
            return ()
        code = {1: "B", 3: "H", 4: "I", 16: "Q"}[entry[0]]
        return struct.unpack(f"{self.order}{entry[1]}{code}", entry[2])


def read(path: Path) -> Directory:
    """Read the first directory.

    Raises
    ------
    FormatError
        Not a TIFF, or its directory or a tag's values lie outside the file.
    """
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise FormatError(path, "file", error.strerror or "cannot be opened") from None
    try:
        return _directory(fd, path, os.fstat(fd).st_size)
    except struct.error:
        raise FormatError(path, "directory", "the file ends inside it", "copy it again") from None
    finally:
        os.close(fd)


def check(path: Path, directory: Directory) -> None:
    """Compare the blocks the directory names with the file's size.

    Raises
    ------
    FormatError
        A block lies beyond the end, is missing from the table, or claims an impossible size.
    """
    import numpy as np

    d, size = directory, path.stat().st_size
    tiled = TILE_AT in d.entries or TILE_WIDTH in d.entries
    starts, counts = (_positions(d, t) for t in ((TILE_AT, TILE_BYTES) if tiled else (STRIP_AT, STRIP_BYTES)))
    width, height, samples = d.number(WIDTH), d.number(HEIGHT), d.number(SAMPLES, 1)
    if not width or not height or not samples or starts is None:
        raise FormatError(path, "directory", "sizes or block positions are missing", "the file is damaged")
    rows = d.number(TILE_HEIGHT) if tiled else min(d.number(ROWS, height) or height, height)
    columns = d.number(TILE_WIDTH) if tiled else width
    if not rows or not columns:
        raise FormatError(path, "tile size", "is 0", "the file is damaged")
    planes = samples if d.number(PLANAR, 1) == 2 else 1
    blocks = -(-height // rows) * -(-width // columns) * planes
    if len(starts) < blocks:
        raise FormatError(path, "block table", f"{blocks} blocks expected, {len(starts)} found", "the file is damaged")
    if counts is not None and len(counts) == len(starts):
        present = counts > 0
        ends = starts[present].astype(np.float64) + counts[present]
        if ends.size and ends.max() > size:
            what = f"blocks reach to byte {int(ends.max())}, the file has {size}"
            raise FormatError(path, "image data", what, "the file is cut short: copy it again")
    _plausible(path, d, rows * columns * (samples // planes), counts)


def append_private(path: Path, tags: Mapping[int, tuple[int, int, bytes]], order: str) -> None:
    """Add tags to the first directory of a finished TIFF: payloads and a new directory go to its end."""
    target = read(path)
    fresh = {t: e for t, e in tags.items() if t not in target.entries}
    if not fresh:
        return
    with path.open("r+b") as file:
        merged = {t: _packed(e, order, target.order) for t, e in fresh.items()}
        merged = {**target.entries, **merged}
        offsets: dict[int, int] = {}
        inline = 8 if target.big else 4
        kept = _raw_fields(path, target)
        file.seek(0, os.SEEK_END)
        for tag in fresh:
            payload = merged[tag][2]
            if len(payload) > inline:
                file.write(b"\0" * (file.tell() % 2))
                offsets[tag] = file.tell()
                file.write(payload)
        file.write(b"\0" * (-file.tell() % 8))
        at = file.tell()
        _no_overflow(path, target, at)
        file.write(_encode(target, merged, offsets, kept))
        file.seek(target.pointer)
        file.write(struct.pack(target.order + ("Q" if target.big else "I"), at))


def _no_overflow(path: Path, target: Directory, at: int) -> None:
    if not target.big and at > 0xFFFF0000:
        raise FormatError(path, "directory", "too large for private tags in a classic TIFF")


def _directory(fd: int, path: Path, size: int) -> Directory:
    """Parse header and first directory."""
    head = os.pread(fd, 16, 0)
    order = {b"II": "<", b"MM": ">"}.get(head[:2], "")
    version = struct.unpack_from(order + "H", head, 2)[0] if order and len(head) >= 8 else 0
    if version not in (42, 43):
        raise FormatError(path, "first bytes", "not a TIFF file" if head else "the file is empty")
    big = version == 43
    pointer, at = (
        (8, struct.unpack_from(order + "Q", head, 8)[0]) if big else (4, struct.unpack_from(order + "I", head, 4)[0])
    )
    wide, word = (20, 8) if big else (12, 2)
    if at + word > size:
        raise FormatError(
            path, "directory", f"lies at byte {at}, the file has {size}", "the file is cut short: copy it again"
        )
    (number,) = struct.unpack(order + ("Q" if big else "H"), os.pread(fd, word, at))
    if number > MAX_ENTRIES:
        raise FormatError(path, "directory", f"claims {number} tags", "the file is damaged")
    table = os.pread(fd, number * wide + (8 if big else 4), at + word)
    (following,) = struct.unpack_from(order + ("Q" if big else "I"), table, number * wide)
    entries = {}
    for i in range(number):
        tag, kind, count = struct.unpack_from(order + ("HHQ" if big else "HHI"), table, i * wide)
        length = SIZES.get(kind, 1) * count
        inline = wide - (12 if big else 8)
        at_value = i * wide + wide - inline
        if length <= inline:
            entries[tag] = (kind, count, table[at_value : at_value + length])
            continue
        (where,) = struct.unpack_from(order + ("Q" if big else "I"), table, at_value)
        if where + length > size or count > MAX_BLOCKS:
            raise FormatError(
                path, f"tag {tag}", f"its {length} bytes lie outside the file", "the file is cut short: copy it again"
            )
        entries[tag] = (kind, count, os.pread(fd, length, where))
    private = {t: e for t, e in entries.items() if t not in HANDLED and t >= 32768 and e[0] not in (4, 13, 16, 18)}
    return Directory(order, big, entries, pointer, at, following, private)


def _positions(d: Directory, tag: int) -> Any:
    """Return a table of positions or byte counts as an array, None where it is missing."""
    import numpy as np

    entry = d.entries.get(tag)
    if entry is None or entry[0] not in (3, 4, 16):
        return None
    return np.frombuffer(entry[2], d.order + {3: "u2", 4: "u4", 16: "u8"}[entry[0]])


def _plausible(path: Path, d: Directory, samples: int, counts: Any) -> None:
    """Refuse blocks whose decoded size cannot follow from their bytes."""
    import numpy as np

    decoded = samples * max(d.numbers(BITS) or (8,)) // 8
    compression = d.number(COMPRESSION, 1)
    most = int(np.max(counts)) if counts is not None and len(counts) else 0
    if compression in BOUNDED and most and decoded > DEFLATE_RATIO * most + (1 << 16):
        raise FormatError(
            path, "block size", f"{decoded} bytes cannot come from {most} compressed ones", "the file is damaged"
        )
    if compression == 1 and most and decoded > SUBSAMPLED * most + (1 << 16):
        raise FormatError(path, "block size", f"{decoded} bytes expected, {most} found", "the file is damaged")
    if (compression != 1 or not most) and decoded > WIDEST_BLOCK:
        raise FormatError(path, "block size", f"one block decodes to {decoded} bytes", "rewrite it with tiles first")


def _raw_fields(path: Path, target: Directory) -> dict[int, bytes]:
    """Return the value fields of the present directory as they are: inline values or positions."""
    wide, word = (20, 8) if target.big else (12, 2)
    with path.open("rb") as file:
        file.seek(target.at + word)
        table = file.read(len(target.entries) * wide)
    out = {}
    for i in range(len(target.entries)):
        row = table[i * wide : (i + 1) * wide]
        out[struct.unpack_from(target.order + "H", row)[0]] = row[wide - (8 if target.big else 4) :]
    return out


def _packed(entry: tuple[int, int, bytes], order: str, wanted: str) -> tuple[int, int, bytes]:
    """Return an entry in another byte order."""
    kind, count, payload = entry
    size = {3: 2, 8: 2, 4: 4, 9: 4, 11: 4, 5: 4, 10: 4, 12: 8, 16: 8, 17: 8}.get(kind, 1)
    if order != wanted and size > 1:
        payload = b"".join(payload[i : i + size][::-1] for i in range(0, len(payload), size))
    return kind, count, payload


def _encode(
    target: Directory,
    merged: Mapping[int, tuple[int, int, bytes]],
    offsets: Mapping[int, int],
    kept: Mapping[int, bytes],
) -> bytes:
    """Return a directory's bytes, tags ascending as the standard demands."""
    o, inline = target.order, 8 if target.big else 4
    word = "Q" if target.big else "I"
    out = [struct.pack(o + ("Q" if target.big else "H"), len(merged))]
    for tag in sorted(merged):
        kind, count, payload = merged[tag]
        value = kept.get(tag) or (
            struct.pack(o + word, offsets[tag]) if tag in offsets else payload.ljust(inline, b"\0")
        )
        out.append(struct.pack(f"{o}HH{word}", tag, kind, count) + value)
    return b"".join([*out, struct.pack(o + word, target.following)])
