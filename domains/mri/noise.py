# SPDX-License-Identifier: Apache-2.0
"""How noisy an MR image is: one level per Gaussian channel, in input units."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pellucid.core.errors import UsageError
from pellucid.core.lazy import np
from pellucid.core.types import Noise
from pellucid.domains.declare import Subject
from pellucid.domains.mri import checks
from pellucid.domains.mri.metrics import foreground

if TYPE_CHECKING:
    from pellucid.core.types import Array

ESTIMATORS = ("mad", "background")
NAMES = {"mad": "tissue", "background": "air"}  # as the report calls them
RESOLUTION = 2.0**-24  # of the largest value: float32 holds no smaller differences, so none were measured
SHORT = 4  # samples: the wavelet details need as many
LOOKS = 5  # volumes of a series that are looked at


def estimate(subject: Subject, estimator: str) -> Noise:
    """Estimate the noise level from the central part of a file.

    Parameters
    ----------
    estimator : {"", "mad", "background"}
        ``background`` fits the air around the head (Rayleigh); ``mad`` takes the finest wavelet details of flat
        tissue, corrected for the Rician law. Without a name: the air where there is any, else the tissue.

    Returns
    -------
    Noise
        ``rician`` for magnitudes; ``gaussian`` for complex samples (per real and imaginary part). In a series
        the median over up to ``LOOKS`` volumes.

    Raises
    ------
    UsageError
        The background was asked for and there is none.
    """
    known = subject.description.acquisition.get("sigma")
    if known and not estimator:  # noise scans of the same measurement tell it better than the images
        law = "gaussian" if checks.is_complex(subject) else "rician"
        return Noise(law, float(known), "file")
    if checks.is_complex(subject):
        return Noise("gaussian", _complex_sigma(subject.probe, subject.description.spatial), "estimated", "mad")
    found = reports(subject)
    key = NAMES.get(estimator)
    levels = [report[key] if key else sigma for sigma, report in found]
    levels = [sigma for sigma in levels if sigma > 0]
    if not levels and estimator == "background":
        hint = "use --estimator mad, or give --sigma"
        raise UsageError("has no air around the head to take the noise from", subject.path, hint)
    used = estimator or ("background" if any(report["used"] == "air" for _, report in found) else "mad")
    sigma = float(np.median(levels)) if levels else 0.0
    sizes = np.abs(subject.probe)
    least = RESOLUTION * float(np.max(sizes, initial=0, where=np.isfinite(sizes)))
    return Noise("rician", sigma if sigma > least else 0.0, "estimated", used)


def reports(subject: Subject) -> list[tuple[float, dict[str, Any]]]:
    """Return sigma and what it rests on for each volume that is looked at."""
    from pellucid.core.estimate import background

    return [background.rician_sigma(_thick(volume)) for volume in _looks(subject)]


def _thick(volume: Array) -> Array:
    """Return a volume without axes too short for details: of a few slices the middle one."""
    for axis in reversed(range(volume.ndim)):
        if volume.shape[axis] < SHORT <= max(volume.shape):
            volume = np.take(volume, volume.shape[axis] // 2, axis=axis)
    return volume


def weakest_ratio(subject: Subject) -> float | None:
    """Return the signal-to-noise ratio of the weakest volume inside the head; None where no noise is found."""
    sigma = float(estimate(subject, "").sigma)
    head = foreground(subject.probe, subject.description.spatial)
    if not sigma > 0 or not head.any():
        return None
    return min(float(np.nanmedian(volume[head])) for volume in _looks(subject)) / sigma


def _looks(subject: Subject) -> list[Array]:
    """Return up to ``LOOKS`` volumes of the probe, evenly spread, first and last included."""
    probe = subject.probe
    if probe.ndim == subject.description.spatial:
        return [probe]
    count = probe.shape[-1]
    return [probe[..., int(i)] for i in np.unique(np.linspace(0, count - 1, min(LOOKS, count)).round())]


def _complex_sigma(values: Array, spatial: int) -> float:
    """Return the MAD of the finest diagonal Haar coefficients of both parts, per channel."""
    detail = values
    for axis in range(spatial):
        if detail.shape[axis] > 1:
            moved = np.moveaxis(detail, axis, 0)
            even = moved[: len(moved) // 2 * 2]
            detail = np.moveaxis((even[::2] - even[1::2]) / np.sqrt(2), 0, axis)
    parts = np.concatenate([detail.real.ravel(), detail.imag.ravel()])
    return float(1.4826 * np.median(np.abs(parts[np.isfinite(parts)])))  # 1 / Phi^-1(3/4)
