# SPDX-License-Identifier: Apache-2.0
"""What is known of the sensor behind a file: colours, black, white, dark frame; from the file or from flags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid.core.errors import FormatError, UsageError
from pellucid.core.lazy import np
from pellucid.domains.declare import Subject

if TYPE_CHECKING:
    from pellucid.core.types import Array, Description

COLOURS = {"R": 0, "G": 1, "B": 2, "0": 0, "1": 1, "2": 2, "3": 1}
RGGB = ((0, 1), (1, 2))
XTRANS = tuple(tuple("RGB".index(c) for c in row) for row in "GBGGRG RGRBGB GBGGRG GRGGBG BGBRGR GRGGBG".split())
AGREE = 0.2  # read noises that optical black of two borders may differ by and still count


@dataclass(frozen=True)
class Sensor:
    """Colours and levels of a mosaic.

    Attributes
    ----------
    cfa : int array (period, period)
        0 red, 1 green, 2 blue, from the top left of the visible area; 1 x 1 for linear raw.
    black : float array (period, period)
        DN at each position.
    white : float
        DN at which a photosite is full; infinite where nothing is known.
    dark : array (y, x), optional
        Master dark less black, DN.
    """

    cfa: Array
    black: Array
    white: float
    dark: Array | None = None
    assumed: bool = False  # nothing said which colours these are

    @property
    def period(self) -> int:
        """Side of the pattern."""
        return len(self.cfa)


def of(subject: Subject) -> Sensor:
    """Return the sensor of a file, flags first.

    Raises
    ------
    UsageError, FormatError
        Flags that are no pattern or level; a dark frame of another size.
    """
    d = subject.description
    cfa, assumed = _pattern(d, str(subject.options.get("cfa") or ""))
    black = _black(d, cfa, str(subject.options.get("black") or "auto"))
    white = _white(d)
    return Sensor(cfa, black, white, _dark(subject, black), assumed)


def extras(subject: Subject) -> Mapping[str, Any]:
    """Return what methods need: ``cfa``, ``black``, ``white`` and ``dark`` (master dark less black)."""
    found = of(subject)
    known: dict[str, Any] = {"cfa": found.cfa, "black": found.black, "white": found.white}
    return known if found.dark is None else known | {"dark": found.dark}


def pattern(text: str) -> Array:
    """Return the colours that letters name: 4 for a Bayer sensor, 36 for a 6 x 6 one.

    Raises
    ------
    UsageError
        Another number of letters, or letters that are no colours.
    """
    letters = text.strip().upper()
    side = {1: 1, 4: 2, 36: 6}.get(len(letters))
    if letters == "XTRANS":
        return np.array(XTRANS)
    if side is None or any(c not in COLOURS for c in letters):
        raise UsageError(f"--cfa {text} is no pattern", hint="write for instance RGGB, or 36 letters for 6 x 6")
    return np.array([COLOURS[c] for c in letters]).reshape(side, side)


def _pattern(d: Description, told: str) -> tuple[Array, bool]:
    if d.series is not None:
        return np.ones((1, 1), int), False
    known = d.acquisition.get("cfa")
    if known is not None:
        colours = np.asarray(known, int)
        return np.where(colours == 3, 1, colours), False
    return (pattern(told), False) if told else (np.array(RGGB), True)


def _black(d: Description, cfa: Array, asked: str) -> Array:
    """Return the black level at each position: as asked, of optical black where it is trustworthy, of the file."""
    shape, stored = cfa.shape, d.acquisition.get("black")
    if asked not in ("auto", "file"):
        return _spread(_levels(asked), cfa)
    black = np.zeros(shape) if stored is None else _spread(np.asarray(stored, np.float64), cfa)
    masked = d.acquisition.get("optical_black")
    if asked == "auto" and masked:
        seen = trusted(masked, shape)
        black = black if seen is None else seen
    return black


def trusted(masked: Mapping[str, Any], shape: tuple[int, ...]) -> Array | None:
    """Return optical black where two borders agree within .2 of its noise, else None.

    ``masked`` maps the name of a border to ``mean`` and ``sd`` at each position.
    """
    means = [np.asarray(m["mean"], np.float64) for m in masked.values() if np.shape(m.get("mean")) == shape]
    sds = [np.asarray(m["sd"], np.float64) for m in masked.values() if np.shape(m.get("mean")) == shape]
    if len(means) < 2:
        return None
    apart = np.max(np.abs(means[0] - means[1]))
    return np.mean(means[:2], axis=0) if apart <= AGREE * float(np.min(sds)) else None


def _levels(text: str) -> Array:
    try:
        found = np.array([float(part) for part in text.split(",")])
    except ValueError:
        found = np.array([])
    if len(found) not in (1, 4) or not np.isfinite(found).all():
        raise UsageError(f"--black {text} is no level", hint="write auto, file, 512, or 512,512,514,512")
    return found if len(found) == 1 else found.reshape(2, 2)


def _spread(levels: Array, cfa: Array) -> Array:
    """Return levels over the pattern; ones of another period are repeated, or averaged where they do not fit."""
    if levels.size == 1:
        return np.full(cfa.shape, float(levels.reshape(-1)[0]))
    if levels.shape == cfa.shape:
        return levels.astype(np.float64)
    if levels.ndim == 2 and cfa.shape[0] % levels.shape[0] == 0 and cfa.shape[1] % levels.shape[1] == 0:
        return np.tile(levels, (cfa.shape[0] // levels.shape[0], cfa.shape[1] // levels.shape[1])).astype(np.float64)
    return np.full(cfa.shape, float(levels.mean()))


def _white(d: Description) -> float:
    known = d.acquisition.get("white")
    if known is not None and np.size(known):
        return float(np.min(known))
    bits = int(d.acquisition.get("bits") or 0)
    if bits:
        return float((1 << bits) - 1)
    return float(np.iinfo(d.dtype).max) if np.dtype(d.dtype).kind in "iu" else float("inf")


def _dark(subject: Subject, black: Array) -> Array | None:
    path = subject.options.get("dark")
    if not path:
        return None
    from pellucid.core.restore import physical
    from pellucid.formats import find

    reader = find.open_file(Path(path), subject.formats)
    try:
        region = tuple(slice(0, n) for n in reader.description.shape)
        values = physical(reader.read(region), reader.description, region)
    finally:
        reader.close()
    wanted = subject.description.shape[: subject.description.spatial]
    if values.shape != wanted:
        raise FormatError(
            path, "axes", f"are {values.shape}; the file has {wanted}", "give a dark frame of this sensor"
        )
    return values - over(black, wanted)


def over(levels: Array, shape: tuple[int, ...], origin: tuple[int, ...] = (0, 0)) -> Array:
    """Return per-position levels over a window that begins at ``origin``, float32."""
    rows, cols = ((np.arange(n) + o) % len(levels) for n, o in zip(shape, origin, strict=False))
    return np.asarray(levels, np.float32)[rows[:, None], cols]
