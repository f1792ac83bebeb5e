# SPDX-License-Identifier: Apache-2.0
"""``pellucid FIELD simulate``: a measurement whose truth is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from pellucid.cli import options


def wanted(
    out: Annotated[Path, typer.Option("-o", "--out", help="File to write; its truth goes beside it as STEM_truth.")],
    case: Annotated[str, typer.Option("--case", help="Which simulation.")] = "",
    size: Annotated[str, typer.Option("--size", help="small, full, or extents such as 64x64x30.")] = "full",
    seed: Annotated[int, typer.Option("--seed", help="Seed of the noise.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace existing files.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Traceback on errors.")] = False,
) -> None:
    """Options of simulate."""


def picture(
    from_rgb: Annotated[
        Path | None, typer.Option("--from-rgb", help="Start from a clean colour picture instead of a case.")
    ] = None,
) -> None:
    """Where a field can undo a picture."""


def command(field_name: str) -> Callable[..., Any]:
    """Return the verb for a field."""
    from pellucid.domains import registry

    cases = registry.field(field_name).cases
    parts = [wanted, picture] if registry.field(field_name).from_rgb else [wanted]
    doc = f"""Simulate a measurement of this field; the truth is written beside it.

    pellucid {field_name} simulate -o FILE --case {cases[0] if cases else "NAME"}

    Cases: {", ".join(cases)}."""
    return options.merged(lambda values: run(values, field_name), "simulate", doc, *parts)


def run(values: dict[str, Any], field_name: str) -> int:
    """Write the two files and name them."""
    from pellucid.domains import compare, registry

    declared = registry.field(field_name)
    if values.get("from_rgb"):
        phantom = compare.simulate_from(declared, values["from_rgb"], values["seed"])
    else:
        phantom = compare.simulate(declared, values["case"], values["size"], values["seed"])
    for path in compare.write_phantom(phantom, values["out"], declared.formats, force=values["force"]):
        print(path)
    return 0
