# SPDX-License-Identifier: Apache-2.0
"""Writers of DNG: other samples in a copy of the source, or a new file; both are read back before they count."""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid.core.errors import FormatError
from pellucid.core.lazy import np
from pellucid.core.types import Description, Reader, Region, Writer
from pellucid.formats import dng, dng_noise, dng_tags
from pellucid.formats.dng_tags import BYTE, DOUBLE, LONG, RATIONAL, SHORT, Directory, Tree

if TYPE_CHECKING:
    from pellucid.core.types import Array

# Of the old coding: fill order, predictor, tiles, JPEG tables, linearisation, interleaving, digests, JPEG XL
STALE = (266, 317, 322, 323, 324, 325, 347, 50712, 50972, 50974, 50975, 51111, 52547, 52553, 52554, 52555)
UNIQUE_ID, PREVIEWS = 50781, ((273, 279), (324, 325), (513, 514))
WHITE_LEVEL, BLACK_LEVEL, BLACK_DIM, NOISE_PROFILE = 50717, 50714, 50713, 51041
OPCODES_2 = 51009
DENOMINATOR = 10000
LARGEST = (1 << 32) - (1 << 20)  # DNG is classic TIFF: offsets of 32 bits


def splice(path: Path, source: Reader, output: Description) -> Writer:
    """Return a writer into a copy of the source; a new file where the source is no DNG.

    Levels and noise profile of ``output`` are written where they differ from the source's.
    """
    if not isinstance(source, dng.DngReader) or tuple(output.shape) != tuple(source.description.shape):
        return compose(path, output)
    _holds(path, output)
    return SpliceWriter(path, source, output)


def compose(path: Path, description: Description) -> Writer:
    """Return a writer of a new file: uncompressed, one strip, tags from ``acquisition``."""
    from pellucid.formats import dng_new

    _holds(path, description)
    return dng_new.ComposeWriter(path, description)


def _holds(path: Path, description: Description) -> None:
    shape = tuple(description.shape)
    flat = len(shape) == 2 or (len(shape) == 3 and shape[2] == 3 and description.axes[-1] == "channel")
    if description.dtype != "uint16" or not flat:
        what = f"DNG holds 16-bit mosaics and linear RGB, not {description.dtype} of shape {shape}"
        raise FormatError(path, "samples", what, "name the output .tiff or .npy")
    if 2 * int(np.prod(shape)) > LARGEST:
        raise FormatError(path, "samples", "DNG ends at 4 GB", "name the output .tiff")


class SpliceWriter:
    """Writer of the full frame: margins as they were, the visible area as it is given."""

    def __init__(self, path: Path, source: dng.DngReader, output: Description) -> None:
        self.path, self._source, self._output = path, source, output
        self._step = _pedestal(source.description, output)
        self._full: Array | None = source.full().copy()
        if self._step:
            self._full = np.clip(self._full.astype(np.int32) + self._step, 0, 65535).astype(np.uint16)

    def write(self, region: Region, values: Array) -> None:
        """Store samples at their place."""
        assert self._full is not None
        frame = self._source.frame
        self._full[frame.rows, frame.columns][region] = values

    def close(self) -> None:
        """Copy the source around the samples, read everything back, flush to disk."""
        if self._full is None:
            return
        full, self._full = self._full, None
        tree = dng_tags.walk(self._source.path)
        raw = dng_tags.raw_directory(tree)
        order = tree.order + "u2"
        place = _place(tree, raw, self.path, full.nbytes)
        with self.path.open("r+b") as file:
            file.seek(place)
            full.astype(order, copy=False).tofile(file)
        changes = _coding(tree, raw, full, place) | _levels(tree, raw, self._source.description, self._output)
        changes |= self._noise(full)
        shared = _identity(tree, full)
        if raw.at == tree.first.at:
            changes |= shared
        else:
            _profile(tree, changes, shared)
            dng_tags.change(self.path, tree.first.at, shared)
        dng_tags.change(self.path, raw.at, changes)
        _companions(self._source.path, self.path)
        verify(self.path, full, self._output, self._source)
        with self.path.open("r+b") as file:
            os.fsync(file.fileno())

    def _noise(self, full: Array) -> dict[int, Any]:
        """Return the noise profile: as the output says, else the source's times what is left of the noise."""
        old, new = (d.acquisition.get("noise_profile") for d in (self._source.description, self._output))
        factor = 1.0
        if old and new == old:
            frame = self._source.frame
            period = len(self._source.description.acquisition.get("cfa", (0,)))
            factor = dng_noise.remaining(self._source.visible(), full[frame.rows, frame.columns], period)
        if new == old and factor == 1.0:
            return {}
        return {NOISE_PROFILE: (DOUBLE, [float(v) * factor for pair in new for v in pair]) if new else None}


