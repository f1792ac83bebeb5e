# SPDX-License-Identifier: Apache-2.0
"""From loose planes to a grid: which of them belong together, in which order, and where they lie.

Planes are sorted by position along the normal of their plane (PS3.3 C.7.6.2.1.1); names of files,
instance numbers and slice locations say nothing reliable of it. Positions are LPS in millimetres,
the affine is RAS as in NIfTI.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pellucid.core.errors import FormatError
from pellucid.core.lazy import np
from pellucid.formats.dicom_header import Frame, Header

if TYPE_CHECKING:
    from pellucid.core.types import Array

SAME_DIRECTION = 1e-3  # of direction cosines; headers keep four digits and more
SAME_PLACE = 0.02  # of the step: planes nearer than that lie at one position
EVEN = 0.02  # of the step: positions are rounded in headers, scanners move in even steps
STRAIGHT = 0.05  # of the step: how far a plane may lie beside the line of the others
ECHO_DIGITS = 3  # of milliseconds
COPY = "copy the series again from the archive"


@dataclass(frozen=True)
class Grid:
    """Planes in order.

    Parameters
    ----------
    planes : tuple of tuples
        ``planes[z][volume]``.
    affine : array (4, 4), optional
        Of sample (x, y, z): RAS, mm; x runs along a row.
    spacing : tuple of float or None
        Along x, y, z: mm.
    """

    planes: tuple[tuple[Frame, ...], ...]
    affine: Array | None
    spacing: tuple[float | None, float | None, float | None]

    @property
    def flat(self) -> list[Frame]:
        """All planes, the first volume's first."""
        return [row[v] for v in range(len(self.planes[0])) for row in self.planes]


def select(path: object, headers: Sequence[Header], key: str = "") -> tuple[list[Frame], list[tuple[str, str]]]:
    """Return the planes of one series, one part and one echo, and what to tell of the others.

    ``key`` chooses: number of the series, part (``M``), echo (``e2``), joined by ``/``.

    Raises
    ------
    FormatError
        There are several, and nothing says which one is meant.
    """
    words = [w.strip().lower() for w in str(key or "").replace(",", "/").split("/") if w.strip()]
    chosen, words = _series(path, headers, words)
    frames = [frame for header in chosen for frame in header.frames]
    frames, words, notes = _part(path, frames, words)
    frames, words = _echo(path, frames, words)
    if words:
        raise FormatError(path, "--key", f"'{'/'.join(words)}' names no series, part or echo here", _offer(headers))
    return frames, notes


def _series(path: object, headers: Sequence[Header], words: list[str]) -> tuple[list[Header], list[str]]:
    groups: dict[str, list[Header]] = {}
    for header in headers:
        groups.setdefault(header.series, []).append(header)
    names = _series_names(groups)
    if len(groups) == 1:
        own = next(iter(names.values()))
        return list(headers), [w for w in words if w not in (own, "#1")]
    for word in words:
        if word in names.values():
            found = next(uid for uid, name in names.items() if name == word)
            return groups[found], [w for w in words if w != word]
    first = names[headers[0].series]
    raise FormatError(path, "", f"holds {len(groups)} series: {_listed(groups, names)}", f"choose with --key {first}")


def _series_names(groups: dict[str, list[Header]]) -> dict[str, str]:
    """Return a short name of each series: its number, or its place in the list where numbers repeat."""
    numbers = Counter(members[0].number for members in groups.values())
    return {
        uid: str(members[0].number) if members[0].number is not None and numbers[members[0].number] == 1 else f"#{k}"
        for k, (uid, members) in enumerate(groups.items(), start=1)
    }


def _listed(groups: dict[str, list[Header]], names: dict[str, str]) -> str:
    told = [f"{names[uid]} '{m[0].title}' ({_files(len(m))})" for uid, m in groups.items()]
    return ", ".join(told[:8]) + (f" and {len(told) - 8} more" if len(told) > 8 else "")


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"


