# SPDX-License-Identifier: Apache-2.0
"""Noise strength of one image or volume from its finest diagonal details.

The diagonal detail (HH, HHH) of a wavelet transform holds little but noise; its median absolute value is
blind to the few edges it does hold (Donoho & Johnstone 1994, doi 10.1093/biomet/81.3.425). Noise that was
smoothed on its way, by demosaicking or JPEG, has no fine details: it shows at every 2nd or 4th sample.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pellucid.core.lazy import ndimage, np
from pellucid.core.noise import rician

if TYPE_CHECKING:
    from pellucid.core.types import Array

MEDIAN_TO_SIGMA = 0.6744897501960817  # Phi^-1(3/4)
BLOCK = 32  # samples; an image's quiet quarter is sought among blocks of this edge
QUIET = 0.25  # quantile over the blocks
RISE = 1.3  # from one stride to the next: more than white noise and fine texture give (benchmarks/image_nlm)
FEW = 64  # details below which no median is taken
EDGES = 0.5  # share of foreground voxels, those of least gradient, that are looked at
ROUNDS = 20  # Koay's correction converges in a few


def mad_sigma(values: Array, spatial: int, stride: int = 1, keep: Array | None = None) -> float:
    """Return the standard deviation of white noise from the median of diagonal details.

    Parameters
    ----------
    values : array (spatial..., series or not)
        All series indices are pooled.
    spatial : int
        Number of spatial axes.
    stride : int
        Distance in samples between the taps: 2 or 4 for noise with short correlation.
    keep : bool array over the spatial axes, optional
        Details that touch a sample outside are left out. Details that are exactly 0 always are.

    Returns
    -------
    float
        Input units; 0.0 where there are no details (constant or tiny input).

    Examples
    --------
    >>> import numpy as np
    >>> noise = np.random.default_rng(0).normal(0, 2.0, (256, 256))
    >>> bool(abs(mad_sigma(noise, 2) / 2.0 - 1) < 0.02)
    True
    """
    return _median(_valid(details(values, spatial, stride), spatial, stride, keep))


def details(values: Array, spatial: int, stride: int = 1) -> Array:
    """Return diagonal Daubechies-2 details at every position where all taps fit; noise keeps its strength."""
    root = 3**0.5
    low = np.array([1 + root, 3 + root, 3 - root, 1 - root]) / (4 * 2**0.5)
    high = low[::-1] * np.array([1, -1, 1, -1])
    out = np.asarray(values, np.float64)
    for axis in range(spatial):
        n = out.shape[axis] - 3 * stride
        if n <= 0:
            return np.zeros((0,) * out.ndim)
        take = [slice(None)] * axis
        out = sum(tap * out[(*take, slice(k * stride, k * stride + n))] for k, tap in enumerate(high))
    return out


def correlated_sigma(values: Array, spatial: int = 2, keep: Array | None = None) -> tuple[float, int]:
    """Return noise strength and the stride at which noise of neighbouring samples looks independent.

    Compares the quiet blocks at strides 1, 2 and 4: as long as the estimate rises by more than a factor of
    1.3 the noise is correlated, and the wider stride tells more.

    Parameters
    ----------
    values : array (spatial..., series or not)
        At least 64 samples on each axis for all strides to be tried.

    Returns
    -------
    sigma : float
        Input units.
    stride : int
        1 for white noise.
    """
    stride, quiet = 1, _quiet(values, spatial, 1, keep)
    for wider in (2, 4):
        next_ = _quiet(values, spatial, wider, keep)
        if not next_ > RISE * quiet:
            break
        stride, quiet = wider, next_
    return mad_sigma(values, spatial, stride, keep), stride
