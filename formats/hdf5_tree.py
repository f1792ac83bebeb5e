# SPDX-License-Identifier: Apache-2.0
"""Safe access to HDF5 files for the formats that live in them: what is inside, samples, a copy with other samples.

Only hard links are walked, so that nothing outside the file is ever opened. A data set whose samples
are wanted is checked first: no external or virtual storage, no objects, no filter that is not there,
and enough stored bytes to hold what its shape promises.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import shutil
import threading
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid.core.errors import FormatError
from pellucid.formats import hdf5_probe
from pellucid.formats.hdf5_check import check, library, type_name

if TYPE_CHECKING:
    from pellucid.core.types import Array

Selection = tuple[slice | int, ...]
Names = Mapping[str, tuple[tuple[int, ...], str]]

SIGNATURE = b"\x89HDF\r\n\x1a\n"
SIGNATURE_AT = (0, 512, 1024, 2048)  # a user block, if any, doubles in size
CHUNK_CACHE = 128 << 20
GATHER = 256 << 20  # a packed data set up to this size is written in one go, so that no chunk is packed twice
MOST_ITEMS, DEEPEST = 20_000, 24
TEXTS = 1000  # items of a text attribute worth reading
ATTRIBUTE = 1 << 20  # items of an attribute worth reading
ERRORS = (
    OSError,
    RuntimeError,
    LookupError,
    ValueError,
    TypeError,
    MemoryError,
    OverflowError,
    SystemError,
    AttributeError,
)


def is_hdf5(head: bytes) -> bool:
    """Tell whether the first bytes of a file carry the HDF5 signature, behind a user block or not."""
    return any(head[at : at + 8] == SIGNATURE for at in SIGNATURE_AT)


def names(path: Path) -> Names:
    """Return ``{"group/data": (shape, type)}`` of every data set in the file; empty where it cannot be read.

    Types are NumPy names of native samples (``"uint16"``, ``"complex64"``), or ``"text"``, ``"record"``
    (compound) and ``"object"`` (variable length, references). Cached by path, time and size; never raises.
    """
    try:
        status = os.stat(path)
        return _names(str(path), status.st_mtime_ns, status.st_size)
    except (*ERRORS, FormatError):
        return {}


@contextlib.contextmanager
def opened(path: Path, mode: str = "r") -> Iterator[Any]:
    """Open a file as ``h5py.File``; h5py's errors become one `FormatError`."""
    with worded(path), _open(path, mode) as file:
        yield file


@contextlib.contextmanager
def worded(path: Path) -> Iterator[None]:
    """Run a block of HDF5 calls; what they raise becomes one `FormatError`."""
    try:
        yield
    except ERRORS as error:
        if isinstance(error, FormatError):
            raise
        text = " ".join(str(error).split())[:200] or type(error).__name__
        raise FormatError(path, "HDF5", text, "the file is damaged: copy it again") from None


def find(path: Path, file: Any, name: str) -> Any:
    """Return a data set of an open file, reached over hard links only.

    Raises
    ------
    FormatError
        Not there, not a data set, or behind a soft or external link.
    """
    h5py = library()
    item, done = file, ""
    for part in name.strip("/").split("/"):
        done = f"{done}/{part}"
        link = item.get(part, getlink=True) if isinstance(item, h5py.Group) else None
        if link is None:
            raise FormatError(path, done, "is not in the file")
        if not isinstance(link, h5py.HardLink):
            raise FormatError(
                path, done, "is a link that may lead out of the file", "store the data in the file itself"
            )
        item = item[part]
    if not isinstance(item, h5py.Dataset) or item.shape is None:
        raise FormatError(path, done, "is not a data set")
    return item


def attributes(path: Path, name: str = "/") -> dict[str, Any]:
    """Return the short attributes of a group or data set: numbers, arrays and texts, no references."""
    with opened(path) as file:
        item = file if name.strip("/") == "" else _item(path, file, name)
        return read_attributes(item)


def read_attributes(item: Any) -> dict[str, Any]:
    """Return the short attributes of an open object; one that cannot be read is left out."""
    out: dict[str, Any] = {}
    for key in list(item.attrs)[:1000]:
        try:
            handle = item.attrs.get_id(key)
            if handle.shape is None or math.prod(handle.shape) > ATTRIBUTE:
                continue
            kind = type_name(handle.dtype)
            if kind in ("record", "object") or (kind == "text" and math.prod(handle.shape) > TEXTS):
                continue
            if handle.get_storage_size() > ATTRIBUTE * 8 or handle.dtype.itemsize > ATTRIBUTE:
                continue
            value = item.attrs[key]
        except ERRORS:
            continue
        out[str(key)] = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    return out


def vector(path: Path, name: str, most: int = 100_000) -> list[float]:
    """Return a short numeric data set's values, flat; empty where it is not there, longer or no numbers."""
    entry = names(path).get(name.strip("/"))
    if entry is None or math.prod(entry[0]) > most or entry[1] in ("text", "record", "object"):
        return []
    with opened(path) as file:
        item = find(path, file, name)
        check(path, item)
        return [float(v) for v in item[()].ravel()]


def text(path: Path, name: str, most: int = 1 << 24) -> str:
    """Return a text data set of one item; empty where it is not there or longer than ``most`` bytes."""
    entry = names(path).get(name.strip("/"))
    if entry is None or math.prod(entry[0]) != 1 or entry[1] != "text":
        return ""
    with opened(path) as file:
        item = find(path, file, name)
        if item.is_virtual or item.external or item.dtype.itemsize > most:
            return ""
        value = item[()]
    value = value.flat[0] if hasattr(value, "flat") else value
    if not isinstance(value, (bytes, str)):
        return ""
    return value[:most] if isinstance(value, str) else value[:most].decode("utf-8", "replace")


