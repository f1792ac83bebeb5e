# SPDX-License-Identifier: Apache-2.0
"""HDF5: what is inside, safe access, plain cubes."""

from __future__ import annotations

import pickle

import h5py
import numpy as np
import pytest
import rasterio

from pellucid.core.errors import FormatError, UsageError
from pellucid.core.types import Description
from pellucid.formats import envi, find, geotiff, hdf5, hdf5_check, hdf5_tree

SHAPE = (7, 6, 5)  # line, sample, band
CENTRES = [400.0, 450.0, 500.0, 550.0, 600.0]


def everything(description):
    return tuple(slice(0, n) for n in description.shape)


def cube(shape=SHAPE, dtype="f4"):
    return np.random.default_rng(0).integers(1, 1000, shape).astype(dtype)


def make(path, values=None, **layout):
    """Write a cube with bands first and a wavelength vector, other data beside it."""
    values = cube() if values is None else values
    with h5py.File(path, "w") as file:
        item = file.create_dataset("group/radiance", data=values.transpose(2, 0, 1), **layout)
        item.attrs["_FillValue"] = values.dtype.type(-9999)
        item.attrs["long_name"] = "at-sensor radiance"
        file["group/wavelength"] = np.array(CENTRES) / 1000
        file["group/wavelength"].attrs["units"] = "um"
        file["group/fwhm"] = np.full(5, 0.01)
        file["note"] = "kept"
        file["quality"] = np.arange(42).reshape(7, 6)
        file.attrs["title"] = "somewhere"
    return path


def rewrite(path, target, change=lambda v: v, step=3, **fields):
    reader = find.open_file(path)
    output = reader.description.with_(**fields)
    writer = find.module_of(reader.description.format).splice(target, reader, output)
    for start in reversed(range(0, output.shape[0], step)):
        region = (slice(start, min(start + step, output.shape[0])), *everything(output)[1:])
        writer.write(region, change(reader.read(region)).astype(output.dtype))
    writer.close()
    reader.close()
    return find.open_file(target)


def test_a_wavelength_vector_tells_the_band_axis(tmp_path):
    reader = find.open_file(make(tmp_path / "a.h5"))
    d = reader.description
    assert (d.format, d.shape, d.axes, d.kind, d.nodata) == (
        "hdf5",
        SHAPE,
        ("line", "sample", "band"),
        "radiance",
        -9999,
    )
    assert d.acquisition["wavelengths_nm"] == tuple(CENTRES) and d.acquisition["fwhm_nm"] == (10.0,) * 5
    np.testing.assert_array_equal(reader.read(everything(d)), cube())
    part = (slice(2, 5), slice(1, 4), slice(3, 5))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(reader)).read(part), cube()[part])
    reader.close()


@pytest.mark.parametrize("layout", [{}, {"chunks": (2, 3, 3), "compression": "gzip", "shuffle": True}])
def test_a_spliced_copy_differs_in_the_cube_alone(tmp_path, layout):
    source, target = make(tmp_path / "a.h5", **layout), tmp_path / "b.h5"
    rewrite(source, target, lambda v: v + 1).close()
    with h5py.File(source) as before, h5py.File(target) as after:
        old, new = before["group/radiance"], after["group/radiance"]
        np.testing.assert_array_equal(new[()], old[()] + 1)
        assert (new.chunks, new.compression, new.shuffle, dict(new.attrs)) == (
            old.chunks, old.compression, old.shuffle, dict(old.attrs)
        )  # fmt: skip
        assert dict(before.attrs) == dict(after.attrs) and after["note"][()] == b"kept"
        np.testing.assert_array_equal(after["quality"][()], before["quality"][()])


def test_identical_samples_leave_an_uncompressed_file_byte_for_byte(tmp_path):
    source, target = make(tmp_path / "a.h5"), tmp_path / "b.h5"
    rewrite(source, target).close()
    a, b = source.read_bytes(), target.read_bytes()
    assert len(a) == len(b) and sum(x != y for x, y in zip(a, b, strict=True)) <= 16  # times of change


def test_another_sample_type_takes_the_attributes_and_scales_along(tmp_path):
    path = tmp_path / "a.nc"
    with h5py.File(path, "w") as file:
        item = file.create_dataset("data", data=cube(dtype="i2"), chunks=(2, 2, 5), compression="gzip")
        item.attrs.update({"_FillValue": np.int16(-9999), "scale_factor": 0.5, "units": "W"})
        for axis, name in enumerate(("y", "x", "band")):
            file[name] = np.arange(SHAPE[axis])
            file[name].make_scale(name)
            item.dims[axis].attach_scale(file[name])
    again = rewrite(path, tmp_path / "b.nc", lambda v: v * 0.5, dtype="float32", slope=1.0, inter=0.0)
    assert (again.description.dtype, again.description.slope, again.description.axes[-1]) == ("float32", 1.0, "band")
    again.close()
    with h5py.File(tmp_path / "b.nc") as file:
        item = file["data"]
        assert item.attrs["_FillValue"].dtype == np.float32 and item.attrs["units"] == "W"
        assert [axis[0].name for axis in item.dims] == ["/y", "/x", "/band"] and item.chunks == (2, 2, 5)
        np.testing.assert_array_equal(item[()], cube() * 0.5)


