# SPDX-License-Identifier: Apache-2.0
"""What a cube is worth: noise per band, figures against a reference, figures of what was removed, a view."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pellucid.core.errors import Refused
from pellucid.core.estimate.regression import PIXELS_PER_BAND, Subspace, regression_sigma, signal_subspace
from pellucid.core.lazy import np
from pellucid.core.types import Noise

if TYPE_CHECKING:
    from pellucid.core.types import Array, Description
    from pellucid.domains.declare import Subject

ESTIMATORS = ("regression", "difference")
MAD_TO_SIGMA = 1.4826  # Gaussian consistency, 1 / Phi^-1(3/4)
VIEW_NM = (2200.0, 850.0, 650.0)  # short-wave infrared, near infrared, red: minerals, plants, water apart
VIEW_PART = (0.8, 0.5, 0.2)  # of the bands where there are no wavelengths


def estimate(subject: Subject, estimator: str) -> Noise:
    """Return the noise of every band, input units; bad bands have none.

    Parameters
    ----------
    estimator : {"", "regression", "difference"}
        ``regression``: what the other bands cannot explain, refined outside the signal; needs three pixels a band.
        ``difference``: spread of second differences within each band; sees texture as noise.

    Raises
    ------
    Refused
        There are too few valid pixels for either.
    """
    d = subject.description
    bad = set(d.bad)
    good = [i for i in range(d.shape[-1]) if i not in bad]
    values = subject.probe[..., good]
    ok = valid(values, d)
    if int(ok.sum()) < 4:
        why = f"has {int(ok.sum())} valid pixels where its noise would be estimated"
        raise Refused(why, subject.path, "check nodata and mask, or give --sigma")
    regress = estimator != "difference" and int(ok.sum()) > PIXELS_PER_BAND * len(good) and len(good) > 2
    sigma = np.zeros(d.shape[-1])
    sigma[good] = _subspace(values[ok]).sigma if regress else difference_sigma(values, ok)
    return Noise("gaussian", sigma.astype(np.float32), "estimated", "regression" if regress else "difference")


def difference_sigma(values: Array, ok: Array) -> Array:
    """Return each band's noise from mixed second differences over 2 x 2 pixels, by their median size."""
    values = np.asarray(values, dtype=np.float64)
    mixed = (values[1:, 1:] - values[1:, :-1] - values[:-1, 1:] + values[:-1, :-1]) / 2
    whole = ok[1:, 1:] & ok[1:, :-1] & ok[:-1, 1:] & ok[:-1, :-1]
    if not whole.any():
        return np.zeros(values.shape[-1])
    return np.asarray(MAD_TO_SIGMA * np.median(np.abs(mixed[whole]), axis=0))


def valid(values: Array, description: Description) -> Array:
    """Return pixels (line, sample) whose every band is finite and not nodata, physical units."""
    ok = np.isfinite(values).all(-1)
    if description.nodata is not None and np.isfinite(description.nodata):
        slope, inter = (np.asarray(v, dtype=np.float64).reshape(-1)[0] for v in (description.slope, description.inter))
        ok &= (values != np.float32(description.nodata * slope + inter)).all(-1)
    return np.asarray(ok)


def noise_correlation(values: Array, ok: Array) -> float:
    """Return the median lag-1 correlation, over the two axes, of what lies outside the signal subspace."""
    if int(ok.sum()) <= PIXELS_PER_BAND * values.shape[-1] or values.shape[-1] < 3:
        return 0.0
    space = _subspace(values[ok])
    live = space.sigma > 0
    if not live.any():
        return 0.0
    white = (values[..., live] - values[ok][:, live].mean(0)) / space.sigma[live]
    white[~ok] = 0
    basis = space.basis[live].astype(white.dtype)
    rest = white - (white @ basis) @ basis.T
    power = float(np.square(rest[ok]).mean())
    both = [(rest[:, 1:], rest[:, :-1], ok[:, 1:] & ok[:, :-1]), (rest[1:], rest[:-1], ok[1:] & ok[:-1])]
    found = [float((a[use] * b[use]).mean()) / power for a, b, use in both if use.any() and power > 0]
    return max(found, default=0.0)


def measure(reference: Array, estimate: Array, description: Description, mask: Array | None = None) -> dict[str, float]:
    """Compare with the truth.

    Each band is scaled to the reference's own range first, so that faint bands count like bright ones.

    Returns
    -------
    dict
        ``mpsnr`` (mean over bands, dB), ``psnr`` (whole cube, dB), ``ssim`` (mean over bands), ``sam``,
        ``sam_median``, ``sam_p95`` (degrees; pixels without spectrum excluded, counted in ``sam_excluded``),
        ``ergas`` (percent).
    """
    from pellucid.core import metrics

    good = [i for i in range(reference.shape[-1]) if i not in set(description.bad)]
    x, y = np.asarray(reference[..., good], np.float64), np.asarray(estimate[..., good], np.float64)
    ok = np.isfinite(x).all(-1) & np.isfinite(y).all(-1)
    ok = ok if mask is None else ok & mask
    if not ok.any():
        return {}
    low, high = x[ok].min(0), x[ok].max(0)
    span = np.where(high > low, high - low, 1)
    u, v = np.where(ok[..., None], (x - low) / span, 0), np.where(ok[..., None], (y - low) / span, 0)
    error = np.square(u - v)[ok].mean(0)
    out = {"mpsnr": _decibels(error), "psnr": _decibels(error.mean(keepdims=True))}
    out["ssim"] = metrics.ssim(u, v, data_range=1.0, spatial=2, mask=ok)
    return out | _angles(x[ok], y[ok]) | {"ergas": ergas(x[ok], y[ok])}


