# SPDX-License-Identifier: Apache-2.0
"""Everything that makes a DICOM object a derived one: identity, history, and samples without a codec.

PS3.3 C.7.6.1 (General Image: Image Type, Derivation Description, Source Image Sequence) and C.8.16.1
(values of Image Type); PS3.5 B.2 (identifiers made of a UUID). Three steps, in this order:

``derive(dataset, words, series)``  who it is and what it was made from
``store(dataset, frames)``          its samples
``save(dataset, path)``             the file
"""

from __future__ import annotations

import hashlib
import os
import uuid
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid.core.lazy import np

if TYPE_CHECKING:
    from pellucid.core.types import Array

WORDS = "denoised with pellucid"
LONGEST = 64  # characters of an LO value (PS3.5 6.2)
LONGEST_TEXT = 1024  # characters of an ST value
LATER = 1000  # added to the series number: derived series sort behind the measured ones
ROOM = uuid.UUID("b6c1a3de-9f0b-5c2c-8d5a-3c1f0f5f6f11")  # of our own names, made once at random
PURPOSE = ("121322", "DCM", "Source image for image processing operation")
# What spoke of the old samples or of the old object only: their places, thumbnails, dates of making, signatures.
STALE = (
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    "IconImageSequence",
    "InstanceCreationDate",
    "InstanceCreationTime",
    "InstanceCreatorUID",
    "PixelDataProviderURL",
    "DigitalSignaturesSequence",
    "MACParametersSequence",
    "DataSetTrailingPadding",
)


def new_uid(*parts: str) -> str:
    """Return an identifier made of ``parts``: the same parts give the same one, so runs can be repeated."""
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    return f"2.25.{uuid.uuid5(ROOM, digest).int}"


def series_uid(dataset: Any, digest: str) -> str:
    """Return the identifier of a derived series: of the source's and of the new samples (``digest``)."""
    return new_uid("series", str(dataset.get("SeriesInstanceUID", "")), digest)


def derive(dataset: Any, words: str = WORDS, series: str = "", *, mixed: bool = False) -> None:
    """Turn a dataset that was read into a derived one, in place; samples and their tags stay.

    Parameters
    ----------
    dataset : pydicom.Dataset
        With ``file_meta``.
    words : str
        What was done, for Derivation Description; no names, no paths.
    series : str
        Series Instance UID of the output, the same for every object of it (``series_uid``).
    mixed : bool
        Only some of the frames were changed: Image Type says MIXED, and the caller marks the frames.
    """
    source_class, source = str(dataset.get("SOPClassUID", "")), str(dataset.get("SOPInstanceUID", ""))
    series = series or series_uid(dataset, source)
    dataset.SeriesInstanceUID = series
    dataset.SOPInstanceUID = new_uid("instance", series, source)
    if dataset.file_meta.get("MediaStorageSOPInstanceUID") is not None or source:
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.ImageType = image_type(dataset.get("ImageType"), "MIXED" if mixed else "DERIVED")
    before = str(dataset.get("DerivationDescription") or "").strip()
    dataset.DerivationDescription = _fit(f"{before}; {words}" if before else words, LONGEST_TEXT)
    if source:
        dataset.SourceImageSequence = [*(dataset.get("SourceImageSequence") or ()), _source(source_class, source)]
    if (title := dataset.get("SeriesDescription")) is not None:
        dataset.SeriesDescription = _fit(str(title).strip(), LONGEST - len(" denoised")) + " denoised"
    if (number := dataset.get("SeriesNumber")) is not None:
        dataset.SeriesNumber = int(number) + LATER
    drop_stale(dataset)


def image_type(found: Any, first: str = "DERIVED") -> list[str]:
    """Return Image Type (or Frame Type) with its first value replaced; everything else stays."""
    values = [found] if isinstance(found, str) else [str(v) for v in found or ()]
    return [first, *(values[1:] or ["PRIMARY"])]


def drop_stale(dataset: Any) -> None:
    """Remove what spoke of the old samples only: offset tables, thumbnails, signatures, dates of making."""
    for keyword in STALE:
        if keyword in dataset:
            delattr(dataset, keyword)


