# SPDX-License-Identifier: Apache-2.0
"""Clarius raw files: the layout of Doppler data, what travels, what is refused."""

from __future__ import annotations

import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pellucid.core import restore
from pellucid.core.errors import FormatError
from pellucid.formats import clarius

Data = Callable[[str], Path]


def everything(reader: Any) -> tuple[slice, ...]:
    return tuple(slice(0, n) for n in reader.description.shape)


def made(path: Path, frames: int, values: np.ndarray, size: int) -> Path:
    """Write a file of frames of (line, sample) samples."""
    head = struct.pack("<5I", 1, frames, values.shape[0], values.shape[1], size)
    path.write_bytes(head + b"".join(struct.pack("<Q", i * 10**7) + values.tobytes() for i in range(frames)))
    return path


def test_doppler_pulses_are_found_to_be_the_fastest_index(shared_data: Data) -> None:
    reader = clarius.open(shared_data("ultrasound/clarius/carotid_iq.raw"))
    d = reader.description
    assert d.shape == (352, 104, 12) and d.axes == ("axial", "lateral", "frame") and d.dtype == "complex64"
    assert (d.kind, d.acquisition["fs_hz"], d.acquisition["fc_hz"], d.acquisition["ensemble"]) == ("iq", 15e6, 5e6, 12)
    assert "fastest" in d.notes[0][1]
    raw = np.fromfile(reader.path, "<i2", offset=28).reshape(104, 352, 12, 2)
    whole = reader.read(everything(reader))
    assert np.array_equal(whole.real, raw[..., 0].transpose(1, 0, 2))
    assert np.array_equal(whole.imag, raw[..., 1].transpose(1, 0, 2))
    region = (slice(30, 50), slice(7, 20), slice(2, 9))
    assert np.array_equal(pickle.loads(pickle.dumps(reader)).read(region), whole[region])


def test_lines_bring_their_element_and_the_angle_they_share(shared_data: Data) -> None:
    flow = clarius.open(shared_data("ultrasound/clarius/carotid_iq.raw")).description.acquisition
    assert flow["line_elements"] == list(range(30, 134)) and flow["steer_rad"] == pytest.approx(np.deg2rad(15))
    shown = clarius.open(shared_data("ultrasound/clarius/carotid_env.raw")).description.acquisition
    assert len(shown["line_elements"]) == 304 and shown["steer_rad"] == 0
    assert shown["line_elements"][1] == pytest.approx(0.6304, abs=1e-4)


def test_the_ensemble_is_found_without_the_parameter_file(shared_data: Data, tmp_path: Path) -> None:
    bare = tmp_path / "other.bin"
    shutil.copy(shared_data("ultrasound/clarius/carotid_iq.raw"), bare)
    assert clarius.recognise(bare.read_bytes()[:4096], str(bare)) > 0.5
    assert clarius.open(bare).description.shape == (352, 104, 12)


def test_pulses_stored_as_lines_are_found_too(shared_data: Data, tmp_path: Path) -> None:
    source = shared_data("ultrasound/clarius/carotid_iq.raw")
    words = np.fromfile(source, "<u4", offset=28).reshape(104, 352, 12).transpose(0, 2, 1)
    path = tmp_path / "lines.raw"
    path.write_bytes(source.read_bytes()[:28] + np.ascontiguousarray(words).tobytes())
    shutil.copy(source.with_suffix(".yml"), path.with_suffix(".yml"))
    reader, true = clarius.open(path), clarius.open(source)
    assert "successive lines" in reader.note
    assert np.array_equal(reader.read(everything(reader)), true.read(everything(true)))


def test_envelopes_are_display_lines_with_depth_first(shared_data: Data) -> None:
    reader = clarius.open(shared_data("ultrasound/clarius/carotid_env.raw"))
    d = reader.description
    assert (d.shape, d.kind, d.dtype, d.acquisition["fc_hz"]) == ((592, 304), "bmode", "uint8", 10e6)
    values = reader.read(everything(reader))
    assert values.mean() == pytest.approx(44.529, abs=1e-3)
    assert d.spacing[0] == pytest.approx(1.54e6 / 2 / 15e6)


@pytest.mark.parametrize("name", ["carotid_iq", "carotid_env"])
def test_the_same_samples_give_the_same_file(name: str, shared_data: Data, tmp_path: Path) -> None:
    source = clarius.open(shared_data(f"ultrasound/clarius/{name}.raw"))
    target = tmp_path / "out.raw"
    values = source.read(everything(source))
    writer = clarius.splice(target, source, source.description)
    half = values.shape[1] // 2
    for part in (slice(half, values.shape[1]), slice(0, half)):
        region = (slice(0, values.shape[0]), part, *everything(source)[2:])
        writer.write(region, values[region])
    writer.close()
    assert target.read_bytes() == source.path.read_bytes()
    assert target.with_suffix(".yml").read_bytes() == source.path.with_suffix(".yml").read_bytes()


def test_complex_results_are_rounded_as_they_will_read_back(shared_data: Data, tmp_path: Path) -> None:
    source = clarius.open(shared_data("ultrasound/clarius/carotid_iq.raw"))
    values = source.read(everything(source)) * np.complex64(0.3 + 5j)
    stored, _ = restore.stored(values, source.description, everything(source))
    writer = clarius.splice(tmp_path / "out.raw", source, source.description)
    writer.write(everything(source), stored)
    writer.close()
    again = clarius.open(tmp_path / "out.raw")
    assert np.array_equal(again.read(everything(again)), stored)


def test_cines_keep_the_time_of_every_frame(tmp_path: Path) -> None:
    values = np.arange(12, dtype="<i2").reshape(3, 4)
    path = made(tmp_path / "rf.raw", 5, values, 2)
    path.with_suffix(".yml").write_text("# raw data parameters\n\nframe rate: 18 Hz\ntype: RF\nsampling rate: 30 MHz\n")
    reader = clarius.open(path)
    assert (reader.description.shape, reader.description.kind) == ((4, 3, 5), "rf")
    assert np.array_equal(reader.read(everything(reader))[..., 3], values.T)
    writer = clarius.splice(tmp_path / "out.raw", reader, reader.description)
    writer.write(everything(reader), -reader.read(everything(reader)))
    writer.close()
    assert (tmp_path / "out.raw").read_bytes()[20 + 3 * 32 : 28 + 3 * 32] == struct.pack("<Q", 3 * 10**7)


def test_damaged_and_packed_files_end_in_one_line(tmp_path: Path) -> None:
    path = made(tmp_path / "a.raw", 2, np.zeros((3, 4), "<i2"), 2)
    data = path.read_bytes()
    for bad in (data[:-1], data[:23], data + b"x", struct.pack("<5I", 1, 2**31, 2**31, 2**31, 4) + data[20:]):
        path.write_bytes(bad)
        with pytest.raises(FormatError) as found:
            clarius.open(path)
        assert "\n" not in str(found.value)
    path.write_bytes(clarius.LZOP + bytes(100))
    with pytest.raises(FormatError, match="lzop -d"):
        clarius.open(path)
