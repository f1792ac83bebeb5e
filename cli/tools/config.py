# SPDX-License-Identifier: Apache-2.0
"""``pellucid config``: each setting, its value, and where it comes from."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pellucid.cli.tools.build import tool

DOC = """Show settings and where each comes from.

    pellucid config mri denoise

Order: flag, PELLUCID_<NAME>, --config FILE, ./pellucid.toml, config.toml in the user's configuration folder."""


def which(
    field: Annotated[str, typer.Argument(metavar="[FIELD]")] = "",
    verb: Annotated[str, typer.Argument(metavar="[VERB]")] = "denoise",
) -> None:
    """Where the settings shall hold."""


def command() -> Any:
    """Return the tool's command."""
    return tool("config", DOC, run, which)


def run(values: dict[str, Any]) -> int:
    """Print one line per setting."""
    from pellucid.cli import config
    from pellucid.cli.fields import FIELDS, VERBS
    from pellucid.core.errors import UsageError

    if values["field"] and values["field"] not in dict(FIELDS):
        raise UsageError(f"there is no field '{values['field']}'", hint=f"choose from {', '.join(dict(FIELDS))}")
    if values["verb"] not in dict(VERBS):
        raise UsageError(f"there is no verb '{values['verb']}'", hint=f"choose from {', '.join(dict(VERBS))}")
    found = config.settings([], values["field"], values["verb"])
    for name in sorted(config.NAMES | set(found)):
        value, source = found.get(name, ("", "default"))
        print(f"{name:<14} {value!s:<20} {source}")
    return 0
