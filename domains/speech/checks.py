# SPDX-License-Identifier: Apache-2.0
"""What a user should know of a recording before it is denoised, and its noise level."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pellucid.core.lazy import fft, np
from pellucid.core.types import Noise
from pellucid.domains.declare import Refusal, Subject

if TYPE_CHECKING:
    from pellucid.core.types import Array

DEFAULT_RATE = 16_000.0
FULL_SCALE = 32766.5 / 32768  # a clipped 16-bit sample, after conversion
CLIPPED_RUN = 3  # equal samples at full scale in a row: no sound does that
QUIET_PEAK = 10 ** (-50 / 20)
LOWEST_RATE, HIGHEST_RATE = 4_000.0, 400_000.0
RHYTHM = (2.0, 8.0)  # Hz: syllables; Houtgast and Steeneken 1985
RHYTHM_DEPTH = 1.0  # dB, sd of the level in that band; noise alone stays below, speech at 0 dB SNR has 1.4 to 2.5
FRAME = 0.016  # s


def rate_of(subject: Subject) -> float:
    """Return the sampling rate in Hz: of the file, of ``--rate``, else 16 kHz."""
    return float(subject.description.acquisition.get("rate_hz") or subject.options.get("rate") or DEFAULT_RATE)


def extras(subject: Subject) -> Mapping[str, Any]:
    """Return what methods may use: the rate and, of integer samples, their word length."""
    d = subject.description
    known: dict[str, Any] = {"rate_hz": rate_of(subject)}
    if d.dtype.startswith("int") and d.acquisition.get("bits"):
        known["bits"] = int(d.acquisition["bits"])
    return known


def empty(subject: Subject) -> Refusal | None:
    """Refuse a file without samples."""
    if subject.description.shape[0]:
        return None
    return Refusal("the file holds no samples", "check the recording", soft=False)


def strange_rate(subject: Subject) -> Refusal | None:
    """Refuse sampling rates no microphone recording of speech has."""
    rate = rate_of(subject)
    if LOWEST_RATE <= rate <= HIGHEST_RATE:
        return None
    return Refusal(f"a sampling rate of {rate:g} Hz is not that of speech", "use another field for other signals")


def clipping(subject: Subject) -> tuple[str, str] | None:
    """Warn of runs of samples at full scale."""
    top = np.abs(subject.probe) >= FULL_SCALE
    if len(top) < CLIPPED_RUN or not top.any():
        return None
    runs = top[:-2] & top[1:-1] & top[2:]
    count = int(np.count_nonzero(runs))
    if not count:
        return None
    return "clipping", f"{count} places are clipped at full scale; denoising cannot restore them"


def not_numbers(subject: Subject) -> tuple[str, str] | None:
    """Warn of samples that are not numbers: they are copied."""
    count = int(subject.probe.size - np.count_nonzero(np.isfinite(subject.probe)))
    return ("not-a-number", f"{count} samples are not finite; they are copied as they are") if count else None


def quiet(subject: Subject) -> tuple[str, str] | None:
    """Warn of a recording that stays below -50 dB of full scale."""
    size = np.abs(np.nan_to_num(subject.probe))
    peak = float(size.max()) if size.size else 0.0
    if not peak:
        return "silence", "the recording is digital silence; it is copied"
    if peak >= QUIET_PEAK:
        return None
    return "quiet", f"the loudest sample is at {20 * np.log10(peak):.0f} dB of full scale; level is not changed"


def no_rhythm(subject: Subject) -> tuple[str, str] | None:
    """Warn where the level lacks the 2 to 8 Hz rhythm of syllables: perhaps music or noise alone."""
    depth = rhythm_depth(subject.probe, rate_of(subject))
    if depth is None or depth >= RHYTHM_DEPTH:
        return None
    return "no-rhythm", "no syllables heard (level steady between 2 and 8 Hz): this may be music or noise, not speech"


def rhythm_depth(values: Array, rate: float) -> float | None:
    """Return the standard deviation in dB of the level between 2 and 8 Hz; None for < 2 s of sound."""
    mono = np.nan_to_num(values).reshape(len(values), -1).mean(axis=1)
    size = max(1, round(FRAME * rate))
    count = len(mono) // size
    if count * FRAME < 2:
        return None
    power = np.square(mono[: count * size].reshape(count, size)).mean(axis=1)
    top = float(power.max())
    if not top:
        return None
    level = 10 * np.log10(np.maximum(power / top, 1e-8))
    spectrum = fft.rfft(level - level.mean())
    tones = fft.rfftfreq(count, size / rate)
    spectrum[(tones < RHYTHM[0]) | (tones > RHYTHM[1])] = 0
    return float(fft.irfft(spectrum, count).std())


def estimate(subject: Subject, estimator: str = "") -> Noise:
    """Return the noise level: root mean square in input units, and ``dbfs`` in ``params``.

    A low quantile over time of the power in each bin, scaled to the mean; at most 3 dB high where a voice
    fills half of the time.
    """
    from pellucid.domains.speech import stft, trackers

    hop = stft.hop_length(rate_of(subject))
    values = np.nan_to_num(subject.probe).reshape(len(subject.probe), -1).T.astype(np.float32)
    count = values.shape[1] // hop - 1
    if count < 1:
        return Noise("gaussian", 0.0, "estimated", "quantile", {"dbfs": -300.0})
    samples = values[:, : (count + 1) * hop]
    spectra = stft.analyse(samples, hop, stft.window(hop))
    power = (spectra.real**2 + spectra.imag**2).mean(axis=1)
    live = ~stft.silent_frames(samples, hop).all(axis=1)
    if not live.any():
        return Noise("gaussian", 0.0, "estimated", "quantile", {"dbfs": -300.0})
    # |Y|^2 of steady noise is exponential: its quantile q is -ln(1 - q) times its mean
    lam = np.quantile(power[live], trackers.START_QUANTILE, axis=0) / -np.log(1 - trackers.START_QUANTILE)
    sigma = float(np.sqrt(lam.mean() / hop))  # white noise of variance s^2 has power s^2 hop in every bin
    return Noise("gaussian", sigma, "estimated", "quantile", {"dbfs": 20 * float(np.log10(max(sigma, 1e-15)))})
