# SPDX-License-Identifier: Apache-2.0
"""How noisy a picture is: one level for all channels, full scale 1."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pellucid.core.lazy import np
from pellucid.core.types import Noise
from pellucid.domains.declare import Subject

if TYPE_CHECKING:
    from pellucid.core.types import Array

ESTIMATORS = ("mad", "white")
SPECTRUM = 8  # samples, edge of the cosine blocks the spectrum is told for


def estimate(subject: Subject, estimator: str = "") -> Noise:
    """Estimate the noise from the finest details of the quiet parts.

    Parameters
    ----------
    estimator : {"", "mad", "white"}
        ``mad`` (default) looks at every sample, every second and every fourth: where the level rises,
        neighbours share their noise, and ``params`` say so (``stride``, ``spectrum``). ``white`` takes
        neighbours as independent: too low for most camera files.
    """
    from pellucid.core.estimate import mad, spectrum

    if estimator == "white":
        sigma = mad.mad_sigma(subject.probe, subject.description.spatial)
        return Noise("gaussian", sigma, "estimated", "white")
    sigma, stride = level(subject)
    params: dict[str, object] = {"stride": stride}
    if stride > 1 and sigma > 0 and min(subject.probe.shape[:2]) >= SPECTRUM:
        params["spectrum"] = spectrum.noise_spectrum(_finite(subject), SPECTRUM).tolist()
    return Noise("gaussian", sigma, "estimated", "mad", params)


def level(subject: Subject, extent: int = 0) -> tuple[float, int]:
    """Return sigma and the stride at which samples are independent, of the central ``extent`` samples or of all."""
    from pellucid.core.estimate import mad

    d = subject.description
    values = _finite(subject)
    if extent:
        starts = [max(0, (n - extent) // 2) for n in values.shape[: d.spatial]]
        values = values[tuple(slice(a, a + extent) for a in starts)]
    sigma, stride = mad.correlated_sigma(values, d.spatial)
    return float(sigma), int(stride)


def _finite(subject: Subject) -> Array:
    """Return the probe with samples that are no numbers set to 0: details that are exactly 0 do not count."""
    return np.nan_to_num(subject.probe, posinf=0.0, neginf=0.0)
