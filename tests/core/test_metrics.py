# SPDX-License-Identifier: Apache-2.0
"""Figures of merit: closed forms, and what the residual of good and bad denoisers looks like."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from pellucid.core import metrics

NOISE = np.random.default_rng(0).standard_normal((128, 96))


def test_psnr_of_a_constant_error_is_its_level():
    assert metrics.psnr(np.zeros((9, 9)), np.full((9, 9), 0.01)) == pytest.approx(40.0)
    assert metrics.psnr(np.zeros(9), np.full(9, 25.5), data_range=255) == pytest.approx(20.0)
    assert metrics.psnr(NOISE, NOISE) == np.inf


def test_integers_do_not_wrap_around():
    assert metrics.mse(np.uint8([0, 255]), np.uint8([255, 0])) == 255**2


def test_complex_errors_count_by_their_modulus():
    assert metrics.mse(np.zeros(4, complex), np.full(4, 3 + 4j)) == pytest.approx(25.0)


def test_the_mask_leaves_samples_out():
    mask = np.arange(10) < 5
    assert metrics.psnr(np.zeros(10), np.where(mask, 0.1, 9.0), mask=mask) == pytest.approx(20.0)


def test_nrmse_of_zero_is_one():
    assert metrics.nrmse(NOISE, 0 * NOISE) == pytest.approx(1.0)
    assert metrics.nrmse(NOISE, 1.1 * NOISE) == pytest.approx(0.1)
    assert metrics.nrmse(0 * NOISE, 0 * NOISE) == 0.0


def test_ssim_of_constants_is_the_luminance_term():
    # eq. 13 without variance: (2 a b + C1) / (a^2 + b^2 + C1)
    a, b, c1 = 0.5, 0.7, 1e-4
    expected = (2 * a * b + c1) / (a * a + b * b + c1)
    assert metrics.ssim(np.full((40, 40), a), np.full((40, 40), b)) == pytest.approx(expected)


def test_ssim_of_a_negative_is_negative_and_of_itself_one():
    up, down = 0.5 + 0.1 * NOISE, 0.5 - 0.1 * NOISE
    assert metrics.ssim(up, up) == pytest.approx(1.0)
    assert metrics.ssim(up, down) < -0.8


def test_ssim_of_a_series_is_the_mean_over_it():
    clean = np.stack([0.1 * NOISE + 0.5, 0.2 * NOISE + 0.5], axis=-1)
    noisy = clean + 0.1 * np.random.default_rng(1).standard_normal(clean.shape)
    apart = [metrics.ssim(clean[..., i], noisy[..., i]) for i in range(2)]
    assert metrics.ssim(clean, noisy) == pytest.approx(np.mean(apart))


def test_ssim_equals_the_direct_sum_over_one_window():
    rng = np.random.default_rng(2)
    x, y = rng.random((11, 11)), rng.random((11, 11))
    at = np.arange(-5, 6)
    w = np.exp(-(at**2) / 4.5)
    w = np.outer(w, w) / w.sum() ** 2
    ux, uy = (w * x).sum(), (w * y).sum()
    vx, vy, vxy = (w * x * x).sum() - ux**2, (w * y * y).sum() - uy**2, (w * x * y).sum() - ux * uy
    expected = (2 * ux * uy + 1e-4) * (2 * vxy + 9e-4) / ((ux**2 + uy**2 + 1e-4) * (vx + vy + 9e-4))
    assert metrics.ssim(x, y) == pytest.approx(expected)


def test_white_noise_removed_has_no_neighbours():
    found = metrics.residual(NOISE, 0 * NOISE, spatial=2)
    assert found["sd"] == pytest.approx(1.0, abs=0.02) and abs(found["mean"]) < 0.02
    assert abs(found["correlation_0"]) < 0.03 and abs(found["correlation_1"]) < 0.03


def test_a_blur_shows_its_edges_and_neighbours():
    square = np.zeros((64, 64))
    square[16:48, 16:48] = 1
    noisy = square + 0.02 * np.random.default_rng(0).standard_normal(square.shape)
    blurred = metrics.residual(noisy, gaussian_filter(noisy, 1.5), spatial=2)
    good = metrics.residual(noisy, square, spatial=2)
    assert blurred["edge"] > 0.5 > 0.1 > abs(good["edge"])
    assert blurred["correlation_0"] > 0.3 and abs(good["correlation_0"]) < 0.05


def test_the_residual_of_correlated_noise_says_so():
    smooth = gaussian_filter(NOISE, (0, 1.0))
    found = metrics.residual(smooth, 0 * smooth, spatial=2)
    assert found["correlation_1"] == pytest.approx(np.exp(-1 / 4), abs=0.03)  # of a Gaussian of sd 1
    assert abs(found["correlation_0"]) < 0.1


def test_nothing_removed_gives_zeros_and_no_warning():
    assert set(metrics.residual(NOISE, NOISE, spatial=2).values()) == {0.0}
    assert metrics.residual(NOISE + 1j, NOISE + 0j, spatial=2)["sd"] == pytest.approx(0.5)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="shapes differ"):
        metrics.psnr(np.zeros(3), np.zeros(4))
