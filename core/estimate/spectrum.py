# SPDX-License-Identifier: Apache-2.0
"""Noise of each cosine coefficient: for noise that demosaicking, resampling or JPEG has coloured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pellucid.core.estimate.mad import MEDIAN_TO_SIGMA
from pellucid.core.lazy import fft, np

if TYPE_CHECKING:
    from pellucid.core.types import Array

STEP = 3  # samples between blocks: coprime to Bayer and JPEG grids
MOST = 40_000  # blocks looked at


def noise_spectrum(values: Array, edge: int = 8) -> Array:
    """Return the noise of each cosine coefficient, from the median over all blocks of a picture.

    Most blocks hold little but noise in most coefficients, so the median of absolute values over 0.6745
    tells the noise; the lowest coefficients come out too high by what the picture holds there, and all do
    where texture fills half the picture. The noise is taken to be the same everywhere. Flat or dark frames
    tell it best.

    Parameters
    ----------
    values : array (y, x) or (y, x, channel)
        Input units, every sample valid; at least ``edge`` samples on each axis.

    Returns
    -------
    array (channel, edge, edge)
        Standard deviations in input units. Channels are those of the orthonormal cosine transform along
        the channel axis (luminance first); coefficient (0, 0) is the block's mean.

    Examples
    --------
    >>> import numpy as np
    >>> white = np.random.default_rng(0).normal(0, 2.0, (256, 256))
    >>> bool(np.all(np.abs(noise_spectrum(white) / 2.0 - 1) < 0.08))
    True
    """
    values = np.asarray(values, np.float32)
    mixed = fft.dct(values if values.ndim == 3 else values[..., None], axis=-1, norm="ortho")
    out = np.empty((mixed.shape[-1], edge, edge))
    for channel in range(mixed.shape[-1]):
        plane = mixed[..., channel]
        blocks = np.lib.stride_tricks.sliding_window_view(plane, (edge, edge))[::STEP, ::STEP]
        blocks = blocks.reshape(-1, edge, edge)
        blocks = blocks[:: max(1, len(blocks) // MOST)]
        coefficients = fft.dctn(blocks, axes=(1, 2), norm="ortho")
        out[channel] = np.median(np.abs(coefficients), axis=0) / MEDIAN_TO_SIGMA
    return out
