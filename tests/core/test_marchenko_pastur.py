# SPDX-License-Identifier: Apache-2.0
"""Rank and noise level from eigenvalues: the law's own figures, then matrices of known rank."""

from __future__ import annotations

import numpy as np
import pytest

from pellucid.core.errors import UsageError
from pellucid.core.estimate import marchenko_pastur as mp

CORRECTED = ("exp2", "median")


def spectra(rows: int, columns: int, *, rank: int = 0, sigma: float = 1.0, batch: int = 100, seed: int = 0):
    """Return ascending eigenvalues of X X^T / q, with q and r, for signal of ``rank`` far above the noise."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((batch, rows, columns)) * sigma
    signal = 40 * sigma * rng.standard_normal((batch, rows, rank)) @ rng.standard_normal((batch, rank, columns))
    long, short = max(rows, columns), min(rows, columns)
    values = np.linalg.svd(noise + signal, compute_uv=False)[:, ::-1] ** 2 / long
    return values, np.full(batch, long), np.full(batch, short)


def test_the_median_of_the_square_law_is_known() -> None:
    assert mp.median(1.0) == pytest.approx(0.6528, abs=2e-3)  # Gavish & Donoho 2014: 4/sqrt(3)/sqrt(median) = 2.858
    assert 4 / np.sqrt(3) / np.sqrt(mp.median(1.0)) == pytest.approx(2.858, abs=3e-3)
    assert mp.median(0.0) == 1.0


@pytest.mark.parametrize("estimator", [*CORRECTED, "exp1"])
def test_pure_noise_has_rank_zero_and_its_own_level(estimator: str) -> None:
    rank, variance = mp.rank_and_variance(*spectra(64, 125, sigma=3.0), estimator)
    assert np.median(rank) == 0
    assert np.sqrt(np.median(variance)) == pytest.approx(3.0, rel=0.02)


@pytest.mark.parametrize("shape", [(64, 125), (125, 64), (68, 81)])
@pytest.mark.parametrize("estimator", CORRECTED)
def test_rank_and_level_of_a_noisy_matrix_are_found(estimator: str, shape: tuple[int, int]) -> None:
    rank, variance = mp.rank_and_variance(*spectra(*shape, rank=6), estimator)
    assert np.mean(rank == 6) > 0.75
    assert np.sqrt(np.median(variance)) == pytest.approx(1.0, rel=0.02)


def test_the_legacy_level_lacks_the_degrees_of_freedom_of_the_signal() -> None:
    data = spectra(64, 125, rank=15)
    (rank, full), (_, legacy) = (mp.rank_and_variance(*data, e) for e in ("exp2", "exp2-legacy"))
    assert np.sqrt(legacy / full) == pytest.approx(np.sqrt((125 - rank) / 125), rel=1e-9)
    assert np.sqrt(np.median(legacy)) < 0.96 < 0.98 < np.sqrt(np.median(full))


def test_exp1_is_biased_where_the_matrix_is_nearly_square() -> None:
    data = spectra(68, 81, rank=12)
    exp1, exp2 = (mp.rank_and_variance(*data, e)[0] for e in ("exp1", "exp2"))
    assert np.abs(exp2 - 12).mean() < np.abs(exp1 - 12).mean()


def test_a_known_level_only_counts_components() -> None:
    values, long, short = spectra(64, 125, rank=4, sigma=2.0)
    rank, variance = mp.rank_and_variance(values, long, short, variance=np.float64(4.0))
    assert np.mean(np.abs(rank - 4) <= 1) > 0.95 and np.all(variance == 4.0)


@pytest.mark.parametrize("estimator", mp.ESTIMATORS)
def test_no_noise_gives_level_zero(estimator: str) -> None:
    rank, variance = mp.rank_and_variance(np.zeros((2, 8)), [20, 20], [8, 0], estimator)
    assert variance.tolist() == [0, 0] and rank.tolist() == [0, 0]


@pytest.mark.parametrize("estimator", [*CORRECTED, "exp1"])
def test_leading_zeros_of_the_rank_are_no_noise(estimator: str) -> None:
    values, long, short = spectra(20, 50, batch=50)
    padded = np.concatenate([np.zeros((50, 30)), values], axis=1)
    plain, wide = (mp.rank_and_variance(v, long, short, estimator) for v in (values, padded))
    assert np.array_equal(plain[0], wide[0]) and np.allclose(plain[1], wide[1], rtol=1e-12)


def test_an_unknown_estimator_is_named() -> None:
    with pytest.raises(UsageError, match="exp3"):
        mp.rank_and_variance(np.ones((1, 4)), [4], [4], "exp3")


def test_shrinkage_has_least_error_of_the_three() -> None:
    rng = np.random.default_rng(1)
    n, m, sigma = 64, 125, 1.0
    left = np.linalg.qr(rng.standard_normal((n, 5)))[0]
    right = np.linalg.qr(rng.standard_normal((m, 5)))[0]
    signal = left @ np.diag(np.sqrt(m) * np.array([1.0, 1.2, 1.5, 2.0, 6.0])) @ right.T
    u, s, v = np.linalg.svd(signal + sigma * rng.standard_normal((n, m)), full_matrices=False)
    square = (s**2 / m)[None, ::-1]
    rank = mp.count_above(square, np.array([m]), np.array([n]), np.array([sigma**2]))
    errors = {}
    for kind in ("frobenius", "hard", "threshold"):
        factors = mp.shrinkage(square, rank, np.array([n / m]), kind)[0, ::-1]
        errors[kind] = np.linalg.norm(u * (s * factors) @ v - signal)
    errors["identity"], errors["zero"] = np.linalg.norm(u * s @ v - signal), np.linalg.norm(signal)
    assert min(errors, key=errors.get) == "frobenius"
    assert errors["frobenius"] < 0.5 * errors["identity"] and errors["frobenius"] < 0.8 * errors["zero"]
