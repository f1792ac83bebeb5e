# SPDX-License-Identifier: Apache-2.0
"""Temporal averaging that checks for motion: the plain method, where tissue holds still.

Each frame becomes the mean of its neighbours in time, block by block. A block is returned as it came where the
speckle SNR of envelopes (mean over standard deviation) moved by more than 5 %, where what was removed goes on from
frame to frame, or where it is more than the noise: all mean that speckle moved, and averaging moving speckle
destroys it. The statistics of speckle: Wagner 1983, DOI 10.1109/T-SU.1983.31404.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pellucid.core.lazy import np
from pellucid.core.types import Noise, Plan, Result, Tile, Traits, option
from pellucid.domains.ultrasound import eigenwiener

if TYPE_CHECKING:
    from pellucid.core.types import Array

EXCESS = 1.3  # of the noise power: what may be removed; the estimate is good to a few per cent in 2304 samples

TRAITS = Traits(
    name="average",
    line="Mean of neighbouring frames where nothing moved; moving blocks are returned.",
    spatial=(2,),
    joint=("frame",),
    needs_series=True,
    exact="local",
    halo=eigenwiener.BLOCK,
    complex=True,
    thickness=96,
    bytes_per_sample=40.0,
    equivariant=("scale",),
    cite=("10.1109/T-SU.1983.31404",),
    use="still scenes with electronic noise",
    avoid="anything that moves: eigenwiener follows it",
)


@dataclass(frozen=True)
class Options:
    """Settings of `run`."""

    frames: int = option(5, "Frames averaged, odd; more removes more noise and needs longer stillness.")


def run(tile: Tile, noise: Noise | None, plan: Plan, rng: np.random.Generator) -> Result:
    """Average one tile; frames of different transmits are kept apart."""
    options = plan.options if isinstance(plan.options, Options) else Options()
    linear = eigenwiener.Display.of(plan)
    values = linear.amplitude(tile.values) if linear else tile.values
    out, counts = eigenwiener.blockwise(values, tile, plan, lambda block: _mean(block, options.frames // 2))
    if linear:
        out = np.where(out == values, tile.values, linear.shown(out))
    return Result(out, facts={"blocks": float(counts[0]), "guarded": float(counts[1])})


def _mean(block: Array, reach: int) -> tuple[Array, bool]:
    """Return a block ``(sample, frame)`` averaged, or as it came and True."""
    frames = block.shape[1]
    apart = np.abs(np.subtract.outer(np.arange(frames), np.arange(frames)))
    weights = (apart <= reach).astype(np.float32)
    weights /= weights.sum(0)
    scale = float(np.abs(block).max())
    if not scale > 0 or reach < 1:
        return block, False
    unit = block / np.float32(scale)
    mean = np.asarray(unit @ weights)
    smoothed = not np.iscomplexobj(block) and eigenwiener.speckle_moved(unit, mean)
    if smoothed or eigenwiener.lasts(unit - mean, weights) or _too_much(unit, unit - mean, weights):
        return block, True
    return mean * np.float32(scale), False


def _too_much(unit: Array, removed: Array, weights: Array) -> bool:
    """Tell whether more was removed than averaging takes from the noise there is."""
    left = np.eye(len(weights)) - weights
    noise = eigenwiener.noise_variance(unit) * float(np.square(left).sum()) / len(weights)
    return float(np.square(np.abs(removed)).mean()) > EXCESS * noise
