# SPDX-License-Identifier: Apache-2.0
"""FLAC: integers up to 24 bit without loss. Tags, pictures and cue sheets are copied block by block.

Format: RFC 9639. libsndfile decodes and encodes the frames; metadata blocks never pass through it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from pellucid.core.errors import FormatError
from pellucid.core.lazy import np
from pellucid.core.types import Description, FormatTraits, Reader, Region, Writer
from pellucid.formats import sound, sound_private
from pellucid.formats.pcm import COPY, encoding_of

if TYPE_CHECKING:
    from pellucid.core.types import Array

FORMAT = FormatTraits(
    name="flac",
    title="FLAC",
    suffixes=(".flac",),
    keeps="every metadata block but the seek table, which is left out",
)

STREAMINFO, SEEKTABLE = 0, 3
SMALLEST_FRAME = 10  # bytes: header 6, subframe 2, footer 2
LARGEST_BLOCK = 65536  # samples a frame can hold
TAIL = 1 << 21  # bytes searched for the last frame
SUBTYPES = {8: "PCM_S8", 16: "PCM_16", 24: "PCM_24"}
BLOCK_SIZES = {1: 192, **{k: 576 << (k - 2) for k in range(2, 6)}, **{k: 256 << (k - 8) for k in range(8, 16)}}


@dataclass(frozen=True)
class Metadata:
    """What stands before the frames.

    ``start`` is where ``fLaC`` lies (an ID3 tag may precede it); ``blocks`` are (type, offset, size).
    """

    start: int
    blocks: tuple[tuple[int, int, int], ...]
    frames_at: int
    rate: int
    channels: int
    bits: int
    total: int
    size: int
    info: bytes


anonymise = sound_private.flac


def recognise(head: bytes, name: str) -> float:
    """Return 1 for a FLAC stream, also behind an ID3 tag."""
    if head[:3] == b"ID3":
        at = _id3(head)
        if at + 4 > len(head):
            return 0.9 if name.lower().endswith(".flac") else 0.0
        head = head[at:]
    return 1.0 if head[:4] == b"fLaC" else 0.0


def _id3(head: bytes) -> int:
    """Return the length of an ID3v2 tag (28-bit number in four 7-bit bytes)."""
    return 10 + sum((b & 127) << (7 * (3 - k)) for k, b in enumerate(head[6:10]))


def open(path: Path, **hints: Any) -> sound.Decoded:
    """Read the metadata blocks of a file."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            meta = metadata(path, file)
            total = meta.total or count_frames(path, file, meta)
    except OSError as error:
        raise FormatError(path, "file", error.strerror or "cannot be read") from error
    if meta.bits not in SUBTYPES:
        raise FormatError(path, "STREAMINFO", f"{meta.bits} bits a sample cannot be decoded", "convert it to WAV first")
    if total > ((meta.size - meta.frames_at) // SMALLEST_FRAME + 1) * LARGEST_BLOCK:
        what = f"says {total} samples, the file holds {meta.size} bytes"
        raise FormatError(path, "STREAMINFO", what, "copy it again from its source")
    subtype = SUBTYPES[meta.bits]
    description = sound.describe((total, meta.channels), meta.rate, subtype, "FLAC", "flac").with_(order="forward")
    # The decoder sees STREAMINFO and frames only: foreign blocks, whatever is in them, cannot disturb it.
    facts = (int.from_bytes(meta.info[10:18], "big") >> 36 << 36 | total).to_bytes(8, "big")
    head = b"fLaC\x80\0\0\x22" + meta.info[:10] + facts + meta.info[18:]
    return sound.Decoded(path, description, sound.STORED[subtype][2], (head, meta.frames_at), meta)


def metadata(path: Path, file: IO[bytes]) -> Metadata:
    """List the metadata blocks and read STREAMINFO (RFC 9639 section 8)."""
    size = file.seek(0, 2)
    file.seek(0)
    head = file.read(10)
    start = _id3(head) if head[:3] == b"ID3" else 0
    file.seek(start)
    if file.read(4) != b"fLaC":
        raise FormatError(path, f"byte {start}", "is no FLAC stream")
    blocks, position, last = [], start + 4, False
    while not last:
        file.seek(position)
        header = file.read(4)
        length = int.from_bytes(header[1:], "big")
        if len(header) < 4 or position + 4 + length > size:
            raise FormatError(path, f"byte {position}", "metadata is cut short", "copy it again from its source")
        blocks.append((header[0] & 127, position + 4, length))
        last, position = bool(header[0] & 128), position + 4 + length
    if blocks[0][0] != STREAMINFO or blocks[0][2] < 34:
        raise FormatError(path, f"byte {start + 4}", "STREAMINFO is missing")
    file.seek(blocks[0][1])
    raw = file.read(34)
    info = int.from_bytes(raw[10:18], "big")
    rate, channels, bits, total = info >> 44, (info >> 41 & 7) + 1, (info >> 36 & 31) + 1, info & (1 << 36) - 1
    if not rate:
        raise FormatError(path, "STREAMINFO", "gives no sampling rate")
    return Metadata(start, tuple(blocks), position, rate, channels, bits, total, size, raw)


def count_frames(path: Path, file: IO[bytes], meta: Metadata) -> int:
    """Return the number of samples of a stream that does not say it: the last frame's place and length."""
    file.seek(max(meta.frames_at, meta.size - TAIL))
    tail = file.read(TAIL)
    largest = int.from_bytes(meta.info[2:4], "big")  # block size of a stream whose blocks are equal
    at = len(tail)
    while (at := tail.rfind(b"\xff", 0, at)) >= 0:
        frame = _frame(tail[at : at + 16], largest)
        if frame and _crc(tail[at:], 16, 0x8005) == 0:
            return frame[0] + frame[1]
    raise FormatError(path, f"byte {meta.frames_at}", "no whole frame ends the stream", "copy it again from its source")


def _frame(head: bytes, largest: int) -> tuple[int, int] | None:
    """Return first sample and length of the frame that begins here, or None (RFC 9639 section 9.1)."""
    if len(head) < 6 or head[0] != 0xFF or head[1] & 0xFE != 0xF8:
        return None
    ones = 8 - (head[4] ^ 0xFF).bit_length()
    extra = max(ones - 1, 0)
    number = head[4] & (0xFF >> (ones + 1))
    for byte in head[5 : 5 + extra]:
        number = number << 6 | byte & 63
    at, code = 5 + extra, head[2] >> 4
    length = BLOCK_SIZES.get(code, 0)
    if code in (6, 7):
        length = int.from_bytes(head[at : at + code - 5], "big") + 1
        at += code - 5
    at += {12: 1, 13: 2, 14: 2}.get(head[2] & 15, 0)
    if not length or at >= len(head) or _crc(head[: at + 1], 8, 0x07):
        return None
    return (number if head[1] & 1 else number * largest), length


def _crc(data: bytes, bits: int, polynomial: int) -> int:
    """Return the remainder: 0 where data end with their own checksum."""
    table, mask, crc = _table(bits, polynomial), (1 << bits) - 1, 0
    for byte in data:
        crc = (crc << 8 & mask) ^ table[(crc >> (bits - 8)) ^ byte]
    return crc


@cache
def _table(bits: int, polynomial: int) -> tuple[int, ...]:
    table = []
    for value in range(256):
        crc = value << (bits - 8)
        for _ in range(8):
            crc = (crc << 1) ^ (polynomial if crc >> (bits - 1) else 0)
            crc &= (1 << bits) - 1
        table.append(crc)
    return tuple(table)


def splice(path: Path, source: Reader, output: Description) -> Writer:
    """Write the same file with other samples; every metadata block but the seek table travels."""
    return FlacWriter(path, output, source)


def compose(path: Path, description: Description) -> Writer:
    """Write a new file from rate and sample type."""
    return FlacWriter(path, description, None)


class FlacWriter:
    """Encoder that appends; frames go to a file beside, metadata are put in front at the end."""

    def __init__(self, path: Path, output: Description, source: Reader | None) -> None:
        encoding = encoding_of(output)
        subtype = encoding.subtype if encoding else ""
        if subtype not in SUBTYPES.values() or len(output.shape) != 2:
            what = f"FLAC holds integers of 8, 16 or 24 bit, not {subtype or output.dtype}"
            raise FormatError(path, "sample type", what, "name the output .wav")
        self.path, self._output, self._source = path, output, source
        self._shift = sound.STORED[subtype][2]
        self._at = 0
        self._pending: dict[tuple[int, int], dict[int, Array]] = {}
        self._frames = path.with_name(path.name + ".frames")
        import soundfile

        rate = round(output.acquisition.get("rate_hz") or 0)
        try:
            self._file = soundfile.SoundFile(
                self._frames, "w", samplerate=rate, channels=output.shape[1], subtype=subtype, format="FLAC"
            )
        except (soundfile.LibsndfileError, ValueError) as error:
            self._frames.unlink(missing_ok=True)
            what = f"FLAC does not hold {output.shape[1]} channels at {rate} Hz"
            raise FormatError(path, "header", what, "name the output .wav") from error

    def write(self, region: Region, values: Array) -> None:
        """Append frames; channels of the same frames may come one after the other."""
        frames, channels = self._output.shape
        start, stop, _ = region[0].indices(frames)
        if start != self._at:
            raise ValueError(f"FLAC is written forward: frame {self._at} is next, not {start}")
        which = range(channels)[region[1]]
        if len(which) < channels:
            held = self._pending.setdefault((start, stop), {})
            held.update({c: values[:, k] for k, c in enumerate(which)})
            if len(held) < channels:
                return
            values = np.stack([held[c] for c in range(channels)], axis=1)
            self._pending.clear()
        wide = values.astype(np.int16) if values.dtype == np.int8 else values
        if self._output.dtype == "int32":
            wide = np.clip(wide, -(2**23), 2**23 - 1)
        self._file.write(wide << self._shift if self._shift else wide)
        self._at = stop

    def close(self) -> None:
        """Finish the frames, put metadata in front, flush to disk."""
        if self._file.closed:
            return
        self._file.close()
        try:
            self._assemble()
        finally:
            self._frames.unlink(missing_ok=True)

    def _assemble(self) -> None:
        with self._frames.open("rb") as frames, self.path.open("wb") as out:
            new = metadata(self._frames, frames)
            parts = [(STREAMINFO, new.info)]
            old = getattr(self._source, "container", None)
            if isinstance(old, Metadata) and self._source is not None:
                with self._source.path.open("rb") as file:
                    out.write(file.read(old.start))
                    parts += [(kind, _slice(file, at, n)) for kind, at, n in old.blocks[1:] if kind != SEEKTABLE]
            out.write(b"fLaC")
            for k, (kind, payload) in enumerate(parts):
                flag = 128 if k == len(parts) - 1 else 0
                out.write(bytes([kind | flag]) + len(payload).to_bytes(3, "big") + payload)
            frames.seek(new.frames_at)
            while block := frames.read(COPY):
                out.write(block)
            out.flush()
            os.fsync(out.fileno())


def _slice(file: IO[bytes], at: int, count: int) -> bytes:
    file.seek(at)
    return file.read(count)
