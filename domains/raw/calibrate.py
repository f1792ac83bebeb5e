# SPDX-License-Identifier: Apache-2.0
"""A camera's noise from pairs of flat frames and a stack of dark ones: the photon transfer curve.

After EMVA 1288, release 4.0: the variance of the difference of two flats is free of what is fixed in the
sensor; its slope over the mean is the gain. Dark frames give read noise, row noise, its shape and what is fixed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid.core.errors import FormatError, UsageError
from pellucid.core.lazy import ndimage, np
from pellucid.core.types import Description
from pellucid.domains.raw import noise, sensor
from pellucid.domains.raw.noise import SCHEMA

if TYPE_CHECKING:
    from pellucid.core.types import Array

FEWEST_LEVELS, FEWEST_DARKS = 2, 4  # 6 and 16 are what the figures of the documentation need
STRAIGHT = 0.7  # of saturation: the line is fitted below
FULL = 0.9  # of the line's variance: less is saturation
SAME = 0.02  # relative difference of means within a pair
SMOOTH = 21  # samples of one position: what is wider is light, not the sensor
DEFECT = 8.0  # robust deviations of a photosite from its neighbours
SHAPES = (-0.45, 0.5)  # of the Tukey lambda law that are searched
COARSE = 0.5  # DN of read noise below which rounding hides it
SHAPE_SAMPLES = 20_000


@dataclass
class Stack:
    """Flats in pairs of equal light, and darks; samples as stored, float32."""

    pairs: list[tuple[Array, Array]]
    darks: list[Array]
    cfa: Array
    facts: dict[str, Any] = field(default_factory=dict)
    white: float = float("inf")


def calibrate(
    flats: Sequence[Path], darks: Sequence[Path], *, cfa: str = "", formats: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Return the calibration document of a camera setting.

    Parameters
    ----------
    flats : paths
        Two or more of each level of light, any order; pairs are found by their means.
    darks : paths
        Frames without light, same exposure.
    cfa : str
        Colours of mosaics whose format does not say (``RGGB``).

    Raises
    ------
    UsageError, FormatError
        Too few frames, or frames of different cameras.
    """
    return measure(read(flats, darks, cfa, formats))


def read(flats: Sequence[Path], darks: Sequence[Path], cfa: str, formats: tuple[str, ...]) -> Stack:
    """Open all frames and sort the flats into pairs."""
    if len(darks) < FEWEST_DARKS:
        raise UsageError(f"{len(darks)} dark frames are too few", hint=f"give {FEWEST_DARKS} or more; 16 are good")
    loaded = [_frame(p, cfa, formats) for p in (*flats, *darks)]
    first = loaded[0]
    for path, (values, d, _) in zip((*flats, *darks), loaded, strict=True):
        if values.shape != first[0].shape:
            raise FormatError(path, "axes", f"are {values.shape}; the first frame has {first[0].shape}")
        for key in ("make", "model", "iso"):
            if d.acquisition.get(key) != first[1].acquisition.get(key):
                raise UsageError(f"its {key} is not that of the first frame", path, "calibrate one setting at a time")
    facts = {k: first[1].acquisition[k] for k in ("make", "model", "iso") if k in first[1].acquisition}
    seen = first[2]
    stack = Stack([], [v for v, _, _ in loaded[len(flats) :]], seen.cfa, facts, seen.white)
    stack.pairs = pair([v for v, _, _ in loaded[: len(flats)]])
    return stack


def _frame(path: Path, cfa: str, formats: tuple[str, ...]) -> tuple[Array, Description, sensor.Sensor]:
    from pellucid.core.restore import physical
    from pellucid.domains import registry
    from pellucid.domains.describe import subject_of
    from pellucid.formats import find

    declared = registry.field("raw")
    subject = subject_of(find.open_file(path, formats or declared.formats), declared, {"cfa": cfa})
    try:
        if subject.description.series is not None:
            raise UsageError("is no mosaic", path, "calibrate with raw frames that were not demosaicked")
        region = tuple(slice(0, n) for n in subject.description.shape)
        values = physical(subject.reader.read(region), subject.description, region)
        return values, subject.description, sensor.of(subject)
    finally:
        subject.reader.close()


