# SPDX-License-Identifier: Apache-2.0
"""Small pictures with everything a denoiser meets: ramps, edges, fine lines, and texture that repeats."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pellucid.core.errors import UsageError
from pellucid.core.lazy import ndimage, np
from pellucid.core.types import Description, Noise
from pellucid.domains.declare import Phantom

if TYPE_CHECKING:
    from pellucid.core.types import Array

SIZE = (256, 256)
SIGMA = 25 / 255  # full scale 1: the level the literature quotes most
WHITE = 255
BLUR = 0.8  # samples, sd: as demosaicking leaves noise
TINTS = ((1.0, 0.86, 0.7), (0.75, 0.95, 1.0), (1.0, 0.7, 0.75))  # of ground, discs and grating


def simulate(seed: int = 0, case: str = "grey", size: Any = None) -> Phantom:
    """Simulate a case of the field.

    Parameters
    ----------
    seed : int
        Of the noise; the truth does not depend on it.
    case : {"grey", "colour", "correlated"}
        White noise of 25/255 on grey or colours; ``correlated``: the same noise, blurred as by a camera.
    size : int or (y, x), optional
        None: 256 x 256.

    Raises
    ------
    UsageError
        For an unknown case.
    """
    shape = (size, size) if isinstance(size, int) else tuple(size or SIZE)
    if case not in ("grey", "colour", "correlated"):
        raise UsageError(f"unknown phantom {case!r}", hint="choose one of grey, colour, correlated")
    truth = scene(shape, colour=case != "grey")
    noise = np.random.default_rng(seed).standard_normal(truth.shape)
    if case == "correlated":
        noise = ndimage.gaussian_filter(noise, (BLUR, BLUR, 0))
        noise /= noise.std()
    law = Noise("gaussian", SIGMA, "given")
    return Phantom(_stored(truth), _stored(truth + SIGMA * noise), _description(truth.shape), law)


def scene(shape: tuple[int, ...], *, colour: bool = False) -> Array:
    """Return the truth in [0.15, 0.85]: a shaded ground, discs, a grating and thin lines.

    Parameters
    ----------
    shape : (y, x)
    colour : bool
        Adds an axis of red, green, blue.
    """
    y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    ground = 0.5 + 0.2 * x + 0.1 * np.sin(3 * y)
    discs = sum(
        _soft(r - np.hypot(y - v, x - u)) for v, u, r in ((-0.4, -0.5, 0.3), (0.45, 0.5, 0.2), (0.5, -0.1, 0.1))
    )
    grating = (0.5 + 0.5 * np.sin(60 * x + 20 * y)) * _soft(0.35 - np.maximum(np.abs(y + 0.45), np.abs(x - 0.5)))
    lines = _soft(0.012 - np.abs(y - 0.75 - 0.1 * x)) + _soft(0.012 - np.abs(x + 0.8 - 0.05 * y))
    tints = np.array(TINTS) if colour else np.ones((3, 1))
    parts = (ground[..., None] * tints[0], 0.3 * discs[..., None] * tints[1], -0.35 * grating[..., None] * tints[2])
    truth = np.clip(sum(parts) - 0.25 * lines[..., None], 0.15, 0.85)
    return truth if colour else truth[..., 0]


def _soft(distance: Array) -> Array:
    """1 inside, 0 outside, over about two samples of the default size."""
    return np.asarray(1 / (1 + np.exp(-np.clip(distance / 0.004, -30, 30))))


def _stored(values: Array) -> Array:
    return np.clip(np.rint(values * WHITE), 0, WHITE).astype(np.uint8)


def _description(shape: tuple[int, ...]) -> Description:
    return Description(
        format="png",
        shape=shape,
        axes=("y", "x", "channel")[: len(shape)],
        dtype="uint8",
        kind="rgb" if len(shape) == 3 else "intensity",
        spacing=(None,) * len(shape),
        units=(None,) * len(shape),
        slope=1 / WHITE,
        out_dtype="uint8",
        acquisition={"bits": 8},
    )
