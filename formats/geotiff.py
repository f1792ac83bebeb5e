# SPDX-License-Identifier: Apache-2.0
"""GeoTIFF and Cloud Optimised GeoTIFF scenes, through rasterio.

Only GDAL's GTiff driver is ever asked, so that a VRT (which may name any file or address) is not
followed whatever its name. The writers are in ``geotiff_write``.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid.core.errors import FormatError, OutputError, PellucidError
from pellucid.core.types import Description, FormatTraits, Reader, Region, Writer
from pellucid.formats import geotiff_meta, tiff_layout
from pellucid.formats.tiff_private import anonymise as anonymise

if TYPE_CHECKING:
    from pellucid.core.types import Array

FORMAT = FormatTraits(
    name="geotiff",
    title="GeoTIFF, BigTIFF, Cloud Optimised GeoTIFF",
    suffixes=(".tif", ".tiff", ".gtiff"),
    keeps="dataset and band tags of every namespace, descriptions, scales, offsets, units, colours, CRS, transform, "
    "GCPs, RPCs, masks, private TIFF tags, tiling, interleave, compression; statistics and overviews are dropped "
    "(a COG's are made anew), lossy compression becomes deflate, reduced bit depths become whole bytes",
)
SETTINGS = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "TRUE",  # ask for .msk and .aux.xml by name: a folder may hold 10^5 files
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".never",  # a side file may name an address: nothing is fetched
    "GDAL_NUM_THREADS": "1",
}
CACHE_LEAST, CACHE_MOST = 32 << 20, 160 << 20  # bytes of GDAL block cache
_CACHE = [CACHE_LEAST]
_HOOKS = threading.RLock()
_SILENT = logging.NullHandler()  # else Python prints GDAL's warnings where no logging is set up


def recognise(head: bytes, name: str) -> float:
    """Return how certain it is that these are the first bytes of a TIFF that a scene would be kept in."""
    suffix = Path(name).suffix.lower()
    if head[:4] in (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+"):
        return 0.9 if suffix in FORMAT.suffixes else 0.8
    return 0.2 if suffix in FORMAT.suffixes else 0.0


def open(path: Path, **hints: Any) -> Reader:
    """Open a GeoTIFF: its directory and tags, no pixels.

    Raises
    ------
    FormatError
        Not a TIFF, cut short, a disguised VRT, several data types, complex integers.
    """
    return GeotiffReader(Path(path))


def splice(path: Path, source: Reader, output: Description) -> Writer:
    """Write the same scene with other samples; see `geotiff_write.splice`."""
    from pellucid.formats import geotiff_write

    if not isinstance(source, GeotiffReader):
        return compose(path, output)
    return geotiff_write.splice(Path(path), source, output)


def compose(path: Path, description: Description) -> Writer:
    """Write a new GeoTIFF from a description; see `geotiff_write.compose`."""
    from pellucid.formats import geotiff_write

    return geotiff_write.compose(Path(path), description)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the remark on missing georeference quiet, and GDAL messages that are no text.

    The lock is because both hooks belong to the process.
    """
    import sys
    import warnings

    from rasterio.errors import NotGeoreferencedWarning

    with _HOOKS, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        hook = sys.unraisablehook
        sys.unraisablehook = lambda u: None if isinstance(u.exc_value, UnicodeDecodeError) else hook(u)
        try:
            yield
        finally:
            sys.unraisablehook = hook


@contextlib.contextmanager
def gdal(path: object, cache: int = CACHE_LEAST) -> Iterator[None]:
    """Run a block that reads with our GDAL settings; its errors become one `FormatError`."""
    with _translated(path, cache, {}) as errors:
        yield
    if errors:
        raise FormatError(path, "GeoTIFF", errors[0], "the file is damaged: copy it again") from None


@contextlib.contextmanager
def saving(path: object, cache: int) -> Iterator[None]:
    """Run a block that writes; its errors become one `OutputError`."""
    with _translated(path, cache, {"GDAL_PAM_ENABLED": "NO", "GDAL_TIFF_INTERNAL_MASK": "YES"}) as errors:
        yield
    if errors:
        raise OutputError(f"could not be written: {errors[0]}", path, "look at the room left on the disk") from None


