# SPDX-License-Identifier: Apache-2.0
"""Stripes, dead columns and impulses: found against the signal subspace, taken out before it is used.

All three are sparse in (column, band) or (pixel, band), while a scene fills the subspace: what one detector cell
shows that the other bands of its column cannot explain is the instrument. A column that stands out in many bands
at once is scene (a road, a field edge) and is left alone, and so is a run of neighbouring bands (a narrow
absorption).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pellucid.core.estimate.regression import EDGE_MARGIN, Subspace, signal_subspace
from pellucid.core.lazy import np
from pellucid.domains.hyperspectral import gram

if TYPE_CHECKING:
    from pellucid.core.types import Array, Tile
    from pellucid.domains.hyperspectral.gram import Statistics

ROUNDS = 5  # of subspace, offsets, impulses
MARGINS = (4.0, 2.0, 1.3)  # on the noise edge in the first rounds: what damage left in the subspace is not kept
FILLS = 30  # projections that fill masked samples: the error shrinks by their leverage each time
SETTLED = 1e-3  # noise standard deviations by which a filled sample may still move
LOOKS = 2  # at the residuals, each followed by filling
CERTAIN = 8.0  # whitened residual that needs no second witness in space
IMPULSE = 4.5  # whitened residual that makes a sample an impulse
OFFSET = 4.5  # robust standard deviations of a column's mean that make an offset
SCENE = 0.2  # share of bands in which a column's "offset" is scene
STRIPED = 0.03  # share of a band's columns with offsets that fires the test: Gaussian tails give 1e-5
FEWEST_STRIPES = 3  # columns of one band: among a few dozen columns one stands out by chance
SPECKLED = 0.01  # share of a band's samples confirmed as impulses that fires the test
SPECKLED_BANDS = 3  # in as many bands: a real scene has one or two with heavy tails
CLUSTERED = 3.0  # times chance that neighbouring bands are hit together: impulses 1.0 to 1.2, field edges 12 and more
MEDIAN_NOISE = 1.1  # noise of a sample minus the median of its 3 x 3 neighbourhood, over its own


@dataclass(frozen=True)
class Repair:
    """What is wrong with a scene's detector: ``offset`` (column, band) input units, ``dead`` (column, band).

    ``covariance`` (band, band) is that of spectra whose damaged samples were predicted.
    """

    across: int
    offset: Array
    dead: Array
    impulses: bool
    space: Subspace
    covariance: Array


def repair(
    stats: Statistics, sigma: Array | None, *, rank: int = 0, forced: bool = False
) -> tuple[Repair | None, Subspace | None, Array | None]:
    """Return the corrections a scene needs with the subspace and mean found beside them, or three None.

    Parameters
    ----------
    stats : Statistics
        Of the whole scene.
    sigma : array (band,), optional
        Noise where it is known.
    forced : bool
        Treat the scene as mixed whatever the test says.
    """
    dead = stats.dead()
    offset, space, mean = _first(stats, dead, sigma, rank)
    if np.median(space.sigma) <= gram.GRAIN * np.median(np.abs(mean)) and not forced:
        return None, None, None  # nothing but rounding is left to correct
    striped = bool((offset != 0).sum(0).max() > max(STRIPED * len(offset), FEWEST_STRIPES - 1))
    spiky = bool(_third(_suspicion(stats, dead)) > SPECKLED)
    if not (forced or dead.any() or striped or spiky):
        return None, None, None
    confirmed, covariance = False, None
    if forced or dead.any() or spiky:
        fitted = _fit(stats, (offset, space), dead, sigma, rank=rank, speckled=spiky or forced)
        confirmed = _impulsive(fitted[-1])
        if not (forced or dead.any() or striped or confirmed):
            return None, None, None
        if forced or dead.any() or confirmed:  # stripes alone are better known from the sums of all pixels
            offset, space, mean, covariance, _ = fitted
    if covariance is None:
        covariance = stats.covariance(offset)[1]
    return Repair(stats.across, offset, dead, confirmed or forced, space, covariance), space, mean


def stripes(stats: Statistics) -> Array:
    """Return each cell's constant offset (column, band), input units, 0 where it is not significant."""
    dead = stats.dead()
    offset, space, mean = _first(stats, dead, None, 0)
    grain = gram.GRAIN * np.abs(stats.column_means()).max(initial=0)
    noise = np.median(space.sigma)
    return np.zeros_like(offset) if noise <= gram.GRAIN * np.median(np.abs(mean)) and noise <= grain else offset


