# SPDX-License-Identifier: Apache-2.0
"""Speckle-reducing anisotropic diffusion (Yu & Acton 2002, DOI 10.1109/TIP.2002.804276).

The envelope diffuses, less where its instantaneous coefficient of variation exceeds that of speckle. It keeps
the mean and gives the highest contrast of all, and it doubles the width of points.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pellucid.core.lazy import np
from pellucid.core.types import Noise, Plan, Result, Tile, Traits, option
from pellucid.domains.ultrasound.levels import Levels

if TYPE_CHECKING:
    from pellucid.core.types import Array

DECAY = 6.0  # time in which the variation of speckle falls to 1 / e; the paper, section V

TRAITS = Traits(
    name="srad",
    line="Speckle-reducing anisotropic diffusion; highest contrast, widens small targets.",
    spatial=(2,),
    needs_sigma=True,
    exact="global",
    laws=("speckle", "gaussian"),
    bytes_per_sample=64.0,
    equivariant=("scale",),
    cite=("10.1109/TIP.2002.804276",),
    use="segmentation of large structures",
    avoid="small targets, which become twice as wide or vanish; measuring speckle",
)


@dataclass(frozen=True)
class Options:
    """Settings of `run`."""

    iterations: int = option(100, "Number of steps; more smooths more.")
    step: float = option(0.2, "Length of a step; up to 0.25 is stable.")


def run(tile: Tile, noise: Noise | None, plan: Plan, rng: np.random.Generator) -> Result:
    """Despeckle one frame; nothing flows into or out of masked samples. ``noise.sigma`` as for ``dbnlm``."""
    options = plan.options if isinstance(plan.options, Options) else Options()
    levels = Levels.of(plan, noise)
    if levels.sigma == 0:
        return Result(tile.values)
    keep = np.ones(tile.values.shape, np.bool_) if tile.mask is None else tile.mask
    image = levels.amplitudes(tile.values)
    scale = float(image[keep].mean()) if keep.any() else 1.0
    image = np.where(keep, image / np.float32(scale), np.float32(1))
    for i in range(options.iterations):
        q0 = levels.variation * np.exp(-i * options.step / DECAY)
        image = _step(image, keep, q0 * q0, options.step)
    out = levels.from_amplitudes(image * np.float32(scale))
    return Result(np.where(keep, out, tile.values))


def _step(image: Array, keep: Array, q0: float, dt: float) -> Array:
    """Return the image one step later; mirrored at its border and at masked samples."""
    edged, inside = np.pad(image, 1, mode="edge"), np.pad(keep, 1)
    middle = (slice(1, -1), slice(1, -1))
    sides = [(slice(0, -2), slice(1, -1)), (slice(2, None), slice(1, -1))]
    sides += [(slice(1, -1), slice(0, -2)), (slice(1, -1), slice(2, None))]
    flows = [np.where(inside[s] & keep, edged[s] - edged[middle], 0) for s in sides]
    gradient = sum(f * f for f in flows) / (2 * image * image)
    laplacian = sum(flows) / image
    q = (0.5 * gradient - np.square(laplacian) / 16) / np.square(1 + laplacian / 4)
    c = np.clip(1 / (1 + (q - q0) / (q0 * (1 + q0))), 0, 1)
    ahead = np.pad(c, 1, mode="edge")
    shares = (c, ahead[sides[1]], c, ahead[sides[3]])  # at i and i + 1, j and j + 1, as in the paper
    return np.asarray(image + dt / 4 * sum(a * f for a, f in zip(shares, flows, strict=True)), np.float32)
