# SPDX-License-Identifier: Apache-2.0
"""NIfTI: what is not samples comes back to the byte; what is broken says so."""

from __future__ import annotations

import gzip
import json
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from pellucid.core.errors import FormatError
from pellucid.core.restore import physical
from pellucid.core.types import Description
from pellucid.formats import nifti

REAL = (
    "dwi_interpolated/dwi.nii.gz",
    "dwi_philips/ph_dwi.nii.gz",
    "dwi_small/small_101D.nii.gz",
    "dwi_small/small_64D.nii",
    "mrtrix_reference/dwi.nii.gz",
    "mrtrix_reference/mask.nii.gz",
    "labels/aal.nii.gz",
    "nifti_odd/S0_10slices.nii.gz",
    "nifti_odd/anatomical.nii",
    "nifti_odd/anatomical_pair.hdr",
    "nifti_odd/anatomical_pair.img",
    "nifti_odd/example4d.nii.gz",
    "nifti_odd/example_nifti2.nii.gz",
    "nifti_odd/someones_anatomy.nii.gz",
    "phase/Ph_801_WIP_B0_NS_e1.nii.gz",
    "phase/Si_3_gre_field_magph_e2_ph.nii.gz",
)
FREE = {  # header bytes a change of samples may touch: datatype, bitpix, scale, display range, by version
    "nifti1": {*range(70, 74), *range(112, 120), *range(124, 132)},
    "nifti2": {*range(12, 16), *range(176, 208)},
}


def whole(description: Description) -> tuple[slice, ...]:
    return tuple(slice(0, n) for n in description.shape)


def content(path: Path) -> bytes:
    raw = path.read_bytes()
    return gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw


def rewrite(reader: nifti.NiftiReader, target: Path, output: Description, values: np.ndarray) -> None:
    """Write in pieces of three slices, last piece first."""
    writer = nifti.splice(target, reader, output)
    depth = output.shape[2]
    for start in reversed(range(0, depth, 3)):
        region = list(whole(output))
        region[2] = slice(start, min(start + 3, depth))
        writer.write(tuple(region), values[tuple(region)])
    writer.close()


def save(path: Path, values: np.ndarray, **header: object) -> Path:
    image = nib.Nifti1Image(values, np.diag([2.0, 2.0, 2.0, 1.0]))
    for key, value in header.items():
        image.header[key] = value
    nib.save(image, path)
    return path


def noisy(shape: tuple[int, ...], dtype: str = "int16") -> np.ndarray:
    return (np.random.default_rng(0).random(shape) * 1000).astype(dtype)


@pytest.mark.parametrize("name", REAL)
def test_values_equal_those_of_a_second_reader(shared_data, name):
    path = shared_data(f"mri/{name}")
    reader = nifti.open(path)
    d = reader.description
    ours = physical(reader.read(whole(d)), d, whole(d))
    theirs = np.asanyarray(nib.load(path).dataobj).reshape(d.shape)
    np.testing.assert_allclose(ours, theirs, rtol=3e-7, atol=3e-7 * np.abs(theirs).max())


