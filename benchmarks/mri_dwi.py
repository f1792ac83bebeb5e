# SPDX-License-Identifier: Apache-2.0
"""Diffusion MRI: MP-PCA beside MRtrix3's dwidenoise and DIPY's mppca and localpca on the phantom.

    python -m benchmarks.mri_dwi [--quick]

err: RMSE in the head against the magnitude's mean (floor removed), err_s: against the true signal, both in
units of sigma; vmax: worst volume over median volume; noise: median of the noise map in the head over sigma.
Margins and taper of the method were chosen on seed 7; nothing here uses it.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import cpu_of_command, cpu_time, run_json, save, venv
from pellucid.core.methods import mppca
from pellucid.core.noise import rician
from pellucid.core.types import Noise, Plan, Tile
from pellucid.domains.declare import Phantom
from pellucid.domains.mri import phantom

CASES: dict[str, dict[str, Any]] = {
    "snr20": {"seed": 0},
    "seed101": {"seed": 101},
    "seed102": {"seed": 102},
    "snr8": {"seed": 101, "snr": 8.0},
    "snr40": {"seed": 101, "snr": 40.0},
    "4coils": {"seed": 101, "coils": 4},
}
OURS: dict[str, dict[str, Any]] = {
    "fast": {"profile": "fast"},
    "default": {},
    "median": {"estimator": "median"},
}
ONCE: dict[str, dict[str, Any]] = {"koay": {"rician": "koay"}, "hard": {"shrink": "hard"}}  # on the first case only
DIPY = """
import time, numpy as np
data = np.load(job["input"])
if job["method"] == "mppca":
    from dipy.denoise.localpca import mppca
    call = lambda: mppca(data, patch_radius=2, return_sigma=True)
else:
    from dipy.core.gradients import gradient_table
    from dipy.denoise.localpca import localpca
    from dipy.denoise.pca_noise_estimate import pca_noise_estimate
    table = gradient_table(np.array(job["bvals"]), bvecs=np.array(job["bvecs"]))
    def call():
        sigma = pca_noise_estimate(data, table, correct_bias=True, smooth=3)
        return localpca(data, sigma=sigma, tau_factor=2.3, patch_radius=2), sigma
start = time.process_time()
out, sigma = call()
seconds = time.process_time() - start
np.save(job["output"], np.asarray(out, np.float32)); np.save(job["noise"], np.asarray(sigma, np.float32))
print(json.dumps(seconds))
"""


def score(made: Phantom, values: Any, noise: Any = None) -> dict[str, float]:
    """Return the figures of one result."""
    mask, sigma, coils = made.mask, float(made.noise.sigma), int(made.noise.params["coils"])
    truth = made.truth[mask].astype(np.float64)
    off = values[mask] - rician.mean(truth, sigma, coils)
    per_volume = np.sqrt(np.mean(off**2, axis=0))
    residual = np.where(mask[..., None], made.noisy - values, 0)
    pairs = mask[1:] & mask[:-1]
    row = {
        "err": np.sqrt(np.mean(off**2)) / sigma,
        "err_s": np.sqrt(np.mean((values[mask] - truth) ** 2)) / sigma,
        "vmax": per_volume.max() / np.median(per_volume),
        "residual_sd": residual[mask].std() / sigma,
        "residual_lag1": np.mean((residual[1:] * residual[:-1])[pairs]) / sigma**2,
        "finite": float(np.isfinite(values).all()),
    }
    if noise is not None:
        row["noise"] = np.median(noise[mask]) / sigma
    return {k: float(v) for k, v in row.items()}


def ours(made: Phantom, noise: Noise | None = None, **options: Any) -> dict[str, float]:
    """Return figures and warm CPU seconds of our method on one thread."""
    tile = Tile.whole(made.noisy, spatial=3)
    coils = int(made.noise.params["coils"])
    plan = Plan("mppca", options=mppca.Options(**{"coils": coils, **options}), threads=1)
    seconds, result = cpu_time(lambda: mppca.run(tile, noise, plan, np.random.default_rng(0)))
    return {**score(made, result.values, result.maps["noise"]), "cpu_s": seconds}


def dwidenoise(made: Phantom) -> dict[str, float] | None:
    """Return figures of MRtrix3's program: CPU seconds of the process less those on a tiny file."""
    if not shutil.which("dwidenoise"):
        return None
    import nibabel

    with tempfile.TemporaryDirectory() as folder:
        seconds = []
        for name, values in (("tiny", made.noisy[:5, :5, :5]), ("full", made.noisy)):
            at = Path(folder) / f"{name}.nii"
            nibabel.save(nibabel.Nifti1Image(values, np.diag([2.0, 2.0, 2.0, 1.0])), at)
            out, noise = at.with_name(f"{name}_out.nii"), at.with_name(f"{name}_noise.nii")
            command = ["dwidenoise", str(at), str(out), "-noise", str(noise), "-nthreads", "0", "-quiet"]
            seconds.append(cpu_of_command(command))
        values, level = (np.asanyarray(nibabel.load(p).dataobj) for p in (out, noise))
        return {**score(made, values, level), "cpu_s": seconds[1] - seconds[0]}


