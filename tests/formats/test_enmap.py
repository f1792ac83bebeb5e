# SPDX-License-Identifier: Apache-2.0
"""EnMAP products: folders and zips generated here around samples, real ones where they are at hand."""

from __future__ import annotations

import pickle
import zipfile

import numpy as np
import pytest
import rasterio

from pellucid.core.errors import FormatError, UsageError
from pellucid.formats import enmap, enmap_zip, envi, find, geotiff, safe_xml

STEM = "ENMAP01-____L{}-DT0000001234_20220724T104526Z_001_V010101"
LINES, SAMPLES = 9, 8
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def everything(description):
    return tuple(slice(0, n) for n in description.shape)


def save(path, values, **more):
    profile = {"driver": "GTiff", "width": values.shape[1], "height": values.shape[0], "count": values.shape[2]}
    with rasterio.open(path, "w", dtype=values.dtype, **profile, **more) as file:
        file.write(np.moveaxis(values, -1, 0))


def metadata(level, centres, empty=(), gain="1.0E-4", head=""):
    bands = "".join(
        f'<bandID number="{i}"><wavelengthCenterOfBand>{c}</wavelengthCenterOfBand><FWHMOfBand>6.5</FWHMOfBand>'
        f"<GainOfBand>{gain}</GainOfBand><OffsetOfBand>0</OffsetOfBand></bandID>"
        for i, c in enumerate(centres, 1)
    )
    spread = "".join(
        f'<bandID number="{i}"><stdDeviation>{0 if i - 1 in empty else 12.5}</stdDeviation></bandID>'
        for i in range(1, len(centres) + 1)
    )
    return (
        f'<?xml version="1.0"?>{head}<level_X xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">'
        f"<base><level>{level}</level></base><specific><bandCharacterisation>{bands}</bandCharacterisation></specific>"
        f"<product><bandStatistics>{spread}</bandStatistics></product></level_X>"
    )


def make(folder, level="L2A", *, values=None, empty=(2,), head="", **more):
    """Write a product: one image at level 2A, one per detector at level 1B, pixel masks, other files."""
    folder.mkdir()
    stem = STEM.format(level[1:])
    values = np.random.default_rng(0).integers(1, 5000, (LINES, SAMPLES, 12)).astype("i2") if values is None else values
    lines, samples, bands = values.shape
    flags = np.zeros(values.shape, "u1")
    flags[3, 4, 4:], flags[:, 1, 0] = 1, 1  # one pixel of many bands, one dead element of one band
    centres = 420 + 5.0 * np.arange(bands)
    centres[bands // 2 :] -= 12  # detectors overlap
    more = {"nodata": -32768, **more}
    half = bands // 2
    for detector, cut in (("VNIR", slice(0, half)), ("SWIR", slice(half, None))):
        save(folder / f"{stem}-QL_PIXELMASK_{detector}.TIF", flags[..., cut])
        if level == "L1B":
            save(folder / f"{stem}-SPECTRAL_IMAGE_{detector}.TIF", values[..., cut], **more)
    if level != "L1B":
        more |= {"crs": "EPSG:32633", "transform": rasterio.Affine(30, 0, 5e5, 0, -30, 5e6)}
        save(folder / f"{stem}-SPECTRAL_IMAGE.TIF", values, **more)
    (folder / f"{stem}-METADATA.XML").write_text(metadata(level, centres, empty, head=head))
    (folder / f"{stem}-QL_VNIR.TIF").write_bytes(b"any other file")
    (folder / f"{stem}-HISTORY.XML").write_text("<history/>")
    return folder, values


def rewrite(reader, target):
    writer = enmap.splice(target, reader, reader.description)
    for start in (6, 3, 0):
        region = (slice(start, start + 3), *everything(reader.description)[1:])
        writer.write(region, reader.read(region) + np.int16(1))
    writer.close()
    return find.open_file(target)


@pytest.mark.parametrize("level", ["L2A", "L1B"])
def test_a_generated_folder_is_described_by_its_metadata(tmp_path, level):
    folder, values = make(tmp_path / "product", level)
    reader = find.open_file(folder)
    d = reader.description
    assert (d.format, d.shape, d.dtype, d.nodata, d.bad) == ("enmap", values.shape, "int16", -32768, (2,))
    assert (d.kind, d.slope) == ("reflectance" if level == "L2A" else "radiance", 1e-4)
    assert d.acquisition["wavelengths_nm"][0] == 420 and d.acquisition["fwhm_nm"] == (6.5,) * 12
    assert ("transform" in d.acquisition) == (level == "L2A")
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(reader)).read(everything(d)), values)
    part = (slice(2, 5), slice(1, 7), slice(4, 9))
    np.testing.assert_array_equal(reader.read(part), values[part])


