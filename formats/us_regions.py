# SPDX-License-Identifier: Apache-2.0
"""Sequence of Ultrasound Regions: which rectangles of the screen show tissue, and how large a pixel is.

PS3.3 C.8.5.5 (US Region Calibration). Scanners and later software leave traps in it: an end that is
one pixel too far, rectangles in the coordinates of an earlier size, a grey bar inside the tissue.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pellucid.core.lazy import np

if TYPE_CHECKING:
    from pellucid.core.types import Array

TWO_D, TISSUE = 1, 1  # Region Spatial Format, Region Data Type
CENTIMETRES = 3  # Physical Units X/Y Direction
SLACK = 1  # pixels an end may lie outside: width is often stored where the last column belongs
SAME_DELTA = 1e-3  # relative difference of two panels' pixel size that is rounding
MM_PER_CM = 10.0
MOST_REGIONS = 256


@dataclass(frozen=True)
class ScreenRegion:
    """One item of the sequence; ends are inclusive, as stored."""

    left: int
    top: int
    right: int
    bottom: int
    spatial: int
    data: int
    units: tuple[int, int]
    delta: tuple[float, float]

    @property
    def tissue(self) -> bool:
        """Whether it is a two-dimensional picture of tissue."""
        return self.spatial == TWO_D and self.data == TISSUE

    @property
    def area(self) -> int:
        """Pixels inside."""
        return (self.right - self.left + 1) * (self.bottom - self.top + 1)

    def inside(self, other: ScreenRegion) -> bool:
        """Whether this is a smaller rectangle within the other."""
        within = other.left <= self.left and self.right <= other.right
        return within and other.top <= self.top and self.bottom <= other.bottom and self.area < other.area

    def box(self, shape: tuple[int, ...]) -> tuple[slice, slice]:
        """Return the rectangle as slices, clamped to the picture."""
        rows, columns = shape[:2]
        return slice(max(self.top, 0), min(self.bottom + 1, rows)), slice(
            max(self.left, 0), min(self.right + 1, columns)
        )


def parse(dataset: Any) -> tuple[ScreenRegion, ...]:
    """Return the regions of a dataset; items without a rectangle are left out."""
    found = []
    for item in list(dataset.get("SequenceOfUltrasoundRegions") or ())[:MOST_REGIONS]:
        try:
            found.append(_parse(item))
        except (AttributeError, TypeError, ValueError):
            continue
    return tuple(found)


def _parse(item: Any) -> ScreenRegion:
    return ScreenRegion(
        int(item.RegionLocationMinX0),
        int(item.RegionLocationMinY0),
        int(item.RegionLocationMaxX1),
        int(item.RegionLocationMaxY1),
        int(item.get("RegionSpatialFormat") or 0),
        int(item.get("RegionDataType") or 0),
        (int(item.get("PhysicalUnitsXDirection") or 0), int(item.get("PhysicalUnitsYDirection") or 0)),
        (float(item.get("PhysicalDeltaX") or 0), float(item.get("PhysicalDeltaY") or 0)),
    )


def trusted(regions: tuple[ScreenRegion, ...], shape: tuple[int, ...]) -> bool:
    """Return whether the rectangles can belong to a picture of this size.

    An end may lie ``SLACK`` pixels outside. Further out, the picture was cropped or resized after
    the regions were written, and no rectangle of it can be believed.
    """
    rows, columns = shape[:2]
    return all(
        0 <= r.left < r.right <= columns - 1 + SLACK and 0 <= r.top < r.bottom <= rows - 1 + SLACK for r in regions
    )


def tissue_mask(regions: tuple[ScreenRegion, ...], shape: tuple[int, ...]) -> Array:
    """Return where tissue is shown (bool, rows x columns).

    Regions nest: the smaller one wins. Where a region that is no tissue overlaps one of tissue without
    holding all of it, the overlap is taken out.
    """
    mask = np.zeros(shape[:2], bool)
    for region in (r for r in regions if r.tissue):
        own = np.zeros_like(mask)
        own[region.box(shape)] = True
        for other in regions:
            if not other.tissue and not region.inside(other):
                own[other.box(shape)] = False
        mask |= own
    return mask


def panels(regions: tuple[ScreenRegion, ...], shape: tuple[int, ...]) -> list[tuple[slice, slice]]:
    """Return the boxes of the tissue regions, largest first; one that lies inside another is left out."""
    tissue = sorted((r for r in regions if r.tissue), key=lambda r: -r.area)
    return [r.box(shape) for i, r in enumerate(tissue) if not any(r.inside(other) for other in tissue[:i])]


def spacing_mm(regions: tuple[ScreenRegion, ...]) -> tuple[float | None, float | None]:
    """Return the size of a pixel (y, x) in mm; None where tissue regions disagree or say nothing."""
    known = [
        (abs(r.delta[1]) * MM_PER_CM, abs(r.delta[0]) * MM_PER_CM)
        for r in regions
        if r.tissue and r.units == (CENTIMETRES, CENTIMETRES) and all(0 < abs(d) < np.inf for d in r.delta)
    ]
    if not known or any(abs(a / b - 1) > SAME_DELTA for one in known for a, b in zip(one, known[0], strict=True)):
        return None, None
    return known[0]
