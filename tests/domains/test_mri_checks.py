# SPDX-License-Identifier: Apache-2.0
"""Which MR files are denoised, which are refused, and what is said about the rest."""

from __future__ import annotations

import shutil

import nibabel as nib
import numpy as np
import pytest

from pellucid.domains.declare import Subject
from pellucid.domains.mri import phantom
from pellucid.domains.mri.field import FIELD
from pellucid.formats import nifti

ACCEPTED = {  # file -> default method, codes of the warnings it must get
    "dwi_philips/ph_dwi.nii.gz": ("mppca", set()),
    "mrtrix_reference/dwi.nii.gz": ("mppca", set()),
    "mrtrix_reference/denoised.nii.gz": ("mppca", {"resampled", "processed"}),
    "mrtrix_reference/extent3.nii.gz": ("mppca", {"resampled"}),
    "mrtrix_reference/masked.nii.gz": ("mppca", {"resampled"}),
    "mrtrix_reference/noise.nii.gz": ("nlm", set()),
    "dwi_interpolated/dwi.nii.gz": ("mppca", {"resampled"}),
    "dwi_small/small_101D.nii.gz": ("mppca", set()),
    "dwi_small/small_64D.nii": ("mppca", set()),
    "phase/Si_2_gre_field_magph_e1.nii.gz": ("nlm", set()),
    "phase/Si_2_gre_field_magph_e2.nii.gz": ("nlm", set()),
    "phase/Ph_801_WIP_B0_NS_e1.nii.gz": ("nlm", set()),
    "nifti_odd/S0_10slices.nii.gz": ("nlm", {"zero-filled"}),  # both in-plane spectra end at 92 %
    "nifti_odd/anatomical.nii": ("nlm", {"resampled", "processed"}),
    "nifti_odd/anatomical_pair.hdr": ("nlm", {"resampled", "processed"}),
    "nifti_odd/example4d.nii.gz": ("nlm", set()),
    "nifti_odd/example_nifti2.nii.gz": ("nlm", set()),
    "nifti_odd/someones_anatomy.nii.gz": ("nlm", set()),
}
REFUSED = {  # file -> words of the message, each one a witness
    "labels/aal.nii.gz": ("label map", "intent 1002", "113 distinct integers"),
    "labels/JHU-WhiteMatter-labels-2mm.nii.gz": ("label map", "intent 1002", "'labels'", "49 distinct integers"),
    "labels/sub-01_brainmask.nii.gz": ("mask", "two distinct values"),
    "mrtrix_reference/mask.nii.gz": ("mask", "two distinct values"),
    "phase/Si_3_gre_field_magph_e2_ph.nii.gz": ("phase image", "ImageType P", "values fill -4096 to 4094"),
    "phase/Ph_801_WIP_B0_NS_e2_fieldmaphz.nii.gz": ("field map", "FIELDMAPHZ", "unit Hz", "negative"),
}
FREELY = {"noise-floor", "doubtful-noise"}  # depend on the estimate of the noise level


def subject(path) -> Subject:
    reader = nifti.open(path)
    return Subject(reader, reader.description)


def refusals(path) -> list:
    one = subject(path)
    return [r for r in (check(one) for check in FIELD.refuse) if r is not None]


def codes(path) -> set[str]:
    one = subject(path)
    return {w[0] for w in (check(one) for check in FIELD.warn) if w is not None}


def save(path, values, **header):
    image = nib.Nifti1Image(values, np.eye(4))
    for key, value in header.items():
        image.header[key] = value
    nib.save(image, path)
    return path


@pytest.fixture(scope="module")
def head():
    """A T1-like magnitude at 5 % noise."""
    return phantom.simulate(0, "t1", (40, 48, 24)).noisy


@pytest.mark.parametrize("name", ACCEPTED)
def test_measurements_are_accepted_with_the_right_method_and_warnings(shared_data, name):
    path = shared_data(f"mri/{name}")
    method, expected = ACCEPTED[name]
    assert refusals(path) == []
    assert codes(path) - FREELY == expected
    one = subject(path)
    assert next(c.method for c in FIELD.choose if c.when(one)) == method


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_magnitude_is_refused_and_all_witnesses_are_named(shared_data, name):
    found = refusals(shared_data(f"mri/{name}"))
    assert found[0].soft
    for words in REFUSED[name]:
        assert words in found[0].what


