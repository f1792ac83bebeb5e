# SPDX-License-Identifier: Apache-2.0
"""What an NRRD header says, in neutral words, and back: roles of axes, places in space, gradients."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from pellucid.core.errors import FormatError
from pellucid.core.lazy import np
from pellucid.core.types import Description
from pellucid.formats import space, tracked
from pellucid.formats.nrrd_header import TYPES, Header
from pellucid.formats.tracked import Roles

SPACES = {
    "right-anterior-superior": "RAS", "left-anterior-superior": "LAS", "left-posterior-superior": "LPS",
    "ras": "RAS", "las": "LAS", "lps": "LPS", "rast": "RAS", "last": "LAS", "lpst": "LPS",
}  # fmt: skip
COLOURS = ("3-color", "rgb-color", "4-color", "rgba-color", "hsv-color", "xyz-color")
VECTORS = ("vector", "covariant-vector", "normal", "3-vector", "2-vector", "4-vector", "3-gradient", "3-normal")
TENSORS = ("symmetric-matrix", "masked-symmetric-matrix", "matrix", "masked-matrix")
POINTS = ("point", "quaternion", "scalar", "stub")
SERIES = ("list", "time")


@dataclass(frozen=True)
class Axes:
    """What a header says of each axis, fastest first."""

    sizes: tuple[int, ...]
    kinds: tuple[str, ...]
    steps: tuple[tuple[float, ...] | None, ...]  # in space; None where it says nothing
    spacings: tuple[float, ...]
    directed: bool  # whether the header has space directions


def axes(header: Header) -> Axes:
    """Return what the header says of its axes, its lists compared with each other.

    Raises
    ------
    FormatError
        No sizes, or lists of other lengths.
    """
    count = header.number("dimension", 0)
    sizes = tuple(int(n) if abs(n) < 1e18 else 0 for n in header.numbers("sizes") if n == n)
    if not 1 <= count <= 16 or len(sizes) != count:
        raise FormatError(header.path, "sizes", f"{len(sizes)} sizes for dimension {count}", "copy the file again")
    if any(n < 1 for n in sizes):
        raise FormatError(header.path, "sizes", f"has an axis without samples: {' '.join(map(str, sizes))[:60]}")
    kinds = tuple(header.fields.get("kinds", "").lower().split()) or ("???",) * count
    steps = header.vectors("space directions")
    spacings = header.numbers("spacings") or (math.nan,) * count
    for name, found in (("kinds", kinds), ("space directions", steps or sizes), ("spacings", spacings)):
        if len(found) != count:
            raise FormatError(header.path, name, f"{len(found)} of them for dimension {count}", "copy the file again")
    return Axes(sizes, kinds, steps or (None,) * count, spacings, bool(steps))


def roles(header: Header, known: Axes) -> tuple[str, ...]:
    """Return what each axis is: space, series, colour, vector or complex."""
    diffusion = "dwmri" in header.pairs.get("modality", "").lower()
    bytes_a_sample = TYPES.get(header.fields.get("type", "").lower(), "")
    found = []
    for size, kind, step in zip(known.sizes, known.kinds, known.steps, strict=True):
        if kind in COLOURS:
            role = "colour"
        elif kind == "complex":
            role = "complex"
        elif kind in (*VECTORS, *POINTS) or kind.endswith(TENSORS):
            many = diffusion or size > tracked.MOST_COMPONENTS
            colour = bytes_a_sample == "u1" and size in (3, 4)
            role = "series" if many else "colour" if colour else "vector"
        elif kind in SERIES or (known.directed and step is None):
            role = "series"
        else:
            role = "space"
        found.append(role)
    return tracked.limit_space(tuple(found))


def describe(header: Header, known: Axes, layout: Roles, dtype: str) -> Description:
    """Say the header in neutral words."""
    kind = layout.kind
    facts: dict[str, Any] = {}
    notes: list[tuple[str, str]] = []
    if layout.volume:
        found = _affine(header, known, layout)
        facts |= space.facts(found)
        if found is None:
            text = "its header names no anatomical space: left and right are not known"
            notes.append(("no-orientation", text))
        facts |= _gradients(header, layout, found)
    steps = [_step(known, place) for place in layout.spaces]
    series = _series_step(header, known, layout)
    if series and layout.volume:
        facts["repetition_s"] = series
    return Description(
        format="nrrd",
        shape=layout.shape,
        axes=layout.names,
        dtype=dtype,
        kind=kind,
        spacing=(*steps, series)[: len(layout.names)],
        units=(*(_unit(header, p) for p in layout.spaces), "s" if series else None)[: len(layout.names)],
        slope=tracked.scale(kind, dtype, layout.volume),
        out_dtype=tracked.default_type(dtype, layout.volume),
        acquisition=facts | tracked.facts(header.pairs),
        witnesses={
            "dim": layout.dim,
            "encoding": header.fields.get("encoding", ""),
            "space": header.fields.get("space", ""),
            "kinds": known.kinds,
            **tracked.witnesses(header.pairs),
        },
        notes=tuple(notes),
    )


def _affine(header: Header, known: Axes, layout: Roles) -> space.Affine | None:
    name = SPACES.get(header.fields.get("space", "").lower().removesuffix("-time"), "")
    steps = [known.steps[p] if p >= 0 else None for p in layout.spaces]
    if not name or any(s is None or len(s) < 3 for s in steps):
        return None
    origin = (header.vectors("space origin") or (None,))[0]
    first = origin[:3] if origin is not None and len(origin) >= 3 else (0.0, 0.0, 0.0)
    return space.affine([s[:3] for s in steps if s is not None], first, name)


def _step(known: Axes, place: int) -> float | None:
    step = known.steps[place] if place >= 0 else None
    value = math.hypot(*step) if step is not None else known.spacings[place] if place >= 0 else math.nan
    return abs(value) if math.isfinite(value) and value != 0 else None


def _unit(header: Header, place: int) -> str | None:
    found = header.fields.get("space units") or header.fields.get("units") or ""
    named = [word for word in found.split('"')[1::2] if word]
    return named[min(max(place, 0), len(named) - 1)] if named else "mm"  # unsaid means mm in this field


def _series_step(header: Header, known: Axes, layout: Roles) -> float | None:
    """Return seconds between entries of a series along time, None of any other."""
    if len(layout.series) != 1 or known.kinds[layout.series[0]] != "time":
        return None
    place = layout.series[0]
    value = known.spacings[place]
    words = header.fields.get("units", "").split('"')[1::2]
    milli = len(words) > place and words[place] in ("ms", "msec")
    return abs(value) * (1e-3 if milli else 1.0) if math.isfinite(value) and value != 0 else None


def _gradients(header: Header, layout: Roles, found: space.Affine | None) -> dict[str, Any]:
    """Return b-values and directions of NAMIC's key/value pairs; b grows with a gradient's squared length."""
    pairs, count = header.pairs, layout.shape[-1] if layout.series else 0
    try:
        top = float(pairs["DWMRI_b-value"])
        given: list[tuple[float, ...]] = []
        for key in sorted(k for k in pairs if k.startswith("DWMRI_gradient_")):
            gradient = tuple(float(v) for v in pairs[key].split())
            given += [gradient] * int(pairs.get(key.replace("gradient", "NEX"), "1"))
            if len(gradient) != 3 or len(given) > count:
                return {}
        frame = header.vectors("measurement frame")
        turn = np.array(frame, dtype=np.float64).T if len(frame) == 3 else np.eye(3)
    except (KeyError, ValueError, TypeError, FormatError):
        return {}
    table = np.array(given)
    largest = float(np.abs(table).max(initial=0.0))
    if (
        len(given) != count
        or turn.shape != (3, 3)
        or not 0 <= largest < 1e100
        or not np.isfinite([top, *turn.flat]).all()
    ):
        return {}
    squares = (table**2).sum(axis=1)
    facts: dict[str, Any] = {"bvals": tuple(float(top * v / (squares.max() or 1.0)) for v in squares)}
    if found is not None:
        name = SPACES[header.fields["space"].lower().removesuffix("-time")]
        world = space.unit((table @ turn.T) * np.array(space.signs(name)))
        facts["bvecs"] = space.to_image(world, found)
    return facts


def fields_of(description: Description, name: str) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return fields and key/value pairs of a new file; samples go from the fastest axis of ``tracked.order``."""
    order = tracked.order(description.axes)
    sizes = [description.shape[d] for d in order]
    kinds = [tracked.KINDS.get(description.axes[d], "domain") for d in order]
    if description.dtype.startswith("complex"):
        sizes, kinds = [2, *sizes], ["complex", *kinds]
    if "channel" in description.axes and description.shape[-1] == 3:
        kinds[0] = "RGB-color"
    found = [("type", name), ("dimension", str(len(sizes))), ("sizes", " ".join(map(str, sizes)))]
    affine = description.acquisition.get("affine")
    volume = description.spatial == 3
    if volume and affine is not None:
        steps, origin = space.vectors(affine, "LPS")
        words = iter([_vector(s) for s in steps])
        found.insert(2, ("space", "left-posterior-superior"))
        found.append(("space directions", " ".join(next(words) if k == "domain" else "none" for k in kinds)))
        found += [("kinds", " ".join(kinds)), ("space origin", _vector(origin))]
    else:
        known = [*description.spacing, *[None] * len(order)]
        apart = [known[d] for d in order]
        apart = [None, *apart] if len(kinds) > len(order) else apart
        found += [("spacings", " ".join("nan" if s is None else space.text(s) for s in apart))]
        found += [("kinds", " ".join(kinds))]
    return found, _pairs(description) if volume and affine is not None else []


def _pairs(description: Description) -> list[tuple[str, str]]:
    """Return NAMIC's diffusion pairs where b-values and directions are known."""
    bvals, bvecs = (description.acquisition.get(k) for k in ("bvals", "bvecs"))
    if bvals is None or bvecs is None or description.series != "volume":
        return []
    if len(bvals) != description.shape[-1] or not max(bvals) > 0:
        return []
    world = space.unit(space.to_world(bvecs, description.acquisition["affine"])) * np.array(space.signs("LPS"))
    table = world * np.sqrt(np.array(bvals) / max(bvals))[:, None]
    rows = [(f"DWMRI_gradient_{i:04d}", " ".join(space.text(v) for v in row)) for i, row in enumerate(table)]
    return [("modality", "DWMRI"), ("DWMRI_b-value", space.text(max(bvals))), *rows]


def _vector(values: Any) -> str:
    return f"({','.join(space.text(v) for v in values)})"
