# SPDX-License-Identifier: Apache-2.0
"""The speech field: figures of merit, checks, phantom, pictures; and that bad results fail them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pellucid.core.errors import UsageError
from pellucid.core.types import Description
from pellucid.domains.declare import Subject
from pellucid.domains.speech import checks, metrics, phantom
from pellucid.domains.speech.field import FIELD

RATE = 16_000


class Held:
    """A reader over an array."""

    def __init__(self, values, description):
        self.path, self.values, self.description = Path("held.wav"), values, description

    def read(self, region):
        return self.values[region]

    def close(self):
        pass


def held(values, rate=RATE, **facts) -> Subject:
    values = values[:, None] if values.ndim == 1 else values
    acquisition = {"rate_hz": rate} | facts.pop("acquisition", {})
    description = Description(
        "wav", values.shape, ("time", "channel"), str(values.dtype), "waveform", acquisition=acquisition, **facts
    )
    return Subject(Held(values, description), description)


@pytest.fixture(scope="module")
def made():
    return phantom.simulate(0, "fan", "small")


def test_declaring_the_field_and_its_method_loads_no_heavy_library():
    script = (
        "import sys; import pellucid.domains.speech.field, pellucid.domains.speech.omlsa;"
        "print(sorted({'numpy','torch','scipy','soundfile'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout.strip() == "[]"


def test_the_default_method_is_omlsa_and_methods_get_rate_and_word_length(made):
    subject = Subject(Held(made.noisy, made.description), made.description)
    assert next(c.method for c in FIELD.choose if c.when(subject)) == "omlsa" == FIELD.methods[0]
    assert checks.extras(subject) == {"rate_hz": 16000, "bits": 16}
    assert checks.extras(held(np.zeros(4, np.float32), acquisition={"bits": 32})) == {"rate_hz": 16000}


def test_si_sdr_ignores_scale_and_offset_and_equals_its_closed_form():
    rng = np.random.default_rng(0)
    s = rng.standard_normal(4000)
    s -= s.mean()
    n = rng.standard_normal(4000)
    n -= n.mean()
    n -= (n @ s) / (s @ s) * s
    n *= np.sqrt((s @ s) / (n @ n) / 10**1.2)
    for scale, offset in ((1, 0), (-0.3, 0.5), (1e-6, 0)):
        assert metrics.si_sdr(s, scale * (s + n) + offset) == pytest.approx(12.0, abs=1e-6)


def test_segmental_snr_of_a_scaled_copy_is_its_closed_form():
    s = np.random.default_rng(0).standard_normal(RATE)
    assert metrics.segmental_snr(s, 0.9 * s, RATE) == pytest.approx(20.0, abs=1e-6)
    assert metrics.segmental_snr(s, s, RATE) == 35.0


def test_zero_identity_and_low_pass_score_below_the_method(made):
    from scipy.ndimage import gaussian_filter1d

    from pellucid.core.types import Plan, Tile
    from pellucid.domains.speech import omlsa

    truth, noisy = made.truth / 32768, (made.noisy / 32768).astype(np.float32)
    plan = Plan("omlsa", omlsa.Options(), extras={"rate_hz": RATE})
    first = omlsa.run(Tile.whole(noisy, spatial=1), None, plan, np.random.default_rng(0))
    out = np.concatenate([first.values, omlsa.finish(first.carry, plan).values])
    found = {
        name: metrics.measure(truth, values, made.description)
        for name, values in {
            "ours": out,
            "identity": noisy,
            "low": gaussian_filter1d(noisy, 2.0, axis=0),
            "zero": np.zeros_like(noisy) + 1e-9 * np.random.default_rng(0).standard_normal(noisy.shape),
        }.items()
    }
    for name in ("identity", "low", "zero"):
        assert found["ours"]["si_sdr"] > found[name]["si_sdr"] + 3
        assert found["ours"]["segmental_snr"] > found[name]["segmental_snr"] + 2
    assert found["identity"]["si_sdr"] == pytest.approx(phantom.SNR, abs=0.3)
    assert abs(found["ours"]["level_change"]) < 1 and found["zero"]["level_change"] < -60


def test_pesq_and_stoi_follow_the_noise(made):
    pytest.importorskip("pesq")
    pytest.importorskip("pystoi")
    truth, noisy = made.truth / 32768, made.noisy / 32768
    good, bad = metrics.measure(truth, truth, made.description), metrics.measure(truth, noisy, made.description)
    assert good["pesq"] > 4.5 > 2 > bad["pesq"] and good["stoi"] > 0.99 > bad["stoi"]
    short = metrics.measure(truth[:800], noisy[:800], made.description)
    assert "pesq" not in short and "stoi" not in short  # too short for either: left out, not averaged


def test_judge_tells_noise_floor_and_level(made):
    noisy = made.noisy / 32768
    found = metrics.judge(noisy, 0.5 * noisy, made.description, None)
    assert found["level_change"] == pytest.approx(-6.02, abs=0.01)
    assert found["noise_floor_before"] - found["noise_floor_after"] == pytest.approx(6.02, abs=0.01)
    assert found["speech_level_change"] == pytest.approx(-6.02, abs=0.01)


def test_the_picture_shows_a_tone_at_its_place():
    t = np.arange(2 * RATE) / RATE
    description = Description("wav", (len(t), 1), ("time", "channel"), "float32", acquisition={"rate_hz": RATE})
    image = metrics.picture(np.sin(2 * np.pi * 2000 * t)[:, None], description)
    assert image.ndim == 2 and image.shape[0] == metrics.PICTURE_ROWS
    row = image.mean(axis=1).argmax()
    assert row == metrics.PICTURE_ROWS - 1 - round(2000 / RATE * 512)
    assert image.max() == 0 and image.min() == pytest.approx(-metrics.PICTURE_RANGE)
    assert np.isfinite(metrics.picture(np.zeros((10, 2), np.float32), description)).all()


@pytest.mark.parametrize("case", phantom.CASES)
def test_phantoms_have_the_snr_they_claim_and_repeat(case):
    one, two, other = (phantom.simulate(s, case, 48000) for s in (1, 1, 2))
    assert np.array_equal(one.noisy, two.noisy) and not np.array_equal(one.noisy, other.noisy)
    clean, noise = one.truth.astype(float), one.noisy.astype(float) - one.truth
    assert 10 * np.log10(np.mean(clean**2) / np.mean(noise**2)) == pytest.approx(phantom.SNR, abs=0.1)
    assert noise.std() / 32768 == pytest.approx(one.noise.sigma, rel=0.01)
    assert one.noisy.dtype == np.int16 and one.noisy.shape == one.description.shape == (48000, 1 + (case == "stereo"))


def test_the_phantom_voice_has_pitch_formants_and_syllables():
    voice = phantom.speech(8 * RATE, np.random.default_rng(0))
    assert checks.rhythm_depth(voice, RATE) > 5
    spectrum = np.abs(np.fft.rfft(voice)) ** 2
    tones = np.fft.rfftfreq(len(voice), 1 / RATE)
    low = spectrum[(tones > 200) & (tones < 1000)].mean()
    assert low > 10 * spectrum[(tones > 4000) & (tones < 8000)].mean()  # voiced sounds dominate
    lags = np.fft.irfft(spectrum)[RATE // 200 : RATE // 70]
    assert 85 < RATE / (lags.argmax() + RATE // 200) < 140


def test_impossible_phantoms_are_refused():
    for arguments in ((0, "rain", None), (0, "fan", "tiny"), (0, "fan", 100)):
        with pytest.raises(UsageError):
            phantom.simulate(*arguments)


def test_an_empty_file_and_a_strange_rate_are_refused():
    assert checks.empty(held(np.zeros((0, 1), np.int16))) is not None
    assert checks.empty(held(np.zeros((5, 1), np.int16))) is None
    assert checks.strange_rate(held(np.zeros(5), rate=1e6)) and checks.strange_rate(held(np.zeros(5), rate=100))
    assert checks.strange_rate(held(np.zeros(5), rate=15_625)) is None


def test_warnings_name_clipping_silence_quiet_and_missing_samples(made):
    speech = held(made.noisy, slope=2.0**-15)
    for warn in FIELD.warn:
        assert warn(speech) is None, warn.__name__
    loud = np.clip(made.noisy.astype(float) * 20, -32768, 32767).astype(np.int16)
    assert checks.clipping(held(loud, slope=2.0**-15))[0] == "clipping"
    assert checks.quiet(held(np.zeros(100, np.int16)))[0] == "silence"
    assert checks.quiet(held(np.full(100, 3, np.int16), slope=2.0**-15))[0] == "quiet"
    broken = np.zeros(100, np.float32)
    broken[7] = np.nan
    assert "1 samples" in checks.not_numbers(held(broken))[1]


def test_steady_noise_has_no_rhythm_and_speech_has():
    noise = np.random.default_rng(0).standard_normal(5 * RATE).astype(np.float32) * 0.1
    assert checks.no_rhythm(held(noise))[0] == "no-rhythm"
    assert checks.no_rhythm(held(noise[:RATE])) is None  # too short to tell


def test_real_speech_in_noise_at_zero_decibels_still_has_rhythm(shared_data):
    s, _ = soundfile.read(shared_data("speech/clean/tune/1069-133699-0000.flac"), dtype="float32")
    v, _ = soundfile.read(shared_data("speech/noise/tune/rain_heavy-rain.flac"), dtype="float32")
    v = v[: len(s)] * np.sqrt(np.mean(s**2) / np.mean(v[: len(s)] ** 2))
    assert checks.no_rhythm(held(s + v)) is None


@pytest.mark.parametrize("level", [0.001, 0.05])
def test_the_noise_level_is_found(level):
    rng = np.random.default_rng(0)
    t = np.arange(10 * RATE) / RATE
    voice = 0.3 * np.sin(2 * np.pi * 300 * t) * (np.sin(2 * np.pi * 0.5 * t) > 0)
    found = FIELD.estimate(held((voice + level * rng.standard_normal(len(t))).astype(np.float32)), "")
    assert found.sigma == pytest.approx(level, rel=0.4)  # 3 dB
    assert found.params["dbfs"] == pytest.approx(20 * np.log10(found.sigma), abs=1e-6)
    assert FIELD.estimate(held(np.zeros(RATE, np.float32)), "").sigma == 0


def test_the_rate_of_a_bare_array_is_taken_from_the_flag():
    description = Description("npy", (10, 1), ("time", "channel"), "float32")
    values = np.zeros((10, 1), np.float32)
    assert checks.rate_of(Subject(Held(values, description), description, {"rate": 8000.0})) == 8000
    assert checks.rate_of(Subject(Held(values, description), description)) == 16000
