# SPDX-License-Identifier: Apache-2.0
"""MP-PCA: MRtrix3's own results in parity mode, then quality, exactness and harmlessness on a phantom."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from pellucid.core.errors import UsageError
from pellucid.core.methods import mppca
from pellucid.core.noise import rician
from pellucid.core.types import Noise, Plan, Result, Tile
from pellucid.domains.declare import Phantom
from pellucid.domains.mri import phantom

MEDIUM = (40, 40, 20)
SMALL = (18, 17, 12)


def run(
    values, noise: Noise | None = None, *, mask=None, threads: int = 1, tile: Tile | None = None, **options
) -> Result:
    plan = Plan("mppca", options=mppca.Options(**options), threads=threads)
    tile = tile or Tile.whole(values, spatial=values.ndim - 1, mask=mask)
    return mppca.run(tile, noise, plan, np.random.default_rng(0))


def error(made: Phantom, values: np.ndarray) -> float:
    """Return the RMSE in the mask against the magnitude's mean, in units of sigma."""
    sigma = made.noise.sigma
    expected = rician.mean(made.truth[made.mask], sigma, made.noise.params["coils"])
    return float(np.sqrt(np.mean((values[made.mask] - expected) ** 2)) / sigma)


@pytest.fixture(scope="module")
def head() -> Phantom:
    return phantom.dwi(0, shape=MEDIUM)


@pytest.fixture(scope="module")
def done(head: Phantom) -> Result:
    return run(head.noisy)


@pytest.fixture(scope="module")
def noisy() -> np.ndarray:
    return phantom.dwi(3, shape=SMALL).noisy


def reference(shared_data: Callable[[str], Path], name: str) -> np.ndarray:
    import nibabel

    path = shared_data(f"mri/mrtrix_reference/{name}.nii.gz")
    return np.asanyarray(nibabel.load(path).dataobj).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "noise", "options", "relative"),
    [
        ("denoised", "noise", {}, 0.005),
        ("denoised_exp1", "noise_exp1", {"estimator": "exp1"}, 0.005),
        ("extent3", "noise3", {"patch": "3"}, 0.0015),
        ("extent531", None, {"patch": "5,3,1"}, 0.0015),
    ],
)
def test_parity_mode_repeats_mrtrix(shared_data, name: str, noise: str | None, options: dict, relative: float) -> None:
    """The reference files are float32 with values up to 1046: the bounds are their rounding."""
    expected = reference(shared_data, name)
    result = run(reference(shared_data, "dwi"), parity=True, **options)
    difference = np.abs(result.values - expected)
    assert difference.max() <= 0.05
    assert (difference / (1 + np.abs(expected))).max() <= relative
    if noise:
        assert result.maps["noise"] == pytest.approx(reference(shared_data, noise), rel=1e-4)


def test_the_default_noise_map_agrees_with_mrtrix(shared_data) -> None:
    ours = run(reference(shared_data, "dwi"), estimator="exp2-legacy").maps["noise"]
    off = np.abs(ours / reference(shared_data, "noise") - 1)
    assert np.median(off) <= 0.03 and np.percentile(off, 95) <= 0.10


def test_the_error_falls_below_a_quarter_and_trivial_answers_do_not(head: Phantom, done: Result) -> None:
    gate = 0.26  # full-size phantom: 0.20; small heads have less smooth tissue per patch
    assert error(head, done.values) < gate
    blurred = ndimage.gaussian_filter(head.noisy, (0.7, 0.7, 0.7, 0))
    for trivial in (head.noisy, np.zeros_like(head.noisy), blurred):
        assert error(head, trivial) > 1.5 * gate


@pytest.mark.parametrize(("options", "gate"), [({"profile": "fast"}, 0.27), ({"estimator": "median"}, 0.26)])
def test_fast_and_patent_free_routes_are_nearly_as_good(
    head: Phantom, done: Result, options: dict, gate: float
) -> None:
    result = run(head.noisy, **options)
    assert error(head, result.values) < min(gate, 1.06 * error(head, done.values))
    assert np.median(result.maps["noise"][head.mask]) / head.noise.sigma == pytest.approx(0.98, abs=0.04)