def _offer(headers: Sequence[Header]) -> str:
    parts = sorted({frame.part for header in headers for frame in header.frames})
    return f"parts are {', '.join(parts)}; echoes are e1, e2 ..."


def _part(path: object, frames: list[Frame], words: list[str]) -> tuple[list[Frame], list[str], list[tuple[str, str]]]:
    """Choose a part; magnitudes among others are taken unasked."""
    counts = Counter(frame.part for frame in frames)
    asked = [w for w in words if w.upper() in counts]
    left = [w for w in words if w not in asked]
    if asked:
        return [f for f in frames if f.part == asked[0].upper()], left, []
    if len(counts) == 1:
        return frames, words, []
    told = ", ".join(f"{n} {part}" for part, n in sorted(counts.items()))
    if "M" not in counts:
        hint = f"choose with --key {min(counts)}"
        raise FormatError(path, "", f"mixes images of different kinds ({told} planes)", hint)
    text = f"holds images of different kinds ({told} planes): only the magnitudes are taken"
    return [f for f in frames if f.part == "M"], words, [("mixed", text)]


def _echo(path: object, frames: list[Frame], words: list[str]) -> tuple[list[Frame], list[str]]:
    times = sorted({_echo_of(f) for f in frames})
    names = {f"e{k}": t for k, t in enumerate(times, start=1)}
    asked = [w for w in words if w in names]
    left = [w for w in words if w not in asked]
    if asked:
        return [f for f in frames if _echo_of(f) == names[asked[0]]], left
    if len(times) == 1:
        return frames, words
    told = ", ".join(f"{name} {t:g} ms" for name, t in list(names.items())[:8])
    raise FormatError(path, "", f"mixes {len(times)} echo times ({told})", "choose with --key e1")


def _echo_of(frame: Frame) -> float:
    return round(frame.echo_ms or 0.0, ECHO_DIGITS)


def arrange(path: object, headers: Sequence[Header], frames: Sequence[Frame]) -> Grid:
    """Return the grid the planes make.

    Raises
    ------
    FormatError
        Sizes, types or orientations differ, planes are missing, doubled or unevenly spaced.
    """
    check_alike(path, headers, frames)
    first = frames[0]
    if any(f.position is None or f.orientation is None for f in frames):
        return _without_places(path, headers, frames)
    _check_orientation(path, frames)
    row, column = (np.array(first.orientation)[a : a + 3] for a in (0, 3))
    normal = np.cross(row, column)
    if not 0.99 < float(np.linalg.norm(normal)) < 1.01:
        raise FormatError(path, "(0020,0037)", "the direction cosines are no right angle", COPY)
    planes = _positions(path, headers, frames, normal)
    return _grid(path, headers, planes, (row, column, normal))


def check_alike(path: object, headers: Sequence[Header], frames: Sequence[Frame]) -> None:
    """Refuse planes of different sizes or types, and doubles."""
    used = [headers[f.file] for f in frames]
    _agree(path, used, lambda h: f"{h.shape[1]} x {h.shape[0]}", "sizes")
    _agree(path, used, lambda h: h.dtype, "sample types")
    _check_doubles(path, headers, frames)


def _agree(path: object, used: list[Header], of: Callable[[Header], str], what: str) -> None:
    counts = Counter(of(h) for h in used)
    if len(counts) > 1:
        told = " and ".join(f"{n} of {value}" for value, n in counts.most_common(4))
        raise FormatError(path, "", f"its planes have different {what}: {told}", "keep one kind in the folder")


def _check_doubles(path: object, headers: Sequence[Header], frames: Sequence[Frame]) -> None:
    seen: dict[tuple[str, int], int] = {}
    for frame in frames:
        where = headers[frame.file].instance, frame.index
        if where[0] and where in seen and seen[where] != frame.file:
            names = f"{headers[seen[where]].path.name} and {headers[frame.file].path.name}"
            raise FormatError(path, "", f"holds the same image twice: {names}", "remove one of them")
        seen[where] = frame.file


