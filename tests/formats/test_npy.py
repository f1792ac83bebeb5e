# SPDX-License-Identifier: Apache-2.0
"""NumPy arrays and archives: exact, mapped, never unpickled."""

import io
import pickle
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.core.errors import FormatError
from pellucid.core.types import Description
from pellucid.formats import npy, npz

RNG = np.random.default_rng(4)
TYPES = ["|b1", "|u1", "<i2", ">u2", "<i4", ">i8", "<f2", "<f4", ">f4", "<f8", "<c8", ">c16"]


class Trap:
    """An object that would act when it is unpickled."""

    def __reduce__(self):
        return (pytest.fail, ("unpickled",))


def identity(module, path, folder, **hints):
    reader = module.open(path, **hints)
    out = folder / f"out{path.suffix}"
    writer = module.splice(out, reader, reader.description)
    for row in reversed(range(reader.description.shape[0])):
        region = (slice(row, row + 1), *[slice(None)] * (len(reader.description.shape) - 1))
        writer.write(region, reader.read(region))
    writer.close()
    return out


def everything(reader):
    return tuple(slice(None) for _ in reader.description.shape)


@pytest.mark.parametrize("descr", TYPES)
@pytest.mark.parametrize("order", ["C", "F"])
def test_identity_gives_the_same_bytes(descr, order, tmp_path):
    values = np.asarray(RNG.normal(size=(5, 6, 7)) * 100).astype(descr)
    path = tmp_path / "a.npy"
    np.save(path, np.asarray(values, order=order))
    reader = npy.open(path)
    np.testing.assert_array_equal(reader.read(everything(reader)), values)
    assert reader.read(everything(reader)).dtype.isnative
    assert identity(npy, path, tmp_path).read_bytes() == path.read_bytes()


def test_versions_2_and_3_are_read_and_kept(tmp_path):
    from numpy.lib import format as lib

    for version in ((2, 0), (3, 0)):
        path = tmp_path / "a.npy"
        with path.open("wb") as file:
            lib.write_array(file, np.arange(6.0).reshape(2, 3), version)
        assert identity(npy, path, tmp_path).read_bytes() == path.read_bytes()


def test_axes_come_from_the_hint(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((2, 3, 4)))
    assert npy.open(tmp_path / "a.npy").description.axes == ("axis0", "axis1", "axis2")
    for axes in ("y,x,channel", "y x channel", ["y", "x", "channel"]):
        assert npy.open(tmp_path / "a.npy", axes=axes).description.series == "channel"
    for axes in ("y,x", "y,y,x"):
        with pytest.raises(FormatError, match="3 different"):
            npy.open(tmp_path / "a.npy", axes=axes)


def test_a_region_equals_the_slice_of_the_whole_also_from_a_pickle(tmp_path):
    values = RNG.normal(size=(20, 30, 4)).astype(np.float32)
    np.save(tmp_path / "a.npy", values)
    np.savez_compressed(tmp_path / "a.npz", values)
    for reader in (npy.open(tmp_path / "a.npy"), npz.open(tmp_path / "a.npz")):
        region = (slice(3, 17), slice(0, 29), slice(1, 3))
        np.testing.assert_array_equal(reader.read(region), values[region])
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(reader)).read(region), values[region])


def test_objects_and_records_are_refused_before_reading(tmp_path):
    np.save(tmp_path / "a.npy", np.array([Trap()], dtype=object), allow_pickle=True)
    np.save(tmp_path / "b.npy", np.zeros(3, dtype=[("x", "f4"), ("y", "f4")]))
    np.save(tmp_path / "c.npy", np.array(["text"]))
    np.save(tmp_path / "d.npy", np.float32(3))
    np.savez(tmp_path / "e.npz", a=np.array([Trap()], dtype=object))
    for name in "abcd":
        with pytest.raises(FormatError, match="header"):
            npy.open(tmp_path / f"{name}.npy")
    with pytest.raises(FormatError, match="object"):
        npz.open(tmp_path / "e.npz")


def test_a_shape_larger_than_the_file_is_refused_before_anything_is_allocated(tmp_path):
    path = tmp_path / "a.npy"
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (1 << 40, 8)})
    path.write_bytes(file.getvalue() + bytes(100))
    with pytest.raises(FormatError, match="needs"):
        npy.open(path)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", path.read_bytes())
    with pytest.raises(FormatError, match="needs"):
        npz.open(tmp_path / "a.npz")


