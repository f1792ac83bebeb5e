# SPDX-License-Identifier: Apache-2.0
"""Clarius raw data: ``.raw`` with a ``.yml`` beside it; pre-scan B-mode, RF, IQ and Doppler ensembles.

Header: five little-endian uint32 (id, frames, lines, samples, bytes a sample), then for each frame a
uint64 time in ns and ``lines x samples`` samples. In Doppler data the pulses of an ensemble are the
fastest index although the header counts them as lines; both layouts are tried, and the one whose
successive pulses agree is taken. The ``.yml`` is not YAML everywhere and is read line by line.
"""

from __future__ import annotations

import math
import mmap
import os
import re
import shutil
import struct
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid.core.errors import FormatError
from pellucid.core.lazy import np
from pellucid.core.types import Description, FormatTraits, Reader, Region, Writer
from pellucid.formats import archive_private

if TYPE_CHECKING:
    from pellucid.core.types import Array

FORMAT = FormatTraits(
    name="clarius",
    title="Clarius raw data",
    suffixes=(".raw",),
    writes=("splice",),
    keeps="header, time of every frame, the .yml beside",
)

HEAD, TIME = 20, 8  # bytes
LZOP = b"\x89LZO\0\r\n\x1a\n"
LARGEST_TEXT = 1 << 22  # bytes of a .yml that are looked at
LOOK = 1 << 22  # bytes of samples the layout is judged by
PULSES = range(4, 65)  # pulses of an ensemble
C_M_S = 1540.0  # speed of sound the scanner assumes; the file does not say it
STORED = {1: ("uint8", "bmode"), 2: ("int16", "rf"), 4: ("complex64", "iq")}
MEGA = {"MHz": 1e6, "kHz": 1e3, "Hz": 1.0}
anonymise = archive_private.clarius


@dataclass(frozen=True)
class Header:
    """The five numbers at the start."""

    number: int
    frames: int
    lines: int
    samples: int
    bytes: int

    @property
    def frame(self) -> int:
        """Bytes of a frame, without its time."""
        return self.lines * self.samples * self.bytes

    @property
    def size(self) -> int:
        """Bytes the file must have."""
        return HEAD + self.frames * (TIME + self.frame)


@dataclass(frozen=True)
class Layout:
    """How the samples of a frame are ordered: ``pulses`` a line, as the fastest index or as lines."""

    pulses: int = 1
    fastest: bool = True

    def shape(self, header: Header) -> tuple[int, int, int]:
        """Return the sizes of a frame in file order, slowest first."""
        lines = header.lines // self.pulses
        return (lines, header.samples, self.pulses) if self.fastest else (lines, self.pulses, header.samples)


def recognise(head: bytes, name: str) -> float:
    """Return how certain it is: the size follows from the header, or a ``.yml`` lies beside."""
    path = Path(name)
    if head.startswith(LZOP):
        return 0.9 if name.endswith(".raw.lzo") else 0.0
    if len(head) < HEAD + TIME:
        return 0.0
    header = _header(head)
    if header.bytes not in STORED or not (header.frames and header.lines and header.samples):
        return 0.0
    try:
        if path.stat().st_size == header.size:
            return 0.9
        beside = _beside(path)
        return 0.6 if beside is not None and "raw data parameters" in _text(beside)[:200] else 0.0
    except OSError:
        return 0.0


