# SPDX-License-Identifier: Apache-2.0
"""The writer of volumes behind a text header: plain or compressed, header and samples in one file or two."""

from __future__ import annotations

import bz2
import math
import os
import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from pellucid.core.errors import FormatError
from pellucid.core.lazy import np
from pellucid.core.types import Region
from pellucid.formats.spool import CHUNK, Disk, Store, spool
from pellucid.formats.volume import Block, runs

if TYPE_CHECKING:
    from pellucid.core.types import Array

LEVEL = 6  # of deflate: the usual compromise
WRAPPERS = {"gzip": 31, "zlib": 15}  # zlib: largest window, with which header and checksum


@dataclass(frozen=True)
class Target:
    """What surrounds the samples of a file in the making.

    Parameters
    ----------
    header : callable
        (compressed bytes) -> header; of one length, whatever the number.
    beside : Path, optional
        The header's own file; None puts it before the samples.
    tail : bytes
        What follows the samples.
    wrapped : bool
        Header and tail are compressed along with the samples.
    """

    header: Callable[[int], bytes]
    beside: Path | None = None
    tail: bytes = b""
    wrapped: bool = False


class VolumeWriter:
    """A volume in the making; regions in any order, from any thread. ``close`` finishes it."""

    def __init__(self, block: Block, target: Target) -> None:
        self.block, self.target = block, target
        self._lead = b"" if target.beside else target.header(0)
        if block.codec == "raw" and not target.wrapped:
            self._start = len(self._lead)
            self._store: Store = _create(block.path, self._start + block.nbytes + len(target.tail))
            self._store.write(0, memoryview(self._lead))
            self._store.write(self._start + block.nbytes, memoryview(target.tail))
        else:
            self._start, self._store = 0, spool(block.nbytes)
        self._closed = False
        self._lock = threading.Lock()

    def write(self, region: Region, values: Array) -> None:
        """Store samples of ``region``, already in the output's type."""
        block = self.block
        values = np.asarray(values).reshape([s.stop - s.start for s in region])
        slab = block.slab
        if not values.flags.c_contiguous or values.ndim < 4:
            return self._put(region, values)
        for k in range(values.shape[slab]):  # turned slice by slice: within the cache
            at = region[slab].start + k
            here = (*region[:slab], slice(at, at + 1), *region[slab + 1 :])
            self._put(here, values[(*(slice(None),) * slab, slice(k, k + 1))])

    def _put(self, region: Region, values: Array) -> None:
        block = self.block
        dtype, shape, order = np.dtype(block.dtype), block.sizes[::-1], block.region(region)
        ordered = np.ascontiguousarray(block.stored(values), dtype)
        for at, stretch, place in runs(shape, order, dtype.itemsize, whole_rows=True):
            offset, part = self._start + at * dtype.itemsize, ordered[place]
            with self._lock:  # rows are completed from what is there: nobody may write in between
                if len(place) < len(shape) and part.shape[-1] != shape[-1]:
                    there = np.frombuffer(self._store.read(offset, math.prod(stretch) * dtype.itemsize), dtype)
                    row = there.reshape(stretch).copy()
                    row[..., order[-1]] = part
                    part = row
                self._store.write(offset, memoryview(part.tobytes()))

    def close(self) -> None:
        """Compress where asked, write the header, flush to disk."""
        if self._closed:
            return
        self._closed = True
        block, target, packed = self.block, self.target, self.block.nbytes
        if isinstance(self._store, Disk) and block.codec == "raw" and not target.wrapped:
            os.fsync(self._store.fd)
        else:
            with block.path.open("wb") as file:
                packed = self._pack(file)
                if not target.beside and not target.wrapped:
                    file.seek(0)
                    file.write(target.header(packed))
                file.flush()
                os.fsync(file.fileno())
        self._store.close()
        if target.beside:
            with target.beside.open("wb") as file:
                file.write(target.header(packed))
                file.flush()
                os.fsync(file.fileno())

    def _pack(self, file: BinaryIO) -> int:
        """Write header, samples and tail; return the bytes the samples take."""
        around = (self._lead, self.target.tail)
        before, after = (b"", b"") if self.target.wrapped else around
        inside = around if self.target.wrapped else (b"", b"")
        file.write(before)
        start = file.tell()
        press: Any = _Plain() if self.block.codec in ("raw", "ascii") else _press(self.block.codec)
        file.write(press.compress(inside[0]))
        for data in self._text() if self.block.codec == "ascii" else self._bytes():
            file.write(press.compress(data))
        file.write(press.compress(inside[1]) + press.flush())
        packed = file.tell() - start
        file.write(after)
        return packed

    def _bytes(self) -> Iterator[bytes]:
        for offset in range(0, self.block.nbytes, CHUNK):
            yield bytes(self._store.read(offset, min(CHUNK, self.block.nbytes - offset)))

    def _text(self) -> Iterator[bytes]:
        """Yield the samples as text, a row a line, with digits enough to come back the same."""
        dtype = np.dtype(self.block.dtype)
        row = self.block.sizes[0] * dtype.itemsize
        for offset in range(0, self.block.nbytes, row):
            values = np.frombuffer(self._store.read(offset, row), dtype)
            words = [str(v) for v in values.tolist()] if dtype.kind in "iu" else [repr(v.item()) for v in values]
            if dtype == np.float32:
                words = [f"{v:.9g}" for v in values]
            yield (" ".join(words) + "\n").encode()


class _Plain:
    """A compressor that does nothing."""

    def compress(self, data: bytes) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


def _press(codec: str) -> Any:
    if codec == "bzip2":
        return bz2.BZ2Compressor(9)
    return zlib.compressobj(LEVEL, zlib.DEFLATED, WRAPPERS[codec])


def _create(path: Path, size: int) -> Disk:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
    os.ftruncate(fd, size)
    return Disk(fd)


def code_of(path: Path, dtype: str, codes: dict[str, str], where: str) -> str:
    """Return a format's name of a NumPy type.

    Raises
    ------
    FormatError
        The format has no such type.
    """
    name = np.dtype(dtype).newbyteorder("=").name
    if name not in codes:
        raise FormatError(path, where, f"{name} cannot be stored in this format", "choose --out-dtype float32")
    return codes[name]
