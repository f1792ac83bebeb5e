# SPDX-License-Identifier: Apache-2.0
"""Clips: lossless both ways, times kept, colours and other streams refused."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from pellucid.core.errors import FormatError
from pellucid.core.types import Description
from pellucid.formats import find, video

av = pytest.importorskip("av")
FRAMES = np.random.default_rng(0).integers(0, 256, (48, 64, 7)).astype(np.uint8)
EVERYTHING = tuple(slice(0, n) for n in FRAMES.shape)


def clip(path: Path, **facts: object) -> Path:
    writer = video.compose(path, Description("video", FRAMES.shape, ("y", "x", "frame"), "uint8", acquisition=facts))
    writer.write(EVERYTHING, FRAMES)
    writer.close()
    return path


def foreign(path: Path, pixels: np.ndarray, form: str) -> Path:
    """Encode a clip in a lossy codec: (frame, y, x[, 3])."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=20)
        stream.height, stream.width, stream.pix_fmt = pixels.shape[1], pixels.shape[2], "yuv420p"
        for picture in pixels:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format=form)))
        container.mux(stream.encode())
    return path


def test_frames_and_their_times_read_back(tmp_path: Path) -> None:
    times = [0.0, 0.03, 0.07, 0.1, 0.15, 0.2, 0.21]
    path = clip(tmp_path / "a.mkv", frame_s=0.03, frame_times_s=times)
    assert find.candidates(path)[0][1] == "video"
    reader = video.open(path)
    assert np.array_equal(reader.read(EVERYTHING), FRAMES)
    assert reader.description.acquisition["frame_times_s"] == pytest.approx(times)
    region = (slice(3, 20), slice(5, 9), slice(2, 4))
    assert np.array_equal(pickle.loads(pickle.dumps(reader)).read(region), FRAMES[region])
    reader.close()


def test_a_grey_clip_of_a_lossy_codec_is_read_and_said_to_be_lossy(tmp_path: Path) -> None:
    z, x = np.mgrid[0:48, 0:64]
    smooth = np.stack([(z + 2 * x + 3 * t).astype(np.uint8) for t in range(6)])
    reader = video.open(foreign(tmp_path / "a.mp4", smooth, "gray"))
    assert reader.description.lossy and reader.description.notes[0][0] == "lossy"
    assert reader.description.spacing[2] == pytest.approx(0.05)
    shown = reader.read(tuple(slice(0, n) for n in reader.description.shape)).transpose(2, 0, 1).astype(int)
    assert np.abs(shown - smooth).mean() < 4


def test_a_coloured_clip_is_refused(tmp_path: Path) -> None:
    red = np.zeros((3, 48, 64, 3), np.uint8)
    red[..., 0] = 200
    reader = video.open(foreign(tmp_path / "a.avi", red, "rgb24"))
    with pytest.raises(FormatError, match="coloured"):
        reader.read((slice(0, 48), slice(0, 64), slice(0, 3)))


def test_nothing_lossy_is_written_and_damage_ends_in_one_line(tmp_path: Path) -> None:
    made = Description("video", FRAMES.shape, ("y", "x", "frame"), "uint8")
    with pytest.raises(FormatError, match="mkv"):
        video.compose(tmp_path / "a.mp4", made)
    with pytest.raises(FormatError, match="8-bit"):
        video.compose(tmp_path / "a.mkv", made.with_(dtype="float32"))
    data = clip(tmp_path / "b.mkv").read_bytes()
    for i in range(1, 8):
        (tmp_path / "c.mkv").write_bytes(data[: len(data) * i // 8])
        try:
            reader = video.open(tmp_path / "c.mkv")
            got = reader.read(tuple(slice(0, n) for n in reader.description.shape))
        except FormatError as error:
            assert "\n" not in str(error)
            continue
        assert got.size < FRAMES.size
