# SPDX-License-Identifier: Apache-2.0
"""AVIRIS-3 and AVIRIS-5 radiance and reflectance (netCDF-4): bands first, in a group of the product's name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pellucid.core.errors import FormatError
from pellucid.core.types import Description, FormatTraits, Reader, Writer
from pellucid.formats import emit, hdf5_cube, hdf5_private, hdf5_tree

FORMAT = FormatTraits(
    name="aviris",
    title="AVIRIS-3, AVIRIS-5 (.nc)",
    suffixes=(".nc",),
    writes=("splice",),
    keeps="every other variable, group and attribute; band-first order, chunks and compression",
    fallback=".tif",
)
GROUPS = ("radiance", "reflectance")
PERM = (2, 0, 1)
MAPPING = ("transverse_mercator", "crs", "spatial_ref")  # variables whose attributes hold the map grid
anonymise = hdf5_private.scene


def recognise(head: bytes, name: str) -> float:
    """Return how certain it is that this is an AVIRIS scene: cube and wavelengths in a group of the cube's name."""
    if not hdf5_tree.is_hdf5(head):
        return 0.0
    return 0.95 if _group(hdf5_tree.names(Path(name))) else 0.0


def open(path: Path, **hints: Any) -> Reader:
    """Open the scene.

    Raises
    ------
    FormatError
        No cube with its wavelengths, damaged, samples outside the file.
    """
    path = Path(path)
    with hdf5_tree.opened(path):  # what is damaged is said here
        pass
    group = _group(hdf5_tree.names(path))
    if group is None:
        raise FormatError(path, "groups", f"no cube with wavelengths in {' or '.join(GROUPS)}")
    reader = hdf5_cube.CubeReader(path, [(f"{group}/{group}", PERM)])
    facts = reader.parts[0][0].attributes()
    acquisition = emit.band_facts(path, group, "wavelength", "fwhm", reader.shape[2]) | _placed(path)
    step = acquisition.get("transform")
    reader.description = Description(
        format="aviris",
        shape=reader.shape,
        axes=("line", "sample", "band"),
        dtype=reader.dtype,
        kind=group,
        spacing=(abs(step[4]), abs(step[0]), None) if step and not (step[1] or step[3]) else (None, None, None),
        units=(None, None, "nm" if "wavelengths_nm" in acquisition else None),
        nodata=emit.fill_value(facts),
        out_dtype=reader.dtype,
        acquisition=acquisition,
        witnesses={"block": reader.block, "key": f"{group}/{group}", "bands": reader.shape[2]},
    )
    return reader


def splice(path: Path, source: Reader, output: Description) -> Writer:
    """Write a copy of the file with other samples in its cube."""
    if not isinstance(source, hdf5_cube.CubeReader):
        raise FormatError(path, "source", "an AVIRIS file is only made from an AVIRIS file", "write .tif or .h5")
    return hdf5_cube.splice(Path(path), source, output)


def _group(found: hdf5_tree.Names) -> str | None:
    """Return the group that holds the cube."""
    for group in GROUPS:
        if f"{group}/wavelength" in found and len(found.get(f"{group}/{group}", ((), ""))[0]) == 3:
            return group
    return None


def _placed(path: Path) -> dict[str, Any]:
    """Return CRS and transform (a, b, c, d, e, f) from a grid-mapping variable, GDAL's order in the file."""
    found = hdf5_tree.names(path)
    for name in MAPPING:
        if name not in found:
            continue
        facts = hdf5_tree.attributes(path, name)
        text, grid = facts.get("spatial_ref") or facts.get("crs_wkt"), facts.get("GeoTransform")
        out: dict[str, Any] = {"crs": text} if isinstance(text, str) and text else {}
        try:
            numbers = [float(v) for v in (str(grid).replace(",", " ").split() if isinstance(grid, str) else grid or ())]
        except (TypeError, ValueError):
            numbers = []
        if len(numbers) == 6 and numbers[1] and numbers[5]:
            left, a, b, top, d, e = numbers
            out["transform"] = (a, b, left, d, e, top)
        return out
    return {}
