# SPDX-License-Identifier: Apache-2.0
"""The text header of NRRD files: every line kept, fields by their canonical names.

Format: teem.sourceforge.net/nrrd/format.html, versions 1 to 5.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from pellucid.core.errors import FormatError

MAGIC = b"NRRD000"
MOST = 64 << 20  # bytes of a header; a sequence of 10,000 tracked frames has 10 MB
MOST_LINES = 1 << 20
ALIASES = {
    "datafile": "data file", "lineskip": "line skip", "byteskip": "byte skip", "axismins": "axis mins",
    "axismaxs": "axis maxs", "oldmin": "old min", "oldmax": "old max", "centers": "centerings",
    "blocksize": "block size", "sampleunits": "sample units",
}  # fmt: skip
TYPES = {
    "int8": "i1", "int8_t": "i1", "signed char": "i1",
    "uint8": "u1", "uint8_t": "u1", "uchar": "u1", "unsigned char": "u1",
    "int16": "i2", "int16_t": "i2", "short": "i2", "short int": "i2", "signed short": "i2", "signed short int": "i2",
    "uint16": "u2", "uint16_t": "u2", "ushort": "u2", "unsigned short": "u2", "unsigned short int": "u2",
    "int32": "i4", "int32_t": "i4", "int": "i4", "signed int": "i4",
    "uint32": "u4", "uint32_t": "u4", "uint": "u4", "unsigned int": "u4",
    "int64": "i8", "int64_t": "i8", "longlong": "i8", "long long": "i8", "long long int": "i8",
    "signed long long": "i8", "signed long long int": "i8",
    "uint64": "u8", "uint64_t": "u8", "ulonglong": "u8", "unsigned long long": "u8", "unsigned long long int": "u8",
    "float": "f4", "double": "f8",
}  # fmt: skip
NAMES = {
    "int8": "int8", "uint8": "uint8", "int16": "int16", "uint16": "uint16", "int32": "int32", "uint32": "uint32",
    "int64": "int64", "uint64": "uint64", "float32": "float", "float64": "double",
    "complex64": "float", "complex128": "double",
}  # fmt: skip
CODECS = {"raw": "raw", "gzip": "gzip", "gz": "gzip", "bzip2": "bzip2", "bz2": "bzip2"}
CODECS |= {"ascii": "ascii", "txt": "ascii", "text": "ascii"}
VECTOR = re.compile(r"\(([^()]*)\)|none|nan", re.IGNORECASE)


@dataclass(frozen=True)
class Header:
    """A header's lines without their ends, the end they have, and where it stops in the file."""

    path: Path
    lines: tuple[str, ...]
    end: str
    size: int

    @cached_property
    def fields(self) -> dict[str, str]:
        """Return fields by canonical name; the last of a name counts."""
        return {name: value for name, value in map(field, self.lines[1:]) if name}

    @cached_property
    def pairs(self) -> dict[str, str]:
        """Return key/value pairs, in order."""
        found = (line.partition(":=") for line in self.lines[1:] if not line.startswith("#"))
        return {key: _unescaped(value) for key, mark, value in found if mark and _is_pair(key)}

    def number(self, name: str, default: int) -> int:
        """Return a field as an integer."""
        value = self.fields.get(name)
        try:
            return default if value is None else int(value)
        except ValueError:
            raise FormatError(self.path, name, f"'{value[:40] if value else ''}' is no whole number") from None

    def numbers(self, name: str) -> tuple[float, ...]:
        """Return a field as numbers, NaN where it says so."""
        value = self.fields.get(name, "")
        try:
            return tuple(float(v) for v in value.split())
        except ValueError:
            raise FormatError(self.path, name, f"'{value[:40]}' are no numbers") from None

    def vectors(self, name: str) -> tuple[tuple[float, ...] | None, ...]:
        """Return a field as vectors, None where it says ``none``."""
        value = self.fields.get(name, "")
        try:
            return tuple(
                None if m[1] is None else tuple(float(v) for v in m[1].split(",")) for m in VECTOR.finditer(value)
            )
        except ValueError:
            raise FormatError(self.path, name, f"'{value[:40]}' are no vectors") from None

    def with_(self, changes: Mapping[str, str | None]) -> Header:
        """Return a copy with fields replaced in place; None removes, what was not there comes last of the fields."""
        out: list[str] = []
        left, last = dict(changes), 1
        for line in self.lines:
            name = field(line)[0] if out else ""
            if name in changes:
                value = left.pop(name, None)
                line = f"{line.split(':', 1)[0]}: {value}" if value is not None else ""
                if value is None:
                    continue
            out.append(line)
            last = len(out) if name else last
        added = [f"{name}: {value}" for name, value in left.items() if value is not None]
        return replace(self, lines=(*out[:last], *added, *out[last:]))

    def encode(self, *, attached: bool) -> bytes:
        """Return the bytes; an empty line parts an attached header from its samples."""
        text = "".join(line + self.end for line in self.lines) + (self.end if attached else "")
        return text.encode("latin-1")


def field(line: str) -> tuple[str, str]:
    """Return (canonical name, value) of a field's line, ("", "") of any other."""
    if line.startswith("#") or ":" not in line:
        return "", ""
    name, _, value = line.partition(":")
    if value.startswith("="):
        return "", ""
    name = " ".join(name.lower().split())
    return ALIASES.get(name, name), value.strip()


def load(path: Path) -> Header:
    """Read a header up to its empty line, or to the end where samples lie elsewhere.

    Raises
    ------
    FormatError
        Not NRRD, endless, or a field that is said twice.
    """
    raw: list[bytes] = []
    with path.open("rb") as file:
        while (line := file.readline(MOST)) not in (b"\n", b"\r\n", b""):
            raw.append(line)
            if not raw[0].startswith(MAGIC) or file.tell() > MOST or len(raw) > MOST_LINES:
                what = "is not NRRD" if not raw[0].startswith(MAGIC) else "has no end"
                raise FormatError(path, "header", what, "copy it again")
        size = file.tell()
    if not raw:
        raise FormatError(path, "header", "is not NRRD", "copy it again")
    end = "\r\n" if raw[0].endswith(b"\r\n") else "\n"
    header = Header(path, tuple(line.rstrip(b"\r\n").decode("latin-1") for line in raw), end, size)
    _once(header)
    return header


def compose(path: Path, fields: Iterable[tuple[str, str]], pairs: Iterable[tuple[str, str]]) -> Header:
    """Return a new header of version 5."""
    lines = [f"{name}: {value}" for name, value in fields] + [f"{key}:={value}" for key, value in pairs]
    return Header(path, ("NRRD0005", *lines), "\n", 0)


def _once(header: Header) -> None:
    names = [name for name, _ in map(field, header.lines[1:]) if name]
    twice = next((n for n in names if names.count(n) > 1), "") if len(names) < 1000 else names[0]
    if twice:
        raise FormatError(header.path, twice[:40], "is said twice", "keep one of them")


def _is_pair(key: str) -> bool:
    return ": " not in key


def _unescaped(value: str) -> str:
    return value.replace("\\n", "\n").replace("\\\\", "\\") if "\\" in value else value
