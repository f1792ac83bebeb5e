# SPDX-License-Identifier: Apache-2.0
"""TIFF pictures and stacks: 8 to 64 bit, strips or tiles, chunky or planar, ImageJ, OME, BigTIFF.

A spliced file is a copy of the source in which the pixels are exchanged (``tiff_write``): every
tag, directory and private block stays. Scenes with map coordinates are left to GeoTIFF.
Format: TIFF 6.0 (Adobe 1992). tifffile reads directories and pixels.
"""

from __future__ import annotations

import logging
import struct
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid.core.errors import FormatError
from pellucid.core.lazy import np
from pellucid.core.types import Description, FormatTraits, Reader, Region, Writer
from pellucid.formats import ome, plausible
from pellucid.formats.tiff_private import anonymise as anonymise

if TYPE_CHECKING:
    from pellucid.core.types import Array

FORMAT = FormatTraits(
    name="tiff",
    title="TIFF",
    suffixes=(".tif", ".tiff", ".btf"),
    keeps="every tag and page, opacity, compression and predictor; lossy compression becomes deflate",
)

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
GEO_TAGS = frozenset((33550, 33922, 34264, 34735, 42112, 42113))  # scales, tie points, keys, GDAL
LOSSLESS = frozenset((1, 5, 8, 32946, 32773, 34925, 50000))  # none, LZW, deflate, PackBits, LZMA, Zstandard
LOSSY = frozenset((6, 7, 33007, 34712, 33003, 33004, 33005, 34933, 50001, 34887, 50002, 52546))
KINDS = {0: "intensity", 1: "intensity", 2: "rgb", 3: "palette", 4: "mask", 5: "cmyk", 6: "ycbcr", 8: "lab"}
KINDS |= {9: "lab", 10: "lab", 32803: "mosaic", 34892: "mosaic", 32844: "logluv", 32845: "logluv"}
ALPHA = (1, 2)  # ExtraSamples: associated and unassociated opacity
CACHE = 64 << 20  # bytes of decoded strips and tiles kept
MOST_PAGES = 1 << 20
QUIET = logging.NullHandler()
DAMAGED = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, AssertionError, EOFError)
DAMAGED += (OSError, MemoryError, RuntimeError, struct.error)  # type: ignore[assignment]


@dataclass(frozen=True)
class Layout:
    """How samples lie: ``pages`` pictures of (y, x) with ``samples`` of which ``used`` are not opacity."""

    pages: tuple[int, ...]  # numbers of the directories; one number repeated where ImageJ wrote but one
    height: int
    width: int
    samples: int
    used: int
    planar: bool
    dtype: str  # with byte order
    offset: int  # of samples that lie in one piece, else -1

    @property
    def count(self) -> int:
        """Number of pictures."""
        return len(self.pages)

    @property
    def raw_shape(self) -> tuple[int, ...]:
        """Order of samples in one piece: page, plane, y, x, sample."""
        planes, inner = (self.samples, 1) if self.planar else (1, self.samples)
        return (self.count, planes, self.height, self.width, inner)


def recognise(head: bytes, name: str) -> float:
    """Return a high certainty for a picture, a low one where map tags or many bands are seen."""
    if head[:4] not in MAGIC:
        return 0.0
    order, big = ("<" if head[:2] == b"II" else ">"), head[2:4] in (b"+\0", b"\0+")
    at = int.from_bytes(head[8:16] if big else head[4:8], "little" if order == "<" else "big")
    tags = _tags(head[at:] if at < len(head) else _elsewhere(name, at), order, big)
    if not tags:
        return 0.6
    return 0.3 if tags.keys() & GEO_TAGS or tags.get(277, 1) > 4 else 0.95


def _elsewhere(name: str, at: int) -> bytes:
    """Return what lies far into a file: many writers put the directory at the end."""
    try:
        with Path(name).open("rb") as file:
            file.seek(at)
            return file.read(4096)
    except (OSError, ValueError, OverflowError):
        return b""


def _tags(raw: bytes, order: str, big: bool) -> dict[int, int]:
    """Return tag -> value (or its offset) of a directory, as far as its bytes are there."""
    count, entry = ("Q", "HHQQ") if big else ("H", "HHII")
    tags: dict[int, int] = {}
    try:
        number, at = struct.unpack_from(order + count, raw)[0], struct.calcsize(order + count)
        for _ in range(min(number, 512)):
            tag, kind, _, value = struct.unpack_from(order + entry, raw, at)
            tags[tag] = struct.unpack_from(order + "H", raw, at + (12 if big else 8))[0] if kind == 3 else value
            at += struct.calcsize(order + entry)
    except struct.error:
        return {}
    return tags