def _pedestal(before: Description, after: Description) -> int:
    """Return by how many DN the output's black was raised, which the margins follow."""
    a, b = (np.asarray(d.acquisition.get("black", 0.0), float) for d in (before, after))
    return int(np.rint(np.mean(b - a))) if a.shape == b.shape else 0


def _place(tree: Tree, raw: Directory, path: Path, size: int) -> int:
    """Copy the source without its samples; return where the new ones go.

    They take the old ones' place where they fit or nothing follows. Previews that follow are moved
    behind them; anything else that follows stays where it is, and the samples go to the end.
    """
    pieces = sorted(dng_tags.segments(tree, raw))
    begin, end = pieces[0][0], max(a + n for a, n in pieces)
    tail = _tail(tree, raw, begin, end)
    shutil.copyfile(tree.path, path)
    os.chmod(path, 0o600 | os.stat(path).st_mode)
    solid = _solid(tree, raw, begin, end)
    with path.open("r+b") as file:
        if solid and (end >= tree.size - 1 or tail is not None):
            place = begin + begin % 2
            file.truncate(begin)
            for moved, (offset_at, at, count) in enumerate(tail or ()):
                with tree.path.open("rb") as old:
                    old.seek(at)
                    kept = old.read(count)
                new = place + size if not moved else file.seek(0, 2)
                new += new % 2
                file.seek(new)
                file.write(kept)
                file.seek(offset_at)
                file.write(struct.pack(tree.order + "I", new))
            return place
        for at, count in pieces:  # the noisy samples must not stay inside
            file.seek(at)
            file.write(bytes(count))
        if solid and size <= end - begin - begin % 2:
            return begin + begin % 2
        at = file.seek(0, 2)
        return at + at % 2


def _solid(tree: Tree, raw: Directory, begin: int, end: int) -> bool:
    """Whether nothing but raw samples lies between their first and last byte."""
    used = [(e.place, e.place + e.size) for d in tree.directories for e in d.entries.values() if e.size > 4]
    used += [(d.at, d.at + 6 + 12 * len(d.entries)) for d in tree.directories]
    used += [(a, a + n) for _, a, n in _pictures(tree, raw)]
    held = sum(n for _, n in dng_tags.segments(tree, raw))
    return end - begin - held <= 64 * len(tree.values(raw, 324) or (1,)) and not any(
        a < end and begin < b for a, b in used
    )


def _pictures(tree: Tree, raw: Directory) -> list[tuple[int, int, int]]:
    """Return (where the offset is written, offset, bytes) of every strip and tile of the other pictures."""
    found = []
    for directory in tree.directories:
        if directory.at == raw.at:
            continue
        for offsets, counts in PREVIEWS:
            entry, sizes = directory.entries.get(offsets), tree.values(directory, counts)
            if entry is None or sizes is None or entry.kind not in (LONG, 13):
                continue
            places = tree.values(directory, offsets)
            found += [(entry.place + 4 * k, a, n) for k, (a, n) in enumerate(zip(places, sizes, strict=False))]
    return found


def _tail(tree: Tree, raw: Directory, begin: int, end: int) -> list[tuple[int, int, int]] | None:
    """Return the previews behind the samples, None where something else lies there too."""
    behind = [p for p in _pictures(tree, raw) if p[1] >= end]
    used = [(e.place, e.size) for d in tree.directories for e in d.entries.values() if e.size > 4]
    used += [(d.at, 0) for d in tree.directories]
    if any(at >= begin for at, _ in used) or any(at >= begin for at, _, _ in behind):
        return None
    covered = sum(n for _, _, n in behind)
    return behind if behind and tree.size - end - covered <= 64 * len(behind) else None


def _coding(tree: Tree, raw: Directory, full: Array, place: int) -> dict[int, Any]:
    """Return the tags of uncompressed 16-bit samples in one strip."""
    samples = 1 if full.ndim == 2 else full.shape[2]
    changes: dict[int, Any] = dict.fromkeys(STALE)
    changes |= {
        256: (LONG, (full.shape[1],)),
        257: (LONG, (full.shape[0],)),
        258: (SHORT, (16,) * samples),
        259: (SHORT, (1,)),
        273: (LONG, (place,)),
        277: (SHORT, (samples,)),
        278: (LONG, (full.shape[0],)),
        279: (LONG, (full.nbytes,)),
    }
    if 284 in raw.entries:
        changes[284] = (SHORT, (1,))
    if 339 in raw.entries:
        changes[339] = (SHORT, (1,) * samples)
    if tree.number(raw, 259) in dng.LOSSY:  # LibRaw has applied these
        code = tree.values(raw, OPCODES_2)
        kept = [c for n, c in dng.opcodes(bytes(code or b"")) if n != dng.MAP_POLYNOMIAL]
        changes[OPCODES_2] = (7, struct.pack(">I", len(kept)) + b"".join(kept)) if kept else None
    return changes


