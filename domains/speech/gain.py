# SPDX-License-Identifier: Apache-2.0
"""Spectral gain: decision-directed SNR, log-spectral amplitude estimator, presence-weighted floor.

Arrays are (frames, groups, bins) float32; a group is one channel, or all channels sharing one gain.
Symbols as in the papers: ``gamma`` a-posteriori SNR, ``xi`` a-priori SNR, ``v`` = gamma xi/(1 + xi).
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from pellucid.core.lazy import np

if TYPE_CHECKING:
    from pellucid.core.types import Array

ALPHA = 0.94  # weight of the previous frame in the decision-directed rule, per 16 ms
XI_MIN = 10**-2.5  # -25 dB, Cohen and Berdugo 2001
GAMMA_MAX = 1e3
ABSENCE = 0.3  # prior probability q that a bin holds no speech
V_LOW, V_HIGH = 1e-6, 150.0  # exp(E1(v)/2) is 980 at the lower and 1 (to 1e-68) at the upper end
TABLE = 4096


@cache
def _half_exp_integral() -> Array:
    """Return exp(E1(v)/2) on a grid uniform in log v."""
    from scipy.special import exp1

    grid = np.exp(np.linspace(np.log(V_LOW), np.log(V_HIGH), TABLE))
    return np.exp(0.5 * exp1(grid)).astype(np.float32)


def log_mmse(xi: Array, gamma: Array) -> Array:
    """Return the log-spectral amplitude gain xi/(1+xi) exp(E1(v)/2), at most 1.

    Ephraim and Malah, IEEE TASSP 33(2), 1985, eq. 20 (doi:10.1109/TASSP.1985.1164550).
    """
    wiener = xi / (1 + xi)
    index = np.log(np.clip(gamma * wiener, np.float32(V_LOW), np.float32(V_HIGH)))
    index -= np.float32(np.log(V_LOW))
    index *= np.float32((TABLE - 1) / np.log(V_HIGH / V_LOW))
    wiener *= _half_exp_integral()[(index + np.float32(0.5)).astype(np.intp)]
    found: Array = np.minimum(wiener, 1, out=wiener)
    return found


def decision_directed(power: Array, inverse: Array, before: Array, backwards: bool = False) -> tuple[Array, Array]:
    """Return the a-priori SNR of every frame and G^2 |Y|^2 of the last one.

    xi = max(alpha G'^2 |Y'|^2 / lam + (1 - alpha) max(gamma - 1, 0), xi_min), where ' is the previous
    frame (Ephraim and Malah, IEEE TASSP 32(6), 1984, eq. 51). ``inverse`` is 1/lam; ``before`` is
    G'^2 |Y'|^2 of the frame before the first. ``backwards`` runs in reversed time: then "previous"
    means next.
    """
    gamma = np.minimum(power * inverse, np.float32(GAMMA_MAX))
    fresh = np.float32(1 - ALPHA) * np.maximum(gamma - 1, 0)
    kept = np.float32(ALPHA) * inverse
    xi = np.empty_like(power)
    order = range(len(power) - 1, -1, -1) if backwards else range(len(power))
    for t in order:
        row = xi[t]
        np.multiply(kept[t], before, out=row)
        row += fresh[t]
        np.maximum(row, np.float32(XI_MIN), out=row)
        g = log_mmse(row, gamma[t])
        before = g * g * power[t]
    return xi, before


def om_lsa(xi: Array, gamma: Array, log_floor: Array) -> tuple[Array, Array]:
    """Return the gain G1^p Gmin^(1-p) and the presence p; ``log_floor`` is ln Gmin, broadcastable.

    Cohen and Berdugo, Signal Processing 81, 2001, eq. 18 and 21 (doi:10.1016/S0165-1684(01)00128-1).
    """
    v = gamma * xi / (1 + xi)
    odds = np.float32(ABSENCE / (1 - ABSENCE)) * (1 + xi) * np.exp(-np.minimum(v, np.float32(80)))
    presence = 1 / (1 + odds)
    log_gain = presence * np.log(log_mmse(xi, gamma)) + (1 - presence) * log_floor
    return np.exp(log_gain), presence
