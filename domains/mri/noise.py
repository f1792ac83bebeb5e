# SPDX-License-Identifier: Apache-2.0
"""How noisy an MR image is: one level per Gaussian channel, in input units."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pellucid.core.lazy import np
from pellucid.core.types import Noise
from pellucid.domains.declare import Subject
from pellucid.domains.mri import checks
from pellucid.domains.mri.metrics import foreground

if TYPE_CHECKING:
    from pellucid.core.types import Array

ESTIMATORS = ("mad", "background")
LOOKS = 5  # volumes of a series that are looked at


def estimate(subject: Subject, estimator: str) -> Noise:
    """Estimate the noise level from the central part of a file.

    Parameters
    ----------
    estimator : {"", "mad", "background"}
        ``background`` fits the air around the head (Rayleigh); ``mad`` takes the finest wavelet scale inside it,
        corrected for the Rician law. Without a name the background is taken where it was not zeroed.

    Returns
    -------
    Noise
        ``rician`` for magnitudes; ``gaussian`` for complex samples (per real and imaginary part). In a series
        the median over up to ``LOOKS`` volumes.
    """
    if checks.is_complex(subject):
        return Noise("gaussian", _complex_sigma(subject.probe, subject.description.spatial), "estimated", "mad")
    found = [_volume_sigma(volume, estimator) for volume in _looks(subject)]
    sigma = float(np.median([sigma for sigma, _ in found]))
    used = next((name for _, name in found if name), estimator or "mad")
    return Noise("rician", sigma, "estimated", used)


def weakest_ratio(subject: Subject) -> float | None:
    """Return the signal-to-noise ratio of the weakest volume inside the head; None where no noise is found."""
    sigma = float(estimate(subject, "").sigma)
    if not sigma > 0:
        return None
    head = foreground(subject.probe, subject.description.spatial)
    if not head.any():
        return None
    levels = [float(np.nanmedian(volume[head])) for volume in _looks(subject)]
    return min(levels) / sigma


def _looks(subject: Subject) -> list[Array]:
    """Return up to ``LOOKS`` volumes of the probe, evenly spread, first and last included."""
    probe = subject.probe
    if probe.ndim == subject.description.spatial:
        return [probe]
    count = probe.shape[-1]
    return [probe[..., int(i)] for i in np.unique(np.linspace(0, count - 1, min(LOOKS, count)).round())]


def _volume_sigma(volume: Array, estimator: str) -> tuple[float, str]:
    volume = np.nan_to_num(volume)
    if estimator == "background":
        from pellucid.core.estimate import background

        found: Any = background.rician_sigma(volume)
    else:
        from pellucid.core.estimate import mad

        found = mad.rician_sigma(volume)
    sigma, report = found
    return float(sigma), str(report.get("used", "")) if isinstance(report, dict) else ""


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
