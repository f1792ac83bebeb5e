# SPDX-License-Identifier: Apache-2.0
"""Numbers about what a run changed, accumulated piece by piece for the sidecar."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pellucid.core.lazy import np

if TYPE_CHECKING:
    from pellucid.core.types import Array

CHUNK = 2_000_000  # samples looked at together: 16 MB of float64


@dataclass
class Measured:
    """Running sums of the residual (input - output, physical units) and counters."""

    samples: int = 0
    changed: int = 0
    clipped: int = 0
    total: float = 0.0
    square: float = 0.0
    lagged: float = 0.0
    lagged_square: float = 0.0
    invalid: int = 0
    facts: dict[str, float] = field(default_factory=dict)
    medians: dict[str, list[float]] = field(default_factory=dict)

    def add(self, before: Array, after: Array) -> None:
        """Add one piece; both arrays in physical units, same shape."""
        lines = max(1, CHUNK // max(before[:1].size, 1))
        for start in range(0, len(before), lines):  # one line more, so that neighbours across the cut count
            self._add(before[start : start + lines + 1], after[start : start + lines + 1], lines)

    def _add(self, before: Array, after: Array, lines: int) -> None:
        with np.errstate(invalid="ignore"):  # infinite samples are copied: inf - inf
            residual = (np.abs(before - after) if np.iscomplexobj(before) else before - after).astype(np.float64)
        residual[~np.isfinite(residual)] = 0
        own = residual[:lines]
        self.samples += own.size
        self.changed += int(np.count_nonzero(own))
        self.total += float(own.sum())
        self.square += float(np.vdot(own, own))
        a, b = residual[:-1], residual[1:]
        self.lagged += float(np.vdot(a, b))
        self.lagged_square += float(np.vdot(a, a) + np.vdot(b, b)) / 2

    def count(self, facts: dict[str, float]) -> None:
        """Add a method's counters."""
        for name, value in facts.items():
            self.facts[name] = self.facts.get(name, 0) + float(value)

    def note(self, name: str, values: Array) -> None:
        """Remember the median of a map's positive values in one piece."""
        positive = values[values > 0]
        if positive.size:
            self.medians.setdefault(name, []).append(float(np.median(positive)))

    def summary(self) -> dict[str, object]:
        """Return what the sidecar stores."""
        n = max(self.samples, 1)
        mean = self.total / n
        return {
            "residual": {
                "mean": mean,
                "sd": max(self.square / n - mean * mean, 0.0) ** 0.5,
                "neighbour_correlation": self.lagged / self.lagged_square if self.lagged_square else 0.0,
            },
            "samples": self.samples,
            "changed": self.changed / n,
            "clipped": self.clipped,
            "invalid": self.invalid,
            **(
                {"maps": {k: {"median": float(np.median(v))} for k, v in sorted(self.medians.items())}}
                if self.medians
                else {}
            ),
            **({"method": dict(sorted(self.facts.items()))} if self.facts else {}),
        }
