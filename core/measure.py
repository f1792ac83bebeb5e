# SPDX-License-Identifier: Apache-2.0
"""Numbers about what a run changed, accumulated piece by piece for the sidecar."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pellucid.core.lazy import np

if TYPE_CHECKING:
    from pellucid.core.types import Array


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
        residual = np.abs(before - after) if np.iscomplexobj(before) else before - after
        residual = np.where(np.isfinite(residual), residual, 0)
        self.samples += residual.size
        self.changed += int(np.count_nonzero(residual))
        self.total += float(residual.sum(dtype=np.float64))
        self.square += float(np.vdot(residual, residual.astype(np.float64)))
        if residual.shape[0] > 1:
            a, b = residual[:-1], residual[1:]
            self.lagged += float(np.vdot(a, b.astype(np.float64)))
            self.lagged_square += float((np.vdot(a, a.astype(np.float64)) + np.vdot(b, b.astype(np.float64))) / 2)

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
