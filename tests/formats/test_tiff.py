# SPDX-License-Identifier: Apache-2.0
"""TIFF: pixels bit for bit in every layout, tags kept, damage told."""

import pickle
import shutil
import subprocess

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.core.errors import FormatError
from pellucid.core.types import Description
from pellucid.formats import tiff

tifffile = pytest.importorskip("tifffile")
RNG = np.random.default_rng(8)
LAYOUTS = {
    "strips": {"rowsperstrip": 7},
    "one piece": {},
    "tiles": {"tile": (16, 32)},
    "deflate": {"compression": "zlib", "rowsperstrip": 5},
    "deflate tiles": {"compression": "zlib", "tile": (32, 16), "predictor": True},
    "zstd": {"compression": "zstd", "predictor": True},
    "lzw": {"compression": "lzw", "predictor": True, "rowsperstrip": 9},
    "packbits": {"compression": "packbits", "rowsperstrip": 4},
    "lzma": {"compression": "lzma"},
    "bigtiff": {"bigtiff": True, "compression": "zlib"},
    "big-endian": {"byteorder": ">", "compression": "zlib", "predictor": True},
    "big-endian raw": {"byteorder": ">"},
}


def values_of(dtype, shape):
    if np.dtype(dtype).kind == "f":
        return RNG.normal(size=shape).astype(dtype)
    info = np.iinfo(dtype)
    return RNG.integers(info.min, info.max, shape, endpoint=True).astype(dtype)


def make(path, pixels, *, byteorder="<", bigtiff=False, **more):
    with tifffile.TiffWriter(path, byteorder=byteorder, bigtiff=bigtiff) as tif:
        tif.write(pixels, metadata=more.pop("metadata", None), **more)
    return path


def everything(reader):
    return tuple(slice(None) for _ in reader.description.shape)


def identity(path, folder):
    reader = tiff.open(path)
    out = folder / "out.tif"
    writer = tiff.splice(out, reader, reader.description)
    rows = reader.description.shape[0]
    for start in reversed(range(0, rows, 10)):
        region = (slice(start, min(start + 10, rows)), *everything(reader)[1:])
        writer.write(region, reader.read(region))
    writer.close()
    reader.close()
    assert [p.name for p in folder.glob("out*")] == ["out.tif"]
    return out


def tags(path):
    places = {273, 279, 324, 325}
    with tifffile.TiffFile(path) as tif:
        return [{t.code: t.value for t in page.tags if t.code not in places} for page in tif.pages]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float16", "float32", "float64", "int16"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_grey_pixels_and_tags_survive(dtype, layout, tmp_path):
    if "predictor" in LAYOUTS[layout] and dtype == "float64" and layout == "lzw":
        pytest.skip("one floating-point predictor is enough")
    pixels = values_of(dtype, (41, 53))
    path = make(tmp_path / "a.tif", pixels, resolution=(300, 300), description="seen", **LAYOUTS[layout])
    reader = tiff.open(path)
    np.testing.assert_array_equal(reader.read(everything(reader)), pixels)
    out = identity(path, tmp_path)
    np.testing.assert_array_equal(tifffile.imread(out), pixels)
    assert tags(path) == tags(out)


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("layout", ["strips", "one piece", "deflate tiles", "big-endian"])
@pytest.mark.parametrize("alpha", [False, True])
def test_colour_profile_and_opacity_survive(planar, layout, alpha, tmp_path):
    shape = (41, 53, 4 if alpha else 3)
    pixels = values_of("uint16", shape)
    stored = pixels if planar == "contig" else np.moveaxis(pixels, 2, 0)
    more = {"extrasamples": ["unassalpha"]} if alpha else {}
    path = make(
        tmp_path / "a.tif",
        stored,
        photometric="rgb",
        planarconfig=planar,
        iccprofile=b"p" * 99,
        **more,
        **LAYOUTS[layout],
    )
    reader = tiff.open(path)
    assert reader.description.shape == (41, 53, 3) and reader.description.kind == "rgb"
    assert reader.description.axes == ("y", "x", "channel")
    np.testing.assert_array_equal(reader.read(everything(reader)), pixels[:, :, :3])
    out = identity(path, tmp_path)
    np.testing.assert_array_equal(tifffile.imread(out), stored)
    assert tags(path) == tags(out)


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_pages_become_a_series_of_volumes(compression, tmp_path):
    pixels = values_of("uint16", (5, 21, 33))
    path = make(tmp_path / "a.tif", pixels, compression=compression, photometric="minisblack")
    reader = tiff.open(path)
    assert reader.description.shape == (21, 33, 5) and reader.description.axes[2] == "volume"
    np.testing.assert_array_equal(reader.read(everything(reader)), np.moveaxis(pixels, 0, 2))
    out = identity(path, tmp_path)
    np.testing.assert_array_equal(tifffile.imread(out), pixels)
    assert tags(path) == tags(out)


