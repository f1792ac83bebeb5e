# SPDX-License-Identifier: Apache-2.0
"""Spectral coordinates as files write them, turned into nanometres."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

NM_ABOVE = 100.0  # a median centre above this cannot be micrometres: optical bands end near 20 um
UM_BELOW = 50.0  # and one below this cannot be nanometres
ABSENT = 0.1  # share of zeros in a list that has a unit of length
LIGHT_NM_GHZ = 299_792_458.0  # wavelength in nm = this / frequency in GHz (c in m/s)

_TO_NM = {
    "nm": 1.0,
    "nanometer": 1.0,
    "nanometre": 1.0,
    "um": 1e3,
    "µm": 1e3,
    "micrometer": 1e3,
    "micrometre": 1e3,
    "micron": 1e3,
    "mm": 1e6,
    "millimeter": 1e6,
    "angstrom": 0.1,
    "m": 1e9,
    "meter": 1e9,
}
_INVERSE = {"wavenumber": 1e7, "cm-1": 1e7, "1/cm": 1e7, "ghz": LIGHT_NM_GHZ, "mhz": LIGHT_NM_GHZ * 1e3}
_NO_UNIT = {"", "unknown", "none", "index", "na", "n/a"}
_IN_TEXT = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(nm|um|µm|nanomet(?:er|re)s?|micromet(?:er|re)s?|microns?)\b", re.I)


def numbers(texts: Iterable[str] | None) -> tuple[float, ...] | None:
    """Return the texts as finite floats, or None where one of them is not a number."""
    if texts is None:
        return None
    try:
        values = tuple(float(t) for t in texts)
    except ValueError:
        return None
    return values if values and all(math.isfinite(v) for v in values) else None


def unit_name(unit: str | None) -> str:
    """Return a unit's text in lower case, singular, with one kind of micro sign."""
    name = " ".join((unit or "").split()).lower().replace("\u03bc", "µ").replace("â", "").replace("Â", "")
    return name[:-1] if name.endswith("s") and len(name) > 2 else name


def to_nm(values: Sequence[float] | None, unit: str | None) -> tuple[float, ...] | None:
    """Return wavelengths in nanometres; an unknown unit is inferred from the size of the numbers.

    Parameters
    ----------
    values : sequence of float (band,), in ``unit``
        Any order; overlapping detectors make it non-monotonic.
    unit : str
        ``nm Nanometers Nanometer um Micrometers Wavenumber GHz Unknown ...``.

    Returns
    -------
    tuple or None
        None where the values are no wavelengths (an index, a non-positive or impossible number).
    """
    name = unit_name(unit)
    absent = sum(v == 0 for v in values or ())  # a mission's tables keep 0 where a band was not delivered
    if not values or any(v < 0 for v in values) or absent > (ABSENT * len(values) if name in _TO_NM else 0):
        return None
    if name in _INVERSE:
        return tuple(_INVERSE[name] / v for v in values)
    factor = _TO_NM.get(name)
    if factor is None:
        middle = median(values)
        if name == "index" or UM_BELOW <= middle <= NM_ABOVE:
            return None
        factor = 1.0 if middle > NM_ABOVE else 1e3
    return tuple(round(v * factor, 9) for v in values)


def width_to_nm(
    widths: Sequence[float] | None, centres: Sequence[float] | None, centres_nm: Sequence[float] | None
) -> tuple[float, ...] | None:
    """Return band widths in nanometres by the factor that turned the centres into nanometres."""
    if not widths or not centres or not centres_nm or len(widths) != len(centres):
        return None
    ratios = [n / c for n, c in zip(centres_nm, centres, strict=True) if c]
    factor = median(ratios)
    if max(abs(r - factor) for r in ratios) > 1e-6 * abs(factor):
        return None  # wavenumbers and frequencies: widths do not scale by one factor
    return tuple(round(w * factor, 9) for w in widths)


def from_texts(descriptions: Sequence[str | None]) -> tuple[float, ...] | None:
    """Return wavelengths in nm from band names such as ``"band 1 (418.24 Nanometers)"``, if all have one."""
    found = [_IN_TEXT.search(text or "") for text in descriptions]
    if not found or not all(found):
        return None
    pairs = [(float(m.group(1)), m.group(2)) for m in found if m]
    out = [to_nm([value], unit) for value, unit in pairs]
    return tuple(v[0] for v in out if v) if all(out) else None


def bad_bands(flags: Sequence[float | None] | None) -> tuple[int, ...]:
    """Return the indices whose bad-band-list entry is 0."""
    return tuple(i for i, flag in enumerate(flags or ()) if flag == 0)


def guess_kind(texts: Iterable[str]) -> str:
    """Return ``reflectance`` or ``radiance`` where the header's words say so, else ``unknown``."""
    words = " ".join(texts).lower()
    if "reflectance" in words or "rfl" in re.split(r"[^a-z]+", words):
        return "reflectance"
    return "radiance" if "radiance" in words else "unknown"


def spectral(values: Sequence[float] | None, unit: str | None, widths: Sequence[float] | None) -> Mapping[str, Any]:
    """Return ``wavelengths_nm`` and ``fwhm_nm`` for ``Description.acquisition``, as far as known."""
    centres = to_nm(values, unit)
    out: dict[str, Any] = {}
    if centres:
        out["wavelengths_nm"] = centres
        fwhm = width_to_nm(widths, values, centres)
        if fwhm:
            out["fwhm_nm"] = fwhm
    return out
