# SPDX-License-Identifier: Apache-2.0
"""Noise strength of one image or volume from its finest diagonal details.

The diagonal detail (HH, HHH) of a wavelet transform holds little but noise; its median absolute value is
blind to the few edges it does hold (Donoho & Johnstone 1994, doi 10.1093/biomet/81.3.425). Noise that was
smoothed on its way, by demosaicking or JPEG, has no fine details: it shows at every 2nd or 4th sample. So does
texture, but its direction differs from block to block.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pellucid.core.lazy import np

if TYPE_CHECKING:
    from pellucid.core.types import Array

MEDIAN_TO_SIGMA = 0.6744897501960817  # Phi^-1(3/4)
BLOCK = {1: 1024, 2: 32, 3: 10}  # samples; an image's quiet part is sought among blocks of this edge
QUIET = 0.25  # quantile over the blocks that is compared between strides
QUIETEST = 0.1  # quantile that is free of texture in most images (benchmarks/image_nlm)
QUIETEST_Z = -1.2815515655446004  # Phi^-1(0.1)
SCATTER = 1.35  # of a block's estimate, times sqrt(details); 1.17 if details did not overlap. White noise, simulated
RISE = 1.4  # tune images: white noise of 5/255 and texture give <= 1.25, camera noise >= 1.7 (benchmarks/image_nlm)
QUIETER = 0.5  # share of the blocks whose direction is looked at
TURNING = 1.0  # spread of log(rows / columns). Tune images: camera noise <= 0.6, grass and feathers >= 1.4
ENDLESS = 2.0  # rise from stride 4 to 8 of what has no longest scale. Tune images: noise <= 1.6, once denoised >= 2
FAINT = 0.02  # of the largest value: JPEG breaks weaker noise into patches that have a direction (PolyU 1.8 to 3)
ROUNDING = 8e-15  # of the largest value: taps in float64
FEW = 64  # details below which no median is taken
FEW_BLOCKS = 16  # below, the whole image is one block


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
    found = details(values, spatial, stride)
    return median_sigma(found if keep is None else found[supported(keep, stride)])


def details(values: Array, spatial: int, stride: int = 1, smooth: int = -1) -> Array:
    """Return Daubechies-2 details at every position where all taps fit; noise keeps its strength.

    Diagonal ones; with an axis ``smooth`` those that are smooth along it.
    """
    root = 3**0.5
    low = np.array([1 + root, 3 + root, 3 - root, 1 - root]) / (4 * 2**0.5)
    high = low[::-1] * np.array([1, -1, 1, -1])
    out = np.asarray(values, np.float64)
    for axis in range(spatial):
        n = out.shape[axis] - 3 * stride
        if n <= 0:
            return np.zeros((0,) * out.ndim)
        take = [slice(None)] * axis
        taps = low if axis == smooth else high
        out = sum(tap * out[(*take, slice(k * stride, k * stride + n))] for k, tap in enumerate(taps))
    # what rounding leaves of a constant is no detail
    sizes = np.abs(values)
    return np.where(np.abs(out) <= ROUNDING * np.max(sizes, initial=0, where=np.isfinite(sizes)), 0, out)


def correlated_sigma(values: Array, spatial: int = 2, keep: Array | None = None) -> tuple[float, int]:
    """Return noise strength and the stride at which noise of neighbouring samples looks independent.

    Blocks are sorted by their details at strides 1, 2 and 4. Where the quiet ones rise by more than a factor
    of 1.4 from stride 1 to 2, the noise is correlated and the widest stride that still shows more is taken;
    its median over the whole image is returned. White noise is read from the quietest blocks instead, which
    hold the least texture. So is what rises in an image but has another direction in each block, or doubles once
    more from stride 4 to 8: that is texture, and only the finest details of the quietest blocks are certainly noise.

    Parameters
    ----------
    values : array (spatial..., series or not)
        64 samples on each axis or more.
    spatial : int
        Number of spatial axes.
    keep : bool array over the spatial axes, optional
        Blocks that touch a sample outside are left out.

    Returns
    -------
    sigma : float
        Input units.
    stride : int
        1 for white noise.
    """
    blocks, size = _block_sigmas(values, spatial, 1, keep)
    stride, quiet = 1, float(np.quantile(blocks, QUIET))
    for wider, rise in ((2, RISE), (4, 1.0)):
        next_ = float(np.quantile(_block_sigmas(values, spatial, wider, keep)[0], QUIET))
        if not next_ > rise * quiet:
            break
        stride, quiet = wider, next_
    if stride > 1 or blocks.size < FEW_BLOCKS:
        found = mad_sigma(values, spatial, stride, keep)
        if stride == 1 or spatial != 2 or not _is_texture(values, keep, found, quiet):
            return found, stride
    return float(np.quantile(blocks, QUIETEST)) / (1 + QUIETEST_Z * SCATTER / size**0.5), 1


def _is_texture(values: Array, keep: Array | None, sigma: float, quiet: float) -> bool:
    """Tell whether details of an image that rise with the stride, to ``quiet`` in quiet blocks, are its texture."""
    wider = _block_sigmas(values, 2, 8, keep)[0]
    if wider.size >= FEW_BLOCKS and float(np.quantile(wider, QUIET)) >= ENDLESS * quiet:
        return True
    inside = np.abs(values if keep is None else values[keep])
    faint = sigma <= FAINT * float(np.max(inside, initial=0, where=np.isfinite(inside)))
    return not faint and _turns(values, keep)


def _turns(values: Array, keep: Array | None) -> bool:
    """Tell whether the quieter blocks of an image have details of different directions: texture, not noise."""
    diagonal, rows, columns = (_blocks(details(values, 2, 2, smooth), 2, 2, keep) for smooth in (-1, 0, 1))
    if len(diagonal) < FEW_BLOCKS:
        return False
    quiet = np.argsort(np.median(diagonal, axis=1))[: int(QUIETER * len(diagonal))]
    power = [np.square(part[quiet]).mean(axis=1) for part in (rows, columns)]
    sure = (power[0] > 0) & (power[1] > 0)
    if sure.sum() < FEW_BLOCKS // 2:
        return False
    ratio = np.log(power[0][sure] / power[1][sure])
    return bool(np.subtract(*np.quantile(ratio, (0.75, 0.25))) > TURNING)


def median_sigma(found: Array) -> float:
    """Return sigma from details: median of their absolute values over 0.6745; exact zeros are no noise."""
    size = np.abs(found[found != 0])
    return float(np.median(size)) / MEDIAN_TO_SIGMA if size.size >= FEW else 0.0


def supported(keep: Array, stride: int = 1) -> Array:
    """Return where all taps of a detail lie inside ``keep``."""
    out = np.asarray(keep, np.bool_)
    for axis in range(out.ndim):
        n = max(out.shape[axis] - 3 * stride, 0)
        take = (slice(None),) * axis
        out = np.logical_and.reduce([out[(*take, slice(k * stride, k * stride + n))] for k in range(4)])
    return np.asarray(out)


def _block_sigmas(values: Array, spatial: int, stride: int, keep: Array | None) -> tuple[Array, int]:
    """Return sigma of every block of supported details and the details in a block; one sigma if blocks are few."""
    found = details(values, spatial, stride)
    each = _blocks(found, spatial, stride, keep)
    if len(each) >= FEW_BLOCKS:
        return np.median(each, axis=1) / MEDIAN_TO_SIGMA, each.shape[1]
    return np.array([mad_sigma(values, spatial, stride, keep)]), found.size


def _blocks(found: Array, spatial: int, stride: int, keep: Array | None) -> Array:
    """Return sizes of details (block, detail), blocks with an unsupported detail left out."""
    edge = BLOCK[spatial]
    counts = [n // edge for n in found.shape[:spatial]]

    def blocks(array: Array) -> Array:
        cut = array[tuple(slice(0, n * edge) for n in counts)]
        split = cut.reshape([m for n in counts for m in (n, edge)] + [-1])
        order = (*range(0, 2 * spatial, 2), *range(1, 2 * spatial, 2), 2 * spatial)
        return split.transpose(order).reshape(int(np.prod(counts)), -1)

    if np.prod(counts) < FEW_BLOCKS:
        return np.zeros((0, 1))
    each = np.abs(blocks(found))
    return each if keep is None else each[blocks(supported(keep, stride)).all(axis=1)]
