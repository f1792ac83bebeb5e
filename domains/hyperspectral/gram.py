# SPDX-License-Identifier: Apache-2.0
"""One streaming look at a scene: Gram matrix, sums per detector column and a fixed sample of pixels.

Everything the subspace needs comes from here, so that a scene is read twice in all. Sums are float64 and taken
about a fixed spectrum near the mean, so that a cube with 1e-6 of noise keeps it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pellucid.core.lazy import np

if TYPE_CHECKING:
    from pellucid.core.types import Array, Tile

CHUNK = 4096  # pixels converted to float64 at a time: 6.5 MB at 200 bands stay in cache
SAMPLE = 65_536  # pixels kept for the robust part: 52 MB at 200 bands, 300 per band
SPREAD = 2654435761  # Knuth's multiplicative hash: scatters kept pixels without a pattern


@dataclass
class Statistics:
    """Sums over the valid pixels of the tiles seen so far.

    ``across`` is the axis that numbers detector columns (1 for a pushbroom flown along lines).
    Column sums are about ``shift`` as well. ``sample`` holds rows of whole spectra, ``columns`` and
    ``outliers`` belong to them.
    """

    across: int
    shift: Array  # (band,)
    total: Array  # (band,), about shift
    gram: Array  # (band, band), about shift
    column_count: Array  # (column,)
    column_sum: Array  # (column, band), about shift
    column_low: Array  # (column, band)
    column_high: Array
    sample: list[Array] = field(default_factory=list)
    columns: list[Array] = field(default_factory=list)
    outliers: list[Array] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Number of valid pixels seen."""
        return int(self.column_count.sum())

    def covariance(self) -> tuple[Array, Array, int]:
        """Return mean (band,), sample covariance and its degrees of freedom."""
        n = max(self.count, 1)
        mean = self.total / n
        freedom = max(n - 1, 1)
        return self.shift + mean, (self.gram - n * np.outer(mean, mean)) / freedom, freedom

    def column_means(self) -> Array:
        """Return the mean spectrum (column, band) of each detector column; the scene's where it is empty."""
        n = np.maximum(self.column_count, 1)[:, None]
        mean = self.total / max(self.count, 1)
        return self.shift + np.where(self.column_count[:, None] > 0, self.column_sum / n, mean)

    def within(self) -> tuple[Array, int]:
        """Return the covariance about each column's own mean: no constant stripe can enter it."""
        offset = self.column_sum / np.maximum(self.column_count, 1)[:, None]
        inner = self.gram - offset.T @ (offset * self.column_count[:, None])
        freedom = max(self.count - int((self.column_count > 0).sum()), 1)
        return inner / freedom, freedom

    def dead(self) -> Array:
        """Return (column, band) cells that never change while their band does."""
        still = (self.column_low == self.column_high) & (self.column_count[:, None] > 2)
        return still & (still.mean(0) < 0.5)


def start(tile: Tile, across: int) -> Statistics:
    """Return empty sums about the mean spectrum of the first valid tile."""
    bands = tile.values.shape[-1]
    seen = tile.values if tile.mask is None else tile.values[tile.mask]
    shift = seen.reshape(-1, bands).mean(0, dtype=np.float64)
    columns = tile.shape[across]
    return Statistics(
        across,
        shift,
        np.zeros(bands),
        np.zeros((bands, bands)),
        np.zeros(columns, dtype=np.int64),
        np.zeros((columns, bands)),
        np.full((columns, bands), np.inf, dtype=np.float32),
        np.full((columns, bands), -np.inf, dtype=np.float32),
    )


def add(stats: Statistics, tile: Tile, outlier: Array | None = None) -> Statistics:
    """Add a tile's pixels; ``outlier`` (like values, bool) marks impulses, kept out of column sums and sample.

    The arrays of ``stats`` are changed in place.
    """
    values, mask = tile.values, tile.mask
    lines = values if stats.across == 1 else values.swapaxes(0, 1)  # (along, column, band)
    valid = None if mask is None else (mask if stats.across == 1 else mask.T)
    begin = tile.window[stats.across].start
    span = slice(begin, begin + lines.shape[1])
    step = max(1, CHUNK // max(lines.shape[1], 1))
    for a in range(0, lines.shape[0], step):
        block = lines[a : a + step].astype(np.float64)
        block -= stats.shift
        if valid is not None:
            block[~valid[a : a + step]] = 0
        flat = block.reshape(-1, block.shape[-1])
        stats.gram += flat.T @ flat
        sums = block.sum(0)
        stats.total += sums.sum(0)
        stats.column_sum[span] += sums
    _extremes(stats, lines, valid, span)
    _keep(stats, tile, outlier)
    return stats


def _extremes(stats: Statistics, lines: Array, valid: Array | None, span: slice) -> None:
    low, high = stats.column_low[span], stats.column_high[span]
    if valid is None:
        stats.column_count[span] += lines.shape[0]
        np.minimum(low, lines.min(0), out=low)
        np.maximum(high, lines.max(0), out=high)
        return
    stats.column_count[span] += valid.sum(0)
    for line, ok in zip(lines, valid, strict=True):
        np.minimum(low, line, out=low, where=ok[:, None])
        np.maximum(high, line, out=high, where=ok[:, None])


def _keep(stats: Statistics, tile: Tile, outlier: Array | None) -> None:
    """Keep the pixels whose hashed absolute number falls below the share the whole file may fill."""
    rows = np.arange(tile.window[0].start, tile.window[0].stop, dtype=np.uint64)[:, None]
    cols = np.arange(tile.window[1].start, tile.window[1].stop, dtype=np.uint64)[None, :]
    share = SAMPLE / (tile.shape[0] * tile.shape[1])
    chosen = np.ones(tile.values.shape[:2], dtype=bool)
    if share < 1:
        number = (rows * np.uint64(tile.shape[1]) + cols) * np.uint64(SPREAD) & np.uint64(0xFFFFFFFF)
        chosen = number < np.uint64(share * 2**32)
    if tile.mask is not None:
        chosen &= tile.mask
    where = np.nonzero(chosen)
    stats.sample.append(tile.values[where])
    stats.columns.append(where[stats.across] + tile.window[stats.across].start)
    stats.outliers.append(np.zeros(tile.values[where].shape, dtype=bool) if outlier is None else outlier[where])
