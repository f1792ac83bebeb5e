# SPDX-License-Identifier: Apache-2.0
"""The words of a GeoTIFF that a copied profile leaves behind, put on another open GeoTIFF."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pellucid.core.types import Description

GENERATED = frozenset({"IMAGE_STRUCTURE", "DERIVED_SUBDATASETS", "OVERVIEWS", "SUBDATASETS", "TIFF"})
DERIVED = ("STATISTICS_",)  # wrong as soon as samples change


def copy(source: Any, target: Any, before: Description, output: Description) -> None:
    """Copy everything rasterio's profile leaves behind."""
    import numpy as np

    for space in (None, *source.tag_namespaces()):
        if space not in GENERATED:
            _copy_tags(target, source.tags(ns=space) if space else source.tags(), space)
    for band in range(1, source.count + 1):
        for space in (None, *source.tag_namespaces(band)):
            if space not in GENERATED:
                tags = source.tags(band, ns=space) if space else source.tags(band)
                _copy_tags(target, tags, space, band)
    gcps, crs = source.gcps
    if gcps:
        target.gcps = gcps, crs
    if source.rpcs is not None:
        target.rpcs = source.rpcs
    if any(d is not None for d in source.descriptions):
        target.descriptions = source.descriptions
    if any(source.units):
        target.units = tuple(u or "" for u in source.units)
    same = np.array_equal(before.slope, output.slope) and np.array_equal(before.inter, output.inter)
    if same:
        scales, offsets = source.scales, source.offsets
    else:
        scales, offsets = (_broadcast(v, source.count) for v in (output.slope, output.inter))
    if any(s != 1 for s in scales) or any(o != 0 for o in offsets):
        target.scales, target.offsets = scales, offsets
    if target.colorinterp != source.colorinterp:
        target.colorinterp = source.colorinterp
    if source.colorinterp[0].name == "palette" and output.dtype in ("uint8", "uint16"):
        target.write_colormap(1, source.colormap(1))


def _broadcast(value: Any, bands: int) -> tuple[float, ...]:
    """Return one float per band."""
    import numpy as np

    return tuple(float(v) for v in np.broadcast_to(np.asarray(value, dtype=np.float64), (bands,)))


def _copy_tags(target: Any, tags: Mapping[str, str], space: str | None, band: int | None = None) -> None:
    """Set tags of one namespace, less those that described the old samples."""
    kept = {k: v for k, v in tags.items() if not k.startswith(DERIVED)}
    if not kept or space == "RPC":
        return
    where = {"ns": space} if space else {}
    target.update_tags(*(() if band is None else (band,)), **where, **kept)


def describe(target: Any, description: Description) -> None:
    """Write a new scene's neutral words: names, wavelengths, widths and bad bands as band tags, scales."""
    known, bands = description.acquisition, target.count
    names = known.get("band_names")
    if names and len(names) == bands:
        target.descriptions = tuple(str(n) for n in names)
    lists = {"wavelength": known.get("wavelengths_nm"), "fwhm": known.get("fwhm_nm")}
    for band in range(bands):
        tags = {k: f"{float(v[band]):.9g}" for k, v in lists.items() if v is not None and len(v) == bands}
        if tags:
            tags["wavelength_units"] = "Nanometers"
        if description.bad:
            tags["bbl"] = "0" if band in description.bad else "1"
        if tags:
            target.update_tags(band + 1, **tags)
    scales, offsets = (_broadcast(v, bands) for v in (description.slope, description.inter))
    if any(s != 1 for s in scales) or any(o != 0 for o in offsets):
        target.scales, target.offsets = scales, offsets
