# SPDX-License-Identifier: Apache-2.0
"""MATLAB 7.3 files through h5py: numeric data sets of the root group, no links out of the file."""

from __future__ import annotations

import contextlib
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pellucid.core.errors import FormatError

if TYPE_CHECKING:
    from pellucid.core.types import Array, Region

NUMERIC = {"double", "single", *(f"{u}int{n}" for u in ("", "u") for n in (8, 16, 32, 64))}
CHUNK_CACHE = 64 << 20
GATHER = 256 << 20  # a compressed cube up to this size is written in one go
MAX_VARIABLES = 4096
RATIO = 1100  # deflate's largest expansion, with margin; contiguous data have 1


class Mapping3(Protocol):
    """How a variable's axes in file order relate to (line, sample, band)."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Sizes in file order."""

    @property
    def perm(self) -> tuple[int, int, int]:
        """Meaning of each axis in file order."""


@contextlib.contextmanager
def opened(path: Path, mode: str = "r") -> Iterator[Any]:
    """Open a file; h5py's errors become one `FormatError`."""
    try:
        with _h5py().File(path, mode, rdcc_nbytes=CHUNK_CACHE, locking=False) as file:
            yield file
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, MemoryError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(
            path, "HDF5", " ".join(str(error).split())[:200], "the file is damaged: copy it again"
        ) from None


def listing(path: Path) -> list[tuple[str, tuple[int, ...], str]]:
    """Return (name, sizes as MATLAB says them, type) of the real numeric arrays in the root group."""
    h5py = _h5py()
    out: list[tuple[str, tuple[int, ...], str]] = []
    with opened(path) as file:
        for i, name in enumerate(file):
            if i >= MAX_VARIABLES:
                break
            if not isinstance(file.get(name, getlink=True), h5py.HardLink):
                continue  # a soft or external link may lead anywhere
            item = file[name]
            if not isinstance(item, h5py.Dataset) or item.is_virtual or item.external or item.shape is None:
                continue
            kind = item.attrs.get("MATLAB_class", b"double")
            kind = kind.decode("latin-1") if isinstance(kind, bytes) else str(kind)
            if item.dtype.kind not in "iuf" or kind not in NUMERIC or "MATLAB_empty" in item.attrs:
                continue
            _check(path, item)
            out.append((name, tuple(reversed(item.shape)), item.dtype.newbyteorder("=").str[1:]))
    return out


def vector(path: Path, name: str, most: int = 100_000) -> list[float]:
    """Return a short data set's values."""
    with opened(path) as file:
        item = file[name]
        return [float(v) for v in item[()].ravel()] if item.size <= most else []


def read(path: Path, name: str, perm: tuple[int, int, int], region: Region) -> Array:
    """Return a (line, sample, band) region of a three-axis data set."""
    import numpy as np

    with opened(path) as file:
        values = file[name][tuple(region[i] for i in perm)]
    return np.transpose(values.astype(values.dtype.newbyteorder("="), copy=False), np.argsort(perm))


def whole(path: Path, name: str) -> Array:
    """Return all samples of a data set, native byte order."""
    with opened(path) as file:
        values = file[name][()]
    out: Array = values.astype(values.dtype.newbyteorder("="), copy=False)
    return out


class Sink:
    """A copy of a 7.3 file whose one data set is filled anew, same chunks, compression and attributes."""

    def __init__(self, path: Path, source: Path, variable: Any, cube: Mapping3, dtype: Any) -> None:
        import numpy as np

        self.path, self.name, self.cube = path, variable.name, cube
        shutil.copyfile(source, path)
        with opened(path, "r+") as file:
            old = file[self.name]
            self.shape = old.shape
            if old.dtype.newbyteorder("=") != dtype:
                _retype(file, self.name, dtype)
            packed = bool(file[self.name].chunks)
        flat = self.shape != cube.shape
        size = math.prod(cube.shape) * dtype.itemsize
        self.whole = np.zeros(cube.shape, dtype) if flat or (packed and size <= GATHER) else None

    def write(self, place: tuple[slice, ...], values: Array) -> None:
        """Store a region given in file order."""
        if self.whole is not None:
            self.whole[place] = values
            return
        with opened(self.path, "r+") as file:
            file[self.name][place] = values

    def close(self) -> None:
        """Write what was gathered."""
        whole, self.whole = self.whole, None
        if whole is not None:
            with opened(self.path, "r+") as file:
                file[self.name][...] = whole.reshape(self.shape)


def _h5py() -> Any:
    """Import h5py when it is needed; its classes carry no types."""
    import h5py

    module: Any = h5py
    return module


def _retype(file: Any, name: str, dtype: Any) -> None:
    """Replace a data set by an empty one of another type; layout and attributes stay."""
    old = file[name]
    attributes = dict(old.attrs)
    layout = {"chunks": old.chunks, "compression": old.compression, "compression_opts": old.compression_opts}
    layout.update(shuffle=old.shuffle or None, fletcher32=old.fletcher32 or None)
    shape = old.shape
    del file[name]
    new = file.create_dataset(name, shape, dtype, **{k: v for k, v in layout.items() if v is not None})
    for key, value in attributes.items():
        new.attrs[key] = value
    kind = {"float64": "double", "float32": "single"}.get(dtype.name, dtype.name)
    if "MATLAB_class" in attributes:
        import numpy as np

        new.attrs["MATLAB_class"] = np.bytes_(kind)


def _check(path: Path, item: Any) -> None:
    """Refuse a data set whose stored bytes cannot hold it; absent chunks count as the fill value."""
    stored, need = item.id.get_storage_size(), item.size * item.dtype.itemsize
    if stored > path.stat().st_size:
        raise FormatError(path, item.name, f"{stored} bytes are named, the file is shorter", "copy it again")
    if item.chunks is None and stored not in (0, need):
        raise FormatError(path, item.name, f"{stored} of {need} bytes are there", "copy the file again")
    if item.chunks is not None:
        if math.prod(item.chunks) * item.dtype.itemsize > 1 << 30:
            raise FormatError(path, item.name, "chunks larger than 1 GB", "store it again with smaller chunks")
        if need > (1 << 30) and stored * RATIO < need:
            raise FormatError(path, item.name, f"{need} bytes cannot come from {stored}", "the file is damaged")
