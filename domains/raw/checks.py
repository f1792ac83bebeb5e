# SPDX-License-Identifier: Apache-2.0
"""Which files are no camera raw, and what a user should know first."""

from __future__ import annotations

from pellucid.core.lazy import np
from pellucid.domains.declare import Refusal, Subject
from pellucid.domains.raw import noise, sensor

RAW = ("mosaic", "linear", "unknown")
QUIET = 0.35  # DN: sd of rounding alone is .29


def not_raw(subject: Subject) -> Refusal | None:
    """Refuse developed pictures: their noise went through demosaicking, curves and often a denoiser."""
    kind = subject.description.kind
    if kind in RAW:
        return None
    return Refusal(f"holds {kind} samples, not camera raw", "developed pictures go to 'pellucid image'")


def complex_samples(subject: Subject) -> Refusal | None:
    """Refuse complex samples."""
    if np.dtype(subject.description.dtype).kind != "c":
        return None
    return Refusal("holds complex samples", "no camera gives these", soft=False)


def empty(subject: Subject) -> Refusal | None:
    """Refuse a mosaic of one value: not decoded, or a cap on the lens of a simulator."""
    probe = subject.probe
    if probe.size and np.min(probe) == np.max(probe):
        return Refusal("holds one value everywhere: it was not decoded", "open it in another converter", soft=True)
    return None


def demosaicked(subject: Subject) -> tuple[str, str] | None:
    """Warn of linear raw: its noise is correlated."""
    said = any("demosaic" in text for _, text in subject.description.notes)
    if subject.description.series is None or said:
        return None
    return "already-demosaicked", "already demosaicked: its noise is correlated, expect a smaller gain"


def assumed_pattern(subject: Subject) -> tuple[str, str] | None:
    """Warn where nothing says which colours a mosaic has."""
    if subject.description.series is not None or not sensor.of(subject).assumed:
        return None
    return "assumed-pattern", "nothing says which colours it has: RGGB is assumed; --cfa and --black tell"


def black_levels(subject: Subject) -> tuple[str, str] | None:
    """Warn where the file's black level and its masked borders disagree."""
    facts = subject.description.acquisition
    masked = facts.get("optical_black")
    if not masked or str(subject.options.get("black") or "auto") not in {"auto", "file"}:
        return None
    told = sensor.of(subject).black
    means = {k: np.asarray(m["mean"], float) for k, m in masked.items() if np.shape(m.get("mean")) == told.shape}
    apart = {k: float(np.abs(m - told).max()) for k, m in means.items()}
    worst = max(apart, key=lambda k: apart[k], default="")
    if not worst or apart[worst] <= 1:
        return None
    return "black-level", f"its {worst} border is {apart[worst]:.1f} DN off the black level; --black sets it"


def already_clean(subject: Subject) -> tuple[str, str] | None:
    """Warn of files that hold much less noise than their profile or the calibration says."""
    if subject.description.series is not None:
        return None
    seen = sensor.of(subject)
    told = noise.profiled(subject, seen)
    if told is None or not noise.quieter(noise.measured(subject, seen)[0], told):
        return None
    return "already-denoised", "it holds much less noise than its profile says: it seems to have been denoised"
