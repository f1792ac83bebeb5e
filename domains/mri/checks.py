# SPDX-License-Identifier: Apache-2.0
"""What must not be denoised, and what a user should know first. Each decision names its witnesses."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from pellucid.core.lazy import fft, np
from pellucid.domains.declare import Refusal, Subject

if TYPE_CHECKING:
    from pellucid.core.types import Array

STATISTICS = range(2, 25)  # nifti1.h: correlation, t, F ... p value
CIFTI = range(3000, 3100)  # connectivity matrices in NIfTI-2
LABEL_INTENT = 1002  # nifti1.h NIFTI_INTENT_LABEL
LABEL_NAMES = {"mask", "brainmask", "dseg", "probseg", "parc", "aparc", "aseg", "seg", "label", "labels"}
PHASE_NAMES = {"phase", "phase1", "phase2", "phasediff"}
FIELD_NAMES = {"fieldmap", "fieldmaphz", "b0map"}
DISTINCT_LABELS = 300  # no atlas in use has more in one file's centre
SAME_NEIGHBOURS = 0.9  # of neighbour pairs inside labels; templates reach .95, noisy uint8 images .13
PHASE_RANGES = ((-4096, 4095), (0, 4095), (-math.pi, math.pi), (0, 2 * math.pi), (-180, 180), (-3142, 3142))
PHASE_FLOOR = 0.15  # of the mean bin: phase fills its range (.31), magnitudes leave the top empty (< .05)
PHASE_BINS = 16
SIGNED = 0.1  # share of negative samples; resampled magnitudes stay below .001
STEP = 0.36  # decades between neighbouring bands of k-space: raw data <= .33, zero filling .33 to .6
STEEPER = 0.5  # of the step's height: how much the spectrum may fall beside it
STEP_FROM, STEP_TO = 0.4, 0.95  # of the Nyquist frequency: where a step is looked for
PADDED = 1.05  # ReconMatrixPE / AcquisitionMatrixPE; the Philips 112 of 110 is harmless
SMOOTH = 0.35  # lag-1 correlation on every axis; parallel imaging alone reaches it in plane, not in depth
LOW_SNR = 3.0  # below this the mean of a Rician magnitude exceeds the signal by > 5 %
STEPS_AFTER = ("degibbs", "unring", "eddy", "topup", "preproc", "denois", "smooth", "normaliz", "warp")
SAMPLE = 500_000


def is_complex(subject: Subject) -> bool:
    """Hold for complex samples."""
    return subject.description.dtype.startswith("complex")


def colours(subject: Subject) -> Refusal | None:
    """Refuse RGB and RGBA."""
    if subject.description.kind != "rgb" and _fact(subject, "datatype") not in (128, 2304):
        return None
    return Refusal("holds colours (RGB), not a measurement", "denoise the image it was made from", soft=False)


def vectors(subject: Subject) -> Refusal | None:
    """Refuse vectors, tensors and warps."""
    if subject.description.kind != "vector":
        return None
    intent, dim = _fact(subject, "intent"), _fact(subject, "dim")
    what = f"holds vectors or tensors, not a measured image (intent {intent}, dim {dim})"
    return Refusal(what, "denoise the series it was computed from", soft=False)


def statistics(subject: Subject) -> Refusal | None:
    """Refuse statistical maps and connectivity matrices."""
    intent = _fact(subject, "intent")
    if intent not in STATISTICS and intent not in CIFTI:
        return None
    return Refusal(f"holds statistics (intent {intent}), not a measured image", "denoise the series first", soft=False)


def axes(subject: Subject) -> Refusal | None:
    """Refuse five axes and more: what the extra axis means (echoes, coils) decides how to denoise."""
    dim = tuple(_fact(subject, "dim") or ())
    if sum(n > 1 for n in dim[3:]) < 2:
        return None
    hint = "split it into one file for each echo, coil or part"
    return Refusal(f"has {len(dim)} axes {dim}; a series has four", hint, soft=False)


def few_complex(subject: Subject) -> Refusal | None:
    """Refuse complex samples that are no series: what denoises single volumes here knows magnitudes only."""
    if not is_complex(subject) or subject.description.series is not None:
        return None
    hint = "denoise its magnitude, or the whole series it belongs to"
    return Refusal("holds one volume of complex samples, which no method here denoises", hint)


def labels(subject: Subject) -> Refusal | None:
    """Refuse label maps and masks: by intent, by BIDS suffix, by content."""
    said = [f"intent {LABEL_INTENT}"] if subject.description.kind in ("labels", "mask") else []
    named = _names(subject) & LABEL_NAMES
    suffix = _entities(subject).get("suffix", "")
    seen = _looks_like_labels(subject)
    if not (said or seen or suffix in LABEL_NAMES):
        return None
    witnesses = [*said, *([f"its name says '{min(named)}'"] if named else []), *([seen] if seen else [])]
    kind = "mask" if seen.startswith("two") else "label map"
    hint = "denoising would destroy it; --force-kind magnitude if it is not"
    return Refusal(f"looks like a {kind} ({', '.join(witnesses)})", hint)


def phase(subject: Subject) -> Refusal | None:
    """Refuse phase images: by ImageType, by BIDS name, by a range that is filled evenly to both ends."""
    d = subject.description
    types = {t.upper() for t in _fact(subject, "ImageType") or ()}
    witnesses = [f"ImageType {t}" for t in sorted(types & {"P", "PHASE", "PHASE MAP"})]
    parts = _entities(subject)
    if parts.get("part") == "phase" or parts.get("suffix") in PHASE_NAMES or d.kind == "phase":
        witnesses.append("its name or header says phase")
    seen = "" if is_complex(subject) else _fills_a_turn(_sample(subject))
    if not witnesses and not seen:
        return None
    hint = "denoise the magnitude; phase wraps, so its mean over neighbours means nothing"
    return Refusal(f"looks like a phase image ({', '.join([*witnesses, *([seen] if seen else [])])})", hint)


def signed(subject: Subject) -> Refusal | None:
    """Refuse field maps and other signed images: a magnitude has no negative lobe."""
    types = {t.upper() for t in _fact(subject, "ImageType") or ()}
    units = str((_fact(subject, "sidecar") or {}).get("Units", ""))
    witnesses = [f"ImageType {t}" for t in sorted(types) if "FIELD" in t or t in ("B0", "B0 MAP")]
    witnesses += [f"unit {units}"] if units in ("Hz", "rad/s", "T") else []
    named = _names(subject) & FIELD_NAMES
    witnesses += [f"its name says '{min(named)}'"] if named else []
    if not is_complex(subject):
        values = _sample(subject)
        share = float((values < 0).sum()) / max(int((values != 0).sum()), 1)
        witnesses += [f"{100 * share:.0f} % of its samples are negative"] if share > SIGNED else []
    if not witnesses:
        return None
    hint = "denoise the magnitude images it was computed from"
    return Refusal(f"looks like a field map, not a magnitude ({', '.join(witnesses)})", hint)


def negative(subject: Subject) -> tuple[str, str] | None:
    """Warn of negative samples in a magnitude: it was interpolated."""
    if is_complex(subject):
        return None
    values = subject.probe
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    if not low < 0:
        return None
    text = f"a magnitude with negative values (lowest {low:g}, highest {high:g}) was interpolated or processed"
    return "resampled", text + ": it is not raw, its noise is shared between voxels; denoise before any correction"


def resampled(subject: Subject) -> tuple[str, str] | None:
    """Warn of noise that neighbours share on all three axes: smoothed or resampled in space."""
    found = _neighbour_correlation(subject)
    if not found or min(found) < SMOOTH:
        return None
    numbers = ", ".join(f"{v:.2f}" for v in found)
    text = f"noise is shared between neighbours on every axis (correlation {numbers}): the series was smoothed"
    return "correlated-noise", text + " or resampled; denoise the raw series"


def zero_filled(subject: Subject) -> tuple[str, str] | None:
    """Warn of k-space that was padded with zeros: by its spectrum, or by the matrix sizes of the sidecar."""
    sidecar = _fact(subject, "sidecar") or {}
    acquired, shown = sidecar.get("AcquisitionMatrixPE"), sidecar.get("ReconMatrixPE")
    numbers = all(isinstance(n, int | float) and n > 0 for n in (acquired, shown))
    padded = numbers and float(shown or 0) > PADDED * float(acquired or 0)
    witnesses = [f"{shown} lines from {acquired} measured"] if padded else []
    if not is_complex(subject) or subject.probe.ndim > 2:
        for axis, where in _empty_edges(subject.probe, subject.description.spatial).items():
            name = subject.description.axes[axis]
            witnesses.append(f"along {name} the spectrum falls off a step at {100 * where:.0f} % of its width")
    if not witnesses:
        return None
    text = f"k-space looks zero-filled ({'; '.join(witnesses)}): neighbouring voxels share their noise"
    return "zero-filled", text + ", and less of it can be told from signal"


def processed(subject: Subject) -> tuple[str, str] | None:
    """Warn when sidecar, name or header tell of processing that should come after denoising."""
    sidecar = _fact(subject, "sidecar") or {}
    history = sidecar.get("GeneratedBy")
    told = [str(h.get("Name", "")) for h in history if isinstance(h, dict)] if isinstance(history, list) else []
    told += [_entities(subject).get("desc", ""), str(_fact(subject, "descrip") or ""), subject.path.name]
    found = [f"'{t}'" for t in told if any(word in t.lower() for word in STEPS_AFTER)]
    learned = [k for k in ("DeepLearning", "ImageFilter") if sidecar.get(k)]
    if not found and not learned:
        return None
    source = ", ".join(dict.fromkeys([*found, *learned]))
    return "processed", f"was processed before ({source}): denoising comes first, on raw data"


def noise_floor(subject: Subject) -> tuple[str, str] | None:
    """Warn where a volume of a series is so weak that noise lifts its mean."""
    if is_complex(subject) or subject.description.series is None:
        return None
    from pellucid.domains.mri import noise

    ratio = noise.weakest_ratio(subject)
    if ratio is None or ratio >= LOW_SNR:
        return None
    text = f"the weakest volume has a signal-to-noise ratio of {ratio:.1f}: the noise floor of magnitudes stays in"
    return "noise-floor", text + " the result unless --rician koay removes it (mppca)"


def doubtful_noise(subject: Subject) -> tuple[str, str] | None:
    """Warn where air and tissue of a single volume tell different noise levels."""
    if is_complex(subject) or subject.probe.ndim > subject.description.spatial:
        return None
    from pellucid.domains.mri import noise

    report = noise.reports(subject)[0][1]
    if not report["doubtful"]:
        return None
    text = f"the noise level is {report['air']:.3g} by the air and {report['tissue']:.3g} by the tissue"
    return "doubtful-noise", text + ": it varies in space, or the image was filtered; check --sigma"


def _fact(subject: Subject, key: str) -> Any:
    return subject.description.witnesses.get(key)


def _entities(subject: Subject) -> dict[str, str]:
    from pellucid.formats import bids

    return bids.entities(subject.path.name)


def _names(subject: Subject) -> set[str]:
    """Return the words of the file's name."""
    return set(re.split(r"[^a-z0-9]+", subject.path.name.lower()))


