# SPDX-License-Identifier: Apache-2.0
"""Writers of TIFF: other pixels in a copy of the source, or a new file."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid.core.errors import FormatError
from pellucid.core.lazy import np
from pellucid.core.types import Description, Reader, Region, Writer
from pellucid.formats import ome, tiff
from pellucid.formats.tiff import Layout

if TYPE_CHECKING:
    from pellucid.core.types import Array

LZW, DEFLATE, PACKBITS = 5, 8, 32773
OFFSETS, COUNTS = (273, 324), (279, 325)  # tags of strips and of tiles
LONG, LONG8 = 4, 16
DESCRIPTIVE = (270, 271, 272, 305, 306, 315, 33432, 700)  # description, make ... copyright, XMP
BIG = (1 << 32) - (1 << 25)


def splice(path: Path, source: Reader, output: Description) -> Writer:
    """Return a writer into a copy of the source; a new file where the sample type changes."""
    if not isinstance(source, tiff.TiffReader):
        return compose(path, output)
    if output.dtype != source.description.dtype or tuple(output.shape) != source.description.shape:
        return compose(path, output, source)
    if source.layout.offset < 0 and output.dtype == "bool":
        return compose(path, output.with_(dtype="uint8"), source)
    shutil.copyfile(source.path, path)
    if source.layout.offset >= 0:
        layout = source.layout
        whole = np.memmap(path, layout.dtype, "r+", layout.offset, layout.raw_shape)
        order = (0, 1, 2, 3, 4) if not layout.planar else (0, 4, 2, 3, 1)
        return MappedWriter(whole, whole.transpose(order)[:, 0, :, :, : layout.used], output)
    return RecodingWriter(path, source, output)


def compose(path: Path, description: Description, like: tiff.TiffReader | None = None) -> Writer:
    """Return a writer of a new uncompressed file; ``like`` gives descriptive tags."""
    import tifffile

    series = description.shape[2] if len(description.shape) == 3 else 1
    if len(description.shape) not in (2, 3) or np.dtype(description.dtype).kind not in "uifc":
        what = f"TIFF holds pictures and stacks, not {description.dtype} of shape {tuple(description.shape)}"
        raise FormatError(path, "pixels", what, "name the output .npy")
    stack = description.axes[-1] == "volume" or (series > 1 and series != 3)
    y, x = description.shape[:2]
    shape = (series, y, x) if stack else (y, x, series) if series == 3 else (y, x)
    facts: dict[str, Any] = {
        "photometric": "rgb" if series == 3 and not stack else "minisblack",
        "metadata": None,
        "ome": False,  # else the suffix makes tifffile write XML of its own
        "software": False,
    }
    if series == 3 and not stack:
        facts["planarconfig"] = "contig"
    if profile := description.acquisition.get("icc_profile"):
        facts["iccprofile"] = profile
    size = int(np.prod(shape)) * np.dtype(description.dtype).itemsize
    facts |= {"bigtiff": size > BIG, "extratags": _descriptive(like, description)}
    whole = tifffile.memmap(path, shape=shape, dtype=description.dtype, **facts)
    ordered = np.asarray(whole).reshape(shape if stack else (1, y, x, series))
    return MappedWriter(whole, ordered[..., None] if stack else ordered, description)


def _descriptive(like: tiff.TiffReader | None, made: Description) -> list[tuple[Any, ...]]:
    """Return the source's descriptive tags; a description of the layout (ImageJ) no longer holds, OME's does."""
    if like is None:
        return []
    with tiff.opened(like.path) as tif:
        page = tif.pages[0]
        tags = [page.tags[t] for t in DESCRIPTIVE if t in page.tags]
        layout = page.is_imagej or page.is_ome or page.is_shaped
        found = [(t.code, t.dtype, t.count, t.value, True) for t in tags if t.code != 270 or not layout]
        same = like.description.shape == made.shape and len(tif.pages) == like.layout.count
        if page.is_ome and same:
            xml = ome.retyped(page.description, made.dtype).encode("utf-8")
            found.append((270, 2, len(xml) + 1, xml, True))
        return found


class MappedWriter:
    """Writer into samples that lie in one piece; regions in any order."""

    def __init__(self, whole: Any, view: Array, output: Description) -> None:
        self._whole, self._view = whole, view  # view: (page, y, x, sample)
        self._flat = len(output.shape) == 2
        self._used = view.shape[3]
        self._lock = threading.Lock()

    def write(self, region: Region, values: Array) -> None:
        """Store pixels at their place."""
        with self._lock:
            put(self._view, region, values, self._used)

    def close(self) -> None:
        """Flush to disk."""
        if self._whole is not None:
            self._whole.flush()
            self._whole = self._view = None  # type: ignore[assignment]


def put(pages: Array, region: Region, values: Array, used: int) -> None:
    """Store ``values`` (y, x) or (y, x, series) into ``pages`` (page, y, x, sample)."""
    if len(region) == 2:
        pages[0, region[0], region[1], 0] = values
        return
    for k, series in enumerate(range(pages.shape[0] * used)[region[2]]):
        pages[series // used, region[0], region[1], series % used] = values[:, :, k]


class RecodingWriter:
    """Writer that collects pixels in a file beside and encodes strips or tiles at the end."""

    def __init__(self, path: Path, source: tiff.TiffReader, output: Description) -> None:
        self.path, self._layout, self._lock = path, source.layout, threading.Lock()
        self._scratch = path.with_name(path.name + ".pixels")
        layout = source.layout
        shape = (layout.count, layout.height, layout.width, layout.used)
        self._pages: Any = np.memmap(self._scratch, output.dtype, "w+", 0, shape)

    def write(self, region: Region, values: Array) -> None:
        """Store pixels at their place."""
        with self._lock:
            put(self._pages, region, values, self._layout.used)

    def close(self) -> None:
        """Encode into the copy and flush to disk."""
        if self._pages is None:
            return
        try:
            with tiff.opened(self.path, "r+") as tif:
                tif.filehandle.seek(0, 2)
                for k, number in enumerate(self._layout.pages):
                    _encode_page(tif, tif.pages[number], self._pages[k], self._layout)
                tif.filehandle.flush()
        finally:
            self._pages = None
            self._scratch.unlink(missing_ok=True)


def _encode_page(tif: Any, page: Any, pixels: Array, layout: Layout) -> None:
    """Exchange the strips or tiles of one page; what outgrows its place goes to the end of the file."""
    codec = page.compression if page.compression in tiff.LOSSLESS else DEFLATE
    offsets, counts = list(page.dataoffsets), list(page.databytecounts)
    for index, (plane, rows, columns) in enumerate(tiff.segments(page, layout)):
        block = tiff.decode(tif, page, index).copy()  # padding and opacity stay
        inside = block[: rows.stop - rows.start, : columns.stop - columns.start]
        if layout.planar:
            if plane >= layout.used:
                continue
            inside[:, :, 0] = pixels[rows, columns, plane]
        else:
            inside[:, :, : layout.used] = pixels[rows, columns]
        if not counts[index] and not block.any():
            continue  # sparse stays sparse
        raw = encode(block, codec, page.predictor, layout.dtype)
        if len(raw) > counts[index]:
            offsets[index] = tif.filehandle.seek(0, 2)
            offsets[index] += offsets[index] % 2
        tif.filehandle.seek(offsets[index])
        tif.filehandle.write(raw)
        counts[index] = len(raw)
    _renew(tif, page, codec, offsets, counts)


def encode(block: Array, codec: int, predictor: int, dtype: str) -> bytes:
    """Return a strip or tile ``(y, x, sample)`` in the file's compression, predictor and byte order."""
    import tifffile

    native = np.ascontiguousarray(block)
    if predictor == 3:
        data = np.asarray(tifffile.TIFF.PREDICTORS[3](native, axis=-2))
    elif predictor > 1:
        data = np.asarray(tifffile.TIFF.PREDICTORS[predictor](native, axis=-2)).astype(dtype)
    else:
        data = native.astype(dtype)
    if codec == 1:
        return data.tobytes()
    if codec == PACKBITS:  # rows are packed one by one
        rows = np.frombuffer(data.tobytes(), np.uint8).reshape(block.shape[0], -1)
        return bytes(tifffile.TIFF.COMPRESSORS[codec](rows, axis=-1))
    return bytes(tifffile.TIFF.COMPRESSORS[codec](data.tobytes()))


def _renew(tif: Any, page: Any, codec: int, offsets: list[int], counts: list[int]) -> None:
    """Write places, sizes and compression into the directory."""
    kind = LONG8 if tif.is_bigtiff else LONG
    if not tif.is_bigtiff and max(offsets) >> 32:
        raise FormatError(tif.filehandle.path, "offsets", "the output outgrows 4 GB", "convert the input to BigTIFF")
    for names, values in ((OFFSETS, offsets), (COUNTS, counts)):
        tag = next(page.tags[t] for t in names if t in page.tags)
        tag.overwrite(values, dtype=kind, erase=False)
    if codec != page.compression:
        page.tags[259].overwrite(codec)
        if int(page.photometric) == 6:
            page.tags[262].overwrite(2)  # decoded to RGB
            if 530 in page.tags:
                page.tags[530].overwrite((1, 1))  # colour is no longer subsampled