def _check_orientation(path: object, frames: Sequence[Frame]) -> None:
    found: list[tuple[Any, int]] = []
    for frame in frames:
        own = np.array(frame.orientation)
        for k, (known, count) in enumerate(found):
            if np.abs(own - known).max() <= SAME_DIRECTION:
                found[k] = known, count + 1
                break
        else:
            found.append((own, 1))
    if len(found) > 1:
        told = ", ".join(str(n) for _, n in found[:8])
        what = f"its planes lie in {len(found)} orientations ({told} planes)"
        raise FormatError(path, "(0020,0037)", what, "such series (localisers) make no volume; name one file")


def _without_places(path: object, headers: Sequence[Header], frames: Sequence[Frame]) -> Grid:
    if len({f.file for f in frames}) > 1:
        raise FormatError(path, "(0020,0032)", "positions are missing, so the planes have no order", COPY)
    between = headers[frames[0].file].facts.get("between_mm") or headers[frames[0].file].facts.get("thickness_mm")
    rows, columns = frames[0].spacing or (None, None)
    return Grid(tuple((f,) for f in frames), None, (columns, rows, between))


def _positions(
    path: object, headers: Sequence[Header], frames: Sequence[Frame], normal: Array
) -> tuple[tuple[Frame, ...], ...]:
    """Return the planes by position, those of one position in the order of volumes."""
    depth = [float(np.dot(normal, f.position)) for f in frames]  # type: ignore[arg-type]
    order = sorted(range(len(frames)), key=lambda i: depth[i])
    near = SAME_PLACE * _least_step(headers, frames, [depth[i] for i in order])
    rows: list[list[int]] = []
    for i in order:
        if rows and depth[i] - depth[rows[-1][0]] <= near:
            rows[-1].append(i)
        else:
            rows.append([i])
    counts = Counter(len(row) for row in rows)
    if len(counts) > 1:
        usual = counts.most_common(1)[0][0]
        odd = [(k, len(row)) for k, row in enumerate(rows, start=1) if len(row) != usual]
        told = ", ".join(f"position {k} has {n}" for k, n in odd[:4]) + (" ..." if len(odd) > 4 else "")
        what = f"of {len(rows)} positions {counts[usual]} have {_planes(usual)}, but {told}"
        raise FormatError(path, "", what, "planes are missing or doubled; " + COPY)
    return tuple(tuple(sorted((frames[i] for i in row), key=lambda f: f.order)) for row in rows)


def _planes(count: int) -> str:
    return "1 plane" if count == 1 else f"{count} planes"


def _least_step(headers: Sequence[Header], frames: Sequence[Frame], depths: list[float]) -> float:
    """Return a length the step between planes is not far below: told by the header, else seen."""
    told = headers[frames[0].file].facts
    length = told.get("between_mm") or told.get("thickness_mm")
    if length:
        return abs(float(length))
    steps = np.diff(depths)
    seen = steps[steps > 1e-6 * max(abs(depths[0]), abs(depths[-1]), 1.0)]
    return float(np.median(seen)) if seen.size else 1.0