@pytest.mark.parametrize("more", [{"imagej": True}, {"ome": True}, {"ome": True, "compression": "zlib"}])
def test_hyperstacks_keep_their_description(more, tmp_path):
    pixels = values_of("uint16", (2, 3, 20, 30))
    path = tmp_path / ("a.ome.tif" if "ome" in more else "a.tif")
    compression = more.pop("compression", None)
    tifffile.imwrite(
        path, pixels, metadata={"axes": "ZCYX", "spacing": 0.5, "unit": "um"}, compression=compression, **more
    )
    reader = tiff.open(path)
    assert reader.description.shape == (20, 30, 6)
    out = identity(path, tmp_path)
    with tifffile.TiffFile(path) as old, tifffile.TiffFile(out) as new:
        assert old.pages[0].description == new.pages[0].description
        assert old.imagej_metadata == new.imagej_metadata
        np.testing.assert_array_equal(new.asarray(), pixels)


def test_imagej_stacks_with_a_single_directory_are_read_whole(tmp_path):
    pixels = values_of("uint8", (4, 20, 30))
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels, imagej=True, truncate=True)
    with tifffile.TiffFile(path) as tif:
        assert len(tif.pages) == 1
    reader = tiff.open(path)
    np.testing.assert_array_equal(reader.read(everything(reader)), np.moveaxis(pixels, 0, 2))
    np.testing.assert_array_equal(tifffile.imread(identity(path, tmp_path)), pixels)


def test_thumbnails_and_private_tags_are_kept(tmp_path):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tif:
        extra = [(65000, 1, 7, b"private", True), (700, 1, 5, b"<xmp>", True)]
        tif.write(values_of("uint8", (40, 50)), compression="zlib", extratags=extra, metadata=None)
        tif.write(np.full((4, 5), 9, np.uint8), subfiletype=1, metadata=None)
    assert tiff.open(path).description.notes[0][0] == "pages"
    out = identity(path, tmp_path)
    assert tags(path) == tags(out)
    assert (tifffile.imread(out, key=1) == 9).all()


@pytest.mark.parametrize("name", ["1.tif", "8.tif", "17.tif"])
def test_real_pictures_come_back(name, tmp_path, shared_data):
    path = shared_data("natural/mcmaster") / name
    if not path.exists():
        path = sorted(path.parent.glob("*.tif"))[0]
    reader = tiff.open(path)
    np.testing.assert_array_equal(reader.read(everything(reader)), tifffile.imread(path)[:, :, :3])
    out = identity(path, tmp_path)
    np.testing.assert_array_equal(tifffile.imread(out), tifffile.imread(path))
    assert tags(path) == tags(out)
    assert tiff.recognise(path.read_bytes()[:4096], name) >= 0.6


def test_lossy_pages_become_deflate(tmp_path):
    pixels = np.linspace(0, 255, 64 * 80 * 3).reshape(64, 80, 3).astype(np.uint8)
    path = make(tmp_path / "a.tif", pixels, photometric="ycbcr", compression="jpeg", tile=(32, 32))
    reader = tiff.open(path)
    assert reader.description.lossy and reader.description.kind == "rgb"
    decoded = reader.read(everything(reader))
    out = identity(path, tmp_path)
    np.testing.assert_array_equal(tifffile.imread(out), decoded)
    again = tiff.open(out)
    assert not again.description.lossy
    np.testing.assert_array_equal(again.read(everything(again)), decoded)


