# SPDX-License-Identifier: Apache-2.0
"""Tiles: a grid that depends on the file and the method alone, and windows clipped at true borders."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pellucid.core.lazy import np
from pellucid.core.types import Description, Region, Traits

if TYPE_CHECKING:
    from pellucid.core.types import Array

TILE_BYTES = 512 * 1024**2  # working memory of one tile, if the file can be cut that thin
ALONG_TIME = 65_536  # samples of a tile where there is one axis only: hours of sound are millions of thin ones
LARGEST_BLOCK = 512  # lines; files stored in larger blocks are not cut along them


def halo_of(traits: Traits, options: Any, description: Description) -> tuple[int, ...]:
    """Return the halo per spatial axis."""
    halo = traits.halo(options, description) if callable(traits.halo) else traits.halo
    return tuple(halo[: description.spatial]) if isinstance(halo, tuple) else (halo,) * description.spatial


def grid(description: Description, traits: Traits, options: Any) -> tuple[Region, ...]:
    """Return the cores of all tiles, in the order of the slab axis.

    Tiles are slabs: whole along every spatial axis but the cheapest one to cut. Origins are
    multiples of the method's stride. Nothing about memory or threads enters.
    """
    shape = description.shape[: description.spatial]
    if traits.exact == "blockwise" or traits.exact == "global":
        return (tuple(slice(0, n) for n in shape),)
    axis = description.slab
    halo = halo_of(traits, options, description)[axis]
    series = description.shape[-1] if description.series else 1
    per_line = max(1, math.prod(shape) // max(shape[axis], 1) * series * sample_bytes(description, traits))
    least = round(traits.thinnest * halo)  # thinner tiles would be mostly halo
    most = max(int(TILE_BYTES // per_line) - 2 * halo, least, 1)
    wanted = max(traits.thickness, ALONG_TIME) if len(shape) == 1 else traits.thickness
    starts = cuts(shape[axis], min(wanted, most), math.lcm(traits.stride, _block(description, axis)))
    everything = [slice(0, n) for n in shape]
    return tuple(
        tuple(slice(a, b) if i == axis else s for i, s in enumerate(everything))
        for a, b in zip(starts, [*starts[1:], shape[axis]], strict=True)
    )


def sample_bytes(description: Description, traits: Traits) -> float:
    """Return the memory a sample of a window needs: as stored, in and out, as float32, and the method's own."""
    return 2 * np.dtype(description.dtype).itemsize + 8 + traits.bytes_per_sample


def _block(description: Description, axis: int) -> int:
    """Return the extent of the file's own blocks along an axis, so that none is decoded twice."""
    block = description.witnesses.get("block") or ()
    extent = int(block[axis]) if axis < len(block) else 1
    return extent if 1 < extent <= min(LARGEST_BLOCK, description.shape[axis]) else 1


def cuts(length: int, thickness: int, stride: int) -> list[int]:
    """Return ascending origins of nearly equal parts, multiples of ``stride``, about ``thickness`` long."""
    parts = max(1, round(length / max(thickness, 1)))
    step = -(-length // parts)
    step = max(stride, -(-step // stride) * stride)
    return list(range(0, length, step)) or [0]


def window(core: Region, halo: Sequence[int], shape: Sequence[int]) -> Region:
    """Grow a core by its halo, clipped at the file's border."""
    return tuple(slice(max(0, s.start - h), min(n, s.stop + h)) for s, h, n in zip(core, halo, shape, strict=True))


def crop(values: Array, inner: Region, outer: Region) -> Array:
    """Return the part ``inner`` of an array that covers ``outer`` (leading axes)."""
    return values[tuple(slice(i.start - o.start, i.stop - o.start) for i, o in zip(inner, outer, strict=True))]


def full(region: Region, description: Description) -> Region:
    """Add the whole series axis to a spatial region."""
    return (*region, slice(0, description.shape[-1])) if description.series else region
