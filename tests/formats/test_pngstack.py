# SPDX-License-Identifier: Apache-2.0
"""A folder of numbered PNGs is one cine."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import imagecodecs
import numpy as np
import pytest

from pellucid.core.errors import FormatError
from pellucid.formats import find, pngstack

CINE = np.random.default_rng(0).integers(0, 256, (30, 40, 12)).astype(np.uint8)


def stack(folder: Path, values: np.ndarray = CINE, name: str = "frame_{}.png") -> Path:
    folder.mkdir()
    for k in range(values.shape[2]):
        (folder / name.format(k)).write_bytes(imagecodecs.png_encode(np.ascontiguousarray(values[:, :, k])))
    return folder


def everything(reader: pngstack.StackReader) -> tuple[slice, ...]:
    return tuple(slice(0, n) for n in reader.description.shape)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_frames_come_in_the_order_of_their_numbers(dtype: type, tmp_path: Path) -> None:
    values = CINE.astype(dtype) * (1 if dtype == np.uint8 else 257)
    reader = pngstack.open(stack(tmp_path / "cine", values))  # frame_10 comes after frame_9
    d = reader.description
    assert d.axes == ("y", "x", "frame") and d.kind == "bmode" and d.dtype == np.dtype(dtype).name
    assert np.array_equal(reader.read(everything(reader)), values)
    region = (slice(3, 9), slice(1, 30), slice(2, 7))
    assert np.array_equal(pickle.loads(pickle.dumps(reader)).read(region), values[region])


def test_names_chunks_and_companions_are_kept(tmp_path: Path) -> None:
    folder = stack(tmp_path / "cine")
    (folder / "times.txt").write_text("0 40 80")
    reader = pngstack.open(folder)
    writer = pngstack.splice(tmp_path / "out", reader, reader.description)
    writer.write(everything(reader), 255 - CINE)
    writer.close()
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(p.name for p in folder.iterdir())
    second = imagecodecs.png_decode((tmp_path / "out" / "frame_11.png").read_bytes())
    assert np.array_equal(second, 255 - CINE[:, :, 11])


def test_private_stacks_hold_frames_only(tmp_path: Path) -> None:
    folder = stack(tmp_path / "cine")
    (folder / "doe.txt").write_text("Jane Doe")
    pngstack.anonymise(folder)
    assert not (folder / "doe.txt").exists() and len(list(folder.iterdir())) == 12
    made = pngstack.open(folder)
    assert np.array_equal(made.read(everything(made)), CINE)


def test_only_a_cine_is_recognised(tmp_path: Path) -> None:
    assert pngstack.recognise_folder(stack(tmp_path / "cine")) > 0.5
    assert pngstack.recognise_folder(stack(tmp_path / "one", CINE[:, :, :1])) == 0
    mixed = stack(tmp_path / "mixed")
    (mixed / "other_3.png").write_bytes((mixed / "frame_0.png").read_bytes())
    assert pngstack.recognise_folder(mixed) == 0
    uneven = stack(tmp_path / "uneven")
    (uneven / "frame_5.png").write_bytes(imagecodecs.png_encode(CINE[:20, :, 0].copy()))
    assert pngstack.recognise_folder(uneven) == 0
    with pytest.raises(FormatError, match="first frame"):
        pngstack.open(uneven)
    (tmp_path / "empty").mkdir()
    assert pngstack.recognise_folder(tmp_path / "empty") == 0
    with pytest.raises(FormatError, match="numbered"):
        pngstack.open(tmp_path / "empty")


def test_colours_and_cut_frames_are_said(tmp_path: Path) -> None:
    colour = tmp_path / "colour"
    colour.mkdir()
    for k in range(3):
        (colour / f"{k}.png").write_bytes(imagecodecs.png_encode(np.stack([CINE[:, :, k]] * 3, -1)))
    assert pngstack.open(colour).description.kind == "rgb"
    folder = stack(tmp_path / "cine")
    (folder / "frame_3.png").write_bytes((folder / "frame_3.png").read_bytes()[:60])
    with pytest.raises(FormatError):
        pngstack.open(folder)


def test_the_shell_takes_and_gives_a_folder(tmp_path: Path) -> None:
    folder = stack(tmp_path / "cine")
    words = [sys.executable, "-m", "pellucid", "ultrasound", "denoise", str(folder), "-q", "-m", "identity"]
    subprocess.run(words, check=True, capture_output=True)
    refused = subprocess.run([*words, "-o", str(tmp_path / "x.png")], capture_output=True, text=True)
    assert refused.returncode == 2 and "folder" in refused.stderr and not (tmp_path / "x.png").exists()
    made = pngstack.open(tmp_path / "cine_denoised")
    assert np.array_equal(made.read(everything(made)), CINE)
    assert find.candidates(tmp_path / "cine_denoised")[0][1] == "pngstack"
