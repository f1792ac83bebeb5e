# SPDX-License-Identifier: Apache-2.0
"""Noise strength of one magnitude volume, from its air and from its tissue.

In air a magnitude is Rayleigh distributed, and its median says sigma at once. Scanners often blank the air;
then the diagonal details of the tissue do (Coupe 2010, doi 10.1016/j.media.2010.03.001), corrected for the
smaller scatter of Rician magnitudes (Koay & Basser 2006, doi 10.1016/j.jmr.2006.01.016).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pellucid.core.estimate.mad import details, median_sigma, supported
from pellucid.core.lazy import ndimage, np
from pellucid.core.noise import rician

if TYPE_CHECKING:
    from pellucid.core.types import Array

RAYLEIGH_MEDIAN = 1.1774100225154747  # sqrt(2 ln 2)
RAYLEIGH_MEAN = 1.2533141373155003  # sqrt(pi / 2)
RAYLEIGH_RATIO = 1.9130584  # mean over standard deviation
RATIO_TOLERANCE = 0.12  # several coils, ghosts or tissue change the ratio by more
LOCAL = 5  # voxels: edge of the box whose mean tells air from tissue
ABOVE = 1.15  # local means of air stay below: 3 standard deviations of 125 voxels
LOWEST = 0.02  # quantile of local means the search starts from
ENOUGH = 0.005  # share of the volume that air must take to be believed
ZEROED = 0.05  # share of exact zeros above which the air was blanked
TISSUE = 4.0  # sigma; local means above are tissue
LEAST_TISSUE = 0.02  # share of the volume below which all of it is looked at
SMOOTH_HALF = 0.5  # quantile of the gradient within tissue: the flatter half is looked at
DOUBT = 0.3  # disagreement of the two that a user should know of
ROUNDS = 50


def rician_sigma(volume: Array, mask: Array | None = None, stride: int = 1) -> tuple[float, dict[str, Any]]:
    """Return sigma per Gaussian channel of one magnitude volume, and how it was found.

    Parameters
    ----------
    volume : array (x, y, z) or (y, x)
        Magnitudes, any scale.
    mask : bool array of that shape, optional
        False = no sample there.
    stride : int
        Distance of the wavelet's taps; 2 or 4 for interpolated volumes.

    Returns
    -------
    sigma : float
        0.0 where neither air nor tissue tells anything (constant input).
    report : dict
        ``used`` ("air", "tissue" or "none"), ``air``, ``tissue`` (sigmas, 0.0 = not found), ``air_share``,
        ``zeros`` (share of exact zeros), ``disagreement`` (|air - tissue| / sigma, 0.0 if one is missing)
        and ``doubtful`` (disagreement above 0.3).
    """
    volume = np.asarray(volume, np.float32)
    keep = np.isfinite(volume) if mask is None else np.isfinite(volume) & mask
    total = max(int(keep.sum()), 1)
    zeros = float((keep & (volume == 0)).sum()) / total
    keep &= volume != 0
    volume = np.where(keep, volume, 0)
    air, share = (0.0, 0.0) if zeros > ZEROED else air_sigma(volume, keep)
    tissue = tissue_sigma(volume, keep, stride)
    sigma = air or tissue
    gap = abs(air - tissue) / sigma if air and tissue else 0.0
    return sigma, {
        "used": "air" if air else "tissue" if tissue else "none",
        "air": air,
        "tissue": tissue,
        "air_share": share,
        "zeros": zeros,
        "disagreement": gap,
        "doubtful": gap > DOUBT,
    }


def air_sigma(volume: Array, keep: Array) -> tuple[float, float]:
    """Return sigma of the air and the share of the volume it takes; zeros where there is no air.

    From the darkest local means upwards: sigma is the median of the voxels whose local mean fits that sigma,
    until it no longer moves. That is the lowest mode of the local means. It is believed only if mean
    and scatter there are those of a Rayleigh law.
    """
    local = _local_mean(volume, keep, LOCAL)
    valid = keep & (local > 0)
    if not valid.any():
        return 0.0, 0.0
    sigma = float(np.quantile(local[valid], LOWEST)) / RAYLEIGH_MEAN
    air = valid
    for _ in range(ROUNDS):
        air = valid & (local < RAYLEIGH_MEAN * ABOVE * sigma)
        if air.sum() < ENOUGH * keep.sum():
            return 0.0, 0.0
        new = float(np.median(volume[air])) / RAYLEIGH_MEDIAN
        if abs(new - sigma) <= 1e-4 * sigma:
            break
        sigma = new
    values = volume[air].astype(np.float64)
    scatter = float(values.std())
    if not scatter > 0 or abs(float(values.mean()) / scatter / RAYLEIGH_RATIO - 1) > RATIO_TOLERANCE:
        return 0.0, 0.0
    return sigma, float(air.sum()) / max(int(keep.sum()), 1)


def tissue_sigma(volume: Array, keep: Array, stride: int = 1) -> float:
    """Return sigma from the diagonal details of the flatter half of the tissue (Coupe 2010, sections 2.2-2.3)."""
    found = details(volume, volume.ndim, stride)
    usable = supported(keep, stride)
    if not usable.any():
        return 0.0
    middle = tuple(slice(3 * stride // 2, 3 * stride // 2 + n) for n in found.shape)
    local = _local_mean(volume, keep, LOCAL)[middle]
    slope = ndimage.gaussian_gradient_magnitude(volume, 1.5)[middle]
    sigma = median_sigma(found[usable])
    for _ in range(ROUNDS):
        tissue = usable & (local > TISSUE * sigma)
        if tissue.sum() < LEAST_TISSUE * usable.sum():
            tissue = usable
        flat = tissue & (slope <= np.quantile(slope[tissue], SMOOTH_HALF))
        spread = median_sigma(found[flat])
        # the signal in units of sigma, through the mean magnitude: Koay's factor for the scatter
        new = float(rician.koay(float(np.mean(local[flat])), spread)[1]) if spread else 0.0
        if abs(new - sigma) <= 1e-3 * sigma:
            return new
        sigma = new
    return sigma


def _local_mean(volume: Array, keep: Array, size: int) -> Array:
    """Return the mean of kept voxels in a box around each voxel; 0 where there are none."""
    share = ndimage.uniform_filter(keep.astype(np.float32), size, mode="nearest")
    mean = ndimage.uniform_filter(np.where(keep, volume, 0), size, mode="nearest")
    return np.divide(mean, share, out=np.zeros_like(mean), where=share > 0.5 / size**volume.ndim)
