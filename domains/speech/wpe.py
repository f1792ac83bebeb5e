# SPDX-License-Identifier: Apache-2.0
"""Dereverberation by weighted prediction error: late echoes are predicted from the past and subtracted.

Per frequency a linear filter predicts each frame from frames at least ``delay`` earlier; what it
predicts is late reverberation, because speech itself is uncorrelated over that time. Weights are the
inverse of the speech power, found by iteration (Nakatani, Yoshioka, Kinoshita, Miyoshi, Juang, IEEE
TASLP 18(7), 2010, equations 19 to 26; several channels: Yoshioka and Nakatani, IEEE TASLP 20(10), 2012).
Rooms are filtered in segments of half a minute that fade into each other: talkers move.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pellucid.core.errors import UsageError
from pellucid.core.lazy import fft, np
from pellucid.core.types import Noise, Plan, Result, Tile, Traits, option

if TYPE_CHECKING:
    from pellucid.core.types import Array

TRAITS = Traits(
    name="wpe",
    line="Weighted prediction error: subtracts late reverberation; one or several channels, no weights.",
    spatial=(1,),
    joint=("channel",),
    exact="stream",
    bytes_per_sample=400.0,
    equivariant=("scale",),
    cite=("10.1109/TASL.2010.2052251", "10.1109/TASL.2012.2210879"),
    use="speech in rooms, best with two microphones or more; one channel helps small rooms (echo below .6 s)",
    avoid="large halls with one microphone, music, and strong noise: denoise afterwards, not before",
)

WINDOW, HOP = 0.032, 0.008  # s; 512 and 128 samples at 16 kHz, as in Drude et al., NARA-WPE, ITG 2018
SEGMENT, FADE = 30.0, 1.0  # s
FLOOR = 1e-4  # of the largest power: quieter frames weigh no more; 1e-10 of NARA-WPE lets pauses decide the filter
LOADING = 1e-3  # of the mean diagonal: short files do not over-fit; both chosen on tune recordings
DEFAULT_RATE = 16_000.0
TOGETHER = 2 << 20  # bytes of stacked past frames held at once: they stay in the cache


@dataclass(frozen=True)
class Options:
    """Flags of the method."""

    taps: int = option(10, "Frames of 8 ms the filter looks back; more reaches longer echoes and needs longer files.")
    delay: int = option(3, "Frames left alone, so that speech and early echoes stay; 3 is 24 ms.")
    iterations: int = option(3, "Rounds of estimating power and filter; more removes a little more.")


@dataclass(frozen=True)
class Stream:
    """What one block hands to the next: samples not yet filtered, and the fading end of the last segment."""

    rate: float
    flat: bool
    pending: Array  # (channels, samples)
    tail: Array | None = None  # (channels, fade)


def run(tile: Tile, noise: Noise | None, plan: Plan, rng: np.random.Generator) -> Result:
    """Take a block of samples, shape (samples, channels) or (samples,); return what lies before the last fade."""
    options = _options(plan)
    values = tile.values if tile.values.ndim == 2 else tile.values[:, None]
    stream = tile.carry
    if stream is None:
        rate = float(plan.extras.get("rate_hz") or DEFAULT_RATE)
        stream = Stream(rate, tile.values.ndim == 1, np.zeros((values.shape[1], 0), np.float32))
    pending = np.concatenate([stream.pending, np.nan_to_num(values.T).astype(np.float32)], axis=1)
    size, fade = round(SEGMENT * stream.rate), round(FADE * stream.rate)
    pieces = []
    while pending.shape[1] > 2 * size:  # the last segment is never a short one
        made = dereverberate(pending[:, : size + fade], stream.rate, options)
        pieces.append(_joined(stream.tail, made[:, :size]))
        stream, pending = replace(stream, tail=made[:, size:]), pending[:, size:].copy()
    return Result(_out(pieces, stream), carry=replace(stream, pending=pending))


def finish(carry: Stream | None, plan: Plan) -> Result:
    """Return the samples still held back."""
    if carry is None or not carry.pending.shape[1]:
        return Result(np.zeros((0,) if carry is None or carry.flat else (0, carry.pending.shape[0]), np.float32))
    made = dereverberate(carry.pending, carry.rate, _options(plan))
    return Result(_out([_joined(carry.tail, made)], carry))


def _options(plan: Plan) -> Options:
    options = plan.options if isinstance(plan.options, Options) else Options()
    if options.taps < 1 or options.delay < 1 or options.iterations < 1:
        raise UsageError("--taps, --delay and --iterations are 1 or more")
    return options


def _joined(tail: Array | None, made: Array) -> Array:
    """Fade from the last segment's end into this one."""
    if tail is None:
        return made
    n = min(tail.shape[1], made.shape[1])
    rise = (np.arange(n, dtype=np.float32) + 0.5) / n
    return np.concatenate([tail[:, :n] * (1 - rise) + made[:, :n] * rise, made[:, n:]], axis=1)


