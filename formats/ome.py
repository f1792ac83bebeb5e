# SPDX-License-Identifier: Apache-2.0
"""What OME-XML in a TIFF's first page says of its pages: sizes, order, pixel sizes.

The text itself is never rewritten but for the sample type, where that changes. Format:
docs.openmicroscopy.org/ome-model, OME-TIFF.
"""

from __future__ import annotations

import math
import re
from typing import Any

from pellucid.core.errors import FormatError
from pellucid.core.types import Description
from pellucid.formats import safe_xml

SIZES = ("SizeX", "SizeY", "SizeZ", "SizeC", "SizeT")
TYPES = {"float32": "float", "float64": "double", "complex64": "complex", "complex128": "double-complex"}
TYPE = re.compile(r"(<(?:\w+:)?Pixels\b[^>]*?\bType=[\"'])[^\"']*([\"'])", re.DOTALL)
BITS = re.compile(r"(<(?:\w+:)?Pixels\b[^>]*?)\s+SignificantBits=[\"'][^\"']*[\"']", re.DOTALL)


def annotate(path: object, page: Any, description: Description) -> Description:
    """Add pixel sizes, axes of the stack and remarks to the description of an OME-TIFF; others stay as they are.

    Raises
    ------
    FormatError
        The XML declares entities or a document type.
    """
    if not page.is_ome:
        return description
    notes = list(description.notes)
    images = _images(path, page.description, notes)
    if not images:
        return description.with_(notes=tuple(notes))
    pixels = images[0]
    sizes = {name: _number(pixels.get(name)) for name in SIZES}
    planes = math.prod(int(sizes[n] or 1) for n in SIZES[2:])
    held = int(description.witnesses["pages"]) * int(description.witnesses["samples"])
    if len(images) > 1:
        notes.append(("ome-images", f"{len(images)} images are in one file: their pages are one stack"))
    elif planes != held:
        notes.append(
            ("ome-planes", f"its OME-XML counts {planes} planes, the file holds {held}; more may lie in others")
        )
    steps = [_number(pixels.get(f"PhysicalSize{axis}")) for axis in "YX"]
    units = [pixels.get(f"PhysicalSize{axis}Unit", "um").replace("\u00b5", "u").replace("\u03bc", "u") for axis in "YX"]
    more = (None,) * (len(description.shape) - 2)
    said = {"sizes": {n: int(v) for n, v in sizes.items() if v}, "order": pixels.get("DimensionOrder", "")}
    return description.with_(
        spacing=(*steps, *more),
        units=(*(u if s else None for u, s in zip(units, steps, strict=True)), *more),
        witnesses={**description.witnesses, "ome": said},
        notes=tuple(notes),
    )


def retyped(xml: str, dtype: str) -> str:
    """Return the XML with another sample type: the rest is true of a file with the same pages."""
    return TYPE.sub(rf"\g<1>{TYPES.get(dtype, dtype)}\g<2>", BITS.sub(r"\1", xml))


def _images(path: object, xml: str, notes: list[tuple[str, str]]) -> list[Any]:
    """Return the Pixels elements; text that is no XML is remarked on and kept."""
    try:
        root = safe_xml.parse(path, "OME-XML", xml.encode("utf-8", "surrogateescape"))
    except FormatError as error:
        if "declares" in error.what or "larger" in error.what:  # hostile, not merely odd
            raise
        notes.append(("ome-xml", f"its OME-XML cannot be read ({error.what}): it is kept as it is"))
        return []
    return [element for element in root.iter() if element.tag == "Pixels"]


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) and value > 0 else None
