# SPDX-License-Identifier: Apache-2.0
"""DICOM ultrasound pictures and cines: the grey B-mode picture, and where it is.

PS3.3 A.6, A.7 and C.8.5. The reader presents luminance and a mask of the pixels that show tissue;
writers change those only and derive a new object, losslessly coded.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid.core.errors import FormatError, UsageError
from pellucid.core.lazy import np
from pellucid.core.types import Description, FormatTraits, Reader, Region, Writer
from pellucid.formats import dicom_header, us_frames, us_regions, us_write
from pellucid.formats.dicom_private import anonymise as anonymise
from pellucid.formats.dicom_private import people as people
from pellucid.formats.spool import spool
from pellucid.formats.us_content import Content
from pellucid.formats.us_frames import Picture
from pellucid.formats.us_regions import ScreenRegion

if TYPE_CHECKING:
    from pellucid.core.types import Array

FORMAT = FormatTraits(
    name="dicom_us",
    title="DICOM ultrasound",
    suffixes=(".dcm",),
    keeps="every element but identifiers, image type, history and samples; colours, text and all pixels outside the "
    "tissue; palettes and YCbCr become RGB of 8 bit, coded as RLE",
)
US_MARKS = (b"\x08\x00\x60\x00CS\x02\x00US", b"\x08\x00\x60\x00\x02\x00\x00\x00US", b"\x00\x08\x00\x60CS\x00\x02US")
SINGLE = ("1.2.840.10008.5.1.4.1.1.6.1", "1.2.840.10008.5.1.4.1.1.6")
TISSUE_FRAME = "TISSUE_INTENSITY"
DEFLATED = "is compressed as a whole, which is not read"


def recognise(head: bytes, name: str) -> float:
    """Return how certain the first bytes are to be an ultrasound object."""
    found = dicom_header.sop_class(head)
    if found in dicom_header.ULTRASOUND:
        return 1.0
    return 0.95 if found and any(mark in head for mark in US_MARKS) else 0.0


def open(path: Path, **hints: Any) -> UsReader:
    """Read the header of a file.

    Raises
    ------
    FormatError
        Damaged, cut short, no picture, or of a kind that is not read.
    """
    path, coded = Path(path), str(hints.get("transfer_syntax") or us_write.SYNTAXES[0])
    if coded not in us_write.SYNTAXES:
        raise UsageError(f"--transfer-syntax {coded} is not known", hint="write " + " or ".join(us_write.SYNTAXES))
    library = dicom_header.library(path)
    with dicom_header.worded(path), path.open("rb") as file:
        syntax = library.filereader.read_file_meta_info(path).get("TransferSyntaxUID")
        if not syntax or syntax.is_deflated:
            what = DEFLATED if syntax else "says no transfer syntax"
            raise FormatError(path, "header", what, "save it as Explicit VR Little Endian first")
        dataset = library.dcmread(file, stop_before_pixels=True)
        made = us_frames.picture(path, dataset, file)
        regions = us_regions.parse(dataset)
        return UsReader(path, describe(dataset, made, regions), made, regions, coded)


def describe(dataset: Any, made: Picture, regions: tuple[ScreenRegion, ...]) -> Description:
    """Return the neutral description; nothing personal is in it."""
    shape: tuple[int, ...] = (made.rows, made.columns)
    believed = us_regions.trusted(regions, shape)
    spacing: tuple[float | None, ...] = us_regions.spacing_mm(regions) if believed else (None, None)
    cine = made.frames > 1
    seconds = _frame_seconds(dataset) if cine else None
    lossy = str(dataset.get("LossyImageCompression") or "") == "01" or made.syntax in us_frames.LOSSY
    bits = 8 if made.palette is not None else int(dataset.get("BitsStored") or made.bits)
    facts: dict[str, Any] = {"bits": min(bits, made.bits), "regions": len(regions)}
    if seconds:
        facts["frame_s"] = seconds
    for key, keyword in (("transducer", "TransducerType"), ("depth_mm", "DepthOfScanField")):
        if (value := dataset.get(keyword)) not in (None, ""):
            facts[key] = float(value) if key == "depth_mm" else str(value)
    return Description(
        format="dicom_us",
        shape=(*shape, made.frames) if cine else shape,
        axes=("y", "x", "frame") if cine else ("y", "x"),
        dtype=made.dtype,
        kind="bmode",
        spacing=(*spacing, seconds) if cine else spacing,
        units=("mm", "mm", "s")[: 3 if cine else 2],
        bad=_foreign_frames(dataset, made.frames) if cine else (),
        out_dtype=made.dtype,
        lossy=lossy,
        acquisition=facts,
        witnesses=_witnesses(dataset, made, regions),
        notes=_notes(dataset, made, regions, believed=believed),
    )


def _witnesses(dataset: Any, made: Picture, regions: tuple[ScreenRegion, ...]) -> dict[str, Any]:
    return {
        "regions": tuple((r.spatial, r.data) for r in regions),
        "tissue_regions": sum(r.tissue for r in regions),
        "photometric": made.photometric,
        "colour_data": int(dataset.get("UltrasoundColorDataPresent") or 0),
        "transfer_syntax": made.syntax,
    }


def _notes(
    dataset: Any, made: Picture, regions: tuple[ScreenRegion, ...], *, believed: bool
) -> tuple[tuple[str, str], ...]:
    notes = []
    if regions and not believed:
        text = (
            "its regions lie outside the picture, which was cropped or resized: they are not used, spacing is unknown"
        )
        notes.append(("regions-ignored", text))
    if not regions or not believed:
        notes.append(("content-mask", "what is tissue was found by looking at the pixels; check it, or give --region"))
    if made.frames > 1 and dataset.get("SOPClassUID") in SINGLE:
        notes.append(("single-as-multi", f"holds {made.frames} frames although it is a single-frame object"))
    if made.marked_otherwise:
        notes.append(("photometric", f"its JPEG codes {made.coding}, the header says {made.photometric}"))
    if dataset.get("BurnedInAnnotation") is None:
        notes.append(
            ("burned-in", "does not say whether names are drawn into its pixels; ultrasound screens carry them")
        )
    return tuple(notes)


def _frame_seconds(dataset: Any) -> float | None:
    """Return the time between frames: Frame Time, or the middle of Frame Time Vector; ms in the file."""
    try:
        steps = [float(v) for v in dataset.get("FrameTimeVector") or ()][1:]
        value = float(np.median(steps)) if steps else float(dataset.get("FrameTime") or 0)
    except (TypeError, ValueError):
        return None
    return value / 1000 if 0 < value < np.inf else None


def _foreign_frames(dataset: Any, count: int) -> tuple[int, ...]:
    """Return frames of an enhanced object that show no tissue intensity: flow, elasticity and the like."""
    found = []
    for i, item in enumerate((dataset.get("PerFrameFunctionalGroupsSequence") or ())[:count]):
        for kind in item.get("ImageDataTypeSequence") or ():
            if str(kind.get("DataType") or TISSUE_FRAME) != TISSUE_FRAME:
                found.append(i)
    return tuple(found)


@dataclass
class UsReader:
    """Reader that decodes the frames at the first read and keeps their grey (on disk where it is large)."""

    path: Path
    description: Description
    picture: Picture
    regions: tuple[ScreenRegion, ...]
    syntax: str = us_write.SYNTAXES[0]
    _held: list[Any] = field(default_factory=list, repr=False, compare=False)
    _lock: Any = field(default_factory=threading.RLock, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if not k.startswith("_")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _held=[], _lock=threading.RLock())

    def read(self, region: Region) -> Array:
        """Return the grey of a region."""
        store = self._decoded()[0]
        made = self.picture
        y, x = region[:2]
        width = np.dtype(made.dtype).itemsize
        wanted = range(made.frames)[region[2]] if made.frames > 1 else range(1)
        out = np.empty((y.stop - y.start, x.stop - x.start, len(wanted)), made.dtype)
        for i, index in enumerate(wanted):
            start = (index * made.rows + y.start) * made.columns * width
            lines = store.read(start, (y.stop - y.start) * made.columns * width)
            out[:, :, i] = np.frombuffer(lines, made.dtype).reshape(-1, made.columns)[:, x]
        return out if made.frames > 1 else out[:, :, 0]

    def mask(self, region: Region) -> Array:
        """Return where samples may change (bool): tissue that is neither coloured nor drawn over."""
        with self._lock:
            held = self._decoded()
            if len(held) == 2:
                held.append(self._mask(held[1]))
            return held[2][region[:2]]

    def _mask(self, content: Content) -> Array:
        shape = (self.picture.rows, self.picture.columns)
        if self.regions and us_regions.trusted(self.regions, shape):
            return content.mask(us_regions.tissue_mask(self.regions, shape), us_regions.panels(self.regions, shape))
        return content.mask(np.ones(shape, bool), [(slice(0, shape[0]), slice(0, shape[1]))])

    def _decoded(self) -> list[Any]:
        """Return [grey of all frames, what was seen in them, mask once asked for]."""
        with self._lock:
            if not self._held:
                made = self.picture
                store = spool(made.rows * made.columns * np.dtype(made.dtype).itemsize * made.frames)
                top = (1 << int(self.description.acquisition["bits"])) - 1
                content = Content(top, lossy=self.description.lossy)
                for i, frame in enumerate(us_frames.frames(made)):
                    grey = np.ascontiguousarray(us_frames.luma(frame))
                    store.write(i * grey.nbytes, memoryview(grey.data).cast("B"))
                    if i not in self.description.bad:
                        content.add(frame, grey)
                self._held += [store, content]
            return self._held

    def close(self) -> None:
        """Forget the frames."""
        with self._lock:
            for store in self._held[:1]:
                store.close()
            self._held.clear()


def splice(path: Path, source: Reader, output: Description) -> Writer:
    """Write a derived object: tissue as given, every other pixel and element as it was."""
    if not isinstance(source, UsReader):
        return compose(path, output)
    return us_write.DerivedWriter(path, source, output)


def compose(path: Path, description: Description) -> Writer:
    """Write a new ultrasound object without a patient; spacing and frame time travel."""
    return us_write.NewWriter(path, description)