@pytest.mark.parametrize("level", ["L2A", "L1B"])
def test_a_folder_comes_back_as_a_folder_with_every_other_file_as_it_was(tmp_path, level):
    folder, values = make(tmp_path / "product", level)
    reader = find.open_file(folder)
    again = rewrite(reader, tmp_path / "out")
    assert repr(again.description) == repr(reader.description)
    np.testing.assert_array_equal(again.read(everything(again.description)), values + 1)
    for path in folder.iterdir():
        assert "SPECTRAL_IMAGE" in path.name or path.read_bytes() == (tmp_path / "out" / path.name).read_bytes()
    assert sorted(p.name for p in folder.iterdir()) == sorted(p.name for p in (tmp_path / "out").iterdir())


def test_one_detector_is_named_and_the_other_copied(tmp_path):
    folder, values = make(tmp_path / "product", "L1B")
    reader = find.open_file(folder, key="SWIR")
    np.testing.assert_array_equal(reader.read(everything(reader.description)), values[..., 6:])
    assert reader.description.acquisition["wavelengths_nm"][0] == 420 + 5 * 6 - 12 and reader.description.bad == ()
    rewrite(reader, tmp_path / "out").close()
    name = next(p.name for p in folder.iterdir() if p.name.endswith("IMAGE_VNIR.TIF"))
    assert (folder / name).read_bytes() == (tmp_path / "out" / name).read_bytes()
    with pytest.raises(UsageError, match="VNIR, SWIR"):
        find.open_file(folder, key="TIR")


@pytest.mark.parametrize("level", ["L2A", "L1B"])
def test_pixels_flagged_in_many_bands_are_masked_and_dead_elements_are_not(tmp_path, level):
    reader = find.open_file(make(tmp_path / "product", level)[0])
    expected = np.ones((LINES, SAMPLES), bool)
    expected[3, 4] = False
    np.testing.assert_array_equal(reader.mask((slice(0, LINES), slice(0, SAMPLES))), expected)


@pytest.mark.parametrize("suffix", [".tif", ".img"])
def test_a_generated_zip_is_read_and_becomes_geotiff_or_envi(tmp_path, suffix):
    folder, values = make(tmp_path / "product", "L2A")
    path = tmp_path / "product.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in folder.iterdir():
            archive.write(file, f"nested/{file.name}")
    assert find.candidates(path)[0][1] == "enmap_zip"
    reader = find.open_file(path)
    d, target = reader.description, tmp_path / f"out{suffix}"
    writer = (geotiff if suffix == ".tif" else envi).compose(target, d)
    writer.write(everything(d), pickle.loads(pickle.dumps(reader)).read(everything(d)))
    writer.close()
    again = find.open_file(target)
    np.testing.assert_array_equal(again.read(everything(d)), values)
    for key in ("wavelengths_nm", "fwhm_nm", "transform"):
        assert again.description.acquisition[key] == d.acquisition[key]
    assert (again.description.slope, again.description.nodata, again.description.bad) == (1e-4, -32768, (2,))
    unpacked = reader._inner.folder
    reader.close()
    assert not unpacked.exists()


