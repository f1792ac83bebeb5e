# SPDX-License-Identifier: Apache-2.0
"""Hyperspectral denoising against HyDe 0.4.3 on Indian Pines: quality and CPU seconds, same noise, same run.

HyDe is told its noise is white (``iid``, its default): told otherwise it inverts its whitening wrongly and
returns NaN. Run from the repository root: ``python -m benchmarks.hyperspectral [--quick] [--slow] [--tune]``;
``--slow`` adds L1HyMixDe (minutes), ``--tune`` the scenes settings were chosen on.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from benchmarks import hyperspectral_promises
from benchmarks.hyperspectral_cases import NAMES, indian_pines, noisy, tuning_scenes
from benchmarks.peers import cpu_time, run_json, save, venv
from pellucid.core.types import Description, Noise, Plan, Tile
from pellucid.domains.hyperspectral import lowrank, metrics

REQUIREMENTS = (
    ["torch==2.13.0"],
    ["--no-deps", "hyde-images==0.4.3"],
    ["bm3d", "kornia", "PyWavelets", "scipy", "psutil", "h5py", "pytorch-wavelets", "six", "scikit-image"],
    ["setuptools<80"],  # pkg_resources; torch pulls a newer one
)
PEERS = {"1": ("FastHyDe", "HyRes"), "2": ("FastHyDe", "HyRes"), "3": ("FastHyDe", "HyRes")}
MIXED = ("FastHyDe", "HyRes", "HyMiNoR")
SLOW = "L1HyMixDe"  # minutes
HYDE = """
import time, warnings
import numpy as np
import torch
warnings.filterwarnings("ignore")
torch.set_num_threads(1)
import hyde
noisy = torch.from_numpy(np.load(job["input"]))
method = getattr(hyde, job["method"])()
method(noisy[:48, :48].clone())
start = time.process_time()
result = method(noisy.clone())
seconds = time.process_time() - start
result = result[0] if isinstance(result, (tuple, list)) else result
np.save(job["output"], result.numpy())
print(json.dumps(seconds))
"""


README = {  # (case, method) shown in README
    "iid .1": ("input", "HyDe FastHyDe", "pellucid fast", "pellucid default", "pellucid best"),
    "per band .02-.2": ("HyDe FastHyDe", "pellucid default"),
    "mixed": ("HyDe HyMiNoR", "pellucid default"),
}


def main() -> None:
    """Run all cases and write ``results/hyperspectral.json``."""
    torch.set_num_threads(1)
    quick, slow = "--quick" in sys.argv, "--slow" in sys.argv
    python = venv("hyde", *REQUIREMENTS)
    clean, rows = indian_pines(), []
    denoise(noisy(clean[:48, :48], "1", 0)[0], {})  # warm
    for case in "16" if quick else "123456":
        values, sigma = noisy(clean, case, 0)
        peers = PEERS.get(case, (*MIXED, SLOW) if slow and case == "6" else MIXED)
        rows.append(_row("indian pines", case, 0, "input", 0.0, clean, values))
        rows.append(_row("indian pines", case, 0, "zero", 0.0, clean, np.zeros_like(values)))
        blurred = ndimage.gaussian_filter(values, (1, 1, 0))
        rows.append(_row("indian pines", case, 0, "blur", 0.0, clean, blurred))
        rows += [_peer(python, name, case, clean, values) for name in peers]
        rows += _ours("indian pines", case, 0, clean, values)
        rows[-1]["sigma_error"] = round(float(np.median(np.abs(_sigma(values) / sigma - 1))), 4)
        if case == "2":  # told that all bands are alike
            told = Noise(sigma=float(np.sqrt(np.square(sigma).mean())), source="given")
            rows.append(_row("indian pines", case, 0, "pellucid, one sigma", 0.0, clean, denoise(values, {}, told)))
    for seed in () if quick else (1, 2):
        for case in "136":
            rows += _ours("indian pines", case, seed, clean, noisy(clean, case, seed)[0], ("default",))
    rows += [] if quick else hyperspectral_promises.rows(clean, denoise)
    for name, cube in tuning_scenes().items() if "--tune" in sys.argv else ():
        for case in "126":
            values = noisy(cube, case, 0)[0]
            rows.append(_peer(python, "FastHyDe", case, cube, values, name))
            rows += _ours(name, case, 0, cube, values, ("default",))
    save("hyperspectral_quick" if quick else "hyperspectral", rows, peer="HyDe 0.4.3", scaling="each band to [0, 1]")


def denoise(values: np.ndarray, options: dict[str, Any], noise: Noise | None = None) -> np.ndarray:
    """Return the cube through both passes, as the engine runs them on a scene of one tile."""
    plan = Plan("lowrank", options=lowrank.Options(**options), noise=noise)
    tile = Tile.whole(values, spatial=2)
    state = lowrank.settle(lowrank.gather(tile, None, plan), plan)
    return lowrank.run(replace(tile, carry=state), None, plan, np.random.default_rng(0)).values


def _ours(
    scene: str, case: str, seed: int, clean: np.ndarray, values: np.ndarray, profiles: tuple[str, ...] = ()
) -> list[dict[str, Any]]:
    rows = []
    for profile in profiles or ("fast", "best", "default"):
        seconds, result = cpu_time(
            lambda profile=profile: denoise(values, {"profile": profile}), 1 if profile == "best" else 2
        )
        rows.append(_row(scene, case, seed, f"pellucid {profile}", seconds, clean, result))
    return rows


def _peer(
    python: Path, method: str, case: str, clean: np.ndarray, values: np.ndarray, scene: str = "indian pines"
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder, "given.npy"), Path(folder, "made.npy")
        np.save(given, values)
        seconds = run_json(python, HYDE, input=str(given), output=str(made), method=method)
        return _row(scene, case, 0, f"HyDe {method}", seconds, clean, np.load(made))


def _row(
    scene: str, case: str, seed: int, name: str, seconds: float, clean: np.ndarray, result: np.ndarray
) -> dict[str, Any]:
    description = Description("npy", clean.shape, ("line", "sample", "band"), "float32")
    found = metrics.measure(clean, result, description)
    figures = {key: round(found[key], 4) for key in ("mpsnr", "psnr", "ssim", "sam") if key in found}  # zero: no angle
    shown = name in README.get(NAMES[case], ()) and scene == "indian pines" and seed == 0
    return {
        "scene": scene,
        "case": NAMES[case],
        "seed": seed,
        "method": name,
        **figures,
        "cpu_s": round(seconds, 2),
        "readme": "case,method,mpsnr,psnr,ssim,sam,cpu_s" if shown else False,
    }


def _sigma(values: np.ndarray) -> np.ndarray:
    plan = Plan("lowrank", options=lowrank.Options())
    tile = Tile.whole(values, spatial=2)
    return lowrank.settle(lowrank.gather(tile, None, plan), plan).sigma


if __name__ == "__main__":
    main()
