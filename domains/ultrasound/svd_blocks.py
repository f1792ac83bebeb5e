# SPDX-License-Identifier: Apache-2.0
"""The clutter filter of `svd` in blocks that overlap by half, for tissue that moves differently from place to place.

Song 2017, DOI 10.1109/TMI.2016.2605819. Blocks lie on the file's own grid and every pixel is shared by up to four with
weights that sum to 1; the Gram matrices of all blocks are summed first, so that tiles give what the whole gives.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pellucid.core.lazy import np
from pellucid.core.types import Region, Tile

if TYPE_CHECKING:
    from pellucid.core.types import Array

Place = tuple[int, int]
Grams = dict[Place, list["Array"]]
SMALLEST = 8  # samples and lines on a side: fewer pixels than pulses make every component tissue


def gather(tile: Tile, carry: Grams | None, runs: list[slice], side: int) -> Grams:
    """Add a tile to the Gram matrices of the blocks it touches, one for each ensemble."""
    carry = {} if carry is None else carry
    kind = np.complex128 if np.iscomplexobj(tile.values) else np.float64
    for place, cut, _ in blocks(tile.window, tile.shape, side):
        part = tile.values[cut].reshape(-1, tile.values.shape[-1])
        if tile.mask is not None:
            part = part[tile.mask[cut].ravel()]
        part = part.astype(kind)
        found = carry.setdefault(place, [np.zeros((r.stop - r.start,) * 2, kind) for r in runs])
        for run_of, gram in zip(runs, found, strict=True):
            gram += part[:, run_of].T @ part[:, run_of].conj()
    return carry


def tissue(tile: Tile, bases: dict[Place, tuple[Array, ...]], runs: list[slice], side: int) -> Array:
    """Return what the blocks' components leave of a tile."""
    out = np.zeros_like(tile.values)
    for place, cut, weight in blocks(tile.window, tile.shape, side):
        part = tile.values[cut]
        for run_of, basis in zip(runs, bases.get(place, ()), strict=False):
            if basis.shape[1]:
                kept = (part[..., run_of] @ basis.conj().astype(part.dtype)) @ basis.T.astype(part.dtype)
                out[(*cut, run_of)] += kept * weight[..., None]
    return out


def blocks(window: Region, shape: tuple[int, ...], side: int) -> Iterator[tuple[Place, tuple[slice, slice], Array]]:
    """Yield number, place in the window and weights of every block that touches a window."""
    along = [list(_along(w, n, side // 2)) for w, n in zip(window, shape, strict=True)]
    for i, rows, down in along[0]:
        for j, columns, across in along[1]:
            yield (i, j), (rows, columns), np.outer(down, across).astype(np.float32)


def _along(window: slice, size: int, half: int) -> Iterator[tuple[int, slice, Array]]:
    """Yield the blocks of one axis: nodes ``half`` apart, weights that fall from 1 at a node to 0 at its neighbours."""
    last = max(round((size - 1) / half), 0)
    for k in range(last + 1):
        start = max((k - 1) * half, 0) if k else 0
        stop = min((k + 1) * half, size) if k < last else size
        a, b = max(start, window.start), min(stop, window.stop)
        if a >= b:
            continue
        away = (np.arange(a, b) + 0.5) / half - k
        if k == 0:
            away = np.maximum(away, 0)
        if k == last:
            away = np.minimum(away, 0)
        yield k, slice(a - window.start, b - window.start), np.cos(np.pi / 2 * np.clip(away, -1, 1)) ** 2
