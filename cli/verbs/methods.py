# SPDX-License-Identifier: Apache-2.0
"""``pellucid FIELD methods``: what is on offer, when to use it, when not, and whom to cite."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from pellucid.cli import options


def shown(
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Options of methods."""


def command(field_name: str) -> Callable[..., Any]:
    """Return the verb for a field."""
    doc = f"""List the methods of this field, the default first.

    pellucid {field_name} methods"""
    return options.merged(lambda values: run(values, field_name), "methods", doc, shown)


def run(values: dict[str, Any], field_name: str) -> int:
    """Print one block per method."""
    from pellucid.cli.run import put
    from pellucid.domains import registry

    found = [registry.method(n, field_name).TRAITS for n in registry.methods_of(registry.field(field_name))]
    if values["json"]:
        rows = [
            {k: getattr(t, k) for k in ("name", "line", "use", "avoid", "cite", "laws", "exact", "devices", "output")}
            for t in found
        ]
        put({"schema": "pellucid/methods/1", "field": field_name, "methods": rows})
        return 0
    for t in found:
        print(f"{t.name:<10} {t.line}")
        for label, text in (
            ("use", t.use),
            ("avoid", t.avoid),
            ("noise", ", ".join(t.laws)),
            ("cite", "  ".join(t.cite)),
        ):
            if text:
                print(f"{'':<10} {label}: {text}")
    return 0
