# SPDX-License-Identifier: Apache-2.0
"""JPEG, read only: the output is a PNG, so that nothing is encoded with loss a second time.

Orientation is a fact, not applied: pixels stay as stored, the EXIF block travels into the output.
"""

from __future__ import annotations

import struct
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from pellucid.core.errors import FormatError
from pellucid.core.lazy import np
from pellucid.core.types import Description, FormatTraits, Region
from pellucid.formats import plausible

if TYPE_CHECKING:
    from pellucid.core.types import Array

FORMAT = FormatTraits(
    name="jpeg",
    title="JPEG",
    suffixes=(".jpg", ".jpeg", ".jpe"),
    writes=(),
    fallback=".png",
    keeps="pixels, EXIF and colour profile; written as PNG",
)

FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0 to SOF15
ALONE = frozenset((0x01, *range(0xD0, 0xD8)))  # markers without a length
KINDS = {1: "intensity", 3: "rgb", 4: "cmyk"}
MOST = 2000.0  # an 8 x 8 block takes at least one bit (512 : 1), with halved colour twice that; and a margin


@dataclass(frozen=True)
class Header:
    """What stands before the scan."""

    height: int
    width: int
    components: int
    exif: bytes = b""
    profile: bytes = b""

    @property
    def orientation(self) -> int:
        """EXIF orientation, 1 where none is given."""
        return orientation(self.exif)


def recognise(head: bytes, name: str) -> float:
    """Return 1 for start-of-image and a marker."""
    return 1.0 if head[:3] == b"\xff\xd8\xff" else 0.0


def open(path: Path, **hints: Any) -> JpegReader:
    """Read the markers before the scan."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            header = walk(path, file)
            size = file.seek(0, 2)
    except OSError as error:
        raise FormatError(path, "file", error.strerror or "cannot be read") from error
    plausible.check(path, header.height * header.width * header.components, size, MOST)
    shape = (
        (header.height, header.width) if header.components == 1 else (header.height, header.width, header.components)
    )
    acquisition: dict[str, Any] = {"bits": 8, "orientation": header.orientation}
    acquisition |= {k: v for k, v in (("exif", header.exif), ("icc_profile", header.profile)) if v}
    description = Description(
        format="jpeg",
        shape=shape,
        axes=("y", "x", "channel")[: len(shape)],
        dtype="uint8",
        kind=KINDS[header.components],
        spacing=(None,) * len(shape),
        units=(None,) * len(shape),
        slope=1 / 255,
        out_dtype="uint8",
        lossy=True,
        acquisition=acquisition,
        witnesses={"components": header.components},
        notes=(("lossy", "the picture was compressed with loss; the output is not"),),
    )
    return JpegReader(path, description, header)


def walk(path: object, file: IO[bytes]) -> Header:
    """Read size, components, EXIF and profile (ITU-T T.81 annex B, EXIF 2.3, ICC.1 annex B.4)."""
    if file.read(2) != b"\xff\xd8":
        raise FormatError(path, "byte 0", "is no JPEG")
    exif, profile, facts = b"", {}, None
    while facts is None:
        where = f"byte {file.tell()}"
        marker = _marker(file)
        if marker is None or marker in (0xD9, 0xDA):
            raise FormatError(path, where, "the file is cut short or damaged", "copy it again from its source")
        if marker in ALONE:
            continue
        length = int.from_bytes(file.read(2), "big") - 2
        payload = file.read(max(length, 0))
        if length < 0 or len(payload) < length:
            raise FormatError(path, where, "the file is cut short", "copy it again from its source")
        if marker in FRAMES:
            facts = payload
        elif marker == 0xE1 and payload[:6] == b"Exif\0\0" and not exif:
            exif = payload[6:]
        elif marker == 0xE2 and payload[:12] == b"ICC_PROFILE\0" and len(payload) > 14:
            profile[payload[12]] = payload[14:]
    if len(facts) < 6:
        raise FormatError(path, "frame", "is too short")
    depth, height, width, components = struct.unpack_from(">BHHB", facts)
    if depth != 8 or not height or not width or components not in KINDS:
        what = f"{width} x {height}, {depth} bit, {components} components is not read"
        raise FormatError(path, "frame", what, "convert it to PNG or TIFF")
    return Header(height, width, components, exif, b"".join(profile[k] for k in sorted(profile)))


def _marker(file: IO[bytes]) -> int | None:
    """Return the next marker; 0xFF may be repeated before it."""
    if file.read(1) != b"\xff":
        return None
    while byte := file.read(1):
        if byte != b"\xff":
            return byte[0]
    return None


def orientation(exif: bytes) -> int:
    """Return tag 0x0112 of the first directory, 1 where there is none."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None or len(exif) < 8:
        return 1
    at = struct.unpack_from(order + "I", exif, 4)[0]
    if at + 2 > len(exif):
        return 1
    count = struct.unpack_from(order + "H", exif, at)[0]
    for k in range(min(count, (len(exif) - at - 2) // 12)):
        tag, kind, _, value = struct.unpack_from(order + "HHIH", exif, at + 2 + 12 * k)
        if tag == 0x0112 and kind == 3 and 1 <= value <= 8:
            return int(value)
    return 1


@dataclass
class JpegReader:
    """Reader that decodes the picture at the first read and keeps it."""

    path: Path
    description: Description
    header: Header
    _held: list[Array] = field(default_factory=list, repr=False, compare=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if not k.startswith("_")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _held=[], _lock=threading.Lock())

    def read(self, region: Region) -> Array:
        """Return stored samples of a region."""
        with self._lock:
            if not self._held:
                self._held.append(self._decode())
            return self._held[0][region].copy()

    def _decode(self) -> Array:
        import warnings

        from PIL import Image

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of large pictures: the size was checked at the door
                with Image.open(self.path, formats=("JPEG",)) as image:
                    pixels = np.array(image)
        except (OSError, ValueError, SyntaxError, MemoryError, Image.DecompressionBombError) as error:
            what = f"cannot be decoded ({error})"
            raise FormatError(self.path, "pixels", what, "copy it again, or convert it to PNG") from error
        if pixels.shape != self.description.shape:
            raise FormatError(self.path, "pixels", f"decode to shape {pixels.shape}, not {self.description.shape}")
        return pixels

    def close(self) -> None:
        """Forget the picture."""
        with self._lock:
            self._held.clear()
