# SPDX-License-Identifier: Apache-2.0
"""AIFF and uncompressed AIFF-C: samples are exchanged in place, every other chunk is copied.

Layout: Apple, Audio Interchange File Format 1.3 (1989) and AIFF-C (1991).
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

from pellucid.core.errors import FormatError
from pellucid.core.types import Description, FormatTraits, Reader, Writer
from pellucid.formats import riff, sound_private
from pellucid.formats.pcm import ENCODINGS, Encoding, Interleaved, InterleavedWriter, Pieces, Stretch, encoding_of
from pellucid.formats.pcm import describe as describe_sound

FORMAT = FormatTraits(
    name="aiff",
    title="AIFF",
    suffixes=(".aif", ".aiff", ".aifc"),
    keeps="every chunk and its order (NAME, MARK, INST, COMT, ID3 ...); PEAK is measured again",
)

BY_WIDTH = {1: "s8", 2: "s16be", 3: "s24be", 4: "s32be"}
COMPRESSIONS = {  # AIFF-C: type -> encodings by width; the first of each width wins
    b"NONE": BY_WIDTH,
    b"twos": BY_WIDTH,
    b"in24": {3: "s24be"},
    b"in32": {4: "s32be"},
    b"sowt": {1: "s8", 2: "s16le", 3: "s24le", 4: "s32le"},
    b"42n1": {3: "s24le"},
    b"23ni": {4: "s32le"},
    b"fl32": {4: "f32be"},
    b"FL32": {4: "f32be"},
    b"fl64": {8: "f64be"},
    b"FL64": {8: "f64be"},
}
LARGEST = (1 << 32) - 1
anonymise = sound_private.aiff


def recognise(head: bytes, name: str) -> float:
    """Return 1 for AIFF and for AIFF-C whose samples are not compressed."""
    if head[:4] != b"FORM" or head[8:12] not in (b"AIFF", b"AIFC"):
        return 0.0
    at = head.find(b"COMM", 12)
    packed = head[8:12] == b"AIFC" and at > 0 and head[at + 26 : at + 30] not in COMPRESSIONS
    return 0.3 if packed else 1.0


def open(path: Path, **hints: Any) -> Interleaved:
    """Read the chunk headers of a file."""
    path = Path(path)
    container = riff.walk(path, b"SSND")
    comm, data = container.find(b"COMM"), container.find(b"SSND")
    if container.form not in (b"AIFF", b"AIFC") or comm is None:
        raise FormatError(path, "chunks", "needs AIFF with 'COMM'", "the file is cut short or no sound")
    channels, frames, rate, encoding = _parse_comm(path, container.payload(comm), container.form)
    if data is None and frames:
        raise FormatError(path, "chunks", "'SSND' is missing", "the file is cut short: copy it again from its source")
    skip = 0
    if data is not None:
        if data.size < 8:
            raise FormatError(path, f"byte {data.start}", "'SSND' is shorter than 8 bytes")
        skip = int.from_bytes(container.payload(_first(data, 4)), "big")
        if 8 + skip + frames * channels * encoding.width > data.size:
            what = f"{frames} frames do not fit the {data.size} bytes of 'SSND'"
            raise FormatError(path, f"byte {data.start}", what, "copy it again from its source")
    offset = data.offset + 8 + skip if data else 0
    return Interleaved(path, describe_sound("aiff", encoding, (frames, channels), rate), encoding, offset, container)


def _first(chunk: riff.Chunk, count: int) -> riff.Chunk:
    return riff.Chunk(chunk.id, chunk.start, chunk.offset, count, chunk.end)


def _parse_comm(path: object, raw: bytes, form: bytes) -> tuple[int, int, float, Encoding]:
    """Return channels, frames, rate and encoding."""
    if len(raw) < (22 if form == b"AIFC" else 18):
        raise FormatError(path, "COMM", f"is {len(raw)} bytes long")
    channels, frames, bits = struct.unpack_from(">HIH", raw)
    rate = extended(raw[8:18])
    name = raw[18:22] if form == b"AIFC" else b"NONE"
    if not channels or not 0 < rate < 1e9:
        raise FormatError(path, "COMM", f"{channels} channels at {rate} Hz is impossible")
    width = {b"fl64": 8, b"FL64": 8}.get(name, 4 if name in (b"fl32", b"FL32") else -(-bits // 8))
    found = COMPRESSIONS.get(name, {}).get(width)
    if found is None:
        what = f"samples of type {name.decode('latin-1')!r} with {bits} bits are not supported"
        raise FormatError(path, "COMM", what, "convert to WAV, e.g. with ffmpeg")
    return channels, frames, rate, ENCODINGS[found]


def extended(raw: bytes) -> float:
    """Return the value of an 80-bit float: sign, 15 bits of exponent, 64 of mantissa."""
    exponent, mantissa = struct.unpack(">HQ", raw)
    try:
        return math.ldexp(mantissa, (exponent & 0x7FFF) - 16383 - 63) * (-1 if exponent >> 15 else 1)
    except OverflowError:
        return math.inf


def as_extended(value: float) -> bytes:
    """Return a positive number as 80-bit float."""
    fraction, exponent = math.frexp(value)
    return struct.pack(">HQ", exponent + 16382, int(math.ldexp(fraction, 64)))


def splice(path: Path, source: Reader, output: Description) -> Writer:
    """Write the same file with other samples."""
    if not isinstance(source, Interleaved) or source.description.format != "aiff":
        return compose(path, output)
    container: riff.Container = source.container
    old = source.encoding
    frames, channels = output.shape
    new = old if output.dtype == old.stored and output.slope == old.slope else encoding_of(output, "be")
    if new is None or (container.form == b"AIFF" and new.subtype in ("FLOAT", "DOUBLE")):
        return compose(path, output)
    comm, data = container.find(b"COMM"), container.find(b"SSND")
    raw = container.payload(comm) if comm else b""
    replaced = {}
    if (new, frames, channels) != (old, *source.description.shape):
        replaced[b"COMM"] = struct.pack(">HIH", channels, frames, new.bits) + raw[8:]
    inner = bytes(8)
    rest: Pieces = ()
    if data and not replaced:
        start = source.offset
        with source.path.open("rb") as file:
            file.seek(data.offset)
            inner = file.read(start - data.offset)
        rest = (Stretch(source.path, start + frames * channels * old.width, data.offset + data.size),)
    samples = riff.Samples(b"SSND", frames, frames * channels * new.width, inner, rest)
    head, tail = riff.rebuild(container, replaced, samples)
    return riff.PeakWriter(path, new, (frames, channels), head=head, tail=tail, source=container)


def compose(path: Path, description: Description) -> Writer:
    """Write a new file: AIFF for integers, AIFF-C for floats."""
    encoding = encoding_of(description, "be")
    if encoding is None or encoding.subtype == "PCM_U8" or len(description.shape) != 2:
        raise FormatError(path, "sample type", f"AIFF does not hold {description.dtype}", "name the output .wav")
    frames, channels = description.shape
    rate = float(description.acquisition.get("rate_hz") or 0)
    if rate <= 0:
        raise FormatError(path, "rate", "a sound file needs a sampling rate in Hz")
    comm = struct.pack(">HIH", channels, min(frames, LARGEST), encoding.bits) + as_extended(rate)
    before, form = [], b"AIFF"
    if encoding.subtype in ("FLOAT", "DOUBLE"):
        form = b"AIFC"
        before.append(riff.pack("FORM", b"FVER", struct.pack(">I", 0xA2805140)))  # AIFF-C version 1
        comm += (b"fl32" if encoding.width == 4 else b"fl64") + b"\0\0"
    before.append(riff.pack("FORM", b"COMM", comm))
    samples = riff.Samples(b"SSND", frames, frames * channels * encoding.width, bytes(8))
    head, tail = riff.frame(("FORM", form), before, samples)
    return InterleavedWriter(path, encoding, (frames, channels), head=head, tail=tail)
