# SPDX-License-Identifier: Apache-2.0
"""DICOM images other than ultrasound: one file, or a folder that holds a series.

Samples are given as stored, planes sorted by position; output is the same objects, derived: same
names, same frames, new identifiers. PS3.3 C.7.6 and C.8; geometry in ``dicom_series``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid.core.errors import FormatError
from pellucid.core.lazy import np
from pellucid.core.types import Description, FormatTraits, Reader, Region, Writer
from pellucid.formats import dicom_derive, dicom_header, dicom_series
from pellucid.formats.dicom_header import MAGIC, MR, PREAMBLE, ULTRASOUND, Frame, Header
from pellucid.formats.dicom_private import anonymise as anonymise
from pellucid.formats.dicom_private import people as people
from pellucid.formats.dicom_series import Grid
from pellucid.formats.spool import RAM_LIMIT

if TYPE_CHECKING:
    from pellucid.core.types import Array

FORMAT = FormatTraits(
    name="dicom",
    title="DICOM",
    suffixes=(".dcm", ".dicom", ".ima"),
    writes=("splice",),
    keeps="every element but identifiers of object and series, image type, history, sample type and samples",
    fallback=".nii.gz",
)
LOOKED_AT = 20  # files of a folder that decide whether it holds a series
GAP = 1.5  # of the distance the header tells: gaps between slices are smaller
NIFTI = "name the output .nii.gz"


def recognise(head: bytes, name: str) -> float:
    """Return how certain the first 4,096 bytes (and the name) are to be ours, 0 to 1."""
    found = dicom_header.sop_class(head)
    if found in ULTRASOUND:
        return 0.0
    if found:
        return 0.9
    return 0.25 if name.lower().endswith(FORMAT.suffixes) else 0.0


def recognise_folder(path: Path) -> float:
    """Return how certain a folder is to hold a series: by its first files."""
    return score_folder(path, recognise)


def score_folder(path: Path, judge: Callable[[bytes, str], float]) -> float:
    """Return the largest score of a folder's first files."""
    try:
        return max((judge(_head(p), p.name) for p in _entries(path)[:LOOKED_AT]), default=0.0)
    except OSError:
        return 0.0


def open(path: Path, **hints: Any) -> Any:
    """Read the headers of a file, or of all files of a folder; the hint ``key`` chooses among several series.

    Raises
    ------
    FormatError
        Damaged or cut short, no image, several series, or planes that make no even grid.
    Missing
        The extra is not installed.
    """
    from pellucid.formats import dicom_mosaic

    return dicom_mosaic.either(Path(path), str(hints.get("key") or ""))


def _entries(path: Path) -> list[Path]:
    return sorted(p for p in path.iterdir() if p.is_file() and not p.name.startswith(".") and p.name != "DICOMDIR")


def _head(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(4096)


def headers(path: Path) -> list[Header]:
    """Return the headers of a file, or of every image of a folder.

    Raises
    ------
    FormatError
        Nothing there is an image, or one is damaged.
    """
    if not path.is_dir():
        return [dicom_header.read(path)]
    found: list[Header] = []
    for entry in _entries(path):
        head = _head(entry)
        if head[PREAMBLE : PREAMBLE + 4] != MAGIC and not entry.name.lower().endswith(FORMAT.suffixes):
            continue  # a note or a list beside the images
        try:
            found.append(dicom_header.read(entry, len(found)))
        except FormatError as error:
            if error.where == "pixel data" and error.what.endswith("are missing"):
                continue  # reports and presentation states are no planes
            raise
    if not found:
        raise FormatError(path, "", "holds no DICOM image", "name the folder of one series")
    return found


class DicomReader:
    """An open file or series. Threads may read at the same time; pickles by path."""

    def __init__(self, path: Path, key: str = "", found: list[Header] | None = None) -> None:
        self.path, self.key = path, key
        self.headers = headers(path) if found is None else found
        chosen, notes = dicom_series.select(path, self.headers, key)
        self.grid = dicom_series.arrange(path, self.headers, chosen)
        self.description = describe(path, self.headers, self.grid, notes)
        self.rescaled = dicom_series.scales(self.grid)[2]

    def read(self, region: Region) -> Array:
        """Return stored samples of ``region``, native byte order, x fastest."""
        if self.description.kind == "rgb":
            raise FormatError(self.path, "(0028,0002)", "holds colours, not measurements")
        x, y, z, v = (*region, slice(0, 1))[:4]
        sizes = tuple(s.stop - s.start for s in (x, y, z, v))
        out = np.empty(sizes, dtype=self.description.dtype, order="F")
        for k in range(sizes[2]):
            for t in range(sizes[3]):
                frame = self.grid.planes[z.start + k][v.start + t]
                out[:, :, k, t] = self.plane(frame)[y, x].T
        return out.reshape(sizes[: len(region)], order="F")

    def plane(self, frame: Frame) -> Array:
        """Return one plane (rows, columns): stored, or scaled where planes of a volume differ in scale."""
        values = dicom_header.decode(self.headers[frame.file], frame.index)
        return (values * np.float64(frame.slope) + frame.inter).astype(np.float32) if self.rescaled else values

    def close(self) -> None:
        """Nothing is held open."""

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "key": self.key}

    def __setstate__(self, state: dict[str, Any]) -> None:
        DicomReader.__init__(self, state["path"], state["key"])


