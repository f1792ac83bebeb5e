# SPDX-License-Identifier: Apache-2.0
"""Non-local means: exactness, symmetries, unbiasedness and quality."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from pellucid.core.estimate.spectrum import noise_spectrum
from pellucid.core.methods import nlm
from pellucid.core.transforms import fill, lattice, odct
from pellucid.core.types import Noise, Plan, Tile


def denoise(values, sigma, law="gaussian", *, spatial=None, mask=None, params=None, **options):
    noise = Noise(law, sigma, params=params or {})
    tile = Tile.whole(values, spatial=spatial, mask=mask)
    return nlm.run(tile, noise, Plan("nlm", nlm.Options(**options)), np.random.default_rng(0)).values


def psnr(estimate, truth, peak=1.0):
    return 10 * np.log10(peak**2 / np.mean((np.asarray(estimate, np.float64) - truth) ** 2))


def head(shape=(40, 44, 36)):
    """Return nested smooth shells with folds: a head-like volume between 0 and 1, air outside."""
    axes = [(np.arange(n) + 0.5) / n * 2 - 1 for n in shape]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    radius = np.sqrt((x / 0.85) ** 2 + (y / 0.9) ** 2 + (z / 0.9) ** 2)
    fold = 0.08 * np.sin(9 * np.arctan2(y, x)) * np.cos(3 * z)

    def soft(d):
        return 1 / (1 + np.exp(np.clip(d / 0.04, -60, 60)))

    brain, white = soft(radius - 0.95), soft(radius - 0.65 + fold)
    return (0.5 * brain + 0.4 * white) * (1 - 0.2 * x)


def rician(truth, sigma, seed=0):
    n = np.random.default_rng(seed).standard_normal((2, *truth.shape)) * sigma
    return np.hypot(truth + n[0], n[1]).astype(np.float32)


@pytest.fixture(scope="module")
def picture():
    """Return a 160 x 160 picture with edges, shading and texture."""
    y, x = np.mgrid[:160, :160] / 160
    disc = ((x - 0.45) ** 2 + (y - 0.5) ** 2 < 0.1).astype(float)
    texture = 0.1 * np.sin(70 * x + 30 * y) * (y > 0.6)
    bars = 0.25 * ((np.floor(x * 16) % 2) * (y < 0.25))
    return 0.3 + 0.35 * disc * (0.7 + 0.5 * x) + texture + bars


@pytest.mark.parametrize(
    ("dims", "part", "count"), [(2, 1, 64), (2, 2, 32), (2, 4, 16), (3, 1, 64), (3, 2, 32), (3, 4, 16)]
)
def test_a_lattice_holds_its_share_of_positions(dims, part, count):
    assert len(set(lattice(dims, part))) == count


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (33, 18), (1, 4, 3), (9, 14, 6)])
@pytest.mark.parametrize("part", [1, 2, 4])
def test_without_noise_the_sliding_transform_returns_its_input(shape, part):
    values = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    out = odct(values, 0.0, origin=(3, 6, 1)[: len(shape)], part=part)
    np.testing.assert_allclose(out, values, atol=3e-6)
    wiener = odct(values, 0.0, origin=(3, 6, 1)[: len(shape)], part=part, pilot=values)
    np.testing.assert_allclose(wiener, values, atol=3e-6)


def test_one_block_of_pure_noise_keeps_only_its_mean():
    values = np.random.default_rng(2).normal(size=(8, 8)).astype(np.float32)
    out = odct(values, 100.0, origin=(0, 0))
    assert np.ptp(out) < 0.6 * np.ptp(values)
    assert abs(out.mean() - values.mean()) < 0.2


def test_filling_in_forgets_what_was_there():
    rng = np.random.default_rng(3)
    values, keep = rng.normal(size=(20, 20)).astype(np.float32), rng.random((20, 20)) > 0.3
    other = np.where(keep, values, 1e6)
    np.testing.assert_array_equal(fill(values, keep), fill(other, keep))


@pytest.mark.parametrize(
    ("shape", "window"),
    [((90, 97), (slice(9, 85), slice(0, 70))), ((31, 40, 33), (slice(2, 31), slice(5, 38), slice(0, 29)))],
)
@pytest.mark.parametrize("options", [{}, {"profile": "fast"}, {"guide": "patch"}])
def test_a_tile_gives_what_the_whole_gives(shape, window, options):
    rng = np.random.default_rng(4)
    values = (ndimage.gaussian_filter(rng.normal(size=shape), 2) * 20 + rng.normal(size=shape)).astype(np.float32)
    mask = rng.random(shape) > 0.02
    values = np.where(mask, values, 0)
    settings = nlm.Options(**options)
    whole = denoise(values, 1.0, mask=mask, **options)
    tile = Tile(values[window], window, window, shape, mask[window])
    part = nlm.run(tile, Noise("gaussian", 1.0), Plan("nlm", settings), rng).values
    reach = min(nlm.TRAITS.halo(settings), 27 if len(shape) == 2 else 12)  # volumes reach less far than declared
    inner = tuple(
        slice(reach if w.start else 0, w.stop - w.start - (reach if w.stop < n else 0))
        for w, n in zip(window, shape, strict=True)
    )
    np.testing.assert_allclose(part[inner], whole[window][inner], atol=1e-5 * np.ptp(values))
    assert part[inner].size > 100


@pytest.mark.parametrize("factor", [1e-6, 1e6])
@pytest.mark.parametrize("law", ["gaussian", "rician"])
def test_the_result_scales_with_the_data(factor, law):
    noisy = rician(head((20, 22, 18)), 0.05)
    plain, scaled = denoise(noisy, 0.05, law), denoise((noisy * np.float32(factor)), 0.05 * factor, law)
    np.testing.assert_allclose(scaled / factor, plain, atol=2e-5)


def test_permuted_axes_and_even_flips_commute_with_the_default():
    noisy = rician(head((20, 24, 18)), 0.05)
    plain = denoise(noisy, 0.05, "rician")
    np.testing.assert_allclose(denoise(noisy.transpose(2, 0, 1), 0.05, "rician"), plain.transpose(2, 0, 1), atol=1e-4)
    for axis in range(3):
        np.testing.assert_allclose(denoise(np.flip(noisy, axis), 0.05, "rician"), np.flip(plain, axis), atol=1e-4)


@pytest.mark.parametrize("shape", [(21, 24, 19), (61, 50)])
def test_all_flips_commute_with_the_best_profile(shape):
    noisy = np.random.default_rng(5).normal(5, 1, shape).astype(np.float32)
    plain = denoise(noisy, 1.0, profile="best")
    for axis in range(len(shape)):
        turned = np.flip(denoise(np.flip(noisy, axis), 1.0, profile="best"), axis)
        np.testing.assert_allclose(turned, plain, atol=1e-4)


@pytest.mark.parametrize("signal", [0.0, 1.0, 2.0, 4.0, 20.0])
def test_rician_averages_are_unbiased_at_any_signal(signal):
    noisy = rician(np.full((40, 40, 40), signal), 1.0, seed=6)
    out = denoise(noisy, 1.0, "rician").astype(np.float64)
    assert abs(np.sqrt(np.mean(out**2)) - signal) < (0.3 if signal == 0 else 0.01)
    naive = np.sqrt(np.mean(noisy.astype(np.float64) ** 2))
    assert abs(naive - signal) > abs(np.sqrt(np.mean(out**2)) - signal)


@pytest.mark.parametrize("law", ["gaussian", "rician"])
@pytest.mark.parametrize("guide", ["dct", "patch"])
def test_a_constant_comes_back_and_nothing_is_invented(law, guide):
    out = denoise(np.full((12, 13, 9), 50.0, np.float32), 0.5, law, guide=guide)
    np.testing.assert_allclose(out, 50.0, rtol=2e-4)
    assert not denoise(np.zeros((12, 13), np.float32), 0.5, law, guide=guide).any()


@pytest.mark.parametrize("shape", [(1, 1), (2, 40), (3, 1, 5), (4, 4, 4)])
@pytest.mark.parametrize("guide", ["dct", "patch"])
def test_tiny_arrays_stay_finite(shape, guide):
    values = np.random.default_rng(7).normal(3, 1, shape).astype(np.float32)
    out = denoise(values, 1.0, guide=guide)
    assert out.shape == shape and out.dtype == np.float32 and np.isfinite(out).all()


@pytest.mark.parametrize("guide", ["dct", "patch"])
def test_blanked_air_is_copied_and_kept_out(guide):
    truth = head((24, 26, 22))
    noisy = rician(truth, 0.05)
    blank = truth < 0.1
    noisy[blank] = 0
    out = denoise(noisy, 0.05, "rician", guide=guide)
    assert not out[blank].any()
    mask = ~blank
    spoilt = np.where(mask, noisy, 1e3).astype(np.float32)
    other = denoise(spoilt, 0.05, "rician", mask=mask, guide=guide)
    np.testing.assert_array_equal(other[mask], out[mask])
    np.testing.assert_array_equal(other[blank], spoilt[blank])


def test_black_pixels_of_a_picture_are_denoised():
    noisy = np.maximum(np.random.default_rng(8).normal(0, 1, (32, 32)), 0).astype(np.float32)
    assert denoise(noisy, 0.6)[noisy == 0].any()


def test_zero_sigma_returns_the_input():
    values = np.random.default_rng(9).normal(size=(20, 21, 3)).astype(np.float32)
    np.testing.assert_array_equal(denoise(values, 0.0, spatial=2), values)
    out = denoise(values, np.array([1.0, 0.0, 1.0]), spatial=2)
    np.testing.assert_array_equal(out[..., 1], values[..., 1])
    assert not np.array_equal(out[..., 0], values[..., 0])
    level = np.ones((20, 21))
    level[:5] = 0
    np.testing.assert_array_equal(denoise(values, level, spatial=2)[:5], values[:5])


def test_a_flat_map_equals_a_number():
    noisy = rician(head((20, 22, 18)), 0.05)
    a, b = denoise(noisy, 0.05, "rician"), denoise(noisy, np.full(noisy.shape, 0.05), "rician")
    np.testing.assert_allclose(a, b, atol=1e-4)


def test_a_map_serves_uneven_noise_better_than_its_mean():
    truth = head()
    level = np.broadcast_to(np.linspace(0.01, 0.12, truth.shape[0])[:, None, None], truth.shape)
    n = np.random.default_rng(10).standard_normal((2, *truth.shape)) * level
    noisy = np.hypot(truth + n[0], n[1]).astype(np.float32)
    mapped, flat = denoise(noisy, level.copy(), "rician"), denoise(noisy, float(level.mean()), "rician")
    assert psnr(mapped, truth) > psnr(flat, truth) + 1.0


def test_channels_help_each_other(picture):
    colour = picture[..., None] * np.array([1.0, 0.8, 0.6])
    noisy = (colour + np.random.default_rng(11).normal(0, 0.1, colour.shape)).astype(np.float32)
    joint = denoise(noisy, 0.1, spatial=2)
    apart = np.stack([denoise(np.ascontiguousarray(noisy[..., c]), 0.1) for c in range(3)], -1)
    assert psnr(joint, colour) > psnr(apart, colour) + 0.5
    one = denoise(noisy[..., :1], 0.1, spatial=2)
    np.testing.assert_allclose(one[..., 0], apart[..., 0], atol=1e-6)


def gate_2d(estimate, noisy, truth):
    return psnr(estimate, truth) >= psnr(noisy, truth) + 9.5


@pytest.mark.parametrize("profile", ["fast", "default", "best"])
def test_a_picture_gains_what_zero_identity_and_blur_do_not(picture, profile):
    noisy = (picture + np.random.default_rng(12).normal(0, 0.1, picture.shape)).astype(np.float32)
    assert gate_2d(denoise(noisy, 0.1, profile=profile), noisy, picture)
    bad = [0 * noisy, noisy, *(ndimage.gaussian_filter(noisy, s) for s in (0.5, 0.7, 1.0, 1.5, 2.0))]
    assert not any(gate_2d(b, noisy, picture) for b in bad)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("percent", "gain"), [(3, 8.0), (9, 11.5)])
def test_a_volume_gains_what_zero_identity_and_blur_do_not(seed, percent, gain):
    truth, sigma = head(), percent / 100
    noisy, tissue = rician(truth, sigma, seed), truth > 0.2
    start = psnr(noisy[tissue], truth[tissue])
    assert psnr(denoise(noisy, sigma, "rician")[tissue], truth[tissue]) >= start + gain
    blurs = [ndimage.gaussian_filter(noisy, s) for s in (0.5, 0.7, 1.0, 1.5)]
    for bad in (0 * noisy, noisy, *(np.sqrt(np.maximum(b**2 - sigma**2, 0)) for b in blurs)):
        assert psnr(bad[tissue], truth[tissue]) < start + gain


def test_a_second_run_with_the_noise_gone_changes_little(picture):
    noisy = (picture + np.random.default_rng(13).normal(0, 0.1, picture.shape)).astype(np.float32)
    once = denoise(noisy, 0.1)
    left = float(np.median(np.abs(once - picture)))
    twice = denoise(once, left)
    assert np.std(twice - once) < 0.2 * np.std(once - noisy)


def test_correlated_noise_is_met_by_patches(picture):
    noise = ndimage.gaussian_filter(np.random.default_rng(14).normal(0, 1, picture.shape), 0.8)
    noisy = (picture + 0.1 * noise / noise.std()).astype(np.float32)
    told, untold = denoise(noisy, 0.1, params={"stride": 4}), denoise(noisy, 0.1)
    assert psnr(told, picture) > psnr(untold, picture) + 1
    np.testing.assert_array_equal(told, denoise(noisy, 0.1, params={"stride": 4}, guide="patch"))


def test_a_known_noise_spectrum_beats_patches_and_white(picture):
    noise = ndimage.gaussian_filter(np.random.default_rng(15).normal(0, 1, picture.shape), 0.8)
    noise *= 0.1 / noise.std()
    noisy = (picture + noise).astype(np.float32)
    params = {"stride": 4, "spectrum": noise_spectrum(noise)}
    told = psnr(denoise(noisy, 0.1, params=params, guide="dct"), picture)
    assert told > psnr(denoise(noisy, 0.1, params={"stride": 4}), picture) + 0.5
    assert told > psnr(denoise(noisy, 0.1), picture) + 2


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_a_spectrum_scales_with_the_data(picture, factor):
    noisy = (picture + np.random.default_rng(16).normal(0, 0.1, picture.shape)).astype(np.float32)
    scaled = noisy * np.float32(factor)
    a = denoise(noisy, 0.1, params={"spectrum": noise_spectrum(noisy)})
    b = denoise(scaled, 0.1 * factor, params={"spectrum": noise_spectrum(scaled)})
    np.testing.assert_allclose(b / factor, a, atol=2e-5)


def test_a_real_picture_reaches_its_mark(shared_data):
    imagecodecs = pytest.importorskip("imagecodecs")
    truth = imagecodecs.imread(str(shared_data("natural/set12/01.png"))).astype(np.float64) / 255
    noisy = (truth + np.random.default_rng(0).normal(0, 25 / 255, truth.shape)).astype(np.float32)
    out = np.clip(denoise(noisy, 25 / 255), 0, 1)
    assert psnr(out, truth) > 28.8  # BM3D 29.45 (Dabov 2007, at 10 s), input 20.2
    for s in (0.0, 0.5, 0.7, 1.0, 1.5):
        assert psnr(ndimage.gaussian_filter(noisy, s), truth) < 26
