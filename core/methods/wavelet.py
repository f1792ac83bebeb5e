# SPDX-License-Identifier: Apache-2.0
"""Undecimated wavelets with a threshold for every place: Chang, Yu and Vetterli 2000.

Spatially adaptive BayesShrink (10.1109/83.862633, eq. 13): each coefficient is softly thresholded by
``sigma^2 / s``, ``s`` the signal's standard deviation measured around it. Without decimation the
result does not depend on where the grid begins (Coifman and Donoho 1995), and it is exactly local.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from pellucid.core.lazy import ndimage, np
from pellucid.core.types import Description, Noise, Plan, Result, Tile, Traits, option

if TYPE_CHECKING:
    from pellucid.core.types import Array

# Haar, scaled so that |H|^2 + |G|^2 = 1: without decimation it beat Daubechies' 4 taps by .1 dB on the
# tuning photographs at sigma 25/255, at two thirds of the time and a third of the margin.
LOW, HIGH = (0.5, 0.5), (0.5, -0.5)


@dataclass(frozen=True)
class Options:
    """How coarse and how far around."""

    levels: int = option(4, "number of scales; more removes coarser noise and needs more margin")
    window: int = option(
        8, "radius in samples of the area the signal is measured in; more is steadier, less follows detail"
    )


def halo(options: Options, description: Description | None = None) -> int:
    """Return the reach of the coarsest coefficient, twice: masked samples are filled from as far."""
    return 2 * _reach(options)


TRAITS = Traits(
    name="wavelet",
    line="Undecimated wavelets with local BayesShrink thresholds; fast, any number of axes.",
    spatial=(1, 2, 3),
    needs_sigma=True,
    halo=halo,
    bytes_per_sample=64.0,
    thickness=128,
    equivariant=("scale", "shift"),
    cite=("10.1109/83.862633", "10.1007/978-1-4612-2544-7_9"),
    use="a quick and safe first result on anything with smooth areas",
    avoid="repeated texture: nlm and bm3d keep more of it",
)


def run(tile: Tile, noise: Noise | None, plan: Plan, rng: np.random.Generator) -> Result:
    """Transform, shrink by what the neighbourhood says, transform back."""
    assert noise is not None
    options = plan.options or Options()
    x, reach = tile.values, _reach(options)
    power = np.broadcast_to(np.square(np.asarray(tile.noise_map(noise.sigma), np.float32)), x.shape)
    if tile.mask is not None and tile.mask.any():
        nearest = ndimage.distance_transform_edt(~tile.mask, return_distances=False, return_indices=True)
        x = x[tuple(nearest)]
    x, power = np.pad(x, reach, mode="symmetric"), np.pad(power, reach, mode="symmetric")
    inside = tuple(slice(reach, -reach) for _ in range(x.ndim))
    return Result(_denoise(x, power, 0, options)[inside])


def _denoise(x: Array, power: Array, level: int, options: Options) -> Array:
    """Shrink the details of one scale, hand the smooth rest to the next, add up."""
    if level == options.levels:
        return x
    out = np.zeros_like(x)
    for bands in product((LOW, HIGH), repeat=x.ndim):
        detail, variance = x, power
        for axis, taps in enumerate(bands):
            detail = _filter(detail, taps, axis, 1 << level)
            variance = _filter(variance, [h * h for h in taps], axis, 1 << level)
        smooth = all(taps is LOW for taps in bands)
        detail = _denoise(detail, variance, level + 1, options) if smooth else _shrink(detail, variance, options.window)
        for axis, taps in enumerate(bands):
            detail = _filter(detail, taps, axis, -(1 << level))
        out += detail
    return out


def _filter(x: Array, taps: Any, axis: int, step: int) -> Array:
    """Correlate with taps ``step`` samples apart; a negative step is the adjoint. The ends wrap into the margin."""
    return np.asarray(sum(np.float32(h) * np.roll(x, -k * step, axis) for k, h in enumerate(taps)))


def _shrink(detail: Array, variance: Array, radius: int) -> Array:
    """Soft threshold ``variance / s`` (eq. 13), ``s^2`` = local power less the noise's."""
    signal = ndimage.uniform_filter(detail * detail, 2 * radius + 1, mode="wrap") - variance
    s = np.sqrt(np.maximum(signal, 0))
    kept = np.maximum(np.abs(detail) * s - variance, 0)  # (|d| - variance / s) s, so that s = 0 needs no care
    return np.asarray(np.sign(detail) * np.divide(kept, s, out=np.zeros_like(s), where=s > 0))


def _reach(options: Options) -> int:
    """Samples between a value and the farthest one that moves it, one way."""
    return (len(LOW) - 1) * ((1 << options.levels) - 1) + options.window