@pytest.mark.parametrize(("photometric", "samples", "kind"), [("separated", 4, "cmyk"), ("cielab", 3, "lab")])
def test_kinds_that_must_not_be_denoised_are_marked(photometric, samples, kind, tmp_path):
    path = make(tmp_path / "a.tif", values_of("uint8", (9, 8, samples)), photometric=photometric, planarconfig="contig")
    assert tiff.open(path).description.kind == kind


def test_palettes_and_bits_are_marked(tmp_path):
    index = RNG.integers(0, 9, (9, 16)).astype(np.uint8)
    path = make(tmp_path / "a.tif", index, photometric="palette", colormap=np.zeros((3, 256), np.uint16))
    assert tiff.open(path).description.kind == "palette"
    make(tmp_path / "b.tif", index > 4)
    assert tiff.open(tmp_path / "b.tif").description.kind == "mask"


def test_another_sample_type_keeps_profile_and_descriptive_tags(tmp_path):
    pixels = values_of("uint8", (20, 30, 3))
    more = {"photometric": "rgb", "iccprofile": b"p" * 50, "software": "maker", "description": "said", "datetime": True}
    path = make(tmp_path / "a.tif", pixels, **more)
    reader = tiff.open(path)
    writer = tiff.splice(tmp_path / "b.tif", reader, reader.description.with_(dtype="float32", slope=1.0))
    writer.write(everything(reader), pixels.astype(np.float32) / 255)
    writer.close()
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "b.tif"), pixels.astype(np.float32) / 255)
    new = tags(tmp_path / "b.tif")[0]
    assert new[34675] == b"p" * 50 and new[305] == "maker" and new[270] == "said" and 306 in new


@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 3), (20, 30, 5)])
def test_new_files_are_what_tifffile_reads(shape, tmp_path):
    last = "volume" if shape[-1] == 5 else "channel"
    description = Description("x", shape, ("y", "x", last)[: len(shape)], "uint16")
    pixels = values_of("uint16", shape)
    writer = tiff.compose(tmp_path / "a.tif", description)
    writer.write((slice(10, 20), *(slice(None) for _ in shape[1:])), pixels[10:])
    writer.write((slice(0, 10), *(slice(None) for _ in shape[1:])), pixels[:10])
    writer.close()
    expected = np.moveaxis(pixels, 2, 0) if shape[-1] == 5 else pixels
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), expected)
    reader = tiff.open(tmp_path / "a.tif")
    assert reader.description.shape == shape
    np.testing.assert_array_equal(reader.read(everything(reader)), pixels)


def test_a_region_equals_the_slice_of_the_whole_also_from_a_pickle(tmp_path):
    pixels = values_of("uint16", (3, 50, 70))
    for more in ({}, {"compression": "zlib", "tile": (16, 16)}):
        reader = tiff.open(make(tmp_path / "a.tif", pixels, photometric="minisblack", **more))
        whole = reader.read(everything(reader))
        reader = pickle.loads(pickle.dumps(reader))
        for region in ((slice(3, 40), slice(15, 17), slice(1, 2)), (slice(49, 50), slice(0, 70), slice(0, 3))):
            np.testing.assert_array_equal(reader.read(region), whole[region])
        reader.close()


def test_scenes_are_left_to_geotiff(tmp_path):
    scale = [(33550, 12, 3, (1.0, 1.0, 0.0), True)]
    pixels = values_of("uint16", (8, 9))
    assert tiff.recognise(make(tmp_path / "a.tif", pixels).read_bytes()[:4096], "a.tif") > 0.9
    assert tiff.recognise(make(tmp_path / "b.tif", pixels, extratags=scale).read_bytes()[:4096], "b.tif") < 0.5
    late = tmp_path / "late.tif"
    late.write_bytes(b"II*\0" + (5000).to_bytes(4, "little") + bytes(4992) + (tmp_path / "b.tif").read_bytes()[8:])
    assert tiff.recognise(late.read_bytes()[:4096], str(late)) < 0.5
    assert tiff.recognise(late.read_bytes()[:4096], "elsewhere.tif") == 0.6
    bands = values_of("uint16", (8, 9, 7))
    path = make(tmp_path / "c.tif", bands, planarconfig="contig", photometric="minisblack")
    assert tiff.recognise(path.read_bytes()[:4096], "c.tif") < 0.5