def pair(flats: list[Array]) -> list[tuple[Array, Array]]:
    """Return flats in pairs of nearest means.

    Raises
    ------
    UsageError
        An odd number, too few levels, or pairs of different light.
    """
    if len(flats) < 2 * FEWEST_LEVELS or len(flats) % 2:
        raise UsageError(
            f"{len(flats)} flats make no pairs", hint=f"give two of each of {FEWEST_LEVELS} levels or more"
        )
    means = np.array([float(f.mean()) for f in flats])
    order = np.argsort(means)
    pairs = [(flats[a], flats[b]) for a, b in zip(order[::2], order[1::2], strict=True)]
    spread = [abs(means[a] - means[b]) / max(means[b], 1e-30) for a, b in zip(order[::2], order[1::2], strict=True)]
    if max(spread) > SAME:
        raise UsageError("flats of a pair differ in light", hint="take two frames of each level, one after the other")
    return pairs


def measure(stack: Stack) -> dict[str, Any]:
    """Return everything the stack says: gain, read noise, row noise, PRNU, shape, defects, levels."""
    p = len(stack.cfa)
    dark: Array = np.asarray(np.mean(stack.darks, axis=0, dtype=np.float64), np.float32)
    rows, read, shape = dark_noise(stack.darks, dark)
    bad = defective(stack, dark)
    curve = [[transfer(stack, dark, bad, (r, c), rows) for c in range(p)] for r in range(p)]
    gain = np.array([[_slope(points, stack.white)[0] for points in row] for row in curve])
    offset = np.array([[_slope(points, stack.white)[1] for points in row] for row in curve])
    if np.ptp(gain) < 0.1 * gain.mean():  # one amplifier: one gain
        gain = np.full_like(gain, gain.mean())
    white = _saturation([q for row in curve for points in row for q in points], gain.mean(), float(offset.mean()))
    y, x = np.nonzero(bad)
    return {
        "schema": SCHEMA,
        **stack.facts,
        "cfa": stack.cfa.tolist(),
        "gain": gain.ravel().tolist(),
        "read": np.full(gain.shape, read).ravel().tolist(),
        "read_from_curve": np.sqrt(np.maximum(offset, 0)).ravel().tolist(),
        "row": rows,
        "tukey_lambda": shape,
        "prnu": uniformity(stack, dark, bad),
        "dsnu": _fixed(dark, bad, p, read, len(stack.darks)),
        "black": [[float(dark[r::p, c::p].mean()) for c in range(p)] for r in range(p)],
        "white": white,
        "defects": np.stack([y, x], 1).tolist(),
        "levels": [[float(v) for v in q] for q in curve[0][0]],
        "darks": len(stack.darks),
        "pairs": len(stack.pairs),
        "notes": ["read noise is limited by rounding"] if read < COARSE else [],
    }


