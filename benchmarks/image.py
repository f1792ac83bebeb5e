# SPDX-License-Identifier: Apache-2.0
"""Pictures: bm3d, nlm, wavelet and tv beside PyPI bm3d 4.0.3 and scikit-image 0.26.

Full scale is 1; noise is unclipped, from ``default_rng(0)``; PSNR and SSIM after clipping to [0, 1]. Every
method is told sigma in the first part; ``auto`` rows estimate it. Run from the repository root::

    python -m benchmarks.image [--quick] [--data ../shared/data/natural]
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from benchmarks.peers import cpu_time, run_json, save, venv
from pellucid.core import metrics
from pellucid.core.types import Description, Noise, Plan, Tile
from pellucid.domains import registry
from pellucid.domains.declare import Subject
from pellucid.domains.image import noise as level

DATA = Path(os.environ.get("PELLUCID_TEST_DATA", "../shared/data")) / "natural"
PEERS = (["bm3d==4.0.3", "scikit-image==0.26.0"],)
OURS = ("nlm", "bm3d", "wavelet", "tv")

PEER = """
import time, numpy as np
from bm3d import bm3d, bm3d_rgb
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle, denoise_wavelet, cycle_spin
y, s = np.load(job["noisy"]).astype(float), job["sigma"]
axis = -1 if y.ndim == 3 else None
calls = {
  "PyPI bm3d": lambda: (bm3d_rgb if y.ndim == 3 else bm3d)(y, s),
  "skimage nlm": lambda: denoise_nl_means(y, 5, 6, h=.8 * s, sigma=s, fast_mode=True, channel_axis=axis),
  "skimage wavelet": lambda: denoise_wavelet(y, s, wavelet="db2", channel_axis=axis, convert2ycbcr=axis is not None),
  "skimage wavelet, 16 shifts": lambda: cycle_spin(y, denoise_wavelet, 3, channel_axis=axis, num_workers=1,
      func_kw=dict(sigma=s, wavelet="db2", channel_axis=axis)),
  "skimage tv": lambda: denoise_tv_chambolle(y, weight=.1, channel_axis=axis),
}
out = {}
for name in job["names"]:
    start = time.process_time(); x = calls[name](); seconds = time.process_time() - start
    np.save(job["folder"] + "/" + name.replace(" ", "_") + ".npy", x.astype(np.float32))
    out[name] = seconds
