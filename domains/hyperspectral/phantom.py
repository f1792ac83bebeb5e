# SPDX-License-Identifier: Apache-2.0
"""A small scene with known truth, and the noise cases of the restoration literature.

The scene mixes a handful of materials with smooth reflectances and absorption features: fields with straight
borders, a winding river, roads one pixel wide, a few isolated targets. Measured through a sensor of five degrees
of freedom per band: illumination, path radiance, shot noise, read noise, quantisation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pellucid.core.lazy import ndimage, np
from pellucid.core.types import Description, Noise
from pellucid.domains.declare import Phantom

if TYPE_CHECKING:
    from pellucid.core.types import Array

CASES = ("1", "2", "3", "4", "5", "6")  # iid; per band; + stripes; + dead lines; + impulses; all
IID_SIGMA = 0.1  # of the range, case 1
BAND_SIGMA = (0.02, 0.2)  # of the range, uniform, cases 2 to 6
STRIPE_SHARE = (0.05, 0.15)  # of the columns of an affected band
STRIPE_OFFSET = 0.25  # of the range, uniform in +- this
DEAD_LINES = (3, 10)  # groups of dead columns in an affected band
DEAD_WIDTH = (1, 3)  # columns
IMPULSE_SHARE = (0.02, 0.10)  # of the samples of an affected band, half salt and half pepper
AFFECTED = 1 / 3  # of the bands, drawn anew for each kind of damage

SCALE = 1e-4  # reflectance of one stored unit
# centre nm, depth, width nm of absorptions; then base reflectance and slope per micrometre
MATERIALS = (
    (
        "vegetation",
        ((490, 0.55, 60), (670, 0.75, 45), (980, 0.12, 30), (1200, 0.2, 45), (1450, 0.55, 70), (1940, 0.7, 80)),
        0.48,
        -0.08,
    ),
    ("soil", ((480, 0.35, 120), (870, 0.08, 90), (1410, 0.1, 35), (1910, 0.16, 45), (2205, 0.12, 25)), 0.26, 0.07),
    ("water", ((760, 0.5, 120), (1000, 0.85, 250), (1500, 0.97, 400), (2200, 0.98, 500)), 0.07, -0.02),
    ("asphalt", ((2310, 0.06, 40),), 0.11, 0.02),
    ("carbonate", ((1870, 0.06, 30), (2000, 0.08, 35), (2335, 0.3, 35)), 0.52, 0.01),
    ("dry straw", ((2100, 0.22, 60), (1450, 0.12, 50), (1930, 0.18, 55), (480, 0.5, 150)), 0.38, 0.03),
)
TARGET = ((1215, 0.45, 12), (1730, 0.55, 14), (2300, 0.5, 16))  # a polymer: C-H overtones


def simulate(seed: int, case: str = "", size: tuple[int, ...] = ()) -> Phantom:
    """Return a scene and its measurement.

    Parameters
    ----------
    seed : int
    case : str
        One of ``CASES``: noise relative to each band's range (literature). Empty: shot and read noise.
    size : (line, sample, band), optional
        Default 96 x 96 x 120.
    """
    lines, samples, bands = (*size, 96, 96, 120)[:3] if len(size) == 3 else (96, 96, 120)
    rng = np.random.default_rng(seed)
    wavelengths = np.linspace(420, 2450, bands)
    truth = np.einsum("yxm,mb->yxb", _abundances(rng, lines, samples), _spectra(wavelengths))
    if case:
        low, high = truth.min((0, 1)), truth.max((0, 1))
        unit, sigma = degrade((truth - low) / (high - low), case, rng)
        noisy, sigma = unit * (high - low) + low, sigma * (high - low)
    else:
        noisy, sigma = _measure(truth, wavelengths, rng)
    stored_truth, stored = (np.rint(a / SCALE).clip(-32767, 32767).astype(np.int16) for a in (truth, noisy))
    description = Description(
        format="envi",
        shape=stored.shape,
        axes=("line", "sample", "band"),
        dtype="int16",
        kind="reflectance",
        spacing=(30.0, 30.0, None),
        units=("m", "m", "nm"),
        slope=SCALE,
        out_dtype="int16",
        acquisition={"wavelengths_nm": wavelengths.round(2).tolist(), "fwhm_nm": [10.0] * bands},
    )
    return Phantom(stored_truth, stored, description, Noise("gaussian", sigma.astype(np.float32), "given"))


def degrade(clean: Array, case: str, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return a cube in [0, 1] with the noise of a literature case, and the Gaussian part's sigma (band,).

    1: sigma .1 everywhere. 2: sigma of each band uniform in .02 to .2. 3, 4, 5: case 2 and, in a third of the
    bands, stripes (offsets on 5 to 15 % of the columns), dead columns, or salt and pepper. 6: all of them.
    """
    bands = clean.shape[2]
    sigma = np.full(bands, IID_SIGMA) if case == "1" else rng.uniform(*BAND_SIGMA, bands)
    noisy = clean + sigma * rng.standard_normal(clean.shape)
    if case in "36":
        _stripes(noisy, rng)
    if case in "46":
        _dead_columns(noisy, rng)
    if case in "56":
        _impulses(noisy, rng)
    return noisy, sigma


