# SPDX-License-Identifier: Apache-2.0
"""How noisy a mosaic is: of a calibration, of the file's own profile, or of its flat blocks.

The model at each position of the pattern is ``var(x) = g x + s^2`` (x in DN above black). Flat blocks are ones
whose whole variance is that of their finest details; a line goes through the medians of their variances.
Where a mosaic has few of them, that is too high; the weakest components of patches tell (`texture`).
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid.core.errors import FormatError, Refused, UsageError
from pellucid.core.lazy import np
from pellucid.core.types import Noise
from pellucid.domains.declare import Subject, probe_region
from pellucid.domains.raw import sensor, texture

if TYPE_CHECKING:
    from pellucid.core.types import Array

ESTIMATORS = ("calibration", "profile", "blocks", "patches")
BLOCK = 16  # samples of one position, side
BINS = 24  # of the block mean, with equally many blocks
FLAT = 1.35  # whole variance over that of details: chance alone stays below in flat blocks (sd .14)
FEWEST = 12  # flat blocks a bin needs
LOWER = (0.25, 0.905)  # quantile taken where nothing is flat, and what it is of the truth for pure noise
UNEQUAL = 0.12  # positions that differ by more have a gain of their own
TEXTURED = 1.25  # blocks over patches, from which structure is in the blocks; the tune pictures of BSDS and Kodak
UPPER = 0.5  # robust deviations above a line through patches from which they count less
QUIETER = 0.5  # variance over what a profile says, below which the file was denoised since
ROUNDS = 12  # of the robust fit
SCHEMA = "pellucid/raw-calibration/1"
CAMERA = ("make", "model", "iso")  # what a calibration holds for


@dataclass(frozen=True)
class Fit:
    """A noise line and what it rests on."""

    gain: Array  # (period, period)
    read: Array
    blocks: int
    residual: float  # median relative distance of bins from the line
    level: float  # median signal, DN above black


def law(subject: Subject) -> str:
    """Return the law of a level given by the user: the same everywhere."""
    return "gaussian"


def estimate(subject: Subject, estimator: str = "") -> Noise:
    """Return gain and read noise at each position of the pattern.

    The first there is of: calibration, DNG NoiseProfile (unless the file is much quieter than it says),
    blocks of the file itself. Linear raw has one level, of its finest details.

    Raises
    ------
    UsageError, Refused, FormatError
        An estimator without what it needs; a calibration of another camera; one that cannot be read.
    """
    if subject.description.series is not None:
        return _linear(subject)
    seen = sensor.of(subject)
    path = subject.options.get("calibration")
    if estimator == "calibration" and not path:
        raise UsageError("the estimator calibration needs --calibration FILE")
    profile = profiled(subject, seen)
    if estimator == "profile" and profile is None:
        raise UsageError("the file holds no noise profile", subject.path, "use --estimator blocks")
    if path and estimator in ("", "calibration"):
        return _noise(seen, calibrated(subject, Path(path), seen), "calibration", source="file")
    own, name = measured(subject, seen, estimator)
    if profile is not None and estimator in ("", "profile"):
        if estimator == "profile" or not quieter(own, profile):
            return _noise(seen, profile, "profile", source="file")
    return _noise(seen, own, name)


def quieter(fit: Fit, other: Fit) -> bool:
    """Tell whether the file's own blocks hold much less noise than another source says."""
    x = max(fit.level, 0.0)
    told = float(np.mean(other.gain * x + other.read**2))
    return fit.blocks > 0 and float(np.mean(fit.gain * x + fit.read**2)) < QUIETER * told


def _noise(seen: sensor.Sensor, fit: Fit, name: str, source: Any = "estimated") -> Noise:
    level = max(fit.level, 0.0)
    sigma = float(np.sqrt(np.mean(fit.gain * level + fit.read**2)))
    params: dict[str, Any] = {
        "gain": _short(fit.gain),
        "read": _short(fit.read),
        "black": _short(seen.black),
        "white": seen.white if np.isfinite(seen.white) else None,
        "signal": round(level, 3),
    }
    if fit.blocks:
        params |= {"blocks": fit.blocks, "misfit": round(fit.residual, 4)}
    params["cfa"] = "".join("RGB"[c] for c in seen.cfa.ravel())
    if seen.dark is not None:  # whether a result can be taken up again depends on which dark frame it was
        params["dark_crc"] = zlib.crc32(np.ascontiguousarray(seen.dark, np.float32).tobytes())
    return Noise("poisson_gaussian", sigma, source, name, params)


