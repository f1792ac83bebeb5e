# SPDX-License-Identifier: Apache-2.0
"""ENVI: real pairs, every layout made by hand, damaged and hostile headers."""

from __future__ import annotations

import itertools
import pickle
import shutil
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.core.errors import FormatError
from pellucid.core.types import Description
from pellucid.formats import envi, envi_header, envi_meta, wavelengths

ENVI = "hyperspectral/envi/"
AXES = ("line", "sample", "band")
FILE_ORDER = {"bsq": (2, 0, 1), "bil": (0, 2, 1), "bip": (0, 1, 2)}
CODES = {1: "u1", 2: "i2", 3: "i4", 4: "f4", 5: "f8", 12: "u2", 13: "u4", 14: "i8", 15: "u8"}


def everything(description):
    return tuple(slice(0, n) for n in description.shape)


def cube(shape=(5, 4, 3), dtype="u2", seed=0):
    values = np.random.default_rng(seed).integers(0, 100, shape)
    return values.astype(dtype)


def make(folder, values, interleave="bsq", code=12, order=0, extra="", name="x.img", prefix=b"", tail=b""):
    """Write a pair by hand, by nothing but numpy and text."""
    lines, samples, bands = values.shape
    stored = np.transpose(values, FILE_ORDER[interleave]).astype("<>"[order] + CODES[code])
    path = folder / name
    path.write_bytes(prefix + stored.tobytes() + tail)
    path.with_suffix(".hdr").write_text(
        f"ENVI\nsamples = {samples}\nlines = {lines}\nbands = {bands}\nheader offset = {len(prefix)}\n"
        f"file type = ENVI Standard\ndata type = {code}\ninterleave = {interleave}\nbyte order = {order}\n{extra}"
    )
    return path


def rewrite(source, target, *, step=2, change=lambda v: v, output=None):
    """Copy a cube by slabs through splice."""
    reader = envi.open(source)
    output = output or reader.description
    writer = envi.splice(target, reader, output)
    lines, *rest = everything(reader.description)
    for start in reversed(range(0, lines.stop, step)):
        region = (slice(start, min(start + step, lines.stop)), *rest)
        writer.write(region, change(reader.read(region)))
    writer.close()
    reader.close()
    return envi.open(target)


def test_the_real_bil_cube_has_the_published_values(shared_data):
    reader = envi.open(shared_data(ENVI + "corn-kernel-hyperspectral.raw"))
    d = reader.description
    assert (d.shape, d.axes, d.dtype) == ((31, 43, 580), AXES, "uint16")
    values = reader.read(everything(d))
    assert values[0, :3, 0].tolist() == [22, 12, 19]
    assert values[15, 21, 290] == 2478
    assert int(values.sum(dtype=np.int64)) == 465077677
    assert d.acquisition["wavelengths_nm"][0] == 366.551
    assert {code for code, _ in d.notes} == {"no-byte-order", "no-header-offset", "no-file-type"}


def test_the_real_cube_round_trips_byte_for_byte(shared_data, tmp_path):
    source = shared_data(ENVI + "corn-kernel-hyperspectral.hdr")
    rewrite(source, tmp_path / "out.hdr", step=7)
    assert (tmp_path / "out.raw").read_bytes() == source.with_suffix(".raw").read_bytes()
    assert (tmp_path / "out.hdr").read_bytes() == source.read_bytes()


def test_the_library_opens_as_a_library_and_round_trips(shared_data, tmp_path):
    source = shared_data(ENVI + "library_berlin.sli")
    reader = envi.open(source)
    assert (reader.description.kind, reader.description.shape) == ("library", (75, 177, 1))
    assert reader.description.witnesses["file_type"] == "ENVI Spectral Library"
    values = reader.read(everything(reader.description))
    assert values.sum() == pytest.approx(23583924.4149, abs=1e-3)
    rewrite(source, tmp_path / "out.sli", step=10)
    assert (tmp_path / "out.sli").read_bytes() == source.read_bytes()
    assert (tmp_path / "out.hdr").read_bytes() == source.with_suffix(".hdr").read_bytes()


