# SPDX-License-Identifier: Apache-2.0
"""Signatures a user wants kept: read them, and give back what a filter took of them.

A target of whitened norm below some 16 noise standard deviations cannot survive any filter that does not know
it; one that is named can, at the price of its own noise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid.core.errors import FormatError, UsageError
from pellucid.core.lazy import np

if TYPE_CHECKING:
    from pellucid.core.types import Array

ENVI_TYPES = {"1": "u1", "2": "i2", "3": "i4", "4": "f4", "5": "f8", "12": "u2", "13": "u4"}


def restore(removed: Array, kept: Array, seen: Array | None = None) -> Array:
    """Return the part of whitened residuals (pixel, band) that lies along the signatures (band, m).

    ``seen`` (pixel, band) marks samples that were measured; the fit leaves the others out.
    """
    if seen is None:
        coefficients = removed @ kept @ np.linalg.pinv(kept.T @ kept)
    else:
        m = kept.shape[1]
        products = (kept[:, :, None] * kept[:, None, :]).reshape(-1, m * m)
        normal = (seen.astype(np.float64) @ products).reshape(-1, m, m)
        right = (removed * seen) @ kept
        coefficients = (np.linalg.pinv(normal) @ right[..., None])[..., 0]
    return np.asarray(coefficients @ kept.T)


def signatures(path: str, extras: Mapping[str, Any], sigma: Array) -> Array:
    """Return the whitened signatures (band, m) of a file.

    Parameters
    ----------
    path : str
        ``.sli`` (ENVI spectral library), or CSV: one value per band of the scene, or a wavelength column
        followed by one column per signature.
    extras : mapping
        ``bands`` (original indices of the bands at hand) and ``wavelengths_nm`` of the plan.
    sigma : array (band,)
        Noise, for the whitening.

    Raises
    ------
    UsageError
        The file fits neither the number of bands nor the wavelengths of the scene.
    """
    wavelengths, values = _library(Path(path)) if path.lower().endswith(".sli") else _table(Path(path))
    bands = np.asarray(extras.get("bands", np.arange(len(sigma))))
    scene = extras.get("wavelengths_nm")
    if wavelengths is not None and scene is not None:
        scene = np.asarray(scene, dtype=np.float64)
        scene = scene[bands] if len(scene) != len(sigma) else scene
        order = np.argsort(wavelengths)
        values = np.stack([np.interp(scene, wavelengths[order], v[order], left=0, right=0) for v in values])
    elif values.shape[1] > len(sigma) and values.shape[1] > bands.max():
        values = values[:, bands]
    if values.shape[1] != len(sigma):
        hint = "give wavelength and value, or one value for every band"
        raise UsageError(f"{values.shape[1]} values for {len(sigma)} bands", path, hint)
    weight = np.divide(1.0, sigma, out=np.zeros_like(sigma), where=sigma > 0)
    white = (values * weight).T
    norm = np.linalg.norm(white, axis=0)
    if not (norm > 0).all():
        raise UsageError("a signature is zero at every band of the scene", path)
    return white / norm


def _table(path: Path) -> tuple[Array | None, Array]:
    """Return wavelengths in nm, or None, and signatures (m, band) of a text table."""
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
        cells = [c for c in re.split(r"[,;\s]+", line.split("#")[0].strip()) if c]
        try:
            rows.append([float(c) for c in cells])
        except ValueError:
            if rows:  # words are a heading before the first number, a mistake after it
                raise FormatError(path, f"line {number}", "is not numbers") from None
    rows = [r for r in rows if r]
    if not rows or len({len(r) for r in rows}) != 1:
        raise FormatError(path, "table", "needs the same number of columns in every line")
    table = np.asarray(rows)
    if table.shape[1] == 1 or table.shape[0] == 1:
        return None, table.reshape(1, -1)
    return _nanometres(table[:, 0], ""), table[:, 1:].T


def _library(path: Path) -> tuple[Array | None, Array]:
    """Return wavelengths in nm, or None, and spectra (m, band) of an ENVI spectral library."""
    header = next((p for p in (path.with_suffix(".hdr"), Path(f"{path}.hdr")) if p.exists()), None)
    if header is None:
        raise FormatError(path, "header", "no .hdr beside it")
    text = "\n".join(t for t in header.read_text(errors="replace").splitlines() if not t.startswith(";"))
    keys = {k.strip().lower(): v.strip() for k, v in re.findall(r"^([^={}\n]+)=\s*(\{[^}]*\}|[^\n]*)", text, re.M)}
    try:
        samples, lines = int(keys["samples"]), int(keys["lines"])
        order = ">" if keys.get("byte order", "0") == "1" else "<"
        dtype = np.dtype(order + ENVI_TYPES[keys["data type"]])
    except (KeyError, ValueError) as error:
        raise FormatError(header, "header", f"lacks or misstates {error}") from None
    offset = int(keys.get("header offset", "0"))
    if path.stat().st_size < offset + samples * lines * dtype.itemsize:
        raise FormatError(path, "data", f"shorter than {lines} spectra of {samples} bands")
    spectra = np.fromfile(path, dtype, samples * lines, offset=offset).reshape(lines, samples).astype(np.float64)
    listed = [float(v) for v in re.split(r"[,\s]+", keys.get("wavelength", "").strip("{} \n\t")) if v]
    unit = keys.get("wavelength units", "").lower()
    return (_nanometres(np.asarray(listed), unit) if len(listed) == samples else None), spectra


def _nanometres(wavelengths: Array, unit: str) -> Array:
    micro = unit.startswith(("micro", "um")) or (not unit.startswith("nano") and np.median(wavelengths) < 100)
    return wavelengths * 1000 if micro else wavelengths
