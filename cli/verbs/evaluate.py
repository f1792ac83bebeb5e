# SPDX-License-Identifier: Apache-2.0
"""``pellucid FIELD evaluate``: figures of a result, with or without a reference."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from pellucid.cli import options


def against(
    result: Annotated[Path, typer.Argument(metavar="RESULT", help="The denoised file.")],
    reference: Annotated[Path | None, typer.Option("--reference", help="The truth.")] = None,
    before: Annotated[Path | None, typer.Option("--input", help="The file before denoising.")] = None,
    mask: Annotated[Path | None, typer.Option("--mask", help="Measure only where this map is above 0.")] = None,
    rois: Annotated[Path | None, typer.Option("--rois", help="Regions to measure, .json or .tsv (ultrasound).")] = None,
    sigma: Annotated[str, typer.Option("--sigma", help="Noise level the residual is compared with.")] = "auto",
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Traceback on errors.")] = False,
) -> None:
    """Options of evaluate."""


def command(field_name: str) -> Callable[..., Any]:
    """Return the verb for a field."""
    doc = f"""Measure a result against a reference, its input, or both; some fields also by itself.

    pellucid {field_name} evaluate RESULT --reference TRUTH --input NOISY"""
    return options.merged(lambda values: run(values, field_name), "evaluate", doc, against)


def run(values: dict[str, Any], field_name: str) -> int:
    """Print the figures."""
    from pellucid.cli.run import put
    from pellucid.domains import compare, registry
    from pellucid.domains.request import Request

    request = Request(mask=values["mask"], sigma=values["sigma"])
    document = compare.evaluate(
        values["result"],
        registry.field(field_name),
        request,
        reference=values["reference"],
        before=values["before"],
        rois=values["rois"],
    )
    if values["json"]:
        put(document)
        return 0
    titles = {
        "alone_before": "input by itself",
        "alone": "result by itself",
        "rois_before": "input's regions, in dB",
        "rois": "result's regions, in dB",
        "reference_before": "input against reference",
        "reference": "result against reference",
        "input": "result against input",
    }
    for part, title in titles.items():
        if part in document:
            figures = "  ".join(
                f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in document[part].items()
            )
            print(f"{title:<25} {figures}")
    return 0
