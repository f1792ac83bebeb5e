# SPDX-License-Identifier: Apache-2.0
"""The lazy root: fields and tools are stubs until one is called."""

from __future__ import annotations

import importlib
from typing import Any

from typer.core import TyperCommand, TyperGroup

from pellucid.cli.fields import FIELDS, TOOLS

SECTIONS = ("Options", "Noise", "Output", "Compute", "Batch")


class Sectioned(TyperCommand):
    """A command whose plain help groups options by panel, the common ones first."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write one list per panel."""
        rows: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                panel = getattr(param, "rich_help_panel", None) or "Options"
                rows.setdefault(panel, []).append(record)
        order = [*SECTIONS, *(p for p in rows if p not in SECTIONS)]
        for panel in order:
            if panel in rows:
                with formatter.section(panel):
                    formatter.write_dl(rows[panel])

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        """Write the help text as it stands: examples keep their lines."""
        if self.help:
            formatter.write_paragraph()
            with formatter.indentation():
                for line in self.help.strip().splitlines():
                    formatter.write(f"{'':>{formatter.current_indent}}{line}\n")


class Root(TyperGroup):
    """Fields first, then tools; only ``resolve_command`` imports the chosen one."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for name, line in (*FIELDS, *TOOLS):
            self.add_command(TyperCommand(name, help=line, callback=None), name)

    def list_commands(self, ctx: Any) -> list[str]:
        """Return names in the order of the tables."""
        return [name for name, _ in (*FIELDS, *TOOLS)]

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write fields and tools as two lists."""
        for title, table in (("Fields (pellucid FIELD VERB)", FIELDS), ("Tools", TOOLS)):
            with formatter.section(title):
                formatter.write_dl(list(table))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the real command behind a stub."""
        name, command, rest = super().resolve_command(ctx, args)
        if name in dict(FIELDS):
            from pellucid.cli.field import group

            command = group(name, next((word for word in rest if not word.startswith("-")), ""))
        elif name in dict(TOOLS):
            command = importlib.import_module(f"pellucid.cli.tools.{name}").command()
        return name, command, rest
