# SPDX-License-Identifier: Apache-2.0
"""ISMRMRD and fastMRI: k-space simulated here, written by the ismrmrd package or h5py, read as images."""

from __future__ import annotations

import pickle

import h5py
import numpy as np
import pytest

from pellucid.core.errors import FormatError, UsageError
from pellucid.formats import fastmri, find, ismrmrd, kspace, nifti

READOUT, PHASE, SLICES, COILS = 32, 24, 3, 4  # readout is oversampled twice
HEADER = """<?xml version="1.0"?>{doctype}<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">
<experimentalConditions><H1resonanceFrequency_Hz>63000000</H1resonanceFrequency_Hz></experimentalConditions>
<encoding><encodedSpace><matrixSize><x>{x}</x><y>{y}</y><z>{z}</z></matrixSize>
<fieldOfView_mm><x>64</x><y>48</y><z>{depth}</z></fieldOfView_mm></encodedSpace>
<reconSpace><matrixSize><x>16</x><y>24</y><z>{z}</z></matrixSize>
<fieldOfView_mm><x>32</x><y>48</y><z>{depth}</z></fieldOfView_mm></reconSpace>
<encodingLimits><kspace_encoding_step_1><minimum>0</minimum><maximum>{last}</maximum><center>{centre}</center>
</kspace_encoding_step_1></encodingLimits><trajectory>{trajectory}</trajectory></encoding></ismrmrdHeader>"""


def header(z=1, doctype="", trajectory="cartesian", x=READOUT):
    return HEADER.format(
        x=x, y=PHASE, z=z, depth=5 * z, last=PHASE - 1, centre=PHASE // 2, trajectory=trajectory, doctype=doctype
    )  # fmt: skip


def scene(slices=SLICES, coils=COILS):
    """Return a magnitude (slice, phase, readout) and coil images of unit root sum of squares, twice as wide."""
    rng = np.random.default_rng(3)
    truth = np.zeros((slices, PHASE, READOUT))
    truth[:, 6:18, 12:21] = 100 + 50 * rng.random((slices, 12, 9))
    y, x = np.mgrid[0:PHASE, 0:READOUT]
    maps = np.stack(
        [np.exp(-((x - 32 * c / coils) ** 2 + (y - 12) ** 2) / 800 + 0.05j * (c + 1) * x) for c in range(coils)]
    )
    maps /= np.sqrt((abs(maps) ** 2).sum(axis=0))
    return truth, maps[:, None] * truth


def to_kspace(images, axes):
    values = np.fft.fftn(np.fft.ifftshift(images, axes=axes), axes=axes, norm="ortho")
    return np.fft.fftshift(values, axes=axes)


def make_fastmri(path, *, lines=None, coils=COILS, scale=1e-6, doctype=""):
    truth, images = scene(coils=coils)
    values = to_kspace(images, (2, 3)).transpose(1, 0, 3, 2) * scale  # slice, coil, readout, phase
    if lines is not None:
        values[..., [i for i in range(PHASE) if i not in lines]] = 0
    with h5py.File(path, "w") as file:
        file["kspace"] = (values[:, 0] if coils == 1 else values).astype(np.complex64)
        file["ismrmrd_header"] = header(doctype=doctype)
        file["reconstruction_rss"] = np.zeros((SLICES, 16, 24), "f4")
        file.attrs["patient_id"] = "somebody"
    return path, truth[:, :, 8:24].transpose(2, 1, 0) * scale  # readout, phase, slice


def everything(description):
    return tuple(slice(0, n) for n in description.shape)


def make_ismrmrd(path, *, noise=0.0, scans=0, steps=range(PHASE), volumes=1, deep=False, text=None, reverse=False):
    """Write acquisitions line by line with the ismrmrd package; 2-D slices, or one 3-D volume."""
    package = pytest.importorskip("ismrmrd")
    rng = np.random.default_rng(4)
    mix = np.eye(COILS) + 0.4 * rng.standard_normal((COILS, COILS))
    slices = 4 if deep else SLICES
    truth, images = scene(slices)
    measured = to_kspace(images, (1, 2, 3) if deep else (2, 3))

    def line(count):
        return mix @ (rng.standard_normal((COILS, count)) + 1j * rng.standard_normal((COILS, count)))

    dataset = package.Dataset(str(path), "dataset", create_if_needed=True)
    dataset.write_xml_header((text or header(z=slices if deep else 1)).encode())
    for _ in range(scans):
        made = package.Acquisition.from_array(line(256).astype(np.complex64))
        made.setFlag(package.ACQ_IS_NOISE_MEASUREMENT)
        made.sample_time_us = 5.0
        dataset.append_acquisition(made)
    for volume in range(volumes):
        for z in range(slices):
            for step in steps:
                values = measured[:, z, step] * (1 + volume) + noise * line(READOUT)
                if reverse and step % 2:
                    values = values[:, ::-1]
                made = package.Acquisition.from_array(np.ascontiguousarray(values, np.complex64))
                if reverse and step % 2:
                    made.setFlag(package.ACQ_IS_REVERSE)
                made.sample_time_us, made.center_sample = 5.0, READOUT // 2
                made.idx.kspace_encode_step_1, made.idx.repetition = step, volume
                if deep:
                    made.idx.kspace_encode_step_2 = z
                else:
                    made.idx.slice = z
                dataset.append_acquisition(made)
    dataset.close()
    return path, truth[:, :, 8:24].transpose(2, 1, 0)


