# SPDX-License-Identifier: Apache-2.0
"""What a file is, in the words of its field: the document behind ``info`` and ``estimate``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from pellucid.core.errors import FormatError, Refused
from pellucid.domains import describe, names, registry
from pellucid.domains.declare import Field
from pellucid.domains.request import Request
from pellucid.formats import find
from pellucid.formats.identity import personal as names_people

PERSONAL = ("patient", "name", "subject", "birth", "date", "institution", "operator", "physician", "originator")


def field_of(path: Path, request: Request) -> Field:
    """Return the field a file belongs to.

    Raises
    ------
    FormatError
        No field reads it.
    Refused
        Several do, and nothing in the file tells which.
    """
    reader = find.open_file(path, (), **request.hints)
    description = reader.description
    reader.close()
    fits = []
    for name in registry.fields():
        declared = registry.field(name)
        try:
            describe.named(description, declared, path)
        except FormatError:
            continue
        if description.format in declared.formats:
            fits.append(declared)
    if not fits:
        raise FormatError(path, "axes", f"are {', '.join(description.axes)}: no field works on these")
    fits = [f for f in fits if description.kind in f.kinds] or fits
    anonymous = any(a.startswith("axis") for a in description.axes)
    if len(fits) > 1 and anonymous:
        options = ", ".join(f.name for f in fits)
        raise Refused(f"may belong to {options}", path, "name the field: pellucid FIELD info FILE")
    return fits[0]


def info(path: Path, declared: Field | None, request: Request, *, identity: bool = False) -> dict[str, Any]:
    """Return type, axes, units, spacing, what the field looks for first, refusals and warnings."""
    declared = declared or field_of(path, request)
    subject = describe.open_subject(path, declared, request)
    try:
        d = subject.description
        refused = None
        try:
            describe.refuse(subject, declared, "")
        except Refused as refusal:
            refused = {"what": refusal.what, "hint": refusal.hint}
        found = [] if refused else [{"code": c, "text": t} for c, t in describe.warnings(subject, declared)]
        spacing, units = (*d.spacing, *[None] * 9), (*d.units, *[None] * 9)
        document = {
            "schema": "pellucid/info/1",
            "file": path.name if identity or not request.private else "",
            "bytes": path.stat().st_size,
            "field": declared.name,
            "format": find.module_of(d.format).FORMAT.title,
            "kind": d.kind,
            "dtype": d.dtype,
            "axes": [
                {"name": a, "size": n, "spacing": s, "unit": u}
                for a, n, s, u in zip(d.axes, d.shape, spacing, units, strict=False)
            ],
            "slope": d.slope,
            "inter": d.inter,
            "nodata": d.nodata,
            "bad": list(d.bad),
            "lossy": d.lossy,
            "acquisition": {k: v for k, v in d.acquisition.items() if identity or not _personal(k)},
            "denoise": {"refused": refused, **_default(subject, declared, refused)},
            "warnings": found,
        }
        if identity:
            document["identity"] = getattr(find.module_of(d.format), "people", lambda _: {})(path)
    finally:
        subject.reader.close()
    made: dict[str, Any] = names.native(document)
    return made


def _default(subject: Any, declared: Field, refused: Any) -> dict[str, Any]:
    if refused:
        return {"method": None}
    choice = next((c for c in declared.choose if c.when(subject)), None)
    return {"method": choice.method if choice else None, "why": choice.why if choice else None}


def _personal(key: str) -> bool:
    return any(word in key.lower() for word in PERSONAL) or names_people(key)


def estimate(path: Path, declared: Field, request: Request) -> dict[str, Any]:
    """Return the noise level of a file by the field's estimator.

    Raises
    ------
    Refused
        The file is no measurement of this kind.
    """
    subject = describe.open_subject(path, declared, request)
    try:
        describe.refuse(subject, declared, request.force_kind, estimating=True)
        if request.force_kind:
            subject = replace(subject, description=replace(subject.description, kind=request.force_kind))
        if declared.estimate is None:
            raise Refused(f"{declared.name} has no estimator of its own", path, "use denoise --noise-out")
        noise = declared.estimate(subject, request.estimator)
    finally:
        subject.reader.close()
    made: dict[str, Any] = names.native(
        {
            "schema": "pellucid/estimate/1",
            "file": "" if request.private else path.name,
            "law": noise.law,
            "sigma": noise.sigma,
            "estimator": noise.estimator,
            "unit": "input units, per Gaussian channel",
            **dict(noise.params),
        }
    )
    return made
