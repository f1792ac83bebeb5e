# SPDX-License-Identifier: Apache-2.0
"""EnMAP products still packed in a zip: unpacked to a private folder while they are read."""

from __future__ import annotations

import errno
import shutil
import tempfile
import weakref
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid.core.errors import FormatError
from pellucid.core.types import Description, FormatTraits, Reader, Region
from pellucid.formats import enmap

if TYPE_CHECKING:
    from pellucid.core.types import Array

FORMAT = FormatTraits(
    name="enmap_zip",
    title="EnMAP product in a zip",
    suffixes=(".zip",),
    writes=(),
    keeps="wavelengths, widths, gains, nodata, geometry in the GeoTIFF or ENVI file that is written instead",
    fallback=".tif",
)
MAGIC = b"PK\x03\x04"
NEEDED = (enmap.IMAGE, enmap.METADATA, enmap.PIXELMASK)
RATIO = 1100  # deflate's largest expansion, with margin
LARGEST = 64 << 30  # bytes a product may unpack to


def recognise(head: bytes, name: str) -> float:
    """Return how certain it is that this zip holds a product; only its directory is read."""
    if head[:4] != MAGIC:
        return 0.0
    try:
        with zipfile.ZipFile(name) as archive:
            names = [n.upper() for n in archive.namelist()[:10_000]]
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError, RuntimeError, EOFError):
        return 0.0
    return 0.95 if any(n.endswith(enmap.METADATA) for n in names) and any(enmap.IMAGE in n for n in names) else 0.0


def open(path: Path, *, key: str | None = None, quality: str = "", **hints: Any) -> Reader:
    """Open a product; see ``enmap.open``.

    Raises
    ------
    FormatError
        Damaged, a bomb, or not a whole product.
    """
    return ZipReader(Path(path), key, quality)


class ZipReader:
    """A product unpacked to a temporary folder, which goes when the reader does."""

    def __init__(self, path: Path, key: str | None = None, quality: str = "") -> None:
        self.path, self.key, self.quality = path, key, quality
        self._unpack()

    def read(self, region: Region) -> Array:
        """Return stored samples of a (line, sample, band) region."""
        return self._inner.read(region)

    def mask(self, region: Region) -> Array | None:
        """Return where the pixel masks flag few of the usable bands."""
        return self._inner.mask(region)

    def close(self) -> None:
        """Release the files and remove the folder."""
        self._inner.close()
        self._remove()

    def _unpack(self) -> None:
        folder = tempfile.mkdtemp(prefix="pellucid-enmap-")
        self._remove = weakref.finalize(self, shutil.rmtree, folder, True)
        try:
            unpack(self.path, Path(folder), (*NEEDED, enmap.LAYER) if self.quality else NEEDED)
            product = enmap._product(Path(folder))
            if product is None:
                raise FormatError(self.path, "zip", "holds no whole product", "download it again")
            self._inner = enmap.EnmapReader(self.path, Path(folder), product, self.key, self.quality)
        except BaseException as error:
            self._remove()
            if isinstance(error, FormatError):
                error.path = self.path  # users know the zip, not where it was unpacked
            raise
        self.description: Description = self._inner.description.with_(format="enmap_zip")

    def __getstate__(self) -> Mapping[str, Any]:
        return {"path": self.path, "key": self.key, "quality": self.quality}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)
        self._unpack()


def unpack(path: Path, folder: Path, needed: tuple[str, ...] = NEEDED) -> None:
    """Unpack the files of a product that are read, by their last names alone."""
    try:
        with zipfile.ZipFile(path) as archive:
            wanted = [m for m in archive.infolist() if any(n in m.filename.upper() for n in needed) and not m.is_dir()]
            if sum(m.file_size for m in wanted) > LARGEST:
                raise FormatError(path, "zip", f"unpacks to more than {LARGEST >> 30} GB", "unpack it and look")
            for member in wanted:
                if member.file_size > RATIO * max(member.compress_size, 1):
                    raise FormatError(path, "zip", "expands beyond what packing can do", "the file is hostile")
                with archive.open(member) as source, (folder / Path(member.filename).name).open("xb") as target:
                    shutil.copyfileobj(source, target, 1 << 20)
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, ValueError) as error:
        if isinstance(error, FormatError):
            raise
        if getattr(error, "errno", None) == errno.ENOSPC:
            hint = "free some, or set TMPDIR to a larger disk"
            raise FormatError(path, "zip", "the disk has no space to unpack it", hint) from None
        text = " ".join(str(error).replace(str(folder), "").split())[:200]
        raise FormatError(path, "zip", text or type(error).__name__, "the file is damaged: copy it again") from None