def open(path: Path, **hints: Any) -> TiffReader:
    """Read the directories of a file."""
    path = Path(path)
    with opened(path) as tif:
        page = tif.pages[0]
        layout = _layout(path, tif, page)
        description = ome.annotate(path, page, describe(page, layout, len(tif.pages)))
        held = _held(path, tif, layout)
    plausible.check(path, *held)
    return TiffReader(path, description, layout)


@contextmanager
def opened(path: Path, mode: Any = "r") -> Iterator[Any]:
    """Open a file with tifffile; whatever goes wrong inside is a FormatError."""
    import tifffile

    logging.getLogger("tifffile").addHandler(QUIET)  # its complaints become one error of ours
    try:
        _walk(path)
        with tifffile.TiffFile(path, mode=mode, is_ome=False, _multifile=False) as tif:
            yield tif
    except FormatError:
        raise
    except DAMAGED as error:
        what = f"is damaged or not supported ({error})"
        raise FormatError(path, "directory or pixels", what, "copy it again, or convert it with tiffcp") from error


def _walk(path: Path) -> None:
    """Refuse directories that claim more strips or tiles than a list of them could hold in the file."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        head, seen = file.read(16), set[int]()
        order, big = ("<" if head[:2] == b"II" else ">"), head[2:4] in (b"+\0", b"\0+")
        at = struct.unpack_from(order + ("Q" if big else "I"), head, 8 if big else 4)[0]
        while at and at < size and at not in seen and len(seen) < MOST_PAGES:
            seen.add(at)
            file.seek(at)
            tags = _tags(file.read(8 + 20 * 512), order, big)
            height, width = tags.get(257, 0), tags.get(256, 0)
            rows, columns = tags.get(323) or tags.get(278) or height or 1, tags.get(322) or width or 1
            pieces = -(-height // rows) * -(-width // columns) * (tags.get(277, 1) if tags.get(284) == 2 else 1)
            if pieces > 1000 and 6 * pieces > size:  # four bytes of place and two of length each
                raise FormatError(
                    path, f"byte {at}", f"claims {pieces} strips or tiles", "copy it again from its source"
                )
            file.seek(at)
            number = struct.unpack(order + ("Q" if big else "H"), file.read(8 if big else 2))[0]
            file.seek(at + (8 + 20 * number if big else 2 + 12 * number))
            at = int.from_bytes(file.read(8 if big else 4), "little" if order == "<" else "big")


def _layout(path: Path, tif: Any, page: Any) -> Layout:
    """Return how samples lie, and refuse what cannot be read."""
    planes, depth, height, width, inner = page.shaped
    if depth != 1 or not height * width * planes * inner or page.dtype is None:
        raise FormatError(path, "page 0", f"shape {page.shaped} of type {page.dtype} is not read")
    samples = planes * inner
    extra = tuple(page.extrasamples or ())
    opacity = bool(extra) and extra[-1] in ALPHA and samples in (2, 4)
    pages = [
        p.index for p in tif.pages if p.shaped == page.shaped and p.dtype == page.dtype and p.tags.get(254) is None
    ]
    pages = pages or [0]
    if page.tags.get(254) is not None:
        pages = [p.index for p in tif.pages if p.shaped == page.shaped and p.dtype == page.dtype]
    dtype = page.dtype.newbyteorder(tif.byteorder)
    offset = page.dataoffsets[0] if page.is_contiguous and page.is_final else -1
    size = page.nbytes
    images = int((tif.imagej_metadata or {}).get("images", 1)) if tif.is_imagej else 1
    if len(pages) == 1 and images > 1 and offset >= 0:
        pages = pages * min(images, MOST_PAGES)
    elif any(tif.pages[p].dataoffsets[0] != offset + k * size for k, p in enumerate(pages)):
        offset = -1
    if offset >= 0 and offset + len(pages) * size > tif.filehandle.size:
        what = f"{len(pages)} pages of {size} bytes do not fit"
        raise FormatError(path, f"byte {offset}", what, "the file is cut short: copy it again from its source")
    return Layout(tuple(pages), height, width, samples, samples - opacity, planes > 1, dtype.str, offset)


def _held(path: Path, tif: Any, layout: Layout) -> tuple[int, int, float]:
    """Return the bytes of samples claimed, those held, and the largest expansion that is possible."""
    claimed = layout.count * layout.height * layout.width * layout.samples
    claimed = claimed * np.dtype(layout.dtype).itemsize // (8 if np.dtype(layout.dtype).kind == "b" else 1)
    if layout.offset >= 0:
        return claimed, tif.filehandle.size - layout.offset, 1.0
    size, held, sparse = tif.filehandle.size, 0, False
    for p in layout.pages:
        page = tif.pages[p]
        for at, count in zip(page.dataoffsets, page.databytecounts, strict=True):
            if at + count > size:
                what = f"strip or tile of {count} bytes does not fit the {size} bytes of the file"
                raise FormatError(path, f"byte {at}", what, "the file is cut short: copy it again from its source")
            held, sparse = held + count, sparse or not count
        expected = len(segments(page, layout))
        if len(page.dataoffsets) != expected:
            raise FormatError(
                path, f"page {p}", f"lists {len(page.dataoffsets)} strips or tiles, {expected} are needed"
            )
    uncompressed = tif.pages[layout.pages[0]].compression == 1 and not sparse
    return claimed, held, 4.0 if uncompressed else 1e5  # 4: packed samples of a few bits


def describe(page: Any, layout: Layout, directories: int) -> Description:
    """Return the neutral description: pages or samples, or both one after the other, as the series."""
    series = layout.count * layout.used
    shape: tuple[int, ...] = (layout.height, layout.width)
    if series > 1:
        shape += (series,)
    last = "channel" if layout.count == 1 else "volume"
    dtype = np.dtype(layout.dtype).newbyteorder("=")
    kind = KINDS.get(int(page.photometric), "unknown")
    if kind == "ycbcr" and page.compression in LOSSY:
        kind = "rgb"  # decoded to RGB
    kind = {"b": "mask", "c": "complex"}.get(dtype.kind, kind)
    notes = [("lossy", "the picture was compressed with loss; the output is not")] if page.compression in LOSSY else []
    if directories > len(set(layout.pages)):
        notes.append(("pages", f"{directories - layout.count} directories of another shape are kept as they are"))
    if page.tags.get(330) is not None:
        notes.append(("pyramid", "smaller copies inside the file are kept as they are"))
    return Description(
        format="tiff",
        shape=shape,
        axes=("y", "x", last)[: len(shape)],
        dtype=dtype.name,
        kind=kind,
        spacing=(None,) * len(shape),
        units=(None,) * len(shape),
        slope=1.0 / np.iinfo(dtype).max if dtype.kind in "iu" else 1.0,
        out_dtype=dtype.name,
        lossy=page.compression in LOSSY,
        acquisition=_facts(page),
        witnesses={
            "photometric": int(page.photometric),
            "compression": int(page.compression),
            "pages": layout.count,
            "samples": layout.used,
            "alpha": layout.used < layout.samples,
        },
        notes=tuple(notes),
    )


def _facts(page: Any) -> dict[str, Any]:
    """Return what a new file should know."""
    facts: dict[str, Any] = {"bits": int(page.bitspersample)}
    if profile := page.tags.valueof(34675):
        facts["icc_profile"] = bytes(profile)
    if orientation := page.tags.valueof(274):
        facts["orientation"] = int(orientation)
    return facts


def segments(page: Any, layout: Layout) -> list[tuple[int, slice, slice]]:
    """Return (plane, rows, columns) of each strip or tile of a page, in their order."""
    h, w = layout.height, layout.width
    if page.is_tiled:
        rows, columns = page.tilelength, page.tilewidth
    else:
        rows, columns = min(page.rowsperstrip or h, h), w
    grid = -(-h // rows) * -(-w // columns)
    if grid * (layout.samples if layout.planar else 1) > len(page.dataoffsets):
        return [(0, slice(0, 0), slice(0, 0))] * (len(page.dataoffsets) + 1)
    return [
        (plane, slice(y, min(y + rows, h)), slice(x, min(x + columns, w)))
        for plane in range(layout.samples if layout.planar else 1)
        for y in range(0, h, rows)
        for x in range(0, w, columns)
    ]


def decode(tif: Any, page: Any, index: int) -> Array:
    """Return a decoded strip or tile ``(y, x, sample)``, tiles with their padding; zeros where it is sparse."""
    at, count = page.dataoffsets[index], page.databytecounts[index]
    tif.filehandle.seek(at)
    raw = tif.filehandle.read(count) if count else None
    data, _, shape = page.decode(raw, index, jpegtables=page.jpegtables, _fullsize=page.is_tiled)
    if data is None:
        return np.zeros(shape[1:], page.dtype)
    return np.asarray(data).reshape(data.shape[-3:])


@dataclass
class TiffReader:
    """Reader that decodes the strips or tiles a region touches; pickles by path."""

    path: Path
    description: Description
    layout: Layout
    _state: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if not k.startswith("_")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _state={}, _lock=threading.Lock())

    def read(self, region: Region) -> Array:
        """Return stored samples of a region, without opacity."""
        rows, columns = (slice(*region[k].indices(self.description.shape[k])[:2]) for k in (0, 1))
        wanted = range(self.layout.count * self.layout.used)
        if len(self.description.shape) == 3:
            wanted = wanted[region[2]]
        shape = (max(rows.stop - rows.start, 0), max(columns.stop - columns.start, 0), len(wanted))
        out = np.empty(shape, self.description.dtype)
        for k, series in enumerate(wanted):
            page, sample = divmod(series, self.layout.used)
            self._plane(page, sample, (rows, columns), out[:, :, k])
        return out if len(self.description.shape) == 3 else out[:, :, 0]

    def _plane(self, page: int, sample: int, window: tuple[slice, slice], out: Array) -> None:
        """Fill ``out`` with one sample of one page."""
        if self.layout.offset >= 0:
            try:
                whole = np.memmap(self.path, self.layout.dtype, "r", self.layout.offset, self.layout.raw_shape)
            except (OSError, ValueError) as error:
                raise FormatError(self.path, "pixels", "the file changed or is cut short") from error
            plane, inner = (sample, 0) if self.layout.planar else (0, sample)
            out[...] = whole[page, plane, window[0], window[1], inner]
            return
        with self._lock:
            for index, (plane, rows, columns) in self._touched(page, window):
                if self.layout.planar and plane != sample:
                    continue
                values = self._segment(page, index)[:, :, 0 if self.layout.planar else sample]
                (ys, yd), (xs, xd) = _overlap(rows, window[0]), _overlap(columns, window[1])
                out[yd, xd] = values[ys, xs]

    def _touched(self, page: int, window: tuple[slice, slice]) -> list[tuple[int, tuple[int, slice, slice]]]:
        if "tif" not in self._state:
            self._state["stack"] = stack = opened(self.path)
            self._state["tif"] = stack.__enter__()
            self._state["held"] = OrderedDict()
            first = self._state["tif"].pages[self.layout.pages[0]]
            self._state["segments"] = list(enumerate(segments(first, self.layout)))
        y, x = window
        return [
            (k, s)
            for k, s in self._state["segments"]
            if s[1].start < y.stop and y.start < s[1].stop and s[2].start < x.stop and x.start < s[2].stop
        ]

    def _segment(self, page: int, index: int) -> Array:
        """Return a decoded strip or tile, from memory if it was used lately."""
        held: OrderedDict[tuple[int, int], Array] = self._state["held"]
        if (page, index) not in held:
            tif = self._state["tif"]
            try:
                held[page, index] = decode(tif, tif.pages[self.layout.pages[page]], index)
            except DAMAGED as error:
                what = f"strip or tile {index} cannot be decoded ({error})"
                raise FormatError(self.path, f"page {page}", what, "copy it again from its source") from error
            while len(held) > 1 and sum(a.nbytes for a in held.values()) > CACHE:
                held.popitem(last=False)
        held.move_to_end((page, index))
        return held[page, index]

    def close(self) -> None:
        """Release the file and what was decoded."""
        with self._lock:
            if "stack" in self._state:
                self._state["stack"].__exit__(None, None, None)
            self._state.clear()


def _overlap(a: slice, b: slice) -> tuple[slice, slice]:
    """Return where two ranges meet, counted from the start of each."""
    start, stop = max(a.start, b.start), min(a.stop, b.stop)
    return slice(start - a.start, stop - a.start), slice(start - b.start, stop - b.start)


def splice(path: Path, source: Reader, output: Description) -> Writer:
    """Write the same file with other pixels; see ``tiff_write``."""
    from pellucid.formats import tiff_write

    return tiff_write.splice(path, source, output)


def compose(path: Path, description: Description) -> Writer:
    """Write a new, uncompressed file; see ``tiff_write``."""
    from pellucid.formats import tiff_write

    return tiff_write.compose(path, description)