def test_shrinkage_beats_truncation(head: Phantom, done: Result) -> None:
    assert error(head, done.values) < 0.95 * error(head, run(head.noisy, shrink="hard").values)


def test_the_residual_is_white_noise_of_the_right_strength(head: Phantom, done: Result) -> None:
    residual = (head.noisy - done.values) / head.noise.sigma
    assert 0.90 <= residual[head.mask].std() <= 1.0
    for axis in range(3):
        here, there = np.arange(MEDIUM[axis] - 1), np.arange(1, MEDIUM[axis])
        both = head.mask.take(here, axis) & head.mask.take(there, axis)
        lag = np.mean(residual.take(here, axis)[both] * residual.take(there, axis)[both])
        assert abs(lag) <= 0.04


def test_every_volume_gains_alike(head: Phantom, done: Result) -> None:
    expected = rician.mean(head.truth[head.mask], head.noise.sigma)
    per_volume = np.sqrt(np.mean((done.values[head.mask] - expected) ** 2, axis=0))
    assert per_volume.max() / np.median(per_volume) <= 1.40


def test_koay_removes_the_noise_floor(head: Phantom, done: Result) -> None:
    result = run(head.noisy, rician="koay")

    def off(values: np.ndarray) -> float:
        return float(np.sqrt(np.mean((values - head.truth)[head.mask] ** 2)) / head.noise.sigma)

    assert off(result.values) < 0.85 * off(done.values)
    assert np.median(result.maps["noise"][head.mask]) / head.noise.sigma == pytest.approx(0.99, abs=0.04)
    background = head.truth.max(axis=-1) < 1e-3 * head.truth.max()
    assert np.median(result.values[background]) < 0.6 * np.median(done.values[background])
    assert np.median(result.maps["noise"][background]) / head.noise.sigma == pytest.approx(1.0, abs=0.05)
    strong = head.truth > 10 * head.noise.sigma
    assert np.abs(result.values - done.values)[strong].max() < 0.15 * head.noise.sigma


def test_a_clean_series_stays_and_a_second_run_changes_little(noisy: np.ndarray) -> None:
    clean = phantom.dwi(shape=SMALL, noise=False)
    mse = np.mean((run(clean.noisy).values - clean.truth) ** 2)
    assert 10 * np.log10(clean.truth.max() ** 2 / mse) >= 45
    once = run(noisy).values
    twice = run(once).values
    assert np.linalg.norm(twice - once) < 0.2 * np.linalg.norm(once - noisy)


@pytest.mark.parametrize("profile", ["default", "fast"])
def test_flips_and_permutations_commute(noisy: np.ndarray, profile: str) -> None:
    plain = run(noisy, profile=profile).values
    for axis in range(3):
        flipped = run(np.flip(noisy, axis).copy(), profile=profile).values
        assert np.abs(np.flip(flipped, axis) - plain).max() <= 1e-5
    turned = run(noisy.transpose(2, 0, 1, 3).copy(), profile=profile).values
    assert np.abs(turned.transpose(1, 2, 0, 3) - plain).max() <= 1e-5


