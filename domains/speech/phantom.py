# SPDX-License-Identifier: Apache-2.0
"""Synthetic speech in noise: a glottal source through formant resonators, with fricatives and pauses.

Source-filter model after Fant 1960 and Klatt, JASA 67, 1980 (doi:10.1121/1.383940); formants of a male
voice from Peterson and Barney, JASA 24, 1952 (doi:10.1121/1.1906875). It is no language, but it has what
denoisers use: harmonics that glide, formants, unvoiced bursts, syllables at about 4 Hz, pauses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pellucid.core.errors import UsageError
from pellucid.core.lazy import fft, np
from pellucid.core.types import Description, Noise
from pellucid.domains.declare import Phantom

if TYPE_CHECKING:
    from pellucid.core.types import Array

RATE = 16_000
SECONDS = {"": 10.0, "small": 6.0}
VOWELS = (  # F1, F2, F3 in Hz: heed, hid, head, had, hod, hawed, hood, who'd, heard
    (270, 2290, 3010), (390, 1990, 2550), (530, 1840, 2480), (660, 1720, 2410), (730, 1090, 2440),
    (570, 840, 2410), (440, 1020, 2240), (300, 870, 2240), (490, 1350, 1690),
)  # fmt: skip
F4 = 3400
BANDWIDTHS = (60, 90, 140, 250)  # Hz
FRICATIVES = ((2500, 1200), (4500, 2000), (6000, 1800))  # centre and width in Hz: sh, s, f
PITCH = 115.0  # Hz
PEAK = 0.5  # of full scale
SNR = 5.0  # dB
LEAD = 0.6  # s of noise alone at the beginning
CASES = ("fan", "street", "stereo")


def simulate(seed: int = 0, case: str = "fan", size: Any = None) -> Phantom:
    """Simulate a case of the field at 5 dB SNR.

    Parameters
    ----------
    seed : int
        Of voice and noise.
    case : {"fan", "street", "stereo"}
        Steady coloured noise with a hum; slowly swelling noise of passing cars; a voice off centre in
        two channels with independent noise.
    size : int, "small" or None
        Samples; "small" is 6 s, None 10 s, at 16 kHz.

    Returns
    -------
    Phantom
        int16, axes (time, channel).

    Raises
    ------
    UsageError
        For an unknown case or size.
    """
    if case not in CASES:
        raise UsageError(f"unknown phantom {case!r}", hint=f"choose one of {', '.join(CASES)}")
    count = _count(size)
    rng = np.random.default_rng(seed)
    voice = speech(count, rng)
    channels = np.stack([voice, 0.7 * voice], axis=1) if case == "stereo" else voice[:, None]
    noise = np.stack([_noise(count, case, rng) for _ in range(channels.shape[1])], axis=1)
    power = float(np.mean(np.square(channels))) or 1.0
    noise *= np.sqrt(power / np.mean(np.square(noise)) / 10 ** (SNR / 10))
    scale = PEAK / np.abs(channels + noise).max()
    truth, noisy = (np.rint(x * scale * 32767).astype(np.int16) for x in (channels, channels + noise))
    description = Description(
        format="wav",
        shape=noisy.shape,
        axes=("time", "channel"),
        dtype="int16",
        kind="waveform",
        spacing=(1 / RATE, None),
        units=("s", None),
        slope=2.0**-15,
        out_dtype="int16",
        acquisition={"rate_hz": RATE, "bits": 16, "subtype": "PCM_16"},
    )
    return Phantom(truth, noisy, description, Noise("gaussian", float((noise * scale).std()), "given"))


def speech(count: int, rng: np.random.Generator) -> Array:
    """Return ``count`` samples of syllables in phrases, peak 1, float64."""
    out = np.zeros(count)
    start, phrase = round(LEAD * RATE), 0
    while start < count:
        onset = _fricative(round(rng.uniform(0.06, 0.12) * RATE), rng) if rng.random() < 0.6 else np.zeros(0)
        vowel = _vowel(round(rng.uniform(0.12, 0.24) * RATE), phrase, rng)
        lap = min(len(onset), RATE // 100)
        syllable = np.concatenate([onset, np.zeros(len(vowel) - lap)])
        syllable[len(onset) - lap :] += vowel
        syllable = syllable[: count - start]
        out[start : start + len(syllable)] += syllable
        start, phrase = start + len(syllable), phrase + 1
        if rng.random() < 0.25:  # end of a phrase
            start, phrase = start + round(rng.uniform(0.2, 0.5) * RATE), 0
        elif rng.random() < 0.5:  # stop consonant
            start += round(rng.uniform(0.02, 0.06) * RATE)
    return out / (np.abs(out).max() or 1.0)


def _count(size: Any) -> int:
    if size is None or size in SECONDS:
        return round(SECONDS[size or ""] * RATE)
    try:
        count = int(size[0] if isinstance(size, tuple) else size)
    except (TypeError, ValueError):
        raise UsageError(f"size {size!r} is no number of samples", hint="small, or for example 96000") from None
    if count < RATE:
        raise UsageError(f"size {count} is less than a second", hint=f"at least {RATE} samples")
    return count


def _vowel(count: int, phrase: int, rng: np.random.Generator) -> Array:
    """Return a voiced stretch: pulses with falling pitch, jitter and tilt, gliding between two vowels."""
    t = np.arange(count) / RATE
    pitch = PITCH * 0.97**phrase * (1 + 0.12 * np.cos(np.pi * t * RATE / count) + 0.01 * rng.standard_normal())
    phase = np.cumsum(pitch * (1 + 0.005 * np.sin(2 * np.pi * 5 * t))) / RATE
    pulses = np.diff(np.floor(phase), prepend=0.0)
    source = _filter([1.0], [1.0, -0.95], pulses) + 0.003 * rng.standard_normal(count)  # -12 dB/octave, breath
    source = np.diff(source, prepend=0.0)  # lips
    first, second = (VOWELS[i] for i in rng.integers(0, len(VOWELS), 2))
    glide = np.linspace(0, 1, count)
    sound = (1 - glide) * _formants(source, first) + glide * _formants(source, second)
    return sound / (np.abs(sound).max() or 1.0) * rng.uniform(0.6, 1.0) * _envelope(count, 0.02, 0.05)


def _fricative(count: int, rng: np.random.Generator) -> Array:
    """Return an unvoiced stretch: noise through one wide resonance."""
    centre, width = FRICATIVES[rng.integers(0, len(FRICATIVES))]
    sound = _resonator(rng.standard_normal(count), centre, width)
    return sound / np.abs(sound).max() * rng.uniform(0.08, 0.25) * _envelope(count, 0.02, 0.02)


def _formants(source: Array, formants: tuple[int, ...]) -> Array:
    """Return the source through four resonators in cascade."""
    sound = source
    for centre, width in zip((*formants, F4), BANDWIDTHS, strict=True):
        sound = _resonator(sound, centre, width)
    return sound


def _resonator(values: Array, centre: float, width: float) -> Array:
    """Apply Klatt's two-pole resonator of unit gain at 0 Hz (1980, eq. 1 and 2)."""
    c = -np.exp(-2 * np.pi * width / RATE)
    b = 2 * np.exp(-np.pi * width / RATE) * np.cos(2 * np.pi * centre / RATE)
    return _filter([1 - b - c], [1, -b, -c], values)


