# SPDX-License-Identifier: Apache-2.0
"""Magnetic resonance images: diffusion and other series, and single volumes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pellucid.domains.declare import Choice, Field, Phantom, Subject, always
from pellucid.domains.mri import checks, metrics, noise

SERIES = 15  # volumes: fewer leave MP-PCA too few noise components to fit
CASES = ("dwi", "dwi-4coil", "t1")


def at_least(axis: str, count: int) -> Callable[[Subject], bool]:
    """Return a condition: the series axis is ``axis`` and has ``count`` entries or more."""

    def long_enough(subject: Subject) -> bool:
        d = subject.description
        return d.series == axis and d.shape[-1] >= count

    return long_enough


def complex_series(subject: Subject) -> bool:
    """Hold for complex series: no other method takes their samples."""
    return subject.description.series == "volume" and checks.is_complex(subject)


def facts(subject: Subject) -> Mapping[str, Any]:
    """Return what methods may use: gradients, number of coils, voxel size."""
    d = subject.description
    known = {key: d.acquisition[key] for key in ("bvals", "bvecs", "coils") if key in d.acquisition}
    return known | {"spacing_mm": d.spacing[: d.spatial], "kind": d.kind}


def law(subject: Subject) -> str:
    """Return the noise law: Gaussian per part for complex samples, Rician for magnitudes of one coil, else chi."""
    if checks.is_complex(subject):
        return "gaussian"
    return "ncchi" if int(subject.description.acquisition.get("coils", 1)) > 1 else "rician"


def simulate(seed: int = 0, case: str = CASES[0], size: Any = None) -> Phantom:
    """Simulate a case; see ``phantom``."""
    from pellucid.domains.mri import phantom

    return phantom.simulate(seed, case, size)


def output_name(path: Path, desc: str) -> Path:
    """Name a result: a BIDS derivative where the input has a BIDS name."""
    from pellucid.formats import bids

    return bids.output_name(path, desc)


FIELD = Field(
    name="mri",
    line="Denoise MRI volumes and series; geometry and header are kept.",
    spatial=(("x", "y", "z"),),
    series="volume",
    formats=("nifti", "dicom", "dicom_mosaic", "nrrd", "metaimage", "mif", "mgz", "ismrmrd", "fastmri", "npy", "npz"),
    kind="magnitude",
    kinds=("magnitude", "phase"),
    choose=(
        Choice("mppca", complex_series, "complex samples"),
        Choice("mppca", at_least("volume", SERIES), f"a series of {SERIES} volumes or more"),
        Choice("nlm", always, f"fewer than {SERIES} volumes: each is denoised on its own"),
    ),
    methods=("mppca", "nlm", "wavelet", "tv", "identity"),
    refuse=(
        checks.colours,
        checks.vectors,
        checks.statistics,
        checks.axes,
        checks.few_complex,
        checks.labels,
        checks.phase,
        checks.signed,
    ),
    warn=(
        checks.negative,
        checks.resampled,
        checks.zero_filled,
        checks.processed,
        checks.noise_floor,
        checks.doubtful_noise,
    ),
    estimate=noise.estimate,
    estimators=noise.ESTIMATORS,
    law=law,
    extras=facts,
    simulate=simulate,
    cases=CASES,
    sizes={"small": (40, 40, 20)},
    measure=metrics.measure,
    judge=metrics.judge,
    picture=metrics.picture,
    output_name=output_name,
    gain=("nrmse", "noise fell from {before:.1%} to {after:.1%} of the signal"),
)