@pytest.mark.parametrize("name", ["enmap_berlin", "cubus_gamsberg_subset", "headwall_leading_commas"])
def test_a_header_alone_says_that_the_data_file_is_missing(shared_data, name):
    with pytest.raises(FormatError, match="data file: not found"):
        envi.open(shared_data(f"{ENVI}header_only_{name}.hdr"))


def test_an_esri_header_is_named_as_such(shared_data):
    with pytest.raises(FormatError, match="not an ENVI header"):
        envi.open(shared_data(ENVI + "header_only_esri_bil_not_envi.hdr"))


def test_real_headers_come_back_verbatim_and_are_understood(shared_data):
    for name in ("enmap_berlin", "cubus_gamsberg_subset", "headwall_leading_commas", "headwall_short_wavelength_list"):
        path = shared_data(f"{ENVI}header_only_{name}.hdr")
        assert envi_header.load(path).encode() == path.read_bytes()
    gamsberg = envi_header.load(shared_data(ENVI + "header_only_cubus_gamsberg_subset.hdr"))
    assert gamsberg.items("band names")[1] == "Resize (Band 2:resampled_clipped_2013317) (436.989990)"
    assert len(gamsberg.items("band names")) == len(gamsberg.items("wavelength")) == 189
    values = wavelengths.numbers(gamsberg.items("wavelength"))
    assert wavelengths.to_nm(values, gamsberg.get("wavelength units")) == values  # "Unknown", in nm
    headwall = envi_header.load(shared_data(ENVI + "header_only_headwall_leading_commas.hdr"))
    assert headwall.items("wavelength")[:2] == ["379.027", "379.663"]
    assert len(headwall.items("wavelength")) == 978
    berlin = envi_header.load(shared_data(ENVI + "header_only_enmap_berlin.hdr"))
    assert envi_meta.transform_of(berlin.items("map info")) == (30.0, 0.0, 380952.37, 0.0, -30.0, 5820372.35)


def test_a_list_shorter_than_the_bands_is_dropped_with_a_note(shared_data, tmp_path):
    shutil.copy(shared_data(ENVI + "header_only_headwall_short_wavelength_list.hdr"), tmp_path / "x.hdr")
    (tmp_path / "x.raw").write_bytes(bytes(1600 * 978 * 2))
    description = envi.open(tmp_path / "x.raw").description
    assert "wavelengths_nm" not in description.acquisition
    assert any(code == "list-length" for code, _ in description.notes)


@pytest.mark.parametrize("interleave", list(FILE_ORDER))
@pytest.mark.parametrize("code", list(CODES))
@pytest.mark.parametrize("order", [0, 1])
def test_every_interleave_type_and_byte_order_reads_and_round_trips(tmp_path, interleave, code, order):
    values = cube(dtype=CODES[code])
    path = make(tmp_path, values, interleave, code, order)
    reader = envi.open(path)
    got = reader.read(everything(reader.description))
    assert got.dtype == np.dtype(CODES[code]) and got.dtype.isnative
    np.testing.assert_array_equal(got, values)
    again = rewrite(path, tmp_path / "y.img")
    assert (tmp_path / "y.img").read_bytes() == path.read_bytes()
    assert (tmp_path / "y.hdr").read_bytes() == (tmp_path / "x.hdr").read_bytes()
    np.testing.assert_array_equal(again.read(everything(again.description)), values)


@pytest.mark.parametrize("interleave", list(FILE_ORDER))
def test_a_region_equals_the_slice_of_the_whole(tmp_path, interleave):
    values = cube((7, 6, 5))
    reader = envi.open(make(tmp_path, values, interleave, order=1, prefix=b"12345"))
    cuts = [slice(0, None), slice(2, 4), slice(1, 2), slice(3, 3)]
    for picks in itertools.product(cuts, repeat=3):
        region = tuple(slice(*p.indices(n)[:2]) for p, n in zip(picks, values.shape, strict=True))
        np.testing.assert_array_equal(reader.read(region), values[region])


@pytest.mark.parametrize("interleave", list(FILE_ORDER))
def test_a_narrow_window_of_a_very_wide_row_equals_the_slice(tmp_path, interleave):
    values = cube((3, 40000, 2))  # rows longer than what is read through
    reader = envi.open(make(tmp_path, values, interleave))
    region = (slice(1, 3), slice(30000, 30007), slice(0, 2))
    np.testing.assert_array_equal(reader.read(region), values[region])


