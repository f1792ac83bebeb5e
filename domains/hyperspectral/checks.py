# SPDX-License-Identifier: Apache-2.0
"""What is no hyperspectral scene, and what a user should know first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pellucid.core.estimate.regression import PIXELS_PER_BAND
from pellucid.core.lazy import np
from pellucid.domains.declare import Refusal, Subject
from pellucid.domains.hyperspectral import metrics

if TYPE_CHECKING:
    from pellucid.core.types import Array

CORRELATED = 0.1  # lag-1 correlation of the noise that white noise of 10,000 samples never shows
DISTINCT_LABELS = 300  # values in one integer band: maps of classes have fewer
SAME_NEIGHBOURS = 0.6  # share of equal neighbours: class maps reach .8 and more, scenes stay below .3
MAP_LEVELS = ("l2a", "l2c", "l2d", "l1c")  # product levels that were resampled to a map
MAP_WORDS = ("orthorectified", "ortho-rectified", "georectified", "resampled", "geocoded")


def complex_samples(subject: Subject) -> Refusal | None:
    """Refuse complex samples: radar or an interferogram."""
    if not subject.description.dtype.startswith("complex"):
        return None
    return Refusal("holds complex samples, not radiance or reflectance", "is this a radar scene?", soft=False)


def library(subject: Subject) -> Refusal | None:
    """Refuse spectral libraries: their lines are spectra of unrelated things."""
    said = str(subject.description.witnesses.get("file_type", ""))
    if subject.description.kind != "library" and "spectral library" not in said.lower():
        return None
    hint = "use it as --protect of a scene's denoise"
    return Refusal("is a spectral library, not a scene: its neighbours are unrelated", hint, soft=False)


def labels(subject: Subject) -> Refusal | None:
    """Refuse class maps: by file type or colour table, or by content."""
    d = subject.description
    said = ["its header says so"] if d.kind in ("labels", "mask") else []
    seen = _looks_like_classes(subject)
    if not (said or seen):
        return None
    hint = "denoising would destroy it; --force-kind reflectance if it is not"
    return Refusal(f"looks like a class map ({', '.join([*said, *seen])})", hint)


def colours(subject: Subject) -> Refusal | None:
    """Refuse pictures of three or four bands."""
    d = subject.description
    if d.kind != "rgb" and not (d.series and d.shape[-1] in (3, 4) and d.dtype == "uint8"):
        return None
    return Refusal(f"is a colour picture of {d.shape[-1]} bands", "use `pellucid image denoise`")


def single_band(subject: Subject) -> Refusal | None:
    """Refuse a single band: there is no spectrum to compare."""
    d = subject.description
    if d.series == "band" and d.shape[-1] - len(d.bad) > 1:
        return None
    return Refusal("has a single usable band", "use `pellucid image denoise`", soft=False)


def empty(subject: Subject) -> Refusal | None:
    """Refuse a scene without a single valid pixel, where the probe sees all of it."""
    d = subject.description
    if d.series != "band" or len(d.bad) == d.shape[-1] or subject.probe.shape != d.shape or _valid(subject).any():
        return None
    return Refusal("holds no valid pixel: there is nothing to denoise", "check nodata and mask", soft=False)


def unflagged(subject: Subject) -> Refusal | None:
    """Refuse to choose quality layers of a file that has none."""
    asked = any(subject.options.get(k) for k in ("quality", "quality_file"))
    if not asked or "quality" in subject.description.witnesses:
        return None
    hint = "make a map that is above 0 where pixels count, and give it to --mask"
    return Refusal("brings no quality layers that --quality could choose", hint, soft=False)


def slanted(subject: Subject) -> Refusal | None:
    """Refuse to destripe what its metadata call a map: stripes no longer run along columns."""
    named = _map_words(subject)
    if not named:
        return None
    hint = "destripe the product in sensor geometry; --force-kind radiance if its columns are the detector's"
    return Refusal(f"lies on a map grid (it is named {named[0]}): its stripes are slanted", hint)


def resampled(subject: Subject) -> tuple[str, str] | None:
    """Warn of noise shared between neighbours: the scene was resampled to a map grid."""
    d = subject.description
    named = _map_words(subject)
    found = metrics.noise_correlation(_spectra(subject), _valid(subject)) if d.series == "band" else 0.0
    if not named and found <= CORRELATED:
        return None
    why = f"lag-1 correlation {found:.2f}" if found > CORRELATED else f"it is named {named[0]}"
    text = f"its noise is shared between neighbouring pixels ({why}): it was resampled"
    return "resampled", text + "; denoise the product in sensor geometry, or use --spatial none"


def perhaps_slanted(subject: Subject) -> tuple[str, str] | None:
    """Warn where samples tell of resampling that no word of the metadata names: stripes may be slanted."""
    d = subject.description
    found = metrics.noise_correlation(_spectra(subject), _valid(subject)) if d.series == "band" else 0.0
    if found <= CORRELATED:
        return None
    text = f"its noise is shared between neighbouring pixels (lag-1 correlation {found:.2f}): it was resampled"
    return "resampled", text + "; stripes may be slanted, destripe the product in sensor geometry"


def disordered(subject: Subject) -> tuple[str, str] | None:
    """Note wavelengths that do not ascend or descend: detectors overlap; the order is kept."""
    wavelengths = subject.description.acquisition.get("wavelengths_nm")
    if wavelengths is None or len(wavelengths) < 3:
        return None
    centres = np.asarray(wavelengths, dtype=np.float64)
    steps = np.diff(centres[centres > 0])  # 0 stands for a band that was not delivered
    if (steps >= 0).all() or (steps <= 0).all():
        return None
    turns = int(min((steps < 0).sum(), (steps > 0).sum()))
    return "wavelength-order", f"wavelengths turn back {turns} time(s), as where detectors overlap; the order is kept"


def bad_bands(subject: Subject) -> tuple[str, str] | None:
    """Say which bands are left untouched."""
    bad = subject.description.bad
    if not bad:
        return None
    listed = ", ".join(str(i + 1) for i in bad[:8]) + (" ..." if len(bad) > 8 else "")
    return "bad-bands", f"{len(bad)} bands hold no usable data and are copied as they are (from 1: {listed})"


def few_pixels(subject: Subject) -> tuple[str, str] | None:
    """Warn of fewer pixels than the noise regression needs."""
    d = subject.description
    pixels = int(np.prod(d.shape[: d.spatial]))
    if d.series != "band" or pixels >= PIXELS_PER_BAND * d.shape[-1]:
        return None
    return "few-pixels", f"{pixels} pixels for {d.shape[-1]} bands: the noise is known roughly; give --sigma if you can"


def _map_words(subject: Subject) -> list[str]:
    """Return the words by which a product says it was resampled to a map; none where its format says it was not."""
    d = subject.description
    if d.witnesses.get("geometry") == "sensor":  # EMIT's level 2A is not on a map
        return []
    words = " ".join(str(v) for v in (*d.witnesses.values(), d.acquisition.get("product_level", ""), subject.path.name))
    return [w for w in (*MAP_LEVELS, *MAP_WORDS) if w in words.lower()]


def _looks_like_classes(subject: Subject) -> list[str]:
    d = subject.description
    if not d.dtype.startswith(("int", "uint")) or (d.series == "band" and d.shape[-1] > 2):
        return []
    values = subject.probe if subject.probe.ndim == 2 else subject.probe[..., 0]
    distinct = len(np.unique(values))
    same = float((values[:, 1:] == values[:, :-1]).mean()) if values.shape[1] > 1 else 0.0
    found = distinct < DISTINCT_LABELS and same > SAME_NEIGHBOURS
    return [f"{distinct} distinct integers in patches"] if found else []


def _spectra(subject: Subject) -> Array:
    bad = set(subject.description.bad)
    return subject.probe[..., [i for i in range(subject.probe.shape[-1]) if i not in bad]]


def _valid(subject: Subject) -> Array:
    return metrics.valid(_spectra(subject), subject.description)
