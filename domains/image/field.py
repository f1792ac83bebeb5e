# SPDX-License-Identifier: Apache-2.0
"""Plain pictures: photographs, micrographs, scans; grey or colour."""

from __future__ import annotations

from typing import Any

from pellucid.domains.declare import Choice, Field, Phantom, always
from pellucid.domains.image import checks, metrics, noise

CASES = ("grey", "colour", "correlated")


def simulate(seed: int = 0, case: str = CASES[0], size: Any = None) -> Phantom:
    """Simulate a case; see ``phantom``."""
    from pellucid.domains.image import phantom

    return phantom.simulate(seed, case, size)


FIELD = Field(
    name="image",
    line="Denoise pictures (PNG, TIFF, JPEG, NPY), grey or colour; opacity, profile and tags are kept.",
    spatial=(("y", "x"),),
    series="channel",
    formats=("png", "tiff", "jpeg", "nrrd", "metaimage", "npy", "npz"),
    kind="intensity",
    kinds=("intensity", "rgb"),
    # On tuning pictures at sigma 10/255 nlm and bm3d agree within .03 dB, and nlm takes a fifth of the time;
    # it alone is told when neighbouring samples share their noise, as in most camera files.
    choose=(Choice("nlm", always, "fast, and safe with the correlated noise of camera pictures"),),
    methods=("nlm", "bm3d", "wavelet", "tv", "identity"),
    refuse=(checks.palette, checks.not_light, checks.labels, checks.complex_samples),
    warn=(checks.lossy, checks.clipped, checks.correlated, checks.small),
    estimate=noise.estimate,
    estimators=noise.ESTIMATORS,
    simulate=simulate,
    cases=CASES,
    measure=metrics.measure,
    judge=metrics.judge,
    picture=metrics.picture,
    gain=("psnr", "the picture's PSNR rose from {before:.1f} to {after:.1f} dB"),
)
