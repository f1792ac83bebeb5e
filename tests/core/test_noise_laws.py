# SPDX-License-Identifier: Apache-2.0
"""Noise laws against their own samples and against closed forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pellucid.core.noise import gaussian, patterns, poisson_gaussian, speckle

COUNT = 400_000
LAWS: list[tuple[Any, float, tuple[float, ...]]] = [
    (gaussian, 3.0, (0.7,)),
    (poisson_gaussian, 0.5, (1.7, 2.0)),
    (poisson_gaussian, 40.0, (1.7, 12.0)),
    (speckle, 5.0, (1.0,)),
    (speckle, 5.0, (4.0,)),
]


@pytest.mark.parametrize(("law", "signal", "parameters"), LAWS)
def test_moments_are_those_of_the_samples(law: Any, signal: float, parameters: tuple[float, ...]) -> None:
    drawn = law.sample(np.full(COUNT, signal), *parameters, np.random.default_rng(0))
    variance = float(np.mean(law.variance(np.full(1, signal), *parameters)))
    assert drawn.mean() == pytest.approx(
        float(np.mean(law.mean(signal, *parameters))), abs=5 * (variance / COUNT) ** 0.5
    )
    assert drawn.var() == pytest.approx(variance, rel=0.02)


@pytest.mark.parametrize(("law", "signal", "parameters"), LAWS)
def test_stabilised_noise_is_about_unit(law: Any, signal: float, parameters: tuple[float, ...]) -> None:
    drawn = law.sample(np.full(COUNT, signal), *parameters, np.random.default_rng(1))
    low_counts = law is poisson_gaussian and signal < 1
    assert law.stabilise(drawn, *parameters).std() == pytest.approx(1.0, rel=0.12 if low_counts else 0.03)


@pytest.mark.parametrize("gain", [0.3, 1.0, 5.0])
@pytest.mark.parametrize("read", [0.0, 0.8, 10.0])
def test_poisson_gaussian_inverse_has_no_bias_at_any_level(gain: float, read: float) -> None:
    """The mean of the stabilised samples, inverted, is the signal: within .05 of the noise."""
    rng = np.random.default_rng(2)
    for electrons in (0.0, 0.2, 1.0, 5.0, 30.0, 300.0, 3000.0):
        signal = gain * electrons
        drawn = poisson_gaussian.sample(np.full(COUNT, signal), gain, read, rng)
        back = float(poisson_gaussian.unbiased(poisson_gaussian.stabilise(drawn, gain, read).mean(), gain, read))
        sd = float(poisson_gaussian.variance(signal, gain, read)) ** 0.5
        assert abs(back - signal) <= 0.05 * max(sd, gain * 0.2), electrons


def test_the_algebraic_inverse_would_fail_that_test() -> None:
    drawn = poisson_gaussian.sample(np.full(COUNT, 1.0), 1.0, 0.0, np.random.default_rng(3))
    naive = (poisson_gaussian.stabilise(drawn, 1.0, 0.0).mean() / 2) ** 2 - 0.375
    assert abs(naive - 1.0) > 0.1


def test_one_look_speckle_has_the_known_log_deviation() -> None:
    assert speckle.log_sd(1.0) == pytest.approx(np.pi / 6**0.5)


def test_speckle_inverse_is_unbiased_for_the_logarithm() -> None:
    drawn = speckle.sample(np.full(COUNT, 7.0), 3.0, np.random.default_rng(4))
    assert float(speckle.unbiased(speckle.stabilise(drawn, 3.0).mean(), 3.0)) == pytest.approx(7.0, rel=0.01)


def test_complex_noise_counts_per_channel() -> None:
    drawn = gaussian.sample(np.zeros(COUNT, complex), 2.0, np.random.default_rng(5))
    assert drawn.real.std() == pytest.approx(2.0, rel=0.01) and drawn.imag.std() == pytest.approx(2.0, rel=0.01)


def test_patterns_have_their_moments_and_touch_only_what_they_mark() -> None:
    rng = np.random.default_rng(6)
    flat = np.full((40, 20_000), 3.0)
    striped = patterns.stripes(flat, 0.3, 0.5, rng)
    assert striped.var() == pytest.approx(patterns.stripe_variance(0.3, 0.5), rel=0.05)
    assert np.ptp(striped, axis=0).max() == 0
    dead, hit = patterns.dead_lines(flat, 0.1, 0.0, rng)
    assert (dead[:, hit] == 0).all() and (dead[:, ~hit] == 3).all()
    spoiled, where = patterns.impulses(flat, 0.2, 0.0, 10.0, rng)
    assert (spoiled[~where] == 3).all() and set(np.unique(spoiled[where])) == {0.0, 10.0}
    assert spoiled.mean() == pytest.approx(float(patterns.impulse_mean(3.0, 0.2, 0, 10)), rel=0.01)
    assert spoiled.var() == pytest.approx(float(patterns.impulse_variance(3.0, 0.2, 0, 10)), rel=0.01)
