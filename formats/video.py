# SPDX-License-Identifier: Apache-2.0
"""Clips of display images: MP4, AVI and Matroska are read, FFV1 in Matroska is written without loss.

Grey clips become (y, x, frame); a colour clip becomes grey only if its channels agree. Frame times are kept. Only
local files are opened. Read and written through PyAV (FFmpeg), the extra ``formats``.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid.core.errors import FormatError, Missing
from pellucid.core.lazy import np
from pellucid.core.types import Description, FormatTraits, Reader, Region, Writer

if TYPE_CHECKING:
    from pellucid.core.types import Array

FORMAT = FormatTraits(
    name="video",
    title="Clip (.mp4 .avi .mkv; written as FFV1 in .mkv)",
    suffixes=(".mkv",),
    writes=("compose",),
    fallback=".mkv",
    keeps="frame times; grey levels are written without loss",
)

MOST = 4 << 30  # bytes of a decoded clip
TIME = Fraction(1, 1000)  # Matroska counts milliseconds
CHROMA = 12  # levels by which the channels of a grey picture differ after JPEG-like coding, at most
LARGEST = 1 << 14  # samples on a side


def recognise(head: bytes, name: str) -> float:
    """Return how certain it is: the signature of a container."""
    if head[:4] == b"\x1aE\xdf\xa3" or (head[:4] == b"RIFF" and head[8:12] == b"AVI "):
        return 0.9
    sound = head[8:12] in (b"M4A ", b"M4B ")
    return 0.9 if head[4:8] == b"ftyp" and not sound and head[8:12] not in (b"heic", b"avif", b"crx ", b"jp2 ") else 0.0


def _av() -> Any:
    try:
        import av
    except ImportError:
        raise Missing("clips need PyAV", hint="pip install 'pellucid[formats]'") from None
    return av


def open(path: Path, **hints: Any) -> Reader:
    """Open a clip's first picture stream; every frame is decoded once, at the first read.

    Raises
    ------
    FormatError
        No pictures in it, damaged, or larger than 4 GB decoded.
    """
    path = Path(path)
    size, times, rate = _scan(path)
    if not times or not 0 < size[0] <= LARGEST or not 0 < size[1] <= LARGEST:
        raise FormatError(path, "stream", f"holds {len(times)} pictures of {size[1]} x {size[0]}")
    if size[0] * size[1] * len(times) > MOST:
        raise FormatError(
            path, "stream", f"{len(times)} pictures of {size[1]} x {size[0]} are more than 4 GB", "cut it"
        )
    steps = np.diff(times)
    step = float(np.median(steps)) if len(steps) else (1 / rate if rate else None)
    shape = (*size, len(times)) if len(times) > 1 else size
    codec_loses = path.suffix.lower() != ".mkv"
    made = Description(
        format="video",
        shape=shape,
        axes=("y", "x", "frame")[: len(shape)],
        dtype="uint8",
        kind="bmode",
        spacing=(None, None, step)[: len(shape)],
        units=(None, None, "s" if step else None)[: len(shape)],
        out_dtype="uint8",
        lossy=codec_loses,
        acquisition={"frame_times_s": [float(t) for t in times]} | ({"frame_s": step} if step else {}),
        notes=(("lossy", "the clip was decoded from a lossy stream; it is written without further loss"),)
        if codec_loses
        else (),
    )
    return VideoReader(path, made)


def _scan(path: Path) -> tuple[tuple[int, int], list[float], float]:
    """Return size (rows, columns), presentation times in seconds and the nominal rate; no picture is decoded."""
    av = _av()
    try:
        with av.open(f"file:{path.resolve()}", options={"protocol_whitelist": "file"}) as container:
            stream = next((s for s in container.streams if s.type == "video"), None)
            if stream is None:
                raise FormatError(path, "streams", "none holds pictures")
            base = stream.time_base or TIME
            times = sorted(float(p.pts * base) for p in container.demux(stream) if p.size and p.pts is not None)
            context = stream.codec_context
            return (context.height, context.width), times, float(stream.average_rate or 0)
    except (av.error.FFmpegError, ValueError, OSError) as error:
        raise FormatError(path, "file", " ".join(f"cannot be decoded ({error})".split())[:200]) from None


@dataclass
class VideoReader:
    """Grey levels (y, x[, frame])."""

    path: Path
    description: Description
    _held: list[Array] = field(default_factory=list, repr=False, compare=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def read(self, region: Region) -> Array:
        """Return stored samples."""
        with self._lock:
            if not self._held:
                self._held.append(self._decode())
        return self._held[0][region].copy()

    def _decode(self) -> Array:
        av, shape = _av(), self.description.shape
        out = np.zeros(shape if len(shape) == 3 else (*shape, 1), np.uint8)
        count = 0
        try:
            with av.open(f"file:{self.path.resolve()}", options={"protocol_whitelist": "file"}) as container:
                stream = next(s for s in container.streams if s.type == "video")
                for frame in container.decode(stream):
                    if count < out.shape[2] and (frame.height, frame.width) == shape[:2]:
                        out[:, :, count] = self._grey(frame)
                        count += 1
        except (av.error.FFmpegError, ValueError, OSError) as error:
            raise FormatError(self.path, f"frame {count}", f"cannot be decoded ({error})", "copy it again") from None
        if count != out.shape[2]:
            raise FormatError(
                self.path, f"frame {count}", f"the clip says it has {out.shape[2]} frames", "cut it short"
            )
        return out if len(shape) == 3 else out[:, :, 0]

    def _grey(self, frame: Any) -> Array:
        """Return a frame's grey levels; colours are no ultrasound echoes."""
        if frame.format.name.startswith("gray"):
            return np.asarray(frame.to_ndarray(format="gray"))
        colour = frame.to_ndarray(format="rgb24").astype(np.int16)
        spread = colour.max(-1) - colour.min(-1)
        if np.percentile(spread, 99) > CHROMA:
            raise FormatError(self.path, "colours", "the clip is coloured", "cut out its grey part, or use DICOM")
        return np.asarray(colour[..., 1], np.uint8)

    def close(self) -> None:
        """Forget the clip."""
        with self._lock:
            self._held.clear()

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if not k.startswith("_")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _held=[], _lock=threading.Lock())