def test_scales_names_and_places_survive_a_composed_file(tmp_path):
    made = Description(
        "hdf5", SHAPE, ("line", "sample", "band"), "int16", "reflectance", slope=1e-4, nodata=-32768.0, bad=(1, 3),
        acquisition={"wavelengths_nm": tuple(CENTRES), "fwhm_nm": (9.0,) * 5, "crs": "EPSG:32633",
                     "transform": (30.0, 0.0, 1e5, 0.0, -30.0, 5e6)},
    )  # fmt: skip
    writer = hdf5.compose(tmp_path / "a.h5", made)
    writer.write(everything(made), cube(dtype="i2"))
    writer.close()
    reader = find.open_file(tmp_path / "a.h5")
    for field in ("shape", "axes", "dtype", "kind", "slope", "inter", "nodata", "bad", "acquisition"):
        assert getattr(reader.description, field) == getattr(made, field), field
    reader.close()


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("suffix", [".tif", ".img"])
def test_a_cube_becomes_geotiff_or_envi_with_its_wavelengths(tmp_path, suffix):
    reader = find.open_file(make(tmp_path / "a.h5"))
    d, target = reader.description, tmp_path / f"b{suffix}"
    writer = (geotiff if suffix == ".tif" else envi).compose(target, d)
    writer.write(everything(d), reader.read(everything(d)))
    writer.close()
    again = find.open_file(target)
    assert again.description.acquisition["wavelengths_nm"] == tuple(CENTRES)
    assert again.description.acquisition["fwhm_nm"] == (10.0,) * 5 and again.description.nodata == -9999
    again.close()
    with rasterio.open(target) as other:
        np.testing.assert_array_equal(np.moveaxis(other.read(), 0, -1), cube())


def test_several_cubes_are_listed_and_one_is_named(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["one"], file["deep/two"] = cube(), cube() + 1
    with pytest.raises(FormatError, match=r"one 7 x 6 x 5.*deep/two 7 x 6 x 5.*--key"):
        find.open_file(path)
    with pytest.raises(UsageError, match="no array named 'three'.*deep/two"):
        find.open_file(path, key="three")
    reader = find.open_file(path, key="/deep/two")
    assert reader.description.axes == ("axis0", "axis1", "axis2")
    np.testing.assert_array_equal(reader.read(everything(reader.description)), cube() + 1)


def test_a_real_file_of_two_small_arrays_asks_for_a_name(shared_data):
    path = shared_data("hyperspectral/gtiff/two-subs.h5")
    with pytest.raises(FormatError, match=r"data 3 x 3, data2 3 x 3"):
        find.open_file(path)
    assert find.open_file(path, key="data2").description.shape == (3, 3)


def hostile(path, kind):
    with h5py.File(path.with_name("other.h5"), "w") as file:
        file["data"] = cube()
    with h5py.File(path, "w") as file:
        if kind == "external link":
            file["data"] = h5py.ExternalLink("other.h5", "/data")
        elif kind == "soft link":
            file["far"] = h5py.ExternalLink("other.h5", "/")
            file["data"] = h5py.SoftLink("/far/data")
        elif kind == "external storage":
            raw = path.with_name("raw.bin")
            raw.write_bytes(bytes(840))
            file.create_dataset("data", SHAPE, "f4", external=[(str(raw), 0, 840)])
        elif kind == "virtual":
            layout = h5py.VirtualLayout(SHAPE, "f4")
            layout[:] = h5py.VirtualSource(str(path.with_name("other.h5")), "data", SHAPE)
            file.create_virtual_dataset("data", layout)
        elif kind == "objects":
            file.create_dataset("data", SHAPE, h5py.vlen_dtype(np.int32))
        elif kind == "chunk bomb":
            file.create_dataset("data", (200_000, 200_000, 400), "f4", chunks=(64, 64, 4))
        elif kind == "nearly empty bomb":
            item = file.create_dataset("data", (200_000, 200_000, 400), "f4", chunks=(64, 64, 4), compression="gzip")
            item[:64, :64, :4] = 1
        else:
            file.create_dataset("data", (200_000, 200_000, 400), "f4")
    return path


HOSTILE = ("external link", "soft link", "external storage", "virtual", "objects", "chunk bomb", "nearly empty bomb")


@pytest.mark.parametrize("kind", [*HOSTILE, "contiguous bomb"])
@pytest.mark.parametrize("key", [None, "data"])
def test_hostile_files_end_in_a_worded_error(tmp_path, kind, key):
    path = hostile(tmp_path / "a.h5", kind)
    with pytest.raises((FormatError, UsageError)) as caught:
        hdf5.open(path, key=key)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    with pytest.raises(FormatError):
        hdf5_tree.Samples(path, "data")


def test_an_unknown_filter_names_the_package_that_brings_it(tmp_path, monkeypatch):
    monkeypatch.setattr(hdf5_check, "_available", lambda number: False)
    with pytest.raises(FormatError, match="pip install hdf5plugin"):
        hdf5.open(make(tmp_path / "a.h5", chunks=(1, 7, 6), compression="gzip"))


def test_groups_that_contain_themselves_are_walked_once(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["a/data"] = cube()
        file["a/again"] = file["a"]
        file["text"] = "words"
    assert hdf5_tree.names(path) == {"a/data": (SHAPE, "float32"), "text": ((), "text")}


def test_names_follow_a_file_that_changes(tmp_path):
    path = tmp_path / "a.h5"
    for name in ("one", "another"):
        with h5py.File(path, "w") as file:
            file[name] = np.zeros(len(name))
        assert list(hdf5_tree.names(path)) == [name]
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    assert hdf5_tree.names(path) == {}
    with pytest.raises(FormatError, match="damaged"):
        hdf5.open(path)
