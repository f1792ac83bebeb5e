# SPDX-License-Identifier: Apache-2.0
"""Sound that is read through libsndfile and written as WAV or FLAC."""

import pickle
import shutil
import subprocess

import numpy as np
import pytest

from pellucid.core.errors import FormatError
from pellucid.formats import sound, wav

EVERYTHING = (slice(None), slice(None))
FACTS = {  # frames, channels, rate, lossy
    "bus_48k.opus": (36_682, 1, 48_000, True),
    "stereo_44k1_vorbis.ogg": (399_396, 2, 44_100, True),
    "stereo_44k1.mp3": (111_744, 2, 44_100, True),
    "nist_sphere.sph": (46_242, 1, 16_000, False),
}


@pytest.mark.parametrize("name", FACTS)
def test_real_files_are_recognised_and_described(name, shared_data):
    path = shared_data(f"speech/formats/{name}")
    frames, channels, rate, lossy = FACTS[name]
    assert sound.recognise(path.read_bytes()[:4096], name) >= 0.8
    description = sound.open(path).description
    assert description.shape == (frames, channels)
    assert description.acquisition["rate_hz"] == rate
    assert description.lossy is lossy


def test_the_nist_file_has_its_known_level(shared_data):
    reader = sound.open(shared_data("speech/formats/nist_sphere.sph"))
    x = reader.read(EVERYTHING)[:, 0] * reader.description.slope
    assert np.sqrt(np.mean(x**2)) == pytest.approx(0.0954, abs=1e-4)
    assert np.corrcoef(x[1:], x[:-1])[0, 1] == pytest.approx(0.972, abs=1e-3)


@pytest.mark.parametrize("name", FACTS)
def test_a_region_equals_the_slice_of_the_whole_also_from_a_pickle(name, shared_data):
    reader = sound.open(shared_data(f"speech/formats/{name}"))
    whole = reader.read(EVERYTHING)
    assert whole.dtype == reader.description.dtype and whole.shape == reader.description.shape
    reader = pickle.loads(pickle.dumps(reader))
    n = len(whole)
    for a, b in ((n // 2, n // 2 + 3000), (10, 500), (n - 1, n), (0, 1)):
        np.testing.assert_array_equal(reader.read((slice(a, b), slice(None))), whole[a:b])
    reader.close()


@pytest.mark.parametrize("name", FACTS)
def test_the_output_is_a_lossless_wav_of_the_same_samples(name, tmp_path, shared_data):
    reader = sound.open(shared_data(f"speech/formats/{name}"))
    assert not sound.FORMAT.writes
    values = reader.read(EVERYTHING)
    writer = wav.compose(tmp_path / "a.wav", reader.description)
    writer.write(EVERYTHING, values)
    writer.close()
    again = wav.open(tmp_path / "a.wav")
    physical = again.read(EVERYTHING) * again.description.slope + again.description.inter
    np.testing.assert_array_equal(physical, values * reader.description.slope)


@pytest.mark.parametrize("container", ["AU", "CAF", "AIFF"])
@pytest.mark.parametrize("subtype", ["PCM_S8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_samples_of_other_containers_are_exact(container, subtype, tmp_path):
    soundfile = pytest.importorskip("soundfile")
    bits = sound.STORED[subtype][1]
    rng = np.random.default_rng(3)
    if subtype in ("FLOAT", "DOUBLE"):
        wide = rng.normal(size=(333, 2)).astype("float32" if subtype == "FLOAT" else "float64")
        expected = wide
    else:
        expected = rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (333, 2))
        wide = (expected << (32 - bits)).astype(np.int32)
    soundfile.write(tmp_path / "a", wide, 15_625, format=container, subtype=subtype)
    reader = sound.open(tmp_path / "a")
    if bits == 8:  # widened: the WAV that comes out holds 8 bits unsigned only
        expected, bits = expected * 256, 16
    np.testing.assert_array_equal(reader.read(EVERYTHING), expected)
    assert reader.description.slope == (2.0 ** (1 - bits) if subtype.startswith("PCM") else 1)


def test_a_law_in_wav_is_left_to_the_decoder(tmp_path):
    soundfile = pytest.importorskip("soundfile")
    soundfile.write(tmp_path / "a.wav", np.zeros(99), 8000, subtype="ALAW")
    head = (tmp_path / "a.wav").read_bytes()[:4096]
    assert sound.recognise(head, "a.wav") > wav.recognise(head, "a.wav")
    assert sound.open(tmp_path / "a.wav").description.lossy


@pytest.mark.parametrize("name", FACTS)
def test_cut_files_give_format_errors_or_whole_samples(name, tmp_path, shared_data):
    raw = shared_data(f"speech/formats/{name}").read_bytes()
    path = tmp_path / name
    for cut in np.linspace(0, len(raw) - 1, 20).astype(int):
        path.write_bytes(raw[:cut])
        try:
            reader = sound.open(path)
            assert reader.read(EVERYTHING).shape == reader.description.shape
        except FormatError as error:
            assert error.hint
        if cut < 50:
            with pytest.raises(FormatError):
                sound.open(path)


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="ffmpeg is not installed")
def test_sounds_that_cannot_be_decoded_name_the_way_out(tmp_path):
    path = tmp_path / "a.m4a"
    subprocess.run(["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "sine=d=0.1", path], check=True)
    with pytest.raises(FormatError, match="ffmpeg"):
        sound.open(path)


@pytest.mark.skipif(not shutil.which("sox"), reason="sox is not installed")
@pytest.mark.parametrize("suffix,bits", [(".sph", 16), (".au", 24), (".caf", 16)])
def test_what_sox_writes_is_read_sample_for_sample(suffix, bits, tmp_path):
    rng = np.random.default_rng(4)
    values = rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (501, 2)) << (32 - bits)
    path = tmp_path / f"a{suffix}"
    command = ["sox", "-t", "s32", "-r", "16000", "-c", "2", "-", "-D", "-b", str(bits), path]
    subprocess.run(command, input=values.astype("<i4").tobytes(), capture_output=True, check=True)
    reader = sound.open(path)
    assert reader.description.acquisition["rate_hz"] == 16000
    np.testing.assert_array_equal(reader.read(EVERYTHING), values >> (32 - bits))