def dipy(made: Phantom, method: str) -> dict[str, float]:
    """Return figures of DIPY 1.12.1 (``mppca`` or ``localpca``), warm CPU seconds in its own process."""
    python = venv("dipy", ["numpy==2.4.*"], ["dipy==1.12.1"])
    with tempfile.TemporaryDirectory() as folder:
        names = {k: str(Path(folder) / f"{k}.npy") for k in ("input", "output", "noise")}
        np.save(names["input"], made.noisy)
        gradients = {k: made.description.acquisition[k].tolist() for k in ("bvals", "bvecs")}
        seconds = run_json(python, DIPY, method=method, **names, **gradients)
        return {**score(made, np.load(names["output"]), np.load(names["noise"])), "cpu_s": float(seconds)}


def series(quick: bool = False) -> list[dict[str, Any]]:
    """Return a row for every case and method; peers first, ratios to dwidenoise of the same run beside ours."""
    rows: list[dict[str, Any]] = []
    for case, parameters in CASES.items():
        if quick and case != "snr20":
            continue
        made = phantom.dwi(**parameters)
        rows.append({"case": case, "method": "input", **score(made, made.noisy)})
        peer = dwidenoise(made)
        if peer:
            rows.append({"case": case, "method": "dwidenoise 3.0.3", **peer})
        if case == "snr20" and not quick:
            rows += [{"case": case, "method": f"dipy {m}", **dipy(made, m)} for m in ("mppca", "localpca")]
        for name, options in (OURS | ONCE if case == "snr20" else OURS).items():
            row = {"case": case, "method": f"pellucid {name}", **ours(made, **options)}
            if peer:
                row |= {"err_ratio": row["err"] / peer["err"], "cpu_ratio": row["cpu_s"] / peer["cpu_s"]}
            rows.append(row)
    return rows


def harmless() -> list[dict[str, Any]]:
    """Return what happens to clean data, and what a second run still changes."""
    clean, made = phantom.dwi(noise=False), phantom.dwi(101)
    plan = Plan("mppca", options=mppca.Options())

    def once(values: Any) -> Any:
        return mppca.run(Tile.whole(values, spatial=3), None, plan, np.random.default_rng(0)).values

    mse = float(np.mean((once(clean.noisy) - clean.truth)[clean.mask].astype(np.float64) ** 2))
    first = once(made.noisy)
    change = np.linalg.norm(once(first) - first) / np.linalg.norm(first - made.noisy)
    psnr = 10 * np.log10(float(clean.truth.max()) ** 2 / mse)
    return [{"case": "harmless", "method": "pellucid default", "clean_psnr_db": psnr, "second_run": float(change)}]


def main() -> None:
    """Run and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one case, no DIPY (under a minute)")
    quick = parser.parse_args().quick
    save("mri_dwi_quick" if quick else "mri_dwi", series(quick) + harmless())


if __name__ == "__main__":
    main()
