# SPDX-License-Identifier: Apache-2.0
"""Non-local means of any mosaic: samples are averaged with those that see the same colours around them.

Only shifts that carry the pattern onto itself are compared, so that each difference is one of equal colours
(Buades 2005, 10.1109/CVPR.2005.38). A second round compares what the first one gave, which is less noisy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pellucid.core.lazy import ndimage, np
from pellucid.core.types import Tile

if TYPE_CHECKING:
    from pellucid.core.types import Array

SEARCH = 18  # samples
PATCH = (5, 3)  # samples, side of what is compared in either round
BETA = (0.5, 0.15)  # width of the weights, noise variances; tuned on kodim23
REACH = 2 * (SEARCH + PATCH[0] // 2)
FAR = 1e3  # noise variances: exp(-FAR) is 0


def shifts(cfa: Array, search: int = SEARCH) -> list[tuple[int, int]]:
    """Return shifts up to ``search`` that carry the pattern onto itself, one of each pair, without none."""
    own = [
        (a, b) for a in range(len(cfa)) for b in range(len(cfa)) if np.array_equal(np.roll(cfa, (-a, -b), (0, 1)), cfa)
    ]
    p = len(cfa)
    around = [(a, b) for a in range(-search, search + 1) for b in range(-search, search + 1)]
    return [(a, b) for a, b in around if (a % p, b % p) in own and (a, b) > (0, 0)]


def average(tile: Tile, cfa: Array, strength: float = 1.0) -> Array:
    """Return a window of unit noise denoised; invalid samples neither give nor count."""
    guide = tile.values
    keep = np.ones(guide.shape, np.bool_) if tile.mask is None else tile.mask
    for side, beta in zip(PATCH, BETA, strict=True):
        noisy = guide is tile.values
        guide = _round(tile.values, guide, keep, (shifts(cfa), side, beta * strength**2, noisy))
    return guide


def _round(values: Array, guide: Array, keep: Array, setting: tuple[list[tuple[int, int]], int, float, bool]) -> Array:
    """Return weighted means of ``values``; weights from patches of ``guide``."""
    offsets, side, beta, noisy = setting
    total, weight = values.astype(np.float64), np.ones(values.shape)
    for dy, dx in offsets:
        here, there = _pair(values.shape, dy, dx)
        if min(values[here].shape) < 1:
            continue
        apart = np.square(guide[here] - guide[there])
        apart = ndimage.uniform_filter(apart, side, mode="reflect")
        if noisy:  # patches of pure noise differ by two variances
            apart = np.maximum(apart - 2, 0)
        w = np.exp(-np.minimum(apart / (2 * beta), FAR))
        w *= keep[here] & keep[there]
        weight[here] += w
        weight[there] += w
        total[here] += w * values[there]
        total[there] += w * values[here]
    return np.asarray(total / weight, np.float32)


def _pair(shape: tuple[int, ...], dy: int, dx: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    rows, cols = shape
    up, left = max(0, -dy), max(0, -dx)
    down, right = rows - max(0, dy), cols - max(0, dx)
    here = (slice(up, max(down, up)), slice(left, max(right, left)))
    return here, (slice(here[0].start + dy, here[0].stop + dy), slice(here[1].start + dx, here[1].stop + dx))
