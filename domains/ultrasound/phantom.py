# SPDX-License-Identifier: Apache-2.0
"""Simulated echoes: point scatterers times a point spread function, so that speckle is speckle.

Scatterers with circular Gaussian amplitudes on a grid twice as fine as the image, convolved with a Gaussian
point spread function without carrier, give fully developed speckle (Rayleigh envelope); discs change the
scatterers' strength, points are single strong targets. No wave is propagated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pellucid.core.errors import UsageError
from pellucid.core.lazy import np
from pellucid.core.types import Description, Noise
from pellucid.domains.declare import Phantom

if TYPE_CHECKING:
    from pellucid.core.types import Array

SIZE = (512, 400)  # axial, lateral
STEP = (0.08, 0.10)  # mm
WIDTH = (0.35, 0.60)  # mm, full width at half maximum of the envelope of a point
REACH = (24, 40)  # fine samples at which the point spread function is cut
NOISE_DB = -30.0  # electronic noise, re the rms of speckle
RANGE_DB = 60.0  # of display images
WHITE = 255
MEAN_DB = -1.05  # 20 log10 of the mean of a Rayleigh envelope, re its rms: sqrt(pi) / 2
SPECKLE_DB = 5.57  # standard deviation of 20 log10 of a Rayleigh envelope

# z, x, radius in mm, dB re the background (None: no echo at all)
DISCS: tuple[tuple[float, float, float, float | None], ...] = (
    (6, 7, 3, None),
    (6, 17, 1.5, None),
    (6, 24, 0.75, None),
    (6, 33, 3, 9),
    (17, 6, 3, 3),
    (17, 15, 3, -3),
    (17, 24, 3, 6),
    (17, 33, 3, -6),
)
# z, x in mm, dB re the rms of speckle
POINTS = ((35, 6, 26), (35, 13, 26), (35, 20, 26), (35, 27, 14), (35, 34, 14), (38.5, 20, 14))


@dataclass(frozen=True)
class Echoes:
    """A simulated frame.

    Attributes
    ----------
    iq : complex array (axial, lateral)
        Beamformed samples; the rms of background speckle is 1.
    power : array (axial, lateral)
        Expected ``|iq|^2`` of speckle and noise, points left out.
    """

    iq: Array
    power: Array

    @property
    def envelope(self) -> Array:
        """The envelope over its maximum."""
        size = np.abs(self.iq)
        return np.asarray(size / size.max())

    @property
    def truth_db(self) -> Array:
        """What a perfect despeckler shows of ``envelope``, dB: the mean envelope of each place."""
        return np.asarray(10 * np.log10(self.power / np.abs(self.iq).max() ** 2) + MEAN_DB)


def psf() -> Array:
    """Return the point spread function on the fine grid, of unit energy."""
    parts = [
        np.exp(-4 * np.log(2) * np.square(np.arange(-r, r + 1) * step / 2 / w))
        for r, step, w in zip(REACH, STEP, WIDTH, strict=True)
    ]
    shape = np.outer(*parts)
    return np.asarray(shape / np.sqrt(np.sum(shape**2)))


def grids(shape: tuple[int, int], fine: int = 2) -> tuple[Array, Array]:
    """Return depth and lateral position of each node in mm, as a column and a row."""
    z, x = ((np.arange(n * fine) + 0.5) * step / fine for n, step in zip(shape, STEP, strict=True))
    return z[:, None], x[None, :]


def strength(shape: tuple[int, int]) -> Array:
    """Return the scatterers' amplitude on the fine grid: 1 in the background."""
    z, x = grids(shape)
    amplitude = np.ones((z.size, x.size))
    for z0, x0, radius, gain in DISCS:
        inside = np.hypot(z - z0, x - x0) < radius
        amplitude[inside] = 0.0 if gain is None else 10 ** (gain / 20)
    return amplitude


def scatterers(amplitude: Array, rng: np.random.Generator) -> Array:
    """Return circular Gaussian scatterers of that rms."""
    real, imag = rng.standard_normal(amplitude.shape), rng.standard_normal(amplitude.shape)
    return np.asarray(amplitude * (real + 1j * imag) / np.sqrt(2))


