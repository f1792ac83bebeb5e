# SPDX-License-Identifier: Apache-2.0
"""``pellucid list``: fields, methods, formats."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pellucid.cli.fields import FIELDS
from pellucid.cli.tools.build import tool
from pellucid.core.errors import UsageError

DOC = """List what there is: fields, methods or formats.

    pellucid list formats"""


def what(
    kind: Annotated[str, typer.Argument(metavar="[fields|methods|formats]")] = "fields",
) -> None:
    """What to list."""


def command() -> Any:
    """Return the tool's command."""
    return tool("list", DOC, run, what)


def run(values: dict[str, Any]) -> int:
    """Print one line per item."""
    makers = {"fields": _fields, "methods": _methods, "formats": _formats}
    if values["kind"] not in makers:
        raise UsageError(f"there is no list of '{values['kind']}'", hint="choose fields, methods or formats")
    for name, line in makers[values["kind"]]():
        print(f"{name:<14} {line}")
    return 0


def _fields() -> list[tuple[str, str]]:
    return list(FIELDS)


def _methods() -> list[tuple[str, str]]:
    from pellucid.domains import registry

    return [(name, module.TRAITS.line) for name, module in sorted(registry.all_methods().items())]


def _formats() -> list[tuple[str, str]]:
    from pellucid.formats import find

    rows = []
    for name, module in sorted(find.formats().items()):
        traits = module.FORMAT
        written = "read and written" if traits.writes else f"read; written as {traits.fallback}"
        rows.append((name, f"{traits.title}: {' '.join(traits.suffixes)}: {written}"))
    return rows
