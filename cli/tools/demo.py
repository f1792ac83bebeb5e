# SPDX-License-Identifier: Apache-2.0
"""``pellucid demo [FIELD]``: example, denoise, evaluate, picture, in words a newcomer understands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pellucid.cli.tools.build import tool

DOC = """Simulate a measurement, denoise it and compare with the truth; writes files and a picture.

    pellucid demo
    pellucid demo speech -o tryout"""


def which(
    field: Annotated[str, typer.Argument(metavar="[FIELD]")] = "mri",
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder to write into.")] = Path("pellucid-demo"),
    debug: Annotated[bool, typer.Option("--debug", help="Traceback on errors.")] = False,
) -> None:
    """Options of demo."""


def command() -> Any:
    """Return the tool's command."""
    return tool("demo", DOC, run, which)


def run(values: dict[str, Any]) -> int:
    """Make the example, denoise it, print the gain."""
    from pellucid.cli.progress import progress
    from pellucid.domains import compare, line, registry
    from pellucid.domains.request import Request
    from pellucid.formats import find

    declared, folder = registry.field(values["field"]), values["out"]
    source = folder / f"example{find.module_of(declared.formats[0]).FORMAT.suffixes[0]}"
    phantom = compare.simulate(declared, "", "small", 0)
    source, truth = compare.write_phantom(phantom, source, declared.formats, force=True)
    request = Request(out=folder, out_folder=True, preview=folder / "before_after_removed.png", force=True)
    with progress(source.name, False) as report:
        outcome = line.denoise(source, declared, request, report)
    figures = compare.evaluate(outcome.path, declared, Request(), reference=truth, before=source)
    metric, sentence = declared.gain
    before, after = figures["reference_before"][metric], figures["reference"][metric]
    seconds = outcome.document["seconds"]
    print(f"simulated   {source}  (truth: {truth.name})")
    print(f"denoised    {outcome.path}  by {outcome.document['plan']['method']} in {seconds['cpu']:.1f} CPU seconds")
    print(f"result      {sentence.format(before=before, after=after)}")
    print(f"look at     {request.preview}: before, after, and what was removed (it should look like noise)")
    print(f"next        pellucid {declared.name} denoise YOUR_FILE")
    return 0