def describe(path: Path, found: Sequence[Header], grid: Grid, notes: Sequence[tuple[str, str]]) -> Description:
    """Return the neutral description of a grid of planes; nothing that names a person."""
    first = grid.planes[0][0]
    header = found[first.file]
    volumes = len(grid.planes[0])
    slope, inter, mixed = dicom_series.scales(grid)
    repetition = header.facts.get("repetition_ms")
    step = repetition / 1000 if repetition else None
    series = volumes > 1
    return Description(
        format=FORMAT.name,
        shape=(header.shape[1], header.shape[0], len(grid.planes), *([volumes] if series else [])),
        axes=("x", "y", "z", *(["volume"] if series else [])),
        dtype="float32" if mixed else header.dtype,
        kind="rgb" if header.colour else "phase" if first.part == "P" else "magnitude",
        spacing=(*grid.spacing, *([step] if series else [])),
        units=("mm", "mm", "mm", *(["s"] if series else [])),
        slope=slope,
        inter=inter,
        slab=2,
        lossy=any(found[f.file].lossy for f in grid.flat),
        acquisition=acquisition(path, header, grid),
        witnesses={
            "ImageType": first.types,
            "modality": header.modality,
            "sidecar": dict(header.facts.get("matrix", {})),
        }
        | {k: header.facts[k] for k in ("scale_slope", "descrip") if k in header.facts},
        notes=(*notes, *warnings(path, header, grid)),
    )


def acquisition(path: Path, header: Header, grid: Grid) -> dict[str, Any]:
    """Return what the headers say of place, time and diffusion."""
    first = grid.planes[0][0]
    found: dict[str, Any] = {**dicom_series.diffusion(path, grid)}
    if grid.affine is not None:
        found["affine"] = grid.affine
    if header.facts.get("repetition_ms"):
        found["repetition_s"] = header.facts["repetition_ms"] / 1000
    if first.echo_ms:
        found["echo_s"] = first.echo_ms / 1000
    return found


def warnings(path: Path, header: Header, grid: Grid) -> list[tuple[str, str]]:
    """Return what a user should know of these objects."""
    out = []
    classic = len(header.frames) == 1
    if classic and not path.is_dir() and len(grid.planes) == 1:
        out.append(("one-slice", "this is one slice of a series: name the folder to denoise them together"))
    if grid.affine is None:
        out.append(("no-orientation", "the planes say nothing of their position: their order in the file is kept"))
    if header.sop_class not in MR and header.modality != "MR":
        kind = header.modality or "an object of unknown kind"
        out.append(("not-mr", f"this is {kind}, not MR: noise of magnitudes (Rician) may not describe it"))
    told, step = header.facts.get("between_mm") or header.facts.get("thickness_mm"), grid.spacing[2]
    if told and step and len(grid.planes) > 1 and step > GAP * told:
        text = f"planes are {step:.4g} mm apart, the header says {told:.4g} mm: every other one may be missing"
        out.append(("gaps", text))
    if header.facts.get("burned_in"):
        out.append(("burned-in", "text is burned into the samples, perhaps a name; it is kept"))
    if dicom_series.scales(grid)[2]:
        out.append(("scales", "planes of a volume differ in scale: samples are scaled to float32"))
    return out


