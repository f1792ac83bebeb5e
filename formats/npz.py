# SPDX-License-Identifier: Apache-2.0
"""NumPy's .npz: one array of an archive is read; all others travel unread.

The hint ``key`` names the array; without it the only numeric array is taken, and several are listed.
"""

from __future__ import annotations

import threading
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from pellucid.core.errors import FormatError
from pellucid.core.lazy import np
from pellucid.core.types import Description, FormatTraits, Reader, Region, Writer
from pellucid.formats import archive_private, npy

if TYPE_CHECKING:
    from pellucid.core.types import Array

FORMAT = FormatTraits(
    name="npz",
    title="NumPy archive",
    suffixes=(".npz",),
    keeps="every other array, the order of arrays and whether they are compressed",
)

DEFLATE_MOST = 1032  # the largest expansion deflate can reach (zlib technical notes)
MOST_MEMBERS = 65536
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError)
COPY = 1 << 20
anonymise = archive_private.npz


def recognise(head: bytes, name: str) -> float:
    """Return a high certainty for a zip whose first member is an array."""
    if head[:4] not in (b"PK\3\4", b"PK\5\6"):
        return 0.0
    length = int.from_bytes(head[26:28], "little")
    return 0.9 if head[30 : 30 + length].endswith(b".npy") or name.lower().endswith(".npz") else 0.0


def open(path: Path, **hints: Any) -> NpzReader:
    """Read the directory and one header; hints ``key`` and ``axes``."""
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            member, header = _choose(path, archive, hints.get("key"))
    except FormatError:
        raise
    except DAMAGED as error:
        raise FormatError(path, "archive", "is damaged or cut short", "copy it again from its source") from error
    held = member.file_size - len(header.raw)
    if held != header.size or member.file_size > DEFLATE_MOST * member.compress_size + COPY:
        raise FormatError(path, member.filename, f"shape {header.shape} needs {header.size} bytes, it holds {held}")
    return NpzReader(path, npy.describe(path, "npz", header, hints), header, member.filename)


def _choose(path: Path, archive: zipfile.ZipFile, key: str | None) -> tuple[zipfile.ZipInfo, npy.Header]:
    """Return the wanted array, or the only one that holds numbers."""
    members = [m for m in archive.infolist() if m.filename.endswith(".npy")]
    if len(members) > MOST_MEMBERS:
        raise FormatError(path, "archive", f"holds {len(members)} arrays")
    names = [m.filename[:-4] for m in members]
    if key is not None:
        if key not in names:
            raise FormatError(path, key, "is not in the archive", f"choose the key: {', '.join(names[:20])}")
        member = members[names.index(key)]
        return member, _header(path, archive, member)
    found, refused = [], None
    for member in members:
        try:
            found.append((member, _header(path, archive, member)))
        except FormatError as error:
            refused = error
    large = [pair for pair in found if len(pair[1].shape) > 1] or found
    if len(large) == 1:
        return large[0]
    if not large:
        raise refused or FormatError(path, "archive", "holds no array")
    listed = ", ".join(f"{m.filename[:-4]} {h.shape}" for m, h in large[:20])
    raise FormatError(path, "key", f"several arrays fit: {listed}", "name one with the key")


def _header(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> npy.Header:
    if member.compress_type not in METHODS or member.flag_bits & 1:
        raise FormatError(path, member.filename, "is encrypted or compressed in an unusual way")
    with archive.open(member) as file:
        return npy.read_header(path, file, member.filename)


@dataclass
class NpzReader:
    """Reader of one array of an archive; it is unpacked once, at the first read."""

    path: Path
    description: Description
    header: npy.Header
    member: str
    _held: list[Array] = field(default_factory=list, repr=False, compare=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if not k.startswith("_")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _held=[], _lock=threading.Lock())

    def read(self, region: Region) -> Array:
        """Return samples of a region in native byte order."""
        with self._lock:
            if not self._held:
                self._held.append(self._unpack())
            array = self._held[0]
        return np.array(array[region], dtype=self.description.dtype, order="C")

    def _unpack(self) -> Array:
        h = self.header
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(self.member) as file:
                file.read(len(h.raw))
                raw = file.read(h.size)
                file.read()  # to the end, where the checksum is verified
        except DAMAGED as error:
            raise FormatError(self.path, self.member, "is damaged", "copy it again from its source") from error
        if len(raw) != h.size:
            raise FormatError(self.path, self.member, "is cut short", "copy it again from its source")
        return np.frombuffer(raw, h.dtype).reshape(h.shape, order="F" if h.fortran else "C")

    def close(self) -> None:
        """Forget the unpacked array."""
        with self._lock:
            self._held.clear()


def splice(path: Path, source: Reader, output: Description) -> Writer:
    """Write the same archive with one array changed."""
    return NpzWriter(path, output, source if isinstance(source, NpzReader) else None)


def compose(path: Path, description: Description) -> Writer:
    """Write an archive of one array, ``arr_0`` as NumPy names it."""
    return NpzWriter(path, description, None)


class NpzWriter:
    """Writer that keeps the array in a file beside until all of it is there."""

    def __init__(self, path: Path, output: Description, source: Reader | None) -> None:
        self.path, self._source = path, source
        self._array = path.with_name(path.name + ".npy")
        self._inner = npy.splice(self._array, source, output) if source else npy.compose(self._array, output)
        self._open = True

    def write(self, region: Region, values: Array) -> None:
        """Store values at their place."""
        self._inner.write(region, values)

    def close(self) -> None:
        """Write the archive, flush to disk."""
        if not self._open:
            return
        self._open = False
        self._inner.close()
        try:
            with self.path.open("wb") as file:
                self._pack(file)
                file.flush()
                _sync(file)
        finally:
            self._array.unlink(missing_ok=True)

    def _pack(self, file: IO[bytes]) -> None:
        with zipfile.ZipFile(file, "w") as new:
            if not isinstance(self._source, NpzReader):
                info = zipfile.ZipInfo("arr_0.npy")
                with self._array.open("rb") as array:
                    _add(new, info, array, self._array.stat().st_size)
                return
            with zipfile.ZipFile(self._source.path) as old:
                new.comment = old.comment
                for member in old.infolist():
                    mine = member.filename == self._source.member
                    with self._array.open("rb") if mine else old.open(member) as content:
                        _add(new, _again(member), content, self._array.stat().st_size if mine else member.file_size)


def _again(member: zipfile.ZipInfo) -> zipfile.ZipInfo:
    """Return a directory entry with the same name, date, attributes and compression."""
    info = zipfile.ZipInfo(member.filename, member.date_time)
    info.compress_type, info.external_attr, info.comment = member.compress_type, member.external_attr, member.comment
    info.create_system = member.create_system
    return info


def _add(archive: zipfile.ZipFile, info: zipfile.ZipInfo, content: IO[bytes], size: int) -> None:
    info.file_size = size
    with archive.open(info, "w", force_zip64=size >= 1 << 31) as target:
        while block := content.read(COPY):
            target.write(block)


def _sync(file: IO[bytes]) -> None:
    import os

    os.fsync(file.fileno())
