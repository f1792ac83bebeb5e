# SPDX-License-Identifier: Apache-2.0
"""DNG, mosaic and linear: samples by LibRaw, levels and colours by the tags, written back into a copy.

The tags are believed where LibRaw differs. Format: DNG 1.7.1.0 (Adobe 2023).
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid.core.errors import FormatError
from pellucid.core.lazy import np
from pellucid.core.types import Description, FormatTraits, Reader, Region, Writer
from pellucid.formats import dng_tags, libraw
from pellucid.formats.dng_tags import Directory, Tree
from pellucid.formats.libraw import Frame
from pellucid.formats.tiff_private import anonymise as anonymise

if TYPE_CHECKING:
    from pellucid.core.types import Array

FORMAT = FormatTraits(
    name="dng",
    title="DNG",
    suffixes=(".dng",),
    keeps="every tag, preview, maker note, masked border and .xmp; samples become 16 bit, uncompressed",
)

LOSSY = (34892, 52546)  # lossy JPEG; JPEG XL, which may be lossy
APART = 1.0  # DN by which LibRaw's black may differ from the tag's
NEAR = 1  # samples by which LibRaw makes an odd visible area even
MAP_POLYNOMIAL, FIX_CONSTANT, FIX_LIST = 8, 4, 5  # opcodes
MOST_OPCODES = 1024
MATRICES = {"color_matrix": (50721, 50722), "forward_matrix": (50964, 50965), "camera_calibration": (50723, 50724)}
DAYLIGHT, DAYLIGHTS = 21, (1, 9, 12, 18, 20, 21, 22, 23)  # D65; LightSource codes of 4800 K and more


def recognise(head: bytes, name: str) -> float:
    """Return 1 for TIFF whose first directory has a DNGVersion."""
    return 1.0 if dng_tags.claims_dng(head, name) else 0.0


def open(path: Path, **hints: Any) -> DngReader:
    """Read tags and samples of a file; the samples are kept until ``close``."""
    path = Path(path)
    try:
        tree = dng_tags.walk(path)
        raw = dng_tags.raw_directory(tree)
        dng_tags.segments(tree, raw)
        return _open(path, tree, raw)
    except (struct.error, ValueError, TypeError, OSError, OverflowError, ArithmeticError, LookupError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(path, "tags", f"are damaged ({error})", "copy the file again from its source") from error


def _open(path: Path, tree: Tree, raw: Directory) -> DngReader:
    with libraw.header(path) as decoder:
        libraw.limit(path, decoder)
        full = libraw.unpack_open(path, decoder)
        frame = _frame(tree, raw, decoder)
        cfa = _pattern(tree, raw, frame, decoder)
        facts = libraw.acquisition(decoder, cfa)
        notes = list(libraw.notes_of(decoder, frame.samples > 1))
    if tree.child(34665) is not None:  # the tags say more exactly what LibRaw derives from them
        facts = {k: v for k, v in facts.items() if k not in ("iso", "exposure_s")}
    black = black_of(tree, raw, frame, np.shape(facts["black"]))
    if black is not None and np.max(np.abs(np.asarray(black) - np.asarray(facts["black"]))) > APART:
        notes.append(("black-level", f"LibRaw says black {facts['black']}, the tag {black}: the tag is believed"))
        facts["black"] = black
    facts |= tags_of(tree, raw)
    if facts["wb_source"] == "camera":
        notes = [note for note in notes if note[0] != "white-balance"]
    lossy = _first(tree, raw, 259) in LOSSY
    if lossy:
        notes.append(("lossy", "the samples were compressed with loss; the output is not"))
    libraw.check(path, full, frame, facts["white"])
    description = libraw.describe("dng", frame, facts, tuple(notes)).with_(lossy=lossy)
    reader = DngReader(path, description, frame)
    reader._held.append(full)
    return reader


def _first(tree: Tree, directory: Directory, tag: int, default: int = 1) -> int:
    """Return a tag's first value as an integer."""
    return int(tree.number(directory, tag, default))


