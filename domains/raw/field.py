# SPDX-License-Identifier: Apache-2.0
"""Camera raw: the mosaic as the sensor gave it, before anything has mixed its noise."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pellucid.domains.declare import Choice, Conversion, Field, Phantom, Subject, always
from pellucid.domains.raw import checks, develop, metrics, noise, sensor

CASES = ("eld", "unprocessed", "xtrans")


def flags(
    *,
    calibration: Annotated[
        Path | None,
        typer.Option("--calibration", help="JSON of 'raw calibrate', or a folder of them: camera and ISO decide."),
    ] = None,
    dark: Annotated[
        Path | None, typer.Option("--dark", help="Master dark frame of the same size; subtracted above black.")
    ] = None,
    black: Annotated[
        str, typer.Option("--black", help="auto, file, or one or four levels in DN: 512,512,514,512.")
    ] = "",
    cfa: Annotated[str, typer.Option("--cfa", help="Colours of a bare mosaic, row by row: RGGB, or 36 letters.")] = "",
    width: Annotated[int, typer.Option("--width", help="Samples in a row of a file without a header.")] = 0,
    height: Annotated[int, typer.Option("--height", help="Rows of a file without a header.")] = 0,
    bits: Annotated[int, typer.Option("--bits", help="Bits of a sample of a file without a header.")] = 0,
) -> None:
    """Flags of the field."""


def mosaic(subject: Subject) -> bool:
    """Hold for samples of one colour each."""
    return subject.description.series is None


def simulate(seed: int = 0, case: str = CASES[0], size: Any = None) -> Phantom:
    """Simulate a case; see ``phantom``."""
    from pellucid.domains.raw import phantom

    return phantom.simulate(seed, case, size)


def from_rgb(rgb: Any, seed: int = 0) -> Phantom:
    """Undo what a camera did to a picture and add noise; see ``phantom``."""
    from pellucid.domains.raw import phantom

    return phantom.from_rgb(rgb, seed)


FIELD = Field(
    name="raw",
    line="Denoise camera raw before demosaicking; levels, colours and tags are kept.",
    spatial=(("y", "x"),),
    series="channel",
    formats=("dng", "libraw", "headerless", "npy", "npz"),
    kind="mosaic",
    kinds=("mosaic", "linear"),
    choose=(
        Choice("vst-nlm", mosaic, "a mosaic: its noise is still independent, and depends on the signal as photons do"),
        Choice("nlm", always, "already demosaicked: colours are full, and neighbours share their noise"),
    ),
    methods=("vst-nlm", "vst-bm3d", "nlm", "identity"),
    closed=True,  # what takes neighbours for the same colour has no place here
    refuse=(checks.not_raw, checks.complex_samples, checks.empty),
    warn=(checks.demosaicked, checks.assumed_pattern, checks.black_levels, checks.already_clean),
    estimate=noise.estimate,
    estimators=noise.ESTIMATORS,
    law=noise.law,
    options=flags,
    extras=sensor.extras,
    simulate=simulate,
    cases=CASES,
    from_rgb=from_rgb,
    sizes={"small": (240, 320)},
    measure=metrics.measure,
    judge=metrics.judge,
    picture=metrics.picture,
    conversions=(
        Conversion(
            name="develop",
            line="Make a 16-bit picture: white balance, demosaic, colour, profile.",
            word="developed",
            suffix=".tiff",
            options=develop.Options,
            run=develop.run,
            refuse=(checks.not_raw, checks.complex_samples),
            formats=("tiff", "png"),
            cite=("10.1109/ICASSP.2004.1326587",),
        ),
    ),
    gain=("psnr", "the picture's PSNR rose from {before:.1f} to {after:.1f} dB"),
)
