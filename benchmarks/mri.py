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

SHOWN = {  # rows of README: case -> methods
    "snr20": ("dwidenoise 3.0.3", "dipy localpca", "dipy mppca", "pellucid fast", "pellucid default"),
    "Colin27 5 %": ("input", "DIPY blockwise p1 b2", "DIPY ASCM", "pellucid nlm fast", "pellucid nlm default"),
}


def series(quick: bool) -> list[dict[str, Any]]:
    """Return the diffusion rows; errors are in units of sigma."""
    rows = mri_dwi.series(quick) + mri_dwi.harmless()
    for row in rows:
        if row["method"] not in SHOWN["snr20"] or row["case"] != "snr20":
            row["readme"] = False
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
        if not (row["case"] == "Colin27 5 %" and row.get("seed") == 0 and _peer_or_ours(str(row["method"]))):
            row["readme"] = False
    return rows


def _peer_or_ours(method: str) -> bool:
    return "estimated" not in method and not method.startswith(("zero", "identity", "gaussian"))


def main() -> None:
    """Run and save."""
    quick = "--quick" in sys.argv
    save("mri_quick" if quick else "mri", series(quick) + volumes(quick))


if __name__ == "__main__":
    main()
