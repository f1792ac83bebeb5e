# SPDX-License-Identifier: Apache-2.0
"""Figures of merit every field shares: against a reference, and of what was removed.

Arrays have their spatial axes first and at most one series axis last. All sums are in float64.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pellucid.core.lazy import ndimage, np

if TYPE_CHECKING:
    from pellucid.core.types import Array

SSIM_WINDOW = 1.5  # samples, sd of the Gaussian window; Wang et al. 2004, section III.B
SSIM_RADIUS = 5  # samples: 11 x 11 windows as in the paper; that border is left out of the mean
SSIM_K = (0.01, 0.03)  # K1, K2; the same place


def mse(reference: Array, estimate: Array, *, mask: Array | None = None) -> float:
    """Return the mean squared error over valid samples.

    Parameters
    ----------
    reference, estimate : array
        Same shape; complex samples count by their modulus.
    mask : bool array over the leading axes, optional
        True = valid.

    Examples
    --------
    >>> import numpy as np
    >>> mse(np.zeros(4), np.array([1.0, -1.0, 1.0, -1.0]))
    1.0
    """
    difference = np.abs(_same(reference, estimate)[0] - np.asarray(estimate))
    difference = difference if mask is None else difference[mask]
    return float(np.mean(np.square(difference, dtype=np.float64)))


def psnr(reference: Array, estimate: Array, *, data_range: float = 1.0, mask: Array | None = None) -> float:
    """Return the peak signal-to-noise ratio in dB, ``10 log10(data_range^2 / mse)``; inf where equal.

    Parameters
    ----------
    data_range : float
        Full scale in the units of the samples: 1 for images scaled to [0, 1].

    Examples
    --------
    >>> import numpy as np
    >>> psnr(np.zeros((8, 8)), np.full((8, 8), 0.1))
    20.0
    """
    error = mse(reference, estimate, mask=mask)
    return float("inf") if error == 0 else float(round(10 * np.log10(data_range**2 / error), 10))


def nrmse(reference: Array, estimate: Array, *, mask: Array | None = None) -> float:
    """Return the root mean squared error divided by the reference's root mean square.

    Zero scores 1, the reference itself 0.

    Examples
    --------
    >>> import numpy as np
    >>> nrmse(np.ones(9), np.zeros(9))
    1.0
    """
    power = mse(reference, np.zeros_like(reference), mask=mask)
    error = mse(reference, estimate, mask=mask)
    return float(np.sqrt(error / power)) if power else float("inf") if error else 0.0


def ssim(
    reference: Array, estimate: Array, *, data_range: float = 1.0, spatial: int = 2, mask: Array | None = None
) -> float:
    """Return the mean structural similarity, averaged over a series axis where there is one.

    Wang et al., IEEE TIP 13(4) 2004 (10.1109/TIP.2003.819861), eq. 13: Gaussian window of sd 1.5 cut
    at 5 samples, K1 = .01, K2 = .03, window moments without Bessel's correction. The outer 5 samples
    are left out where the array is large enough.

    Parameters
    ----------
    spatial : int
        Number of leading spatial axes.
    mask : bool array over the spatial axes, optional
        Windows centred on invalid samples are not averaged.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).random((32, 32))
    >>> ssim(x, x)
    1.0
    """
    x, y = _same(reference, estimate)
    sides = (SSIM_WINDOW,) * spatial + (0.0,) * (x.ndim - spatial)

    def mean(values: Array) -> Array:
        radius = [SSIM_RADIUS if s else 0 for s in sides]
        return np.asarray(ndimage.gaussian_filter(values, sides, radius=radius, mode="reflect"))

    ux, uy = mean(x), mean(y)
    vx, vy, vxy = mean(x * x) - ux * ux, mean(y * y) - uy * uy, mean(x * y) - ux * uy
    c1, c2 = ((k * data_range) ** 2 for k in SSIM_K)
    similarity = (2 * ux * uy + c1) * (2 * vxy + c2) / ((ux * ux + uy * uy + c1) * (vx + vy + c2))
    inner = tuple(slice(SSIM_RADIUS, -SSIM_RADIUS) if n > 2 * SSIM_RADIUS else slice(None) for n in x.shape[:spatial])
    similarity = similarity[inner] if mask is None else similarity[inner][mask[inner]]
    return float(np.mean(similarity))


def residual(before: Array, after: Array, *, spatial: int, mask: Array | None = None) -> dict[str, float]:
    """Return what was removed in numbers: noise has no neighbours and does not know the edges.

    Parameters
    ----------
    before, after : array
        Input and output of a denoiser, spatial axes first.
    spatial : int
        Number of leading spatial axes.
    mask : bool array over the spatial axes, optional

    Returns
    -------
    dict
        ``mean``, ``sd`` (input units); ``correlation_0`` ... per spatial axis at lag one (0 for white
        noise; above .1 means signal or correlated noise was removed); ``edge``: correlation of the
        residual's magnitude with the output's gradient magnitude (above .1 means edges were removed).
    """
    before, after = np.asarray(before), np.asarray(after)
    if np.iscomplexobj(before):
        before, after = _parts(before), _parts(after)
    x, y = _same(before, after)
    r = x - y
    ok = np.ones(r.shape[:spatial], bool) if mask is None else mask
    numbers = {"mean": float(r[ok].mean()), "sd": float(r[ok].std())} if ok.any() else {"mean": 0.0, "sd": 0.0}
    for axis in range(spatial):
        numbers[f"correlation_{axis}"] = _lag_one(r, ok, axis)
    numbers["edge"] = _correlation(np.abs(r)[ok], _gradient(y, spatial)[ok])
    return numbers


def _lag_one(r: Array, ok: Array, axis: int) -> float:
    """Correlation of each sample with its next neighbour along an axis, valid pairs only."""
    one, two = (tuple([slice(None)] * axis + [s]) for s in (slice(None, -1), slice(1, None)))
    both = ok[one] & ok[two]
    return _correlation(r[one][both], r[two][both])


def _gradient(values: Array, spatial: int) -> Array:
    """Magnitude of central differences over the spatial axes."""
    power = np.zeros(values.shape)
    for axis in range(spatial):
        if values.shape[axis] > 1:
            power += np.square(np.gradient(values, axis=axis))
    return np.asarray(np.sqrt(power))


def _correlation(a: Array, b: Array) -> float:
    """Pearson's coefficient; 0 where one side is constant or empty."""
    if a.size < 2:
        return 0.0
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt(np.mean(a * a)) * np.sqrt(np.mean(b * b)))
    return float(np.mean(a * b) / scale) if scale > 0 else 0.0


def _parts(values: Array) -> Array:
    """Real and imaginary part on a new last axis."""
    return np.stack([values.real, values.imag], axis=-1)


def _same(reference: Array, estimate: Array) -> tuple[Any, Any]:
    """Both arrays in double precision; their shapes must agree."""
    a, b = np.asarray(reference), np.asarray(estimate)
    if a.shape != b.shape:
        raise ValueError(f"shapes differ: {a.shape} and {b.shape}")
    wide = np.result_type(a.dtype, b.dtype, np.float64)
    return a.astype(wide, copy=False), b.astype(wide, copy=False)
