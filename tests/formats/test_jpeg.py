# SPDX-License-Identifier: Apache-2.0
"""JPEG is read; profile, EXIF and orientation go into a PNG."""

import pickle

import numpy as np
import pytest

from pellucid.core.errors import FormatError
from pellucid.formats import jpeg, png

image = pytest.importorskip("PIL.Image")
RNG = np.random.default_rng(7)


def everything(reader):
    return tuple(slice(None) for _ in reader.description.shape)


def make(path, mode="RGB", orientation=6, **more):
    pixels = RNG.integers(0, 255, (40, 56, {"L": 1, "RGB": 3, "CMYK": 4}[mode])).astype(np.uint8)
    picture = image.fromarray(pixels[:, :, 0] if mode == "L" else pixels, mode=None if mode != "CMYK" else None)
    picture = picture if mode != "CMYK" else image.fromarray(pixels[:, :, :3]).convert("CMYK")
    exif = picture.getexif()
    exif[0x0112] = orientation
    picture.save(path, "JPEG", exif=exif, icc_profile=b"profile" * 30, **more)
    return path


@pytest.mark.parametrize("folder", ["bsds500_train", "polyu"])
def test_real_pictures_agree_with_pillow(folder, shared_data):
    path = sorted(p for p in shared_data(f"natural/{folder}").iterdir() if p.suffix.lower() == ".jpg")[0]
    reader = jpeg.open(path)
    with image.open(path) as theirs:
        np.testing.assert_array_equal(reader.read(everything(reader)), np.asarray(theirs))
    assert reader.description.lossy and not jpeg.FORMAT.writes
    assert jpeg.recognise(path.read_bytes()[:4096], "a.png") == 1.0


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("progressive", [False, True])
def test_orientation_is_a_fact_and_not_applied(mode, progressive, tmp_path):
    reader = jpeg.open(make(tmp_path / "a.jpg", mode, progressive=progressive))
    assert reader.description.shape[:2] == (40, 56)
    assert reader.description.acquisition["orientation"] == 6
    assert reader.description.kind == {"L": "intensity", "RGB": "rgb"}[mode]


def test_profile_and_exif_reach_the_png(tmp_path):
    reader = jpeg.open(make(tmp_path / "a.jpg"))
    writer = png.compose(tmp_path / "a.png", reader.description)
    writer.write(everything(reader), reader.read(everything(reader)))
    writer.close()
    with image.open(tmp_path / "a.png") as theirs:
        assert theirs.info["icc_profile"] == b"profile" * 30 and theirs.getexif()[0x0112] == 6
        np.testing.assert_array_equal(np.asarray(theirs), reader.read(everything(reader)))


def test_cmyk_is_marked(tmp_path):
    assert jpeg.open(make(tmp_path / "a.jpg", "CMYK")).description.kind == "cmyk"


def test_a_region_equals_the_slice_of_the_whole_also_from_a_pickle(tmp_path):
    reader = jpeg.open(make(tmp_path / "a.jpg"))
    whole = reader.read(everything(reader))
    region = (slice(3, 9), slice(5, 56), slice(1, 3))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(reader)).read(region), whole[region])


def test_cut_files_give_one_error(tmp_path):
    raw = make(tmp_path / "a.jpg").read_bytes()
    for cut in np.linspace(0, len(raw) - 40, 20).astype(int):
        (tmp_path / "a.jpg").write_bytes(raw[:cut])
        with pytest.raises(FormatError, match="a.jpg"):
            reader = jpeg.open(tmp_path / "a.jpg")
            reader.read(everything(reader))


def test_a_huge_claim_is_refused_before_anything_is_allocated(tmp_path):
    raw = bytearray(make(tmp_path / "a.jpg").read_bytes())
    at = raw.index(b"\xff\xc0")
    raw[at + 5 : at + 9] = b"\xff\xf0\xff\xf0"
    (tmp_path / "a.jpg").write_bytes(raw)
    with pytest.raises(FormatError, match="memory"):
        jpeg.open(tmp_path / "a.jpg")


@pytest.mark.parametrize(
    "exif", [b"", b"II", b"MM\0*\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff", b"II*\0\x04\0\0\0\1"]
)
def test_damaged_exif_means_no_orientation(exif):
    assert jpeg.orientation(exif) == 1
