# SPDX-License-Identifier: Apache-2.0
"""Small MRI phantoms: a diffusion-weighted head with crossing fibres, and a T1-like volume.

Both are analytic: soft ellipsoids for head, white matter and ventricles on the cube [-1, 1]^3, tensors
along smooth fields of direction, a linear and quadratic receive bias. The noise is that of the instrument:
complex Gaussian per coil, combined by the sum of squares.
"""

from __future__ import annotations

from math import pi, sqrt
from typing import TYPE_CHECKING, Any

from pellucid.core.errors import UsageError
from pellucid.core.lazy import np
from pellucid.core.noise import rician
from pellucid.core.types import Description, Noise
from pellucid.domains.declare import Phantom

if TYPE_CHECKING:
    from pellucid.core.types import Array

CASES = ("dwi", "dwi-4coil", "t1")
DWI_SHAPE = (64, 64, 30)
T1_SHAPE = (96, 112, 64)
B0_VOLUMES = 4
DIRECTIONS = 30  # per shell
SHELLS = (1000.0, 2000.0)  # s/mm^2
AXIAL, RADIAL = 1.7e-3, 0.3e-3  # white matter diffusivities, mm^2/s
GREY, FLUID = 0.8e-3, 3.0e-3  # isotropic diffusivities, mm^2/s
T1_PEAK = 255.0
T1_LEVELS = (220.0, 150.0, 50.0)  # white, grey, fluid; input units


