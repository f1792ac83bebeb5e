# SPDX-License-Identifier: Apache-2.0
"""WAV family: samples bit for bit, chunks byte for byte, hostile and unfinished headers."""

import io
import pickle
import shutil
import struct
import subprocess

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.core.errors import FormatError
from pellucid.core.types import Description
from pellucid.formats import riff, wav

RNG = np.random.default_rng(1)
EVERYTHING = (slice(None), slice(None))
ENCODINGS = {
    "u8": ("uint8", 1, 8),
    "s16": ("int16", 1, 16),
    "s24": ("int32", 1, 24),
    "s32": ("int32", 1, 32),
    "f32": ("float32", 3, 32),
    "f64": ("float64", 3, 64),
}
REAL = [
    "16bit_16k_stereo.wav",
    "24bit_16k_stereo.WAV",
    "24bit_48k_mono.wav",
    "almost_silent_24bit_48k.wav",
    "digital_silence_float_48k.wav",
    "float64_44k1_short.wav",
    "german_8k.wav",
    "int24_44k1_short.wav",
    "int32_44k1_short.wav",
]


def chunk(name, payload):
    return name + struct.pack("<I", len(payload)) + payload + b"\0" * (len(payload) % 2)


def fmt(tag, channels, rate, bits):
    block = channels * bits // 8
    return struct.pack("<HHIIHH", tag, channels, rate, rate * block, block, bits)


def bext(history=b"A=ANALOGUE,T=tape\r\n", version=2):
    raw = bytearray(602)
    raw[:11] = b"description"
    struct.pack_into("<Q", raw, 338, 5_000_000_000)
    struct.pack_into("<H", raw, 346, version)
    raw[348:412] = bytes(range(64))  # UMID
    struct.pack_into("<5h", raw, 412, -2300, 500, -100, -1800, -2000)
    return bytes(raw) + history


def riff_file(*chunks):
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def rich(samples=b"\1\0\2\0\3\0"):
    """A broadcast file: chunks before and after, one odd, one unknown, one empty."""
    return riff_file(
        chunk(b"JUNK", bytes(28)),
        chunk(b"bext", bext()),
        chunk(b"fmt ", fmt(1, 1, 48000, 16)),
        chunk(b"xyz!", b"odd"),
        chunk(b"data", samples),
        chunk(b"cue ", struct.pack("<I", 1) + bytes(24)),
        chunk(b"iXML", "<BWFXML><NOTE>Köln</NOTE></BWFXML>".encode()),
        chunk(b"LIST", b"INFOINAM\4\0\0\0abc\0"),
        chunk(b"none", b""),
        chunk(b"smpl", bytes(36)),
    )


