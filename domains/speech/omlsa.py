# SPDX-License-Identifier: Apache-2.0
"""Speech denoising without weights: tracked noise, log-spectral amplitude gain, do-no-harm floor.

Samples are cut into frames of 32 ms; per bin a noise tracker (``trackers``) gives lam, forward and
backward decision-directed rules give the a-priori SNR, and the gain (``gain``) never falls below
the limit. Everything runs on batches of frames aligned to the start of the stream, one batch of
look-ahead, so that the delivery of the samples cannot change a single bit of the result.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pellucid.core.errors import UsageError
from pellucid.core.lazy import np
from pellucid.core.types import Noise, Plan, Result, Tile, Traits, option
from pellucid.domains.speech import gain, guard, stft, trackers

if TYPE_CHECKING:
    from pellucid.core.types import Array

TRAITS = Traits(
    name="omlsa",
    line="Optimally modified log-spectral amplitude gain with a blind noise tracker; streams, no weights.",
    spatial=(1,),
    joint=("channel",),
    exact="stream",
    laws=("gaussian",),
    bytes_per_sample=64.0,
    equivariant=("scale",),
    cite=("10.1109/TASL.2011.2180896", "10.1016/S0165-1684(01)00128-1", "10.1109/TSA.2003.811544"),
    use="speech in steady or slowly changing noise: fans, traffic, rain, hum, crowds",
    avoid="music, and clicks such as typing: those pass",
)

BATCH, BATCH_LIVE = 64, 4  # frames: 1 s, 64 ms
START, START_LIVE = 2, 6  # batches the first noise estimate looks at: 2 s, .4 s
AHEAD = 24  # frames of look-ahead the backward SNR rule uses: alpha^24 = 23 %
DEFAULT_RATE = 16_000.0  # where a bare array says nothing of itself
LONGEST_PROFILE = 60.0  # s held in memory for --noise-from


@dataclass(frozen=True)
class Options:
    """Flags of the method."""

    tracker: str = option(
        "hybrid",
        "Noise tracker: spp follows fastest, imcra is gentlest, hybrid bounds one by the other.",
        choices=("spp", "imcra", "hybrid"),
    )
    limit: float = option(15.0, "Largest attenuation in dB; less keeps more of the room and harms less.")
    mix: float = option(1.0, "Share of the denoised sound in the output, 0 (input) to 1.")
    channels: str = option(
        "joint",
        "joint: one gain for all channels keeps the stereo image; independent: a gain each.",
        choices=("joint", "independent"),
    )
    noise_from: str = option("", "Stretch A-B in seconds that holds noise only; its spectrum is then used throughout.")
    guard: str = option(
        "on", "on: attenuate less the cleaner the input is, not at all above 30 dB SNR.", choices=("on", "off")
    )
    live: bool = option(False, "Decide after .15 s instead of 2 s, for pipes; a little less quality.")


@dataclass(frozen=True)
class Setup:
    """What stays the same through a stream."""

    options: Options
    rate: float
    hop: int
    channels: int
    flat: bool  # samples came without a channel axis
    copy: bool  # nothing to do: pass the samples on
    lsb_power: float  # noise power of one quantisation step, in units of |Y|^2; 0 where unknown
    fixed: Any = None  # given noise power (bins,), or None: tracked
    stretch: tuple[float, float] | None = None

    @property
    def batch(self) -> int:
        """Frames per batch."""
        return BATCH_LIVE if self.options.live else BATCH

    @property
    def ready_after(self) -> int:
        """Batches that must be there before the first noise estimate is made."""
        first = START_LIVE if self.options.live else START
        if self.stretch is None:
            return first
        return max(first, int(self.stretch[1] * self.rate / self.hop / self.batch) + 2)


@dataclass(frozen=True)
class Batch:
    """A fixed number of consecutive frames."""

    spectra: Array  # (frames, channels, bins)
    power: Array  # (frames, groups, bins)
    live: Array  # (frames, groups): neither digital silence nor padding
    lam: Array | None = None  # noise power, like ``power``


@dataclass(frozen=True)
class Stream:
    """What one block hands to the next; never changed in place."""

    setup: Setup
    pending: Array  # (channels, samples) not yet in a batch, after one hop of overlap
    tail: Array  # (channels, hop) overlap-add
    waiting: tuple[Batch, ...] = ()
    tracked: dict[str, Any] | None = None  # state of the tracker
    started: Array | None = None  # (groups,) bool: a noise level is known
    before: Array | None = None  # G^2 |Y|^2 of the last frame
    snr: guard.Snr | None = None
    done: int = 0  # frames finished
    taken: int = 0
    given: int = 0
    facts: dict[str, float] = field(default_factory=dict)  # of the current call only


def run(tile: Tile, noise: Noise | None, plan: Plan, rng: np.random.Generator) -> Result:
    """Take a block of samples, shape (samples, channels) or (samples,); return those that are ready."""
    stream = _begin(tile.values, noise, plan) if tile.carry is None else tile.carry
    values = tile.values if tile.values.ndim == 2 else tile.values[:, None]
    if stream.setup.copy:
        return Result(tile.values, carry=stream)
    if tile.mask is not None:
        values = np.where(tile.mask.reshape(len(values), -1), values, 0)
    facts = {"clipped": float(np.count_nonzero(np.abs(values) >= guard.FULL_SCALE))}
    pending = np.concatenate([stream.pending, values.T.astype(np.float32, copy=False)], axis=1)
    return _advance(replace(stream, pending=pending, taken=stream.taken + len(values), facts=facts), last=False)


def finish(carry: Stream | None, plan: Plan) -> Result:
    """Return the samples still held back."""
    if carry is None:
        return Result(np.zeros(0, np.float32))
    if carry.setup.copy or not carry.taken:
        return Result(np.zeros((0,) if carry.setup.flat else (0, carry.setup.channels), np.float32))
    hop, size = carry.setup.hop, carry.setup.batch
    cut = (hop + carry.taken - carry.pending.shape[1]) // hop  # frames already in batches
    needed = (carry.taken - 1) // hop + 2  # frames that touch a sample
    whole = -(-needed // size) * size
    pending = np.pad(carry.pending, ((0, 0), (0, (whole + 1 - cut) * hop - carry.pending.shape[1])))
    return _advance(replace(carry, pending=pending, facts={}), last=True)


def _begin(values: Array, noise: Noise | None, plan: Plan) -> Stream:
    """Return the state before the first sample: one hop of zeros in front."""
    options = plan.options if isinstance(plan.options, Options) else Options()
    _check(options)
    rate = float(plan.extras.get("rate_hz") or DEFAULT_RATE)
    hop, bits = stft.hop_length(rate), plan.extras.get("bits")
    given = noise is not None and noise.source == "given" and noise.sigma is not None
    fixed = np.full(hop + 1, float(np.mean(np.square(noise.sigma))) * hop, np.float32) if given and noise else None
    setup = Setup(
        options=options,
        rate=rate,
        hop=hop,
        channels=1 if values.ndim == 1 else values.shape[1],
        flat=values.ndim == 1,
        copy=options.limit == 0 or options.mix == 0 or (fixed is not None and not fixed.any()),
        lsb_power=0.0 if not bits else hop * 4.0 ** (1 - int(bits)),
        fixed=fixed,
        stretch=_stretch(options.noise_from),
    )
    silence = np.zeros((setup.channels, hop), np.float32)
    return Stream(setup, silence, silence)


def _check(options: Options) -> None:
    """Raise UsageError where an option is out of range."""
    if options.limit < 0:
        raise UsageError(f"limit {options.limit} dB is negative", hint="give the largest attenuation, e.g. 15")
    if not 0 <= options.mix <= 1:
        raise UsageError(f"mix {options.mix} is not between 0 and 1")
    for name, value, known in (
        ("tracker", options.tracker, ("spp", "imcra", "hybrid")),
        ("channels", options.channels, ("joint", "independent")),
        ("guard", options.guard, ("on", "off")),
    ):
        if value not in known:
            raise UsageError(f"{name} {value!r} is not known", hint="one of " + ", ".join(known))


def _stretch(text: str) -> tuple[float, float] | None:
    """Return the bounds in seconds of ``A-B``."""
    if not text:
        return None
    try:
        low, high = (float(part) for part in text.split("-"))
    except ValueError:
        raise UsageError(f"noise stretch {text!r} is not A-B in seconds", hint="for example 0.5-2") from None
    if not 0 <= low < high <= LONGEST_PROFILE:
        raise UsageError(f"noise stretch {text} must rise and end before {LONGEST_PROFILE:.0f} s")
    return low, high


def _advance(stream: Stream, last: bool) -> Result:
    """Cut what is pending into batches, finish those that have their look-ahead."""
    stream = _collect(stream)
    if stream.tracked is None and (len(stream.waiting) >= stream.setup.ready_after or last):
        stream = _start(stream)
    pieces = []
    while stream.tracked is not None and len(stream.waiting) > (0 if last else 1):
        stream, samples = _finalise(_track(stream))
        pieces.append(samples)
    setup = stream.setup
    out = np.concatenate(pieces, axis=1) if pieces else np.zeros((setup.channels, 0), np.float32)
    if pieces and stream.done == len(pieces) * setup.batch:
        out = out[:, setup.hop :]  # the hop of zeros in front
    if last:
        out = out[:, : stream.taken - stream.given]
    values = np.ascontiguousarray(out[0] if setup.flat else out.T)
    return Result(values, facts=stream.facts, carry=replace(stream, given=stream.given + out.shape[1], facts={}))


def _collect(stream: Stream) -> Stream:
    """Turn pending samples into whole batches."""
    setup, pending, waiting = stream.setup, stream.pending, list(stream.waiting)
    hop, size = setup.hop, setup.batch * setup.hop
    taper, joint = stft.window(hop), setup.options.channels == "joint"
    while pending.shape[1] >= size + hop:
        samples, pending = pending[:, : size + hop], pending[:, size:]
        spectra = stft.analyse(samples, hop, taper)
        power = spectra.real**2 + spectra.imag**2
        live = ~stft.silent_frames(samples, hop)
        if joint:
            power, live = power.mean(axis=1, keepdims=True), np.any(live, axis=1, keepdims=True)
        waiting.append(Batch(spectra, power, live))
    return replace(stream, pending=pending.copy(), waiting=tuple(waiting))


def _start(stream: Stream) -> Stream:
    """Begin the tracker: from a given level, a noise-only stretch, or the first seconds."""
    setup = stream.setup
    first_batches = stream.waiting[: setup.ready_after]  # never more, however many came at once
    power = np.concatenate([b.power for b in first_batches])
    live = np.concatenate([b.live for b in first_batches])
    if setup.stretch is not None:
        low, high = (edge * setup.rate / setup.hop for edge in setup.stretch)
        power, live = power[int(low) + 1 : int(high)], live[int(low) + 1 : int(high)]
        if not live.any():
            raise UsageError("the noise-only stretch holds no sound", hint="choose another --noise-from")
        level = (power * live[:, :, None]).sum(axis=0) / np.maximum(live.sum(axis=0), 1)[:, None]
        setup = replace(setup, fixed=np.maximum(level, np.float32(trackers.TINY)))
    first = trackers.start(power, live) if setup.fixed is None else np.broadcast_to(setup.fixed, power.shape[1:])
    started = np.asarray(np.any(first > trackers.TINY, axis=-1))
    state = trackers.begin(setup.options.tracker, first)
    return replace(stream, setup=setup, tracked=state, started=started, before=np.zeros_like(first), snr=guard.Snr())


def _track(stream: Stream) -> Stream:
    """Give every waiting batch its noise power."""
    setup, state, started = stream.setup, stream.tracked, stream.started
    assert state is not None and started is not None
    waiting = []
    for batch in stream.waiting:
        if batch.lam is None and setup.fixed is not None:
            batch = replace(batch, lam=np.broadcast_to(setup.fixed, batch.power.shape))
        elif batch.lam is None:
            if not started.all():  # a channel was silent so far: begin when it speaks
                first = trackers.start(batch.power, batch.live)
                state = trackers.restart(setup.options.tracker, state, first, ~started)
                started = started | np.any(first > trackers.TINY, axis=-1)
            lam, state = trackers.follow(setup.options.tracker, batch.power, batch.live, state)
            lam *= np.float32(trackers.OVERESTIMATE)
            lam[:, ~started] = trackers.TINY
            batch = replace(batch, lam=np.maximum(lam, np.float32(trackers.TINY)))
        waiting.append(batch)
    return replace(stream, waiting=tuple(waiting), tracked=state, started=started)


def _finalise(stream: Stream) -> tuple[Stream, Array]:
    """Apply the gain to the first waiting batch; return its samples (channels, samples)."""
    setup, batch = stream.setup, stream.waiting[0]
    following = stream.waiting[1] if len(stream.waiting) > 1 else None
    assert batch.lam is not None and stream.before is not None and stream.snr is not None
    inverse = 1 / batch.lam
    xi, before = gain.decision_directed(batch.power, inverse, stream.before)
    ahead = np.zeros_like(before)
    if following is not None and following.lam is not None:
        _, ahead = gain.decision_directed(following.power[:AHEAD], 1 / following.lam[:AHEAD], ahead, backwards=True)
    back, _ = gain.decision_directed(batch.power, inverse, ahead, backwards=True)
    xi = np.sqrt(xi) * np.sqrt(back)  # not sqrt of the product: it may overflow
    limit = np.full(batch.live.shape, setup.options.limit, np.float32)
    snr = stream.snr
    if setup.options.guard == "on":
        share, snr = guard.share(snr, batch.power, batch.lam, batch.live)
        limit *= share
    g = guard.bounded(xi, batch.power * inverse, batch.lam, limit, setup.lsb_power)
    g = 1 - np.float32(setup.options.mix) * (1 - g)
    samples, tail = stft.synthesise(batch.spectra * g, stft.window(setup.hop), stream.tail)
    stream = replace(stream, waiting=stream.waiting[1:], before=before, snr=snr, tail=tail)
    return replace(stream, done=stream.done + len(g)), samples
