# SPDX-License-Identifier: Apache-2.0
"""The text header of MRtrix images: ``key: value`` lines up to END, every one kept; keys may repeat.

Format: mrtrix.readthedocs.io, "Images and other data", MRtrix image formats.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pellucid.core.errors import FormatError

MAGIC = b"mrtrix image"
MOST = 16 << 20  # bytes; a header of 10,000 volumes with its gradient table has 1 MB
MOST_LINES = 1 << 20
PART = re.compile(r"\s*([+-])?(\d+)\s*")
TYPES = {
    "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4", "int64": "i8",
    "uint64": "u8", "float16": "f2", "float32": "f4", "float64": "f8", "cfloat32": "c8", "cfloat64": "c16",
}  # fmt: skip
CODES = {
    "int8": "Int8", "uint8": "UInt8", "int16": "Int16", "uint16": "UInt16", "int32": "Int32", "uint32": "UInt32",
    "int64": "Int64", "uint64": "UInt64", "float16": "Float16", "float32": "Float32", "float64": "Float64",
    "complex64": "CFloat32", "complex128": "CFloat64",
}  # fmt: skip


@dataclass(frozen=True)
class Header:
    """A header's lines from the first to END (empty where a ``.mih`` has none), without their ends; its bytes."""

    path: Path
    lines: tuple[str, ...]
    size: int

    def all(self, key: str) -> list[str]:
        """Return every value of a key, in order."""
        found = (line.partition(":") for line in self.lines[1:-1])
        return [value.strip() for name, mark, value in found if mark and name.strip().lower() == key]

    def one(self, key: str) -> str:
        """Return the first value of a key, empty where there is none."""
        return next(iter(self.all(key)), "")

    def numbers(self, key: str) -> tuple[float, ...]:
        """Return a key's value as numbers; NaN where it says so."""
        words = [w for w in self.one(key).replace(",", " ").split() if w]
        try:
            return tuple(float(w) for w in words)
        except ValueError:
            raise FormatError(self.path, key, f"'{self.one(key)[:40]}' are no numbers") from None

    def table(self, key: str, columns: int) -> list[tuple[float, ...]]:
        """Return every value of a key as a row of numbers.

        Raises
        ------
        FormatError
            A row of another length, or no numbers.
        """
        try:
            rows = [tuple(float(w) for w in line.replace(",", " ").split()) for line in self.all(key)]
        except ValueError:
            rows = [()]
        if any(len(row) < columns or any(v - v != 0 for v in row) for row in rows):
            raise FormatError(self.path, key, f"has a row that is not {columns} numbers")
        return [row[:columns] for row in rows]

    def with_(self, changes: Mapping[str, str | None]) -> Header:
        """Return a copy with keys replaced in place; None removes, new ones come last."""
        left = dict(changes)
        out: list[str] = []
        for line in self.lines[:-1]:
            key = line.partition(":")[0].strip().lower() if out else ""
            if key not in changes:
                out.append(line)
            elif (value := left.pop(key, None)) is not None:
                out.append(f"{key}: {value}")
        added = [f"{key}: {value}" for key, value in left.items() if value is not None]
        return replace(self, lines=(*out, *added, self.lines[-1]))

    def encode(self) -> bytes:
        """Return the bytes, END and its line end included where they are there."""
        lines = self.lines if self.lines[-1] else self.lines[:-1]
        return "".join(line + "\n" for line in lines).encode("latin-1")


def parse(path: Path, raw: bytes) -> Header:
    """Return the header that ``raw`` begins with.

    Raises
    ------
    FormatError
        Not an MRtrix image, or the line END is missing.
    """
    if not raw.startswith(MAGIC):
        raise FormatError(path, "header", "is not an MRtrix image", "copy it again")
    at, lines = 0, list[str]()
    while at < len(raw) and len(lines) < MOST_LINES:
        stop = raw.find(b"\n", at)
        stop = len(raw) if stop < 0 else stop
        lines.append(raw[at:stop].rstrip(b"\r").decode("latin-1"))
        at = stop + 1
        if lines[-1].strip() == "END":
            return Header(path, tuple(lines), min(at, len(raw)))
    if path.name.lower().endswith(".mih") and at >= len(raw):  # nothing follows such a header, and MRtrix writes no END
        return Header(path, (*lines, ""), len(raw))
    raise FormatError(path, "header", "has no line END", "copy it again")


def compose(path: Path, pairs: Iterable[tuple[str, str]]) -> Header:
    """Return a new header."""
    return Header(path, (MAGIC.decode(), *(f"{key}: {value}" for key, value in pairs), "END"), 0)


def dtype(header: Header) -> str:
    """Return the NumPy type with byte order.

    Raises
    ------
    FormatError
        Bits, or no type at all.
    """
    said = header.one("datatype")
    plain = said.lower()
    if plain.startswith("bit"):
        raise FormatError(header.path, "datatype", "holds single bits: a mask, which must not be denoised")
    order = {"le": "<", "be": ">"}.get(plain[-2:], "")
    base = plain[:-2] if order else plain
    if base not in TYPES:
        raise FormatError(header.path, "datatype", f"'{said[:40]}' is no type of samples that is read")
    return (order or "<") + TYPES[base]


def strides(header: Header, count: int) -> tuple[list[int], frozenset[int]]:
    """Return the axes from the fastest to the slowest, and those stored backwards.

    Raises
    ------
    FormatError
        The layout does not order that many axes.
    """
    parts = [PART.fullmatch(part) for part in header.one("layout").split(",")]
    ranks = [int(m[2]) for m in parts if m is not None and len(m[2]) < 9]
    if len(ranks) != count or len(parts) != count or len(set(ranks)) != count:
        raise FormatError(header.path, "layout", f"'{header.one('layout')[:40]}' does not order {count} axes")
    return sorted(range(count), key=ranks.__getitem__), frozenset(i for i, m in enumerate(parts) if m and m[1] == "-")
