# SPDX-License-Identifier: Apache-2.0
"""The MRI phantoms: figures of record, and a noise that is what it claims."""

from __future__ import annotations

import numpy as np
import pytest

from pellucid.core.errors import UsageError
from pellucid.core.noise import rician
from pellucid.domains.mri import phantom

SMALL = (32, 32, 16)


def test_the_diffusion_phantom_has_its_figures_of_record() -> None:
    made = phantom.dwi(0)
    truth = made.truth.astype(np.float64)
    assert made.truth.shape == made.noisy.shape == (64, 64, 30, 64)
    assert truth.max() == pytest.approx(2.04024, abs=1e-5)
    assert truth[made.mask].mean() == pytest.approx(0.374025, abs=1e-6)
    assert made.mask.mean() == pytest.approx(0.3806, abs=1e-4)
    error = np.sqrt(np.mean((made.noisy - truth)[made.mask] ** 2))
    assert error == pytest.approx(0.0499450, abs=1e-7)


def test_directions_are_unit_vectors_and_shells_of_thirty() -> None:
    bvals, bvecs = phantom.gradients()
    assert bvals.tolist() == [0.0] * 4 + [1000.0] * 30 + [2000.0] * 30
    assert np.linalg.norm(bvecs[4:], axis=1) == pytest.approx(np.ones(60))
    assert not bvecs[:4].any() and bvecs[4:34, 1] == pytest.approx(bvecs[34:, 0])


@pytest.mark.parametrize("case", phantom.CASES)
def test_every_case_says_what_noise_it_holds(case: str) -> None:
    made = phantom.simulate(3, case, 24)
    assert made.noisy.dtype == made.truth.dtype == np.float32
    assert made.description.shape == made.noisy.shape == made.truth.shape
    assert made.noisy.shape[:3] == (24, 24, 12)
    expected = rician.mean(made.truth, made.noise.sigma, made.noise.params["coils"])
    residual = made.noisy - expected
    assert abs(residual.mean()) < 4 * residual.std() / np.sqrt(residual.size)
    sd = np.sqrt(rician.variance(made.truth, made.noise.sigma, made.noise.params["coils"]).mean())
    assert residual.std() == pytest.approx(sd, rel=0.02)


def test_the_same_seed_gives_the_same_noise_and_another_does_not() -> None:
    one, again, other = (phantom.dwi(s, shape=SMALL).noisy for s in (5, 5, 6))
    assert np.array_equal(one, again) and not np.array_equal(one, other)


def test_without_noise_the_measurement_is_the_truth() -> None:
    for made in (phantom.dwi(shape=SMALL, noise=False), phantom.t1(shape=SMALL, noise=False)):
        assert np.array_equal(made.noisy, made.truth)


def test_an_unknown_case_is_named_with_the_choices() -> None:
    with pytest.raises(UsageError, match="dwi-4coil"):
        phantom.simulate(0, "ct")
