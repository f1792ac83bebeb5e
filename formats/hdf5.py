# SPDX-License-Identifier: Apache-2.0
"""A plain array in an HDF5 or netCDF-4 file: the one of its size, or the one that ``--key`` names.

A vector of wavelengths as long as one of its axes tells which axis the bands are on; named
dimensions (``line``, ``band``, ``wavelength`` ...) do so too. Else the axes are taken in file order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid.core.errors import FormatError, UsageError
from pellucid.core.types import SERIES, Description, FormatTraits, Reader, Region, Writer
from pellucid.formats import hdf5_cube, hdf5_tree, wavelengths
from pellucid.formats.hdf5_private import anonymise as anonymise

if TYPE_CHECKING:
    from pellucid.core.types import Array

FORMAT = FormatTraits(
    name="hdf5",
    title="HDF5 or netCDF-4 array",
    suffixes=(".h5", ".hdf5", ".he5", ".nc"),
    keeps="every other data set, group and attribute byte for byte; the array's place, axes, chunks and compression",
)
WAVELENGTH_NAMES = ("wavelengths", "wavelength", "wavelen", "wvl", "wl", "wave", "lambda", "bands_nm", "wavelengths_nm")
FWHM_NAMES = ("fwhm", "fwhm_nm", "bandwidth", "bandwidths")
GOOD_NAMES = ("good_wavelengths", "good_bands", "bbl")
NODATA_NAMES = ("_FillValue", "missing_value", "nodata", "no_data_value", "Data_Ignore_Value")
BAND_WORDS = {"band", "bands", "wavelength", "wavelengths", "wl", "lambda", "channel", "channels", "spectral"}
LINE_WORDS = {"line", "lines", "y", "row", "rows", "downtrack", "northing", "lat", "latitude", "along_track"}
SAMPLE_WORDS = {
    "sample",
    "samples",
    "x",
    "col",
    "cols",
    "column",
    "columns",
    "crosstrack",
    "easting",
    "lon",
    "longitude",
}
OWN_AXES = {"x", "y", "z", "line", "sample", "time", "axial", "lateral", "element", *SERIES}
DEEPER = 4  # times the samples of the next array: then it is the one that is meant
MOST_AXES = 4
SCENE = ("line", "sample", "band")


def recognise(head: bytes, name: str) -> float:
    """Return how certain it is that this is HDF5; formats that know its inside are surer."""
    return 0.6 if hdf5_tree.is_hdf5(head) else 0.0


def open(path: Path, *, key: str | None = None, **hints: Any) -> Reader:
    """Open an array of an HDF5 file.

    Parameters
    ----------
    key : str, optional
        Name of the data set; needed where several could be meant.

    Raises
    ------
    FormatError
        Not HDF5, damaged, no array in it, or several and no ``key``; links or samples outside the file.
    """
    path = Path(path)
    with hdf5_tree.opened(path):  # what is damaged is said here
        pass
    name = choose(path, key)
    asked = hints.get("axes")
    wanted = tuple(a.strip() for a in (asked.split(",") if isinstance(asked, str) else asked or ()))
    return _reader(path, name, wanted)


def splice(path: Path, source: Reader, output: Description) -> Writer:
    """Write the same file with other samples; its scale attributes follow a change of type."""
    import numpy as np

    if not isinstance(source, hdf5_cube.CubeReader):
        return compose(path, output)
    before = source.description
    writer = hdf5_cube.CubeWriter(Path(path), source, output.dtype)
    if not (np.array_equal(before.slope, output.slope) and np.array_equal(before.inter, output.inter)):
        writer.attributes({"scale_factor": np.asarray(output.slope), "add_offset": np.asarray(output.inter)})
    return writer


def compose(path: Path, description: Description) -> Writer:
    """Write a new file: the array ``data`` with named axes, and wavelengths, widths and bad bands beside it."""
    return PlainWriter(Path(path), description)


class PlainWriter:
    """A new file; regions in any order."""

    def __init__(self, path: Path, description: Description) -> None:
        import h5py
        import numpy as np

        self.path = path
        known, d = description.acquisition, description
        with hdf5_tree.worded(path):
            file: Any = h5py.File(path, "w", locking=False)
            item = file.create_dataset("data", d.shape, np.dtype(d.dtype))
            item.attrs["axes"] = np.bytes_(",".join(d.axes))
            if d.nodata is not None:
                item.attrs["_FillValue"] = np.dtype(d.dtype).type(d.nodata)
            if np.any(np.asarray(d.slope) != 1) or np.any(np.asarray(d.inter) != 0):
                item.attrs["scale_factor"], item.attrs["add_offset"] = np.asarray(d.slope), np.asarray(d.inter)
            for name, value in (("kind", d.kind), ("crs_wkt", known.get("crs")), ("transform", known.get("transform"))):
                if value is not None:  # texts of fixed length: HDF5 falls over damaged lists of free length
                    item.attrs[name] = np.bytes_(str(value).encode()) if isinstance(value, str) else value
            for name, key in (("wavelengths", "wavelengths_nm"), ("fwhm", "fwhm_nm")):
                if known.get(key) is not None:
                    file[name] = np.asarray(known[key], np.float64)
                    file[name].attrs["units"] = np.bytes_("nm")
            if d.bad and d.series:
                file["good_wavelengths"] = (~np.isin(np.arange(d.shape[-1]), d.bad)).astype(np.uint8)
            file.close()
        self._sink: hdf5_tree.Sink | None = hdf5_tree.Sink(path, "data", fresh=True)

    def write(self, region: Region, values: Array) -> None:
        """Store samples of a region."""
        assert self._sink is not None, "the writer is closed"
        self._sink.write(region, values)

    def close(self) -> None:
        """Finish the file and flush it to disk."""
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.close()


def choose(path: Path, key: str | None) -> str:
    """Return the name of the array that is meant."""
    found = hdf5_tree.names(path)
    numbers = {n: s for n, (s, t) in found.items() if t not in ("text", "record", "object") and math.prod(s) > 1}
    if key is not None:
        wanted = key.strip("/")
        if wanted in numbers and 1 <= len(numbers[wanted]) <= MOST_AXES:
            return wanted
        raise UsageError(f"has no array named {key!r}", path, f"arrays in it: {_listed(numbers)}")
    cubes = {n: s for n, s in numbers.items() if 3 <= len(s) <= MOST_AXES and min(s) > 0}
    if not found:
        raise FormatError(path, "data sets", "none can be read", "the file is empty or damaged")
    if not cubes:
        raise FormatError(path, "data sets", f"no array of three axes among {_listed(numbers)}", "name one with --key")
    told = {n: s for n, s in cubes.items() if _band_vector(found, n, s) is not None}
    cubes = told if len(told) == 1 else cubes
    ranked = sorted(cubes, key=lambda n: -math.prod(cubes[n]))
    if len(ranked) > 1 and math.prod(cubes[ranked[0]]) < DEEPER * math.prod(cubes[ranked[1]]):
        raise FormatError(path, "data sets", f"several could be meant: {_listed(cubes)}", "name one with --key")
    return ranked[0]


def _listed(shapes: Mapping[str, tuple[int, ...]], most: int = 8) -> str:
    """Return names and sizes as text."""
    rows = [f"{n} {' x '.join(map(str, s))}" for n, s in list(shapes.items())[:most]]
    return ", ".join(rows) + (" ..." if len(shapes) > most else "") if rows else "none"


def _band_vector(found: hdf5_tree.Names, name: str, shape: tuple[int, ...]) -> tuple[str, int] | None:
    """Return the vector of wavelengths nearest to an array, and the array's axis of that one length."""
    folder = name.rpartition("/")[0]
    for vector, (size, kind) in sorted(found.items(), key=lambda e: (e[0].rpartition("/")[0] != folder, len(e[0]))):
        word = vector.rpartition("/")[2].lower()
        if word in WAVELENGTH_NAMES and kind not in ("text", "record", "object"):
            axes = [i for i, n in enumerate(shape) if n == math.prod(size) and n > 1]
            if axes:
                return vector, axes[-1]
    return None


