# SPDX-License-Identifier: Apache-2.0
"""BM3D of a mosaic at unit noise: blocks are matched on the sum of the colours, all colours filtered."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pellucid.core.errors import UsageError
from pellucid.core.lazy import np
from pellucid.core.methods import bm3d
from pellucid.core.types import Description, Noise, Plan, Result, Tile, Traits, option
from pellucid.domains.raw import mosaic

if TYPE_CHECKING:
    from pellucid.core.types import Array


@dataclass(frozen=True)
class Options:
    """Settings of `run`."""

    step: int = option(
        3, "Pairs of rows between reference patches; less is slower and a little better.", choices=(2, 3, 4, 6)
    )
    search: int = option(16, "Radius of the search in pairs of rows; more finds more repeats and is slower.")
    strength: float = option(1.0, "Noise level to assume, in units of the measured one; more smooths more.")
    fix_defects: bool = option(False, "Write what isolated hot and dead photosites are replaced by.")


def halo(options: Options, description: Description | None = None) -> int:
    """Return the reach in samples, a multiple of any pattern's period."""
    reach = 2 * bm3d.halo(bm3d.Options(step=options.step, search=options.search)) + 2 * mosaic.PERIOD
    return -(-reach // mosaic.PERIOD) * mosaic.PERIOD


TRAITS = Traits(
    name="vst-bm3d",
    line="BM3D of a Bayer mosaic: photon noise made uniform, colours filtered together.",
    spatial=(2,),
    needs_sigma=True,
    halo=halo,
    stride=mosaic.PERIOD,
    thickness=512,
    laws=("gaussian", "poisson_gaussian"),
    bytes_per_sample=500.0,
    equivariant=("scale",),
    cite=("10.1109/TIP.2007.901238", "10.1109/TIP.2012.2202675"),
    use="Bayer mosaics where texture matters more than time",
    avoid="6 x 6 mosaics, which vst-nlm takes; raw that was demosaicked in the camera",
)


def run(tile: Tile, noise: Noise | None, plan: Plan, rng: np.random.Generator) -> Result:
    """Denoise one tile of a mosaic; saturated, defective and invalid photosites are copied.

    Raises
    ------
    UsageError
        The mosaic is not a 2 x 2 one.
    """
    assert noise is not None
    options = plan.options if isinstance(plan.options, Options) else Options()

    def filters(unit: Tile, facts: Any) -> Array:
        if len(facts["cfa"]) != 2:
            raise UsageError("vst-bm3d takes Bayer mosaics", hint="use --method vst-nlm")
        quads, odd = mosaic.packed(unit)
        order = mosaic.order(facts["cfa"])
        own = Plan("bm3d", options=bm3d.Options(step=options.step, search=options.search), device=plan.device)
        quads = replace(quads, values=np.ascontiguousarray(quads.values[..., order]))
        found = bm3d.run(quads, Noise(sigma=float(options.strength)), own, rng).values
        out = np.empty_like(found)
        out[..., order] = found
        return mosaic.unpacked(out, odd)

    return mosaic.denoise(tile, noise, plan, filters, fix_defects=options.fix_defects)
