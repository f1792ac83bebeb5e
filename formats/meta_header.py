# SPDX-License-Identifier: Apache-2.0
"""The text header of MetaImage files: ``Key = Value`` lines up to ElementDataFile, every one kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from pellucid.core.errors import FormatError

MOST = 64 << 20  # bytes of a header; a sequence of 10,000 tracked frames has 10 MB
MOST_LINES = 1 << 20
LAST = "ElementDataFile"
TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4",
    "MET_LONG": "i4", "MET_ULONG": "u4",  # four bytes whatever the machine, as MetaIO counts them
    "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # fmt: skip
CODES = {
    "int8": "MET_CHAR", "uint8": "MET_UCHAR", "int16": "MET_SHORT", "uint16": "MET_USHORT", "int32": "MET_INT",
    "uint32": "MET_UINT", "int64": "MET_LONG_LONG", "uint64": "MET_ULONG_LONG", "float32": "MET_FLOAT",
    "float64": "MET_DOUBLE",
}  # fmt: skip


@dataclass(frozen=True)
class Header:
    """A header's lines without their ends, the end they have, and where it stops in the file."""

    path: Path
    lines: tuple[str, ...]
    end: str
    size: int

    @cached_property
    def fields(self) -> dict[str, str]:
        """Return fields by name, in order."""
        found = (line.partition("=") for line in self.lines)
        return {key.strip(): value.strip() for key, mark, value in found if mark}

    def flag(self, name: str) -> bool:
        """Return a field as yes or no; no where it is not said."""
        return self.fields.get(name, "").lower() in ("true", "t", "1", "yes")

    def number(self, name: str, default: int) -> int:
        """Return a field as an integer."""
        value = self.fields.get(name)
        try:
            return default if value is None else int(value)
        except ValueError:
            raise FormatError(self.path, name, f"'{value[:40] if value else ''}' is no whole number") from None

    def numbers(self, name: str, count: int) -> tuple[float, ...]:
        """Return a field as ``count`` finite numbers."""
        words = self.fields.get(name, "").split()
        try:
            found = tuple(float(w) for w in words)
        except ValueError:
            found = ()
        if len(found) != count or any(v - v != 0 for v in found):
            raise FormatError(self.path, name, f"'{' '.join(words)[:60]}' are not {count} numbers", "copy it again")
        return found

    def with_(self, changes: Mapping[str, str | None]) -> Header:
        """Return a copy with fields replaced in place; None removes, new ones come before the last line."""
        left, out = dict(changes), []
        for line in self.lines:
            key = line.partition("=")[0].strip()
            if key not in changes:
                out.append(line)
            elif (value := left.pop(key, None)) is not None:
                out.append(line if self.fields[key] == value else f"{key} = {value}")
        added = [f"{key} = {value}" for key, value in left.items() if value is not None]
        return replace(self, lines=(*out[:-1], *added, *out[-1:]))

    def encode(self) -> bytes:
        """Return the bytes; samples follow at once."""
        return "".join(line + self.end for line in self.lines).encode("latin-1")


def load(path: Path) -> Header:
    """Read a header up to the line that says where the samples are.

    Raises
    ------
    FormatError
        That line is missing.
    """
    raw: list[bytes] = []
    with path.open("rb") as file:
        while line := file.readline(MOST):
            raw.append(line)
            if line.partition(b"=")[0].strip() == LAST.encode():
                break
            if (b"=" not in line and line.strip()) or file.tell() > MOST or len(raw) > MOST_LINES:
                raise FormatError(path, f"line {len(raw)}", "is no line of a MetaImage header", "copy it again")
        size = file.tell()
    if not raw or raw[-1].partition(b"=")[0].strip() != LAST.encode():
        raise FormatError(path, LAST, "is not said: the header ends early", "copy it again")
    end = "\r\n" if raw[0].endswith(b"\r\n") else "\n"
    return Header(path, tuple(line.rstrip(b"\r\n").decode("latin-1") for line in raw), end, size)


def compose(path: Path, fields: Iterable[tuple[str, str]]) -> Header:
    """Return a new header."""
    return Header(path, tuple(f"{key} = {value}" for key, value in fields), "\n", 0)
