# SPDX-License-Identifier: Apache-2.0
"""EMIT radiance and reflectance (netCDF-4) in the sensor's own geometry.

Layout: (downtrack, crosstrack, bands) float32 at the root, wavelengths, widths and the list of good
bands in ``sensor_band_parameters`` (EMIT L1B and L2A user guides, NASA LP DAAC). The lookup table to
a map (``location/glt_*``) stays in the file, so that EMIT's own tools still orthorectify the result.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pellucid.core.errors import FormatError, UsageError
from pellucid.core.types import Description, FormatTraits, Reader, Writer
from pellucid.formats import hdf5_cube, hdf5_private, hdf5_tree, wavelengths

FORMAT = FormatTraits(
    name="emit",
    title="EMIT L1B, L2A (.nc)",
    suffixes=(".nc",),
    writes=("splice",),
    keeps="every other variable, group and attribute, the lookup table to a map among them; chunks and compression",
    fallback=".tif",
)
CUBES = ("radiance", "reflectance")
PARAMETERS = "sensor_band_parameters"
LEAST_BANDS = 3
MASK, MASK_BANDS = "mask", 8  # of the L2A mask file; its bands 5 and 6 are no flags but optical depth and vapour
FLAGS = {"cloud": 0, "cirrus": 1, "water": 2, "spacecraft": 3, "dilated": 4, "aggregate": 7}
anonymise = hdf5_private.scene


def recognise(head: bytes, name: str) -> float:
    """Return how certain it is that this is an EMIT scene: a cube beside the sensor's parameters of its bands."""
    if not hdf5_tree.is_hdf5(head):
        return 0.0
    found = hdf5_tree.names(Path(name))
    return 0.95 if _cube(found) and f"{PARAMETERS}/wavelengths" in found else 0.0


def open(path: Path, *, quality: str = "", quality_file: Path | None = None, **hints: Any) -> Reader:
    """Open a scene in sensor geometry.

    Parameters
    ----------
    quality : str
        Flags of the mask file whose pixels are left out; ``aggregate`` where none are named.
    quality_file : Path, optional
        The L2A mask file of the same granule.

    Raises
    ------
    FormatError
        No cube with its wavelengths, damaged, samples outside the file.
    """
    path = Path(path)
    with hdf5_tree.opened(path):  # what is damaged is said here
        pass
    found = hdf5_tree.names(path)
    name = _cube(found)
    if name is None:
        raise FormatError(path, "variables", f"none of {', '.join(CUBES)} is a cube of three axes")
    reader = hdf5_cube.CubeReader(path, [(name, (0, 1, 2))])
    bands = reader.shape[2]
    facts = reader.parts[0][0].attributes()
    good = hdf5_tree.vector(path, f"{PARAMETERS}/good_wavelengths")
    acquisition = band_facts(path, PARAMETERS, "wavelengths", "fwhm", bands)
    reader.description = Description(
        format="emit",
        shape=reader.shape,
        axes=("line", "sample", "band"),
        dtype=reader.dtype,
        kind=name,
        spacing=(None, None, None),
        units=(None, None, "nm" if "wavelengths_nm" in acquisition else None),
        nodata=fill_value(facts),
        bad=wavelengths.bad_bands(good) if len(good) == bands else (),
        out_dtype=reader.dtype,
        acquisition=acquisition,
        witnesses={
            "geometry": "sensor",
            "block": reader.block,
            "key": name,
            "bands": bands,
            "unit": str(facts.get("units", "")),
            **({"quality": words} if (words := _flag(reader, quality, quality_file)) else {}),
        },
    )
    return reader


def _flag(reader: hdf5_cube.CubeReader, quality: str, file: Path | None) -> list[str]:
    """Let the reader leave out what a mask file flags; return the flags."""
    if file is None:
        if quality:
            raise UsageError("its quality flags lie in another file", reader.path, "name it: --quality-file MASK.nc")
        return []
    file = Path(file)
    with hdf5_tree.opened(file):
        pass
    shape = hdf5_tree.names(file).get(MASK, ((), ""))[0]
    if shape != (*reader.shape[:2], MASK_BANDS):
        what = f"is {shape or 'missing'}, ({reader.shape[0]}, {reader.shape[1]}, {MASK_BANDS}) is wanted"
        raise FormatError(file, MASK, what, "give the L2A mask file of the same granule")
    words = hdf5_cube.chosen(file, quality or "aggregate", FLAGS)
    samples = hdf5_tree.Samples(file, MASK)
    reader.layers = tuple(hdf5_cube.Layer(samples, FLAGS[w]) for w in words)
    return words


def splice(path: Path, source: Reader, output: Description) -> Writer:
    """Write a copy of the file with other samples in its cube."""
    if not isinstance(source, hdf5_cube.CubeReader):
        raise FormatError(path, "source", "an EMIT file is only made from an EMIT file", "write .tif or .h5")
    return hdf5_cube.splice(Path(path), source, output)


def band_facts(path: Path, group: str, centres: str, widths: str, bands: int) -> dict[str, Any]:
    """Return wavelengths and widths, nm, from vectors of a group that have one entry per band."""
    values, fwhm = (hdf5_tree.vector(path, f"{group}/{name}") for name in (centres, widths))
    if len(values) != bands:
        return {}
    unit = str(hdf5_tree.attributes(path, f"{group}/{centres}").get("units", ""))
    return dict(wavelengths.spectral(values, unit, fwhm if len(fwhm) == bands else None))


def fill_value(facts: dict[str, Any], key: str = "_FillValue") -> float | None:
    """Return a netCDF fill value."""
    import numpy as np

    try:
        return float(np.ravel(facts[key])[0])
    except (KeyError, IndexError, TypeError, ValueError):
        return None


def _cube(found: hdf5_tree.Names) -> str | None:
    """Return the name of the cube."""
    return next((n for n in CUBES if n in found and len(found[n][0]) == 3 and found[n][0][2] >= LEAST_BANDS), None)
