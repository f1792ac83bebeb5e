# SPDX-License-Identifier: Apache-2.0
"""A field's group of verbs, made from its declaration and the shared options."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import typer
from typer.core import TyperCommand

from pellucid.cli.fields import FIELDS, MORE, VERBS
from pellucid.cli.root import Sectioned


def group(name: str, wanted: str) -> Any:
    """Return the command group of a field; only the wanted verb is made, the others are lines of help."""
    app = typer.Typer(
        help=dict(FIELDS)[name],
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback()
    def field() -> None:
        """Take no action; verbs do."""

    verbs = (*VERBS, *MORE.get(name, ()))
    if wanted in dict(verbs):
        command = _verb(name, wanted)
        app.command(wanted, cls=Sectioned, help=command.__doc__)(command)
    made = typer.main.get_group(app)
    made.help = dict(FIELDS)[name]
    real = dict(made.commands)
    made.commands.clear()
    for verb, line in verbs:
        made.add_command(real.get(verb) or TyperCommand(verb, help=line, callback=None), verb)
    return made


def _verb(name: str, verb: str) -> Any:
    """Return a verb's function: its own module, or that of ``denoise``, whose line tasks and conversions share."""
    if importlib.util.find_spec(f"pellucid.cli.verbs.{verb}") is not None:
        return importlib.import_module(f"pellucid.cli.verbs.{verb}").command(name)
    return importlib.import_module("pellucid.cli.verbs.denoise").command(f"{name} {verb}")
