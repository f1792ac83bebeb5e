# SPDX-License-Identifier: Apache-2.0
"""PRISMA, EMIT, AVIRIS-3 and NEON files, all generated here from their published layouts: no granule is at hand."""

from __future__ import annotations

import pickle

import h5py
import numpy as np
import pytest
import rasterio

from pellucid.core.errors import FormatError, UsageError
from pellucid.formats import envi, find, geotiff

LINES, SAMPLES = 9, 7
WKT = rasterio.crs.CRS.from_epsg(32633).to_wkt()


def everything(description):
    return tuple(slice(0, n) for n in description.shape)


def cube(bands, dtype="f4", seed=0):
    return np.random.default_rng(seed).integers(100, 9000, (LINES, SAMPLES, bands)).astype(dtype)


def make_prisma(path, level="L1"):
    """Write both detectors: bands in the middle, wavelengths descending, one band of each not delivered."""
    fields = f"HDFEOS/SWATHS/PRS_{level}_HCO/Data Fields"
    with h5py.File(path, "w") as file:
        for detector, bands, start in (("Vnir", 11, 970.0), ("Swir", 13, 2490.0)):
            centres = start - 10.0 * np.arange(bands, dtype="f4")
            centres[-1] = 0
            name = f"{fields}/{detector.upper()}"
            values = cube(bands, "u2", bands)
            file.create_dataset(
                f"{name}_Cube", data=values.transpose(0, 2, 1), chunks=(3, bands, 7), compression="gzip"
            )
            errors = np.zeros((LINES, bands, SAMPLES), "u1")
            errors[2, 1:7, 3], errors[5, 2, :], errors[:, 0, :] = 1, 1, 2  # a pixel, one band of a line, a whole band
            file[f"{name}_PIXEL_{'SAT' if level == 'L1' else 'L2'}_ERR_MATRIX"] = errors
            file.attrs[f"List_Cw_{detector}"], file.attrs[f"List_Fwhm_{detector}"] = centres, np.full(bands, 9.5, "f4")
            file.attrs[f"ScaleFactor_{detector}"], file.attrs[f"Offset_{detector}"] = np.float32(100), np.float32(0.25)
            file.attrs[f"L2Scale{detector}Min"], file.attrs[f"L2Scale{detector}Max"] = np.float32(0), np.float32(0.5)
        file.attrs["Epsg_Code"] = 32633
        file.attrs["Product_ULcorner_easting"], file.attrs["Product_ULcorner_northing"] = 500_015.0, 5_000_000.0
        file.attrs["Product_LRcorner_easting"] = 500_015.0 + 30 * (SAMPLES - 1)
    return path


def make_emit(path, name="radiance"):
    with h5py.File(path, "w") as file:
        item = file.create_dataset(name, data=cube(6), chunks=(4, 4, 6), compression="gzip")
        item.attrs["_FillValue"], item.attrs["units"] = np.float32(-9999), "uW/cm^2/SR/nm"
        for key, values in (
            ("wavelengths", 380.0 + 7.5 * np.arange(6, dtype="f4")),
            ("fwhm", np.full(6, 8.5, "f4")),
            ("good_wavelengths", np.array([1, 1, 0, 1, 1, 0], "f4")),
        ):
            file[f"sensor_band_parameters/{key}"] = values
        file["sensor_band_parameters/wavelengths"].attrs["units"] = "nm"
        file["location/glt_x"] = np.arange(12, dtype="i4").reshape(3, 4)
        for axis, scale in enumerate(("downtrack", "crosstrack", "bands")):
            file[scale] = np.arange(item.shape[axis], dtype="f4")
            file[scale].make_scale(scale)
            item.dims[axis].attach_scale(file[scale])
        file.attrs["geotransform"] = [1.0, 0.1, 0.0, 2.0, 0.0, -0.1]
    return path


