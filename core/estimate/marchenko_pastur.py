# SPDX-License-Identifier: Apache-2.0
"""Noise level and rank from the eigenvalues of a matrix of signal plus white noise.

A matrix X with short side r and long side q holds P components of signal; the other k = r - P eigenvalues
of X X^H / q follow the Marchenko-Pastur law of variance sigma^2. Eigenvalues come in ascending order.

The estimators "exp1" and "exp2" are covered by US patent 10,698,065 (Novikov, Veraart, Fieremans); "median"
and a known noise level are not.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from pellucid.core.errors import UsageError
from pellucid.core.lazy import np

if TYPE_CHECKING:
    from pellucid.core.types import Array

ESTIMATORS = ("exp2", "exp1", "exp2-legacy", "exp1-legacy", "median")
MEDIAN_ROUNDS = 3  # rank and median settle in two; the third changes one patch in a thousand
TABLE_POINTS = 101  # of the median of the law over beta; smooth, so linear interpolation holds 1e-4
QUADRATURE = 4000


def rank_and_variance(
    eigenvalues: Array, long: Array, short: Array, estimator: str = "exp2", *, variance: Array | None = None
) -> tuple[Array, Array]:
    """Return the number of signal components and the noise variance of each matrix of a batch.

    Parameters
    ----------
    eigenvalues : array (batch, R), float64
        Ascending eigenvalues of X X^H / q; where ``short`` < R the leading R - short are zeros of the rank.
    long, short : array (batch,)
        q and r of each matrix.
    estimator : {"exp2", "exp1", "exp2-legacy", "exp1-legacy", "median"}
        exp1: Veraart 2016, doi:10.1016/j.neuroimage.2016.08.016; exp2: Cordero-Grande 2019,
        doi:10.1016/j.neuroimage.2019.06.039, better where the matrix is nearly square; both with the
        variance corrected for the degrees of freedom the signal took. The legacy forms
        leave that correction out. median: Gavish & Donoho 2014, doi:10.1109/TIT.2014.2323359.
    variance : array (batch,), optional
        Known noise variance: only the rank is counted.

    Returns
    -------
    rank : array (batch,), int
    variance : array (batch,)
        0 where nothing can be said: the matrix has no noise, or the estimate is not finite.
    """
    long, short = np.asarray(long, dtype=np.float64), np.asarray(short, dtype=np.int64)
    eigenvalues = np.maximum(eigenvalues, 0.0)
    if variance is not None:
        variance = np.broadcast_to(np.asarray(variance, dtype=np.float64), short.shape)
        return count_above(eigenvalues, long, short, variance), variance
    if estimator == "median":
        return _by_median(eigenvalues, long, short)
    if estimator not in ESTIMATORS:
        raise UsageError(f"unknown noise estimator {estimator!r}", hint=f"choose one of {', '.join(ESTIMATORS)}")
    return _by_extent(eigenvalues, long, short, estimator)


def count_above(eigenvalues: Array, long: Array, short: Array, variance: Array) -> Array:
    """Return how many eigenvalues lie above the edge of the law, sigma^2 (1 + sqrt(r/q))^2."""
    edge = variance * (1 + np.sqrt(short / long)) ** 2
    rank = np.count_nonzero(eigenvalues > edge[:, None], axis=1)
    return np.minimum(rank, np.maximum(short - 1, 0))


def shrinkage(square: Array, rank: Array, beta: Array, kind: str = "frobenius") -> Array:
    """Return what each component is multiplied with, (batch, R); zero for dropped ones, which come first.

    Parameters
    ----------
    square : array (batch, R)
        y^2 = eigenvalue / sigma^2, ascending.
    rank : array (batch,)
        Number of components kept by ``"hard"``.
    beta : array (batch,)
        r / q.
    kind : {"frobenius", "hard", "threshold"}
        frobenius: sqrt((y^2 - beta - 1)^2 - 4 beta) / y^2 above the edge y = 1 + sqrt(beta), the least mean
        squared error (Gavish & Donoho 2017, doi:10.1109/TIT.2017.2653801, eq. 7). threshold: 1 above
        y^2 = 2 (beta + 1) + 8 beta / (beta + 1 + sqrt(beta^2 + 14 beta + 1)) (Gavish & Donoho 2014, eq. 11).

    Examples
    --------
    >>> import numpy as np
    >>> from pellucid.core.estimate.marchenko_pastur import shrinkage
    >>> shrinkage(np.array([[3.0, 100.0]]), np.array([1]), np.array([1.0])).round(4).tolist()
    [[0.0, 0.9798]]
    """
    beta = np.asarray(beta, dtype=np.float64)[:, None]
    if kind == "hard":
        return (np.arange(square.shape[1]) >= square.shape[1] - rank[:, None]).astype(np.float64)
    if kind == "threshold":
        least = 2 * (beta + 1) + 8 * beta / (beta + 1 + np.sqrt(beta**2 + 14 * beta + 1))
        return (square > least).astype(np.float64)
    above = square > (1 + np.sqrt(beta)) ** 2
    safe = np.where(above, square, 9.0)
    return np.where(above, np.sqrt(np.maximum((safe - beta - 1) ** 2 - 4 * beta, 0)) / safe, 0.0)


def median(beta: Array) -> Array:
    """Return the median of the Marchenko-Pastur law of unit variance, 0 < beta = r/q <= 1."""
    grid, values = _median_table()
    return np.interp(beta, grid, values)


def _by_extent(eigenvalues: Array, long: Array, short: Array, estimator: str) -> tuple[Array, Array]:
    """Take the largest k whose eigenvalues spread no wider than the law allows for their mean.

    (lambda_{k-1} - lambda_0) / (4 sqrt(gamma_k)) < mean of the k smallest; gamma_k = k/q (exp1) or k/(q-P).
    """
    columns = eigenvalues.shape[1]
    k = np.arange(1, columns + 1) - (columns - short)[:, None]  # components counted as noise, per column
    counted = np.where(k > 0, k, 1)
    signal = short[:, None] - counted  # P
    left = long[:, None] - signal  # q - P, degrees of freedom left to the noise
    sums = np.cumsum(np.where(k > 0, eigenvalues, 0.0), axis=1)
    means = sums / counted
    gamma = counted / (long[:, None] if estimator.startswith("exp1") else left)
    smallest = np.take_along_axis(eigenvalues, np.minimum(columns - short, columns - 1)[:, None], axis=1)
    passes = (k > 0) & (eigenvalues - smallest < 4 * np.sqrt(gamma) * means)
    last = columns - 1 - np.argmax(passes[:, ::-1], axis=1)
    rows = np.arange(len(short))
    found = passes[rows, last]
    value = means[rows, last]
    if not estimator.endswith("-legacy"):  # the noise eigenvalues hold sigma^2 k (q - P) / q in the mean
        value = value * long / np.maximum(left[rows, last], 1.0)
    return np.where(found, signal[rows, last], 0), np.where(found, value, 0.0)


def _by_median(eigenvalues: Array, long: Array, short: Array) -> tuple[Array, Array]:
    """Divide the median of the noise eigenvalues by that of the law, with the signal's share removed.

    With P components gone the rest is a noise matrix of r - P by q - P, whose eigenvalues, normalised by
    q, have the law of beta = (r-P)/(q-P) scaled by sigma^2 (q-P)/q.
    """
    columns = eigenvalues.shape[1]
    rank = np.zeros(len(short), dtype=np.int64)
    variance = np.zeros(len(short))
    for _ in range(MEDIAN_ROUNDS):
        kept, left = np.maximum(short - rank, 1), np.maximum(long - rank, 1.0)
        first = columns - short
        low, high = first + (kept - 1) // 2, first + kept // 2
        pair = np.take_along_axis(eigenvalues, np.minimum(np.stack([low, high], axis=1), columns - 1), axis=1)
        variance = pair.mean(axis=1) * long / left / median(np.minimum(kept / left, 1.0))
        rank = count_above(eigenvalues, long, short, variance)
    good = np.isfinite(variance) & (short > 0)
    return np.where(good, rank, 0), np.where(good, variance, 0.0)


@lru_cache(maxsize=1)
def _median_table() -> tuple[Array, Array]:
    """Return beta and the median of the law, by quadrature in an angle that lifts both square-root edges."""
    grid = np.linspace(0.0, 1.0, TABLE_POINTS)
    values = np.ones(TABLE_POINTS)
    angle = (np.arange(QUADRATURE) + 0.5) / QUADRATURE * np.pi
    for i, beta in enumerate(grid[1:], start=1):
        x = 1 + beta - 2 * np.sqrt(beta) * np.cos(angle)  # from (1 - sqrt beta)^2 to (1 + sqrt beta)^2
        mass = np.cumsum(np.sin(angle) ** 2 / x)  # density dx up to a constant
        values[i] = np.interp(0.5 * mass[-1], mass, x)
    return grid, values