def _levels(tree: Tree, raw: Directory, before: Description, after: Description) -> dict[int, Any]:
    """Return the tags of levels that differ from the source's, or that its coding implied."""
    old, new = before.acquisition, after.acquisition
    samples = 1 if len(after.shape) == 2 else after.shape[2]
    changes: dict[int, Any] = {}
    white, black = new.get("white", old["white"]), new.get("black", old["black"])
    implied = WHITE_LEVEL not in raw.entries or tree.number(raw, 259) in dng.LOSSY
    if implied or white != old["white"]:
        changes[WHITE_LEVEL] = (LONG, (int(np.min(white)),) * samples)
    if np.any(np.asarray(black) != np.asarray(old["black"])) or tree.number(raw, 259) in dng.LOSSY:
        changes |= levels_of(black)
        changes |= {50715: None, 50716: None}
    return changes


def levels_of(black: Any) -> dict[int, Any]:
    """Return BlackLevelRepeatDim and BlackLevel of levels over the pattern, or per channel."""
    table = np.asarray(black, float)
    shape = table.shape if table.ndim == 2 else (1, 1)
    fractions = [v for x in table.reshape(-1) for v in (int(np.rint(max(x, 0.0) * DENOMINATOR)), DENOMINATOR)]
    return {BLACK_DIM: (SHORT, shape), BLACK_LEVEL: (RATIONAL, fractions)}


def _identity(tree: Tree, full: Array) -> dict[int, Any]:
    """Return the tags of the first directory that name the very samples: digests go, the number is new."""
    changes: dict[int, Any] = {51111: None, 50972: None}
    if UNIQUE_ID in tree.first.entries:
        changes[UNIQUE_ID] = (BYTE, hashlib.md5(full.tobytes(), usedforsecurity=False).digest())
    return changes


def _profile(tree: Tree, changes: dict[int, Any], shared: dict[int, Any]) -> None:
    """Let a noise profile that is repeated in the first directory say the same there."""
    if NOISE_PROFILE in changes and NOISE_PROFILE in tree.first.entries:
        shared[NOISE_PROFILE] = changes[NOISE_PROFILE]


def _companions(source: Path, target: Path) -> None:
    """Copy development settings that lie beside the source: ``name.xmp`` and ``name.dng.xmp``."""
    for old, new in (
        (source.with_suffix(".xmp"), target.with_suffix(".xmp")),
        (source.with_name(source.name + ".xmp"), target.with_name(target.name + ".xmp")),
    ):
        if old.is_file():
            shutil.copyfile(old, new)


def verify(path: Path, full: Array, output: Description, source: Any = None) -> None:
    """Read a file back with LibRaw and compare samples, levels, balance, colours and visible area.

    Raises
    ------
    FormatError
        Something differs: the file must not be published.
    """
    reader = dng.open(path)
    try:
        if not np.array_equal(reader.full(), full):
            raise FormatError(path, "raw data", "reads back with other samples", "nothing was published")
        found, wanted = reader.description, output
        if found.shape != tuple(wanted.shape) or (source is not None and reader.frame.rows != source.frame.rows):
            raise FormatError(path, "visible area", f"reads back as {found.shape}", "nothing was published")
        for key in ("cfa", "black", "white", "wb"):
            old = wanted.acquisition.get(key)
            if old is not None and not same(old, found.acquisition.get(key)):
                what = f"reads back as {found.acquisition.get(key)}, not {old}"
                raise FormatError(path, key, what, "nothing was published")
    finally:
        reader.close()


def same(a: Any, b: Any) -> bool:
    """Whether two levels, patterns or gains agree to what fractions of a tag can hold."""
    x, y = np.asarray(a, float), np.asarray(b if b is not None else np.nan, float)
    if x.size == 1 or y.size == 1:
        return bool(np.allclose(x, y, rtol=1e-3, atol=1e-3))
    return x.shape == y.shape and bool(np.allclose(x, y, rtol=1e-3, atol=1e-3))
