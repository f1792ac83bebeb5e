# SPDX-License-Identifier: Apache-2.0
"""The image field: what it refuses, what it warns of, how it judges; and that bad results fail."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from pellucid.core.errors import UsageError
from pellucid.core.types import Description, Noise, Plan, Tile
from pellucid.domains import registry
from pellucid.domains.declare import Subject
from pellucid.domains.image import checks, metrics, noise, phantom
from pellucid.domains.image.field import FIELD


class Held:
    """A reader over an array."""

    def __init__(self, values, description):
        self.path, self.values, self.description = Path("held.png"), values, description

    def read(self, region):
        return self.values[region]

    def close(self):
        pass


def held(values, **facts) -> Subject:
    axes = ("y", "x", "channel")[: values.ndim]
    facts = {"kind": "intensity", "slope": 1 / 255 if values.dtype == np.uint8 else 1.0} | facts
    description = Description("png", values.shape, axes, str(values.dtype), **facts)
    return Subject(Held(values, description), description)


def refusals(subject):
    return [r for r in (check(subject) for check in FIELD.refuse) if r]


def warnings(subject):
    return {w[0] for w in (check(subject) for check in FIELD.warn) if w}


def run(name, values, given):
    method = registry.method(name, "image")
    plan = Plan(name, options=method.Options())
    return method.run(Tile.whole(values, spatial=2), given, plan, np.random.default_rng(0)).values


def test_declaring_the_field_loads_no_heavy_library():
    script = (
        "import sys; import pellucid.domains.image.field; print(sorted({'numpy','torch','scipy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout.strip() == "[]"


@pytest.mark.parametrize("kind", ["palette", "cmyk", "lab", "ycbcr", "mask", "mosaic", "animation"])
def test_what_is_no_picture_of_light_is_refused(kind):
    values = np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)
    (one,) = refusals(held(values, kind=kind))
    assert one.what and one.hint


def test_complex_samples_are_refused():
    assert refusals(held(np.zeros((64, 64), np.complex64)))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_a_label_image_is_refused_and_a_noisy_one_is_not(dtype):
    labels = np.kron(np.arange(16).reshape(4, 4), np.ones((20, 20))).astype(dtype)
    (one,) = refusals(held(labels))
    assert "16 distinct values" in one.what and one.soft
    noisy = labels * 5 + np.random.default_rng(0).integers(0, 6, labels.shape)
    assert not refusals(held(noisy.astype(dtype)))


def test_a_black_picture_is_no_label_image():
    assert not refusals(held(np.zeros((64, 64), np.uint8)))


@pytest.mark.parametrize("case", FIELD.cases)
def test_a_photograph_is_not_refused(case):
    assert not refusals(held(phantom.simulate(0, case).noisy))


def test_real_photographs_are_not_refused(shared_data):
    import imagecodecs

    for name in ("natural/set12/01.png", "natural/kodak24_500/kodim23.png"):
        assert not refusals(held(imagecodecs.imread(shared_data(name).read_bytes())))


def test_warnings_name_loss_clipping_correlation_and_smallness():
    plain = phantom.simulate(0, "colour").noisy
    assert warnings(held(plain)) == set()
    assert warnings(held(plain, lossy=True)) == {"lossy-source"}
    assert warnings(held(np.where(plain < 90, 0, plain).astype(np.uint8))) >= {"clipped"}
    assert warnings(held(phantom.simulate(0, "correlated").noisy)) == {"correlated-noise"}
    assert "small" in warnings(held(plain[:40, :40]))


@pytest.mark.parametrize("sigma", [5, 10, 25, 50])
def test_white_noise_is_measured_within_five_per_cent(sigma):
    clean = phantom.scene((256, 256))
    y = clean + sigma / 255 * np.random.default_rng(1).standard_normal(clean.shape)
    found = noise.estimate(held(y.astype(np.float32)))
    assert found.sigma == pytest.approx(sigma / 255, rel=0.05)
    assert found.params["stride"] == 1


def test_correlated_noise_is_measured_at_its_true_strength():
    found = noise.estimate(held(phantom.simulate(0, "correlated").noisy))
    naive = noise.estimate(held(phantom.simulate(0, "correlated").noisy), "white")
    assert found.sigma == pytest.approx(phantom.SIGMA, rel=0.15) and found.params["stride"] > 1
    assert naive.sigma < 0.6 * phantom.SIGMA


def test_samples_that_are_no_numbers_do_not_count():
    y = phantom.scene((128, 128)) + 0.1 * np.random.default_rng(0).standard_normal((128, 128))
    y[30:50, 30:50] = np.nan
    assert noise.estimate(held(y.astype(np.float32))).sigma == pytest.approx(0.1, rel=0.08)


def test_a_phantom_is_the_same_for_a_seed_and_its_noise_is_what_it_says():
    one, two = phantom.simulate(3), phantom.simulate(3)
    assert np.array_equal(one.noisy, two.noisy) and one.truth.dtype == np.uint8
    sd = np.std((one.noisy.astype(float) - one.truth) / 255)
    assert sd == pytest.approx(phantom.SIGMA, rel=0.03)
    assert phantom.simulate(size=(40, 50)).noisy.shape == (40, 50)
    with pytest.raises(UsageError, match="unknown phantom"):
        phantom.simulate(case="none")


@pytest.mark.parametrize("case", FIELD.cases)
def test_the_default_gains_where_zero_identity_and_blur_fail(case):
    made = phantom.simulate(0, case, 192)
    subject = held(made.noisy)
    truth, y = made.truth / 255, subject.probe
    name = next(c.method for c in FIELD.choose if c.when(subject))
    d = subject.description
    before = metrics.measure(truth, y, d)["psnr"]
    gate = before + {"grey": 11.5, "colour": 13, "correlated": 7}[case]
    assert metrics.measure(truth, run(name, y, noise.estimate(subject)), d)["psnr"] > gate
    blurs = [gaussian_filter(y, (s, s, 0)[: y.ndim]) for s in (0.6, 1.0, 1.4, 2.0)]
    for bad in (np.zeros_like(y), y, *blurs):
        assert metrics.measure(truth, bad, d)["psnr"] < gate


def test_a_clean_photograph_stays_clean(shared_data):
    import imagecodecs

    clean = imagecodecs.imread(shared_data("natural/kodak24_500/kodim23.png").read_bytes())[:256, :256]
    subject = held(clean)
    out = run("nlm", subject.probe, noise.estimate(subject))
    assert metrics.measure(clean / 255, out, subject.description)["psnr"] > 45


def test_a_second_run_on_a_camera_picture_changes_little(shared_data):
    import imagecodecs

    noisy = imagecodecs.imread(shared_data("natural/cc15/d800_iso3200_2_real.png").read_bytes())
    y = held(noisy).probe
    once = run("nlm", y, noise.estimate(held(y)))
    twice = run("nlm", once, noise.estimate(held(once)))
    assert np.std(twice - once) < 0.05 * np.std(once - y)


def test_a_second_run_changes_little():
    y = held(phantom.simulate(0, "colour", 192).noisy).probe
    once = run("nlm", y, noise.estimate(held(y)))
    twice = run("nlm", once, noise.estimate(held(once)))
    assert np.std(twice - once) < 0.2 * np.std(once - y)


def test_the_judge_tells_noise_from_edges():
    made = phantom.simulate(0, "grey", 128)
    d, y = made.description, (made.noisy / 255).astype(np.float32)
    good = metrics.judge(y, (made.truth / 255).astype(np.float32), d, made.noise)
    quiet = phantom.scene((128, 128)) + 0.03 * np.random.default_rng(0).standard_normal((128, 128))
    bad = metrics.judge(quiet, gaussian_filter(quiet, 2.0), d, made.noise)
    assert good["residual_over_sigma"] == pytest.approx(1, abs=0.05)
    assert abs(good["correlation_y"]) < 0.05 and abs(good["edges"]) < 0.05
    assert bad["edges"] > 0.3


def test_figures_clip_at_full_scale_for_integers_only():
    d = held(np.zeros((32, 32), np.uint8)).description
    reference = np.ones((32, 32), np.float32)
    assert metrics.measure(reference, reference + 0.5, d)["psnr"] == np.inf
    ramp = np.linspace(0, 4, 1024, dtype=np.float32).reshape(32, 32)
    assert metrics.measure(ramp, ramp + 0.4, held(ramp).description)["psnr"] == pytest.approx(20.0, abs=1e-3)


def test_the_picture_of_colours_has_three_channels():
    made = phantom.simulate(0, "colour", 64)
    assert metrics.picture(made.noisy, made.description).shape == (64, 64, 3)
    assert metrics.picture(made.noisy[..., 0], made.description).shape == (64, 64)


def test_ends_of_the_scale_follow_the_slope():
    assert checks._ends(held(np.zeros((8, 8), np.uint8))) == {"black": 0, "white": np.float32(1)}
    assert checks._ends(held(np.zeros((8, 8), np.float32))) == {}
    assert isinstance(noise.estimate(held(np.zeros((64, 64), np.uint8))), Noise)
