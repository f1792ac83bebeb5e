# SPDX-License-Identifier: Apache-2.0
"""Headerless samples from files and pipes, and AIFF, whose samples lie the same way."""

import io
import pickle
import shutil
import struct
import subprocess

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.core.errors import FormatError
from pellucid.core.types import Description
from pellucid.formats import aiff, pcm, riff

RNG = np.random.default_rng(5)
EVERYTHING = (slice(None), slice(None))


def identity(module, path, folder, **hints):
    reader = module.open(path, **hints)
    out = folder / f"out{path.suffix}"
    writer = module.splice(out, reader, reader.description)
    writer.write(EVERYTHING, reader.read(EVERYTHING))
    writer.close()
    return out


def samples(encoding, count=60):
    if encoding.stored.startswith("f"):
        return RNG.normal(size=count).astype(encoding.stored)
    low, high = (0, 255) if encoding.name == "u8" else (-(2 ** (encoding.bits - 1)), 2 ** (encoding.bits - 1) - 1)
    return np.concatenate([[low, high, low, high], RNG.integers(low, high, count - 4)]).astype(encoding.stored)


@pytest.mark.parametrize("name", pcm.ENCODINGS)
def test_every_encoding_survives_and_full_scale_is_one(name, tmp_path):
    encoding = pcm.ENCODINGS[name]
    values = samples(encoding)
    path = tmp_path / f"a.{name}"
    path.write_bytes(pcm.encode(values, encoding))
    reader = pcm.open(path, rate=8000, channels=2)
    np.testing.assert_array_equal(reader.read(EVERYTHING).ravel(), values)
    assert identity(pcm, path, tmp_path, rate=8000, channels=2).read_bytes() == path.read_bytes()
    if not name.startswith("f"):
        low, high = values[0] * encoding.slope + encoding.inter, values[1] * encoding.slope + encoding.inter
        assert low == -1 and high == 1 - encoding.slope


def test_the_real_headerless_file_has_its_known_level(shared_data):
    path = shared_data("speech/formats/headerless_s16le_16k.raw")
    reader = pcm.open(path, rate="16000", encoding="s16le")
    x = reader.read(EVERYTHING) * reader.description.slope
    assert x.shape == (35_012, 1)
    assert np.sqrt(np.mean(x**2)) == pytest.approx(0.04855, abs=1e-5)
    assert pcm.recognise(path.read_bytes()[:4096], path.name) < 0.2  # never claimed by chance


@pytest.mark.parametrize(
    "hints",
    [{}, {"rate": 8000}, {"encoding": "s16le"}, {"encoding": "s17", "rate": 1}, {"encoding": "u8", "rate": "x"}],
)
def test_missing_or_impossible_settings_are_named(hints, tmp_path):
    (tmp_path / "a.raw").write_bytes(bytes(8))
    with pytest.raises(FormatError, match="give"):
        pcm.open(tmp_path / "a.raw", **hints)


def test_bytes_after_the_last_whole_frame_travel(tmp_path):
    path = tmp_path / "a.raw"
    path.write_bytes(bytes(range(23)))
    hints = {"rate": 8000, "channels": 2, "encoding": "s16le"}
    assert pcm.open(path, **hints).description.notes[0][0] == "ragged"
    assert identity(pcm, path, tmp_path, **hints).read_bytes() == path.read_bytes()


@given(st.lists(st.integers(1, 13), max_size=40), st.sampled_from(["s16le", "s24le", "f32be"]), st.integers(1, 3))
def test_a_pipe_may_break_anywhere(cuts, name, channels):
    encoding = pcm.ENCODINGS[name]
    raw = pcm.encode(samples(encoding, 30), encoding) + b"!"

    class Broken(io.BytesIO):
        def read1(self, size=-1):
            return super().read(min(size, cuts.pop()) if cuts else size)

    source = pcm.source(Broken(raw), rate=8000, channels=channels, encoding=name)
    out = io.BytesIO()
    sink = pcm.Sink(out, encoding)
    while len(block := source.read(4)):
        sink.write(block)
    assert out.getvalue() + source.leftover == raw


def test_a_sink_writes_little_endian():
    out = io.BytesIO()
    sink = pcm.sink(out, Description("x", (-1, 1), ("time", "channel"), "int16"))
    sink.write(np.array([[258]], np.int16))
    assert out.getvalue() == b"\2\1"