@pytest.mark.parametrize(
    "options", [{}, {"profile": "fast"}, {"parity": True, "patch": "3"}, {"rician": "koay"}], ids=str
)
def test_tiles_give_the_whole(noisy: np.ndarray, options: dict) -> None:
    whole = run(noisy, **options)
    reach = mppca.halo(mppca.Options(**{"patch": "5", **options}))
    values, noise, rank = np.zeros_like(noisy), np.zeros(SMALL, np.float32), np.zeros(SMALL, np.float32)
    for x in range(0, SMALL[0], 7):
        for z in range(0, SMALL[2], 5):
            core = (slice(x, min(x + 7, SMALL[0])), slice(0, SMALL[1]), slice(z, min(z + 5, SMALL[2])))
            window = tuple(
                slice(max(c.start - reach, 0), min(c.stop + reach, n)) for c, n in zip(core, SMALL, strict=True)
            )
            part = run(None, tile=Tile(noisy[window], window, core, SMALL), **options)
            inner = tuple(slice(c.start - w.start, c.stop - w.start) for c, w in zip(core, window, strict=True))
            values[core], noise[core], rank[core] = (
                a[inner] for a in (part.values, part.maps["noise"], part.maps["rank"])
            )
    assert np.array_equal(values, whole.values)
    assert np.array_equal(noise, whole.maps["noise"]) and np.array_equal(rank, whole.maps["rank"])


def test_threads_change_nothing(noisy: np.ndarray) -> None:
    assert np.array_equal(run(noisy).values, run(noisy, threads=3).values)


@pytest.mark.parametrize("factor", [1e-6, 3.0, 1e9])
def test_scale_goes_through(noisy: np.ndarray, factor: float) -> None:
    plain, scaled = run(noisy), run(noisy * np.float32(factor))
    assert np.abs(scaled.values / factor - plain.values).max() <= 1e-5
    assert np.abs(scaled.maps["noise"] / factor - plain.maps["noise"]).max() <= 1e-5


def test_zeroed_background_stays_and_does_not_lower_the_noise(noisy: np.ndarray) -> None:
    values = noisy.copy()
    values[:8] = 0
    result = run(values)
    assert not result.values[:8].any() and not result.maps["noise"][:8].any()
    assert np.median(result.maps["noise"][8]) == pytest.approx(np.median(result.maps["noise"][12]), rel=0.1)
    masked = run(values, mask=np.arange(SMALL[0])[:, None, None] * np.ones(SMALL) >= 8)
    assert np.array_equal(masked.values, result.values)


def test_samples_that_are_no_numbers_stay_and_spread_nowhere(noisy: np.ndarray) -> None:
    values = noisy.copy()
    values[3, 3, 3, 5], values[9, 9, 9] = np.nan, np.inf
    result = run(values)
    bad = ~np.isfinite(values)
    assert np.array_equal(np.isfinite(result.values), ~bad)
    assert np.array_equal(result.values[3, 3, 3, :5], values[3, 3, 3, :5])
    assert result.facts["voxels_unchanged"] == 2


@pytest.mark.parametrize("level", [0.0, 7.5])
def test_a_constant_stays_a_constant(level: float) -> None:
    values = np.full((*SMALL, 16), level, np.float32)
    assert np.array_equal(run(values).values, values)


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((12, 12, 12, 64), (5, 5, 5)),
        ((12, 12, 12, 27), (3, 3, 3)),
        ((8, 8, 8, 150), (7, 7, 7)),
        ((20, 20, 1, 64), (9, 9, 1)),
        ((12, 12, 2, 40), (5, 5, 2)),
        ((20, 20, 40), (7, 7)),
        ((40, 30), (9,)),
    ],
)
def test_patches_fit_slices_and_lines_and_find_the_level(shape: tuple[int, ...], size: tuple[int, ...]) -> None:
    assert mppca.patch_size("auto", shape[:-1], shape[-1])[: len(size)] == size
    values = (10 + 2 * np.random.default_rng(1).standard_normal(shape)).astype(np.float32)
    result = run(values)
    assert result.values.shape == shape and result.maps["noise"].shape == shape[:-1]
    assert np.median(result.maps["noise"]) == pytest.approx(2.0, rel=0.12)
    assert np.std(result.values) < 0.5 * np.std(values)


