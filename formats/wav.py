# SPDX-License-Identifier: Apache-2.0
"""WAV and its large kin: WAVEX, RF64, BW64 and Wave64 with PCM or float samples.

Samples are exchanged in place; every other chunk (bext, iXML, cue, smpl, LIST, id3, unknown ones)
is copied byte for byte and in order. Only four things change: sizes, ``PEAK`` (measured again),
``bext`` (a line more of CodingHistory; loudness values are marked unknown), ``fmt`` where the
sample type changes. bext: EBU Tech 3285; CodingHistory: EBU R98.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from pellucid.core.errors import FormatError
from pellucid.core.types import Description, FormatTraits, Reader, Writer
from pellucid.formats import riff, sound_private
from pellucid.formats.pcm import (
    ENCODINGS,
    OFFSET_8,
    Encoding,
    Interleaved,
    InterleavedWriter,
    Pieces,
    Sink,
    Source,
    Stretch,
    encoding_of,
)
from pellucid.formats.pcm import describe as describe_sound

if TYPE_CHECKING:
    pass

FORMAT = FormatTraits(
    name="wav",
    title="WAV, RF64, Wave64",
    suffixes=(".wav", ".wave", ".rf64", ".bw64", ".w64"),
    keeps="every chunk and its order; bext gains a CodingHistory line and loses loudness, PEAK is measured again",
    pipe=True,
)

PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")  # of KSDATAFORMAT_SUBTYPE_PCM and _IEEE_FLOAT
BY_WIDTH = {(PCM, 1): "u8", (PCM, 2): "s16le", (PCM, 3): "s24le", (PCM, 4): "s32le", (FLOAT, 4): "f32le"}
BY_WIDTH[FLOAT, 8] = "f64le"
BEXT_SIZE = 602  # bytes before CodingHistory
BEXT_VERSION, BEXT_LOUDNESS = 346, 412  # offsets: u16; 5 x i16
NO_LOUDNESS = 0x7FFF  # "not known", EBU Tech 3285 section 2.4


@dataclass(frozen=True)
class Wave:
    """What the ``fmt`` chunk says, and the chunk itself."""

    raw: bytes
    tag: int
    channels: int
    rate: int
    width: int
    mask: int | None = None

    @property
    def encoding(self) -> Encoding | None:
        """How samples lie, or None where they are compressed."""
        name = BY_WIDTH.get((self.tag, self.width))
        return ENCODINGS[name] if name else None


anonymise = sound_private.wav


def recognise(head: bytes, name: str) -> float:
    """Return 1 for PCM and float samples, less where only a decoder can tell."""
    if head[:4] in (b"RIFF", b"RF64", b"BW64") and head[8:12] == b"WAVE":
        at = head.find(b"fmt ", 12)
        tag = int.from_bytes(head[at + 8 : at + 10], "little") if at > 0 else PCM
        return 1.0 if tag in (PCM, FLOAT, EXTENSIBLE) else 0.3
    return 1.0 if head[:16] == b"riff" + riff.W64_TAILS[0] else 0.0


def open(path: Path, **hints: Any) -> Interleaved:
    """Read the chunk headers of a file."""
    path = Path(path)
    container = riff.walk(path)
    fmt, data = container.find(b"fmt "), container.find(b"data")
    if container.form != b"WAVE" or fmt is None or data is None:
        raise FormatError(path, "chunks", "needs WAVE with 'fmt ' and 'data'", "the file is cut short or no sound")
    if data.start < fmt.start:
        raise FormatError(path, f"byte {data.start}", "samples come before 'fmt '")
    wave = parse_fmt(path, container.payload(fmt))
    encoding = supported(path, wave)
    frames, rest = divmod(data.size, wave.channels * encoding.width)
    notes: tuple[tuple[str, str], ...] = ()
    if rest:
        notes += (("ragged", f"{rest} bytes after the last whole frame are kept as they are"),)
    if container.open_ended:
        notes += (("open-ended", "the header gives no length: samples are read to the end of the file"),)
    acquisition = {} if wave.mask is None else {"channel_mask": wave.mask}
    shape = (frames, wave.channels)
    description = describe_sound("wav", encoding, shape, wave.rate, notes=notes, acquisition=acquisition)
    return Interleaved(path, description, encoding, data.offset, (container, wave))


def parse_fmt(path: object, raw: bytes) -> Wave:
    """Return what a ``fmt`` payload says."""
    if len(raw) < 16:
        raise FormatError(path, "fmt", f"is {len(raw)} bytes long, 16 are needed")
    tag, channels, rate, _, block, bits = struct.unpack_from("<HHIIHH", raw)
    mask = None
    if tag == EXTENSIBLE:
        if len(raw) < 40:
            raise FormatError(path, "fmt", "an extensible header is 40 bytes long")
        mask, tag = struct.unpack_from("<IH", raw, 20)
        tag = tag if raw[26:40] == GUID_TAIL else EXTENSIBLE
    if not channels or not rate or not block or block % channels:
        raise FormatError(path, "fmt", f"{channels} channels, {rate} Hz, {block} bytes a frame is impossible")
    width = block // channels
    if tag in (PCM, FLOAT) and not 8 * width - 8 < bits <= 8 * width:
        raise FormatError(path, "fmt", f"{bits} bits do not fit {width} bytes a sample")
    return Wave(raw, tag, channels, rate, width, mask)


def supported(path: object, wave: Wave) -> Encoding:
    """Return the encoding, or say that samples are compressed."""
    if wave.encoding is None:
        what = f"sample type {wave.tag:#06x} with {wave.width} bytes is not supported"
        raise FormatError(path, "fmt", what, "convert to PCM, e.g. ffmpeg -i IN -c:a pcm_s16le OUT.wav")
    return wave.encoding


def splice(path: Path, source: Reader, output: Description) -> Writer:
    """Write the same file with other samples; too large for RIFF, it becomes an RF64."""
    if not isinstance(source, Interleaved) or source.description.format != "wav" or _other_kind(path, source):
        return compose(path, output)
    container, wave = source.container
    old = source.encoding
    new = _encoding(path, output)
    frames, channels = output.shape
    rate = round(output.acquisition.get("rate_hz", wave.rate))
    replaced: dict[bytes, bytes] = {}
    same = (new, channels, rate) == (old, wave.channels, wave.rate)
    if not same:
        replaced[b"fmt "] = make_fmt(new, channels, rate, wave.mask if channels == wave.channels else None)
    if bext := container.find(b"bext"):
        replaced[b"bext"] = renew_bext(container.payload(bext), new, channels, rate)
    fact = container.find(b"fact")
    if fact and frames != source.description.shape[0] and fact.size >= 4:
        replaced[b"fact"] = struct.pack("<I", min(frames, riff.UNKNOWN)) + container.payload(fact)[4:]
    data = container.find(b"data")
    rest: Pieces = ()
    if same and frames == source.description.shape[0]:
        rest = (Stretch(source.path, data.offset + frames * channels * old.width, data.offset + data.size),)
    samples = riff.Samples(b"data", frames, frames * channels * new.width, rest=rest)
    head, tail = riff.rebuild(container, replaced, samples)
    return riff.PeakWriter(path, new, (frames, channels), head=head, tail=tail, source=container)


def _other_kind(path: Path, source: Interleaved) -> bool:
    """Return whether a new suffix asks for Wave64 where the source is none, or the other way round."""
    wanted, given = path.suffix.lower() == ".w64", source.container[0].kind == "W64"
    return wanted != given and path.suffix.lower() != source.path.suffix.lower()


def compose(path: Path, description: Description) -> Writer:
    """Write a new file from rate, sample type and channel mask."""
    encoding = _encoding(path, description)
    frames, channels = description.shape
    rate, mask = _rate(path, description), description.acquisition.get("channel_mask")
    kind = "W64" if path.suffix.lower() == ".w64" else "RIFF"
    before = [riff.pack(kind, b"fmt ", make_fmt(encoding, channels, rate, mask))]
    if encoding.subtype in ("FLOAT", "DOUBLE"):
        before.append(riff.pack(kind, b"fact", struct.pack("<I", min(frames, riff.UNKNOWN))))
    samples = riff.Samples(b"data", frames, frames * channels * encoding.width)
    head, tail = riff.frame((kind, b"WAVE"), before, samples)
    return InterleavedWriter(path, encoding, (frames, channels), head=head, tail=tail)


def _encoding(path: object, output: Description) -> Encoding:
    encoding = encoding_of(output)
    if encoding and encoding.subtype == "PCM_S8":
        return OFFSET_8
    if encoding is None or len(output.shape) != 2:
        raise FormatError(path, "sample type", f"WAV does not hold {output.dtype} with axes {output.axes}")
    return encoding


def _rate(path: object, description: Description) -> int:
    rate = round(description.acquisition.get("rate_hz") or 0)
    if not 0 < rate < 1 << 32:
        raise FormatError(path, "rate", "a sound file needs a sampling rate in Hz")
    return rate


def make_fmt(encoding: Encoding, channels: int, rate: int, mask: int | None = None) -> bytes:
    """Return a ``fmt`` payload: plain for one or two channels, extensible beyond or with a mask."""
    tag = FLOAT if encoding.subtype in ("FLOAT", "DOUBLE") else PCM
    block = channels * encoding.width
    plain = struct.pack("<HIIHH", channels, rate, rate * block & 0xFFFFFFFF, block, encoding.bits)
    if channels > 2 or mask is not None:
        extra = struct.pack("<HHIH", 22, encoding.bits, mask or 0, tag)
        return struct.pack("<H", EXTENSIBLE) + plain + extra + GUID_TAIL
    return struct.pack("<H", tag) + plain + (b"\0\0" if tag == FLOAT else b"")


def renew_bext(raw: bytes, encoding: Encoding, channels: int, rate: int) -> bytes:
    """Return a bext payload with one more line of CodingHistory and loudness marked unknown."""
    if len(raw) < BEXT_SIZE:
        return raw
    fixed = bytearray(raw[:BEXT_SIZE])
    if struct.unpack_from("<H", fixed, BEXT_VERSION)[0] >= 2:
        struct.pack_into("<5h", fixed, BEXT_LOUDNESS, *[NO_LOUDNESS] * 5)
    history = raw[BEXT_SIZE:].rstrip(b"\0")
    if history and not history.endswith(b"\r\n"):
        history += b"\r\n"
    mode = {1: "M=mono,", 2: "M=stereo,"}.get(channels, "")
    line = f"A=PCM,F={rate},W={encoding.bits},{mode}T=pellucid\r\n"
    return bytes(fixed) + history + line.encode()


def source(stream: IO[bytes], **hints: Any) -> Source:
    """Return a reader of a WAV that arrives on a pipe; a data size of 0 or 0xFFFFFFFF means "until the end"."""
    name, wave = "standard input", None
    head = _exactly(stream, 12)
    if head[:4] not in (b"RIFF", b"RF64", b"BW64") or head[8:] != b"WAVE":
        raise FormatError(name, "byte 0", "is no WAV", "raw samples need their encoding, rate and channels")
    large = 0
    while (header := _exactly(stream, 8))[:4] != b"data":
        size = int.from_bytes(header[4:], "little")
        if size > 1 << 24:
            raise FormatError(name, repr(header[:4]), f"says {size} bytes before the samples")
        payload = _exactly(stream, size + size % 2)
        if header[:4] == b"fmt ":
            wave = parse_fmt(name, payload)
        elif header[:4] == b"ds64" and size >= 24:
            large = int.from_bytes(payload[8:16], "little")
    if wave is None:
        raise FormatError(name, "fmt", "is missing before the samples")
    size = int.from_bytes(header[4:], "little")
    limit = large if size == riff.UNKNOWN else size
    endless = limit == 0 or limit in riff.PIPED
    encoding = supported(name, wave)
    description = describe_sound("wav", encoding, (-1, wave.channels), wave.rate)
    return Source(stream, description, encoding, None if endless else limit)


def _exactly(stream: IO[bytes], count: int) -> bytes:
    """Return ``count`` bytes of a pipe."""
    raw = b""
    while len(raw) < count:
        block = stream.read(count - len(raw))
        if not block:
            raise FormatError("standard input", f"byte {len(raw)}", "ends inside the header")
        raw += block
    return raw


def sink(stream: IO[bytes], description: Description) -> Sink:
    """Return a writer of a WAV of unknown length to a pipe."""
    encoding = _encoding("standard output", description)
    channels, rate = description.shape[1], _rate("standard output", description)
    fmt = make_fmt(encoding, channels, rate, description.acquisition.get("channel_mask"))
    unknown = struct.pack("<I", riff.UNKNOWN)
    header = b"RIFF" + unknown + b"WAVE" + riff.pack("RIFF", b"fmt ", fmt) + b"data" + unknown
    return Sink(stream, encoding, header)
