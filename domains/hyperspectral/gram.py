# SPDX-License-Identifier: Apache-2.0
"""One streaming look at a scene: Gram matrix, sums per detector column and a fixed sample of pixels.

Everything the subspace needs comes from here, so that a scene is read twice in all. Sums are float64 and taken
about a fixed spectrum near the mean, so that a cube with 1e-6 of noise keeps it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pellucid.core.lazy import ndimage, np

if TYPE_CHECKING:
    from pellucid.core.types import Array, Tile

CHUNK = 4096  # pixels looked at a time: 6.5 MB of float64 at 200 bands stay in cache
SAMPLE = 65_536  # pixels kept for the robust part: 52 MB at 200 bands, 300 per band
SPREAD = 2654435761  # Knuth's multiplicative hash: scatters kept pixels without a pattern
OUTLIER = 4.0  # standard deviations from the 3 x 3 median that make a sample suspect
GRAIN = 1e-6  # of a value: smaller differences are float32 rounding
MAD_TO_SIGMA = 1.4826  # Gaussian consistency, 1 / Phi^-1(3/4)


@dataclass
class Statistics:
    """Sums over the valid pixels of the tiles seen so far; ``add`` changes the arrays in place.

    ``across`` is the axis that numbers detector columns (1 for a pushbroom flown along lines).
    ``suspects`` counts samples far from the median of their neighbours and ``excess`` sums how far.
    ``sample`` holds rows of whole spectra; ``columns`` and ``outliers`` belong to them.
    """

    across: int
    shift: Array  # (band,)
    total: Array  # (band,), about shift
    gram: Array  # (band, band), about shift
    column_count: Array  # (column,)
    column_sum: Array  # (column, band), about shift
    column_low: Array  # (column, band)
    column_high: Array
    suspects: Array  # (column, band)
    excess: Array  # (column, band)
    sample: list[Array] = field(default_factory=list)
    columns: list[Array] = field(default_factory=list)
    outliers: list[Array] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Number of valid pixels seen."""
        return int(self.column_count.sum())

    def covariance(self, offset: Array | None = None) -> tuple[Array, Array, int]:
        """Return mean (band,), sample covariance and its degrees of freedom.

        ``offset`` (column, band) is taken from every sample of its column first, exactly and without another
        look at the data: G' = G - sum_c (S_c o_c' + o_c S_c' - n_c o_c o_c').
        """
        n = max(self.count, 1)
        freedom = max(n - 1, 1)
        total, second = self.total, self.gram
        if offset is not None:
            moved = self.column_count[:, None] * offset
            cross = self.column_sum.T @ offset
            total, second = total - moved.sum(0), second - cross - cross.T + offset.T @ moved
        mean = total / n
        return self.shift + mean, (second - n * np.outer(mean, mean)) / freedom, freedom

    def column_means(self, despiked: bool = False) -> Array:
        """Return each detector column's mean spectrum (column, band); the scene's for a column without pixels.

        ``despiked`` puts their neighbours' median in the place of suspects, unless most of a column is suspect:
        then it stands out as a whole, and that is its offset.
        """
        n = np.maximum(self.column_count, 1)[:, None]
        spikes = np.where(self.suspects < 0.5 * n, self.excess, 0) if despiked else 0.0
        mean = self.total / max(self.count, 1)
        return self.shift + np.where(self.column_count[:, None] > 0, (self.column_sum - spikes) / n, mean)

    def dead(self) -> Array:
        """Return (column, band) cells that never change while their band and their column's other bands do.

        A column that is constant in most bands is a flat field, or has no other bands to be predicted from.
        """
        still = (self.column_low == self.column_high) & (self.column_count[:, None] > 2)
        return still & (still.mean(0) < 0.5) & (still.mean(1) < 0.5)[:, None]


def start(tile: Tile, across: int) -> Statistics:
    """Return empty sums about the mean spectrum of the first tile."""
    bands = tile.values.shape[-1]
    seen = tile.values if tile.mask is None or not tile.mask.any() else tile.values[tile.mask]
    shift = seen.reshape(-1, bands).mean(0, dtype=np.float64)
    cells = (tile.shape[across], bands)
    return Statistics(
        across=across,
        shift=shift,
        total=np.zeros(bands),
        gram=np.zeros((bands, bands)),
        column_count=np.zeros(cells[0], dtype=np.int64),
        column_sum=np.zeros(cells),
        column_low=np.full(cells, np.inf, dtype=np.float32),
        column_high=np.full(cells, -np.inf, dtype=np.float32),
        suspects=np.zeros(cells, dtype=np.int64),
        excess=np.zeros(cells),
    )


