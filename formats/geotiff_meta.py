# SPDX-License-Identifier: Apache-2.0
"""What an open GeoTIFF says of itself, in neutral words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pellucid.core.errors import FormatError
from pellucid.core.types import Description
from pellucid.formats import tiff_layout, wavelengths

LOSSY = ("JPEG", "WEBP", "JXL", "LERC")
SPECTRAL_KEYS = {
    "wavelength": (
        "wavelength",
        "central_wavelength",
        "center_wavelength",
        "wavelength_center",
        "central_wavelength_um",
    ),
    "fwhm": ("fwhm", "fwhm_um", "bandwidth"),
    "unit": ("wavelength_units", "wavelength_unit", "wavelengths_units", "units"),
    "bbl": ("bbl", "bad_band", "good_wavelengths"),
}
PICTURE = {"red", "green", "blue", "alpha"}


def describe(path: Path, dataset: Any, directory: tiff_layout.Directory, block: tuple[int, int]) -> Description:
    """Return the description of an open dataset."""
    import numpy as np

    notes: list[tuple[str, str]] = []
    dtype = one_dtype(path, dataset)
    bands = dataset.count
    tags = [_lower(dataset, i) for i in range(1, bands + 1)]
    envi = {k.lower(): v for k, v in dataset.tags(ns="ENVI").items()}
    acquisition = _acquisition(dataset, tags, envi)
    slope, inter = _scale(dataset, notes)
    told = any("bbl" in t for t in tags)
    flags = wavelengths.numbers(t.get("bbl", "1") for t in tags) if told else _envi_list(envi.get("bbl"), bands)
    empty = (i for i, t in enumerate(tags) if t.get("statistics_valid_percent", "").strip() in ("0", "0.0"))
    structure = dataset.tags(ns="IMAGE_STRUCTURE")
    lossy = _lossy(structure)
    if dataset.overviews(1):
        notes.append(("overviews", "reduced copies inside the file show the old samples and are not copied"))
    if lossy:
        notes.append(
            ("lossy", f"{structure.get('COMPRESSION')} changed the samples: the output is compressed without loss")
        )
    if directory.following and directory.entries.get(330) is None and _more_pages(dataset):
        notes.append(("more-images", "the file holds further images: only the first is read"))
    a, b, _, d, e, _ = tuple(dataset.transform)[:6]
    placed = "transform" in acquisition
    return Description(
        format="geotiff",
        shape=(dataset.height, dataset.width, bands),
        axes=("line", "sample", "band"),
        dtype=np.dtype(dtype).name,
        kind=_kind(dataset, tags),
        spacing=(math.hypot(b, e), math.hypot(a, d), None) if placed else (None, None, None),
        units=(None, None, "nm" if "wavelengths_nm" in acquisition else None),
        slope=slope,
        inter=inter,
        nodata=_nodata(path, dataset, np.dtype(dtype), notes),
        bad=tuple(sorted({*wavelengths.bad_bands(flags), *empty})),
        out_dtype=np.dtype(dtype).name,
        lossy=lossy,
        acquisition=acquisition,
        witnesses=_witnesses(dataset, structure, block),
        notes=tuple(notes),
    )


def one_dtype(path: Path, dataset: Any) -> str:
    """Return the one data type of all bands."""
    kinds = set(dataset.dtypes)
    if len(kinds) > 1:
        raise FormatError(path, "bands", f"differ in type: {', '.join(sorted(kinds))}", "write one file per type")
    kind = str(kinds.pop())
    if kind in ("complex_int16", "complex_int32"):
        raise FormatError(
            path, "bands", "complex integers are not read", "convert them to complex64 with gdal_translate"
        )
    return kind


def _scale(dataset: Any, notes: list[tuple[str, str]]) -> tuple[Any, Any]:
    """Return slope and intercept: scalars where all bands agree."""
    import numpy as np

    scales, offsets = np.array(dataset.scales, dtype=np.float64), np.array(dataset.offsets, dtype=np.float64)
    wrong = ~np.isfinite(scales) | (scales == 0) | ~np.isfinite(offsets)
    if wrong.any():
        notes.append(("scale", f"{int(wrong.sum())} bands have a scale of 0 or no number: 1 is used there"))
        scales[wrong], offsets[wrong] = 1.0, 0.0
    one = [float(v[0]) if np.all(v == v[0]) else v for v in (scales, offsets)]
    return one[0], one[1]


def _nodata(path: Path, dataset: Any, dtype: Any, notes: list[tuple[str, str]]) -> float | None:
    """Return the nodata value, exactly as samples of this type hold it."""
    import numpy as np

    values = {None if v is None else float(v) for v in dataset.nodatavals}
    if len(values) > 1 and not all(v is not None and math.isnan(v) for v in values):
        notes.append(("nodata", "bands declare different nodata values: the first band's is used"))
    value = dataset.nodatavals[0]
    if value is None:
        return None
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        if math.isnan(value):
            raise FormatError(
                path, "nodata", f"NaN cannot occur in {dtype.name}", "set another with gdal_edit.py -a_nodata"
            )
        if value != round(value) or not info.min <= value <= info.max:
            notes.append(("nodata", f"nodata {value:g} cannot occur in {dtype.name}: not used"))
            return None
        return int(value) if abs(value) > 2**53 else float(value)
    return float(np.float32(value)) if dtype == np.float32 and abs(value) <= np.finfo(np.float32).max else float(value)


def _acquisition(dataset: Any, tags: Sequence[Mapping[str, str]], envi: Mapping[str, str]) -> dict[str, Any]:
    """Return wavelengths, widths, names and geometry in neutral words."""
    out: dict[str, Any] = {}
    bands = dataset.count
    unit = tags[0].get("unit") or envi.get("wavelength_units")
    centres = _numbers(tags, "wavelength") or _envi_list(envi.get("wavelength"), bands)
    widths = _numbers(tags, "fwhm") or _envi_list(envi.get("fwhm"), bands)
    out.update(wavelengths.spectral(centres, unit, widths))
    if "wavelengths_nm" not in out:
        named = wavelengths.from_texts(dataset.descriptions)
        if named:
            out["wavelengths_nm"] = named
    if any(dataset.descriptions):
        out["band_names"] = tuple(d or "" for d in dataset.descriptions)
    if not dataset.transform.is_identity and not dataset.gcps[0]:
        out["transform"] = tuple(dataset.transform)[:6]
    crs = dataset.crs or dataset.gcps[1]
    if crs:
        out["crs"] = crs.to_wkt()
    bits = dataset.tags(1, ns="IMAGE_STRUCTURE").get("NBITS")
    if bits and bits.isdigit():
        out["bits"] = int(bits)
    if any(dataset.units):
        out["units"] = tuple(u or "" for u in dataset.units)
    return out


def _numbers(tags: Sequence[Mapping[str, str]], key: str) -> tuple[float, ...] | None:
    """Return a numeric tag that every band has."""
    return wavelengths.numbers(t[key] for t in tags) if all(key in t for t in tags) else None


def _lower(dataset: Any, band: int) -> dict[str, str]:
    """Return a band's tags under lower-case names, spectral ones under one name each, plus its unit."""
    raw = {k.lower(): v for k, v in dataset.tags(band).items()}
    imagery = {k.lower(): v for k, v in dataset.tags(band, ns="IMAGERY").items()}
    out = dict(raw)
    for name, keys in SPECTRAL_KEYS.items():
        for key in keys:
            if key in raw or key in imagery:
                out[name] = raw.get(key, imagery.get(key, ""))
                if key.endswith("_um"):
                    out["unit"] = "um"
                break
    return out