def test_generated_fastmri_becomes_the_images_it_was_made_of(tmp_path):
    path, truth = make_fastmri(tmp_path / "a.h5")
    reader = find.open_file(path)
    d = reader.description
    assert (d.format, d.axes, d.kind, d.acquisition) == ("fastmri", ("x", "y", "z"), "magnitude", {"coils": COILS})
    values = reader.read(everything(d)).transpose(1, 0, 2)  # rows are the readout
    np.testing.assert_allclose(values, truth, atol=2e-6 * truth.max())
    assert d.spacing == (2.0, 2.0, 5.0) and "somebody" not in repr(d)


def test_a_complex_image_keeps_the_magnitude_and_its_region_is_a_slice(tmp_path):
    path, truth = make_fastmri(tmp_path / "a.h5", scale=1.0)
    reader = find.open_file(path, key="complex")
    whole = reader.read(everything(reader.description))
    assert reader.description.kind == "complex" and whole.dtype == np.complex64
    inner = truth > 0
    assert np.corrcoef(abs(whole).transpose(1, 0, 2)[inner], truth[inner])[0, 1] > 0.95
    part = (slice(3, 20), slice(1, 9), slice(1, 3))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(reader)).read(part), whole[part])
    with pytest.raises(UsageError, match="magnitude or complex"):
        find.open_file(path, key="phase")


def test_generated_single_coil_fastmri_is_read(tmp_path):
    path, truth = make_fastmri(tmp_path / "a.h5", coils=1)
    values = find.open_file(path).read((slice(0, 24), slice(0, 16), slice(0, 3)))
    np.testing.assert_allclose(values.transpose(1, 0, 2), truth, atol=2e-6 * truth.max())


@pytest.mark.parametrize("lines", [range(0, PHASE, 2), [*range(0, PHASE, 4), 10, 11, 12, 13], []])
def test_undersampled_generated_fastmri_is_not_taken_for_an_image(tmp_path, lines):
    path, _ = make_fastmri(tmp_path / "a.h5", lines=list(lines))
    with pytest.raises(FormatError, match="undersampled"):
        find.open_file(path)


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_generated_ismrmrd_becomes_the_images_it_was_made_of(tmp_path, deep, reverse):
    path, truth = make_ismrmrd(tmp_path / "a.h5", deep=deep, reverse=reverse)
    reader = find.open_file(path)
    d = reader.description
    assert (d.format, d.axes, d.shape, d.spacing) == ("ismrmrd", ("x", "y", "z"), truth.shape, (2.0, 2.0, 5.0))
    np.testing.assert_allclose(reader.read(everything(d)), truth, atol=2e-6 * truth.max())
    part = (slice(2, 9), slice(3, 20), slice(1, 3))
    np.testing.assert_array_equal(reader.read(part), reader.read(everything(d))[part])


def test_noise_scans_of_generated_ismrmrd_give_unit_noise_whatever_the_coils_share(tmp_path):
    path, truth = make_ismrmrd(tmp_path / "a.h5", noise=1.0, scans=20)
    reader = find.open_file(path)
    corner = np.concatenate([reader.coils(z, 0)[:, 0, :5].reshape(COILS, -1) for z in range(SLICES)], axis=1)
    covariance = corner @ corner.conj().T / corner.shape[1] / 2
    assert abs(covariance - np.eye(COILS)).max() < 0.35
    assert np.mean(np.diag(covariance).real) == pytest.approx(1.0, abs=0.1)
    assert reader.description.acquisition["sigma"] == 1.0
    assert "whitened by 20 noise scans" in reader.description.notes[0][1]


def test_repetitions_of_generated_ismrmrd_are_volumes_and_travel(tmp_path):
    path, truth = make_ismrmrd(tmp_path / "a.h5", volumes=3)
    reader = pickle.loads(pickle.dumps(find.open_file(path)))
    d = reader.description
    assert d.shape == (*truth.shape, 3) and d.axes[-1] == "volume"
    np.testing.assert_allclose(reader.read(everything(d))[..., 2], 3 * truth, atol=1e-5 * truth.max())


def test_missing_outer_lines_are_noted_and_gaps_refused(tmp_path):
    reader = find.open_file(make_ismrmrd(tmp_path / "a.h5", steps=range(8, PHASE))[0])
    assert reader.description.notes[1][0] == "partial-fourier"
    with pytest.raises(FormatError, match="undersampled"):
        find.open_file(make_ismrmrd(tmp_path / "b.h5", steps=range(0, PHASE, 2))[0])


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (header(doctype='<!DOCTYPE x [<!ENTITY a "b">]>'), "entities"),
        (header(trajectory="radial"), "radial is not read"),
        (header(x=400_000), "wider"),
        ("<ismrmrdHeader/>", "no encoding"),
        ("<a>", "well-formed"),
    ],
)
def test_hostile_headers_end_in_a_worded_error(tmp_path, text, match):
    path, _ = make_ismrmrd(tmp_path / "a.h5", text=text)
    with pytest.raises(FormatError, match=match):
        find.open_file(path)


def test_the_images_are_written_as_nifti(tmp_path):
    reader = find.open_file(make_ismrmrd(tmp_path / "a.h5")[0])
    d = reader.description
    for module in (ismrmrd, fastmri):
        assert module.FORMAT.writes == () and module.FORMAT.fallback == ".nii.gz"
    writer = nifti.compose(tmp_path / "b.nii.gz", d)
    writer.write(everything(d), reader.read(everything(d)))
    writer.close()
    nibabel = pytest.importorskip("nibabel")
    other = nibabel.load(tmp_path / "b.nii.gz")
    assert other.header.get_zooms() == (2.0, 2.0, 5.0)
    np.testing.assert_array_equal(np.asanyarray(other.dataobj), reader.read(everything(d)))


def test_a_singular_covariance_is_not_used():
    assert kspace.whitener(np.zeros((3, 100), np.complex64)) is None
    assert kspace.whitener(np.ones((8, 4), np.complex64)) is None
