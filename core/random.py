# SPDX-License-Identifier: Apache-2.0
"""Random fields by coordinate: the sample at a place does not depend on tiles, threads or order.

Space is divided into fixed cells of absolute coordinates; each cell has its own Philox stream
(Salmon et al., SC 2011, 10.1145/2063384.2063405), keyed by seed and stream and counted by cell and step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pellucid.core.lazy import np

if TYPE_CHECKING:
    from pellucid.core.types import Array, Region

CELL = {1: 4096, 2: 64, 3: 32, 4: 16}  # extent of a cell per number of axes: 4,096 to 65,536 samples


def generator(seed: int, stream: int = 0, step: int = 0, cell: int = 0) -> np.random.Generator:
    """Return the generator of one cell and step."""
    bits = np.random.Philox(key=[seed & (2**64 - 1), stream], counter=[0, cell, step, 0])
    return np.random.Generator(bits)


def normal_field(seed: int, region: Region, *, step: int = 0, stream: int = 0) -> Array:
    """Return standard normal float32 samples of an absolute region (1 to 4 axes)."""
    extent = CELL[len(region)]
    out = np.empty([s.stop - s.start for s in region], np.float32)
    firsts = [s.start // extent for s in region]
    counts = [-(-s.stop // extent) - first for s, first in zip(region, firsts, strict=True)]
    for offset in np.ndindex(*counts):
        cell = [first + o for first, o in zip(firsts, offset, strict=True)]
        values = generator(seed, stream, step, _index(cell)).standard_normal((extent,) * len(region), np.float32)
        source, target = [], []
        for place, span in zip(cell, region, strict=True):
            low, high = max(place * extent, span.start), min((place + 1) * extent, span.stop)
            source.append(slice(low - place * extent, high - place * extent))
            target.append(slice(low - span.start, high - span.start))
        out[tuple(target)] = values[tuple(source)]
    return out


def _index(cell: list[int]) -> int:
    """Return a number for a cell's coordinates that does not depend on the file's size (16 bits an axis)."""
    number = 0
    for place in cell:
        number = (number << 16) | (place & 0xFFFF)
    return number
