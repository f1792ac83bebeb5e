# SPDX-License-Identifier: Apache-2.0
"""The MRI field: noise levels, figures of merit, pictures, names; and that bad results fail them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from pellucid.core.errors import UsageError
from pellucid.core.types import Description, Noise
from pellucid.domains.declare import Subject
from pellucid.domains.mri import metrics, noise, phantom
from pellucid.domains.mri.field import FIELD
from pellucid.formats import nifti


class Held:
    """A reader over an array."""

    def __init__(self, values, description):
        self.path, self.values, self.description = Path("held.nii"), values, description

    def read(self, region):
        return self.values[region]

    def close(self):
        pass


def held(values, **facts) -> Subject:
    axes = ("x", "y", "z", "volume")[: values.ndim]
    description = Description("nifti", values.shape, axes, str(values.dtype), "magnitude", slab=2, **facts)
    return Subject(Held(values, description), description)


@pytest.fixture(scope="module")
def head():
    return phantom.simulate(0, "t1", (64, 72, 40))


def test_declaring_the_field_loads_no_heavy_library():
    script = (
        "import sys; import pellucid.domains.mri.field; print(sorted({'numpy','torch','nibabel'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout.strip() == "[]"


@pytest.mark.parametrize(("volumes", "expected"), [(14, "nlm"), (15, "mppca"), (64, "mppca")])
def test_mppca_is_the_default_from_fifteen_volumes(volumes, expected):
    one = held(np.zeros((4, 4, 4, volumes), "float32"))
    assert next(c.method for c in FIELD.choose if c.when(one)) == expected


def test_complex_series_go_to_a_method_that_takes_them():
    from pellucid.domains import registry

    one = held(np.zeros((4, 4, 4, 20), "complex64"))
    name = next(c.method for c in FIELD.choose if c.when(one))
    assert registry.method(name, "mri").TRAITS.complex


def test_every_method_on_offer_exists_and_takes_three_axes():
    from pellucid.domains import registry

    for name in FIELD.methods:
        assert 3 in registry.method(name, "mri").TRAITS.spatial


@pytest.mark.parametrize(("percent", "tolerance"), [(3, 0.1), (5, 0.1), (9, 0.1)])
@pytest.mark.parametrize("estimator", ["", "mad", "background"])
def test_the_level_of_rician_noise_is_found(percent, tolerance, estimator):
    made = phantom.t1(3, percent=percent, shape=(64, 72, 40))
    found = FIELD.estimate(held(made.noisy), estimator)
    assert found.law == "rician" and found.source == "estimated"
    assert found.sigma == pytest.approx(made.noise.sigma, rel=tolerance)


def test_the_level_scales_with_the_data(head):
    one, tiny = (FIELD.estimate(held(head.noisy * np.float32(k)), "").sigma for k in (1, 1e-6))
    assert tiny == pytest.approx(1e-6 * one, rel=1e-4)


def test_a_blanked_background_is_not_taken_for_quiet(head):
    blanked = np.where(head.mask, head.noisy, 0).astype("float32")
    found = FIELD.estimate(held(blanked), "")
    assert found.estimator == "mad" and found.sigma == pytest.approx(head.noise.sigma, rel=0.15)
    with pytest.raises(UsageError, match="no air"):
        FIELD.estimate(held(blanked), "background")


def test_a_constant_volume_has_no_noise():
    assert FIELD.estimate(held(np.full((16, 16, 16), 7, "float32")), "").sigma == 0


def test_complex_noise_is_counted_per_part():
    rng = np.random.default_rng(0)
    values = (100 + 3 * (rng.standard_normal((32, 32, 32)) + 1j * rng.standard_normal((32, 32, 32)))).astype(
        "complex64"
    )
    found = FIELD.estimate(held(values), "")
    assert found.law == "gaussian" and found.sigma == pytest.approx(3, rel=0.02)


def test_a_better_image_scores_better_and_zero_and_blur_score_worse_than_the_input(head):
    half = (head.truth + head.noisy) / 2
    blur = gaussian_filter(head.noisy, 2.5)
    scores = {
        name: FIELD.measure(head.truth, values, head.description, head.mask)
        for name, values in {"half": half, "input": head.noisy, "zero": np.zeros_like(half), "blur": blur}.items()
    }
    for bad in ("input", "zero", "blur"):
        assert scores["half"]["psnr"] > scores[bad]["psnr"] + 3
        assert scores["half"]["nrmse"] < 0.7 * scores[bad]["nrmse"]
        assert scores["half"]["ssim"] > scores[bad]["ssim"]
    assert scores["zero"]["nrmse"] == pytest.approx(1)


def test_psnr_is_that_of_its_definition(head):
    one = FIELD.measure(head.truth, head.truth + np.float32(2), head.description, head.mask)
    peak = head.truth[head.mask].max()
    assert one["psnr"] == pytest.approx(20 * np.log10(peak / 2), abs=1e-3)


def test_a_white_residual_is_told_from_anatomy(head):
    made = Noise("rician", head.noise.sigma, "given")
    good = FIELD.judge(head.noisy, head.truth, head.description, made)
    blurred = FIELD.judge(head.noisy, gaussian_filter(head.noisy, 1.5), head.description, made)
    nothing = FIELD.judge(head.noisy, head.noisy, head.description, made)
    assert good["residual_over_sigma"] == pytest.approx(1, abs=0.05)
    assert max(abs(good[f"correlation_{a}"]) for a in "xyz") < 0.05
    assert abs(good["edges"]) < 0.1 < blurred["edges"]
    assert max(abs(blurred[f"correlation_{a}"]) for a in "xyz") > 0.15
    assert nothing["residual_over_sigma"] == 0


def test_a_noise_map_counts_as_its_median_inside_the_head(head):
    level = np.full(head.truth.shape, head.noise.sigma, "float32")
    level[:4] = 1e6  # air
    found = FIELD.judge(head.noisy, head.truth, head.description, Noise("rician", level, "file"))
    assert found["residual_over_sigma"] == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("codes", ["RAS", "LAS", "LPS", "PLS", "SAR", "AIL"])
def test_the_picture_looks_the_same_however_the_volume_is_stored(codes):
    """Patient axes R, A, S have 8, 12, 5 voxels; only the orientation of the storage changes."""
    patient = np.random.default_rng(0).random((8, 12, 5)).astype("float32")
    image = nib.Nifti1Image(patient, np.eye(4))
    target = nib.orientations.axcodes2ornt(tuple(codes))
    stored = np.asarray(
        image.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(np.eye(4)), target)).dataobj
    )
    description = Description("nifti", stored.shape, ("x", "y", "z"), "float32", acquisition={"orientation": codes})
    expected = patient[::-1, ::-1, 2].T  # front up: last A first; the patient's right on the left: last R first
    np.testing.assert_array_equal(FIELD.picture(stored, description), expected)


def test_the_picture_is_true_to_scale():
    values = np.zeros((20, 20, 5), "float32")
    description = Description("nifti", values.shape, ("x", "y", "z"), "float32", spacing=(1.0, 3.0, 5.0))
    assert FIELD.picture(values, description).shape == (60, 20)


def test_the_picture_shows_magnitudes_of_series_and_complex_samples():
    values = np.full((4, 4, 3, 2), 3 - 4j, "complex64")
    description = Description("nifti", values.shape, ("x", "y", "z", "volume"), "complex64")
    np.testing.assert_array_equal(FIELD.picture(values, description), np.full((4, 4), 5, "float32"))


def test_gradients_and_voxel_size_reach_the_methods(shared_data):
    reader = nifti.open(shared_data("mri/dwi_small/small_64D.nii"))
    facts = FIELD.extras(Subject(reader, reader.description))
    assert len(facts["bvals"]) == 65 and facts["spacing_mm"] == (2.0, 2.0, 2.0)


def test_the_weakest_volume_decides_on_the_noise_floor():
    made = phantom.dwi(0, snr=20, shape=(32, 32, 16))
    strong = phantom.dwi(0, snr=100, shape=(32, 32, 16))
    assert noise.weakest_ratio(held(strong.noisy)) > 2 * noise.weakest_ratio(held(made.noisy))


def test_phantoms_of_every_case_come_with_a_description_that_fits():
    for case in FIELD.cases:
        made = FIELD.simulate(0, case, 16)
        assert made.description.shape == made.noisy.shape == made.truth.shape
        assert metrics.foreground(made.truth, made.description.spatial).any()


def denoised(made, folder: Path) -> np.ndarray:
    """Send a phantom through a file and the whole line, as the shell does."""
    from pellucid.domains import line
    from pellucid.domains.request import Request

    path = folder / "sub-01_dwi.nii.gz"
    writer = nifti.compose(path, made.description)
    writer.write(tuple(slice(0, n) for n in made.noisy.shape), made.noisy)
    writer.close()
    outcome = line.denoise(path, FIELD, Request(), lambda *_: None)
    assert outcome.path.name == "sub-01_desc-denoised_dwi.nii.gz"
    return np.asanyarray(nib.load(outcome.path).dataobj)


@pytest.mark.parametrize(("case", "size", "gain"), [("dwi", (32, 32, 12), 5.0), ("t1", (48, 56, 32), 3.0)])
def test_a_phantom_gains_by_the_default_method_and_zero_and_blur_do_not(tmp_path, case, size, gain):
    made = phantom.simulate(5, case, size)
    spread = (*[1.5] * 3, *[0] * (made.noisy.ndim - 3))
    results = {
        "ours": denoised(made, tmp_path),
        "input": made.noisy,
        "zero": np.zeros_like(made.noisy),
        "blur": gaussian_filter(made.noisy, spread),
    }
    psnr = {k: FIELD.measure(made.truth, v, made.description, made.mask)["psnr"] for k, v in results.items()}
    assert psnr["ours"] > psnr["input"] + gain
    assert max(psnr["zero"], psnr["blur"]) < psnr["input"] + gain
    if case == "dwi":
        assert sorted(p.name for p in tmp_path.iterdir() if p.suffix in (".bval", ".bvec"))[0].startswith("sub-01_d")
