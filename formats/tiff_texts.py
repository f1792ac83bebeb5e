# SPDX-License-Identifier: Apache-2.0
"""Texts in TIFF tags that tell how pages and bands lie, without what they tell of people.

ImageDescription of ImageJ, tifffile and OME; GDAL's metadata XML. Any other text is dropped.
"""

from __future__ import annotations

import json
import re
from typing import Any
from xml.sax.saxutils import quoteattr

from pellucid.core.errors import FormatError
from pellucid.formats import identity, safe_xml

DESCRIPTION, GDAL = 270, 42112
IMAGEJ = frozenset(
    "ImageJ images channels slices frames hyperstack mode spacing unit finterval fps loop min max cf c0 c1 vunit xunit "
    "yunit zunit xorigin yorigin zorigin".split()
)
PIXELS = frozenset(
    "ID DimensionOrder Type SizeX SizeY SizeZ SizeC SizeT PhysicalSizeX PhysicalSizeY PhysicalSizeZ PhysicalSizeXUnit "
    "PhysicalSizeYUnit PhysicalSizeZUnit TimeIncrement TimeIncrementUnit SignificantBits Interleaved BigEndian".split()
)
CHANNEL = frozenset("ID SamplesPerPixel Color EmissionWavelength ExcitationWavelength".split())
DATA = frozenset("IFD PlaneCount FirstZ FirstC FirstT".split())
ITEM = re.compile(r"<Item\b([^>]*)>([^<]*)</Item>")
NAME = re.compile(r"\bname=[\"']([^\"']*)[\"']")
SPACE = re.compile(r"[\"'](http://www\.openmicroscopy\.org/[\w/.\-]*)[\"']")
ROLE = re.compile(r"\brole=[\"'](description|colorinterp|scale|offset|unittype)[\"']")  # of one band
BANDS = frozenset(
    "scale offset wavelength wavelengths fwhm centralwavelengthum fwhmum wavelengthunits wavelengthunit interleave "
    "areaorpoint sourcecolorspace statisticsminimum statisticsmaximum".split()
)
SHORT = re.compile(r"[A-Za-z0-9_:.#-]{1,40}")


def cleaned(tag: int, raw: bytes) -> bytes:
    """Return the technical part of a text with its closing zero; empty where there is none."""
    text = raw.split(b"\0")[0].decode("utf-8", "replace")
    if tag == GDAL:
        found = _gdal(text)
    elif text.startswith("ImageJ="):
        found = _imagej(text)
    elif text.startswith("{"):
        found = _shape(text)
    elif "<OME" in text[:2000] or "OME>" in text[-20:]:
        found = _ome(text)
    else:
        found = ""
    return found.encode("utf-8") + b"\0" if found else b""


def _imagej(text: str) -> str:
    lines = [line for line in text.splitlines() if line.partition("=")[0] in IMAGEJ]
    lines = [x for x in lines if x.startswith("ImageJ=") or SHORT.fullmatch(x.partition("=")[2])]
    version = re.fullmatch(r"ImageJ=[\w.\-]{0,12}", lines[0]) if lines else None
    return "\n".join([lines[0] if version else "ImageJ=", *lines[1:]]) + "\n"


def _shape(text: str) -> str:
    """Return tifffile's note of a stack's shape."""
    try:
        shape = json.loads(text).get("shape")
    except (ValueError, AttributeError, RecursionError):
        return ""
    numbers = isinstance(shape, list) and all(isinstance(n, int) for n in shape)
    return json.dumps({"shape": shape}) if numbers else ""


def _ome(text: str) -> str:
    """Return OME-XML with its Pixels alone: sizes, order, channels and where the planes lie."""
    try:
        root = safe_xml.parse(None, "OME-XML", text)
    except FormatError:
        return ""
    found = SPACE.search(text)
    images = [image for image in root if image.tag == "Image"]
    body = ""
    for k, image in enumerate(images):
        for pixels in (p for p in image if p.tag == "Pixels"):
            inner = "".join(_inner(child) for child in pixels)
            head = f"<Pixels{_attributes(pixels, PIXELS)}"
            body += f'<Image ID="Image:{k}">{head}>{inner}</Pixels></Image>'
    named = f" xmlns={quoteattr(found[1])}" if found else ""
    return f"<OME{named}>{body}</OME>" if body else ""


def _inner(element: Any) -> str:
    kind = element.tag
    if kind == "Channel":
        return f"<Channel{_attributes(element, CHANNEL)}/>"
    return f"<TiffData{_attributes(element, DATA)}/>" if kind == "TiffData" else ""


def _attributes(element: Any, kept: frozenset[str]) -> str:
    found = [
        (k, v) for k, v in element.attrib.items() if k in kept and (SHORT.fullmatch(v) or v in ("\u00b5m", "\u03bcm"))
    ]
    return "".join(f" {k}={quoteattr(v)}" for k, v in found)


def _gdal(text: str) -> str:
    """Return GDAL's items that tell of bands and samples, not of people or days."""

    found = []
    for item in ITEM.finditer(text):
        name = NAME.search(item[1])
        key = name[1] if name else ""
        if ROLE.search(item[1]) and identity.PLAIN.fullmatch(item[2]) and not identity.DAY.search(item[2]):
            found.append("  " + item[0])
        elif identity.squeezed(key) in BANDS or identity.cleaned(key, item[2].strip()) is not None:
            found.append("  " + item[0])
    return "\n".join(["<GDALMetadata>", *found, "</GDALMetadata>", ""]) if found else ""
