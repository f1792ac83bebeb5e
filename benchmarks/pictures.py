# SPDX-License-Identifier: Apache-2.0
"""README's pictures: the demo of every field, before, after and what was removed.

python -m benchmarks.pictures
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.tables import PICTURES
from pellucid.cli.fields import FIELDS


def main() -> None:
    """Write docs/pictures/<field>.png."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    for field, _ in FIELDS:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "pellucid", "demo", field, "-o", folder]
            print(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            shutil.copy(Path(folder) / "before_after_removed.png", PICTURES / f"{field}.png")


if __name__ == "__main__":
    main()
