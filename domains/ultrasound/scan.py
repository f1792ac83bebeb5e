# SPDX-License-Identifier: Apache-2.0
"""Scan conversion: lines of a sector, a curved array or a steered beam are put where they lie, bilinearly.

Every pixel is looked up in the lines; what lies outside them is black. Angles come from the file or from flags.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pellucid.core.errors import UsageError
from pellucid.core.lazy import np

if TYPE_CHECKING:
    from pellucid.core.types import Array

C_M_S = 1540.0
LONGEST = 1024  # pixels of the longer side where no pixel is asked for; samples are seldom finer than that shows
MOST = 1 << 26  # pixels of a picture
MARGIN = 1e-3  # samples and lines by which rounding may leave the data


@dataclass(frozen=True)
class Layout:
    """Where lines lie; lengths in mm, angles in radians from straight down.

    Parameters
    ----------
    across : array (line,)
        Angle of each line about the apex; of parallel lines their place on the array's face.
    first, step : float
        Distance of the first sample from the apex (of parallel lines: from the face), and between samples.
    steer : float, optional
        Angle of parallel lines; None where lines leave an apex.
    """

    across: Array
    first: float
    step: float
    steer: float | None = None

    def outline(self, samples: int) -> tuple[Array, Array]:
        """Return places (z, x) that reach as far as the lines do."""
        reach = self.first + self.step * np.array([0.0, samples - 1])
        low, high = float(self.across.min()), float(self.across.max())
        if self.steer is not None:
            x = np.array([low, high])[:, None] + np.sin(self.steer) * reach
            return np.broadcast_to(np.cos(self.steer) * reach, x.shape), x
        turns = np.array([low, high, *(a for a in (-np.pi / 2, 0.0, np.pi / 2) if low < a < high)])[:, None]
        return np.cos(turns) * reach, np.sin(turns) * reach

    def lookup(self, z: Array, x: Array) -> tuple[Array, Array]:
        """Return sample and line of places, as fractions; -1 where there is no line."""
        if self.steer is not None:
            depth, place = z / np.cos(self.steer), x - z * np.tan(self.steer)
        else:
            depth, place = np.hypot(x, z), np.arctan2(x, z)
        order = np.argsort(self.across)
        known = self.across[order]
        slack = MARGIN * float(known[-1] - known[0]) / len(known)
        line = np.interp(place, known, order.astype(float))
        inside = (place >= known[0] - slack) & (place <= known[-1] + slack)
        return (depth - self.first) / self.step, np.where(inside, line, -1.0)


def layout(known: Mapping[str, Any], lines: int, step_mm: float | None, flags: Any) -> Layout | None:
    """Return where lines lie, None where neither the file nor the flags say it.

    Parameters
    ----------
    known : mapping
        Acquisition: ``line_angles_rad`` with ``radius_mm`` or ``first_mm``; ``line_elements``; ``t0_s``.
    flags : object
        ``angle`` (degrees from the first line to the last), ``radius``, ``step`` and ``pitch`` in mm; 0: not given.

    Raises
    ------
    UsageError
        The depth of a sample is not known, or angles make no fan.
    """
    step = flags.step or step_mm
    start = float(known.get("c_m_s", C_M_S)) * float(known.get("t0_s", 0.0)) / 2 * 1e3
    angles, elements = known.get("line_angles_rad"), known.get("line_elements")
    if flags.angle:
        angles = np.deg2rad(np.linspace(-flags.angle / 2, flags.angle / 2, lines))
    steer = known.get("steer_rad")
    if angles is None and not (flags.pitch and (steer is not None or elements is not None)):
        return None
    if not step or not step > 0:
        raise UsageError("the depth of a sample is not known", hint="give --step MM")
    if angles is None:
        place = np.asarray(elements if elements is not None else np.arange(lines), float)
        return _checked(Layout((place - place.mean()) * flags.pitch, max(start, 0.0), step, float(steer or 0)), lines)
    radius = flags.radius or float(known.get("radius_mm", 0.0))
    first = known.get("first_mm")
    first = float(first) if first is not None and not flags.radius else radius + max(start, 0.0)
    return _checked(Layout(np.asarray(angles, float), first, step), lines)


def _checked(found: Layout, lines: int) -> Layout:
    """Return a layout that can be drawn."""
    turned = np.diff(found.across)
    if len(found.across) != lines or lines < 2 or not (bool((turned > 0).all()) or bool((turned < 0).all())):
        raise UsageError(f"{len(found.across)} places for {lines} lines, in no order: they make no picture")
    if found.steer is None and np.abs(found.across).max() >= np.pi:
        raise UsageError(
            "a sector is less than a full turn", hint="--angle in degrees, from the first line to the last"
        )
    return found


def convert(values: Array, lines: Layout, pixel: float = 0.0) -> tuple[Array, float]:
    """Return values ``(axial, lateral, frame)`` as ``(y, x, frame)``, 0 outside, and the pixel in mm.

    Raises
    ------
    UsageError
        The picture would have more than 67 million pixels.
    """
    z, x = lines.outline(len(values))
    extent = max(float(np.ptp(z)), float(np.ptp(x)))
    pixel = pixel or max(lines.step, extent / (LONGEST - 1))
    counts = [int(np.ptp(side) / pixel + MARGIN) + 1 for side in (z, x)]
    if counts[0] * counts[1] > MOST:
        raise UsageError(f"{counts[0]} x {counts[1]} pixels are too many", hint="choose a larger --pixel")
    across = float(x.min() + x.max()) / 2 + (np.arange(counts[1]) - (counts[1] - 1) / 2) * pixel
    out = np.zeros((counts[0], counts[1], values.shape[2]), values.dtype)
    for row in range(counts[0]):
        sample, line = lines.lookup(np.full(counts[1], float(z.min()) + row * pixel), across)
        inside = (line >= 0) & (sample >= -MARGIN) & (sample <= len(values) - 1 + MARGIN)
        out[row, inside] = _between(values, sample[inside], line[inside])
    return out, pixel


def _between(values: Array, sample: Array, line: Array) -> Array:
    """Return values at fractional samples and lines, bilinearly: ``(place, frame)``."""
    a, f = _split(sample, values.shape[0])
    b, g = _split(line, values.shape[1])
    near = values[a, b] + (values[a + 1, b] - values[a, b]) * f
    far = values[a, b + 1] + (values[a + 1, b + 1] - values[a, b + 1]) * f
    return np.asarray(near + (far - near) * g, values.dtype)


def _split(place: Array, count: int) -> tuple[Array, Array]:
    """Return the lower neighbour and the fraction beyond it as a column."""
    below = np.clip(place.astype(np.int64), 0, count - 2)
    return below, np.clip(place - below, 0, 1)[:, None].astype(np.float32)