@pytest.mark.parametrize("interleave", list(FILE_ORDER))
def test_windows_written_in_any_order_make_the_cube(tmp_path, interleave):
    values = cube((6, 8, 5))
    source = envi.open(make(tmp_path, values, interleave))
    writer = envi.splice(tmp_path / "y.img", source, source.description)
    tiles = [
        (slice(a, a + 3), slice(b, b + 4), slice(c, min(c + 3, 5))) for a in (3, 0) for b in (4, 0) for c in (3, 0)
    ]
    for tile in tiles:
        writer.write(tile, values[tile])
    writer.close()
    reader = envi.open(tmp_path / "y.img")
    np.testing.assert_array_equal(reader.read(everything(reader.description)), values)


def test_bytes_before_between_and_after_frames_travel(tmp_path):
    values = cube((4, 3, 2), "u2")
    frames = []
    for band in range(2):
        frames.append(b"MM")
        frames += [b"<" + values[line, :, band].astype("<u2").tobytes() + b">>" for line in range(4)]
        frames.append(b"N")
    path = tmp_path / "x.bsq"
    path.write_bytes(b"HEADER" + b"".join(frames) + b"tail")
    text = "samples=3\nlines=4\nbands=2\nheader offset=6\ndata type=12\ninterleave=bsq\nbyte order=0\nfile type=ENVI\n"
    text += "major frame offsets = {2, 1}\nminor frame offsets = {1, 2}\n"
    (tmp_path / "x.hdr").write_text("ENVI\n" + text)
    reader = envi.open(path)
    np.testing.assert_array_equal(reader.read(everything(reader.description)), values)
    assert any(code == "longer-file" for code, _ in reader.description.notes)
    rewrite(path, tmp_path / "y.bsq")
    assert (tmp_path / "y.bsq").read_bytes() == path.read_bytes()
    changed = rewrite(path, tmp_path / "z.bsq", output=reader.description.with_(dtype="float32"))
    np.testing.assert_array_equal(changed.read(everything(changed.description)), values)
    assert (tmp_path / "z.bsq").read_bytes()[:6] == b"HEADER"


def test_only_the_data_type_line_changes_when_the_type_does(tmp_path):
    extra = "WaveLength   Units = Nanometer\nmy own = {a = b: c,\n ;note\n d}\n; remark\nbbl = {1, 0, 1}\n"
    path = make(tmp_path, cube(), extra=extra, order=1)
    reader = envi.open(path)
    out = rewrite(path, tmp_path / "y.img", output=reader.description.with_(dtype="float32"), change=lambda v: v / 2)
    before, after = ((tmp_path / n).read_text().splitlines() for n in ("x.hdr", "y.hdr"))
    assert [b for a, b in zip(before, after, strict=True) if a != b] == ["data type = 4"]
    assert out.description.dtype == "float32" and out.description.bad == (1,)
    np.testing.assert_array_equal(out.read(everything(out.description)), cube() / 2)


@pytest.mark.parametrize(
    ("data", "header", "out", "companion"),
    [
        ("x.dat", "x.dat.hdr", "y.dat", "y.dat.hdr"),
        ("x.dat", "x.HDR", "y.dat", "y.HDR"),
        ("x", "x.hdr", "y", "y.hdr"),
        ("X.IMG", "x.hdr", "y.IMG", "y.hdr"),
    ],
)
def test_pairs_are_found_from_either_side_and_named_alike(tmp_path, data, header, out, companion):
    made = make(tmp_path, cube(), name="m.img")
    made.rename(tmp_path / data)
    (tmp_path / "m.hdr").rename(tmp_path / header)
    for given_name in (data, header):
        reader = envi.open(tmp_path / given_name)
        np.testing.assert_array_equal(reader.read(everything(reader.description)), cube())
    (tmp_path / "out").mkdir()
    rewrite(tmp_path / data, tmp_path / "out" / out)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted([out, companion])