def splice(path: Path, source: Reader, output: Description) -> Writer:
    """Start the same objects with other samples; ``path`` becomes a folder where the source was one.

    Raises
    ------
    FormatError
        Another source than DICOM, another type or shape of samples, or scales that differ within a volume.
    """
    if not isinstance(source, DicomReader):
        raise FormatError(path, "", "is written from DICOM only", NIFTI)
    if source.path.is_dir() and path.name.lower().endswith(FORMAT.suffixes):
        raise FormatError(path, "", "a series of files needs a folder", "name the output without a suffix")
    if source.rescaled:
        raise FormatError(path, "(0028,1053)", "planes of a volume differ in scale", NIFTI)
    if output.shape != source.description.shape:
        raise FormatError(path, "axes", f"{output.shape} are not those of the series", NIFTI)
    if output.dtype != source.description.dtype:
        raise FormatError(path, "samples", f"are {source.description.dtype}, not {output.dtype}", NIFTI)
    return DicomWriter(path, source, str(output.acquisition.get("derivation") or dicom_derive.WORDS))


class DicomWriter:
    """Derived objects in the making: planes are gathered in any order, ``close`` writes the files."""

    def __init__(self, path: Path, source: DicomReader, words: str) -> None:
        self.path, self.source, self.words = path, source, words
        self._frames = source.grid.flat
        rows, columns = source.headers[self._frames[0].file].shape
        self._planes = _room((len(self._frames), rows, columns), source.description.dtype)
        self._closed = False

    def write(self, region: Region, values: Array) -> None:
        """Keep samples of ``region``, already in the stored type."""
        x, y, z, v = (*region, slice(0, 1))[:4]
        values = np.asarray(values).reshape(tuple(s.stop - s.start for s in (x, y, z, v)))
        depth = len(self.source.grid.planes)
        for k in range(z.start, z.stop):
            for t in range(v.start, v.stop):
                self._planes[t * depth + k, y, x] = values[:, :, k - z.start, t - v.start].T

    def close(self) -> None:
        """Write every object that holds planes of the series, under the names they had."""
        if self._closed:
            return
        self._closed = True
        where: dict[int, dict[int, int]] = {}  # file -> plane within it -> place among ours
        for place, frame in enumerate(self._frames):
            where.setdefault(frame.file, {})[frame.index] = place
        least, digest = _look_over(self._planes)
        first = self.source.headers[self._frames[0].file]
        uid = dicom_derive.new_uid("series", first.series, digest)
        folder = self.source.path.is_dir()
        if folder:
            self.path.mkdir(exist_ok=True)
        for file, places in where.items():
            header = self.source.headers[file]
            self._write(header, places, self.path / header.path.name if folder else self.path, (uid, least))

    def _write(self, header: Header, places: Mapping[int, int], target: Path, common: tuple[str, int]) -> None:
        count, some = len(header.frames), len(places) < len(header.frames)
        frames = np.empty((count, *header.shape), dtype=self.source.description.dtype)
        for index in range(count):
            ours = index in places
            frames[index] = self._planes[places[index]] if ours else dicom_header.decode(header, index)
        dataset = dicom_header.whole(header.path)
        with dicom_header.worded(header.path):
            dicom_derive.derive(dataset, self.words, common[0], mixed=some)
            mark_frames(dataset, places, all_of_them=not some)
            if header.lossy:  # what was lost stays lost, whatever the new coding
                dataset.LossyImageCompression = "01"
            dicom_derive.store(dataset, frames, least=common[1])
            dicom_derive.save(dataset, target)


def mark_frames(dataset: Any, changed: Mapping[int, int], *, all_of_them: bool) -> None:
    """Say DERIVED in the frame types of changed frames."""
    groups = [*(dataset.get("SharedFunctionalGroupsSequence") or ())] if all_of_them else []
    groups += [g for k, g in enumerate(dataset.get("PerFrameFunctionalGroupsSequence") or ()) if k in changed]
    for group in groups:
        for keyword in ("MRImageFrameTypeSequence", "CTImageFrameTypeSequence", "PETFrameTypeSequence"):
            for item in group.get(keyword) or ():
                item.FrameType = dicom_derive.image_type(item.get("FrameType"))


def _room(shape: tuple[int, ...], dtype: str) -> Array:
    """Return room for samples: memory, or an unlinked file where they are many."""
    import os

    if int(np.prod(shape)) * np.dtype(dtype).itemsize <= RAM_LIMIT:
        return np.zeros(shape, dtype)
    with tempfile.TemporaryFile(dir=os.environ.get("PELLUCID_SCRATCH") or None) as file:
        return np.memmap(file, dtype, "w+", shape=shape)


def _look_over(planes: Array) -> tuple[int, str]:
    """Return the bits the samples need and a digest of them."""
    import hashlib

    digest, bits = hashlib.sha256(), 1
    for plane in planes:
        bits = max(bits, dicom_derive.needed_bits(plane))
        digest.update(np.ascontiguousarray(plane).view(np.uint8).data)
    return bits, digest.hexdigest()
