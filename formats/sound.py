# SPDX-License-Identifier: Apache-2.0
"""Sound in other containers, through libsndfile: OGG, MP3, AU, CAF, NIST SPHERE, compressed WAV.

These are read; the output is WAV or FLAC, so that no sample is encoded twice.
"""

from __future__ import annotations

import io
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from pellucid.core.errors import FormatError
from pellucid.core.lazy import np
from pellucid.core.types import Description, FormatTraits, Region

if TYPE_CHECKING:
    from pellucid.core.types import Array

FORMAT = FormatTraits(
    name="sound",
    title="OGG, MP3, AU, CAF, NIST",
    suffixes=(".ogg", ".oga", ".opus", ".mp3", ".au", ".snd", ".caf", ".sph", ".nist"),
    writes=(),
    fallback=".wav",
    keeps="samples; written as WAV or FLAC",
)

BLOCK = 1 << 18  # frames decoded at a time: memory follows what is there, not what a header claims
STORED = {  # subtype of libsndfile -> stored type, bits, shift from what libsndfile returns
    "PCM_S8": ("int8", 8, 8),
    "PCM_U8": ("int8", 8, 8),
    "PCM_16": ("int16", 16, 0),
    "PCM_24": ("int32", 24, 8),
    "PCM_32": ("int32", 32, 0),
    "FLOAT": ("float32", 32, 0),
    "DOUBLE": ("float64", 64, 0),
    "ALAC_16": ("int16", 16, 0),
    "ALAC_20": ("int32", 24, 8),
    "ALAC_24": ("int32", 24, 8),
    "ALAC_32": ("int32", 32, 0),
}
MAGIC = {b".snd": 1.0, b"dns.": 1.0, b"caff": 1.0, b"NIST": 1.0, b"RIFX": 0.9, b"FORM": 0.4}


