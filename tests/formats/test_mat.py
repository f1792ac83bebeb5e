# SPDX-License-Identifier: Apache-2.0
"""MATLAB cubes: real unmixing files, both file levels, damaged and hostile files."""

from __future__ import annotations

import pickle
import struct
import zlib

import numpy as np
import pytest
import scipy.io

from pellucid.core.errors import FormatError, PellucidError
from pellucid.core.types import Description
from pellucid.formats import mat, mat5

AXES = ("line", "sample", "band")
REAL = {
    "HYDICE_data.mat": ((100, 80, 162), "data", 195807238),
    "jasperRidge2_R198.mat": ((100, 100, 198), "Y", 2364404028),
    "moffett.mat": ((50, 50, 184), "Y", 96189.8699),
}


def everything(description):
    return tuple(slice(0, n) for n in description.shape)


def cube(shape=(6, 5, 4), dtype="u2"):
    return np.random.default_rng(0).integers(0, 1000, shape).astype(dtype)


def rewrite(source, target, *, step=4, change=lambda v: v, key=None, **fields):
    reader = mat.open(source, key=key)
    output = reader.description.with_(**fields)
    writer = mat.splice(target, reader, output)
    lines, *rest = everything(reader.description)
    for start in reversed(range(0, lines.stop, step)):
        region = (slice(start, min(start + step, lines.stop)), *rest)
        writer.write(region, change(reader.read(region)).astype(output.dtype))
    writer.close()
    return reader, mat.open(target, key=key)


def make73(path, variables, *, link=None, **layout):
    """Write a 7.3 file the way MATLAB does: reversed axes, a text block before the HDF5 signature."""
    import h5py

    with h5py.File(path, "w", userblock_size=512) as file:
        for name, values in variables.items():
            item = file.create_dataset(name, data=np.asarray(values).T, **(layout if np.ndim(values) > 2 else {}))
            item.attrs["MATLAB_class"] = np.bytes_(
                {"f8": "double", "f4": "single"}.get(item.dtype.str[1:], item.dtype.name)
            )
        if link:
            file["outside"] = h5py.ExternalLink(link, "/data")
            file["soft"] = h5py.SoftLink("/nowhere")
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(116) + bytes(8) + b"\x00\x02IM")
    return path


@pytest.mark.parametrize("name", REAL)
def test_real_files_have_the_published_facts_and_round_trip(shared_data, tmp_path, name):
    shape, key, total = REAL[name]
    source = shared_data("hyperspectral/mat/" + name)
    one, two = rewrite(source, tmp_path / name, step=17)
    assert (one.description.shape, one.description.witnesses["key"]) == (shape, key)
    values = one.read(everything(one.description))
    assert values.sum(dtype=np.float64) == pytest.approx(total, rel=1e-8)
    np.testing.assert_array_equal(two.read(everything(two.description)), values)
    before, after = (scipy.io.loadmat(p, struct_as_record=False) for p in (source, tmp_path / name))
    assert list(before) == list(after)
    for variable in before:
        if getattr(before[variable], "dtype", np.dtype("f4")).kind != "O":  # structures are compared as bytes below
            np.testing.assert_array_equal(before[variable], after[variable])
        assert getattr(before[variable], "dtype", None) == getattr(after[variable], "dtype", None)
    order, old = mat5.listing(source)
    _, new = mat5.listing(tmp_path / name)
    blobs = [p.read_bytes() for p in (source, tmp_path / name)]
    assert blobs[0][:128] == blobs[1][:128] and order == "<"
    for a, b in zip(old, new, strict=True):
        if a.name != key:
            assert blobs[0][a.at : a.at + a.size] == blobs[1][b.at : b.at + b.size]


def test_bands_by_pixels_is_unfolded_column_by_column(shared_data):
    source = shared_data("hyperspectral/mat/jasperRidge2_R198.mat")
    folded = scipy.io.loadmat(source)["Y"]
    reader = mat.open(source)
    values = reader.read(everything(reader.description))
    np.testing.assert_array_equal(values[..., 7], folded[7].reshape((100, 100), order="F"))
    assert folded[0, 0] == values[0, 0, 0] == 101
    region = (slice(3, 9), slice(50, 51), slice(0, 198))
    np.testing.assert_array_equal(reader.read(region), values[region])
    assert any(code == "layout" for code, _ in reader.description.notes)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
