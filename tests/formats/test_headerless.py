# SPDX-License-Identifier: Apache-2.0
"""Mosaics without a header: the user says what they are, and the file comes back as it was."""

import pickle
import subprocess
import sys

import numpy as np
import pytest

from pellucid.core.errors import FormatError
from pellucid.formats import dng, find, headerless

REAL = "raw/headerless_1920x1080_rggb10_u16le.RAW"
TOLD = {"width": 1920, "height": 1080, "bits": 10, "cfa": "RGGB"}


def everything(description):
    return tuple(slice(0, n) for n in description.shape)


def test_a_real_file_reads_as_its_maker_meant(shared_data):
    reader = find.open_file(shared_data(REAL), **TOLD)
    d = reader.description
    assert (d.format, d.shape, d.kind, d.dtype) == ("headerless", (1080, 1920), "mosaic", "uint16")
    assert d.acquisition["cfa"] == [[0, 1], [3, 2]] and d.acquisition["white"] == 1023
    values = reader.read(everything(d))
    means = [[values[r::2, c::2].mean() for c in (0, 1)] for r in (0, 1)]
    np.testing.assert_allclose(means, [[320.3, 479.8], [480.8, 442.7]], atol=0.06)
    assert values.max() == 1020
    copy = pickle.loads(pickle.dumps(reader))
    np.testing.assert_array_equal(copy.read((slice(9, 20), slice(3, 5))), values[9:20, 3:5])


def test_the_shell_says_what_is_missing_and_takes_it(shared_data, tmp_path):
    command = [sys.executable, "-m", "pellucid", "raw", "denoise", str(shared_data(REAL)), "-m", "identity", "-o"]
    done = subprocess.run([*command, str(tmp_path / "a.raw")], capture_output=True, text=True)
    assert done.returncode in (3, 4) and len(done.stderr.splitlines()) == 1
    assert all(word in done.stderr for word in ("--width", "--height", "--bits", "--cfa"))
    flags = [word for k, v in TOLD.items() for word in (f"--{k}", str(v))]
    for name in ("a.raw", "a.dng"):
        done = subprocess.run([*command, str(tmp_path / name), *flags], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.raw").read_bytes() == shared_data(REAL).read_bytes()
    reader = dng.open(tmp_path / "a.dng")
    told = find.open_file(shared_data(REAL), **TOLD)
    np.testing.assert_array_equal(
        reader.read(everything(reader.description)), told.read(everything(reader.description))
    )
    assert reader.description.acquisition["white"] == 1023


@pytest.mark.parametrize("bits", [8, 12])
def test_bytes_after_the_samples_travel(bits, tmp_path):
    disk = np.uint8 if bits == 8 else np.dtype("<u2")
    values = np.random.default_rng(2).integers(0, 200, (20, 30)).astype(disk)
    path = tmp_path / "a.raw"
    path.write_bytes(values.tobytes() + b"tail")
    reader = headerless.open(path, width=30, height=20, bits=bits, cfa="GRBG", white=150)
    assert "more-bytes" in {code for code, _ in reader.description.notes}
    np.testing.assert_array_equal(reader.mask((slice(0, 20), slice(0, 30))), values < 150)
    writer = headerless.splice(tmp_path / "b.raw", reader, reader.description)
    writer.write((slice(0, 20), slice(0, 30)), values.astype(np.uint16) + 1)
    writer.close()
    raised = (values + 1).astype(disk).tobytes()
    assert (tmp_path / "b.raw").read_bytes() == raised + b"tail"


@pytest.mark.parametrize(
    ("told", "line"),
    [
        ({}, "has no header"),
        ({"width": 30, "height": 20, "bits": 10}, "has no header"),
        ({"width": 30, "height": 2000, "bits": 10, "cfa": "RGGB"}, "need 120000 bytes"),
        ({"width": 30, "height": 20, "bits": 40, "cfa": "RGGB"}, "between 1 and 16"),
        ({"width": 30, "height": 20, "bits": 10, "cfa": "RGG"}, "no pattern"),
        ({"width": -30, "height": 20, "bits": 10, "cfa": "RGGB"}, "no size"),
        ({"width": 1 << 40, "height": 20, "bits": 10, "cfa": "RGGB"}, "no size"),
    ],
)
def test_what_does_not_fit_is_told_in_one_line(told, line, tmp_path):
    path = tmp_path / "a.raw"
    path.write_bytes(bytes(1200))
    with pytest.raises(FormatError, match=line) as caught:
        headerless.open(path, **told)
    assert "\n" not in str(caught.value)


def test_sound_without_a_header_is_still_told_to_name_its_encoding(tmp_path):
    path = tmp_path / "a.raw"
    path.write_bytes(bytes(range(200)) * 10)
    with pytest.raises(FormatError, match="--encoding"):
        find.open_file(path, ("wav", "pcm"))
    reader = find.open_file(path, ("wav", "pcm"), encoding="s16le", rate=8000, channels=1)
    assert reader.description.format == "pcm"


def test_six_by_six_patterns_have_a_name(tmp_path):
    found = headerless.pattern(tmp_path, "xtrans")
    assert np.shape(found) == (6, 6) and np.bincount(np.ravel(found)).tolist() == [8, 20, 8]
    assert headerless.pattern(tmp_path, "".join("RGB"[c] for c in np.ravel(found))) == found