def _short(values: Array) -> Any:
    """Return one number where all are the same, else the rows."""
    rounded = np.round(np.asarray(values, np.float64), 6)
    return float(rounded.flat[0]) if np.ptp(rounded) == 0 else rounded.tolist()


def _linear(subject: Subject) -> Noise:
    from pellucid.core.estimate import mad

    values = np.nan_to_num(subject.probe)
    sigma, stride = mad.correlated_sigma(values, subject.description.spatial)
    return Noise("gaussian", float(sigma), "estimated", "details", {"stride": int(stride)})


def profiled(subject: Subject, seen: sensor.Sensor) -> Fit | None:
    """Return the DNG NoiseProfile in DN: ``var = S x + O`` of values of which white is one (DNG 1.4, 51041)."""
    pairs = np.asarray(subject.description.acquisition.get("noise_profile") or [], np.float64).reshape(-1, 2)
    if len(pairs) == 0 or not np.isfinite(seen.white) or not (np.isfinite(pairs).all() and (pairs[:, 0] >= 0).all()):
        return None
    colour = np.minimum(seen.cfa, len(pairs) - 1)
    span = seen.white - seen.black
    gain = pairs[colour, 0] * span
    read = np.sqrt(np.maximum(pairs[colour, 1], 0)) * span
    return Fit(gain, read, 0, 0.0, 0.0) if (gain + read > 0).all() else None


def load(path: Path) -> dict[str, Any]:
    """Return a calibration document.

    Raises
    ------
    FormatError
        It is none.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FormatError(path, "calibration", f"cannot be read: {type(error).__name__}") from None
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise FormatError(path, "calibration", "is none", "make one with 'pellucid raw calibrate'")
    return document


def pick(folder: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the calibration of a folder that says the camera and ISO of a file; other JSON files are passed over.

    Raises
    ------
    Refused
        None says all three, or several do.
    """
    fits = []
    for path in sorted(folder.glob("*.json")):
        try:
            document = load(path)
        except FormatError:
            continue
        if all(document.get(k) is not None and facts.get(k) is not None for k in CAMERA) and not _differs(
            document, facts
        ):
            fits.append((path.name, document))
    if len(fits) == 1:
        return fits[0][1]
    setting = " ".join(str(facts.get(k) or f"(no {k})") for k in CAMERA)
    if not fits:
        raise Refused(f"holds no calibration of {setting}", folder, "make one with 'pellucid raw calibrate'")
    raise Refused(f"holds several calibrations of {setting}: {', '.join(n for n, _ in fits)}", folder, "name one")


