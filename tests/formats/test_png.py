# SPDX-License-Identifier: Apache-2.0
"""PNG: pixels bit for bit, chunks byte for byte, opacity untouched."""

import io
import pickle
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.core.errors import FormatError
from pellucid.core.types import Description
from pellucid.formats import png

RNG = np.random.default_rng(6)
EXIF = b"MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"
EXTRA = [
    (b"gAMA", struct.pack(">I", 45455)),
    (b"iCCP", b"name\0\0" + zlib.compress(b"profile" * 9)),
    (b"pHYs", struct.pack(">IIB", 3000, 3000, 1)),
    (b"eXIf", EXIF),
    (b"vpAg", b"private"),
    (b"tEXt", b"Title\0first"),
]
AFTER = [(b"tEXt", b"Comment\0after the pixels"), (b"iTXt", b"K\0\0\0\0\0" + "Köln".encode()), (b"tIME", bytes(7))]


def raw_png(pixels, colour, before=(), after=(), depth=None):
    """Write a PNG by hand: one filter, one IDAT per 50 bytes."""
    depth = depth or 8 * pixels.itemsize
    rows = pixels.astype(pixels.dtype.newbyteorder(">"))
    packed = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    width = pixels.shape[1] * 8 // depth if depth < 8 else pixels.shape[1]
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, pixels.shape[0], depth, colour, 0, 0, 0)), *before]
    parts += [(b"IDAT", packed[k : k + 50]) for k in range(0, len(packed), 50)]
    return png.SIGNATURE + b"".join(png.pack(*p) for p in [*parts, *after, (b"IEND", b"")])


def everything(reader):
    return tuple(slice(None) for _ in reader.description.shape)


def identity(path, folder):
    reader = png.open(path)
    out = folder / "out.png"
    writer = png.splice(out, reader, reader.description)
    for start in reversed(range(0, reader.description.shape[0], 3)):
        region = (slice(start, min(start + 3, reader.description.shape[0])), *everything(reader)[1:])
        writer.write(region, reader.read(region))
    writer.close()
    return out


def chunks(path):
    with path.open("rb") as file:
        return [(n, png._slice(file, s, e)) for n, s, e in png.walk(path, file).chunks if n not in (b"IDAT",)]


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("colour", [png.GREY, png.RGB, png.GREY_ALPHA, png.RGB_ALPHA])
def test_pixels_opacity_and_chunks_survive(dtype, colour, tmp_path):
    channels = png.CHANNELS[colour]
    pixels = RNG.integers(0, np.iinfo(dtype).max, (11, 7, channels), endpoint=True).astype(dtype)
    path = tmp_path / "a.png"
    path.write_bytes(raw_png(pixels, colour, EXTRA, AFTER))
    reader = png.open(path)
    colours = pixels[:, :, : 3 if channels > 2 else 1]
    np.testing.assert_array_equal(reader.read(everything(reader)), colours if channels > 2 else colours[:, :, 0])
    assert np.iinfo(dtype).max * reader.description.slope == 1
    out = identity(path, tmp_path)
    np.testing.assert_array_equal(png.open(out).pixels(), pixels)
    assert chunks(path) == chunks(out)


@pytest.mark.parametrize("folder", ["set12", "bsd68", "kodak24_500", "cc15", "sidd_val"])
def test_real_pictures_survive_and_agree_with_pillow(folder, tmp_path, shared_data):
    image = pytest.importorskip("PIL.Image")
    path = sorted(shared_data(f"natural/{folder}").glob("*.png"))[0]
    reader = png.open(path)
    with image.open(path) as theirs:
        np.testing.assert_array_equal(reader.read(everything(reader)), np.asarray(theirs))
    out = identity(path, tmp_path)
    assert chunks(path) == chunks(out)
    np.testing.assert_array_equal(png.open(out).pixels(), reader.pixels())


def test_a_palette_is_marked_and_expanded_with_its_opacity(tmp_path):
    index = RNG.integers(0, 4, (6, 5)).astype(np.uint8)
    palette = RNG.integers(0, 255, (4, 3)).astype(np.uint8)
    before = [(b"PLTE", palette.tobytes()), (b"tRNS", b"\x10\x80"), (b"bKGD", b"\1")]
    path = tmp_path / "a.png"
    path.write_bytes(raw_png(index, png.PALETTE, before))
    reader = png.open(path)
    assert reader.description.kind == "palette" and reader.description.notes[0][0] == "palette"
    np.testing.assert_array_equal(reader.read(everything(reader)), palette[index])
    out = identity(path, tmp_path)
    assert [n for n, _ in chunks(out)] == [b"IHDR", b"IEND"]
    again = png.open(out)
    np.testing.assert_array_equal(again.pixels()[:, :, :3], palette[index])
    np.testing.assert_array_equal(again.alpha(), np.array([16, 128, 255, 255])[index])


