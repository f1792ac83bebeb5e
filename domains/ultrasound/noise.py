# SPDX-License-Identifier: Apache-2.0
"""How strong and how wide speckle is, and what a file's samples are in dB.

Speckle hides from estimators of white noise, because it is as wide as the point spread function. It is measured
in blocks: their typical variance in dB, and their autocovariance, both corrected for what the block's own mean
takes away. The envelope's correlation of fully developed speckle is ``exp(-4 ln 2 (d / w)^2)``, ``w`` the full
width of a point; that of its logarithm is the dilogarithm of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pellucid.core.lazy import np
from pellucid.core.types import Noise
from pellucid.domains.declare import Subject, probe_region
from pellucid.domains.ultrasound.levels import PSF, SPECKLE_DB, Levels
from pellucid.domains.ultrasound.metrics import RANGE_DB, full_scale, speckle_snr

if TYPE_CHECKING:
    from pellucid.core.types import Array

ESTIMATORS = ("blocks",)
BLOCK = 32  # samples: side of the blocks
ENOUGH = 4  # blocks; fewer say nothing of what is typical
HALF = 0.3878  # d / w where the correlation of dB is one half: Li2(exp(-4 ln 2 d^2 / w^2)) = pi^2 / 12
AREA = 0.828  # integral of that correlation over the plane, in squared widths: pi zeta(3) / (4 ln 2 zeta(2))
ROUNDS = 5  # of correcting for the mean of a block
EDGE_SHARE = 0.05  # samples of a block at the ends of the scale: it is black or saturated
DARK_DB = 6.0  # above the darkest sample: a block that stays below shows no tissue
PLAIN = 1.5  # variances above the median: structure
GREY_STEP = 0.5  # grey levels: below, integers hold no speckle


def scale(subject: Subject) -> dict[str, Any]:
    """Return what methods need: dB per grey level or the largest amplitude, and the widths of speckle, samples."""
    known = units(subject)
    found = measure(subject, known)
    return {**known, "psf": found["psf"]}


def units(subject: Subject) -> dict[str, Any]:
    """Return ``db_per_unit`` and ``peak``; of an image with values below zero, grey levels are dB already."""
    d, values = subject.description, subject.probe
    size = np.abs(values[np.isfinite(values)])
    top = float(size.max()) if size.size else 1.0
    known: dict[str, Any] = {"kind": d.kind, "peak": top or 1.0}
    if d.kind != "envelope":
        span = subject.options.get("dynamic_range") or d.acquisition.get("dynamic_range_db") or RANGE_DB
        negative = bool(np.nanmin(values) < 0) if size.size else False
        known["db_per_unit"] = 1.0 if negative else float(span) / (full_scale(values, d) or 1.0)
    return known


def estimate(subject: Subject, estimator: str = "") -> Noise:
    """Measure speckle: sigma in grey levels of a display image, in dB of an envelope.

    ``params``: ``sigma_db``; ``psf_samples`` full widths at half maximum of a point's envelope; ``speckle_snr``
    (1.91 fully developed, below 1.6 few scatterers, above 2.2 compounded, filtered or compressed).
    """
    known = units(subject)
    found = measure(subject, known)
    sigma = found["sigma_db"] / float(known.get("db_per_unit", 1.0))
    if np.dtype(subject.description.dtype).kind in "iu" and sigma < GREY_STEP * abs(
        float(np.mean(subject.description.slope))
    ):
        sigma = 0.0
    params = {
        "sigma_db": found["sigma_db"],
        "psf_samples": list(found["psf"]),
        "speckle_snr": found["speckle_snr"],
        "unit": "grey levels" if "db_per_unit" in known else "dB",
    }
    return Noise("speckle", sigma, "estimated", "blocks", params)


def measure(subject: Subject, known: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``sigma_db``, ``psf`` and ``speckle_snr`` of the middle frame."""
    frame, keep = _frame(subject)
    levels = Levels(known["kind"] == "envelope", float(known.get("db_per_unit", 1.0)), float(known["peak"]), 0.0, PSF)
    if np.iscomplexobj(frame) or known["kind"] not in ("bmode", "envelope"):
        frame = np.abs(frame).astype(np.float32)
        levels = Levels(True, 1.0, float(known["peak"]), 0.0, PSF)
    decibels = levels.decibels(frame)
    blocks = plain_blocks(decibels, keep)
    if len(blocks) < ENOUGH:
        inside = decibels[keep]
        sd = float(inside.std()) if inside.size else 0.0
        return {"sigma_db": min(sd, SPECKLE_DB), "psf": PSF, "speckle_snr": float("nan")}
    sigma, psf = statistics(blocks)
    snr = float(np.median([speckle_snr(10 ** (b / 20)) for b in blocks]))
    return {"sigma_db": sigma, "psf": psf, "speckle_snr": snr}


