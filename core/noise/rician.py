# SPDX-License-Identifier: Apache-2.0
"""Rician and non-central chi magnitudes: moments, sampling, and the ways back.

A magnitude m = sqrt(sum over L coils of |s_l + n_l|^2), with n_l complex Gaussian of standard deviation
sigma per channel, is Rician for L = 1 and non-central chi for L > 1. Only s^2 = sum |s_l|^2 matters.
Everything below is written in theta = s / sigma, so that no scale is built in.
"""

from __future__ import annotations

from functools import lru_cache
from math import lgamma
from typing import TYPE_CHECKING, Any

from pellucid.core.lazy import np, special

if TYPE_CHECKING:
    from pellucid.core.types import Array

TABLE_END = 12.0  # theta / sqrt(coils) beyond which the asymptotic series is exact to 1e-7
TABLE_POINTS = 6001  # a step of 0.002 sqrt(coils): the interpolation error is below 2e-7
POOLED_POINTS = 4096  # of xi over E[m]/sigma, 0.003 apart: xi within 2e-3 at its steepest
XI_END = 1e3  # theta beyond which xi is 1 within 1e-6 per coil, and the difference of squares would cancel
KOAY_ROUNDS = 4  # beyond the table the fixed point gains three digits a round
ASYMPTOTIC_TERMS = 8


def mean(signal: Any, sigma: Any, coils: int = 1) -> Array:
    """Return E[m] of a magnitude whose true signal is ``signal``.

    E[m] = sigma sqrt(2) Gamma(L+1/2)/Gamma(L) 1F1(-1/2; L; -s^2 / 2 sigma^2)
    (Koay & Basser 2006, doi:10.1016/j.jmr.2006.01.016, eq. 6).

    Parameters
    ----------
    signal : array
        True magnitude, input units, not negative.
    sigma : float or array
        Standard deviation per Gaussian channel, input units, broadcast against ``signal``; 0 returns the signal.
    coils : int
        Number of channels combined by the sum of squares.

    Examples
    --------
    >>> from pellucid.core.noise import rician
    >>> round(float(rician.mean(0.0, 1.0)), 4)  # sqrt(pi / 2)
    1.2533
    """
    signal, sigma, theta = _theta(signal, sigma)
    return np.where(sigma > 0, sigma * normalised_mean(theta, coils), signal)


def variance(signal: Any, sigma: Any, coils: int = 1) -> Array:
    """Return the variance of the magnitude: sigma^2 xi(theta); see `mean` for the parameters."""
    signal, sigma, theta = _theta(signal, sigma)
    return sigma**2 * xi(theta, coils)


def xi(theta: Any, coils: int = 1) -> Array:
    """Return variance / sigma^2 of the magnitude at theta = s / sigma (Koay & Basser 2006, eq. 9).

    Rises from 2L - mean(0)^2 (0.4292 for one coil) to 1.
    """
    theta = np.minimum(np.asarray(theta, dtype=np.float64), XI_END)
    return 2 * coils + theta**2 - normalised_mean(theta, coils) ** 2


def sample(signal: Any, sigma: Any, rng: np.random.Generator, coils: int = 1) -> Array:
    """Draw magnitudes (float64) with the given true signal; the signal is shared equally by the coils."""
    signal = np.asarray(signal, dtype=np.float64)
    part = signal / np.sqrt(coils)
    if coils == 1:
        noise = rng.standard_normal((2, *signal.shape)) * sigma
        return np.hypot(part + noise[0], noise[1])
    square = np.zeros(signal.shape)
    for _ in range(coils):  # coil by coil: the memory of one
        noise = rng.standard_normal((2, *signal.shape)) * sigma
        square += (part + noise[0]) ** 2 + noise[1] ** 2
    return np.sqrt(square)


def unbiased(expected: Any, sigma: Any, coils: int = 1) -> Array:
    """Return the signal whose magnitude has the mean ``expected``: the exact unbiased inverse of `mean`.

    Apply it to a denoised value (an estimate of E[m]), never to a noisy sample. At or below the noise
    floor the answer is 0.

    Parameters
    ----------
    expected : array
        Denoised magnitude, input units.
    sigma : float or array
        Standard deviation per Gaussian channel; 0 returns ``expected``.
    """
    value, sigma, ratio = _theta(expected, sigma)
    grid, means = _table(coils)
    theta = np.asarray(np.interp(ratio, means, grid))
    beyond = ratio > means[-1]
    far = ratio[beyond]
    outside = far - (coils - 0.5) / far
    for _ in range(4):  # Newton steps with slope 1: the mean's own slope is within 1 % of it out here
        outside = outside - (_far_mean(outside, coils) - far)
    theta[beyond] = outside
    return np.where(sigma > 0, sigma * theta, value)


