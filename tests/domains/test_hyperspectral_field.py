# SPDX-License-Identifier: Apache-2.0
"""The hyperspectral field: what it refuses, warns of, measures, simulates and shows."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from pellucid.core import restore
from pellucid.core.errors import Refused
from pellucid.core.types import Description, Plan, Tile
from pellucid.domains.declare import Subject
from pellucid.domains.hyperspectral import checks, lowrank, metrics, phantom
from pellucid.domains.hyperspectral.field import FIELD


@dataclass
class Held:
    """A reader of an array."""

    values: np.ndarray
    description: Description
    path: Path = Path("scene.dat")

    def read(self, region):
        return self.values[region]


def subject(values, name="scene.dat", **changes):
    """Return a subject over an array (line, sample, band)."""
    axes = ("line", "sample", "band")[: values.ndim]
    description = Description("npy", values.shape, axes, str(values.dtype), kind="reflectance")
    description = description.with_(**changes)
    return Subject(Held(values, description, Path(name)), description)


def refusals(given):
    """Return the refusals of a subject."""
    return [r for r in (check(given) for check in FIELD.refuse) if r]


def codes(given):
    """Return the codes of a subject's warnings."""
    return [w[0] for w in (check(given) for check in FIELD.warn) if w]


@pytest.fixture(scope="module")
def simulated():
    """Return a small scene with its subject."""
    made = phantom.simulate(1, size=(48, 48, 40))
    return made, Subject(Held(made.noisy, made.description), made.description)


def test_a_scene_is_accepted_and_denoised_by_lowrank(simulated):
    _, given = simulated
    assert refusals(given) == []
    assert codes(given) == []
    assert next(c.method for c in FIELD.choose if c.when(given)) == "lowrank"


@pytest.mark.parametrize(
    ("values", "changes", "word"),
    [
        (np.zeros((8, 8, 12), np.complex64), {}, "complex"),
        (np.ones((8, 8, 12)), {"kind": "library"}, "spectral library"),
        (np.ones((8, 8, 12)), {"witnesses": {"file_type": "ENVI Spectral Library"}}, "spectral library"),
        (np.ones((8, 8, 12)), {"kind": "labels"}, "class map"),
        (np.repeat(np.arange(64, dtype=np.uint8).reshape(8, 8), 6, 1)[..., None], {}, "class map"),
        (np.ones((8, 8, 3), np.uint8), {}, "colour"),
        (np.ones((8, 8, 12)), {"bad": tuple(range(11))}, "single"),
        (np.full((8, 8, 12), -9.0), {"nodata": -9.0}, "no valid pixel"),
    ],
)
def test_what_is_no_scene_is_refused(values, changes, word):
    found = refusals(subject(values, **changes))
    assert any(word in f.what for f in found)
    assert all(f.hint for f in found)


def test_few_bands_are_left_to_the_image_methods():
    given = subject(np.random.default_rng(0).random((16, 16, 5)).astype(np.float32))
    assert refusals(given) == []
    assert next(c.method for c in FIELD.choose if c.when(given)) == "nlm"


def test_resampled_scenes_are_warned_of_by_name_and_by_their_noise(simulated):
    made, given = simulated
    named = replace(given, reader=Held(made.noisy, made.description, Path("ENMAP_L2A_tile.tif")))
    assert "resampled" in codes(named)
    values = made.noisy.astype(np.float32)
    mixed = (values[:, 1:] + values[:, :-1]) / 2
    assert "resampled" in codes(subject(mixed))


def test_disordered_wavelengths_bad_bands_and_few_pixels_are_said():
    values = np.random.default_rng(0).random((4, 4, 12)).astype(np.float32)
    found = codes(
        subject(values, bad=(3, 4), acquisition={"wavelengths_nm": [*range(400, 1000, 100), *range(850, 1450, 100)]})
    )
    assert found == ["wavelength-order", "bad-bands", "few-pixels"]


def test_methods_learn_bands_and_wavelengths_without_the_bad_ones():
    given = subject(np.ones((4, 4, 5)), bad=(1,), acquisition={"wavelengths_nm": [1, 2, 3, 4, 5]})
    facts = FIELD.extras(given)
    assert facts["bands"] == [0, 2, 3, 4]
    assert facts["wavelengths_nm"] == [1, 3, 4, 5]


@pytest.mark.parametrize("estimator", ["regression", "difference"])
def test_noise_per_band_is_found(simulated, estimator):
    made, given = simulated
    noise = FIELD.estimate(given, estimator)
    assert noise.estimator == estimator
    ratio = noise.sigma / made.noise.sigma
    texture = 0.1 if estimator == "regression" else 0.3  # differences within a band see texture as noise
    assert np.median(ratio) == pytest.approx(1, abs=texture)


def test_a_bad_band_has_no_noise_and_stays_out(simulated):
    made, _ = simulated
    values = made.noisy.copy()
    values[..., 7] = -32768
    description = made.description.with_(bad=(7,), nodata=-32768.0)
    noise = FIELD.estimate(Subject(Held(values, description), description), "")
    assert noise.sigma[7] == 0
    assert np.median(noise.sigma / made.noise.sigma) == pytest.approx(1, abs=0.1)


def test_a_scene_without_a_valid_pixel_is_refused_by_every_way_in():
    nothing = np.full((12, 12, 15), -1.0, np.float32)
    given = subject(nothing, nodata=-1.0)
    with pytest.raises(Refused, match="0 valid pixels"):
        FIELD.estimate(given, "")
    plan = Plan("lowrank", options=lowrank.Options())
    tile = Tile.whole(np.zeros_like(nothing), spatial=2, mask=np.zeros((12, 12), bool))
    with pytest.raises(Refused, match="no valid pixel"):
        lowrank.settle(lowrank.gather(tile, None, plan), plan)