def _differs(document: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """Return which of make, model and ISO are both known and differ, or nothing."""
    pairs = ((k, document.get(k), facts.get(k)) for k in CAMERA)
    return next((k for k, a, b in pairs if a is not None and b is not None and _plain(a) != _plain(b)), "")


def calibrated(subject: Subject, path: Path, seen: sensor.Sensor) -> Fit:
    """Return gain and read noise of a calibration of the same camera and ISO.

    Raises
    ------
    Refused
        Make, model, ISO or pattern are others.
    """
    facts = subject.description.acquisition
    document = pick(path, facts) if path.is_dir() else load(path)
    other = _differs(document, facts)
    if other:
        here, there = facts[other], document[other]
        raise Refused(
            f"was taken at {other} {here}, the calibration at {there}", subject.path, "calibrate this setting"
        )
    gain, read = (np.asarray(document[k], np.float64) for k in ("gain", "read"))
    read = np.hypot(read, float(document.get("row") or 0.0))  # what a row shares is noise of each sample
    if gain.size not in (1, seen.cfa.size):
        raise Refused("has another colour pattern than the calibration", subject.path)
    level = float(np.median(subject.probe)) - float(np.mean(seen.black))
    shape = seen.cfa.shape
    wide = [np.broadcast_to(v.reshape(-1)[0] if v.size == 1 else v.reshape(shape), shape) for v in (gain, read)]
    return Fit(wide[0], wide[1], 0, 0.0, level)


def _plain(value: Any) -> str:
    try:
        return f"{float(value):g}"
    except (TypeError, ValueError):
        return " ".join(str(value).lower().split())


def measured(subject: Subject, seen: sensor.Sensor, estimator: str = "") -> tuple[Fit, str]:
    """Return the noise line of the file's own samples, and whether blocks or patches gave it."""
    region = probe_region(subject.description)
    return fit(subject.probe, seen, tuple(r.start for r in region[:2]), estimator)


def fit(values: Array, seen: sensor.Sensor, origin: tuple[int, ...] = (0, 0), estimator: str = "") -> tuple[Fit, str]:
    """Return the noise line of a mosaic: of flat blocks, or of patches where structure is in the blocks."""
    flat = fit_blocks(values, seen, origin)
    first = (float(flat.gain.mean()), float(np.mean(flat.read**2)))
    if estimator == "blocks" or flat.blocks == 0 or sum(first) == 0:
        return flat, "blocks"
    points = texture.points(values, seen, origin, first)
    if len(points) < 2:
        return flat, "blocks"
    mean, variance, count = np.array(points).T
    excess = float(np.median((first[0] * mean + first[1]) / np.maximum(variance, 1e-30)))
    if excess <= TEXTURED and estimator != "patches":
        return flat, "blocks"
    gain, offset = line(mean, variance, count, UPPER)
    wide = np.ones_like(flat.gain)
    misfit = float(np.median(np.abs(variance / np.maximum(gain * mean + offset, 1e-30) - 1)))
    return Fit(gain * wide, offset**0.5 * wide, int(count.sum()), misfit, flat.level), "patches"


def fit_blocks(values: Array, seen: sensor.Sensor, origin: tuple[int, ...] = (0, 0)) -> Fit:
    """Return the noise line of a mosaic window that begins at ``origin``."""
    p, points = seen.period, []
    groups: dict[int, list[tuple[Array, Array, Array]]] = {}
    for r in range(p):
        for c in range(p):
            plane = values[(r - origin[0]) % p :: p, (c - origin[1]) % p :: p]
            mean, fine, whole = block_statistics(plane, seen.white)
            # positions of a large pattern are too many for lines of their own: those of one colour share one
            groups.setdefault(r * p + c if p <= 2 else int(seen.cfa[r, c]), []).append(
                (mean - seen.black[r, c], fine, whole)
            )
    levels = [m for parts in groups.values() for m, _, _ in parts]
    for key, parts in groups.items():
        points += [(key, *point) for point in _medians(*(np.concatenate(part) for part in zip(*parts, strict=True)))]
    pooled = np.concatenate(levels) if levels else np.zeros(0)
    level = float(np.median(pooled)) if pooled.size else 0.0
    if not points:
        return _scarce(values, seen, level)
    rows = np.array(points)
    gain, variance = line(rows[:, 1], rows[:, 2], rows[:, 3])
    told = np.maximum(gain * rows[:, 1], 0) + variance
    ratio = np.divide(rows[:, 2], told, out=np.ones(len(rows)), where=told > 0)
    share = np.ones((p, p))
    for r in range(p):
        for c in range(p):
            own = ratio[rows[:, 0] == (r * p + c if p <= 2 else seen.cfa[r, c])]
            share[r, c] = np.median(own) if len(own) >= 4 else 1.0
    if np.max(np.abs(share - 1)) < UNEQUAL:
        share[:] = 1
    misfit = float(np.median(np.abs(ratio - 1)))
    return Fit(gain * share, np.sqrt(variance * share), int(rows[:, 3].sum()), misfit, level)


def _scarce(values: Array, seen: sensor.Sensor, level: float) -> Fit:
    """Return one level of noise for a mosaic too small for blocks: the spread of its finest details."""
    p = seen.period
    details = [_mixed(values[r::p, c::p]).ravel() for r in range(p) for c in range(p)]
    joined = np.concatenate(details)
    sigma = float(np.median(np.abs(joined)) / 0.6745 / 2) if joined.size else 0.0
    return Fit(np.zeros(seen.cfa.shape), np.full(seen.cfa.shape, sigma), 0, 0.0, level)


def _mixed(plane: Array) -> Array:
    """Return mixed differences, of four times the noise variance: ramps leave nothing behind."""
    return plane[1:, 1:] - plane[1:, :-1] - plane[:-1, 1:] + plane[:-1, :-1]


def block_statistics(plane: Array, white: float = float("inf")) -> tuple[Array, Array, Array]:
    """Return mean, variance of details and whole variance less a slope, of each block that is not clipped."""
    rows, cols = (n // BLOCK for n in plane.shape)
    cut = plane[: rows * BLOCK, : cols * BLOCK].astype(np.float64)
    b = cut.reshape(rows, BLOCK, cols, BLOCK).swapaxes(1, 2).reshape(-1, BLOCK, BLOCK)
    ok = np.isfinite(b).all((1, 2)) & (b.max((1, 2), initial=-np.inf) < white) & (b.min((1, 2), initial=np.inf) > 0)
    b = b[ok]
    mean = b.mean((1, 2))
    d = b[:, 1:, 1:] - b[:, 1:, :-1] - b[:, :-1, 1:] + b[:, :-1, :-1]
    fine = np.square(d).mean((1, 2)) / 4
    t = np.linspace(-1, 1, BLOCK)
    power = float(np.sum(t**2)) * BLOCK
    slopes = [np.tensordot(b, w, axes=([1, 2], [0, 1])) / power for w in (np.outer(t, t**0), np.outer(t**0, t))]
    n = BLOCK * BLOCK
    whole = (np.square(b).sum((1, 2)) - n * mean**2 - power * (slopes[0] ** 2 + slopes[1] ** 2)) / (n - 3)
    return mean, fine, np.maximum(whole, 0)


def _medians(mean: Array, fine: Array, whole: Array) -> list[tuple[float, float, int]]:
    """Return (mean, variance, blocks) of bins of the mean, from flat blocks where there are enough."""
    found = []
    for index in np.array_split(np.argsort(mean), max(1, min(BINS, len(mean) // FEWEST))):
        flat = index[whole[index] <= FLAT * fine[index]]
        if len(flat) >= FEWEST // 2:
            found.append((float(np.median(mean[flat])), float(np.median(fine[flat])), len(flat)))
        elif len(index) >= FEWEST:
            low = float(np.quantile(fine[index], LOWER[0])) / LOWER[1]
            found.append((float(np.median(mean[index])), low, 1))
    return found


def line(mean: Array, variance: Array, count: Array, upper: float = 1.5) -> tuple[float, float]:
    """Return gain and variance at zero of a line through points, neither negative; outliers count little.

    ``upper`` is where points above the line begin to count less, in robust deviations: structure only adds.
    """
    if np.ptp(mean) <= 1e-3 * max(float(np.abs(mean).max()), 1e-30):
        return 0.0, float(np.average(variance, weights=count))
    told, robust = np.maximum(variance, variance.max() * 1e-6 + 1e-30), np.ones_like(mean)
    gain = offset = 0.0
    for _ in range(ROUNDS):
        w = np.sqrt(count * robust) / told
        gain, offset = _nonnegative(np.maximum(mean, 0) * w, w, variance * w)
        told = np.maximum(gain * np.maximum(mean, 0) + offset, variance.max() * 1e-6 + 1e-30)
        apart = variance / told - 1
        spread = 1.4826 * np.median(np.abs(apart)) + 1e-6
        robust = 1 / np.maximum(1, np.where(apart > 0, apart / upper, -apart / 1.5) / spread)
    return gain, offset


def _nonnegative(a: Array, b: Array, y: Array) -> tuple[float, float]:
    """Solve a g + b o = y in least squares with g, o >= 0."""
    from scipy.optimize import nnls

    found, _ = nnls(np.stack([a, b], 1), y)
    return float(found[0]), float(found[1])
