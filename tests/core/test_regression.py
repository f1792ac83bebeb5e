# SPDX-License-Identifier: Apache-2.0
"""Noise by regression and the signal subspace, against closed forms."""

import numpy as np
import pytest

from pellucid.core.estimate import regression


def cube(pixels=20_000, bands=40, rank=3, seed=0):
    """Return spectra (pixel, band) of known noise and rank."""
    rng = np.random.default_rng(seed)
    sigma = rng.uniform(0.02, 0.2, bands)
    signal = rng.standard_normal((pixels, rank)) @ rng.uniform(0, 1, (rank, bands))
    return signal + sigma * rng.standard_normal((pixels, bands)), sigma


def space_of(values, **options):
    """Return the subspace of spectra."""
    return regression.signal_subspace(np.cov(values.T), len(values) - 1, **options)


def test_uncorrelated_bands_have_their_own_deviation_as_noise():
    found = regression.regression_sigma(np.diag([1.0, 4.0, 9.0]), 1e9)
    np.testing.assert_allclose(found, [1, 2, 3], rtol=1e-6)


def test_noise_and_rank_of_a_mixture_are_found():
    values, sigma = cube()
    space = space_of(values)
    assert space.rank == 3
    np.testing.assert_allclose(space.sigma, sigma, rtol=0.1)
    assert np.median(np.abs(space.sigma / sigma - 1)) < 0.01


def test_noise_a_million_times_weaker_than_the_signal_is_found():
    rng = np.random.default_rng(1)
    values = rng.standard_normal((5000, 4)) @ rng.uniform(0, 1, (4, 30)) + 1e-6 * rng.standard_normal((5000, 30))
    space = space_of(values)
    assert space.rank == 4
    assert np.median(space.sigma) == pytest.approx(1e-6, rel=0.05)


def test_pure_noise_has_no_signal():
    values = np.random.default_rng(2).standard_normal((5000, 50))
    assert space_of(values).rank == 0


def test_a_constant_band_has_no_noise_and_no_part_in_the_signal():
    values, _ = cube(bands=12)
    values[:, 5] = 7.0
    space = space_of(values)
    assert space.sigma[5] == 0
    assert not space.basis[5].any()


def test_scaling_the_data_scales_the_noise():
    values, _ = cube(pixels=3000)
    small, large = space_of(values * 1e-6), space_of(values * 1e6)
    np.testing.assert_allclose(large.sigma, small.sigma * 1e12, rtol=1e-6)
    assert large.rank == small.rank


def test_given_noise_and_rank_are_used_as_they_are():
    values, sigma = cube(pixels=3000)
    space = space_of(values, sigma=sigma, rank=7)
    np.testing.assert_array_equal(space.sigma, sigma)
    assert space.rank == 7


def test_fewer_pixels_than_bands_still_give_finite_noise():
    values, sigma = cube(pixels=30)
    space = space_of(values)
    assert np.isfinite(space.sigma).all()
    assert 0.1 < np.median(space.sigma / sigma) < 20
