# SPDX-License-Identifier: Apache-2.0
"""Pictures: non-local means beside scikit-image's, and the estimators on white and on real camera noise.

camera.png is read from scikit-image's wheel. Noise: seed 0, full scale 1, unclipped; PSNR after clipping.
Real pairs and tune pictures are read from the folder named by PELLUCID_TEST_DATA (``natural/``), where present.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from scipy import ndimage

from benchmarks.peers import cpu_time, run_json, save, venv
from pellucid.core.estimate.mad import correlated_sigma, mad_sigma
from pellucid.core.estimate.spectrum import noise_spectrum
from pellucid.core.methods import nlm
from pellucid.core.types import Noise, Plan, Tile

DATA = Path(os.environ.get("PELLUCID_TEST_DATA", Path(__file__).parents[2] / "shared" / "data")) / "natural"
PAIRS = (("sidd_val", "_noisy", "_clean"), ("cc15", "_real", "_mean"), ("polyu", "_real", "_mean"))

SKIMAGE = """
import json, time
import numpy as np
from skimage.restoration import denoise_nl_means
noisy, sigma = np.load(job["file"]), job["sigma"]
colour = -1 if noisy.ndim == 3 else None
def run(x):
    return denoise_nl_means(x, patch_size=5, patch_distance=job["distance"], h=0.8 * sigma, sigma=sigma,
                            fast_mode=True, channel_axis=colour)
run(noisy[:32, :32])
start = time.process_time()
out = run(noisy)
seconds = time.process_time() - start
np.save(job["out"], out)
print(json.dumps(seconds))
"""


def psnr(estimate: np.ndarray, truth: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio in dB, clipped to [0, 1]."""
    return float(-10 * np.log10(np.mean((np.clip(estimate, 0, 1).astype(np.float64) - truth) ** 2)))


def ours(noisy: np.ndarray, sigma: float, params: dict[str, Any] | None = None, **options: Any) -> np.ndarray:
    """Denoise a picture."""
    noise = Noise("gaussian", sigma, params=params or {})
    tile = Tile.whole(noisy.astype(np.float32), spatial=2)
    return nlm.run(tile, noise, Plan("nlm", nlm.Options(**options)), np.random.default_rng(0)).values


def peer(python: Path, noisy: np.ndarray, sigma: float, distance: int) -> tuple[float, np.ndarray]:
    """Return CPU seconds and the picture of scikit-image."""
    with tempfile.TemporaryDirectory() as folder:
        file, out = f"{folder}/in.npy", f"{folder}/out.npy"
        np.save(file, noisy)
        return run_json(python, SKIMAGE, file=file, out=out, sigma=sigma, distance=distance), np.load(out)


def picture(path: Path) -> np.ndarray:
    """Read a picture, full scale 1."""
    return np.asarray(imagecodecs.imread(str(path)), np.float64) / 255


def white(python: Path, name: str, truth: np.ndarray, distance: int = 6) -> list[dict[str, Any]]:
    """Return rows for noise of 25/255."""
    sigma = 25 / 255
    noisy = truth + np.random.default_rng(0).standard_normal(truth.shape) * sigma
    rows = []
    for profile in ("fast", "default", "best"):
        seconds, out = cpu_time(lambda profile=profile: ours(noisy, sigma, profile=profile), 2)
        rows.append({"picture": name, "method": f"pellucid nlm {profile}", "psnr": psnr(out, truth), "cpu_s": seconds})
    seconds, out = cpu_time(lambda: ours(noisy, sigma, guide="patch"), 2)
    rows.append({"picture": name, "method": "pellucid nlm patch", "psnr": psnr(out, truth), "cpu_s": seconds})
    seconds, out = peer(python, noisy, sigma, distance)
    rows.append({"picture": name, "method": "skimage nl_means fast", "psnr": psnr(out, truth), "cpu_s": seconds})
    for label, bad in (("identity", noisy), ("zero", 0 * noisy)):
        rows.append({"picture": name, "method": label, "psnr": psnr(bad, truth)})
    blurs = [psnr(ndimage.gaussian_filter(noisy, (s, s, 0)[: noisy.ndim]), truth) for s in (0.5, 0.7, 1, 1.4, 2)]
    rows.append({"picture": name, "method": "best gaussian blur", "psnr": max(blurs)})
    return rows


def real(python: Path) -> list[dict[str, Any]]:
    """Return rows for real camera noise, first 256 x 256, sigma estimated."""
    rows = []
    for folder, tag, clean in PAIRS:
        for path in sorted((DATA / folder).glob(f"*{tag}*"))[:10]:
            noisy = picture(path)[:256, :256, :3]
            truth = picture(Path(str(path).replace(tag, clean)))[:256, :256, :3]
            rms = float(np.sqrt(np.mean((noisy - truth) ** 2)))
            found, stride = correlated_sigma(noisy, 2)
            params: dict[str, Any] = {"stride": stride}
            seconds, out = cpu_time(lambda n=noisy, f=found, p=params: ours(n, f, p))
            coloured = ours(noisy, found, params | {"spectrum": noise_spectrum(noisy)}, guide="dct")
            other = peer(python, noisy, found, 8)[1]
            rows.append(
                {
                    "set": folder,
                    "picture": path.name,
                    "input": psnr(noisy, truth),
                    "psnr": psnr(out, truth),
                    "dct_with_spectrum": psnr(coloured, truth),
                    "skimage_same_sigma": psnr(other, truth),
                    "cpu_s": seconds,
                    "stride": stride,
                    "sigma_ratio": found / rms,
                    "fine_sigma_ratio": mad_sigma(noisy, 2) / rms,
                }
            )
    return rows


def levels(names: list[str]) -> list[dict[str, Any]]:
    """Return estimates of white noise on pictures, found / true."""
    rows = []
    for name in names:
        truth = picture(DATA / name) * 255
        truth = truth.mean(-1) if truth.ndim == 3 else truth
        for sigma in (5, 10, 25, 50):
            noisy = truth + np.random.default_rng(1).normal(0, sigma, truth.shape)
            found, stride = correlated_sigma(noisy, 2)
            ratio = found / sigma
            rows.append(
                {"picture": name, "sigma": sigma, "ratio": ratio, "stride": stride, "mad": mad_sigma(noisy, 2) / sigma}
            )
    return rows


def main() -> None:
    """Write ``results/image_nlm.json``."""
    quick = "--quick" in sys.argv
    python = venv("skimage", ["scikit-image==0.26.0"])
    camera = next(python.parents[1].glob("lib/python*/site-packages/skimage/data/camera.png"))
    ours(np.zeros((64, 64)) + 0.5, 0.1)  # warm
    rows = white(python, "camera", picture(camera))
    if DATA.exists():
        rows += white(python, "kodim08[:256,:256]", picture(DATA / "kodak24_500/kodim08.png")[:256, :256])
        if not quick:
            rows += [
                r for k in range(1, 13) for r in white(python, f"set12/{k:02d}", picture(DATA / f"set12/{k:02d}.png"))
            ]
            rows += real(python)
            rows += levels(
                [f"set12/{k:02d}.png" for k in range(1, 13)] + [f"bsd68/test{k:03d}.png" for k in (1, 7, 13, 19, 25)]
            )
    save("image_nlm_quick" if quick else "image_nlm", rows)


if __name__ == "__main__":
    main()