def make_aviris(path):
    with h5py.File(path, "w") as file:
        item = file.create_dataset("reflectance/reflectance", data=cube(5).transpose(2, 0, 1), chunks=(5, 4, 4))
        item.attrs["_FillValue"] = np.float32(-9999)
        file["reflectance/wavelength"] = 400.0 + 7.4 * np.arange(5)
        file["reflectance/fwhm"] = np.full(5, 8.0)
        file["transverse_mercator"] = b""
        file["transverse_mercator"].attrs["spatial_ref"] = WKT
        file["transverse_mercator"].attrs["GeoTransform"] = "500000.0 3.0 0.0 5000000.0 0.0 -3.0"
    return path


def make_neon(path):
    with h5py.File(path, "w") as file:
        group = file.create_group("SERC/Reflectance")
        item = group.create_dataset("Reflectance_Data", data=cube(6, "i2"), chunks=(3, 7, 6), compression="gzip")
        item.attrs["Data_Ignore_Value"], item.attrs["Scale_Factor"] = -9999.0, 10000.0
        group["Metadata/Spectral_Data/Wavelength"] = np.array([500.0, 900, 1300, 1350, 1400, 1500])
        group["Metadata/Spectral_Data/Wavelength"].attrs["Units"] = "nanometers"
        group["Metadata/Spectral_Data/FWHM"] = np.full(6, 5.0)
        group["Metadata/Coordinate_System/Map_Info"] = "UTM,  1.000,  1.000, 368000.0, 4306000.0, 1.0, 1.0, 18, North"
        group["Metadata/Coordinate_System/Coordinate_System_String"] = WKT
        group.attrs["Band_Window_1_Nanometers"] = np.array([1340, 1445])
    return path


MAKERS = {
    "prisma": (make_prisma, "a.he5"),
    "emit": (make_emit, "a.nc"),
    "aviris": (make_aviris, "a.nc"),
    "neon": (make_neon, "a.h5"),
}
by_format = pytest.mark.parametrize("name", MAKERS)


def made(name, folder):
    maker, file = MAKERS[name]
    return maker(folder / file)


@by_format
def test_a_generated_file_is_recognised_whatever_its_name(name, tmp_path):
    path = made(name, tmp_path)
    assert find.candidates(path)[0][1] == name
    bare = path.rename(tmp_path / "nameless")
    assert find.candidates(bare)[0][1] == name


@by_format
def test_regions_of_a_generated_file_are_slices_and_readers_travel(name, tmp_path):
    reader = find.open_file(made(name, tmp_path))
    d = reader.description
    whole = pickle.loads(pickle.dumps(reader)).read(everything(d))
    assert d.axes == ("line", "sample", "band") and whole.shape == d.shape and str(whole.dtype) == d.dtype
    rng = np.random.default_rng(1)
    for _ in range(12):
        starts = [int(rng.integers(0, n)) for n in d.shape]
        region = tuple(slice(a, int(rng.integers(a + 1, n + 1))) for a, n in zip(starts, d.shape, strict=True))
        np.testing.assert_array_equal(reader.read(region), whole[region])
    reader.close()


@by_format
def test_a_spliced_copy_of_a_generated_file_differs_in_the_cube_alone(name, tmp_path):
    path = made(name, tmp_path)
    (tmp_path / "stage").mkdir()
    target = tmp_path / "stage" / path.name
    reader = find.open_file(path)
    d = reader.description
    writer = find.module_of(name).splice(target, reader, d)
    for start in (6, 3, 0):
        region = (slice(start, start + 3), *everything(d)[1:])
        writer.write(region, reader.read(region) + 1)
    writer.close()
    again = find.open_file(target)
    assert repr(again.description) == repr(d)
    np.testing.assert_array_equal(again.read(everything(d)), reader.read(everything(d)) + 1)
    cubes = {samples.name for samples, _ in reader.parts}
    reader.close()
    again.close()

    def compare(where, before):
        after = other[where]
        assert dict(before.attrs).keys() == dict(after.attrs).keys()
        if isinstance(before, h5py.Dataset):
            assert (before.chunks, before.compression, before.dtype) == (after.chunks, after.compression, after.dtype)
            assert where in cubes or np.array_equal(before[()], after[()]), where

    with h5py.File(path) as one, h5py.File(target) as other:
        one.visititems(compare)