def test_a_transparent_grey_value_is_no_measurement(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(raw_png(RNG.integers(0, 9, (6, 5)).astype(np.uint16), png.GREY, [(b"tRNS", b"\0\7")]))
    assert png.open(path).description.nodata == 7
    assert chunks(identity(path, tmp_path)) == chunks(path)


def test_one_bit_becomes_eight(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(raw_png(np.array([[0b10100000], [0b01000001]], np.uint8), png.GREY, depth=1))
    reader = png.open(path)
    assert reader.description.kind == "mask"
    assert reader.read(everything(reader)).tolist() == [[255, 0, 255, 0, 0, 0, 0, 0], [0, 255, 0, 0, 0, 0, 0, 255]]
    np.testing.assert_array_equal(png.open(identity(path, tmp_path)).pixels(), reader.pixels())


def test_interlaced_pictures_are_read(tmp_path, shared_data):
    image = pytest.importorskip("PIL.Image")
    if not hasattr(image, "open"):
        pytest.skip("Pillow is not installed")
    pixels = np.array([[5]], np.uint8)  # one pixel: pass 1 holds all of it
    raw = bytearray(raw_png(pixels, png.GREY))
    raw[28] = 1
    raw[29:33] = struct.pack(">I", zlib.crc32(raw[12:29]))
    (tmp_path / "a.png").write_bytes(raw)
    assert png.open(tmp_path / "a.png").read((slice(None), slice(None))).tolist() == [[5]]


def test_eight_bit_may_become_sixteen_with_its_opacity(tmp_path):
    pixels = RNG.integers(0, 255, (4, 5, 4)).astype(np.uint8)
    path = tmp_path / "a.png"
    path.write_bytes(raw_png(pixels, png.RGB_ALPHA, [(b"sBIT", b"\5\5\5\5"), *EXTRA]))
    reader = png.open(path)
    writer = png.splice(tmp_path / "b.png", reader, reader.description.with_(dtype="uint16", slope=1 / 65535))
    writer.write(everything(reader), pixels[:, :, :3].astype(np.uint16) * 257)
    writer.close()
    np.testing.assert_array_equal(png.open(tmp_path / "b.png").pixels(), pixels.astype(np.uint16) * 257)
    assert b"sBIT" not in dict(chunks(tmp_path / "b.png"))


def test_a_new_file_carries_profile_and_exif(tmp_path):
    image = pytest.importorskip("PIL.Image")
    acquisition = {"icc_profile": b"profile" * 20, "exif": EXIF}
    writer = png.compose(
        tmp_path / "a.png", Description("x", (4, 5, 3), ("y", "x", "channel"), "uint8", acquisition=acquisition)
    )
    writer.write((slice(None),) * 3, np.full((4, 5, 3), 9, np.uint8))
    writer.close()
    with image.open(tmp_path / "a.png") as theirs:
        assert theirs.getexif()[0x0112] == 6 and theirs.info["icc_profile"] == b"profile" * 20


def test_floats_are_refused_with_a_way_out(tmp_path):
    with pytest.raises(FormatError, match=r"\.tif"):
        png.compose(tmp_path / "a.png", Description("x", (4, 5), ("y", "x"), "float32"))


def test_a_region_equals_the_slice_of_the_whole_also_from_a_pickle(tmp_path):
    pixels = RNG.integers(0, 65535, (20, 30, 3)).astype(np.uint16)
    (tmp_path / "a.png").write_bytes(raw_png(pixels, png.RGB))
    reader = pickle.loads(pickle.dumps(png.open(tmp_path / "a.png")))
    region = (slice(3, 9), slice(29, 30), slice(1, 3))
    np.testing.assert_array_equal(reader.read(region), pixels[region])


def test_cut_files_give_one_error(tmp_path):
    raw = raw_png(RNG.integers(0, 255, (30, 30)).astype(np.uint8), png.GREY, EXTRA)
    for cut in np.linspace(0, len(raw) - 1, 20).astype(int):
        (tmp_path / "a.png").write_bytes(raw[:cut])
        with pytest.raises(FormatError, match="a.png"):
            png.open(tmp_path / "a.png")


def test_missing_pixels_are_told(tmp_path):
    raw = raw_png(RNG.integers(0, 255, (30, 30)).astype(np.uint8), png.GREY)
    found = png.walk("a", io.BytesIO(raw)).chunks
    start, end = next((s, e) for n, s, e in found if n == b"IDAT")
    (tmp_path / "a.png").write_bytes(raw[:start] + raw[start : start + 62 * 3] + raw[end:])
    reader = png.open(tmp_path / "a.png")
    with pytest.raises(FormatError, match="pixels"):
        reader.read(everything(reader))


def test_a_bomb_is_refused_before_anything_is_allocated(tmp_path):
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", bytes(50_000_000 // 100)), (b"IEND", b"")]
    (tmp_path / "a.png").write_bytes(png.SIGNATURE + b"".join(png.pack(*p) for p in parts))
    with pytest.raises(FormatError, match="memory"):
        png.open(tmp_path / "a.png")


@given(st.binary(min_size=1, max_size=40), st.integers(8, 200))
@settings(max_examples=200, deadline=None)
def test_damaged_files_raise_nothing_but_format_errors(tmp_path_factory, noise, at):
    path = tmp_path_factory.mktemp("damaged") / "a.png"
    raw = raw_png(np.arange(144, dtype=np.uint8).reshape(12, 12), png.GREY, EXTRA[:1])
    path.write_bytes(raw[:at] + noise + raw[at + len(noise) :])
    try:
        reader = png.open(path)
        assert reader.read(everything(reader)).shape == reader.description.shape
    except FormatError:
        pass
