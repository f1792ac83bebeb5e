# SPDX-License-Identifier: Apache-2.0
"""Noise of photons and electronics made one everywhere, and its inverse without bias, at any level.

The generalised Anscombe transform ``f(z) = 2 / g sqrt(g z + 3/8 g^2 + s^2)`` (Starck, Murtagh & Bijaoui 1998)
goes on as a straight line below black, so that nothing is clipped where read noise is. The inverse is the
tabulated mean of ``f`` at each signal, read backwards: exact for this very transform (the idea of Makitalo & Foi,
10.1109/TIP.2012.2202675, which knows no signals below zero and no floor of stored values).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from pellucid.core.lazy import np, special

if TYPE_CHECKING:
    from pellucid.core.types import Array

NODES = 40  # Gauss-Hermite, of the read noise and of the limit of many photons
POISSON = 60.0  # electrons; beyond, a Gaussian of the same variance: its skew moves the mean by < 3e-4 sigma
BELOW = 6.0  # read noises below black that the table reaches
POINTS = 320  # of the table on either side of POISSON
TINY = 1e-9  # least gain, in units of the read noise: less is plain Gaussian noise


@dataclass(frozen=True)
class Stabiliser:
    """The transform of one gain and read noise.

    Parameters
    ----------
    gain, read : float
        DN per electron; DN. Either may be 0, not both.
    floor : float
        Least value that can be stored, DN above black; values were clipped there.
    """

    gain: float
    read: float
    floor: float = float("-inf")

    @property
    def gaussian(self) -> bool:
        """Whether photons do not count."""
        return self.gain <= TINY * self.read

    def forward(self, values: Array) -> Array:
        """Return values of about unit noise."""
        if self.gaussian:
            return np.asarray(values / np.float32(self.read))
        g, base = self.gain, 0.375 * self.gain**2 + self.read**2
        out = np.maximum(values, 0) * np.asarray(g, values.dtype)
        out += base
        np.sqrt(out, out=out)
        out *= 2 / g
        out += np.minimum(values, 0) * np.asarray(base**-0.5, values.dtype)
        return out

    def backward(self, stabilised: Array) -> Array:
        """Return the signals whose mean transform is ``stabilised``; straight on beyond either end."""
        if self.gaussian:
            return np.asarray(stabilised * np.float32(self.read))
        r = self.read / self.gain
        signal, mean = _table(round(r, 6), max(self.floor / self.gain, -1e6))
        d = np.asarray(stabilised)
        wide = d.astype(np.float64)
        # the table holds what the parabola of many photons lacks: that is smooth, and constant in the end
        found = np.interp(wide, mean, signal - mean**2 / 4)
        found += wide**2 / 4
        low = wide < mean[0]
        if low.any():
            slope = (signal[1] - signal[0]) / max(mean[1] - mean[0], 1e-6)
            found[low] = signal[0] + (wide[low] - mean[0]) * slope
        found *= self.gain
        return np.asarray(found, d.dtype if d.dtype == np.float32 else np.float64)

    def spread(self, signal: Array) -> Array:
        """Return the standard deviation of a measurement, DN."""
        return np.sqrt(self.gain * np.maximum(signal, 0) + self.read**2)


@lru_cache(maxsize=64)
def _table(read: float, floor: float) -> tuple[Array, Array]:
    """Return (signal, mean of f), electrons, ascending; ``read`` and ``floor`` in electrons."""
    unit = Stabiliser(1.0, read)
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
    weights = weights / weights.sum()

    def mean(centre: Array, sd: Array) -> Array:
        z = np.maximum(np.asarray(centre)[..., None] + np.asarray(sd)[..., None] * nodes, floor)
        return unit.forward(z) @ weights

    below = np.linspace(-BELOW * max(read, 0.1), 0, POINTS // 4, endpoint=False)
    few = POISSON * np.linspace(0, 1, POINTS) ** 2
    many = np.geomspace(POISSON, 3e5, POINTS)[1:]
    counts = np.arange(int(POISSON + 12 * POISSON**0.5))
    of_count = mean(counts, np.full(counts.shape, read))
    chance = np.exp(special.xlogy(counts, few[:, None]) - few[:, None] - special.gammaln(counts + 1))
    poisson = chance @ of_count / chance.sum(1)
    gaussian = mean(many, np.sqrt(many + read**2))
    found = np.concatenate([mean(below, np.full(below.shape, read)), poisson, gaussian])
    return np.concatenate([below, few, many]), np.maximum.accumulate(found)
