# SPDX-License-Identifier: Apache-2.0
"""``pellucid example FIELD -o FILE``: a small simulated file to try things on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pellucid.cli.tools.build import tool

DOC = """Write a small simulated file of a field, its truth beside it.

    pellucid example mri -o dwi.nii.gz"""


def which(
    field: Annotated[str, typer.Argument(metavar="FIELD")],
    out: Annotated[Path, typer.Option("-o", "--out", help="File to write; the truth becomes STEM_truth.")],
    seed: Annotated[int, typer.Option("--seed", help="Seed of the noise.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace existing files.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Traceback on errors.")] = False,
) -> None:
    """Options of example."""


def command() -> Any:
    """Return the tool's command."""
    return tool("example", DOC, run, which)


def run(values: dict[str, Any]) -> int:
    """Write the two files and name them."""
    from pellucid.domains import compare, registry

    declared = registry.field(values["field"])
    phantom = compare.simulate(declared, "", "small", values["seed"])
    for path in compare.write_phantom(phantom, values["out"], declared.formats, force=values["force"]):
        print(path)
    return 0
