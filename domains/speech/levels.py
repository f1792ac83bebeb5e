# SPDX-License-Identifier: Apache-2.0
"""What one recording says of itself, without a reference: levels, clipping, and DNSMOS where it is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pellucid.core.lazy import ndimage, np
from pellucid.domains.speech import dnsmos
from pellucid.domains.speech.checks import CLIPPED_RUN, DEFAULT_RATE, FULL_SCALE

if TYPE_CHECKING:
    from pellucid.core.types import Array, Description

SMOOTH, HANGOVER, MARGIN = 0.03, 0.2, 15.9  # s, s, dB: ITU-T P.56 (2011), table 1
FRAME = 0.032  # s
FLOOR_QUANTILE = 0.1  # of frame levels: pauses
SILENT = -300.0  # dB said of digital silence


def inspect(values: Array, description: Description) -> dict[str, float]:
    """Report the levels of a recording.

    Parameters
    ----------
    values : array (time, channel) or (time,)
        Physical units: full scale is 1.
    description : Description
        ``acquisition["rate_hz"]`` is used.

    Returns
    -------
    dict
        ``peak``, ``rms``, ``speech_level`` (active level, ITU-T P.56 method B) and ``noise_floor`` (frames of
        32 ms in pauses, digital silence left out) in dB of full scale; ``activity``, the share of time with
        speech; ``clipped``, samples in runs of three or more at full scale; ``dc``, in full scales;
        ``dnsmos_signal``, ``dnsmos_background`` and ``dnsmos_overall`` (1 to 5) where speechmos is installed.
        Peak and clipping are of all channels together, others are means over channels.
    """
    rows = np.atleast_2d(np.nan_to_num(np.asarray(values, np.float32)).T)
    if not rows.size:
        return {}
    rate = float(description.acquisition.get("rate_hz") or DEFAULT_RATE)
    found = [active_level(row, rate) for row in rows]
    out = {
        "peak": _decibel(float(np.abs(rows).max()) ** 2),
        "rms": _decibel(float(np.square(rows, dtype=np.float64).mean())),
        "speech_level": float(np.mean([level for level, _ in found])),
        "activity": float(np.mean([share for _, share in found])),
        "noise_floor": float(np.mean([noise_floor(row, rate) for row in rows])),
        "clipped": sum(clipped(row) for row in rows),
        "dc": float(rows.mean(axis=1, dtype=np.float64).mean()),
    }
    scores = [s for row in rows if (s := dnsmos.scores(row, rate))]
    return out | {k: float(np.mean([s[k] for s in scores])) for k in (scores[0] if scores else ())}


def active_level(samples: Array, rate: float) -> tuple[float, float]:
    """Return the active speech level in dB of full scale and the share of time that is active.

    Method B of ITU-T P.56: time counts as active where the envelope was above a threshold within the last
    0.2 s; the threshold is the one that lies 15.9 dB below the level of the time it selects.

    Examples
    --------
    >>> import numpy as np
    >>> tone = np.sqrt(2) * 0.1 * np.sin(np.arange(160000) * 0.3)
    >>> level, share = active_level(np.concatenate([tone, np.zeros(160000)]), 16000)
    >>> round(level), round(share, 1)
    (-20, 0.5)
    """
    from scipy.signal import lfilter

    x = np.asarray(samples, np.float64)
    energy = float(x @ x)
    if not energy:
        return SILENT, 0.0
    g = np.exp(-1 / (SMOOTH * rate))
    envelope = lfilter([1 - g], [1, -g], lfilter([1 - g], [1, -g], np.abs(x)))
    width = max(1, round(HANGOVER * rate)) + 1
    held = ndimage.maximum_filter1d(envelope, width, origin=(width - 1) // 2, mode="constant")  # the last 0.2 s
    thresholds = np.abs(x).max() * 2.0 ** -np.arange(15.0, -1, -1)  # rising, 6 dB apart
    counts = len(x) - np.searchsorted(np.sort(held), thresholds)
    kept = counts > 0
    level, floor = 10 * np.log10(energy / counts[kept]), 20 * np.log10(thresholds[kept])
    above = level - floor - MARGIN  # falls with the threshold
    if len(above) == 0 or above[0] <= 0:
        return 10 * np.log10(energy / len(x)), 1.0
    below = np.flatnonzero(above <= 0)
    if not len(below):
        found = float(level[-1])
    else:
        k = int(below[0])
        part = above[k - 1] / (above[k - 1] - above[k])
        found = float(level[k - 1] + part * (level[k] - level[k - 1]))
    return found, float(min(1.0, energy / len(x) / 10 ** (found / 10)))


def noise_floor(samples: Array, rate: float) -> float:
    """Return the level that a tenth of the frames stay below, dB of full scale; digital silence left out."""
    size = max(1, round(FRAME * rate))
    count = len(samples) // size
    power = np.square(samples[: count * size].reshape(count, size), dtype=np.float64).mean(axis=1)
    power = power[power > 0]
    return _decibel(float(np.quantile(power, FLOOR_QUANTILE))) if len(power) else SILENT


def clipped(samples: Array) -> int:
    """Return how many samples stand in runs of three or more at full scale of the same sign.

    Examples
    --------
    >>> import numpy as np
    >>> clipped(np.array([0, 1, 1, 1, 1, 0, 1, 1, 0, -1, -1, -1.0]))
    7
    """
    count = 0
    for top in (samples >= FULL_SCALE, samples <= -FULL_SCALE):
        edges = np.flatnonzero(np.diff(np.concatenate([[False], top, [False]])))
        runs = edges[1::2] - edges[::2]
        count += int(runs[runs >= CLIPPED_RUN].sum())
    return count


def _decibel(power: float) -> float:
    return max(SILENT, 10 * float(np.log10(power))) if power > 0 else SILENT
