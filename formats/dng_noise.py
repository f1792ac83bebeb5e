# SPDX-License-Identifier: Apache-2.0
"""What is left of the noise, as DNG's NoiseProfile says it: a profile of the noisy file makes programs smooth again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pellucid.core.lazy import np

if TYPE_CHECKING:
    from pellucid.core.types import Array

BLOCK = 8  # samples of one colour on a side
FLAT = 0.25  # share of the blocks that is taken for flat: where least of the variance is left
LEAST = 1e-4


def remaining(before: Array, after: Array, period: int) -> float:
    """Return the share of the noise variance that is left, measured on flat blocks of one colour.

    Parameters
    ----------
    before, after : array (y, x) or (y, x, channel)
        The visible area.
    period : int
        Side of the colour pattern, 1 for linear raw.

    Returns
    -------
    float
        Between ``LEAST`` and 1; 1 where nothing can be measured.
    """
    ratios = []
    for y in range(period):
        for x in range(period):
            old, new = _variance(before[y::period, x::period]), _variance(after[y::period, x::period])
            ratios.append(new[old > 0] / old[old > 0])
    found = np.concatenate(ratios)
    return float(np.clip(np.quantile(found, FLAT), LEAST, 1.0)) if found.size else 1.0


def _variance(plane: Array) -> Array:
    """Return the variance of each whole block of a plane."""
    rows, columns = (n // BLOCK for n in plane.shape[:2])
    cut = plane[: rows * BLOCK, : columns * BLOCK].astype(np.float32)
    blocks = cut.reshape(rows, BLOCK, columns, BLOCK, -1)
    return np.asarray(blocks.var((1, 3)).reshape(-1))
