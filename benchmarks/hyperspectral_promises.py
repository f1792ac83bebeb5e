# SPDX-License-Identifier: Apache-2.0
"""What must survive denoising, in figures: rare targets, named signatures, lines, edges, clean scenes.

Each row holds a ``value``, the ``limit`` it is held against, and whether it ``holds``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.hyperspectral_cases import noisy
from pellucid.core.types import Description, Plan, Tile
from pellucid.domains.hyperspectral import lowrank, metrics

Denoise = Callable[[np.ndarray, dict[str, Any]], np.ndarray]

# SNR = amplitude x |signature / sigma|, sigma, response wanted of one pixel and of the middle of a cross of five
TARGETS = ((6.6, 0.1, 0.15, 0.48), (16.5, 0.02, 0.73, 0.85), (33.0, 0.02, 0.84, 0.92))
CROSS = ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0))
CENTRE, WIDTH = 90, 6.0  # bands: a Gaussian absorption
GRID = range(12, 140, 23)  # 36 targets


def rows(clean: np.ndarray, denoise: Denoise) -> list[dict[str, Any]]:
    """Return every promise measured on a scene in [0, 1]."""
    return [*_targets(clean, denoise), *_lines(clean, denoise), *_clean(clean, denoise)]


def _row(case: str, method: str, value: float, limit: float, *, most: bool = False) -> dict[str, Any]:
    holds = value <= limit if most else value >= limit
    named = {"case": case, "method": method, "value": round(float(value), 4), "limit": limit, "readme": False}
    return {**named, "limit_is": "most" if most else "least", "holds": bool(holds)}


def _targets(clean: np.ndarray, denoise: Denoise) -> list[dict[str, Any]]:
    """Implant 36 targets; the response is what a matched filter finds of them with and without, same noise."""
    signature = -np.exp(-0.5 * ((np.arange(clean.shape[2]) - CENTRE) / WIDTH) ** 2)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "signature.csv")
        np.savetxt(path, signature)
        kept = {"pellucid --protect": {"protect": str(path)}, "pellucid default": {}}
        for snr, sigma, *wanted in TARGETS:
            plain = clean + sigma * np.random.default_rng(0).standard_normal(clean.shape)
            amplitude = snr * sigma / np.linalg.norm(signature)
            before = {name: denoise(plain.astype(np.float32), options) for name, options in kept.items()}
            for cross, least in zip((CROSS[:1], CROSS), wanted, strict=True):
                implanted = plain.copy()
                for a, b in cross:
                    implanted[np.ix_([i + a for i in GRID], [i + b for i in GRID])] += amplitude * signature
                for name, options in kept.items():
                    change = (denoise(implanted.astype(np.float32), options) - before[name])[np.ix_(GRID, GRID)]
                    response = (change @ signature).mean() / (amplitude * signature @ signature)
                    case = f"target of SNR {snr:g}, {len(cross)} px: response kept"
                    found.append(_row(case, name, response, 0.99 if options else least))
            if sigma == 0.1:
                cost = _mpsnr(clean, before["pellucid default"]) - _mpsnr(clean, before["pellucid --protect"])
                found.append(
                    _row("one protected signature, sigma .1: MPSNR lost", "pellucid --protect", cost, 0.6, most=True)
                )
    return found


def _lines(clean: np.ndarray, denoise: Denoise) -> list[dict[str, Any]]:
    """Add a one-pixel line along the track, and a field boundary, 5 sigma in all bands, to the striped scene."""
    striped, sigma = noisy(clean, "3", 0)
    before, found = denoise(striped, {}), []
    for name, columns in (("line of one pixel", slice(72, 73)), ("edge", slice(72, None))):
        marked = striped.copy()
        marked[:, columns] += (5 * sigma).astype(np.float32)
        change = (denoise(marked, {}) - before) / (5 * sigma)
        amplitude = change[:, 72].mean() if name != "edge" else change[:, 72:75].mean() - change[:, 69:72].mean()
        found.append(_row(f"{name} along the track, striped: amplitude kept", "pellucid default", amplitude, 0.95))
    return found


def _clean(clean: np.ndarray, denoise: Denoise) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:100, :100] / 100
    maps = np.stack([np.ones_like(y), np.sin(3 * x), np.cos(4 * y), np.sin(5 * x * y), np.cos(6 * (x + y))], -1)
    centres = np.linspace(0.1, 0.9, 5)
    smooth = maps @ np.exp(-(((np.linspace(0, 1, 100) - centres[:, None]) / 0.2) ** 2))
    smooth = smooth / np.abs(smooth).max()
    faint = (smooth + 1e-6 * rng.standard_normal(smooth.shape)).astype(np.float32)
    error = np.square(denoise(faint, {}).astype(np.float64) - faint).mean()
    white = noisy(clean, "1", 0)[0]
    first = denoise(white, {})
    again = np.std(denoise(first, {}) - first) / np.std(first - white)
    fired = [_repaired(noisy(clean, case, 0)[0]) for case in "12"] + [_repaired(clean.astype(np.float32))]
    return [
        _row("smooth cube, sigma 1e-6: output against input, dB", "pellucid default", -10 * np.log10(error), 100),
        _row("second pass: change over the first", "pellucid default", again, 0.2, most=True),
        _row("scene as it is, white, per band: repairs made", "pellucid default", sum(fired), 0, most=True),
    ]


def _repaired(values: np.ndarray) -> bool:
    plan = Plan("lowrank", options=lowrank.Options())
    tile = Tile.whole(values, spatial=2)
    state = lowrank.settle(lowrank.gather(tile, None, plan), plan)
    return state.repair is not None


def _mpsnr(clean: np.ndarray, result: np.ndarray) -> float:
    description = Description("npy", clean.shape, ("line", "sample", "band"), "float32")
    return metrics.measure(clean, result, description)["mpsnr"]
