# SPDX-License-Identifier: Apache-2.0
"""GeoTIFF: real scenes, generated layouts, everything that is not pixels, damaged and hostile files."""

from __future__ import annotations

import pickle
import shutil
import struct
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from pellucid.core.errors import FormatError
from pellucid.core.types import Description
from pellucid.formats import geotiff, tiff_layout

ENMAP = [f"hyperspectral/enmap_potsdam_l2a/enmap_potsdam_tile_{x}_{y}.tif" for x in (128, 160, 192) for y in (96, 128)]
REAL = [
    f"hyperspectral/gtiff/{n}.tif" for n in ("all-nodata", "cogeo", "float_nan", "float_raster_with_nodata", "rotated")
]
AXES = ("line", "sample", "band")
SAME = "crs transform nodatavals descriptions scales offsets units colorinterp rpcs dtypes mask_flag_enums".split()
LAYOUT = ("block_shapes", "interleaving", "compression", "photometric")


@pytest.fixture(autouse=True)
def quiet():
    """Keep rasterio's remarks on missing georeference and its own deprecations out of these tests."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="rasterio")
        warnings.filterwarnings("ignore", message=".*geotransform.*")
        warnings.filterwarnings("ignore", message=".*[Gg]eoref.*")
        yield


def everything(description):
    return tuple(slice(0, n) for n in description.shape)


def make(path, values, **options):
    """Write a (line, sample, band) array with rasterio alone; return the open dataset for more tags."""
    import rasterio

    tags = options.pop("then", lambda d: None)
    lines, samples, bands = values.shape
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK="YES"):
        profile = {"driver": "GTiff", "height": lines, "width": samples, "count": bands, "dtype": values.dtype.name}
        with rasterio.open(path, "w", **{**profile, **options}) as dataset:
            tags(dataset)
            dataset.write(np.moveaxis(values, -1, 0))
    return path


def cube(shape=(50, 40, 5), dtype="float32", seed=0):
    return np.random.default_rng(seed).integers(0, 100, shape).astype(dtype)


def rewrite(source, target, *, step=7, change=lambda v: v, **fields):
    reader = geotiff.open(source)
    output = reader.description.with_(**fields)
    writer = geotiff.splice(target, reader, output)
    lines, *rest = everything(reader.description)
    for start in range(0, lines.stop, step):
        region = (slice(start, min(start + step, lines.stop)), *rest)
        writer.write(region, change(reader.read(region)).astype(output.dtype))
    writer.close()
    return reader, geotiff.open(target)


def assert_same_but_samples(one, two, *, layout=True):
    """Compare everything rasterio shows."""
    a, b = one.dataset, two.dataset
    for name in (*SAME, *(LAYOUT if layout else ())):
        np.testing.assert_equal(getattr(b, name), getattr(a, name), err_msg=name)
    for band in (None, *range(1, a.count + 1)):
        args = () if band is None else (band,)
        for space in (None, *a.tag_namespaces(*args)):
            if space in ("DERIVED_SUBDATASETS", *(() if layout else ("IMAGE_STRUCTURE",))):
                continue
            want = {k: v for k, v in a.tags(*args, ns=space).items() if not k.startswith("STATISTICS_")}
            assert b.tags(*args, ns=space) == want, (band, space)
    (p, crs), (q, other) = a.gcps, b.gcps
    assert [(g.row, g.col, g.x, g.y, g.z) for g in p] == [(g.row, g.col, g.x, g.y, g.z) for g in q] and crs == other


@pytest.mark.parametrize("name", ENMAP + REAL)
def test_real_scenes_round_trip_with_everything_but_pixels_equal(shared_data, tmp_path, name):
    source = shared_data(name)
    one, two = rewrite(source, tmp_path / source.name, step=97)
    whole = one.read(everything(one.description))
    assert two.read(everything(two.description)).tobytes() == whole.tobytes()
    assert_same_but_samples(one, two, layout=not one.description.lossy)
    if one.masked:
        np.testing.assert_array_equal(one.mask(everything(one.description)), two.mask(everything(two.description)))
    assert [p.name for p in tmp_path.iterdir()] == [source.name]  # no .aux.xml, no .msk
    left = two.description.with_(witnesses={}, notes=(), lossy=False)
    right = one.description.with_(witnesses={}, notes=(), lossy=False)
    np.testing.assert_equal(vars(left), vars(right))


def test_the_real_enmap_tile_has_the_published_facts(shared_data):
    reader = geotiff.open(shared_data("hyperspectral/enmap_potsdam_l2a/enmap_potsdam_tile_128_96.tif"))
    d = reader.description
    assert (d.shape, d.axes, d.dtype, d.nodata) == ((32, 32, 224), AXES, "float32", -32768.0)
    assert (d.slope, d.inter, d.bad) == (1e-4, 0.0, (129, 130, 131, 132, 133, 134))
    values = reader.read(everything(d))
    assert (values[16, 16, 49], values[0, 0, 0]) == (821, 262)
    valid = values != d.nodata
    assert (values[valid].min(), values[valid].max()) == (0, 5174)
    assert not valid[..., list(d.bad)].any() and valid[..., :129].all()
    centres = np.array(d.acquisition["wavelengths_nm"])
    assert centres[0] == 418.24 and np.flatnonzero(np.diff(centres) < 0).tolist() == [90]
    assert d.acquisition["fwhm_nm"][0] == 6.99561
    assert d.acquisition["transform"] == (30.0, 0.0, 366015.0, 0.0, -30.0, 5807085.0)
    assert "32633" in d.acquisition["crs"]


def test_wavelengths_are_read_from_names_where_tags_are_missing(tmp_path):
    def names(dataset):
        dataset.descriptions = ("band 1 (418.24 Nanometers)", "0.55 um", "700 nm")

    d = geotiff.open(make(tmp_path / "x.tif", cube((4, 4, 3)), then=names)).description
    assert d.acquisition["wavelengths_nm"] == (418.24, 550.0, 700.0)


def test_wavelengths_of_the_envi_and_imagery_namespaces_are_read(tmp_path):
    def envi(dataset):
        dataset.update_tags(ns="ENVI", wavelength="{.5, .6, .7}", wavelength_units="Micrometers", bbl="{1,1,0}")

    d = geotiff.open(make(tmp_path / "x.tif", cube((4, 4, 3)), then=envi)).description
    assert d.acquisition["wavelengths_nm"] == (500, 600, 700) and d.bad == (2,)

    def imagery(dataset):
        for i in (1, 2, 3):
            dataset.update_tags(i, ns="IMAGERY", CENTRAL_WAVELENGTH_UM=str(0.4 + i / 10), FWHM_UM="0.01")

    d = geotiff.open(make(tmp_path / "y.tif", cube((4, 4, 3)), then=imagery)).description
    assert d.acquisition["wavelengths_nm"] == (500, 600, 700) and d.acquisition["fwhm_nm"] == (10, 10, 10)


LAYOUTS = [
    {"interleave": "band"},
    {"interleave": "pixel"},
    {"interleave": "band", "blockysize": 16},
    {"interleave": "band", "tiled": True, "blockxsize": 16, "blockysize": 32},
    {"interleave": "pixel", "tiled": True, "blockxsize": 32, "blockysize": 16},
    {"interleave": "pixel", "bigtiff": "YES"},
    {"interleave": "band", "endianness": "BIG"},
    {"interleave": "band", "compress": "deflate", "predictor": 3},
    {"interleave": "pixel", "compress": "lzw", "tiled": True, "blockxsize": 16, "blockysize": 16},
    {"interleave": "band", "compress": "zstd", "predictor": 2},
    {"interleave": "band", "compress": "packbits"},
    {"interleave": "band", "compress": "lerc", "max_z_error": 0},
    {"interleave": "band", "sparse_ok": True, "compress": "lzma"},
]


@pytest.mark.parametrize("options", LAYOUTS, ids=lambda o: "-".join(f"{v}" for v in o.values()))
def test_layout_and_compression_are_kept(tmp_path, options):
    values = cube()
    source = make(tmp_path / "x.tif", values, **options)
    one, two = rewrite(source, tmp_path / "y.tif", change=lambda v: v + 1)
    np.testing.assert_array_equal(two.read(everything(two.description)), values + 1)
    assert_same_but_samples(one, two)
    assert (one.directory.big, one.directory.order) == (two.directory.big, two.directory.order)


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64"]
)
def test_every_type_round_trips_and_may_become_float(tmp_path, dtype):
    values = cube((9, 8, 3), dtype)
    options = {"compress": "deflate", "predictor": 2 if values.dtype.kind != "f" else 3, "nodata": 7}
    source = make(tmp_path / "x.tif", values, **options)
    _, two = rewrite(source, tmp_path / "y.tif")
    assert two.description.dtype == dtype and two.description.nodata == 7
    assert two.read(everything(two.description)).tobytes() == values.tobytes()
    _, three = rewrite(source, tmp_path / "z.tif", dtype="float32", change=lambda v: v / 2)
    np.testing.assert_array_equal(three.read(everything(three.description)), (values / 2).astype("f4"))
    assert three.dataset.tags(ns="IMAGE_STRUCTURE")["PREDICTOR"] == "3"


def annotate(dataset):
    """Put on everything rasterio can say about a scene."""
    from rasterio.enums import ColorInterp

    dataset.update_tags(start_time="2022-07-24", STATISTICS_NOTE="old")
    dataset.update_tags(ns="MISSION", level="L2A", equals="a=b")
    dataset.descriptions = ("red", None, "near, infrared")
    dataset.scales, dataset.offsets, dataset.units = (0.1, 0.2, 0.3), (1, -2, 3), ("W/m2", "", "K")
    for band in (1, 2, 3):
        dataset.update_tags(
            band, wavelength=str(500 + band), wavelength_units="Nanometers", fwhm="5", bbl=str(band % 2)
        )
        dataset.update_tags(band, STATISTICS_MEAN="5", STATISTICS_MAXIMUM="9")
        dataset.update_tags(band, ns="IMAGERY", CENTRAL_WAVELENGTH_UM="0.5")
    dataset.colorinterp = (ColorInterp.undefined, ColorInterp.green, ColorInterp.red)


def test_tags_names_scales_and_units_of_every_band_survive(tmp_path):
    from rasterio.transform import Affine

    where = {"crs": "EPSG:32633", "transform": Affine(30, 2, 1e5, 1, -30, 5e6), "nodata": float("nan")}
    source = make(tmp_path / "x.tif", cube((9, 8, 3)), then=annotate, **where)
    one, two = rewrite(source, tmp_path / "y.tif")
    assert_same_but_samples(one, two)
    tags = two.dataset.tags(2)
    assert "STATISTICS_MEAN" not in tags and tags["bbl"] == "0"
    assert two.dataset.tags(ns="MISSION") == {"level": "L2A", "equals": "a=b"}
    d = two.description
    np.testing.assert_array_equal(d.slope, [0.1, 0.2, 0.3])
    np.testing.assert_array_equal(d.inter, [1, -2, 3])
    assert d.bad == (1,) and np.isnan(d.nodata) and d.acquisition["units"] == ("W/m2", "", "K")


def test_a_pixel_is_point_scene_keeps_its_place(tmp_path):
    from rasterio.transform import Affine

    def point(dataset):
        dataset.update_tags(AREA_OR_POINT="Point")

    where = {"crs": "EPSG:4326", "transform": Affine(0.1, 0, 10, 0, -0.1, 50)}
    one, two = rewrite(make(tmp_path / "x.tif", cube(), then=point, **where), tmp_path / "y.tif")
    assert_same_but_samples(one, two)


def test_ground_control_points_survive(tmp_path):
    from rasterio.control import GroundControlPoint

    points = [GroundControlPoint(r, c, 100 + c, 50 - r, 3.0) for r in (0, 40) for c in (0, 30)]
    one, two = rewrite(make(tmp_path / "x.tif", cube(), gcps=points, crs="EPSG:4326"), tmp_path / "y.tif")
    assert len(two.dataset.gcps[0]) == 4 and two.description.witnesses["gcps"] == 4
    assert_same_but_samples(one, two)


def test_rational_polynomials_survive(tmp_path):
    from rasterio.rpc import RPC

    lists = {f"{a}_{b}_coeff": [float(i) for i in range(20)] for a in ("line", "samp") for b in ("num", "den")}
    numbers = {f"{a}_{b}": 1.5 for a in ("height", "lat", "long", "line", "samp") for b in ("off", "scale")}

    def put(dataset):
        dataset.rpcs = RPC(**lists, **numbers, err_bias=0.5, err_rand=0.25)

    one, two = rewrite(make(tmp_path / "x.tif", cube(), then=put), tmp_path / "y.tif")
    assert two.dataset.rpcs.line_num_coeff == lists["line_num_coeff"] and two.description.witnesses["rpcs"]
    assert_same_but_samples(one, two)


@pytest.mark.parametrize("where", ["internal", "beside"])
def test_a_mask_survives_inside_the_file(tmp_path, where):
    import rasterio

    mask = np.random.default_rng(1).integers(0, 2, (50, 40)).astype(bool)
    source = make(tmp_path / "x.tif", cube())
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK="YES" if where == "internal" else "NO"):
        with rasterio.open(source, "r+") as dataset:
            dataset.write_mask(mask)
    assert (tmp_path / "x.tif.msk").exists() == (where == "beside")
    one, two = rewrite(source, tmp_path / "y.tif")
    np.testing.assert_array_equal(one.mask(everything(one.description)), mask)
    np.testing.assert_array_equal(two.mask((slice(3, 9), slice(2, 30), slice(0, 1))), mask[3:9, 2:30])
    assert not (tmp_path / "y.tif.msk").exists()
    assert_same_but_samples(one, two)


def test_colour_table_and_alpha_are_carried_and_witnessed(tmp_path):
    def table(dataset):
        dataset.write_colormap(1, {0: (0, 0, 0, 255), 1: (255, 0, 0, 255)})

    labels = cube((9, 8, 1), "uint8")
    one, two = rewrite(make(tmp_path / "l.tif", labels, photometric="palette", then=table), tmp_path / "m.tif")
    assert one.description.kind == two.description.kind == "labels"
    assert two.dataset.colormap(1)[1] == (255, 0, 0, 255)
    picture = make(tmp_path / "p.tif", cube((9, 8, 4), "uint8"), photometric="rgb", alpha="yes")
    one, two = rewrite(picture, tmp_path / "q.tif")
    assert two.description.kind == "rgb" and two.description.witnesses["colorinterp"][3] == "alpha"
    assert_same_but_samples(one, two)


def test_nodata_kept_only_in_a_side_file_moves_into_the_file(tmp_path):
    source = make(tmp_path / "x.tif", cube(dtype="int16"))
    bands = "".join(f'<PAMRasterBand band="{i}"><NoDataValue>-1</NoDataValue></PAMRasterBand>' for i in range(1, 6))
    (tmp_path / "x.tif.aux.xml").write_text(f"<PAMDataset>{bands}</PAMDataset>")
    one, two = rewrite(source, tmp_path / "y.tif")
    assert one.description.nodata == two.description.nodata == -1
    assert not (tmp_path / "y.tif.aux.xml").exists()


def test_private_tags_travel_byte_for_byte(tmp_path):
    values = cube()
    for big in ("NO", "YES"):
        source = make(tmp_path / f"x{big}.tif", values, bigtiff=big)
        tags = {
            51023: (2, 12, b"hello world\0"),
            51024: (3, 2, struct.pack("<HH", 7, 8)),
            51025: (12, 1, struct.pack("<d", 2.5)),
        }
        tiff_layout.append_private(source, tags, "<")
        one, two = rewrite(source, tmp_path / f"y{big}.tif")
        assert two.directory.private == one.directory.private == tags
        np.testing.assert_array_equal(two.read(everything(two.description)), values)
        assert_same_but_samples(one, two)


def test_a_cog_stays_a_cog_with_new_overviews(tmp_path):
    import rasterio
    import rasterio.shutil

    values = cube((300, 280, 4), "int16")
    plain = make(
        tmp_path / "plain.tif", values, nodata=0, crs="EPSG:32633", then=lambda d: d.update_tags(1, wavelength="5")
    )
    options = {"driver": "COG", "blocksize": 128, "compress": "deflate", "predictor": "yes"}
    rasterio.shutil.copy(plain, tmp_path / "x.tif", **options)
    one, two = rewrite(tmp_path / "x.tif", tmp_path / "y.tif", step=50, change=lambda v: v + 1)
    assert two.description.witnesses["layout"] == "COG"
    np.testing.assert_array_equal(two.read(everything(two.description)), values + 1)
    assert two.dataset.overviews(1) == one.dataset.overviews(1) == [2, 4]
    assert two.dataset.read(1, out_shape=(150, 140)).max() <= values.max() + 1
    assert_same_but_samples(one, two)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["plain.tif", "x.tif", "y.tif"]


def test_a_region_equals_the_slice_of_the_whole(tmp_path):
    values = cube()
    reader = geotiff.open(make(tmp_path / "x.tif", values, tiled=True, blockxsize=16, blockysize=16))
    rng = np.random.default_rng(0)
    for _ in range(50):
        edges = [sorted(rng.integers(0, n + 1, 2)) for n in values.shape]
        region = tuple(slice(int(a), int(b)) for a, b in edges)
        np.testing.assert_array_equal(reader.read(region), values[region])


@pytest.mark.parametrize("options", LAYOUTS[:5] + LAYOUTS[8:9])
def test_windows_written_in_any_order_make_the_scene(tmp_path, options, monkeypatch):
    from pellucid.formats import geotiff_write

    values = cube()
    source = geotiff.open(make(tmp_path / "x.tif", values, **options))
    rng = np.random.default_rng(0)
    tiles = [
        (slice(a, min(a + 11, 50)), slice(b, min(b + 13, 40)), slice(0, 5))
        for a in range(0, 50, 11)
        for b in range(0, 40, 13)
    ]
    for held in (1 << 26, 20_000, 1):  # all block rows kept; some; none (a draft, or merging by GDAL)
        monkeypatch.setattr(geotiff_write, "HELD", held)
        writer = geotiff.splice(tmp_path / "y.tif", source, source.description)
        for i in rng.permutation(len(tiles)):
            writer.write(tiles[i], values[tiles[i]])
        writer.close()
        back = geotiff.open(tmp_path / "y.tif")
        np.testing.assert_array_equal(back.read(everything(back.description)), values)
        assert_same_but_samples(source, back)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["x.tif", "y.tif"]


def test_slabs_that_cross_blocks_do_not_bloat_a_compressed_file(tmp_path):
    values = cube((256, 256, 8))
    source = make(tmp_path / "x.tif", values, tiled=True, blockxsize=64, blockysize=64, compress="deflate")
    rewrite(source, tmp_path / "y.tif", step=10)
    assert (tmp_path / "y.tif").stat().st_size < 1.02 * source.stat().st_size


def test_payloads_of_nan_survive(tmp_path):
    values = cube((4, 4, 1))
    values.view("u4")[1, 1, 0] = 0x7FC12345
    _, two = rewrite(make(tmp_path / "x.tif", values, nodata=float("nan")), tmp_path / "y.tif")
    assert two.read(everything(two.description)).tobytes() == values.tobytes()


def test_another_scale_and_nodata_are_written_when_told(tmp_path):
    source = make(tmp_path / "x.tif", cube((9, 8, 3), "int16"), nodata=-1, then=annotate)
    _, two = rewrite(source, tmp_path / "y.tif", dtype="float32", slope=1.0, inter=0.0, nodata=-9999.0)
    assert (two.description.slope, two.description.inter, two.description.nodata) == (1.0, 0.0, -9999.0)
    with pytest.raises(FormatError, match="nodata"):
        rewrite(source, tmp_path / "z.tif", dtype="uint16")


@pytest.mark.parametrize("compress", [None, "deflate"])
@pytest.mark.parametrize("front", [False, True])
def test_a_file_cut_anywhere_is_an_error_or_the_same_scene(tmp_path, compress, front):
    import rasterio.shutil

    values = cube((40, 30, 4))
    path = make(tmp_path / "x.tif", values, **({"compress": compress} if compress else {}))
    if front:  # directory before the data
        rasterio.shutil.copy(path, tmp_path / "c.tif", driver="COG", compress=compress or "NONE", blocksize=128)
        path = tmp_path / "c.tif"
    data = path.read_bytes()
    errors = 0
    for i in range(20):
        short = tmp_path / "short.tif"
        short.write_bytes(data[: round(i * (len(data) - 1) / 19)])
        try:
            reader = geotiff.open(short)
            np.testing.assert_array_equal(reader.read(everything(reader.description)), values)
        except FormatError as error:
            errors += 1
            assert "\n" not in str(error) and "short.tif" in str(error)
    assert errors >= 18


def test_random_damage_never_raises_anything_but_a_format_error(tmp_path):
    import rasterio

    data = make(tmp_path / "x.tif", cube((20, 10, 3)), compress="deflate", then=annotate).read_bytes()
    rng = np.random.default_rng(0)
    short = tmp_path / "bad.tif"
    start = max(0, int.from_bytes(data[4:8], "little") - 50)
    for i in range(300):
        bad = bytearray(data)
        low = start if i % 2 else 0
        for at in rng.integers(low, min(len(bad), low + 600), 3):
            bad[at] = rng.integers(0, 256)
        short.write_bytes(bad)
        try:
            reader = geotiff.open(short)
            if np.prod(reader.description.shape, dtype=float) < 1e7:
                reader.read(everything(reader.description))
            reader.close()
        except FormatError as error:
            assert "\n" not in str(error)
    assert not isinstance(FormatError, rasterio.errors.RasterioError)


def test_a_vrt_is_refused_whatever_its_name(shared_data, tmp_path):
    source = shared_data("hyperspectral/gtiff/RGB.byte.gcp.vrt")
    shutil.copy(source, tmp_path / "scene.tif")
    assert geotiff.recognise(source.read_bytes()[:4096], "scene.tif") < 0.5
    for path in (source, tmp_path / "scene.tif"):
        with pytest.raises(FormatError, match="not a TIFF"):
            geotiff.open(path)


@pytest.mark.parametrize("data", [b"", b"II", b"II*\0", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08\xff\xff" + bytes(99)])
def test_stubs_are_refused(tmp_path, data):
    path = tmp_path / "x.tif"
    path.write_bytes(data)
    with pytest.raises(FormatError):
        geotiff.open(path)


@pytest.mark.parametrize(("compress", "says"), [("deflate", "cannot come from"), ("none", "expected")])
def test_blocks_that_cannot_come_from_their_bytes_are_refused_before_reading(tmp_path, compress, says):
    path = make(tmp_path / "x.tif", cube((64, 64, 1), "uint8"), compress=compress, blockysize=64)
    data = bytearray(path.read_bytes())
    at = int.from_bytes(data[4:8], "little")
    for i in range(int.from_bytes(data[at : at + 2], "little")):
        entry = at + 2 + 12 * i
        if int.from_bytes(data[entry : entry + 2], "little") in (256, 257, 278):  # width, height, rows per strip
            data[entry + 2 : entry + 4] = (4).to_bytes(2, "little")
            data[entry + 8 : entry + 12] = (60_000).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(FormatError, match=says):
        geotiff.open(path)


@pytest.mark.parametrize("module", ["geotiff", "envi"])
def test_a_full_disk_is_an_output_error(tmp_path, module):
    code = (
        "import resource, signal, sys\nimport numpy as np\nfrom pathlib import Path\n"
        "from pellucid.core.types import Description\nfrom pellucid.formats import geotiff, envi\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "d = Description('x', (200, 100, 50), ('line', 'sample', 'band'), 'float32')\n"
        "v = np.random.default_rng(0).standard_normal((200, 100, 50), dtype='f4')\n"
        "try:\n"
        f"    w = {module}.compose(Path(sys.argv[1]), d)\n"
        "    w.write((slice(0, 200), slice(0, 100), slice(0, 50)), v)\n    w.close()\n"
        "except OSError as error:\n    print('stopped', type(error).__name__)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "x.img")], capture_output=True, text=True)
    assert done.stdout.startswith("stopped"), done
    assert "Traceback" not in done.stderr


def test_nan_as_nodata_of_integers_is_refused(tmp_path):
    source = make(tmp_path / "x.tif", cube((4, 4, 1), "uint16"))
    tiff_layout.append_private(source, {42113: (2, 4, b"nan\0")}, "<")
    try:
        description = geotiff.open(source).description
    except FormatError as error:
        assert "NaN" in str(error)
    else:
        assert description.nodata is None


def test_the_reader_pickles_and_reads_from_many_threads(tmp_path):
    values = cube()
    reader = pickle.loads(pickle.dumps(geotiff.open(make(tmp_path / "x.tif", values, compress="deflate"))))
    with ThreadPoolExecutor(4) as pool:
        rows = list(pool.map(lambda i: reader.read((slice(i, i + 1), slice(0, 40), slice(0, 5))), range(50)))
    np.testing.assert_array_equal(np.concatenate(rows), values)
    reader.close()
    np.testing.assert_array_equal(reader.read(everything(reader.description)), values)


def test_a_composed_scene_carries_wavelengths_geometry_and_bad_bands(tmp_path):
    values = cube((9, 8, 3), "int16")
    known = {"wavelengths_nm": (500.5, 600.0, 700.0), "fwhm_nm": (5.0, 6.0, 7.0), "band_names": ("a", "b", "c")}
    known |= {"transform": (30.0, 0.0, 366015.0, 0.0, -30.0, 5806125.0), "crs": "EPSG:32633"}
    d = Description("x", (9, 8, 3), AXES, "int16", slope=1e-4, nodata=-9999.0, bad=(2,), acquisition=known)
    writer = geotiff.compose(tmp_path / "c.tif", d)
    writer.write(everything(d), values)
    writer.close()
    back = geotiff.open(tmp_path / "c.tif")
    np.testing.assert_array_equal(back.read(everything(d)), values)
    got = back.description
    assert (got.slope, got.nodata, got.bad) == (1e-4, -9999.0, (2,)) and "32633" in got.acquisition["crs"]
    for key in ("wavelengths_nm", "fwhm_nm", "transform", "band_names"):
        assert got.acquisition[key] == known[key]


def test_a_real_scene_keeps_its_meaning_through_envi_and_back(tmp_path, shared_data):
    from pellucid.formats import envi

    first = geotiff.open(shared_data(ENMAP[0]))
    values, d = first.read(everything(first.description)), first.description
    for module, name in ((envi, "scene.img"), (geotiff, "scene.tif")):
        writer = module.compose(tmp_path / name, d)
        writer.write(everything(d), values)
        writer.close()
        back = module.open(tmp_path / name)
        d = back.description
        assert back.read(everything(d)).tobytes() == values.tobytes()
        for key in ("wavelengths_nm", "fwhm_nm", "transform"):
            np.testing.assert_allclose(d.acquisition[key], first.description.acquisition[key], rtol=1e-8)
        assert (d.bad, d.slope, d.nodata) == (first.description.bad, 1e-4, -32768.0)
    assert "32633" in d.acquisition["crs"]
    with pytest.raises(FormatError, match="complex"):
        geotiff.open(make(tmp_path / "c.tif", cube((4, 4, 1)), dtype="complex_int16"))


def test_unknown_words_for_the_projection_are_left_out(tmp_path):
    d = Description("x", (4, 4, 1), AXES, "uint8", acquisition={"crs": "nonsense"})
    writer = geotiff.compose(tmp_path / "c.tif", d)
    writer.close()
    assert "crs" not in geotiff.open(tmp_path / "c.tif").description.acquisition


def test_a_second_reader_agrees(tmp_path, shared_data):
    tifffile = pytest.importorskip("tifffile")
    source = shared_data(ENMAP[0])
    one, _ = rewrite(source, tmp_path / "y.tif", change=lambda v: v + 1)
    values = one.read(everything(one.description)) + 1
    np.testing.assert_array_equal(np.moveaxis(tifffile.imread(tmp_path / "y.tif"), 0, -1), values)
    program = shutil.which("gdalinfo")
    if program is None:
        pytest.skip("gdalinfo is not installed")
    texts = [
        subprocess.run([program, str(p)], capture_output=True, text=True, check=True).stdout
        for p in (source, tmp_path / "y.tif")
    ]
    assert texts[0].replace(str(source), "") == texts[1].replace(str(tmp_path / "y.tif"), "")
