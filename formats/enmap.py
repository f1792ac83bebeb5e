# SPDX-License-Identifier: Apache-2.0
"""EnMAP products as folders: METADATA.XML, one or two spectral images (GeoTIFF), quality layers.

Names and metadata: EnMAP HSI Level 1B / 1C / 2A product format specification (DLR, EN-PCV-ICD-2009).
A result is a folder too: the spectral images anew, every other file as it was.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid.core.errors import FormatError, UsageError
from pellucid.core.types import Description, FormatTraits, Reader, Region, Writer
from pellucid.formats import geotiff, geotiff_write, hdf5_cube, safe_xml, wavelengths

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from pellucid.core.types import Array

FORMAT = FormatTraits(
    name="enmap",
    title="EnMAP product folder (L1B, L1C, L2A)",
    suffixes=(".xml",),
    writes=("splice",),
    keeps="every other file byte for byte, names, band order, gains, nodata; in the images what GeoTIFF keeps",
    fallback=".tif",
)
IMAGE, METADATA, PIXELMASK, LAYER = "SPECTRAL_IMAGE", "-METADATA.XML", "QL_PIXELMASK", "QL_QUALITY_"
DETECTORS = ("VNIR", "SWIR")
BACKGROUND = -32768.0
MOST_FILES = 2000
KINDS = {"L1B": "radiance", "L1C": "radiance", "L2A": "reflectance"}


@dataclass(frozen=True)
class Product:
    """The files of a product that are read: detector (or ``""`` for both) and image, pixel masks, quality layers."""

    metadata: Path
    images: tuple[tuple[str, Path], ...]
    masks: tuple[Path, ...]
    layers: tuple[Path, ...] = ()


def recognise(head: bytes, name: str) -> float:
    """Return how certain it is that this is the metadata file of a product."""
    if not name.upper().endswith(METADATA) or b"<" not in head[:100]:
        return 0.0
    return 0.9 if _product(Path(name).parent) else 0.3


def recognise_folder(path: Path) -> float:
    """Return how certain it is that this folder is a product."""
    return 0.97 if _product(Path(path)) else 0.0


def open(path: Path, *, key: str | None = None, quality: str = "", **hints: Any) -> Reader:
    """Open a product by its folder.

    Parameters
    ----------
    key : str, optional
        ``VNIR`` or ``SWIR`` for one detector of a level 1B product.
    quality : str
        Layers whose pixels are left out: ``cloud,cloudshadow,haze,cirrus,snow,testflags``.

    Raises
    ------
    FormatError
        A file is missing, metadata and images contradict each other, XML entities.
    """
    path = Path(path)
    if not path.is_dir():
        raise FormatError(path, "", "is the metadata of an EnMAP product", "give the folder it lies in")
    product = _product(path)
    if product is None:
        raise FormatError(path, "folder", "has no METADATA.XML with a spectral image", "unpack the whole product there")
    return EnmapReader(path, path, product, key, quality)


def splice(path: Path, source: Reader, output: Description) -> Writer:
    """Write a folder: spectral images with other samples, every other file copied."""
    if not isinstance(source, EnmapReader):
        raise FormatError(path, "source", "a product folder is only made from a product", "write .tif")
    before = source.description
    if output.dtype != before.dtype:
        what = f"the metadata's gains are for {before.dtype}, {output.dtype} is asked for"
        raise FormatError(path, "data type", what, "name an output ending in .tif")
    return EnmapWriter(Path(path), source)


class EnmapReader:
    """The images of a product as one cube, described by its metadata."""

    def __init__(self, path: Path, folder: Path, product: Product, key: str | None = None, quality: str = "") -> None:
        self.path, self.folder, self.product = path, folder, product
        chosen = _chosen(path, product, key)
        self.images = [geotiff.GeotiffReader(p) for _, p in chosen]
        shapes = [r.description.shape for r in self.images]
        if len({s[:2] for s in shapes}) > 1 or len({r.description.dtype for r in self.images}) > 1:
            raise FormatError(
                path, "images", "the detectors differ in size or type", "name one with --key VNIR or SWIR"
            )
        self.lengths = [s[2] for s in shapes]
        self.masks = self._pixelmasks([d for d, _ in chosen])
        root = safe_xml.parse(path, product.metadata.name, _bytes(product.metadata))
        self.layers = self._layers(quality, [d for d, _ in chosen])
        described = _describe(path, root, self, [d for d, _ in chosen])
        asked = {"quality": quality.lower()} if self.layers else {}
        self.description = described.with_(witnesses={**described.witnesses, **asked})
        self._telling: Array | None = None

    def read(self, region: Region) -> Array:
        """Return stored samples of a (line, sample, band) region."""
        import numpy as np

        found = [image.read(place) for image, _, place in self.places(region)]
        if len(found) == 1:
            return found[0]
        return np.concatenate(found, axis=-1) if found else self.images[0].read((*region[:2], slice(0, 0)))

    def places(self, region: Region) -> list[tuple[geotiff.GeotiffReader, slice, Region]]:
        """Return each image that a region touches, its share of the region's bands, and its own region."""
        found, first, bands = [], 0, region[2]
        for image, length in zip(self.images, self.lengths, strict=True):
            start, stop = max(bands.start, first), min(bands.stop, first + length)
            if start < stop:
                place = (*region[:2], slice(start - first, stop - first))
                found.append((image, slice(start - bands.start, stop - bands.start), place))
            first += length
        return found

    def mask(self, region: Region) -> Array | None:
        """Return over (line, sample) where masks flag few usable bands and layers nothing; None without any."""
        lines, samples = region[:2]
        valid = self._valid(lines, samples) if self.masks else None
        read = (r.read((lines, samples, slice(0, 1))[: len(r.description.shape)]) for r in self.layers)
        return hdf5_cube.without(valid, (v.reshape(v.shape[:2]) != 0 for v in read))

    def _valid(self, lines: slice, samples: slice) -> Array:
        if self._telling is None:
            shape = self.description.shape
            middle = max(0, (shape[0] - hdf5_cube.PROBED) // 2)
            probe = self._flags(slice(middle, min(shape[0], middle + hdf5_cube.PROBED)), slice(0, shape[1]))
            self._telling = hdf5_cube.telling(probe, self.description.bad)
        return hdf5_cube.pixels(self._flags(lines, samples)[..., self._telling])

    def close(self) -> None:
        """Release the files."""
        for reader in (*self.images, *self.masks, *self.layers):
            reader.close()

    def _flags(self, lines: slice, samples: slice) -> Array:
        """Return the masks' flags (line, sample, band)."""
        import numpy as np

        parts = [m.read((lines, samples, slice(0, m.description.shape[2]))) != 0 for m in self.masks]
        return np.concatenate(parts, axis=-1)

    def _layers(self, quality: str, detectors: list[str]) -> list[geotiff.GeotiffReader]:
        """Open the quality layers that were asked for; those of one detector only with it."""
        have: dict[str, list[Path]] = {}
        for layer in self.product.layers:
            word, _, last = layer.stem.upper().rpartition(f"-{LAYER}")[2].rpartition("_")
            word, detector = (word, last) if last in DETECTORS else (f"{word}_{last}" if word else last, "")
            if not detector or not all(detectors) or detector in detectors:
                have.setdefault(word.lower(), []).append(layer)
        have.pop("classes", None)  # land, water and background are no flags
        found = [geotiff.GeotiffReader(p) for w in hdf5_cube.chosen(self.path, quality, sorted(have)) for p in have[w]]
        for reader in found:
            if reader.description.shape[:2] != self.images[0].description.shape[:2]:
                raise FormatError(self.path, reader.path.name, "is not as large as the image", "download it again")
        return found

    def _pixelmasks(self, detectors: list[str]) -> list[geotiff.GeotiffReader]:
        """Open the pixel masks if they are those of the chosen bands, in order."""
        wanted = [d for d in detectors if d] or list(DETECTORS)
        paths = [p for d in wanted for p in self.product.masks if p.stem.upper().endswith(d)]
        readers = [geotiff.GeotiffReader(p) for p in paths]
        shape = (*self.images[0].description.shape[:2], sum(self.lengths))
        fits = bool(readers) and all(r.description.shape[:2] == shape[:2] for r in readers)
        if fits and sum(r.description.shape[2] for r in readers) == shape[2]:
            return readers
        for reader in readers:
            reader.close()
        return []


class EnmapWriter:
    """A product folder in the making."""

    def __init__(self, path: Path, source: EnmapReader) -> None:
        self.path, self.source = path, source
        made = {image.path for image in source.images}
        path.mkdir(parents=False, exist_ok=True)
        for file in _files(source.folder):
            target = path / file.relative_to(source.folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            if file not in made:
                shutil.copyfile(file, target)
        self.writers = {
            image.path: geotiff_write.splice(path / image.path.relative_to(source.folder), image, image.description)
            for image in source.images
        }

    def write(self, region: Region, values: Array) -> None:
        """Store samples of a (line, sample, band) region."""
        for image, share, place in self.source.places(region):
            self.writers[image.path].write(place, values[..., share])

    def close(self) -> None:
        """Finish the images and flush them to disk."""
        for writer in self.writers.values():
            writer.close()


def _files(folder: Path) -> list[Path]:
    """Return the regular files of a product, subfolders included; links are not followed."""
    found = sorted(p for p in folder.rglob("*") if p.is_file() and not p.is_symlink())
    if len(found) > MOST_FILES:
        raise FormatError(folder, "folder", f"holds {len(found)} files", "keep one product in a folder")
    return found


def _product(folder: Path) -> Product | None:
    """Return the files of a product in a folder; None where it is none."""
    try:
        files = [p for p in folder.iterdir() if p.is_file()] if folder.is_dir() else []
    except OSError:
        return None
    metadata = [p for p in files if p.name.upper().endswith(METADATA)]
    if len(metadata) != 1:
        return None
    tiffs = sorted(p for p in files if p.suffix.upper() in (".TIF", ".TIFF"))
    stem = metadata[0].name[: -len(METADATA)].upper()
    images = [p for p in tiffs if p.stem.upper().startswith(f"{stem}-{IMAGE}")]
    named = {p.stem.upper().rpartition(IMAGE)[2].strip("_"): p for p in images}
    masks = tuple(p for p in tiffs if p.stem.upper().startswith(f"{stem}-{PIXELMASK}"))
    layers = tuple(p for p in tiffs if p.stem.upper().startswith(f"{stem}-{LAYER}"))
    chosen = [("", named[""])] if "" in named else [(d, named[d]) for d in DETECTORS if d in named]
    return Product(metadata[0], tuple(chosen), masks, layers) if chosen else None


def _chosen(path: Path, product: Product, key: str | None) -> list[tuple[str, Path]]:
    """Return the images that are read."""
    if key is None:
        return list(product.images)
    found = [(d, p) for d, p in product.images if d == key.upper()]
    if not found:
        have = ", ".join(d for d, _ in product.images if d) or "one image of all bands"
        raise UsageError(f"has no image named {key!r}", path, f"images in it: {have}")
    return found


def _bytes(path: Path) -> bytes:
    """Return a file's bytes, one more than the XML reader takes at most."""
    try:
        with path.open("rb") as file:
            return file.read(safe_xml.LARGEST + 1)
    except OSError as error:
        raise FormatError(path, "file", error.strerror or "cannot be read") from None


def _describe(path: Path, root: Element, reader: EnmapReader, detectors: list[str]) -> Description:
    """Return the neutral description: geometry of the image, everything spectral of the metadata."""
    import numpy as np

    bands = root.findall("specific/bandCharacterisation/bandID")
    count = sum(reader.lengths)
    if detectors == ["VNIR"]:
        bands = bands[:count]
    elif detectors == ["SWIR"]:
        bands = bands[len(bands) - count :] if len(bands) >= count else []
    if len(bands) != count:
        what = f"{len(bands)} bands are characterised, the images hold {count}"
        raise FormatError(path, reader.product.metadata.name, what, "are all files of one product?")
    centres, widths = (_numbers(path, bands, tag) for tag in ("wavelengthCenterOfBand", "FWHMOfBand"))
    gains, offsets = _numbers(path, bands, "GainOfBand", 1.0), _numbers(path, bands, "OffsetOfBand", 0.0)
    if not all(gains):
        raise FormatError(path, "GainOfBand", "is 0", "the metadata are damaged")
    one = [v[0] if len(set(v)) == 1 else np.array(v) for v in (gains, offsets)]
    level = (safe_xml.words(root, "base/level") or next((v for v in KINDS if v in path.name), "")).upper()
    base = reader.images[0].description
    acquisition = {k: v for k, v in base.acquisition.items() if k in ("transform", "crs")}
    acquisition |= wavelengths.spectral(centres, "nm", widths)
    if level:
        acquisition["product_level"] = level.lower()
    return base.with_(
        format="enmap",
        shape=(*base.shape[:2], count),
        kind=KINDS.get(level, "unknown"),
        units=(None, None, "nm" if "wavelengths_nm" in acquisition else None),
        slope=one[0],
        inter=one[1],
        nodata=BACKGROUND if base.nodata is None and base.dtype == "int16" else base.nodata,
        bad=_empty(root, bands),
        acquisition=acquisition,
        witnesses={"bands": count, "level": level.lower(), "block": base.witnesses.get("block", ())},
    )


def _numbers(path: Path, bands: list[Element], tag: str, default: float | None = None) -> list[float]:
    """Return one number per band."""
    try:
        values = [float(safe_xml.words(b, tag, "" if default is None else str(default))) for b in bands]
    except ValueError:
        values = [math.nan]
    if not all(math.isfinite(v) for v in values):
        raise FormatError(path, tag, "is missing or no number for some bands", "the metadata are damaged")
    return values


def _empty(root: Element, bands: list[Element]) -> tuple[int, ...]:
    """Return bands without data: their standard deviation is 0."""
    spread: Mapping[str, str] = {
        b.get("number", ""): safe_xml.words(b, "stdDeviation", "1")
        for b in root.findall("product/bandStatistics/bandID")
    }

    def zero(text: str) -> bool:
        try:
            return float(text) == 0
        except ValueError:
            return False

    return tuple(i for i, b in enumerate(bands) if zero(spread.get(b.get("number", "-"), "1")))