def simulate(seed: int = 0, case: str = "dwi", size: Any = None) -> Phantom:
    """Simulate a case of the field.

    Parameters
    ----------
    seed : int
        Of the noise; the truth does not depend on it.
    case : {"dwi", "dwi-4coil", "t1"}
        Diffusion series (64 volumes) at SNR 20 from one coil or four; T1-like volume at 5 % Rician noise.
    size : int or (x, y, z), optional
        Spatial shape; one number n gives (n, n, ceil(n / 2)). None: 64 x 64 x 30 and 96 x 112 x 64.

    Raises
    ------
    UsageError
        For an unknown case.
    """
    shape = (size, size, -(-size // 2)) if isinstance(size, int) else size and tuple(size)
    if case == "t1":
        return t1(seed, shape=shape or T1_SHAPE)
    if case in ("dwi", "dwi-4coil"):
        return dwi(seed, coils=4 if case == "dwi-4coil" else 1, shape=shape or DWI_SHAPE)
    raise UsageError(f"unknown phantom {case!r}", hint=f"choose one of {', '.join(CASES)}")


def dwi(
    seed: int = 0, *, snr: float = 20.0, coils: int = 1, shape: tuple[int, ...] = DWI_SHAPE, noise: bool = True
) -> Phantom:
    """Simulate a two-shell diffusion series: 4 volumes b = 0, 30 with b = 1000, 30 with b = 2000 s/mm^2.

    Parameters
    ----------
    snr : float
        1 / sigma per channel, in units of the white-matter signal without diffusion weighting.
    coils : int
        Coils of equal sensitivity, combined by the sum of squares (non-central chi).
    shape : (x, y, z)
        Grid over the same head.
    noise : bool
        False gives the truth as measurement.
    """
    bvals, bvecs = gradients()
    truth, mask = _dwi_signal(shape, bvals, bvecs)
    sigma = 1.0 / snr
    noisy = rician.sample(truth, sigma, np.random.default_rng(seed), coils) if noise else truth
    description = Description(
        format="nifti",
        shape=truth.shape,
        axes=("x", "y", "z", "volume"),
        dtype="float32",
        kind="magnitude",
        spacing=(2.0, 2.0, 2.0, 3.0),
        units=("mm", "mm", "mm", "s"),
        slab=2,
        out_dtype="float32",
        acquisition={
            "bvals": bvals,
            "bvecs": bvecs,
            "repetition_s": 3.0,
            "coils": coils,
            "affine": _affine(truth.shape, 2.0),
        },
    )
    law = _law(sigma, coils)
    return Phantom(truth.astype(np.float32), noisy.astype(np.float32), description, law, mask)


def t1(seed: int = 0, *, percent: float = 5.0, shape: tuple[int, ...] = T1_SHAPE, noise: bool = True) -> Phantom:
    """Simulate a T1-like volume with Rician noise of ``percent`` of the peak 255; the mask is the head."""
    x, y, z = _grid(shape)
    head, white, grey, fluid = _tissues(x, y, z)
    folds = 1 + 0.15 * np.sin(14 * x + 3 * z) * np.sin(12 * y - 2 * x) * np.cos(10 * z)  # cortex is not flat
    truth = _bias(x, y, z) * (T1_LEVELS[0] * white + T1_LEVELS[1] * folds * grey + T1_LEVELS[2] * fluid)
    sigma = percent / 100 * T1_PEAK
    noisy = rician.sample(truth, sigma, np.random.default_rng(seed)) if noise else truth
    description = Description(
        format="nifti",
        shape=truth.shape,
        axes=("x", "y", "z"),
        dtype="float32",
        kind="magnitude",
        spacing=(1.0, 1.0, 1.0),
        units=("mm", "mm", "mm"),
        slab=2,
        out_dtype="float32",
        acquisition={"affine": _affine(truth.shape, 1.0)},
    )
    return Phantom(truth.astype(np.float32), noisy.astype(np.float32), description, _law(sigma, 1), head > 0.5)


def _affine(shape: tuple[int, ...], step: float) -> list[list[float]]:
    """Return the way from voxels to mm (RAS), the middle of the grid at the origin."""
    rows = [[step if i == j else 0.0 for j in range(3)] + [-step * (shape[i] - 1) / 2] for i in range(3)]
    return [*rows, [0.0, 0.0, 0.0, 1.0]]


def gradients() -> tuple[Array, Array]:
    """Return b values (64,) and unit directions (64, 3) of the diffusion phantom; b = 0 has direction 0."""
    i = np.arange(DIRECTIONS)
    height, turn = (i + 0.5) / DIRECTIONS, pi * (1 + sqrt(5)) * (i + 0.5)
    radius = np.sqrt(1 - height**2)
    first = np.stack([radius * np.cos(turn), radius * np.sin(turn), height], axis=1)  # Fibonacci hemisphere
    bvals = np.repeat([0.0, *SHELLS], [B0_VOLUMES, DIRECTIONS, DIRECTIONS])
    return bvals, np.concatenate([np.zeros((B0_VOLUMES, 3)), first, np.roll(first, -1, axis=1)])


def _dwi_signal(shape: tuple[int, ...], bvals: Array, bvecs: Array) -> tuple[Array, Array]:
    """Return the noise-free series (x, y, z, volume) in float64 and the mask of the head."""
    x, y, z = _grid(shape)
    head, white, grey, fluid = _tissues(x, y, z)
    angle = pi * (x + 0.5 * y) + 1.3 * z
    lift = 0.6 * np.sin(2.5 * x - 1.7 * z)
    fibre1 = (np.cos(angle) * np.cos(lift), np.sin(angle) * np.cos(lift), np.sin(lift))
    angle2 = angle + pi / 2 + 0.4 * np.cos(3 * y)
    fibre2 = (np.cos(angle2), np.sin(angle2), np.zeros_like(angle2))
    crossing = 0.5 * _soft(np.abs(y - 0.2) - 0.25)
    bias = _bias(x, y, z)
    series = np.empty((*shape, len(bvals)))
    for v, (b, g) in enumerate(zip(bvals, bvecs, strict=True)):
        weighted = (1 - crossing) * _stick(fibre1, b, g) + crossing * _stick(fibre2, b, g)
        series[..., v] = bias * (white * weighted + 1.2 * grey * np.exp(-GREY * b) + 2 * fluid * np.exp(-FLUID * b))
    return series, head > 0.5


def _stick(fibre: tuple[Array, ...], b: float, g: Array) -> Array:
    """Return the signal of an axially symmetric tensor along ``fibre``."""
    along = fibre[0] * g[0] + fibre[1] * g[1] + fibre[2] * g[2]
    return np.exp(-b * (RADIAL + (AXIAL - RADIAL) * along**2))


def _grid(shape: tuple[int, ...]) -> list[Array]:
    """Return x, y, z at the voxel centres, each over the whole grid, in [-1, 1]."""
    return np.meshgrid(*((np.arange(n) + 0.5) / n * 2 - 1 for n in shape), indexing="ij")


def _tissues(x: Array, y: Array, z: Array) -> tuple[Array, Array, Array, Array]:
    """Return the head and the fractions of white matter, grey matter and fluid."""
    head = _soft(_radius(x / 0.85, y / 0.9, z / 0.95) - 1)
    ripple = 0.08 * np.sin(9 * np.arctan2(y, x)) * np.cos(3 * z)
    white = _soft(_radius(x / 0.65, y / 0.7, z / 0.8) - 1 + ripple)
    ventricles = _soft(_radius((np.abs(x) - 0.18) / 0.12, y / 0.35, z / 0.45) - 1)
    return head, head * white * (1 - ventricles), head * (1 - white) * (1 - ventricles), head * ventricles


def _radius(x: Array, y: Array, z: Array) -> Array:
    return np.sqrt(x**2 + y**2 + z**2)


def _soft(distance: Array, width: float = 0.04) -> Array:
    """Return a step from 1 inside to 0 outside, as wide as partial volume makes it."""
    return 1 / (1 + np.exp(distance / width))


def _bias(x: Array, y: Array, z: Array) -> Array:
    """Return the receive field."""
    return 1 - 0.25 * (x**2 + y**2 + z**2) / 3 + 0.1 * x


def _law(sigma: float, coils: int) -> Noise:
    return Noise("rician" if coils == 1 else "ncchi", sigma, "given", params={"coils": coils})
