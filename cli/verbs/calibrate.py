# SPDX-License-Identifier: Apache-2.0
"""``pellucid raw calibrate``: a camera's noise from flats and darks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from pellucid.cli import options


def wanted(
    darks: Annotated[
        list[Path], typer.Option("--darks", help="Frames without light; 16 or more. Repeat, or a folder.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="JSON to write, for --calibration.")],
    cfa: Annotated[str, typer.Option("--cfa", help="Colours of frames whose format does not say: RGGB.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    json: Annotated[bool, typer.Option("--json", help="The document on stdout, too.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Traceback on errors.")] = False,
) -> None:
    """Options of calibrate."""


def command(field_name: str) -> Callable[..., Any]:
    """Return the verb."""
    doc = f"""Measure a camera's noise from flats and darks: gain, read and row noise, defects.

    pellucid {field_name} calibrate FLAT... --darks FOLDER -o CAL.json

    Flats: two of each of 6 levels or more, evenly lit, no pair at the same level as another. One ISO at a time."""
    return options.merged(run, "calibrate", doc, options.inputs, wanted)


def run(values: dict[str, Any]) -> int:
    """Measure, write, say what was found."""
    from pellucid.cli.run import put
    from pellucid.core.errors import UsageError
    from pellucid.domains.raw import calibrate

    flats, darks = (_files(values[k] or []) for k in ("files", "darks"))
    if not flats:
        raise UsageError("there are no flats", hint="name two frames of each level of light")
    document = calibrate.calibrate(flats, darks, cfa=values["cfa"])
    calibrate.write(values["out"], document, force=values["force"])
    if values["json"]:
        put(document)
        return 0
    gain, read = (sum(document[k]) / len(document[k]) for k in ("gain", "read"))
    print(
        f"{values['out']}: gain {gain:.4g} DN per electron, read noise {read:.4g} DN, rows {document['row']:.3g} DN, "
        f"PRNU {document['prnu']:.2%}, {len(document['defects'])} defects"
    )
    for note in document["notes"]:
        print(f"note: {note}")
    return 0


def _files(paths: list[Path]) -> list[Path]:
    """Return files, those of folders in order of name."""
    found = []
    for path in paths:
        found += sorted(p for p in path.iterdir() if p.is_file() and p.name[0] != ".") if path.is_dir() else [path]
    return found
