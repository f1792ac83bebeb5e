# SPDX-License-Identifier: Apache-2.0
"""From a file to a subject: open, name the axes, refuse, warn."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pellucid.core.errors import FormatError, Refused, UsageError
from pellucid.core.types import SERIES, Description, Reader, Region
from pellucid.domains.declare import Field, Subject
from pellucid.formats import find

if TYPE_CHECKING:
    from pathlib import Path

    from pellucid.core.types import Array
    from pellucid.domains.request import Request


KINDS = (  # that can be denoised
    *("magnitude", "complex", "waveform", "radiance", "reflectance", "intensity", "rgb"),
    *("bmode", "envelope", "rf", "iq", "channel", "mosaic", "linear"),
)


def open_subject(path: Path, field: Field, request: Request) -> Subject:
    """Open a file for a field and name its axes.

    Raises
    ------
    FormatError
        It cannot be read, or its axes do not fit the field.
    """
    reader = find.open_file(path, field.formats, **request.hints)
    return subject_of(reader, field, {**request.field_options, **request.hints})


def subject_of(reader: Reader, field: Field, options: Any = None) -> Subject:
    """Name a reader's axes as the field does; formats without names (.npy) get the field's."""
    description = named(reader.description, field, reader.path)
    if description.axes != reader.description.axes:
        reader = Renamed(reader, description)
    return Subject(reader, description, dict(options or {}), field.formats)


def named(description: Description, field: Field, path: object) -> Description:
    """Return the description with the field's axis names and, where nothing is said, its kind."""
    axes = description.axes
    if any(a.startswith("axis") for a in axes):
        axes = _names(len(axes), field)
        if not axes:
            low = min(len(s) for s in field.spatial)
            high = max(len(s) for s in field.spatial) + (field.series is not None)
            raise FormatError(path, "", f"has {len(description.shape)} axes; {field.name} takes {low} to {high}")
    spatial = tuple(a for a in axes if a not in SERIES)
    if axes[: len(spatial)] not in field.spatial or len(axes) - len(spatial) > 1:
        wanted = " or ".join(", ".join(s) for s in field.spatial)
        hint = f"{field.name} takes {wanted}" + (f" and then {field.series}" if field.series else "")
        raise FormatError(path, "axes", f"are {', '.join(axes)}", hint)
    if 0 in description.shape:
        raise FormatError(path, "axes", "one has no samples", "copy the file again")
    kind = field.kind if description.kind == "unknown" else description.kind
    return replace(description, axes=axes, kind=kind)


def _names(count: int, field: Field) -> tuple[str, ...]:
    for spatial in field.spatial:
        if count == len(spatial):
            return spatial
        if field.series and count == len(spatial) + 1 and spatial == field.spatial[0]:
            return (*spatial, field.series)
    return ()


@dataclass
class Renamed:
    """A reader whose axes go by the field's names; the samples are the same."""

    inner: Any
    description: Description

    @property
    def path(self) -> Path:
        """The file's path."""
        found: Path = self.inner.path
        return found

    def read(self, region: Region) -> Array:
        """Return stored samples."""
        values: Array = self.inner.read(region)
        return values

    def mask(self, region: Region) -> Array | None:
        """Return the file's own mask over the spatial axes, None where it has none."""
        own = getattr(self.inner, "mask", None)
        return None if own is None else own(region)

    def close(self) -> None:
        """Release the file."""
        self.inner.close()


def refuse(subject: Subject, field: Field, force_kind: str, *, estimating: bool = False) -> None:
    """Raise for a valid file that must not be denoised so.

    Raises
    ------
    Refused
        Soft refusals are overridden by ``--force-kind``.
    """
    if force_kind and force_kind not in KINDS:
        raise UsageError(f"--force-kind {force_kind} is no kind", subject.path, f"choose from {', '.join(KINDS)}")
    for check in field.refuse:
        refusal = check(subject)
        if refusal is not None and not (refusal.soft and force_kind) and not (refusal.estimable and estimating):
            hint = refusal.hint
            if refusal.soft and "--force-kind" not in hint:
                hint = (
                    f"{hint}; --force-kind {field.kind} if it is not"
                    if hint
                    else f"--force-kind {field.kind} if it is not"
                )
            raise Refused(refusal.what, subject.path, hint)


def warnings(subject: Subject, field: Field) -> tuple[tuple[str, str], ...]:
    """Return (code, text) of everything a user should know before trusting the result."""
    found = [check(subject) for check in field.warn]
    return (*subject.description.notes, *(w for w in found if w is not None))
