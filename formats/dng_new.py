# SPDX-License-Identifier: Apache-2.0
"""A new DNG from samples and neutral facts: uncompressed, one strip, tags ascending."""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid.core.errors import FormatError
from pellucid.core.lazy import np
from pellucid.core.types import Description, Region
from pellucid.formats import dng_tags
from pellucid.formats.dng_tags import ASCII, BYTE, DOUBLE, LONG, RATIONAL, SHORT, SRATIONAL

if TYPE_CHECKING:
    from pellucid.core.types import Array

VERSION, BACKWARD = bytes((1, 4, 0, 0)), bytes((1, 1, 0, 0))
RGGB = ((0, 1), (1, 2))
D65 = 21  # EXIF LightSource
# XYZ (D65) to linear sRGB, IEC 61966-2-1: what a camera of unknown colours is taken for
XYZ_TO_SRGB = (3.2406, -1.5372, -0.4986, -0.9689, 1.8758, 0.0415, 0.0557, -0.2040, 1.0570)
EXIF_IFD, ISO, EXPOSURE, APERTURE, FOCAL = 34665, 34855, 33434, 33437, 37386
MOST = (1 << 31) - 1
UNIQUE = 50781  # RawDataUniqueID


class ComposeWriter:
    """Writer that holds the picture and writes the file at the end."""

    def __init__(self, path: Path, output: Description) -> None:
        facts = output.acquisition
        cfa = facts.get("cfa", RGGB if output.kind in ("mosaic", "unknown") else None)
        self.path, self._output = path, output
        self._cfa = np.asarray(cfa, int) if cfa is not None and len(output.shape) == 2 else None
        if self._cfa is not None and (self._cfa.ndim != 2 or self._cfa.size > 64 or not _colours(self._cfa)):
            raise FormatError(path, "cfa", "is no pattern of red, green and blue", "name the output .npy")
        self._values: Array | None = np.zeros(output.shape, np.uint16)

    def write(self, region: Region, values: Array) -> None:
        """Store samples at their place."""
        assert self._values is not None
        self._values[region] = values

    def close(self) -> None:
        """Write samples and tags, read them back, flush to disk."""
        if self._values is None:
            return
        import tifffile

        from pellucid.formats import dng_write

        values, self._values = self._values, None
        with tifffile.TiffWriter(self.path, byteorder="<") as tif:
            tif.write(
                values,
                photometric=dng_tags.LINEAR if values.ndim == 3 else dng_tags.CFA,
                planarconfig="contig" if values.ndim == 3 else None,
                rowsperstrip=values.shape[0],
                extratags=self._tags(values),
                metadata=None,
                software=False,
            )
        if self._cfa is None and values.ndim == 2:  # a sensor without filters: tifffile wants three samples
            dng_tags.change(self.path, dng_tags.walk(self.path).first.at, {262: (SHORT, (dng_tags.LINEAR,))})
        _add_exif(self.path, self._output.acquisition)
        dng_write.verify(self.path, values, self._known())
        with self.path.open("r+b") as file:
            os.fsync(file.fileno())

    def _known(self) -> Description:
        """Return what must read back: levels; gains may be missing, or be daylight's."""
        facts = {k: v for k, v in self._output.acquisition.items() if k in ("black", "white")}
        return self._output.with_(acquisition=facts)

    def _tags(self, values: Array) -> list[tuple[Any, ...]]:
        """Return (tag, type, count, value, once) of everything but the layout."""
        facts = self._output.acquisition
        name = " ".join(str(facts.get(k, "")) for k in ("make", "model")).strip() or "pellucid"
        found: dict[int, tuple[int, Any]] = {
            254: (LONG, (0,)),
            274: (SHORT, (int(facts.get("orientation", 1)),)),
            50706: (BYTE, VERSION),
            50707: (BYTE, BACKWARD),
            50708: (ASCII, name),
            UNIQUE: (BYTE, hashlib.md5(values.tobytes(), usedforsecurity=False).digest()),
            50719: (LONG, (0, 0)),
            50720: (LONG, (values.shape[1], values.shape[0])),
            50829: (LONG, (0, 0, *values.shape[:2])),
        }
        for tag, key in ((271, "make"), (272, "model")):
            if facts.get(key):
                found[tag] = (ASCII, str(facts[key]))
        found |= self._levels(values)
        if self._cfa is not None or values.ndim == 3:  # a sensor without filters has no colours
            found |= _colour(facts)
        if profile := facts.get("noise_profile"):
            found[51041] = (DOUBLE, [float(v) for pair in profile for v in pair])
        return [(tag, kind, *_value(kind, value), True) for tag, (kind, value) in sorted(found.items())]

    def _levels(self, values: Array) -> dict[int, tuple[int, Any]]:
        """Return the tags of pattern, black and white."""
        from pellucid.formats import dng_write

        facts, found = self._output.acquisition, dict[int, tuple[int, Any]]()
        black = np.asarray(facts.get("black", 0.0), float)
        samples = 1 if values.ndim == 2 else values.shape[2]
        if self._cfa is not None:
            found[33421] = (SHORT, self._cfa.shape)
            found[33422] = (BYTE, bytes(np.where(self._cfa == 3, 1, self._cfa).astype(np.uint8).tobytes()))
            found |= {50710: (BYTE, bytes((0, 1, 2))), 50711: (SHORT, (1,))}
            found |= dng_write.levels_of(black)
        elif black.any():
            found |= dng_write.levels_of(np.broadcast_to(black.reshape(-1)[: max(1, samples)], (samples,)))
        white = facts.get("white")
        found[50717] = (LONG, (int(np.min(white)) if white is not None else 65535,) * samples)
        return found