@dataclass
class Decoded:
    """Reader of samples that libsndfile decodes; pickles by path, one decoder behind a lock."""

    path: Path
    description: Description
    shift: int = 0
    shown: tuple[bytes, int] | None = None  # what the decoder sees in place of the first so many bytes
    container: Any = None
    _state: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if not k.startswith("_")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _state={}, _lock=threading.Lock())

    def read(self, region: Region) -> Array:
        """Return stored samples ``(time, channel)`` of a region."""
        frames, channels = self.description.shape
        start, stop, _ = region[0].indices(frames)
        count = max(stop - start, 0)
        import soundfile

        with self._lock:
            try:
                blocks = self._gridded(start, count) if self.description.lossy else self._exact(start, count)
            except (soundfile.LibsndfileError, OSError) as error:
                self._forget()
                raise FormatError(self.path, f"frame {start}", "cannot be decoded", _advice(error)) from error
        got = sum(len(b) for b in blocks)
        if got != count:
            self.close()
            raise FormatError(self.path, f"frame {start + got}", "the file ends here", "copy it again from its source")
        values = np.concatenate(blocks) if blocks else np.zeros((0, channels), self.description.dtype)
        return values[:, region[1]]

    def _exact(self, start: int, count: int) -> list[Array]:
        """Decode from any frame on."""
        file = self._open()
        if self._state["at"] != start:
            file.seek(start)
        self._state["at"] = start + count
        return self._blocks(file, count)

    def _gridded(self, start: int, count: int) -> list[Array]:
        """Decode a lossy stream from its beginning in blocks of fixed places.

        A decoder that jumps into a lossy stream, or (libsndfile 1.2, Opus) is asked for its last
        frame alone, gives other samples; on a fixed grid they depend on nothing.
        """
        frames, parts = self.description.shape[0], []
        last = max(frames // BLOCK - 1, 0)  # what remains after whole blocks belongs to the last
        while count > 0:
            k = min(start // BLOCK, last)
            part = self._block(k, frames - k * BLOCK if k == last else BLOCK)[start - k * BLOCK :][:count]
            if not len(part):
                break
            parts.append(part)
            start, count = start + len(part), count - len(part)
        return parts

    def _block(self, k: int, length: int) -> Array:
        """Return block ``k``, decoding those before it if they have not passed yet."""
        if self._state.get("k") == k:
            held: Array = self._state["block"]
            return held
        if self._state.get("k", -1) > k:
            self._forget()
        file = self._open()
        for j in range(self._state.get("k", -1) + 1, k + 1):
            blocks = self._blocks(file, length if j == k else BLOCK)
            empty = np.zeros((0, self.description.shape[1]), self.description.dtype)
            self._state.update(k=j, block=np.concatenate([empty, *blocks]))
        return self._block(k, length)

    def _open(self) -> Any:
        if "file" not in self._state:
            self._state.update(file=_decoder(self.path, self.shown), at=0)
        return self._state["file"]

    def _blocks(self, file: Any, count: int) -> list[Array]:
        """Decode ``count`` frames, fewer at the end of the stream."""
        stored = np.dtype(self.description.dtype)
        asked = "int16" if stored == np.int8 else stored.name
        blocks = []
        while count > 0:
            block = file.read(min(count, BLOCK), dtype=asked, always_2d=True)
            if not len(block):
                break
            count -= len(block)
            blocks.append((block >> self.shift).astype(stored) if self.shift else block)
        return blocks

    def _forget(self) -> None:
        if file := self._state.pop("file", None):
            file.close()
        self._state.clear()

    def close(self) -> None:
        """Release the decoder; a later read opens it again."""
        with self._lock:
            self._forget()


def _decoder(path: Path, shown: tuple[bytes, int] | None) -> Any:
    import soundfile

    file: Any = _Shown(path, *shown) if shown else path
    return soundfile.SoundFile(file)


class _Shown(io.RawIOBase):
    """A file whose beginning, up to a byte, reads otherwise."""

    def __init__(self, path: Path, head: bytes, rest: int) -> None:
        self._file: IO[bytes] = path.open("rb")
        self._head, self._rest, self._at = head, rest, 0
        self._size = self._file.seek(0, 2) - rest + len(head)

    def readinto(self, buffer: Any) -> int:
        raw = self._head[self._at : self._at + len(buffer)]
        if len(raw) < len(buffer):
            self._file.seek(self._at + len(raw) - len(self._head) + self._rest)
            raw += self._file.read(len(buffer) - len(raw))
        buffer[: len(raw)] = raw
        self._at += len(raw)
        return len(raw)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = max(0, offset + (0, self._at, self._size)[whence])
        return self._at

    def tell(self) -> int:
        return self._at

    def close(self) -> None:
        self._file.close()
        super().close()


def recognise(head: bytes, name: str) -> float:
    """Return how likely libsndfile must read this file."""
    suffix = Path(name).suffix.lower()
    if head[:4] == b"OggS":
        return 1.0 if any(m in head[:200] for m in (b"OpusHead", b"\x01vorbis", b"\x7fFLAC")) else 0.5
    if head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE":
        at = head.find(b"fmt ", 12)
        return 0.6 if at > 0 and int.from_bytes(head[at + 8 : at + 10], "little") not in (1, 3, 0xFFFE) else 0.0
    if head[:4] == b"FORM":
        return 0.4 if head[8:12] in (b"AIFF", b"AIFC", b"8SVX", b"16SV") else 0.0
    if head[:3] == b"ID3":
        return 0.9 if suffix in (".mp3", ".mp2", ".mpga") else 0.4
    if len(head) > 3 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0 and head[1] & 6 and head[2] >> 4 != 15:
        return 0.8 if suffix in (".mp3", ".mp2", ".mpga") else 0.1
    return MAGIC.get(head[:4], 0.0)


def open(path: Path, **hints: Any) -> Decoded:
    """Read the header of a file through libsndfile."""
    path = Path(path)
    import soundfile

    try:
        with soundfile.SoundFile(path) as file:
            info = (file.frames, file.channels, file.samplerate, file.subtype, file.format)
    except (soundfile.LibsndfileError, OSError, TypeError) as error:
        raise FormatError(path, "header", "is no sound that can be decoded", _advice(error)) from error
    frames, channels, rate, subtype, container = info
    if not 0 <= frames < 1 << 48 or not rate or not channels:
        raise FormatError(path, "header", f"{frames} frames, {channels} channels, {rate} Hz is impossible")
    held = "PCM_16" if subtype in ("PCM_S8", "PCM_U8") else subtype  # WAV holds 8 bits unsigned only: widen, exactly
    return Decoded(path, describe((frames, channels), rate, held, container), STORED.get(held, ("", 0, 0))[2])


def describe(shape: tuple[int, int], rate: int, subtype: str, container: str, format: str = "sound") -> Description:
    """Return the neutral description; types that are not listed are lossy and decode to float32."""
    lossy = subtype not in STORED
    dtype, bits, _ = STORED.get(subtype, ("float32", 32, 0))
    notes = (("lossy", f"the sound was compressed with loss ({subtype}); the output is not"),) if lossy else ()
    return Description(
        format=format,
        shape=shape,
        axes=("time", "channel"),
        dtype=dtype,
        kind="waveform",
        spacing=(1.0 / rate, None),
        units=("s", None),
        slope=2.0 ** (1 - bits) if dtype.startswith("int") else 1.0,
        out_dtype=dtype,
        lossy=lossy,
        acquisition={"rate_hz": rate, "subtype": subtype, "bits": bits},
        witnesses={"container": container, "subtype": subtype},
        notes=notes,
    )


def _advice(error: Exception) -> str:
    text = str(getattr(error, "error_string", "") or error).strip().rstrip(".")
    return f"{text or 'damaged'}: convert it with ffmpeg, or copy it again"
