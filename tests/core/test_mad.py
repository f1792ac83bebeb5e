# SPDX-License-Identifier: Apache-2.0
"""Noise estimators of single images and volumes: known noise, known bias, real cameras."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from pellucid.core.estimate.background import air_sigma, rician_sigma, tissue_sigma
from pellucid.core.estimate.mad import correlated_sigma, details, mad_sigma, supported
from pellucid.core.estimate.spectrum import noise_spectrum


def noise(shape, sigma=1.0, seed=0):
    return np.random.default_rng(seed).normal(0, sigma, shape)


def head(shape=(60, 64, 56)):
    """Return two smooth nested shells between 0 and 200, air outside."""
    axes = [(np.arange(n) + 0.5) / n * 2 - 1 for n in shape]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    radius = np.sqrt((x / 0.75) ** 2 + (y / 0.8) ** 2 + (z / 0.8) ** 2)

    def soft(d):
        return 1 / (1 + np.exp(np.clip(d / 0.04, -60, 60)))

    return (110 * soft(radius - 0.95) + 90 * soft(radius - 0.6 + 0.05 * np.sin(9 * np.arctan2(y, x)))) * (1 - 0.1 * z)


def magnitude(truth, sigma, seed=0, coils=1):
    n = np.random.default_rng(seed).normal(0, sigma, (2 * coils, *truth.shape))
    n[0] += truth
    return np.sqrt(np.sum(n**2, axis=0)).astype(np.float32)


@pytest.mark.parametrize("shape", [(300, 300), (40, 44, 48), (50_000,)])
@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_white_noise_is_measured_at_every_stride_and_scale(shape, stride, scale):
    assert mad_sigma(noise(shape, 3 * scale), len(shape), stride) == pytest.approx(3 * scale, rel=0.025)


def test_details_ignore_planes_and_keep_the_noise_power():
    y, x = np.mgrid[:40, :50]
    np.testing.assert_allclose(details(3 * x - 2 * y + 7.0, 2), 0, atol=1e-9)
    assert np.std(details(noise((400, 400)), 2)) == pytest.approx(1, rel=0.02)


def test_series_are_pooled():
    values = np.stack([noise((200, 200), 2, k) for k in range(3)], -1)
    assert mad_sigma(values, 2) == pytest.approx(2, rel=0.02)
    assert correlated_sigma(values, 2)[0] == pytest.approx(2, rel=0.03)


def test_excluded_samples_have_no_say():
    values, keep = noise((120, 130)), np.ones((120, 130), bool)
    keep[30:60, 40:90] = False
    spoilt = np.where(keep, values, 1e9)
    assert mad_sigma(spoilt, 2, keep=keep) == mad_sigma(np.where(keep, values, -5.0), 2, keep=keep)
    assert correlated_sigma(spoilt, 2, keep)[0] == correlated_sigma(np.where(keep, values, 0), 2, keep)[0]
    assert supported(keep).sum() == 117 * 127 - 33 * 53


@pytest.mark.parametrize("shape", [(64, 64), (2, 2), (1, 1, 1)])
def test_constant_or_tiny_input_has_no_noise(shape):
    assert mad_sigma(np.full(shape, 7.0), len(shape)) == 0.0
    assert correlated_sigma(np.full(shape, 7.0), len(shape)) == (0.0, 1)


@pytest.mark.parametrize("sigma", [10, 25, 50])
@pytest.mark.parametrize("name", ["bsds500_train/71046.jpg", "bsds500_train/97017.jpg", "kodak24_500/kodim23.png"])
def test_white_noise_on_photographs_is_measured_within_five_percent(shared_data, name, sigma):
    imagecodecs = pytest.importorskip("imagecodecs")
    picture = imagecodecs.imread(str(shared_data(f"natural/{name}"))).astype(float).mean(-1)
    found, stride = correlated_sigma(picture + noise(picture.shape, sigma), 2)
    assert stride == 1
    assert found == pytest.approx(sigma, rel=0.05)


def test_smoothed_noise_shows_at_a_wider_stride():
    smooth = ndimage.gaussian_filter(noise((512, 512)), 0.8)
    found, stride = correlated_sigma(smooth, 2)
    assert stride > 1
    assert found == pytest.approx(smooth.std(), rel=0.1)
    assert mad_sigma(smooth, 2) < 0.5 * smooth.std()


@pytest.mark.parametrize("name", ["bsds500_train/8143.jpg", "bsds500_train/94079.jpg", "bsds500_train/95006.jpg"])
def test_texture_is_not_taken_for_noise(shared_data, name):
    """Feathers, grass, leaves: their direction changes from block to block, that of noise does not."""
    imagecodecs = pytest.importorskip("imagecodecs")
    picture = imagecodecs.imread(str(shared_data(f"natural/{name}"))).astype(float)
    found, stride = correlated_sigma(picture, 2)
    assert stride == 1 and found < 5
    assert mad_sigma(picture, 2, 4) > 10  # what it was taken for
    smooth = ndimage.gaussian_filter(noise(picture.shape, 200.0), (1, 1, 0))
    assert correlated_sigma(picture + smooth, 2)[1] > 1


def test_real_cameras_are_measured_within_a_quarter(shared_data):
    """Noise that went through demosaicking and JPEG; the finest details alone miss most of it."""
    imagecodecs = pytest.importorskip("imagecodecs")
    ratios, fine = [], []
    folders = (("sidd_val", "_noisy", "_clean"), ("cc15", "_real", "_mean"))
    for folder, tag, clean in folders:
        for path in sorted(shared_data(f"natural/{folder}").glob(f"*{tag}*")):
            noisy = imagecodecs.imread(str(path)).astype(float)[..., :3]
            truth = imagecodecs.imread(str(path).replace(tag, clean)).astype(float)[..., :3]
            rms = np.sqrt(np.mean((noisy - truth) ** 2))
            found, stride = correlated_sigma(noisy, 2)
            assert stride == 4
            ratios.append(found / rms)
            fine.append(mad_sigma(noisy, 2) / rms)
    assert np.sum(np.abs(np.log(ratios)) < np.log(1.25)) >= len(ratios) - 1  # one picture is half clipped black
    assert np.median(fine) < 0.5


@pytest.mark.parametrize("percent", [1, 3, 5, 9])
@pytest.mark.parametrize("seed", [0, 1])
def test_rician_noise_is_measured_in_air_and_in_tissue(percent, seed):
    sigma, truth = percent * 2.0, head()
    volume = magnitude(truth, sigma, seed)
    found, report = rician_sigma(volume)
    assert report["used"] == "air" and not report["doubtful"]
    assert found == pytest.approx(sigma, rel=0.03)
    assert report["tissue"] == pytest.approx(sigma, rel=0.1)
    blanked = np.where(truth > 20, volume, 0)
    found, report = rician_sigma(blanked)
    assert report["used"] == "tissue" and report["zeros"] > 0.05
    assert found == pytest.approx(sigma, rel=0.1)


def test_low_signal_needs_the_rician_correction():
    volume = magnitude(np.full((40, 40, 40), 1.5), 1.0)
    assert tissue_sigma(volume, np.ones(volume.shape, bool)) == pytest.approx(1, rel=0.05)
    assert mad_sigma(volume, 3) < 0.9


def test_air_of_many_coils_or_no_air_is_not_believed():
    truth = head()
    everything = np.ones(truth.shape, bool)
    assert air_sigma(magnitude(truth, 5.0, coils=8), everything) == (0.0, 0.0)
    assert air_sigma(magnitude(truth + 100, 5.0), everything) == (0.0, 0.0)
    assert air_sigma(np.full(truth.shape, 3.0, np.float32), everything) == (0.0, 0.0)
    assert rician_sigma(magnitude(truth + 100, 5.0))[0] == pytest.approx(5, rel=0.1)


def test_an_empty_volume_has_no_noise():
    assert rician_sigma(np.zeros((20, 20, 20)))[0] == 0.0
    assert rician_sigma(np.full((20, 20, 20), 4.0))[0] == 0.0
    assert rician_sigma(np.full((20, 20, 20), np.nan), None)[1]["used"] == "none"


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_the_estimate_scales_with_the_volume(scale):
    volume = magnitude(head((40, 44, 36)), 8.0)
    assert rician_sigma(volume * np.float32(scale))[0] == pytest.approx(scale * rician_sigma(volume)[0], rel=1e-4)


def test_the_spectrum_of_filtered_noise_is_the_filter():
    """White noise through a known kernel: each coefficient's power is the kernel's autocorrelation, transformed."""
    kernel = np.array([0.25, 0.5, 0.25])
    smooth = ndimage.convolve1d(ndimage.convolve1d(noise((600, 600), 3.0), kernel, axis=0), kernel, axis=1)
    correlation = np.convolve(kernel, kernel)  # lags -2 ... 2
    lags = np.subtract.outer(np.arange(8), np.arange(8))
    covariance = np.where(np.abs(lags) <= 2, correlation[np.clip(lags + 2, 0, 4)], 0)
    basis = np.cos(np.pi * np.outer(np.arange(8), np.arange(8) + 0.5) / 8) * np.sqrt(2 / 8)
    basis[0] /= np.sqrt(2)
    power = np.einsum("ki,ij,kj->k", basis, covariance, basis)
    np.testing.assert_allclose(noise_spectrum(smooth)[0], 3 * np.sqrt(np.outer(power, power)), rtol=0.06)
    assert noise_spectrum(np.stack([smooth] * 3, -1)).shape == (3, 8, 8)
