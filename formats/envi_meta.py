# SPDX-License-Identifier: Apache-2.0
"""What an ENVI header means in neutral words, and a header made from such words."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from pellucid.core.types import Description
from pellucid.formats import rawblock, wavelengths
from pellucid.formats.envi_header import Header, listing

Notes = list[tuple[str, str]]
PER_BAND = ("wavelength", "fwhm", "bbl", "data gain values", "data offset values", "band names")
DEGREES = math.pi / 180
UTM = re.compile(r"UTM[ _]zone[ _](\d{1,2})([NS])", re.I)


def describe(header: Header, shape: tuple[int, int, int], layout: rawblock.Layout, notes: Notes) -> Description:
    """Return the description of an ENVI cube of ``shape`` (line, sample, band)."""
    file_type = header.get("file type") or "ENVI Standard"
    library = "spectral library" in file_type.lower()
    lists = {
        key: per_band(header, key, shape[1] if library and key != "band names" else shape[2], notes) for key in PER_BAND
    }
    import numpy as np

    dtype = np.dtype(layout.dtype).newbyteorder("=")
    slope, inter = scale(header, lists, notes)
    nodata = ignore_value(header, dtype, notes)
    units = header.get("wavelength units")
    acquisition = _acquisition(header, lists, units, notes)
    doubles = sorted({k for k in header.keys() if header.keys().count(k) > 1}) if len(header.entries) < 2000 else []
    for key in doubles[:3]:
        notes.append(("double-key", f"the header has {key!r} twice: the first counts"))
    return Description(
        format="envi",
        shape=shape,
        axes=("line", "sample", "band"),
        dtype=dtype.name,
        kind=_kind(header, file_type),
        spacing=_spacing(acquisition.get("transform")),
        units=(None, None, "nm" if "wavelengths_nm" in acquisition else None),
        slope=slope,
        inter=inter,
        nodata=nodata,
        bad=() if library else wavelengths.bad_bands(wavelengths.numbers(lists["bbl"])),
        out_dtype=dtype.name,
        acquisition=acquisition,
        witnesses={
            "file_type": file_type,
            "bands": shape[2],
            "classes": header.get("classes"),
            "interleave": (header.get("interleave") or "").lower(),
            "sensor": header.get("sensor type"),
            "block": (1, shape[1]),
        },
        notes=tuple(notes),
    )


def per_band(header: Header, key: str, bands: int, notes: Notes) -> list[str] | None:
    """Return a list of one item per band; any other length is dropped with a note."""
    items = header.items(key)
    if items is None or len(items) == bands:
        return items
    notes.append(("list-length", f"{key!r} has {len(items)} items for {bands} bands: not used"))
    return None


def scale(header: Header, lists: dict[str, list[str] | None], notes: Notes) -> tuple[Any, Any]:
    """Return slope and intercept: gain and offset lists first, else 1 / reflectance scale factor."""
    import numpy as np

    gains, offsets = (wavelengths.numbers(lists[k]) for k in ("data gain values", "data offset values"))
    if gains and not all(gains):
        notes.append(("zero-gain", "a data gain value is 0: gains and offsets are not used"))
        gains = offsets = None
    inter: Any = 0.0 if not offsets or not any(offsets) else np.array(offsets)
    if gains and any(g != 1 for g in gains):
        return (gains[0] if len(set(gains)) == 1 else np.array(gains)), inter
    factor = wavelengths.numbers([header.get("reflectance scale factor") or "1"])
    if not factor or factor[0] <= 0:
        notes.append(("scale-factor", "the reflectance scale factor is no positive number: not used"))
        return 1.0, inter
    return 1.0 / factor[0], inter


def ignore_value(header: Header, dtype: Any, notes: Notes) -> float | None:
    """Return the data ignore value if the stored type can hold it."""
    import numpy as np

    text = header.get("data ignore value")
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        notes.append(("nodata", f"data ignore value {text[:40]!r} is not a number: not used"))
        return None
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        if not math.isfinite(value) or value != round(value) or not info.min <= value <= info.max:
            notes.append(("nodata", f"data ignore value {text[:40]} cannot occur in {dtype.name}: not used"))
            return None
        return value
    return float(dtype.type(value)) if abs(value) <= np.finfo(dtype).max else value


def restate_scale(header: Header, source: Description, output: Description) -> Header:
    """Return the header with scale and nodata keys that fit the output's description."""
    import numpy as np

    same = np.array_equal(source.slope, output.slope) and np.array_equal(source.inter, output.inter)
    if not same:
        header = header.without(("data gain values", "data offset values", "reflectance scale factor"))
        bands = output.shape[-1]
        for key, value, trivial in (("data gain values", output.slope, 1), ("data offset values", output.inter, 0)):
            items = np.broadcast_to(np.asarray(value, dtype=np.float64), (bands,))
            if np.any(items != trivial):
                header = header.with_(key, "{" + ", ".join(repr(float(v)) for v in items) + "}")
    if (
        output.nodata is not None
        and output.nodata != source.nodata
        and not (source.nodata is not None and math.isnan(source.nodata) and math.isnan(output.nodata))
    ):
        header = header.with_("data ignore value", _number(output.nodata))
    return header


