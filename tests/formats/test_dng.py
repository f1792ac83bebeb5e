# SPDX-License-Identifier: Apache-2.0
"""DNG: what LibRaw and the Adobe SDK read is the same before and after; margins, tags and levels stay."""

import json
import pickle
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pellucid.core.errors import FormatError
from pellucid.core.types import Description
from pellucid.formats import dng, dng_tags, dng_write, headerless, libraw, tiff

rawpy = pytest.importorskip("rawpy")
tifffile = pytest.importorskip("tifffile")
imagecodecs = pytest.importorskip("imagecodecs")
RNG = np.random.default_rng(5)
BAYER = [[0, 1], [1, 2]]
XTRANS = headerless.pattern(Path("x"), "XTRANS")
MATRIX = [6461, -1164, -857, -3825, 11597, 2534, -416, 1540, 6039]
CAMERA = [
    (271, 2, 0, "Acme", True),
    (272, 2, 0, "Acme One", True),
    (50706, 1, 4, bytes((1, 4, 0, 0)), True),
    (50707, 1, 4, bytes((1, 1, 0, 0)), True),
    (50708, 2, 0, "Acme One", True),
    (50721, 10, 9, [v for m in MATRIX for v in (m, 10000)], True),
    (50728, 5, 3, (1, 2, 1, 1, 5, 8), True),
    (50730, 10, 1, (0, 0), True),
    (50735, 2, 0, "SN4711", True),
    (50778, 3, 1, 21, True),
    (50781, 1, 16, bytes(range(16)), True),
    (51111, 1, 16, bytes(16), True),
]


def samples(shape=(66, 96), most=4000):
    return RNG.integers(300, most, shape).astype(np.uint16)


def mosaic_tags(cfa, black=256.0, white=4095, area=None, **more):
    table = np.atleast_2d(black)
    tags = [
        (33421, 3, 2, np.shape(cfa), True),
        (33422, 1, np.size(cfa), bytes(np.asarray(cfa, np.uint8).tobytes()), True),
        (50710, 1, 3, bytes((0, 1, 2)), True),
        (50713, 3, 2, table.shape, True),
        (50714, 5, table.size, [v for b in table.ravel() for v in (round(b * 100), 100)], True),
        (50717, 4, 1, white, True),
    ]
    tags += [(50829, 4, 4, area, True)] if area else []
    return tags + [(tag, *value, True) for tag, value in more.items()]


def make(path, values, cfa=BAYER, order="<", camera=(), **more):
    """Write a mosaic with tifffile, which knows nothing of the code under test."""
    with tifffile.TiffWriter(path, byteorder=order) as tif:
        tags = [*CAMERA, *camera, *mosaic_tags(cfa, **more)]
        tif.write(values, photometric=32803, extratags=tags, metadata=None, software=False, subfiletype=0)
    return path


def with_preview(path, values, **more):
    """Write a preview with the camera's tags, the mosaic below it."""
    with tifffile.TiffWriter(path, byteorder=more.pop("order", "<")) as tif:
        preview = RNG.integers(0, 255, (20, 30, 3)).astype(np.uint8)
        tif.write(preview, photometric="rgb", subifds=1, subfiletype=1, extratags=CAMERA, metadata=None)
        tif.write(values, photometric=32803, subfiletype=0, extratags=mosaic_tags(BAYER, **more), metadata=None)
    return path


def recode(path, payloads, **changes):
    """Put other bytes of samples into a file, and say how they are coded."""
    tree = dng_tags.walk(path)
    raw = dng_tags.raw_directory(tree)
    places = []
    with path.open("r+b") as file:
        for payload in payloads:
            places.append(file.seek(0, 2))
            file.write(payload + b"\0" * (len(payload) % 2))
    tiled = 322 in {int(k[1:]) for k in changes}
    offsets, counts = (324, 325) if tiled else (273, 279)
    found = {int(k[1:]): v for k, v in changes.items()}
    if tiled:
        found |= dict.fromkeys((273, 278, 279))
    found |= {offsets: (4, places), counts: (4, [len(p) for p in payloads])}
    dng_tags.change(path, raw.at, found)
    return path


