# SPDX-License-Identifier: Apache-2.0
"""DICOM in and out: stored samples to the bit, geometry as other readers see it, and a short list of changed tags."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pellucid.core.errors import Exit, FormatError, Missing
from pellucid.core.types import Description
from pellucid.domains import registry
from pellucid.domains.declare import Subject
from pellucid.formats import dicom, dicom_derive, dicom_header, dicom_mosaic, find

pydicom = pytest.importorskip("pydicom")

CHANGED = {  # every top-level element a derived classic object may change, lose or gain
    "ImageType", "InstanceCreationDate", "InstanceCreationTime", "InstanceCreatorUID", "SOPInstanceUID",
    "SeriesDescription", "DerivationDescription", "SourceImageSequence", "SeriesInstanceUID", "SeriesNumber",
    "SmallestImagePixelValue", "LargestImagePixelValue", "PixelData",
}  # fmt: skip
CODED = ("MR_small.dcm", "MR_small_bigendian.dcm", "MR_small_implicit.dcm", "MR_small_RLE.dcm", "MR_small_padded.dcm")
NEEDS_PLUGIN = ("MR_small_jp2klossless.dcm",)
Data = Callable[[str], Path]


def whole(description: Description) -> tuple[slice, ...]:
    return tuple(slice(0, n) for n in description.shape)


def shipped(name: str) -> Path:
    path = Path(pydicom.__file__).parent / "data" / "test_files" / name
    if not path.exists():
        pytest.skip("the test files of pydicom are not installed")
    return path


def copy_out(reader: Any, target: Path, values: np.ndarray) -> Path:
    """Write in slabs of three planes, last first."""
    writer = dicom.splice(target, reader, reader.description)
    for start in reversed(range(0, values.shape[2], 3)):
        region = list(whole(reader.description))
        region[2] = slice(start, min(start + 3, values.shape[2]))
        writer.write(tuple(region), values[tuple(region)])
    writer.close()
    return target


def gradient_files(folder: Path) -> list[Path]:
    source = Path(pytest.importorskip("nibabel").__file__).parent / "nicom" / "tests" / "data"
    out = []
    for name in ("siemens_dwi_0.dcm.gz", "siemens_dwi_1000.dcm.gz"):
        if not (source / name).exists():
            pytest.skip("the test files of nibabel are not installed")
        import gzip

        out.append(folder / name[:-3])
        out[-1].write_bytes(gzip.decompress((source / name).read_bytes()))
        dataset = pydicom.dcmread(out[-1])  # published with all samples 0
        dataset.PixelData = np.random.default_rng(len(out)).integers(0, 4096, (896, 896)).astype("<u2").tobytes()
        dataset.save_as(out[-1])
    return out


@pytest.fixture
def series(shared_data: Data) -> Path:
    return shared_data("mri/dicom_classic")


@pytest.fixture
def loose(series: Path, tmp_path: Path) -> Path:
    """A copy of the series that may be damaged."""
    folder = tmp_path / "loose"
    folder.mkdir()
    for path in series.iterdir():
        shutil.copyfile(path, folder / path.name)
    return folder


def test_a_folder_of_planes_is_one_volume_with_the_samples_of_a_second_reader(series: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    reader = find.open_file(series)
    values = reader.read(whole(reader.description))
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(series))
    image = sitk.ReadImage(names)
    scaled = sitk.GetArrayFromImage(image).transpose(2, 1, 0)
    assert reader.description.shape == (112, 112, 16) and values.dtype == np.uint16
    assert np.allclose(values * reader.description.slope, scaled, rtol=1e-6)
    affine = reader.description.acquisition["affine"]
    for index in [(0, 0, 0), (111, 0, 0), (0, 111, 0), (50, 60, 15)]:
        x, y, z = image.TransformIndexToPhysicalPoint(index)
        assert np.allclose((affine @ [*index, 1])[:3], [-x, -y, z], atol=1e-4)  # ITK rounds steps of the series
    first = pydicom.dcmread(min(series.iterdir(), key=lambda p: pydicom.dcmread(p).ImagePositionPatient[2]))
    x, y, z = (float(v) for v in first.ImagePositionPatient)
    assert np.allclose(affine[:3, 3], [-x, -y, z], atol=1e-9)


def test_dcm2niix_puts_the_same_samples_at_the_same_places(series: Path, shared_data: Data) -> None:
    nib = pytest.importorskip("nibabel")
    image = nib.load(shared_data("mri/dwi_philips/ph_dwi.nii.gz"))  # the whole series, b = 0 first
    reader = dicom.open(series)
    values = reader.read(whole(reader.description))
    corners = np.array([[0, 0, 0, 1], [111, 0, 0, 1], [0, 111, 0, 1], [0, 0, 15, 1]]).T
    there = np.linalg.inv(image.affine) @ reader.description.acquisition["affine"] @ corners
    assert np.allclose(there, np.rint(there), atol=2e-3)
    first, steps = np.rint(there[:3, 0]).astype(int), np.sign(np.rint(there[:3, 1:] - there[:3, :1])).astype(int)
    assert np.array_equal(np.abs(steps), np.eye(3, dtype=int))
    at = [first[a] + steps[a, a] * np.arange(n) for a, n in enumerate(values.shape)]
    stored = image.dataobj.get_unscaled()[..., 0][np.ix_(*at)]
    assert np.array_equal(stored, values)
    # dcm2niix took Philips' private scale, the rescale tags give display values: one factor between them
    ratio = image.dataobj.slope / reader.description.slope
    assert np.isclose(ratio, 1 / (reader.description.witnesses["scale_slope"] * reader.description.slope), rtol=1e-5)
    assert np.isclose(ratio, 24.51, atol=0.01)


def test_a_region_equals_the_slice_of_the_whole(series: Path) -> None:
    reader = pickle.loads(pickle.dumps(dicom.open(series)))
    values = reader.read(whole(reader.description))
    for region in [(slice(3, 9), slice(100, 112), slice(0, 2)), (slice(0, 1), slice(5, 6), slice(15, 16))]:
        assert np.array_equal(reader.read(region), values[region])


def test_only_listed_elements_differ_and_every_sample_is_kept(series: Path, tmp_path: Path) -> None:
    reader = dicom.open(series)
    values = reader.read(whole(reader.description))
    out = copy_out(reader, tmp_path / "out", values)
    again = dicom.open(out)
    assert np.array_equal(again.read(whole(again.description)), values)
    assert sorted(p.name for p in out.iterdir()) == sorted(p.name for p in series.iterdir())
    made = set()
    for path in series.iterdir():
        before, after = pydicom.dcmread(path), pydicom.dcmread(out / path.name)
        tags = {*before.keys(), *after.keys()}
        changed = {pydicom.datadict.keyword_for_tag(t) or str(t) for t in tags if before.get(t) != after.get(t)}
        assert changed <= CHANGED, changed - CHANGED
        assert before.PixelData == after.PixelData and "PixelData" not in changed
        assert after.SourceImageSequence[0].ReferencedSOPInstanceUID == before.SOPInstanceUID
        assert list(after.ImageType) == ["DERIVED", *list(before.ImageType)[1:]]
        assert after.file_meta.MediaStorageSOPInstanceUID == after.SOPInstanceUID != before.SOPInstanceUID
        assert (after.BitsStored, after.HighBit, after.PixelRepresentation) == (12, 11, 0)
        assert str(tmp_path) not in str(after) and after.StudyInstanceUID == before.StudyInstanceUID
        made |= {after.SeriesInstanceUID}
    assert len(made) == 1


def test_identifiers_are_the_same_for_the_same_samples_and_others_for_others(series: Path, tmp_path: Path) -> None:
    reader = dicom.open(series)
    values = reader.read(whole(reader.description))
    name = next(series.iterdir()).name
    first, same = (copy_out(reader, tmp_path / n, values) / name for n in ("a", "b"))
    other = copy_out(reader, tmp_path / "c", values + np.uint16(1)) / name
    assert first.read_bytes() == same.read_bytes()
    assert pydicom.dcmread(first).SeriesInstanceUID != pydicom.dcmread(other).SeriesInstanceUID


def test_values_beyond_the_bits_that_were_stored_widen_the_whole_series(series: Path, tmp_path: Path) -> None:
    reader = dicom.open(series)
    values = reader.read(whole(reader.description)).copy()
    values[5, 6, 7] = 40000
    out = copy_out(reader, tmp_path / "out", values)
    assert {pydicom.dcmread(p, stop_before_pixels=True).BitsStored for p in out.iterdir()} == {16}
    again = dicom.open(out)
    assert np.array_equal(again.read(whole(again.description)), values)


def test_dcmtk_accepts_and_simpleitk_reads_what_was_written(series: Path, tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    reader = dicom.open(series)
    values = reader.read(whole(reader.description)) // np.uint16(2)
    out = copy_out(reader, tmp_path / "out", values)
    before = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(series)))
    after = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(out)))
    scaled = sitk.GetArrayFromImage(after).transpose(2, 1, 0)
    assert np.allclose(scaled, values * reader.description.slope, rtol=1e-6)
    for get in ("GetOrigin", "GetSpacing", "GetDirection"):
        assert getattr(before, get)() == getattr(after, get)()
    if shutil.which("dcmdump") is None:
        pytest.skip("dcmtk is not installed")
    for path in out.iterdir():
        done = subprocess.run(["dcmdump", "-q", path], capture_output=True, text=True)
        assert done.returncode == 0 and not done.stderr
        assert subprocess.run(["dcmftest", path], capture_output=True).returncode == 0


def test_one_plane_of_a_series_says_so(series: Path) -> None:
    description = dicom.open(series / "IM_0137.dcm").description
    assert description.shape == (112, 112, 1) and [code for code, _ in description.notes] == ["one-slice"]


def test_enhanced_files_of_one_series_are_volumes(shared_data: Data, tmp_path: Path) -> None:
    for k in range(1, 5):
        shutil.copyfile(shared_data(f"mri/dicom_enhanced/6_{k}.dcm"), tmp_path / f"{9 - k}.dcm")
    reader = dicom.open(tmp_path)
    values = reader.read(whole(reader.description))
    assert values.shape == (64, 64, 6, 4)
    assert np.allclose(values.mean(axis=(0, 1, 2)), [102.3837, 101.7743, 101.5113, 101.2989], atol=1e-4)
    out = copy_out(reader, tmp_path / "out", values)
    again = dicom.open(out)
    assert np.array_equal(again.read(whole(again.description)), values)
    frame = pydicom.dcmread(out / "8.dcm").PerFrameFunctionalGroupsSequence[0]
    assert frame.MRImageFrameTypeSequence[0].FrameType[0] == "DERIVED"


def test_parts_of_a_mixed_file_are_told_apart_each_with_its_scale(shared_data: Data, tmp_path: Path) -> None:
    path = shared_data("mri/dicom_enhanced/IM_0027_fMAP.dcm")
    magnitude, field = dicom.open(path), dicom.open(path, key="FIELD_MAP")
    assert magnitude.description.shape == field.description.shape == (64, 64, 32)
    assert (magnitude.description.slope, magnitude.description.inter) == (1.27985347985347, 0.0)
    assert (field.description.slope, field.description.inter) == (0.24420024420024, -500.0)
    assert magnitude.description.notes[0][0] == "mixed"
    values = magnitude.read(whole(magnitude.description))
    out = copy_out(magnitude, tmp_path / "out.dcm", values // np.uint16(2))
    before, after = pydicom.dcmread(path), pydicom.dcmread(out)
    kinds = [g.MRImageFrameTypeSequence[0].FrameType[0] for g in after.PerFrameFunctionalGroupsSequence]
    assert after.NumberOfFrames == 64 and after.ImageType[0] == "MIXED"
    assert kinds == ["DERIVED"] * 32 + ["ORIGINAL"] * 32
    assert np.array_equal(after.pixel_array[32:], before.pixel_array[32:])
    assert np.array_equal(after.pixel_array[:32], before.pixel_array[:32] // 2)


@pytest.mark.parametrize(
    ("name", "key", "words"),
    [("mri/dicom_phase", "", "phase"), ("mri/dicom_enhanced/IM_0027_fMAP.dcm", "FIELD_MAP", "field map")],
)
def test_phases_and_field_maps_are_refused_by_their_image_type(
    shared_data: Data, name: str, key: str, words: str
) -> None:
    field = registry.field("mri")
    reader = find.open_file(shared_data(name), field.formats, key=key)
    found = [r for check in field.refuse if (r := check(Subject(reader, reader.description))) is not None]
    assert any(words in r.what and "ImageType" in r.what for r in found)


@pytest.mark.filterwarnings("ignore:The pixel data is 8320 bytes")  # of the padded file, by the second reader
@pytest.mark.parametrize("name", CODED + NEEDS_PLUGIN)
def test_every_coding_gives_the_same_signed_samples_and_leaves_little_endian(name: str, tmp_path: Path) -> None:
    if name in NEEDS_PLUGIN:
        pytest.importorskip("openjpeg")
    path = shipped(name)
    reader = find.open_file(path)
    values = reader.read(whole(reader.description))
    assert np.array_equal(values[:, :, 0].T, pydicom.dcmread(path).pixel_array) and values.dtype == np.int16
    out = copy_out(reader, tmp_path / "out.dcm", values)
    after = pydicom.dcmread(out)
    assert after.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    assert np.array_equal(after.pixel_array, values[:, :, 0].T) and after.PatientName == "CompressedSamples^MR1"


@pytest.mark.parametrize(
    ("name", "lossy"),
    [("MR_small_jpeg_ls_lossless.dcm", False), ("J2K_pixelrep_mismatch.dcm", False), ("JPGExtended.dcm", True),
     ("image_dfl.dcm", False)],
)  # fmt: skip
def test_scanner_compressions_are_read_and_written_plain(name: str, lossy: bool, tmp_path: Path) -> None:
    path = shipped(name)
    reader = dicom.open(path)
    try:
        values = reader.read(whole(reader.description))
    except Missing:
        pytest.skip("a decoder of the extra is not installed")
    assert reader.description.lossy is lossy
    assert np.array_equal(values[:, :, 0].T, pydicom.dcmread(path).pixel_array)
    after = pydicom.dcmread(copy_out(reader, tmp_path / "out.dcm", values))
    assert after.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    assert np.array_equal(after.pixel_array, values[:, :, 0].T)
    assert after.get("LossyImageCompression") == ("01" if lossy else pydicom.dcmread(path).get("LossyImageCompression"))


def test_deflated_files_are_not_inflated_without_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom_header, "LARGEST_DEFLATED", 1 << 16)
    with pytest.raises(FormatError, match="inflates to more than"):
        dicom.open(shipped("image_dfl.dcm"))


def test_negative_samples_keep_their_sign_in_few_bits(tmp_path: Path) -> None:
    path = shipped("MR_small.dcm")
    source = pydicom.dcmread(path)
    source.BitsStored, source.HighBit = 12, 11
    values = np.arange(-2048, 2048, dtype="int16").reshape(64, 64)
    source.PixelData = (values & 0x0FFF).astype("<u2").tobytes()  # sign in bit 11, unused bits empty
    source.save_as(tmp_path / "few.dcm")
    reader = dicom.open(tmp_path / "few.dcm")
    found = reader.read(whole(reader.description))
    assert np.array_equal(found[:, :, 0].T, values)
    again = dicom.open(copy_out(reader, tmp_path / "out.dcm", found))
    assert np.array_equal(again.read(whole(again.description)), found)
    assert pydicom.dcmread(tmp_path / "out.dcm").BitsStored == 12


def test_extremes_are_renewed_only_where_there_were_some(tmp_path: Path) -> None:
    source = pydicom.dcmread(shipped("MR_small.dcm"))
    source.SmallestImagePixelValue, source.LargestImagePixelValue = 1, 2
    source.save_as(tmp_path / "with.dcm")
    reader = dicom.open(tmp_path / "with.dcm")
    values = reader.read(whole(reader.description))
    after = pydicom.dcmread(copy_out(reader, tmp_path / "out.dcm", values))
    assert (after.SmallestImagePixelValue, after.LargestImagePixelValue) == (values.min(), values.max())


def test_other_types_and_grids_are_not_written_as_dicom(series: Path, tmp_path: Path) -> None:
    reader = dicom.open(series)
    for change in ({"dtype": "float32"}, {"shape": (112, 112)}):
        with pytest.raises(FormatError) as error:
            dicom.splice(tmp_path / "x", reader, reader.description.with_(**change))
        assert error.value.hint == "name the output .nii.gz"
    with pytest.raises(FormatError, match="needs a folder"):
        dicom.splice(tmp_path / "x.dcm", reader, reader.description)


def test_mosaics_become_volumes_where_nibabel_puts_them(tmp_path: Path) -> None:
    paths = gradient_files(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from nibabel.nicom import dicomwrappers

        wrapped = [dicomwrappers.wrapper_from_file(p) for p in paths]
        wanted = [w.get_data() for w in wrapped]
    reader = find.open_file(tmp_path)
    assert isinstance(reader, dicom_mosaic.MosaicReader) and reader.description.shape == (128, 128, 48, 2)
    assert np.array_equal(reader.read(whole(reader.description)), np.stack([w.swapaxes(0, 1) for w in wanted], -1))
    affine = np.diag([-1.0, -1, 1, 1]) @ wrapped[0].affine[:, [1, 0, 2, 3]]  # nibabel counts rows first, in LPS
    assert np.allclose(reader.description.acquisition["affine"], affine, atol=2e-6)
    assert reader.description.acquisition["bvals"] == (0.0, 1000.0)
    # nearly along a row: minus x in FSL's convention for right-handed axes
    assert np.allclose(reader.description.acquisition["bvecs"][1], [-1, 0, 0], atol=0.02)
    single = find.open_file(paths[0])
    region = (slice(3, 90), slice(7, 20), slice(11, 40))
    assert np.array_equal(single.read(region), wanted[0].swapaxes(0, 1)[region])


def test_mosaics_beside_another_series_leave_the_choice(loose: Path) -> None:
    gradient_files(loose)
    with pytest.raises(FormatError, match="holds 2 series"):
        find.open_file(loose)
    number = pydicom.dcmread(loose / "siemens_dwi_0.dcm").SeriesNumber
    assert find.open_file(loose, key=str(number)).description.format == "dicom_mosaic"
    assert find.open_file(loose, key="701").description.shape == (112, 112, 16)


def test_long_series_are_gathered_on_disk(series: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom, "RAM_LIMIT", 1000)
    monkeypatch.setenv("PELLUCID_SCRATCH", str(tmp_path))
    reader = dicom.open(series)
    values = reader.read(whole(reader.description))
    again = dicom.open(copy_out(reader, tmp_path / "out", values))
    assert np.array_equal(again.read(whole(again.description)), values)
    assert again.description.witnesses["descrip"] == dicom_derive.WORDS  # so that a second run warns


def test_objects_that_are_no_images_say_what_they_are(tmp_path: Path) -> None:
    for name, words in (("rtplan.dcm", "RT Plan"), ("DICOMDIR", "Media Storage"), ("reportsi.dcm", "SR")):
        path = shipped(name) if name != "DICOMDIR" else shipped("dicomdirtests") / name
        if not path.exists():
            continue
        with pytest.raises(FormatError, match="pixel data: are missing.*") as error:
            dicom.open(path)
        assert words in str(error.value)


def test_colours_are_read_as_such_and_refused_by_the_field() -> None:
    reader = dicom.open(shipped("SC_rgb_rle.dcm"))
    assert reader.description.kind == "rgb"
    assert any(check(Subject(reader, reader.description)) for check in registry.field("mri").refuse[:1])


def test_ultrasound_is_left_to_its_own_module(shared_data: Data) -> None:
    path = shared_data("ultrasound/dicom/examples_ybr_color.dcm")
    assert dicom.recognise(path.read_bytes()[:4096], path.name) == 0


def test_a_missing_decoder_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    from pydicom.pixels.decoders.base import Decoder

    reader = dicom.open(shipped("MR_small_RLE.dcm"))
    monkeypatch.setattr(Decoder, "is_available", property(lambda self: False))
    with pytest.raises(Missing, match="pip install 'pellucid\\[dicom\\]'") as error:
        reader.read(whole(reader.description))
    assert error.value.code == Exit.MISSING and "RLE" in str(error.value)


def test_nothing_personal_leaves_the_header(series: Path) -> None:
    source = pydicom.dcmread(series / "IM_0137.dcm")
    source.PatientName, source.PatientID = "Nobody^Known", "secret-17"
    d = dicom.open(series).description
    text = f"{d.acquisition} {d.witnesses} {d.notes}"
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "StudyDate", "InstitutionName", "SOPInstanceUID"):
        assert str(pydicom.dcmread(series / "IM_0137.dcm").get(keyword)) not in text, keyword


def test_files_that_are_no_images_are_left_out_of_a_folder(loose: Path) -> None:
    (loose / "notes.txt").write_text("read me")
    (loose / ".hidden").write_bytes(b"x")
    assert dicom.open(loose).description.shape == (112, 112, 16)
    (loose / "broken.dcm").write_bytes(b"not at all")
    with pytest.raises(FormatError, match="broken.dcm: is no DICOM file"):
        dicom.open(loose)


def test_truncated_files_end_in_a_worded_error(loose: Path) -> None:
    path = loose / "IM_0137.dcm"
    data = path.read_bytes()
    for i in range(25):
        path.write_bytes(data[: len(data) * i // 25])
        with pytest.raises(FormatError) as error:
            reader = dicom.open(loose / path.name)
            reader.read(whole(reader.description))
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["MR_small.dcm", "MR_small_RLE.dcm"])
def test_random_damage_ends_in_a_worded_error_or_a_result(name: str, tmp_path: Path) -> None:
    data = shipped(name).read_bytes()
    rng, path = np.random.default_rng(3), tmp_path / "damaged.dcm"
    for i in range(50):
        damaged = bytearray(data)
        for _ in range(int(rng.integers(1, 8))):
            damaged[int(rng.integers(0, min(len(data), 2200)))] = int(rng.integers(0, 256))
        path.write_bytes(bytes(damaged))
        try:
            reader = dicom.open(path)
            if np.prod([float(n) for n in reader.description.shape]) < 1e7:
                reader.read(whole(reader.description))
        except FormatError as error:
            assert "\n" not in str(error), i


def test_claims_of_more_than_the_file_holds_are_refused_before_memory_is_taken(tmp_path: Path) -> None:
    for name in ("MR_small.dcm", "MR_small_RLE.dcm"):
        source = pydicom.dcmread(shipped(name))
        source.Rows, source.Columns, source.NumberOfFrames = 65000, 65000, 100
        source.save_as(tmp_path / "bomb.dcm")
        with pytest.raises(FormatError):
            dicom.open(tmp_path / "bomb.dcm")


def test_a_derived_object_drops_what_spoke_of_the_old_one(tmp_path: Path) -> None:
    source = pydicom.dcmread(shipped("MR_small.dcm"))
    source.ExtendedOffsetTable, source.ExtendedOffsetTableLengths = b"\0" * 8, b"\0" * 8
    source.LossyImageCompression, source.LossyImageCompressionRatio = "01", "12.5"
    source.DerivationDescription = "resampled"
    before = str(source.SOPInstanceUID)
    dicom_derive.derive(source, "denoised with pellucid", "2.25.7")
    assert "ExtendedOffsetTable" not in source and source.LossyImageCompression == "01"
    assert source.DerivationDescription == "resampled; denoised with pellucid"
    assert source.SeriesInstanceUID == "2.25.7" and source.SOPInstanceUID != before
    dicom_derive.store(source, source.pixel_array[None], syntax="rle")
    dicom_derive.save(source, tmp_path / "rle.dcm")
    assert np.array_equal(dicom_header.decode(dicom_header.read(tmp_path / "rle.dcm"), 0), source.pixel_array)


@pytest.mark.parametrize(
    ("values", "bits"),
    [([0], 1), ([4095], 12), ([4096], 13), ([-1, 0], 1), ([-2048, 2047], 12), ([-2049], 13), ([2048], 13)],
)
def test_bits_are_counted_with_the_sign(values: list[int], bits: int) -> None:
    array = np.array(values, "int16" if min(values) < 0 or values == [2048] else "uint16")
    assert dicom_derive.needed_bits(array) == bits


def test_a_series_is_denoised_from_the_shell_into_a_folder_of_the_same_names(loose: Path) -> None:
    words = ["mri", "denoise", loose.name, "--method", "wavelet", "--sigma", "20"]
    command = [sys.executable, "-m", "pellucid", *words]
    done = subprocess.run(command, cwd=loose.parent, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    out = loose.with_name("loose_denoised")
    assert sorted(p.name for p in out.iterdir()) == sorted(p.name for p in loose.iterdir())
    before, after = dicom.open(loose), dicom.open(out)
    assert np.array_equal(before.description.acquisition["affine"], after.description.acquisition["affine"])
    assert not np.array_equal(before.read(whole(before.description)), after.read(whole(after.description)))


def test_mosaics_leave_the_shell_as_nifti_with_their_gradients(tmp_path: Path) -> None:
    nib = pytest.importorskip("nibabel")
    folder = tmp_path / "mosaics"
    folder.mkdir()
    gradient_files(folder)
    command = [sys.executable, "-m", "pellucid", "mri", "denoise", "mosaics", "-m", "identity"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    image, reader = nib.load(tmp_path / "mosaics_denoised.nii.gz"), dicom_mosaic.open(folder)
    assert np.array_equal(np.asarray(image.dataobj), reader.read(whole(reader.description)))
    assert np.allclose(image.affine, reader.description.acquisition["affine"], atol=1e-4)
    assert (tmp_path / "mosaics_denoised.bval").read_text() == "0 1000\n"


def test_nifti_of_a_series_lies_where_the_series_lies(loose: Path) -> None:
    nib = pytest.importorskip("nibabel")
    from pellucid.formats import nifti

    reader = dicom.open(loose)
    target = loose.parent / "out.nii.gz"
    writer = nifti.compose(target, reader.description)
    writer.write(whole(reader.description), reader.read(whole(reader.description)))
    writer.close()
    image = nib.load(target)
    assert np.allclose(image.affine, reader.description.acquisition["affine"], atol=1e-4)  # float32 in the header
    path = min(loose.iterdir(), key=lambda p: pydicom.dcmread(p).ImagePositionPatient[2])
    x, y, z = (float(v) for v in pydicom.dcmread(path).ImagePositionPatient)
    assert np.allclose(image.affine[:3, 3], [-x, -y, z], atol=1e-5)
    assert np.allclose(
        np.asarray(image.dataobj)[..., 0].T, pydicom.dcmread(path).pixel_array * reader.description.slope
    )