def _reader(path: Path, name: str, wanted: tuple[str, ...]) -> hdf5_cube.CubeReader:
    """Return the reader of one array."""
    found = hdf5_tree.names(path)
    if name not in found:
        raise FormatError(path, name, "cannot be read", "the file is damaged: copy it again")
    shape = found[name][0]
    vector = _band_vector(found, name, shape)
    labels = _labels(path, name)
    axes, perm = _axes(path, shape, labels, wanted, vector[1] if vector else None)
    reader = hdf5_cube.CubeReader(path, [(name, perm)])
    facts = reader.parts[0][0].attributes()
    slope, inter = (_scale(facts, k, reader.shape[-1]) for k in ("scale_factor", "add_offset"))
    series = axes[-1] in SERIES
    acquisition: dict[str, Any] = _spectral(path, found, vector, reader.shape[-1]) if axes[-1] == "band" else {}
    for key, attribute in (("crs", "crs_wkt"), ("transform", "transform")):
        if attribute in facts:
            value = facts[attribute]
            acquisition[key] = value if isinstance(value, str) else tuple(float(v) for v in value)
    texts = [name, *(str(facts[k]) for k in ("long_name", "standard_name", "units", "kind") if k in facts)]
    complex_ = reader.dtype.startswith("complex")
    reader.description = Description(
        format="hdf5",
        shape=reader.shape,
        axes=axes,
        dtype=reader.dtype,
        kind=str(facts["kind"]) if "kind" in facts else "complex" if complex_ else wavelengths.guess_kind(texts),
        spacing=(None,) * len(axes),
        units=(*(None,) * (len(axes) - 1), "nm" if "wavelengths_nm" in acquisition else None),
        slope=1.0 if slope is None else slope,
        inter=0.0 if inter is None else inter,
        nodata=_nodata(facts, reader.dtype),
        bad=_bad(path, found, reader.shape[-1]) if series else (),
        slab=_slab(perm),
        out_dtype=reader.dtype,
        acquisition=acquisition,
        witnesses={"block": reader.block, "key": name, "file_shape": shape, "labels": labels},
    )
    return reader


