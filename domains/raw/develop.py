# SPDX-License-Identifier: Apache-2.0
"""From raw to a picture: black, white balance, highlights, demosaic, colour matrix, curve, profile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pellucid.core.errors import UsageError
from pellucid.core.lazy import np
from pellucid.core.types import Description, option
from pellucid.domains.declare import Converted, Subject
from pellucid.domains.raw import demosaic, sensor
from pellucid.formats import icc

if TYPE_CHECKING:
    from pellucid.core.types import Array

XYZ_OF_SRGB = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.072175), (0.0193339, 0.119192, 0.9503041))
# XYZ of D50 to linear sRGB: Bradford's adaptation and IEC 61966-2-1 in one
SRGB_OF_D50 = (
    (3.1338561, -1.6168667, -0.4906146),
    (-0.9787684, 1.9161415, 0.033454),
    (0.0719453, -0.2289914, 1.4052427),
)
FULL = 65535
STRIP = 512  # rows worked on at once
RIM = 24  # rows around them that filters see
SAMPLES = 2_000_000  # that a grey world is measured on


@dataclass(frozen=True)
class Options:
    """Settings of `run`."""

    wb: str = option("camera", "White balance: camera, daylight, grey (grey world), or gains R,G,B.")
    exposure: float = option(0.0, "Exposure in stops; more is brighter, highlights clip at white.")
    space: str = option("srgb", "sRGB colours, or the camera's own without a matrix.", choices=("srgb", "camera"))
    curve: str = option(
        "srgb", "Curve of the code values: of sRGB, a soft film-like one, or none.", choices=("srgb", "film", "linear")
    )


def run(subject: Subject, options: Options) -> Converted:
    """Develop a mosaic or linear raw into 16-bit colours (y, x, channel).

    Raises
    ------
    UsageError
        A white balance that is none.
    """
    d, seen = subject.description, sensor.of(subject)
    wb, source = balance(subject, seen, options.wb)
    matrix = colours(d) if options.space == "srgb" else np.eye(3)
    gain = (wb / wb.min()) * 2.0**options.exposure
    shape = d.shape[:2]
    out = np.empty((*shape, 3), np.uint16)
    period = seen.period
    for start in range(0, shape[0], STRIP):
        first = max(0, start - RIM)
        stop = min(shape[0], start + STRIP)
        last = min(shape[0], stop + RIM)
        rgb = _strip(subject, seen, (first - first % period, last), gain)
        rgb = rgb[start - (first - first % period) :][: stop - start]
        out[start:stop] = coded(rgb @ matrix.T.astype(np.float32), options.curve)
    told = "" if source in (options.wb, "given") else f"the file has no white balance of its own: {source} is used"
    warnings = (("white-balance", told),) if told else ()
    facts = {"white_balance": wb.tolist(), "white_balance_from": source}
    return Converted(out, _description(shape, options), facts, warnings)


def _strip(subject: Subject, seen: sensor.Sensor, rows: tuple[int, int], gain: Array) -> Array:
    """Return balanced linear colours of some rows, white 1."""
    d = subject.description
    region = tuple(slice(*rows) if i == 0 else slice(0, n) for i, n in enumerate(d.shape))
    values = subject.reader.read(region).astype(np.float32)
    white = seen.white if np.isfinite(seen.white) else max(float(subject.probe.max()), 1e-30)
    if values.ndim == 3:
        rgb = values[..., :3] if values.shape[2] >= 3 else np.repeat(values[..., :1], 3, -1)
        unit = (rgb - np.float32(seen.black.flat[0])) / np.float32(white - float(seen.black.flat[0]))
        return np.minimum(unit * gain.astype(np.float32), 1)
    black = sensor.over(seen.black, values.shape)
    dark = 0 if seen.dark is None else seen.dark[rows[0] : rows[1]]
    unit = (values - black - dark) / (white - black)
    # a channel that is full must not tint: every one ends where the least amplified one does
    unit = np.minimum(unit * demosaic.gain_map(seen.cfa, gain, values.shape), 1)
    return demosaic.demosaic(unit, seen.cfa)


def balance(subject: Subject, seen: sensor.Sensor, asked: str) -> tuple[Array, str]:
    """Return gains of red, green, blue (green 1) and where they come from.

    A camera balance with a zero is unknown: daylight from the colour matrix stands in, then a grey world.
    """
    d = subject.description
    if asked not in ("camera", "daylight", "grey"):
        return _given(asked), "given"
    camera = np.asarray(d.acquisition.get("wb") or [0, 0, 0], np.float64)[:3]
    if asked == "camera" and len(camera) == 3 and (camera > 0).all():
        return camera / camera[1], "camera"
    matrix = _matrix(d, "color_matrix")
    if asked != "grey" and matrix is not None:
        daylight = 1 / np.maximum((matrix @ np.array(XYZ_OF_SRGB)).sum(1), 1e-6)
        return daylight / daylight[1], "daylight"
    return _grey(subject, seen), "grey"


def _given(text: str) -> Array:
    try:
        found = np.array([float(part) for part in text.split(",")])
    except ValueError:
        found = np.zeros(0)
    if len(found) != 3 or not (found > 0).all():
        raise UsageError(f"--wb {text} is no white balance", hint="write camera, daylight, grey, or 2.0,1.0,1.5")
    return found / found[1]


def _grey(subject: Subject, seen: sensor.Sensor) -> Array:
    from pellucid.domains.declare import probe_region

    probe = subject.probe
    if probe.ndim == 3:
        mean = probe[..., :3].mean((0, 1)) - float(seen.black.flat[0])
    else:
        origin = tuple(r.start for r in probe_region(subject.description)[:2])
        signal = probe - sensor.over(seen.black, probe.shape, origin)
        index = sensor.over(seen.cfa, probe.shape, origin)
        mean = np.array([signal[index == c].mean() for c in range(3)])
    mean = np.maximum(mean, 1e-6 * max(float(np.abs(mean).max()), 1e-30))
    return np.asarray(mean[1] / mean)


def _matrix(d: Description, key: str) -> Array | None:
    known = d.acquisition.get(key)
    if known is None or np.size(known) < 9:
        return None
    matrix = np.asarray(known, np.float64).reshape(-1, 3)[:3]
    return matrix if np.isfinite(matrix).all() and np.abs(matrix).sum() > 0 else None


def colours(d: Description) -> Array:
    """Return the matrix from balanced camera colours to linear sRGB; grey stays grey.

    By the forward matrix where there is one (DNG 1.4, chapter 6), else by the inverse of the colour matrix
    (XYZ to camera) with rows of sum one.
    """
    forward = _matrix(d, "forward_matrix")
    if forward is not None:
        found = np.array(SRGB_OF_D50) @ forward
        return np.asarray(found / found.sum(1, keepdims=True))
    matrix = _matrix(d, "color_matrix")
    if matrix is None:
        return np.eye(3)
    camera = matrix @ np.array(XYZ_OF_SRGB)
    camera = camera / camera.sum(1, keepdims=True)
    return np.asarray(np.linalg.inv(camera))


def coded(linear: Array, curve: str) -> Array:
    """Return 16-bit code values of linear light."""
    linear = np.clip(linear, 0, 1)
    if curve == "film":  # Reinhard's shoulder with white kept at one: mid-tones two thirds of a stop up
        linear = linear * 1.6 / (1 + 0.6 * linear)
    if curve != "linear":
        linear = demosaic.srgb(linear)
    return np.asarray(np.rint(np.clip(linear, 0, 1) * FULL), np.uint16)


def _description(shape: tuple[int, ...], options: Options) -> Description:
    facts: dict[str, Any] = {"bits": 16}
    if options.space == "srgb":
        facts["icc_profile"] = icc.profile(linear=options.curve == "linear")
    return Description(
        format="tiff",
        shape=(*shape, 3),
        axes=("y", "x", "channel"),
        dtype="uint16",
        kind="rgb",
        spacing=(None, None, None),
        units=(None, None, None),
        slope=1 / FULL,
        out_dtype="uint16",
        acquisition=facts,
    )