def test_every_type_reads_and_round_trips_at_level_5(tmp_path, dtype, compressed):
    values = cube(dtype=dtype)
    others = {
        "label": "text",
        "cells": np.array([1, "a"], dtype=object),
        "z": np.eye(2) * 1j,
        "wl": np.arange(400.0, 404),
    }
    scipy.io.savemat(tmp_path / "x.mat", {"a": 1.5, "data": values, **others}, do_compression=compressed)
    one, two = rewrite(tmp_path / "x.mat", tmp_path / "y.mat")
    assert one.description.dtype == two.description.dtype == values.dtype.name
    assert one.description.acquisition["wavelengths_nm"] == (400, 401, 402, 403)
    np.testing.assert_array_equal(one.read(everything(one.description)), values)
    region = (slice(1, 3), slice(0, 5), slice(2, 3))
    np.testing.assert_array_equal(one.read(region), values[region])
    np.testing.assert_array_equal(two.read(everything(two.description)), values)
    got = scipy.io.loadmat(tmp_path / "y.mat")
    np.testing.assert_array_equal(got["data"], values)
    assert got["label"] == ["text"] and got["cells"][0, 1] == ["a"] and got["z"][0, 0] == 1j


def test_the_cube_may_become_another_type(tmp_path):
    values = cube()
    for compressed in (False, True):
        scipy.io.savemat(tmp_path / "x.mat", {"data": values, "after": np.arange(3.0)}, do_compression=compressed)
        _, two = rewrite(tmp_path / "x.mat", tmp_path / "y.mat", dtype="float32", change=lambda v: v / 3)
        assert two.description.dtype == "float32"
        np.testing.assert_array_equal(scipy.io.loadmat(tmp_path / "y.mat")["data"], (values / 3).astype("f4"))
        assert scipy.io.loadmat(tmp_path / "y.mat")["after"].tolist() == [[0, 1, 2]]


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("level", ["5", "7.3"])
def test_unmixing_layouts_come_back_in_their_own_layout(tmp_path, transposed, level):
    values = cube()
    folded = values.reshape((30, 4), order="F")
    folded = folded if transposed else np.ascontiguousarray(folded.T)
    content = {"Y": folded, "nRow": 6.0, "nCol": 5.0}
    if level == "5":
        scipy.io.savemat(tmp_path / "x.mat", content)
    else:
        make73(tmp_path / "x.mat", {k: np.atleast_2d(v) for k, v in content.items()})
    one, two = rewrite(tmp_path / "x.mat", tmp_path / "y.mat", change=lambda v: v + 1)
    np.testing.assert_array_equal(one.read(everything(one.description)), values)
    np.testing.assert_array_equal(two.read(everything(two.description)), values + 1)
    assert two.variable.shape == folded.shape
    if level == "5":
        np.testing.assert_array_equal(scipy.io.loadmat(tmp_path / "y.mat")["Y"], folded + 1)


def test_several_cubes_are_listed_and_one_may_be_named(tmp_path):
    scipy.io.savemat(tmp_path / "x.mat", {"a": cube(), "b": cube((3, 3, 5)), "truth": cube((6, 5))})
    with pytest.raises(FormatError, match=r"a 6 x 5 x 4, b 3 x 3 x 5.*--key"):
        mat.open(tmp_path / "x.mat")
    assert mat.open(tmp_path / "x.mat", key="b").description.shape == (3, 3, 5)
    assert mat.open(tmp_path / "x.mat", key="truth").description.shape == (6, 5, 1)
    with pytest.raises(PellucidError, match="no cube named 'c'"):
        mat.open(tmp_path / "x.mat", key="c")
    _, two = rewrite(tmp_path / "x.mat", tmp_path / "y.mat", key="b", change=lambda v: v + 1)
    np.testing.assert_array_equal(two.read(everything(two.description)), cube((3, 3, 5)) + 1)
    np.testing.assert_array_equal(scipy.io.loadmat(tmp_path / "y.mat")["a"], cube())