def test_real_samples_pass_through_a_generated_folder(tmp_path, shared_data):
    tile = find.open_file(shared_data("hyperspectral/enmap_potsdam_l2a/enmap_potsdam_tile_128_96.tif"))
    values = tile.read(everything(tile.description)).astype("i2")
    folder, _ = make(tmp_path / "product", values=values, empty=range(129, 135))
    reader = find.open_file(folder)
    assert reader.description.bad == tile.description.bad == (129, 130, 131, 132, 133, 134)
    np.testing.assert_array_equal(reader.read(everything(reader.description)), values)


@pytest.mark.parametrize("head", ['<!DOCTYPE x [<!ENTITY a "b">]>', '<!DOCTYPE x SYSTEM "file:///etc/hostname">'])
def test_entities_in_the_metadata_are_refused(tmp_path, head):
    folder, _ = make(tmp_path / "product", head=head)
    with pytest.raises(FormatError, match="entities"):
        find.open_file(folder)


@pytest.mark.parametrize("text", ["<a><b></a>", "", "<a>" * 200, "\x00", "<a>&undefined;</a>"])
def test_damaged_metadata_end_in_a_worded_error(tmp_path, text):
    folder, _ = make(tmp_path / "product")
    next(folder.glob("*METADATA.XML")).write_text(text)
    with pytest.raises(FormatError) as caught:
        find.open_file(folder)
    assert "\n" not in str(caught.value)


def test_bands_that_do_not_fit_and_the_metadata_file_alone_are_worded(tmp_path):
    folder, _ = make(tmp_path / "product")
    path = next(folder.glob("*METADATA.XML"))
    with pytest.raises(FormatError, match="give the folder"):
        find.open_file(path)
    path.write_text(metadata("L2A", [500.0, 600.0]))
    with pytest.raises(FormatError, match="2 bands are characterised, the images hold 12"):
        find.open_file(folder)
    reader = find.open_file(make(tmp_path / "other")[0])
    with pytest.raises(FormatError, match=r"\.tif"):
        enmap.splice(tmp_path / "out", reader, reader.description.with_(dtype="float32"))


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path):
    path = tmp_path / "bomb.zip"
    stem = STEM.format("2A")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{stem}-METADATA.XML", "<a/>")
        archive.writestr(f"../{stem}-SPECTRAL_IMAGE.TIF", b"x" * 100)
    data = bytearray(path.read_bytes())
    at = data.rfind(b"PK\x01\x02")
    data[at + 24 : at + 28] = (4_000_000_000).to_bytes(4, "little")
    path.write_bytes(bytes(data))
    with pytest.raises(FormatError, match="packing"):
        enmap_zip.open(path)


def test_namespaces_are_dropped_and_size_is_bounded(monkeypatch):
    root = safe_xml.parse("x", "header", b'<a:b xmlns:a="urn:x"><a:c>1</a:c></a:b>')
    assert (root.tag, safe_xml.words(root, "c")) == ("b", "1")
    monkeypatch.setattr(safe_xml, "LARGEST", 10)
    with pytest.raises(FormatError, match="larger"):
        safe_xml.parse("x", "header", b"<a>" + b" " * 20 + b"</a>")


def add_layers(folder, level="L2A"):
    """Write quality layers beside the images of a product; return them by word."""
    layers = {word: np.zeros((LINES, SAMPLES, 1), "u1") for word in ("cloud", "cloudshadow", "cirrus", "classes")}
    layers["cloud"][0, :3], layers["cloudshadow"][1, :3], layers["cirrus"][8, 7] = 1, 1, 3
    layers["classes"][:] = 1
    for word, values in layers.items():
        save(folder / f"{STEM.format(level[1:])}-QL_QUALITY_{word.upper()}.TIF", values)
    for detector, column in (("VNIR", 2), ("SWIR", 5)):
        values = np.zeros((LINES, SAMPLES, 1), "u1")
        values[:, column] = 4
        save(folder / f"{STEM.format(level[1:])}-QL_QUALITY_TESTFLAGS_{detector}.TIF", values)
    return layers


WHOLE = (slice(0, LINES), slice(0, SAMPLES))


