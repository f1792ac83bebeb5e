# SPDX-License-Identifier: Apache-2.0
"""Rician volumes: Colin27 (Debian's mricron-data) beside DIPY's non-local means and adaptive soft matching.

Crop [20:164, 16:200, 60:108] of ``ch2``, peak 255, brain where ``ch2bet`` > 0; sigma = p % of the peak;
PSNR in the brain and in the whole crop; CPU seconds warm, one thread, sigma given unless the row says so.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from scipy import ndimage

from benchmarks.peers import CACHE, cpu_time, run_json, save, venv
from pellucid.core.estimate.background import rician_sigma
from pellucid.core.methods import nlm
from pellucid.core.types import Noise, Plan, Tile

CROP = (slice(20, 164), slice(16, 200), slice(60, 108))
PEAK = 255.0

DIPY = """
import time
import numpy as np
from dipy.denoise.adaptive_soft_matching import adaptive_soft_matching
from dipy.denoise.nlmeans import nlmeans
data = np.load(job["file"])
noisy, truth, brain, sigma = data["noisy"], data["truth"], data["brain"], job["sigma"]
def psnr(a, m):
    return float(10 * np.log10(255.0**2 / np.mean((a[m].astype(float) - truth[m]) ** 2)))
def run(patch, block, part=noisy):
    return nlmeans(part, sigma=sigma, patch_radius=patch, block_radius=block, rician=True,
                   method="blockwise", num_threads=1)
run(1, 1, noisy[:16, :16, :16].copy())
rows, outs = [], {}
for patch, block in ((1, 1), (1, 2), (1, 3), (2, 2)):
    start = time.process_time()
    out = run(patch, block)
    seconds = time.process_time() - start
    outs[patch, block] = out, seconds
    rows.append({"method": f"dipy nlmeans p{patch} b{block}", "brain": psnr(out, brain),
                 "whole": psnr(out, truth > -1), "cpu_s": seconds})
start = time.process_time()
out = adaptive_soft_matching(noisy, outs[1, 2][0], outs[2, 2][0], sigma)
seconds = time.process_time() - start + outs[1, 2][1] + outs[2, 2][1]
rows.append({"method": "dipy ascm (p1 b2, p2 b2)", "brain": psnr(out, brain),
             "whole": psnr(out, truth > -1), "cpu_s": seconds})
import json
print(json.dumps(rows))
"""


def colin() -> tuple[np.ndarray, np.ndarray]:
    """Return truth and brain mask; fetches Debian's package on first use."""
    folder = CACHE / "mricron"
    files = folder / "usr/share/mricron/templates"
    if not files.exists():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "download", "mricron-data"], cwd=folder, check=True)
        package = next(folder.glob("mricron-data*.deb"))
        subprocess.run(["dpkg-deb", "-x", str(package), str(folder)], check=True)
    truth = np.asanyarray(nibabel.load(files / "ch2.nii.gz").dataobj)[CROP].astype(np.float32)
    return truth, np.asanyarray(nibabel.load(files / "ch2bet.nii.gz").dataobj)[CROP] > 0


def psnr(estimate: np.ndarray, truth: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio in dB for a peak of 255."""
    return float(10 * np.log10(PEAK**2 / np.mean((estimate.astype(np.float64) - truth) ** 2)))


def ours(noisy: np.ndarray, sigma: float, profile: str = "default") -> np.ndarray:
    """Denoise a Rician volume."""
    plan = Plan("nlm", nlm.Options(profile=profile))
    return nlm.run(Tile.whole(noisy), Noise("rician", sigma), plan, np.random.default_rng(0)).values


def level(percent: int, seed: int, python: Path, folder: Path) -> list[dict[str, Any]]:
    """Return the rows of one noise level and seed."""
    truth, brain = colin()
    sigma = percent / 100 * PEAK
    noise = np.random.default_rng(seed).standard_normal((2, *truth.shape)).astype(np.float32) * np.float32(sigma)
    noisy = np.hypot(truth + noise[0], noise[1]).astype(np.float32)
    np.savez(folder / "job.npz", noisy=noisy, truth=truth, brain=brain)
    key = {"percent": percent, "seed": seed}
    rows: list[dict[str, Any]] = []

    def add(method: str, out: np.ndarray, seconds: float, **more: float) -> None:
        whole = psnr(out, truth)
        rows.append(
            {**key, "method": method, "brain": psnr(out[brain], truth[brain]), "whole": whole, "cpu_s": seconds, **more}
        )

    for profile in ("fast", "default", "best"):
        seconds, out = cpu_time(lambda profile=profile: ours(noisy, sigma, profile))
        add(f"pellucid nlm {profile}", out, seconds)
    rows += [{**key, **row} for row in run_json(python, DIPY, file=str(folder / "job.npz"), sigma=sigma)]
    spent, (found, report) = cpu_time(lambda: rician_sigma(noisy))
    seconds, out = cpu_time(lambda: ours(noisy, found))
    add(
        "pellucid nlm default, sigma estimated",
        out,
        seconds + spent,
        sigma_ratio=found / sigma,
        tissue_ratio=report["tissue"] / sigma,
    )
    again, _ = rician_sigma(out)
    rows[-1]["second_run_share"] = float(np.std(ours(out, again) - out) / np.std(out - noisy))
    tissue, _ = rician_sigma(np.where(brain, noisy, 0))
    rows[-1]["brain_only_sigma_ratio"] = tissue / sigma
    add("identity", noisy, 0.0)
    add("zero", 0 * noisy, 0.0)
    add("gaussian blur 0.7", ndimage.gaussian_filter(noisy, 0.7), 0.0)
    return rows


def clean() -> dict[str, Any]:
    """Return what happens to a volume without added noise, sigma estimated."""
    truth, brain = colin()
    found, report = rician_sigma(truth)
    once = ours(truth, found)
    twice = ours(once, rician_sigma(once)[0])
    return {
        "percent": 0,
        "method": "pellucid nlm default, clean input",
        "whole": psnr(once, truth),
        "brain": psnr(once[brain], truth[brain]),
        "sigma": found,
        "used": report["used"],
        "second_run_share": float(np.std(twice - once) / np.std(once - truth)),
    }


def main() -> None:
    """Write ``results/mri_volume.json``."""
    quick = "--quick" in sys.argv
    python = venv("dipy-1.12.1-nlm", ["dipy==1.12.1"])
    ours(np.random.default_rng(0).random((16, 16, 16), np.float32), 0.1)  # warm
    rows = [clean()]
    with tempfile.TemporaryDirectory() as folder:
        for seed in (0,) if quick else (0, 1):
            for percent in (5,) if quick else (1, 3, 5, 9):
                rows += level(percent, seed, python, Path(folder))
    save("mri_volume_quick" if quick else "mri_volume", rows)


if __name__ == "__main__":
    main()
