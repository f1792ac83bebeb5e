# SPDX-License-Identifier: Apache-2.0
"""From one colour a sample to three: gradient-corrected interpolation, and what colours need around it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pellucid.core.lazy import ndimage, np
from pellucid.domains.raw import sensor

if TYPE_CHECKING:
    from pellucid.core.types import Array, Description

# Malvar, He & Cutler 2004 (10.1109/ICASSP.2004.1326587), figure 2; eighths
GREEN = ((0, 0, -1, 0, 0), (0, 0, 2, 0, 0), (-1, 2, 4, 2, -1), (0, 0, 2, 0, 0), (0, 0, -1, 0, 0))
ALONG = ((0, 0, 0.5, 0, 0), (0, -1, 0, -1, 0), (-1, 4, 5, 4, -1), (0, -1, 0, -1, 0), (0, 0, 0.5, 0, 0))
ACROSS = ((0, 0, -1.5, 0, 0), (0, 2, 0, 2, 0), (-1.5, 0, 6, 0, -1.5), (0, 2, 0, 2, 0), (0, 0, -1.5, 0, 0))
SOFT = 1.2  # samples, sd of the windows that fill 6 x 6 patterns


def demosaic(mosaic: Array, cfa: Array) -> Array:
    """Return (y, x, 3) of a balanced mosaic; measured samples are kept as they are."""
    if len(cfa) == 1:
        return np.repeat(np.asarray(mosaic, np.float32)[..., None], 3, axis=-1)
    if len(cfa) == 2:
        return _malvar(np.asarray(mosaic, np.float32), cfa)
    return _differences(np.asarray(mosaic, np.float32), cfa)


def _malvar(mosaic: Array, cfa: Array) -> Array:
    out = np.empty((*mosaic.shape, 3), np.float32)
    kernels = {n: np.array(k, np.float32) / 8 for n, k in (("g", GREEN), ("a", ALONG), ("x", ACROSS))}
    # mirrored without repeating the border sample, so that colours keep their places
    filtered = {n: ndimage.convolve(mosaic, k, mode="mirror") for n, k in kernels.items()}
    filtered["t"] = ndimage.convolve(mosaic, kernels["a"].T, mode="mirror")
    for r in range(2):
        for c in range(2):
            at = (slice(r, None, 2), slice(c, None, 2))
            own = int(cfa[r, c])
            out[(*at, own)] = mosaic[at]
            if own == 1:
                beside = int(cfa[r, 1 - c])  # the colour of the same row
                out[(*at, beside)] = filtered["a"][at]
                out[(*at, 2 - beside)] = filtered["t"][at]
            else:
                out[(*at, 1)] = filtered["g"][at]
                out[(*at, 2 - own)] = filtered["x"][at]
    return out


def _differences(mosaic: Array, cfa: Array) -> Array:
    """Interpolate green along the smoother direction, then colours as differences to it."""
    where = [sensor.over((cfa == c).astype(np.float32), mosaic.shape) for c in range(3)]
    green = _directed(mosaic, where[1])
    out = np.empty((*mosaic.shape, 3), np.float32)
    out[..., 1] = green
    for c in (0, 2):
        out[..., c] = green + _soft((mosaic - green) * where[c], where[c], (SOFT, SOFT))
    for c in range(3):
        out[..., c] = np.where(where[c] > 0, mosaic, out[..., c])
    return out


def _directed(mosaic: Array, where: Array) -> Array:
    """Return green everywhere: of the two directions the one along which it varies less counts more."""
    estimates, roughness = [], []
    for sds in ((0.6, 1.4), (1.4, 0.6)):
        found = _soft(mosaic * where, where, sds)
        estimates.append(found)
        rough = np.square((mosaic - found) * where)
        roughness.append(_soft(rough, where, (1.5, 1.5)) + 1e-12)
    first = roughness[1] / (roughness[0] + roughness[1])
    found = first * estimates[0] + (1 - first) * estimates[1]
    return np.asarray(np.where(where > 0, mosaic, found), np.float32)


def _soft(values: Array, where: Array, sds: tuple[float, float]) -> Array:
    above = ndimage.gaussian_filter(values, sds, mode="mirror", truncate=4)
    below = ndimage.gaussian_filter(where, sds, mode="mirror", truncate=4)
    return np.asarray(above / np.maximum(below, 1e-6), np.float32)


def gains(description: Description) -> Array:
    """Return the file's white balance (3,), green 1; ones where it has none."""
    known = description.acquisition.get("wb")
    if known is None:
        return np.ones(3, np.float32)
    wb = np.asarray(known, np.float64)[:3]
    if len(wb) < 3 or not (np.isfinite(wb).all() and (wb > 0).all()):
        return np.ones(3, np.float32)
    return np.asarray(wb / wb[1], np.float32)


def gain_map(cfa: Array, wb: Array, shape: tuple[int, ...]) -> Array:
    """Return the balance of each sample of a mosaic."""
    return sensor.over(np.asarray(wb)[cfa], shape)


def srgb(linear: Any) -> Array:
    """Return sRGB code values of linear light in [0, 1] (IEC 61966-2-1)."""
    linear = np.asarray(linear)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 0) ** (1 / 2.4) - 0.055)


def light(code: Any) -> Array:
    """Return linear light of sRGB code values."""
    code = np.asarray(code)
    return np.where(code <= 0.04045, code / 12.92, ((np.maximum(code, 0) + 0.055) / 1.055) ** 2.4)