def _colours(cfa: Array) -> bool:
    found = set(np.where(cfa == 3, 1, cfa).ravel().tolist())
    return found == {0, 1, 2}


def _colour(facts: Mapping[str, Any]) -> dict[int, tuple[int, Any]]:
    """Return the tags of colours: matrices from XYZ to the camera, illuminants, neutral."""
    found: dict[int, tuple[int, Any]] = {}
    matrices = [np.asarray(m, float) for m in facts.get("color_matrix") or ()]
    matrices = [m for m in matrices if m.shape == (3, 3) and m.any()] or [np.reshape(XYZ_TO_SRGB, (3, 3))]
    lights = [int(v) for v in facts.get("illuminants") or ()]
    matrices = matrices[:2]
    lights = (lights + [D65, 17][len(lights) :])[: len(matrices)]
    order = sorted(range(len(matrices)), key=lambda k: lights[k] != 17)  # tungsten first, as cameras write it
    for k, source in enumerate(order):
        found[50721 + k] = (SRATIONAL, _fractions(matrices[source].ravel()))
        found[50778 + k] = (SHORT, (lights[source],))
        for first, key in ((50723, "camera_calibration"), (50964, "forward_matrix")):
            if len(facts.get(key) or ()) == len(matrices):
                found[first + k] = (SRATIONAL, _fractions(np.ravel(facts[key][source])))
    if (balance := facts.get("analog_balance")) is not None:
        found[50727] = (RATIONAL, _fractions(balance))
    neutral = facts.get("as_shot_neutral")
    gains = facts.get("wb")
    if neutral is None and gains is not None and facts.get("wb_source", "camera") == "camera":
        neutral = [gains[1] / g for g in gains[:3]]
    if neutral is not None:
        found[50728] = (RATIONAL, _fractions(neutral))
    if facts.get("baseline_exposure") is not None:
        found[50730] = (SRATIONAL, _fractions([facts["baseline_exposure"]]))
    return found


def _fractions(values: Any) -> list[int]:
    """Return numerators and denominators in a row."""
    found = []
    for value in values:
        part = Fraction(float(value)).limit_denominator(1_000_000)
        found += [part.numerator, part.denominator] if abs(part.numerator) <= MOST else [MOST, 1]
    return found


def _value(kind: int, value: Any) -> tuple[int, Any]:
    """Return count and value as tifffile wants them."""
    if kind == ASCII:
        return 0, value
    if isinstance(value, bytes):
        return len(value), value
    flat = list(value)
    return (len(flat) // 2 if kind in (RATIONAL, SRATIONAL) else len(flat)), flat if len(flat) > 1 else flat[0]


def _add_exif(path: Path, facts: Mapping[str, Any]) -> None:
    """Add a directory of exposure, aperture, sensitivity and focal length, as far as they are known."""
    found: list[tuple[int, int, list[int]]] = []
    if facts.get("exposure_s"):
        found.append((EXPOSURE, RATIONAL, _fractions([facts["exposure_s"]])))
    if facts.get("aperture"):
        found.append((APERTURE, RATIONAL, _fractions([facts["aperture"]])))
    if 0 < (facts.get("iso") or 0) <= 65535:
        found.append((ISO, SHORT, [int(facts["iso"])]))
    if facts.get("focal_mm"):
        found.append((FOCAL, RATIONAL, _fractions([facts["focal_mm"]])))
    if not found:
        return
    found.append((36864, 7, []))
    with path.open("r+b") as file:
        at = file.seek(0, 2)
        if at % 2:
            at += file.write(b"\0")
        entries, tail = b"", b""
        behind = at + 2 + 12 * len(found) + 4
        for tag, kind, numbers in sorted(found):
            count, raw = (4, b"0232") if tag == 36864 else dng_tags.pack("<", kind, numbers)
            if len(raw) > 4:
                place, tail = behind + len(tail), tail + raw
                raw = struct.pack("<I", place)
            entries += struct.pack("<HHI", tag, kind, count) + raw.ljust(4, b"\0")
        file.seek(at)
        file.write(struct.pack("<H", len(found)) + entries + bytes(4) + tail)
    dng_tags.change(path, dng_tags.walk(path).first.at, {EXIF_IFD: (LONG, (at,))})
