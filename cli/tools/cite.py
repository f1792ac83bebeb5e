# SPDX-License-Identifier: Apache-2.0
"""``pellucid cite``: whom to cite for a result or a method."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from pellucid.cli.tools.build import tool
from pellucid.core.errors import FormatError, UsageError

DOC = """Print references as BibTeX: of a result's sidecar, or of a method by name.

    pellucid cite dwi_denoised.nii.gz.pellucid.json
    pellucid cite mppca"""


def whom(
    what: Annotated[str, typer.Argument(metavar="SIDECAR|METHOD", help="A sidecar file or a method's name.")],
) -> None:
    """What to cite."""


def command() -> Any:
    """Return the tool's command."""
    return tool("cite", DOC, run, whom)


def run(values: dict[str, Any]) -> int:
    """Print one entry per reference, pellucid's own last."""
    from pellucid import __version__

    path = Path(values["what"])
    dois = _of_sidecar(path) if path.is_file() else _of_method(values["what"])
    for doi in dois:
        key = "doi_" + "".join(c if c.isalnum() else "_" for c in doi)
        print(f"@article{{{key},\n  doi = {{{doi}}},\n  url = {{https://doi.org/{doi}}}\n}}")
    print(f"@software{{pellucid,\n  title = {{pellucid}},\n  version = {{{__version__}}}\n}}")
    return 0


def _of_sidecar(path: Path) -> list[str]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        document = document.get("Pellucid", document)
        return [str(d) for d in document["cite"]]
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise FormatError(path, "", "is no sidecar of pellucid", "name the .pellucid.json file") from error


def _of_method(name: str) -> list[str]:
    from pellucid.domains import registry

    known = registry.all_methods()
    if name not in known:
        raise UsageError(f"'{name}' is neither a sidecar nor a method", hint="see 'pellucid list methods'")
    return list(known[name].TRAITS.cite)