def test_complex_series_report_the_level_of_one_channel() -> None:
    rng = np.random.default_rng(2)
    signal = np.exp(1j * np.linspace(0, 3, 12))[:, None, None, None] * np.linspace(20, 40, 30)
    noise = rng.standard_normal((12, 12, 12, 30)) + 1j * rng.standard_normal((12, 12, 12, 30))
    values = (signal + 2 * noise).astype(np.complex64)
    result = run(values)
    assert result.values.dtype == np.complex64
    assert np.median(result.maps["noise"]) == pytest.approx(2.0, rel=0.03)
    assert np.linalg.norm(result.values - signal) < 0.35 * np.linalg.norm(values - signal)
    known = run(values, Noise("gaussian", 2.0, "given"))
    assert np.linalg.norm(known.values - signal) < 0.35 * np.linalg.norm(values - signal)


def test_a_given_level_takes_the_place_of_the_estimate(head: Phantom, done: Result) -> None:
    sigma = head.noise.sigma
    number = run(head.noisy, Noise("rician", sigma, "given"))
    field = run(head.noisy, Noise("rician", np.full(MEDIUM, sigma), "given"))
    vector = run(head.noisy, Noise("rician", np.full(64, sigma), "given"))
    assert error(head, number.values) < 1.03 * error(head, done.values)
    assert np.array_equal(number.values, field.values)
    assert np.abs(vector.values - number.values).max() <= 1e-3 * sigma
    assert np.abs(number.maps["noise"] - sigma).max() <= 1e-6 * sigma
    assert np.array_equal(run(head.noisy, Noise("rician", 0.0, "given")).values, head.noisy)


def test_a_level_map_may_be_empty_outside_the_mask(noisy: np.ndarray) -> None:
    values = noisy.copy()
    values[:6] = 0
    level = np.full(SMALL, 0.05)
    full = run(values, Noise("rician", level, "given"))
    level[:6] = np.nan
    level[:3] = 0
    assert np.array_equal(run(values, Noise("rician", level, "given")).values, full.values)


def test_a_level_that_differs_between_volumes_is_levelled() -> None:
    rng = np.random.default_rng(4)
    sigma = np.linspace(1, 4, 30)
    signal = 50 + 10 * np.sin(np.linspace(0, 6, 12))[:, None, None, None] * np.cos(np.arange(30.0))
    values = (signal + sigma * rng.standard_normal((12, 12, 12, 30))).astype(np.float32)

    def off(result: Result) -> float:
        return float(np.sqrt(np.mean(((result.values - signal) / sigma) ** 2)))

    assert off(run(values, Noise("gaussian", sigma, "given"))) < min(0.3, 0.9 * off(run(values)))


@pytest.mark.parametrize("patch", ["4", "5,3", "x", "-3", "1.5"])
def test_a_wrong_patch_is_named(noisy: np.ndarray, patch: str) -> None:
    with pytest.raises(UsageError, match="patch"):
        run(noisy, patch=patch)
    with pytest.raises(UsageError, match="patch"):
        mppca.halo(mppca.Options(patch=patch))


@pytest.mark.parametrize("length", range(5, 40))
@pytest.mark.parametrize("step", [1, 2, 3])
def test_the_grid_is_its_own_mirror_image_and_covers_the_axis(length: int, step: int) -> None:
    starts = mppca.grid(length, 5, step)
    assert np.array_equal(starts, (length - 5 - starts)[::-1])
    assert starts[0] == 0 and np.diff(starts, append=length - 5).max() <= step + 1


def test_real_philips_data_keep_their_zeros_and_report_a_level(shared_data) -> None:
    import nibabel

    image = nibabel.load(shared_data("mri/dwi_philips/ph_dwi.nii.gz"))
    values = np.asanyarray(image.dataobj[30:70, 30:70, 10:18]).astype(np.float32)
    values[:6] = 0
    result = run(values)
    tissue = values.mean(axis=-1) > 200
    assert np.isfinite(result.values).all() and not result.values[:6].any()
    assert np.all(result.maps["noise"][tissue] > 0)
    assert abs(np.mean((values - result.values)[tissue])) < 0.01 * values[tissue].mean()