def _filter(numerator: list[float], denominator: list[float], values: Array) -> Array:
    from scipy.signal import lfilter

    return np.asarray(lfilter(numerator, denominator, values))


def _envelope(count: int, rise: float, fall: float) -> Array:
    """Return a gate with raised-cosine edges of ``rise`` and ``fall`` seconds."""
    t = np.arange(count) / RATE
    up = np.clip(t / rise, 0, 1)
    down = np.clip((count / RATE - t) / fall, 0, 1)
    return np.asarray(0.25 * (1 - np.cos(np.pi * up)) * (1 - np.cos(np.pi * down)))


def _noise(count: int, case: str, rng: np.random.Generator) -> Array:
    """Return noise falling by 3 dB an octave above 100 Hz; with a hum, or swelling over seconds."""
    spectrum = fft.rfft(rng.standard_normal(count))
    tones = fft.rfftfreq(count, 1 / RATE)
    noise = fft.irfft(spectrum / np.sqrt(1 + tones / 100), count)
    noise /= noise.std()
    t = np.arange(count) / RATE
    if case == "street":
        swell = 4 * np.sin(2 * np.pi * t / rng.uniform(5, 8) + rng.uniform(0, 2 * np.pi))  # dB
        return np.asarray(noise * 10 ** (swell / 20))
    hum = sum(
        a * np.sin(2 * np.pi * f * t + rng.uniform(0, 2 * np.pi)) for f, a in ((120, 0.5), (240, 0.3), (960, 0.1))
    )
    return np.asarray(noise + hum)
