# SPDX-License-Identifier: Apache-2.0
"""Non-local means of a mosaic at unit noise, all colours together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pellucid.core.lazy import np
from pellucid.core.methods import nlm
from pellucid.core.types import Description, Noise, Plan, Result, Tile, Traits, option
from pellucid.domains.raw import mosaic, periodic

if TYPE_CHECKING:
    from pellucid.core.types import Array


@dataclass(frozen=True)
class Options:
    """Settings of `run`."""

    profile: str = option(
        "best", "Effort: share of cosine blocks and search range.", choices=("fast", "default", "best")
    )
    strength: float = option(1.0, "Noise level to assume, in units of the measured one; more smooths more.")
    fix_defects: bool = option(False, "Write what isolated hot and dead photosites are replaced by.")


def halo(options: Options, description: Description | None = None) -> int:
    """Return the reach in samples, a multiple of any pattern's period."""
    planes = Description("", (1, 1, 4), ("y", "x", "channel"), "float32")
    reach = 2 * int(nlm.TRAITS.halo(nlm.Options(profile=options.profile), planes))  # type: ignore[operator,arg-type]
    reach = max(reach, periodic.REACH) + 2 * mosaic.PERIOD  # and what a defect is compared with
    return -(-reach // mosaic.PERIOD) * mosaic.PERIOD


TRAITS = Traits(
    name="vst-nlm",
    line="Non-local means of a mosaic: photon noise made uniform, colours filtered together.",
    spatial=(2,),
    needs_sigma=True,
    halo=halo,
    stride=mosaic.PERIOD,
    thickness=256,
    laws=("gaussian", "poisson_gaussian"),
    bytes_per_sample=220.0,
    equivariant=("scale",),
    cite=("10.1016/j.media.2011.04.003", "10.1109/TIP.2012.2202675"),
    use="camera raw mosaics, Bayer and 6 x 6, straight from the sensor",
    avoid="raw that was demosaicked or denoised in the camera: its noise is no longer independent",
)


def run(tile: Tile, noise: Noise | None, plan: Plan, rng: np.random.Generator) -> Result:
    """Denoise one tile of a mosaic; saturated, defective and invalid photosites are copied."""
    assert noise is not None
    options = plan.options if isinstance(plan.options, Options) else Options()

    def filters(unit: Tile, facts: Any) -> Array:
        if len(facts["cfa"]) != 2:
            return periodic.average(unit, facts["cfa"], options.strength)
        quads, odd = mosaic.packed(unit)
        return mosaic.unpacked(_joint(quads, facts["cfa"], options), odd)

    return mosaic.denoise(tile, noise, plan, filters, fix_defects=options.fix_defects)


def _joint(quads: Tile, cfa: Array, options: Options) -> Array:
    from dataclasses import replace

    order = mosaic.order(cfa)
    plan = Plan("nlm", options=nlm.Options(profile=options.profile))
    sorted_ = replace(quads, values=np.ascontiguousarray(quads.values[..., order]))
    found = nlm.run(sorted_, Noise(sigma=float(options.strength)), plan, np.random.default_rng(0)).values
    out = np.empty_like(found)
    out[..., order] = found
    return out
