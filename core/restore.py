# SPDX-License-Identifier: Apache-2.0
"""Between stored samples and physical values, both ways, without bias."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pellucid.core.lazy import np

if TYPE_CHECKING:
    from pellucid.core.types import Array, Description, Region


CHUNK = 4_000_000  # samples whose float64 is held at a time: 32 MB


def physical(stored: Array, description: Description, region: Region) -> Array:
    """Return ``stored * slope + inter`` as float32 (complex64 for complex samples).

    Products are formed in float64 where slope or intercept are not trivial.
    """
    out = np.complex64 if np.iscomplexobj(stored) else np.float32
    slope, inter = _along(description.slope, region), _along(description.inter, region)
    if np.all(slope == 1) and np.all(inter == 0):
        return stored.astype(out, copy=False)
    found = np.empty_like(stored, out)
    for part in _few(stored):  # float64 of a few lines at a time
        found[part] = stored[part].astype(np.result_type(stored.dtype, np.float64)) * slope + inter
    return found


def stored(values: Array, description: Description, region: Region) -> tuple[Array, int]:
    """Return physical values in the stored type of ``description`` and how many were clipped.

    Integers: (v - inter) / slope in float64, rounded half to even, clipped to the type's range.
    """
    plain = np.all(description.slope == 1) and np.all(description.inter == 0)
    if plain and values.dtype == description.dtype and not description.acquisition.get("parts"):
        return values, 0
    found, clipped = np.empty_like(values, description.dtype), 0
    for part in _few(values):
        found[part], more = _stored(values[part], description, region)
        clipped += more
    return found, clipped


def _few(values: Array) -> list[Any]:
    """Return slices of the first axis of about ``CHUNK`` samples; all of an array of one axis."""
    if values.ndim < 2 or values.size <= CHUNK:
        return [...]
    step = max(1, CHUNK * len(values) // values.size)
    return [slice(i, i + step) for i in range(0, len(values), step)]


def _stored(values: Array, description: Description, region: Region) -> tuple[Array, int]:
    dtype = np.dtype(description.dtype)
    slope, inter = _along(description.slope, region), _along(description.inter, region)
    if np.any(slope != 1) or np.any(inter != 0):
        values = (values.astype(np.result_type(values.dtype, np.float64)) - inter) / slope
    if dtype.kind == "c" and description.acquisition.get("parts"):
        return _whole_parts(values, np.dtype(description.acquisition["parts"])).astype(dtype), 0
    if dtype.kind not in "iu":
        return values.astype(dtype, copy=False), 0
    low, high = _limits(dtype, description)
    rounded = np.rint(values.astype(np.float64))
    # float64 cannot hold the largest 64-bit integers: compare before the cast, cast inside the range
    below, above = rounded < low, rounded > high
    inside = np.where(below | above | ~np.isfinite(rounded), 0, rounded).astype(dtype)
    inside[below], inside[above] = low, high
    return inside, int(below.sum() + above.sum())


def _whole_parts(values: Array, dtype: Any) -> Array:
    """Return complex samples whose parts a file keeps as integers: rounded, and clipped to their range."""
    limits = np.iinfo(dtype)
    out = np.empty(values.shape, values.dtype)
    for part, source in ((out.real, values.real), (out.imag, values.imag)):
        part[...] = np.clip(np.rint(source), limits.min, limits.max) + 0.0  # no negative zero: integers have none
    return out


def _limits(dtype: Any, description: Description) -> tuple[int, int]:
    """Return the least and largest stored value; fewer bits than the type holds (24-bit sound) count."""
    bits = int(description.acquisition.get("bits") or 0)
    if dtype.kind == "i" and 1 < bits < 8 * dtype.itemsize and description.axes[0] == "time":
        return -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)


def valid(stored: Array, description: Description) -> Array | None:
    """Return where samples are valid (finite and not nodata), or None where all are."""
    ok = np.isfinite(stored) if stored.dtype.kind in "fc" else None
    if description.nodata is not None:
        hit = np.isnan(stored) if np.isnan(description.nodata) else stored == description.nodata
        ok = ~hit if ok is None else ok & ~hit
    return None if ok is None or bool(ok.all()) else ok


def _along(value: Any, region: Region) -> Any:
    """Cut a per-series vector to the region's last axis."""
    value = np.asarray(value, dtype=np.float64)
    return value if value.ndim == 0 else value[region[-1]]