@pytest.mark.parametrize("layout", ["strips", "deflate", "deflate tiles", "bigtiff"])
def test_cut_files_give_one_error(layout, tmp_path):
    raw = make(tmp_path / "a.tif", values_of("uint16", (60, 70)), **LAYOUTS[layout]).read_bytes()
    for cut in np.linspace(0, len(raw) - 2, 20).astype(int):
        (tmp_path / "a.tif").write_bytes(raw[:cut])
        with pytest.raises(FormatError, match="a.tif"):
            reader = tiff.open(tmp_path / "a.tif")
            reader.read(everything(reader))


def test_a_huge_claim_is_refused_before_anything_is_allocated(tmp_path):
    for more in ({}, {"compression": "zlib"}):
        path = make(tmp_path / "a.tif", np.zeros((4, 4), np.uint8), rowsperstrip=4, **more)
        with tifffile.TiffFile(path, mode="r+") as tif:
            for code in (256, 257, 278):
                tif.pages[0].tags[code].overwrite(1_000_000, dtype=4)
        with pytest.raises(FormatError):
            tiff.open(path)


def test_more_strips_than_the_file_could_list_are_refused(tmp_path):
    path = make(tmp_path / "a.tif", np.zeros((4, 4), np.uint8), rowsperstrip=1, compression="zlib")
    with tifffile.TiffFile(path, mode="r+") as tif:
        tif.pages[0].tags[257].overwrite(4_000_000_000, dtype=4)
    with pytest.raises(FormatError, match="strips"):
        tiff.open(path)


@given(st.binary(min_size=1, max_size=30), st.integers(0, 260))
@settings(max_examples=150, deadline=None)
def test_damaged_directories_raise_nothing_but_format_errors(tmp_path_factory, noise, at):
    folder = tmp_path_factory.mktemp("damaged")
    raw = make(folder / "a.tif", np.arange(400, dtype=np.uint16).reshape(20, 20), compression="zlib").read_bytes()
    (folder / "a.tif").write_bytes(raw[:at] + noise + raw[at + len(noise) :])
    try:
        reader = tiff.open(folder / "a.tif")
        if np.prod(reader.description.shape) < 1e7:
            assert reader.read(everything(reader)).shape == reader.description.shape
    except FormatError:
        pass


@pytest.mark.skipif(not shutil.which("gdalinfo"), reason="GDAL is not installed")
def test_gdal_reads_what_is_written(tmp_path):
    pixels = values_of("uint16", (41, 53))
    out = identity(make(tmp_path / "a.tif", pixels, **LAYOUTS["deflate tiles"]), tmp_path)
    command = ["gdal_translate", "-q", "-of", "ENVI", out, tmp_path / "raw"]
    subprocess.run(command, check=True, capture_output=True)
    np.testing.assert_array_equal(np.fromfile(tmp_path / "raw", "<u2").reshape(41, 53), pixels)


def test_sparse_tiles_read_as_zero(tmp_path):
    path = make(tmp_path / "a.tif", values_of("uint8", (32, 32)), tile=(16, 16), compression="zlib")
    with tifffile.TiffFile(path, mode="r+") as tif:
        for code in (324, 325):
            tag = tif.pages[0].tags[code]
            tag.overwrite((0, *tag.value[1:]))
    reader = tiff.open(path)
    whole = reader.read(everything(reader))
    assert not whole[:16, :16].any() and whole[16:].any()
    again = tiff.open(identity(path, tmp_path))
    np.testing.assert_array_equal(again.read(everything(again)), whole)


def test_new_pictures_of_16_bit_carry_a_profile_and_no_tag_of_raw_files(tmp_path):
    facts = {"icc_profile": b"p" * 90, "cfa": [[0, 1], [1, 2]], "black": 3}
    description = Description("x", (20, 30, 3), ("y", "x", "channel"), "uint16", "rgb", acquisition=facts)
    pixels = values_of("uint16", (20, 30, 3))
    writer = tiff.compose(tmp_path / "a.tif", description)
    writer.write((slice(0, 20), slice(0, 30), slice(0, 3)), pixels)
    writer.close()
    found = tags(tmp_path / "a.tif")[0]
    assert found[34675] == b"p" * 90 and not any(code >= 50706 or 33421 <= code <= 33422 for code in found)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), pixels)
