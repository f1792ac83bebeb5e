# SPDX-License-Identifier: Apache-2.0
"""Camera raw by LibRaw: what it gives, what it must not be believed, and one line where it gives up."""

import pickle
import subprocess
import sys

import numpy as np
import pytest

from pellucid.core.errors import FormatError
from pellucid.formats import dng, find, libraw, tiff

rawpy = pytest.importorskip("rawpy")
STUBS = ["stub_canon350d.dng", "stub_canon.cr2", "stub_nikon.nef", "stub_fuji.raf"]


def everything(description):
    return tuple(slice(0, n) for n in description.shape)


@pytest.mark.parametrize("name", STUBS)
def test_cut_files_end_with_one_line_and_code_4(name, tmp_path, shared_data):
    path = shared_data("raw") / name
    command = [sys.executable, "-m", "pellucid", "raw", "denoise", str(path), "-o", str(tmp_path / "out.dng")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 4 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and name in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_nothing_of_libraws_own_text_reaches_the_terminal(shared_data, capfd):
    for name in STUBS[1:]:
        with pytest.raises(FormatError):
            libraw.open(shared_data("raw") / name)
    with pytest.raises(FormatError):
        libraw.unpack(shared_data("raw") / "stub_nikon.nef", None, 1)
    assert capfd.readouterr() == ("", "")


def test_demosaicked_kodak_files_are_linear_and_say_so(shared_data, tmp_path):
    path = shared_data("raw/kodak_c330_yrgb.raw")
    reader = find.open_file(path)
    d = reader.description
    assert (d.format, d.shape, d.kind, d.axes) == ("libraw", (912, 1216, 3), "linear", ("y", "x", "channel"))
    assert {"already-demosaiced", "white-balance"} <= {code for code, _ in d.notes}
    assert d.acquisition["wb_source"] == "none" and "wb" not in d.acquisition
    with rawpy.imread(str(path)) as raw:
        seen = raw.raw_image_visible.copy()
    assert seen.shape == (912, 1216, 4) and not seen[:, :, 3].any(), "the fourth channel is empty"
    values = reader.read(everything(d))
    np.testing.assert_array_equal(values, seen[:, :, :3])
    writer = dng.compose(tmp_path / "a.dng", d)
    writer.write(everything(d), values)
    writer.close()
    again = dng.open(tmp_path / "a.dng")
    assert again.description.kind == "linear"
    np.testing.assert_array_equal(again.read(everything(d)), values)


def test_mosaics_are_the_visible_area_and_become_dng(shared_data, tmp_path):
    path = shared_data("raw/colorchart.dng")
    reader = libraw.open(path)  # as any maker's mosaic
    with rawpy.imread(str(path)) as raw:
        seen, pattern = raw.raw_image_visible.copy(), raw.raw_pattern.tolist()
    d = reader.description
    assert d.acquisition["cfa"] == pattern and d.acquisition["model"] == "Canon EOS Kiss X4"
    values = reader.read(everything(d))
    np.testing.assert_array_equal(values, seen)
    copy = pickle.loads(pickle.dumps(reader))
    np.testing.assert_array_equal(copy.read((slice(5, 9), slice(7, 8))), seen[5:9, 7:8])
    assert copy.mask((slice(0, 9), slice(0, 9))).all()
    writer = dng.compose(tmp_path / "a.dng", d)
    writer.write(everything(d), values)
    writer.close()
    again = dng.open(tmp_path / "a.dng").description.acquisition
    for key in ("black", "white", "wb", "make", "model"):
        assert dng_same(again[key], d.acquisition[key]), key


def dng_same(a, b):
    return a == b if isinstance(a, str) else bool(np.allclose(a, b, rtol=1e-3))


def test_files_that_only_have_a_length_in_common_with_a_camera_are_not_believed(shared_data):
    path = shared_data("raw/headerless_1920x1080_rggb10_u16le.RAW")
    with rawpy.imread(str(path)) as raw:
        assert raw.raw_image.shape == (1080, 1920), "LibRaw guesses by the length"
    for opener in (libraw.open, find.open_file):
        with pytest.raises(FormatError, match="--width"):
            opener(path)


@pytest.mark.parametrize("name", ["nef", "arw", "cr2", "pef"])
def test_raw_under_a_tiff_header_is_not_taken_for_a_picture(name, tmp_path):
    tifffile = pytest.importorskip("tifffile")
    path = tmp_path / f"a.{name}"
    tifffile.imwrite(path, np.zeros((30, 40), np.uint16))
    head = path.read_bytes()[:4096]
    assert libraw.recognise(head, str(path)) > tiff.recognise(head, str(path))


def test_signatures_decide_without_a_suffix():
    for head in (
        b"FUJIFILMCCD-RAW 0201",
        b"\0MRM\0\0",
        b"\0\0\0\x18ftypcrx ",
        b"II*\0\x10\0\0\0CR\x02\0",
        b"IIU\0\x08\0",
    ):
        assert libraw.recognise(head, "nameless") > find.SURE
    assert libraw.recognise(b"II*\0\x08\0\0\0", "a.tif") == 0


@pytest.mark.parametrize("fault", ["constant", "above", "small"])
def test_samples_that_cannot_be_measurements_are_refused(fault, tmp_path):
    frame = libraw.Frame(20, 30, slice(0, 20), slice(0, 30), 1, True)
    values = np.arange(600, dtype=np.uint16).reshape(20, 30)
    libraw.check(tmp_path, values, frame, 4000)
    bad = {"constant": values * 0, "above": values + np.uint16(5000), "small": values[:10]}[fault]
    with pytest.raises(FormatError, match="truncated or undecodable|smaller"):
        libraw.check(tmp_path, bad, frame, 4000)


def test_an_unknown_balance_is_taken_from_daylight_and_named():
    class Raw:
        camera_whitebalance, daylight_whitebalance = [0.0, 1.0, 0.0, 0.0], [2.0, 1.0, 1.5, 0.0]

    assert libraw.balance(Raw) == {"wb": [2.0, 1.0, 1.5, 1.0], "wb_source": "daylight"}
    Raw.camera_whitebalance = [1.5, 1.0, 2.0, 0.0]
    assert libraw.balance(Raw) == {"wb": [1.5, 1.0, 2.0, 1.0], "wb_source": "camera"}
    Raw.camera_whitebalance = Raw.daylight_whitebalance = [0.0, 0.0, 0.0, 0.0]
    assert libraw.balance(Raw) == {"wb_source": "none"}