def _labels(path: Path, name: str) -> tuple[str, ...]:
    """Return the names of an array's dimensions: its labels, or those of its dimension scales."""
    with hdf5_tree.opened(path) as file:
        item = hdf5_tree.find(path, file, name)
        said = hdf5_tree.read_attributes(item).get("axes")
        if isinstance(said, str) and len(said.split(",")) == len(item.shape):
            return tuple(said.lower().split(","))
        found = []
        for axis in item.dims:
            scales = [s.name.rpartition("/")[2] for s in axis.values() if s.name]
            found.append((axis.label or (scales[0] if scales else "")).lower())
    return tuple(found)


def _axes(
    path: Path, shape: tuple[int, ...], labels: tuple[str, ...], wanted: tuple[str, ...], band: int | None
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the described axes and, for each axis in the file, which of them it is."""
    names = wanted or labels
    if wanted and (len(wanted) != len(shape) or len(set(wanted)) < len(wanted)):
        raise UsageError(f"--axes names {len(wanted)} axes, the array has {len(shape)}", path)
    if len(set(names)) == len(shape) and set(names) <= OWN_AXES and len(set(names) & SERIES) <= 1:
        order = sorted(range(len(names)), key=lambda i: names[i] in SERIES)  # stable: spatial axes stay in order
        return tuple(names[i] for i in order), tuple(order.index(i) for i in range(len(names)))
    if len(shape) == 3:
        scene = _scene(labels, band)
        if scene is not None:
            return SCENE, scene
    return tuple(f"axis{i}" for i in range(len(shape))), tuple(range(len(shape)))


def _scene(labels: tuple[str, ...], band: int | None) -> tuple[int, ...] | None:
    """Return which of line, sample, band each axis is; None where nothing tells the bands."""
    said = [i for i, label in enumerate(labels) if label in BAND_WORDS]
    if len(said) == 1:
        band = said[0]
    if band is None:
        return None
    rest = [i for i in range(3) if i != band]
    if labels[rest[0]] in SAMPLE_WORDS and labels[rest[1]] in LINE_WORDS:
        rest.reverse()
    perm = [0, 0, 0]
    perm[rest[0]], perm[rest[1]], perm[band] = 0, 1, 2
    return tuple(perm)


def _slab(perm: tuple[int, ...]) -> int:
    """Return the described axis that is slowest in the file, the series aside."""
    return next((axis for axis in perm if axis != len(perm) - 1), 0)


def _spectral(path: Path, found: hdf5_tree.Names, vector: tuple[str, int] | None, bands: int) -> dict[str, Any]:
    """Return wavelengths and widths."""
    if vector is None or math.prod(found[vector[0]][0]) != bands:
        return {}
    folder = vector[0].rpartition("/")[0]
    unit = str(hdf5_tree.attributes(path, vector[0]).get("units", ""))
    widths = None
    for name, (size, _) in found.items():
        parent, _, word = name.rpartition("/")
        if parent == folder and word.lower() in FWHM_NAMES and math.prod(size) == bands:
            widths = hdf5_tree.vector(path, name)
    return dict(wavelengths.spectral(hdf5_tree.vector(path, vector[0]), unit, widths))


def _bad(path: Path, found: hdf5_tree.Names, bands: int) -> tuple[int, ...]:
    """Return the bands that a list of good ones leaves out."""
    for name, (size, _) in found.items():
        if name.rpartition("/")[2].lower() in GOOD_NAMES and math.prod(size) == bands:
            return wavelengths.bad_bands(hdf5_tree.vector(path, name))
    return ()


def _scale(facts: Mapping[str, Any], key: str, bands: int) -> Any:
    """Return a scale attribute: one number, or one per entry of the last axis; None where unusable."""
    import numpy as np

    try:
        values = np.asarray(facts.get(key), np.float64)
    except (TypeError, ValueError):
        return None
    if (
        values.size not in (1, bands)
        or not np.isfinite(values).all()
        or (key == "scale_factor" and (values == 0).any())
    ):
        return None
    return float(values.ravel()[0]) if values.size == 1 else values.ravel()


def _nodata(facts: Mapping[str, Any], dtype: str) -> float | None:
    """Return the value that means "no sample", if samples can have it."""
    import numpy as np

    for key in NODATA_NAMES:
        try:
            value = float(np.ravel(facts[key])[0])
        except (KeyError, IndexError, TypeError, ValueError):
            continue
        if np.dtype(dtype).kind in "fc":
            return value
        info = np.iinfo(dtype)
        return value if math.isfinite(value) and info.min <= value <= info.max else None
    return None