def test_two_data_files_for_one_header_are_not_guessed_between(tmp_path):
    path = make(tmp_path, cube())
    shutil.copy(path, tmp_path / "x.dat")
    with pytest.raises(FormatError, match="several fit"):
        envi.open(tmp_path / "x.hdr")
    assert envi.open(path).description.shape == (5, 4, 3)


def test_recognition_by_content_and_by_the_header_beside(tmp_path, shared_data):
    path = make(tmp_path, cube())
    assert envi.recognise(path.read_bytes()[:4096], str(path)) >= 0.8
    assert envi.recognise(path.with_suffix(".hdr").read_bytes(), "whatever") >= 0.9
    shutil.copy(path.with_suffix(".hdr"), tmp_path / "scene.hdr")
    assert envi.recognise(b"II*\x00", str(tmp_path / "scene.tif")) == 0  # DESIS: a TIFF with an ENVI header beside
    assert envi.recognise(b"", str(tmp_path / "lonely.png")) == 0
    esri = shared_data(ENVI + "header_only_esri_bil_not_envi.hdr")
    assert 0 < envi.recognise(esri.read_bytes()[:4096], str(esri)) < 0.5


def test_scale_nodata_bad_bands_kind_and_units_are_understood(tmp_path):
    extra = (
        "reflectance scale factor = 10000\ndata ignore value = 0\nwavelength units = Nanometer\n"
        "wavelength = {500 600 700}\nfwhm = [5 5 6]\nbbl = {1, 0, 1}\n"
    )
    d = envi.open(make(tmp_path, cube(), extra=extra)).description
    assert (d.slope, d.inter, d.nodata, d.bad, d.kind) == (1e-4, 0.0, 0.0, (1,), "reflectance")
    assert d.acquisition["wavelengths_nm"] == (500, 600, 700) and d.acquisition["fwhm_nm"] == (5, 5, 6)
    extra = "data gain values = {.1, .2, .3}\ndata offset values = {1, 2, 3}\ndata ignore value = -9999\n"
    d = envi.open(make(tmp_path, cube(), extra=extra + "wavelength units = um\nwavelength={.5,.6,.7}\n")).description
    np.testing.assert_array_equal(d.slope, [0.1, 0.2, 0.3])
    np.testing.assert_array_equal(d.inter, [1, 2, 3])
    assert d.nodata is None and any(code == "nodata" for code, _ in d.notes)
    assert d.acquisition["wavelengths_nm"] == (500, 600, 700)
    d = envi.open(make(tmp_path, cube(), extra="file type = ENVI Classification\nclasses = 3\n")).description
    assert d.kind == "unknown"  # the first of two equal keys counts
    path = make(tmp_path, cube())
    header = path.with_suffix(".hdr")
    header.write_text(header.read_text().replace("ENVI Standard", "ENVI Classification"))
    assert envi.open(path).description.kind == "labels"


@pytest.mark.parametrize("stop", [round(i * 299 / 19) for i in range(20)])
def test_a_data_file_cut_anywhere_is_one_clear_line(tmp_path, stop):
    path = make(tmp_path, cube((10, 5, 3)), prefix=b"")
    path.write_bytes(path.read_bytes()[:stop])
    with pytest.raises(FormatError, match=f"300 bytes expected, {stop} found") as caught:
        envi.open(path)
    assert "\n" not in str(caught.value)


def test_a_header_cut_anywhere_is_an_error_or_the_same_cube(tmp_path):
    extra = "wavelength = {\n 500,\n 600,\n 700}\nmap info = {UTM, 1, 1, 500000, 5000000, 30, 30, 33, North, WGS-84}\n"
    path = make(tmp_path, cube(), extra=extra)
    text = path.with_suffix(".hdr").read_bytes()
    for stop in range(len(text)):
        path.with_suffix(".hdr").write_bytes(text[:stop])
        try:
            reader = envi.open(path)
        except FormatError as error:
            assert "\n" not in str(error)
            continue
        assert reader.description.shape[:2] == (5, 4)