@pytest.mark.parametrize("level", ["L2A", "L1B"])
def test_pixels_of_the_chosen_quality_layers_are_left_out(tmp_path, level):
    folder, _ = make(tmp_path / "p", level)
    layers = add_layers(folder, level)
    plain = find.open_file(folder).mask(WHOLE)
    reader = find.open_file(folder, quality="cloud, Cirrus")
    expected = plain & (layers["cloud"][..., 0] == 0) & (layers["cirrus"][..., 0] == 0)
    assert plain.sum() - expected.sum() == 4
    for one in (reader, pickle.loads(pickle.dumps(reader))):
        np.testing.assert_array_equal(one.mask(WHOLE), expected)
        np.testing.assert_array_equal(one.mask((slice(0, 2), slice(1, 4))), expected[:2, 1:4])
    flags = find.open_file(folder, quality="testflags").mask(WHOLE)
    assert not flags[:, [2, 5]].any() and flags[:3, 6:].all()
    if level == "L1B":
        assert find.open_file(folder, quality="testflags", key="SWIR").mask(WHOLE)[:3, 2].all()


def test_a_quality_layer_that_is_not_there_is_named_with_those_that_are(tmp_path):
    folder, _ = make(tmp_path / "p")
    with pytest.raises(UsageError, match="no quality layer 'cloud'"):
        find.open_file(folder, quality="cloud")
    add_layers(folder)
    with pytest.raises(UsageError, match="cirrus, cloud, cloudshadow, testflags"):
        find.open_file(folder, quality="classes")


def test_quality_layers_without_pixel_masks_and_in_a_zip(tmp_path):
    folder, _ = make(tmp_path / "p")
    layers = add_layers(folder)
    for mask in folder.glob("*QL_PIXELMASK*"):
        mask.unlink()
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        for file in folder.iterdir():
            archive.write(file, f"p/{file.name}")
    for path in (folder, tmp_path / "p.zip"):
        assert find.open_file(path).mask(WHOLE) is None
        reader = find.open_file(path, quality="cloudshadow")
        np.testing.assert_array_equal(reader.mask(WHOLE), layers["cloudshadow"][..., 0] == 0)
        reader.close()


def test_masked_pixels_come_back_bit_for_bit_and_teach_nothing(tmp_path):
    import pellucid

    rng = np.random.default_rng(3)
    shape = (60, 40, 12)
    clean = 2000 + 300 * np.cumsum(rng.standard_normal((*shape[:2], 2)), 0) @ rng.standard_normal((2, 12)) / 8
    values = np.clip(clean + 20 * rng.standard_normal(shape), -30000, 30000).astype("i2")
    cloud = np.zeros((*shape[:2], 1), "u1")
    cloud[20:40, 10:30] = 1
    other = values.copy()
    other[20:40, 10:30] = rng.integers(8000, 20000, (20, 20, 12))
    outcomes = []
    for name, samples in (("a", values), ("b", other)):
        folder, _ = make(tmp_path / name, values=samples, empty=())
        save(folder / f"{STEM.format('2A')}-QL_QUALITY_CLOUD.TIF", cloud)
        done = pellucid.denoise(folder, field="hyperspectral", quality="cloud")
        reader = pellucid.open(done.path)
        outcomes.append(reader.read(everything(reader.description)))
        assert done.document["plan"]["asked"]["quality"] == "cloud"
        np.testing.assert_array_equal(outcomes[-1][20:40, 10:30], samples[20:40, 10:30])
    outside = cloud[..., 0] == 0
    np.testing.assert_array_equal(outcomes[0][outside], outcomes[1][outside])
    assert (outcomes[0][outside] != values[outside]).mean() > 0.5


def test_errors_inside_a_zip_name_the_zip(tmp_path):
    path = tmp_path / "p.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("A-METADATA.XML", b"<a/>")
        archive.writestr("A-SPECTRAL_IMAGE.TIF", b"no picture")
    with pytest.raises(FormatError) as caught:
        enmap_zip.open(path)
    assert caught.value.path == path and "pellucid-enmap" not in str(caught.value)
