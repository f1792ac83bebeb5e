# SPDX-License-Identifier: Apache-2.0
"""vst-nlm: levels are kept at any light, defects and full photosites are left alone, and bad results would fail."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from pellucid.core.types import Noise, Plan, Tile
from pellucid.domains import registry
from pellucid.domains.raw import metrics, mosaic, periodic, phantom, sensor
from pellucid.domains.raw.vst import Stabiliser

METHODS = ("vst-nlm", "vst-bm3d")
BLACK, WHITE = 512.0, 15872.0
LEAST_GAIN = {"vst-nlm": 6.5, "vst-bm3d": 8.5}  # dB of the picture, case eld, small


def run(name, values, gain=3.2, read=12.0, **options):
    method = registry.method(name, "raw")
    extras = {"cfa": np.array(options.pop("cfa", sensor.RGGB)), "black": BLACK, "white": WHITE} | options.pop(
        "extras", {}
    )
    noise = Noise("poisson_gaussian", 50.0, params={"gain": gain, "read": read})
    plan = Plan(name, options=method.Options(**options), extras=extras)
    return method.run(Tile.whole(values.astype(np.float32)), noise, plan, np.random.default_rng(0))


def ramp(gain, read, *, rows=30, columns=600, seed=0):
    """Return levels from three read noises below black up to four sigma below white, and their measurement."""
    top = WHITE - BLACK
    top -= 4 * np.sqrt(gain * top + read**2)
    levels = np.concatenate([np.linspace(-3 * read, 3 * read, 7), np.geomspace(4 * read, top, 9)])
    x = np.repeat(levels, rows)[:, None] * np.ones(columns)
    rng = np.random.default_rng(seed)
    z = np.where(x > 0, gain * rng.poisson(np.maximum(x, 0) / gain), x) + read * rng.standard_normal(x.shape)
    return levels, np.rint(z + BLACK)


@pytest.mark.parametrize("gain", [0.2, 1.0, 3.0])
def test_the_inverse_is_exact_in_the_mean(gain):
    read = 1.5
    rng = np.random.default_rng(1)
    unit = Stabiliser(gain, read)
    for signal in (-3 * read, 0.0, 2.0, 20.0, 400.0, 9000.0):
        z = gain * rng.poisson(max(signal, 0) / gain, 400_000) + min(signal, 0) + read * rng.standard_normal(400_000)
        back = float(unit.backward(np.array([unit.forward(z).mean()]))[0])
        error = abs(back - signal) / np.sqrt(gain * max(signal, 0) + read**2)
        assert error < 4 / np.sqrt(400_000) * 1.5 + 1e-3


def test_gaussian_noise_needs_no_curve():
    unit, x = Stabiliser(0.0, 2.0), np.array([-3.0, 0.0, 5.0])
    assert np.allclose(unit.forward(x), x / 2) and np.allclose(unit.backward(x / 2), x)


def test_stabilised_noise_is_one():
    rng, unit = np.random.default_rng(2), Stabiliser(1.7, 12.0)
    for signal in (0.0, 30.0, 300.0, 9000.0):
        z = 1.7 * rng.poisson(signal / 1.7, 100_000) + 12 * rng.standard_normal(100_000)
        assert 0.9 < unit.forward(z).var() < 1.05


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(("gain", "read"), [(1.7, 12.0), (61.0, 61.0), (3.0, 1.5)])
def test_the_mean_is_kept_at_every_level_and_position(name, gain, read):
    levels, values = ramp(gain, read, columns=300 if name == "vst-bm3d" else 600)
    out = run(name, values, gain, read).values
    for i, level in enumerate(levels):
        rows = slice(30 * i + 8, 30 * i + 22)
        sigma = float(np.sqrt(gain * max(level, 0) + read**2))
        for r in range(2):
            for c in range(2):
                moved = (out[rows] - values[rows])[r::2, c::2]
                chance = 3 * sigma / np.sqrt(moved.size)  # the mean of what was measured is not sharper
                assert abs(moved.mean()) < max(0.05 * sigma, 0.3) + chance, (level, r, c)


@pytest.mark.parametrize("name", METHODS)
def test_the_phantom_gains_and_zero_identity_and_blur_do_not(name):
    made = phantom.simulate(0, "eld", (240, 320))
    truth, noisy = (v.astype(np.float64) for v in (made.truth, made.noisy))

    def gain(estimate):
        found = [metrics.measure(truth, e, made.description)["psnr"] for e in (estimate, noisy)]
        return found[0] - found[1]

    blurred = noisy.copy()
    for r in range(2):
        for c in range(2):
            blurred[r::2, c::2] = gaussian_filter(noisy[r::2, c::2], 1.0)
    bar = LEAST_GAIN[name]
    assert gain(run(name, noisy, made.noise.params["gain"], made.noise.params["read"]).values) > bar
    assert max(gain(e) for e in (np.zeros_like(noisy), np.full_like(noisy, BLACK), noisy, blurred)) < bar - 3


def test_six_by_six_patterns_gain_too():
    made = phantom.simulate(0, "xtrans", (240, 320))
    truth, noisy = (v.astype(np.float64) for v in (made.truth, made.noisy))
    given = made.noise.params
    out = run("vst-nlm", noisy, given["gain"], given["read"], cfa=sensor.XTRANS).values
    a, b = (metrics.measure(truth, e, made.description)["psnr"] for e in (noisy, out))
    assert b > a + 4


def test_shifts_carry_the_pattern_onto_itself():
    cfa = np.array(sensor.XTRANS)
    found = periodic.shifts(cfa, 6)
    assert (3, 3) in found and (0, 6) in found and (3, 0) not in found
    assert all(np.array_equal(np.roll(cfa, (-a, -b), (0, 1)), cfa) for a, b in found)


@pytest.mark.parametrize("name", METHODS)
def test_full_and_lone_photosites_are_left_alone_unless_asked(name):
    rng = np.random.default_rng(3)
    values = np.rint(BLACK + 1000 + 60 * rng.standard_normal((96, 96)))
    values[40:50, 40:50] = WHITE
    values[20, 20], values[70, 31] = 9000, 0
    out = run(name, values).values
    assert np.array_equal(out[values == WHITE], values[values == WHITE])
    assert out[20, 20] == 9000 and out[70, 31] == 0
    assert abs(out[20, 22] - 1512) < 60, "a hot photosite must not spread"
    fixed = run(name, values, fix_defects=True).values
    assert abs(fixed[20, 20] - 1512) < 60 and abs(fixed[70, 31] - 1512) < 60


def test_a_star_is_no_defect():
    y, x = np.mgrid[:64, :64]
    star = 5000 * np.exp(-((y - 31) ** 2 + (x - 30) ** 2) / (2 * 1.6**2))
    rng = np.random.default_rng(4)
    out = run("vst-nlm", BLACK + 200 + star + 20 * rng.standard_normal(star.shape))
    assert out.facts["defects"] == 0
    assert out.values[31, 30] > BLACK + 4000


def test_levels_of_each_position_are_kept():
    levels = np.array([[500.0, 510.0], [520.0, 530.0]])
    flat = np.tile(levels, (40, 40)) + 3 * np.random.default_rng(5).standard_normal((80, 80))
    out = run("vst-nlm", flat, 0.0, 3.0, extras={"black": levels}).values
    for r in range(2):
        for c in range(2):
            assert abs(out[r::2, c::2].mean() - levels[r, c]) < 0.3


def test_a_master_dark_is_subtracted_above_black():
    pattern = 40 * np.random.default_rng(6).standard_normal((64, 64)).astype(np.float32)
    values = BLACK + 300 + pattern + 10 * np.random.default_rng(7).standard_normal((64, 64))
    out = run("vst-nlm", values, 0.0, 10.0, extras={"dark": pattern}).values
    assert out.std() < 6 and abs(out.mean() - BLACK - 300) < 1


def test_packing_comes_back_at_odd_sizes():
    values = np.arange(7 * 9, dtype=np.float32).reshape(7, 9)
    tile, odd = mosaic.packed(Tile.whole(values))
    assert tile.values.shape == (4, 5, 4) and np.array_equal(mosaic.unpacked(tile.values, odd), values)


def test_red_and_blue_stand_at_the_ends_of_every_pattern():
    for letters in ("RGGB", "BGGR", "GRBG", "GBRG"):
        cfa = sensor.pattern(letters)
        assert [cfa.ravel()[i] for i in mosaic.order(cfa)] == [0, 1, 1, 2]
