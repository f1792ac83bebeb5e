# SPDX-License-Identifier: Apache-2.0
"""Writers of DICOM ultrasound: an object derived from another, and a new one without a patient."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid.core.errors import FormatError
from pellucid.core.lazy import np
from pellucid.core.types import Description, Region
from pellucid.formats import dicom_derive, dicom_header, us_frames
from pellucid.formats.spool import spool

if TYPE_CHECKING:
    from pellucid.core.types import Array
    from pellucid.formats.dicom_us import UsReader

SINGLE, MULTI = "1.2.840.10008.5.1.4.1.1.6.1", "1.2.840.10008.5.1.4.1.1.3.1"
LARGE = 1 << 16  # bytes: elements beyond are left in the file until they are written
NOBODY = "ANONYMOUS"
SYNTAXES = ("rle", "explicit", "j2k")  # what --transfer-syntax may be; the first is the default
LARGEST_VALUE = (1 << 32) - 2  # bytes of an element with a stated length


class _Grey:
    """Grey of all frames, held by frame while regions come in any order."""

    def __init__(self, path: Path, output: Description) -> None:
        cine = output.series == "frame"
        if output.dtype not in ("uint8", "uint16") or output.axes[:2] not in (("y", "x"), ("axial", "lateral")):
            what = f"DICOM ultrasound holds pictures of 8 or 16 bit, not {output.dtype} over {', '.join(output.axes)}"
            raise FormatError(path, "pixels", what, "leave out --out-dtype, or name another suffix")
        if len(output.shape) != (3 if cine else 2) or max(output.shape[:2]) > 65535:
            raise FormatError(path, "pixels", f"of shape {output.shape} do not fit")
        self.rows, self.columns = output.shape[:2]
        self.frames = output.shape[2] if cine else 1
        self.dtype = np.dtype(output.dtype)
        self.line = self.columns * self.dtype.itemsize
        self.store = spool(self.line * self.rows * self.frames)

    def write(self, region: Region, values: Array) -> None:
        """Put a region at its place."""
        y, x = region[:2]
        stack = values if values.ndim == 3 else values[:, :, None]
        wanted = range(self.frames)[region[2]] if values.ndim == 3 else range(1)
        for i, index in enumerate(wanted):
            part = np.ascontiguousarray(stack[:, :, i], self.dtype)
            start = (index * self.rows + y.start) * self.line
            if part.shape[1] == self.columns:
                self.store.write(start, memoryview(part.data).cast("B"))
                continue
            for k, line in enumerate(part):
                self.store.write(start + k * self.line + x.start * self.dtype.itemsize, memoryview(line.data).cast("B"))

    def frame(self, index: int) -> Array:
        """Return one frame."""
        size = self.line * self.rows
        return np.frombuffer(self.store.read(index * size, size), self.dtype).reshape(self.rows, self.columns)

    def digest(self) -> str:
        """Return a hash of all samples: identifiers of a repeated run are the same."""
        found = hashlib.sha256(f"{self.rows} {self.columns} {self.frames} {self.dtype}".encode())
        for i in range(self.frames):
            found.update(self.frame(i).data)
        return found.hexdigest()


class DerivedWriter:
    """Writer of a derived object: R = G = B where the grey changed, everything else as decoded."""

    def __init__(self, path: Path, source: UsReader, output: Description) -> None:
        if output.shape != source.description.shape:
            raise FormatError(path, "pixels", f"of shape {output.shape} replace {source.description.shape}")
        self.path, self._source = path, source
        self._grey: _Grey | None = _Grey(path, output)

    def write(self, region: Region, values: Array) -> None:
        """Keep the grey of a region."""
        assert self._grey is not None
        self._grey.write(region, values)

    def close(self) -> None:
        """Decode the source once more, put the new grey in, code, and write the file."""
        if self._grey is None:
            return
        grey, self._grey = self._grey, None
        made = self._source.picture
        library = dicom_header.library(self._source.path)
        with dicom_header.worded(self._source.path):
            dataset = library.dcmread(self._source.path, defer_size=LARGE)
            del dataset.PixelData
            series = dicom_derive.series_uid(dataset, grey.digest())
            dicom_derive.derive(dataset, series=series)
            _little_endian(dataset)
            _colours(dataset, made.grey)
        store_frames(dataset, self._frames(grey), syntax=self._source.syntax)
        grey.store.close()
        dicom_derive.save(dataset, self.path)

    def _frames(self, grey: _Grey) -> Iterator[Array]:
        everything = (slice(0, grey.rows), slice(0, grey.columns))
        allowed = self._source.mask(everything)
        for i, frame in enumerate(us_frames.frames(self._source.picture)):
            new = grey.frame(i)
            changed = allowed & (new != us_frames.luma(frame))
            out = frame.copy()
            out[changed] = new[changed] if frame.ndim == 2 else new[changed][:, None]
            yield out


def _colours(dataset: Any, grey: bool) -> None:
    """Say that the samples are RGB now, and drop the palette that no longer speaks of them."""
    if grey:
        return
    dataset.PhotometricInterpretation, dataset.SamplesPerPixel, dataset.PlanarConfiguration = "RGB", 3, 0
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    for element in [e for e in dataset.group_dataset(0x0028) if 0x1100 <= e.tag.element < 0x1300]:
        del dataset[element.tag]


def _little_endian(dataset: Any) -> None:
    """Turn words of a big-endian object round: they are carried as bytes, whatever they count."""
    if dataset.original_encoding[1] is not False:
        return
    sizes = {"OW": 2, "OL": 4, "OF": 4, "OD": 8, "OV": 8}
    for element in dataset.iterall():
        if element.VR in sizes and isinstance(element.value, bytes) and len(element.value) % sizes[element.VR] == 0:
            element.value = np.frombuffer(element.value, f"u{sizes[element.VR]}").byteswap().tobytes()


def store_frames(dataset: Any, frames: Iterator[Array], *, syntax: str = SYNTAXES[0]) -> None:
    """Put frames into a dataset one by one, coded without loss: ``rle``, ``j2k`` or ``explicit``.

    Only the coded frames are held. The tags of the picture must be right already.
    """
    from pydicom.encaps import encapsulate, encapsulate_extended
    from pydicom.pixels import get_encoder
    from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, RLELossless

    uid = {"rle": RLELossless, "j2k": JPEG2000Lossless, "explicit": ExplicitVRLittleEndian}[syntax]
    coded: list[bytes] = []
    encoder = None if syntax == "explicit" else get_encoder(uid)
    for frame in frames:
        little = np.ascontiguousarray(frame, frame.dtype.newbyteorder("<"))
        if int(frame.max()).bit_length() > dataset.BitsStored:  # the samples themselves are coded alike
            dataset.BitsStored, dataset.HighBit = dataset.BitsAllocated, dataset.BitsAllocated - 1
        coded.append(little.tobytes() if encoder is None else encoder.encode(little, **_options(dataset)))
    dataset.file_meta.TransferSyntaxUID = uid
    if encoder is None:
        raw = b"".join(coded)
        dataset.PixelData = raw + b"\0" * (len(raw) % 2)
        dataset["PixelData"].VR = "OW" if dataset.BitsAllocated > 8 else "OB"
        return
    if sum(map(len, coded)) + 8 * len(coded) > LARGEST_VALUE:
        dataset.PixelData, dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths = encapsulate_extended(coded)
    else:
        dataset.PixelData = encapsulate(coded)
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True


def _options(dataset: Any) -> dict[str, Any]:
    """Return what an encoder must know of one frame."""
    return {
        "rows": dataset.Rows,
        "columns": dataset.Columns,
        "samples_per_pixel": dataset.SamplesPerPixel,
        "number_of_frames": 1,
        "bits_allocated": dataset.BitsAllocated,
        "bits_stored": dataset.BitsStored,
        "pixel_representation": 0,
        "photometric_interpretation": dataset.PhotometricInterpretation,
        "planar_configuration": 0,
    }


class NewWriter:
    """Writer of a new object: grey, one tissue region over the whole picture, no patient."""

    def __init__(self, path: Path, description: Description) -> None:
        self.path, self._description = path, description
        self._grey: _Grey | None = _Grey(path, description)

    def write(self, region: Region, values: Array) -> None:
        """Keep a region."""
        assert self._grey is not None
        self._grey.write(region, values)

    def close(self) -> None:
        """Make header and samples and write the file."""
        if self._grey is None:
            return
        grey, self._grey = self._grey, None
        dicom_header.library(self.path)
        dataset = new_dataset(self._description, grey)
        frames = (grey.frame(i) for i in range(grey.frames))
        store_frames(dataset, frames)
        grey.store.close()
        dicom_derive.save(dataset, self.path)


def new_dataset(description: Description, grey: _Grey) -> Any:
    """Return the header of a new object; the same samples give the same identifiers."""
    from pydicom.dataset import Dataset, FileMetaDataset

    digest, made = grey.digest(), Dataset()
    made.file_meta = FileMetaDataset()
    made.SOPClassUID = MULTI if grey.frames > 1 else SINGLE
    made.SOPInstanceUID = dicom_derive.new_uid("instance", digest)
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    made.StudyInstanceUID = dicom_derive.new_uid("study", digest)
    made.SeriesInstanceUID = dicom_derive.new_uid("series", digest)
    made.Modality, made.PatientName, made.PatientID = "US", NOBODY, NOBODY
    for keyword in _EMPTY:
        setattr(made, keyword, "")
    made.SeriesNumber = made.InstanceNumber = 1
    made.ImageType = ["DERIVED", "PRIMARY"]
    made.DerivationDescription = "made with pellucid"
    made.BurnedInAnnotation, made.LossyImageCompression = "NO", "01" if description.lossy else "00"
    made.Rows, made.Columns, made.SamplesPerPixel = grey.rows, grey.columns, 1
    made.PhotometricInterpretation, made.PixelRepresentation = "MONOCHROME2", 0
    made.BitsAllocated = made.BitsStored = 8 * grey.dtype.itemsize
    made.HighBit = made.BitsAllocated - 1
    if grey.frames > 1:
        _timing(made, description, grey.frames)
    if (region := _region(description)) is not None:
        made.SequenceOfUltrasoundRegions = [region]
    return made


_EMPTY = (
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
    "Manufacturer",
    "PatientOrientation",
)


def _timing(made: Any, description: Description, frames: int) -> None:
    seconds = description.acquisition.get("frame_s") or (description.spacing[2:3] or (None,))[0]
    made.NumberOfFrames = frames
    made.FrameIncrementPointer = 0x00181063
    made.FrameTime = f"{1000 * float(seconds):.9g}" if seconds else "0"


def _region(description: Description) -> Any:
    """Return the calibration of the whole picture, where its spacing is known."""
    from pydicom.dataset import Dataset

    known = list(zip(description.spacing[:2], description.units[:2], strict=False))
    if len(known) < 2 or any(unit != "mm" or not step or not math.isfinite(step) for step, unit in known):
        return None
    item = Dataset()
    item.RegionSpatialFormat = item.RegionDataType = 1
    item.RegionFlags = 0
    item.RegionLocationMinX0 = item.RegionLocationMinY0 = 0
    item.RegionLocationMaxX1, item.RegionLocationMaxY1 = description.shape[1] - 1, description.shape[0] - 1
    item.PhysicalUnitsXDirection = item.PhysicalUnitsYDirection = 3
    item.PhysicalDeltaX, item.PhysicalDeltaY = float(known[1][0] or 0) / 10, float(known[0][0] or 0) / 10
    return item
