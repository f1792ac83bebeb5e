# SPDX-License-Identifier: Apache-2.0
"""``pellucid FIELD estimate``: the noise level alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from pellucid.cli import options


def asked(
    estimator: Annotated[str, typer.Option("--estimator", help="Name of the noise estimator.")] = "",
    force_kind: Annotated[
        str, typer.Option("--force-kind", help="Say what the file is where it looks like something else.")
    ] = "",
    key: Annotated[str, typer.Option("--key", help="Which array of a container (.mat, .npz).")] = "",
    axes: Annotated[str, typer.Option("--axes", help="Names of the axes where the format has none (.npy).")] = "",
    private: Annotated[bool, typer.Option("--private", help="Keep file names out of the result.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON document per file on stdout.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Traceback on errors.")] = False,
) -> None:
    """Options of estimate."""


def command(field_name: str) -> Callable[..., Any]:
    """Return the verb for a field."""
    from pellucid.domains import registry

    declared = registry.field(field_name)
    own = [declared.options] if declared.options else []
    known = f" Estimators: {', '.join(declared.estimators)}." if declared.estimators else ""
    doc = f"""Estimate the noise level without denoising.{known}

    pellucid {field_name} estimate FILE"""
    return options.merged(lambda values: run(values, field_name), "estimate", doc, options.inputs, asked, *own)


def run(values: dict[str, Any], field_name: str) -> int:
    """Print one estimate per file."""
    from pellucid.cli.batch import collect
    from pellucid.cli.private import unnamed
    from pellucid.cli.run import put
    from pellucid.core.errors import UsageError
    from pellucid.domains import look, registry
    from pellucid.domains.request import Request

    known = registry.field(field_name).estimators
    if values["estimator"] and values["estimator"] not in known:
        raise UsageError(f"there is no estimator '{values['estimator']}'", hint=f"choose from {', '.join(known)}")

    shared = ("estimator", "force_kind", "key", "axes", "private")
    own = {k: v for k, v in values.items() if k not in (*shared, "files", "json", "debug") and v}
    request = Request(**{k: values[k] for k in shared}, field_options=own)
    for path in collect(values["files"] or [], "", "", None):
        with unnamed(request.private, [path]):
            document = look.estimate(path, registry.field(field_name), request)
        if values["json"]:
            put(document)
        else:
            sigma = document["sigma"]
            level = (
                f"{sorted(sigma)[len(sigma) // 2]:.5g} (median of {len(sigma)})" if isinstance(sigma, list) else sigma
            )
            level = f"{level:.5g}" if isinstance(level, float) else level
            print(
                f"{document['file']}  {document['law']}  sigma {level}  {document['unit']}  by {document['estimator']}"
            )
    return 0
