# SPDX-License-Identifier: Apache-2.0
"""What is no echo, what has too few frames, and what a user should know before despeckling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pellucid.core.lazy import np
from pellucid.domains.declare import Refusal, Subject

FEWEST = 6  # frames: fewer leave nothing to tell noise or clutter from signal
GREY = "bmode"
LINEAR = ("envelope", "rf", "iq", "channel")
FOREIGN = {
    "rgb": "holds colours: Doppler, elastography or a screen, not echoes in grey",
    "spectral": "is a Doppler spectrum, not a picture of tissue",
    "mmode": "is an M-mode trace: one line over time",
    "elastogram": "is an elastogram, not echoes",
    "vector": "holds vectors",
    "labels": "holds labels",
    "mask": "is a mask",
    "phase": "holds angles",
}
LEAST_TISSUE = 0.005  # of a screen
DISTINCT = 16  # values of a label map; display images of 8 bits hold more
SAME_NEIGHBOURS = 0.9  # share of neighbours that agree inside labels


def kind_of(subject: Subject) -> str:
    """Return the kind; complex samples of files that say nothing are IQ."""
    d = subject.description
    return "iq" if d.dtype.startswith("complex") and d.kind not in ("channel", "iq") else d.kind


def frames(subject: Subject) -> int:
    """Return the number of frames."""
    d = subject.description
    return d.shape[-1] if d.series == "frame" else 1


def foreign(subject: Subject) -> Refusal | None:
    """Refuse colours, spectra, M-mode, elastograms, vectors, labels: by what the file says."""
    what = FOREIGN.get(subject.description.kind)
    return Refusal(what, "give a grey tissue image, envelope, RF or IQ") if what else None


def labels(subject: Subject) -> Refusal | None:
    """Refuse label maps: few values in areas of one value each."""
    d = subject.description
    if np.dtype(d.dtype).kind not in "iu" or d.kind not in (GREY, "unknown"):
        return None
    frame = subject.probe if subject.probe.ndim == 2 else subject.probe[..., 0]
    if min(frame.shape) < 2:
        return None
    distinct = len(np.unique(frame))
    same = float((np.mean(frame[1:] == frame[:-1]) + np.mean(frame[:, 1:] == frame[:, :-1])) / 2)
    if not 2 <= distinct <= DISTINCT or same < SAME_NEIGHBOURS:
        return None
    return Refusal(f"looks like a label map ({distinct} values)", "processing would destroy it")


def no_tissue(subject: Subject) -> Refusal | None:
    """Refuse screens whose regions are spectra, M-mode traces, curves or graphics, by what their header says."""
    found = subject.description.witnesses
    if not found.get("regions") or found.get("tissue_regions"):
        return None
    return Refusal(
        "shows no tissue: its regions are spectra, traces or graphics", "give a 2-D tissue image", soft=False
    )


def no_grey(subject: Subject) -> Refusal | None:
    """Refuse screens of which nearly nothing is grey tissue: colours and drawings never change."""
    mask = getattr(subject.reader, "mask", None)
    flags = mask(tuple(slice(0, n) for n in subject.description.shape[:2])) if mask else None
    if flags is None or float(flags.mean()) >= LEAST_TISSUE:
        return None
    what = f"holds hardly any grey tissue ({float(flags.mean()):.1%} of the picture)"
    return Refusal(what, "colours, text and drawings are never changed", soft=False)


def empty(subject: Subject) -> Refusal | None:
    """Refuse files of one value."""
    values = subject.probe
    if values.size and bool((values == values.flat[0]).all()):
        return Refusal("holds one value everywhere", "there is nothing to process", soft=False)
    return None


def single_frame(subject: Subject) -> Refusal | None:
    """Refuse few frames: only time tells electronic noise from speckle, which is signal."""
    count = frames(subject) // max(int(subject.description.acquisition.get("waves") or 1), 1)  # angles are no repeats
    if count >= FEWEST:
        return None
    what = "is a single frame" if count == 1 else f"has {count} frames, fewer than {FEWEST}"
    hint = "speckle is signal here; to smooth it use 'pellucid ultrasound despeckle'"
    if kind_of(subject) in ("rf", "iq", "channel"):
        hint = "make its picture with 'pellucid ultrasound bmode'"
    return Refusal(f"{what}: nothing tells noise from speckle", hint, soft=False, estimable=True)


def not_an_image(subject: Subject) -> Refusal | None:
    """Refuse RF, IQ and channel data where speckle is to be smoothed: it is not there before the envelope."""
    kind = kind_of(subject)
    if kind not in ("rf", "iq", "channel"):
        return None
    return Refusal(
        f"holds {kind.upper() if kind != 'channel' else 'channel'} samples, whose speckle is interference",
        "make its picture first: 'pellucid ultrasound bmode'",
        soft=False,
    )


def not_linear(subject: Subject) -> Refusal | None:
    """Refuse display images and envelopes where clutter is to be separated: they do not add up."""
    kind = kind_of(subject)
    if kind in ("rf", "iq"):
        return None
    hint = "beamform it first: 'pellucid ultrasound bmode'" if kind == "channel" else "give beamformed RF or IQ"
    return Refusal("is no beamformed RF or IQ: blood and tissue do not add up in it", hint)


def few_frames(subject: Subject) -> Refusal | None:
    """Refuse fewer than six pulses or frames where clutter is to be separated."""
    count = frames(subject)
    if count >= FEWEST:
        return None
    return Refusal(f"has {count} of the {FEWEST} frames clutter needs", "give the whole ensemble", soft=False)


def speckle_gone(subject: Subject) -> tuple[str, str] | None:
    """Warn, always, of what despeckled images are no longer good for."""
    return "speckle-gone", "speckle is removed: not for strain, QUS, elastography, speckle tracking or ULM"


def display_cine(subject: Subject) -> tuple[str, str] | None:
    """Warn of cines whose noise has gone through a display's grey map."""
    if kind_of(subject) != GREY or frames(subject) < FEWEST:
        return None
    return "display-cine", "grey levels are not echoes: only flicker can be reduced; RF or IQ gain far more"


def lossy(subject: Subject) -> tuple[str, str] | None:
    """Warn of images that were compressed with loss."""
    if not subject.description.lossy:
        return None
    return "lossy-source", "it was compressed with loss: its speckle is partly gone already"


def unknown_range(subject: Subject) -> tuple[str, str] | None:
    """Warn of display images whose dynamic range had to be assumed."""
    said = subject.description.acquisition.get("dynamic_range_db") or subject.options.get("dynamic_range")
    if kind_of(subject) != GREY or said:
        return None
    return "assumed-range", "its dynamic range is taken as 60 dB: --dynamic-range gives another"


def facts(subject: Subject) -> Mapping[str, Any]:
    """Return what methods may use: kind, dB per grey level, largest amplitude, point spread widths."""
    from pellucid.domains.ultrasound import noise

    kind = kind_of(subject)
    known: dict[str, Any] = {
        "kind": kind,
        **{k: v for k, v in subject.description.acquisition.items() if np.isscalar(v)},
    }
    if kind not in (GREY, "envelope"):
        return known
    return known | noise.scale(subject)
