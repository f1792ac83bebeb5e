# SPDX-License-Identifier: Apache-2.0
"""Constant column stripes go, and nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest

from pellucid.core.types import Plan, Tile
from pellucid.domains import registry
from pellucid.domains.hyperspectral import destripe, phantom

LINES, SAMPLES, BANDS = 90, 60, 40
SIGMA = 4.0


def scene(seed=0, noise=SIGMA):
    """Return a rank-4 scene with fields and the stripes laid on it (column, band), and their sum with noise."""
    rng = np.random.default_rng(seed)
    maps = rng.random((LINES // 15, SAMPLES // 12, 4)).repeat(15, 0).repeat(12, 1)
    clean = 200 + maps @ (100 * rng.random((4, BANDS)))
    stripes = np.zeros((SAMPLES, BANDS))
    for band in range(0, BANDS, 3):
        chosen = rng.choice(SAMPLES, 5, replace=False)
        stripes[chosen, band] = rng.choice((-1, 1), 5) * rng.uniform(8, 25, 5)
    plain = clean + noise * rng.standard_normal(clean.shape)
    return clean, stripes, plain.astype(np.float32), (plain + stripes).astype(np.float32)


def run(values, **options):
    plan = Plan("destripe", destripe.Options(**options))
    return destripe.run(Tile.whole(values, spatial=2), None, plan, np.random.default_rng(0)).values


def error(values, clean):
    return float(np.sqrt(np.mean((np.asarray(values, np.float64) - clean) ** 2)))


def test_stripes_are_subtracted_as_constants_and_other_cells_stay_bit_for_bit():
    _, stripes, _, striped = scene()
    removed = striped - run(striped)
    assert np.ptp(removed, axis=0).max() < 1e-3  # one constant for each column and band
    touched = np.abs(removed[0]) > 0
    assert (touched & (stripes == 0)).mean() < 0.002 and touched[stripes != 0].all()
    np.testing.assert_array_equal(run(striped)[:, ~touched], striped[:, ~touched])
    assert np.abs(removed[0] - stripes)[stripes != 0].max() < 5 * SIGMA / np.sqrt(LINES)


def test_the_result_is_as_good_as_the_scene_without_stripes_while_zero_identity_and_blur_are_not():
    from scipy import ndimage

    clean, _, plain, striped = scene()
    good = error(run(striped), plain)
    others = (np.zeros_like(striped), striped, ndimage.gaussian_filter(striped, (1, 1, 0)))
    assert good < 0.1 * SIGMA and all(error(other, plain) > 0.5 * SIGMA for other in others)


def test_a_scene_without_stripes_is_returned_as_it_came():
    _, _, plain, _ = scene()
    assert (run(plain) != plain).any(axis=0).mean() < 0.002


def test_a_road_along_the_flight_and_a_field_edge_stay():
    _, _, plain, _ = scene()
    plain[:, 31] += 5 * SIGMA  # a line one pixel wide in all bands
    np.testing.assert_allclose((run(plain) - plain)[:, 31], 0, atol=1e-3)


def test_stripes_along_samples_are_named():
    _, stripes, _, striped = scene()
    turned = run(striped.transpose(1, 0, 2).copy(), along="sample").transpose(1, 0, 2)
    np.testing.assert_allclose(turned, run(striped), atol=1e-3)


def test_dead_columns_are_no_stripes():
    _, _, _, striped = scene()
    striped[:, 7, 5] = 0
    np.testing.assert_array_equal(run(striped)[:, 7, 5], 0)


@pytest.mark.parametrize("case", ["3", "sensor"])
def test_the_phantom_gains_nothing_but_stripes(case):
    made = phantom.simulate(1, "" if case == "sensor" else case, (64, 64, 60))
    noisy, truth = made.noisy.astype(np.float32), made.truth
    before, after = error(noisy, truth), error(run(noisy), truth)
    assert after < 0.99 * before if case == "3" else after == pytest.approx(before, rel=0.002)


def test_the_verb_is_a_task_with_its_own_word():
    seen = registry.field("hyperspectral destripe")
    assert (seen.word, seen.methods) == ("destriped", ("destripe",))