def compose(path: Path, description: Description) -> Writer:
    """Write a new clip: 8-bit grey, FFV1 in Matroska."""
    return VideoWriter(Path(path), description)


class VideoWriter:
    """Writer that holds the clip and encodes it at the end."""

    def __init__(self, path: Path, output: Description) -> None:
        if output.dtype != "uint8" or len(output.shape) not in (2, 3) or output.axes[-1] == "channel":
            what = f"a clip holds 8-bit grey frames, not {output.dtype} of shape {tuple(output.shape)}"
            raise FormatError(path, "frames", what, "name the output .npy or .tif")
        if path.suffix.lower() != ".mkv":
            raise FormatError(path, "suffix", "clips are written without loss as .mkv", "name the output .mkv")
        self.path, self.output = path, output
        self._frames: Array | None = np.zeros((*output.shape, 1)[:3], np.uint8)

    def write(self, region: Region, values: Array) -> None:
        """Store frames at their place."""
        assert self._frames is not None
        target = self._frames if len(self.output.shape) == 3 else self._frames[:, :, 0]
        target[region] = values

    def close(self) -> None:
        """Encode and flush to disk."""
        if self._frames is None:
            return
        av, (frames, self._frames) = _av(), (self._frames, None)
        step = self.output.acquisition.get("frame_s") or 0.04
        times = self.output.acquisition.get("frame_times_s") or []
        with av.open(str(self.path), "w", format="matroska") as container:
            stream = container.add_stream("ffv1", rate=Fraction(1 / step).limit_denominator(1000))
            stream.height, stream.width, stream.pix_fmt = frames.shape[0], frames.shape[1], "gray"
            stream.time_base = stream.codec_context.time_base = TIME
            for i in range(frames.shape[2]):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(frames[:, :, i]), format="gray")
                seconds = times[i] if len(times) == frames.shape[2] else i * step
                frame.pts, frame.time_base = round(seconds * 1000), TIME
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        fd = os.open(self.path, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)
