# SPDX-License-Identifier: Apache-2.0
"""How a sensor makes noise in the dark: photons, read noise with heavy tails, rows, rounding.

Wei, Fu, Yang & Huang, CVPR 2020 (10.1109/CVPR42600.2020.00283):
``D = K Poisson(I / K) + N_read + N_row + N_q``, all in DN.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pellucid.core.lazy import np

if TYPE_CHECKING:
    from pellucid.core.types import Array

EDGE = 1e-9  # of the uniform draws: the quantile is infinite at 0 and 1 for negative shapes


@dataclass(frozen=True)
class Camera:
    """One setting of a camera.

    Parameters
    ----------
    gain : float
        DN per electron (K).
    read : float
        Standard deviation of the read noise, DN.
    row : float
        Standard deviation of what a whole row shares, DN.
    shape : float
        Tukey lambda: .14 is nearly Gaussian, less has heavier tails.
    prnu : float
        Relative spread of the photosites' sensitivity.
    bias : (r, g1, g2, b), optional
        What is added at each position of a 2 x 2 pattern, DN.
    """

    gain: float
    read: float
    row: float = 0.0
    shape: float = 0.14
    prnu: float = 0.0
    bias: tuple[float, ...] = ()


def draw(parameters: Mapping[str, Any], gain: float | None, rng: np.random.Generator) -> Camera:
    """Return a setting drawn from a camera's joint law (gain between its Kmin and Kmax unless given).

    Parameters
    ----------
    parameters : mapping
        ``Kmin Kmax G_shape Profile-1``: of each of ``g_scale G_scale R_scale`` slope, bias, sigma over log K.
    """
    low, high = np.log(parameters["Kmin"]), np.log(parameters["Kmax"])
    log_gain = float(np.log(gain)) if gain else float(rng.uniform(low, high))
    law = parameters["Profile-1"]

    def scale(name: str) -> float:
        part = law[name]
        return float(np.exp(part["slope"] * log_gain + part["bias"] + part["sigma"] * rng.standard_normal()))

    shape = float(rng.choice(np.asarray(parameters["G_shape"]).ravel()))
    tukey = scale("G_scale") * spread(shape)
    return Camera(float(np.exp(log_gain)), tukey, scale("R_scale"), shape)


def quantile(u: Array, shape: float) -> Array:
    """Return the quantile of the Tukey-lambda law of scale 1."""
    u = np.clip(u, EDGE, 1 - EDGE)
    if abs(shape) < 1e-6:
        return np.log(u / (1 - u))
    return np.asarray((u**shape - (1 - u) ** shape) / shape)


def spread(shape: float) -> float:
    """Return the standard deviation of the Tukey-lambda law of scale 1 (finite above -1/2)."""
    from scipy.stats import tukeylambda

    return float(np.sqrt(tukeylambda.var(max(shape, -0.45))))


def read_noise(shape: tuple[int, ...], camera: Camera, rng: np.random.Generator) -> Array:
    """Return read noise of the wanted standard deviation."""
    if camera.read == 0:
        return np.zeros(shape)
    return camera.read / spread(camera.shape) * quantile(rng.random(shape), camera.shape)


def expose(signal: Array, camera: Camera, rng: np.random.Generator, *, sensitivity: Array | None = None) -> Array:
    """Return a measurement of a mean signal (DN above black), before black, rounding and clipping."""
    light = np.maximum(signal, 0)
    if sensitivity is None and camera.prnu:
        sensitivity = 1 + camera.prnu * rng.standard_normal(light.shape)
    if sensitivity is not None:
        light = light * sensitivity
    out = camera.gain * rng.poisson(light / camera.gain) + read_noise(light.shape, camera, rng)
    out += camera.row * rng.standard_normal((len(light), 1))
    if camera.bias:
        for i, b in enumerate(camera.bias):
            out[i // 2 :: 2, i % 2 :: 2] += b
    return np.asarray(out)


def unprocess(rgb: Array, wb: tuple[float, ...] = (2.0, 1.0, 1.6)) -> Array:
    """Return camera colours of an sRGB picture in [0, 1]: the curve undone, the balance taken back.

    The simple part of Brooks et al., CVPR 2019 (10.1109/CVPR.2019.01129).
    """
    from pellucid.domains.raw.demosaic import light

    return np.asarray(light(rgb) / np.asarray(wb))