def identity(path, folder):
    """Splice a file with its own samples, in blocks and in any order."""
    reader = wav.open(path)
    target = folder / f"out{path.suffix}"
    writer = wav.splice(target, reader, reader.description)
    frames = reader.description.shape[0]
    step = max(1, frames // 3)
    for start in reversed(range(0, frames, step)):
        region = (slice(start, min(start + step, frames)), slice(None))
        writer.write(region, reader.read(region))
    writer.close()
    return target


def extremes(dtype, bits):
    if dtype.startswith("float"):
        values = RNG.normal(size=101).astype(dtype)
        values[:5] = [np.nan, np.inf, -0.0, 3.5, np.finfo(dtype).tiny]
        return values[:, None]
    low, high = (0, 255) if dtype == "uint8" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    middle = RNG.integers(low, high, 95, endpoint=True)
    return np.concatenate([[low, high, low + 1, high - 1, 0, 1], middle]).astype(dtype)[:, None]


@pytest.mark.parametrize("name", REAL)
def test_identity_gives_the_same_bytes_of_a_real_file(name, tmp_path, shared_data):
    path = shared_data(f"speech/formats/{name}")
    assert identity(path, tmp_path).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("name", REAL)
def test_samples_agree_with_libsndfile(name, shared_data):
    soundfile = pytest.importorskip("soundfile")
    path = shared_data(f"speech/formats/{name}")
    reader = wav.open(path)
    theirs, rate = soundfile.read(path, dtype="float64", always_2d=True)
    d = reader.description
    np.testing.assert_array_equal(reader.read(EVERYTHING) * d.slope + d.inter, theirs)
    assert d.acquisition["rate_hz"] == rate


def test_known_facts_of_real_files(shared_data):
    for name, shape in (("16bit_16k_stereo.wav", (17833, 2)), ("24bit_48k_mono.wav", (54514, 1))):
        assert wav.open(shared_data(f"speech/formats/{name}")).description.shape == shape


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("suffix", [".wav", ".w64"])
def test_every_sample_type_survives_composing_and_splicing(encoding, suffix, tmp_path):
    dtype, _, bits = ENCODINGS[encoding]
    values = np.repeat(extremes(dtype, bits), 2, axis=1)
    path = make(tmp_path / f"a{suffix}", values, bits)
    reader = wav.open(path)
    assert reader.description.acquisition["bits"] == bits
    np.testing.assert_array_equal(reader.read(EVERYTHING), values)
    assert identity(path, tmp_path).read_bytes() == path.read_bytes()


def make(path, values, bits=16, rate=48000, **more):
    slope = 2.0 ** (1 - bits) if values.dtype.kind == "i" else 1.0
    acquisition = {"rate_hz": rate, "bits": bits, **more}
    axes = ("time", "channel")
    writer = wav.compose(
        path, Description("x", values.shape, axes, values.dtype.name, slope=slope, acquisition=acquisition)
    )
    writer.write(EVERYTHING, values)
    writer.close()
    return path


def test_foreign_chunks_travel_in_order_and_byte_for_byte(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(rich())
    before, after = riff.walk(path), riff.walk(identity(path, tmp_path))
    assert [c.id for c in before.chunks] == [c.id for c in after.chunks]
    for old, new in zip(before.chunks, after.chunks, strict=True):
        if old.id != b"bext":
            assert before.payload(old) == after.payload(new)


def test_bext_keeps_time_reference_and_umid_and_says_what_happened(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(rich())
    container = riff.walk(identity(path, tmp_path))
    raw = container.payload(container.find(b"bext"))
    assert struct.unpack_from("<Q", raw, 338)[0] == 5_000_000_000
    assert raw[348:412] == bytes(range(64))
    assert struct.unpack_from("<5h", raw, 412) == (0x7FFF,) * 5
    assert raw[602:] == b"A=ANALOGUE,T=tape\r\nA=PCM,F=48000,W=16,M=mono,T=pellucid\r\n"


def test_version_1_bext_has_no_loudness_to_mark():
    raw = wav.renew_bext(bext(version=1), wav.ENCODINGS["s16le"], 2, 48000)
    assert raw[412:422] == bext()[412:422]


def test_the_channel_mask_of_an_extensible_header_is_kept(tmp_path):
    path = make(tmp_path / "a.wav", RNG.integers(-99, 99, (50, 6)).astype(np.int16), channel_mask=0x60F)
    assert wav.open(path).description.acquisition["channel_mask"] == 0x60F
    assert identity(path, tmp_path).read_bytes() == path.read_bytes()


def test_a_changed_sample_type_keeps_mask_and_chunks(tmp_path):
    path = make(tmp_path / "a.wav", RNG.integers(-99, 99, (50, 6)).astype(np.int16), channel_mask=0x3F)
    reader = wav.open(path)
    out = wav.splice(tmp_path / "b.wav", reader, reader.description.with_(dtype="float32", slope=1.0))
    values = (reader.read(EVERYTHING) / 32768).astype(np.float32)
    out.write(EVERYTHING, values)
    out.close()
    again = wav.open(tmp_path / "b.wav")
    assert again.description.dtype == "float32" and again.description.acquisition["channel_mask"] == 0x3F
    np.testing.assert_array_equal(again.read(EVERYTHING), values)


def test_channels_may_be_written_one_at_a_time(tmp_path):
    values = RNG.integers(-(2**23), 2**23, (60, 3)).astype(np.int32)
    reader = wav.open(make(tmp_path / "a.wav", values, 24))
    writer = wav.splice(tmp_path / "b.wav", reader, reader.description)
    for c in (2, 0, 1):
        writer.write((slice(0, 60), slice(c, c + 1)), values[:, c : c + 1])
    writer.close()
    np.testing.assert_array_equal(wav.open(tmp_path / "b.wav").read(EVERYTHING), values)


def test_values_beyond_24_bit_saturate_and_are_counted(tmp_path):
    values = np.array([[2**23], [-(2**23) - 1], [5]], np.int32)
    reader = wav.open(make(tmp_path / "a.wav", np.zeros((3, 1), np.int32), 24))
    writer = wav.splice(tmp_path / "b.wav", reader, reader.description)
    writer.write(EVERYTHING, values)
    writer.close()
    assert writer.clipped == 2
    assert wav.open(tmp_path / "b.wav").read(EVERYTHING)[:, 0].tolist() == [2**23 - 1, -(2**23), 5]


def test_peak_is_measured_again(tmp_path):
    samples = np.array([[0.25, -0.5], [-0.75, 0.5]], np.float32)
    peak = struct.pack("<II", 1, 1234) + struct.pack("<fIfI", 0.75, 1, 0.5, 0)
    path = tmp_path / "a.wav"
    path.write_bytes(
        riff_file(chunk(b"fmt ", fmt(3, 2, 8000, 32)), chunk(b"PEAK", peak), chunk(b"data", samples.tobytes()))
    )
    assert identity(path, tmp_path).read_bytes() == path.read_bytes()
    reader = wav.open(path)
    writer = wav.splice(tmp_path / "half.wav", reader, reader.description)
    writer.write(EVERYTHING, samples[::-1] / 2)
    writer.close()
    container = riff.walk(tmp_path / "half.wav")
    assert container.payload(container.find(b"PEAK"))[8:] == struct.pack("<fIfI", 0.375, 0, 0.25, 0)


def test_rf64_keeps_its_table_and_chunks(tmp_path):
    data = RNG.integers(-9, 9, 101).astype("<i2").tobytes()
    table = struct.pack("<I4sQ", 1, b"big ", 4)
    body = chunk(b"fmt ", fmt(1, 1, 48000, 16)) + chunk(b"bext", bext())
    rest = b"big \xff\xff\xff\xffABCD" + chunk(b"iXML", b"<x/>")
    size = 4 + 8 + 24 + len(table) + len(body) + 8 + len(data) + len(rest)
    ds64 = chunk(b"ds64", struct.pack("<3Q", size, len(data), 101) + table)
    path = tmp_path / "a.wav"
    path.write_bytes(b"RF64\xff\xff\xff\xffWAVE" + ds64 + body + b"data\xff\xff\xff\xff" + data + rest)
    assert wav.open(path).description.shape == (101, 1)
    out = identity(path, tmp_path)
    container = riff.walk(out)
    assert [c.id for c in container.chunks] == [b"ds64", b"fmt ", b"bext", b"data", b"big ", b"iXML"]
    assert out.read_bytes().endswith(data + rest)
    assert container.payload(container.chunks[0])[24:] == table
    assert container.payload(container.chunks[4]) == b"ABCD"


def test_more_than_4_gb_becomes_an_rf64_in_bounded_memory(tmp_path):
    frames = (1 << 30) + 5  # stereo 16 bit: 4 GiB and 20 bytes
    path = tmp_path / "large.wav"
    header = riff_file(chunk(b"bext", bext()), chunk(b"fmt ", fmt(1, 2, 48000, 16)))
    path.write_bytes(header + b"data\xff\xff\xff\xff")
    with path.open("rb+") as file:
        file.truncate(len(header) + 8 + frames * 4)
    reader = wav.open(path)
    assert reader.description.shape == (frames, 2)
    writer = wav.splice(tmp_path / "out.wav", reader, reader.description)
    last = (slice(frames - 3, frames), slice(None))
    writer.write(last, np.arange(6, dtype=np.int16).reshape(3, 2))
    writer.close()
    again = wav.open(tmp_path / "out.wav")
    assert riff.walk(again.path).kind == "RF64"
    assert again.description.shape == (frames, 2) and not again.description.notes
    assert again.read(last).ravel().tolist() == list(range(6))
    if shutil.which("ffprobe"):
        command = ["ffprobe", "-v", "error", "-show_entries", "stream=duration_ts", "-of", "csv=p=0", str(again.path)]
        assert int(subprocess.run(command, capture_output=True, check=True, text=True).stdout) == frames


def test_another_suffix_makes_another_container(tmp_path):
    values = RNG.normal(size=(9, 1)).astype(np.float32)
    reader = wav.open(make(tmp_path / "a.wav", values))
    writer = wav.splice(tmp_path / "b.w64", reader, reader.description)
    writer.write(EVERYTHING, values)
    writer.close()
    assert riff.walk(tmp_path / "b.w64").kind == "W64"
    np.testing.assert_array_equal(wav.open(tmp_path / "b.w64").read(EVERYTHING), values)


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFF000])
def test_a_header_written_to_a_pipe_is_read_to_the_end_of_the_file(size, tmp_path):
    samples = np.arange(50, dtype="<i2")
    head = b"RIFF" + struct.pack("<I", size) + b"WAVE" + chunk(b"fmt ", fmt(1, 1, 8000, 16))
    path = tmp_path / "a.wav"
    path.write_bytes(head + b"data" + struct.pack("<I", size) + samples.tobytes())
    reader = wav.open(path)
    np.testing.assert_array_equal(reader.read(EVERYTHING)[:, 0], samples)
    assert reader.description.notes[0][0] == "open-ended"
    again = wav.open(identity(path, tmp_path))
    assert not again.description.notes and again.description.shape == (50, 1)


def test_a_file_without_samples_is_empty_not_open_ended(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(riff_file(chunk(b"fmt ", fmt(1, 1, 8000, 16)), chunk(b"data", b""), chunk(b"LIST", b"INFO")))
    assert wav.open(path).description.shape == (0, 1)
    assert identity(path, tmp_path).read_bytes() == path.read_bytes()


def test_odd_ends_and_forgotten_padding_are_carried(tmp_path):
    path = tmp_path / "a.wav"
    body = (
        b"WAVE" + chunk(b"fmt ", fmt(1, 1, 8000, 16)) + b"data\7\0\0\0abcdefg" + chunk(b"cue ", bytes(4)) + b"\xff\xfe!"
    )
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    reader = wav.open(path)
    assert reader.description.shape == (3, 1) and reader.description.notes[0][0] == "ragged"
    out = identity(path, tmp_path).read_bytes()
    assert out.endswith(b"abcdefg\0" + chunk(b"cue ", bytes(4)) + b"\xff\xfe!")


@pytest.mark.parametrize("suffix", [".wav", ".w64"])
def test_cut_files_give_one_error_naming_file_and_place(suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    raw = rich(bytes(range(200)))
    if suffix == ".w64":
        raw = make(path, RNG.normal(size=(50, 2)).astype(np.float32)).read_bytes()
    for cut in np.linspace(0, len(raw) - 9, 20).astype(int):
        path.write_bytes(raw[:cut])
        with pytest.raises(FormatError, match="a.w") as error:
            wav.open(path).read(EVERYTHING)
        assert error.value.where


@given(
    st.lists(st.tuples(st.sampled_from([b"LIST", b"junk", b"bext", b"id3 "]), st.binary(max_size=40)), max_size=6),
    st.binary(max_size=30),
    st.integers(0, 6),
)
@settings(max_examples=60, deadline=None)
def test_any_chunks_in_any_order_come_back(tmp_path_factory, chunks, data, place):
    folder = tmp_path_factory.mktemp("any")
    parts = [chunk(n, p) for n, p in chunks]
    samples = data[: len(data) // 2 * 2]
    parts.insert(min(place, len(parts)), chunk(b"data", samples))
    path = folder / "a.wav"
    path.write_bytes(riff_file(chunk(b"fmt ", fmt(1, 1, 8000, 16)), *parts))
    assert identity(path, folder).read_bytes() == path.read_bytes()


@given(st.binary(max_size=300), st.integers(0, 200))
@settings(max_examples=200, deadline=None)
def test_damaged_headers_raise_nothing_but_format_errors(tmp_path_factory, noise, at):
    path = tmp_path_factory.mktemp("damaged") / "a.wav"
    raw = rich(bytes(64))
    path.write_bytes(raw[:at] + noise + raw[at + len(noise) :])
    try:
        reader = wav.open(path)
        frames, channels = reader.description.shape
        assert reader.read(EVERYTHING).shape == (frames, channels)
    except FormatError:
        pass


def test_huge_claims_are_refused_before_anything_is_allocated(tmp_path):
    path = tmp_path / "a.wav"
    head = b"RIFF" + struct.pack("<I", 60) + b"WAVE" + chunk(b"fmt ", fmt(1, 1, 8000, 16))
    path.write_bytes(head + b"data" + struct.pack("<I", 3_000_000_000) + bytes(10))
    with pytest.raises(FormatError, match="cut short"):
        wav.open(path)


def test_compressed_samples_are_named_with_a_way_out(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(riff_file(chunk(b"fmt ", fmt(0x55, 1, 8000, 8)), chunk(b"data", bytes(8))))
    with pytest.raises(FormatError, match="ffmpeg"):
        wav.open(path)
    assert wav.recognise(path.read_bytes(), "a.wav") < 0.5


def test_a_region_equals_the_slice_of_the_whole_also_from_a_pickle(tmp_path):
    values = RNG.integers(-(2**23), 2**23, (1000, 3)).astype(np.int32)
    reader = pickle.loads(pickle.dumps(wav.open(make(tmp_path / "a.wav", values, 24))))
    for region in ((slice(0, 1), slice(0, 3)), (slice(17, 640), slice(1, 2)), (slice(999, 1000), slice(0, 2))):
        np.testing.assert_array_equal(reader.read(region), values[region])


def test_content_decides_not_the_suffix(tmp_path):
    values = np.zeros((4, 1), np.int16)
    for suffix in (".wav", ".w64"):
        head = make(tmp_path / f"a{suffix}", values).read_bytes()[:4096]
        assert wav.recognise(head, "a.mp3") == 1.0
    assert wav.recognise(b"fLaC", "a.wav") == 0.0


class Drip(io.BytesIO):
    """A pipe that gives a few bytes at a time."""

    def read1(self, size=-1):
        return super().read(min(size, 5) if size >= 0 else 5)


def test_a_wav_on_a_pipe_is_read_to_its_end_and_written_without_a_length(tmp_path):
    values = RNG.integers(-99, 99, (77, 2)).astype(np.int16)
    out = io.BytesIO()
    sink = wav.sink(out, wav.open(make(tmp_path / "a.wav", values)).description)
    sink.write(values[:30])
    sink.write(values[30:])
    source = wav.source(Drip(out.getvalue() + b"!"))
    blocks = []
    while len(block := source.read(16)):
        blocks.append(block)
    np.testing.assert_array_equal(np.concatenate(blocks), values)
    assert source.leftover == b"!" and source.description.shape == (-1, 2)


def test_a_pipe_with_a_known_length_stops_before_trailing_chunks(tmp_path):
    source = wav.source(io.BytesIO(rich()))
    assert source.read(100)[:, 0].tolist() == [1, 2, 3] and not len(source.read(100))


def test_foreign_chunks_of_a_wave64_travel_and_sox_reads_past_them(tmp_path):
    values = RNG.integers(-(2**15), 2**15, (101, 1)).astype(np.int16)
    path = make(tmp_path / "a.w64", values)
    raw = path.read_bytes()
    at = raw.index(b"data" + riff.W64_TAILS[1])
    guid, text = bytes(range(100, 116)), b"who made this"
    odd = guid + struct.pack("<Q", 24 + len(text)) + text
    odd += bytes(-len(odd) % 8)
    whole = raw[:at] + odd + raw[at:] + bytes(-len(raw) % 8) + odd
    path.write_bytes(whole[:16] + struct.pack("<Q", len(whole)) + whole[24:])
    out = identity(path, tmp_path)
    before, after = riff.walk(path), riff.walk(out)
    assert [c.id for c in before.chunks] == [c.id for c in after.chunks]
    assert [after.payload(c) for c in after.chunks if c.id == guid] == [text, text]
    np.testing.assert_array_equal(wav.open(out).read(EVERYTHING), values)
    if shutil.which("sox"):
        command = ["sox", out, "-t", "s16", "-"]
        heard = subprocess.run(command, capture_output=True, check=True).stdout
        assert heard.startswith(values.astype("<i2").tobytes())  # libsndfile goes on to the end of a Wave64


@pytest.mark.skipif(not shutil.which("sox"), reason="sox is not installed")
@pytest.mark.parametrize("suffix", [".wav", ".w64"])
def test_sox_reads_what_is_written(suffix, tmp_path):
    values = RNG.integers(-(2**23), 2**23, (321, 2)).astype(np.int32)
    path = identity(make(tmp_path / f"a{suffix}", values, 24), tmp_path)
    raw = subprocess.run(["sox", path, "-t", "s32", "-"], capture_output=True, check=True).stdout
    np.testing.assert_array_equal(np.frombuffer(raw, "<i4").reshape(-1, 2) >> 8, values)


@pytest.mark.skipif(not shutil.which("sox"), reason="sox is not installed")
def test_the_pipe_header_of_sox_is_understood(tmp_path):
    command = ["sox", "-r", "8000", "-n", "-b", "16", "-t", "wav", "-", "synth", "100s", "sine", "440"]
    raw = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    path = tmp_path / "a.wav"
    path.write_bytes(raw.communicate()[0])
    assert wav.open(path).description.shape == (100, 1)
    assert len(wav.source(io.BytesIO(path.read_bytes())).read(1000)) == 100
