# SPDX-License-Identifier: Apache-2.0
"""The line of verbs whose output lies on another grid: open, describe, make, write, verify, commit, sidecar."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid.core import commit, sidecar
from pellucid.core.errors import FormatError, OutputError, Refused, UsageError
from pellucid.core.lazy import np
from pellucid.core.measure import Measured
from pellucid.core.types import Description, Plan, Traits
from pellucid.domains import describe, line, names, outputs
from pellucid.domains.declare import Conversion, Converted, Field, Subject
from pellucid.domains.request import Request
from pellucid.formats import find

if TYPE_CHECKING:
    from pellucid.core.stream import Report


def convert(
    path: Path, declared: Field, conversion: Conversion, request: Request, report: Report, *, resume: bool = False
) -> line.Outcome:
    """Convert one file.

    Raises
    ------
    PellucidError
        With the exit code and the line a user needs.
    """
    subject = describe.open_subject(path, declared, request)
    try:
        describe.refuse(subject, declared, request.force_kind)
        if request.force_kind:
            subject = replace(subject, description=subject.description.with_(kind=request.force_kind))
        planned = make_plan(subject, declared, conversion, request)
        facts, target = sidecar.plan_facts(planned), planned.names["output"]
        beside = outputs.sidecar_path(target, find.by_suffix(target, conversion.formats).FORMAT.name)
        if resume and sidecar.matches(beside, target, path, sidecar.plan_hash(facts)):
            return line.Outcome(target, {"plan": facts}, planned.warnings, resumed=True)
        if resume and sidecar.made_from(beside, path):
            request = replace(request, force=True)
        outputs.check(subject, target, request)
        return _run(subject, conversion, planned, request, report)
    finally:
        subject.reader.close()


def make_plan(subject: Subject, declared: Field, conversion: Conversion, request: Request) -> Plan:
    """Decide options and names; nothing is read or written yet."""
    shape = _Shape(conversion)
    options = names.make_options(shape, dict(request.method_options))
    if request.out is not None and request.out.is_dir():  # pictures are files: a folder is where they go
        request = replace(request, out_folder=True)
    where = names.output_path(subject.path, subject.reader.description.format, declared, request)
    if request.out is None or request.out_folder:
        suffix = conversion.suffix_of(subject, options) if conversion.suffix_of else conversion.suffix
        where = where.with_name(names.split(where.name)[0] + suffix)
    return Plan(
        method=conversion.name,
        options=options,
        reason="asked for",
        description=subject.description,
        names={"output": where},
        given=tuple(sorted(request.method_options)),
        warnings=subject.description.notes,
    )


class _Shape:
    """A conversion in the shape of a method, for what reads traits and options."""

    def __init__(self, conversion: Conversion) -> None:
        self.Options = conversion.options
        self.TRAITS = Traits(conversion.name, conversion.line, (), exact="global", cite=conversion.cite)


def _run(subject: Subject, conversion: Conversion, planned: Plan, request: Request, report: Report) -> line.Outcome:
    started, clock, cpu = time.time(), time.perf_counter(), time.process_time()
    target, traits = planned.names["output"], _Shape(conversion).TRAITS
    facts = sidecar.plan_facts(planned)  # before the output is known, so that --resume finds the same
    report(conversion.name, 0, 1)
    made = conversion.run(subject, planned.options)
    planned = replace(planned, output=made.description, warnings=(*planned.warnings, *made.warnings))
    if request.strict and planned.warnings:
        raise Refused(planned.warnings[0][1], subject.path, "leave out --strict to go on")
    with commit.staged(target, force=request.force) as stage:
        stage.inputs = outputs.inputs(subject)
        module = _write(stage.path, made, conversion.formats, request.private)
        measured = Measured(facts={k: v for k, v in made.facts.items() if isinstance(v, int | float)})
        document = outputs.document(subject, planned, traits, request, measured=measured, staged=stage.path)
        document |= {"plan": facts, "plan_hash": sidecar.plan_hash(facts), "facts": dict(made.facts)}
        document["started"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started))
        document["seconds"] = {"wall": time.perf_counter() - clock, "cpu": time.process_time() - cpu}
        name = module.FORMAT.name
        last = outputs.write_sidecar(stage.path, subject.path, name, names.native(document), request.private)
        stage.publish((last,))
    report(conversion.name, 1, 1)
    return line.Outcome(target, document, planned.warnings)


def _write(path: Path, made: Converted, formats: tuple[str, ...], private: bool) -> Any:
    """Compose the output, reopen it and compare."""
    module = find.by_suffix(path, formats)
    region = tuple(slice(0, n) for n in made.values.shape)
    try:
        writer = module.compose(path, replace(made.description, format=module.FORMAT.name))
    except FormatError as error:
        raise UsageError(f"{module.FORMAT.title} cannot hold this: {error.what}", path, error.hint) from error
    writer.write(region, made.values)
    writer.close()
    if private and hasattr(module, "anonymise"):
        module.anonymise(path)
    reader = module.open(path)
    try:
        found: Description = reader.description
        if found.dtype != str(made.values.dtype) or not np.array_equal(
            np.squeeze(reader.read(tuple(slice(0, n) for n in found.shape))), np.squeeze(made.values)
        ):
            raise OutputError("reads back with other samples", path.name, "nothing was published")
    finally:
        reader.close()
    return module
