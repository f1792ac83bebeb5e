# SPDX-License-Identifier: Apache-2.0
"""Speech: recordings of voices, any rate, any number of channels."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pellucid.domains.declare import Choice, Field, Phantom, Task, always
from pellucid.domains.speech import checks, levels, metrics

CASES = ("fan", "street", "stereo")


def flags(
    *,
    rate: Annotated[
        float, typer.Option("--rate", help="Sampling rate in Hz of a bare array (.npy); 16000 where it is not given.")
    ] = 0.0,
    raw: Annotated[str, typer.Option("--raw", help="Samples without a header: s16le, s24le, s32le, f32le ...")] = "",
    raw_channels: Annotated[int, typer.Option("--raw-channels", help="Channels of --raw samples.")] = 0,
) -> None:
    """Flags of the field."""


def simulate(seed: int = 0, case: str = CASES[0], size: Any = None) -> Phantom:
    """Simulate a case; see ``phantom``."""
    from pellucid.domains.speech import phantom

    return phantom.simulate(seed, case, size)


FIELD = Field(
    name="speech",
    line="Denoise recordings of speech; length, level and metadata are kept.",
    spatial=(("time",),),
    series="channel",
    formats=("wav", "flac", "aiff", "sound", "pcm", "npy", "npz"),
    kind="waveform",
    kinds=("waveform",),
    choose=(Choice("omlsa", always, "works on any rate without weights, and streams"),),
    methods=("omlsa", "wavelet", "identity"),
    refuse=(checks.empty, checks.strange_rate),
    warn=(checks.not_numbers, checks.clipping, checks.quiet, checks.no_rhythm),
    estimate=checks.estimate,
    estimators=("quantile",),
    options=flags,
    extras=checks.extras,
    simulate=simulate,
    cases=CASES,
    measure=metrics.measure,
    judge=metrics.judge,
    inspect=levels.inspect,
    picture=metrics.picture,
    tasks=(
        Task(
            name="dereverb",
            line="Remove late reverberation (WPE).",
            word="dereverbed",
            changes={
                "choose": (Choice("wpe", always, "no weights, one or several channels"),),
                "methods": ("wpe", "identity"),
            },
        ),
    ),
    gain=("si_sdr", "the voice stood {before:.1f} dB above the noise, now {after:.1f} dB"),
)