def write(description: Description, shape: tuple[int, int, int], code: int) -> str:
    """Return the text of a new header, band-sequential and little-endian."""
    import numpy as np

    lines, samples, bands = shape
    known = description.acquisition
    text = [
        "ENVI\n",
        f"samples = {samples}\nlines = {lines}\nbands = {bands}\nheader offset = 0\nfile type = ENVI Standard\n",
        f"data type = {code}\ninterleave = bsq\nbyte order = 0\n",
    ]
    text += _map_text(known.get("transform"), known.get("crs"))
    if description.nodata is not None:
        text.append(f"data ignore value = {_number(description.nodata)}\n")
    for key, value, trivial in (
        ("data gain values", description.slope, 1),
        ("data offset values", description.inter, 0),
    ):
        items = np.broadcast_to(np.asarray(value, dtype=np.float64), (bands,))
        if np.any(items != trivial):
            text.append(listing(key, (repr(float(v)) for v in items)))
    names = known.get("band_names")
    if names and len(names) == bands:
        text.append(listing("band names", (str(n).translate(str.maketrans(",{}\n", ";() ")) for n in names)))
    centres, widths = known.get("wavelengths_nm"), known.get("fwhm_nm")
    if centres is not None and len(centres) == bands:
        text += ["wavelength units = Nanometers\n", listing("wavelength", (_number(v) for v in centres))]
    if widths is not None and len(widths) == bands:
        text.append(listing("fwhm", (_number(v) for v in widths)))
    if description.bad:
        text.append(listing("bbl", (0 if i in set(description.bad) else 1 for i in range(bands))))
    return "".join(text)


def transform_of(items: Sequence[str] | None) -> tuple[float, ...] | None:
    """Return the affine (a, b, c, d, e, f) of a ``map info`` list: x = a col + b row + c."""
    numbers = wavelengths.numbers(items[1:7]) if items and len(items) >= 7 else None
    if not numbers or numbers[4] == 0 or numbers[5] == 0:
        return None
    col, row, x, y, dx, dy = numbers
    turn = next((i.partition("=")[2] for i in items or () if i.lower().replace(" ", "").startswith("rotation=")), "0")
    angle = (wavelengths.numbers([turn]) or (0.0,))[0] * DEGREES
    cos, sin = math.cos(angle), math.sin(angle)
    a, b, d, e = dx * cos, dx * sin, dy * sin, -dy * cos
    return a, b, x - a * (col - 1) - b * (row - 1), d, e, y - d * (col - 1) - e * (row - 1)


def _acquisition(header: Header, lists: dict[str, list[str] | None], units: str | None, notes: Notes) -> dict[str, Any]:
    """Return wavelengths, widths, names and geometry in neutral words."""
    centres, widths = wavelengths.numbers(lists["wavelength"]), wavelengths.numbers(lists["fwhm"])
    out: dict[str, Any] = dict(wavelengths.spectral(centres, units, widths))
    if lists["wavelength"] and "wavelengths_nm" not in out:
        notes.append(("wavelengths", "the wavelength list is not made of wavelengths: not used"))
    if lists["band names"]:
        out["band_names"] = tuple(lists["band names"])
    transform = transform_of(header.items("map info"))
    if transform:
        out["transform"] = transform
    crs = header.get("coordinate system string")
    if crs:
        out["crs"] = crs
    return out


def _kind(header: Header, file_type: str) -> str:
    """Return what the samples are, by file type and the header's words."""
    lowered = file_type.lower()
    if "spectral library" in lowered:
        return "library"
    if "classification" in lowered or header.get("class names") is not None:
        return "labels"
    if header.get("reflectance scale factor") is not None:
        return "reflectance"
    words = (header.get(k) or "" for k in ("data units", "z plot titles", "description", "product level"))
    return wavelengths.guess_kind(w for w in words)


def _spacing(transform: Sequence[float] | None) -> tuple[float | None, ...]:
    """Return pixel sizes along lines and samples, map units."""
    if not transform:
        return None, None, None
    a, b, _, d, e, _ = transform
    return math.hypot(b, e), math.hypot(a, d), None


def _map_text(transform: Sequence[float] | None, crs: Any) -> list[str]:
    """Return ``map info`` and ``coordinate system string`` lines."""
    if transform is None:
        return [f"coordinate system string = {{{crs}}}\n"] if crs else []
    a, b, c, d, e, f = (float(v) for v in tuple(transform)[:6])
    dx, dy = math.hypot(a, b), math.hypot(d, e)
    angle = math.atan2(b, a) / DEGREES
    back = transform_of(["", "1", "1", repr(c), repr(f), repr(dx), repr(dy), f"rotation={angle!r}"])
    if not back or any(abs(p - q) > 1e-9 * (dx + dy) for p, q in zip(back, (a, b, c, d, e, f), strict=True)):
        return [f"coordinate system string = {{{crs}}}\n"] if crs else []  # sheared or flipped: map info cannot say it
    name = str(crs or "")
    utm = UTM.search(name)
    tail = ["units=Meters"]
    head = "Arbitrary"
    if utm:
        head, tail = "UTM", [utm[1], "North" if utm[2].upper() == "N" else "South", "WGS-84", "units=Meters"]
    elif name.startswith("GEOGCS") or "GEOGCRS" in name[:10]:
        head, tail = "Geographic Lat/Lon", ["WGS-84", "units=Degrees"]
    if abs(angle) > 1e-12:
        tail.append(f"rotation={angle!r}")
    text = [f"map info = {{{', '.join([head, '1', '1', repr(c), repr(f), repr(dx), repr(dy), *tail])}}}\n"]
    return [*text, f"coordinate system string = {{{name}}}\n"] if crs else text


def _number(value: float) -> str:
    """Return the shortest text of a number; integers without a point."""
    return str(int(value)) if math.isfinite(value) and value == int(value) and abs(value) < 1e15 else repr(float(value))
