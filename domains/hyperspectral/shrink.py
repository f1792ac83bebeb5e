# SPDX-License-Identifier: Apache-2.0
"""Wavelet shrinkage of eigenimages with a local Wiener gain: the quick filter.

Undecimated B3-spline wavelets (Starck & Murtagh, A&A 342 (1998)) with the gain of Mihcak et al. (IEEE SPL 6
(1999) 300, DOI 10.1109/97.803428) from the energy around each coefficient. Nothing is decided for the whole
image, so tiles agree with the scene.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pellucid.core.lazy import ndimage, np

if TYPE_CHECKING:
    from pellucid.core.types import Array

LEVELS = 3
SPLINE = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)  # B3, a trous: holes of 2^level - 1
SPREAD = (2, 2, 2)  # half width of the energy window at each level, pixels
HALO = 2 * (2**LEVELS - 1) + max(SPREAD)


def denoise(images: Array, mask: Array | None = None) -> Array:
    """Return filtered eigenimages (line, sample, k) of unit white noise, float32."""
    smooth = np.ascontiguousarray(images.transpose(2, 0, 1))
    total = np.zeros_like(smooth)
    response = np.zeros((4 * 2**LEVELS + 1,) * 2)
    response[(response.shape[0] // 2,) * 2] = 1
    for level in range(LEVELS):
        coarse, wider = _blur(smooth, level), _blur(response[None], level)[0]
        detail = smooth - coarse
        noise = float(np.square(response - wider).sum())  # variance of this level in unit white noise
        energy = np.square(detail)
        for axis in (1, 2):
            energy = ndimage.uniform_filter1d(energy, 2 * SPREAD[level] + 1, axis=axis)
        total += detail * np.clip(1 - noise / np.maximum(energy, noise), 0, None)
        smooth, response = coarse, wider
    return (total + smooth).transpose(1, 2, 0).copy()


def _blur(stack: Array, level: int) -> Array:
    kernel = np.zeros(4 * 2**level + 1)
    kernel[:: 2**level] = SPLINE
    for axis in (1, 2):
        stack = ndimage.correlate1d(stack, kernel, axis=axis, mode="mirror")
    return stack
