# SPDX-License-Identifier: Apache-2.0
"""``pellucid FIELD denoise``: the command everything else serves."""

from __future__ import annotations

import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pellucid.cli import options
from pellucid.cli.fields import MORE
from pellucid.cli.main import say


def command(field_name: str) -> Callable[..., Any]:
    """Return the verb for a field, or for ``"FIELD VERB"``: shared options, the field's own, those of its methods."""
    import inspect

    from pellucid.domains import registry

    declared = registry.field(field_name)
    conversion = registry.conversion(field_name)
    shared: list[Callable[..., Any]] = [options.inputs, options.common, options.noise, options.output, options.messages]
    shared += [options.compute, options.batch]
    if conversion is not None:
        shared = [options.inputs, options.made, options.messages, options.batch]
    own = [declared.options] if declared.options else []
    taken = {n for part in (*shared, *own) for n in inspect.signature(part, eval_str=True).parameters}
    methods = {name: registry.method(name, declared.name) for name in registry.methods_of(declared)}
    if conversion is not None:
        methods = {conversion.name: types.SimpleNamespace(Options=conversion.options)}
    flags = set(inspect.signature(own[0], eval_str=True).parameters) if own else set()
    parts = [*shared, *own, options.of_methods(methods, taken)]
    return options.merged(lambda values: run(field_name, values, flags), "denoise", _doc(field_name, declared), *parts)


def _doc(field_name: str, declared: Any) -> str:
    name, _, verb = field_name.partition(" ")
    if not verb:
        return f"""Denoise files of this field.

    pellucid {name} denoise FILE
    pellucid {name} denoise FILE --preview look.png --residual FILE

    Nothing but the samples changes; the input is never touched."""
    return f"""{dict(MORE[name])[verb]}

    pellucid {name} {verb} FILE

    The result goes beside the input as NAME_{declared.word}; the input is never touched."""


def _pipe(field_name: str, values: dict[str, Any], request: Any) -> int:
    """Denoise standard input into standard output."""
    import sys

    from pellucid.core.errors import UsageError
    from pellucid.domains import pipe, registry

    declared = registry.field(field_name)
    if "pcm" not in declared.formats:
        raise UsageError(f"{field_name} files cannot be piped", hint="name files")
    if str(values["out"] or "-") != "-":
        raise UsageError("input from a pipe goes to a pipe", hint="use -o -, and redirect")
    pipe.denoise(sys.stdin.buffer, sys.stdout.buffer, declared, request)
    return 0


def run(field_name: str, values: dict[str, Any], flags: set[str]) -> int:
    """Denoise one or many files; return the exit code."""
    from pellucid.cli.private import unnamed
    from pellucid.cli.request import request as make

    request = make(values, flags)
    with unnamed(request.private, values["files"] or ()):
        return _run(field_name, values, request)


def _run(field_name: str, values: dict[str, Any], request: Any) -> int:
    from pellucid.cli import batch
    from pellucid.cli.run import dry_run, one, put, tell

    if [str(f) for f in values["files"] or []] == ["-"]:
        return _pipe(field_name, values, request)
    from pellucid.domains import registry

    files, formats = values["files"] or [], registry.field(field_name).formats
    paths = batch.collect(files, values["files_from"], values["shard"], values["relative_to"], formats)
    many = paths != files
    if many and not values["relative_to"] and len(files) == 1 and Path(files[0]).is_dir():
        values["relative_to"] = files[0]  # a data set keeps its folders
    many = many or len(paths) > 1 or bool(values["files_from"] or values["shard"] or values["relative_to"])
    if not paths:  # an empty shard is done
        return 0
    if values.get("dry_run"):
        for path in paths:
            put(dry_run(path, field_name, batch.place(request, path, many, values["relative_to"])))
        return 0
    if not many and not values["keep_going"] and not values["status"]:
        row = one(paths[0], field_name, request, quiet=values["quiet"], resume=values["resume"])
        tell(row, quiet=values["quiet"], verbose=values["verbose"])
        if values["json"]:
            put(row["document"])
        return 0
    batch.place(request, paths[0], many, None)  # options that name one file are an error before anything is done
    batch.single(request, field_name)
    status, codes = batch.Status(values["status"]), []
    how = {"quiet": values["quiet"] or values["jobs"] > 1, "resume": values["resume"], "many": many}
    for row in batch.rows(paths, field_name, request, jobs=values["jobs"], relative_to=values["relative_to"], **how):
        status.add(row)
        codes.append(int(row["code"]))
        if row["code"]:
            say(f"pellucid: {row['message']}")
        else:
            tell(row, quiet=values["quiet"], verbose=values["verbose"])
        if values["json"]:
            put({"schema": "pellucid/row/1", **{k: row.get(k) for k in batch.COLUMNS}})
        if row["code"] and not values["keep_going"]:
            break
    if not values["quiet"]:
        batch.summary(codes)
    return batch.code_of(codes, values["keep_going"])