def _affected(bands: int, rng: np.random.Generator) -> Array:
    return rng.choice(bands, max(1, round(bands * AFFECTED)), replace=False)


def _stripes(cube: Array, rng: np.random.Generator) -> None:
    columns = cube.shape[1]
    for band in _affected(cube.shape[2], rng):
        chosen = rng.choice(columns, max(1, round(columns * rng.uniform(*STRIPE_SHARE))), replace=False)
        cube[:, chosen, band] += rng.uniform(-STRIPE_OFFSET, STRIPE_OFFSET, len(chosen))


def _dead_columns(cube: Array, rng: np.random.Generator) -> None:
    for band in _affected(cube.shape[2], rng):
        for _ in range(rng.integers(*DEAD_LINES, endpoint=True)):
            width = rng.integers(*DEAD_WIDTH, endpoint=True)
            start = rng.integers(0, cube.shape[1] - width)
            cube[:, start : start + width, band] = 0


def _impulses(cube: Array, rng: np.random.Generator) -> None:
    for band in _affected(cube.shape[2], rng):
        hit = rng.random(cube.shape[:2]) < rng.uniform(*IMPULSE_SHARE)
        cube[..., band][hit] = rng.integers(0, 2, int(hit.sum()))


def _spectra(wavelengths: Array) -> Array:
    """Return reflectances (material, band), the rare target last."""
    rows = [_reflectance(wavelengths, features, base, slope) for _, features, base, slope in MATERIALS]
    return np.stack([*rows, _reflectance(wavelengths, TARGET, 0.45, -0.02)])


def _reflectance(wavelengths: Array, features: tuple[tuple[int, float, int], ...], base: float, slope: float) -> Array:
    spectrum = base + slope * (wavelengths - 1000) / 1000
    for centre, depth, width in features:
        spectrum = spectrum * (1 - depth * np.exp(-0.5 * ((wavelengths - centre) / width) ** 2))
    return spectrum


def _abundances(rng: np.random.Generator, lines: int, samples: int) -> Array:
    """Return fractions (line, sample, material): rectangular fields, a river, two roads, eight targets."""
    materials = len(MATERIALS)
    seeds = rng.uniform(0, 1, (18, 2)) * (lines, samples)
    kinds = rng.choice([0, 1, 4, 5], 18, p=[0.4, 0.3, 0.1, 0.2])
    y, x = np.mgrid[:lines, :samples].astype(np.float64)
    field = kinds[np.abs(np.stack([y, x], -1)[:, :, None] - seeds).max(-1).argmin(-1)]
    weights = np.zeros((lines, samples, materials + 1))
    vigour = 0.25 * ndimage.gaussian_filter(rng.standard_normal((lines, samples)), 4)
    vigour = np.clip(0.8 + vigour / max(vigour.std(), 1e-9) * 0.08, 0, 1)
    np.put_along_axis(weights, field[..., None], vigour[..., None], 2)
    weights[..., 1] += 1 - weights.sum(-1)  # soil shows through
    centre = samples * (0.6 + 0.12 * np.sin(2 * np.pi * y / lines * 1.3 + rng.uniform(0, 6)))
    river = np.clip(3.5 - np.abs(x - centre), 0, 1)
    weights = _cover(weights, 2, river)
    weights = _cover(weights, 3, (x == samples // 4).astype(float))  # along the track, where stripes would run
    weights = _cover(weights, 3, np.clip(1 - np.abs(y - 0.4 * x - lines // 4), 0, 1))
    targets = np.zeros((lines, samples))
    targets[rng.integers(2, lines - 2, 8), rng.integers(2, samples - 2, 8)] = rng.uniform(0.3, 0.9, 8)
    return _cover(weights, materials, targets)


def _cover(weights: Array, material: int, share: Array) -> Array:
    weights = weights * (1 - share[..., None])
    weights[..., material] += share
    return weights


def _measure(truth: Array, wavelengths: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return the scene through a sensor: photons fall and read noise weighs more where the sun is weak."""
    sun = np.interp(wavelengths, [420, 500, 900, 1400, 1900, 2450], [0.7, 1.0, 0.5, 0.18, 0.07, 0.03])
    water = (
        1
        - 0.8 * np.exp(-0.5 * ((wavelengths - 1390) / 40) ** 2)
        - 0.8 * np.exp(-0.5 * ((wavelengths - 1890) / 45) ** 2)
    )
    light = 12_000 * sun * water  # electrons per unit reflectance
    read = 60.0  # electrons
    variance = (np.clip(truth, 0, None) * light + read**2) / light**2
    return truth + np.sqrt(variance) * rng.standard_normal(truth.shape), np.sqrt(variance.mean((0, 1)))
