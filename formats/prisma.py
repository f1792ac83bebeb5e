# SPDX-License-Identifier: Apache-2.0
"""PRISMA scenes (.he5, levels 1, 2B, 2C, 2D): both detectors as one cube, or one of them by ``--key``.

Layout: PRISMA Products Specification Document (ASI, issue 2.3): (line, band, sample) uint16, root
attributes with wavelengths, widths and scales. A wavelength of 0 marks a band that was not delivered.
The detectors overlap near 1 um; the file's order is kept, bands descending within each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pellucid.core.errors import FormatError, UsageError
from pellucid.core.types import Description, FormatTraits, Reader, Writer
from pellucid.formats import hdf5_cube, hdf5_private, hdf5_tree, wavelengths

FORMAT = FormatTraits(
    name="prisma",
    title="PRISMA L1, L2B, L2C, L2D (.he5)",
    suffixes=(".he5",),
    writes=("splice",),
    keeps="every other data set, group and attribute; scales, axis order, chunks and compression",
    fallback=".tif",
)
DETECTORS = ("VNIR", "SWIR")
LEVELS = ("L1", "L2B", "L2C", "L2D")
GEOMETRY = ("HCO", "HRC")
LAYERS = {"cloud": "Cloud_Mask", "sunglint": "SunGlint_Mask"}  # 1: flagged, 0: not, 10: undecided, 255: no data
PERM = (0, 2, 1)  # bands in the middle
FULL = 65535.0  # level 2 stores minimum + stored / 65535 * (maximum - minimum)
MAP_STEP = 30.0  # metres of a level 2D pixel
anonymise = hdf5_private.scene


def recognise(head: bytes, name: str) -> float:
    """Return how certain it is that this is a PRISMA scene: its swath's cubes are there."""
    if not hdf5_tree.is_hdf5(head):
        return 0.0
    return 0.97 if _swath(hdf5_tree.names(Path(name))) else 0.0


def open(path: Path, *, key: str | None = None, quality: str = "", **hints: Any) -> Reader:
    """Open the cube.

    Parameters
    ----------
    key : str, optional
        ``VNIR`` or ``SWIR`` for one detector alone.
    quality : str
        Layers whose pixels are left out: ``cloud,sunglint`` (level 1).

    Raises
    ------
    FormatError
        No cube in it, damaged, samples outside the file.
    """
    path = Path(path)
    with hdf5_tree.opened(path):  # what is damaged is said here
        pass
    found = hdf5_tree.names(path)
    swath = _swath(found)
    if swath is None:
        raise FormatError(path, "swaths", "no PRS_L*_HCO cube in the file", "panchromatic scenes are pictures")
    there = [d for d in DETECTORS if _field(swath, d) in found]
    if key is not None:
        wanted = key.rpartition("/")[2].upper().removesuffix("_CUBE")
        if wanted not in there:
            raise UsageError(f"has no cube named {key!r}", path, f"cubes in it: {', '.join(there)}")
        there = [wanted]
    flags = [(name, PERM) for d in there if (name := _errors(found, swath, d))]
    parts = [(_field(swath, d), PERM) for d in there]
    reader = hdf5_cube.CubeReader(path, parts, flags=flags if len(flags) == len(parts) else ())
    layers = {word: f"{swath}/Data Fields/{name}" for word, name in LAYERS.items()}
    have = {w: n for w, n in layers.items() if n in found and found[n][0] == reader.shape[:2]}
    words = hdf5_cube.chosen(path, quality, have)
    reader.layers = tuple(hdf5_cube.Layer(hdf5_tree.Samples(path, have[w]), marks=1) for w in words)
    described = _describe(path, reader, swath, there)
    reader.description = described.with_(witnesses={**described.witnesses, **({"quality": words} if words else {})})
    return reader


def splice(path: Path, source: Reader, output: Description) -> Writer:
    """Write a copy of the file with other samples in its cubes."""
    if not isinstance(source, hdf5_cube.CubeReader):
        raise FormatError(path, "source", "a PRISMA file is only made from a PRISMA file", "write .tif or .h5")
    return hdf5_cube.splice(Path(path), source, output)


def _swath(found: hdf5_tree.Names) -> str | None:
    """Return the group of the hyperspectral swath."""
    for level in LEVELS:
        for geometry in GEOMETRY:
            swath = f"HDFEOS/SWATHS/PRS_{level}_{geometry}"
            if any(len(found.get(_field(swath, d), ((), ""))[0]) == 3 for d in DETECTORS):
                return swath
    return None


def _field(swath: str, detector: str) -> str:
    return f"{swath}/Data Fields/{detector}_Cube"