def packed(path, values, bits):
    """Pack samples of some bits as DNG does: most significant bit first, rows begin at a byte."""
    make(path, values)
    shifts = np.arange(bits - 1, -1, -1)
    stream = np.packbits(((values[:, :, None] >> shifts) & 1).reshape(len(values), -1).astype(np.uint8), axis=1)
    return recode(path, [stream.tobytes()], t258=(3, (bits,)))


def lossless(path, values):
    """Code tiles as lossless JPEG."""
    make(path, values)
    tiles = []
    for y in range(0, values.shape[0], 48):
        for x in range(0, values.shape[1], 48):
            tile = np.zeros((48, 48), np.uint16)
            part = values[y : y + 48, x : x + 48]
            tile[: part.shape[0], : part.shape[1]] = part
            tiles.append(bytes(imagecodecs.ljpeg_encode(tile, bitspersample=16)))
    return recode(path, tiles, t259=(3, (7,)), t322=(3, (48,)), t323=(3, (48,)))


def everything(description):
    return tuple(slice(0, n) for n in description.shape)


def identity(path, folder):
    reader = dng.open(path)
    out = Path(folder) / "out" / path.name
    out.parent.mkdir(exist_ok=True)
    writer = dng.splice(out, reader, reader.description)
    values = reader.read(everything(reader.description))
    half = len(values) // 2
    rest = everything(reader.description)[1:]
    writer.write((slice(half, len(values)), *rest), values[half:])
    writer.write((slice(0, half), *rest), values[:half])
    writer.close()
    return out


def seen(path):
    """Return all that LibRaw says of a file."""
    with rawpy.imread(str(path)) as raw:
        pattern = None if raw.raw_pattern is None else raw.raw_pattern.tolist()
        matrix = raw.rgb_xyz_matrix.tolist()
        levels = (raw.black_level_per_channel, raw.white_level, raw.camera_whitebalance, matrix)
        return raw.raw_image.copy(), (raw.sizes, pattern, *levels, raw.other)


def same_for_libraw(a, b):
    (x, facts), (y, other) = seen(a), seen(b)
    np.testing.assert_array_equal(x, y)
    assert facts == other


def adobe(path):
    """Return the samples as the Adobe SDK reads them."""
    return np.squeeze(pytest.importorskip("dngpy").Dng(str(path)).raw_pixels)


def complaints(path):
    """Return what exiftool's validation says of a file."""
    if not shutil.which("exiftool"):
        pytest.skip("exiftool is not installed")
    done = subprocess.run(["exiftool", "-validate", "-warning", "-a", str(path)], capture_output=True, text=True)
    return {line for line in done.stdout.splitlines() if line.startswith("Warning")}


def tags(path):
    """Return the bytes of every tag of every directory, offsets of other things left out."""
    tree, found = dng_tags.walk(path), {}
    data = path.read_bytes()
    for n, directory in enumerate(tree.directories):
        for tag, entry in directory.entries.items():
            if tag not in (273, 324, 330, 34665, 34853, 513):
                found[n, tag] = (entry.kind, entry.count, data[entry.place : entry.place + entry.size])
    return found


