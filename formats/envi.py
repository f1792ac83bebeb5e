# SPDX-License-Identifier: Apache-2.0
"""ENVI cubes: a plain block of samples beside a text header.

The pair may be named by either file. Pixels go by position (``rawblock``), the header by text
(``envi_header``), so that every key comes back verbatim and in order.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid.core.errors import FormatError
from pellucid.core.types import Description, FormatTraits, Reader, Region, Writer
from pellucid.formats import archive_private, envi_header, envi_meta, rawblock

if TYPE_CHECKING:
    from pellucid.core.types import Array

FORMAT = FormatTraits(
    name="envi",
    title="ENVI cube with header (.hdr)",
    suffixes=(".hdr", ".img", ".dat", ".bsq", ".bil", ".bip", ".raw", ".sli"),
    keeps="every header key verbatim and in order, interleave, byte order, bytes before, between and after the "
    "frames; only data type (and byte order, interleave where told) may change",
)
FOREIGN = (
    b"II*\x00",
    b"MM\x00*",
    b"II+\x00",
    b"MM\x00+",
    b"\x89HDF",
    b"\x89PNG",
    b"CDF\x01",
    b"CDF\x02",
    b"PK\x03\x04",
)
NOT_DATA = {".hdr", ".xml", ".enp", ".txt", ".json", ".tif", ".tiff", ".ovr", ".msk", ".csv", ".prj", ".png", ".jpg"}
OWN = (".bsq", ".bil", ".bip", ".sli")  # suffixes that mean ENVI even without a header
PERMS = {"bsq": (2, 0, 1), "bil": (0, 2, 1), "bip": (0, 1, 2)}  # file order -> index in (line, sample, band)
TYPES = {1: "u1", 2: "i2", 3: "i4", 4: "f4", 5: "f8", 12: "u2", 13: "u4", 14: "i8", 15: "u8"}
CODES = {v: k for k, v in TYPES.items()}
GEOMETRY = ("samples", "lines", "bands", "data type", "interleave")
anonymise = archive_private.envi


def recognise(head: bytes, name: str) -> float:
    """Return how certain it is that this is an ENVI header, or a data file with one beside it."""
    if head.removeprefix(envi_header.BOM)[:5].upper().strip() == envi_header.MAGIC:
        return 0.95
    path = Path(name)
    if path.suffix.lower() == ".hdr":
        return 0.3  # Analyze, ESRI ...: the best this format can do is to say what it is not
    if head.startswith(FOREIGN):
        return 0.0
    header = find_header(path)
    if header is None:
        return 0.3 if path.suffix.lower() in OWN else 0.0
    return 0.8 if _is_envi(header) else 0.0


def open(path: Path, **hints: Any) -> Reader:
    """Open an ENVI pair, given by its header or its data file.

    Raises
    ------
    FormatError
        Not an ENVI header, a missing companion, a key that is missing or contradicts the file's size.
    """
    return EnviReader(Path(path))


def splice(path: Path, source: Reader, output: Description) -> Writer:
    """Write the same cube with other samples; ``output.dtype`` may differ from the source's."""
    if not isinstance(source, EnviReader):
        return compose(path, output)
    header, layout = source.header, source.layout
    code = CODES.get(_plain(output.dtype))
    if code is None:
        raise FormatError(path, "data type", f"{output.dtype} cannot be stored in an ENVI file", "choose float32")
    same = _plain(output.dtype) == layout.dtype[1:]
    if not same:
        order = layout.dtype[0] if header.get("byte order") is not None else "<"
        layout = rawblock.Layout(layout.shape, layout.perm, order + _plain(output.dtype), layout.offset)
        header = header.without(("major frame offsets", "minor frame offsets")).with_("data type", str(code))
    header = envi_meta.restate_scale(header, source.description, output)
    data, text = _names(Path(path), source)
    return EnviWriter(data, text, header, layout, source=source.data if same else None, prefix=source.data)


def compose(path: Path, description: Description) -> Writer:
    """Write a new cube, band-sequential and little-endian, its header made from the description."""
    lines, samples, bands = _three(description.shape)
    plain = _plain(description.dtype)
    if plain not in CODES:
        raise FormatError(path, "data type", f"{description.dtype} cannot be stored in an ENVI file", "choose float32")
    header = envi_header.parse(
        envi_meta.write(description, (lines, samples, bands), CODES[plain]).encode("latin-1", "replace")
    )
    layout = rawblock.Layout((bands, lines, samples), PERMS["bsq"], "<" + plain)
    path = Path(path)
    data = path.with_suffix(".img") if path.suffix.lower() == ".hdr" else path
    return EnviWriter(data, path.with_suffix(".hdr"), header, layout)