def add(stats: Statistics, tile: Tile, impulses: bool = True) -> Statistics:
    """Add a tile's pixels; without ``impulses`` no sample is compared with its neighbours."""
    # (along, column, band): the sums run along the track
    turned = stats.across == 0
    lines = tile.values.swapaxes(0, 1) if turned else tile.values
    valid = None if tile.mask is None else (tile.mask.T if turned else tile.mask)
    chosen = _chosen(tile)
    chosen = chosen.T if turned else chosen
    begin = tile.window[stats.across].start
    span = slice(begin, begin + lines.shape[1])
    inner = None if valid is None else ndimage.binary_erosion(valid, np.ones((3, 3)), border_value=1)
    step = max(1, CHUNK // max(lines.shape[1], 1))
    for a in range(0, lines.shape[0], step):
        part = slice(a, min(a + step, lines.shape[0]))
        block, ok = lines[part], None if valid is None else valid[part]
        _sums(stats, block, ok, span)
        suspect = np.zeros(block.shape, dtype=bool)
        if impulses:
            suspect, excess = _suspect(lines, part, None if inner is None else inner[part])
            stats.suspects[span] += suspect.sum(0)
            stats.excess[span] += excess.sum(0, dtype=np.float64)
        where = np.nonzero(chosen[part])
        stats.sample.append(block[where])
        stats.columns.append(where[1] + begin)
        stats.outliers.append(suspect[where])
    return stats


def median3(values: Array, part: slice) -> Array:
    """Return the 3 x 3 median of lines ``part`` of values (line, sample, band); borders are repeated.

    Column-wise sorts are shared by neighbours: the median of nine is the median of the largest minimum, the
    median of the medians and the least maximum.
    """
    index = np.clip(np.arange(part.start - 1, part.stop + 1), 0, len(values) - 1)
    rows = values[index]
    low, high = np.minimum(rows[:-2], rows[1:-1]), np.maximum(rows[:-2], rows[1:-1])
    middle = np.minimum(high, rows[2:])
    high = np.maximum(high, rows[2:])
    middle, low = np.maximum(low, middle), np.minimum(low, middle)
    left, right = (
        (lambda a: np.concatenate((a[:, :1], a[:, :-1]), 1)),
        (lambda a: np.concatenate((a[:, 1:], a[:, -1:]), 1)),
    )
    low = np.maximum(np.maximum(left(low), low), right(low))
    high = np.minimum(np.minimum(left(high), high), right(high))
    return _middle(low, _middle(left(middle), middle, right(middle)), high)


def _middle(a: Array, b: Array, c: Array) -> Array:
    return np.maximum(np.minimum(a, b), np.minimum(np.maximum(a, b), c))


def _sums(stats: Statistics, block: Array, valid: Array | None, span: slice) -> None:
    centred = block.astype(np.float64)
    centred -= stats.shift
    low = high = block
    if valid is not None:
        centred[~valid] = 0
        low, high = np.where(valid[..., None], block, np.inf), np.where(valid[..., None], block, -np.inf)
    stats.column_count[span] += len(block) if valid is None else valid.sum(0)
    np.minimum(stats.column_low[span], low.min(0), out=stats.column_low[span])
    np.maximum(stats.column_high[span], high.max(0), out=stats.column_high[span])
    flat = centred.reshape(-1, centred.shape[-1])
    stats.gram += flat.T @ flat
    sums = centred.sum(0)
    stats.total += sums.sum(0)
    stats.column_sum[span] += sums


def _suspect(lines: Array, part: slice, inner: Array | None) -> tuple[Array, Array]:
    """Return samples far from the median of their neighbours, and how far."""
    block = lines[part]
    away = block - median3(lines, part)
    size = np.abs(away)
    few = size.reshape(-1, size.shape[-1])[:: max(1, size.shape[0] * size.shape[1] // 512)]
    suspect = size > OUTLIER * MAD_TO_SIGMA * np.median(few, axis=0)
    suspect &= size > GRAIN * np.abs(block)
    if inner is not None:
        suspect &= inner[..., None]
    return suspect, away * suspect


def _chosen(tile: Tile) -> Array:
    """Return the valid pixels whose hashed absolute number falls below the share the file may fill."""
    rows = np.arange(tile.window[0].start, tile.window[0].stop, dtype=np.uint64)[:, None]
    cols = np.arange(tile.window[1].start, tile.window[1].stop, dtype=np.uint64)[None, :]
    share = SAMPLE / (tile.shape[0] * tile.shape[1])
    chosen = np.ones(tile.values.shape[:2], dtype=bool)
    if share < 1:
        number = (rows * np.uint64(tile.shape[1]) + cols) * np.uint64(SPREAD) & np.uint64(0xFFFFFFFF)
        chosen = number < np.uint64(share * 2**32)
    return chosen if tile.mask is None else chosen & tile.mask
