# SPDX-License-Identifier: Apache-2.0
"""The default speech method: any delivery gives the same bits, silence stays silence, speech gains and never loses."""

from __future__ import annotations

import csv
from typing import Any

import numpy as np
import pytest
import soundfile

from pellucid.core.errors import UsageError
from pellucid.core.types import Noise, Plan, Tile
from pellucid.domains.speech import gain, omlsa, phantom, stft, trackers
from pellucid.domains.speech.metrics import si_sdr

RATE = 16_000


def denoise(
    values: np.ndarray, *, rate: float = RATE, block: int = 0, bits: int = 0, noise: Noise | None = None, **options: Any
) -> np.ndarray:
    """Feed a sound in blocks and return the joined result."""
    plan = Plan("omlsa", omlsa.Options(**options), extras={"rate_hz": rate} | ({"bits": bits} if bits else {}))
    values, carry, out = values.astype(np.float32), None, []
    rng = np.random.default_rng(0)
    for start in range(0, len(values), block or len(values)):
        piece = values[start : start + (block or len(values))]
        window = (slice(start, start + len(piece)),)
        result = omlsa.run(Tile(piece, window, window, (len(values),), None, carry), noise, plan, rng)
        carry = result.carry
        out.append(result.values)
    return np.concatenate([*out, omlsa.finish(carry, plan).values])


@pytest.fixture(scope="module")
def voice():
    made = phantom.simulate(3, "fan", "small")
    return made.truth[:, 0] / 32768, made.noisy[:, 0] / 32768


@pytest.mark.parametrize("tracker", ["spp", "imcra", "hybrid"])
@pytest.mark.parametrize("block", [160, 4096, RATE])
def test_the_length_of_the_blocks_does_not_change_a_bit(voice, tracker, block):
    noisy = voice[1][: 3 * RATE + 77]
    whole = denoise(noisy, tracker=tracker)
    assert len(whole) == len(noisy)
    assert np.array_equal(denoise(noisy, block=block, tracker=tracker), whole)


@pytest.mark.parametrize("count", [0, 1, 22, 255, 256, 257, 511, 16383, 16384, 16385])
def test_any_length_comes_back_as_long(voice, count):
    noisy = voice[1][:count]
    plan = Plan("omlsa", omlsa.Options(), extras={"rate_hz": RATE})
    if not count:
        assert omlsa.finish(None, plan).values.shape == (0,)
        return
    out = denoise(noisy)
    assert out.shape == noisy.shape and np.isfinite(out).all() and out.dtype == np.float32
    if count < 2000:  # too short to know the noise: unchanged
        assert np.abs(out - noisy).max() < 1e-6


@pytest.mark.parametrize("rate", [8_000, 11_025, 15_625, 22_050, 44_100, 48_000, 96_000, 192_000])
def test_every_rate_is_processed_as_it_is(rate):
    rng = np.random.default_rng(0)
    t = np.arange(3 * rate) / rate
    tone = 0.3 * np.sin(2 * np.pi * 440 * t) * (np.sin(2 * np.pi * 2 * t) > 0)
    noisy = tone + 0.03 * rng.standard_normal(len(t))
    out = denoise(noisy, rate=rate)
    assert out.shape == noisy.shape
    assert si_sdr(tone, out) > si_sdr(tone, noisy) + 6


def test_the_hop_is_sixteen_milliseconds_and_fast():
    assert [stft.hop_length(r) for r in (8000, 16000, 48000, 15625)] == [128, 256, 768, 250]
    for rate in (11025, 22050, 44100, 88200, 192000):
        assert stft.hop_length(rate) / rate == pytest.approx(0.016, rel=0.03)


def test_without_a_gain_the_transform_gives_back_its_input():
    rng = np.random.default_rng(1)
    hop, taper = 250, stft.window(250)
    sound = rng.standard_normal((2, 12 * hop)).astype(np.float32)
    spectra = stft.analyse(np.pad(sound, ((0, 0), (hop, hop))), hop, taper)
    out, _ = stft.synthesise(spectra, taper, np.zeros((2, hop), np.float32))
    assert np.abs(out[:, hop:] - sound).max() < 1e-6


def test_the_gain_equals_its_formula():
    from scipy.special import exp1

    xi = np.float32(10.0) ** np.linspace(-2.5, 3, 50, dtype=np.float32)[:, None]
    gamma = np.float32(10.0) ** np.linspace(-3, 2, 40, dtype=np.float32)[None]
    v = gamma.astype(float) * xi / (1 + xi)
    expected = np.minimum(xi / (1 + xi) * np.exp(0.5 * exp1(np.maximum(v, gain.V_LOW))), 1)
    found = gain.log_mmse(np.broadcast_to(xi, v.shape).copy(), np.broadcast_to(gamma, v.shape).copy())
    assert np.abs(found / expected - 1).max() < 5e-3


