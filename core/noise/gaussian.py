# SPDX-License-Identifier: Apache-2.0
"""Additive Gaussian noise, real or circular complex: the law every other one is stabilised to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pellucid.core.lazy import np

if TYPE_CHECKING:
    from pellucid.core.types import Array


def mean(signal: Any, sigma: Any) -> Array:
    """Return E[y] = signal."""
    return np.asarray(signal) + 0.0 * np.asarray(sigma)


def variance(signal: Any, sigma: Any) -> Array:
    """Return sigma^2; for complex samples per channel, so E|y - s|^2 is twice that."""
    return np.broadcast_to(np.square(sigma), np.shape(signal)).astype(np.float64)


def sample(signal: Any, sigma: Any, rng: np.random.Generator) -> Array:
    """Return signal plus noise; ``sigma`` is per channel for complex signals."""
    signal = np.asarray(signal)
    noise = rng.standard_normal(signal.shape)
    if np.iscomplexobj(signal):
        return signal + sigma * (noise + 1j * rng.standard_normal(signal.shape))
    return signal + sigma * noise


def stabilise(values: Any, sigma: Any) -> Array:
    """Return values / sigma, of unit noise."""
    return np.asarray(values) / sigma


def unbiased(stabilised: Any, sigma: Any) -> Array:
    """Return the exact unbiased inverse of `stabilise`."""
    return np.asarray(stabilised) * sigma
