# SPDX-License-Identifier: Apache-2.0
"""TIFF, GeoTIFF and DNG files without their people, changed in place.

Numbers stay, texts and opaque blocks stay only under tags known to be technical; the GPS directory goes. Then
every byte that no directory, value or picture claims is zeroed, so that nothing old is left between them.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pellucid.core.errors import FormatError
from pellucid.formats import tiff_texts

SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
WHOLE = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
OPAQUE = (1, 2, 6, 7)  # BYTE, ASCII, SBYTE, UNDEFINED: may hold any text
CHILDREN, GPS = (330, 34665, 40965), 34853
KEPT = frozenset(  # opaque tags that are technical: make, model; ICC; map projection; JPEG and colour tables
    (271, 272, 347, 33421, 33422, 34675, 34737, 42113, 36864, 37121, 37379, 40960, 41728, 41729, 41730, 42035, 42036)
    + (50706, 50707, 50708, 50710, 50741, 50781, 50972, 51008, 51009, 51022, 51111, 50831, 50833, 52525, 52526, 52543)
    + (512, 513, 514, 515, 517, 518, 519, 520, 521, 532, 320, 301, 333, 336, 291)
)
# numbers that tell of one camera body, of a day, or of a place
DROPPED = frozenset(
    (
        37393,
        50827,
        50828,
        50971,
        51043,
        306,
        36867,
        36868,
        42033,
        37500,
        50740,
        51081,
        51105,
        33723,
        34377,
        37724,
        50838,
        50839,
    )
)
PICTURES = ((273, 279), (324, 325), (513, 514))
REWRITTEN = (270, 42112)  # ImageDescription (ImageJ, OME, shape) and GDAL's XML
MOST_DIRECTORIES, MOST_ENTRIES, MOST_VALUES = 1 << 16, 4096, 1 << 26
GHOST, LEADER = b"GDAL_STRUCTURAL_METADATA", 8  # of cloud-optimised files: sizes around each tile
JPEG = (6, 7, 34892)
CHUNK = 1 << 20


@dataclass
class Directory:
    """One directory: where it lies, its entries (tag -> raw, kind, count, place of the value)."""

    at: int
    room: int
    next: bytes
    entries: dict[int, tuple[bytes, int, int, int]]

    def size(self, tag: int) -> int:
        """Return the bytes of a value."""
        _, kind, count, _ = self.entries[tag]
        return SIZES.get(kind, 1) * count


class Editor:
    """A TIFF file open for changes in place."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self.path, self.file = path, file
        self.end = file.seek(0, 2)
        head = self.get(0, 16)
        self.order = {b"II": "<", b"MM": ">"}.get(head[:2], "")
        version = struct.unpack(self.order + "H", head[2:4])[0] if self.order else 0
        if version not in (42, 43):
            raise FormatError(path, "byte 0", "is no TIFF file", "copy it again")
        self.big = version == 43
        self.word, self.wide, self.inline = ("Q", 20, 8) if self.big else ("I", 12, 4)
        self.counter, self.head = ("Q", 16) if self.big else ("H", 8)
        self.first = struct.unpack_from(self.order + self.word, head, 8 if self.big else 4)[0]

    def get(self, at: int, count: int) -> bytes:
        """Return bytes of the file."""
        self.file.seek(at)
        return self.file.read(count)

    def put(self, at: int, data: bytes) -> None:
        """Overwrite bytes."""
        self.file.seek(at)
        self.file.write(data)

    def directories(self) -> list[Directory]:
        """Return every directory: the chain, SubIFDs, EXIF; GPS is left to be wiped."""
        found: dict[int, Directory] = {}
        todo = [self.first]
        while todo and len(found) < MOST_DIRECTORIES:
            at = todo.pop()
            if at in found or not 0 < at < self.end:
                continue
            directory = self._directory(at)
            found[at] = directory
            todo.append(struct.unpack(self.order + self.word, directory.next)[0])
            for tag in CHILDREN:
                todo += self.numbers(directory, tag)
        return list(found.values())

    def _directory(self, at: int) -> Directory:
        start = struct.calcsize(self.order + self.counter)
        count = struct.unpack(self.order + self.counter, self.get(at, start).ljust(start, b"\0"))[0]
        if count > MOST_ENTRIES:
            raise FormatError(self.path, f"byte {at}", f"a directory claims {count} tags", "copy it again")
        table = self.get(at + start, self.wide * count + self.inline).ljust(self.wide * count + self.inline, b"\0")
        entries: dict[int, tuple[bytes, int, int, int]] = {}
        for k in range(count):
            raw = table[self.wide * k : self.wide * (k + 1)]
            tag, kind, number = struct.unpack_from(self.order + "HH" + self.word, raw)
            place = at + start + self.wide * (k + 1) - self.inline
            if SIZES.get(kind, 1) * number > self.inline:
                place = struct.unpack(self.order + self.word, raw[-self.inline :])[0]
            entries[tag] = (raw, kind, number, place)
        return Directory(at, start + self.wide * count + self.inline, table[self.wide * count :], entries)

    def numbers(self, directory: Directory, tag: int) -> list[int]:
        """Return the whole numbers of a tag; none where it is absent."""
        if tag not in directory.entries:
            return []
        _, kind, count, place = directory.entries[tag]
        if kind not in WHOLE or count > MOST_VALUES:
            return []
        raw = self.get(place, SIZES[kind] * count)
        whole = len(raw) // SIZES[kind]
        return list(struct.unpack(f"{self.order}{whole}{WHOLE[kind]}", raw[: whole * SIZES[kind]]))

    def store(self, directory: Directory) -> None:
        """Write a directory with the entries it has now; what it no longer needs is zeroed."""
        body = struct.pack(self.order + self.counter, len(directory.entries))
        body += b"".join(directory.entries[tag][0] for tag in sorted(directory.entries)) + directory.next
        self.put(directory.at, body.ljust(directory.room, b"\0"))
        directory.room = len(body)
        start = struct.calcsize(self.order + self.counter)
        for k, tag in enumerate(sorted(directory.entries), start=1):  # values within entries moved along
            if directory.size(tag) <= self.inline:
                raw, kind, count, _ = directory.entries[tag]
                directory.entries[tag] = raw, kind, count, directory.at + start + self.wide * k - self.inline

    def text(self, directory: Directory, tag: int, new: bytes) -> None:
        """Put a shorter text in a value's place."""
        raw, kind, count, place = directory.entries[tag]
        new, whole = new[:count], self.order + self.word
        value = raw[-self.inline :]
        if len(new) <= self.inline:
            value = new.ljust(self.inline, b"\0")
        else:
            self.put(place, new)
        directory.entries[tag] = (raw[:4] + struct.pack(whole, len(new)) + value, kind, len(new), place)


