# SPDX-License-Identifier: Apache-2.0
"""From IQ, RF, envelope or channel data to a picture: B-mode in grey, power Doppler, colour Doppler.

Envelope, then decibels below the maximum of the file, then grey levels from 0 (minus the dynamic range) to 255.
Velocities come from the lag-1 phase along the pulses (Kasai 1985, DOI 10.1109/T-SU.1985.31615), averaged over a few
neighbours; only what is strong and coherent is coloured. Lines of a fan are put where they lie (`scan`).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pellucid.core.errors import UsageError
from pellucid.core.lazy import ndimage, np
from pellucid.core.types import Description, option
from pellucid.domains.declare import Conversion, Converted, Refusal, Subject
from pellucid.domains.ultrasound import beamform, checks, metrics, scan

if TYPE_CHECKING:
    from pellucid.core.types import Array

WHITE = 255
RANGE_DB = 60.0
DOPPLER_RANGE_DB = 40.0  # of power: electronic noise lies below
COLOUR_DB = -25.0  # power below the maximum under which no velocity is coloured
COHERENT = 0.5  # |lag 1| over power below which a phase is chance
PAIRS = ("RF_IQ_LINE", "RF_I_LINE_Q_LINE")  # how PLUS stores complex lines
HALF = 0.5  # of four neighbours that are coloured: the pixel between them is, too
NEAR = 3  # samples and lines velocities are averaged over
BLUE, RED = (0, 96, 255), (255, 64, 0)  # away from the probe and towards it
MOST = 1 << 30  # bytes of a picture


@dataclass(frozen=True)
class Options:
    """Settings of `run`."""

    show: str = option("bmode", "What is drawn.", choices=("bmode", "power", "colour"))
    frame: int = option(-1, "Frame to draw, from 0; -1 draws all (one picture of all pulses for power and colour).")
    compound: str = option(
        "coherent", "How angles are added: before the envelope, or after it (less speckle).",
        choices=("coherent", "incoherent"),
    )  # fmt: skip
    weight: str = option("none", "Coherence factor of the aperture; changes speckle.", choices=("none", "cf", "gcf"))
    angle: float = option(0.0, "Degrees from the first line to the last of a sector; 0: from the file, else no fan.")
    radius: float = option(0.0, "Radius of a curved array's face, mm; 0: from the file, else a phased array.")
    step: float = option(0.0, "Depth of a sample, mm; 0: from the file.")
    pitch: float = option(0.0, "Distance of neighbouring elements of a linear array whose lines are drawn, mm.")
    f_number: float = option(0.0, "Depth over aperture when beamforming; more is blurred and quiet. 0 chooses.")
    pixel: float = option(0.0, "Pixel of a beamformed or scan-converted image, mm; 0: half a wavelength, a sample.")
    nyquist: float = option(0.0, "Velocity at half a cycle a pulse, cm/s; 0: from the file's pulse rate.")


def run(subject: Subject, options: Options) -> Converted:
    """Make the picture; the field's ``dynamic_range`` is the range from black to white, 60 dB unless given.

    Raises
    ------
    UsageError
        What is asked for needs complex samples, several pulses, or facts the file lacks.
    """
    asked = float(subject.options.get("dynamic_range") or 0)
    span = asked or (RANGE_DB if options.show == "bmode" else DOPPLER_RANGE_DB)
    if not span > 0:
        raise UsageError("the dynamic range must be above 0 dB", hint="--dynamic-range 60")
    d = subject.description.with_(kind=checks.kind_of(subject))
    if d.kind == "channel" and (options.angle or options.pitch):
        raise UsageError("channel data are beamformed onto a rectangle", hint="leave out --angle and --pitch")
    values = subject.reader.read(tuple(slice(0, n) for n in d.shape))
    values = values if d.series else values[..., None]
    if options.frame >= 0 and d.kind != "channel":
        if options.frame >= values.shape[-1]:
            raise UsageError(f"there are {values.shape[-1]} frames", hint="frames count from 0")
        values = values[..., options.frame : options.frame + 1]
    signal, spacing = _signal(values, d, options)
    fan = None if d.kind == "channel" else scan.layout(d.acquisition, signal.shape[1], spacing[0], options)
    drawn = Drawn(d, spacing, span, fan, options.pixel)
    if options.show != "bmode":
        return _doppler(signal, drawn, options)
    if d.kind == "bmode":
        return _grey(np.abs(signal) * np.float32(WHITE / (metrics.full_scale(values, d) or 1)), drawn, 0.0)
    size = np.abs(signal)
    return _grey(levels(size, span), drawn, float(size.max()))


@dataclass(frozen=True)
class Drawn:
    """What every picture is made with: the source, its spacing in mm, the range in dB, the fan, the pixel in mm."""

    source: Description
    spacing: tuple[Any, Any]
    span: float
    fan: scan.Layout | None
    pixel: float

    def placed(self, values: Array) -> tuple[Array, tuple[Any, Any]]:
        """Return values ``(axial, lateral, frame)`` where they lie, and the spacing."""
        if self.fan is None:
            return values, self.spacing
        made, pixel = scan.convert(values, self.fan, self.pixel)
        return made, (pixel, pixel)


def _signal(values: Array, d: Description, options: Options) -> tuple[Array, tuple[Any, Any]]:
    """Return complex samples or an envelope (y, x, frame), and the spacing in mm."""
    spacing = (d.spacing[0], d.spacing[1]) if len(d.spacing) > 1 else (None, None)
    if d.kind == "channel":
        return _beamformed(values, d, options)
    if d.kind == "iq" and not np.iscomplexobj(values):
        return _paired(values, str(d.witnesses.get("ultrasound_type", ""))), (spacing[0] and 2 * spacing[0], spacing[1])
    if d.kind == "rf":
        from scipy.signal import hilbert

        return np.asarray(hilbert(values.astype(np.float32), axis=0), np.complex64), spacing
    return values.astype(np.complex64 if np.iscomplexobj(values) else np.float32), spacing


def _paired(values: Array, said: str) -> Array:
    """Return real samples as complex ones: pairs, or all real and then all imaginary parts of a line."""
    half = len(values) // 2
    if said.upper() not in PAIRS or len(values) % 2:
        raise UsageError("IQ samples are complex; these are real, and nothing says how they are paired")
    real, imag = (values[::2], values[1::2]) if said.upper() == "RF_IQ_LINE" else (values[:half], values[half:])
    return np.asarray(real.astype(np.float32) + 1j * imag.astype(np.float32), np.complex64)


def _beamformed(values: Array, d: Description, options: Options) -> tuple[Array, tuple[Any, Any]]:
    """Return the image of channel data, coherently or incoherently compounded."""
    array = beamform.Array1D.of(d.acquisition, values.shape[1])
    waves = len(array.angles)
    if values.shape[2] % waves:
        raise UsageError(f"{values.shape[2]} shots are no multiple of {waves} angles")
    if options.frame >= 0:
        values = values[..., options.frame * waves : (options.frame + 1) * waves]
    if not values.shape[2]:
        raise UsageError("there is no such frame", hint="frames count from 0")
    iq = values.astype(np.complex64) if np.iscomplexobj(values) else beamform.demodulate(values, array)
    grid = beamform.grid_of(array, len(iq), options.pixel * 1e-3)
    if len(grid[0]) * len(grid[1]) * values.shape[2] * 8 > MOST:
        raise UsageError("the picture would take more than 1 GB", hint="choose a larger --pixel, or one --frame")
    if options.compound == "coherent" or options.show != "bmode":
        made = beamform.image(iq, array, grid, options.f_number, options.weight)
    else:
        made = np.zeros((len(grid[0]), len(grid[1]), iq.shape[2] // waves), np.float32)
        for k, angle in enumerate(array.angles):
            one = replace(array, angles=(angle,))
            made += np.abs(beamform.image(iq[..., k::waves], one, grid, options.f_number, options.weight)) / waves
    steps = tuple(float(g[1] - g[0]) * 1e3 if len(g) > 1 else None for g in grid)
    return made, (steps[0], steps[1])


def levels(amplitude: Array, range_db: float, top: float = 0.0) -> Array:
    """Return grey levels 0 to 255 of amplitudes, not rounded: ``range_db`` below ``top`` (0: the maximum) is black."""
    top = top or float(amplitude.max())
    if not top > 0:
        return np.zeros(amplitude.shape, np.float32)
    decibels = 20 * np.log10(np.maximum(amplitude / top, 10 ** (-range_db / 20)))
    return np.asarray((decibels / range_db + 1).clip(0, 1) * WHITE, np.float32)


def grey(amplitude: Array, range_db: float, top: float = 0.0) -> Array:
    """Return `levels` rounded to 8 bits."""
    return np.asarray(np.rint(levels(amplitude, range_db, top)), np.uint8)


def _grey(shown: Array, drawn: Drawn, top: float) -> Converted:
    values, spacing = drawn.placed(shown)
    values = np.asarray(np.rint(values), np.uint8)
    values = values if values.shape[-1] > 1 else values[..., 0]
    return Converted(values, _described(values, drawn, spacing), {"maximum": top} if top else {})


def _described(values: Array, drawn: Drawn, spacing: tuple[Any, Any], colour: bool = False) -> Description:
    """Return what the picture is."""
    d = drawn.source
    last = "channel" if colour else "frame"
    rest = (None,) * (values.ndim - 2)
    return Description(
        format="png",
        shape=tuple(values.shape),
        axes=("y", "x", last)[: values.ndim],
        dtype="uint8",
        kind="rgb" if colour else "bmode",
        spacing=(*spacing, *rest),
        units=(*("mm" if s else None for s in spacing), *rest),
        slope=1.0,
        out_dtype="uint8",
        acquisition={"dynamic_range_db": drawn.span}
        | {k: d.acquisition[k] for k in ("frame_s",) if k in d.acquisition},
    )


def nyquist_cm_s(acquisition: Mapping[str, Any], given: float) -> float:
    """Return the velocity of half a cycle a pulse, cm/s; 0 where it is not known: c PRF / (4 fc)."""
    if given:
        return given
    prf, fc = acquisition.get("prf_hz"), acquisition.get("fc_hz")
    return float(100 * acquisition.get("c_m_s", beamform.C_M_S) * prf / (4 * fc)) if prf and fc else 0.0


def kasai(signal: Array) -> tuple[Array, Array]:
    """Return mean power and lag-1 phase in cycles a pulse, -.5 to .5, over the last axis."""
    power, lag = _moments(signal)
    return power, np.angle(lag) / (2 * np.pi)


def _moments(signal: Array) -> tuple[Array, Array]:
    """Return mean power and mean lag-1 product over the last axis."""
    lag = (signal[..., 1:] * signal[..., :-1].conj()).mean(-1)
    return np.square(np.abs(signal)).mean(-1), lag


def _near(values: Array) -> Array:
    """Return the mean over neighbouring samples and lines."""
    if np.iscomplexobj(values):
        return np.asarray(_near(values.real) + 1j * _near(values.imag))
    return np.asarray(ndimage.uniform_filter(values, NEAR, mode="nearest"))


def _doppler(signal: Array, drawn: Drawn, options: Options) -> Converted:
    """Return power Doppler in grey, or velocities in colour over it."""
    if signal.shape[-1] < 2:
        raise UsageError("one pulse has no Doppler: several are needed", hint="--show bmode")
    if options.show == "colour" and not np.iscomplexobj(signal):
        raise UsageError("velocities need IQ, RF or channel data", hint="--show power or bmode")
    power, lag = _moments(signal)
    top = float(power.max())
    facts: dict[str, float] = {"maximum": top**0.5}
    shown, spacing = drawn.placed(levels(np.sqrt(power), drawn.span)[..., None])
    mean, lag = _near(power), _near(lag)
    strong = (mean > float(mean.max()) * 10 ** (COLOUR_DB / 10)) & (np.abs(lag) > COHERENT * mean)
    limit = nyquist_cm_s(drawn.source.acquisition, options.nyquist)
    if strong.any():
        median = float(np.median(np.angle(lag)[strong])) / (2 * np.pi)
        facts |= {"phase_median_cycles": median} | ({"velocity_median_cm_s": median * 2 * limit} if limit else {})
    if options.show == "power":
        picture = np.asarray(np.rint(shown[..., 0]), np.uint8)
        return Converted(picture, _described(picture, drawn, spacing), facts)
    warned = () if limit else (("nyquist", "the pulse rate is not known: colours are a share of half a cycle"),)
    lag, _ = drawn.placed(np.where(strong, lag / np.where(strong, np.abs(lag), 1), 0)[..., None])  # directions
    share = np.clip(np.angle(lag) / np.pi, -1, 1)
    tint = np.where(share > 0, np.array(RED), np.array(BLUE)) * np.sqrt(np.abs(share))
    picture = np.asarray(np.rint(np.where(np.abs(lag) > HALF, tint, shown)), np.uint8)
    return Converted(picture, _described(picture, drawn, spacing, True), facts, warned)


def suffix(subject: Subject, options: Options) -> str:
    """Return ``.png`` for one picture; cines become clips, or NRRD where clips cannot be written."""
    d = subject.description
    count = d.shape[-1] if d.series else 1
    if d.kind == "channel":
        count //= max(len(d.acquisition.get("angles_rad", (0.0,))), 1)
    if options.show != "bmode" or options.frame >= 0 or count < 2:
        return ".png"
    return ".mkv" if importlib.util.find_spec("av") else ".nrrd"


def already(subject: Subject) -> Refusal | None:
    """Refuse pictures that lie as they are seen; lines of grey levels have yet to be put in their place."""
    d = subject.description
    if checks.kind_of(subject) == "rgb" or (checks.kind_of(subject) == "bmode" and d.axes[:2] == ("y", "x")):
        hint = "bmode takes IQ, RF, envelopes and channel data; --force-kind envelope if it is one"
        return Refusal("is a display image already", hint)
    return None


CONVERSION = Conversion(
    name="bmode",
    line="Draw IQ, RF, envelopes or channel data: B-mode, power or colour Doppler.",
    word="bmode",
    suffix=".png",
    suffix_of=suffix,
    options=Options,
    run=run,
    refuse=(already,),
    formats=("png", "video", "nrrd", "npy"),
    cite=("10.1016/j.ultras.2020.106309", "10.1109/T-SU.1985.31615", "10.1121/1.410562", "10.1109/TUFFC.2003.1182117"),
)
