# SPDX-License-Identifier: Apache-2.0
"""Do no harm: how much attenuation a recording may get, and where none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pellucid.core.lazy import np
from pellucid.domains.speech import gain, trackers

if TYPE_CHECKING:
    from pellucid.core.types import Array

FULL_SCALE = 32767 / 32768  # the largest 16-bit sample: what a clipped recording holds
SNR_FULL, SNR_NONE = 15.0, 30.0  # dB: full attenuation below, none above
SPEECH = 2.0  # a frame counts as speech where its power is above this many noise powers
MEMORY = 0.9  # per batch of 1 s: the estimate forgets over 10 s
DECIBEL = 20 / 2.302585  # 20 / ln 10: dB per unit of ln amplitude


@dataclass(frozen=True)
class Snr:
    """Running mean of the SNR in dB over speech frames: sum and weight, each (groups,)."""

    total: Any = 0.0
    weight: Any = 0.0


def share(snr: Snr, power: Array, lam: Array, live: Array) -> tuple[Array, Snr]:
    """Return the share (frames, groups) of the limit that the input's SNR allows, and the new mean."""
    signal, noise = power.sum(axis=-1), lam.sum(axis=-1)
    speech = live & (signal > SPEECH * noise)
    level = np.where(speech, 10 * np.log10(np.where(speech, signal / noise, 1)), 0)
    decay = MEMORY ** (len(power) / 64)
    total = snr.total * decay + level.sum(axis=0)
    weight = snr.weight * decay + speech.sum(axis=0)
    mean = total / np.maximum(weight, 1)
    allowed = np.clip((SNR_NONE - mean) / (SNR_NONE - SNR_FULL), 0, 1)
    return np.broadcast_to(allowed.astype(np.float32), live.shape), Snr(total, weight)


def bounded(xi: Array, gamma: Array, lam: Array, limit: Array, lsb_power: float) -> Array:
    """Return the gain; never below ``limit`` dB (frames, groups), 1 where noise is unknown or under one LSB."""
    log_floor = -limit[:, :, None] / np.float32(DECIBEL)
    g, _ = gain.om_lsa(xi, np.minimum(gamma, np.float32(gain.GAMMA_MAX)), log_floor)
    g = np.maximum(g, np.exp(log_floor))
    return np.where(lam <= np.float32(max(lsb_power, trackers.TINY)), np.float32(1), g)
