# SPDX-License-Identifier: Apache-2.0
"""What a processed ultrasound image is worth: contrast, speckle, sharpness, error; with a truth and without.

CNR and gCNR are taken on dB images (or whatever values are given: say which), never compared between domains.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pellucid.core import metrics
from pellucid.core.lazy import np
from pellucid.domains.ultrasound.levels import FLOOR_DB

if TYPE_CHECKING:
    from pellucid.core.types import Array, Description, Noise

BINS = 256  # of gCNR, over the common range of both regions; Rodriguez-Molares 2020, 10.1109/TUFFC.2019.2956855
FEW = 2000  # samples of a region below which gCNR is biased upwards
RANGE_DB = 60.0
BLOCKS = 16  # samples: side of the blocks whose speckle is looked at


def cnr(inside: Array, outside: Array) -> float:
    """Return the contrast-to-noise ratio ``|mi - mo| / sqrt(vi + vo)``.

    Examples
    --------
    >>> import numpy as np
    >>> cnr(np.array([0.0, 2.0]), np.array([9.0, 11.0]))
    6.3639610306789285
    """
    spread = float(np.sqrt(np.var(inside, dtype=np.float64) + np.var(outside, dtype=np.float64)))
    gap = abs(float(np.mean(inside, dtype=np.float64) - np.mean(outside, dtype=np.float64)))
    return gap / spread if spread > 0 else float("inf") if gap else 0.0


def gcnr(inside: Array, outside: Array) -> float:
    """Return the generalised CNR: 1 less the overlap of both histograms over 256 common bins.

    Examples
    --------
    >>> import numpy as np
    >>> gcnr(np.zeros(9), np.ones(9)), gcnr(np.ones(9), np.ones(9))
    (1.0, 0.0)
    """
    low = float(min(inside.min(), outside.min()))
    high = float(max(inside.max(), outside.max()))
    if low == high:
        return 0.0
    shares = [np.histogram(part, BINS, (low, high))[0] / part.size for part in (inside, outside)]
    return float(1 - np.minimum(*shares).sum())


def speckle_snr(envelope: Array) -> float:
    """Return mean over standard deviation of a linear envelope: 1.913 in fully developed speckle."""
    sd = float(np.std(envelope, dtype=np.float64))
    return float(np.mean(envelope, dtype=np.float64)) / sd if sd > 0 else float("inf")


def fwhm(profile: Array, centre: int) -> float:
    """Return the -6 dB width of a linear envelope around ``centre``, samples, crossings interpolated linearly.

    Examples
    --------
    >>> import numpy as np
    >>> fwhm(np.array([0.0, 1.0, 2.0, 1.0, 0.0]), 2)
    2.0
    """
    half = float(profile[centre]) / 2
    total = 0.0
    for side in (profile[centre::-1], profile[centre:]):
        below = np.flatnonzero(side < half)
        if not below.size:
            return float("nan")
        i = int(below[0])
        total += i - 1 + (float(side[i - 1]) - half) / float(side[i - 1] - side[i])
    return total


def contrast(values: Array, rois: Mapping[str, Array]) -> dict[str, float]:
    """Return contrast of pairs of regions and speckle statistics of single ones.

    Parameters
    ----------
    values : array (spatial axes)
        dB image; grey levels of a display image will do.
    rois : mapping of bool arrays
        ``NAME`` against ``NAME_background`` where there is one, else against ``background``.

    Returns
    -------
    dict
        ``NAME_cnr``, ``NAME_gcnr``, ``NAME_n`` (samples of the smaller region).
    """
    found: dict[str, float] = {}
    for name, inside in rois.items():
        outside = rois.get(f"{name}_background", rois.get("background"))
        if outside is None or name.endswith("background"):
            continue
        pair = np.asarray(values)[inside], np.asarray(values)[outside]
        found |= {f"{name}_cnr": cnr(*pair), f"{name}_gcnr": gcnr(*pair), f"{name}_n": min(p.size for p in pair)}
    return found


def rectangles(text: Mapping[str, list[int]], shape: tuple[int, ...]) -> dict[str, Array]:
    """Return regions from ``{name: [first row, last row, first column, last column]}``, half open.

    Raises
    ------
    ValueError
        A rectangle is empty or leaves the image.
    """
    found = {}
    for name, (top, bottom, left, right) in text.items():
        if not (0 <= top < bottom <= shape[0] and 0 <= left < right <= shape[1]):
            raise ValueError(f"region '{name}' lies outside {shape[0]} x {shape[1]}")
        found[name] = np.zeros(shape[:2], bool)
        found[name][top:bottom, left:right] = True
    return found


def decibels(values: Array, description: Description) -> Array:
    """Return samples in dB: display images by their dynamic range, amplitudes re the largest."""
    if display(values, description):
        span = float(description.acquisition.get("dynamic_range_db") or RANGE_DB)
        return np.asarray(values, np.float64) * (span / full_scale(values, description))
    size = np.abs(np.asarray(values)).astype(np.float64)
    top = float(size.max()) or 1.0
    return np.asarray(20 * np.log10(np.maximum(size / top, 10 ** (FLOOR_DB / 20))))


def display(values: Array, description: Description) -> bool:
    """Return whether samples are grey levels; complex ones never are."""
    return description.kind not in ("envelope", "rf", "iq", "channel") and not np.iscomplexobj(values)


def full_scale(values: Array, description: Description) -> float:
    """Return what white is: 255 of 8 bits, 1 of floats up to 1, else the largest sample."""
    top = float(np.max(values)) if values.size else 0.0
    if np.dtype(description.dtype) == np.uint8:
        return 255.0 * abs(float(np.mean(description.slope)))
    whites = (1.0, 255.0) if np.dtype(description.dtype).kind == "f" else (255.0, 1023.0, 4095.0, 65535.0)
    return next((w for w in whites if top <= w), top)


def measure(reference: Array, estimate: Array, description: Description, mask: Array | None = None) -> dict[str, float]:
    """Compare with the truth.

    Returns
    -------
    dict
        ``rmse_db`` on dB images; ``nrmse`` of the envelope, of display images as far as they tell it; of complex
        samples ``nrmse_iq``.
    """
    wide = [decibels(v, description) for v in (reference, estimate)]
    found = {"rmse_db": float(np.sqrt(metrics.mse(*wide, mask=mask)))}
    if np.iscomplexobj(reference):
        found["nrmse_iq"] = metrics.nrmse(reference, estimate, mask=mask)
    linear = (
        [10 ** (v / 20) for v in wide] if display(reference, description) else [np.abs(reference), np.abs(estimate)]
    )
    return found | {"nrmse": metrics.nrmse(*linear, mask=mask)}


def judge(before: Array, after: Array, description: Description, noise: Noise | None) -> dict[str, float]:
    """Look at what was removed and at what is left of speckle.

    Returns
    -------
    dict
        ``removed_db``: rms of the change; ``mean_ratio``: mean envelope after over before; ``speckle_snr_before``
        and ``speckle_snr_after``: medians over blocks (1.91 in fully developed speckle; higher: smoothed).
    """
    old, new = (decibels(np.nan_to_num(v), description) for v in (before, after))
    linear = [10 ** (v / 20) for v in (old, new)]
    return {
        "removed_db": float(np.sqrt(np.mean(np.square(old - new)))),
        "mean_ratio": float(linear[1].mean() / linear[0].mean()),
        "speckle_snr_before": blocks_snr(linear[0]),
        "speckle_snr_after": blocks_snr(linear[1]),
    }


def blocks_snr(envelope: Array) -> float:
    """Return the median speckle SNR over blocks of the first frame that are not empty."""
    frame = envelope if envelope.ndim == 2 else envelope[..., 0]
    rows, columns = (max(1, n // BLOCKS) for n in frame.shape)
    side = [min(BLOCKS, n) for n in frame.shape]
    cut = frame[: rows * side[0], : columns * side[1]]
    blocks = cut.reshape(rows, side[0], columns, side[1]).swapaxes(1, 2).reshape(rows * columns, -1)
    sd = blocks.std(1)
    return float(np.median(blocks.mean(1)[sd > 0] / sd[sd > 0])) if (sd > 0).any() else float("inf")


def picture(values: Array, description: Description) -> Array:
    """Return the first frame as a dB image over 60 dB."""
    frame = np.asarray(values) if np.ndim(values) == 2 else np.asarray(values)[..., 0]
    shown = decibels(frame, description)
    if not display(frame, description):
        shown = np.clip(shown, -RANGE_DB, 0)
    return np.asarray(shown, np.float32)
