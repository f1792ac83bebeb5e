# SPDX-License-Identifier: Apache-2.0
"""What a run will do, decided from header, method and limits before any sample is read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pellucid.core import device, resources, tiling
from pellucid.core.errors import UsageError
from pellucid.core.lazy import np
from pellucid.core.types import Description, Noise, Plan, Traits

FIXED_BYTES = 220 * 1024**2  # interpreter, NumPy, SciPy and a reader, measured on Linux


def make_plan(
    description: Description,
    method: Any,
    options: Any,
    *,
    noise: Noise | None = None,
    reason: str = "",
    out_dtype: str = "",
    threads: int = 0,
    max_memory: int = 0,
    device_name: str = "auto",
    seed: int = 0,
    extras: Mapping[str, Any] | None = None,
) -> Plan:
    """Return the plan of a run.

    Parameters
    ----------
    description : Description
        Of the input, axes in the field's order.
    method : module
        With TRAITS, Options and run.
    options : Options
        Of the method.
    out_dtype : str
        Stored type of the output; empty: what the description proposes.
    max_memory : int
        Bytes; 0: 70 % of what this process may use. Bounds the tiles in flight, never the grid.

    Raises
    ------
    UsageError
        The method cannot serve these axes, or a single tile needs more memory than was given.
    """
    traits: Traits = method.TRAITS
    _check_axes(description, traits)
    halo = tiling.halo_of(traits, options, description)
    tiles = tiling.grid(description, traits, options)
    wanted = threads or resources.threads()
    one = _tile_bytes(description, traits, tiles, halo)
    in_flight = _in_flight(traits, len(tiles), one, wanted, max_memory)
    dtype = out_dtype or description.out_dtype or description.dtype
    return Plan(
        method=traits.name,
        options=options,
        reason=reason,
        noise=noise,
        tiles=tiles,
        halo=halo,
        memory=FIXED_BYTES + one * in_flight,
        in_flight=in_flight,
        threads=wanted,
        device=device.resolve(device_name, traits.devices),
        seed=seed,
        description=description,
        output=output_of(description, dtype, traits),
        extras=dict(extras or {}),
    )


def _in_flight(traits: Traits, tiles: int, one: int, wanted: int, max_memory: int) -> int:
    """Return how many tiles fit into memory at once."""
    most = int(((max_memory or resources.memory_limit()) - FIXED_BYTES) // max(one, 1))
    if max_memory and most < 1:
        need = (FIXED_BYTES + one) / 1024**2
        raise UsageError(f"one tile needs about {need:.0f} MB", hint="give a larger --max-memory")
    return 1 if traits.exact == "stream" else max(1, min(wanted, most, tiles))


def output_of(description: Description, dtype: str, traits: Traits) -> Description:
    """Return the description of the output: same grid; float output of scaled integers drops the scale."""
    if np.dtype(description.dtype).kind == "c":
        return replace(description, dtype="complex64" if dtype != "complex128" else dtype)
    if dtype == description.dtype or traits.stored:
        return replace(description, dtype=description.dtype)
    if np.dtype(dtype).kind == "f" and np.dtype(description.dtype).kind in "iu":
        return replace(description, dtype=dtype, slope=1.0, inter=0.0)
    return replace(description, dtype=dtype)


def _check_axes(description: Description, traits: Traits) -> None:
    if description.spatial not in traits.spatial:
        allowed = " or ".join(str(n) for n in traits.spatial)
        raise UsageError(
            f"{traits.name} needs {allowed} spatial axes, not {description.spatial}",
            hint="choose another with --method",
        )
    if np.dtype(description.dtype).kind == "c" and not traits.complex:
        raise UsageError(f"{traits.name} takes real samples, these are complex", hint="choose another with --method")
    if traits.needs_series and description.series not in traits.joint:
        names = " or ".join(traits.joint)
        raise UsageError(f"{traits.name} needs several of: {names}", hint="choose another with --method")


def _tile_bytes(description: Description, traits: Traits, tiles: Any, halo: tuple[int, ...]) -> int:
    """Return the working memory of one tile: window samples times the method's own factor, plus in and out."""
    if not tiles:
        return 0
    shape = description.shape[: description.spatial]
    series = description.shape[-1] if description.series else 1
    samples = max(math.prod(s.stop - s.start for s in tiling.window(core, halo, shape)) for core in tiles) * series
    return int(samples * (_held(description) + traits.bytes_per_sample))


def _held(description: Description) -> float:
    """Return bytes a sample of a window costs whatever the method: as stored and physical, in and out, and flags.

    Plain float32 is its own physical value; samples that may be invalid are set to 0 in a copy.
    """
    item, physical = np.dtype(description.dtype).itemsize, 8 if np.dtype(description.dtype).kind == "c" else 4
    plain = item == physical and np.all(description.slope == 1) and np.all(description.inter == 0)
    if plain:
        return 2 * physical + (0 if description.nodata is None else item)
    return 2 * physical + 2 * item + (0 if description.nodata is None else 1)
