# SPDX-License-Identifier: Apache-2.0
"""Sound files without their people: only chunks and blocks that tell how samples lie stay.

bext keeps its version, time reference and our own line of history; titles, names, dates, UMID, markers,
pictures, iXML, ID3, LIST and unknown chunks go.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

from pellucid.formats import identity, pcm, riff

WAV_KEPT = frozenset((b"fmt ", b"fact", b"data", b"ds64", b"PEAK", b"bext"))
AIFF_KEPT = frozenset((b"COMM", b"FVER", b"SSND", b"PEAK", b"INST"))
BEXT_TEXT, BEXT_TIME, BEXT_VERSION, BEXT_SIZE = 338, 346, 348, 602  # bytes; EBU Tech 3285
LOUDNESS = slice(412, 422)
STREAMINFO, COMMENTS = 0, 4  # FLAC block types, RFC 9639
MASK = b"WAVEFORMATEXTENSIBLE_CHANNEL_MASK="


def wav(path: Path) -> None:
    """Keep the chunks of the samples; blank bext."""
    container = riff.walk(path)
    replaced = {}
    if bext := container.find(b"bext"):
        replaced[b"bext"] = _bext(container.payload(bext))
    _rebuilt(path, container, WAV_KEPT, replaced)


def _bext(raw: bytes) -> bytes:
    """Return a bext payload with its time reference, version and loudness, and our line of history."""
    if len(raw) < BEXT_SIZE:
        return bytes(BEXT_SIZE)
    fixed = bytearray(BEXT_SIZE)
    fixed[BEXT_TEXT:BEXT_VERSION] = raw[BEXT_TEXT:BEXT_VERSION]
    fixed[LOUDNESS] = raw[LOUDNESS]
    lines = raw[BEXT_SIZE:].rstrip(b"\0").split(b"\r\n")
    return bytes(fixed) + b"".join(line + b"\r\n" for line in lines if line.endswith(b"T=pellucid"))


def aiff(path: Path) -> None:
    """Keep the chunks of the samples; what precedes the first sample inside SSND is zeroed."""
    container = riff.walk(path, b"SSND")
    _rebuilt(path, container, AIFF_KEPT, {})
    chunk = riff.walk(path, b"SSND").find(b"SSND")
    if chunk is not None:
        with path.open("r+b") as file:
            file.seek(chunk.offset)
            skip = int.from_bytes(file.read(4), "big")
            file.seek(chunk.offset + 8)
            file.write(bytes(min(skip, max(0, chunk.size - 8))))


def _rebuilt(path: Path, container: riff.Container, kept: frozenset[bytes], replaced: dict[bytes, bytes]) -> None:
    """Write a file again with some of its chunks; samples move as they are."""
    name = b"SSND" if container.kind == "FORM" else b"data"
    held = container.find(name)
    slim = replace(container, chunks=tuple(c for c in container.chunks if c.id in kept))
    if held is None:
        return
    samples = riff.Samples(name, _frames(container, held), held.size)
    head, tail = riff.rebuild(slim, replaced, samples)
    new = identity.beside(path)
    with new.open("wb") as file:
        pcm.lay(file, [*head, pcm.Stretch(path, held.offset, held.offset + held.size), *tail])
    identity.put(path, new)


def _frames(container: riff.Container, held: riff.Chunk) -> int:
    """Return the number of frames a 64-bit header says."""
    fmt = container.find(b"fmt ")
    block = struct.unpack_from("<H", container.payload(fmt), 12)[0] if fmt else 1
    return int(held.size // max(block, 1))


def flac(path: Path) -> None:
    """Keep STREAMINFO and the channel mask; tags, pictures, cue sheets, applications and ID3 go."""
    from pellucid.formats import flac as module

    with path.open("rb") as file:
        meta = module.metadata(path, file)
        mask = b""
        for kind, at, size in meta.blocks:
            if kind == COMMENTS:
                file.seek(at)
                mask = mask or _mask(file.read(size))
    blocks = [(STREAMINFO, meta.info)] + ([(COMMENTS, _comments(mask))] if mask else [])
    new = identity.beside(path)
    with new.open("wb") as out:
        out.write(b"fLaC")
        for k, (kind, payload) in enumerate(blocks):
            last = 128 if k == len(blocks) - 1 else 0
            out.write(bytes([kind | last]) + len(payload).to_bytes(3, "big") + payload)
        pcm.lay(out, [pcm.Stretch(path, meta.frames_at, meta.size)])
    identity.put(path, new)


def _mask(block: bytes) -> bytes:
    """Return the comment that tells the loudspeakers of the channels, if it is well formed."""
    at = block.find(MASK)
    digits = block[at + len(MASK) :][:10].split(b"\0")[0] if at >= 0 else b""
    number = digits[: 2 + next((i for i, c in enumerate(digits[2:]) if chr(c) not in "0123456789abcdefABCDEF"), 8)]
    return MASK + number if number[:2] == b"0x" and len(number) > 2 else b""


def _comments(mask: bytes) -> bytes:
    return struct.pack("<III", 0, 1, len(mask)) + mask
