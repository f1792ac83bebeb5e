# SPDX-License-Identifier: Apache-2.0
"""Photons and electronics: y = gain * Poisson(signal / gain) + N(0, read^2), and its stabilisation.

The generalised Anscombe transform makes the noise unit and nearly Gaussian; its algebraic inverse is
biased at low counts. The inverse here is the exact unbiased one (Makitalo & Foi, IEEE TIP 22(1) 2013,
doi:10.1109/TIP.2012.2202675): the table of E[f(y) | signal], inverted.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pellucid.core.lazy import np, special

if TYPE_CHECKING:
    from pellucid.core.types import Array

NODES = 32  # Gauss-Hermite nodes of the read noise
TAIL = 10.0  # standard deviations of the Poisson sum that are kept
TABLE_POINTS, TABLE_END = 768, 400.0  # signal in electrons; beyond the end the asymptotic inverse is used
DENSE = 1e-3  # electrons: first point above zero of the geometric table


def mean(signal: Any, gain: float, read: float) -> Array:
    """Return E[y] = signal (input units); ``gain`` is units per electron, ``read`` in input units."""
    return np.asarray(signal, np.float64) + 0.0 * (gain + read)


def variance(signal: Any, gain: float, read: float) -> Array:
    """Return gain * signal + read^2."""
    return gain * np.maximum(np.asarray(signal, np.float64), 0) + read**2


def sample(signal: Any, gain: float, read: float, rng: np.random.Generator) -> Array:
    """Return measurements of a non-negative signal."""
    signal = np.maximum(np.asarray(signal, np.float64), 0)
    return gain * rng.poisson(signal / gain) + read * rng.standard_normal(signal.shape)


def stabilise(values: Any, gain: float, read: float) -> Array:
    """Return f(y) = (2 / gain) sqrt(max(gain y + 3/8 gain^2 + read^2, 0)), of about unit noise.

    Values below black are kept: only the root's argument is clipped.
    """
    inside = gain * np.asarray(values, np.float64) + 0.375 * gain**2 + read**2
    return 2 / gain * np.sqrt(np.maximum(inside, 0))


def unbiased(stabilised: Any, gain: float, read: float) -> Array:
    """Return the signal whose expected stabilised value is ``stabilised``.

    Below the value of a zero signal the answer is 0.
    """
    d = np.asarray(stabilised, np.float64)
    signal, expected = _table(float(read / gain))
    inner = np.interp(d, expected, signal)
    # second-order asymptotics: E f = 2 sqrt(s + 3/8 + r^2) - 1/(4 sqrt(s)) + ..., inverted
    outer = d**2 / 4 - 0.125 - (read / gain) ** 2
    return gain * np.where(d > expected[-1], outer, inner)


@lru_cache(maxsize=64)
def _table(read: float) -> tuple[Array, Array]:
    """Return (signal, E[f]) in electrons, ascending in both."""
    signal = np.concatenate([[0.0], np.geomspace(DENSE, TABLE_END, TABLE_POINTS - 1)])
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
    weights = weights / weights.sum()
    expected = np.empty_like(signal)
    for i, s in enumerate(signal):
        counts = np.arange(max(0, int(s - TAIL * np.sqrt(s) - 2)), int(s + TAIL * np.sqrt(s) + 12))
        chance = np.exp(special.xlogy(counts, s) - s - special.gammaln(counts + 1))
        f = stabilise(counts[:, None] + read * nodes[None, :], 1.0, read)
        expected[i] = float(chance @ (f @ weights)) / float(chance.sum())
    return signal, np.maximum.accumulate(expected)