def test_a_file_that_shrinks_after_opening_is_a_format_error(tmp_path):
    path = make(tmp_path, cube())
    reader = envi.open(path)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(FormatError, match="ends early"):
        reader.read(everything(reader.description))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("samples = 4", "samples = 99999999999", "expected"),
        ("samples = 4", "samples = -4", "count"),
        ("samples = 4", "samples = 4e9", "count"),
        ("samples = 4", "samples = {4}}", "count"),
        ("samples = 4", "", "missing"),
        ("data type = 12", "data type = 6", "complex"),
        ("data type = 12", "data type = 7", "not an ENVI type"),
        ("interleave = bsq", "interleave = bsx", "not bsq"),
        ("byte order = 0", "byte order = 2", "neither"),
        ("header offset = 0", "header offset = 99999999999999999999", "count"),
        ("byte order = 0", "byte order = 0\nfile compression = 1", "compressed"),
        ("byte order = 0", "byte order = 0\nmajor frame offsets = {1}", "two byte counts"),
        ("byte order = 0", "byte order = 0\ndescription = {never", "never closes"),
    ],
)
def test_hostile_header_values_are_one_clear_line(tmp_path, old, new, says):
    path = make(tmp_path, cube())
    header = path.with_suffix(".hdr")
    header.write_text(header.read_text().replace(old, new))
    with pytest.raises(FormatError, match=says) as caught:
        envi.open(path)
    assert "\n" not in str(caught.value)


def test_a_header_of_a_million_opening_braces_ends_quickly(tmp_path):
    path = make(tmp_path, cube())
    path.with_suffix(".hdr").write_text("ENVI\n" + "a = {{\n}\n" * 300_000)
    with pytest.raises(FormatError, match="more than 20000 keys"):
        envi.open(path)
    path.with_suffix(".hdr").write_bytes(b"ENVI\n" + bytes(33 << 20))
    with pytest.raises(FormatError, match="too long"):
        envi.open(path)


def test_random_damage_to_a_header_never_raises_anything_else(tmp_path):
    path = make(tmp_path, cube(), extra="wavelength = {1,2,3}\nbbl={1,1,0}\ndata gain values={1,2,0}\n")
    text = bytearray(path.with_suffix(".hdr").read_bytes())
    rng = np.random.default_rng(0)
    for _ in range(300):
        bad = bytearray(text)
        for at in rng.integers(0, len(bad), 4):
            bad[at] = rng.integers(0, 256)
        path.with_suffix(".hdr").write_bytes(bad)
        try:
            reader = envi.open(path)
            reader.read(everything(reader.description))
        except FormatError:
            pass


def test_the_reader_pickles_and_reads_from_many_threads(tmp_path):
    values = cube((40, 30, 20))
    reader = pickle.loads(pickle.dumps(envi.open(make(tmp_path, values, "bil"))))
    regions = [(slice(i, i + 1), slice(0, 30), slice(0, 20)) for i in range(40)]
    with ThreadPoolExecutor(4) as pool:
        rows = list(pool.map(reader.read, regions))
    np.testing.assert_array_equal(np.concatenate(rows), values)


def test_a_composed_cube_carries_wavelengths_geometry_and_bad_bands(tmp_path):
    values = cube((5, 4, 3), "i2")
    utm = 'PROJCS["WGS 84 / UTM zone 33N",GEOGCS["WGS 84"]]'
    known = {"wavelengths_nm": (500.5, 600.0, 700.0), "fwhm_nm": (5.0, 6.0, 7.0), "band_names": ("a", "b, c", "d")}
    known |= {"transform": (30.0, 0.0, 366015.0, 0.0, -30.0, 5806125.0), "crs": utm}
    d = Description("x", (5, 4, 3), AXES, "int16", slope=1e-4, nodata=-9999.0, bad=(2,), acquisition=known)
    writer = envi.compose(tmp_path / "c.img", d)
    writer.write(everything(d), values)
    writer.close()
    back = envi.open(tmp_path / "c.hdr")
    np.testing.assert_array_equal(back.read(everything(d)), values)
    for key in ("wavelengths_nm", "fwhm_nm", "transform", "crs"):
        assert back.description.acquisition[key] == known[key]
    got = back.description
    assert (got.slope, got.nodata, got.bad, got.shape) == (1e-4, -9999.0, (2,), (5, 4, 3))
    info = gdalinfo(tmp_path / "c.img")
    assert "UTM" in info and "366015" in info and "-9999" in info