def _envi_list(text: str | None, bands: int) -> tuple[float, ...] | None:
    """Return a list of the ENVI namespace, e.g. ``{1, 2, 3}``, of one number per band."""
    if text is None:
        return None
    values = wavelengths.numbers(t.strip() for t in text.strip().strip("{}").split(","))
    return values if values and len(values) == bands else None


def _kind(dataset: Any, tags: Sequence[Mapping[str, str]]) -> str:
    """Return what the samples are: colour tables are classes, red-green-blue is a picture."""
    colours = [c.name for c in dataset.colorinterp]
    if "palette" in colours:
        return "labels"
    if dataset.dtypes[0] in ("uint8", "uint16") and {"red", "green", "blue"} <= set(colours) <= PICTURE:
        return "rgb"
    texts = [*dataset.tags().values(), *(d or "" for d in dataset.descriptions), *(u or "" for u in dataset.units)]
    return wavelengths.guess_kind(t[:2000] for t in texts)


def _witnesses(dataset: Any, structure: Mapping[str, str], block: tuple[int, int]) -> dict[str, Any]:
    """Return the raw facts that refusals and warnings look at."""
    photometric = dataset.photometric
    gcps, rpcs = dataset.gcps[0], dataset.rpcs
    return {
        "colorinterp": tuple(c.name for c in dataset.colorinterp),
        "photometric": photometric.name if photometric else None,
        "bands": dataset.count,
        "compression": structure.get("COMPRESSION"),
        "layout": structure.get("LAYOUT"),
        "interleave": structure.get("INTERLEAVE", "").lower(),
        "block": block,
        "gcps": len(gcps),
        "rpcs": rpcs is not None,
        "mask": has_mask(dataset),
        "tags": {k: v for k, v in dataset.tags().items() if len(v) < 256},
    }


def _lossy(structure: Mapping[str, str]) -> bool:
    """Tell whether the compression changed samples."""
    name = structure.get("COMPRESSION", "").upper()
    if structure.get("COMPRESSION_REVERSIBILITY", "").upper().startswith("LOSSLESS"):
        return False
    if "LERC" in name:
        return float(structure.get("MAX_Z_ERROR", "0") or 0) > 0
    return any(word in name for word in LOSSY)


def _more_pages(dataset: Any) -> bool:
    """Tell whether further directories are images of their own, not masks or reduced copies."""
    return len(dataset.subdatasets) > 1


def has_mask(dataset: Any) -> bool:
    """Tell whether validity is a property of pixels stored apart from the samples."""
    return any(flag.name in ("per_dataset", "alpha") for flag in dataset.mask_flag_enums[0])
