# SPDX-License-Identifier: Apache-2.0
"""Writing GeoTIFF: what GDAL's own copy of a profile forgets is copied here by name.

Samples are gathered into whole rows of blocks before they are written, because GDAL encodes a
compressed block anew (and leaves the old one in the file) each time a part of it changes. Where a
row of blocks is too large to hold, or the target is a COG, an uncompressed draft is written
beside the target and translated at the end.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid.core.errors import FormatError
from pellucid.core.types import Description, Region
from pellucid.formats import geotiff_tags, tiff_layout
from pellucid.formats.geotiff import CACHE_LEAST, GeotiffReader, gdal, quiet, saving

if TYPE_CHECKING:
    from pellucid.core.types import Array

HELD = 96 << 20  # bytes of unfinished block rows kept in memory
STRIP_BYTES = 8 << 20  # a taller strip is cut: it would have to be held whole
LOSSLESS = {"DEFLATE", "LZW", "PACKBITS", "ZSTD", "LZMA", "LERC", "LERC_DEFLATE", "LERC_ZSTD"}
STORABLE = {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)} | {
    "float32",
    "float64",
    "complex64",
    "complex128",
}
PREDICTS = {"DEFLATE", "LZW", "ZSTD"}


def splice(path: Path, source: GeotiffReader, output: Description) -> GeotiffWriter:
    """Return a writer of the same scene with other samples, everything else copied from the source."""
    _check(path, output)
    dataset = source.dataset
    with gdal(source.path):
        options = _options(dataset, source, output)
        cog = dataset.tags(ns="IMAGE_STRUCTURE").get("LAYOUT") == "COG"
    georeference = _georeference(source)
    return GeotiffWriter(path, output, options, source=source, cog=cog, georeference=georeference)


def compose(path: Path, description: Description) -> GeotiffWriter:
    """Return a writer of a new scene: band-sequential, deflate, wavelengths as band tags."""
    _check(path, description)
    known = description.acquisition
    georeference: dict[str, Any] = {}
    if known.get("crs"):
        georeference["crs"] = known["crs"]
    if known.get("transform") is not None:
        georeference["transform"] = known["transform"]
    options = {"INTERLEAVE": "BAND", "COMPRESS": "DEFLATE", "PHOTOMETRIC": "MINISBLACK"}
    options["PREDICTOR"] = _predictor(description.dtype)
    return GeotiffWriter(path, description, options, georeference=georeference)


class GeotiffWriter:
    """A scene in the making. Regions in any order, each sample once."""

    def __init__(
        self,
        path: Path,
        output: Description,
        options: Mapping[str, str],
        *,
        source: GeotiffReader | None = None,
        cog: bool = False,
        georeference: Mapping[str, Any],
    ) -> None:
        import numpy as np

        self.path, self.output, self.source, self.cog = path, output, source, cog
        self.dtype = np.dtype(output.dtype)
        self.shape = (*output.shape, 1)[:3]
        self.options, self.georeference = dict(options), georeference
        self.rows = self._block_rows()
        self.direct = self.rows * self.shape[1] * self.shape[2] * self.dtype.itemsize > HELD
        self.draft: Path | None = None
        self.pending: dict[int, tuple[Array, int]] = {}
        self.spilled: set[int] = set()  # block rows that had to be written before they were complete
        self.closed = False
        self._dataset: Any = None

    def write(self, region: Region, values: Array) -> None:
        """Store samples of a (line, sample, band) region, already in the output's type."""
        lines, samples, bands = (*region, slice(0, 1))[:3]
        values = values.reshape([s.stop - s.start for s in (lines, samples, bands)])
        if self._dataset is None:
            self._start(lines)
        whole = samples == slice(0, self.shape[1]) and bands == slice(0, self.shape[2])
        at = lines.start
        while at < lines.stop:
            row = at // self.rows
            first, last = row * self.rows, min((row + 1) * self.rows, self.shape[0])
            stop = min(last, lines.stop)
            part = values[at - lines.start : stop - lines.start]
            if row in self.spilled:
                self._put((slice(at, stop), samples, bands), part)
            elif self.direct or (whole and at == first and stop == last):
                stop = lines.stop if self.direct else self._aligned_stop(lines.stop, stop, whole)
                self._put((slice(at, stop), samples, bands), values[at - lines.start : stop - lines.start])
            else:
                self._hold(row, (slice(at - first, stop - first), samples, bands), part, last - first)
            at = stop

    def close(self) -> None:
        """Finish masks, tags and the layout, and flush to disk."""
        if self.closed:
            return
        self.closed = True
        if self._dataset is None:
            self._start(slice(0, self.shape[0]))
        dataset, self._dataset = self._dataset, None
        with saving(self.path, CACHE_LEAST):
            for row in sorted(self.pending):
                self._flush(row, dataset)
            if self.source is not None:
                self._masks(dataset)
            dataset.close()
            if self.draft is not None:
                self._translate()
        if self.source is not None and not self.cog and self.source.directory.private:
            tiff_layout.append_private(self.path, self.source.directory.private, self.source.directory.order)
        fd = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def _block_rows(self) -> int:
        """Return the lines of one row of blocks of the file that is written block by block."""
        rows = int(self.options.get("BLOCKYSIZE", 0))
        if rows == 0:
            per_line = (
                self.shape[1] * self.dtype.itemsize * (1 if self.options.get("INTERLEAVE") == "BAND" else self.shape[2])
            )
            rows = max(1, min(self.shape[0], (1 << 16) // max(per_line, 1)))
            self.options["BLOCKYSIZE"] = str(rows)
        return rows

    def _start(self, lines: slice) -> None:
        """Create the file, or its draft where rows of blocks are too large to hold and will not come whole."""
        aligned = lines.start % self.rows == 0 and lines.stop in (
            self.shape[0],
            -(-lines.stop // self.rows) * self.rows,
        )
        costly = "COMPRESS" in self.options or (self.options.get("INTERLEAVE") == "PIXEL" and self.rows > 1)
        target = dict(self.options)
        if self.cog or (self.direct and costly and not aligned):
            self.draft = self.path.with_name(f".{self.path.name}.draft")
            target = {k: v for k, v in target.items() if k in ("PHOTOMETRIC", "ALPHA", "INTERLEAVE")}
            target["BLOCKYSIZE"], self.direct = "1", True
        source = self.source
        with saving(self.path, CACHE_LEAST), quiet():
            self._dataset = self._create(self.draft or self.path, target, self.georeference)
            if source is None:
                geotiff_tags.describe(self._dataset, self.output)
                return
            with source._lock:
                geotiff_tags.copy(source.dataset, self._dataset, source.description, self.output)

    def _create(self, path: Path, options: Mapping[str, str], georeference: Mapping[str, Any]) -> Any:
        """Create the dataset with everything that must precede the first sample."""
        import rasterio
        from rasterio import transform as transforms
        from rasterio.crs import CRS
        from rasterio.errors import CRSError

        affine: Any = vars(transforms)["Affine"]
        more: dict[str, Any] = {k.lower(): v for k, v in options.items()}
        if "crs" in georeference:
            crs = georeference["crs"]
            with contextlib.suppress(CRSError):  # words of another format that PROJ does not know: no CRS is better
                more["crs"] = CRS.from_user_input(crs) if isinstance(crs, str) else crs
        if "transform" in georeference:
            more["transform"] = affine(*tuple(georeference["transform"])[:6])
        if self.output.nodata is not None:
            more["nodata"] = self.output.nodata
        lines, samples, bands = self.shape
        return rasterio.open(
            path,
            "w",
            driver="GTiff",
            height=lines,
            width=samples,
            count=bands,
            dtype=self.dtype.name,
            **{"bigtiff": "IF_SAFER", **more},
        )

    def _aligned_stop(self, wanted: int, stop: int, whole: bool) -> int:
        """Return the last whole-block line up to ``wanted``: aligned blocks are written in one call."""
        if wanted == self.shape[0]:
            return wanted
        return max(stop, wanted // self.rows * self.rows) if whole else stop

    def _put(self, region: tuple[slice, slice, slice], values: Array, dataset: Any = None) -> None:
        """Hand samples to GDAL, (band, line, sample) contiguous, 32 MB at a time."""
        import numpy as np

        lines, samples, bands = region
        per_line = max(1, (samples.stop - samples.start) * (bands.stop - bands.start) * self.dtype.itemsize)
        step = max(self.rows, (32 << 20) // per_line // self.rows * self.rows)
        wide = int(self.options.get("BLOCKXSIZE", 0)) or self.shape[1]  # a row of blocks may be too large to turn
        if step * per_line > (64 << 20) and wide < samples.stop - samples.start:
            edges = [samples.start, *range((samples.start // wide + 1) * wide, samples.stop, wide), samples.stop]
        else:
            edges = [samples.start, samples.stop]
        indexes = list(range(bands.start + 1, bands.stop + 1))
        with saving(self.path, self.source.cache if self.source else CACHE_LEAST):
            for at in range(lines.start, lines.stop, step):
                stop = min(at + step, lines.stop)
                for left, right in itertools.pairwise(edges):
                    columns = slice(left - samples.start, right - samples.start)
                    part = np.moveaxis(values[at - lines.start : stop - lines.start, columns], -1, 0)
                    part = np.ascontiguousarray(part, dtype=self.dtype)
                    (dataset or self._dataset).write(part, indexes, window=((at, stop), (left, right)))

    def _hold(self, row: int, inside: tuple[slice, slice, slice], values: Array, lines: int) -> None:
        """Keep a part of a row of blocks until the row is complete."""
        import numpy as np

        if row not in self.pending:
            self.pending[row] = np.zeros((lines, *self.shape[1:]), self.dtype), 0
        held, count = self.pending[row]
        held[inside] = values
        self.pending[row] = held, count + values.size
        if count + values.size >= held.size:
            self._flush(row)
            return
        while len(self.pending) > 1 and sum(h.nbytes for h, _ in self.pending.values()) > HELD:
            self._flush(min(self.pending))

    def _flush(self, row: int, dataset: Any = None) -> None:
        """Write a kept row of blocks, complete or not; what is missing arrives later through GDAL."""
        held, count = self.pending.pop(row)
        first = row * self.rows
        region = (slice(first, first + len(held)), slice(0, self.shape[1]), slice(0, self.shape[2]))
        if count < held.size:
            self.spilled.add(row)  # the rest is merged by GDAL: memory is bounded, blocks are written twice
        self._put(region, held, dataset)

    def _masks(self, dataset: Any) -> None:
        """Copy the source's mask of whole pixels into the file."""
        assert self.source is not None
        source = self.source
        flags = [f.name for f in source.dataset.mask_flag_enums[0]]
        if "per_dataset" not in flags or "alpha" in flags:
            return
        step = max(1, (8 << 20) // max(1, self.shape[1]))
        for at in range(0, self.shape[0], step):
            window = ((at, min(at + step, self.shape[0])), (0, self.shape[1]))
            with source._lock:
                mask = source.dataset.read_masks(1, window=window)
            dataset.write_mask(mask, window=window)

    def _translate(self) -> None:
        """Turn the uncompressed draft into the final layout; GDAL copies tags and masks here."""
        import rasterio.shutil

        assert self.draft is not None
        options = {k: v for k, v in self.options.items() if k not in ("PHOTOMETRIC", "ALPHA")}
        driver = "GTiff"
        if self.cog:
            driver = "COG"
            options = {k: v for k, v in options.items() if k in ("COMPRESS", "PREDICTOR")}
            size = self.options.get("BLOCKXSIZE", "512")
            overviews = bool(self.source is not None and self.source.dataset.overviews(1))
            options.update(BLOCKSIZE=size, OVERVIEWS="IGNORE_EXISTING" if overviews else "NONE", STATISTICS="NO")
            if "PREDICTOR" in options:
                options["PREDICTOR"] = {"2": "STANDARD", "3": "FLOATING_POINT"}.get(options["PREDICTOR"], "NO")
        else:
            options["COPY_SRC_OVERVIEWS"] = "NO"
        options["BIGTIFF"] = "IF_SAFER"
        try:
            with quiet():
                rasterio.shutil.copy(str(self.draft), str(self.path), driver=driver, **options)
        finally:
            self.draft.unlink(missing_ok=True)


def _check(path: Path, output: Description) -> None:
    """Refuse what a GeoTIFF cannot say."""
    import math

    import numpy as np

    dtype = np.dtype(output.dtype)
    if dtype.name not in STORABLE:
        raise FormatError(path, "data type", f"{dtype.name} cannot be stored in a GeoTIFF", "choose float32")
    if output.nodata is not None and dtype.kind in "iu":
        info = np.iinfo(dtype)
        if math.isnan(output.nodata) or not info.min <= output.nodata <= info.max:
            raise FormatError(
                path, "nodata", f"{output.nodata} cannot occur in {dtype.name}", "choose another output type"
            )


def _options(dataset: Any, source: GeotiffReader, output: Description) -> dict[str, str]:
    """Return creation options that repeat the source's layout."""
    import numpy as np

    structure = dataset.tags(ns="IMAGE_STRUCTURE")
    item = np.dtype(output.dtype).itemsize
    out = {"INTERLEAVE": structure.get("INTERLEAVE", "BAND").upper()}
    lines, samples = source.block
    tile = tiff_layout.TILE_WIDTH in source.directory.entries
    if tile and lines % 16 == 0 and samples % 16 == 0:
        out.update(TILED="YES", BLOCKXSIZE=str(samples), BLOCKYSIZE=str(lines))
    else:
        across = dataset.width * item * (dataset.count if out["INTERLEAVE"] == "PIXEL" else 1)
        rows = min(lines, dataset.height)
        out["BLOCKYSIZE"] = str(rows if rows * across <= STRIP_BYTES else max(1, STRIP_BYTES // across))
    name = structure.get("COMPRESSION", "").upper()
    if name and (name not in LOSSLESS or source.description.lossy):
        name = "DEFLATE"
    if name:
        out["COMPRESS"] = name
        changed = output.dtype != source.description.dtype
        wanted = structure.get("PREDICTOR", "1") if not source.description.lossy else "2"
        if name in PREDICTS and wanted != "1":
            out["PREDICTOR"] = _predictor(output.dtype) if changed or source.description.lossy else wanted
    out.update(_photometric(dataset))
    if source.description.dtype == output.dtype and structure.get("ENDIANNESS") == "BIG":
        out["ENDIANNESS"] = "BIG"
    if source.directory.order == ">":
        out["ENDIANNESS"] = "BIG"
    if source.directory.big:
        out["BIGTIFF"] = "YES"
    return out


def _predictor(dtype: str) -> str:
    """Return the predictor that suits a type: horizontal differences, or the floating-point one."""
    import numpy as np

    kind = np.dtype(dtype).kind
    return "3" if kind == "f" else "2" if kind in "iu" else "1"


def _photometric(dataset: Any) -> dict[str, str]:
    """Return how the first bands are to be shown."""
    colours = [c.name for c in dataset.colorinterp]
    if colours[:3] == ["red", "green", "blue"]:
        out = {"PHOTOMETRIC": "RGB"}
    elif colours[0] == "palette":
        out = {"PHOTOMETRIC": "PALETTE"}
    else:
        photometric = dataset.photometric
        out = {"PHOTOMETRIC": "MINISWHITE" if photometric and photometric.name == "white" else "MINISBLACK"}
    if "alpha" in colours:
        out["ALPHA"] = "YES"
    return out


def _georeference(source: GeotiffReader) -> dict[str, Any]:
    """Return CRS and transform, unless ground control points stand in their place."""
    dataset = source.dataset
    with gdal(source.path):
        if dataset.gcps[0]:
            return {}
        out: dict[str, Any] = {"crs": dataset.crs} if dataset.crs else {}
        if not dataset.transform.is_identity:
            out["transform"] = dataset.transform
        return out