def points(shape: tuple[int, int]) -> Array:
    """Return the echoes of the point targets on the fine grid."""
    z, x = grids(shape)
    out = np.zeros((z.size, x.size))
    for z0, x0, gain in POINTS:
        away = np.square((z - z0) / WIDTH[0]) + np.square((x - x0) / WIDTH[1])
        out += 10 ** (gain / 20) * np.exp(-4 * np.log(2) * away)
    return out


def expected(amplitude: Array, noise: float) -> Array:
    """Return the expected power on the image's grid for scatterers of that amplitude and noise of that power."""
    from scipy.signal import fftconvolve

    return np.asarray(np.maximum(fftconvolve(amplitude**2, psf() ** 2, mode="same")[::2, ::2], 0) + noise)


def cyst(seed: int = 0, shape: tuple[int, int] = SIZE, noise_db: float | None = NOISE_DB) -> Echoes:
    """Return speckle with cysts, lesions of +9, +6, +3, -3 and -6 dB, and point targets of 26 and 14 dB.

    ``noise_db``: power of electronic noise re speckle; None: no noise.
    """
    from scipy.signal import fftconvolve

    rng = np.random.default_rng(seed)
    amplitude = strength(shape)
    echoes = fftconvolve(scatterers(amplitude, rng), psf(), mode="same") + points(shape)
    noise = 0.0 if noise_db is None else 10 ** (noise_db / 10)
    iq = echoes[::2, ::2] + scatterers(np.full(shape, np.sqrt(noise)), rng)
    return Echoes(iq, expected(amplitude, noise))


def display(decibels: Array) -> Array:
    """Return dB re the maximum as 8-bit grey levels over ``RANGE_DB``."""
    return np.asarray(np.rint(np.clip(1 + decibels / RANGE_DB, 0, 1) * WHITE).astype(np.uint8))


def simulate(seed: int = 0, case: str = "cine", size: Any = None) -> Phantom:
    """Simulate a case of the field.

    Parameters
    ----------
    seed : int
    case : {"cine", "cyst", "iq", "doppler"}
        ``cine``: display images of moving tissue with electronic noise; truth: the same without noise.
        ``cyst``: one display image, 8 bits over 60 dB; truth: the mean envelope of each place.
        ``iq``: the cine before the envelope, complex.
        ``doppler``: IQ of a vessel in moving tissue; truth: the blood alone.
    size : tuple of int, optional
        Extents (frames last for the series); None: 512 x 400, 400 x 300 x 30, 200 x 160 x 32.

    Raises
    ------
    UsageError
        For an unknown case.
    """
    if case in ("cine", "iq", "doppler"):
        from pellucid.domains.ultrasound import phantom_flow

        return phantom_flow.simulate(seed, case, size)
    if case != "cyst":
        raise UsageError(f"unknown phantom {case!r}", hint="choose one of cine, cyst, iq, doppler")
    shape = tuple(size or SIZE)[:2]
    found = cyst(seed, (int(shape[0]), int(shape[1])))
    noisy = display(20 * np.log10(np.maximum(found.envelope, 1e-12)))
    sigma = SPECKLE_DB / RANGE_DB * WHITE
    return Phantom(display(found.truth_db), noisy, describe(noisy, "bmode"), Noise("speckle", sigma, "given"))


def describe(values: Array, kind: str, **acquisition: Any) -> Description:
    """Return the description of simulated samples: axes, steps in mm, kind."""
    axes = ("y", "x", "frame") if kind == "bmode" else ("axial", "lateral", "frame")
    return Description(
        format="npy",
        shape=values.shape,
        axes=axes[: values.ndim],
        dtype=str(values.dtype),
        kind=kind,
        spacing=(*STEP, None)[: values.ndim],
        units=("mm", "mm", None)[: values.ndim],
        acquisition={"dynamic_range_db": RANGE_DB} if kind == "bmode" else acquisition,
    )
