# SPDX-License-Identifier: Apache-2.0
"""Weighted prediction error: echoes that the past predicts are found and subtracted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pellucid.core.errors import UsageError
from pellucid.core.types import Plan, Tile
from pellucid.domains.speech import wpe

RATE = 16_000


def speech_like(frames: int, rng: np.random.Generator) -> np.ndarray:
    """Complex white noise whose power jumps every 20 frames, as speech does in a frequency."""
    power = np.repeat(rng.gamma(0.5, 1, frames // 20), 20)
    return (rng.standard_normal(frames) + 1j * rng.standard_normal(frames)) * np.sqrt(power)


def echoed(dry: np.ndarray, filters: np.ndarray, delay: int) -> np.ndarray:
    out = dry.astype(np.complex128)
    for t in range(len(out)):
        for k, g in enumerate(filters):
            if t >= delay + k:
                out[t] += g * out[t - delay - k]
    return out


def test_an_autoregressive_echo_is_mostly_removed() -> None:
    rng = np.random.default_rng(0)
    dry = speech_like(4000, rng)
    filters = 0.35 * np.exp(1j * rng.uniform(0, 2 * np.pi, 10) - np.arange(10) / 4)
    wet = echoed(dry, filters, 3)
    out = wpe.wpe(wet[None, None].astype(np.complex64), wpe.Options())[0, 0]
    before, after = (np.linalg.norm(v - dry) / np.linalg.norm(dry) for v in (wet, out))
    assert after < 0.6 * before
    for fault in (np.zeros_like(wet), wet, np.convolve(wet, np.ones(3) / 3, "same")):
        assert np.linalg.norm(fault - dry) / np.linalg.norm(dry) > 0.6 * before


def textbook(spectra: np.ndarray, options: wpe.Options) -> np.ndarray:
    """Equations 19 to 26 of the paper, frame by frame in double precision."""
    bins, channels, frames = spectra.shape
    out = spectra.astype(np.complex128)
    for b in range(bins):
        y = spectra[b].astype(np.complex128)
        past = np.zeros((options.taps * channels, frames), np.complex128)
        for k in range(options.taps):
            shift = options.delay + k
            past[k * channels : (k + 1) * channels, shift:] = y[:, : frames - shift]
        for _ in range(options.iterations):
            power = np.mean(np.abs(out[b]) ** 2, axis=0)
            power = np.maximum(power, wpe.FLOOR * power.max())
            r = sum(np.outer(p, p.conj()) / w for p, w in zip(past.T, power, strict=True))
            c = sum(np.outer(p, v.conj()) / w for p, v, w in zip(past.T, y.T, power, strict=True))
            r += wpe.LOADING * np.trace(r).real / len(r) * np.eye(len(r))
            out[b] = y - np.linalg.solve(r, c).conj().T @ past
    return out


@pytest.mark.parametrize("channels", [1, 3])
def test_the_filter_is_that_of_the_equations(channels: int) -> None:
    rng = np.random.default_rng(5)
    options = wpe.Options(taps=4, delay=2)
    shape = (3, channels, 300)
    spectra = (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64)
    spectra[:, :, 5:] += 0.5 * spectra[:, :, :-5]
    np.testing.assert_allclose(wpe.wpe(spectra, options), textbook(spectra, options), rtol=0, atol=2e-5)


def test_bins_filtered_together_or_one_by_one_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(6)
    spectra = (rng.standard_normal((9, 2, 200)) + 1j * rng.standard_normal((9, 2, 200))).astype(np.complex64)
    together = wpe.wpe(spectra, wpe.Options())
    monkeypatch.setattr(wpe, "TOGETHER", 1)
    np.testing.assert_allclose(wpe.wpe(spectra, wpe.Options()), together, atol=1e-5)


def test_frames_before_the_delay_are_untouched() -> None:
    rng = np.random.default_rng(1)
    spectra = (rng.standard_normal((5, 2, 400)) + 1j * rng.standard_normal((5, 2, 400))).astype(np.complex64)
    out = wpe.wpe(spectra, wpe.Options(delay=4))
    assert np.array_equal(out[:, :, :4], spectra[:, :, :4])


def test_without_prediction_the_samples_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wpe, "wpe", lambda spectra, options: spectra)
    for rate, length in ((16_000, 7001), (44_100, 30_000), (8_000, 4097)):
        sound = np.random.default_rng(2).standard_normal((2, length)).astype(np.float32)
        assert np.abs(wpe.dereverberate(sound, rate, wpe.Options()) - sound).max() < 1e-5


def test_the_blocks_a_stream_comes_in_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wpe, "SEGMENT", 1.0)
    monkeypatch.setattr(wpe, "FADE", 0.1)
    sound = np.random.default_rng(3).standard_normal((5 * RATE, 2)).astype(np.float32)
    assert np.array_equal(streamed(sound, 1000), streamed(sound, 10**9))
    assert streamed(sound, 4096).shape == sound.shape


def streamed(sound: np.ndarray, block: int) -> np.ndarray:
    plan = Plan("wpe", wpe.Options(), extras={"rate_hz": RATE})
    carry: Any = None
    pieces, rng = [], np.random.default_rng(0)
    for start in range(0, len(sound), block):
        part = sound[start : start + block]
        whole = (slice(start, start + len(part)),)
        result = wpe.run(Tile(part, whole, whole, (len(sound),), None, carry), None, plan, rng)
        carry, pieces = result.carry, [*pieces, result.values]
    return np.concatenate([*pieces, wpe.finish(carry, plan).values])


def test_a_real_room_is_heard_less(shared_data: Any) -> None:
    import soundfile
    from scipy.signal import fftconvolve

    room, rate = soundfile.read(shared_data("speech/rir/webaudio_kitchen.flac"))
    room = room[:, 0] if room.ndim > 1 else room
    start = int(np.argmax(np.abs(room)))
    clips = sorted(shared_data("speech/clean").rglob("*.flac")) or sorted(shared_data("speech/clean").rglob("*.wav"))
    dry, clip_rate = soundfile.read(clips[0])
    room = np.interp(np.arange(0, len(room), rate / clip_rate), np.arange(len(room)), room)
    start = int(start * clip_rate / rate)
    wet = fftconvolve(dry, room)[start : start + len(dry)]
    early = fftconvolve(dry, np.r_[room[: start + clip_rate // 20]])[start : start + len(dry)]
    out = wpe.dereverberate(wet[None].astype(np.float32), clip_rate, wpe.Options())[0]
    assert si_sdr(early, out) > si_sdr(early, wet) + 0.3
    for fault in (np.zeros_like(wet), wet, np.convolve(wet, np.ones(5) / 5, "same")):
        assert not si_sdr(early, fault) > si_sdr(early, wet) + 0.3


def si_sdr(reference: np.ndarray, estimate: np.ndarray) -> float:
    reference, estimate = reference - reference.mean(), estimate - estimate.mean()
    if not estimate.any():
        return -np.inf
    target = reference * (estimate @ reference) / (reference @ reference)
    return float(10 * np.log10((target @ target) / ((estimate - target) @ (estimate - target))))


def test_silence_stays_and_strange_options_are_refused() -> None:
    silence = np.zeros((1, RATE), np.float32)
    assert not wpe.dereverberate(silence, RATE, wpe.Options()).any()
    with pytest.raises(UsageError, match="1 or more"):
        wpe.run(Tile.whole(silence[0]), None, Plan("wpe", wpe.Options(taps=0)), np.random.default_rng(0))
