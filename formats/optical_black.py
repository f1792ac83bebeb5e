# SPDX-License-Identifier: Apache-2.0
"""What the masked borders of a sensor say, worked out when somebody asks: it needs the samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid.core.lazy import np

if TYPE_CHECKING:
    from pellucid.core.types import Array

LEAST = 12  # samples a border must be wide to be looked at
KEY = "optical_black"


class Facts(Mapping[str, Any]):
    """Facts of a raw file; ``optical_black`` is measured at the first look, everything else is known at once.

    Parameters
    ----------
    known : dict
        What the header says.
    frame : Frame
        Where the visible area lies.
    """

    def __init__(self, known: dict[str, Any], path: Path, frame: Any) -> None:
        self.known, self.path, self.frame = known, path, frame
        self.source: Callable[[], Array] | None = None
        self.borders = borders(frame) if "cfa" in known else {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "source": None}

    def __getitem__(self, key: str) -> Any:
        if key == KEY and key not in self.known and self.borders and self.source is not None:
            self.known[key] = measure(self.source(), self.borders, self.frame, np.shape(self.known["cfa"]))
        return self.known[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.known)

    def __len__(self) -> int:
        return len(self.known)


def borders(frame: Any) -> dict[str, tuple[slice, slice]]:
    """Return the inner parts of the masked borders that are wide enough, left and top first."""
    rows, columns = frame.rows, frame.columns
    found = {}
    for name, (start, stop) in {
        "left": (0, columns.start),
        "top": (0, rows.start),
        "right": (columns.stop, frame.width),
        "bottom": (rows.stop, frame.height),
    }.items():
        if stop - start < LEAST:
            continue
        guard = max(2, (stop - start) // 8)  # light leaks in at the inner edge, ramps begin at the outer
        inner = slice(start + guard, stop - guard)
        across = name in ("left", "right")
        found[name] = (slice(rows.start + guard, rows.stop - guard), inner) if across else (inner, columns)
    return found


def measure(full: Array, where: Mapping[str, Any], frame: Any, period: tuple[int, ...]) -> dict[str, Any]:
    """Return mean and standard deviation (DN) of each border at each position of the colour pattern."""
    found = {}
    for name, (rows, columns) in where.items():
        mean, sd = np.zeros(period), np.zeros(period)
        for r in range(period[0]):
            for c in range(period[1]):
                first = rows.start + (frame.rows.start + r - rows.start) % period[0]
                left = columns.start + (frame.columns.start + c - columns.start) % period[1]
                part = full[first : rows.stop : period[0], left : columns.stop : period[1]]
                mean[r, c], sd[r, c] = (float(part.mean()), float(part.std())) if part.size else (np.nan, np.nan)
        found[name] = {"mean": mean.tolist(), "sd": sd.tolist()}
    return found