@by_format
def test_another_sample_type_is_sent_to_another_format(name, tmp_path):
    reader = find.open_file(made(name, tmp_path))
    with pytest.raises(FormatError, match=r"\.tif"):
        find.module_of(name).splice(tmp_path / "b", reader, reader.description.with_(dtype="float64"))


@by_format
@pytest.mark.parametrize("writer", [geotiff, envi])
def test_a_generated_file_becomes_geotiff_or_envi_with_its_facts(name, writer, tmp_path):
    reader = find.open_file(made(name, tmp_path))
    d, target = reader.description, tmp_path / ("b.tif" if writer is geotiff else "b.img")
    made_ = writer.compose(target, d)
    made_.write(everything(d), reader.read(everything(d)))
    made_.close()
    again = find.open_file(target).description
    for key in ("wavelengths_nm", "fwhm_nm"):
        np.testing.assert_allclose(again.acquisition[key], d.acquisition[key], rtol=1e-6)
    assert (again.bad, again.nodata, again.dtype) == (d.bad, d.nodata, d.dtype)
    np.testing.assert_allclose(again.slope, d.slope, rtol=1e-12)
    np.testing.assert_allclose(again.inter, d.inter, rtol=1e-12)
    assert again.acquisition.get("transform") == d.acquisition.get("transform")


