# SPDX-License-Identifier: Apache-2.0
"""Mosaics that are nothing but samples: width, height, bits and colours come from the user."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid.core.errors import FormatError
from pellucid.core.lazy import np
from pellucid.core.types import Description, FormatTraits, Reader, Region, Writer

if TYPE_CHECKING:
    from pellucid.core.types import Array

FORMAT = FormatTraits(
    name="headerless",
    title="camera samples without a header",
    suffixes=(".raw", ".bin"),
    writes=("splice",),
    keeps="samples, and whatever bytes lie before and after them",
    fallback=".dng",
)

COLOURS = {"R": 0, "G": 1, "B": 2}
SIDES = {1: 1, 4: 2, 16: 4, 36: 6}
XTRANS = "GBGGRGRGRBGBGBGGRGGRGGBGBGBRGRGRGGBG"
HINT = "say what it is with --width, --height, --bits and --cfa"


def recognise(head: bytes, name: str) -> float:
    """Return the least certainty that counts, for ``.raw`` alone: nothing but the name can tell."""
    return 0.2 if Path(name).suffix.lower() == ".raw" and head[:4] not in (b"II*\0", b"MM\0*", b"IIU\0") else 0.0


def open(path: Path, **hints: Any) -> HeaderlessReader:
    """Open a file; hints ``width height`` (samples), ``bits``, ``cfa`` (``RGGB``), ``black``, ``white`` (DN)."""
    path = Path(path)
    width, height, bits = (_whole(path, hints, key) for key in ("width", "height", "bits"))
    if not (width and height and bits and hints.get("cfa")):
        raise FormatError(path, "", "has no header", HINT)
    if not 1 <= bits <= 16:
        raise FormatError(path, "--bits", f"{bits} is not between 1 and 16", HINT)
    cfa = pattern(path, str(hints["cfa"]))
    disk = "u1" if bits <= 8 else "<u2"
    size, held = width * height * np.dtype(disk).itemsize, os.stat(path).st_size
    if size > held:
        what = f"{width} x {height} samples of {bits} bits need {size} bytes, the file has {held}"
        raise FormatError(path, "size", what, "check --width, --height and --bits")
    facts: dict[str, Any] = {"cfa": cfa, "white": int(hints.get("white") or (1 << bits) - 1), "bits": bits}
    facts |= {"black": [[_level(hints)] * len(cfa[0]) for _ in cfa], "wb_source": "none"}
    notes = [("white-balance", "a file without a header does not say its white balance")]
    if held > size:
        notes.append(("more-bytes", f"{held - size} bytes after the samples are kept as they are"))
    description = Description(
        format="headerless",
        shape=(height, width),
        axes=("y", "x"),
        dtype="uint16",
        kind="mosaic",
        spacing=(None, None),
        units=(None, None),
        out_dtype="uint16",
        acquisition=facts,
        notes=tuple(notes),
    )
    return HeaderlessReader(path, description, disk)


def _whole(path: Path, hints: Mapping[str, Any], key: str) -> int:
    try:
        value = int(hints.get(key) or 0)
    except (TypeError, ValueError):
        value = -1
    if value < 0 or value > 1 << 20:
        raise FormatError(path, f"--{key}", f"{hints.get(key)} is no size", HINT)
    return value


def _level(hints: Mapping[str, Any]) -> float:
    """Return one black level; lists and words are the field's to understand."""
    try:
        return float(hints.get("black") or 0)
    except (TypeError, ValueError):
        return 0.0


def pattern(path: Path, text: str) -> list[list[int]]:
    """Return colour indices of letters, row by row; the second green of a 2 x 2 pattern is 3.

    Raises
    ------
    FormatError
        Other letters, or another number of them.
    """
    letters = XTRANS if text.strip().upper() in ("XTRANS", "X-TRANS") else text.strip().upper()
    side = SIDES.get(len(letters))
    if side is None or not set(letters) <= set(COLOURS):
        raise FormatError(path, "--cfa", f"{text} is no pattern", "write for instance RGGB, or 36 letters for 6 x 6")
    table = [[COLOURS[c] for c in letters[k * side : (k + 1) * side]] for k in range(side)]
    if side == 2 and sum(row.count(1) for row in table) == 2:
        table[1] = [3 if c == 1 else c for c in table[1]]
    return table


@dataclass
class HeaderlessReader:
    """Reader of samples that lie in one piece; nothing to keep open."""

    path: Path
    description: Description
    disk: str

    def read(self, region: Region) -> Array:
        """Return stored samples of a region."""
        try:
            whole = np.memmap(self.path, self.disk, "r", 0, self.description.shape)
        except (OSError, ValueError) as error:
            raise FormatError(self.path, "samples", "the file changed or is cut short") from error
        return np.asarray(whole[region]).astype(self.description.dtype)

    def mask(self, region: Region) -> Array:
        """Return where samples are below white."""
        return np.asarray(self.read(region[:2]) < self.description.acquisition["white"])

    def close(self) -> None:
        """Do nothing: files are opened for each read."""


def splice(path: Path, source: Reader, output: Description) -> Writer:
    """Write the same file with other samples."""
    if not isinstance(source, HeaderlessReader) or output.dtype != source.description.dtype:
        raise FormatError(path, "samples", f"a file without a header holds no {output.dtype}", "name the output .npy")
    shutil.copyfile(source.path, path)
    os.chmod(path, 0o600 | os.stat(path).st_mode)
    return HeaderlessWriter(np.memmap(path, source.disk, "r+", 0, source.description.shape))


class HeaderlessWriter:
    """Writer into a copy of the source."""

    def __init__(self, whole: Any) -> None:
        self._whole = whole

    def write(self, region: Region, values: Array) -> None:
        """Store samples at their place."""
        self._whole[region] = np.minimum(values, np.iinfo(self._whole.dtype).max)

    def close(self) -> None:
        """Flush to disk."""
        if self._whole is not None:
            self._whole.flush()
            self._whole = None
