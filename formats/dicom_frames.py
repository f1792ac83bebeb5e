# SPDX-License-Identifier: Apache-2.0
"""What a DICOM dataset says of each of its planes: place, part, echo, diffusion, scale.

Classic objects say it once; enhanced ones in functional groups, shared by all or one a frame
(PS3.3 C.7.6.16). Diffusion: (0018,9087) and (0018,9089), else the vendors' private tags.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid.core.errors import FormatError
from pellucid.formats.dicom_derive import WORDS

if TYPE_CHECKING:
    from pellucid.formats.dicom_header import Frame

COMPONENTS = {"MAGNITUDE": "M", "PHASE": "P", "REAL": "R", "IMAGINARY": "I"}
COMPUTED = ("ADC", "EADC", "FA", "T1 MAP", "T2 MAP", "T2_STAR MAP", "R2 MAP", "R2_STAR MAP", "PROTON_DENSITY MAP")
GE_PARTS = {0: "MAGNITUDE", 1: "PHASE", 2: "REAL", 3: "IMAGINARY"}  # (0043,102f)
GE_OFFSET = 1_000_000_000  # GE adds it to b values it computed
PRIVATE_B = (  # group, creator, element, which value
    (0x0019, "SIEMENS MR HEADER", 0x0C, 0),
    (0x0043, "GEMS_PARM_01", 0x39, 0),
    (0x2001, "Philips Imaging DD 001", 0x03, 0),
)
TYPE_GROUPS = ("MRImageFrameTypeSequence", "CTImageFrameTypeSequence", "PETFrameTypeSequence")
Place = tuple[float, ...]


def frames(path: Path, dataset: Any, count: int, file: int) -> tuple[Frame, ...]:
    """Return the planes of a dataset in the order of its samples.

    Raises
    ------
    FormatError
        The functional groups do not fit the number of frames.
    """
    groups = dataset.get("PerFrameFunctionalGroupsSequence")
    if groups is None:
        return tuple(_frame(Look(path, dataset), file, index) for index in range(count))
    if len(groups) != count:
        what = f"{count} frames, but functional groups for {len(groups)}"
        raise FormatError(path, "(5200,9230)", what, "copy it again from the archive")
    shared = dataset.get("SharedFunctionalGroupsSequence") or ()
    common = shared[0] if shared else None
    return tuple(_frame(Look(path, dataset, own, common), file, index) for index, own in enumerate(groups))


class Look:
    """Finds a value of one frame: in its own groups, in the shared ones, in the dataset itself."""

    def __init__(self, path: Path, dataset: Any, own: Any = None, shared: Any = None) -> None:
        self.path, self.dataset, self.groups = path, dataset, [g for g in (own, shared) if g is not None]

    def value(self, sequence: str, keyword: str, *, alone: str = "") -> Any:
        """Return ``keyword`` of the first item of ``sequence``, else of the dataset (there named ``alone``)."""
        for group in self.groups:
            items = group.get(sequence)
            if items and (found := items[0].get(keyword)) not in (None, ""):
                return found
        found = self.dataset.get(alone or keyword)
        return None if found == "" else found

    def number(self, sequence: str, keyword: str, *, alone: str = "") -> float | None:
        """Return a finite number, or None."""
        return _number(self.value(sequence, keyword, alone=alone))

    def numbers(self, sequence: str, keyword: str, count: int) -> Place | None:
        """Return ``count`` numbers, or None where there are none.

        Raises
        ------
        FormatError
            There are others.
        """
        found = self.value(sequence, keyword)
        if found is None:
            return None
        values = [_number(v) for v in (found if not isinstance(found, str | float | int) else [found])]
        if len(values) != count or any(v is None for v in values):
            raise FormatError(self.path, keyword, f"does not hold {count} numbers", "copy it again from the archive")
        return tuple(v for v in values if v is not None)


def _frame(look: Look, file: int, index: int) -> Frame:
    from pellucid.formats.dicom_header import Frame

    types, part = _part(look)
    b, direction = _diffusion(look)
    slope = look.number("PixelValueTransformationSequence", "RescaleSlope")
    inter = look.number("PixelValueTransformationSequence", "RescaleIntercept")
    if slope == 0:
        raise FormatError(look.path, "(0028,1053)", "the rescale slope is 0", "copy it again from the archive")
    order = (
        look.number("FrameContentSequence", "TemporalPositionIndex", alone="TemporalPositionIdentifier") or 0.0,
        look.number("FrameContentSequence", "FrameAcquisitionNumber", alone="AcquisitionNumber") or 0.0,
        _number(look.dataset.get("InstanceNumber")) or 0.0,
        float(index),
    )
    return Frame(
        file=file,
        index=index,
        position=look.numbers("PlanePositionSequence", "ImagePositionPatient", 3),
        orientation=look.numbers("PlaneOrientationSequence", "ImageOrientationPatient", 6),
        spacing=look.numbers("PixelMeasuresSequence", "PixelSpacing", 2),
        part=part,
        types=types,
        echo_ms=look.number("MREchoSequence", "EffectiveEchoTime", alone="EchoTime"),
        b=b,
        direction=direction,
        order=order,
        slope=1.0 if slope is None else slope,
        inter=inter or 0.0,
    )


def facts(dataset: Any) -> dict[str, Any]:
    """Return what concerns the whole file: repetition time, thickness, scale of the vendor, mosaic."""
    groups = dataset.get("PerFrameFunctionalGroupsSequence") or (None,)
    shared = dataset.get("SharedFunctionalGroupsSequence") or (None,)
    look = Look(Path(), dataset, groups[0], shared[0])
    found = {
        "repetition_ms": look.number("MRTimingAndRelatedParametersSequence", "RepetitionTime"),
        "thickness_mm": look.number("PixelMeasuresSequence", "SliceThickness"),
        "between_mm": look.number("PixelMeasuresSequence", "SpacingBetweenSlices"),
        "matrix": _matrix(look),
        "descrip": WORDS if WORDS in str(dataset.get("DerivationDescription") or "") else "",
        "burned_in": str(dataset.get("BurnedInAnnotation") or "").upper() == "YES",
        "scale_slope": _private(dataset, 0x2005, "Philips MR Imaging DD 001", 0x0E),
    }
    return {key: value for key, value in found.items() if value}


def _matrix(look: Look) -> dict[str, float]:
    """Return the numbers of lines measured and shown along phase encoding, in the words of BIDS."""
    lines = look.number("MRFOVGeometrySequence", "MRAcquisitionPhaseEncodingStepsInPlane")
    if lines is None:
        told = look.dataset.get("AcquisitionMatrix")  # frequency rows, columns, phase rows, columns
        counts = [_number(v) for v in told] if told is not None and not isinstance(told, str | bytes | int) else []
        lines = max((n for n in counts[2:4] if n is not None), default=0.0) if len(counts) == 4 else None
    along = look.value("MRFOVGeometrySequence", "InPlanePhaseEncodingDirection")
    shown = _number(look.dataset.get("Rows" if str(along or "").upper().startswith("COL") else "Columns"))
    share = look.number("MRFOVGeometrySequence", "PercentPhaseFieldOfView") or 100.0
    if not lines or not shown or not along or not 0 < share <= 100:
        return {}
    return {"AcquisitionMatrixPE": lines / (share / 100), "ReconMatrixPE": shown}


def _part(look: Look) -> tuple[tuple[str, ...], str]:
    """Return what the image type says, and the part in one word."""
    found = None
    component = ""
    for sequence in TYPE_GROUPS:
        if look.groups and found is None:
            found = look.value(sequence, "FrameType", alone="ImageType")
            component = str(look.value(sequence, "ComplexImageComponent") or "")
    found = look.dataset.get("ImageType") if found is None else found
    types = tuple(str(v).strip() for v in ([found] if isinstance(found, str) else found or ()))
    if component not in ("", "MIXED") and COMPONENTS.get(component) not in types:
        types += (component,)
    ge = _private(look.dataset, 0x0043, "GEMS_PARM_01", 0x2F)
    if ge in GE_PARTS:
        types += (GE_PARTS[int(ge)],)
    return types, _word(types)


def _word(types: tuple[str, ...]) -> str:
    """Return the part a plane shows, in one word."""
    tail = [t.upper() for t in types[2:]]
    for token in tail:  # what is computed from phase says so beside the name of its component
        if "FIELD" in token or token in ("B0", "B0 MAP"):
            return token.replace(" ", "_")
    for word, names in (
        ("P", ("P", "PHASE", "PHASE MAP", "VELOCITY MAP")),
        ("R", ("R", "REAL")),
        ("I", ("I", "IMAGINARY")),
    ):
        if any(token in names for token in tail):
            return word
    if any(token in ("M", "MAGNITUDE") or token.startswith("M_") for token in tail):
        return "M"
    return next((token.replace(" ", "_") for token in tail if token in COMPUTED), "M")


def _diffusion(look: Look) -> tuple[float | None, Place | None]:
    """Return b value (s/mm^2) and gradient direction (LPS), as far as they are told."""
    b = look.number("MRDiffusionSequence", "DiffusionBValue")
    for group, creator, element, which in PRIVATE_B if b is None else ():
        b = _private(look.dataset, group, creator, element, which)
        if b is not None:
            b = b - GE_OFFSET if b >= GE_OFFSET else b
            break
    direction = None
    for group in look.groups:
        items = group.get("MRDiffusionSequence")
        inner = items[0].get("DiffusionGradientDirectionSequence") if items else None
        if inner:
            direction = inner[0].get("DiffusionGradientOrientation")
    direction = direction or look.dataset.get("DiffusionGradientOrientation")
    direction = direction or _private_value(look.dataset, 0x0019, "SIEMENS MR HEADER", 0x0E)
    values = [_number(v) for v in direction] if direction is not None and not isinstance(direction, str | bytes) else []
    if len(values) != 3 or None in values:
        return b, None
    return b, tuple(v for v in values if v is not None)


def _private_value(dataset: Any, group: int, creator: str, element: int) -> Any:
    try:
        return dataset.private_block(group, creator)[element].value
    except KeyError:
        return None


def _private(dataset: Any, group: int, creator: str, element: int, which: int = 0) -> float | None:
    """Return a number of a private tag, whoever's block it lies in; None where there is none."""
    found = _private_value(dataset, group, creator, element)
    if found is not None and not isinstance(found, str | bytes | int | float):
        try:
            found = list(found)[which]
        except (TypeError, IndexError):
            return None
    return _number(found)


def _number(value: Any) -> float | None:
    if value is None or isinstance(value, bytes):
        return None
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) else None