def test_a_file_without_a_cube_says_so(tmp_path):
    scipy.io.savemat(tmp_path / "x.mat", {"text": "abc", "n": 3})
    with pytest.raises(FormatError, match="no real three-axis array"):
        mat.open(tmp_path / "x.mat")


@pytest.mark.parametrize("layout", [{}, {"chunks": (2, 5, 3), "compression": "gzip", "shuffle": True}])
@pytest.mark.parametrize("dtype", ["u2", "f4", "f8", ">f4"])
def test_level_7_3_reads_reversed_axes_and_keeps_its_storage(tmp_path, layout, dtype):
    import h5py

    values = cube(dtype=dtype)
    make73(tmp_path / "x.mat", {"cube": values, "vec": np.ones((1, 3))}, **layout)
    one, two = rewrite(tmp_path / "x.mat", tmp_path / "y.mat", change=lambda v: v + 1)
    got = one.read(everything(one.description))
    assert got.dtype.isnative
    np.testing.assert_array_equal(got, values)
    region = (slice(1, 4), slice(2, 3), slice(0, 4))
    np.testing.assert_array_equal(one.read(region), values[region])
    np.testing.assert_array_equal(two.read(everything(two.description)), values + 1)
    with h5py.File(tmp_path / "x.mat") as a, h5py.File(tmp_path / "y.mat") as b:
        assert (a["cube"].chunks, a["cube"].compression) == (b["cube"].chunks, b["cube"].compression)
        assert dict(a["cube"].attrs) == dict(b["cube"].attrs) and (b["vec"][()] == 1).all()
    _, three = rewrite(tmp_path / "x.mat", tmp_path / "z.mat", dtype="float64", change=lambda v: v / 2)
    np.testing.assert_array_equal(three.read(everything(three.description)), values / 2)
    with h5py.File(tmp_path / "z.mat") as c:
        assert c["cube"].attrs["MATLAB_class"] == b"double" and c["cube"].chunks == layout.get("chunks")
    assert (tmp_path / "z.mat").read_bytes()[:10] == b"MATLAB 7.3"


def test_links_out_of_a_7_3_file_are_not_followed(tmp_path):
    make73(tmp_path / "secret.mat", {"data": cube((3, 3, 9))})
    make73(tmp_path / "x.mat", {"data": cube()}, link=str(tmp_path / "secret.mat"))
    assert mat.open(tmp_path / "x.mat").description.shape == (6, 5, 4)
    with pytest.raises(PellucidError, match="no cube named"):
        mat.open(tmp_path / "x.mat", key="outside")


@pytest.mark.parametrize("level", ["5", "5 compressed", "7.3"])
def test_a_file_cut_anywhere_is_an_error_or_the_same_cube(tmp_path, level):
    values = cube((20, 10, 8))
    if level == "7.3":
        make73(tmp_path / "x.mat", {"data": values})
    else:
        scipy.io.savemat(tmp_path / "x.mat", {"data": values}, do_compression=level != "5")
    blob = (tmp_path / "x.mat").read_bytes()
    errors = 0
    for i in range(20):
        (tmp_path / "s.mat").write_bytes(blob[: round(i * (len(blob) - 1) / 19)])
        try:
            reader = mat.open(tmp_path / "s.mat")
            np.testing.assert_array_equal(reader.read(everything(reader.description)), values)
        except FormatError as error:
            errors += 1
            assert "\n" not in str(error)
    assert errors >= 18


