# SPDX-License-Identifier: Apache-2.0
"""Before, after and residual side by side, as PNG."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid.core.lazy import np

if TYPE_CHECKING:
    from pellucid.core.types import Array, Description

LOW, HIGH = 0.5, 99.5  # percentiles of the shared grey window
RESIDUAL_SPAN = 4.0  # residual window: +- this many standard deviations
LEAST = 256  # smaller pictures are enlarged by whole factors so that samples stay visible
GAP = 6  # white pixels between panels


def panels(
    picture: Callable[[Any, Description], Any], before: Array, after: Array, description: Description
) -> dict[str, Array]:
    """Return 8-bit panels ``before``, ``after``, ``residual``; the first two share one window."""
    a, b = np.asarray(picture(before, description)), np.asarray(picture(after, description))
    low, high = _window(a, description.kind in ("rgb", "intensity"))
    residual = np.nan_to_num(a - b)
    span = RESIDUAL_SPAN * residual.std(axis=(0, 1))
    return {
        "before": _grey(a, low, high),
        "after": _grey(b, low, high),
        "residual": _grey(residual, -span, span),
    }


def _window(image: Array, joint: bool) -> tuple[Array, Array]:
    """Return black and white: of all channels together where colours are real, else of each channel."""
    if not np.isfinite(image).any():
        return np.zeros(1), np.ones(1)
    axes = None if joint or image.ndim == 2 else (0, 1)
    low, high = np.nanpercentile(np.where(np.isfinite(image), image, np.nan), (LOW, HIGH), axis=axes)
    return np.asarray(low), np.asarray(high)


def _grey(values: Array, low: Array, high: Array) -> Array:
    span = np.where(high > low, high - low, 1.0)
    scaled = (np.where(np.isfinite(values), values, low) - low) / span
    image = (255 * np.clip(scaled, 0, 1) + 0.5).astype(np.uint8)
    factor = max(1, -(-LEAST // max(image.shape[:2])))
    return image.repeat(factor, 0).repeat(factor, 1)


def side_by_side(shown: dict[str, Array]) -> Array:
    """Return the panels in one row, (height, width) or (height, width, 3), uint8."""
    images = list(shown.values())
    gap = np.full((images[0].shape[0], GAP, *images[0].shape[2:]), 255, np.uint8)
    row = [part for image in images for part in (image, gap)][:-1]
    return np.concatenate(row, axis=1)


def write_png(path: Path, shown: dict[str, Array]) -> None:
    """Write the row of panels as PNG."""
    from PIL import Image

    Image.fromarray(side_by_side(shown)).save(path, format="PNG")


def png_bytes(image: Array) -> bytes:
    """Return one panel as PNG bytes."""
    from io import BytesIO

    from PIL import Image

    buffer = BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
