# SPDX-License-Identifier: Apache-2.0
"""PNG pictures without their people: only chunks that say how pixels look stay; of EXIF the orientation."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import IO

from pellucid.formats import identity

KEPT = frozenset(
    (
        b"IHDR",
        b"PLTE",
        b"IDAT",
        b"IEND",
        b"tRNS",
        b"gAMA",
        b"cHRM",
        b"sRGB",
        b"iCCP",
        b"sBIT",
        b"bKGD",
        b"hIST",
        b"pHYs",
    )
    + (b"cICP", b"mDCV", b"cLLI", b"acTL", b"fcTL", b"fdAT", b"oFFs", b"sCAL")
)
ORIENTATION = 274  # EXIF tag


def anonymise(path: Path) -> None:
    """Copy the kept chunks; text, EXIF, times and unknown chunks go."""
    from pellucid.formats import png

    new = identity.beside(path)
    with path.open("rb") as file, new.open("wb") as out:
        out.write(png.SIGNATURE)
        for name, start, end in png.walk(path, file).chunks:
            if name in KEPT:
                _copy(file, out, start, end)
            elif name == b"eXIf" and (turn := orientation(_payload(file, start, end))) > 1:
                out.write(png.pack(name, _exif(turn)))
    identity.put(path, new)


def _copy(file: IO[bytes], out: IO[bytes], start: int, end: int) -> None:
    file.seek(start)
    while start < end:
        data = file.read(min(identity.CHUNK, end - start))
        start += len(data)
        out.write(data)


def _payload(file: IO[bytes], start: int, end: int) -> bytes:
    file.seek(start + 8)
    return file.read(max(0, min(end - start - 12, 1 << 20)))


def orientation(exif: bytes) -> int:
    """Return the orientation an EXIF block says, 1 (upright) where it says none."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2], "")
    try:
        at = struct.unpack_from(order + "I", exif, 4)[0] if order else 0
        count = struct.unpack_from(order + "H", exif, at)[0] if order else 0
        for k in range(min(count, 4096)):
            tag, kind, _, value = struct.unpack_from(order + "HHIH", exif, at + 2 + 12 * k)
            if tag == ORIENTATION and kind == 3:
                return int(value)
    except struct.error:
        pass
    return 1


def _exif(turn: int) -> bytes:
    """Return an EXIF block that says the orientation and nothing else."""
    return b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, ORIENTATION, 3, 1, turn, 0, 0)