def anonymise(path: Path) -> None:
    """Take people, days and places out of every directory; then zero what nothing claims."""
    samples = _stack(path)
    with path.open("r+b") as file:
        editor = Editor(path, file)
        claimed = [(0, editor.head)]
        for directory in editor.directories():
            strip(editor, directory)
            claimed += claims(editor, directory)
        ghost = editor.get(editor.head, len(GHOST)) == GHOST
        if ghost:
            claimed.append((editor.head, editor.head + _ghost(editor)))
        wipe(editor, [*claimed, *samples], LEADER if ghost else 0)
        file.flush()
        os.fsync(file.fileno())
    for beside in (path.with_suffix(".xmp"), path.with_name(path.name + ".xmp")):
        beside.unlink(missing_ok=True)  # settings of a developing program: names, places, free texts


def strip(editor: Editor, directory: Directory) -> None:
    """Drop personal tags of one directory and rewrite texts that hold technical facts too."""
    for tag in list(directory.entries):
        _, kind, count, place = directory.entries[tag]
        if tag in REWRITTEN and kind == 2 and count < CHUNK * 64:
            new = tiff_texts.cleaned(tag, editor.get(place, count))
            if new:
                editor.text(directory, tag, new)
                continue
        if tag in (GPS, *DROPPED) or (kind in OPAQUE and tag not in KEPT):
            del directory.entries[tag]
    editor.store(directory)


def claims(editor: Editor, directory: Directory) -> list[tuple[int, int]]:
    """Return the stretches a directory needs: itself, its values, its pictures; JPEG streams lose their texts."""
    found = [(directory.at, directory.at + directory.room)]
    for tag, (_, _, _, place) in directory.entries.items():
        if directory.size(tag) > editor.inline:
            found.append((place, place + directory.size(tag)))
    coded = (editor.numbers(directory, 259) or [1])[0] in JPEG
    for where, sizes in PICTURES:
        pieces = list(zip(editor.numbers(directory, where), editor.numbers(directory, sizes), strict=False))
        found += [(at, at + count) for at, count in pieces]
        if not pieces and where in directory.entries:  # no sizes: to the end
            found.append((min(editor.numbers(directory, where), default=editor.end), editor.end))
        for at, count in pieces if coded or where == 513 else ():
            _quiet(editor, at, count)
    return found


def _quiet(editor: Editor, at: int, count: int) -> None:
    """Zero the application and comment segments of a JPEG stream; Adobe's and JFIF's tell the colours and stay."""
    stop, at = at + count, at + 2
    if editor.get(at - 2, 2) != b"\xff\xd8":
        return
    while at + 4 <= stop:
        mark, kind, size = struct.unpack(">BBH", editor.get(at, 4))
        if mark != 0xFF or kind == 0xDA or size < 2 or at + 2 + size > stop:
            return
        if kind == 0xFE or (0xE1 <= kind <= 0xEF and kind not in (0xE2, 0xEE)):
            editor.put(at + 4, bytes(size - 2))
        at += 2 + size


def _ghost(editor: Editor) -> int:
    """Return the length of GDAL's note on the layout of a cloud-optimised file."""
    head = editor.get(editor.head, 43)
    digits = head[len(GHOST) + 6 : len(GHOST) + 12]
    return 43 + int(digits) if digits.isdigit() and int(digits) < CHUNK else 0


def wipe(editor: Editor, claimed: Iterable[tuple[int, int]], spared: int) -> None:
    """Zero every stretch longer than ``spared`` that nothing claims."""
    at = 0
    for start, stop in sorted(claimed):
        if start - at > spared:
            _zero(editor, at, min(start, editor.end))
        at = max(at, stop)
    if editor.end - at > spared:
        _zero(editor, at, editor.end)


def _zero(editor: Editor, start: int, stop: int) -> None:
    while start < stop:
        count = min(CHUNK, stop - start)
        editor.put(start, bytes(count))
        start += count


def _stack(path: Path) -> list[tuple[int, int]]:
    """Return where the samples of an ImageJ stack lie that has one directory for all its pages."""
    import math

    from pellucid.core.lazy import np
    from pellucid.formats import tiff

    try:
        layout: Any = tiff.open(path).layout
    except FormatError:
        return []
    if layout.offset < 0:
        return []
    return [(layout.offset, layout.offset + math.prod(layout.raw_shape) * np.dtype(layout.dtype).itemsize)]
