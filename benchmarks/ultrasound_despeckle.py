# SPDX-License-Identifier: Apache-2.0
"""Figures of one despeckled phantom, and the regions of the real images they are taken in."""

from __future__ import annotations

import numpy as np

from pellucid.domains.ultrasound import metrics, phantom

BACKGROUND = (26.5, 3.0, 20.0, 18.0)  # centre and half extent along depth and across, mm
NEAR = 4  # samples around a point in which its peak is looked for
KEPT_DB = -2.0  # a point counts as kept down to this change of its peak
CAROTID = {"lumen": [60, 160, 190, 225], "lumen_background": [60, 160, 292, 318]}  # lines, samples
BLADDER = {"bladder": [149, 189, 127, 182], "bladder_background": [249, 289, 75, 187]}  # rows, columns


def grey(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the phantom as a display image in [0, 1] over 60 dB, and its truth in dB."""
    found = phantom.cyst(seed)
    decibels = 20 * np.log10(np.maximum(found.envelope, 1e-12))
    return np.clip(1 + decibels / 60, 0, 1).astype(np.float32), found.truth_db


def envelope(shown: np.ndarray) -> np.ndarray:
    """Return the linear envelope of a display image."""
    return 10 ** ((np.asarray(shown, np.float64) - 1) * 3)


def figures(before: np.ndarray, after: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Return error (whole, and without its mean), mean level, speckle SNR, gCNR of four lesions, points.

    ``width_26db_*``: axial and lateral FWHM after over before, least and largest of the points of 26 dB.
    """
    z, x = phantom.grids((512, 400), fine=1)
    error = after * 60.0 - 60 - truth
    old, new = envelope(before), envelope(after)
    z0, dz, x0, dx = BACKGROUND
    plain = (np.abs(z - z0) < dz) & (np.abs(x - x0) < dx)
    found = {
        "rmse_db": float(np.std(error)),
        "rmse_with_mean_db": float(np.sqrt(np.mean(error**2))),
        "mean": float(new[plain].mean() / old[plain].mean()),
        "speckle_snr": metrics.speckle_snr(new[plain]),
    }
    for depth, across, radius, gain in phantom.DISCS[4:]:
        r = np.hypot(z - depth, x - across)
        ring = (r > radius + 0.6) & (r < radius + 1.4)
        found[f"gcnr_{gain:+d}"] = metrics.gcnr(after[r < 0.8 * radius], after[ring])
    return found | points(old, new)


def points(old: np.ndarray, new: np.ndarray) -> dict[str, float]:
    """Return how many points of 14 dB kept their peak, and how the width of those of 26 dB changed."""
    kept, widths = 0, []
    for depth, across, gain in phantom.POINTS:
        (i, j), (k, m) = (_peak(v, round(depth / 0.08 - 0.5), round(across / 0.1 - 0.5)) for v in (old, new))
        if gain == 14:
            kept += bool(20 * np.log10(new[k, m] / old[i, j]) > KEPT_DB)
        else:
            widths.append(metrics.fwhm(new[:, m], k) / metrics.fwhm(old[:, j], i))
            widths.append(metrics.fwhm(new[k], m) / metrics.fwhm(old[i], j))
    return {"points_kept": kept, "width_26db_least": float(min(widths)), "width_26db_most": float(max(widths))}


def _peak(values: np.ndarray, row: int, column: int) -> tuple[int, int]:
    window = values[row - NEAR : row + NEAR + 1, column - NEAR : column + NEAR + 1]
    i, j = np.unravel_index(int(window.argmax()), window.shape)
    return int(i) + row - NEAR, int(j) + column - NEAR