def _frame(subject: Subject) -> tuple[Array, Array]:
    """Return the middle frame of the probe and where it may be looked at."""
    values, d = subject.probe, subject.description
    frame = values[..., values.shape[-1] // 2] if d.series else values
    keep = np.isfinite(frame)
    mask = getattr(subject.reader, "mask", None)
    own = mask(probe_region(d)[: d.spatial]) if mask is not None else None
    if own is not None:
        keep &= own
    return np.where(keep, frame, 0), keep


def plain_blocks(decibels: Array, keep: Array) -> Array:
    """Return blocks (n, side, side) of plain speckle: valid, neither black nor saturated, of ordinary variance."""
    rows, columns = (n // BLOCK for n in decibels.shape)
    if rows * columns == 0:
        return np.zeros((0, BLOCK, BLOCK), np.float32)

    def cut(a: Array) -> Array:
        part = a[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK)
        return np.asarray(part.swapaxes(1, 2).reshape(-1, BLOCK, BLOCK))

    ends = (decibels <= decibels[keep].min()) | (decibels >= decibels[keep].max()) if keep.any() else ~keep
    blocks = cut(decibels)
    shows = blocks.max((1, 2)) > decibels[keep].min() + DARK_DB if keep.any() else np.zeros(len(blocks), np.bool_)
    blocks = blocks[shows & cut(keep).all((1, 2)) & (cut(ends).mean((1, 2)) < EDGE_SHARE)]
    if not len(blocks):
        return blocks
    variance = blocks.var((1, 2))
    return blocks[variance <= PLAIN * np.median(variance)]


def statistics(blocks: Array) -> tuple[float, tuple[float, float]]:
    """Return the standard deviation, dB, and the point spread widths, samples, of blocks of speckle."""
    centred = blocks - blocks.mean((1, 2), keepdims=True)
    raw = float(np.median(blocks.var((1, 2))))
    if raw == 0:
        return 0.0, PSF
    along = [_covariance(centred, axis) for axis in (1, 2)]
    lost, widths = 0.0, list(PSF)
    for _ in range(ROUNDS):
        widths = [_half((c + lost * c[0]) / (c[0] + lost * c[0])) / HALF for c in along]
        share = min(AREA * widths[0] * widths[1] / BLOCK**2, 0.5)
        lost = share / (1 - share)
    return float(np.sqrt(raw * (1 + lost))), (widths[0], widths[1])


def _covariance(centred: Array, axis: int) -> Array:
    """Return the autocovariance at lags 0 to half a block, averaged over blocks."""
    moved = np.moveaxis(centred, axis, -1).astype(np.float64)
    return np.array([np.mean(moved[..., k:] * moved[..., : BLOCK - k]) for k in range(BLOCK // 2)])


def _half(correlation: Array) -> float:
    """Return the lag at which a correlation has fallen to one half, interpolated."""
    below = np.flatnonzero(correlation < 0.5)
    if not below.size:
        return float(len(correlation))
    i = int(below[0])
    return i - 1 + float((correlation[i - 1] - 0.5) / (correlation[i - 1] - correlation[i]))
