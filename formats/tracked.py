# SPDX-License-Identifier: Apache-2.0
"""What axes of a volume file mean, and what PLUS and its relatives write into sequences of ultrasound frames.

Sequence keys (``UltrasoundImageType``, ``Seq_Frame0000_...``): PLUS toolkit user manual, "Sequence file".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pellucid.core.errors import FormatError
from pellucid.core.lazy import np
from pellucid.core.types import Description

MOST_COMPONENTS = 9  # of vectors, tensors and warps; more components are a series
TYPES = {"BRIGHTNESS": "bmode", "RF_REAL": "rf", "RF_IQ_LINE": "iq", "RF_I_LINE_Q_LINE": "iq", "RGB_COLOR": "rgb"}
SAID = {"bmode": ("BRIGHTNESS", "MF"), "rf": ("RF_REAL", "FM")}  # kind -> type and orientation as we store them
KINDS = {"volume": "list", "frame": "list", "band": "list", "channel": "vector"}  # of series axes, as NRRD calls them


@dataclass(frozen=True)
class Roles:
    """How a file's axes (numbered from the fastest) become axes as described.

    Parameters
    ----------
    sizes : tuple of int
        Of the axes that are kept, fastest first; neighbouring series axes are one.
    places : tuple of int
        For each axis as described, its number among ``sizes``, -1 where the file has none.
    spaces, series : tuple of int
        The file's own numbers of the spatial axes, as described, and of what became the series.
    dim : tuple of int
        Sizes with the spatial axes first, as checks want them.
    """

    sizes: tuple[int, ...]
    places: tuple[int, ...]
    names: tuple[str, ...]
    kind: str
    spaces: tuple[int, ...]
    series: tuple[int, ...]
    dim: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes as described."""
        return tuple(self.sizes[p] if p >= 0 else 1 for p in self.places)

    @property
    def volume(self) -> bool:
        """Whether there are three spatial axes."""
        return self.names[:3] == ("x", "y", "z")

    @property
    def spatial(self) -> int:
        """Number of spatial axes as described."""
        return len(self.spaces)


def limit_space(roles: tuple[str, ...]) -> tuple[str, ...]:
    """Return roles with at most three axes of space: what comes after is a series."""
    spaces = [i for i, r in enumerate(roles) if r == "space"]
    return tuple("series" if i in spaces[3:] else r for i, r in enumerate(roles))


def plain(pairs: Mapping[str, str]) -> dict[str, str]:
    """Return the pairs that tell of a sequence by names without blanks, in lower case."""
    found = {key.replace(" ", "").lower(): value.strip() for key, value in pairs.items()}
    return {k: v for k, v in found.items() if k.startswith(("ultrasoundimage", "seq_frame"))}


