# SPDX-License-Identifier: Apache-2.0
"""Rician and non-central chi moments against closed forms, quadrature and sampling."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, special

from pellucid.core.noise import rician

COILS = (1, 4, 16)


@pytest.mark.parametrize("coils", COILS)
def test_the_floor_is_that_of_a_chi_variable(coils: int) -> None:
    floor = np.sqrt(2) * special.gamma(coils + 0.5) / special.gamma(coils)
    assert rician.mean(0.0, 3.0, coils) == pytest.approx(3 * floor, rel=1e-12)
    assert rician.variance(0.0, 3.0, coils) == pytest.approx(9 * (2 * coils - floor**2), rel=1e-10)


@pytest.mark.parametrize("coils", COILS)
@pytest.mark.parametrize("theta", [0.3, 2.0, 6.0, 11.9, 30.0])
def test_the_mean_equals_the_integral_of_the_density(coils: int, theta: float) -> None:
    def weighted(m: float) -> float:  # m p(m), with the Bessel function scaled so that nothing overflows
        bessel = special.ive(coils - 1, m * theta)
        return m * m * (m / theta) ** (coils - 1) * np.exp(-((m - theta) ** 2) / 2) * bessel

    expected, _ = integrate.quad(weighted, 0, theta + 20, points=[theta], epsabs=0, epsrel=1e-10, limit=200)
    assert rician.mean(theta, 1.0, coils) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("coils", COILS)
def test_table_and_series_meet(coils: int) -> None:
    end = rician.TABLE_END * np.sqrt(coils)
    near, far = rician.normalised_mean(end * (1 - 1e-9), coils), rician.normalised_mean(end * (1 + 1e-9), coils)
    assert far == pytest.approx(near, rel=1e-7)


@pytest.mark.parametrize("coils", COILS)
def test_samples_have_the_promised_mean_and_variance(coils: int) -> None:
    drawn = rician.sample(np.full(200_000, 1.5), 0.7, np.random.default_rng(5), coils)
    error = drawn.std() / np.sqrt(drawn.size)
    assert drawn.mean() == pytest.approx(rician.mean(1.5, 0.7, coils), abs=4 * error)
    assert drawn.var() == pytest.approx(rician.variance(1.5, 0.7, coils), rel=4 * np.sqrt(2 / drawn.size))


@pytest.mark.parametrize("coils", COILS)
def test_the_inverse_undoes_the_mean(coils: int) -> None:
    signal = np.linspace(0, 60, 2001)
    assert np.abs(rician.unbiased(rician.mean(signal, 1.0, coils), 1.0, coils) - signal).max() < 1e-6


def test_the_inverse_is_zero_below_the_floor_and_never_nan() -> None:
    out = rician.unbiased(np.array([-1.0, 0.0, 1.2, 1e30]), 1.0)
    assert out[:3].tolist() == [0, 0, 0] and np.isfinite(out).all()
    assert rician.unbiased(np.array([2.0]), 0.0).tolist() == [2.0]


@pytest.mark.parametrize("coils", (1, 4))
@pytest.mark.parametrize("theta", [0.6, 2.0, 8.0, 50.0])
def test_koay_recovers_signal_and_sigma_from_two_moments(coils: int, theta: float) -> None:
    sigma = 2e-6  # no absolute threshold may hide in it
    mean, sd = rician.mean(theta * sigma, sigma, coils), np.sqrt(rician.variance(theta * sigma, sigma, coils))
    signal, found = rician.koay(mean, sd, coils)
    assert found == pytest.approx(sigma, rel=1e-3)
    assert signal == pytest.approx(theta * sigma, rel=5e-3)


def test_koay_of_pure_noise_has_no_signal() -> None:
    signal, sigma = rician.koay(np.sqrt(np.pi / 2), np.sqrt(2 - np.pi / 2))
    assert signal < 1e-5 and sigma == pytest.approx(1.0, rel=1e-6)


def test_channel_sigma_of_a_mixed_series_is_recovered() -> None:
    sigma = 0.05
    signal = np.linspace(0, 1, 40) * np.ones((3, 1))
    pooled = np.sqrt(rician.variance(signal, sigma).mean(axis=-1))
    found = rician.channel_sigma(rician.mean(signal, sigma), pooled)
    assert np.all(pooled < 0.99 * sigma)  # without the conversion the level is too low
    assert found == pytest.approx(np.full(3, sigma), rel=2e-3)
