# SPDX-License-Identifier: Apache-2.0
"""What a result is worth: against a reference, by its residual alone, and to the eye."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pellucid.core.lazy import ndimage, np

if TYPE_CHECKING:
    from pellucid.core.types import Array, Description, Noise

FOREGROUND = 0.1  # of the 99th percentile: head against air where no mask is given


def measure(reference: Array, estimate: Array, description: Description, mask: Array | None = None) -> dict[str, float]:
    """Compare with the truth inside the head: PSNR (dB, peak of the reference), SSIM, normalised error."""
    from pellucid.core import metrics

    reference, estimate = np.asarray(reference), np.asarray(estimate)
    head = foreground(reference, description.spatial) if mask is None else mask
    peak = float(np.abs(reference[head]).max()) if head.any() else 0.0
    return {
        "psnr": metrics.psnr(reference, estimate, data_range=peak or 1.0, mask=head),
        "ssim": metrics.ssim(reference, estimate, data_range=peak or 1.0, mask=head),
        "nrmse": metrics.nrmse(reference, estimate, mask=head),
    }


def judge(before: Array, after: Array, description: Description, noise: Noise | None) -> dict[str, float]:
    """Look at what was removed, inside the head: it should be noise, and only noise.

    Returns
    -------
    dict
        ``residual_sd`` (input units); ``residual_over_sigma``: 1 where all noise and nothing else went;
        ``correlation_x`` ...: lag-1 correlation per axis, 0 for white noise; ``edges``: correlation of the
        residual's size with the edges of the result, 0 where no anatomy was removed.
    """
    from pellucid.core import metrics

    head = foreground(np.asarray(after), description.spatial)
    found = metrics.residual(before, after, spatial=description.spatial, mask=head)
    out = {"residual_mean": found["mean"], "residual_sd": found["sd"]}
    sigma = _level(noise, head)
    if sigma:
        out["residual_over_sigma"] = found["sd"] / sigma
    for i, axis in enumerate(description.axes[: description.spatial]):
        out[f"correlation_{axis}"] = found[f"correlation_{i}"]
    return out | {"edges": found["edge"]}


def _level(noise: Noise | None, head: Array) -> float:
    """Return one typical noise level of a scalar, a vector or a map; 0 where nothing is known."""
    if noise is None or noise.sigma is None:
        return 0.0
    sigma = np.asarray(noise.sigma, dtype=np.float64)
    if sigma.shape == head.shape:
        sigma = sigma[head]
    sigma = sigma[sigma > 0]
    return float(np.median(sigma)) if sigma.size else 0.0


def foreground(values: Array, spatial: int) -> Array:
    """Return where the head is: above ``FOREGROUND`` of the 99th percentile of the mean magnitude."""
    size = np.abs(values)
    size = np.nan_to_num(size.mean(axis=tuple(range(spatial, size.ndim))) if size.ndim > spatial else size)
    return np.asarray(size > FOREGROUND * np.percentile(size, 99))


def picture(values: Array, description: Description) -> Array:
    """Return the middle axial slice of the first volume, front up, the patient's right on the left, true to scale.

    Orientation comes from the file; where it says nothing the third axis is taken as the axial one.
    """
    volume = np.abs(np.asarray(values)).astype(np.float32)
    volume = volume[..., 0] if volume.ndim > 3 else volume
    codes = _codes(description)
    order = [next(i for i, code in enumerate(codes) if code in pair) for pair in ("AP", "LR", "SI")]
    volume = volume.transpose(order)
    image = volume[:, :, volume.shape[2] // 2]
    front, right = codes[order[0]], codes[order[1]]
    image = image[::-1] if front == "A" else image
    image = image if right == "L" else image[:, ::-1]
    return _square(image, [_step(description, axis) for axis in order[:2]])


def _codes(description: Description) -> str:
    codes = description.acquisition.get("orientation") or ""
    whole = len(codes) == 3 and all(any(c in pair for c in codes) for pair in ("AP", "LR", "SI"))
    return codes if whole else "RAS"


def _step(description: Description, axis: int) -> float:
    step = description.spacing[axis] if axis < len(description.spacing) else None
    return float(step) if step else 1.0


def _square(image: Any, steps: list[float]) -> Array:
    """Stretch the coarser axis so that pixels are square; at most eightfold."""
    fine = min(steps)
    factors = [min(step / fine, 8.0) for step in steps]
    if max(factors) < 1.02:
        return np.ascontiguousarray(image)
    return np.asarray(ndimage.zoom(image, factors, order=1))
