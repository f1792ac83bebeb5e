# SPDX-License-Identifier: Apache-2.0
"""Tables of README and docs, made from traits and committed results; ``cog -I . -r README.md docs/*.md``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from pellucid.cli.fields import FIELDS, MORE, TOOLS, VERBS
from pellucid.domains import registry
from pellucid.formats import find

RESULTS = Path(__file__).parent / "results"
PICTURES = Path(__file__).parent.parent / "docs" / "pictures"


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def methods() -> str:
    """Return every method: fields, use, avoid, references."""
    used: dict[str, list[str]] = {}
    for field in registry.fields():
        for seen in registry.sights(field):
            verb = "" if seen.word == "denoised" else f" ({_verb(field, seen.word)})"
            for name in registry.methods_of(seen):
                if name not in ("identity", *(n for n, f in used.items() if field in f)) or not verb:
                    used.setdefault(name, []).append(field + verb)
    rows = []
    for name, module in sorted(registry.all_methods().items()):
        t = module.TRAITS
        cites = ", ".join(f"[{d}](https://doi.org/{d})" for d in t.cite)
        rows.append([f"`{name}`", ", ".join(used.get(name, [])), t.use, t.avoid, cites])
    return table(["method", "fields", "use for", "not for", "papers (DOI)"], rows)


def _verb(field: str, word: str) -> str:
    return next(t.name for t in registry.field(field).tasks if t.word == word)


def formats() -> str:
    """Return every format: suffixes, what is written."""
    rows = []
    for _, module in sorted(find.formats().items()):
        t = module.FORMAT
        written = "yes" if t.writes else f"as {t.fallback}"
        rows.append([t.title, " ".join(f"`{s}`" for s in t.suffixes), written, t.keeps])
    return table(["format", "suffixes", "written", "what travels, allowed differences"], rows)


def benchmarks() -> str:
    """Return one table per committed result, with machine, date and command."""
    parts = []
    for field, _ in FIELDS:
        for path in sorted(
            p for p in RESULTS.glob(f"{field}*.json") if "quick" not in p.name and "networks" not in p.name
        ):
            document = json.loads(path.read_text())
            if any(readme_columns(row) for row in document["rows"]):
                parts.append(_benchmark(field, document))
    return "\n".join(parts)


SPEECH = "method,n,si_sdr,pesq,stoi,worst_change,rtf"


def readme_columns(row: dict[str, Any]) -> str:
    """Return the columns of a row that is shown in README, nothing where it is not."""
    return str(row.get("readme") or (SPEECH if row.get("set") == "test mixtures" else ""))


def _benchmark(field: str, document: dict[str, Any]) -> str:
    """Return a field's tables: rows that share their columns stand together."""
    parts: dict[str, list[list[str]]] = {}
    for row in document["rows"]:
        columns = readme_columns(row)
        if columns:
            parts.setdefault(columns, []).append([_cell(row.get(k)) for k in columns.split(",")])
    facts = f"{document['date']}, {document['cpu']}, `{document['command']}`"
    tables = "\n".join(table([NAMES.get(k, k) for k in columns.split(",")], rows) for columns, rows in parts.items())
    return f"**{field}** ({facts})\n\n{tables}"


NAMES = {
    "err": "error / sigma",
    "cpu_s": "CPU s",
    "vmax": "worst / median volume",
    "brain": "PSNR in the brain, dB",
    "whole": "PSNR, dB",
    "mpsnr": "MPSNR, dB",
    "psnr": "PSNR, dB",
    "ssim": "SSIM",
    "sam": "SAM, degrees",
    "si_sdr": "SI-SDR, dB",
    "pesq": "PESQ (wide band)",
    "stoi": "STOI",
    "worst_change": "worst file's SI-SDR change, dB",
    "rtf": "CPU s per s of sound",
    "n": "files",
    "seconds": "CPU s",
    "nrmse": "NRMSE",
    "gcnr": "gCNR",
    "contrast_db": "vessel / tissue, dB",
    "speckle_snr": "speckle SNR",
    "rmse_db": "RMSE, dB",
    "points_kept": "14-dB points kept, of 15",
    "mean": "mean, out / in",
    "peak_gb": "peak, GB",
    "correlation": "correlation with PyMUST",
}


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def pictures() -> str:
    """Return one picture per field: before, after, removed."""
    parts = []
    for field, line in FIELDS:
        if (PICTURES / f"{field}.png").exists():
            parts.append(f"**{field}**: {line}\n\n![{field}: before, after, removed](docs/pictures/{field}.png)\n")
    return "\n".join(parts)


def helps() -> str:
    """Return the help of every command, as the shell prints it at 100 columns."""
    words = [
        [],
        *([t] for t, _ in TOOLS),
        *([f] for f, _ in FIELDS),
        *([f, v] for f, _ in FIELDS for v, _ in (*VERBS, *MORE.get(f, ()))),
    ]
    env = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1"}
    parts = []
    for command in words:
        done = subprocess.run(
            [sys.executable, "-m", "pellucid", *command, "--help"], env=env, capture_output=True, text=True, check=True
        )
        title = " ".join(["pellucid", *command])
        body = "\n".join(line.rstrip() for line in done.stdout.splitlines())
        parts.append(f"## `{title}`\n\n```\n{body}\n```\n")
    return "\n".join(parts)
