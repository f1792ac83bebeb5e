# SPDX-License-Identifier: Apache-2.0
"""The undecimated wavelet method: exact without noise, local, adaptive, on one to three axes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from pellucid.core.methods import wavelet
from pellucid.core.metrics import psnr
from pellucid.core.types import Noise, Plan, Tile
from pellucid.domains.image.phantom import scene

SIGMA = 0.1


def run(values, sigma=SIGMA, *, mask=None, tile=None, **options):
    tile = tile or Tile.whole(values, mask=mask)
    plan = Plan("wavelet", options=wavelet.Options(**options))
    return wavelet.run(tile, Noise(sigma=sigma), plan, np.random.default_rng(0)).values


def noisy(clean, sigma=SIGMA):
    return (clean + sigma * np.random.default_rng(0).standard_normal(clean.shape)).astype(np.float32)


@pytest.mark.parametrize("shape", [(200,), (60, 70), (24, 20, 30), (1,), (3, 2)])
def test_without_noise_the_transform_gives_back_its_input(shape):
    values = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    assert np.allclose(run(values, 0.0), values, atol=2e-6)


def test_white_noise_on_nothing_is_removed():
    y = noisy(np.full((128, 128), 0.5))
    assert np.std(run(y)) < 0.12 * SIGMA  # what four levels leave in the smooth rest is 1/16


def test_it_beats_zero_identity_and_blur():
    clean = scene((128, 128)).astype(np.float32)
    y = noisy(clean, 0.05)
    gate = psnr(clean, y) + 8
    assert psnr(clean, run(y, 0.05)) > gate
    for bad in (np.zeros_like(y), y, *(gaussian_filter(y, s) for s in (0.4, 0.6, 0.8, 1.0, 2.0))):
        assert psnr(clean, bad) < gate


@pytest.mark.parametrize("core", [(slice(0, 9), slice(50, 77)), (slice(61, 62), slice(80, 90))])
@pytest.mark.parametrize("masked", [False, True])
def test_a_tile_equals_the_whole(core, masked):
    y = noisy(np.tile(scene((64, 64)), (2, 2)))
    mask = np.ones(y.shape, bool)
    if masked:
        mask[30:50, 60:80] = False
    reach = wavelet.halo(wavelet.Options(levels=3))
    window = tuple(slice(max(0, c.start - reach), min(n, c.stop + reach)) for c, n in zip(core, y.shape, strict=True))
    part = run(None, tile=Tile((y * mask)[window], window, core, y.shape, mask[window]), levels=3)
    inner = tuple(slice(c.start - w.start, c.stop - w.start) for c, w in zip(core, window, strict=True))
    whole = run(y * mask, mask=mask, levels=3)
    assert np.abs(part[inner] - whole[core])[mask[core]].max() <= 1e-6


def test_a_map_removes_only_what_it_says():
    y = noisy(np.full((64, 128), 0.5))
    level = np.where(np.arange(128) < 64, SIGMA, 0.0)[None].repeat(64, 0).astype(np.float32)
    out = run(y, level)
    assert np.std(out[:, :30]) < 0.2 * SIGMA
    assert np.allclose(out[:, 100:], y[:, 100:], atol=2e-6)


def test_masked_samples_do_not_matter():
    y = noisy(scene((64, 64)))
    mask = np.ones(y.shape, bool)
    mask[20:30, 10:50] = False
    assert np.array_equal(run(np.where(mask, y, 0), mask=mask)[mask], run(np.where(mask, y, 1e6), mask=mask)[mask])