@pytest.mark.parametrize("name", REAL)
def test_a_region_equals_the_slice_of_the_whole(shared_data, name):
    reader = nifti.open(shared_data(f"mri/{name}"))
    everything = reader.read(whole(reader.description))
    region = tuple(slice(n // 4, n // 4 + max(1, n // 2)) for n in reader.description.shape)
    np.testing.assert_array_equal(reader.read(region), everything[region])
    assert everything.dtype.isnative


@pytest.mark.parametrize("name", REAL)
def test_the_same_samples_give_the_same_bytes(shared_data, tmp_path, name):
    path = shared_data(f"mri/{name}")
    reader = nifti.open(path)
    rewrite(reader, tmp_path / path.name, reader.description, reader.read(whole(reader.description)))
    made = sorted(p.name for p in tmp_path.iterdir())
    assert path.name in made
    for file in made:
        assert content(tmp_path / file) == content(path.with_name(file)), file


@pytest.mark.parametrize("name", REAL)
def test_float_output_changes_only_type_scale_and_display_range(shared_data, tmp_path, name):
    path = shared_data(f"mri/{name}")
    reader = nifti.open(path)
    d = reader.description
    values = physical(reader.read(whole(d)), d, whole(d))
    rewrite(reader, tmp_path / path.name, d.with_(dtype="float32", slope=1.0, inter=0.0), values)
    back, source = nib.load(tmp_path / path.name), nib.load(path)
    np.testing.assert_array_equal(np.asanyarray(back.dataobj), values.reshape(source.shape))
    assert back.shape == source.shape and type(back) is type(source)
    np.testing.assert_array_equal(back.affine, source.affine)
    before, after = reader.layout.block, nifti.open(tmp_path / path.name).layout.block
    changed = {i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b}
    assert changed <= FREE[reader.layout.version]
    assert nifti.open(tmp_path / path.name).layout.offset == reader.layout.offset
    for key in ("qform_code", "sform_code", "pixdim", "xyzt_units", "dim_info", "descrip", "toffset", "slice_code"):
        np.testing.assert_array_equal(back.header[key], source.header[key])


@pytest.mark.parametrize("name", ["nifti_odd/example4d.nii.gz", "nifti_odd/anatomical.nii", "dwi_small/small_64D.nii"])
def test_simpleitk_sees_the_same_geometry(shared_data, tmp_path, name):
    sitk = pytest.importorskip("SimpleITK")
    path = shared_data(f"mri/{name}")
    reader = nifti.open(path)
    d = reader.description
    rewrite(reader, tmp_path / path.name, d.with_(dtype="float32"), reader.read(whole(d)).astype("float32"))
    one, two = (sitk.ReadImage(str(p)) for p in (path, tmp_path / path.name))
    for fact in ("GetOrigin", "GetSpacing", "GetDirection", "GetSize"):
        np.testing.assert_allclose(getattr(one, fact)(), getattr(two, fact)(), rtol=1e-6)


def test_the_header_is_said_in_neutral_words(shared_data):
    d = nifti.open(shared_data("mri/dwi_philips/ph_dwi.nii.gz")).description
    assert (d.shape, d.axes, d.dtype) == ((112, 112, 32, 17), ("x", "y", "z", "volume"), "int16")
    assert d.spacing[:3] == (2.0, 2.0, 2.0) and d.units == ("mm", "mm", "mm", "s")
    assert d.slope == pytest.approx(37.12681579589844, abs=0) and d.inter == 0
    assert d.acquisition["orientation"] == "LAS" and d.out_dtype == "float32" and d.slab == 2
    assert d.acquisition["repetition_s"] == 4.17567 and d.acquisition["echo_s"] == 0.069355  # the json is finer
    assert len(d.acquisition["bvals"]) == len(d.acquisition["bvecs"]) == 17


def test_a_series_of_one_volume_is_a_volume_and_is_written_back_with_four_axes(shared_data, tmp_path):
    path = shared_data("mri/nifti_odd/S0_10slices.nii.gz")
    reader = nifti.open(path)
    assert reader.description.axes == ("x", "y", "z")
    values = reader.read(whole(reader.description)).astype("float32")
    rewrite(reader, tmp_path / "o.nii.gz", reader.description.with_(dtype="float32"), values)
    assert nib.load(tmp_path / "o.nii.gz").shape == (128, 128, 10, 1)


def test_five_axes_are_squeezed_and_restored(tmp_path):
    path = save(tmp_path / "a.nii", noisy((4, 5, 6, 1, 9)))
    reader = nifti.open(path)
    assert reader.description.shape == (4, 5, 6, 9)
    rewrite(reader, tmp_path / "b.nii", reader.description, reader.read(whole(reader.description)))
    assert nib.load(tmp_path / "b.nii").shape == (4, 5, 6, 1, 9)
    assert (tmp_path / "b.nii").read_bytes() == path.read_bytes()


@pytest.mark.parametrize(("slope", "inter"), [(np.nan, np.nan), (0.0, 7.0), (1.0, np.nan)])
def test_an_unset_scale_means_none_and_stays_as_it_was(tmp_path, slope, inter):
    path = save(tmp_path / "a.nii", noisy((4, 5, 6)))
    raw = bytearray(path.read_bytes())
    raw[112:120] = np.array([slope, inter], "<f4").tobytes()
    path.write_bytes(raw)
    reader = nifti.open(path)
    assert (reader.description.slope, reader.description.inter) == (1.0, 0.0)
    rewrite(reader, tmp_path / "b.nii", reader.description, reader.read(whole(reader.description)))
    assert (tmp_path / "b.nii").read_bytes() == raw


def test_a_display_range_stays_with_its_samples_and_goes_with_them(tmp_path):
    path = save(tmp_path / "a.nii", noisy((4, 5, 6)), cal_max=500)
    reader = nifti.open(path)
    values = reader.read(whole(reader.description))
    rewrite(reader, tmp_path / "same.nii", reader.description, values)
    rewrite(reader, tmp_path / "other.nii", reader.description, values + 1)
    assert nib.load(tmp_path / "same.nii").header["cal_max"] == 500
    assert nib.load(tmp_path / "other.nii").header["cal_max"] == 0


def test_complex_samples_survive(tmp_path):
    values = (noisy((4, 5, 6)) + 1j * noisy((4, 5, 6))[::-1]).astype("complex64")
    reader = nifti.open(save(tmp_path / "a.nii.gz", values))
    assert reader.description.kind == "complex" and reader.description.out_dtype == "complex64"
    rewrite(reader, tmp_path / "b.nii.gz", reader.description, reader.read(whole(reader.description)))
    np.testing.assert_array_equal(np.asanyarray(nib.load(tmp_path / "b.nii.gz").dataobj), values)


def test_pairs_and_single_files_turn_into_each_other(shared_data, tmp_path):
    single, pair = (shared_data(f"mri/nifti_odd/{n}") for n in ("example4d.nii.gz", "anatomical_pair.hdr"))
    for source, target in ((single, "s.hdr"), (pair, "p.nii.gz"), (single, "z.img.gz")):
        reader = nifti.open(source)
        rewrite(reader, tmp_path / target, reader.description, reader.read(whole(reader.description)))
        one, two = nib.load(source), nib.load(tmp_path / target)
        np.testing.assert_array_equal(one.dataobj, two.dataobj)
        np.testing.assert_array_equal(one.affine, two.affine)
        assert [e.get_content() for e in one.header.extensions] == [e.get_content() for e in two.header.extensions]


def test_analyze_is_read_and_says_that_it_has_no_orientation(tmp_path):
    values = noisy((4, 5, 6))
    nib.save(nib.AnalyzeImage(values, None), tmp_path / "a.hdr")
    head = (tmp_path / "a.hdr").read_bytes()
    assert nifti.recognise(head, "a.hdr") > 0.5
    reader = nifti.open(tmp_path / "a.img")
    assert "no-orientation" in dict(reader.description.notes) and reader.description.acquisition["affine"] is None
    np.testing.assert_array_equal(reader.read(whole(reader.description)), values)
    rewrite(reader, tmp_path / "b.hdr", reader.description, values)
    assert (tmp_path / "b.hdr").read_bytes() == head
    with pytest.raises(FormatError, match="always a pair"):
        nifti.splice(tmp_path / "b.nii", reader, reader.description)


def test_a_noise_map_takes_the_geometry_but_not_the_gradients(shared_data, tmp_path):
    reader = nifti.open(shared_data("mri/dwi_small/small_64D.nii"))
    d = reader.description
    spatial = d.with_(shape=d.shape[:3], axes=d.axes[:3], dtype="float32")
    rewrite(reader, tmp_path / "noise.nii.gz", spatial, np.ones(d.shape[:3], "float32"))
    assert nib.load(tmp_path / "noise.nii.gz").shape == (10, 10, 10)
    assert [p.name for p in tmp_path.iterdir()] == ["noise.nii.gz"]
    np.testing.assert_array_equal(nib.load(tmp_path / "noise.nii.gz").affine, nib.load(reader.path).affine)


def test_compressed_output_has_the_same_bytes_each_time(tmp_path):
    reader = nifti.open(save(tmp_path / "a.nii", noisy((8, 8, 8))))
    values = reader.read(whole(reader.description))
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        rewrite(reader, tmp_path / name / "a.nii.gz", reader.description, values)
    assert (tmp_path / "one/a.nii.gz").read_bytes() == (tmp_path / "two/a.nii.gz").read_bytes()
    assert (tmp_path / "one/a.nii.gz").read_bytes()[4:8] == b"\0\0\0\0"  # no time


def test_compose_then_open_keeps_grid_units_gradients_and_orientation(tmp_path):
    affine = ((-2.0, 0, 0, 10), (0, 2.0, 0, -5), (0, 0, 3.0, 1), (0, 0, 0, 1))
    facts = {"bvals": (0, 1000), "bvecs": ((0, 0, 0), (0.6, 0.8, 0)), "affine": affine}
    description = Description(
        "npy", (4, 5, 6, 2), ("x", "y", "z", "volume"), "float32",
        spacing=(2.0, 2.0, 3.0, 1.5), units=("mm", "mm", "mm", "s"), acquisition=facts,
    )  # fmt: skip
    values = noisy((4, 5, 6, 2), "float32")
    writer = nifti.compose(tmp_path / "new.nii.gz", description)
    writer.write(whole(description), values)
    writer.close()
    back = nifti.open(tmp_path / "new.nii.gz")
    np.testing.assert_array_equal(back.read(whole(description)), values)
    assert back.description.spacing == (2.0, 2.0, 3.0, 1.5)
    assert back.description.acquisition["orientation"] == "LAS"
    assert back.description.acquisition["bvals"] == (0, 1000)
    np.testing.assert_allclose(back.description.acquisition["bvecs"], facts["bvecs"])
    np.testing.assert_allclose(nib.load(tmp_path / "new.nii.gz").affine, affine)


def test_inherited_sidecars_are_merged_into_the_output(tmp_path):
    root = tmp_path / "raw"
    folder = root / "sub-01" / "dwi"
    folder.mkdir(parents=True)
    (root / "dataset_description.json").write_text("{}")
    (root / "dwi.json").write_text(json.dumps({"RepetitionTime": 4.0, "EchoTime": 0.09}))
    (folder / "sub-01_dwi.json").write_text(json.dumps({"EchoTime": 0.07}))
    reader = nifti.open(save(folder / "sub-01_dwi.nii.gz", noisy((4, 5, 6))))
    assert reader.description.acquisition["echo_s"] == 0.07
    rewrite(reader, tmp_path / "out.nii.gz", reader.description, reader.read(whole(reader.description)))
    assert json.loads((tmp_path / "out.json").read_text()) == {"RepetitionTime": 4.0, "EchoTime": 0.07}


def test_gradients_that_do_not_fit_name_both_numbers(tmp_path):
    path = save(tmp_path / "dwi.nii.gz", noisy((4, 5, 6, 7)))
    (tmp_path / "dwi.bval").write_text("0 0 1000\n")
    with pytest.raises(FormatError, match="3 b-values for 7 volumes"):
        nifti.open(path)
    (tmp_path / "dwi.bval").write_text("0 0 0 0 0 0 x\n")
    with pytest.raises(FormatError, match="no number"):
        nifti.open(path)
    (tmp_path / "dwi.bval").unlink()
    (tmp_path / "dwi.bvec").write_text("0 0 1\n" * 3)
    with pytest.raises(FormatError, match="3 gradient directions for 7 volumes"):
        nifti.open(path)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_file_cut_at_twenty_places_is_an_error_each_time(tmp_path, suffix):
    whole_file = save(tmp_path / f"a{suffix}", noisy((6, 7, 8, 5))).read_bytes()
    cut = tmp_path / f"cut{suffix}"
    for part in np.linspace(0, len(whole_file) - 1, 20).astype(int):
        cut.write_bytes(whole_file[:part])
        with pytest.raises(FormatError):
            reader = nifti.open(cut)
            reader.read(whole(reader.description))


def test_a_truncated_series_says_how_many_volumes_are_there(tmp_path):
    raw = save(tmp_path / "a.nii", noisy((6, 7, 8, 64))).read_bytes()
    volume = 6 * 7 * 8 * 2
    (tmp_path / "cut.nii").write_bytes(raw[: 352 + 31 * volume + 5])
    with pytest.raises(FormatError, match="ends after 31 of 64 volumes"):
        nifti.open(tmp_path / "cut.nii")
    packed = gzip.compress(raw)
    (tmp_path / "cut.nii.gz").write_bytes(packed[: len(packed) // 2])
    reader = nifti.open(tmp_path / "cut.nii.gz")
    with pytest.raises(FormatError, match=r"ends after \d\d of 64 volumes"):
        reader.read(whole(reader.description))


def test_a_damaged_gzip_stream_is_an_error(tmp_path):
    path = save(tmp_path / "a.nii.gz", noisy((16, 16, 16)))
    raw = bytearray(path.read_bytes())
    raw[-6] ^= 0xFF  # the checksum
    path.write_bytes(raw)
    reader = nifti.open(path)
    with pytest.raises(FormatError, match="damaged"):
        reader.read(whole(reader.description))


def test_a_header_that_promises_more_than_the_file_can_hold_is_refused_before_allocation(tmp_path):
    raw = bytearray(save(tmp_path / "a.nii", noisy((4, 4, 4))).read_bytes())
    raw[40:56] = np.array([4, 32767, 32767, 32767, 32767, 1, 1, 1], "<i2").tobytes()
    for name, data in (("bomb.nii", bytes(raw)), ("bomb.nii.gz", gzip.compress(bytes(raw)))):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(FormatError, match="ends after 0 of"):
            nifti.open(tmp_path / name)


@pytest.mark.parametrize(
    ("at", "value", "match"),
    [
        (40, np.int16(9), "axes"),
        (42, np.int16(0), "without samples"),
        (42, np.int16(-4), "without samples"),
        (70, np.int16(1536), "type"),
        (72, np.int16(32), "bits"),
        (108, np.float32(np.nan), "position"),
        (108, np.float32(-3), "position"),
        (108, np.float32(1e9), "ends after"),
    ],
)
def test_an_impossible_header_is_an_error(tmp_path, at, value, match):
    raw = bytearray(save(tmp_path / "a.nii", noisy((4, 4, 4))).read_bytes())
    raw[at : at + value.nbytes] = value.tobytes()
    (tmp_path / "b.nii").write_bytes(raw)
    with pytest.raises(FormatError, match=match):
        nifti.open(tmp_path / "b.nii")


def test_half_a_pair_is_an_error(tmp_path):
    nib.save(nib.Nifti1Pair(noisy((4, 4, 4)), np.eye(4)), tmp_path / "a.hdr")
    (tmp_path / "a.img").unlink()
    with pytest.raises(FormatError, match=r"a\.img is missing"):
        nifti.open(tmp_path / "a.hdr")


def test_content_decides_and_the_name_helps():
    assert nifti.recognise(b"ENVI\ndescription = {}", "cube.hdr") == 0
    assert nifti.recognise(b"\x1f\x8b garbage", "a.nii.gz") == 0
    assert nifti.recognise(b"", "a.nii") == 0


def test_readers_pickle_and_read_from_several_threads(shared_data):
    reader = nifti.open(shared_data("mri/nifti_odd/example4d.nii.gz"))
    everything = reader.read(whole(reader.description))
    again = pickle.loads(pickle.dumps(reader))
    assert again.description == reader.description
    regions = [(slice(0, 128), slice(0, 96), slice(z, z + 1), slice(0, 2)) for z in range(24)]
    with ThreadPoolExecutor(4) as pool:
        for region, values in zip(regions, pool.map(again.read, regions), strict=True):
            np.testing.assert_array_equal(values, everything[region])
    again.close()


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_file_larger_than_the_memory_given_to_it_is_copied(tmp_path, suffix):
    """384 MB through a process whose peak stays below 256 MB: nothing is held whole, nothing is mapped."""
    script = f"""
import numpy as np
from pathlib import Path
from pellucid.core.types import Description
from pellucid.formats import nifti, spool
spool.RAM_LIMIT = 1 << 20
d = Description("nifti", (96, 96, 96, 110), ("x", "y", "z", "volume"), "float32", slab=2)
first = Path({str(tmp_path)!r}) / "a{suffix}"
def regions():
    for z in range(0, 96, 8):
        yield (slice(0, 96), slice(0, 96), slice(z, z + 8), slice(0, 110))
writer = nifti.compose(first, d)
for r in regions():
    writer.write(r, np.full((96, 96, 8, 110), r[2].start, "float32"))
writer.close()
reader = nifti.open(first)
copy = nifti.splice(first.with_name("b{suffix}"), reader, reader.description)
for r in regions():
    copy.write(r, reader.read(r))
copy.close()
back = nifti.open(first.with_name("b{suffix}")).read((slice(5, 6), slice(5, 6), slice(0, 96), slice(109, 110)))
assert np.array_equal(back.ravel(), np.arange(96) // 8 * 8)
lines = Path("/proc/self/status").read_text().splitlines()  # ru_maxrss would count the parent's
print(next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM")))
"""
    peak = int(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout)
    assert peak < 256, f"{peak} MB"