@pytest.mark.parametrize("name", ["spp", "imcra", "hybrid"])
def test_trackers_find_the_power_of_steady_noise_and_its_rise(name):
    rng = np.random.default_rng(2)
    power = rng.exponential(1.0, (500, 1, 257)).astype(np.float32)
    power[200:] *= 4  # 6 dB
    live = np.ones((500, 1), bool)
    lam, _ = trackers.follow(name, power, live, trackers.begin(name, trackers.start(power[:120], live[:120])))
    assert 10 * np.log10(lam[50:200].mean()) == pytest.approx(0, abs=1.5)
    assert 10 * np.log10(lam[400:].mean() / 4) == pytest.approx(0, abs=1.5)


def test_digital_silence_is_returned_exactly_and_teaches_the_tracker_nothing(voice):
    noisy = voice[1]
    gap = np.concatenate([noisy[: 2 * RATE], np.zeros(2 * RATE), noisy[2 * RATE :]])
    out = denoise(gap)
    assert not out[2 * RATE + 512 : 4 * RATE - 512].any()
    after = slice(4 * RATE + 512, 4 * RATE + RATE // 2)
    straight = denoise(noisy)[2 * RATE + 512 : 2 * RATE + RATE // 2]
    assert 10 * np.log10(np.sum(out[after] ** 2) / np.sum(straight**2)) < 1.5  # no burst of noise
    assert not denoise(np.zeros(3 * RATE)).any()


def test_a_channel_that_begins_late_is_denoised_too():
    rng = np.random.default_rng(4)
    late = np.concatenate([np.zeros(5 * RATE), 0.1 * rng.standard_normal(5 * RATE)])
    pair = np.stack([0.1 * rng.standard_normal(10 * RATE), late], axis=1)
    out = denoise(pair, channels="independent", guard="off")
    assert np.sum(out[8 * RATE :, 1] ** 2) < 0.1 * np.sum(pair[8 * RATE :, 1] ** 2)


def test_stereo_keeps_level_and_phase_differences():
    made = phantom.simulate(0, "stereo", "small")
    out = denoise(made.noisy / 32768)
    loud = made.truth[:, 0].astype(float) ** 2 > 0.01 * np.max(made.truth[:, 0].astype(float) ** 2)
    same = np.stack([made.truth[:, 0], made.truth[:, 0] * 0.5], axis=1) / 32768
    pair = denoise(same + 0.003 * np.random.default_rng(0).standard_normal((len(same), 1)) * [1, 0.5])
    assert np.abs(pair[:, 0] - 2 * pair[:, 1]).max() < 1e-5  # one gain: identical channels stay identical
    power = [np.sum(np.square(v[loud].astype(float)), axis=0) for v in (out, made.truth)]
    difference = [10 * np.log10(p[0] / p[1]) for p in power]
    assert difference[0] == pytest.approx(difference[1], abs=0.3)  # noise of its own in each channel


def test_limit_and_mix_bound_what_is_removed():
    noise = 0.1 * np.random.default_rng(0).standard_normal(6 * RATE).astype(np.float32)
    assert np.array_equal(denoise(noise, limit=0.0), noise)
    assert np.array_equal(denoise(noise, mix=0.0), noise)
    drop = [10 * np.log10(np.mean(noise**2) / np.mean(denoise(noise, limit=d) ** 2)) for d in (6.0, 12.0, 20.0)]
    assert drop[0] < drop[1] < drop[2] and all(d <= wanted for d, wanted in zip(drop, (6, 12, 20), strict=True))
    wet, dry = denoise(noise, mix=1.0), noise
    assert np.abs(denoise(noise, mix=0.5) - 0.5 * (wet + dry)).max() < 1e-5


def test_a_given_noise_level_is_used_and_zero_returns_the_input(voice):
    noisy = voice[1]
    assert np.array_equal(denoise(noisy, noise=Noise("gaussian", 0.0, "given")), noisy.astype(np.float32))
    white = 0.05 * np.random.default_rng(0).standard_normal(4 * RATE)
    out = denoise(white, noise=Noise("gaussian", 0.05, "given"), guard="off")
    assert np.mean(out**2) < 0.06 * np.mean(white**2)


def test_a_noise_only_stretch_is_used(voice):
    clean, noisy = voice
    out = denoise(noisy, noise_from="0-0.55")
    assert si_sdr(clean, out) > si_sdr(clean, noisy) + 3
    assert np.array_equal(out, denoise(noisy, noise_from="0-0.55", block=4096))


@pytest.mark.parametrize(
    "options",
    [
        {"limit": -3.0},
        {"mix": 1.5},
        {"tracker": "best"},
        {"channels": "odd"},
        {"guard": "maybe"},
        {"noise_from": "2-1"},
        {"noise_from": "x"},
    ],
)
def test_impossible_options_are_refused(voice, options):
    with pytest.raises(UsageError):
        denoise(voice[1][:RATE], **options)


def test_clipped_samples_are_counted_and_bad_ones_kept_out(voice):
    loud = np.clip(voice[1] * 8, -1, 32767 / 32768).astype(np.float32)
    plan = Plan("omlsa", omlsa.Options(), extras={"rate_hz": RATE})
    result = omlsa.run(Tile.whole(loud), None, plan, np.random.default_rng(0))
    assert result.facts["clipped"] == np.count_nonzero((loud >= 32767 / 32768) | (loud <= -32767 / 32768)) > 100
    mask = np.ones(len(loud), bool)
    mask[1000:1010] = False
    broken = np.where(mask, loud, 0)
    whole = (slice(0, len(loud)),)
    out = omlsa.run(Tile(broken, whole, whole, (len(loud),), mask), None, plan, np.random.default_rng(0))
    assert np.isfinite(out.values).all()


def test_noise_below_one_step_of_the_word_is_left_alone():
    rng = np.random.default_rng(0)
    faint = np.rint(0.4 * rng.standard_normal(4 * RATE)) / 32768
    assert np.abs(denoise(faint, bits=16) - faint).max() < 1e-7
    assert np.mean(denoise(faint) ** 2) < 0.5 * np.mean(faint**2)


def test_live_mode_answers_within_a_fraction_of_a_second(voice):
    clean, noisy = voice
    plan = Plan("omlsa", omlsa.Options(live=True), extras={"rate_hz": RATE})
    first = omlsa.run(Tile.whole(noisy[:RATE].astype(np.float32)), None, plan, np.random.default_rng(0))
    assert len(first.values) > 0.8 * RATE
    assert si_sdr(clean, denoise(noisy, live=True)) > si_sdr(clean, noisy) + 3


def test_a_second_pass_changes_little(voice):
    once = denoise(voice[1])
    twice = denoise(once)
    assert np.std(twice - once) < 0.25 * np.std(once - voice[1])


def rows(path, stride):
    with open(path) as file:
        return list(csv.DictReader(file, delimiter="\t"))[::stride]


def test_real_mixtures_gain_and_zero_identity_and_low_pass_fail(shared_data):
    """Every sixth tune mixture: mean SI-SDR gain >= 2.8 dB, none loses .5 dB."""
    from scipy.ndimage import gaussian_filter1d

    gains: dict[str, list[float]] = {"omlsa": [], "identity": [], "blur": [], "zero": []}
    for row in rows(shared_data("speech/mixtures_tune.tsv"), 6):
        s, _ = soundfile.read(shared_data(f"speech/clean/tune/{row['speech']}"))
        v, _ = soundfile.read(shared_data(f"speech/noise/tune/{row['noise']}"))
        v = np.tile(v, 2)[int(row["noise_offset"]) :][: len(s)]
        noisy = s + v * np.sqrt(np.mean(s**2) / np.mean(v**2) / 10 ** (float(row["snr_db"]) / 10))
        before = si_sdr(s, noisy)
        for name, out in (
            ("omlsa", denoise(noisy)),
            ("identity", noisy),
            ("blur", gaussian_filter1d(noisy, 2.0)),
            ("zero", 1e-12 * np.random.default_rng(0).standard_normal(len(s))),
        ):
            gains[name].append(si_sdr(s, out) - before)
    assert np.mean(gains["omlsa"]) >= 2.8 and min(gains["omlsa"]) > -0.5
    for name in ("identity", "blur", "zero"):
        assert np.mean(gains[name]) < 2


def test_clean_speech_comes_back_clean(shared_data):
    values = []
    for name in ("1069-133699-0000", "200-124139-0000", "2911-12359-0000", "4014-186175-0000"):
        s, _ = soundfile.read(shared_data(f"speech/clean/tune/{name}.flac"))
        values.append(si_sdr(s, denoise(s, bits=16)))
    assert np.mean(values) >= 30


def test_a_real_recording_of_odd_rate_is_quieter_in_pauses_only(shared_data):
    from pellucid.core.types import Description
    from pellucid.domains.speech.metrics import judge

    sound, rate = soundfile.read(shared_data("speech/real/clearbuds_real_15625hz.flac"), dtype="float32")
    out = denoise(sound[: 13 * rate], rate=rate)
    voice = slice(3 * rate, 13 * rate)  # the recording begins with 2 s of a stuck input
    d = Description("flac", sound.shape, ("time",), "int16", acquisition={"rate_hz": rate})
    found = judge(sound[voice], out[voice], d, None)
    assert found["noise_floor_after"] < found["noise_floor_before"] - 3
    assert found["speech_level_change"] > -1.5
