# SPDX-License-Identifier: Apache-2.0
"""What ``evaluate`` says of one file by itself, and beside its input."""

from __future__ import annotations

import json
from typing import Any

import soundfile

from pellucid.domains.speech import levels


def test_a_denoised_recording_has_a_lower_floor_and_the_same_speech_level(shell: Any) -> None:
    shell("speech", "simulate", "-o", "voice.wav", "--size", "48000")
    shell("speech", "denoise", "voice.wav", "-q")
    done = shell("speech", "evaluate", "voice_denoised.wav", "--input", "voice.wav", "--json")
    document = json.loads(done.stdout)
    before, after = document["alone_before"], document["alone"]
    assert after["noise_floor"] < before["noise_floor"] - 5
    assert abs(after["speech_level"] - before["speech_level"]) < 2
    for fault in (0.5, 0.0):  # turning down is not denoising: speech goes with it
        values, rate = soundfile.read(shell.folder / "voice.wav")
        turned = levels.active_level(fault * values, rate)[0]
        assert turned < before["speech_level"] - 5


def test_a_single_file_can_be_evaluated_and_other_fields_still_ask_for_a_second(shell: Any) -> None:
    shell("speech", "simulate", "-o", "voice.wav", "--size", "16000")
    done = shell("speech", "evaluate", "voice.wav")
    assert done.returncode == 0
    assert done.stdout.startswith("result by itself")
    assert all(word in done.stdout for word in ("peak", "speech_level", "noise_floor", "clipped", "dc"))
    shell("image", "simulate", "-o", "picture.png", "--size", "64x64")
    assert shell("image", "evaluate", "picture.png").returncode == 2
