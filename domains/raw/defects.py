# SPDX-License-Identifier: Apache-2.0
"""Photosites that stand alone: hot, dead, struck by a particle."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pellucid.core.lazy import np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pellucid.core.types import Array

ALONE = 6.0  # sigma from the median of the eight neighbours of its position
TIMES = 3.0  # and this many times as far as the second farthest of them: edges and stars are not alone
SCREEN = 4.0  # sigma: a cheap first look
MOST_ALIKE = 2  # neighbours that may be as odd
COMPANY = (3.0, 0.1, 2)  # sigma and share of the deviation by which so many adjacent sites, of other colours, go along


def isolated(unit: Array, period: int) -> Array:
    """Return where a window of unit noise holds samples unlike all but one of their eight neighbours.

    Neighbours are those of the same position of the pattern: ``period`` samples away.
    """
    found = np.zeros(unit.shape, np.bool_)
    if min(unit.shape) <= 2 * period:
        return found
    inner = (slice(period, -period),) * 2
    centre = unit[inner]
    far = np.zeros(centre.shape, np.int8)
    room = np.empty(centre.shape, unit.dtype)
    for place in _around(unit.shape, period):
        np.subtract(centre, unit[place], out=room)
        np.abs(room, out=room)
        far += room > SCREEN
    y, x = np.nonzero(far >= 8 - MOST_ALIKE)
    if len(y) == 0:
        return found
    y, x = y + period, x + period
    near = _gathered(unit, y, x, period)
    middle = np.median(near, axis=0)
    apart = np.abs(unit[y, x] - middle)
    second = np.sort(np.abs(near - middle), axis=0)[-2]
    hit = (apart > ALONE) & (apart > TIMES * second)
    y, x, signed = y[hit], x[hit], (unit[y, x] - middle)[hit]
    lone = _company(unit, y, x, signed, period) < COMPANY[2]
    found[y[lone], x[lone]] = True
    return found


def _company(unit: Array, y: Array, x: Array, signed: Array, period: int) -> Array:
    """Return how many adjacent samples, of other colours, stand out the same way: light is never one sample wide."""
    count = np.zeros(len(y), np.int8)
    for a, b in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        v = np.clip(y + a, period, unit.shape[0] - 1 - period)
        u = np.clip(x + b, period, unit.shape[1] - 1 - period)
        apart = (unit[v, u] - np.median(_gathered(unit, v, u, period), axis=0)) * np.sign(signed)
        count += apart > np.maximum(COMPANY[0], COMPANY[1] * np.abs(signed))
    return count


def replaced(unit: Array, bad: Array, period: int) -> Array:
    """Return a copy whose ``bad`` samples are the median of their neighbours; the same array where none is."""
    y, x = np.nonzero(bad)
    if len(y) == 0:
        return unit
    out = unit.copy()
    out[y, x] = np.median(_gathered(unit, y, x, period), axis=0)
    return out


def _gathered(unit: Array, y: Array, x: Array, period: int) -> Array:
    return np.stack([unit[y + a, x + b] for a, b in _steps(period)])


def _steps(period: int) -> list[tuple[int, int]]:
    return [(a, b) for a in (-period, 0, period) for b in (-period, 0, period) if a or b]


def _around(shape: tuple[int, ...], period: int) -> Iterator[tuple[slice, slice]]:
    rows, cols = shape
    for a, b in _steps(period):
        yield (
            slice(period + a, rows - period + a),
            slice(period + b, cols - period + b),
        )