def _errors(found: hdf5_tree.Names, swath: str, detector: str) -> str | None:
    """Return the layer of defective samples that fits the cube."""
    for middle in ("SAT", "L2"):
        name = f"{swath}/Data Fields/{detector}_PIXEL_{middle}_ERR_MATRIX"
        if name in found and found[name][0] == found[_field(swath, detector)][0]:
            return name
    return None


def _describe(path: Path, reader: hdf5_cube.CubeReader, swath: str, detectors: Sequence[str]) -> Description:
    """Return the neutral description."""
    import numpy as np

    root = hdf5_tree.attributes(path)
    level = next(v for v in LEVELS if f"PRS_{v}_" in swath)
    centres, widths, slopes, inters = [], [], [], []
    for detector, bands in zip(detectors, reader.lengths, strict=True):
        centres += _list(path, root, f"List_Cw_{detector.title()}", bands)
        widths += _list(path, root, f"List_Fwhm_{detector.title()}", bands)
        slope, inter = _scale(path, root, level, detector.title())
        slopes += [slope] * bands
        inters += [inter] * bands
    bad = tuple(i for i, centre in enumerate(centres) if centre == 0)
    one = [v[0] if len(set(v)) == 1 else np.array(v) for v in (slopes, inters)]
    acquisition = {**wavelengths.spectral(centres, "nm", widths), **_placed(root, level, reader.shape)}
    return Description(
        format="prisma",
        shape=reader.shape,
        axes=("line", "sample", "band"),
        dtype=reader.dtype,
        kind="radiance" if level in ("L1", "L2B") else "reflectance",
        spacing=(MAP_STEP, MAP_STEP, None) if "transform" in acquisition else (None, None, None),
        units=(None, None, "nm" if "wavelengths_nm" in acquisition else None),
        slope=one[0],
        inter=one[1],
        bad=bad,
        out_dtype=reader.dtype,
        acquisition=acquisition,
        witnesses={
            "block": reader.block,
            "bands": reader.shape[2],
            "level": level.lower(),
            "detectors": tuple(detectors),
        },
    )


def _list(path: Path, root: Mapping[str, Any], key: str, bands: int) -> list[float]:
    """Return a root attribute of one number per band."""
    import numpy as np

    try:
        values = [float(v) for v in np.ravel(root[key])]
    except (KeyError, TypeError, ValueError):
        values = []
    if len(values) != bands or not all(math.isfinite(v) for v in values):
        raise FormatError(path, key, f"{len(values)} numbers for {bands} bands", "the file is not a complete product")
    return values


def _scale(path: Path, root: Mapping[str, Any], level: str, detector: str) -> tuple[float, float]:
    """Return slope and intercept of a detector: radiance at level 1, physical range at level 2."""
    import numpy as np

    def number(key: str, default: float | None = None) -> float:
        try:
            value = float(np.ravel(root[key])[0])
        except (KeyError, IndexError, TypeError, ValueError):
            value = math.nan if default is None else default
        if not math.isfinite(value):
            raise FormatError(path, key, "is missing or no number", "the file is not a complete product")
        return value

    if level == "L1":
        factor = number(f"ScaleFactor_{detector}")
        if factor == 0:
            raise FormatError(path, f"ScaleFactor_{detector}", "is 0", "the file is not a complete product")
        return 1.0 / factor, -number(f"Offset_{detector}", 0.0)
    low, high = number(f"L2Scale{detector}Min"), number(f"L2Scale{detector}Max")
    if high <= low:
        raise FormatError(path, f"L2Scale{detector}Max", "is not above the minimum", "the file is damaged")
    return (high - low) / FULL, low


def _placed(root: Mapping[str, Any], level: str, shape: tuple[int, ...]) -> dict[str, Any]:
    """Return CRS and transform of a map-projected product, where its corners fit its size."""
    import numpy as np

    if level != "L2D":
        return {}
    keys = ("Product_ULcorner_easting", "Product_ULcorner_northing", "Product_LRcorner_easting")
    try:
        left, top, right = (float(np.ravel(root[k])[0]) for k in keys)
        code = int(np.ravel(root["Epsg_Code"])[0])
    except (KeyError, IndexError, TypeError, ValueError):
        return {}
    across = round((right - left) / MAP_STEP)
    if across == shape[1] - 1:  # corners are centres of pixels
        left, top = left - MAP_STEP / 2, top + MAP_STEP / 2
    elif across != shape[1]:
        return {}
    return {"crs": f"EPSG:{code}", "transform": (MAP_STEP, 0.0, left, 0.0, -MAP_STEP, top)}
