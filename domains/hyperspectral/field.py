# SPDX-License-Identifier: Apache-2.0
"""Hyperspectral scenes: many narrow bands of radiance or reflectance, in sensor or map geometry."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from pellucid.domains.declare import Choice, Field, Phantom, Subject, Task, always
from pellucid.domains.hyperspectral import checks, metrics

CASES = ("sensor", "1", "2", "3", "4", "5", "6")
FEWEST = 10  # bands: fewer leave no room beside the signal for the noise to be seen


def flags(
    *,
    quality: Annotated[
        str,
        typer.Option(
            "--quality",
            help="Quality layers of a product whose pixels are left alone: cloud,cloudshadow,haze,cirrus,snow ...",
        ),
    ] = "",
    quality_file: Annotated[
        Path | None, typer.Option("--quality-file", help="L2A mask file of an EMIT scene; --quality picks its flags.")
    ] = None,
) -> None:
    """Flags of the field."""


def many_bands(subject: Subject) -> bool:
    """Hold for ten usable bands or more."""
    d = subject.description
    return d.series == "band" and d.shape[-1] - len(d.bad) >= FEWEST


def facts(subject: Subject) -> Mapping[str, Any]:
    """Return what methods may use: original numbers of the usable bands and their wavelengths, nm."""
    d = subject.description
    bad = set(d.bad)
    bands = [i for i in range(d.shape[-1]) if i not in bad] if d.series else []
    wavelengths = d.acquisition.get("wavelengths_nm")
    known: dict[str, Any] = {"bands": bands, "kind": d.kind}
    if wavelengths is not None and len(wavelengths) == d.shape[-1]:
        known["wavelengths_nm"] = [float(wavelengths[i]) for i in bands]
    return known


def simulate(seed: int = 0, case: str = CASES[0], size: Any = None) -> Phantom:
    """Simulate a case; see ``phantom``."""
    from pellucid.domains.hyperspectral import phantom

    return phantom.simulate(seed, "" if case in ("", "sensor") else case, size or ())


REFUSALS = (
    checks.complex_samples,
    checks.library,
    checks.labels,
    checks.colours,
    checks.single_band,
    checks.empty,
    checks.unflagged,
)

FIELD = Field(
    name="hyperspectral",
    line="Denoise hyperspectral scenes; wavelengths, geometry and nodata are kept.",
    spatial=(("line", "sample"),),
    series="band",
    formats=(
        "geotiff",
        "envi",
        "mat",
        "prisma",
        "emit",
        "aviris",
        "neon",
        "hdf5",
        "enmap",
        "enmap_zip",
        "lan",
        "npy",
        "npz",
    ),
    kind="reflectance",
    kinds=("radiance", "reflectance"),
    choose=(
        Choice("lowrank", many_bands, f"a cube of {FEWEST} usable bands or more"),
        Choice("nlm", always, f"fewer than {FEWEST} bands: each is denoised on its own"),
    ),
    methods=("lowrank", "nlm", "wavelet", "tv", "identity"),
    refuse=REFUSALS,
    warn=(checks.resampled, checks.disordered, checks.bad_bands, checks.few_pixels),
    estimate=metrics.estimate,
    estimators=metrics.ESTIMATORS,
    options=flags,
    extras=facts,
    simulate=simulate,
    cases=CASES,
    sizes={"small": (64, 64, 80), "full": (96, 96, 120)},
    measure=metrics.measure,
    judge=metrics.judge,
    picture=metrics.picture,
    tasks=(
        Task(
            "destripe",
            "Remove column stripes and leave everything else alone.",
            "destriped",
            {
                "methods": ("destripe",),
                "choose": (Choice("destripe", always, "constant stripes of detector columns"),),
                "refuse": (*REFUSALS, checks.slanted),
                "warn": (checks.perhaps_slanted, checks.disordered, checks.bad_bands, checks.few_pixels),
            },
        ),
    ),
    gain=("sam", "each pixel's spectrum was {before:.1f} degrees from the truth, now {after:.1f}"),
)
