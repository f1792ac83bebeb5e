# SPDX-License-Identifier: Apache-2.0
"""Return the samples as stored: proves that a file survives the whole line unharmed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pellucid.core.types import Noise, Plan, Result, Tile, Traits

if TYPE_CHECKING:
    import numpy as np

TRAITS = Traits(
    name="identity",
    line="Change nothing; write the file again.",
    spatial=(1, 2, 3),
    joint=("volume", "band", "channel"),
    exact="pointwise",
    laws=("gaussian",),
    complex=True,
    stored=True,
    bytes_per_sample=4.0,
    equivariant=("scale", "shift", "flip", "permute"),
    use="checking that a file, its header and its companions come through unchanged",
    avoid="anything else",
)


@dataclass(frozen=True)
class Options:
    """No options."""


def run(tile: Tile, noise: Noise | None, plan: Plan, rng: np.random.Generator) -> Result:
    """Return the tile's own samples, in the stored type."""
    return Result(tile.values)
