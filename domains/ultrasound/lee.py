# SPDX-License-Identifier: Apache-2.0
"""The classic speckle filters of local statistics: Lee 1980, Kuan 1985, Frost 1982, on the envelope.

With ``C`` the local coefficient of variation and ``Cu`` that of speckle, a sample becomes
``mean + w (sample - mean)``, ``w = 1 - Cu^2 / C^2`` (Lee; Kuan divides it by ``1 + Cu^2``), or the local mean
weighted by ``exp(-damping C^2 distance)`` (Frost).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pellucid.core.lazy import ndimage, np
from pellucid.core.types import Noise, Plan, Result, Tile, Traits, option
from pellucid.domains.ultrasound.levels import Levels

if TYPE_CHECKING:
    from pellucid.core.types import Array

TRAITS = Traits(
    name="lee",
    line="Local statistics filters of Lee, Kuan and Frost on the envelope; fast and mild.",
    spatial=(2,),
    needs_sigma=True,
    exact="local",
    halo=lambda options, description: options.window // 2 + 1,
    thickness=1024,
    laws=("speckle", "gaussian"),
    bytes_per_sample=32.0,
    equivariant=("scale", "flip", "permute"),
    cite=("10.1109/TPAMI.1980.4766994", "10.1109/TPAMI.1985.4767641", "10.1109/TPAMI.1982.4767223"),
    use="a quick look, and comparison with the literature",
    avoid="strong smoothing; small targets",
)


@dataclass(frozen=True)
class Options:
    """Settings of `run`."""

    form: str = option("lee", "Which filter.", choices=("lee", "kuan", "frost"))
    window: int = option(7, "Side of the local window, odd, samples; more smooths more.")
    damping: float = option(2.0, "Of frost: more keeps more.")


def run(tile: Tile, noise: Noise | None, plan: Plan, rng: np.random.Generator) -> Result:
    """Despeckle one frame; masked samples take no part. ``noise.sigma`` as for ``dbnlm``."""
    options = plan.options if isinstance(plan.options, Options) else Options()
    levels = Levels.of(plan, noise)
    if levels.sigma == 0:
        return Result(tile.values)
    keep = np.ones(tile.values.shape, np.bool_) if tile.mask is None else tile.mask
    image = np.where(keep, levels.amplitudes(tile.values), 0).astype(np.float64)
    side = options.window | 1
    share = np.maximum(ndimage.uniform_filter(keep.astype(np.float64), side), 0.5 / side**2)
    mean = ndimage.uniform_filter(image, side) / share
    power = ndimage.uniform_filter(image * image, side) / share
    mean = np.where(keep, np.maximum(mean, np.finfo(np.float32).tiny), 1)
    variation = np.clip(power / mean**2 - 1, 0, None)
    speckle = levels.variation**2
    if options.form == "frost":
        smooth = _frost(image, keep, options.damping * variation, side)
    else:
        w = np.clip(1 - speckle / np.maximum(variation, speckle), 0, 1)
        w = w / (1 + speckle) if options.form == "kuan" else w
        smooth = mean + w * (image - mean)
    out = levels.from_amplitudes(np.where(keep, smooth, 1)).astype(np.float32)
    return Result(np.where(keep, out, tile.values))


def _frost(image: Array, keep: Array, damping: Array, side: int) -> Array:
    """Return means weighted by distance, more steeply where there is structure."""
    r = side // 2
    padded, valid = np.pad(image, r, mode="symmetric"), np.pad(keep.astype(np.float64), r, mode="symmetric")
    total, weight = np.zeros(image.shape), np.zeros(image.shape)
    for dz in range(side):
        for dx in range(side):
            there = (slice(dz, dz + image.shape[0]), slice(dx, dx + image.shape[1]))
            w = np.exp(-damping * np.hypot(dz - r, dx - r)) * valid[there]
            total += w * padded[there]
            weight += w
    return np.asarray(total / np.maximum(weight, np.finfo(np.float64).tiny))