def koay(magnitude_mean: Any, magnitude_sd: Any, coils: int = 1) -> tuple[Array, Array]:
    """Return signal and sigma per channel from mean and standard deviation of magnitudes.

    The fixed point theta = sqrt(xi(theta) (1 + (mean/sd)^2) - 2L) (Koay & Basser 2006, eq. 18) is where
    mean(theta) / sqrt(xi(theta)) equals mean/sd: read from the table, iterated only beyond it. Then
    sigma = sd / sqrt(xi). Ratios at or below that of pure noise give signal 0.
    """
    average, sd = (np.asarray(a, dtype=np.float64) for a in (magnitude_mean, magnitude_sd))
    ratio = np.divide(average, sd, out=np.full(np.broadcast(average, sd).shape, 1e9), where=sd > 0)
    grid, means = _table(coils)
    ratios = means / np.sqrt(2 * coils + grid**2 - means**2)
    theta = np.interp(ratio, ratios, grid)
    far = ratio > ratios[-1]
    for _ in range(KOAY_ROUNDS):
        again = np.sqrt(np.maximum(xi(theta, coils) * (1 + ratio**2) - 2 * coils, 0.0))
        theta = np.where(far, again, theta)
    sigma = sd / np.sqrt(xi(theta, coils))
    return np.where(sd > 0, theta * sigma, average), sigma


def channel_sigma(denoised: Any, magnitude_sd: Any, coils: int = 1, rounds: int = 6) -> Array:
    """Return sigma per channel from a map of magnitude standard deviations measured over a series.

    Noise pooled over the volumes has variance sigma^2 mean_v xi(theta_v), theta_v the signal of volume v
    in units of sigma; solved by iteration with the denoised series in place of the signal.

    Parameters
    ----------
    denoised : array (..., volume)
        Denoised magnitudes (estimates of E[m]), input units.
    magnitude_sd : array (...)
        Standard deviation of the magnitude noise, input units.
    """
    sd = np.asarray(magnitude_sd, dtype=np.float64)
    grid, means = _table(coils)
    # xi as a function of E[m] / sigma, on a uniform grid: looked up, not searched, ten times faster
    step = means[-1] / POOLED_POINTS
    at = (np.arange(POOLED_POINTS + 1) + 0.5) * step
    values = np.interp(at, means, 2 * coils + grid**2 - means**2).astype(np.float32)
    values[-1] = 1.0
    sigma = sd / np.sqrt(xi(0.0, coils))  # from above: right at once in the background, where rounds gain least
    for _ in range(rounds):
        scale = np.divide(1 / step, sigma, out=np.zeros(sd.shape), where=sigma > 0).astype(np.float32)
        index = np.clip(denoised * scale[..., None], 0, POOLED_POINTS).astype(np.int32)
        sigma = sd / np.sqrt(values[index].mean(axis=-1, dtype=np.float64))
    return sigma


def normalised_mean(theta: Any, coils: int = 1) -> Array:
    """Return E[m] / sigma at theta = s / sigma, from a table and the asymptotic series above."""
    theta = np.asarray(theta, dtype=np.float64)
    grid, means = _table(coils)
    value = np.asarray(np.interp(theta, grid, means))
    beyond = theta > grid[-1]
    value[beyond] = _far_mean(theta[beyond], coils)
    return value


def _theta(signal: Any, sigma: Any) -> tuple[Array, Array, Array]:
    """Return signal, sigma and their ratio as float64; the ratio is 0 where sigma is 0."""
    signal, sigma = np.broadcast_arrays(np.asarray(signal, dtype=np.float64), np.asarray(sigma, dtype=np.float64))
    return signal, sigma, np.divide(signal, sigma, out=np.zeros(signal.shape), where=sigma > 0)


@lru_cache(maxsize=8)
def _table(coils: int) -> tuple[Array, Array]:
    """Return theta and E[m]/sigma on the table's grid."""
    theta = np.linspace(0.0, TABLE_END * np.sqrt(coils), TABLE_POINTS)
    if coils == 1:  # scaled Bessel functions: I0 and I1 themselves overflow
        x = theta**2 / 4
        means = np.sqrt(np.pi / 2) * ((1 + 2 * x) * special.ive(0, x) + 2 * x * special.ive(1, x))
    else:
        scale = np.sqrt(2) * np.exp(lgamma(coils + 0.5) - lgamma(coils))
        means = scale * special.hyp1f1(-0.5, coils, -(theta**2) / 2)
    return theta, means


def _far_mean(theta: Array, coils: int) -> Array:
    """Return E[m]/sigma for large theta (DLMF 13.7.2): theta sum_n (-1/2)_n (1/2-L)_n / n! (2/theta^2)^n."""
    inverse = 2 / theta**2
    term, total = np.ones_like(theta), np.ones_like(theta)
    for n in range(ASYMPTOTIC_TERMS):
        term = term * (n - 0.5) * (n + 0.5 - coils) / (n + 1) * inverse
        total = total + term
    return theta * total