def test_metrics_know_closed_forms():
    x = np.random.default_rng(0).random((20, 20, 6))
    x[0, 0], x[0, 1] = 0, 1  # every band spans 0 to 1
    description = Description("npy", x.shape, ("line", "sample", "band"), "float64")
    off = metrics.measure(x, x + 0.1, description)
    assert off["mpsnr"] == pytest.approx(20)
    assert off["psnr"] == pytest.approx(20)
    assert off["sam_excluded"] == 1
    assert off["ergas"] == pytest.approx(100 * np.sqrt(np.mean(0.01 / x.mean((0, 1)) ** 2)))
    assert metrics.measure(x, 2 * x, description)["sam"] == pytest.approx(0, abs=1e-5)
    same = metrics.measure(x, x, description)
    assert same["mpsnr"] == np.inf
    assert same["ssim"] == pytest.approx(1)


def test_zero_identity_and_blur_score_below_the_truth_with_a_hundredth_of_noise(simulated):
    made, _ = simulated
    region = tuple(slice(0, n) for n in made.truth.shape)
    truth, noisy = (restore.physical(a, made.description, region) for a in (made.truth, made.noisy))
    good = FIELD.measure(truth, truth + 0.1 * (noisy - truth), made.description)
    from scipy import ndimage

    for poor in (np.zeros_like(truth), noisy, ndimage.gaussian_filter(noisy, (1, 1, 0))):
        assert FIELD.measure(truth, poor, made.description)["mpsnr"] < good["mpsnr"]


def test_the_judge_tells_noise_from_scene(simulated):
    made, _ = simulated
    region = tuple(slice(0, n) for n in made.truth.shape)
    truth, noisy = (restore.physical(a, made.description, region) for a in (made.truth, made.noisy))
    right = FIELD.judge(noisy, truth, made.description, None)
    wrong = FIELD.judge(noisy, 0.9 * truth, made.description, None)
    assert right["residual_over_sigma"] == pytest.approx(1, abs=0.1)
    assert abs(right["residual_correlation"]) < 0.05
    assert wrong["residual_inside"] > 0.5 > right["residual_inside"]
    assert right["stripes"] == pytest.approx(1, abs=0.3)


def test_the_view_holds_the_bands_nearest_2200_850_and_650_nanometres_unscaled(simulated):
    made, _ = simulated
    view = FIELD.picture(made.truth.astype(np.float32), made.description)
    centres = np.asarray(made.description.acquisition["wavelengths_nm"])
    nearest = [int(np.abs(centres - w).argmin()) for w in (2200, 850, 650)]
    np.testing.assert_array_equal(view, made.truth[..., nearest].astype(np.float32))


@pytest.mark.parametrize("case", FIELD.cases)
def test_every_case_simulates_the_same_scene_twice(case):
    one, two = (FIELD.simulate(3, case, (24, 20, 30)) for _ in range(2))
    np.testing.assert_array_equal(one.noisy, two.noisy)
    assert one.noisy.shape == (24, 20, 30) == one.truth.shape
    assert one.noise.sigma.shape == (30,)
    assert not np.array_equal(one.noisy, one.truth)


def test_the_cases_do_what_the_literature_says():
    clean = np.full((50, 100, 60), 0.5)
    dead, _ = phantom.degrade(clean, "4", np.random.default_rng(0))
    assert 10 <= (dead == 0).all(0).any(0).sum() <= 20
    speckled, _ = phantom.degrade(clean, "5", np.random.default_rng(0))
    assert 15 <= ((speckled == 0) | (speckled == 1)).any((0, 1)).sum() <= 20
    white, sigma = phantom.degrade(clean, "1", np.random.default_rng(0))
    assert (white - clean)[0, 0, 0] == pytest.approx(0.1 * np.random.default_rng(0).standard_normal())
    assert set(sigma) == {0.1}


def test_noise_of_a_real_kernel_scan_is_positive_in_every_band(shared_data):
    from pellucid.formats import envi

    reader = envi.open(shared_data("hyperspectral/envi/corn-kernel-hyperspectral.hdr"))
    description = reader.description.with_(axes=("line", "sample", "band"))
    noise = FIELD.estimate(Subject(reader, description), "difference")
    assert noise.sigma.shape == (580,)
    assert np.isfinite(noise.sigma).all()


def test_constants_of_the_checks_leave_a_textured_scene_alone(simulated):
    made, _ = simulated
    assert checks.labels(subject(made.noisy[..., :2])) is None


def test_quality_layers_of_a_file_that_has_none_are_refused(tmp_path):
    import pellucid

    np.save(tmp_path / "a.npy", np.random.default_rng(0).normal(5, 1, (20, 20, 12)).astype(np.float32))
    for option in ({"quality": "cloud"}, {"quality_file": tmp_path / "a.npy"}):
        with pytest.raises(Refused, match="no quality layers"):
            pellucid.denoise(tmp_path / "a.npy", field="hyperspectral", **option)


def test_destriping_a_resampled_scene_is_warned_of():
    from scipy import ndimage

    rng = np.random.default_rng(0)
    noise = ndimage.gaussian_filter(rng.standard_normal((60, 60, 12)), (0.7, 0.7, 0))
    code, text = checks.perhaps_slanted(subject((100 + noise).astype(np.float32)))
    assert code == "resampled" and "slanted" in text
    assert checks.perhaps_slanted(subject(rng.standard_normal((60, 60, 12)).astype(np.float32))) is None