def dark_noise(darks: list[Array], mean: Array) -> tuple[float, float, float]:
    """Return row noise, read noise (rows taken out), both DN, and the Tukey lambda of the read noise.

    Residuals from the mean of n darks have (n - 1) / n of the variance.
    """
    n = len(darks)
    rows, inner, sample = [], [], []
    for index, one in enumerate(darks):
        residual = (one - mean).astype(np.float64)
        own = residual.mean(1)
        residual -= own[:, None]
        inner.append(float(np.square(residual).sum()) / (residual.size - len(own)))
        rows.append(float(np.square(own).mean()))
        sample.append(residual.ravel()[index % 7 :: max(7, residual.size * n // SHAPE_SAMPLES)])
    share = n / (n - 1)
    read = np.mean(inner) * share
    row = np.mean(rows) * share - read / mean.shape[1]
    return float(np.sqrt(max(row, 0.0))), float(np.sqrt(read)), tukey(np.concatenate(sample))


def tukey(values: Array) -> float:
    """Return the Tukey lambda whose quantiles go straightest with those of a sample (Filliben's correlation)."""
    from scipy.optimize import minimize_scalar

    from pellucid.domains.raw.eld import quantile

    # rounding makes steps; a little noise of one step's width takes them away
    steps = np.diff(np.unique(values))
    width = float(np.median(steps)) if len(steps) else 0.0
    x = np.sort(values + width * (np.random.default_rng(0).random(len(values)) - 0.5))
    u = (np.arange(1, len(x) + 1) - 0.3175) / (len(x) + 0.365)
    if np.ptp(x) == 0:
        return 0.14
    found = minimize_scalar(lambda s: -np.corrcoef(quantile(u, s), x)[0, 1], bounds=SHAPES, method="bounded")
    return float(found.x)


def transfer(
    stack: Stack, dark: Array, bad: Array, place: tuple[int, int], row: float
) -> list[tuple[float, float, int]]:
    """Return (mean above dark, temporal variance, samples) of every pair at one position, rows taken out.

    Means and variances are medians over blocks of 32 samples whose halves agree, corrected for what a median
    of variances lacks.
    """
    p = len(stack.cfa)
    at = (slice(place[0], None, p), slice(place[1], None, p))
    good = ~bad[at]
    found = []
    for a, b in stack.pairs:
        signal = (a[at] + b[at]) / 2 - dark[at]
        apart = (a[at] - b[at]).astype(np.float64)
        mean, variance, blocks = _blocks(signal, apart, good)
        if blocks:
            found.append((mean, variance / 2 - row**2, blocks))
    return found


def _blocks(signal: Array, apart: Array, good: Array, side: int = 32) -> tuple[float, float, int]:
    """Return mean signal, variance of differences and their number, over blocks without a step of light."""
    side = min(side, *signal.shape)
    rows, cols = (n // side for n in signal.shape)
    if rows * cols == 0:
        return 0.0, 0.0, 0

    def cut(values: Array) -> Array:
        return values[: rows * side, : cols * side].reshape(rows, side, cols, side).swapaxes(1, 2).reshape(-1, side**2)

    flags, s, d = cut(good), cut(signal).astype(np.float64), cut(apart)
    n = flags.sum(1)
    use = n > side**2 // 2
    flags, s, d, n = flags[use], s[use], d[use], n[use]
    if not use.any():
        return 0.0, 0.0, 0
    centre = (d * flags).sum(1) / n
    variance = ((d - centre[:, None]) ** 2 * flags).sum(1) / (n - 1)
    # the blocks' drift against each other (a flickering lamp) is no noise; their variances are averaged over
    # those near the median: unbiased, where a median alone is not
    keep = np.abs(variance - np.median(variance)) < 5 * np.median(variance) * np.sqrt(2 / n)
    mean = ((s * flags).sum(1) / n)[keep]
    return float(mean.mean()), float(variance[keep].mean()), int(n[keep].sum())


def _slope(points: list[tuple[float, float, int]], white: float) -> tuple[float, float]:
    """Return gain and variance at zero of a photon transfer curve, weighted by 1 / var(v) = n / 2 v^2."""
    m, v, n = (np.array(column, np.float64) for column in zip(*points, strict=True))
    top = m[np.argmax(v)] if not np.isfinite(white) else white
    use = m < STRAIGHT * top
    if use.sum() < 2:
        use = np.ones(len(m), np.bool_)
    return noise.line(m[use], v[use], n[use])


def _saturation(points: list[tuple[float, float, int]], gain: float, offset: float) -> float | None:
    """Return the least mean whose variance falls below nine tenths of the line, None where none does."""
    fallen = [m for m, v, _ in points if v < FULL * (gain * m + offset)]
    return float(min(fallen)) if fallen else None


def uniformity(stack: Stack, dark: Array, bad: Array) -> float:
    """Return the relative spread of the photosites' sensitivity, of the flats between 20 and 70 % of the brightest."""
    p, found, weights = len(stack.cfa), [], []
    means = [float((a.mean() + b.mean()) / 2 - dark.mean()) for a, b in stack.pairs]
    for (a, b), level in zip(stack.pairs, means, strict=True):
        if level < 0.2 * max(means):
            continue
        for r in range(p):
            for c in range(p):
                at = (slice(r, None, p), slice(c, None, p))
                x = ((a[at] - dark[at]) / _wide(a[at] - dark[at]) - 1).astype(np.float64)
                y = ((b[at] - dark[at]) / _wide(b[at] - dark[at]) - 1).astype(np.float64)
                # what both frames share is the sensor: their covariance needs no noise taken off
                ok = ~bad[at]
                x, y = x - x[ok].mean(), y - y[ok].mean()
                found.append(float((x * y)[ok].mean()) - _dark_share(stack, level))
                weights.append(level**2)
    if not found:
        return 0.0
    lost = 1 - 1 / SMOOTH**2  # of a white pattern, in its own local mean
    return float(np.sqrt(max(np.average(found, weights=weights) / lost, 0.0)))


def _dark_share(stack: Stack, level: float) -> float:
    """Return the covariance that both frames owe to the same mean dark: its noise over the signal."""
    n = len(stack.darks)
    first = np.mean(
        [
            np.var(d[: 2 * SMOOTH, : 2 * SMOOTH] - stack.darks[0][: 2 * SMOOTH, : 2 * SMOOTH]) / 2
            for d in stack.darks[1:]
        ]
    )
    return float(first / n / level**2)


def _wide(plane: Array) -> Array:
    """Return the light of a flat: a wide mean."""
    return np.asarray(ndimage.uniform_filter(plane.astype(np.float64), SMOOTH, mode="reflect"))


def _fixed(dark: Array, bad: Array, period: int, read: float, count: int) -> float:
    """Return the spread of the mean dark between photosites, less what noise leaves in it."""
    planes = [(dark[r::period, c::period], bad[r::period, c::period]) for r in range(period) for c in range(period)]
    spread = [float(np.var((d - _wide(d))[~b])) for d, b in planes]
    return float(np.sqrt(max(float(np.mean(spread)) - read**2 / count, 0.0)))


def defective(stack: Stack, dark: Array) -> Array:
    """Return photosites that answer unlike their neighbours, in the dark or in the light.

    Each position of the pattern is compared with the local median of its own; deviations are in units of their
    robust spread over the frame, so that fixed patterns of ordinary size do not count.
    """
    p = len(stack.cfa)
    brightest = max(stack.pairs, key=lambda ab: float(ab[0].mean()) if ab[0].max() < stack.white else -1.0)
    flat: Array = np.asarray(np.mean([(a - dark) / max(float((a - dark).mean()), 1e-30) for a in brightest], axis=0))
    found = np.zeros(dark.shape, np.bool_)
    for r in range(p):
        for c in range(p):
            at = (slice(r, None, p), slice(c, None, p))
            for plane in (dark[at], flat[at]):
                apart = plane - ndimage.median_filter(plane, 5, mode="reflect")
                spread = 1.4826 * float(np.median(np.abs(apart)))
                found[at] |= np.abs(apart) > DEFECT * max(spread, 1e-12)
    return found


def write(path: Path, document: dict[str, Any], *, force: bool = False) -> None:
    """Write a calibration, whole or not at all.

    Raises
    ------
    OutputError
        It exists and is not to be replaced.
    """
    from pellucid.core import commit

    with commit.staged(path, force=force) as stage:
        stage.path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        stage.publish()
