# SPDX-License-Identifier: Apache-2.0
"""Sound that arrives and leaves on pipes: unknown length, no rename, no sidecar, bounded latency."""

from __future__ import annotations

from dataclasses import replace
from typing import IO, Any

from pellucid.core import random, restore
from pellucid.core.errors import UsageError
from pellucid.core.types import Description, Plan, Result, Tile
from pellucid.domains import describe, names, registry
from pellucid.domains.declare import Field, Subject
from pellucid.domains.request import Request
from pellucid.formats import find

BLOCK_SECONDS = 1.0


def denoise(source: IO[bytes], target: IO[bytes], declared: Field, request: Request) -> int:
    """Denoise raw PCM (``--raw``) or a WAV from a stream into a stream of the same kind; return the frames.

    Raises
    ------
    UsageError
        The field's default method is no streaming one.
    FormatError
        The stream is not what was said.
    """
    hints = request.hints
    module = find.module_of("pcm" if hints.get("encoding") else "wav")
    reader = module.source(source, **hints)
    description = describe.named(reader.description, declared, "standard input")
    plan, method = _plan(description, declared, request)
    sink = module.sink(target, description)
    done, carry = 0, None
    while len(stored := reader.read(max(1, round(BLOCK_SECONDS * description.acquisition["rate_hz"])))):
        region = (slice(done, done + len(stored)), slice(0, stored.shape[1]))
        tile = Tile(restore.physical(stored, description, region), region[:1], region[:1], (-1,), None, carry)
        result = method.run(tile, plan.noise, plan, random.generator(plan.seed))
        carry, done = result.carry, done + len(stored)
        _send(sink, result, description)
    _send(sink, method.finish(carry, plan), description)
    return done


def _plan(description: Description, declared: Field, request: Request) -> tuple[Plan, Any]:
    subject = Subject(_Unknown(), description, request.field_options)
    name = request.method or next(c.method for c in declared.choose if c.when(subject))
    method = registry.method(name, declared.name)
    if method.TRAITS.exact != "stream":
        raise UsageError(f"{name} cannot work on a stream", hint="write the sound into a file first")
    options = names.make_options(method, dict(request.method_options))
    extras = declared.extras(subject) if declared.extras else {}
    return Plan(name, options, description=description, output=description, extras=extras), method


class _Unknown:
    """Stands where a file would: a stream has no path and cannot be read twice."""

    path = "standard input"


def _send(sink: Any, result: Result, description: Description) -> None:
    if len(result.values):
        values = result.values.reshape(len(result.values), -1)
        region = (slice(0, len(values)), slice(0, values.shape[1]))
        sink.write(restore.stored(values, replace(description, shape=values.shape), region)[0])
