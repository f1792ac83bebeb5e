# SPDX-License-Identifier: Apache-2.0
"""Non-local means of decibels: contrast without bias, small targets kept, and what fails beside it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from pellucid.core import memory
from pellucid.core.types import Noise, Plan, Tile
from pellucid.domains.declare import Subject
from pellucid.domains.ultrasound import checks, dbnlm, metrics, noise, phantom


def despeckle(values: np.ndarray, kind: str = "bmode", mask: np.ndarray | None = None, **options: float) -> np.ndarray:
    reader = memory.reader(values, ("axial", "lateral"), kind, acquisition={"dynamic_range_db": 60.0})
    subject = Subject(reader, reader.description)
    plan = Plan("dbnlm", options=dbnlm.Options(**options), extras=checks.facts(subject))
    return dbnlm.run(Tile.whole(values, mask=mask), noise.estimate(subject), plan, np.random.default_rng(0)).values


@pytest.fixture(scope="module")
def case() -> tuple[np.ndarray, np.ndarray]:
    found = phantom.cyst(1)
    return np.clip(1 + 20 * np.log10(found.envelope) / 60, 0, 1).astype(np.float32), found.truth_db


@pytest.fixture(scope="module")
def result(case: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    return despeckle(case[0])


def gate(before: np.ndarray, after: np.ndarray, truth: np.ndarray) -> bool:
    """Error, mean level and every point of 14 dB together."""
    old, new = (10 ** ((v - 1) * 3) for v in (before, after))
    plain = (slice(294, 368), slice(20, 380))
    level = abs(float(new[plain].mean() / old[plain].mean()) - 1)
    kept = []
    for z, x, gain in phantom.POINTS:
        i, j = round(z / 0.08 - 0.5), round(x / 0.1 - 0.5)
        near = (slice(i - 4, i + 5), slice(j - 4, j + 5))
        kept.append(gain != 14 or 20 * np.log10(new[near].max() / old[near].max()) > -2)
    return bool(np.std(after * 60 - 60 - truth) < 1.45 and level < 0.02 and all(kept))


def test_the_gate_is_met(case, result):
    assert gate(case[0], result, case[1])


def test_zero_identity_and_blur_fail_the_gate(case):
    shown, truth = case
    for bad in (0 * shown, shown, gaussian_filter(shown, 2)):
        assert not gate(shown, bad, truth)


def test_lesions_of_three_decibels_stand_out(case, result):
    z, x = phantom.grids(phantom.SIZE, fine=1)
    for depth, across, radius, gain in phantom.DISCS[4:]:
        r = np.hypot(z - depth, x - across)
        regions = r < 0.8 * radius, (r > radius + 0.6) & (r < radius + 1.4)
        before, after = (metrics.gcnr(*(v[m] for m in regions)) for v in (case[0], result))
        assert after > (0.95 if abs(gain) == 6 else 0.6) > before


def test_a_bright_point_keeps_its_width(case, result):
    old, new = (10 ** ((v - 1) * 3) for v in (case[0], result))
    i, j = 437, 130
    near = old[i - 4 : i + 5, j - 4 : j + 5]
    di, dj = np.unravel_index(near.argmax(), near.shape)
    row, column = i - 4 + int(di), j - 4 + int(dj)
    assert metrics.fwhm(new[:, column], row) == pytest.approx(metrics.fwhm(old[:, column], row), rel=0.05)
    assert metrics.fwhm(new[row], column) == pytest.approx(metrics.fwhm(old[row], column), rel=0.05)


def test_without_the_guard_a_small_target_is_lost(case):
    found = despeckle(case[0], guard=0)
    assert not gate(case[0], found, case[1])


def test_a_second_run_changes_little(case, result):
    twice = despeckle(result)
    assert np.std(twice - result) < 0.2 * np.std(result - case[0])


def test_an_image_without_speckle_comes_back(case):
    clean = np.clip(1 + case[1] / 60, 0, 1).astype(np.float32)
    error = np.mean(np.square(despeckle(clean) - clean))
    assert -10 * np.log10(error + 1e-12) > 45


def test_an_envelope_gives_what_its_picture_gives(case, result):
    envelope = (10 ** ((case[0] - 1) * 3)).astype(np.float32)
    found = despeckle(5e4 * envelope, "envelope") / 5e4
    shown = 1 + 20 * np.log10(found) / 60
    assert np.abs(shown - result)[case[0] > 0].mean() * 60 < 0.3  # dB


def test_black_outside_the_fan_stays_black(case):
    shown = case[0].copy()
    z, x = phantom.grids(phantom.SIZE, fine=1)
    fan = np.hypot(z + 10, x - 20) < 45
    shown[~fan] = 0
    found = despeckle(shown)
    far = np.hypot(z + 10, x - 20) > 46.5
    assert np.all(found[far] == 0)


def test_masked_samples_influence_nothing(case):
    shown = np.ascontiguousarray(case[0][:128, :128])
    mask = np.ones(shown.shape, bool)
    mask[40:60, 50:80] = False
    one, two = shown.copy(), shown.copy()
    one[~mask], two[~mask] = 0, 1
    plan = Plan("dbnlm", options=dbnlm.Options(), extras={"kind": "bmode", "db_per_unit": 60.0, "psf": (4.4, 6.0)})
    run = lambda v: dbnlm.run(Tile.whole(v, mask=mask), Noise("speckle", 5.57 / 60), plan, None).values  # noqa: E731
    assert np.array_equal(run(one)[mask], run(two)[mask])
