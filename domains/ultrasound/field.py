# SPDX-License-Identifier: Apache-2.0
"""Ultrasound: display images and cines, envelopes, beamformed RF and IQ, channel data."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pellucid.domains.declare import Choice, Field, Phantom, Subject, Task, always
from pellucid.domains.ultrasound import bmode, checks, metrics, noise

CASES = ("cine", "cyst", "iq", "doppler")

CINE = ("eigenwiener", "average", "identity")  # verb denoise
DESPECKLE = ("dbnlm", "obnlm", "srad", "lee", "identity")
CLUTTER = ("svd", "rpca", "identity")


def flags(
    *,
    dynamic_range: Annotated[
        float, typer.Option("--dynamic-range", help="dB between black and white of a display image; 60 if unknown.")
    ] = 0.0,
    transfer_syntax: Annotated[
        str, typer.Option("--transfer-syntax", help="Coding of a DICOM output, all lossless: rle, explicit or j2k.")
    ] = "",
) -> None:
    """Flags of the field."""


def law(subject: Subject) -> str:
    """Return the law of a level that is given: speckle of images, Gaussian per part of RF and IQ."""
    return "speckle" if checks.kind_of(subject) in ("bmode", "envelope") else "gaussian"


def simulate(seed: int = 0, case: str = CASES[0], size: Any = None) -> Phantom:
    """Simulate a case; see ``phantom``."""
    from pellucid.domains.ultrasound import phantom

    return phantom.simulate(seed, case, size)


def regions(values: Any, description: Any, path: Any) -> dict[str, float]:
    """Return what an image shows in regions; see ``rois``."""
    from pellucid.domains.ultrasound import rois

    return rois.figures(values, description, path)


FIELD = Field(
    name="ultrasound",
    line="Denoise, despeckle and separate ultrasound cines, RF and IQ; graphics are kept.",
    spatial=(("axial", "lateral"), ("y", "x"), ("time", "element")),
    series="frame",
    formats=(
        "dicom_us",
        "clarius",
        "picmus",
        "uff",
        "zea",
        "mat_us",
        "video",
        "pngstack",
        "metaimage",
        "nrrd",
        "npy",
        "npz",
    ),
    kind="bmode",
    kinds=("bmode", "envelope", "rf", "iq", "channel"),
    choose=(Choice("eigenwiener", always, "a cine: what lasts is kept with its speckle, what flickers is noise"),),
    methods=CINE,
    closed=True,  # what takes speckle for white noise does nothing or harm
    refuse=(checks.foreign, checks.no_tissue, checks.labels, checks.empty, checks.no_grey, checks.single_frame),
    warn=(checks.display_cine, checks.lossy),
    estimate=noise.estimate,
    estimators=noise.ESTIMATORS,
    law=law,
    options=flags,
    extras=checks.facts,
    simulate=simulate,
    cases=CASES,
    sizes={"small": (192, 160, 12)},
    measure=metrics.measure,
    judge=metrics.judge,
    picture=metrics.picture,
    regions=regions,
    tasks=(
        Task(
            name="despeckle",
            line="Smooth speckle for reading and segmentation.",
            word="despeckled",
            changes={
                "choose": (Choice("dbnlm", always, "speckle is additive in dB, and small targets are put back"),),
                "methods": DESPECKLE,
                "refuse": (
                    checks.foreign,
                    checks.no_tissue,
                    checks.labels,
                    checks.empty,
                    checks.no_grey,
                    checks.not_an_image,
                ),
                "warn": (checks.speckle_gone, checks.lossy, checks.unknown_range),
                "cases": ("cyst",),
            },
        ),
        Task(
            name="clutter",
            line="Separate blood from tissue in RF or IQ ensembles.",
            word="flow",
            changes={
                "choose": (Choice("svd", always, "tissue is strong and slow: its few leading components go"),),
                "methods": CLUTTER,
                "refuse": (checks.foreign, checks.not_linear, checks.few_frames),
                "warn": (),
                "cases": ("doppler",),
            },
        ),
    ),
    conversions=(bmode.CONVERSION,),
    gain=("nrmse", "echoes were {before:.1%} off, now {after:.1%}"),
)
