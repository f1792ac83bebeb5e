# SPDX-License-Identifier: Apache-2.0
"""How a tool becomes a command: one function, its options, its help."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer

from pellucid.cli import options
from pellucid.cli.root import Sectioned


def tool(name: str, doc: str, run: Callable[[dict[str, Any]], int], *parts: Callable[..., Any]) -> Any:
    """Return a command of its own."""
    app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)
    settings = {"help_option_names": ["-h", "--help"]}
    app.command(name, cls=Sectioned, help=doc, context_settings=settings)(options.merged(run, name, doc, *parts))
    return typer.main.get_command(app)