class Samples:
    """Samples of one checked data set: the file stays open between reads, and pickles by path."""

    def __init__(self, path: Path, name: str, *, records: bool = False) -> None:
        self.path, self.name, self.records = Path(path), name.strip("/"), records
        self._file: Any = None
        self._lock = threading.RLock()
        item = self._item()
        self.shape: tuple[int, ...] = tuple(int(n) for n in item.shape)
        self.dtype: str = type_name(item.dtype)
        self.chunks: tuple[int, ...] | None = item.chunks

    def read(self, selection: Selection) -> Array:
        """Return samples in file order and native byte order."""
        import numpy as np

        with self._lock:
            try:
                with worded(self.path):
                    values = np.asarray(self._item()[selection])
            except FormatError:
                self.close()  # HDF5 would hand the damaged file's open state to whoever opens its successor
                raise
        return values.astype(values.dtype.newbyteorder("="), copy=False)

    def attributes(self) -> dict[str, Any]:
        """Return the data set's short attributes."""
        with self._lock, worded(self.path):
            return read_attributes(self._item())

    def close(self) -> None:
        """Release the file."""
        with self._lock:
            file, self._file = self._file, None
            if file is not None:
                file.close()

    def _item(self) -> Any:
        with worded(self.path):
            if self._file is None:
                file = _open(self.path, "r")
                try:
                    check(self.path, find(self.path, file, self.name), records=self.records)
                except FormatError:
                    file.close()
                    raise
                self._file = file
            return self._file[self.name]

    def __getstate__(self) -> Mapping[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_lock", "_file")}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock, self._file = threading.RLock(), None


def replace(source: Path, target: Path, dataset_path: str, dtype: str | None = None) -> Sink:
    """Copy a file byte for byte and return a sink into one of the copy's data sets.

    Chunks, compression, attributes and dimension scales stay; so does the sample type unless ``dtype``
    names another.
    """
    shutil.copyfile(source, target)
    os.chmod(target, 0o600 | os.stat(target).st_mode)
    return Sink(target, dataset_path, dtype)


class Sink:
    """A data set of a file in the making; places and values are in file order."""

    def __init__(self, path: Path, name: str, dtype: str | None = None, *, fresh: bool = False) -> None:
        import numpy as np

        self.path, self.name = Path(path), name.strip("/")
        with worded(self.path):
            self._file: Any = _open(self.path, "r+")
            item = find(self.path, self._file, self.name)
            if not fresh:  # our own new data set has stored nothing yet
                check(self.path, item)
            if dtype is not None and item.dtype.newbyteorder("=") != np.dtype(dtype):
                from pellucid.formats import hdf5_retype

                item = hdf5_retype.retype(self._file, self.name, np.dtype(dtype))
        packed = item.chunks is not None and item.size * item.dtype.itemsize <= GATHER
        self._whole: Array | None = np.zeros(item.shape, item.dtype.newbyteorder("=")) if packed else None

    def write(self, place: Selection, values: Array) -> None:
        """Store samples at a place given in file order."""
        if self._whole is not None:
            self._whole[place] = values
            return
        with worded(self.path):
            self._file[self.name][place] = values

    def attributes(self, changes: Mapping[str, Any]) -> None:
        """Set attributes of the data set; one that was there keeps its type."""
        with worded(self.path):
            attrs = self._file[self.name].attrs
            for key, value in changes.items():
                attrs.create(key, value, dtype=attrs.get_id(key).dtype if key in attrs else None)

    def close(self) -> None:
        """Write what was gathered, close the file and flush it to disk."""
        file, self._file = self._file, None
        if file is None:
            return
        with worded(self.path):
            try:
                if self._whole is not None:
                    file[self.name][...] = self._whole
            finally:
                self._whole = None
                file.close()
        handle = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _open(path: Path, mode: str) -> Any:
    """Open a file without locking it, as network disks need, unless this process has it open with a lock."""
    h5py = library()
    if mode == "r":
        hdf5_probe.check(path)
    try:
        return h5py.File(path, mode, rdcc_nbytes=CHUNK_CACHE, locking=False)
    except OSError as error:
        if "locking flag" not in str(error):
            raise
        return h5py.File(path, mode, rdcc_nbytes=CHUNK_CACHE)


@lru_cache(maxsize=64)
def _names(path: str, time: int, size: int) -> Names:
    """Walk the hard links of a file; each object is entered once."""
    h5py = library()
    found: dict[str, tuple[tuple[int, ...], str]] = {}
    with opened(Path(path)) as file:
        waiting: list[tuple[str, Any, int]] = [("", file, 0)]
        seen: set[int] = set()
        while waiting and len(seen) < MOST_ITEMS:
            base, group, depth = waiting.pop()
            for key in itertools.islice(group, MOST_ITEMS):  # the names of a damaged group may go round in circles
                if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                    continue  # a soft or external link may lead anywhere
                item, name = group[key], f"{base}{key}"
                address = h5py.h5o.get_info(item.id).addr
                if address in seen or len(seen) >= MOST_ITEMS:
                    continue
                seen.add(address)
                if isinstance(item, h5py.Dataset) and item.shape is not None:
                    found[name] = tuple(int(n) for n in item.shape), type_name(item.dtype)
                elif isinstance(item, h5py.Group) and depth < DEEPEST:
                    waiting.append((f"{name}/", item, depth + 1))
    return found


def _item(path: Path, file: Any, name: str) -> Any:
    """Return a group or data set reached over hard links only."""
    item, done = file, ""
    for part in name.strip("/").split("/"):
        done = f"{done}/{part}"
        if not isinstance(item.get(part, getlink=True), library().HardLink):
            raise FormatError(path, done, "is not in the file")
        item = item[part]
    return item
