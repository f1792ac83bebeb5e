# SPDX-License-Identifier: Apache-2.0
"""MRI: diffusion series (``mri_dwi``) and single volumes (``mri_volume``) beside dwidenoise and DIPY.

python -m benchmarks.mri [--quick]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import mri_dwi, mri_volume
from benchmarks.peers import save, venv

SERIES = "case,method,err,vmax,noise,cpu_s"
VOLUMES = "case,method,brain,whole,cpu_s"
KEPT = ("input", "dwidenoise", "dipy", "pellucid fast", "pellucid default", "pellucid nlm fast", "pellucid nlm default")


def series(quick: bool) -> list[dict[str, Any]]:
    """Return the diffusion rows; errors are in units of sigma."""
    rows = mri_dwi.series(quick) + mri_dwi.harmless()
    for row in rows:
        row["readme"] = SERIES if row["case"] == "snr20" and row["method"].startswith(KEPT) else ""
    return rows


def volumes(quick: bool) -> list[dict[str, Any]]:
    """Return the rows of Rician volumes; figures are dB."""
    python = venv("dipy-1.12.1-nlm", ["dipy==1.12.1"])
    mri_volume.ours(np.random.default_rng(0).random((16, 16, 16), np.float32), 0.1)  # warm
    rows = [] if quick else [mri_volume.clean()]
    with tempfile.TemporaryDirectory() as folder:
        for seed in (0,) if quick else (0, 1):
            for percent in (5,) if quick else (1, 3, 5, 9):
                rows += mri_volume.level(percent, seed, python, Path(folder))
    for row in rows:
        row["case"] = f"Colin27 {row.pop('percent')} %"
        kept = row["method"].startswith(KEPT) and "estimated" not in row["method"]
        row["readme"] = VOLUMES if kept and row["case"] == "Colin27 5 %" and row.get("seed") == 0 else ""
    return rows


def main() -> None:
    """Run and save."""
    quick = "--quick" in sys.argv
    save("mri_quick" if quick else "mri", series(quick) + volumes(quick))


if __name__ == "__main__":
    main()
