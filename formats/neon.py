# SPDX-License-Identifier: Apache-2.0
"""NEON imaging spectrometer reflectance and radiance (.h5): one site, cube and metadata.

Layout of NEON's surface reflectance products: ``SITE/Reflectance/Reflectance_Data``
int16 with scale factor and ignore value as attributes, ``Metadata/Spectral_Data`` and
``Metadata/Coordinate_System``. Windows of water vapour named by the file are bad bands.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pellucid.core.errors import FormatError
from pellucid.core.types import Description, FormatTraits, Reader, Writer
from pellucid.formats import emit, envi_header, envi_meta, hdf5_cube, hdf5_private, hdf5_tree

FORMAT = FormatTraits(
    name="neon",
    title="NEON imaging spectrometer (.h5)",
    suffixes=(".h5",),
    writes=("splice",),
    keeps="every other data set, group and attribute; scale, chunks and compression",
    fallback=".tif",
)
PRODUCTS = ("Reflectance", "Radiance")
anonymise = hdf5_private.scene


def recognise(head: bytes, name: str) -> float:
    """Return how certain it is that this is a NEON flight line or tile: its cube and its spectral metadata."""
    if not hdf5_tree.is_hdf5(head):
        return 0.0
    return 0.96 if _group(hdf5_tree.names(Path(name))) else 0.0


def open(path: Path, **hints: Any) -> Reader:
    """Open the cube.

    Raises
    ------
    FormatError
        No cube with its metadata, damaged, samples outside the file.
    """
    path = Path(path)
    with hdf5_tree.opened(path):  # what is damaged is said here
        pass
    found = _group(hdf5_tree.names(path))
    if found is None:
        raise FormatError(path, "groups", "no SITE/Reflectance/Reflectance_Data with wavelengths")
    group, product = found
    reader = hdf5_cube.CubeReader(path, [(f"{group}/{product}_Data", (0, 1, 2))])
    facts = reader.parts[0][0].attributes()
    acquisition = emit.band_facts(path, f"{group}/Metadata/Spectral_Data", "Wavelength", "FWHM", reader.shape[2])
    acquisition |= _placed(path, f"{group}/Metadata/Coordinate_System")
    factor = emit.fill_value(facts, "Scale_Factor")
    step = acquisition.get("transform")
    reader.description = Description(
        format="neon",
        shape=reader.shape,
        axes=("line", "sample", "band"),
        dtype=reader.dtype,
        kind=product.lower(),
        spacing=(abs(step[4]), abs(step[0]), None) if step and not (step[1] or step[3]) else (None, None, None),
        units=(None, None, "nm" if "wavelengths_nm" in acquisition else None),
        slope=1.0 / factor if factor else 1.0,
        nodata=emit.fill_value(facts, "Data_Ignore_Value"),
        bad=_windows(hdf5_tree.attributes(path, group), acquisition.get("wavelengths_nm")),
        out_dtype=reader.dtype,
        acquisition=acquisition,
        witnesses={"block": reader.block, "key": f"{group}/{product}_Data", "bands": reader.shape[2]},
    )
    return reader


def splice(path: Path, source: Reader, output: Description) -> Writer:
    """Write a copy of the file with other samples in its cube."""
    if not isinstance(source, hdf5_cube.CubeReader):
        raise FormatError(path, "source", "a NEON file is only made from a NEON file", "write .tif or .h5")
    return hdf5_cube.splice(Path(path), source, output)


def _group(found: hdf5_tree.Names) -> tuple[str, str] | None:
    """Return the product's group and name."""
    for name, (shape, _) in found.items():
        for product in PRODUCTS:
            group = name.removesuffix(f"/{product}_Data")
            if len(shape) == 3 and group != name and f"{group}/Metadata/Spectral_Data/Wavelength" in found:
                return group, product
    return None


def _windows(facts: Mapping[str, Any], centres: Any) -> tuple[int, ...]:
    """Return the bands within the windows that the file calls bad, nm."""
    import numpy as np

    bad: set[int] = set()
    for key, value in facts.items():
        if not key.startswith("Band_Window_") or centres is None:
            continue
        limits = [float(v) for v in np.ravel(value) if np.asarray(v).dtype.kind in "iuf"]
        if len(limits) == 2:
            bad |= {i for i, c in enumerate(centres) if limits[0] <= c <= limits[1]}
    return tuple(sorted(bad))


def _placed(path: Path, group: str) -> dict[str, Any]:
    """Return CRS and transform from the ENVI words that the file keeps as texts."""
    out: dict[str, Any] = {}
    words, crs = (hdf5_tree.text(path, f"{group}/{name}") for name in ("Map_Info", "Coordinate_System_String"))
    if words:
        header = envi_header.parse(
            b"ENVI\nmap info = {" + words.strip().strip("{}").encode("latin-1", "replace") + b"}\n"
        )
        transform = envi_meta.transform_of(header.items("map info"))
        if transform:
            out["transform"] = transform
    if crs:
        out["crs"] = crs
    return out
