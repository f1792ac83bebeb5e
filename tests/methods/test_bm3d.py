# SPDX-License-Identifier: Apache-2.0
"""BM3D: repeated structure comes back, tiles agree to the bit, awkward inputs pass."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from pellucid.core.methods import bm3d
from pellucid.core.metrics import psnr
from pellucid.core.types import Noise, Plan, Tile
from pellucid.domains.image.phantom import scene

SIGMA = 25 / 255


def run(values, sigma=SIGMA, *, mask=None, tile=None, **options):
    options = {"search": 8} | options  # quick
    tile = tile or Tile.whole(values, spatial=2, mask=mask)
    noise = Noise(sigma=sigma)
    return bm3d.run(tile, noise, Plan("bm3d", options=bm3d.Options(**options)), np.random.default_rng(0)).values


def noisy(clean, sigma=SIGMA, seed=0):
    return (clean + sigma * np.random.default_rng(seed).standard_normal(clean.shape)).astype(np.float32)


@pytest.fixture(scope="module")
def grey():
    clean = scene((128, 128)).astype(np.float32)
    return clean, noisy(clean)


def test_it_gains_ten_decibels_where_zero_identity_and_blur_do_not(grey):
    clean, y = grey
    before = psnr(clean, y)
    assert psnr(clean, run(y)) > before + 10
    for bad in (np.zeros_like(y), y, gaussian_filter(y, 1.0), gaussian_filter(y, 2.0)):
        assert psnr(clean, bad) < before + 10


def test_colours_help_each_other():
    clean = scene((96, 96), colour=True).astype(np.float32)
    y = noisy(clean)
    apart = np.stack([run(np.ascontiguousarray(y[..., c])) for c in range(3)], axis=-1)
    assert psnr(clean, run(y)) > psnr(clean, apart) + 1


def test_it_keeps_texture_that_blurring_destroys():
    y, x = np.mgrid[:96, :96]
    clean = (0.5 + 0.2 * np.sin(1.7 * x + 0.6 * y)).astype(np.float32)
    out = run(noisy(clean, 0.1), 0.1)
    assert psnr(clean, out) > psnr(clean, noisy(clean, 0.1)) + 12
    assert np.std(out) == pytest.approx(np.std(clean), rel=0.02)


def test_the_camera_man_is_as_good_as_in_the_literature(shared_data):
    import imagecodecs

    clean = imagecodecs.imread(shared_data("natural/set12/01.png").read_bytes()).astype(np.float32) / 255
    out = np.clip(run(noisy(clean), search=16), 0, 1)
    assert psnr(clean, out) > 29.45 - 0.35  # Dabov et al. 2007, table III: 29.45 dB


def window_of(core, shape, halo):
    return tuple(slice(max(0, c.start - halo), min(n, c.stop + halo)) for c, n in zip(core, shape, strict=True))


@pytest.mark.parametrize(
    "core", [(slice(0, 60), slice(31, 77)), (slice(83, 84), slice(90, 131)), (slice(110, 150),) * 2]
)
@pytest.mark.parametrize("step", [3, 4])
def test_a_tile_has_the_bits_of_the_whole(core, step):
    options = {"search": 5, "step": step, "group": 8}
    y = noisy(np.tile(scene((75, 75)), (2, 2)))
    window = window_of(core, y.shape, bm3d.halo(bm3d.Options(**options)))
    part = run(y, tile=Tile(y[window], window, core, y.shape), **options)
    inner = tuple(slice(c.start - w.start, c.stop - w.start) for c, w in zip(core, window, strict=True))
    assert np.array_equal(part[inner], run(y, **options)[core])


def test_a_map_of_one_level_equals_the_number(grey):
    _, y = grey
    assert np.allclose(run(y, np.full(y.shape, SIGMA, np.float32)), run(y), atol=1e-6)


def test_a_map_removes_noise_where_it_is():
    clean = np.full((96, 96), 0.5, np.float32)
    level = np.where(np.arange(96) < 48, 0.02, 0.2)[None].repeat(96, 0).astype(np.float32)
    y = (clean + level * np.random.default_rng(0).standard_normal(clean.shape)).astype(np.float32)
    error = np.abs(run(y, level) - clean)
    assert error[:, :40].mean() < 0.003 and error[:, 56:].mean() < 0.03


def test_samples_without_noise_come_back_as_they_are(grey):
    _, y = grey
    level = np.full(y.shape, SIGMA, np.float32)
    level[20:40, 20:40] = 0
    assert np.array_equal(run(y, level)[20:40, 20:40], y[20:40, 20:40])
    assert np.array_equal(run(y, 0.0), y)


def test_each_channel_may_have_its_own_level():
    clean = np.full((64, 64, 3), 0.5, np.float32)
    sigma = np.array([0.05, 0.0, 0.1])
    y = (clean + sigma * np.random.default_rng(0).standard_normal(clean.shape)).astype(np.float32)
    out = run(y, sigma)
    assert psnr(clean, out) > psnr(clean, y) + 12


def test_masked_samples_do_not_matter(grey):
    clean, y = grey
    mask = np.ones(y.shape, bool)
    mask[40:60, 30:90] = False
    one, two = y * mask, np.where(mask, y, 0).astype(np.float32)
    two[~mask] = 1e6
    assert np.array_equal(run(one, mask=mask)[mask], run(two, mask=mask)[mask])
    assert psnr(clean, run(one, mask=mask), mask=mask) > psnr(clean, y, mask=mask) + 9


@pytest.mark.parametrize("shape", [(1, 1), (8, 8), (5, 40), (9, 11), (33, 8)])
def test_small_pictures_pass(shape):
    y = noisy(np.full(shape, 0.5))
    out = run(y)
    assert out.shape == shape and np.isfinite(out).all()


def test_a_constant_stays_and_the_mean_is_kept(grey):
    _, y = grey
    constant = np.full((40, 40), 0.3, np.float32)
    assert np.allclose(run(constant), constant, atol=1e-6)
    assert run(y).mean() == pytest.approx(y.mean(), abs=3e-4)


@pytest.mark.parametrize("search", [1, 2])
def test_a_group_takes_no_more_than_the_search_sees(search):
    clean = np.full((24, 24), 0.5, np.float32)
    out = run(noisy(clean, 0.1), 0.1, search=search, group=32)
    assert psnr(clean, out) > psnr(clean, noisy(clean, 0.1)) + 3


def test_numbers_of_a_patch_lie_side_by_side_in_memory():
    plane = bm3d.torch.rand(20, 30)
    spectra = bm3d._spectra(plane)
    assert spectra.is_contiguous() and spectra.shape == (13 * 23, 64)
    patch = plane[5:13, 7:15]
    assert np.allclose(spectra[5 * 23 + 7].square().sum(), patch.square().sum(), rtol=1e-5)  # orthonormal