def test_every_nifti_file_of_the_collection_has_its_outcome_listed(shared_data):
    root = shared_data("mri/README.md").parent
    there = {str(p.relative_to(root)) for p in [*root.rglob("*.nii*"), *root.rglob("*.hdr")]}
    variants = ("denoised_exp1", "extent531", "noise3", "noise_exp1")  # the same file under another estimator
    assert {n for n in there if not any(v in n for v in variants)} == set(ACCEPTED) | set(REFUSED)


@pytest.mark.parametrize(
    "name", ["labels/aal.nii.gz", "labels/JHU-WhiteMatter-labels-2mm.nii.gz", "labels/sub-01_brainmask.nii.gz"]
)
@pytest.mark.parametrize("dtype", ["uint32", "float32"])
def test_labels_are_known_by_their_content_alone(shared_data, tmp_path, name, dtype):
    values = np.asanyarray(nib.load(shared_data(f"mri/{name}")).dataobj)
    assert refusals(save(tmp_path / "a.nii.gz", values.astype(dtype), intent_code=0))


def test_phase_is_known_by_its_values_alone(shared_data, tmp_path):
    shutil.copy(shared_data("mri/phase/Si_3_gre_field_magph_e2_ph.nii.gz"), tmp_path / "a.nii.gz")
    assert "values fill" in refusals(tmp_path / "a.nii.gz")[0].what
    stored = np.asanyarray(nib.load(tmp_path / "a.nii.gz").dataobj)
    radians = (stored * np.pi / 4096).astype("float32")
    assert "phase" in refusals(save(tmp_path / "b.nii", radians))[0].what
    unsigned = ((stored + 4096) / 2).astype("uint16")
    assert "phase" in refusals(save(tmp_path / "c.nii", unsigned))[0].what


def test_a_magnitude_that_uses_the_full_twelve_bits_is_no_phase(head, tmp_path):
    values = np.rint(head * (4095 / head.max())).astype("uint16")
    assert values.min() < 10 and values.max() == 4095
    assert refusals(save(tmp_path / "a.nii", values)) == []


def test_a_byte_image_is_no_label_map(head, tmp_path):
    values = np.clip(head, 0, 255).astype("uint8")
    assert refusals(save(tmp_path / "a.nii", values)) == []


def test_a_clean_byte_image_is_no_label_map(tmp_path):
    clean = phantom.t1(0, shape=(40, 48, 24), noise=False).truth
    assert refusals(save(tmp_path / "a.nii", np.clip(clean, 0, 255).astype("uint8"))) == []


@pytest.mark.parametrize("values", [(0.0, 1.0), (0, 255), (0, 257), (3.5, 7.25)])
def test_two_values_are_a_mask_whatever_their_type(tmp_path, values):
    volume = np.where(np.indices((12, 12, 12)).sum(0) > 16, values[1], values[0]).astype("float32")
    assert "mask" in refusals(save(tmp_path / "a.nii", volume))[0].what


def test_a_constant_volume_is_no_mask(tmp_path):
    assert refusals(save(tmp_path / "a.nii", np.zeros((8, 8, 8), "int16"))) == []


@pytest.mark.parametrize("name", ["sub-01_dseg.nii", "sub-01_label-GM_probseg.nii", "sub-01_desc-brain_mask.nii"])
def test_bids_suffixes_of_segmentations_are_believed(head, tmp_path, name):
    assert "name says" in refusals(save(tmp_path / name, head))[0].what


@pytest.mark.parametrize("name", ["sub-01_part-phase_bold.nii", "sub-01_phasediff.nii", "sub-01_fieldmap.nii"])
def test_bids_names_of_phases_and_field_maps_are_believed(head, tmp_path, name):
    assert refusals(save(tmp_path / name, head))


@pytest.mark.parametrize(
    ("shape", "header", "words"),
    [
        ((8, 8, 8, 1, 3), {"intent_code": 1007}, "vectors"),
        ((8, 8, 8, 1, 3), {}, "vectors"),
        ((8, 8, 8, 1, 6), {"intent_code": 1005}, "tensors"),
        ((8, 8, 8), {"intent_code": 3}, "statistics"),
        ((8, 8, 8, 4), {"intent_code": 22}, "statistics"),
        ((4, 4, 1, 1, 8, 8), {"intent_code": 3001}, "statistics"),
        ((8, 8, 8, 5, 3), {}, "axes"),
    ],
)
def test_derived_quantities_are_refused_whatever_the_user_says(tmp_path, shape, header, words):
    values = np.random.default_rng(0).random(shape).astype("float32")
    found = refusals(save(tmp_path / "a.nii", values, **header))
    assert words in found[0].what and not found[0].soft