def _frame(tree: Tree, raw: Directory, decoder: Any) -> Frame:
    """Return the visible area: LibRaw's, or the tag's where LibRaw only made it even."""
    s = decoder.sizes
    area = [s.top_margin, s.left_margin, s.top_margin + s.height, s.left_margin + s.width]
    tagged = tree.values(raw, 50829)
    if tagged is not None and len(tagged) == 4:
        inside = 0 <= tagged[0] < tagged[2] <= s.raw_height and 0 <= tagged[1] < tagged[3] <= s.raw_width
        if inside and all(abs(a - b) <= NEAR for a, b in zip(area, tagged, strict=True)):
            area = [int(v) for v in tagged]
    compressed = _first(tree, raw, 259) != 1
    samples = 1 if _first(tree, raw, 277) == 1 else 3
    return Frame(s.raw_height, s.raw_width, slice(area[0], area[2]), slice(area[1], area[3]), samples, compressed)


def _pattern(tree: Tree, raw: Directory, frame: Frame, decoder: Any) -> list[list[int]]:
    """Return colour indices from the top left of the visible area; empty for linear raw."""
    seen = decoder.raw_pattern
    if frame.samples > 1 or seen is None or tree.number(raw, 262) != dng_tags.CFA:
        return []
    rows = frame.rows.start - decoder.sizes.top_margin
    columns = frame.columns.start - decoder.sizes.left_margin
    found: list[list[int]] = np.roll(np.asarray(seen), (-rows, -columns), (0, 1)).tolist()
    return found