def facts(pairs: Mapping[str, str]) -> dict[str, Any]:
    """Return what ``acquisition`` says of a sequence: seconds between frames, where they are even."""
    known = plain(pairs)
    try:
        stamps = [
            float(v) for k, v in known.items() if k.endswith("_timestamp") and not k.endswith("unfilteredtimestamp")
        ]
    except ValueError:
        return {}
    steps = [b - a for a, b in zip(stamps, stamps[1:], strict=False)]
    usual = sorted(steps)[len(steps) // 2] if steps else 0.0
    return {"frame_s": usual} if usual > 0 and math.isfinite(usual) else {}


def witnesses(pairs: Mapping[str, str]) -> dict[str, Any]:
    """Return what refusals look at in a sequence."""
    known = plain(pairs)
    found = {
        "ultrasound_type": known.get("ultrasoundimagetype"),
        "orientation": known.get("ultrasoundimageorientation"),
    }
    return {k: v for k, v in found.items() if v}


def arrange(path: object, sizes: tuple[int, ...], roles: tuple[str, ...], pairs: Mapping[str, str]) -> Roles:
    """Name the axes of a file.

    Raises
    ------
    FormatError
        One axis of space only, or series axes that lie apart.
    """
    known = plain(pairs)
    roles = _frames(sizes, roles, known)
    spaces = [i for i, r in enumerate(roles) if r == "space"]
    if len(spaces) > 2 and known and sizes[spaces[2]] == 1:  # frames of PLUS are volumes of one slice
        spaces = spaces[:2]
    if len(spaces) < 2:
        raise FormatError(path, "axes", "are fewer than two of space", "images have two or three")
    more = [i for i, r in enumerate(roles) if r != "space" and sizes[i] > 1]
    if more and more != list(range(more[0], more[-1] + 1)):
        raise FormatError(path, "axes", "of its series lie apart", "reorder them with 'unu permute'")
    kept = [i for i in range(len(sizes)) if i in spaces or (more and i == more[0])]
    count = math.prod(sizes[i] for i in more)
    lengths = tuple(count if more and i == more[0] else sizes[i] for i in kept)
    kind = _kind(roles, more, known)
    spaces, names = _names(spaces, kind, known)
    series = (kept.index(more[0]),) if more else ()
    last = "volume" if len(spaces) == 3 and kind != "rgb" else "channel" if kind in ("rgb", "vector") else "frame"
    return Roles(
        sizes=lengths,
        places=(*(kept.index(s) for s in spaces), *series),
        names=(*names, *((last,) if more else ())),
        kind=kind,
        spaces=tuple(spaces),
        series=tuple(more),
        dim=(*(sizes[s] for s in spaces), *((1,) * (3 - len(spaces))), *(sizes[i] for i in more)),
    )


def _frames(sizes: tuple[int, ...], roles: tuple[str, ...], known: Mapping[str, str]) -> tuple[str, ...]:
    """Return roles in which the last axis of tracked frames is a series although the header does not say so."""
    spaces = [i for i, r in enumerate(roles) if r == "space"]
    frames = len({k.split("_")[1] for k in known if k.startswith("seq_frame")})
    if len(spaces) == 3 and frames and frames == sizes[spaces[2]] and len(sizes) == spaces[2] + 1:
        return (*roles[:-1], "series")
    return roles


def _kind(roles: tuple[str, ...], more: list[int], known: Mapping[str, str]) -> str:
    found = {roles[i] for i in more}
    if "colour" in found:
        return "rgb"
    if "vector" in found:
        return "vector"
    return TYPES.get(known.get("ultrasoundimagetype", "").upper(), "unknown")


def _names(spaces: list[int], kind: str, known: Mapping[str, str]) -> tuple[list[int], tuple[str, ...]]:
    """Return the spatial axes in the order as described, and their names.

    Pictures are stored row by row: x is fastest. Lines of RF are stored sample by sample unless the
    orientation's first letter (marked, unmarked side) says that elements come first.
    """
    if len(spaces) == 3:
        return spaces, ("x", "y", "z")
    if kind in ("rf", "iq"):
        lateral_first = known.get("ultrasoundimageorientation", "")[:1].upper() in ("M", "U")
        return spaces[::-1] if lateral_first else spaces, ("axial", "lateral")
    return spaces[::-1], ("y", "x")


def order(axes: tuple[str, ...]) -> list[int]:
    """Return described axes in the order a new file stores them, fastest first: x, y, z, then the series."""
    flat = axes[:2] in (("y", "x"), ("line", "sample"))
    spatial = [1, 0] if flat else [i for i, a in enumerate(axes) if a not in (*KINDS, "band")]
    series = [i for i in range(len(axes)) if i not in spatial]
    return series + spatial if axes[-1] == "channel" else spatial + series


def scale(kind: str, dtype: str, volume: bool) -> float:
    """Return the slope: pictures of 8 and 16 bits without sign run from 0 to 1, as in other picture formats."""
    picture = not volume and kind in ("unknown", "rgb") and dtype in ("uint8", "uint16")
    return 1.0 / float(np.iinfo(dtype).max) if picture else 1.0


def keys(path: object, description: Description) -> dict[str, str]:
    """Return the keys by which a new file of frames says what it holds, and refuse a scale it cannot say.

    Raises
    ------
    FormatError
        Integers whose scale would be another when the file is read.
    """
    volume, kind = description.spatial == 3, description.kind
    plain = np.ndim(description.slope) == 0 and description.slope == 1
    said = SAID.get(kind) if plain and not volume else None
    found = kind if said or kind == "rgb" else "unknown"
    slope = scale(found, description.dtype, volume)
    same = plain or np.allclose(description.slope, slope, rtol=1e-6, atol=0)
    same = same and not np.any(description.inter)
    if np.dtype(description.dtype).kind in "iu" and not same:
        raise FormatError(path, "type", "has no scale for integers", "choose --out-dtype float32")
    return {"UltrasoundImageType": said[0], "UltrasoundImageOrientation": said[1]} if said else {}


def default_type(dtype: str, volume: bool) -> str:
    """Return the stored type of a default output: float32 for volumes of integers, else the same."""
    return "float32" if volume and np.dtype(dtype).kind in "iu" else dtype
