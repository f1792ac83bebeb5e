# SPDX-License-Identifier: Apache-2.0
"""What a denoised mosaic is worth: as a mosaic, as the picture made of it, and by what was removed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from pellucid.core import metrics
from pellucid.core.lazy import np
from pellucid.domains.declare import Subject
from pellucid.domains.raw import demosaic, sensor

if TYPE_CHECKING:
    from pellucid.core.types import Array, Description, Noise

BORDER = 4  # samples, without all their neighbours


def measure(reference: Array, estimate: Array, description: Description, mask: Array | None = None) -> dict[str, float]:
    """Compare with the truth.

    Returns
    -------
    dict
        ``psnr`` and ``ssim`` of the picture (balanced, demosaicked, sRGB curve); ``psnr_raw`` of the samples,
        dB below white; ``nrmse``; ``bias``: mean error at the worst position, DN.
    """
    seen = _sensor(description)
    error = np.asarray(estimate, np.float64) - reference
    span = _span(seen, reference)
    found = {"psnr_raw": float(-10 * np.log10(max(float(np.mean(error**2)), 1e-30) / span**2))}
    found["nrmse"] = metrics.nrmse(np.asarray(reference), np.asarray(estimate), mask=mask)
    p = seen.period
    found["bias"] = max((float(error[r::p, c::p].mean()) for r in range(p) for c in range(p)), key=abs)
    if description.series is None and min(error.shape) > 2 * BORDER + 8:
        cut = (slice(BORDER, -BORDER),) * 2
        a, b = (_shown(v, seen, description, span)[cut] for v in (reference, estimate))
        return {"psnr": metrics.psnr(a, b, data_range=1.0), "ssim": metrics.ssim(a, b, data_range=1.0)} | found
    return {"psnr": found["psnr_raw"]} | found


def judge(before: Array, after: Array, description: Description, noise: Noise | None) -> dict[str, float]:
    """Look at what was removed: it should be noise, and only noise.

    Returns
    -------
    dict
        ``residual_mean``, ``residual_sd`` in DN; ``residual_over_sigma`` where a level is known;
        ``correlation_y``, ``correlation_x`` between neighbours of one colour: 0 for white noise; ``edges``.
    """
    p = _sensor(description).period
    planes = [(before[r::p, c::p], after[r::p, c::p]) for r in range(min(p, 2)) for c in range(min(p, 2))]
    each = [metrics.residual(a, b, spatial=2, mask=np.ones(a.shape[:2], np.bool_)) for a, b in planes]
    mean = {k: float(np.mean([e[k] for e in each])) for k in each[0]}
    out = {"residual_mean": mean["mean"], "residual_sd": mean["sd"]}
    if noise is not None and noise.sigma is not None and float(np.mean(noise.sigma)) > 0:
        out["residual_over_sigma"] = mean["sd"] / float(np.mean(noise.sigma))
    return out | {"correlation_y": mean["correlation_0"], "correlation_x": mean["correlation_1"], "edges": mean["edge"]}


def picture(values: Array, description: Description) -> Array:
    """Return a quick colour picture (y, x, 3) of half size: a quad is a pixel; sRGB curve."""
    seen = _sensor(description)
    values = np.asarray(values, np.float32)
    span = _span(seen, values)
    if values.ndim == 3:
        rgb = (values[..., :3] - float(seen.black.flat[0])) / span
    else:
        p = seen.period
        rows, cols = (n // p for n in values.shape)
        signal = (values - sensor.over(seen.black, values.shape))[: rows * p, : cols * p].reshape(rows, p, cols, p)
        rgb = np.stack([signal.swapaxes(1, 2)[:, :, seen.cfa == c].mean(-1) for c in range(3)], -1) / span
    shown = demosaic.srgb(np.clip(rgb * demosaic.gains(description), 0, 1))
    return np.asarray(shown, np.float32)


def _shown(values: Array, seen: sensor.Sensor, description: Description, span: float) -> Array:
    signal = (np.asarray(values, np.float32) - sensor.over(seen.black, values.shape)) / span
    rgb = demosaic.demosaic(signal * demosaic.gain_map(seen.cfa, demosaic.gains(description), values.shape), seen.cfa)
    return demosaic.srgb(np.clip(rgb, 0, 1))


def _sensor(description: Description) -> sensor.Sensor:
    reader: Any = SimpleNamespace(path=Path("values"), description=description)
    return sensor.of(Subject(reader, description))


def _span(seen: sensor.Sensor, values: Array) -> float:
    top = seen.white if np.isfinite(seen.white) else float(np.max(values))
    return max(top - float(seen.black.max()), 1e-30)
