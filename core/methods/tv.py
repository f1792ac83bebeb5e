# SPDX-License-Identifier: Apache-2.0
"""Total variation: the piecewise smooth image that explains the data within the noise.

Rudin, Osher and Fatemi 1992; solved in the dual (Chambolle 2004, 10.1023/B:JMIV.0000011325.36760.1e)
by fast gradient projection (Beck and Teboulle 2009, 10.1109/TIP.2009.2028250). Each iteration looks
one sample further, so a fixed number of iterations makes the result exactly local.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pellucid.core.lazy import np
from pellucid.core.types import Description, Noise, Plan, Result, Tile, Traits, option

if TYPE_CHECKING:
    from pellucid.core.types import Array


@dataclass(frozen=True)
class Options:
    """Strength and effort."""

    weight: float = option(0.8, "weight of the variation in units of sigma; more flattens texture, less leaves noise")
    iterations: int = option(30, "steps of the solver; more is slower and closer to the minimum")


def halo(options: Options, description: Description | None = None) -> int:
    """Return the samples needed around a tile: one per iteration."""
    return options.iterations


TRAITS = Traits(
    name="tv",
    line="Total variation: flat areas and sharp edges; fast, needs no look at other places.",
    spatial=(1, 2, 3),
    needs_sigma=True,
    halo=halo,
    bytes_per_sample=48.0,
    thickness=128,
    equivariant=("scale", "shift"),
    cite=("10.1016/0167-2789(92)90242-F", "10.1023/B:JMIV.0000011325.36760.1e", "10.1109/TIP.2009.2028250"),
    use="piecewise flat scenes, cartoons, masks in grey, a quick look",
    avoid="texture: it is flattened; smooth ramps become stairs",
)


def run(tile: Tile, noise: Noise | None, plan: Plan, rng: np.random.Generator) -> Result:
    """Minimise ``|u - f|^2 / 2 + sum lambda |grad u|`` with ``lambda = weight sigma``."""
    assert noise is not None
    f, options = tile.values, plan.options or Options()
    limit = np.broadcast_to(np.float32(options.weight) * tile.noise_map(noise.sigma), f.shape).astype(np.float32)
    links = _links(f.shape, tile.mask)
    p = [np.zeros_like(f) for _ in range(f.ndim)]
    q, t = list(p), 1.0
    for _ in range(options.iterations):  # Beck and Teboulle, eqs. 4.9 and 4.10
        u = f + _divergence(q)
        new = [old + _forward(u, axis) * links[axis] / (4 * f.ndim) for axis, old in enumerate(q)]
        shrink = _projection(new, limit)
        new = [n * shrink for n in new]
        t, before = (1 + (1 + 4 * t * t) ** 0.5) / 2, t
        q = [n + np.float32((before - 1) / t) * (n - old) for n, old in zip(new, p, strict=True)]
        p = new
    return Result(f + _divergence(p))


def _links(shape: tuple[int, ...], mask: Array | None) -> list[Array | np.float32]:
    """1 where a sample and its next along an axis are both valid: no gradient crosses the mask."""
    if mask is None:
        return [np.float32(1)] * len(shape)
    ahead = [np.concatenate([np.take(mask, range(1, n), a), np.take(mask, [n - 1], a)], a) for a, n in enumerate(shape)]
    return [(mask & nxt).astype(np.float32) for nxt in ahead]


def _projection(p: list[Array], limit: Array) -> Array:
    """Return the factor that brings ``|p|`` down to the limit."""
    size = np.maximum(np.sqrt(sum(c * c for c in p)), limit)
    return np.divide(limit, size, out=np.zeros_like(limit), where=size > 0)


def _forward(u: Array, axis: int) -> Array:
    """Forward difference, 0 at the last sample (no flow through the border)."""
    out = np.zeros_like(u)
    inner = tuple([slice(None)] * axis + [slice(None, -1)])
    out[inner] = np.diff(u, axis=axis)
    return out


def _divergence(p: list[Array]) -> Array:
    """Minus the adjoint of the forward difference; ``p`` is 0 at the last sample of its axis."""
    out: Array = np.sum(p, axis=0)
    for axis, component in enumerate(p):
        rest = tuple([slice(None)] * axis + [slice(1, None)])
        first = tuple([slice(None)] * axis + [slice(None, -1)])
        out[rest] -= component[first]
    return out