def test_a_reader_pickles_and_a_shrunken_file_is_told(tmp_path):
    path = tmp_path / "a.s16le"
    path.write_bytes(bytes(100))
    reader = pickle.loads(pickle.dumps(pcm.open(path, rate=8000)))
    assert reader.read((slice(10, 20), slice(0, 1))).shape == (10, 1)
    path.write_bytes(bytes(50))
    with pytest.raises(FormatError, match="frame 25"):
        reader.read(EVERYTHING)


def chunk(name, payload):
    return riff.pack("FORM", name, payload)


def rich(values=(1, -2, 32767)):
    """An AIFF with chunks before and after, and an offset inside the samples' chunk."""
    data = struct.pack(">II", 4, 0) + b"skip" + struct.pack(f">{len(values)}h", *values)
    comm = struct.pack(">HIH", 1, len(values), 16) + aiff.as_extended(44100)
    parts = [(b"NAME", b"odd"), (b"COMM", comm), (b"COMT", bytes(12)), (b"SSND", data), (b"MARK", b"\0\1" + bytes(7))]
    body = b"AIFF" + b"".join(chunk(n, p) for n, p in [*parts, (b"INST", bytes(20))])
    return b"FORM" + struct.pack(">I", len(body)) + body


def test_aiff_chunks_travel_byte_for_byte(tmp_path):
    path = tmp_path / "a.aif"
    path.write_bytes(rich())
    assert aiff.open(path).read(EVERYTHING)[:, 0].tolist() == [1, -2, 32767]
    assert identity(aiff, path, tmp_path).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("rate", [8000, 15_625, 44_100, 192_000, 11_025.5])
def test_80_bit_rates_are_exact(rate):
    assert aiff.extended(aiff.as_extended(rate)) == rate


@pytest.mark.parametrize("name", ["s8", "s16be", "s24be", "s32be", "f32be", "f64be"])
def test_composed_aiff_is_what_libsndfile_reads(name, tmp_path):
    soundfile = pytest.importorskip("soundfile")
    encoding = pcm.ENCODINGS[name]
    values = samples(encoding).reshape(-1, 2)
    path = tmp_path / "a.aiff"
    writer = aiff.compose(path, pcm.describe("x", encoding, values.shape, 48_000))
    writer.write(EVERYTHING, values)
    writer.close()
    theirs, rate = soundfile.read(path, dtype="float64")
    np.testing.assert_array_equal(theirs, values * encoding.slope)
    assert rate == 48_000
    assert identity(aiff, path, tmp_path).read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("subtype", "endian"),
    [("PCM_16", "BIG"), ("PCM_24", "BIG"), ("PCM_16", "LITTLE"), ("PCM_24", "LITTLE"), ("FLOAT", "FILE")],
)
def test_aiff_of_another_writer_comes_back_byte_for_byte(subtype, endian, tmp_path):
    soundfile = pytest.importorskip("soundfile")
    path = tmp_path / "a.aif"
    soundfile.write(path, RNG.uniform(-1, 1, (77, 2)), 22_050, format="AIFF", subtype=subtype, endian=endian)
    reader = aiff.open(path)
    theirs = soundfile.read(path, always_2d=True)[0]
    np.testing.assert_array_equal(reader.read(EVERYTHING) * reader.description.slope, theirs)
    assert identity(aiff, path, tmp_path).read_bytes() == path.read_bytes()  # its PEAK included


def test_cut_aiff_files_give_one_error(tmp_path):
    path, raw = tmp_path / "a.aif", rich(range(200))
    for cut in np.linspace(0, len(raw) - 9, 20).astype(int):
        path.write_bytes(raw[:cut])
        with pytest.raises(FormatError, match="a.aif"):
            aiff.open(path).read(EVERYTHING)


@given(st.binary(min_size=1, max_size=60), st.integers(0, 140))
def test_damaged_aiff_headers_raise_nothing_but_format_errors(tmp_path_factory, noise, at):
    path, raw = tmp_path_factory.mktemp("damaged") / "a.aif", rich(range(20))
    path.write_bytes(raw[:at] + noise + raw[at + len(noise) :])
    try:
        reader = aiff.open(path)
        assert reader.read(EVERYTHING).shape == reader.description.shape
    except FormatError:
        pass


@pytest.mark.skipif(not shutil.which("sox"), reason="sox is not installed")
def test_sox_reads_raw_and_aiff(tmp_path):
    path = tmp_path / "a.aif"
    path.write_bytes(rich())
    command = ["sox", identity(aiff, path, tmp_path), "-t", "s16", "-"]
    assert subprocess.run(command, capture_output=True, check=True).stdout == struct.pack("<3h", 1, -2, 32767)
