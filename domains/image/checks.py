# SPDX-License-Identifier: Apache-2.0
"""Which pictures must not be denoised, and what a user should know first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pellucid.core.lazy import np
from pellucid.domains.declare import Refusal, Subject

if TYPE_CHECKING:
    from pellucid.core.types import Array

NOT_LIGHT = {
    "cmyk": "holds inks (CMYK), not light",
    "lab": "holds Lab colours, which no noise model here describes",
    "ycbcr": "holds luma and chroma apart, at different strengths of noise",
    "logluv": "holds logarithms of light",
    "mosaic": "is a camera's raw mosaic: neighbours have different colours",
    "phase": "holds angles",
    "vector": "holds vectors",
}
DISTINCT = 64  # values in a label image's centre; photographs of 8 bits hold more
SAME_NEIGHBOURS = 0.9  # share of neighbour pairs that agree inside labels; 8-bit photographs stay below .5
CLIPPED = 0.02  # share of samples at either end of the scale from which the noise there is lopsided
CENTRE = 512  # samples on each axis that tell whether noise is correlated
SMALLEST = 64  # samples; below, the noise level is uncertain by more than a tenth


def palette(subject: Subject) -> Refusal | None:
    """Refuse palettes and animations: written back, they would be another kind of file."""
    kind = subject.description.kind
    if kind == "palette":
        hint = "convert it to RGB first, or --force-kind rgb to get RGB back"
        return Refusal("holds indices into a palette, not colours", hint)
    if kind == "animation":
        return Refusal("is an animation; only its first picture would remain", "split it into pictures", soft=False)
    return None


def not_light(subject: Subject) -> Refusal | None:
    """Refuse samples that are no intensities."""
    what = NOT_LIGHT.get(subject.description.kind)
    mosaic = subject.description.kind == "mosaic"
    hint = "develop it first with a raw converter" if mosaic else "convert it to RGB first"
    return Refusal(what, hint) if what else None


def labels(subject: Subject) -> Refusal | None:
    """Refuse masks and label images: by what the file says and by what it holds."""
    d = subject.description
    said = d.kind in ("mask", "labels")
    seen = _looks_like_labels(subject.probe) if d.kind in ("intensity", "unknown") and "int" in d.dtype else ""
    if not (said or seen):
        return None
    what = f"looks like a label image ({seen or 'one bit a sample'})"
    return Refusal(what, "denoising would destroy it; --force-kind intensity if it is not")


def complex_samples(subject: Subject) -> Refusal | None:
    """Refuse complex samples."""
    if not subject.description.dtype.startswith("complex"):
        return None
    hint = "denoise its magnitude, or use the field it comes from"
    return Refusal("holds complex samples, not a picture", hint, soft=False)


def lossy(subject: Subject) -> tuple[str, str] | None:
    """Warn of noise that compression has reshaped."""
    if not subject.description.lossy:
        return None
    return "lossy-source", "it was compressed with loss, which has eaten part of its noise: expect a smaller gain"


def clipped(subject: Subject) -> tuple[str, str] | None:
    """Warn of black and white areas, where noise is cut on one side."""
    share = {end: float(np.mean(subject.probe == value)) for end, value in _ends(subject).items()}
    worst = max(share, key=lambda end: share[end], default="")
    if not worst or share[worst] < CLIPPED:
        return None
    return "clipped", f"{share[worst]:.0%} of the samples are {worst}: noise is cut there and its mean is shifted"


def correlated(subject: Subject) -> tuple[str, str] | None:
    """Warn where neighbouring samples share their noise."""
    from pellucid.domains.image.noise import level

    sigma, stride = level(subject, CENTRE)
    if stride == 1 or sigma == 0:
        return None
    return "correlated-noise", "neighbouring samples share their noise (demosaicking, scaling or JPEG): prefer nlm"


def small(subject: Subject) -> tuple[str, str] | None:
    """Warn of pictures too small to measure their noise."""
    if min(subject.description.shape[: subject.description.spatial]) >= SMALLEST:
        return None
    return "small", f"smaller than {SMALLEST} samples: the noise level is uncertain; --sigma gives it"


def _ends(subject: Subject) -> dict[str, float]:
    """Return the ends of the scale of integer samples, in physical units (float32 as they are read)."""
    d = subject.description
    if np.dtype(d.dtype).kind not in "iu" or np.ndim(d.slope) or np.ndim(d.inter):
        return {}
    info, slope, inter = np.iinfo(d.dtype), float(d.slope), float(d.inter)
    return {end: np.float32(v * slope + inter) for end, v in (("black", info.min), ("white", info.max))}


def _looks_like_labels(values: Array) -> str:
    """Say why an image looks like labels: few values in areas of one value each; else empty."""
    if values.ndim != 2 or min(values.shape) < 2:
        return ""
    distinct = len(np.unique(values))
    same = float((np.mean(values[1:] == values[:-1]) + np.mean(values[:, 1:] == values[:, :-1])) / 2)
    if distinct < 2 or distinct > DISTINCT or same < SAME_NEIGHBOURS:
        return ""
    return f"{distinct} distinct values, {same:.0%} of neighbours equal"