def _grid(
    path: object, headers: Sequence[Header], planes: tuple[tuple[Frame, ...], ...], axes: tuple[Array, Array, Array]
) -> Grid:
    row, column, normal = axes
    told = headers[planes[0][0].file].facts
    places = np.array([[f.position for f in line] for line in planes], dtype=float)  # z, volume, 3
    middle = places[:, 0]
    if len(planes) > 1:
        step = (middle[-1] - middle[0]) / (len(planes) - 1)
        _check_even(path, middle @ normal)
        length = float(np.linalg.norm(step))
        off = np.abs(places - (middle[0] + np.arange(len(planes))[:, None] * step)[:, None]).max(axis=(1, 2))
        if off.max() > STRAIGHT * length + EVEN * length:
            k = int(off.argmax())
            what = f"plane {k + 1} lies {off[k]:.3g} mm beside the line of the others"
            raise FormatError(path, "(0020,0032)", what, COPY)
    else:
        length = abs(float(told.get("between_mm") or told.get("thickness_mm") or 1.0))
        step = normal * length
    spacing = planes[0][0].spacing
    between_rows, between_columns = spacing or (1.0, 1.0)
    if between_rows <= 0 or between_columns <= 0:
        raise FormatError(path, "(0028,0030)", f"the spacing is {between_rows:g} by {between_columns:g} mm", COPY)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = row * between_columns, column * between_rows, step
    affine[:3, 3] = middle[0]
    affine[:2] *= -1  # LPS to RAS
    return Grid(planes, affine, (between_columns, between_rows, length) if spacing else (None, None, length))


def _check_even(path: object, depths: Array) -> None:
    steps = np.diff(depths)
    usual = float(np.median(steps))
    odd = np.flatnonzero(np.abs(steps - usual) > EVEN * usual)
    if not odd.size:
        return
    k = int(odd[0])
    what = f"planes {k + 1} and {k + 2} are {steps[k]:.4g} mm apart, the others {usual:.4g} mm"
    missing = int(sum(max(0, round(float(s) / usual) - 1) for s in steps[odd]))
    what += f": {missing} {'is' if missing == 1 else 'are'} missing" if missing else ""
    raise FormatError(path, "(0020,0032)", what, COPY)


def diffusion(path: object, grid: Grid) -> dict[str, Any]:
    """Return ``bvals`` and ``bvecs`` (FSL's axes) of the volumes, as far as the headers tell them.

    Raises
    ------
    FormatError
        Planes of one volume differ: the volumes are mixed up or incomplete.
    """
    volumes = len(grid.planes[0])
    for v in range(volumes):
        told = (row[v].b for row in grid.planes)
        found = sorted({round(b, 3) for b in told if b is not None})
        if len(found) > 1:
            what = f"planes of volume {v + 1} have different b values ({found[0]:g} and {found[-1]:g})"
            raise FormatError(path, "(0018,9087)", what, "planes are missing or doubled; " + COPY)
    first = grid.planes[0]
    values = [f.b for f in first]
    if volumes == 1 or any(b is None for b in values) or not any(values):
        return {}
    out: dict[str, Any] = {"bvals": tuple(float(b or 0.0) for b in values)}
    directions = [f.direction if f.b else (0.0, 0.0, 0.0) for f in first]
    if grid.affine is not None and all(d is not None for d in directions):
        out["bvecs"] = bvecs(grid.affine, [d for d in directions if d is not None])
    return out


def bvecs(affine: Array, directions: Iterable[Sequence[float]]) -> tuple[tuple[float, ...], ...]:
    """Return gradient directions (LPS) along the axes of the grid, as FSL stores them.

    FSL flips x where the affine (RAS) is right-handed.
    """
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    flip = -1.0 if np.linalg.det(axes) > 0 else 1.0
    ras = np.array([(-d[0], -d[1], d[2]) for d in directions])
    along = np.linalg.solve(axes, ras.T).T if len(ras) else ras
    along[:, 0] *= flip
    return tuple(tuple(float(v) + 0.0 for v in row) for row in along)


def scales(grid: Grid) -> tuple[Any, Any, bool]:
    """Return slope and intercept (numbers, or one a volume), and whether they differ within a volume."""
    slope = np.array([[f.slope for f in row] for row in grid.planes])  # z, volume
    inter = np.array([[f.inter for f in row] for row in grid.planes])
    if (slope != slope[:1]).any() or (inter != inter[:1]).any():
        return 1.0, 0.0, True
    if (slope == slope[0, 0]).all() and (inter == inter[0, 0]).all():
        return float(slope[0, 0]), float(inter[0, 0]), False
    return slope[0], inter[0], False