def test_rotation_in_map_info_survives_composing():
    for angle in (0.0, 17.5, -120.0, 180.0):
        items = ["UTM", "1.5", "2", "500000", "5e6", "30", "30", "33", "North", f"rotation={angle}"]
        transform = envi_meta.transform_of(items)
        text = envi_header.parse(("ENVI\n" + envi_meta._map_text(transform, None)[0]).encode())
        np.testing.assert_allclose(envi_meta.transform_of(text.items("map info")), transform, rtol=1e-12, atol=1e-6)


@pytest.mark.parametrize("interleave", list(FILE_ORDER))
def test_a_second_reader_agrees(tmp_path, interleave):
    values = cube((6, 5, 4), "i2")
    rewrite(make(tmp_path, values, interleave, 2, 1), tmp_path / "y.img", change=lambda v: v + 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import spectral.io.envi as second

        image = second.open(str(tmp_path / "y.hdr"), str(tmp_path / "y.img"))
        got = np.asarray(image.open_memmap(interleave="bip"))
    np.testing.assert_array_equal(got, values + 1)


def test_memory_stays_at_a_slab(tmp_path):
    shape = (1500, 300, 100)  # 90 MB of uint16
    d = Description("x", shape, AXES, "uint16")
    writer = envi.compose(tmp_path / "big.img", d)
    writer.close()
    code = (
        "import resource, sys\nfrom pathlib import Path\nfrom pellucid.formats import envi\n"
        "p = Path(sys.argv[1])\nr = envi.open(p)\nd = r.description\nw = envi.splice(p.with_name('o.img'), r, d)\n"
        "q = (slice(0, 20), slice(0, 300), slice(0, 100))\nw.write(q, r.read(q))\n"
        "a = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for i in range(0, 1500, 20):\n"
        "    q = (slice(i, i + 20), slice(0, 300), slice(0, 100))\n    w.write(q, r.read(q))\n"
        "w.close()\nprint(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - a)\n"
    )
    # through a small launcher: a child's peak begins at its parent's
    launch = "import subprocess, sys\nsys.exit(subprocess.call([sys.executable, *sys.argv[1:]]))"
    command = [sys.executable, "-c", launch, "-c", code, str(tmp_path / "big.img")]
    grown = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert grown < 12_000  # KB


TEXT = st.text(st.characters(codec="latin-1", exclude_characters="{}[]=\r\n;\x85\x0b\x0c\x1c\x1d\x1e"), max_size=20)
KEY = st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=8)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(KEY, TEXT, st.booleans(), st.sampled_from(["\n", "\r\n"])), max_size=8))
def test_any_header_text_comes_back_verbatim(items):
    text = "ENVI\n" + "".join(f"{k} = {{{v}}}{e}" if listed else f"{k} ={v}{e}" for k, v, listed, e in items)
    header = envi_header.parse(text.encode("latin-1"))
    assert header.encode() == text.encode("latin-1")
    assert header.keys() == [k.lower() for k, *_ in items]
    if items:
        assert header.get(items[0][0].lower()) == items[0][1].strip()


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_header_that_comes_back_or_an_error(data):
    for blob in (data, b"ENVI\n" + data):
        try:
            assert envi_header.parse(blob).encode() == blob
        except FormatError:
            pass


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0.3, 20.0), min_size=1, max_size=9))
def test_micrometres_and_nanometres_mean_the_same(values):
    um = wavelengths.to_nm(values, "Micrometers")
    nm = wavelengths.to_nm([v * 1e3 for v in values], "Nanometers")
    np.testing.assert_allclose(um, nm, rtol=1e-9)
    np.testing.assert_allclose(wavelengths.to_nm([1e7 / v for v in um], "Wavenumber"), um, rtol=1e-9)


def gdalinfo(path: Path) -> str:
    """Return GDAL's own view of a file, by its program."""
    program = shutil.which("gdalinfo")
    if program is None:
        pytest.skip("gdalinfo is not installed")
    return subprocess.run([program, str(path)], capture_output=True, text=True, check=True).stdout
