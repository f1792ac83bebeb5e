# SPDX-License-Identifier: Apache-2.0
"""FLAC: samples bit for bit, metadata blocks byte for byte, streams of unknown length, damage."""

import pickle
import shutil
import struct
import subprocess

import numpy as np
import pytest

from pellucid.core.errors import FormatError
from pellucid.core.types import Description
from pellucid.formats import flac, wav

RNG = np.random.default_rng(2)
EVERYTHING = (slice(None), slice(None))
REAL = [
    "real/clearbuds_real_15625hz.flac",
    "real/ami_wsj20_array1_4ch.flac",
    "rir/webaudio_kitchen.flac",
    "pairs_voicebank_p287/noisy",
]


def make(path, values, bits=16, rate=48000):
    acquisition = {"rate_hz": rate, "bits": bits}
    description = Description(
        "x", values.shape, ("time", "channel"), values.dtype.name, slope=2.0 ** (1 - bits), acquisition=acquisition
    )
    writer = flac.compose(path, description)
    for start in range(0, len(values), 1000):
        writer.write((slice(start, min(start + 1000, len(values))), slice(None)), values[start : start + 1000])
    writer.close()
    return path


def identity(path, folder):
    reader = flac.open(path)
    writer = flac.splice(folder / "out.flac", reader, reader.description)
    frames = reader.description.shape[0]
    for start in range(0, frames, 7000):
        region = (slice(start, min(start + 7000, frames)), slice(None))
        writer.write(region, reader.read(region))
    writer.close()
    assert [p.name for p in folder.glob("out*")] == ["out.flac"]
    return folder / "out.flac"


def streaminfo_md5(path):
    raw = path.read_bytes()
    at = raw.index(b"fLaC")
    return raw[at + 26 : at + 42]


def with_blocks(path, *blocks):
    """Put metadata blocks behind STREAMINFO, as the last ones."""
    raw = path.read_bytes()
    with path.open("rb") as file:
        meta = flac.metadata(path, file)
    parts = [(0, raw[8:42]), *blocks]
    body = b"".join(
        bytes([kind | (128 if k == len(parts) - 1 else 0)]) + len(p).to_bytes(3, "big") + p
        for k, (kind, p) in enumerate(parts)
    )
    path.write_bytes(b"fLaC" + body + raw[meta.frames_at :])
    return path


@pytest.mark.parametrize("name", REAL)
def test_real_files_survive_with_samples_tags_and_checksum(name, tmp_path, shared_data):
    path = shared_data(f"speech/{name}")
    path = sorted(path.glob("*.flac"))[0] if path.is_dir() else path
    out = identity(path, tmp_path)
    old, new = flac.open(path), flac.open(out)
    np.testing.assert_array_equal(old.read(EVERYTHING), new.read(EVERYTHING))
    assert streaminfo_md5(path) == streaminfo_md5(out)
    assert blocks(path) == blocks(out)


def blocks(path):
    with path.open("rb") as file:
        meta = flac.metadata(path, file)
        return [(k, flac._slice(file, at, n)) for k, at, n in meta.blocks[1:] if k != flac.SEEKTABLE]


@pytest.mark.parametrize(("dtype", "bits"), [("int8", 8), ("int16", 16), ("int32", 24)])
def test_extremes_survive(dtype, bits, tmp_path):
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    values = np.concatenate([[low, high, 0, -1], RNG.integers(low, high, 5000)]).astype(dtype)[:, None]
    path = make(tmp_path / "a.flac", values, bits)
    np.testing.assert_array_equal(flac.open(path).read(EVERYTHING), values)
    np.testing.assert_array_equal(flac.open(identity(path, tmp_path)).read(EVERYTHING), values)


def test_pictures_cue_sheets_and_private_blocks_are_copied(tmp_path):
    path = make(tmp_path / "a.flac", RNG.integers(-99, 99, (5000, 2)).astype(np.int16))
    tags = struct.pack("<I", 3) + b"old" + struct.pack("<II", 1, 7) + b"TITLE=x"
    picture = struct.pack(">II", 3, 9) + b"image/png" + struct.pack(">6I", 0, 1, 1, 8, 0, 50) + bytes(50)
    extra = [
        (4, tags),
        (6, picture),
        (2, b"priv" + bytes(9)),
        (5, bytes(396)),
        (3, bytes(18)),
        (1, bytes(77)),
    ]
    before = with_blocks(path, *extra)
    out = identity(before, tmp_path)
    assert blocks(out) == [b for b in extra if b[0] != 3]