class EnviReader:
    """An open ENVI pair; reads by position, from any number of threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data, self.hdr = _pair(path)
        self.header = envi_header.load(self.hdr)
        size = self.data.stat().st_size if self.data.exists() else None
        self.layout, notes = _layout(self.header, self.hdr, size)
        if size is None:
            raise FormatError(
                path, "data file", "not found beside the header", "put the cube's data file into the same folder"
            )
        if size > self.layout.size:
            notes.append(
                ("longer-file", f"the data file has {size - self.layout.size} bytes more than its header says")
            )
        self.description = envi_meta.describe(self.header, _sizes(self.layout), self.layout, notes)
        self._fd: int | None = None
        self._file()

    def read(self, region: Region) -> Array:
        """Return stored samples of a (line, sample, band) region in native byte order."""
        try:
            return rawblock.read(self._file(), self.layout, region)
        except EOFError as error:
            raise FormatError(self.path, f"byte {error}", "the data file ends early", "copy it again") from None
        except OSError as error:
            raise FormatError(self.path, "data", error.strerror or "cannot be read") from None

    def close(self) -> None:
        """Release the data file."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def _file(self) -> int:
        if self._fd is None:
            try:
                self._fd = os.open(self.data, os.O_RDONLY)
            except OSError as error:
                raise FormatError(self.path, "data file", error.strerror or "cannot be opened") from None
        return self._fd

    def __getstate__(self) -> Mapping[str, Any]:
        return {**self.__dict__, "_fd": None}

    def __del__(self) -> None:
        if getattr(self, "_fd", None) is not None:
            self.close()