LAYOUTS = {
    "plain": make,
    "big-endian": lambda p, v: make(p, v, order=">"),
    "below a preview": with_preview,
    "below a preview, big-endian": lambda p, v: with_preview(p, v, order=">"),
    "10 bit": lambda p, v: packed(p, v >> 2, 10),
    "12 bit": lambda p, v: packed(p, v, 12),
    "14 bit": lambda p, v: packed(p, v, 14),
    "lossless tiles": lossless,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_reads_and_comes_back(layout, tmp_path):
    values = samples()
    path = LAYOUTS[layout](tmp_path / "a.dng", values)
    reader = dng.open(path)
    wanted = values >> 2 if layout == "10 bit" else values
    np.testing.assert_array_equal(reader.read(everything(reader.description)), wanted)
    assert reader.description.kind == "mosaic" and reader.description.dtype == "uint16"
    out = identity(path, tmp_path)
    same_for_libraw(path, out)
    np.testing.assert_array_equal(adobe(out), wanted)
    assert complaints(out) <= complaints(path)
    if layout not in ("plain", "big-endian") and "preview" not in layout:
        tree, data = dng_tags.walk(path), path.read_bytes()
        old = dng_tags.segments(tree, dng_tags.raw_directory(tree))
        assert not any(data[at : at + 64] in out.read_bytes() for at, _ in old), "the old samples must not stay inside"


def test_only_tags_of_the_coding_change(tmp_path):
    path = lossless(tmp_path / "a.dng", samples())
    before, after = tags(path), tags(identity(path, tmp_path))
    changed = {tag for _, tag in before.keys() | after.keys() if before.get((0, tag)) != after.get((0, tag))}
    assert changed <= {256, 257, 258, 259, 277, 278, 279, 322, 323, 325, 50781, 51111}
    assert before[0, 50730][2] == bytes(8) == after[0, 50730][2], "0/0 is kept as it is"
    assert (0, 51111) not in after, "a digest of other samples is worse than none"
    assert after[0, 50781] != before[0, 50781]
    assert after[0, 50735] == before[0, 50735]


def test_directories_stay_sorted_and_have_strips_or_tiles_but_not_both(tmp_path):
    tree = dng_tags.walk(identity(lossless(tmp_path / "a.dng", samples()), tmp_path))
    for directory in tree.directories:
        assert list(directory.entries) == sorted(directory.entries)
        assert not (273 in directory.entries and 324 in directory.entries)


def test_a_photograph_comes_back(shared_data, tmp_path):
    path = shared_data("raw/colorchart.dng")
    reader = dng.open(path)
    d = reader.description
    assert (d.shape, d.kind, d.acquisition["cfa"]) == ((1156, 1734), "mosaic", [[0, 1], [3, 2]])
    assert d.acquisition["black"] == [[2056.0, 2056.0], [2056.0, 2056.0]] and d.acquisition["white"] == 15000
    assert d.acquisition["color_matrix"][0][0] == pytest.approx([0.6461, -0.1164, -0.0857])
    assert d.acquisition["wb"] == pytest.approx([2.477, 1.0, 2.477 / 1.462, 1.0])
    assert d.acquisition["make"] == "Canon" and "exposure_s" not in d.acquisition
    out = identity(path, tmp_path)
    same_for_libraw(path, out)
    np.testing.assert_array_equal(adobe(out), adobe(path))
    assert complaints(out) == complaints(path)


def test_new_samples_lie_inside_and_margins_stay(shared_data, tmp_path):
    path = shared_data("raw/colorchart.dng")
    reader = dng.open(path)
    values = reader.read(everything(reader.description))
    writer = dng.splice(tmp_path / "b.dng", reader, reader.description)
    writer.write(everything(reader.description), values + np.uint16(1))
    writer.close()
    old, new = seen(path)[0], seen(tmp_path / "b.dng")[0]
    np.testing.assert_array_equal(new[26:1182, 152:1886], values + 1)
    inside = np.zeros(old.shape, bool)
    inside[26:1182, 152:1886] = True
    np.testing.assert_array_equal(new[~inside], old[~inside])


def test_optical_black_is_measured_when_asked(shared_data):
    reader = dng.open(shared_data("raw/colorchart.dng"))
    assert "optical_black" not in dict(reader.description.acquisition)
    borders = reader.description.acquisition.get("optical_black")
    np.testing.assert_allclose(borders["left"]["mean"], [[2047.25, 2047.22], [2050.28, 2050.07]], atol=0.3)
    np.testing.assert_allclose(borders["left"]["sd"], [[18.2, 16.9], [16.4, 16.3]], atol=0.3)
    np.testing.assert_allclose(borders["top"]["mean"], [[2041.8, 2041.9], [2049.0, 2048.7]], atol=0.8)


def test_lossy_linear_raw_becomes_16_bit_linear(shared_data, tmp_path):
    path = shared_data("raw/canon_eos_6d_lossy_linear.dng")
    reader = dng.open(path)
    d = reader.description
    assert d.shape == (816, 1224, 3) and d.kind == "linear" and d.lossy
    assert {"already-demosaiced", "lossy"} <= {code for code, _ in d.notes}
    assert d.acquisition["noise_profile"][0] == pytest.approx([3.314e-5, 9.213e-8], rel=1e-3)
    assert d.acquisition["illuminants"] == [21, 17] and d.acquisition["iso"] == 1000
    assert d.acquisition["color_matrix"][0][0][0] == pytest.approx(0.7034), "daylight comes first"
    everything_said = repr(dict(d.acquisition)) + repr(d.notes) + repr(d.witnesses)
    assert "033024001432" not in everything_said and "2019" not in everything_said
    out = identity(path, tmp_path)
    same_for_libraw(path, out)
    np.testing.assert_array_equal(adobe(out), reader.read(everything(d)))
    assert not dng.open(out).description.lossy
    assert complaints(out) <= complaints(path)


def test_black_belongs_to_the_position_not_to_the_colour_index(tmp_path):
    grbg, black = [[1, 0], [2, 1]], [[500.0, 510.0], [520.0, 530.0]]
    path = make(tmp_path / "a.dng", samples(), cfa=grbg, black=black)
    facts = dng.open(path).description.acquisition
    assert facts["black"] == black and facts["cfa"] == [[1, 0], [2, 3]]
    assert facts["wb"][:3] == pytest.approx([2.0, 1.0, 1.6])
    same_for_libraw(path, identity(path, tmp_path))


def test_six_by_six_patterns_keep_all_their_blacks(tmp_path):
    black = 256.0 + np.arange(36).reshape(6, 6)
    values = samples((72, 96))
    path = make(tmp_path / "a.dng", values, cfa=XTRANS, black=black)
    facts = dng.open(path).description.acquisition
    assert facts["cfa"] == XTRANS and facts["black"] == black.tolist()
    out = identity(path, tmp_path)
    same_for_libraw(path, out)
    np.testing.assert_array_equal(adobe(out), values)


@pytest.mark.parametrize("corner", [(0, 0), (1, 0), (0, 1), (3, 5), (4, 6)])
def test_odd_visible_areas_keep_phase_and_levels(corner, tmp_path):
    values, black = samples(), [[300.0, 310.0], [320.0, 330.0]]
    path = make(tmp_path / "a.dng", values, black=black, area=(*corner, 65, 95))
    reader = dng.open(path)
    np.testing.assert_array_equal(reader.read(everything(reader.description)), values[corner[0] : 65, corner[1] : 95])
    colours = np.where(np.asarray(reader.description.acquisition["cfa"]) == 3, 1, reader.description.acquisition["cfa"])
    assert colours.tolist() == BAYER, "the tag's pattern begins at the visible corner"
    assert reader.description.acquisition["black"] == black
    same_for_libraw(path, identity(path, tmp_path))


def test_linearisation_tables_are_applied_once(tmp_path):
    codes = RNG.integers(0, 256, (66, 96)).astype(np.uint16)
    table = (np.arange(256) ** 2 // 4).astype(np.uint16)
    path = make(tmp_path / "a.dng", codes, white=16256)
    at = dng_tags.raw_directory(dng_tags.walk(path)).at
    dng_tags.change(path, at, {50712: (3, table.tolist())})
    reader = dng.open(path)
    np.testing.assert_array_equal(reader.read(everything(reader.description)), table[codes])
    out = identity(path, tmp_path)
    same_for_libraw(path, out)
    np.testing.assert_array_equal(adobe(out), table[codes])
    assert 50712 not in dng_tags.walk(out).first.entries


def test_saturated_sites_and_listed_defects_must_not_change(tmp_path):
    values = samples()
    values[5, 7] = 4095
    spots = [(10, 20), (31, 44)]
    points = struct.pack(">II4I", 2, 0, *(v for s in spots for v in s))
    code = struct.pack(">IIIII", 1, 5, 0x01030000, 0, 4 + len(points)) + struct.pack(">I", 1) + points
    path = make(tmp_path / "a.dng", values)
    dng_tags.change(path, dng_tags.raw_directory(dng_tags.walk(path)).at, {51008: (7, code)})
    reader = dng.open(path)
    mask = reader.mask((slice(0, 66), slice(0, 96)))
    assert {tuple(s) for s in np.argwhere(~mask).tolist()} == {(5, 7), *spots}
    assert not reader.mask((slice(10, 11), slice(20, 21))).any()


def test_a_changed_black_moves_levels_and_margins(tmp_path):
    values = samples()
    path = make(tmp_path / "a.dng", values, black=0.0, area=(4, 6, 66, 96), white=4095)
    reader = dng.open(path)
    facts = dict(reader.description.acquisition) | {"black": [[256.0, 256.0], [256.0, 256.0]], "white": 4351}
    output = reader.description.with_(acquisition=facts)
    writer = dng.splice(tmp_path / "b.dng", reader, output)
    writer.write(everything(output), reader.read(everything(output)) + np.uint16(256))
    writer.close()
    full, (_, _, black, white, *_) = seen(tmp_path / "b.dng")
    np.testing.assert_array_equal(full, values + 256)
    assert black == [256] * 4 and white == 4351


@pytest.mark.parametrize("layout", ["plain", "below a preview"])
def test_a_new_noise_profile_is_written(layout, tmp_path):
    path = LAYOUTS[layout](tmp_path / "a.dng", samples())
    reader = dng.open(path)
    profile = [[1e-5, 2e-8], [3e-5, 4e-8], [5e-5, 6e-8]]
    output = reader.description.with_(acquisition={**reader.description.acquisition, "noise_profile": profile})
    writer = dng.splice(tmp_path / "b.dng", reader, output)
    writer.write(everything(output), reader.read(everything(output)))
    writer.close()
    assert dng.open(tmp_path / "b.dng").description.acquisition["noise_profile"] == profile
    same_for_libraw(path, tmp_path / "b.dng")


@pytest.mark.parametrize("cfa", [BAYER, XTRANS])
def test_the_noise_profile_follows_what_is_left_of_the_noise(cfa, tmp_path):
    truth = np.full((288, 288), 1000.0)
    truth[:, 96:] += 200.0 * (np.arange(192) // 7 % 2)  # flat, then stripes
    noise = RNG.normal(0, 40, truth.shape)
    profile = (12, 2, (4e-4, 1e-6))
    path = make(tmp_path / "a.dng", np.rint(truth + noise).astype(np.uint16), cfa=cfa, camera=[(51041, *profile, True)])
    reader = dng.open(path)
    for share in (1.0, 0.3, 0.0):
        target = tmp_path / f"{share}.dng"
        writer = dng.splice(target, reader, reader.description)
        writer.write(everything(reader.description), np.rint(truth + share * noise).astype(np.uint16))
        writer.close()
        ((s, o),) = dng.open(target).description.acquisition["noise_profile"]
        assert s / 4e-4 == pytest.approx(max(share**2, 1e-4), rel=0.15) and o / 1e-6 == pytest.approx(s / 4e-4)


def test_previews_behind_the_samples_move_with_them(tmp_path):
    path = lossless(tmp_path / "a.dng", samples())
    picture = bytes(RNG.integers(0, 255, 600).astype(np.uint8))
    tree = dng_tags.walk(path)
    with path.open("r+b") as file:
        at = file.seek(0, 2)
        entries = [(254, 4, 1, 1), (256, 4, 1, 20), (257, 4, 1, 10), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
        entries += [(273, 4, 1, at), (277, 3, 1, 1), (278, 4, 1, 10), (279, 4, 1, 600)]
        raw = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *e) for e in entries) + bytes(4)
        old = tree.first
        file.write(picture)
        place = file.seek(8 + 2)  # the first directory moves to the end, this one takes part of its room
        assert len(raw) < 2 + 12 * len(old.entries) and place
    dng_tags.change(path, old.at, {330: (4, (0,))})
    moved = dng_tags.walk(path).first
    with path.open("r+b") as file:
        file.seek(old.at)
        file.write(raw)
        file.seek(moved.entries[330].place)
        file.write(struct.pack("<I", old.at))
    out = identity(path, tmp_path)
    tree = dng_tags.walk(out)
    child = tree.child(330)
    (at,) = tree.values(child, 273)
    assert out.read_bytes()[at : at + 600] == picture
    same_for_libraw(path, out)


def test_development_settings_beside_the_file_travel(tmp_path):
    path = make(tmp_path / "a.dng", samples())
    (tmp_path / "a.xmp").write_text("<x/>")
    (tmp_path / "a.dng.xmp").write_text("<y/>")
    out = identity(path, tmp_path)
    assert out.with_suffix(".xmp").read_text() == "<x/>"
    assert (out.parent / "a.dng.xmp").read_text() == "<y/>"


def test_the_tag_is_believed_where_libraw_has_another_black(tmp_path, monkeypatch):
    path = make(tmp_path / "a.dng", samples(), black=1023.0)
    real = libraw.acquisition
    monkeypatch.setattr(libraw, "acquisition", lambda *a: {**real(*a), "black": [[2046.0] * 2] * 2})
    description = dng.open(path).description
    assert description.acquisition["black"] == [[1023.0, 1023.0], [1023.0, 1023.0]]
    assert "black-level" in {code for code, _ in description.notes}


@pytest.mark.parametrize("shape", [(66, 96), (66, 96, 3)])
def test_new_files_say_what_is_known(shape, tmp_path):
    linear = len(shape) == 3
    facts = {
        "white": 12000,
        "wb": [2.0, 1.0, 1.6, 1.0],
        "iso": 400,
        "exposure_s": 0.01,
        "aperture": 2.8,
        "make": "Acme",
    }
    facts |= {"model": "One", "noise_profile": [[1e-4, 1e-6]], "color_matrix": [np.reshape(MATRIX, (3, 3)) / 1e4]}
    facts |= {"black": [100.0, 110.0, 120.0]} if linear else {"cfa": XTRANS, "black": [[256.0]]}
    kind = "linear" if linear else "mosaic"
    description = Description("x", shape, ("y", "x", "channel")[: len(shape)], "uint16", kind, acquisition=facts)
    values = samples(shape)
    writer = dng.compose(tmp_path / "a.dng", description)
    writer.write((slice(30, 66), *everything(description)[1:]), values[30:])
    writer.write((slice(0, 30), *everything(description)[1:]), values[:30])
    writer.close()
    reader = dng.open(tmp_path / "a.dng")
    np.testing.assert_array_equal(reader.read(everything(description)), values)
    np.testing.assert_array_equal(adobe(tmp_path / "a.dng"), values)
    found = reader.description.acquisition
    assert found["white"] == 12000 and found["iso"] == 400 and found["exposure_s"] == pytest.approx(0.01)
    assert found["wb"][:3] == pytest.approx([2.0, 1.0, 1.6]) and found["noise_profile"] == [[1e-4, 1e-6]]
    assert found["black"] == facts["black"] if linear else found["cfa"] == XTRANS
    assert complaints(tmp_path / "a.dng") == set()


def test_sensors_without_filters_are_linear_and_have_one_channel(tmp_path):
    facts = {"white": 4000, "black": [[100.0]]}
    description = Description("x", (66, 96), ("y", "x"), "uint16", "linear", acquisition=facts)
    values = samples(most=3900)
    writer = dng.compose(tmp_path / "a.dng", description)
    writer.write(everything(description), values)
    writer.close()
    found = dng.open(tmp_path / "a.dng").description
    assert (found.kind, found.shape) == ("linear", (66, 96)) and "cfa" not in found.acquisition
    assert found.acquisition["black"] == [[100.0]]
    out = identity(tmp_path / "a.dng", tmp_path)
    same_for_libraw(tmp_path / "a.dng", out)
    np.testing.assert_array_equal(adobe(out), values)


@pytest.mark.parametrize("case", ["many strips", "tiles", "linear", "8-bit linear", "no white", "differences of black"])
def test_odd_files_come_back(case, tmp_path):
    path, levels = tmp_path / "a.dng", [(50714, 5, 3, (10, 1, 20, 1, 30, 1), True)]
    if case == "no white":
        packed(path, samples(), 12)
        dng_tags.change(path, dng_tags.raw_directory(dng_tags.walk(path)).at, {50717: None})
    elif case == "differences of black":
        steps = [v for i in range(96) for v in (i % 3, 1)]
        make(path, samples(), camera=[(50715, 10, 96, steps, True)])
    else:
        linear = "linear" in case
        values = samples((66, 96, 3) if linear else (66, 96))
        tags = levels if linear else mosaic_tags(BAYER)
        more = {"many strips": {"rowsperstrip": 7}, "tiles": {"tile": (32, 48)}}.get(case, {})
        with tifffile.TiffWriter(path) as tif:
            tif.write(
                (values % 250).astype(np.uint8) if "8" in case else values,
                photometric=34892 if linear else 32803,
                planarconfig="contig" if linear else None,
                extratags=[*CAMERA, *tags],
                metadata=None,
                software=False,
                subfiletype=0,
                **more,
            )
    facts = dng.open(path).description.acquisition
    black = {
        "differences of black": [[257.0] * 2] * 2,
        "linear": [10.0, 20.0, 30.0],
        "8-bit linear": [10.0, 20.0, 30.0],
    }
    assert facts["black"] == black.get(case, [[256.0] * 2] * 2)
    out = identity(path, tmp_path)
    same_for_libraw(path, out)
    np.testing.assert_array_equal(adobe(out), adobe(path))
    assert complaints(out) <= complaints(path)


def test_samples_that_dng_cannot_hold_are_refused(tmp_path):
    for dtype, shape in (("float32", (30, 30)), ("uint16", (30, 30, 5))):
        with pytest.raises(FormatError, match="DNG holds"):
            dng.compose(tmp_path / "a.dng", Description("x", shape, ("y", "x", "channel")[: len(shape)], dtype))


def test_what_reads_back_otherwise_is_not_published(tmp_path):
    values = samples()
    path = make(tmp_path / "a.dng", values)
    description = dng.open(path).description
    dng_write.verify(path, values, description)
    with pytest.raises(FormatError, match="other samples"):
        dng_write.verify(path, values + np.uint16(1), description)
    with pytest.raises(FormatError, match="white"):
        dng_write.verify(path, values, description.with_(acquisition={**description.acquisition, "white": 999}))


def test_readers_travel_and_regions_are_slices_of_the_whole(tmp_path):
    reader = pickle.loads(pickle.dumps(dng.open(make(tmp_path / "a.dng", samples(), area=(14, 16, 66, 96)))))
    whole = reader.read(everything(reader.description))
    np.testing.assert_array_equal(reader.read((slice(3, 9), slice(40, 41))), whole[3:9, 40:41])
    assert set(reader.description.acquisition["optical_black"]) == {"left", "top"}
    reader.close()
    np.testing.assert_array_equal(reader.read(everything(reader.description)), whole)


def test_tiff_leaves_dng_to_dng(tmp_path, shared_data):
    for path in (make(tmp_path / "a.dng", samples()), shared_data("raw/canon_eos_6d_lossy_linear.dng")):
        head = path.read_bytes()[:4096]
        assert dng.recognise(head, str(path)) > tiff.recognise(head, str(path))
    tifffile.imwrite(tmp_path / "b.tif", samples())
    assert dng.recognise((tmp_path / "b.tif").read_bytes()[:4096], "b.tif") == 0


def test_samples_that_are_not_all_there_are_told(tmp_path):
    data = make(tmp_path / "a.dng", samples()).read_bytes()
    for share in (0.3, 0.6, 0.95):
        (tmp_path / "cut.dng").write_bytes(data[: int(share * len(data))])
        with pytest.raises(FormatError, match="cut short|damaged|outside"):
            dng.open(tmp_path / "cut.dng")


def test_damaged_tiles_end_in_words_or_in_a_result(tmp_path):
    path = lossless(tmp_path / "a.dng", samples())
    mutate = Path(__file__).parents[1] / "contract" / "mutate.py"
    done = subprocess.run([sys.executable, str(mutate), str(path), "50", "{}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-300:]
    assert json.loads(done.stdout.splitlines()[-1]) == []