def _out(pieces: list[Array], stream: Stream) -> Array:
    channels = stream.pending.shape[0]
    joined = np.concatenate(pieces, axis=1) if pieces else np.zeros((channels, 0), np.float32)
    return np.ascontiguousarray(joined[0] if stream.flat else joined.T)


def dereverberate(samples: Array, rate: float, options: Options) -> Array:
    """Return samples (channels, n) without their late reverberation, float32, same shape and delay."""
    hop = max(8, round(HOP * rate))
    size, length = hop * round(WINDOW / HOP), samples.shape[1]
    taper = np.sqrt(np.hanning(size + 1)[:-1]).astype(np.float32)
    padded = np.pad(samples, ((0, 0), (size, size + (-length) % hop)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size, axis=1)[:, ::hop]
    spectra = fft.rfft(frames * taper, axis=-1).transpose(2, 0, 1)  # (bins, channels, frames)
    if not samples.any() or spectra.shape[2] <= options.delay + options.taps * samples.shape[0]:
        return samples  # silence, or too short to learn a filter from
    pieces = fft.irfft(wpe(spectra, options).transpose(1, 2, 0), size, axis=-1) * taper
    out = np.zeros(padded.shape, np.float32)
    count = size // hop
    for part in range(count):  # every count-th frame: these do not overlap
        some = pieces[:, part::count]
        at = part * hop
        out[:, at : at + some.shape[1] * size] += some.reshape(len(out), -1)
    return out[:, size : size + length] * np.float32(2 / count)  # the squared windows add up to count / 2


def wpe(spectra: Array, options: Options) -> Array:
    """Return spectra (bins, channels, frames) without what their past predicts; complex64."""
    bins, channels, frames = spectra.shape
    together = max(1, TOGETHER // (channels * (options.taps + 1) * frames * 16))
    parts = [_wpe(spectra[i : i + together], options) for i in range(0, bins, together)]
    return np.concatenate(parts)


def _wpe(spectra: Array, options: Options) -> Array:
    """Filter some bins. Complex numbers are kept as rows of real ones: G G^T of these is half the work."""
    bins, channels, frames = spectra.shape
    clean = np.stack([spectra.real, spectra.imag], axis=1).astype(np.float32)  # (bins, 2, channels, frames)
    rows = np.zeros((bins, 2, options.taps + 1, channels, frames), np.float32)  # now, then the past
    rows[:, :, 0] = clean
    for tap in range(options.taps):
        shift = options.delay + tap
        rows[:, :, 1 + tap, :, shift:] = clean[..., : frames - shift]
    stacked = rows.reshape(bins, -1, frames)
    for _ in range(options.iterations):
        power = np.square(clean).sum(axis=1).mean(axis=1)
        floor = np.maximum(FLOOR * power.max(axis=1, keepdims=True), np.finfo(np.float32).tiny)
        scale = 1 / np.sqrt(np.maximum(power, floor), dtype=np.float64)  # spans five decades: sums in double
        clean = (_filters(stacked * scale[:, None], channels) @ stacked).reshape(bins, 2, channels, frames)
    return clean[:, 0] + np.complex64(1j) * clean[:, 1]


def _filters(weighted: Array, channels: int) -> Array:
    """Return the real matrices (bins, 2 channels, rows) that subtract what the past predicts."""
    gram = weighted @ weighted.transpose(0, 2, 1)
    n = gram.shape[1] // 2
    both = gram[:, :n, :n] + gram[:, n:, n:] + 1j * (gram[:, n:, :n] - gram[:, :n, n:])
    correlation, cross = both[:, channels:, channels:], both[:, channels:, :channels]
    trace = np.einsum("bii->b", correlation).real / correlation.shape[1]
    load = (LOADING * trace + np.finfo(np.float64).tiny)[:, None, None] * np.eye(correlation.shape[1])
    found = np.linalg.solve(correlation + load, cross).transpose(0, 2, 1)
    own = np.broadcast_to(np.eye(channels), (len(found), channels, channels))
    real, imaginary = np.concatenate([own, -found.real], axis=2), np.concatenate([0 * own, -found.imag], axis=2)
    return np.block([[real, imaginary], [-imaginary, real]]).astype(np.float32)
