# SPDX-License-Identifier: Apache-2.0
"""Every field beside its peers, one table at the end.

python -m benchmarks.all [--quick]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.peers import ONE_THREAD, RESULTS
from benchmarks.tables import NAMES, readme_columns

PARTS = ("mri", "ultrasound", "ultrasound_rf", "hyperspectral", "raw", "speech", "speech_rooms", "image")


def part(name: str, quick: bool) -> list[dict[str, Any]]:
    """Run one benchmark in a process of its own; return the rows it shows."""
    command = [sys.executable, "-m", f"benchmarks.{name}", *(["--quick"] if quick else [])]
    started = time.time()
    done = subprocess.run(command, env={**os.environ, **ONE_THREAD}, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"benchmarks.{name} failed:\n{done.stderr[-2000:]}")
    path = RESULTS / f"{name}{'_quick' if quick else ''}.json"
    if path.stat().st_mtime < started:
        raise SystemExit(f"benchmarks.{name} wrote no {path.name}")
    rows: list[dict[str, Any]] = json.loads(path.read_text())["rows"]
    print(f"{name}: {time.time() - started:.0f} s", file=sys.stderr, flush=True)
    return [row for row in rows if readme_columns(row)]


def show(name: str, rows: list[dict[str, Any]]) -> str:
    """Return a line per row: field, what it was measured on, method, figures with their names."""
    lines = []
    for row in rows:
        columns = readme_columns(row).split(",")
        words = [str(row[k]) for k in columns if isinstance(row.get(k), str)]
        figures = [f"{NAMES.get(k, k)} {row[k]:.4g}" for k in columns if isinstance(row.get(k), int | float)]
        lines.append(f"{name:<14} {' / '.join(words):<48} {'; '.join(figures)}")
    return "\n".join(lines)


def main() -> None:
    """Run all parts and print the table."""
    quick = "--quick" in sys.argv
    found = {name: part(name, quick) for name in PARTS if (Path(__file__).parent / f"{name}.py").exists()}
    for name, rows in found.items():
        print(show(name, rows))


if __name__ == "__main__":
    main()