@by_format
def test_cut_and_damaged_generated_files_end_in_a_worded_error_or_a_result(name, tmp_path):
    path = made(name, tmp_path)
    data, rng = path.read_bytes(), np.random.default_rng(2)
    for i in range(40):
        bad = bytearray(data[: len(data) * i // 20] if i < 20 else data)
        for _ in range(4 if i >= 20 else 0):
            bad[int(rng.integers(0, len(bad)))] = int(rng.integers(0, 256))
        path.write_bytes(bytes(bad))
        try:
            reader = find.module_of(name).open(path)
            reader.read(everything(reader.description))
        except FormatError as error:
            assert "\n" not in str(error) and str(path) in str(error)


def test_generated_prisma_joins_the_detectors_and_marks_absent_bands(tmp_path):
    reader = find.open_file(make_prisma(tmp_path / "a.he5"))
    d = reader.description
    assert (d.shape, d.dtype, d.kind, d.bad) == ((LINES, SAMPLES, 24), "uint16", "radiance", (10, 23))
    assert d.acquisition["wavelengths_nm"][:2] == (970, 960) and d.acquisition["wavelengths_nm"][10] == 0
    np.testing.assert_array_equal(reader.read(everything(d))[..., :11], cube(11, "u2", 11))
    np.testing.assert_array_equal(reader.read(everything(d))[..., 11:], cube(13, "u2", 13))
    assert (d.slope, d.inter) == (pytest.approx(0.01), -0.25)


def test_generated_prisma_errors_mask_pixels_of_many_flagged_bands_alone(tmp_path):
    reader = find.open_file(make_prisma(tmp_path / "a.he5", "L2D"))
    expected = np.ones((LINES, SAMPLES), bool)
    expected[2, 3] = False
    np.testing.assert_array_equal(reader.mask((slice(0, LINES), slice(0, SAMPLES))), expected)
    np.testing.assert_array_equal(reader.mask((slice(2, 4), slice(1, 5))), expected[2:4, 1:5])


def test_generated_prisma_level_2d_is_placed_and_scaled(tmp_path):
    d = find.open_file(make_prisma(tmp_path / "a.he5", "L2D")).description
    assert (d.kind, d.slope, d.inter) == ("reflectance", pytest.approx(0.5 / 65535), 0.0)
    assert d.acquisition["transform"] == (30.0, 0.0, 500_000.0, 0.0, -30.0, 5_000_015.0)


def test_one_detector_of_generated_prisma_is_named(tmp_path):
    path = make_prisma(tmp_path / "a.he5")
    assert find.open_file(path, key="SWIR").description.shape[2] == 13
    with pytest.raises(UsageError, match="VNIR, SWIR"):
        find.open_file(path, key="TIR")


def test_generated_emit_knows_good_bands_and_keeps_no_map_grid_in_sensor_geometry(tmp_path):
    d = find.open_file(make_emit(tmp_path / "a.nc")).description
    assert (d.bad, d.nodata, d.kind) == ((2, 5), -9999.0, "radiance") and "transform" not in d.acquisition


def test_generated_aviris_is_read_from_bands_first(tmp_path):
    reader = find.open_file(make_aviris(tmp_path / "a.nc"))
    np.testing.assert_array_equal(reader.read(everything(reader.description)), cube(5))
    assert reader.description.acquisition["transform"] == (3.0, 0.0, 500000.0, 0.0, -3.0, 5000000.0)


def test_generated_neon_has_its_scale_windows_and_map(tmp_path):
    d = find.open_file(make_neon(tmp_path / "a.h5")).description
    assert (d.slope, d.nodata, d.bad, d.kind) == (1e-4, -9999.0, (3, 4), "reflectance")
    assert d.acquisition["transform"] == (1.0, 0.0, 368000.0, 0.0, -1.0, 4306000.0)


def test_generated_prisma_leaves_out_what_the_chosen_layers_flag(tmp_path):
    path = make_prisma(tmp_path / "a.he5")
    cloud, glint = np.zeros((LINES, SAMPLES), "u1"), np.full((LINES, SAMPLES), 10, "u1")
    cloud[0, :3], glint[8, 6] = 1, 1
    with h5py.File(path, "a") as file:
        file["HDFEOS/SWATHS/PRS_L1_HCO/Data Fields/Cloud_Mask"] = cloud
        file["HDFEOS/SWATHS/PRS_L1_HCO/Data Fields/SunGlint_Mask"] = glint
    plain, reader = find.open_file(path), find.open_file(path, quality="cloud, SunGlint")
    expected = plain.mask((slice(0, LINES), slice(0, SAMPLES))) & (cloud != 1) & (glint != 1)
    assert expected.sum() == LINES * SAMPLES - 1 - 3 - 1
    for one in (reader, pickle.loads(pickle.dumps(reader))):
        np.testing.assert_array_equal(one.mask((slice(0, LINES), slice(0, SAMPLES))), expected)
        np.testing.assert_array_equal(one.mask((slice(6, 9), slice(4, 7))), expected[6:9, 4:7])
    with pytest.raises(UsageError, match="no quality layer 'haze'"):
        find.open_file(path, quality="haze")
    with pytest.raises(UsageError, match="no quality layer 'cloud'"):
        find.open_file(make_prisma(tmp_path / "b.he5"), quality="cloud")


def make_emit_mask(path, shape=(LINES, SAMPLES, 8)):
    flags = np.zeros(shape, "f4")
    flags[..., 5:7] = 0.3  # optical depth and water vapour are no flags
    flags[1, 2, 0], flags[4, 4, 4], flags[1:3, 2, 7] = 1, 1, 1
    with h5py.File(path, "w") as file:
        file["mask"] = flags
    return path


def test_generated_emit_leaves_out_what_its_mask_file_flags(tmp_path):
    path, mask = make_emit(tmp_path / "a.nc"), make_emit_mask(tmp_path / "m.nc")
    whole = (slice(0, LINES), slice(0, SAMPLES))
    assert find.open_file(path).mask(whole) is None
    for words, flagged in (("", {(1, 2), (2, 2)}), ("cloud,dilated", {(1, 2), (4, 4)}), ("water", set())):
        reader = find.open_file(path, quality=words, quality_file=mask)
        for one in (reader, pickle.loads(pickle.dumps(reader))):
            assert set(zip(*np.nonzero(~one.mask(whole)), strict=True)) == flagged
    with pytest.raises(UsageError, match="another file"):
        find.open_file(path, quality="cloud")
    with pytest.raises(UsageError, match="no quality layer 'aod550'"):
        find.open_file(path, quality="aod550", quality_file=mask)
    for wrong in (make_emit_mask(tmp_path / "n.nc", (LINES, SAMPLES + 1, 8)), path):
        with pytest.raises(FormatError, match="same granule"):
            find.open_file(path, quality_file=wrong)
    (tmp_path / "t.nc").write_bytes(mask.read_bytes()[:700])
    with pytest.raises(FormatError):
        find.open_file(path, quality_file=tmp_path / "t.nc")
