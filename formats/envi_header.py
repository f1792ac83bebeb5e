# SPDX-License-Identifier: Apache-2.0
"""The text of an ENVI header: read leniently, written back verbatim but for the keys that changed.

What real writers do and the reader accepts: upper-case keys, blanks inside keys, ``;`` comments,
lists over many lines with the comma at the end or at the start of a line, with blanks only, or in
``[ ]``; values that contain ``=``, ``:`` or ``,``; a missing space around ``=``; CRLF; a BOM.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from pellucid.core.errors import FormatError

MAX_BYTES = 32 << 20  # the longest real headers (spectral libraries with 10^5 names) stay below 10 MB
MAX_ENTRIES = 20_000
MAGIC = b"ENVI"
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Entry:
    """One stretch of the header: a key with its value, or a comment (``key`` None); ``raw`` is its text."""

    raw: str
    key: str | None = None
    value: str = ""
    listed: bool = False


@dataclass(frozen=True)
class Header:
    """The entries in the file's order, latin-1 so that every byte survives."""

    entries: tuple[Entry, ...]
    newline: str = "\n"

    def get(self, key: str) -> str | None:
        """Return a key's value without braces, blanks stripped; None where it is missing. The first one counts."""
        return next((e.value for e in self.entries if e.key == key), None)

    def items(self, key: str) -> list[str] | None:
        """Return a list's items; None where the key is missing. Names may hold blanks: commas alone part them."""
        value = self.get(key)
        return None if value is None else split(value, blanks=not key.endswith("names"))

    def keys(self) -> list[str]:
        """Return the keys in order, normalised to lower case and single blanks."""
        return [e.key for e in self.entries if e.key is not None]

    def with_(self, key: str, value: str) -> Header:
        """Return the header with a scalar key changed in place, or appended where it is missing."""
        new = Entry(f"{key} = {value}{self.newline}", key, value)
        for i, entry in enumerate(self.entries):
            if entry.key == key:
                written = entry.raw.split("=")[0]
                raw = f"{written}= {value}{self.newline}"
                return replace(self, entries=(*self.entries[:i], replace(new, raw=raw), *self.entries[i + 1 :]))
        last = self.entries[-1]
        ended = last if last.raw.endswith(("\n", "\r")) else replace(last, raw=last.raw + self.newline)
        return replace(self, entries=(*self.entries[:-1], ended, new))

    def without(self, keys: Iterable[str]) -> Header:
        """Return the header less some keys."""
        drop = set(keys)
        return replace(self, entries=tuple(e for e in self.entries if e.key not in drop))

    def encode(self) -> bytes:
        """Return the file's bytes."""
        return "".join(e.raw for e in self.entries).encode("latin-1", errors="replace")


def load(path: Path) -> Header:
    """Read a header file.

    Raises
    ------
    FormatError
        Not an ENVI header, too long, or a list that never closes.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise FormatError(path, "header", f"{size} bytes are too long for an ENVI header")
        data = path.read_bytes()
    except OSError as error:
        raise FormatError(path, "header", error.strerror or "cannot be read") from None
    return parse(data, path)


def parse(data: bytes, path: object = "header") -> Header:
    """Parse a header's bytes; see `load`."""
    lines = data.decode("latin-1").splitlines(keepends=True) if data else []
    lines = _rejoin(lines)
    if not lines or not _magic(lines[0]):
        raise FormatError(path, "first line", *_not_envi(data))
    newline = "\r\n" if lines[0].endswith("\r\n") else "\n"
    entries, at = [Entry(lines[0])], 1
    while at < len(lines):
        if len(entries) > MAX_ENTRIES:
            raise FormatError(path, "header", f"more than {MAX_ENTRIES} keys and comments", "the header is damaged")
        entry, at = _entry(lines, at, path)
        entries.append(entry)
    return Header(tuple(entries), newline)


def split(value: str, *, blanks: bool = True) -> list[str]:
    """Return the items of a list's text: at commas if there is one, else at blanks where allowed."""
    body = " ".join(line for line in value.splitlines() if not line.lstrip().startswith(";"))
    if "," in body or not blanks:
        parts = [p.strip() for p in body.split(",")]
        while parts and not parts[-1]:
            parts.pop()
        return parts[1:] if parts and not parts[0] else parts
    return body.split()


def listing(key: str, values: Iterable[object]) -> str:
    """Return ``key = {a, b, ...}`` text with a few items a line."""
    items = [str(v) for v in values]
    rows = [", ".join(items[i : i + 8]) for i in range(0, len(items), 8)]
    return f"{key} = {{\n" + ",\n".join(rows) + "}\n"


def _rejoin(lines: list[str]) -> list[str]:
    """Undo breaks at characters that only Python takes for line ends (form feed, NEL ...)."""
    out: list[str] = []
    for line in lines:
        if out and not out[-1].endswith(("\n", "\r")):
            out[-1] += line
        else:
            out.append(line)
    return out


def _magic(line: str) -> bool:
    """Tell whether a first line is ``ENVI``."""
    return line.removeprefix(BOM.decode("latin-1")).strip().upper() == "ENVI"


def _not_envi(data: bytes) -> tuple[str, str]:
    """Say what a file that is not an ENVI header may be."""
    if not data:
        return "the header is empty", "copy the header again"
    if any(word in data[:4096].upper() for word in (b"NROWS", b"BYTEORDER", b"NBANDS")):
        return "not an ENVI header but an ESRI one", "convert it with gdal_translate -of ENVI"
    return "not an ENVI header: it does not begin with the word ENVI", "give the cube's own .hdr file"


def _entry(lines: list[str], at: int, path: object) -> tuple[Entry, int]:
    """Return the entry that begins at a line and the index of the line after it."""
    line = lines[at]
    text = line.strip()
    name, equals, rest = text.partition("=")
    if not text or text.startswith(";") or not equals or not name.strip():
        return Entry(line), at + 1
    key = " ".join(name.split()).lower()
    value = rest.strip()
    if not value.startswith(("{", "[")):
        return Entry(line, key, value), at + 1
    stop = _closing(lines, at, key, path, "{}" if value[0] == "{" else "[]")
    raw = "".join(lines[at:stop])
    close = "}" if value[0] == "{" else "]"
    body = raw.partition("=")[2].strip()[1:]
    inner = body[: body.rindex(close)] if close in body else body
    return Entry(raw, key, inner.strip(), True), stop


def _closing(lines: list[str], at: int, key: str, path: object, braces: str) -> int:
    """Return the index after the line that closes a list: where braces balance, or a line ends with one.

    Never looks at a line twice, whatever the file holds.
    """
    depth = 0
    for i in range(at, len(lines)):
        line = lines[i].partition("=")[2] if i == at else lines[i]
        if i > at and line.lstrip().startswith(";"):
            continue
        depth += line.count(braces[0]) - line.count(braces[1])
        if depth <= 0 or (i > at and line.rstrip().endswith(braces[1])):
            return i + 1
    raise FormatError(path, key, "the list never closes", "the header is cut short: copy it again")
