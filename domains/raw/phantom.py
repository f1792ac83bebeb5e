# SPDX-License-Identifier: Apache-2.0
"""A scene as a sensor sees it: steps and ramps of known light, colours, fine texture, small highlights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pellucid.core.errors import UsageError
from pellucid.core.lazy import ndimage, np
from pellucid.core.types import Description, Noise
from pellucid.domains.declare import Phantom
from pellucid.domains.raw import sensor

if TYPE_CHECKING:
    from pellucid.core.types import Array

SIZE = (480, 640)
BLACK, WHITE = 512, 15872  # DN, 14 bits
GAIN, READ = 3.2, 12.0  # DN per electron, DN: ISO 3200 or so
WB = (2.0, 1.0, 1.6)
MID = (4e-3, 1.6e-5)  # variance over signal and at zero, white 1: case unprocessed
CASES = ("eld", "unprocessed", "xtrans")


def simulate(seed: int = 0, case: str = "eld", size: Any = None) -> Phantom:
    """Simulate a case of the field.

    Parameters
    ----------
    seed : int
        Of the noise; the scene does not depend on it.
    case : {"eld", "unprocessed", "xtrans"}
        Photons, Tukey-lambda read noise and row noise (Wei 2020); signal-dependent Gaussian noise; photons and
        Gaussian read noise under a 6 x 6 pattern.
    size : (y, x), optional
        Default 480 x 640.

    Raises
    ------
    UsageError
        For an unknown case.
    """
    if case not in CASES:
        raise UsageError(f"unknown phantom {case!r}", hint=f"choose one of {', '.join(CASES)}")
    shape = (size, size) if isinstance(size, int) else tuple(size or SIZE)[:2]
    cfa = np.array(sensor.XTRANS if case == "xtrans" else sensor.RGGB)
    signal = mosaic(scene(shape), cfa) * (WHITE - BLACK)
    rng = np.random.default_rng(seed)
    if case == "eld":
        from pellucid.domains.raw import eld

        noisy = eld.expose(signal, eld.Camera(GAIN, READ, row=1.5, shape=0.1), rng)
        law = _law(GAIN, float(np.hypot(READ, 1.5)))
    elif case == "xtrans":
        gain, read = 6 * GAIN, 3 * READ  # a darker room
        noisy = gain * rng.poisson(np.maximum(signal, 0) / gain) + read * rng.standard_normal(shape)
        law = _law(gain, read)
    else:
        span = WHITE - BLACK
        gain, read = MID[0] * span, MID[1] ** 0.5 * span
        noisy = signal + np.sqrt(gain * signal + read**2) * rng.standard_normal(shape)
        law = _law(gain, read)
    return Phantom(stored(signal), stored(noisy), description(shape, cfa), law)


def from_rgb(rgb: Array, seed: int = 0, variance: tuple[float, float] = MID) -> Phantom:
    """Simulate the mosaic behind an sRGB picture in [0, 1], (y, x, 3).

    The curve and the balance are undone (`eld.unprocess`); noise of variance a x + b is added, white 1.
    """
    from pellucid.domains.raw import eld

    cfa, span = np.array(sensor.RGGB), WHITE - BLACK
    clean = mosaic(eld.unprocess(rgb, WB), cfa)
    a, b = variance
    noisy = clean + np.sqrt(a * clean + b) * np.random.default_rng(seed).standard_normal(clean.shape)
    law = _law(a * span, b**0.5 * span)
    return Phantom(stored(clean * span), stored(noisy * span), description(clean.shape, cfa), law)


def scene(shape: tuple[int, ...]) -> Array:
    """Return linear camera colours (y, x, 3) in [0, 1]: balanced they are grey to colourful."""
    y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    grey = 0.18 * 2 ** (2.2 * x)
    colour = np.stack([grey * (1 + 0.5 * np.sin(4 * y)), grey, grey * (1 - 0.4 * np.sin(4 * y))], -1)
    for v, u, r, tint in (
        (-0.4, -0.5, 0.3, (0.7, 0.2, 0.1)),
        (0.4, 0.3, 0.2, (0.1, 0.3, 0.6)),
        (0.55, -0.5, 0.2, (0.2, 0.5, 0.2)),
    ):
        colour += _soft(r - np.hypot(y - v, x - u))[..., None] * (np.array(tint) - colour)
    stripes = 0.5 + 0.5 * np.sin(70 * x + 30 * y)
    patch = _soft(0.3 - np.maximum(np.abs(y + 0.45), np.abs(x - 0.5)))
    colour *= (1 - 0.6 * patch * stripes)[..., None]
    lines = _soft(0.01 - np.abs(y - 0.78 - 0.1 * x)) + _soft(0.01 - np.abs(x + 0.82 - 0.05 * y))
    colour *= (1 - 0.7 * lines)[..., None]
    colour += 3 * _soft(0.02 - np.hypot(y + 0.8, x + 0.1))[..., None]  # a lamp: saturated
    return np.clip(ndimage.gaussian_filter(colour, (0.5, 0.5, 0)) / np.array(WB), 0, 1)


def mosaic(rgb: Array, cfa: Array) -> Array:
    """Return the samples a pattern takes of (y, x, 3)."""
    index = sensor.over(cfa, rgb.shape[:2]).astype(int)
    return np.take_along_axis(rgb, index[..., None], -1)[..., 0]


def stored(signal: Array) -> Array:
    """Return signals in DN as a sensor of 14 bits stores them, clipped at 0 and at white."""
    return np.clip(np.rint(signal + BLACK), 0, WHITE).astype(np.uint16)


def description(shape: tuple[int, ...], cfa: Array) -> Description:
    """Return what a file of the simulated camera says."""
    return Description(
        format="npy",
        shape=shape,
        axes=("y", "x"),
        dtype="uint16",
        kind="mosaic",
        spacing=(None, None),
        units=(None, None),
        out_dtype="uint16",
        acquisition={
            "cfa": cfa.tolist(),
            "black": np.full(cfa.shape, BLACK).tolist(),
            "white": WHITE,
            "wb": [*WB, 1.0],
            "make": "pellucid",
            "model": "phantom",
            "iso": 3200,
            "color_matrix": [[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.204, 1.057]],
        },
    )


def _law(gain: float, read: float) -> Noise:
    return Noise("poisson_gaussian", float((gain * 1500 + read**2) ** 0.5), "given", "", {"gain": gain, "read": read})


def _soft(distance: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-np.clip(distance / 0.004, -30, 30))))