print(json.dumps(out))
"""
CAMERA = 'import skimage, os; print(json.dumps(os.path.join(os.path.dirname(skimage.__file__), "data", "camera.png")))'


def load(path: Path) -> np.ndarray:
    """Return a picture at full scale 1."""
    import imagecodecs

    return imagecodecs.imread(path.read_bytes()).astype(np.float32) / 255


def run(name: str, noisy: np.ndarray, noise: Noise) -> np.ndarray:
    """Run one of our methods on a whole picture, channel by channel where it does not mix them."""
    method = registry.method(name, "image")
    plan = Plan(name, options=method.Options())
    rng = np.random.default_rng(0)
    if noisy.ndim == 2 or method.TRAITS.joint:
        return method.run(Tile.whole(noisy, spatial=2), noise, plan, rng).values
    planes = [
        method.run(Tile.whole(np.ascontiguousarray(p)), noise, plan, rng).values for p in np.moveaxis(noisy, -1, 0)
    ]
    return np.stack(planes, axis=-1)


def figures(clean: np.ndarray, estimate: np.ndarray) -> dict[str, float]:
    """Return PSNR and SSIM after clipping."""
    shown = np.clip(estimate, 0, 1)
    return {"psnr": metrics.psnr(clean, shown), "ssim": metrics.ssim(clean, shown)}


def estimated(noisy: np.ndarray) -> Noise:
    """Return the noise as the field would estimate it."""
    axes = ("y", "x", "channel")[: noisy.ndim]
    reader = SimpleNamespace(read=lambda region: noisy[region], path=Path("array"))
    return level.estimate(Subject(reader, Description("npy", noisy.shape, axes, "float32")))


def beside_peers(python: Path, label: str, clean: np.ndarray, sigma: float, peers: list[str]) -> list[dict[str, Any]]:
    """Return rows of one picture: the noisy one, its blur, ours and theirs, alternating in one run."""
    from scipy.ndimage import gaussian_filter

    noisy = (clean + sigma * np.random.default_rng(0).standard_normal(clean.shape)).astype(np.float32)
    given = Noise(sigma=sigma, source="given")
    blur = gaussian_filter(noisy, (1.0, 1.0, 0)[: noisy.ndim])
    rows = [{"picture": label, "method": n, **figures(clean, v)} for n, v in (("none", noisy), ("blur", blur))]
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/noisy.npy", noisy)
        for name in OURS:
            run(name, noisy[:64, :64], given)
            seconds, out = cpu_time(lambda name=name: run(name, noisy, given), repeat=3)
            rows.append({"picture": label, "method": name, "cpu_s": seconds, **figures(clean, out)})
        for name in peers:
            seconds = run_json(python, PEER, noisy=f"{folder}/noisy.npy", sigma=sigma, folder=folder, names=[name])[
                name
            ]
            out = np.load(f"{folder}/{name.replace(' ', '_')}.npy")
            rows.append({"picture": label, "method": name, "cpu_s": seconds, **figures(clean, out)})
    return rows


def mean_over(label: str, paths: list[Path], sigma: float) -> list[dict[str, Any]]:
    """Return our mean figures over a folder, sigma given and estimated."""
    rows = []
    clean = [load(p) for p in paths]
    noisy = [(x + sigma * np.random.default_rng(0).standard_normal(x.shape)).astype(np.float32) for x in clean]
    for name in OURS:
        for how in ("given", "auto"):
            noise = [Noise(sigma=sigma) if how == "given" else estimated(y) for y in noisy]
            every = [figures(x, run(name, y, n)) for x, y, n in zip(clean, noisy, noise, strict=True)]
            means = {k: float(np.mean([e[k] for e in every])) for k in every[0]}
            rows.append({"picture": f"{label}, {len(paths)} pictures", "method": f"{name}, sigma {how}", **means})
    return rows


def real(data: Path, sets: dict[str, list[tuple[Path, Path]]]) -> list[dict[str, Any]]:
    """Return mean PSNR on camera pictures, first 256 x 256, sigma estimated."""
    rows = []
    for label, pairs in sets.items():
        crops = [tuple(load(p)[:256, :256] for p in pair) for pair in pairs]
        rows.append(
            {"picture": label, "method": "none", "psnr": float(np.mean([metrics.psnr(t, y) for y, t in crops]))}
        )
        for name in OURS:
            scores = [metrics.psnr(t, np.clip(run(name, y, estimated(y)), 0, 1)) for y, t in crops]
            rows.append({"picture": label, "method": f"{name}, sigma auto", "psnr": float(np.mean(scores))})
    return rows


def unharmed(paths: list[Path]) -> list[dict[str, Any]]:
    """Return what estimated sigma does to clean pictures, and what a second run changes of the first."""
    rows = []
    for name in ("nlm", "bm3d"):
        scores, ratio = [], []
        for path in paths:
            clean = load(path)
            scores.append(metrics.psnr(clean, run(name, clean, estimated(clean))))
            noisy = (clean + 25 / 255 * np.random.default_rng(0).standard_normal(clean.shape)).astype(np.float32)
            once = run(name, noisy, estimated(noisy))
            twice = run(name, once, estimated(once))
            ratio.append(float(np.std(twice - once) / np.std(once - noisy)))
        rows.append({"picture": "clean Kodak", "method": name, "worst_psnr": min(scores), "second_run": max(ratio)})
    return rows


def main() -> None:
    """Print and store all rows."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="camera.png and the kodim08 crop only")
    parser.add_argument("--data", type=Path, default=DATA)
    given = parser.parse_args()
    kodak = sorted((given.data / "kodak24_500").glob("kodim*.png"))
    kodak = [p for p in kodak if p.stem != "kodim23"]  # a tuning picture
    python = venv("image", *PEERS)
    camera = load(Path(run_json(python, CAMERA)))
    names = ["PyPI bm3d", "skimage nlm", "skimage wavelet", "skimage wavelet, 16 shifts", "skimage tv"]
    rows = beside_peers(python, "camera.png, sigma 25/255", camera, 25 / 255, names)
    crop = load(given.data / "kodak24_500" / "kodim08.png")[:256, :256]
    rows += beside_peers(python, "kodim08[:256,:256] RGB, sigma 25/255", crop, 25 / 255, names[:3] + names[4:])
    if not given.quick:
        for folder in ("set12", "bsd68"):
            rows += mean_over(folder + ", sigma 25/255", sorted((given.data / folder).glob("*.png")), 25 / 255)
        rows += mean_over("Kodak, sigma 25/255", kodak[:3], 25 / 255)
        rows += real(given.data, camera_sets(given.data))
        rows += unharmed(kodak[:2])
    save("image", rows, sigma="25/255, default_rng(0), unclipped", peers=PEERS[0])


def camera_sets(data: Path) -> dict[str, list[tuple[Path, Path]]]:
    """Return noisy and clean files of the test part of each set of camera pictures."""
    tune = {"34", "d800_iso3200_2"}
    sets = {"SIDD_val": ("sidd_val", "_noisy", "_clean"), "CC15": ("cc15", "_real", "_mean")}
    found = {}
    for label, (folder, noisy, clean) in sets.items():
        files = sorted((data / folder).glob(f"*{noisy}.*"))
        stems = [f for f in files if f.stem.removesuffix(noisy) not in tune]
        found[label] = [(f, f.with_name(f.name.replace(noisy, clean))) for f in stems]
    return found


if __name__ == "__main__":
    main()
