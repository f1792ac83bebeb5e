# SPDX-License-Identifier: Apache-2.0
"""The real command in a real process, and small files it can work on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest


class Shell:
    """Runs ``pellucid`` words in a folder and keeps what it said."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, *words: object, **more: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pellucid", *map(str, words)]
        return subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, timeout=240, check=False, **more
        )

    def start(self, *words: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "pellucid", *map(str, words)]
        return subprocess.Popen(command, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "no-config"))
    return Shell(tmp_path)


@pytest.fixture
def volume(tmp_path: Path) -> Callable[..., Path]:
    """Write a small int16 NIfTI with structure and noise; return its path."""
    import nibabel

    def write(name: str = "scan.nii.gz", shape: tuple[int, ...] = (16, 15, 14), seed: int = 0) -> Path:
        rng = np.random.default_rng(seed)
        x = np.indices(shape).astype(float)
        clean = 500 + 300 * np.sin(x[0] / 4) * np.cos(x[1] / 5) + 100 * (x[2] > 6)
        noisy = np.hypot(clean + 30 * rng.standard_normal(shape), 30 * rng.standard_normal(shape))
        image = nibabel.Nifti1Image(noisy.astype(np.int16), np.diag([2, 2, 3, 1]))
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        nibabel.save(image, path)
        return path

    return write