def store(dataset: Any, frames: Array, *, photometric: str = "", syntax: str = "explicit", least: int = 0) -> None:
    """Put samples into a dataset: little endian, not compressed, or RLE (lossless).

    Parameters
    ----------
    frames : array (frames, rows, columns[, samples])
        In the stored type: uint8, int8, uint16, int16, uint32, int32.
    photometric : str
        Photometric Interpretation where decoding changed it (``RGB``).
    syntax : {"explicit", "rle"}
    least : int
        Bits that are stored at least: the files of one series agree on a number.

    Notes
    -----
    ``BitsStored`` stays as long as every sample fits into it, else it grows to the whole type, so
    that negative values keep their sign. Smallest and largest value are renewed only where the
    object has them. ``LossyImageCompression`` and its ratio and method stay: what was lost stays lost.
    """
    from pydicom.uid import ExplicitVRLittleEndian, RLELossless

    frames = np.ascontiguousarray(frames)
    samples = frames.shape[3] if frames.ndim == 4 else 1
    dataset.Rows, dataset.Columns = int(frames.shape[1]), int(frames.shape[2])
    dataset.SamplesPerPixel = samples
    if photometric:
        dataset.PhotometricInterpretation = photometric
    if samples > 1:
        dataset.PlanarConfiguration = 0
    elif "PlanarConfiguration" in dataset:
        del dataset.PlanarConfiguration
    set_bits(dataset, frames, least=least)
    _set_extremes(dataset, frames)
    raw = frames.astype(frames.dtype.newbyteorder("<"), copy=False).tobytes()
    dataset.PixelData = raw + b"\0" * (len(raw) % 2)
    dataset["PixelData"].VR = "OW" if frames.dtype.itemsize > 1 else "OB"
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    if syntax == "rle":
        dataset.compress(RLELossless, generate_instance_uid=False)
        dataset["PixelData"].VR = "OB"


def set_bits(dataset: Any, frames: Array, *, least: int = 0) -> None:
    """Set the tags of the sample type; ``least`` bits are stored at least."""
    size, signed = 8 * frames.dtype.itemsize, frames.dtype.kind == "i"
    stored = int(dataset.get("BitsStored") or size)
    same = int(dataset.get("BitsAllocated") or 0) == size
    fits = same and needed_bits(frames) <= stored <= size and least <= stored
    dataset.BitsAllocated = size
    dataset.BitsStored = stored if fits else size
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(signed)


def needed_bits(frames: Array) -> int:
    """Return how many bits the samples take, the sign's included."""
    if not frames.size:
        return 1
    low, high = int(frames.min()), int(frames.max())
    if frames.dtype.kind == "u":
        return max(1, high.bit_length())
    return 1 + max(high.bit_length() if high > 0 else 0, (-low - 1).bit_length() if low < 0 else 0)


def _set_extremes(dataset: Any, frames: Array) -> None:
    """Renew Smallest and Largest Image Pixel Value where the object has them."""
    vr = "SS" if frames.dtype.kind == "i" else "US"
    for keyword, value in (("SmallestImagePixelValue", frames.min()), ("LargestImagePixelValue", frames.max())):
        if keyword not in dataset:
            continue
        if frames.dtype.itemsize > 2 or frames.ndim == 4:  # the tag holds 16 bits of a single plane
            delattr(dataset, keyword)
            continue
        dataset[keyword].VR, dataset[keyword].value = vr, int(value)


def save(dataset: Any, path: Path) -> None:
    """Write a dataset as a DICOM file with preamble and file meta information, flushed to disk."""
    import pydicom

    dataset.file_meta.pop("FileMetaInformationGroupLength", None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd values of the source are carried, not judged
        with path.open("wb") as target:
            pydicom.dcmwrite(target, dataset, implicit_vr=False, little_endian=True, enforce_file_format=True)
            target.flush()
            os.fsync(target.fileno())


def _source(source_class: str, source: str) -> Any:
    from pydicom.dataset import Dataset

    item, purpose = Dataset(), Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = source_class, source
    purpose.CodeValue, purpose.CodingSchemeDesignator, purpose.CodeMeaning = PURPOSE
    item.PurposeOfReferenceCodeSequence = [purpose]
    return item


def _fit(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[:longest].rstrip()
