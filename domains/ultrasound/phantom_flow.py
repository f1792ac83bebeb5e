# SPDX-License-Identifier: Apache-2.0
"""Simulated cines: tissue that moves under electronic noise, and a vessel whose blood hides in clutter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pellucid.core.lazy import fft, ndimage, np
from pellucid.core.types import Noise
from pellucid.domains.declare import Phantom
from pellucid.domains.ultrasound import phantom

if TYPE_CHECKING:
    from pellucid.core.types import Array

CINE = (400, 300, 30)
CINE_NOISE_DB = -12.0  # re the rms of speckle
SHOWN_NOISE_DB = -18.0  # of display cines: a scanner cuts what is noisier
MOTION = (2.0, 1.5)  # samples, axial and lateral amplitude of motion 1
CARRIER_MM = 0.154  # motion that turns the phase once: 1540 m/s / (2 x 5 MHz)
DOPPLER = (200, 160, 32)
DOPPLER_STEP = (0.1, 0.15)  # mm
PRF_HZ, FC_HZ, C_M_S = 2000.0, 5e6, 1540.0
BLOOD_DB, LUMEN_DB, FLOOR_DB = -40.0, -25.0, -55.0  # blood, tissue inside the vessel, noise; re tissue
RADIUS = 22  # samples
ANGLE = 72.0  # degrees between beam and flow
BEAT_HZ = 3.0  # of the tissue's motion


def simulate(seed: int, case: str, size: Any = None) -> Phantom:
    """Return ``cine``, ``iq`` or ``doppler``; see `pellucid.domains.ultrasound.phantom.simulate`."""
    if case == "doppler":
        values, blood = doppler(seed, *_extent(size, DOPPLER))
        noise = Noise("gaussian", 10 ** (FLOOR_DB / 20) / np.sqrt(2), "given")
        facts = {"prf_hz": PRF_HZ, "fc_hz": FC_HZ, "c_m_s": C_M_S}
        return Phantom(blood, values, phantom.describe(values, "iq", **facts), noise)
    level = CINE_NOISE_DB if case == "iq" else SHOWN_NOISE_DB
    truth, noisy = cine(seed, *_extent(size, CINE), motion=0.2, noise_db=level)
    sigma = 10 ** (level / 20) / np.sqrt(2)
    if case == "iq":
        return Phantom(truth, noisy, phantom.describe(noisy, "iq"), Noise("gaussian", sigma, "given"))
    top = float(np.abs(truth).max())
    shown = [phantom.display(20 * np.log10(np.maximum(np.abs(v) / top, 1e-12))) for v in (truth, noisy)]
    return Phantom(shown[0], shown[1], phantom.describe(shown[1], "bmode"), Noise("gaussian", sigma, "given"))


def _extent(size: Any, default: tuple[int, int, int]) -> tuple[int, int, int]:
    given = tuple(int(n) for n in size or ())
    return given if len(given) == 3 else (*given, default[2]) if len(given) == 2 else default


def cine(
    seed: int, rows: int, columns: int, frames: int, *, motion: float = 0.0, noise_db: float = CINE_NOISE_DB
) -> tuple[Array, Array]:
    """Return truth and measurement, complex64 (axial, lateral, frame): the phantom, moving, in noise.

    ``motion`` 1 moves tissue by 2 samples along depth, growing with it, and 1.5 across, one period in the cine.
    """
    still = phantom.cyst(seed, (rows, columns), noise_db=None).iq
    rng = np.random.default_rng(seed + 1000)
    z, x = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    truth = np.empty((rows, columns, frames), np.complex64)
    for t in range(frames):
        swing = motion * np.sin(2 * np.pi * t / frames)
        down, across = swing * MOTION[0] * z / rows, swing * MOTION[1]
        truth[..., t] = _moved(still, z - down, x - across) * np.exp(2j * np.pi * down * phantom.STEP[0] / CARRIER_MM)
    noise = 10 ** (noise_db / 20) / np.sqrt(2)
    parts = rng.standard_normal((2, rows, columns, frames), np.float32)
    return truth, (truth + np.float32(noise) * (parts[0] + 1j * parts[1])).astype(np.complex64)


def _moved(values: Array, z: Array, x: Array) -> Array:
    """Return complex samples at other places, cubic."""
    parts = [ndimage.map_coordinates(p, (z, x), order=3, mode="nearest") for p in (values.real, values.imag)]
    return np.asarray(parts[0] + 1j * parts[1])


def lumen(rows: int, columns: int) -> Array:
    """Return where blood flows, as a boolean image: a tube that falls by one sample in ten."""
    return np.asarray(_off_axis(rows, columns) < 1)


def _off_axis(rows: int, columns: int) -> Array:
    z, x = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    return np.abs(z - rows / 2 - 0.1 * (x - columns / 2)) / RADIUS


def doppler(
    seed: int, rows: int, columns: int, pulses: int, *, tissue_mm_s: float = 4.0, flow_m_s: float = 0.3
) -> tuple[Array, Array]:
    """Return an ensemble and its blood alone, complex64 (axial, lateral, pulse).

    Parameters
    ----------
    tissue_mm_s : float
        Peak velocity of the tissue's sinusoidal motion, along the beam.
    flow_m_s : float
        Peak of the parabolic flow.
    """
    rng = np.random.default_rng(seed)
    off = _off_axis(rows, columns)
    tissue = _speckle((rows, columns), rng) * np.where(off < 1, 10 ** (LUMEN_DB / 20), 1)
    profile = flow_m_s * np.clip(1 - off**2, 0, None)
    wave = 4 * np.pi * FC_HZ / C_M_S  # radians of phase per metre of motion
    z, x = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    blood_at = _speckle((rows, columns), rng) * 10 ** (BLOOD_DB / 20)
    blood, all_of_it = (np.empty((rows, columns, pulses), np.complex64) for _ in range(2))
    down, across = (f * 1e3 for f in (np.cos(np.deg2rad(ANGLE)), np.sin(np.deg2rad(ANGLE))))
    for t in range(pulses):
        time = t / PRF_HZ
        d = tissue_mm_s * 1e-3 / (2 * np.pi * BEAT_HZ) * np.sin(2 * np.pi * BEAT_HZ * time)
        sway = np.exp(1j * wave * d * (1 + 0.3 * z / rows))
        path = profile * time
        at = (z - path * down / DOPPLER_STEP[0]) % rows, (x - path * across / DOPPLER_STEP[1]) % columns
        echo = _wrapped(blood_at, *at) * np.exp(1j * wave * path * np.cos(np.deg2rad(ANGLE)))
        blood[..., t] = np.where(off < 1, echo, 0)
        all_of_it[..., t] = tissue * sway + blood[..., t]
    parts = rng.standard_normal((2, rows, columns, pulses), np.float32)
    noise = np.float32(10 ** (FLOOR_DB / 20) / np.sqrt(2))
    return (all_of_it + noise * (parts[0] + 1j * parts[1])).astype(np.complex64), blood


def _speckle(shape: tuple[int, int], rng: np.random.Generator) -> Array:
    """Return periodic speckle of unit rms and the phantom's point spread function, on the Doppler grid."""
    white = phantom.scatterers(np.ones(shape), rng)
    power = np.ones(shape)
    for axis, (step, width) in enumerate(zip(DOPPLER_STEP, phantom.WIDTH, strict=True)):
        f = fft.fftfreq(shape[axis], step)
        gain = np.exp(-((np.pi * f * width) ** 2) / (4 * np.log(2)))
        power = power * (gain[:, None] if axis == 0 else gain[None, :])
    field = fft.ifft2(fft.fft2(white) * power)
    return np.asarray(field / np.sqrt(np.mean(np.abs(field) ** 2)))


def _wrapped(values: Array, z: Array, x: Array) -> Array:
    parts = [ndimage.map_coordinates(p, (z, x), order=1, mode="grid-wrap") for p in (values.real, values.imag)]
    return np.asarray(parts[0] + 1j * parts[1])