def mend(tile: Tile, state: Any, found: Repair, part: slice) -> tuple[Array, Array]:
    """Return lines ``part`` of a tile, offsets removed, dead and impulsive samples predicted, and which those are.

    The prediction of a masked sample is its place in the subspace given the pixel's other bands.
    """
    turned = found.across == 0
    first, last = max(part.start - 1, 0), min(part.stop + 1, len(tile.values))
    begin = tile.window[0].start
    cells = slice(begin + first, begin + last) if turned else tile.window[1]
    offset, dead = found.offset[cells].astype(np.float32), found.dead[cells]
    around = tile.values[first:last] - (offset[:, None] if turned else offset[None])
    inner = slice(part.start - first, part.stop - first)
    values = around[inner]
    held = np.broadcast_to(dead[inner, None] if turned else dead[None], values.shape)
    mask, suspect = held.copy(), None
    if found.impulses:
        away = values - gram.median3(around, inner)
        suspect = np.abs(away) > gram.OUTLIER * MEDIAN_NOISE * state.sigma
        mask |= suspect & ~_runs(suspect, away)
        suspect = suspect.reshape(-1, values.shape[-1])
    white = ((values - state.mean) * state.weight).astype(_precision(found.space)).reshape(-1, values.shape[-1])
    filled, mask = _fill(white, mask.reshape(white.shape), found.space, held.reshape(white.shape), suspect)
    filled, mask = filled.reshape(values.shape), mask.reshape(values.shape)
    return np.where(mask, filled * state.sigma + state.mean, values).astype(np.float32), mask


def _first(stats: Statistics, dead: Array, sigma: Array | None, rank: int) -> tuple[Array, Subspace, Array]:
    """Return offsets, subspace and mean from the sums alone, dead cells set to their band's mean.

    Stripes of different bands are independent, so they pass for noise until the margin falls.
    """
    blank = np.where(dead, stats.column_sum / np.maximum(stats.column_count, 1)[:, None], 0)
    middle = (stats.total - (blank * stats.column_count[:, None]).sum(0)) / np.maximum(
        (~dead * stats.column_count[:, None]).sum(0), 1
    )
    blank = np.where(dead, blank - middle, 0)
    offset = np.zeros_like(blank)
    for margin in (*MARGINS, EDGE_MARGIN):
        mean, covariance, freedom = stats.covariance(blank + offset)
        space = signal_subspace(covariance, freedom, sigma, rank=rank, margin=margin)
        if margin != EDGE_MARGIN:
            offset = _offsets(stats, stats.column_means(), space, dead)
    return offset, space, mean


def _third(share: Array) -> float:
    """Return the share that ``SPECKLED_BANDS`` bands reach."""
    return float(np.sort(share)[-SPECKLED_BANDS:].min())


def _suspicion(stats: Statistics, dead: Array) -> Array:
    """Return the share of suspects in each band, leaving out columns that stand out as a whole."""
    count = stats.column_count[:, None]
    cells = (stats.suspects < 0.5 * np.maximum(count, 1)) & ~dead
    share: Array = (stats.suspects * cells).sum(0) / np.maximum((count * cells).sum(0), 1)
    return share


def _fit(
    stats: Statistics, begin: tuple[Array, Subspace], dead: Array, sigma: Array | None, *, rank: int, speckled: bool
) -> tuple[Array, Subspace, Array, Array, Array]:
    """Return offsets, subspace, mean, covariance and the impulses (pixel, band) of the kept sample."""
    offset, space = begin
    space = Subspace(space.sigma, space.basis[:, space.values[: space.rank] > MARGINS[0]], space.values)
    sample = np.concatenate(stats.sample)
    columns = np.concatenate(stats.columns)
    lost = dead[columns]
    mask = lost.copy()
    suspect = np.concatenate(stats.outliers) if speckled else None
    if suspect is not None:
        mask |= suspect & ~(stats.suspects >= 0.5 * np.maximum(stats.column_count, 1)[:, None])[columns]
    means = stats.column_means()
    despiked = stats.column_means(despiked=True) if speckled else means
    for margin in (*MARGINS, *[EDGE_MARGIN] * (ROUNDS - len(MARGINS))):
        mean = _mean(stats, means - offset, dead)
        weight = np.divide(1.0, space.sigma, out=np.zeros_like(space.sigma), where=space.sigma > 0)
        white = ((sample - offset[columns] - mean) * weight).astype(_precision(space))
        filled, mask = _fill(white, mask, space, lost, suspect)
        covariance = _covariance(filled, mask) * np.outer(space.sigma, space.sigma)
        space = signal_subspace(covariance, max(len(filled) - 1, 1), sigma, rank=rank, margin=margin)
        hits = mask & ~lost if suspect is None else mask & ~lost & suspect  # seen in space as well
        means = np.where(hits.mean(0) > SPECKLED / 3, despiked, stats.column_means())
        offset = _offsets(stats, means, space, dead)
    return offset, space, _mean(stats, means - offset, dead), covariance, hits


def _impulsive(hits: Array) -> bool:
    """Tell impulses of a detector from features of a scene: bands are hit independently of their neighbours."""
    share = hits.mean(0)
    pairs = (hits[:, 1:] & hits[:, :-1]).mean(0).sum()
    return bool(_third(share) > SPECKLED and pairs <= CLUSTERED * (share[1:] * share[:-1]).sum() + 1 / len(hits))


