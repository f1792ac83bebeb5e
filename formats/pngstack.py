# SPDX-License-Identifier: Apache-2.0
"""A cine kept as a folder of numbered PNGs of one size: grey frames in, the same names out."""

from __future__ import annotations

import os
import re
import shutil
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid.core.errors import FormatError
from pellucid.core.lazy import np
from pellucid.core.types import Description, FormatTraits, Reader, Region, Writer
from pellucid.formats import png

if TYPE_CHECKING:
    from pellucid.core.types import Array

FORMAT = FormatTraits(
    name="pngstack",
    title="Folder of numbered PNGs",
    suffixes=(".png",),
    writes=("splice",),
    keeps="names of the frames, every chunk but the pixels, other files of the folder",
)

NUMBERED = re.compile(r"^(.*?)(\d+)\.png$", re.I)
MOST_FILES = 100_000
MOST = 4 << 30  # bytes of decoded frames
HEAD = 29  # bytes: signature and the start of IHDR


def recognise(head: bytes, name: str) -> float:
    """Return 0: single files are pictures."""
    return 0.0


def recognise_folder(path: Path) -> float:
    """Return how certain it is: two and more numbered PNGs of one size and type, and hardly anything else."""
    try:
        found = frames(path)
        others = [p for p in path.iterdir() if p.is_dir() or p.suffix.lower() in (".dcm", ".tif", ".jpg")]
        heads = {_shape(p) for p in found}
    except OSError:
        return 0.0
    return 0.9 if len(found) > 1 and not others and len(heads) == 1 and None not in heads else 0.0


def frames(folder: Path) -> list[Path]:
    """Return the numbered PNGs of a folder in order of their number; none where names have several stems."""
    matched = [(m, p) for p in folder.iterdir() if (m := NUMBERED.match(p.name)) and not p.name.startswith(".")]
    if len(matched) > MOST_FILES or len({m[1] for m, _ in matched}) != 1:
        return []
    if len({int(m[2]) for m, _ in matched}) != len(matched):
        return []
    return [p for _, p in sorted(matched, key=lambda pair: int(pair[0][2]))]


def _shape(path: Path) -> tuple[int, ...] | None:
    """Return width, height, depth and colour type, None where it is no PNG."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    if len(head) < HEAD or not head.startswith(png.SIGNATURE):
        return None
    found: tuple[int, ...] = struct.unpack(">IIBB", head[16:26])
    return found


def open(path: Path, **hints: Any) -> StackReader:
    """Read the headers of all frames.

    Raises
    ------
    FormatError
        Frames of different size or type, damaged ones, or more than 4 GB of them.
    """
    path = Path(path)
    try:
        found = frames(path)
    except OSError as error:
        raise FormatError(path, "folder", error.strerror or "cannot be read") from error
    if not found:
        raise FormatError(path, "folder", "holds no PNGs that are numbered alike", "name them frame_0001.png ...")
    readers = [png.open(p) for p in found]
    first = readers[0].description
    for reader in readers:
        d = reader.description
        if (d.shape, d.dtype, d.kind) != (first.shape, first.dtype, first.kind):
            what = f"is {d.dtype} of {d.shape}, the first frame {first.dtype} of {first.shape}"
            raise FormatError(reader.path, "frame", what, "keep one cine in a folder")
    if int(np.prod(first.shape)) * np.dtype(first.dtype).itemsize * len(readers) > MOST:
        raise FormatError(path, "frames", "are more than 4 GB", "split the cine")
    grey = len(first.shape) == 2
    count = (len(readers),) if grey and len(readers) > 1 else ()
    made = Description(
        format="pngstack",
        shape=(*first.shape, *count),
        axes=(*first.axes, *(("frame",) if count else ())),
        dtype=first.dtype,
        kind="bmode" if first.kind == "intensity" else first.kind,
        spacing=(None,) * (len(first.shape) + len(count)),
        units=(None,) * (len(first.shape) + len(count)),
        out_dtype=first.dtype,
        acquisition={"bits": first.acquisition["bits"]},
        notes=first.notes,
    )
    return StackReader(path, made, readers)


def anonymise(path: Path) -> None:
    """Drop texts and times of every frame, and files that are no frames: they may name people."""
    kept = frames(path)
    for frame in kept:
        png.anonymise(frame)
    for other in sorted(path.iterdir()):
        if other.is_file() and other not in kept:
            other.unlink()


class StackReader:
    """Grey frames (y, x, frame); each is decoded once and kept."""

    def __init__(self, path: Path, description: Description, readers: list[png.PngReader]) -> None:
        self.path, self.description, self.readers = path, description, readers

    def read(self, region: Region) -> Array:
        """Return stored samples."""
        if self.description.series != "frame":
            return self.readers[0].read(region)
        chosen = self.readers[region[2]]
        out = np.empty([s.stop - s.start for s in region], self.description.dtype)
        for k, reader in enumerate(chosen):
            out[..., k] = reader.read(region[:2])
        return out

    def close(self) -> None:
        """Forget the frames."""
        for reader in self.readers:
            reader.close()


def splice(path: Path, source: Reader, output: Description) -> Writer:
    """Write a folder with the same frames of other samples."""
    if not isinstance(source, StackReader):
        raise FormatError(path, "format", "is only written from a folder of PNGs", "name the output .mkv or .npy")
    if Path(path).suffix:
        raise FormatError(path, "name", "a stack of PNGs needs a folder", "name the output without a suffix, or .mkv")
    return StackWriter(Path(path), source, output)


class StackWriter:
    """A folder in the making: frames are gathered and encoded at the end."""

    def __init__(self, path: Path, source: StackReader, output: Description) -> None:
        held = source.description
        if tuple(output.shape) != tuple(held.shape) or output.axes[-1] != "frame":
            raise FormatError(path, "frames", f"of {tuple(output.shape)} are not those of the folder", "name a file")
        path.mkdir(exist_ok=True)
        self.path, self.source = path, source
        one = output.with_(shape=tuple(output.shape[:2]), axes=tuple(output.axes[:2]))
        self._writers = [png.splice(path / r.path.name, r, one) for r in source.readers]

    def write(self, region: Region, values: Array) -> None:
        """Store samples at their place."""
        for k, writer in enumerate(self._writers[region[2]]):
            writer.write(region[:2], values[..., k])

    def close(self) -> None:
        """Encode every frame; times and lists that lay beside them are copied."""
        for writer in self._writers:
            writer.close()
        names = {r.path.name for r in self.source.readers}
        for other in sorted(self.source.path.iterdir()):
            if other.is_file() and other.name not in names and not other.name.endswith(".pellucid.json"):
                shutil.copyfile(other, self.path / other.name)
        fd = os.open(self.path, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)
