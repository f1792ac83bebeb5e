# SPDX-License-Identifier: Apache-2.0
"""The ultrasound field: what it refuses, warns of and measures, and its phantoms."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from pellucid.core import memory
from pellucid.core.errors import UsageError
from pellucid.domains import registry
from pellucid.domains.declare import Subject
from pellucid.domains.ultrasound import checks, metrics, noise, phantom, phantom_flow
from pellucid.domains.ultrasound.field import FIELD


def held(values: np.ndarray, kind: str = "bmode", options: dict | None = None, **facts: object) -> Subject:
    axes = (("y", "x", "frame") if kind == "bmode" else ("axial", "lateral", "frame"))[: values.ndim]
    reader = memory.reader(values, axes, kind, **facts)
    return Subject(reader, reader.description, options or {})


def refused(verb: str, subject: Subject) -> list[str]:
    seen = registry.field(f"ultrasound {verb}") if verb else FIELD
    return [r.hint for r in (check(subject) for check in seen.refuse) if r]


@pytest.fixture(scope="module")
def frame() -> np.ndarray:
    return phantom.simulate(0, "cyst").noisy


def test_declaring_the_field_loads_no_heavy_library():
    heavy = "print(sorted({'numpy', 'torch', 'scipy'} & set(sys.modules)))"
    script = f"import sys; import pellucid.domains.ultrasound.field; {heavy}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_every_method_of_every_verb_is_there():
    for verb in ("", " despeckle", " clutter"):
        seen = registry.field("ultrasound" + verb)
        assert seen.choose[0].method == seen.methods[0]
        for name in seen.methods:
            assert registry.method(name, "ultrasound").TRAITS.name == name


def test_a_single_image_is_sent_to_despeckle_and_a_cine_is_not(frame):
    assert any("despeckle" in hint for hint in refused("", held(frame)))
    assert not refused("", held(np.stack([frame] * 6, -1)))
    assert not refused("despeckle", held(frame))


def test_rf_and_iq_are_sent_to_bmode_before_despeckling():
    values = np.random.default_rng(0).standard_normal((40, 30, 8)).astype(np.complex64)
    for kind in ("unknown", "iq", "rf", "channel"):
        assert any("bmode" in hint for hint in refused("despeckle", held(values, kind)))


def test_clutter_wants_rf_or_iq_and_six_frames(frame):
    values = np.random.default_rng(0).standard_normal((20, 16, 5)).astype(np.complex64)
    assert refused("clutter", held(values, "iq"))
    assert not refused("clutter", held(np.concatenate([values, values], -1), "iq"))
    assert refused("clutter", held(np.stack([frame] * 8, -1)))


@pytest.mark.parametrize("kind", sorted(checks.FOREIGN))
def test_what_is_no_grey_echo_is_refused_by_all_verbs(kind):
    values = np.random.default_rng(0).integers(0, 255, (40, 30, 8)).astype(np.uint8)
    assert refused("", held(values, kind)) and refused("despeckle", held(values, kind))


def test_label_maps_and_single_values_are_refused():
    labels = np.zeros((64, 64), np.uint8)
    labels[20:40, 20:40] = 3
    assert refused("despeckle", held(labels)) and refused("despeckle", held(np.full((9, 9), 7, np.uint8)))


def test_despeckling_always_says_what_it_costs(frame):
    seen = registry.field("ultrasound despeckle")
    codes = {w[0] for w in (check(held(frame)) for check in seen.warn) if w}
    assert codes == {"speckle-gone", "assumed-range"}
    codes = {w[0] for w in (check(held(frame, options={"dynamic_range": 50.0})) for check in seen.warn) if w}
    assert codes == {"speckle-gone"}


def test_the_phantom_has_the_statistics_of_fully_developed_speckle():
    found = phantom.cyst(3)
    z, x = phantom.grids(phantom.SIZE, fine=1)
    plain = (np.abs(z - 26.5) < 3) & (np.abs(x - 20) < 18)
    envelope = found.envelope[plain]
    assert metrics.speckle_snr(envelope) == pytest.approx(1.913, abs=0.07)
    assert np.std(20 * np.log10(envelope)) == pytest.approx(5.57, abs=0.3)
    assert 20 * np.log10(envelope.mean()) == pytest.approx(found.truth_db[plain].mean(), abs=0.4)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_speckle_is_measured_within_a_tenth(seed):
    shown = phantom.simulate(seed, "cyst").noisy
    level = noise.estimate(held(shown, acquisition={"dynamic_range_db": 60.0}))
    assert level.params["sigma_db"] == pytest.approx(5.57, rel=0.1)
    assert level.params["psf_samples"][0] * 0.08 == pytest.approx(0.35, rel=0.1)
    assert level.params["psf_samples"][1] * 0.10 == pytest.approx(0.60, rel=0.1)
    assert level.sigma == pytest.approx(level.params["sigma_db"] * 255 / 60)


def test_an_envelope_and_its_picture_have_the_same_speckle():
    envelope = phantom.cyst(1).envelope.astype(np.float32)
    one = noise.estimate(held(envelope, "envelope"))
    two = noise.estimate(held(phantom.display(20 * np.log10(envelope + 1e-9))))
    assert one.sigma == pytest.approx(two.params["sigma_db"], rel=0.03)


def test_dynamic_range_scales_decibels(frame):
    wide, usual = (noise.estimate(held(frame, options={"dynamic_range": r})) for r in (120.0, 0.0))
    assert wide.params["sigma_db"] == pytest.approx(2 * usual.params["sigma_db"], rel=1e-3)
    assert wide.sigma == pytest.approx(usual.sigma, rel=1e-3)


def test_gcnr_and_cnr_of_known_distributions():
    rng = np.random.default_rng(0)
    one, two = rng.standard_normal(200_000), rng.standard_normal(200_000) + 2
    assert metrics.cnr(one, two) == pytest.approx(np.sqrt(2), rel=0.02)
    assert metrics.gcnr(one, two) == pytest.approx(0.6827, abs=0.01)  # 1 - 2 Phi(-1)


def test_width_of_a_gaussian_profile():
    profile = np.exp(-4 * np.log(2) * np.square((np.arange(41) - 20) / 7.0))
    assert metrics.fwhm(profile, 20) == pytest.approx(7, abs=0.03)


def test_regions_outside_the_image_are_errors():
    with pytest.raises(ValueError, match="outside"):
        metrics.rectangles({"a": [0, 9, 0, 99]}, (10, 10))


def test_zero_identity_and_blur_do_not_improve_what_they_should():
    from scipy.ndimage import gaussian_filter

    case = phantom.simulate(0, "cyst")
    score = lambda v: metrics.measure(case.truth, v, case.description)["rmse_db"]  # noqa: E731
    good = 2.0
    assert score(case.noisy) > good and score(0 * case.noisy) > good
    assert score(gaussian_filter(case.noisy, 2)) > good


def test_a_cine_moves_and_its_truth_has_no_noise():
    truth, noisy = phantom_flow.cine(0, 96, 80, 8, motion=1.0)
    residual = noisy - truth
    assert np.mean(np.abs(residual) ** 2) == pytest.approx(10**-1.2, rel=0.02)
    assert np.abs(truth[..., 2] - truth[..., 0]).std() > 0.1


def test_blood_hides_under_tissue_and_moves_as_fast_as_said():
    values, blood = phantom_flow.doppler(0, 200, 160, 32)
    inside = phantom_flow.lumen(200, 160)
    power = np.mean(np.abs(values) ** 2, -1)
    assert 10 * np.log10(power[inside].mean() / power[~inside].mean()) == pytest.approx(-24.6, abs=2)
    r1 = np.mean(blood[..., 1:] * blood[..., :-1].conj(), -1)
    velocity = np.angle(r1) * 1540 * 2000 / (4 * np.pi * 5e6)  # along the beam
    assert np.median(velocity[98:103, 60:100]) == pytest.approx(0.3 * np.cos(np.deg2rad(72)), rel=0.1)


@pytest.mark.parametrize("case", ["cine", "cyst", "iq", "doppler"])
def test_cases_repeat_by_seed(case):
    size = (96, 80, 8)
    one, two, other = (phantom.simulate(s, case, size) for s in (0, 0, 1))
    assert np.array_equal(one.noisy, two.noisy) and not np.array_equal(one.noisy, other.noisy)
    assert one.truth.shape == one.noisy.shape == one.description.shape


def test_an_unknown_case_is_an_error():
    with pytest.raises(UsageError):
        phantom.simulate(0, "heart")
