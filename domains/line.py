# SPDX-License-Identifier: Apache-2.0
"""The straight line of one ``denoise``: open, describe, plan, stream, restore, commit, sidecar."""

from __future__ import annotations

import time
import zlib
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid.core import commit, plan, resources, sidecar
from pellucid.core.errors import FormatError, OutputError, Refused, UsageError
from pellucid.core.lazy import np
from pellucid.core.measure import Measured
from pellucid.core.stream import Piece, Report, Work, stream
from pellucid.core.types import Description, Noise, Plan, Reader, Region
from pellucid.domains import describe, names, outputs, registry
from pellucid.domains.declare import Field, Subject
from pellucid.domains.request import Request
from pellucid.formats import find

if TYPE_CHECKING:
    from pellucid.core.types import Array


@dataclass(frozen=True)
class Outcome:
    """What a run did: where the output is and the document its sidecar holds."""

    path: Path
    document: dict[str, Any]
    warnings: tuple[tuple[str, str], ...] = ()
    resumed: bool = False
    pictures: dict[str, Any] = field(default_factory=dict)


def denoise(path: Path, declared: Field, request: Request, report: Report, *, resume: bool = False) -> Outcome:
    """Denoise one file from the shell's or a script's request.

    Raises
    ------
    PellucidError
        With the exit code and the line a user needs.
    """
    subject = describe.open_subject(path, declared, request)
    try:
        described = _described(subject, declared, request)
        planned = make_plan(described, declared, request)
        facts = sidecar.plan_facts(planned)
        target, wanted = planned.names["output"], sidecar.plan_hash(facts)
        beside = outputs.sidecar_path(target, subject.reader.description.format)
        if resume and sidecar.matches(beside, target, path, wanted):
            return Outcome(target, {"plan": facts}, planned.warnings, resumed=True)
        if resume and sidecar.made_from(beside, path):  # our own output of this input, stale or incomplete
            request = replace(request, force=True)
        outputs.check(subject, target, request, planned.options)
        return run(described, declared, planned, request, report)
    finally:
        subject.reader.close()


def _described(subject: Subject, declared: Field, request: Request) -> Subject:
    if request.method == "identity":  # nothing changes, so nothing can be harmed
        return subject
    describe.refuse(subject, declared, request.force_kind)
    if request.force_kind:
        return replace(subject, description=replace(subject.description, kind=request.force_kind))
    return subject


def make_plan(subject: Subject, declared: Field, request: Request) -> Plan:
    """Decide method, noise, tiles, memory and names; nothing is written yet.

    Raises
    ------
    UsageError, Refused, OutputError
        The request contradicts the file, ``--strict`` meets a warning, or the output exists.
    """
    where = names.output_path(subject.path, subject.reader.description.format, declared, request)
    name, why = _choose(subject, declared, request)
    method = registry.method(name, declared.name)
    given = dict(request.method_options)
    if request.estimator and any(f == "estimator" for f in method.Options.__dataclass_fields__):
        given["estimator"] = request.estimator
    made = plan.make_plan(
        subject.description,
        method,
        names.make_options(method, given),
        noise=_noise(subject, declared, method, request),
        reason=why,
        out_dtype=_out_dtype(subject, request, outputs.module(where, subject)),
        threads=request.threads,
        max_memory=names_bytes(request.max_memory),
        device_name=request.device,
        seed=request.seed,
        extras=declared.extras(subject) if declared.extras else {},
    )
    made = replace(made, given=tuple(sorted(given)), asked=_asked(request))
    found = () if method.TRAITS.stored else describe.warnings(subject, declared)
    if request.strict and found:
        raise Refused(found[0][1], subject.path, "leave out --strict to go on")
    return replace(made, names={"output": where}, warnings=found)


def _asked(request: Request) -> dict[str, Any]:
    """Return what changes the result besides method, options and noise; files by what they hold."""
    found: dict[str, Any] = {"region": request.region, "force_kind": request.force_kind}
    for name in ("mask", "noise_in"):
        path = getattr(request, name)
        if path is not None:
            found[name] = _content(path)
    for name, value in request.field_options.items():
        found[name] = _content(value) if isinstance(value, Path) else value
    return {k: v for k, v in found.items() if v}


def _content(path: Path) -> dict[str, Any]:
    find.candidates(path)  # says in one line that a file is missing or empty
    return {k: v for k, v in sidecar.fingerprint(path).items() if k != "name"}


def names_bytes(text: str) -> int:
    """Return bytes of a ``--max-memory`` value, 0 where none was given."""
    return resources.parse_bytes(text) if text else 0


def _choose(subject: Subject, declared: Field, request: Request) -> tuple[str, str]:
    if request.method:
        offered = registry.methods_of(declared)
        if declared.closed and request.method not in offered:
            raise UsageError(f"this verb has no method '{request.method}'", hint=f"choose from {', '.join(offered)}")
        return request.method, "asked for"
    for choice in declared.choose:
        if choice.when(subject):
            return choice.method, choice.why
    raise UsageError("no default method fits this file", subject.path, "name one with --method")


def _out_dtype(subject: Subject, request: Request, module: Any) -> str:
    description = subject.description
    if request.out_dtype == "same" or request.method == "identity":
        return description.dtype
    if request.out_dtype:
        return _dtype(request.out_dtype)
    if description.out_dtype and module.FORMAT.name == subject.reader.description.format:
        return description.out_dtype
    traits = module.FORMAT
    integer = np.dtype(description.dtype).kind in "iu"
    return "float32" if integer and traits.integers == "float32" else description.dtype


