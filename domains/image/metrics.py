# SPDX-License-Identifier: Apache-2.0
"""What a denoised picture is worth: against a reference, by what was removed, and to the eye."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pellucid.core import metrics
from pellucid.core.lazy import np

if TYPE_CHECKING:
    from pellucid.core.types import Array, Description, Noise


def measure(reference: Array, estimate: Array, description: Description, mask: Array | None = None) -> dict[str, float]:
    """Compare with the truth at full scale: PSNR in dB (after clipping to the scale), SSIM, normalised error.

    Full scale is that of integer samples; of other samples the reference's own range, without clipping.
    """
    low, high = _scale(np.asarray(reference), description)
    known = np.dtype(description.dtype).kind in "iu"
    shown = np.clip(estimate, low, high) if known else np.asarray(estimate)
    return {
        "psnr": metrics.psnr(reference, shown, data_range=high - low, mask=mask),
        "ssim": metrics.ssim(reference, shown, data_range=high - low, mask=mask),
        "nrmse": metrics.nrmse(reference, shown, mask=mask),
    }


def judge(before: Array, after: Array, description: Description, noise: Noise | None) -> dict[str, float]:
    """Look at what was removed: it should be noise, and only noise.

    Returns
    -------
    dict
        ``residual_mean``, ``residual_sd`` (full scale 1); ``residual_over_sigma``: 1 where all noise and
        nothing else went; ``correlation_y``, ``correlation_x``: 0 for white noise; ``edges``: correlation
        of the residual's size with the edges of the result, 0 where no structure was removed.
    """
    ok = np.isfinite(before).reshape(*before.shape[: description.spatial], -1).all(axis=-1)
    found = metrics.residual(np.where(np.isfinite(before), before, 0), after, spatial=description.spatial, mask=ok)
    out = {"residual_mean": found["mean"], "residual_sd": found["sd"]}
    sigma = float(np.mean(noise.sigma)) if noise is not None and noise.sigma is not None else 0.0
    if sigma > 0:
        out["residual_over_sigma"] = found["sd"] / sigma
    for i, axis in enumerate(description.axes[: description.spatial]):
        out[f"correlation_{axis}"] = found[f"correlation_{i}"]
    return out | {"edges": found["edge"]}


def picture(values: Array, description: Description) -> Array:
    """Return the picture as it is: (y, x), or (y, x, 3) for colours; of other series the first channel."""
    values = np.asarray(values, np.float32)
    return values if values.ndim == 2 or values.shape[-1] == 3 else values[..., 0]


def _scale(reference: Array, description: Description) -> tuple[float, float]:
    """Return black and white in physical units."""
    dtype = np.dtype(description.dtype)
    if dtype.kind in "iu" and not np.ndim(description.slope) and not np.ndim(description.inter):
        info, slope, inter = np.iinfo(dtype), float(description.slope), float(description.inter)
        return info.min * slope + inter, info.max * slope + inter
    low, high = float(np.nanmin(reference)), float(np.nanmax(reference))
    return (low, high) if high > low else (low, low + 1.0)
