# SPDX-License-Identifier: Apache-2.0
"""The whitened signal subspace: quality, exact tiles, destriping without harm, rare targets, masks."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from pellucid.core.errors import FormatError, UsageError
from pellucid.core.types import Noise, Plan, Tile
from pellucid.domains.hyperspectral import joint, lowrank, phantom, protect

LINES, SAMPLES, BANDS = 64, 60, 60


@pytest.fixture(scope="module")
def scene():
    """Return a clean scene (line, sample, band) with every band in [0, 1]."""
    rng = np.random.default_rng(11)
    wavelengths = np.linspace(420, 2450, BANDS)
    cube = phantom._abundances(rng, LINES, SAMPLES) @ phantom._spectra(wavelengths)
    return (cube - cube.min((0, 1))) / (cube.max((0, 1)) - cube.min((0, 1)))


def settle(values, mask=None, noise=None, extras=None, **options):
    """Return plan, tile and state of a whole cube."""
    plan = Plan("lowrank", options=lowrank.Options(**options), noise=noise, extras=extras or {})
    tile = Tile.whole(values.astype(np.float32), spatial=2, mask=mask)
    return plan, replace(tile, carry=lowrank.settle(lowrank.gather(tile, None, plan), plan))


def denoise(values, mask=None, noise=None, extras=None, **options):
    """Return the result of a whole cube."""
    plan, tile = settle(values, mask, noise, extras, **options)
    return lowrank.run(tile, noise, plan, np.random.default_rng(0))


def tiled(values, size, **options):
    """Return the result computed tile by tile with the declared halo; statistics from the same tiles."""
    plan = Plan("lowrank", options=lowrank.Options(**options))
    values = values.astype(np.float32)
    shape, out = values.shape[:2], np.empty_like(values)
    cores = [
        (slice(a, min(a + size, shape[0])), slice(b, min(b + size, shape[1])))
        for a in range(0, shape[0], size)
        for b in range(0, shape[1], size)
    ]
    carry = None
    for core in cores:
        carry = lowrank.gather(Tile(values[core], core, core, shape), carry, plan)
    state, halo = lowrank.settle(carry, plan), lowrank.TRAITS.halo(plan.options)
    for core in cores:
        window = tuple(slice(max(s.start - halo, 0), min(s.stop + halo, n)) for s, n in zip(core, shape, strict=True))
        result = lowrank.run(Tile(values[window], window, core, shape, None, state), None, plan, None)
        inner = tuple(slice(c.start - w.start, c.stop - w.start) for c, w in zip(core, window, strict=True))
        out[core] = result.values[inner]
    return out


def psnr(reference, values):
    return -10 * np.log10(np.mean((reference - values.astype(np.float64)) ** 2))


@pytest.mark.parametrize(("profile", "gate"), [("fast", 33.0), ("default", 34.0), ("best", 34.0)])
def test_white_noise_of_a_tenth_falls_by_fourteen_decibels_and_zero_identity_and_blur_do_not(scene, profile, gate):
    noisy, _ = phantom.degrade(scene, "1", np.random.default_rng(0))
    assert psnr(scene, denoise(noisy, profile=profile).values) > gate
    for poor in (np.zeros_like(noisy), noisy, ndimage.gaussian_filter(noisy, (1, 1, 0))):
        assert psnr(scene, poor) < gate


def test_a_clean_scene_with_a_flat_field_stays(scene):
    """A column that is constant in every band is a field of the scene, and no dead detector."""
    flat = scene.copy()
    flat[:, 20] = scene[5, 20]
    assert psnr(flat, denoise(flat).values) > 80


def test_noise_that_differs_from_band_to_band_is_found_and_whitened(scene):
    noisy, sigma = phantom.degrade(scene, "2", np.random.default_rng(0))
    _, tile = settle(noisy)
    assert np.median(np.abs(tile.carry.sigma / sigma - 1)) < 0.1
    told = denoise(noisy, noise=Noise(sigma=0.12))
    assert psnr(scene, denoise(noisy).values) > psnr(scene, told.values) + 1


def test_plain_noise_does_not_fire_the_test_for_mixed_noise(scene):
    for case in "12":
        _, tile = settle(phantom.degrade(scene, case, np.random.default_rng(3))[0])
        assert tile.carry.repair is None


@pytest.mark.parametrize(("case", "gain"), [("3", 1.0), ("4", 3.0), ("5", 1.0), ("6", 5.0)])
def test_stripes_dead_columns_and_impulses_are_found_and_removed(scene, case, gain):
    noisy, _ = phantom.degrade(scene, case, np.random.default_rng(0))
    assert psnr(scene, denoise(noisy).values) > psnr(scene, denoise(noisy, mixed="off").values) + gain


def test_a_line_and_an_edge_along_the_track_survive_destriping(scene):
    rng = np.random.default_rng(1)
    sigma, smooth = 0.02, ndimage.gaussian_filter(scene, (8, 8, 0))
    truth = smooth.copy()
    truth[:, 33] += 5 * sigma
    truth[:, 50:] += 5 * sigma
    noisy = truth + sigma * rng.standard_normal(truth.shape)
    for band in range(0, BANDS, 3):
        noisy[:, rng.choice(30, 4, replace=False), band] += rng.uniform(-0.25, 0.25, 4)
    _, tile = settle(noisy, mixed="auto")
    assert (tile.carry.repair.offset != 0).any()
    result = denoise(noisy).values
    line = (result[:, 33] - (result[:, 32] + result[:, 34]) / 2).mean() / (5 * sigma)
    edge = (result[:, 50:53] - result[:, 47:50]).mean() / (truth[:, 50:53] - truth[:, 47:50]).mean()
    assert 0.95 < line < 1.05
    assert 0.95 < edge < 1.05


@pytest.mark.parametrize(("case", "profile"), [("1", "default"), ("1", "fast"), ("3", "default")])
def test_tiles_equal_the_whole(scene, case, profile):
    noisy, _ = phantom.degrade(scene, case, np.random.default_rng(0))
    whole = denoise(noisy, profile=profile).values
    for size in (25, 40):
        np.testing.assert_allclose(tiled(noisy, size, profile=profile), whole, atol=1e-5)


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_scaling_the_data_scales_the_result(scene, factor):
    noisy, _ = phantom.degrade(scene, "3", np.random.default_rng(0))
    np.testing.assert_allclose(denoise(noisy * factor).values / factor, denoise(noisy).values, atol=2e-4)


def test_a_smooth_cube_without_noise_comes_back_and_a_second_pass_changes_nothing_more():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:50, :50] / 50
    maps = np.stack([np.ones_like(y), np.sin(3 * x), np.cos(4 * y), np.sin(5 * x * y)], -1)
    cube = maps @ np.stack([np.exp(-(((np.linspace(0, 1, 40) - c) / 0.25) ** 2)) for c in (0.1, 0.4, 0.6, 0.9)])
    noisy = (cube / np.abs(cube).max() + 1e-6 * rng.standard_normal(cube.shape)).astype(np.float32)
    first = denoise(noisy).values
    assert psnr(noisy, first) > 100
    second = denoise(first).values
    assert np.std(second - first) < 0.2 * np.std(first - noisy)


def test_a_named_signature_is_kept_where_the_filter_alone_loses_it(scene, tmp_path):
    rng = np.random.default_rng(5)
    signature = -np.exp(-0.5 * ((np.arange(BANDS) - 30) / 3.0) ** 2)
    np.savetxt(tmp_path / "gas.csv", signature)
    noisy = scene + 0.1 * rng.standard_normal(scene.shape)
    target = noisy.copy()
    target[20, 20] += 0.66 * signature / np.linalg.norm(signature)

    def response(**options):
        after, before = (denoise(v, **options).values[20, 20] for v in (target, noisy))
        return float((after - before) @ signature / (0.66 * np.linalg.norm(signature)))

    kept = response(protect=str(tmp_path / "gas.csv"), mixed="off")
    assert kept == pytest.approx(1, abs=0.02)
    assert response(mixed="off") < 0.7


def test_the_guard_restores_a_rare_pixel(scene):
    rng = np.random.default_rng(6)
    noisy = ndimage.gaussian_filter(scene, (6, 6, 0)) + 0.02 * rng.standard_normal(scene.shape)
    signature = np.exp(-0.5 * ((np.arange(BANDS) - 20) / 2.0) ** 2)
    for line in range(6, LINES, 12):
        noisy[line, 12:60:12] += 0.6 * signature
    kept = {}
    for guard in (True, False):
        result = denoise(noisy, guard=guard, mixed="off")
        kept[guard] = np.mean([result.values[line, 12:60:12, 20].mean() for line in range(6, LINES, 12)])
    assert kept[True] >= kept[False]
    assert denoise(noisy, mixed="off").facts["restored"] < 0.06 * LINES * SAMPLES


def test_invalid_pixels_do_not_touch_the_others(scene):
    noisy, _ = phantom.degrade(scene, "1", np.random.default_rng(0))
    mask = np.ones(noisy.shape[:2], dtype=bool)
    mask[10:20, 10:30] = False
    results = []
    for filler in (0.0, 1e4):
        values = noisy.copy()
        values[~mask] = filler
        results.append(denoise(values, mask=mask).values[mask])
    np.testing.assert_allclose(results[0], results[1], atol=1e-5)
    assert psnr(scene[mask], results[0]) > 33


def test_a_spatial_noise_map_is_followed(scene):
    level = np.linspace(0.02, 0.2, SAMPLES)[None, :] * np.ones((LINES, 1))
    noisy = scene + level[..., None] * np.random.default_rng(0).standard_normal(scene.shape)
    mapped = denoise(noisy, noise=Noise(sigma=level.astype(np.float32)), mixed="off").values
    assert psnr(scene, mapped) > psnr(scene, noisy) + 8


@pytest.mark.parametrize("values", [np.full((12, 12, 10), 3.0), np.zeros((12, 12, 10))])
def test_a_constant_cube_comes_back_as_it_is(values):
    np.testing.assert_array_equal(denoise(values).values, values.astype(np.float32))


def test_no_noise_given_means_nothing_to_remove(scene):
    np.testing.assert_array_equal(denoise(scene, noise=Noise(sigma=0.0)).values, scene.astype(np.float32))


def test_pure_noise_and_tiny_cubes_give_finite_results():
    rng = np.random.default_rng(0)
    for shape in ((30, 30, 20), (4, 4, 12), (1, 40, 8), (40, 1, 8)):
        assert np.isfinite(denoise(rng.standard_normal(shape)).values).all()


def test_turning_the_track_turns_the_result(scene):
    noisy, _ = phantom.degrade(scene, "3", np.random.default_rng(0))
    turned = denoise(noisy.swapaxes(0, 1), along="sample").values.swapaxes(0, 1)
    np.testing.assert_allclose(turned, denoise(noisy).values, atol=0.05)
    assert psnr(scene, turned) > 33


def test_signatures_are_read_from_tables_and_libraries(tmp_path, shared_data):
    table = tmp_path / "two.csv"
    table.write_text("wavelength_um,a,b\n0.4,1,0\n0.6,1,1\n0.8,0,1\n")
    read = protect.signatures(str(table), {"wavelengths_nm": [400, 500, 600, 700, 800]}, np.ones(5))
    assert read.shape == (5, 2)
    np.testing.assert_allclose(read[:, 1] / read[2, 1], [0, 0.5, 1, 1, 1])
    library = shared_data("hyperspectral/envi/library_berlin.sli")
    assert protect.signatures(str(library), {}, np.ones(177)).shape == (177, 75)


def test_a_signature_of_the_wrong_length_is_refused(tmp_path):
    (tmp_path / "short.csv").write_text("1\n2\n3\n")
    with pytest.raises(UsageError, match="3 values for 5 bands"):
        protect.signatures(str(tmp_path / "short.csv"), {}, np.ones(5))
    (tmp_path / "words.csv").write_text("1\ntwo\n")
    with pytest.raises(FormatError, match="line 2"):
        protect.signatures(str(tmp_path / "words.csv"), {}, np.ones(2))


def test_the_joint_filter_keeps_a_constant_and_removes_white_noise():
    import torch

    frame = joint.Frame((0, 0), (40, 40), ((0, 40), (0, 40)))
    noise = torch.from_numpy(np.random.default_rng(0).standard_normal((4, 40, 40)).astype(np.float32))
    assert float(joint.denoise(noise, frame, joint.Knobs()).square().mean()) < 0.06
    level = torch.full((3, 40, 40), 50.0)
    torch.testing.assert_close(joint.denoise(level, frame, joint.Knobs()), level, rtol=1e-3, atol=0)


def test_field_edges_do_not_fire_the_test_for_impulses():
    from pellucid.domains.hyperspectral import robust

    rng = np.random.default_rng(0)
    impulses = rng.random((5000, 30)) < np.where(np.arange(30) % 3 == 0, 0.05, 0.0005)
    edges = (rng.random((5000, 1)) < 0.03) & (rng.random((5000, 30)) < 0.7)
    assert robust._impulsive(impulses)
    assert not robust._impulsive(edges)


def test_an_accelerator_gets_every_tensor():
    import torch

    assert lowrank.kernel_for_purity(torch.device("cpu")).shape == (3, 20, 20)