def black_of(tree: Tree, raw: Directory, frame: Frame, shape: tuple[int, ...]) -> list[Any] | None:
    """Return black (DN) as the tags say, over the colour pattern or per channel; None where they do not.

    Mean values of per-row and per-column differences (BlackLevelDeltaV, DeltaH) are added.
    """
    levels = tree.values(raw, 50714)
    lossy = _first(tree, raw, 259) in LOSSY
    if levels is None or isinstance(levels, bytes) or lossy or not all(math.isfinite(v) for v in levels):
        return None
    rows, columns = tree.values(raw, 50713) or (1, 1)
    more = 0.0
    for tag in (50715, 50716):
        steps = tree.values(raw, tag)
        more += float(np.mean(steps)) if steps and all(math.isfinite(v) for v in steps) else 0.0
    if frame.samples > 1:
        spread = np.asarray(levels, float).reshape(-1, frame.samples) if len(levels) % frame.samples == 0 else None
        return None if spread is None else (spread.mean(0) + more).tolist()
    if len(levels) != rows * columns or len(shape) != 2:
        return None
    area = tree.values(raw, 50829) or (frame.rows.start, frame.columns.start)  # the tag's pattern begins there
    shift = (area[0] - frame.rows.start, area[1] - frame.columns.start)
    table = np.roll(np.asarray(levels, float).reshape(rows, columns), shift, (0, 1))
    high, wide = math.lcm(shape[0], rows), math.lcm(shape[1], columns)
    tiled = np.tile(table, (high // rows, wide // columns)).reshape(high // shape[0], shape[0], -1, shape[1])
    found: list[Any] = (tiled.mean((0, 2)) + more).tolist()  # a period that does not fit the colours is averaged
    return found


def tags_of(tree: Tree, raw: Directory) -> dict[str, Any]:
    """Return colours, noise and exposure as the tags say; nothing that names a person or a camera body."""
    first, exif = tree.first, tree.child(34665)
    facts: dict[str, Any] = {"make": tree.text(first, 271), "model": tree.text(first, 272) or tree.text(first, 50708)}
    facts |= _matrices(tree)
    for name, tag in (("analog_balance", 50727), ("as_shot_neutral", 50728)):
        found = tree.values(first, tag)
        if found is not None and len(found) == 3 and all(math.isfinite(v) for v in found):
            facts[name] = [float(v) for v in found]
    if all(v > 0 for v in facts.get("as_shot_neutral", (0.0,))):  # LibRaw's gains carry differences of black
        r, g, b = facts["as_shot_neutral"]
        facts |= {"wb": [g / r, 1.0, g / b, 1.0], "wb_source": "camera"}
    facts["baseline_exposure"] = tree.number(first, 50730)
    profile = tree.values(raw, 51041) or tree.values(first, 51041)
    if profile is not None and len(profile) % 2 == 0 and all(math.isfinite(v) for v in profile):
        facts["noise_profile"] = [[float(a), float(b)] for a, b in zip(profile[::2], profile[1::2], strict=True)]
    facts["iso"] = tree.number(exif, 34855) or tree.number(exif, 34866)
    facts["exposure_s"], facts["aperture"] = tree.number(exif, 33434), tree.number(exif, 33437)
    facts["focal_mm"], facts["orientation"] = tree.number(exif, 37386), tree.number(first, 274)
    return {k: v for k, v in facts.items() if v not in (None, "", [], 0)}


def _matrices(tree: Tree) -> dict[str, Any]:
    """Return the matrices of one or two lights, that of daylight first; without an illuminant it is daylight."""
    lights = [int(tree.number(tree.first, tag, 0)) or DAYLIGHT for tag in (50778, 50779)]
    order = (0, 1) if lights[0] in DAYLIGHTS or 50722 not in tree.first.entries else (1, 0)
    facts: dict[str, Any] = {
        name: dng_tags.matrices(tree, (tags[order[0]], tags[order[1]])) for name, tags in MATRICES.items()
    }
    return facts | {"illuminants": [lights[k] for k in order][: len(facts["color_matrix"])]}


def opcodes(code: bytes | None) -> list[tuple[int, bytes]]:
    """Return (number, parameters) of an opcode list; its integers are big-endian in every file."""
    if not code or len(code) < 4:
        return []
    found, at = [], 4
    for _ in range(min(struct.unpack(">I", code[:4])[0], MOST_OPCODES)):
        if at + 16 > len(code):
            break
        number, _, _, size = struct.unpack(">IIII", code[at : at + 16])
        found.append((number, code[at : at + 16 + size]))
        at += 16 + size
    return found


def defects(found: list[tuple[int, bytes]], full: Array) -> Array | None:
    """Return where FixBadPixels opcodes say the sensor is broken, over the full frame; None where nowhere."""
    hit = None
    for number, code in found:
        if number == FIX_CONSTANT and len(code) >= 20:
            here = full == struct.unpack(">I", code[16:20])[0]
        elif number == FIX_LIST and len(code) >= 28:
            here = np.zeros(full.shape[:2], bool)
            points, rects = struct.unpack(">II", code[20:28])
            table = np.frombuffer(code[28:], ">u4").astype(np.int64)
            spots = table[: 2 * points].reshape(-1, 2)
            spots = spots[(spots < here.shape).all(1)]
            here[spots[:, 0], spots[:, 1]] = True
            for t, left, b, r in table[2 * points : 2 * points + 4 * rects].reshape(-1, 4):
                here[t:b, left:r] = True
        else:
            continue
        hit = here if hit is None else hit | here
    return hit


@dataclass
class DngReader(libraw.RawReader):
    """Reader of DNG that also knows the defects a file lists."""

    def mask(self, region: Region) -> Array:
        """Return where samples may be changed: neither saturated nor listed as defects."""
        free = super().mask(region)
        broken = self._broken()
        return free if broken is None else free & ~broken[self.frame.rows, self.frame.columns][region[:2]]

    def _broken(self) -> Array | None:
        full = self.full()
        with self._lock:
            if len(self._held) < 2:
                tree = dng_tags.walk(self.path)
                code = tree.values(dng_tags.raw_directory(tree), 51008)
                found = opcodes(bytes(code)) if code and full.ndim == 2 else []
                self._held.append(defects(found, full))  # type: ignore[arg-type]
            return self._held[1]


def splice(path: Path, source: Reader, output: Description) -> Writer:
    """Write the same file with other samples; see ``dng_write``."""
    from pellucid.formats import dng_write

    return dng_write.splice(path, source, output)


def compose(path: Path, description: Description) -> Writer:
    """Write a new file; see ``dng_write``."""
    from pellucid.formats import dng_write

    return dng_write.compose(path, description)
