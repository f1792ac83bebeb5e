# SPDX-License-Identifier: Apache-2.0
"""Regions of interest in a small file, and what an image shows inside them: contrast, speckle, level.

JSON: ``{"NAME": SHAPE, ...}``; a rectangle is ``[first row, last row, first column, last column]`` (half open), a
circle ``[row, column, radius]``, a polygon ``[[row, column], ...]``; samples, rows count along depth. TSV: a line for
each region, ``NAME rectangle|circle|polygon NUMBERS``, separated by tabs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid.core.errors import FormatError
from pellucid.core.lazy import np
from pellucid.core.types import Description
from pellucid.domains.ultrasound import metrics

if TYPE_CHECKING:
    from pellucid.core.types import Array

LARGEST = 1 << 20  # bytes of a file of regions
HINT = "see 'Regions' in docs/ultrasound.md"
NUMBERS = {"rectangle": 4, "circle": 3}


def figures(values: Array, description: Description, path: Path) -> dict[str, float]:
    """Return what an image shows in the regions of a file; of a cine, medians over frames.

    Returns
    -------
    dict
        Of each region ``NAME_mean_db``, ``NAME_speckle_snr`` and ``NAME_n`` (samples of a frame); of each that has a
        background (``NAME_background``, else ``background``) ``NAME_cnr`` and ``NAME_gcnr`` on dB.

    Raises
    ------
    FormatError
        The file is no list of regions, or a region holds no samples.
    """
    masks = read(path, values.shape[:2])
    decibels = metrics.decibels(values, description)
    frames = decibels if decibels.ndim == 3 else decibels[..., None]
    made = [_frame(frames[..., i], masks) for i in range(frames.shape[-1])]
    return {key: float(np.median([m[key] for m in made])) for key in made[0]}


def _frame(decibels: Array, masks: dict[str, Array]) -> dict[str, float]:
    """Return the figures of one frame."""
    pairs, found = metrics.contrast(decibels, masks), {}
    for name, inside in masks.items():
        part = decibels[inside]
        found[f"{name}_mean_db"] = float(part.mean())
        found[f"{name}_speckle_snr"] = metrics.speckle_snr(10 ** (part / 20))
        found |= {k: pairs[k] for k in (f"{name}_cnr", f"{name}_gcnr") if k in pairs}
        found[f"{name}_n"] = float(part.size)
    return found


def read(path: Path, shape: tuple[int, ...]) -> dict[str, Array]:
    """Return the regions of a file as boolean images.

    Raises
    ------
    FormatError
        As of `figures`.
    """
    try:
        with Path(path).open("rb") as file:
            text = file.read(LARGEST).decode("utf-8-sig")
    except FileNotFoundError:
        raise FormatError(path, "", "there is no such file", "check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise FormatError(path, "", f"is no text of regions ({type(error).__name__})", HINT) from None
    known = _json(path, text) if text.lstrip().startswith("{") else _tsv(path, text)
    if not known:
        raise FormatError(path, "", "holds no regions", HINT)
    return {name: _mask(path, name, given, shape) for name, given in known.items()}


def _json(path: Path, text: str) -> dict[str, Array]:
    try:
        known = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FormatError(path, "JSON", " ".join(str(error).split())[:200], HINT) from None
    return {str(name): _numbers(path, str(name), given) for name, given in known.items()}


def _tsv(path: Path, text: str) -> dict[str, Array]:
    known = {}
    for line in text.splitlines():
        name, *rest = (part.strip() for part in line.split("\t"))
        if not name or name.startswith("#") or name == "name":
            continue
        shape, numbers = (rest[0].lower(), rest[1:]) if rest else ("", [])
        given: Any = [n for n in numbers if n]
        if shape == "polygon":
            given = [given[i : i + 2] for i in range(0, len(given), 2)]
        if shape not in (*NUMBERS, "polygon") or len(given) != NUMBERS.get(shape, len(given)):
            raise FormatError(path, name, "is no rectangle of 4, circle of 3 or polygon of pairs of numbers", HINT)
        known[name] = _numbers(path, name, given)
    return known


def _numbers(path: Path, name: str, given: Any) -> Array:
    """Return a shape as numbers: 4, 3, or rows of 2."""
    try:
        found = np.array(given, dtype=np.float64)
    except (TypeError, ValueError):
        found = np.zeros(0)
    if found.shape not in ((4,), (3,)) and not (found.ndim == 2 and found.shape[1] == 2 and len(found) > 2):
        raise FormatError(path, name, "is no rectangle of 4, circle of 3 or polygon of pairs of numbers", HINT)
    if not np.isfinite(found).all():
        raise FormatError(path, name, "holds numbers that are not finite", HINT)
    return found


def _mask(path: Path, name: str, given: Array, shape: tuple[int, ...]) -> Array:
    """Return where a shape lies, or say that it leaves the image."""
    rows, columns = np.arange(shape[0])[:, None], np.arange(shape[1])[None, :]
    if given.shape == (4,):
        inside = (rows >= given[0]) & (rows < given[1]) & (columns >= given[2]) & (columns < given[3])
        low, high = given[[0, 2]], given[[1, 3]]
    elif given.shape == (3,):
        inside = np.hypot(rows - given[0], columns - given[1]) <= given[2]
        low, high = given[:2] - given[2], given[:2] + given[2]
    else:
        inside = _polygon(given, rows, columns)
        low, high = given.min(0), given.max(0)
    if not inside.any() or (low < -0.5).any() or (high > np.array(shape[:2]) + 0.5).any():
        raise FormatError(path, name, f"is empty or leaves the image of {shape[0]} x {shape[1]}", HINT)
    return np.asarray(inside)


def _polygon(corners: Array, rows: Array, columns: Array) -> Array:
    """Return the samples inside a polygon: those a ray to the right leaves an odd number of times."""
    inside = np.zeros(np.broadcast_shapes(rows.shape, columns.shape), bool)
    for (r0, c0), (r1, c1) in zip(corners, np.roll(corners, -1, 0), strict=True):
        if r0 == r1:
            continue
        crossed = (rows >= min(r0, r1)) & (rows < max(r0, r1))
        inside ^= crossed & (columns < c0 + (rows - r0) * (c1 - c0) / (r1 - r0))
    return inside