def test_colours_are_refused_before_a_sample_is_read(tmp_path):
    rgb = np.zeros((8, 8, 8), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    found = [FIELD.refuse[0](subject(save(tmp_path / "a.nii", rgb)))]
    assert "RGB" in found[0].what and not found[0].soft


def test_a_series_stored_along_the_fifth_axis_is_a_series(tmp_path):
    values = np.random.default_rng(0).rayleigh(100, (8, 8, 8, 1, 20)).astype("float32")
    assert refusals(save(tmp_path / "a.nii", values)) == []


def test_complex_samples_are_no_phase_and_no_field_map(head, tmp_path):
    rng = np.random.default_rng(0)
    values = (head * np.exp(2j * np.pi * rng.random(head.shape))).astype("complex64")
    series = np.repeat(values[:20, :20, :, None], 16, axis=3)
    assert refusals(save(tmp_path / "a.nii", series)) == []
    assert FIELD.law(subject(tmp_path / "a.nii")) == "gaussian"


def test_a_single_complex_volume_is_sent_elsewhere(head, tmp_path):
    assert "one volume of complex" in refusals(save(tmp_path / "a.nii", head.astype("complex64")))[0].what


def zero_filled(head, kept: float):
    """Keep the middle of k-space along y of a complex acquisition."""
    rng = np.random.default_rng(1)
    noise = rng.normal(0, 3, (2, *head.shape))
    spectrum = np.fft.fftshift(np.fft.fft2(head + noise[0] + 1j * noise[1], axes=(0, 1)), axes=(0, 1))
    lines = np.abs(np.arange(head.shape[1]) - head.shape[1] // 2) <= kept * head.shape[1] / 2
    return np.abs(np.fft.ifft2(np.fft.ifftshift(spectrum * lines[None, :, None], axes=(0, 1)), axes=(0, 1)))


@pytest.mark.parametrize(("kept", "seen"), [(0.5, True), (0.75, True), (0.85, True), (2.0, False)])
def test_zero_filling_is_seen_in_the_spectrum(tmp_path, kept, seen):
    clean = phantom.t1(0, shape=(64, 72, 16), noise=False).truth
    found = codes(save(tmp_path / "a.nii", zero_filled(clean, kept).astype("float32")))
    assert ("zero-filled" in found) is seen


def test_zero_filling_is_read_from_the_sidecar(head, tmp_path):
    save(tmp_path / "a.nii", head)
    (tmp_path / "a.json").write_text('{"AcquisitionMatrixPE": 96, "ReconMatrixPE": 128}')
    assert "zero-filled" in codes(tmp_path / "a.nii")
    (tmp_path / "a.json").write_text('{"AcquisitionMatrixPE": 110, "ReconMatrixPE": 112}')
    assert "zero-filled" not in codes(tmp_path / "a.nii")


def test_a_smoothed_series_is_told_from_a_raw_one(tmp_path):
    from scipy.ndimage import gaussian_filter

    raw = phantom.simulate(0, "dwi", (24, 24, 12)).noisy
    smooth = gaussian_filter(raw, (0.7, 0.7, 0.7, 0))
    assert "correlated-noise" not in codes(save(tmp_path / "a.nii", raw))
    assert "correlated-noise" in codes(save(tmp_path / "b.nii", smooth))


@pytest.mark.parametrize(
    "sidecar",
    ['{"GeneratedBy": [{"Name": "eddy"}]}', '{"GeneratedBy": [{"Name": "mrdegibbs"}]}', '{"DeepLearning": true}'],
)
def test_processing_told_by_the_sidecar_is_passed_on(head, tmp_path, sidecar):
    save(tmp_path / "a.nii", head)
    assert "processed" not in codes(tmp_path / "a.nii")
    (tmp_path / "a.json").write_text(sidecar)
    assert "processed" in codes(tmp_path / "a.nii")


def test_a_series_near_the_noise_floor_is_pointed_at_its_bias(tmp_path):
    weak = phantom.dwi(0, snr=4, shape=(24, 24, 12)).noisy
    strong = phantom.dwi(0, snr=80, shape=(24, 24, 12)).noisy
    assert "noise-floor" in codes(save(tmp_path / "a.nii", weak))
    assert "noise-floor" not in codes(save(tmp_path / "b.nii", strong))