def _sample(subject: Subject) -> Array:
    """Return finite probe samples, thinned evenly to about ``SAMPLE``."""
    flat = subject.probe.ravel(order="K")
    flat = flat[:: max(1, flat.size // SAMPLE)]
    return flat[np.isfinite(flat)]


def _volumes(subject: Subject) -> list[Array]:
    """Return first and last volume of the probe."""
    probe = subject.probe
    return [probe] if probe.ndim <= subject.description.spatial else [probe[..., 0], probe[..., -1]]


def _looks_like_labels(subject: Subject) -> str:
    """Return why the content is a map of labels, or nothing."""
    if is_complex(subject):
        return ""
    seen = [_labels_in(volume, subject) for volume in _volumes(subject)]
    return seen[0] if all(seen) else ""


def _labels_in(volume: Array, subject: Subject) -> str:
    slope, inter = (float(np.ravel(v)[0]) for v in (subject.description.slope, subject.description.inter))
    thin = volume.ravel(order="K")[:: max(1, volume.size // SAMPLE)]
    kinds = np.unique(thin)
    if len(kinds) == 1 and float(volume.max()) == float(volume.min()):
        return ""  # constant: empty, not a mask
    if len(kinds) <= 2 and len(np.unique(volume)) == 2:
        return "two distinct values"
    counts = (kinds.astype(np.float64) - inter) / slope
    if len(kinds) > DISTINCT_LABELS or not np.allclose(counts, np.rint(counts), rtol=0, atol=1e-3):
        return ""
    share = _same_neighbours(volume)
    if share <= SAME_NEIGHBOURS:
        return ""
    return f"{len(kinds)} distinct integers, {100 * share:.0f} % of neighbours equal"


def _same_neighbours(volume: Array) -> float:
    """Return the share of equal pairs among neighbours that are both nonzero."""
    same = pairs = 0
    for axis in range(volume.ndim):
        one, two = np.moveaxis(volume, axis, 0)[:-1], np.moveaxis(volume, axis, 0)[1:]
        inside = (one != 0) & (two != 0)
        pairs += int(np.count_nonzero(inside))
        same += int(np.count_nonzero((one == two) & inside))
    return same / max(pairs, 1)


def _fills_a_turn(values: Array) -> str:
    """Return why the values are angles: one full turn, evenly used up to both ends, which wrap into each other."""
    values = values[values != 0]  # masked background
    if values.size < 1000:
        return ""
    low, high = float(values.min()), float(values.max())
    for start, stop in PHASE_RANGES:
        slack = 0.01 * (stop - start)
        if abs(low - start) > slack or abs(high - stop) > slack:
            continue
        bins = np.histogram(values, PHASE_BINS, (low, high))[0] * PHASE_BINS / values.size
        if bins.min() > PHASE_FLOOR and abs(bins[0] - bins[-1]) < 0.5 * (bins[0] + bins[-1]):
            return f"values fill {low:g} to {high:g} evenly"
    return ""


def _neighbour_correlation(subject: Subject) -> list[float]:
    """Return the lag-1 correlation of a series' weaker half of principal components, per spatial axis."""
    probe = subject.probe
    if probe.ndim != 4 or probe.shape[3] < 8 or min(probe.shape[:3]) < 4 or is_complex(subject):
        return []
    mean = probe.mean(axis=3)
    inside = np.isfinite(mean) & (probe != 0).all(axis=3) & (mean > 0.1 * np.nanpercentile(mean, 99))
    if inside.sum() < 4 * probe.shape[3]:
        return []
    series = probe[inside].astype(np.float64)
    series -= series.mean(axis=0)
    _, vectors = np.linalg.eigh(series.T @ series)  # ascending: the first half holds the noise
    weak = vectors[:, : probe.shape[3] // 2]
    scores = np.zeros((*mean.shape, weak.shape[1]))
    scores[inside] = series @ weak
    return [_lag_one(scores, inside, axis) for axis in range(3)]


def _lag_one(values: Array, inside: Array, axis: int) -> float:
    one, two = np.moveaxis(values, axis, 0)[:-1], np.moveaxis(values, axis, 0)[1:]
    both = np.moveaxis(inside, axis, 0)[:-1] & np.moveaxis(inside, axis, 0)[1:]
    a, b = one[both], two[both]
    scale = math.sqrt(float((a * a).sum()) * float((b * b).sum()))
    return float((a * b).sum()) / scale if scale > 0 else 0.0


def _empty_edges(probe: Array, spatial: int) -> dict[int, float]:
    """Return, per in-plane axis with a step in its spectrum, where the step is (share of Nyquist)."""
    volume = probe[..., -1] if probe.ndim > spatial else probe
    if min(volume.shape[:2]) < 24:
        return {}
    middle = [z for z in range(volume.shape[2]) if np.any(volume[:, :, z])][:64]
    power = np.abs(fft.fft2(np.nan_to_num(volume[:, :, middle]), axes=(0, 1))) ** 2
    found = {}
    for axis in (0, 1) if middle else ():
        profile = np.median(np.moveaxis(power, axis, 0).reshape(power.shape[axis], -1), axis=1)
        half = len(profile) // 2
        where = _step([math.log10(p + 1e-30 * float(profile[0])) if p > 0 else -30 for p in profile[:half]])
        if where is not None:
            found[axis] = where / half
    return found


def _step(decades: list[float]) -> int | None:
    """Return the index at which a falling profile drops by more than ``STEP`` within a few samples.

    A step is twice as high as what the profile falls just before and behind it; spectra of anatomy fall all along.
    """
    half = len(decades)
    width = max(2, half // 16)
    levels = {i: float(np.median(decades[max(0, i) : max(0, i) + width])) for i in range(-width, half)}
    places = range(int(STEP_FROM * half), min(int(STEP_TO * half), half - width))
    drops = {i: levels[i - width] - levels[i + 1] for i in places}
    best = max(drops, key=lambda i: drops[i], default=None)
    if best is None or drops[best] <= STEP:
        return None
    before = levels[best - 2 * width] - levels[best - width]
    behind = levels[best + 1] - levels[min(best + 1 + width, half - 1)]
    return best if max(before, behind) < STEEPER * drops[best] else None
