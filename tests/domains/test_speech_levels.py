# SPDX-License-Identifier: Apache-2.0
"""Figures of one recording by itself: levels of ITU-T P.56, clipping, pauses, DNSMOS where it is installed."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from pellucid.core.types import Description
from pellucid.domains.speech import dnsmos, levels

RATE = 16_000


def described(values: np.ndarray, rate: float = RATE) -> Description:
    return Description("wav", values.shape, ("time", "channel"), "float32", "waveform", acquisition={"rate_hz": rate})


def sine(seconds: float, amplitude: float, rate: int = RATE) -> np.ndarray:
    return amplitude * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)


@pytest.mark.parametrize("rate", [8000, 16_000, 48_000])
def test_a_tone_that_fills_half_of_the_time_has_its_own_level_and_no_more(rate: int) -> None:
    sound = np.concatenate([sine(5, 0.2, rate), np.zeros(5 * rate)])
    level, share = levels.active_level(sound, rate)
    assert abs(level - 20 * np.log10(0.2 / np.sqrt(2))) < 0.4  # the hangover counts .2 s more
    assert 0.5 < share < 0.56


def test_the_active_level_follows_the_gain_and_ignores_added_silence() -> None:
    rng = np.random.default_rng(0)
    speech = np.repeat(rng.gamma(0.3, 1, 40), RATE // 4) * rng.standard_normal(10 * RATE) * 0.02
    level, share = levels.active_level(speech, RATE)
    louder, same = levels.active_level(2 * speech, RATE)
    assert abs(louder - level - 20 * np.log10(2)) < 1e-6
    assert same == pytest.approx(share)
    longer, less = levels.active_level(np.concatenate([speech, np.zeros(10 * RATE)]), RATE)
    assert abs(longer - level) < 0.2
    assert less == pytest.approx(share / 2, rel=0.05)
    assert levels.active_level(np.zeros(100), RATE) == (levels.SILENT, 0.0)


def test_every_level_of_a_made_recording_is_found() -> None:
    rng = np.random.default_rng(1)
    sound = 1e-3 * rng.standard_normal(10 * RATE) + 0.01
    sound[: 5 * RATE] += sine(5, 0.5)
    sound[100:104] = 1.0
    report = levels.inspect(np.stack([sound, sound], axis=1).astype(np.float32), described(sound[:, None]))
    assert report["peak"] == pytest.approx(0, abs=0.01)
    assert report["rms"] == pytest.approx(10 * np.log10(np.mean(sound**2)), abs=1e-4)
    assert report["clipped"] == 8
    assert report["dc"] == pytest.approx(np.mean(sound), abs=1e-6)
    assert report["noise_floor"] == pytest.approx(10 * np.log10(1e-6 + 1e-4), abs=0.2)
    assert report["speech_level"] == pytest.approx(20 * np.log10(0.5 / np.sqrt(2)), abs=0.4)


def test_silence_single_samples_and_numbers_that_are_none_give_finite_figures() -> None:
    for sound in (np.zeros(RATE), np.ones(1), np.full(50, np.nan), np.zeros(0)):
        report = levels.inspect(sound, described(sound))
        assert all(np.isfinite(v) for v in report.values())
    assert levels.inspect(np.zeros(RATE), described(np.zeros(RATE)))["rms"] == levels.SILENT


def test_without_its_package_dnsmos_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    dnsmos._network.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert dnsmos.scores(sine(1, 0.1), RATE) is None
    assert "dnsmos_overall" not in levels.inspect(sine(1, 0.1), described(sine(1, 0.1)))
    dnsmos._network.cache_clear()


def test_dnsmos_follows_the_noise_and_takes_any_rate_and_length() -> None:
    pytest.importorskip("speechmos", reason="speechmos is not installed", exc_type=ImportError)
    dnsmos._network.cache_clear()
    rng = np.random.default_rng(2)
    speech = sine(4, 0.2, 48_000) * (np.sin(2 * np.pi * 4 * np.arange(4 * 48_000) / 48_000) > 0)
    quiet, loud = (dnsmos.scores(speech + a * rng.standard_normal(len(speech)), 48_000) for a in (1e-4, 0.1))
    assert quiet is not None and loud is not None
    assert 1 <= loud["dnsmos_background"] < quiet["dnsmos_background"] <= 5
