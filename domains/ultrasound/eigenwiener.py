# SPDX-License-Identifier: Apache-2.0
"""Denoise a cine without touching its speckle: block by block, few temporal components hold the signal.

Blocks of 48 x 48 samples overlap by half and are blended with a Hann window. The Gram matrix of a block's frames
is decomposed; noise variance comes from its smaller eigenvalues by the law of Marchenko and Pastur, and each
component is shrunk as is best in the mean square (Gavish & Donoho 2017, DOI 10.1109/TIT.2017.2653801). Averaging
envelopes would raise the speckle SNR and ruin what speckle tells; this leaves it. Frames that repeat their
predecessor, as in recompressed cines, count once. A block is returned as it came where what would be removed
goes on from frame to frame: noise does not, motion does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pellucid.core.estimate import marchenko_pastur as law
from pellucid.core.lazy import np
from pellucid.core.types import Description, Noise, Plan, Result, Tile, Traits, option

if TYPE_CHECKING:
    from pellucid.core.types import Array

BLOCK = 48  # samples on a side, even: tissue moves alike in it, and 2304 samples tell noise from 64 frames
FEWEST = 3  # frames: two leave no noise component beside a signal one
GROUP = 64  # frames decomposed together
LASTING = 0.35  # lag-1 correlation of the removed part in time above which it is motion
DEEPEST_DB = 400.0  # below white: where grey values of any scale end
TOLERANCE = 0.05  # change of the speckle SNR of a display cine that is still the same speckle
SPECKLED = 3.0  # mean over noise: of noise alone it is 1.91, the Rayleigh law
RANGE_DB = 60.0  # of a display image that does not say it

TRAITS = Traits(
    name="eigenwiener",
    line="Blockwise shrinkage of a cine's temporal components; keeps speckle, finds the noise itself.",
    spatial=(2,),
    joint=("frame",),
    needs_series=True,
    exact="local",
    halo=lambda options, description: _side(options),
    complex=True,
    thickness=96,
    bytes_per_sample=40.0,
    equivariant=("scale",),
    cite=("10.1109/TIT.2017.2653801", "10.1109/TMI.2015.2428634"),
    use="cines of IQ, RF or envelope; display cines gain little and are guarded",
    avoid="fewer than 3 frames, and sweeps whose frames have nothing in common",
)


@dataclass(frozen=True)
class Options:
    """Settings of `run`."""

    block: int = option(BLOCK, "Side of a block, even number of samples; smaller follows motion, larger finds noise.")
    guard: bool = option(True, "Return blocks whose removed part lasts from frame to frame: motion, not noise.")
    strength: float = option(1.0, "Factor on the noise standard deviation; more removes more, less removes less.")


def _side(options: Any) -> int:
    side = options.block if isinstance(options, Options) else BLOCK
    return max(8, side + side % 2)


def run(tile: Tile, noise: Noise | None, plan: Plan, rng: np.random.Generator) -> Result:
    """Denoise one tile; masked samples hold 0 and are not counted, frames of different transmits are kept apart.

    ``noise.sigma``, a number, takes the place of the estimate.
    """
    options = plan.options if isinstance(plan.options, Options) else Options()
    linear = Display.of(plan)
    values = linear.amplitude(tile.values) if linear else tile.values
    sigma = None if noise is None or noise.sigma is None or linear else float(np.mean(noise.sigma))

    def work(block: Array) -> tuple[Array, bool]:
        clean, guarded = _groups(block, sigma, options)
        other = linear is not None and options.guard and speckle_moved(block, clean)
        return (block, True) if other else (clean, guarded)

    out, counts = blockwise(values, tile, plan, work, _side(options))
    if linear:
        out = np.where(out == values, tile.values, linear.shown(out))
    return Result(out, facts={"blocks": float(counts[0]), "guarded": float(counts[1])})


def blockwise(
    values: Array, tile: Tile, plan: Plan, work: Callable[[Array], tuple[Array, bool]], side: int = BLOCK
) -> tuple[Array, Array]:
    """Return values with ``work`` done on each block ``(sample, frame)``, blended; and blocks seen and guarded."""
    out = values.astype(np.complex64 if np.iscomplexobj(values) else np.float32, copy=True)
    waves = _waves(plan.description, values.shape[-1])
    counts = np.zeros(2)
    for first in range(waves):
        part = np.ascontiguousarray(values[..., first::waves])
        if part.shape[-1] >= FEWEST:
            out[..., first::waves], seen = _series(part, tile, work, side)
            counts += seen
    return out, counts


def _waves(description: Description | None, frames: int) -> int:
    """Return how many transmits alternate along the frames."""
    known = description.acquisition.get("waves") if description is not None else None
    return int(known) if known and frames % int(known) == 0 else 1


@dataclass(frozen=True)
class Display:
    """How grey values of a display image mean amplitudes: ``white`` is 0 dB, ``floor`` the darkest grey."""

    white: float
    db_per_unit: float
    floor: float

    @classmethod
    def of(cls, plan: Plan) -> Display | None:
        """Return the scale of a display image, None for any other kind."""
        d = plan.description
        if d is None or d.kind != "bmode":
            return None
        whole = np.dtype(d.dtype).kind in "iu"
        white = float(np.iinfo(d.dtype).max) * float(np.max(d.slope)) if whole else 255.0
        span = float(d.acquisition.get("dynamic_range_db") or RANGE_DB)
        step = float(plan.extras.get("db_per_unit") or span / white)
        if not whole:
            white = span / step  # any unit: only differences in dB count
        return cls(white, step, 0.0 if whole else white - DEEPEST_DB / step)

    def amplitude(self, grey: Array) -> Array:
        """Return linear amplitudes, white = 1."""
        return np.asarray(10 ** ((grey - self.white) * (self.db_per_unit / 20)), np.float32)

    def shown(self, amplitude: Array) -> Array:
        """Return grey values of linear amplitudes."""
        decibels = 20 * np.log10(np.maximum(amplitude, np.float32(1e-30)))
        return np.asarray(np.maximum(decibels / self.db_per_unit + self.white, self.floor), np.float32)


def _series(values: Array, tile: Tile, work: Callable[[Array], tuple[Array, bool]], side: int) -> tuple[Array, Array]:
    """Return the frames ``(axial, lateral, frame)`` of one transmit, and how many blocks were seen and guarded."""
    frames = values.shape[-1]
    total = np.zeros(values.shape, values.dtype)
    weight = np.zeros(values.shape[:2], np.float32)
    counts = np.zeros(2)
    for place, window in _blocks(tile, side):
        part = values[place].reshape(-1, frames)
        valid = None if tile.mask is None else tile.mask[place].ravel()
        used = part if valid is None else part[valid]
        if len(used) >= FEWEST:
            clean, guarded = work(used)
            counts += (1, guarded)
            if valid is None:
                part = clean
            else:
                part = part.copy()
                part[valid] = clean
        total[place] += part.reshape(*window.shape, frames) * window[..., None]
        weight[place] += window
    done = weight > 0
    total[done] /= weight[done][:, None]
    total[~done] = values[~done]
    return total, counts


def _blocks(tile: Tile, side: int) -> Iterator[tuple[tuple[slice, slice], Array]]:
    """Yield the place in the window and the weights of every block that touches the core; the grid is the file's."""
    half = side // 2
    hann = np.sin(np.pi * (np.arange(side) + 0.5) / side) ** 2
    runs = []
    for window, core in zip(tile.window, tile.core, strict=True):
        along = []
        for start in range((core.start // half - 1) * half, core.stop, half):
            a, b = max(start, window.start), min(start + side, window.stop)
            if a < b:
                along.append((slice(a - window.start, b - window.start), hann[a - start : b - start]))
        runs.append(along)
    for rows, down in runs[0]:
        for columns, across in runs[1]:
            yield (rows, columns), np.outer(down, across).astype(np.float32)


def _groups(block: Array, sigma: float | None, options: Options) -> tuple[Array, bool]:
    """Return a block ``(sample, frame)`` denoised in groups of frames that overlap by half; whether any was guarded."""
    frames = block.shape[1]
    if frames <= GROUP:
        return _unrepeated(block, sigma, options)
    starts = sorted({*range(0, frames - GROUP + 1, GROUP // 2), frames - GROUP})
    ramp = np.sin(np.pi * (np.arange(GROUP) + 0.5) / GROUP).astype(np.float32) ** 2
    total, weight, any_guarded = np.zeros_like(block), np.zeros(frames, np.float32), False
    for start in starts:
        here = slice(start, start + GROUP)
        clean, guarded = _unrepeated(block[:, here], sigma, options)
        total[:, here] += clean * ramp
        weight[here] += ramp
        any_guarded |= guarded
    return total / weight, any_guarded


def _unrepeated(block: Array, sigma: float | None, options: Options) -> tuple[Array, bool]:
    """Denoise a group of frames, of which those that repeat their predecessor count once."""
    fresh = np.ones(block.shape[1], bool)
    fresh[1:] = (block[:, 1:] != block[:, :-1]).any(0)
    if fresh.all():
        return _shrunk(block, sigma, options)
    clean, guarded = _shrunk(block[:, fresh], sigma, options)
    return clean[:, np.cumsum(fresh) - 1], guarded


def _shrunk(block: Array, sigma: float | None, options: Options) -> tuple[Array, bool]:
    """Return a group of frames with each temporal component shrunk, or as it came where the guard says so."""
    samples, frames = block.shape
    if frames < FEWEST:
        return block, False
    scale = float(np.abs(block).max())
    if not scale > 0:
        return block, False
    unit = block / np.float32(scale)
    gram = (unit.conj().T @ unit).astype(np.complex128 if np.iscomplexobj(block) else np.float64)
    long, short = max(samples, frames), min(samples, frames)
    values, vectors = np.linalg.eigh(gram / long)
    values = np.maximum(values, 0)
    variance = _variance(values[None], long, short, None if sigma is None else sigma / scale, block)
    variance = variance * options.strength**2
    if not variance > np.finfo(np.float32).eps ** 2:  # of the largest square: nothing but rounding
        return block, False
    rank = law.count_above(values[None], np.array([long]), np.array([short]), np.array([variance]))
    factor = law.shrinkage(values[None] / variance, rank, np.array([short / long]))[0]
    kept = (vectors * factor) @ vectors.conj().T
    clean = np.asarray(unit @ kept.astype(unit.dtype))
    if options.guard and lasts(unit - clean, kept):
        return block, True
    return clean * np.float32(scale), False


def _variance(values: Array, long: int, short: int, sigma: float | None, block: Array) -> float:
    """Return the variance of a noise sample (both parts together) in the unit of the eigenvalues."""
    if sigma is not None:
        return sigma**2 * (2 if np.iscomplexobj(block) else 1)
    found = law.rank_and_variance(values, np.array([long]), np.array([short]), "exp2")[1]
    return float(found[0])


def noise_variance(block: Array) -> float:
    """Return the variance of a noise sample (both parts together) of a block ``(sample, frame)``."""
    long, short = max(block.shape), min(block.shape)
    gram = np.asarray(block.conj().T @ block, np.complex128 if np.iscomplexobj(block) else np.float64)
    return _variance(np.maximum(np.linalg.eigvalsh(gram / long), 0)[None], long, short, None, block)


def speckle_moved(before: Array, after: Array) -> bool:
    """Tell whether the speckle SNR of amplitudes, mean over standard deviation, changed: then they were smoothed.

    Only samples well above what was removed count: where there is nothing but flicker it may go without a trace.
    """
    bright = before.mean(1) > SPECKLED * float((before - after).std())
    if 10 * bright.sum() < len(before):
        return False
    before, after = before[bright], after[bright]
    old, new = (float(v.mean() / s) if (s := v.std(0).mean()) > 1e-6 * v.mean() else 0.0 for v in (before, after))
    return old > 0 and abs(new / old - 1) > TOLERANCE


def lasts(removed: Array, kept: Array) -> bool:
    """Tell whether the removed part goes on from frame to frame more than shrinking noise explains."""
    ahead, behind = removed[:, 1:], removed[:, :-1]
    power = float(np.linalg.norm(ahead)) * float(np.linalg.norm(behind))
    if power == 0:
        return False
    left = np.eye(len(kept)) - kept
    usual = left.conj().T @ left  # what white noise would leave: its covariance between frames
    expected = float(abs(np.diagonal(usual, 1).sum())) / float(np.trace(usual).real)
    return float(abs(np.vdot(behind, ahead))) / power > expected + LASTING