@contextlib.contextmanager
def _translated(path: object, cache: int, more: Mapping[str, str]) -> Iterator[list[str]]:
    """Enter GDAL's settings; the text of what rasterio raises inside is left in the list.

    The block cache belongs to the process and only ever grows here: shrinking it between a read
    and a write would throw decoded blocks away.
    """
    import rasterio
    from rasterio._err import CPLE_BaseError  # GDAL's own errors, where rasterio does not translate them
    from rasterio.errors import RasterioError

    logging.getLogger("rasterio").addHandler(_SILENT)
    _CACHE[0] = max(_CACHE[0], cache)
    errors: list[str] = []
    try:
        env: Any = rasterio.Env
        with env(GDAL_CACHEMAX=_CACHE[0], **SETTINGS, **more):
            yield errors
    except (RasterioError, CPLE_BaseError, MemoryError, ValueError, TypeError, OverflowError, SystemError) as error:
        if isinstance(error, PellucidError):
            raise
        cause = error.__cause__ or error
        text = " ".join(str(cause).split()).replace(str(path), Path(str(path)).name)
        errors.append((text or type(error).__name__)[:300])


class GeotiffReader:
    """An open GeoTIFF: one GDAL handle under a lock, made again where the reader was unpickled to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.directory = tiff_layout.read(path)
        tiff_layout.check(path, self.directory)
        self._dataset: Any = None
        self._lock = threading.RLock()
        self._open()
        with gdal(path), quiet():
            self.block, self.cache = _blocks(self._dataset)
            self.masked = geotiff_meta.has_mask(self._dataset)
            self.description = geotiff_meta.describe(path, self._dataset, self.directory, self.block)

    @property
    def dataset(self) -> Any:
        """The rasterio dataset; not safe to use from two threads at once."""
        if self._dataset is None:
            self._open()
        return self._dataset

    def read(self, region: Region) -> Array:
        """Return stored samples of a (line, sample, band) region; a view of GDAL's (band, line, sample)."""
        import numpy as np

        lines, samples, bands = region
        window = ((lines.start, lines.stop), (samples.start, samples.stop))
        indexes = list(range(bands.start + 1, bands.stop + 1))
        shape = tuple(max(0, s.stop - s.start) for s in region)
        if 0 in shape:
            return np.empty(shape, self.description.dtype)
        with self._lock, gdal(self.path, self.cache):
            values = self.dataset.read(indexes, window=window)
        return np.moveaxis(values, 0, -1)

    def mask(self, region: Region) -> Array | None:
        """Return where the file's own mask (internal, .msk or alpha) says valid, axes (line, sample); None without."""
        if not self.masked:
            return None
        lines, samples = region[:2]
        with self._lock, gdal(self.path, self.cache):
            flags = self.dataset.read_masks(1, window=((lines.start, lines.stop), (samples.start, samples.stop)))
        valid: Array = flags != 0
        return valid

    def close(self) -> None:
        """Release the file."""
        dataset, self._dataset = self._dataset, None
        if dataset is not None:
            dataset.close()

    def _open(self) -> None:
        import rasterio

        with gdal(self.path), quiet():
            self._dataset = rasterio.open(self.path, driver="GTiff")

    def __getstate__(self) -> Mapping[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_lock", "_dataset")}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock, self._dataset = threading.RLock(), None


def _blocks(dataset: Any) -> tuple[tuple[int, int], int]:
    """Return a block's (lines, samples) and the block cache for one row of blocks, within bounds."""
    import numpy as np

    lines, samples = dataset.block_shapes[0]
    row = lines * dataset.width * dataset.count * np.dtype(geotiff_meta.one_dtype(Path(dataset.name), dataset)).itemsize
    return (int(lines), int(samples)), int(min(max(row + row // 4, CACHE_LEAST), CACHE_MOST))
