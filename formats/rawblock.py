# SPDX-License-Identifier: Apache-2.0
"""Regions of an uncompressed cube in a file, read and written by position.

No memory map: mapped pages count as the process's own memory and turn a file that shrinks
meanwhile into a crash. ``pread`` and ``pwrite`` need no lock and keep memory at one run.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from pellucid.core.types import Array, Region

GAP = 1 << 16  # bytes skipped in a row that are cheaper to read than to seek over: 64 KB, one read-ahead
BOUNCE = 1 << 22  # bytes of scratch for a cropped read: 4 MB


@dataclass(frozen=True)
class Layout:
    """Where the samples of a cube lie in a file.

    Parameters
    ----------
    shape : tuple of 3 int
        Sizes in file order, slowest first.
    perm : tuple of 3 int
        For each axis in file order, its index in (line, sample, band).
    dtype : str
        NumPy type with byte order, e.g. ``">u2"``.
    offset : int
        Bytes before the first frame.
    major, minor : (int, int)
        Extra bytes before and after each frame of the slowest and the middle axis.
    """

    shape: tuple[int, int, int]
    perm: tuple[int, int, int]
    dtype: str
    offset: int = 0
    major: tuple[int, int] = (0, 0)
    minor: tuple[int, int] = (0, 0)

    @property
    def itemsize(self) -> int:
        """Bytes of one sample."""
        import numpy as np

        return np.dtype(self.dtype).itemsize

    @property
    def rows(self) -> tuple[int, int]:
        """Bytes from one middle frame to the next, and from one slow frame to the next."""
        minor = self.shape[2] * self.itemsize + sum(self.minor)
        return minor, self.shape[1] * minor + sum(self.major)

    @property
    def size(self) -> int:
        """Bytes from the file's start to the end of the last frame."""
        return self.offset + self.shape[0] * self.rows[1]

    def order(self, region: Region) -> tuple[slice, slice, slice]:
        """Return a (line, sample, band) region in file order."""
        a, b, c = (region[i] for i in self.perm)
        return a, b, c

    def runs(self, region: tuple[slice, slice, slice]) -> Iterator[tuple[int, int, slice]]:
        """Yield (byte position, slow index, middle slice) of stretches read at once; full rows of the fast axis."""
        slow, middle, _ = region
        minor, major = self.rows
        step = max(1, BOUNCE // minor) if sum(self.minor) == 0 else 1
        for i in range(slow.start, slow.stop):
            base = self.offset + i * major + self.major[0] + self.minor[0]
            for j in range(middle.start, middle.stop, step):
                yield base + j * minor, i, slice(j, min(j + step, middle.stop))


def read(fd: int, layout: Layout, region: Region) -> Array:
    """Return a region in native byte order, axes (line, sample, band): a view of the file's order.

    Raises
    ------
    EOFError
        Where the file ends before the region does.
    """
    import numpy as np

    slow, middle, fast = order = layout.order(region)
    item = layout.itemsize
    out = np.empty(tuple(max(0, s.stop - s.start) for s in order), layout.dtype)
    row = layout.shape[2] * item
    whole = fast.start == 0 and fast.stop == layout.shape[2]
    crop = (row - (fast.stop - fast.start) * item) <= GAP
    if out.size:
        for at, i, js in layout.runs(order):
            target = out[i - slow.start, js.start - middle.start : js.stop - middle.start]
            if whole:
                _fill(fd, target, at)
            elif crop:
                bounce = np.empty((js.stop - js.start, layout.shape[2]), layout.dtype)
                _fill(fd, bounce, at)
                target[...] = bounce[:, fast]
            else:
                for k in range(len(target)):
                    _fill(fd, target[k], at + k * layout.rows[0] + fast.start * item)
    if not out.dtype.isnative:
        out = out.byteswap(inplace=True).view(out.dtype.newbyteorder("="))
    return np.transpose(out, np.argsort(layout.perm))


def write(fd: int, layout: Layout, region: Region, values: Array) -> None:
    """Store a (line, sample, band) region; bytes between frames stay as they are."""
    import numpy as np

    slow, middle, fast = order = layout.order(region)
    source = np.transpose(values, layout.perm)
    item = layout.itemsize
    whole = fast.start == 0 and fast.stop == layout.shape[2]
    for at, i, js in layout.runs(order):
        part = source[i - slow.start, js.start - middle.start : js.stop - middle.start]
        part = np.ascontiguousarray(part, dtype=layout.dtype)
        if whole:
            _drain(fd, part, at)
        else:
            for k in range(len(part)):
                _drain(fd, part[k], at + k * layout.rows[0] + fast.start * item)


def copy(source: int, target: int, start: int, stop: int, to: int) -> None:
    """Copy bytes ``start:stop`` of one file to position ``to`` of another, 4 MB at a time."""
    while start < stop:
        data = os.pread(source, min(BOUNCE, stop - start), start)
        if not data:
            return
        _drain(target, data, to)
        start, to = start + len(data), to + len(data)


def append(fd: int, data: bytes | bytearray, at: int) -> None:
    """Write plain bytes at a position."""
    _drain(fd, data, at)


def _fill(fd: int, target: np.ndarray[Any, Any], at: int) -> None:
    """Read exactly the bytes of a contiguous array."""
    view = target.data.cast("B")
    while view.nbytes:
        got = os.preadv(fd, [view], at)
        if got == 0:
            raise EOFError(at)
        view, at = view[got:], at + got


def _drain(fd: int, data: Any, at: int) -> None:
    """Write all bytes of a contiguous array."""
    view = memoryview(data).cast("B")
    while view.nbytes:
        put = os.pwrite(fd, view, at)
        view, at = view[put:], at + put
