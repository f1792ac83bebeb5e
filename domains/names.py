# SPDX-License-Identifier: Apache-2.0
"""What outputs are called, and options written as text."""

from __future__ import annotations

import typing
from pathlib import Path
from typing import Any

from pellucid.core.commit import same_file
from pellucid.core.errors import UsageError
from pellucid.core.lazy import np
from pellucid.core.types import Description, Region
from pellucid.domains.declare import Field
from pellucid.domains.request import Request
from pellucid.formats import find

DOUBLE = (".nii.gz", ".dat.hdr", ".raw.hdr")


def split(name: str) -> tuple[str, str]:
    """Return stem and suffix; ``.nii.gz`` counts as one suffix."""
    for suffix in DOUBLE:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)], name[-len(suffix) :]
    dot = name.rfind(".")
    return (name[:dot], name[dot:]) if dot > 0 else (name, "")


def output_path(source: Path, format_name: str, field: Field, request: Request) -> Path:
    """Return where a result goes: ``-o`` (a folder or a file), or beside the input under a telling name."""
    traits = find.module_of(format_name).FORMAT
    named = field.output_name is not None and not source.is_dir()
    default = field.output_name(source, field.word) if named and field.output_name else _beside(source, field.word)
    foreign = "splice" not in traits.writes and not default.name.lower().endswith(traits.suffixes)
    if traits.fallback and (not traits.writes or foreign):
        default = default.with_name(split(default.name)[0] + traits.fallback)
    if request.out is None:
        return default
    if request.out_folder or (request.out.is_dir() and not _subject(source, request.out)):
        return request.out / default.name
    return request.out


def _subject(source: Path, out: Path) -> bool:
    """Tell whether an existing folder is itself the output (or input) that is meant, not where to put it."""
    return source.is_dir() and (any(s >= find.SURE for s, _ in find.candidates(out)) or same_file(source, out))


def _beside(source: Path, word: str) -> Path:
    if source.is_dir():
        source = source if source.name not in ("", "..") else source.resolve()
        return source.with_name(f"{source.name}_{word}")
    stem, suffix = split(source.name)
    return source.with_name(f"{stem}_{word}{suffix}")


def parse_sigma(text: str) -> float | None:
    """Return the number behind ``12.5``, ``25/255`` or None for ``auto``.

    Raises
    ------
    UsageError
        Not a positive number.
    """
    if text in ("", "auto"):
        return None
    top, _, bottom = text.partition("/")
    try:
        value = float(top) / (float(bottom) if bottom else 1.0)
    except (ValueError, ZeroDivisionError):
        value = -1.0
    if not 0 <= value < float("inf"):
        raise UsageError(f"--sigma {text} is no noise level", hint="give a number in input units, N/255 or auto")
    return value


def parse_region(text: str, description: Description) -> Region | None:
    """Return slices of ``"10:60,:,5:20"``, one per axis; missing trailing axes are whole.

    Raises
    ------
    UsageError
        Not of that form, or outside the file.
    """
    if not text:
        return None
    parts = text.split(",")
    if len(parts) > len(description.shape):
        raise UsageError(f"--region {text} has {len(parts)} axes, the file {len(description.shape)}")
    found = []
    for part, size, axis in zip([*parts, *[":"] * 9], description.shape, description.axes, strict=False):
        low, colon, high = part.strip().partition(":")
        try:
            start = int(low) if low else 0
            stop = (int(high) if high else size) if colon else start + 1
        except ValueError:
            raise UsageError(f"--region {text}: '{part}' is no range", hint="write for instance 10:60,:,5:20") from None
        if not 0 <= start < stop <= size:
            raise UsageError(f"--region {text}: {axis} runs from 0 to {size}")
        found.append(slice(start, stop))
    return tuple(found)


def make_options(method: Any, given: dict[str, Any]) -> Any:
    """Return a method's Options from given flags; flags of other methods are an error.

    Raises
    ------
    UsageError
        The method has no such option, or the value is not among its choices.
    """
    from dataclasses import fields

    known = {f.name: f for f in fields(method.Options)}
    hints = typing.get_type_hints(method.Options)
    given = {k: _as(hints.get(k), v, k) for k, v in given.items()}
    for name, value in given.items():
        flag = "--" + name.replace("_", "-")
        if name not in known:
            raise UsageError(f"{method.TRAITS.name} has no option {flag}", hint="see 'pellucid list methods'")
        choices = known[name].metadata.get("choices")
        if choices and value not in choices:
            raise UsageError(f"{flag} {value} is not one of {', '.join(map(str, choices))}")
    return method.Options(**given)


def _as(kind: Any, value: Any, name: str) -> Any:
    """Return a word as the number an option wants: methods may share a flag of different types."""
    if not isinstance(value, str) or kind not in (int, float):
        return value
    try:
        return kind(value)
    except ValueError:
        flag = "--" + name.replace("_", "-")
        raise UsageError(f"{flag} {value} is no number for this method") from None


def native(value: Any) -> Any:
    """Return a JSON-ready copy: NumPy scalars and arrays become numbers and lists, NaN becomes None."""
    if isinstance(value, dict):
        return {str(k): native(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [native(v) for v in value]
    if isinstance(value, Path):
        return value.name
    if isinstance(value, np.ndarray):
        return native(value.tolist()) if value.size <= 4096 else f"array {value.shape} {value.dtype}"
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)
