# SPDX-License-Identifier: Apache-2.0
"""Peers in virtual environments of their own, and the clock all benchmarks share.

Every figure is CPU seconds, user + sys, on one thread: machines are noisy, wall time lies.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import resource
import subprocess
import sys
import time
import venv as stdlib_venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "pellucid-bench"
RESULTS = Path(__file__).parent / "results"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def venv(name: str, *steps: list[str]) -> Path:
    """Return the Python of a peer's environment, made on first use by ``pip install`` of each step."""
    home = CACHE / name
    python, done = home / "bin" / "python", home / ".done"
    wanted = json.dumps(steps)
    if not done.exists() or done.read_text() != wanted:
        stdlib_venv.create(home, with_pip=True, clear=True)
        for step in steps:
            subprocess.run([python, "-m", "pip", "install", "--quiet", *step], check=True)
        done.write_text(wanted)
    return python


def run_json(python: Path | str, source: str, **values: Any) -> Any:
    """Run Python source in a peer's environment; it reads ``job`` (a dict) and prints JSON last."""
    code = f"import json\njob = json.loads({json.dumps(json.dumps(values))})\n" + source
    env = {**os.environ, **ONE_THREAD}
    done = subprocess.run([str(python), "-c", code], env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout.strip().splitlines()[-1])


def cpu_time(call: Callable[[], Any], repeat: int = 1) -> tuple[float, Any]:
    """Return the least CPU seconds of ``repeat`` calls in this warm process, and the last result."""
    best, result = float("inf"), None
    for _ in range(repeat):
        start = time.process_time()
        result = call()
        best = min(best, time.process_time() - start)
    return best, result


def cpu_of_command(command: list[str]) -> float:
    """Return CPU seconds of a whole program, children included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, env={**os.environ, **ONE_THREAD}, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def save(name: str, rows: list[dict[str, Any]], **facts: Any) -> Path:
    """Write ``results/<name>.json`` with date, machine and command, and print the rows."""
    RESULTS.mkdir(exist_ok=True)
    document = {
        "date": datetime.date.today().isoformat(),
        "cpu": _cpu_model(),
        "python": platform.python_version(),
        "command": "python -m " + " ".join(["benchmarks." + Path(sys.argv[0]).stem, *map(_plain, sys.argv[1:])]),
        **facts,
        "rows": rows,
    }
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
    for row in rows:
        print("  ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in row.items()))
    return path


def _plain(word: str) -> str:
    """Return an argument without the place of this machine's folders."""
    return Path(word).name if Path(word).is_absolute() else word


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()