def test_cut_files_give_one_error(tmp_path):
    np.save(tmp_path / "a.npy", RNG.normal(size=(30, 4)))
    np.savez_compressed(tmp_path / "a.npz", RNG.normal(size=(30, 4)))
    for module, name in ((npy, "a.npy"), (npz, "a.npz")):
        raw = (tmp_path / name).read_bytes()
        for cut in np.linspace(0, len(raw) - 1, 20).astype(int):
            (tmp_path / name).write_bytes(raw[:cut])
            with pytest.raises(FormatError, match=name):
                module.open(tmp_path / name)


@given(st.binary(min_size=1, max_size=40), st.integers(0, 110), st.booleans())
@settings(max_examples=200, deadline=None)
def test_damaged_headers_raise_nothing_but_format_errors(tmp_path_factory, noise, at, archived):
    folder = tmp_path_factory.mktemp("damaged")
    np.save(folder / "a.npy", np.zeros((3, 4)))
    np.savez_compressed(folder / "a.npz", np.zeros((3, 4)))
    module, path = (npz, folder / "a.npz") if archived else (npy, folder / "a.npy")
    raw = path.read_bytes()
    path.write_bytes(raw[:at] + noise + raw[at + len(noise) :])
    try:
        reader = module.open(path)
        assert reader.read(everything(reader)).shape == reader.description.shape
    except FormatError:
        pass


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_other_arrays_of_an_archive_travel_unread(save, tmp_path):
    values = RNG.normal(size=(6, 5))
    save(tmp_path / "a.npz", image=values, trap=np.array([Trap()], dtype=object), scale=np.arange(3))
    out = identity(npz, tmp_path / "a.npz", tmp_path)
    with zipfile.ZipFile(tmp_path / "a.npz") as old, zipfile.ZipFile(out) as new:
        assert old.namelist() == new.namelist()
        for name in old.namelist():
            assert old.read(name) == new.read(name)
            assert old.getinfo(name).compress_type == new.getinfo(name).compress_type


def test_several_candidates_are_listed_and_the_key_chooses(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, noisy=np.ones((3, 4)), clean=np.zeros((3, 4)))
    with pytest.raises(FormatError, match=r"noisy \(3, 4\), clean \(3, 4\)"):
        npz.open(path)
    assert npz.open(path, key="noisy").read((slice(None), slice(None))).all()
    with pytest.raises(FormatError, match="noisy, clean"):
        npz.open(path, key="nothing")


def test_a_new_file_is_what_numpy_reads(tmp_path):
    values = RNG.normal(size=(4, 3)).astype(np.float32)
    description = Description("x", (4, 3), ("y", "x"), "float32")
    for module, suffix in ((npy, ".npy"), (npz, ".npz")):
        writer = module.compose(tmp_path / f"a{suffix}", description)
        writer.write((slice(2, 4), slice(None)), values[2:])
        writer.write((slice(0, 2), slice(None)), values[:2])
        writer.close()
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), values)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npz")["arr_0"], values)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npy", "a.npz"]


def test_another_sample_type_keeps_byte_and_memory_order(tmp_path):
    np.save(tmp_path / "a.npy", np.asfortranarray(np.zeros((4, 3), ">i2")))
    reader = npy.open(tmp_path / "a.npy")
    writer = npy.splice(tmp_path / "b.npy", reader, reader.description.with_(dtype="float32"))
    writer.write((slice(None), slice(None)), np.ones((4, 3), np.float32))
    writer.close()
    header = npy.open(tmp_path / "b.npy").header
    assert (header.dtype, header.fortran) == (">f4", True)
    assert np.load(tmp_path / "b.npy").all()


def test_content_decides_not_the_suffix(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(3))
    np.savez(tmp_path / "a.npz", np.zeros(3))
    assert npy.recognise((tmp_path / "a.npy").read_bytes(), "a.png") == 1.0
    assert npz.recognise((tmp_path / "a.npz").read_bytes(), "a.zip") > 0.5
    assert npz.recognise(b"PK\3\4" + bytes(22) + b"\5\0\0\0a.txt", "a.zip") == 0.0
