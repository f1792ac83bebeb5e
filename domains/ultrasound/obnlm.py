# SPDX-License-Identifier: Apache-2.0
"""Optimised Bayesian non-local means (Coupe, Hellier, Kervrann & Barillot 2009, DOI 10.1109/TIP.2009.2024064).

Blocks are compared by Pearson's distance ``sum (u_i - u_j)^2 / u_j``, which suits noise that grows with the root
of the signal; whole blocks around every second sample are averaged with weights ``exp(-d / h^2)`` and overlapping
estimates are averaged. ``u`` are grey levels of 8 bits over 60 dB, plus 100 against division by black.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pellucid.core.lazy import ndimage, np
from pellucid.core.transforms import fill
from pellucid.core.types import Noise, Plan, Result, Tile, Traits, option
from pellucid.domains.ultrasound.levels import SPECKLE_DB, Levels

if TYPE_CHECKING:
    from pellucid.core.types import Array

GREY_PER_DB = 255 / 60
OFFSET = 100.0  # grey levels; the authors' own
STEP = 2  # samples between block centres; the paper's n
WIDTH = 14.0  # for a plain sum over 7 x 7 samples of fully developed speckle on that scale


TRAITS = Traits(
    name="obnlm",
    line="Optimised Bayesian non-local means: blocks compared by Pearson's distance.",
    spatial=(2,),
    needs_sigma=True,
    exact="local",
    halo=lambda options, description: options.search + 3 * options.patch + 6,
    stride=STEP,
    thickness=1024,
    laws=("speckle", "gaussian"),
    bytes_per_sample=24.0,
    cite=("10.1109/TIP.2009.2024064",),
    use="comparison with the literature",
    avoid="routine work: dbnlm takes a tenth of the time, keeps the mean and small targets",
)


@dataclass(frozen=True)
class Options:
    """Settings of `run`."""

    search: int = option(7, "Largest distance of averaged blocks on each axis, samples; more is slower.")
    patch: int = option(3, "Radius of blocks, samples.")
    width: float = option(WIDTH, "Width of the weights for fully developed speckle; more smooths more.")


def run(tile: Tile, noise: Noise | None, plan: Plan, rng: np.random.Generator) -> Result:
    """Despeckle one frame; masked samples take no part. ``noise.sigma`` as for ``dbnlm``."""
    options = plan.options if isinstance(plan.options, Options) else Options()
    levels = Levels.of(plan, noise)
    if levels.sigma == 0:
        return Result(tile.values)
    keep = np.ones(tile.values.shape, np.bool_) if tile.mask is None else tile.mask
    decibels = levels.decibels(tile.values)
    top = levels.peak * levels.unit if not levels.linear else 0.0
    grey = (decibels - np.float32(top)) * np.float32(GREY_PER_DB) + np.float32(255 + OFFSET)
    grey = np.maximum(fill(grey, keep) if tile.mask is not None else grey, np.float32(1))
    smooth = _blockwise(grey, keep, tuple(w.start for w in tile.window), options, levels.sigma / SPECKLE_DB)
    out = levels.samples((smooth - np.float32(255 + OFFSET)) / np.float32(GREY_PER_DB) + np.float32(top))
    return Result(np.where(keep, out, tile.values))


def _blockwise(grey: Array, keep: Array, origin: tuple[int, ...], options: Options, relative: float) -> Array:
    """Return the block estimates, averaged where they overlap."""
    search, radius = options.search, options.patch
    reach = search + radius
    padded = np.pad(grey, reach, mode="symmetric")
    share = np.pad(keep.astype(np.float32), reach, mode="symmetric")
    side = 2 * radius + 1
    shape = (grey.shape[0] + 2 * radius, grey.shape[1] + 2 * radius)  # room for blocks that reach into the image
    centres = [(np.arange(n) - radius + start) % STEP == 0 for n, start in zip(shape, origin, strict=True)]
    lattice = np.outer(*centres).astype(np.float32)
    scale = np.float32(-(side**2) / (options.width * relative * side / 7) ** 2)
    here = (slice(search, search + shape[0]), slice(search, search + shape[1]))

    def weights() -> Iterator[tuple[Array, tuple[slice, ...]]]:
        for dz in range(-search, search + 1):
            for dx in range(-search, search + 1):
                if dz or dx:
                    there = tuple(slice(s.start + d, s.stop + d) for s, d in zip(here, (dz, dx), strict=True))
                    d = np.square(padded[here] - padded[there]) / padded[there]
                    w = np.exp(ndimage.uniform_filter(d, side, mode="nearest") * scale)
                    yield w * lattice, there

    total, largest = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for w, _ in weights():
        total += w
        np.maximum(largest, w, out=largest)
    largest = np.where(lattice > 0, np.maximum(largest, np.float32(1e-30)), 0)
    inverse = lattice / np.maximum(total + largest, np.float32(1e-30))
    own = ndimage.uniform_filter(largest * inverse, side, mode="constant")
    value, mass = own * padded[here] * share[here], own * share[here]
    for w, there in weights():
        spread = ndimage.uniform_filter(w * inverse, side, mode="constant")
        value += spread * padded[there] * share[there]
        mass += spread * share[there]
    cut = (slice(radius, -radius or None),) * 2
    smooth = np.where(mass > 0, value / np.maximum(mass, np.float32(1e-30)), padded[here])
    return np.asarray(smooth[cut])