@pytest.mark.parametrize("compressed", [False, True])
def test_random_damage_never_raises_anything_but_a_format_error(tmp_path, compressed):
    scipy.io.savemat(tmp_path / "x.mat", {"n": 3.0, "data": cube(), "t": "abc"}, do_compression=compressed)
    blob = (tmp_path / "x.mat").read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(400):
        bad = bytearray(blob)
        for at in rng.integers(120, min(len(bad), 400), 2):
            bad[at] = rng.integers(0, 256)
        (tmp_path / "b.mat").write_bytes(bad)
        try:
            reader = mat.open(tmp_path / "b.mat")
            reader.read(everything(reader.description))
        except FormatError as error:
            assert "\n" not in str(error)


def test_a_small_file_that_claims_gigabytes_is_refused_before_allocation(tmp_path):
    body = (
        struct.pack("<4I", 6, 8, 7, 0)
        + struct.pack("<2I4i", 5, 12, 20000, 10000, 2, 0)
        + struct.pack("<2I8s", 1, 4, b"data")
    )
    body += struct.pack("<2I", 7, 1_600_000_000)
    blob = zlib.compress(struct.pack("<2I", 14, 1_600_000_100) + body + bytes(1000))
    (tmp_path / "x.mat").write_bytes(mat5.header("MATLAB 5.0") + struct.pack("<2I", 15, len(blob)) + blob)
    with pytest.raises(FormatError, match="cannot come from"):
        mat.open(tmp_path / "x.mat")


def test_positions_of_objects_move_with_the_cube(tmp_path):
    scipy.io.savemat(tmp_path / "x.mat", {"data": cube(), "last": np.ones((1, 9))})
    _, items = mat5.listing(tmp_path / "x.mat")
    blob = bytearray((tmp_path / "x.mat").read_bytes())
    blob[116:124] = struct.pack("<Q", items[1].at)
    (tmp_path / "x.mat").write_bytes(blob)
    rewrite(tmp_path / "x.mat", tmp_path / "y.mat", dtype="float64", change=lambda v: v / 3)
    _, after = mat5.listing(tmp_path / "y.mat")
    assert mat5.subsystem((tmp_path / "y.mat").read_bytes()[:128], "<") == after[1].at != items[1].at


def test_recognition_by_content(tmp_path):
    scipy.io.savemat(tmp_path / "x.mat", {"data": cube()})
    make73(tmp_path / "y.mat", {"data": cube()})
    for name in ("x.mat", "y.mat"):
        assert mat.recognise((tmp_path / name).read_bytes()[:4096], "no_suffix") > 0.9
    assert mat.recognise(b"II*\0", "x.tif") == 0


def test_the_reader_pickles(tmp_path):
    values = cube()
    scipy.io.savemat(tmp_path / "x.mat", {"data": values}, do_compression=True)
    reader = mat.open(tmp_path / "x.mat")
    reader.read(everything(reader.description))
    again = pickle.loads(pickle.dumps(reader))
    np.testing.assert_array_equal(again.read(everything(again.description)), values)
    again.close()
    np.testing.assert_array_equal(again.read(everything(again.description)), values)


def test_a_composed_file_carries_wavelengths(tmp_path):
    values = cube()
    known = {"wavelengths_nm": (500.0, 600.5, 700.0, 800.0), "fwhm_nm": (5.0, 6.0, 7.0, 8.0)}
    d = Description("x", values.shape, AXES, "uint16", acquisition=known)
    writer = mat.compose(tmp_path / "c.mat", d)
    writer.write(everything(d), values)
    writer.close()
    got = scipy.io.loadmat(tmp_path / "c.mat")
    np.testing.assert_array_equal(got["data"], values)
    np.testing.assert_array_equal(got["fwhm"][0], known["fwhm_nm"])
    back = mat.open(tmp_path / "c.mat")
    assert back.description.acquisition["wavelengths_nm"] == known["wavelengths_nm"]


def test_whole_doubles_are_stored_small_only_where_nothing_is_lost():
    assert mat5.compact(np.array([0.0, 255.0])).dtype == np.uint8
    assert mat5.compact(np.array([-1.0, 300.0])).dtype == np.int16
    for values in ([0.5, 1.0], [np.nan, 1.0], [-0.0, 1.0], [1e300]):
        assert mat5.compact(np.array(values)).dtype == np.float64
