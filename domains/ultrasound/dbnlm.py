# SPDX-License-Identifier: Apache-2.0
"""Despeckle by non-local means of decibels, without the bias and the lost targets of filters in dB.

1. In dB speckle is additive and of the same strength everywhere. Patches are compared by their mean squared
   difference D (Coupe 2009, DOI 10.1109/TIP.2009.2024064, compares them by Pearson's distance, which cannot be
   shared by the two ends of a pair); samples are averaged with weights ``exp(-D / h)``, ``h`` twice the variance
   of speckle times ``strength``. Patch and search follow the width of the point spread function.
2. A mean of dB lies below the dB of the mean: where speckle was removed, 1.55 dB x its variance over that of
   fully developed speckle is added.
3. Where more than 9 dB were taken off, a small bright target was: it is put back with its surroundings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pellucid.core.lazy import ndimage, np
from pellucid.core.transforms import fill
from pellucid.core.types import Noise, Plan, Result, Tile, Traits, option
from pellucid.domains.ultrasound.levels import PSF_LIMITS, SPECKLE_DB, Levels

if TYPE_CHECKING:
    from pellucid.core.types import Array

SEARCH = 3.5  # point spread widths; phantom seeds 10 to 17, as all that follows
PATCH = 0.8  # the same, radius
BIAS_DB = 1.55  # 1.46 for a Rayleigh envelope; what is left of speckle asks for a little more
GUARD_DB = 9.0  # 8 also takes the brightest speckle for targets, 10 misses some of 14 dB
SPREAD = 0.8  # point spread widths, sd of the window the removed variance is measured in
TRUNCATE = 3.0  # sd at which that window ends
DENSE = 3.5  # samples: from this width on every second shift says nothing new
RUN = 32768  # samples a step: a dozen buffers of 128 kB stay in the second-level cache


def _reach(options: Any, widest: float) -> int:
    search = options.search or round(SEARCH * widest)
    patch = options.patch or max(1, round(PATCH * widest))
    return int(search + patch + int(TRUNCATE * SPREAD * widest + 0.5) + 6)


TRAITS = Traits(
    name="dbnlm",
    line="Non-local means of decibels; mean level and small bright targets are kept.",
    spatial=(2,),
    needs_sigma=True,
    exact="local",
    halo=lambda options, description: _reach(options, PSF_LIMITS[1]),
    thickness=1024,
    laws=("speckle", "gaussian"),
    bytes_per_sample=24.0,
    # of display images the dB per grey level is part of the file: the symmetries hold where sigma alone is known
    equivariant=("scale", "flip", "permute"),
    cite=("10.1109/TIP.2009.2024064",),
    use="speckle in display images and envelopes, for reading, segmentation and registration",
    avoid="anything that measures speckle: strain, tracking, backscatter",
)


@dataclass(frozen=True)
class Options:
    """Settings of `run`."""

    strength: float = option(1.3, "Width of the weights over twice the variance of speckle; 0.9 mild, 1.6 strong.")
    search: int = option(0, "Largest distance of averaged samples on each axis; more is slower. 0: by the speckle.")
    patch: int = option(0, "Radius of compared patches, samples. 0: by the width of speckle.")
    guard: float = option(GUARD_DB, "Put back what loses more dB than this: small bright targets. 0: nothing.")


def run(tile: Tile, noise: Noise | None, plan: Plan, rng: np.random.Generator) -> Result:
    """Despeckle one frame; masked samples take no part, black areas stay as they are.

    ``noise.sigma`` is the standard deviation of speckle: grey levels of a display image, dB of an envelope.
    """
    options = plan.options if isinstance(plan.options, Options) else Options()
    levels = Levels.of(plan, noise)
    if levels.sigma == 0:
        return Result(tile.values)
    keep = np.ones(tile.values.shape, np.bool_) if tile.mask is None else tile.mask
    source = levels.decibels(tile.values)
    if tile.mask is not None:
        source = fill(source, keep)
    radius = tuple(options.patch or max(1, round(PATCH * w)) for w in levels.psf)
    search = tuple(options.search or round(SEARCH * w) for w in levels.psf)
    step = 2 if min(levels.psf) >= DENSE and not options.search else 1
    smooth = average(source, keep, search, radius, width=2 * options.strength * levels.sigma**2, step=step)
    smooth += _bias(source - smooth, levels.psf)
    back = _targets(source - smooth, keep, levels, options.guard)
    out = levels.samples(np.where(back, source, smooth))
    black = ndimage.maximum_filter(tile.values, size=[2 * r + 1 for r in radius]) <= 0
    fixed = black | ~keep
    return Result(np.where(fixed, tile.values, out), facts={"kept_targets": float(np.count_nonzero(back[keep]))})


def _bias(removed: Array, psf: tuple[float, float]) -> Array:
    """Return the dB by which a mean of dB is below the dB of the mean, from the variance that was removed."""
    sd = [SPREAD * w for w in psf]
    mean = ndimage.gaussian_filter(removed, sd, truncate=TRUNCATE)
    power = ndimage.gaussian_filter(removed * removed, sd, truncate=TRUNCATE)
    return np.asarray(np.float32(BIAS_DB) * np.clip((power - mean * mean) / np.float32(SPECKLE_DB**2), 0, 1))


def _targets(removed: Array, keep: Array, levels: Levels, guard: float) -> Array:
    """Return which samples are put back: small bright targets, whose surroundings are smoothed all the same."""
    limit = guard * max(1.0, levels.sigma / SPECKLE_DB)
    return (removed > limit) & keep if guard > 0 else np.zeros(keep.shape, np.bool_)


def average(
    source: Array, keep: Array, search: tuple[int, ...], radius: tuple[int, ...], *, width: float, step: int = 1
) -> Array:
    """Return the mean of ``source`` over the search window, weighted by ``exp(-D / width)``.

    Each pair is visited once and serves both ends; a sample's own weight is the largest of its others. The
    padded array is walked as flat runs, so that a shift is one number.

    Parameters
    ----------
    source : array (axial, lateral), float32
    keep : bool array
        False: takes no part.
    search, radius : (int, int)
        Reach of the search and of patches, samples.
    width : float
        Of the weights, in squared units of ``source``.
    step : int
        2 takes every second shift, as on a chessboard.
    """
    pad = [(s + r, s + r) for s, r in zip(search, radius, strict=True)]
    padded = np.pad(source, pad, mode="symmetric")
    columns, flat = padded.shape[1], np.ascontiguousarray(padded, np.float32).ravel()
    share = None if keep.all() else np.pad(keep, pad, mode="symmetric").astype(np.float32).ravel()
    total, weight, largest = np.zeros_like(flat), np.zeros_like(flat), np.zeros_like(flat)
    kept = flat if share is None else flat * share
    margin = radius[0] * columns + radius[1]
    ahead = _shifts(search, columns, step)
    end = flat.size - margin - max(ahead)
    scale = np.float32(-1 / (width * (2 * radius[0] + 1) * (2 * radius[1] + 1)))
    room = np.empty((3, RUN + 2 * margin), np.float32)
    for start in range(margin, end, RUN):
        here = slice(start, min(start + RUN, end))
        for shift in ahead:
            there = slice(here.start + shift, here.stop + shift)
            w = _distance(flat, here, shift, (columns, radius), room)
            w *= scale
            np.exp(w, out=w)
            term = room[1, : w.size]
            for one, two in ((here, there), (there, here)):
                np.maximum(largest[one], w, out=largest[one])
                weight[one] += w if share is None else np.multiply(w, share[two], out=term)
                total[one] += np.multiply(w, kept[two], out=term)
    own = np.maximum(largest, np.float32(1e-30)) if share is None else np.maximum(largest, np.float32(1e-30)) * share
    mean = (total + own * flat) / np.maximum(weight + own, np.float32(1e-35))
    cut = tuple(slice(a, -b) for a, b in pad)
    return np.asarray(mean.reshape(padded.shape)[cut])


def _shifts(search: tuple[int, ...], columns: int, step: int) -> list[int]:
    """Return flat shifts of the half plane ahead of a sample."""
    down, across = search
    pairs = [(i, j) for i in range(down + 1) for j in range(-across, across + 1) if i > 0 or j > 0]
    return [i * columns + j for i, j in pairs if (i + j) % step == 0]


def _distance(flat: Array, here: slice, shift: int, shape: tuple[int, tuple[int, ...]], room: Array) -> Array:
    """Return the summed squared differences of patches between a run and the run ``shift`` further."""
    columns, radius = shape
    margin = radius[0] * columns + radius[1]
    run = slice(here.start - margin, here.stop + margin)
    d = room[0, : run.stop - run.start]
    np.subtract(flat[run], flat[run.start + shift : run.stop + shift], out=d)
    np.multiply(d, d, out=d)
    for stride, r in ((columns, radius[0]), (1, radius[1])):
        d = _box(d, 2 * r + 1, stride, room[1:])
    return d


def _box(d: Array, count: int, stride: int, room: Array) -> Array:
    """Return sums of ``count`` samples ``stride`` apart, made by doubling."""
    if count == 1:
        return d
    size, offset, power, done = d.size - (count - 1) * stride, 0, d, 0
    length = 1
    out: Array | None = None
    while True:
        if count & length:
            part = power[offset * stride : offset * stride + size]
            if out is None:
                out = part.copy()
            else:
                out += part
            done += length
            offset += length
        if done == count:
            assert out is not None
            return out
        n = power.size - length * stride
        power = power[:n] + power[length * stride : length * stride + n]
        length *= 2
