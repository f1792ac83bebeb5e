# SPDX-License-Identifier: Apache-2.0
"""A field's group of verbs, made from its declaration and the shared options."""

from __future__ import annotations

import importlib
from typing import Any

import typer

from pellucid.cli.fields import FIELDS
from pellucid.cli.root import Sectioned

VERBS = ("info", "estimate", "denoise", "simulate", "evaluate", "methods")


def group(name: str) -> Any:
    """Return the command group of a field."""
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

    for verb in VERBS:
        command = importlib.import_module(f"pellucid.cli.verbs.{verb}").command(name)
        app.command(verb, cls=Sectioned, help=command.__doc__)(command)
    made = typer.main.get_group(app)
    made.help = dict(FIELDS)[name]
    return made
