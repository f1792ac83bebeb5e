# SPDX-License-Identifier: Apache-2.0
"""What a speech result is worth: against a reference, by what was removed, and to the eye."""

from __future__ import annotations

import importlib.util
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from pellucid.core.lazy import fft, np

if TYPE_CHECKING:
    from pellucid.core.types import Array, Description, Noise

DEFAULT_RATE = 16_000.0
SEGMENT = 0.032  # s
SEGMENT_RANGE = (-10.0, 35.0)  # dB, Hansen and Pellom 1998
PESQ_SECONDS = 30.0  # of the middle: ITU-T P.862 was made for 8 to 12 s
FLOOR_QUANTILE = 0.1  # of frame levels: pauses
PICTURE_ROWS, PICTURE_COLUMNS = 257, 1200
PICTURE_RANGE = 80.0  # dB below the loudest point


def measure(reference: Array, estimate: Array, description: Description, mask: Array | None = None) -> dict[str, float]:
    """Compare with the clean recording.

    Parameters
    ----------
    reference, estimate : array (time, channel) or (time,)
        Physical units, aligned to the sample.
    description : Description
        ``acquisition["rate_hz"]`` is used.
    mask : bool array (time,), optional
        True = valid.

    Returns
    -------
    dict
        ``si_sdr`` and ``segmental_snr`` in dB, ``level_change`` in dB; ``pesq`` (wide-band, 16 kHz) and
        ``stoi`` where those libraries are installed and the clip holds speech; means over channels.
    """
    clean, found = _channels(reference, mask), _channels(estimate, mask)
    rate = float(description.acquisition.get("rate_hz") or DEFAULT_RATE)
    pairs = list(zip(clean, found, strict=True))
    out = {
        "si_sdr": _mean([si_sdr(a, b) for a, b in pairs]),
        "segmental_snr": _mean([segmental_snr(a, b, rate) for a, b in pairs]),
        "level_change": _mean([_decibel(_power(b), _power(a)) for a, b in pairs]),
    }
    for name, score in (("pesq", pesq), ("stoi", stoi)):
        scores = [v for a, b in pairs if (v := score(a, b, rate)) is not None]
        if scores:
            out[name] = _mean(scores)
    return out


def si_sdr(reference: Array, estimate: Array) -> float:
    """Return the scale-invariant signal-to-distortion ratio in dB; means removed, float64.

    Le Roux, Wisdom, Erdogan, Hershey, ICASSP 2019, eq. 5 (doi:10.1109/ICASSP.2019.8683855).

    Examples
    --------
    >>> import numpy as np
    >>> clean, noise = np.array([1.0, -1, 1, -1]), np.array([1.0, 1, -1, -1])
    >>> round(si_sdr(clean, 3 * clean + 0.3 * noise), 6)
    20.0
    """
    s = np.asarray(reference, np.float64) - np.mean(reference, dtype=np.float64)
    e = np.asarray(estimate, np.float64) - np.mean(estimate, dtype=np.float64)
    energy = float(s @ s)
    if not energy:
        return float("nan")
    target = (e @ s) / energy * s
    return _decibel(float(target @ target), float(np.sum((e - target) ** 2)))


def segmental_snr(reference: Array, estimate: Array, rate: float) -> float:
    """Return the mean SNR in dB over segments of 32 ms that hold sound, each limited to -10 .. 35 dB."""
    size = max(1, round(SEGMENT * rate))
    count = len(reference) // size
    if not count:
        return float("nan")
    s = np.asarray(reference[: count * size], np.float64).reshape(count, size)
    e = np.asarray(estimate[: count * size], np.float64).reshape(count, size)
    signal, error = (s**2).sum(axis=1), ((e - s) ** 2).sum(axis=1)
    loud = signal > 1e-4 * signal.max()  # within 40 dB of the loudest
    if not loud.any():
        return float("nan")
    levels = 10 * np.log10(signal[loud] / np.maximum(error[loud], 1e-12 * signal[loud]))
    return float(np.clip(levels, *SEGMENT_RANGE).mean())


def pesq(reference: Array, estimate: Array, rate: float) -> float | None:
    """Return wide-band PESQ (ITU-T P.862.2), or None where it is not installed or finds no speech."""
    if importlib.util.find_spec("pesq") is None:
        return None
    import pesq as library

    middle = _middle(len(reference), round(PESQ_SECONDS * rate))
    a, b = (_resampled(np.asarray(x[middle], np.float32), rate, DEFAULT_RATE) for x in (reference, estimate))
    if len(a) < DEFAULT_RATE / 4 or not a.any() or not b.any():
        return None
    try:
        return float(library.pesq(int(DEFAULT_RATE), a, b, "wb"))
    except (library.NoUtterancesError, library.BufferTooShortError):
        return None