def _dtype(text: str) -> str:
    try:
        dtype = np.dtype(text)
    except TypeError:
        dtype = np.dtype(object)
    if dtype.kind not in "iufc":
        raise UsageError(f"--out-dtype {text} is no sample type", hint="write for instance same, float32 or int16")
    return str(dtype)


def _noise(subject: Subject, declared: Field, method: Any, request: Request) -> Noise | None:
    """Return the noise as given, as read from a map, as estimated, or None where the method finds it itself."""
    if method.TRAITS.stored:
        return None
    law = declared.law(subject) if declared.law else "gaussian"
    sigma = names.parse_sigma(request.sigma)
    if sigma is not None:
        return Noise(law, float(sigma), "given")
    if request.noise_in is not None:
        return Noise(law, _map(request.noise_in, subject.description), "file")
    if method.TRAITS.needs_sigma:
        if declared.estimate is None:
            raise UsageError(f"{method.TRAITS.name} needs the noise level", hint="give --sigma")
        return declared.estimate(subject, request.estimator)
    return None


def _map(path: Path, description: Description, *, dtype: str = "float32") -> Array:
    """Read a map over the spatial axes (noise level, mask)."""
    from pellucid.core.restore import physical

    reader = find.open_file(path)
    try:
        region = tuple(slice(0, n) for n in reader.description.shape)
        values = physical(reader.read(region), reader.description, region)
    finally:
        reader.close()
    shape = description.shape[: description.spatial]
    if values.shape[: len(shape)] != shape or values.size != int(np.prod(shape)):
        raise FormatError(path, "axes", f"are {values.shape}; the data have {shape}", "give a map of the same grid")
    if not np.isfinite(values).all() or (values < 0).any():
        raise FormatError(path, "samples", "are negative or not finite", "a map holds values of 0 and more")
    return values.reshape(shape).astype(dtype)


def run(subject: Subject, declared: Field, planned: Plan, request: Request, report: Report) -> Outcome:
    """Stream the file through the method into its output; commit, then write the sidecar."""
    started, clock, cpu = time.time(), time.perf_counter(), time.process_time()
    method = registry.method(planned.method, declared.name)
    mask = _map(request.mask, subject.description) > 0 if request.mask else None
    limit = names.parse_region(request.region, subject.description)
    work = Work(subject.reader, planned, method, mask, limit)
    measured, target = Measured(), planned.names["output"]
    assert planned.output is not None
    with ExitStack() as stack:
        stage = stack.enter_context(commit.staged(target, force=request.force))
        stage.inputs = outputs.inputs(subject)
        writer = outputs.writer(stage.path, subject, planned.output)
        extra = outputs.Extras(stack, subject, planned, request, method.TRAITS.maps)
        work = replace(work, settled=partial(extra.products.settle, method))
        sums = _write(work, writer, extra, measured, report)
        if request.private:
            outputs.anonymise(stage.path, subject)
        verify(stage.path, planned.output, sums, subject)
        extra.close()
        document = outputs.document(subject, planned, method.TRAITS, request, measured=measured, staged=stage.path)
        document["started"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started))
        document["seconds"] = {"wall": time.perf_counter() - clock, "cpu": time.process_time() - cpu}
        extra.draw(stack, declared, stage.path, document)
        kind = outputs.module(stage.path, subject).FORMAT.name
        ready = names.native(document)
        last = outputs.write_sidecar(stage.path, subject.path, kind, ready, request.private)
        stage.ready((last,))
        extra.publish()
        stage.publish((last,))
    describe_folder = getattr(find.module_of(kind), "describe_folder", None)
    if describe_folder and request.out is not None and target != request.out:  # -o names a folder
        describe_folder(target, document["pellucid"]["version"])
    return Outcome(target, document, planned.warnings, pictures=extra.pictures)


def _write(
    work: Work, writer: Any, extra: outputs.Extras, measured: Measured, report: Report
) -> list[tuple[Region, int]]:
    """Drive the stream into the writers; return a checksum of every piece."""
    sums = []
    for piece in stream(work, measured, report):
        writer.write(piece.region, piece.stored)
        extra.write(piece)
        sums.append((piece.region, checksum(piece)))
        del piece  # not two tiles in memory at once
    writer.close()  # not after an exception: a half-written file is discarded with its stage
    return sums


def checksum(piece: Piece) -> int:
    """Return the CRC-32 of a piece's stored samples."""
    return _crc(piece.stored)


def _crc(values: Array) -> int:
    """Return the CRC-32 of samples in C order, a few lines copied at a time."""
    step, found = max(1, (16 << 20) // max(values[:1].nbytes, 1)), 0
    for start in range(0, len(values), step):
        found = zlib.crc32(np.ascontiguousarray(values[start : start + step]).view(np.uint8).ravel(), found)
    return found


def verify(path: Path, output: Description, sums: list[tuple[Region, int]], subject: Subject) -> None:
    """Reopen what was written and compare it with what was streamed.

    Raises
    ------
    OutputError
        Shape, type or samples differ: the disk or a writer lied.
    """
    own = outputs.module(path, subject).FORMAT.name in subject.formats
    reader: Reader = find.open_file(path, subject.formats if own else (), **dict(subject.options))
    try:
        found = reader.description
        if found.shape != output.shape or found.dtype != output.dtype:
            raise OutputError(f"reads back as {found.shape} {found.dtype}", path.name, "nothing was published")
        for region, wanted in sums:
            if _crc(reader.read(region)) != wanted:
                raise OutputError(f"reads back with other samples at {region}", path.name, "nothing was published")
    finally:
        reader.close()
