# SPDX-License-Identifier: Apache-2.0
"""Total variation: closed forms, locality, masks."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from pellucid.core.methods import tv
from pellucid.core.metrics import psnr
from pellucid.core.types import Noise, Plan, Tile
from pellucid.domains.image.phantom import scene


def run(values, sigma=0.1, *, mask=None, tile=None, **options):
    tile = tile or Tile.whole(values, mask=mask)
    return tv.run(tile, Noise(sigma=sigma), Plan("tv", options=tv.Options(**options)), np.random.default_rng(0)).values


def noisy(clean, sigma=0.1):
    return (clean + sigma * np.random.default_rng(0).standard_normal(clean.shape)).astype(np.float32)


def test_a_step_shrinks_by_lambda_over_the_length_of_its_sides():
    # |u - f|^2 / 2 + lambda |u'|: each side of a step moves by lambda / length (Strong and Chan 2003)
    f = np.repeat(np.float32([0, 1]), 20)
    out = run(f, 0.5, weight=1.0, iterations=3000)
    assert np.allclose(out, np.repeat([0.5 / 20, 1 - 0.5 / 20], 20), atol=1e-3)


def test_a_large_weight_gives_the_mean_and_a_small_one_the_input():
    f = noisy(np.full((12, 12), 0.5))
    assert np.allclose(run(f, 1.0, weight=100, iterations=2000), f.mean(), atol=1e-4)
    assert np.array_equal(run(f, 0.0), f)


def test_it_beats_zero_identity_and_blur():
    clean = scene((128, 128)).astype(np.float32)
    y = noisy(clean, 0.05)
    gate = psnr(clean, y) + 6.5
    assert psnr(clean, run(y, 0.05)) > gate
    for bad in (np.zeros_like(y), y, *(gaussian_filter(y, s) for s in (0.4, 0.6, 0.8, 1.0, 2.0))):
        assert psnr(clean, bad) < gate


@pytest.mark.parametrize("shape", [(90,), (40, 50), (20, 24, 22)])
def test_a_tile_has_the_bits_of_the_whole(shape):
    y = noisy(np.zeros(shape))
    core = tuple(slice(n // 2 - 2, n // 2 + 3) for n in shape)
    reach = tv.halo(tv.Options(iterations=6))
    window = tuple(slice(max(0, c.start - reach), min(n, c.stop + reach)) for c, n in zip(core, shape, strict=True))
    part = run(None, tile=Tile(y[window], window, core, shape), iterations=6)
    inner = tuple(slice(c.start - w.start, c.stop - w.start) for c, w in zip(core, window, strict=True))
    assert np.array_equal(part[inner], run(y, iterations=6)[core])


def test_nothing_flows_through_the_mask():
    y = noisy(np.zeros((30, 31)))
    mask = np.ones(y.shape, bool)
    mask[:, 15] = False
    out = run(y * mask, mask=mask)
    assert np.allclose(out[:, :15], run(np.ascontiguousarray(y[:, :15])), atol=1e-6)
    assert np.allclose(out[:, 16:], run(np.ascontiguousarray(y[:, 16:])), atol=1e-6)
