# SPDX-License-Identifier: Apache-2.0
"""Bytes at absolute offsets, wherever they lie: a file on disk, a temporary spool, or memory.

Positioned reads and writes carry no shared file position, so threads need no lock; nothing is
memory-mapped, so a file larger than memory never counts as ours.
"""

from __future__ import annotations

import gzip
import os
import tempfile
import weakref
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

RAM_LIMIT = 256 << 20  # bytes; larger spools go to the scratch folder
CHUNK = 4 << 20  # bytes per step of copying and compressing
READ = 256 << 10  # compressed bytes read at once
GZIP_BITS = 31  # zlib: largest window, gzip wrapper with its checksum
DEFLATE_MOST = 1032  # the largest expansion deflate can reach (zlib technical notes)


class Store(Protocol):
    """Bytes that are read and written by offset."""

    def read(self, offset: int, count: int) -> bytes | memoryview:
        """Return up to ``count`` bytes; fewer only at the end."""
        ...

    def write(self, offset: int, data: memoryview) -> None:
        """Put ``data`` at ``offset``."""
        ...

    def close(self) -> None:
        """Release what is held."""
        ...


class Disk:
    """An open file; ``fd`` is closed with the object."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._release = weakref.finalize(self, os.close, fd)

    def read(self, offset: int, count: int) -> bytes:
        """Return up to ``count`` bytes from ``offset``."""
        data = os.pread(self.fd, count, offset)
        while data and len(data) < count:  # the kernel hands out at most 2 GiB a call
            more = os.pread(self.fd, count - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data

    def write(self, offset: int, data: memoryview) -> None:
        """Put all of ``data`` at ``offset``."""
        while data:
            done = os.pwrite(self.fd, data, offset)
            offset, data = offset + done, data[done:]

    def close(self) -> None:
        """Close the file; calling twice does no harm."""
        self._release()


class Memory:
    """Bytes in memory."""

    def __init__(self, size: int) -> None:
        self._data = bytearray(size)

    def read(self, offset: int, count: int) -> memoryview:
        """Return a read-only view of up to ``count`` bytes."""
        return memoryview(self._data).toreadonly()[offset : offset + count]

    def write(self, offset: int, data: memoryview) -> None:
        """Copy ``data`` to ``offset``."""
        self._data[offset : offset + len(data)] = data

    def close(self) -> None:
        """Forget the bytes."""
        self._data = bytearray()


def spool(size: int) -> Store:
    """Return a temporary store of ``size`` zero bytes: memory up to ``RAM_LIMIT``, else an unlinked file.

    Large spools lie in ``$PELLUCID_SCRATCH`` or the system's temporary folder.
    """
    if size <= RAM_LIMIT:
        return Memory(size)
    fd, name = tempfile.mkstemp(prefix="pellucid-", suffix=".spool", dir=os.environ.get("PELLUCID_SCRATCH") or None)
    os.unlink(name)  # nothing is left behind, whatever kills us
    os.ftruncate(fd, size)
    return Disk(fd)


def inflate(path: Path, most: int) -> Iterator[bytes]:
    """Yield the decompressed bytes of a gzip file in chunks, ``most`` bytes in all.

    A file that ends early yields what is there. Where the stream ends at ``most``, its checksum is verified.

    Raises
    ------
    zlib.error
        The stream is damaged.
    """
    left = most
    with path.open("rb") as file:
        stream, waiting = zlib.decompressobj(wbits=GZIP_BITS), b""
        while left > 0:
            waiting = waiting or file.read(READ)
            if stream.eof:  # another member follows (bgzip, concatenated files), or zero padding
                waiting = waiting.lstrip(b"\0")
                if not waiting:
                    return
                stream = zlib.decompressobj(wbits=GZIP_BITS)
            elif not waiting:
                return
            data = stream.decompress(waiting, min(CHUNK, left))
            waiting = stream.unused_data if stream.eof else stream.unconsumed_tail
            left -= len(data)
            yield data
        while not stream.eof:  # past the last sample: the checksum
            waiting = waiting or file.read(READ)
            if not waiting:
                raise zlib.error("the checksum at its end is missing")
            if stream.decompress(waiting, 1):
                return  # more samples than the header promised
            waiting = stream.unconsumed_tail


def deflate(store: Store, size: int, target: BinaryIO) -> None:
    """Compress ``size`` bytes of a store into ``target``: level 6, no name, no time, so the same bytes each time."""
    with gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=target, mtime=0) as stream:
        for offset in range(0, size, CHUNK):
            stream.write(store.read(offset, min(CHUNK, size - offset)))
