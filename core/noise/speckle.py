# SPDX-License-Identifier: Apache-2.0
"""Fully developed speckle: y = signal * u, u Gamma distributed with mean 1 (``looks`` independent looks).

Its logarithm has a noise of constant variance psi'(looks) and a constant bias psi(looks) - ln(looks)
(Xie, Pierce & Ulaby, IEEE TGRS 40(3) 2002, doi:10.1109/TGRS.2002.1000333); removing the bias makes the
inverse unbiased for the signal's logarithm, the mean over u for the signal itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pellucid.core.lazy import np, special

if TYPE_CHECKING:
    from pellucid.core.types import Array


def mean(signal: Any, looks: float) -> Array:
    """Return E[y] = signal (intensity units)."""
    return np.asarray(signal, np.float64) + 0.0 * looks


def variance(signal: Any, looks: float) -> Array:
    """Return signal^2 / looks."""
    return np.square(np.asarray(signal, np.float64)) / looks


def sample(signal: Any, looks: float, rng: np.random.Generator) -> Array:
    """Return speckled intensities of a positive signal."""
    signal = np.asarray(signal, np.float64)
    return signal * rng.gamma(looks, 1 / looks, signal.shape)


def stabilise(values: Any, looks: float) -> Array:
    """Return (ln y - bias) / sd, of unit noise; values must be positive."""
    bias = special.digamma(looks) - np.log(looks)
    return (np.log(np.asarray(values, np.float64)) - bias) / log_sd(looks)


def unbiased(stabilised: Any, looks: float) -> Array:
    """Return the signal whose expected stabilised value is ``stabilised``."""
    return np.exp(np.asarray(stabilised, np.float64) * log_sd(looks))


def log_sd(looks: float) -> float:
    """Return the standard deviation of ln u: sqrt(psi'(looks)); pi / sqrt(6) for one look."""
    return float(np.sqrt(special.polygamma(1, looks)))
