# SPDX-License-Identifier: Apache-2.0
"""Simulated files with their truth, and figures of a result with or without one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid.core import commit, restore
from pellucid.core.errors import FormatError, UsageError
from pellucid.core.types import Noise
from pellucid.domains import describe, names
from pellucid.domains.declare import Field, Phantom, Subject
from pellucid.domains.request import Request
from pellucid.formats import find

if TYPE_CHECKING:
    from pellucid.core.types import Array


def simulate(declared: Field, case: str, size: str, seed: int) -> Phantom:
    """Return a field's phantom.

    Raises
    ------
    UsageError
        There is no such case.
    """
    if declared.simulate is None:
        raise UsageError(f"{declared.name} has no simulation")
    if case and case not in declared.cases:
        raise UsageError(f"there is no case '{case}'", hint=f"choose from {', '.join(declared.cases)}")
    return declared.simulate(seed=seed, case=case or declared.cases[0], size=_extent(declared, size))


def simulate_from(declared: Field, path: Path, seed: int) -> Phantom:
    """Return the noisy measurement behind a clean colour picture.

    Raises
    ------
    FormatError
        The file is no picture of three channels.
    """
    assert declared.from_rgb is not None
    reader = find.open_file(path)
    try:
        d = reader.description
        if d.axes != ("y", "x", "channel") or d.shape[-1] != 3:
            raise FormatError(path, "axes", f"are {', '.join(d.axes)}", "give a colour picture (PNG, TIFF, JPEG)")
        region = tuple(slice(0, n) for n in d.shape)
        return declared.from_rgb(restore.physical(reader.read(region), d, region), seed)
    finally:
        reader.close()


def _extent(declared: Field, size: str) -> tuple[int, ...] | None:
    if size in declared.sizes:
        return declared.sizes[size]
    if size in ("", "small", "full"):
        return None
    try:
        extent = tuple(int(n) for n in size.lower().split("x"))
    except ValueError:
        extent = ()
    counts = {len(s) + more for s in declared.spatial for more in (0, declared.series is not None)}
    if len(extent) not in counts or min(extent) < 1:
        words = " or ".join(declared.sizes)
        raise UsageError(f"--size {size} is no size", hint=f"{words or 'full'}, or extents such as 64x64x30")
    return extent


def write_phantom(phantom: Phantom, path: Path, formats: tuple[str, ...], *, force: bool) -> tuple[Path, Path]:
    """Write a phantom and, beside it, its truth (``<stem>_truth<suffix>``); return both paths."""
    stem, suffix = names.split(path.name)
    truth = path.with_name(f"{stem}_truth{suffix}")
    for target, values in ((truth, phantom.truth), (path, phantom.noisy)):
        module = find.by_suffix(target, formats)
        d = phantom.description
        description = replace(d, format=module.FORMAT.name, dtype=str(values.dtype), shape=values.shape)
        with commit.staged(target, force=force) as stage:
            writer = module.compose(stage.path, description)
            writer.write(tuple(slice(0, n) for n in values.shape), values)
            writer.close()
            stage.publish()
    return path, truth


def load(path: Path, declared: Field, request: Request) -> tuple[Subject, Array]:
    """Return a subject and all its samples in physical units."""
    subject = describe.open_subject(path, declared, request)
    region = tuple(slice(0, n) for n in subject.description.shape)
    try:
        return subject, restore.physical(subject.reader.read(region), subject.description, region)
    finally:
        subject.reader.close()


def evaluate(
    result: Path,
    declared: Field,
    request: Request,
    *,
    reference: Path | None,
    before: Path | None,
    rois: Path | None = None,
) -> dict[str, Any]:
    """Return the field's figures of a result by itself, against a reference, and of what was removed.

    Raises
    ------
    UsageError
        Neither a reference nor the input was given, and the field says nothing of a file by itself.
    FormatError
        The files have different grids.
    """
    if rois is not None and declared.regions is None:
        raise UsageError(f"{declared.name} has no figures of regions", hint="leave out --rois")
    if reference is None and before is None and rois is None and declared.inspect is None:
        raise UsageError("there is nothing to compare with", result, "give --reference, --input or both")
    subject, values = load(result, declared, request)
    mask = None
    if request.mask:
        mask = outputs_mask(request.mask, values.shape[: subject.description.spatial])
    figures: dict[str, Any] = {}
    if declared.inspect is not None:
        figures["alone"] = declared.inspect(values, subject.description)
    if rois is not None and declared.regions is not None:
        figures["rois"] = declared.regions(values, subject.description, rois)
    if reference is not None:
        truth = _same(load(reference, declared, request)[1], values, reference)
        assert declared.measure is not None
        figures["reference"] = declared.measure(truth, values, subject.description, mask)
    if before is not None:
        source, noisy = load(before, declared, request)
        _same(noisy, values, before)
        sigma = names.parse_sigma(request.sigma)
        noise = None if sigma is None else Noise("gaussian", sigma, "given")
        if rois is not None and declared.regions is not None:
            figures["rois_before"] = declared.regions(noisy, source.description, rois)
        if declared.inspect is not None:
            figures["alone_before"] = declared.inspect(noisy, source.description)
        if declared.judge is not None:
            figures["input"] = declared.judge(noisy, values, source.description, noise)
        if reference is not None and declared.measure is not None:
            figures["reference_before"] = declared.measure(truth, noisy, source.description, mask)
    made: dict[str, Any] = names.native({"schema": "pellucid/evaluate/1", "file": result.name, **figures})
    return made


def outputs_mask(path: Path, shape: tuple[int, ...]) -> Array:
    """Return a mask file as booleans over the spatial axes."""
    reader = find.open_file(path)
    region = tuple(slice(0, n) for n in reader.description.shape)
    try:
        values: Array = reader.read(region) > 0
    finally:
        reader.close()
    if values.size != _count(shape):
        raise FormatError(path, "axes", f"are {values.shape}; the data have {shape}", "give a mask of the same grid")
    return values.reshape(shape)


def _count(shape: tuple[int, ...]) -> int:
    total = 1
    for n in shape:
        total *= n
    return total


def _same(values: Array, other: Array, path: Path) -> Array:
    if values.shape != other.shape:
        raise FormatError(path, "axes", f"are {values.shape}; the result has {other.shape}")
    return values