def stoi(reference: Array, estimate: Array, rate: float) -> float | None:
    """Return short-time objective intelligibility, or None where it is not installed or too little speech."""
    if importlib.util.find_spec("pystoi") is None:
        return None
    import warnings

    import pystoi

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it warns and returns 1e-5 where fewer than 30 frames are left
        try:
            return float(pystoi.stoi(np.asarray(reference), np.asarray(estimate), round(rate), extended=False))
        except (RuntimeWarning, ValueError):
            return None


def judge(before: Array, after: Array, description: Description, noise: Noise | None) -> dict[str, float]:
    """Look at what happened without a reference.

    Returns
    -------
    dict
        ``level_change``: of the whole, dB; ``noise_floor_before``, ``noise_floor_after``: level in pauses, dB
        re full scale; ``speech_level_change``: of the loudest tenth of frames, dB: near 0 where speech is kept.
    """
    rate = float(description.acquisition.get("rate_hz") or DEFAULT_RATE)
    old, new = _levels(before, rate), _levels(after, rate)
    if not len(old):
        return {}
    loud = old >= np.quantile(old, 0.9)
    return {
        "level_change": _decibel(float(new.mean()), float(old.mean())),
        "noise_floor_before": _decibel(float(np.quantile(old, FLOOR_QUANTILE)), 1.0),
        "noise_floor_after": _decibel(float(np.quantile(new, FLOOR_QUANTILE)), 1.0),
        "speech_level_change": _decibel(float(new[loud].mean()), float(old[loud].mean())),
    }


def picture(values: Array, description: Description) -> Array:
    """Return the spectrogram of the first channel, low tones at the bottom, in dB within 80 dB of the loudest."""
    sound = np.asarray(values, np.float32)
    sound = sound[:, 0] if sound.ndim == 2 else sound
    size = 2 * (PICTURE_ROWS - 1)
    sound = np.pad(np.nan_to_num(sound), (0, max(0, size - len(sound))))
    starts = np.linspace(0, len(sound) - size, min(PICTURE_COLUMNS, 1 + (len(sound) - size) // 64)).astype(np.intp)
    frames = np.stack([sound[a : a + size] for a in starts]) * np.hanning(size).astype(np.float32)
    power = np.square(np.abs(fft.rfft(frames, axis=-1)))
    top = float(power.max()) or 1.0
    image: Array = 10 * np.log10(np.maximum(power / top, 10 ** (-PICTURE_RANGE / 10)))
    return np.ascontiguousarray(image.T[::-1]).astype(np.float32)


def _channels(values: Array, mask: Array | None) -> Array:
    """Return (channel, time) with invalid samples left out."""
    rows = np.atleast_2d(np.asarray(values).T)
    return rows if mask is None else rows[:, np.asarray(mask).reshape(rows.shape[1], -1).all(axis=1)]


def _levels(values: Array, rate: float) -> Array:
    """Return the mean square of frames of 32 ms, digital silence left out; mean over channels."""
    rows = np.nan_to_num(_channels(values, None))
    size = max(1, round(SEGMENT * rate))
    count = rows.shape[1] // size
    power = np.square(rows[:, : count * size].reshape(len(rows), count, size), dtype=np.float64).mean(axis=(0, 2))
    return np.asarray(power)


def _resampled(values: Array, rate: float, target: float) -> Array:
    if rate == target:
        return values
    from scipy.signal import resample_poly

    ratio = Fraction(target / rate).limit_denominator(1000)
    return np.asarray(resample_poly(values, ratio.numerator, ratio.denominator), np.float32)


def _middle(length: int, wanted: int) -> slice:
    start = max(0, (length - wanted) // 2)
    return slice(start, start + min(length, wanted))


def _power(values: Array) -> float:
    return float(np.mean(np.square(values, dtype=np.float64))) if values.size else 0.0


def _decibel(value: float, reference: float) -> float:
    """Return 10 log10(value / reference), limited to +-300 dB."""
    tiny = 1e-300
    return float(np.clip(10 * np.log10((value + tiny) / (reference + tiny)), -300, 300))


def _mean(values: list[Any]) -> float:
    return float(np.mean(values)) if values else float("nan")