def test_an_id3_tag_in_front_travels(tmp_path):
    path = make(tmp_path / "a.flac", np.zeros((100, 1), np.int16))
    tag = b"ID3\4\0\0\0\0\1\2" + bytes(130)
    path.write_bytes(tag + path.read_bytes())
    assert flac.recognise(path.read_bytes()[:4096], "a.mp3") == 1.0
    assert identity(path, tmp_path).read_bytes()[:140] == tag


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="ffmpeg is not installed")
@pytest.mark.parametrize("channels", [1, 2])
def test_a_stream_without_a_length_is_counted_from_its_last_frame(channels, tmp_path):
    values = np.cumsum(RNG.integers(-9, 10, (40_011, channels)), axis=0).astype(np.int16)
    command = [
        "ffmpeg",
        "-v",
        "error",
        "-f",
        "s16le",
        "-ar",
        "16000",
        "-ac",
        str(channels),
        "-i",
        "-",
        "-f",
        "flac",
        "-",
    ]
    raw = subprocess.run(command, input=values.tobytes(), capture_output=True, check=True).stdout
    path = tmp_path / "a.flac"
    path.write_bytes(raw)
    assert raw[21] & 15 == 0 and raw[22:26] == bytes(4)  # ffmpeg cannot seek back on a pipe
    reader = flac.open(path)
    assert reader.description.shape == values.shape
    np.testing.assert_array_equal(reader.read(EVERYTHING), values)
    np.testing.assert_array_equal(reader.read((slice(100, 200), slice(0, 1))), values[100:200, :1])
    np.testing.assert_array_equal(flac.open(identity(path, tmp_path)).read(EVERYTHING), values)


def test_floats_and_32_bit_are_refused_with_a_way_out(tmp_path):
    for dtype, bits in (("float32", 32), ("int32", 32)):
        with pytest.raises(FormatError, match=r"\.wav"):
            make(tmp_path / "a.flac", np.zeros((5, 1), dtype), bits)
    assert not list(tmp_path.iterdir())


def test_a_wav_can_become_a_flac(tmp_path, shared_data):
    reader = wav.open(shared_data("speech/formats/24bit_16k_stereo.WAV"))
    writer = flac.compose(tmp_path / "a.flac", reader.description)
    writer.write(EVERYTHING, reader.read(EVERYTHING))
    writer.close()
    again = flac.open(tmp_path / "a.flac")
    np.testing.assert_array_equal(again.read(EVERYTHING), reader.read(EVERYTHING))
    assert again.description.slope == reader.description.slope


def test_a_region_equals_the_slice_of_the_whole_also_from_a_pickle(tmp_path):
    values = RNG.integers(-(2**23), 2**23, (9000, 3)).astype(np.int32)
    reader = flac.open(make(tmp_path / "a.flac", values, 24))
    whole = reader.read(EVERYTHING)
    reader = pickle.loads(pickle.dumps(reader))
    for region in ((slice(8999, 9000), slice(0, 3)), (slice(0, 1), slice(0, 3)), (slice(4000, 6000), slice(1, 2))):
        np.testing.assert_array_equal(reader.read(region), whole[region])
    reader.close()
    np.testing.assert_array_equal(reader.read(EVERYTHING), values)


def test_channels_of_a_block_may_come_one_after_the_other_but_never_backwards(tmp_path):
    values = RNG.integers(-99, 99, (50, 2)).astype(np.int16)
    reader = flac.open(make(tmp_path / "a.flac", values))
    writer = flac.splice(tmp_path / "b.flac", reader, reader.description)
    assert reader.description.order == "forward"
    for c in (1, 0):
        writer.write((slice(0, 50), slice(c, c + 1)), values[:, c : c + 1])
    with pytest.raises(ValueError, match="forward"):
        writer.write((slice(0, 50), slice(None)), values)
    writer.close()
    np.testing.assert_array_equal(flac.open(tmp_path / "b.flac").read(EVERYTHING), values)


def test_cut_files_give_one_error(tmp_path):
    path = make(tmp_path / "a.flac", RNG.integers(-9999, 9999, (20_000, 2)).astype(np.int16))
    raw = path.read_bytes()
    for cut in np.linspace(0, len(raw) - 1, 20).astype(int):
        path.write_bytes(raw[:cut])
        with pytest.raises(FormatError, match="a.flac"):
            flac.open(path).read(EVERYTHING)


def test_damaged_bytes_are_never_silently_decoded(tmp_path):
    values = RNG.integers(-9999, 9999, (20_000, 1)).astype(np.int16)
    path = make(tmp_path / "a.flac", values)
    raw = path.read_bytes()
    for at in RNG.integers(100, len(raw), 10):
        path.write_bytes(raw[:at] + bytes([raw[at] ^ 0x55]) + raw[at + 1 :])
        with pytest.raises(FormatError):
            flac.open(path).read(EVERYTHING)


def test_a_claim_of_2_to_the_36_samples_is_refused_before_anything_is_allocated(tmp_path):
    path = make(tmp_path / "a.flac", np.zeros((10, 1), np.int16))
    raw = bytearray(path.read_bytes())
    raw[21] |= 15
    raw[22:26] = b"\xff" * 4
    path.write_bytes(raw)
    with pytest.raises(FormatError, match="STREAMINFO"):
        flac.open(path)


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="ffmpeg is not installed")
def test_ffmpeg_decodes_what_is_written(tmp_path):
    values = RNG.integers(-9999, 9999, (30_000, 2)).astype(np.int16)
    path = identity(make(tmp_path / "a.flac", values), tmp_path)
    raw = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", path, "-f", "s16le", "-"], capture_output=True, check=True
    ).stdout
    np.testing.assert_array_equal(np.frombuffer(raw, "<i2").reshape(-1, 2), values)
