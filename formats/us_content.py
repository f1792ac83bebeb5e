# SPDX-License-Identifier: Apache-2.0
"""Which pixels of an ultrasound screen are B-mode: no colour, no text, no overlay, inside the fan.

Looked at frame by frame, so that a cine is decoded once: only least, largest and most coloured value
of every pixel are kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pellucid.core.lazy import ndimage, np

if TYPE_CHECKING:
    from pellucid.core.types import Array

Box = tuple[slice, slice]

LOSSY_CHROMA = 12  # of 255: B-mode decoded from JPEG reaches 11 at its 99th percentile
SURE_CHROMA = 40  # and 39 at its maximum: beyond, a single pixel is enough
FEW_LEVELS = 8  # fewer are a drawing
SPECKS = 9  # connected pixels of weak chroma that make a mark in a lossy picture
MARGIN = 2  # pixels around marks and strokes: their soft edges
SATURATED = 250 / 255  # text and calipers are drawn at the top of the range
STROKE = 3  # widest pen, pixels
STEP = 48 / 255  # a stroke below the top of the range stands out of its surroundings by this much
RUN = 4  # connected pixels of exactly one value, each between two of its like, that make a stroke
STILL = 12 / 255  # largest change over frames of a static overlay in a lossy cine
LIT = 4 / 255  # above the background
CELL = 9  # pixels of the box in which the density of content is measured
DENSE = 0.5
PART = 0.1  # of the largest piece: smaller ones are text blocks, bars and icons
MOVING = 0.25  # of the content must change over frames before stillness means anything


@dataclass
class Content:
    """Witnesses of a picture or cine, gathered frame by frame.

    Parameters
    ----------
    top : int
        Largest value the samples can take.
    lossy : bool
        Decoded from a lossy stream: grey pixels bear a little colour, static ones change a little.
    """

    top: int = 255
    lossy: bool = False
    count: int = 0
    least: Any = None
    most: Any = None
    chroma: Any = None
    values: Any = None

    def add(self, frame: Array, grey: Array) -> None:
        """Look at one more frame, (rows, columns[, 3]), and its grey."""
        self.count += 1
        if self.least is None:
            self.least, self.most = grey.copy(), grey.copy()
        else:
            np.minimum(self.least, grey, out=self.least)
            np.maximum(self.most, grey, out=self.most)
        if frame.ndim == 3:
            if frame.dtype == np.uint8:
                seen = np.bincount(frame.ravel(), minlength=256) > 0
                self.values = seen if self.values is None else self.values | seen
            chroma = frame.max(-1) - frame.min(-1)
            self.chroma = chroma if self.chroma is None else np.maximum(self.chroma, chroma)

    def mask(self, base: Array, panels: list[Box]) -> Array:
        """Return where samples may change (bool, rows x columns).

        Parameters
        ----------
        base : bool array
            What the regions of the header allow.
        panels : list of boxes
            Pictures beside each other: each has a fan of its own.
        """
        drawn = self.coloured() | self.strokes() | self.static()
        fan = np.zeros(base.shape, bool)
        for box in panels:
            fan[box] |= self._fan((base & ~drawn)[box], box)
        return base & fan & ~drawn

    def coloured(self) -> Array:
        """Return where a pixel is coloured in any frame, with a margin."""
        if self.chroma is None:
            return np.zeros(self.least.shape, bool)
        found = self.chroma > (LOSSY_CHROMA if self.lossy else self._quantum())
        if self.lossy:
            labels, count = ndimage.label(found, np.ones((3, 3)))
            keep = np.bincount(labels.ravel(), minlength=count + 1) >= SPECKS
            keep[np.unique(labels[self.chroma >= SURE_CHROMA])] = True
            keep[0] = False
            found = keep[labels]
        return _grown(found)

    def _quantum(self) -> int:
        """Return the step of colours stored in fewer bits: grey may be one step off; 0 where every value occurs."""
        levels = np.flatnonzero(self.values) if self.values is not None else np.arange(2)
        step = int(np.gcd.reduce(np.diff(levels))) if len(levels) > FEW_LEVELS else 1
        return step if 1 < step <= LOSSY_CHROMA else 0

    def strokes(self) -> Array:
        """Return thin drawn lines: at the top of the range, or of one exact value above their surroundings."""
        bright = self.least >= SATURATED * self.top
        drawn = bright & ~ndimage.binary_opening(bright, np.ones((STROKE + 1, STROKE + 1)))
        if not self.lossy:
            drawn |= self._flat_lines()
        return _grown(drawn)

    def _flat_lines(self) -> Array:
        """Return thin connected runs of exactly one value: text that is drawn in grey."""
        size = STROKE + 2
        floor = ndimage.grey_opening(self.least, (size, size))
        thin = (self.least.astype(np.int32) - floor) >= STEP * self.top
        thin &= self.least == self.most
        alike = np.zeros(thin.shape, np.uint8)
        for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
            here = (slice(0, thin.shape[0] - dy), slice(max(0, -dx), thin.shape[1] - max(0, dx)))
            there = (slice(dy, thin.shape[0]), slice(max(0, dx), thin.shape[1] - max(0, -dx)))
            same = thin[here] & thin[there] & (self.least[here] == self.least[there])
            alike[here] += same
            alike[there] += same
        labels, count = ndimage.label(alike >= 1, np.ones((3, 3)))
        long = np.bincount(labels[alike >= 2], minlength=count + 1) >= RUN
        long[0] = False
        return long[labels]

    def static(self) -> Array:
        """Return the overlay of a cine: lit pixels that never change while others do."""
        still = np.zeros(self.least.shape, bool)
        lit = self.most > self._background() + LIT * self.top
        change = self.most.astype(np.int32) - self.least
        limit = STILL * self.top if self.lossy else 0
        if self.count < 2 or np.count_nonzero(change[lit] > limit) < MOVING * np.count_nonzero(lit):
            return still
        return lit & (change <= limit) & (self.least > LIT * self.top + self._background() + limit)

    def _background(self) -> int:
        """Return the value of the empty screen: the most frequent one of the darker half of the range."""
        counts = np.bincount(self.least.ravel(), minlength=2)
        return int(counts[: self.top // 4 + 1].argmax())

    def _fan(self, allowed: Array, box: Box) -> Array:
        """Return the convex hull of the large pieces of content in a panel."""
        change = self.most[box].astype(np.int32) - self.least[box]
        content = allowed & (self.most[box] > self._background() + LIT * self.top)
        moving = content & (change > LIT * self.top)
        if self.count > 1 and np.count_nonzero(moving) >= MOVING * np.count_nonzero(content):
            content = moving
        dense = ndimage.uniform_filter(content.astype(np.float32), CELL, mode="constant") > DENSE
        labels, count = ndimage.label(dense)
        sizes = np.bincount(labels.ravel(), minlength=count + 1)
        sizes[0] = 0
        large = (sizes >= PART * sizes.max()) & (sizes >= CELL * CELL)
        return hull(large[labels])


def _grown(found: Array) -> Array:
    """Return the pixels within ``MARGIN`` of marked ones."""
    return ndimage.binary_dilation(found, np.ones((2 * MARGIN + 1, 2 * MARGIN + 1))) if found.any() else found


def hull(points: Array) -> Array:
    """Return the filled convex hull of the True pixels of a plane (monotone chain; pixel centres).

    Only the first and last pixel of each row can be corners, so this costs as much as the picture is high.
    """
    filled = np.zeros(points.shape, bool)
    rows = np.flatnonzero(points.any(1))
    if not len(rows):
        return filled
    first = points[rows].argmax(1)
    last = points.shape[1] - 1 - points[rows][:, ::-1].argmax(1)
    left = _chain(rows, first, 1)
    right = _chain(rows, last, -1)
    every = np.arange(rows[0], rows[-1] + 1)
    low = np.ceil(np.interp(every, *left) - 1e-9)[:, None]
    high = np.floor(np.interp(every, *right) + 1e-9)[:, None]
    columns = np.arange(points.shape[1])[None]
    filled[every] = (columns >= low) & (columns <= high)
    return filled


def _chain(rows: Array, columns: Array, side: int) -> tuple[list[int], list[int]]:
    """Return the corners of the left (side 1) or right (-1) outline that no line between others passes."""
    corners: list[tuple[int, int]] = []
    for y, x in zip(rows.tolist(), columns.tolist(), strict=True):
        while len(corners) > 1:
            (y0, x0), (y1, x1) = corners[-2:]
            if side * ((y1 - y0) * (x - x0) - (y - y0) * (x1 - x0)) > 0:
                break
            corners.pop()
        corners.append((y, x))
    return [c[0] for c in corners], [c[1] for c in corners]