def spectral_angles(x: Array, y: Array) -> Array:
    """Return angles in degrees between spectra (pixel, band); NaN where one of them is zero.

    Examples
    --------
    >>> import numpy as np
    >>> spectral_angles(np.array([[1.0, 0], [0, 0]]), np.array([[1.0, 1], [1, 1]])).round(6).tolist()
    [45.0, nan]
    """
    norm = np.linalg.norm(x, axis=-1) * np.linalg.norm(y, axis=-1)
    cosine = np.divide((x * y).sum(-1), norm, out=np.full(norm.shape, np.nan), where=norm > 0)
    return np.asarray(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def ergas(x: Array, y: Array) -> float:
    """Return 100 sqrt(mean over bands of mse / mean^2) of spectra (pixel, band); bands of mean zero are left out."""
    mean = x.mean(0)
    relative = np.square(x - y).mean(0)[mean != 0] / np.square(mean[mean != 0])
    return float(100 * np.sqrt(relative.mean())) if relative.size else 0.0


def judge(before: Array, after: Array, description: Description, noise: Noise | None) -> dict[str, float]:
    """Look at what was removed: it should be white and lie outside the scene.

    Returns
    -------
    dict
        ``residual_over_sigma``: median over bands of the residual's deviation over the noise found in the input;
        ``residual_correlation``: lag-1 correlation, 0 for white noise; ``residual_inside``: share of the whitened
        residual's energy inside the input's signal subspace; ``stripes``: variance of the residual's column means
        over that of white noise, 1 where no stripes were removed.
    """
    good = [i for i in range(before.shape[-1]) if i not in set(description.bad)]
    x, y = np.asarray(before[..., good], np.float64), np.asarray(after[..., good], np.float64)
    ok = valid(x.astype(np.float32), description) & np.isfinite(y).all(-1)
    if int(ok.sum()) <= PIXELS_PER_BAND * len(good):
        return {}
    space = _subspace(x[ok])
    live = space.sigma > 0
    if not live.any():
        return {}
    white = np.where(ok[..., None], (x - y)[..., live] / space.sigma[live], 0)
    power = np.square(white[ok]).mean()
    inside = np.square(white[ok] @ space.basis[live]).sum() / max(np.square(white[ok]).sum(), 1e-30)
    neighbours = ok[:, 1:] & ok[:, :-1]
    shared = (white[:, 1:] * white[:, :-1])[neighbours].mean() if neighbours.any() else 0.0
    counts = np.maximum(ok.sum(0), 1)[:, None]
    columns = (white.sum(0) / counts * np.sqrt(counts))[ok.any(0)]
    return {
        "residual_over_sigma": float(np.median(np.sqrt(np.square(white[ok]).mean(0)))),
        "residual_correlation": float(shared / power) if power > 0 else 0.0,
        "residual_inside": float(inside),
        "stripes": float(np.square(columns).mean() / power) if power > 0 else 0.0,
    }


def picture(values: Array, description: Description) -> Array:
    """Return a false-colour view (line, sample, 3) in physical units: short-wave infrared, near infrared, red."""
    if values.ndim == 2:
        return np.asarray(values, dtype=np.float32)
    bad = set(description.bad)
    good = np.array([i for i in range(values.shape[-1]) if i not in bad])
    if len(good) < 3:
        return np.asarray(values[..., good[0] if len(good) else 0], dtype=np.float32)
    return np.stack([values[..., i] for i in _view_bands(description, good)], -1).astype(np.float32)


def _view_bands(description: Description, good: Array) -> list[int]:
    wavelengths = description.acquisition.get("wavelengths_nm")
    if wavelengths is not None and len(wavelengths) == description.shape[-1]:
        centres = np.asarray(wavelengths, dtype=np.float64)[good]
        if centres.min() < VIEW_NM[2] and centres.max() > VIEW_NM[1]:
            wanted = [min(w, centres.max()) for w in VIEW_NM]
            return [int(good[np.abs(centres - w).argmin()]) for w in wanted]
    return [int(good[int(part * (len(good) - 1))]) for part in VIEW_PART]


def _angles(x: Array, y: Array) -> dict[str, float]:
    angles = spectral_angles(x, y)
    counted = angles[np.isfinite(angles)]
    out: dict[str, Any] = {"sam_excluded": float(len(angles) - len(counted))}
    if counted.size:
        out |= {"sam": float(counted.mean()), "sam_median": float(np.median(counted))}
        out["sam_p95"] = float(np.percentile(counted, 95))
    return out


def _decibels(error: Array) -> float:
    with np.errstate(divide="ignore"):
        return float(np.mean(-10 * np.log10(error)))


def _subspace(pixels: Array) -> Subspace:
    """Return noise and signal of spectra (pixel, band)."""
    pixels = pixels.astype(np.float64)
    centred = pixels - pixels.mean(0)
    freedom = max(len(pixels) - 1, 1)
    covariance = centred.T @ centred / freedom
    return signal_subspace(covariance, freedom, None if len(pixels) > 4 else regression_sigma(covariance, freedom))
