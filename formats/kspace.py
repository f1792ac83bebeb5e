# SPDX-License-Identifier: Apache-2.0
"""From fully sampled Cartesian k-space to images: whitening, inverse transform, oversampling, coils.

Arrays are (coil, z, y, x). Transforms are orthonormal and oversampling is cut in image space, so the
noise of a voxel has the standard deviation that a sample of k-space had.

Pruessmann et al. 2001 (10.1002/mrm.1241) for whitening; Roemer et al. 1990
(10.1002/mrm.1910160203) for combining coils.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pellucid.core.lazy import fft, np

if TYPE_CHECKING:
    from pellucid.core.types import Array

CALIBRATION = 24  # central lines that hold the smooth coil sensitivities


def whitener(noise: Array, ratio: float = 1.0) -> Array | None:
    """Return the matrix that makes coils independent, with unit noise in real and imaginary part each.

    Parameters
    ----------
    noise : array (coil, sample), complex
        Samples without signal.
    ratio : float
        Noise of the image over that of these samples (variance): dwell time of the noise over that of the image,
        divided by the receiver's relative noise bandwidth.

    Returns
    -------
    array (coil, coil) or None
        None where there are too few samples, or the covariance is singular.
    """
    coils, count = noise.shape
    if count < 2 * coils or not np.isfinite(noise).all():
        return None
    centred = (noise - noise.mean(axis=1, keepdims=True)).astype(np.complex128)
    psi = centred @ centred.conj().T / (count - 1) * ratio
    try:
        return np.linalg.inv(np.linalg.cholesky(psi)) * np.sqrt(2.0)
    except np.linalg.LinAlgError:
        return None


def images(kspace: Array, keep: Sequence[int], whiten: Array | None = None) -> Array:
    """Return coil images (coil, z, y, x), cut centrally to ``keep`` samples of z, y, x."""
    axes = [i for i in (1, 2, 3) if kspace.shape[i] > 1]
    values = kspace if whiten is None else np.einsum("ij,jzyx->izyx", whiten, kspace)
    values = fft.fftshift(fft.ifftn(fft.ifftshift(values, axes=axes), axes=axes, norm="ortho"), axes=axes)
    cut = [slice((n - k) // 2, (n - k) // 2 + k) for n, k in zip(values.shape[1:], keep, strict=True)]
    out: Array = values[(slice(None), *cut)].astype(np.complex64)
    return out


def magnitude(coils: Array) -> Array:
    """Return the root of the sum of squares over coils, float32."""
    out: Array = np.sqrt((np.abs(coils) ** 2).sum(axis=0)).astype(np.float32)
    return out


def combined(coils: Array) -> Array:
    """Return one complex image: coils weighted by their sensitivities, taken from their own smooth part.

    Weights have unit norm at each voxel, so white noise of equal coils stays white and Gaussian.
    """
    if coils.shape[0] == 1:
        return coils[0]
    axes = [i for i in (1, 2, 3) if coils.shape[i] > 1]
    centre = fft.fftshift(fft.fftn(coils, axes=axes), axes=axes)
    for axis in axes:
        window = _window(coils.shape[axis])
        centre = centre * window.reshape([-1 if i == axis else 1 for i in range(4)])
    smooth = fft.ifftn(fft.ifftshift(centre, axes=axes), axes=axes)
    norm = np.sqrt((np.abs(smooth) ** 2).sum(axis=0))
    weights = np.divide(smooth.conj(), norm, out=np.zeros_like(smooth), where=norm > 0)
    out: Array = (weights * coils).sum(axis=0).astype(np.complex64)
    return out


def _window(length: int) -> Any:
    """Return a raised-cosine window over the centre of k-space."""
    width = min(CALIBRATION, length)
    window = np.zeros(length)
    start = length // 2 - width // 2
    window[start : start + width] = np.hanning(width + 2)[1:-1]
    return window


def keep(size: int, encoded_mm: float, wanted_mm: float) -> int:
    """Return how many samples of an axis lie in the wanted field of view."""
    if not (encoded_mm > 0 and wanted_mm > 0):
        return size
    return max(1, min(size, round(size * wanted_mm / encoded_mm)))
