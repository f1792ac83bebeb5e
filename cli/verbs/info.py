# SPDX-License-Identifier: Apache-2.0
"""``pellucid FIELD info`` and the layout ``pellucid info`` shares."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from pellucid.cli import options


def shown(
    json: Annotated[bool, typer.Option("--json", help="One JSON document per file on stdout.")] = False,
    key: Annotated[str, typer.Option("--key", help="Which array of a container (.mat, .npz).")] = "",
    axes: Annotated[str, typer.Option("--axes", help="Names of the axes where the format has none (.npy).")] = "",
    show_identity: Annotated[
        bool, typer.Option("--show-identity", help="Also print names, ids and dates of people.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Traceback on errors.")] = False,
) -> None:
    """Options of info."""


def command(field_name: str) -> Callable[..., Any]:
    """Return the verb for a field."""
    from pellucid.domains import registry

    declared = registry.field(field_name)
    own = [declared.options] if declared.options else []
    doc = f"""Tell what a file is: axes, units, spacing, and whether it can be denoised.

    pellucid {field_name} info FILE"""
    return options.merged(lambda values: run(values, field_name), "info", doc, options.inputs, shown, *own)


def run(values: dict[str, Any], field_name: str) -> int:
    """Print one description per file."""
    from pellucid.cli.batch import collect
    from pellucid.cli.run import put
    from pellucid.domains import look, registry
    from pellucid.domains.request import Request

    own = {k: v for k, v in values.items() if k not in ("files", "json", "key", "axes", "show_identity", "debug") and v}
    request = Request(key=values["key"], axes=values["axes"], field_options=own)
    declared = registry.field(field_name) if field_name else None
    for path in collect(values["files"] or [], "", "", None):
        document = look.info(path, declared, request, identity=values["show_identity"])
        if values["json"]:
            put(document)
        else:
            print(text(document))
    return 0


def text(document: dict[str, Any]) -> str:
    """Return the description as aligned lines."""
    axes = "  ".join(f"{a['name']} {a['size']}{_step(a)}" for a in document["axes"])
    rows = [
        ("file", document["file"]),
        ("field", document["field"]),
        ("format", document["format"]),
        ("kind", f"{document['kind']}, stored as {document['dtype']}"),
        ("axes", axes),
    ]
    if document["nodata"] is not None:
        rows.append(("nodata", document["nodata"]))
    if document["bad"]:
        rows.append(("bad", f"{len(document['bad'])} not used: {_few(document['bad'])}"))
    rows += [(k, _few(v)) for k, v in document["acquisition"].items() if v not in (None, "", [])]
    plan = document["denoise"]
    if plan["refused"]:
        rows.append(("denoise", f"refused: {plan['refused']['what']}"))
    elif plan["method"]:
        rows.append(("denoise", f"{plan['method']} ({plan['why']})"))
    rows += [("warning", w["text"]) for w in document["warnings"]]
    rows += [(k, _few(v)) for k, v in document.get("identity", {}).items()]
    width = max(len(str(k)) for k, _ in rows)
    return "\n".join(f"{k:<{width}}  {v}" for k, v in rows)


def _step(axis: dict[str, Any]) -> str:
    if axis["spacing"] is None:
        return ""
    return f" ({axis['spacing']:.6g} {axis['unit'] or ''})".replace(" )", ")")


def _few(value: Any) -> str:
    if isinstance(value, list) and len(value) > 6:
        return f"{len(value)} values, {_few(value[:2])} ... {_few(value[-1:])}"
    if isinstance(value, list):
        return ", ".join(_few(v) for v in value)
    return f"{value:.6g}" if isinstance(value, float) else " ".join(str(value).split())[:120]
