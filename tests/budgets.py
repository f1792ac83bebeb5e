# SPDX-License-Identifier: Apache-2.0
"""What a command may cost before it does anything; run by the integration script, not by pytest."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

BUDGETS = {"--help": 0.150, "mri denoise --help": 0.150}  # CPU seconds, user + sys
MOST_BYTES = 60 * 1024**2


def cpu_seconds(words: list[str]) -> float:
    """Return CPU seconds of one whole command."""
    process = subprocess.Popen([sys.executable, "-m", "pellucid", *words], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, words
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Print every figure; exit 1 where a budget is passed."""
    import pellucid

    late = False
    for words, budget in BUDGETS.items():
        best = min(cpu_seconds(words.split()) for _ in range(7))
        late |= best > budget
        print(f"pellucid {words}: {best * 1000:.0f} ms CPU (budget {budget * 1000:.0f})")
    files = [p for p in Path(pellucid.__file__).parent.rglob("*") if p.is_file() and p.suffix != ".pyc"]
    size = sum(p.stat().st_size for p in files)
    print(f"installed package: {size / 1024:.0f} KiB")
    sys.exit(late or size > MOST_BYTES)


if __name__ == "__main__":
    main()