def open(path: Path, **hints: Any) -> ClariusReader:
    """Read header and parameters, and find out the layout of Doppler data.

    Raises
    ------
    FormatError
        Truncated, packed with lzop, or sizes that are impossible.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            head = file.read(HEAD + TIME)
            size = file.seek(0, 2)
    except OSError as error:
        raise FormatError(path, "file", error.strerror or "cannot be read") from error
    if head.startswith(LZOP):
        raise FormatError(path, "file", "is packed with lzop", "unpack it first: lzop -d FILE")
    if len(head) < HEAD + TIME:
        raise FormatError(path, f"byte {len(head)}", "the file ends within its header", "copy it again")
    header = _header(head)
    if header.bytes not in STORED or min(header.frames, header.lines, header.samples) < 1:
        raise FormatError(path, "header", f"{header.lines} lines of {header.bytes}-byte samples are impossible")
    if size != header.size:
        what = f"{header.frames} frames need {header.size} bytes, the file has {size}"
        raise FormatError(path, f"byte {size}", what, "copy it again from its source")
    beside = _beside(path)
    return ClariusReader(path, header, beside)


def _header(head: bytes) -> Header:
    return Header(*struct.unpack("<5I", head[:HEAD]))


def _beside(path: Path) -> Path | None:
    """Return the parameter file of a raw file."""
    return next((p for s in (".yml", ".yaml") if (p := path.with_suffix(s)).is_file()), None)


def _text(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(LARGEST_TEXT).decode("utf-8", "replace")


def parameters(text: str) -> dict[str, Any]:
    """Return what the lines of a ``.yml`` say: frequencies in Hz, ``type``, ``rx`` elements in order."""
    found: dict[str, Any] = {}
    for key, name in (
        ("sampling rate", "fs_hz"), ("transmit frequency", "fc_hz"), ("frame rate", "rate_hz"), ("prf", "prf_hz"),
    ):  # fmt: skip
        if hit := re.search(rf"^\s*{key}:\s*([\d.]+)\s*([kM]?Hz)", text, re.M | re.I):
            found[name] = float(hit[1]) * MEGA.get(hit[2], 1.0)
    if hit := re.search(r"^delay samples:\s*(\d+)", text, re.M):
        found["delay"] = int(hit[1])
    if hit := re.search(r"^type:\s*(.+?)\s*$", text, re.M):
        found["type"] = hit[1]
    found["rx"] = [float(v) for v in re.findall(r"^\s*-\s*\{\s*rx element:\s*(-?[\d.]+)", text, re.M)]
    found["turns"] = [float(v) for v in re.findall(r"^\s*-\s*\{\s*rx element:.*?angle:\s*(-?[\d.]+)", text, re.M)]
    return found


class ClariusReader:
    """Samples as (axial, lateral[, frame]); the pulses of Doppler ensembles are frames."""

    def __init__(self, path: Path, header: Header, beside: Path | None) -> None:
        self.path, self.header, self.beside = path, header, beside
        self.said = parameters(_text(beside)) if beside is not None else {}
        self.layout, self.note = self._find_layout()
        self.description = self._describe()

    def read(self, region: Region) -> Array:
        """Return stored samples; whole lines are read."""
        axial, lateral = region[0], region[1]
        frames = region[2] if len(region) > 2 else slice(0, 1)
        pulses = self.layout.pulses
        parts = []
        for index in range(frames.start // pulses, -(-frames.stop // pulses)):
            first = max(frames.start - index * pulses, 0)
            block = self._lines(index, lateral)[axial, :, first : min(frames.stop - index * pulses, pulses)]
            parts.append(block)
        values = np.concatenate(parts, axis=2)
        return np.ascontiguousarray(values if len(region) > 2 else values[:, :, 0])

    def _lines(self, index: int, lateral: slice) -> Array:
        """Return lines of one frame, ``(axial, lateral, pulse)``."""
        shape = self.layout.shape(self.header)
        line = shape[1] * shape[2] * self.header.bytes
        start = HEAD + index * (TIME + self.header.frame) + TIME + lateral.start * line
        count = (lateral.stop - lateral.start) * line
        with self.path.open("rb") as file:
            data = os.pread(file.fileno(), count, start)
        if len(data) < count:
            raise FormatError(self.path, f"byte {start + len(data)}", "the file ends early", "copy it again")
        return _turn(_samples(data, self.header.bytes).reshape(-1, *shape[1:]), self.layout)

    def close(self) -> None:
        """Hold nothing open."""

    def _find_layout(self) -> tuple[Layout, str]:
        """Return the layout and what decided it."""
        runs = [len(list(g)) for _, g in groupby(self.said.get("rx", []))]
        if self.header.bytes != 4:
            return Layout(), ""
        stream = _samples(self._stretch(), 4)
        said = runs[0] if runs and len(set(runs)) == 1 and runs[0] * len(runs) == self.header.lines else 0
        pulses = said or _ensemble(stream, self.header.lines)
        if pulses < 2:
            return Layout(), ""
        best = {}
        for layout in (Layout(pulses, True), Layout(pulses, False)):
            shape = layout.shape(self.header)
            whole = len(stream) // (shape[1] * shape[2])
            block = _turn(stream[: whole * shape[1] * shape[2]].reshape(whole, *shape[1:]), layout)
            best[layout] = coherence(block)
        first, second = sorted(best, key=lambda k: -best[k])
        where = "the fastest index" if first.fastest else "successive lines"
        text = f"{pulses} pulses a line, taken as {where}: their lag-1 coherence is {best[first]:.3f}"
        return first, f"{text}, and {best[second]:.3f} the other way"

    def _stretch(self) -> bytes:
        """Return whole lines from the middle of the first frame."""
        line = self.header.samples * self.header.bytes
        count = max(1, min(self.header.lines, LOOK // line))
        if self.header.lines >= 64 and count > 64:
            count -= count % 64
        with self.path.open("rb") as file:
            return os.pread(file.fileno(), count * line, HEAD + TIME)

    def _describe(self) -> Description:
        dtype, kind = STORED[self.header.bytes]
        said, pulses = self.said, self.layout.pulses
        kind = _kind(said.get("type", ""), dtype) or kind
        lines, frames = self.header.lines // pulses, self.header.frames * pulses
        shape = (self.header.samples, lines) + ((frames,) if frames > 1 else ())
        facts: dict[str, Any] = {k: said[k] for k in ("fs_hz", "fc_hz", "prf_hz") if k in said}
        if said.get("rate_hz"):
            facts["frame_s"] = 1 / said["rate_hz"]
        if pulses > 1:
            facts["ensemble"] = pulses
        if dtype == "complex64":
            facts["parts"] = "int16"  # real and imaginary part are stored as integers
        fs = said.get("fs_hz")
        if fs and "delay" in said:
            facts["t0_s"] = said["delay"] / fs
        facts |= self._places(lines)
        step = C_M_S / (2 * fs) * 1e3 if fs else None
        cine = () if frames == 1 else ((1 / said["rate_hz"],) if pulses == 1 and said.get("rate_hz") else (None,))
        return Description(
            format="clarius",
            shape=shape,
            axes=("axial", "lateral", "frame")[: len(shape)],
            dtype=dtype,
            kind=kind,
            spacing=(step, None, *cine),
            units=("mm" if step else None, None, *("s" if v else None for v in cine)),
            slab=1,
            out_dtype=dtype,
            acquisition=facts,
            witnesses={"type": said.get("type", ""), "yml": self.beside is not None},
            notes=(("layout", self.note),) if self.note else (),
        )

    def _places(self, lines: int) -> dict[str, Any]:
        """Return the element each line lies at, and the angle all of them share; the pitch is not in the file."""
        pulses, elements, turns = self.layout.pulses, self.said.get("rx", []), set(self.said.get("turns", []))
        if len(elements) != lines * pulses or len(turns) > 1:
            return {}
        steer = {"steer_rad": math.radians(turns.pop())} if turns else {}
        return {"line_elements": elements[::pulses], **steer}


def _kind(text: str, dtype: str) -> str:
    """Return the kind a ``type:`` names, where it fits the samples."""
    words = text.upper()
    if dtype == "complex64":
        return "iq"
    if "RF" in words and dtype == "int16":
        return "rf"
    return "bmode" if dtype == "uint8" else ""


def _samples(data: bytes, size: int) -> Array:
    """Return a flat run of samples in native order."""
    if size == 1:
        return np.frombuffer(data, np.uint8)
    flat = np.frombuffer(data, "<i2")
    return flat.astype(np.int16, copy=False) if size == 2 else flat.astype(np.float32).view(np.complex64)


def _turn(block: Array, layout: Layout) -> Array:
    """Return lines in file order as ``(axial, lateral, pulse)``."""
    return block.transpose(1, 0, 2) if layout.fastest else block.transpose(2, 0, 1)


def coherence(block: Array) -> float:
    """Return how alike successive pulses on the last axis are, 0 to 1."""
    ahead, behind = block[..., 1:], block[..., :-1]
    power = float(np.linalg.norm(ahead)) * float(np.linalg.norm(behind))
    return float(abs(np.vdot(behind, ahead))) / power if power > 0 else 0.0


def _ensemble(stream: Array, lines: int) -> int:
    """Return how many fastest-index pulses belong together; 1 where no break stands out.

    Between the last pulse of a sample and the first of the next depth the signal changes far more than
    within an ensemble; with the right number, and no other, all breaks fall between groups.
    """
    best, found = 0.1, 1  # within at most a tenth of the change between: the real file has 0.002
    for n in (n for n in PULSES if lines % n == 0):
        groups = stream[: len(stream) // n * n].reshape(-1, n)
        within = 1 - coherence(groups)
        between = 1 - coherence(np.stack([groups[:-1, -1], groups[1:, 0]], -1))
        if between > 0 and within < best * between:
            best, found = within / between, n
    return found


def splice(path: Path, source: Reader, output: Description) -> Writer:
    """Write the same file with other samples; the ``.yml`` is copied beside it."""
    if not isinstance(source, ClariusReader):
        raise FormatError(path, "format", "is only written from a Clarius file", "name the output .npy")
    return ClariusWriter(Path(path), source, output)


class ClariusWriter:
    """A copy of the source, whose samples are replaced in place."""

    def __init__(self, path: Path, source: ClariusReader, output: Description) -> None:
        held = source.description
        if output.dtype != held.dtype or tuple(output.shape) != held.shape:
            what = f"the file holds {held.dtype} of shape {held.shape}, not {output.dtype} {tuple(output.shape)}"
            raise FormatError(path, "samples", what, "name the output .npy")
        self.path, self.source = path, source
        shutil.copyfile(source.path, path)
        os.chmod(path, 0o644)
        if source.beside is not None:
            shutil.copyfile(source.beside, path.with_suffix(source.beside.suffix))
        self._file: Any = path.open("r+b")
        self._map: Any = mmap.mmap(self._file.fileno(), 0)

    def write(self, region: Region, values: Array) -> None:
        """Store samples; parts of complex ones are rounded."""
        header, layout = self.source.header, self.source.layout
        frames = region[2] if len(region) > 2 else slice(0, 1)
        values = values if len(region) > 2 else values[:, :, None]
        for k, frame in enumerate(range(frames.start, frames.stop)):
            index, pulse = divmod(frame, layout.pulses)
            part = _turn(self._frame(index, header), layout)[region[0], region[1], pulse]
            new = values[:, :, k]
            if header.bytes == 4:
                pairs = np.stack([new.real, new.imag], -1)
                part[...] = np.clip(np.rint(pairs), -32768, 32767).astype("<i2").view("<u4")[..., 0]
            else:
                part[...] = new

    def _frame(self, index: int, header: Header) -> Array:
        """Return one frame of the file in file order; complex samples as opaque words."""
        dtype = {1: "u1", 2: "<i2", 4: "<u4"}[header.bytes]
        start = HEAD + index * (TIME + header.frame) + TIME
        flat = np.frombuffer(self._map, dtype, header.lines * header.samples, start)
        return flat.reshape(self.source.layout.shape(header))

    def close(self) -> None:
        """Flush to disk."""
        if self._file is None:
            return
        self._map.flush()
        self._map.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._file = None
