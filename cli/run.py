# SPDX-License-Identifier: Apache-2.0
"""One file through the straight line (``domains.line``), with what a person sees of it."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from pellucid.cli.main import say
from pellucid.cli.progress import progress
from pellucid.domains import convert, describe, line, outputs, registry
from pellucid.domains.names import native
from pellucid.domains.request import Request


def dry_run(path: Path, field_name: str, request: Request) -> dict[str, Any]:
    """Return the plan of one file as a JSON-ready document."""
    from pellucid.core import sidecar

    declared = registry.field(field_name)
    subject = describe.open_subject(path, declared, request)
    try:
        describe.refuse(subject, declared, request.force_kind)
        plan = line.make_plan(subject, declared, request)
        outputs.check(subject, plan.names["output"], request, plan.options)
    finally:
        subject.reader.close()
    facts = sidecar.plan_facts(plan)
    document = {
        "schema": "pellucid/plan/1",
        "input": "" if request.private else str(path),
        "output": "" if request.private else str(plan.names["output"]),
        "plan": {**facts, "memory_mb": plan.memory / 1024**2, "in_flight": plan.in_flight, "threads": plan.threads},
        "warnings": [{"code": c, "text": t} for c, t in plan.warnings],
    }
    found: dict[str, Any] = native(document)
    return found


def one(path: Path, field_name: str, request: Request, *, quiet: bool, resume: bool) -> dict[str, Any]:
    """Denoise one file; return its status row.

    Raises
    ------
    PellucidError
        As the line does.
    """
    if request.scratch:
        os.environ["PELLUCID_SCRATCH"] = str(request.scratch)
    clock = time.perf_counter()
    with progress("input" if request.private else path.name, quiet) as report:
        conversion = registry.conversion(field_name)
        if conversion is not None:
            declared = registry.field(field_name)
            outcome = convert.convert(path, declared, conversion, request, report, resume=resume)
        else:
            outcome = line.denoise(path, registry.field(field_name), request, report, resume=resume)
    plan = outcome.document["plan"]
    sigma = (plan.get("noise") or {}).get("sigma")
    if sigma is None:
        sigma = outcome.document.get("measured", {}).get("maps", {}).get("noise", {}).get("median")
    return {
        "input": "" if request.private else str(path),
        "output": "" if request.private else str(outcome.path),
        "status": "unchanged since" if outcome.resumed else "done",
        "code": 0,
        "method": plan["method"],
        "sigma": sigma["median"] if isinstance(sigma, dict) else sigma,
        "seconds": time.perf_counter() - clock,
        "message": "",
        "warnings": [{"code": c, "text": t} for c, t in outcome.warnings],
        "document": outcome.document,
    }


def tell(row: dict[str, Any], *, quiet: bool, verbose: bool) -> None:
    """Print warnings and the line of success."""
    name = Path(row["input"]).name or "input"
    for warning in row.get("warnings", []):
        say(f"pellucid: {name}: warning: {warning['text']}")
    if quiet:
        return
    sigma = "" if row["sigma"] is None else f"   sigma {row['sigma']:.4g}"
    kept = "   kept from before" if row["status"] != "done" else ""
    say(f"{name} -> {row['output'] or 'output'}   {row['method']}{sigma}   {row['seconds']:.1f} s{kept}")
    if verbose:
        say(json.dumps(native(row["document"]["plan"]), indent=1, sort_keys=True))


def put(document: Any) -> None:
    """Print one JSON document on stdout, on one line."""
    sys.stdout.write(json.dumps(native(document), sort_keys=True, ensure_ascii=False) + "\n")
    sys.stdout.flush()
