# SPDX-License-Identifier: Apache-2.0
"""Sparse defects: stripes, dead lines, impulses. Each is a share of places and what happens there.

Moments are those of one sample over the random choice of places.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pellucid.core.lazy import np

if TYPE_CHECKING:
    from pellucid.core.types import Array


def stripes(signal: Any, share: float, amplitude: float, rng: np.random.Generator, axis: int = 1) -> Array:
    """Add one offset, uniform in +-amplitude, to a share of the lines across ``axis``.

    Mean 0, variance share * amplitude^2 / 3.
    """
    signal = np.asarray(signal, np.float64)
    count = signal.shape[axis]
    hit = rng.random(count) < share
    offsets = np.where(hit, rng.uniform(-amplitude, amplitude, count), 0.0)
    return signal + offsets.reshape([-1 if i == axis else 1 for i in range(signal.ndim)])


def stripe_variance(share: float, amplitude: float) -> float:
    """Return the variance stripes add to a sample."""
    return share * amplitude**2 / 3


def dead_lines(signal: Any, share: float, level: float, rng: np.random.Generator, axis: int = 1) -> tuple[Array, Array]:
    """Set a share of the lines across ``axis`` to a level; return values and the boolean line mask."""
    out = np.array(signal, np.float64)
    hit = np.asarray(rng.random(out.shape[axis]) < share)
    np.moveaxis(out, axis, 0)[hit] = level
    return out, hit


def impulses(signal: Any, share: float, low: float, high: float, rng: np.random.Generator) -> tuple[Array, Array]:
    """Replace a share of samples by ``low`` or ``high``, evenly; return values and the boolean mask.

    Mean (1 - share) signal + share (low + high) / 2.
    """
    signal = np.asarray(signal, np.float64)
    draw = rng.random(signal.shape)
    hit = draw < share
    return np.where(hit, np.where(draw < share / 2, low, high), signal), hit


def impulse_mean(signal: Any, share: float, low: float, high: float) -> Array:
    """Return the expected value of a sample under impulses."""
    return (1 - share) * np.asarray(signal, np.float64) + share * (low + high) / 2


def impulse_variance(signal: Any, share: float, low: float, high: float) -> Array:
    """Return the variance of a sample under impulses."""
    signal = np.asarray(signal, np.float64)
    second = (1 - share) * signal**2 + share * (low**2 + high**2) / 2
    return second - impulse_mean(signal, share, low, high) ** 2