class EnviWriter:
    """A pair in the making; regions in any order. The header is written last."""

    def __init__(
        self,
        data: Path,
        text: Path,
        header: envi_header.Header,
        layout: rawblock.Layout,
        *,
        source: Path | None = None,
        prefix: Path | None = None,
    ) -> None:
        self.data, self.text, self.header, self.layout = data, text, header, layout
        self._fd: int | None = os.open(data, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
        os.ftruncate(self._fd, layout.size)
        framed = sum(layout.major) + sum(layout.minor) > 0
        if source is not None:  # same sample size: all bytes that are no samples travel
            self._carry(source, 0, None if framed else layout.offset)
            self._carry(source, layout.size, None)
        elif prefix is not None:
            self._carry(prefix, 0, layout.offset)

    def write(self, region: Region, values: Array) -> None:
        """Store samples of a (line, sample, band) region."""
        assert self._fd is not None, "the writer is closed"
        rawblock.write(self._fd, self.layout, region, values)

    def close(self) -> None:
        """Write the header and flush both files."""
        fd, self._fd = self._fd, None
        if fd is None:
            return
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        self.text.write_bytes(self.header.encode())

    def _carry(self, source: Path, start: int, stop: int | None) -> None:
        """Copy bytes that are no samples from the source file to the same place."""
        assert self._fd is not None
        other = os.open(source, os.O_RDONLY)
        try:
            rawblock.copy(other, self._fd, start, os.fstat(other).st_size if stop is None else stop, start)
        finally:
            os.close(other)


def find_header(path: Path) -> Path | None:
    """Return the header beside a data file: ``x.dat.hdr`` or ``x.hdr``, in any case."""
    return _beside(path, {path.name.lower() + ".hdr": 0, path.with_suffix("").name.lower() + ".hdr": 1})


def _beside(path: Path, ranks: dict[str, int]) -> Path | None:
    """Return the neighbour of best rank among lower-case names."""
    try:
        names = [n for n in os.listdir(path.parent) if n.lower() in ranks]
    except OSError:
        return None
    return path.parent / min(names, key=lambda n: (ranks[n.lower()], n)) if names else None


def _is_envi(header: Path) -> bool:
    """Tell whether a file begins with the word ENVI."""
    try:
        with header.open("rb") as file:
            return file.read(8).removeprefix(envi_header.BOM)[:5].upper().strip() == envi_header.MAGIC
    except OSError:
        return False


def _pair(path: Path) -> tuple[Path, Path]:
    """Return (data file, header) of a pair given by either; the data file may be missing."""
    if path.suffix.lower() != ".hdr":
        header = find_header(path)
        if header is None:
            raise FormatError(path, "header", "no .hdr file beside it", "put the cube's header into the same folder")
        return path, header
    stem = path.name[:-4]
    try:
        names = sorted(n for n in os.listdir(path.parent or ".") if n != path.name)
    except OSError as error:
        raise FormatError(path, "folder", error.strerror or "cannot be listed") from None
    exact = [n for n in names if n.lower() == stem.lower()]
    near = [n for n in names if Path(n).stem.lower() == stem.lower() and Path(n).suffix.lower() not in NOT_DATA]
    known = [n for n in near if Path(n).suffix.lower() in FORMAT.suffixes]
    found = [path.parent / n for n in (exact or known or near) if (path.parent / n).is_file()]
    if len(found) > 1:
        listed = ", ".join(p.name for p in found)
        raise FormatError(path, "data file", f"several fit this header: {listed}", "give the data file itself")
    return (found[0] if found else path.with_suffix("")), path


def _layout(header: envi_header.Header, path: Path, size: int | None) -> tuple[rawblock.Layout, list[tuple[str, str]]]:
    """Return where the samples lie, checked against the data file's size, and notes on what was assumed."""
    notes: list[tuple[str, str]] = []
    missing = [k for k in GEOMETRY if header.get(k) is None]
    if missing:
        raise FormatError(path, missing[0], "missing from the header", f"it needs: {', '.join(GEOMETRY)}")
    if (header.get("file compression") or "0").strip() not in ("", "0"):
        raise FormatError(path, "file compression", "compressed data files are not read", "decompress it in ENVI first")
    samples, lines, bands = (_count(header, k, path, 1) for k in ("samples", "lines", "bands"))
    code = _count(header, "data type", path, 1)
    if code in (6, 9):
        raise FormatError(path, "data type", "complex samples are not read", "store real and imaginary parts apart")
    if code not in TYPES:
        raise FormatError(path, "data type", f"{code} is not an ENVI type", f"known are {', '.join(map(str, TYPES))}")
    interleave = (header.get("interleave") or "").lower()
    if interleave not in PERMS:
        raise FormatError(path, "interleave", f"{interleave!r} is not bsq, bil or bip")
    for key, value in (("byte order", "0"), ("header offset", "0"), ("file type", "ENVI Standard")):
        if header.get(key) is None:
            notes.append((f"no-{key.replace(' ', '-')}", f"the header has no {key}: {value} is assumed"))
    offset = _count(header, "header offset", path, 0) if header.get("header offset") else 0
    order = _count(header, "byte order", path, 0) if header.get("byte order") else 0
    if order not in (0, 1):
        raise FormatError(path, "byte order", f"{order} is neither 0 nor 1")
    shape3 = (lines, samples, bands)
    a, b, c = (shape3[i] for i in PERMS[interleave])
    major, minor = (_frames(header, f"{k} frame offsets", path) for k in ("major", "minor"))
    layout = rawblock.Layout((a, b, c), PERMS[interleave], "<>"[order] + TYPES[code], offset, major, minor)
    if size is not None and size < layout.size:
        raise FormatError(
            path,
            "data file",
            f"{layout.size} bytes expected, {size} found",
            "the file is cut short or the header is another's",
        )
    return layout, notes


def _count(header: envi_header.Header, key: str, path: Path, least: int) -> int:
    """Return an integer key of at least ``least``."""
    words = (header.get(key) or "").split(";")[0].split()
    text = words[0].removesuffix(".") if words else ""
    if not text.isascii() or not text.isdigit() or len(text) > 15 or int(text) < least:
        raise FormatError(path, key, f"{text[:40]!r} is not a count of at least {least}")
    return int(text)


def _frames(header: envi_header.Header, key: str, path: Path) -> tuple[int, int]:
    """Return the bytes before and after a frame."""
    items = header.items(key)
    if not items:
        return 0, 0
    if len(items) != 2 or not all(i.isascii() and i.isdigit() and len(i) < 12 for i in items):
        raise FormatError(path, key, "must be two byte counts")
    return int(items[0]), int(items[1])


def _sizes(layout: rawblock.Layout) -> tuple[int, int, int]:
    """Return (lines, samples, bands)."""
    lines, samples, bands = (layout.shape[layout.perm.index(axis)] for axis in range(3))
    return lines, samples, bands


def _three(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return (lines, samples, bands) of a two- or three-axis shape."""
    lines, samples, bands = (*shape, 1)[:3]
    return lines, samples, bands


def _plain(dtype: str) -> str:
    """Return a NumPy type's letter and size, e.g. ``u2``."""
    import numpy as np

    return np.dtype(dtype).str[1:]


def _names(path: Path, source: EnviReader) -> tuple[Path, Path]:
    """Return (data, header) names of an output, paired the way the source's names are."""
    if path.suffix.lower() == ".hdr":
        stem = path.with_suffix("")
        if source.hdr.name.lower() == source.data.name.lower() + ".hdr":
            return stem, path
        return stem.with_name(stem.name + source.data.suffix), path
    if source.hdr.name.lower() == source.data.name.lower() + ".hdr":
        return path, path.with_name(path.name + source.hdr.suffix)
    return path, path.with_name(path.stem + source.hdr.suffix)
