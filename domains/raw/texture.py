# SPDX-License-Identifier: Apache-2.0
"""Noise of textured mosaics: of the weakest components of patches, which hold no structure.

Patches of 8 x 8 samples (one period of larger patterns) are sorted by their mean. Of each level those whose
surroundings are quietest are taken; their own samples have no say, so that choosing does not bias. Of the
eigenvalues of the patches' covariance, at unit noise, the largest are dropped until mean and median agree: what
is left is noise (Chen, Zhu & Heng, ICCV 2015, 10.1109/ICCV.2015.62).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pellucid.core.lazy import ndimage, np
from pellucid.domains.raw import sensor
from pellucid.domains.raw.vst import Stabiliser

if TYPE_CHECKING:
    from pellucid.core.types import Array

SIDE = 8  # samples of a patch of a 2 x 2 pattern
LEVELS = 10  # of the mean, with equally many patches
QUIET = 0.25  # share of the patches of a level
MOST, FEWEST = 4000, 200  # patches of a level
RICH = 20  # patches for each of their samples, from which the eigenvalues of noise lie close together
ROUNDS = 4


def side_of(period: int) -> int:
    """Return the side of a patch: a multiple of the period."""
    return -(-SIDE // period) * period if period <= SIDE // 2 else period


def points(
    values: Array, seen: sensor.Sensor, origin: tuple[int, ...], start: tuple[float, float]
) -> list[tuple[float, float, int]]:
    """Return (mean, variance, patches) of levels of a mosaic, given a first guess of gain and variance at zero."""
    chosen = patches(values, seen, origin)
    if not chosen:
        return []
    from pellucid.domains.raw import noise  # which asks this module

    gain, offset = start
    found: list[tuple[float, float, int]] = []
    for _ in range(ROUNDS):
        if gain <= 0 and offset <= 0:
            return []
        unit = Stabiliser(gain, max(offset, 1e-12) ** 0.5)
        found = []
        for group, lost in chosen:
            power = weakest(unit.forward(group.astype(np.float64))) / lost
            told = float(np.mean(gain * np.maximum(group, 0) + offset))
            found.append((float(np.mean(np.maximum(group, 0))), power * told, len(group)))
        mean, variance, count = np.array(found).T
        gain, offset = noise.line(mean, variance, count, noise.UPPER)
    return found


def patches(values: Array, seen: sensor.Sensor, origin: tuple[int, ...]) -> list[tuple[Array, float]]:
    """Return the quietest patches of each level: arrays (patch, sample), DN above black, and what noise gives there.

    The latter is `weakest` of white noise of variance one in the same patches, where they are few: then the
    eigenvalues of noise spread, and the largest are taken for structure. Not for 2 x 2 patterns: there flat
    mosaics are left to blocks, and in the others structure makes up for it (tune pictures of BSDS).
    """
    p, side = seen.period, side_of(seen.period)
    first = [(-o) % p for o in origin[:2]]
    values = values[first[0] :, first[1] :]
    if min(values.shape) < 3 * side:
        return []
    signal = values - sensor.over(seen.black, values.shape)
    fine = np.zeros_like(signal)
    inner = signal[p:, p:] - signal[p:, :-p] - signal[:-p, p:] + signal[:-p, :-p]
    fine[: inner.shape[0], : inner.shape[1]] = np.square(inner)
    wide, own = (ndimage.uniform_filter(fine, k * side, mode="reflect") for k in (3, 1))
    around = 9 * wide - own
    bad = (values >= seen.white) | (values <= 0)
    clipped = ndimage.maximum_filter(bad, side) if bad.any() else bad
    step = p
    ys, xs = (np.arange(side, n - 2 * side + 1, step) for n in signal.shape)
    y, x = (a.ravel() for a in np.meshgrid(ys, xs, indexing="ij"))
    centre = (y + side // 2, x + side // 2)
    ok = ~clipped[centre]
    y, x, score = y[ok], x[ok], around[centre][ok]
    mean = ndimage.uniform_filter(signal, side, mode="reflect")[centre][ok]
    windows = np.lib.stride_tricks.sliding_window_view(signal, (side, side))
    white = np.random.default_rng(0).standard_normal(signal.shape, np.float32)
    noise = np.lib.stride_tricks.sliding_window_view(white, (side, side))
    found = []
    for index in np.array_split(np.argsort(mean, kind="stable"), LEVELS):
        quiet = index[np.argsort(score[index], kind="stable")[: max(int(len(index) * QUIET), FEWEST)]]
        quiet = np.sort(quiet)[:: max(1, len(quiet) // MOST)]
        if len(quiet) >= FEWEST:
            group, other = (w[y[quiet], x[quiet]].reshape(len(quiet), -1) for w in (windows, noise))
            found.append((group, weakest(other) if p > 2 and len(quiet) < RICH * side**2 else 1.0))
    return found


def weakest(unit: Array) -> float:
    """Return the noise variance of patches (patch, sample): of the components that are noise alone."""
    eigen = np.linalg.eigvalsh(np.cov(unit, rowvar=False))[::-1]
    for i in range(len(eigen) - 1):
        rest = eigen[i:]
        if float(rest.mean()) <= float(np.median(rest)):
            return float(rest.mean())
    return float(eigen[-1])
