# SPDX-License-Identifier: Apache-2.0
"""Between stored samples and decibels: display images are dB already, up to a scale; envelopes are amplitudes.

A display image is an unknown monotone map of dB; it is taken as linear over its dynamic range (60 dB where
nothing else is said), which keeps differences and never claims absolute levels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pellucid.core.lazy import np
from pellucid.core.types import Noise, Plan

if TYPE_CHECKING:
    from pellucid.core.types import Array

SPECKLE_DB = 5.57  # sd of 20 log10 of a Rayleigh envelope: (10 / ln 10) pi / sqrt(6)
MEAN_GAP_DB = 1.458  # 20 log10 E[R] - E[20 log10 R] of a Rayleigh envelope
FLOOR_DB = -80.0  # of envelopes, re their largest: zeros have no logarithm
PSF = (4.0, 4.0)  # samples, full widths at half maximum where nothing was measured
PSF_LIMITS = (2.0, 7.0)  # samples; the halo is made for the largest


@dataclass(frozen=True)
class Levels:
    """How a file's samples become dB, and how wide and strong its speckle is.

    Attributes
    ----------
    linear : bool
        Samples are amplitudes.
    unit : float
        dB per unit of a display sample.
    peak : float
        Largest amplitude of the file: 0 dB.
    sigma : float
        Standard deviation of speckle, dB.
    psf : (float, float)
        Full widths at half maximum of the envelope's point spread function, samples, cut to ``PSF_LIMITS``.
    """

    linear: bool
    unit: float
    peak: float
    sigma: float
    psf: tuple[float, float]

    @classmethod
    def of(cls, plan: Plan, noise: Noise | None) -> Levels:
        """Read the field's facts; where there are none, speckle of the given level is fully developed."""
        known: Mapping[str, Any] = plan.extras
        level = float(np.mean(noise.sigma)) if noise is not None and noise.sigma is not None else 0.0
        low, high = PSF_LIMITS
        z, x = (min(max(float(w), low), high) for w in known.get("psf", PSF))
        linear = known.get("kind") == "envelope"
        unit = 1.0 if linear else float(known.get("db_per_unit") or (SPECKLE_DB / level if level > 0 else 1.0))
        return cls(linear, unit, float(known.get("peak") or 1.0), level * unit, (z, x))

    def decibels(self, values: Array) -> Array:
        """Return samples in dB, float32."""
        if not self.linear:
            return np.asarray(values * np.float32(self.unit), np.float32)
        floor = self.peak * 10 ** (FLOOR_DB / 20)
        return np.asarray(20 * np.log10(np.maximum(values, np.float32(floor)) / np.float32(self.peak)), np.float32)

    def samples(self, decibels: Array) -> Array:
        """Return dB as samples, float32."""
        if not self.linear:
            return np.asarray(decibels / np.float32(self.unit), np.float32)
        return np.asarray(np.float32(self.peak) * np.power(np.float32(10), decibels / np.float32(20)), np.float32)

    def amplitudes(self, values: Array) -> Array:
        """Return samples as amplitudes; of display images in arbitrary units."""
        if self.linear:
            return np.maximum(values, np.float32(self.peak * 10 ** (FLOOR_DB / 20)))
        return np.asarray(np.power(np.float32(10), self.decibels(values) / np.float32(20)), np.float32)

    def from_amplitudes(self, amplitudes: Array) -> Array:
        """Return amplitudes as samples."""
        if self.linear:
            return np.asarray(amplitudes, np.float32)
        return self.samples(20 * np.log10(amplitudes))

    @property
    def variation(self) -> float:
        """Standard deviation over mean of the envelope in speckle: .523 where it is fully developed."""
        return 0.5227 * self.sigma / SPECKLE_DB