def _fill(white: Array, mask: Array, space: Subspace, lost: Array, suspect: Array | None) -> tuple[Array, Array]:
    """Return whitened spectra with masked samples predicted, and the mask after the residuals were looked at.

    An impulse stands out from its neighbours in space (``suspect``) and from its own spectrum.

    The fixed point is the conditional mean of a masked sample under the signal's own variances (lambda - 1): a
    component that is half noise is believed by half.
    """
    basis = space.basis.astype(white.dtype)
    belief = (1 - 1 / np.maximum(space.values[: space.rank], 1)).astype(white.dtype)
    # a sample that took part in its own prediction leaves a residual of variance 1 - h, one that did not 1 / (1 - h)
    unseen = np.sqrt(np.maximum(1 - np.square(basis) @ belief, 0.01))
    filled = _predict(white, mask, np.where(mask, 0, white), basis, belief)
    if suspect is None:
        return filled, mask
    for _ in range(LOOKS):
        residual = white - (filled @ basis * belief) @ basis.T
        size = np.abs(residual) * np.where(mask, unseen, 1 / unseen)
        beyond = size > IMPULSE
        mask = lost | (beyond & (suspect | (size > CERTAIN)) & ~_runs(beyond, residual))
        filled = _predict(white, mask, np.where(mask, filled, white), basis, belief)
    return filled, mask


def _predict(white: Array, mask: Array, filled: Array, basis: Array, belief: Array) -> Array:
    """Project pixels with masked samples again and again until each has settled; each pixel by itself."""
    rows = np.flatnonzero(mask.any(1))
    for _ in range(FILLS):
        part = filled[rows]
        better = np.where(mask[rows], (part @ basis * belief) @ basis.T, white[rows])
        filled[rows] = better
        rows = rows[np.abs(better - part).max(1, initial=0) > SETTLED]
    return filled


def _precision(space: Subspace) -> Any:
    """Return float32 unless the signal is so far above the noise that its rounding would show."""
    return np.float64 if space.values.max(initial=0) > 1e8 else np.float32


def _runs(found: Array, values: Array) -> Array:
    """Return samples in runs of three or more bands found with the same sign: a spectral feature."""
    sign = np.where(found, np.sign(values), 0).astype(np.int8)
    middle = np.zeros(found.shape, dtype=bool)
    middle[..., 1:-1] = (
        (sign[..., 1:-1] != 0) & (sign[..., :-2] == sign[..., 1:-1]) & (sign[..., 2:] == sign[..., 1:-1])
    )
    wide = middle.copy()
    wide[..., :-1] |= middle[..., 1:]
    wide[..., 1:] |= middle[..., :-1]
    return wide


def _covariance(filled: Array, mask: Array) -> Array:
    """Return the covariance of filled whitened spectra; a predicted sample brings back its missing noise."""
    n, bands = filled.shape
    total, second = np.zeros(bands), np.zeros((bands, bands))
    for a in range(0, n, gram.CHUNK):
        block = filled[a : a + gram.CHUNK].astype(np.float64)
        total += block.sum(0)
        second += block.T @ block
    mean = total / n
    second = (second - n * np.outer(mean, mean)) / max(n - 1, 1)
    second[np.diag_indices(bands)] += mask.mean(0)
    return second


def _mean(stats: Statistics, means: Array, dead: Array) -> Array:
    """Return the scene's mean spectrum from column means, without dead cells."""
    count = stats.column_count[:, None] * ~dead
    return np.where(count.sum(0) > 0, (means * count).sum(0) / np.maximum(count.sum(0), 1), stats.shift)


def _offsets(stats: Statistics, means: Array, space: Subspace, dead: Array) -> Array:
    """Return each cell's offset (column, band), input units, 0 where it is not significant.

    A column's mean spectrum is fitted by the subspace, leaving out the bands that stand out; what then stands out
    beyond the spread over all columns is the cell's own.
    """
    live = (space.sigma > 0) & ~dead & (stats.column_count[:, None] > 2)
    mean = _mean(stats, means, dead)
    weight = np.divide(1.0, space.sigma, out=np.zeros_like(space.sigma), where=space.sigma > 0)
    white = (means - mean) * weight
    basis, k = space.basis, space.rank
    use, found = live, np.zeros_like(live)
    products = (basis[:, :, None] * basis[:, None, :]).reshape(len(basis), k * k)
    any_live = live.any(0)
    spread = np.zeros(len(basis))
    grain = gram.GRAIN * np.abs(means).max(0)
    floor = 1 / np.sqrt(np.maximum(stats.column_count, 1))[:, None]
    for _ in range(ROUNDS):
        normal = (use.astype(np.float64) @ products).reshape(len(means), k, k)
        normal += 1e-12 * np.eye(k)  # keeps a column without usable bands solvable
        right = (white * use) @ basis
        residual = white - np.linalg.solve(normal, right[..., None])[..., 0] @ basis.T
        size = np.where(live, np.abs(residual), np.nan)
        spread[any_live] = gram.MAD_TO_SIGMA * np.nanmedian(size[:, any_live], axis=0)
        found = live & (np.abs(residual) > np.maximum(OFFSET * np.maximum(spread, floor), grain * weight))
        use = live & ~found
    scene = (found.sum(1) > SCENE * np.maximum(live.sum(1), 1))[:, None]
    return np.where(found & ~scene, residual * space.sigma, 0)
