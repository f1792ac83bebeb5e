# SPDX-License-Identifier: Apache-2.0
"""Take constant column stripes out and nothing else: no spectrum is projected, no pixel averaged.

What the mean spectrum of a detector column shows in one band beyond what its other bands explain is the
instrument: a scene fills a signal subspace (Bioucas-Dias & Nascimento, DOI 10.1109/TGRS.2008.918089), stripes of a
pushbroom sensor are uncorrelated between bands (Rogass et al., Remote Sensing 6 (2014) 11082,
DOI 10.3390/rs61111082). A column that stands out in many bands is scene and stays. Samples of columns without a
stripe come back as they were.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pellucid.core.errors import Refused
from pellucid.core.lazy import np
from pellucid.core.types import Noise, Plan, Result, Tile, Traits, option
from pellucid.domains.hyperspectral import gram, robust

if TYPE_CHECKING:
    from pellucid.core.types import Array

TRAITS = Traits(
    name="destripe",
    line="Subtract constant column stripes found against the signal subspace; everything else stays.",
    spatial=(2,),
    joint=("band",),
    needs_series=True,
    exact="local",
    halo=0,
    passes=2,
    thickness=128,
    bytes_per_sample=8.0,
    equivariant=("scale",),
    cite=("10.1109/TGRS.2008.918089", "10.3390/rs61111082"),
    use="pushbroom scenes in sensor geometry whose columns differ by constant offsets in some bands",
    avoid="orthorectified scenes, whose stripes are slanted; stripes that drift along the flight",
)


@dataclass(frozen=True)
class Options:
    """Options of ``destripe``."""

    along: str = option("line", "axis the sensor flew along: stripes run that way", choices=("line", "sample"))
    offsets: str = option(
        "", "write the offset of every column and band: .tsv .csv .npy .json", path=True, product="table"
    )


def gather(tile: Tile, carry: gram.Statistics | None, plan: Plan) -> gram.Statistics:
    """Add a tile to the sums of the scene."""
    options = plan.options or Options()
    if carry is None:
        carry = gram.start(tile, across=1 if options.along == "line" else 0)
    return gram.add(carry, tile, impulses=False)


def settle(carry: gram.Statistics, plan: Plan) -> Array:
    """Return the offset of each detector cell (column, band), input units; 0 where none is certain.

    Raises
    ------
    Refused
        Not one pixel is valid.
    """
    if carry.count == 0:
        raise Refused("the scene holds no valid pixel: there is nothing to destripe", hint="check nodata and mask")
    return robust.stripes(carry)


def products(state: Array, plan: Plan) -> dict[str, Array]:
    """Return the offsets (column, band), input units, usable bands alone."""
    return {"offsets": state}


def run(tile: Tile, noise: Noise | None, plan: Plan, rng: np.random.Generator) -> Result:
    """Subtract the offsets from a tile."""
    options = plan.options or Options()
    offset = tile.carry if tile.carry is not None else settle(gather(tile, None, plan), plan)
    across = 1 if options.along == "line" else 0
    part = offset[tile.window[across]]
    out = np.array(tile.values, np.float32)
    for i in np.flatnonzero((part != 0).any(axis=1)):
        cell = (slice(None), i) if across == 1 else (i,)
        out[cell] -= part[i].astype(np.float32)
    first = all(s.start == 0 for s in tile.core)
    facts = {"stripes": float((offset != 0).sum()), "striped_columns": float((offset != 0).any(axis=1).sum())}
    return Result(out, facts=facts if first else {})
