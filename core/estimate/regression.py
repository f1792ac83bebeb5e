# SPDX-License-Identifier: Apache-2.0
"""Noise of every band from the covariance alone: each band regressed on all others.

Roger & Arnold, Int. J. Remote Sensing 17 (1996) 1951, DOI 10.1080/01431169608948750; the same regression opens
HySime, Bioucas-Dias & Nascimento, IEEE TGRS 46 (2008) 2435, DOI 10.1109/TGRS.2008.918089. The residual variance
of the regression of band b on the others is 1 / (C^-1)_bb, so the data need not be seen again. The rank of the
signal is the number of eigenvalues of the whitened covariance above the Marchenko-Pastur edge
(Math. USSR Sb. 1 (1967) 457).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pellucid.core.lazy import np

if TYPE_CHECKING:
    from pellucid.core.types import Array

REFINEMENTS = 3  # rounds of "rank, then noise outside the signal": the fourth changes sigma by < 1e-4
EDGE_MARGIN = 1.02  # on the Marchenko-Pastur edge: the largest noise eigenvalue fluctuates by n^(-2/3)
PIXELS_PER_BAND = 3  # fewer pixels than this per band make (n - B) of the regression unstable


@dataclass(frozen=True)
class Subspace:
    """Signal subspace of whitened spectra.

    Parameters
    ----------
    sigma : array (band,), input units
        Noise standard deviation; 0 for a band that does not vary.
    basis : array (band, k)
        Orthonormal columns, strongest first, in units of ``spectrum / sigma``.
    values : array (band,)
        All eigenvalues of the whitened covariance, descending; 1 is noise.
    """

    sigma: Array
    basis: Array
    values: Array

    @property
    def rank(self) -> int:
        """Number of signal components."""
        return int(self.basis.shape[1])


def edge(count: float, bands: int) -> float:
    """Return the eigenvalue that white noise of unit variance does not exceed.

    Parameters
    ----------
    count : float
        Degrees of freedom of the covariance (pixels - 1).
    bands : int
        Its order.
    """
    return float((1 + np.sqrt(bands / max(count, 1.0))) ** 2)


def regression_sigma(covariance: Array, count: float) -> Array:
    """Return each band's noise from the regression on all others.

    Parameters
    ----------
    covariance : array (band, band), float64
        Sample covariance, divisor ``count``.
    count : float
        Degrees of freedom of the covariance.

    Returns
    -------
    array (band,), input units
        sqrt(n / (n - B + 1) / (C^-1)_bb); 0 for bands without variance. With fewer than
        ``PIXELS_PER_BAND * band`` degrees of freedom the covariance is first drawn towards its diagonal.

    Examples
    --------
    >>> import numpy as np
    >>> signal = np.outer([1, 2, 3, 4], [1, 2, 3, 4])
    >>> regression_sigma(signal + 0.25 * np.eye(4), 1e9).round(2)
    array([0.5 , 0.51, 0.53, 0.58])
    """
    scale = np.sqrt(np.clip(np.diag(covariance), 0, None))
    live = scale > 0
    sigma = np.zeros(len(scale))
    bands = int(live.sum())
    if bands == 0:
        return sigma
    correlation = covariance[np.ix_(live, live)] / np.outer(scale[live], scale[live])
    if count < PIXELS_PER_BAND * bands:
        share = min(1.0, bands / (PIXELS_PER_BAND * max(count, 1.0)))  # none at 3 B^..., all below B / 3
        correlation = (1 - share) * correlation + share * np.eye(bands)
        freedom = 1.0
    else:
        freedom = count / (count - bands + 1)
    values, vectors = np.linalg.eigh(correlation)
    floor = bands * np.finfo(np.float64).eps * values[-1]  # what rounding of the Gram leaves
    inverse = np.einsum("bi,bi,i->b", vectors, vectors, 1 / np.maximum(values, floor))
    sigma[live] = scale[live] * np.sqrt(np.minimum(freedom / inverse, 1.0))
    return sigma


def signal_subspace(
    covariance: Array, count: float, sigma: Array | None = None, *, rank: int = 0, margin: float = EDGE_MARGIN
) -> Subspace:
    """Return noise per band and the signal subspace of a covariance.

    Parameters
    ----------
    covariance : array (band, band), float64
        Sample covariance, divisor ``count``.
    count : float
        Degrees of freedom of the covariance.
    sigma : array (band,), optional
        Noise where it is known; otherwise found by regression and refined outside the signal:
        sigma_b^2 <- sigma_b^2 (C~_bb - sum_k lambda_k U_bk^2) / (1 - sum_k U_bk^2).
    rank : int
        Number of components; 0 takes those above the edge.

    Examples
    --------
    >>> import numpy as np
    >>> space = signal_subspace(np.diag([9.0, 1, 1, 1]), 1e6, np.ones(4))
    >>> space.rank, abs(space.basis[:, 0]).tolist()
    (1, [1.0, 0.0, 0.0, 0.0])
    """
    known = sigma is not None
    sigma = np.array(regression_sigma(covariance, count) if sigma is None else sigma, dtype=np.float64)
    for _ in range(0 if known else REFINEMENTS):
        space = _decompose(covariance, count, sigma, rank, margin)
        sigma = _outside(covariance, space)
    return _decompose(covariance, count, sigma, rank, margin)


def _decompose(covariance: Array, count: float, sigma: Array, rank: int, margin: float) -> Subspace:
    live = np.flatnonzero(sigma > 0)
    white = covariance[np.ix_(live, live)] / np.outer(sigma[live], sigma[live])
    values, vectors = np.linalg.eigh(white)
    values, vectors = values[::-1], vectors[:, ::-1]
    k = rank or int((values > margin * edge(count, len(live))).sum())
    k = min(k, max(len(live) - 1, 0), max(int(count), 0))
    basis = np.zeros((len(sigma), k))
    basis[live] = vectors[:, :k]
    return Subspace(sigma, basis, values)


def _outside(covariance: Array, space: Subspace) -> Array:
    """Return the noise seen in the complement of the signal."""
    signal = space.basis**2
    variance = np.diag(covariance)
    explained = space.sigma**2 * (signal @ space.values[: space.rank])
    # a band that is almost alone in the signal leaves nothing outside: keep its regression
    free = 1 - signal.sum(1)
    left = np.clip(variance - explained, 0, None)
    ratio = left / np.maximum(free, 0.05)
    return np.where((free > 0.05) & (ratio > 0), np.sqrt(ratio), space.sigma)
