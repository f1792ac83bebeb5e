# SPDX-License-Identifier: Apache-2.0
"""Pictures: bm3d, nlm, wavelet and tv beside PyPI bm3d 4.0.3 and scikit-image 0.26.

Full scale is 1; noise of 25/255 is unclipped, from ``default_rng(0)``; PSNR and SSIM after clipping to
[0, 1]. CPU seconds are the least of two calls after a warm one, on both sides; ours are called once before and
once after the peers (single calls for Set12). Run from the repository root::

    python -m benchmarks.image [--quick] [--data FOLDER]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from benchmarks.peers import cpu_time, run_json, save, venv
from pellucid.core import metrics
from pellucid.core.types import Description, Noise, Plan, Tile
from pellucid.domains import registry
from pellucid.domains.declare import Subject
from pellucid.domains.image import noise as level

DATA = Path(os.environ.get("PELLUCID_TEST_DATA", "../shared/data")) / "natural"
REQUIRED = ["bm3d==4.0.3", "scikit-image==0.26.0"]
SIGMA = 25 / 255
REPEAT = 2
PEER_OF = {
    "bm3d": "PyPI bm3d",
    "nlm": "skimage nlm",
    "wavelet": "skimage wavelet, 16 shifts",
    "tv": "skimage tv",
}
OURS = tuple(PEER_OF)
MOST = 99.0  # dB; stands for an estimate equal to the truth
COLUMNS = "picture,method,psnr,ssim,cpu_s,times_faster"
SHOWN = ("none", "bm3d", "nlm", "PyPI bm3d", "skimage nlm")

PEER = """
import time, numpy as np
from bm3d import bm3d, bm3d_rgb
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle, denoise_wavelet, cycle_spin
calls = {
  "PyPI bm3d": lambda y, s, axis: (bm3d if axis is None else bm3d_rgb)(y, s),
  "skimage nlm": lambda y, s, axis: denoise_nl_means(y, 5, 6, h=.8 * s, sigma=s, fast_mode=True, channel_axis=axis),
  "skimage wavelet": lambda y, s, axis: denoise_wavelet(y, s, wavelet="db2", channel_axis=axis,
      convert2ycbcr=axis is not None),
  "skimage wavelet, 16 shifts": lambda y, s, axis: cycle_spin(y, denoise_wavelet, 3, channel_axis=axis,
      num_workers=1, func_kw=dict(sigma=s, wavelet="db2", channel_axis=axis)),
  "skimage tv": lambda y, s, axis: denoise_tv_chambolle(y, weight=.1, channel_axis=axis),
}
total = 0
for path, s in zip(job["paths"], job["sigmas"]):
    y = np.load(path).astype(float)
    axis = -1 if y.ndim == 3 else None
    calls[job["name"]](y[:64, :64], s, axis)
    seconds = []
    for _ in range(job["repeat"]):
        start = time.process_time(); x = calls[job["name"]](y, s, axis); seconds.append(time.process_time() - start)
    np.save(path + ".out.npy", x.astype(np.float32))
    total += min(seconds)
print(json.dumps(total))
"""
CAMERA = 'import skimage, os; print(json.dumps(os.path.join(os.path.dirname(skimage.__file__), "data", "camera.png")))'


def load(path: Path) -> np.ndarray:
    """Return a picture at full scale 1."""
    import imagecodecs

    return imagecodecs.imread(path.read_bytes()).astype(np.float32) / 255


def with_noise(clean: np.ndarray) -> np.ndarray:
    """Return a picture with the benchmark's noise."""
    return (clean + SIGMA * np.random.default_rng(0).standard_normal(clean.shape)).astype(np.float32)


def ours(name: str, noisy: np.ndarray, noise: Noise) -> np.ndarray:
    """Run one of our methods on a whole picture, channel by channel where it does not mix them."""
    method = registry.method(name, "image")
    plan, rng = Plan(name, options=method.Options()), np.random.default_rng(0)
    if noisy.ndim == 2 or method.TRAITS.joint:
        return method.run(Tile.whole(noisy, spatial=2), noise, plan, rng).values
    planes = (np.ascontiguousarray(p) for p in np.moveaxis(noisy, -1, 0))
    return np.stack([method.run(Tile.whole(p), noise, plan, rng).values for p in planes], axis=-1)


def theirs(
    python: Path, name: str, noisy: list[np.ndarray], sigmas: list[float], repeat: int
) -> tuple[float, list[np.ndarray]]:
    """Run a peer on pictures; return its CPU seconds and its estimates."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [f"{folder}/{i}.npy" for i in range(len(noisy))]
        for path, values in zip(paths, noisy, strict=True):
            np.save(path, values)
        seconds = run_json(python, PEER, name=name, paths=paths, sigmas=sigmas, repeat=repeat)
        return seconds, [np.load(path + ".out.npy") for path in paths]


def figures(clean: list[np.ndarray], estimates: list[np.ndarray]) -> dict[str, float]:
    """Return mean PSNR and SSIM after clipping."""
    shown = [np.clip(e, 0, 1) for e in estimates]
    return {
        "psnr": float(np.mean([metrics.psnr(c, s) for c, s in zip(clean, shown, strict=True)])),
        "ssim": float(np.mean([metrics.ssim(c, s) for c, s in zip(clean, shown, strict=True)])),
    }


def estimated(noisy: np.ndarray) -> Noise:
    """Return the noise as the field would estimate it."""
    axes = ("y", "x", "channel")[: noisy.ndim]
    reader = SimpleNamespace(read=lambda region: noisy[region], path=Path("array"))
    return level.estimate(Subject(reader, Description("npy", noisy.shape, axes, "float32")))


def clock(noisy: list[np.ndarray], noise: Noise) -> dict[str, tuple[float, list[np.ndarray]]]:
    """Return CPU seconds and estimates of each of our methods, warm."""
    found = {}
    for name in OURS:
        ours(name, noisy[0][:64, :64], noise)
        found[name] = cpu_time(lambda name=name: [ours(name, y, noise) for y in noisy])
    return found


def beside_peers(python: Path, label: str, clean: list[np.ndarray], peers: list[str]) -> list[dict[str, Any]]:
    """Return rows of some pictures: noisy, zero and blurred, ours and theirs, sigma given, in one run."""
    noisy, given = [with_noise(c) for c in clean], Noise(sigma=SIGMA, source="given")
    blurred = [gaussian_filter(y, (1.0, 1.0, 0)[: y.ndim]) for y in noisy]
    simple = {"none": noisy, "zero": [np.zeros_like(y) for y in noisy], "blur": blurred}
    rows = [{"picture": label, "method": n, **figures(clean, e)} for n, e in simple.items()]
    repeat, seconds = REPEAT if len(clean) == 1 else 1, {}
    before = clock(noisy, given)
    for name in peers:
        seconds[name], found = theirs(python, name, noisy, [SIGMA] * len(noisy), repeat)
        rows.append({"picture": label, "method": name, "cpu_s": seconds[name], **figures(clean, found)})
    after = clock(noisy, given) if repeat > 1 else before
    for name in OURS:
        cpu_s = min(before[name][0], after[name][0])
        row = {"picture": label, "method": name, "cpu_s": cpu_s, **figures(clean, after[name][1])}
        if PEER_OF[name] in seconds:
            row |= {"peer": PEER_OF[name], "times_faster": seconds[PEER_OF[name]] / row["cpu_s"]}
        rows.append(row)
    return rows


def automatic(label: str, clean: list[np.ndarray]) -> list[dict[str, Any]]:
    """Return our figures where sigma is estimated, and how far the estimate is off at most."""
    noisy = [with_noise(c) for c in clean]
    noise = [estimated(y) for y in noisy]
    off = max(abs(n.sigma / SIGMA - 1) for n in noise)
    return [
        {
            "picture": label,
            "method": f"{name}, sigma estimated",
            "sigma_off_by": off,
            **figures(clean, [ours(name, y, n) for y, n in zip(noisy, noise, strict=True)]),
        }
        for name in ("bm3d", "nlm")
    ]


def real(python: Path, label: str, pairs: list[tuple[Path, Path]]) -> list[dict[str, Any]]:
    """Return figures on noise of cameras, first 256 x 256, sigma estimated; the peer is told the same sigma."""
    noisy, clean = ([load(p)[:256, :256] for p in side] for side in zip(*pairs, strict=True))
    noise = [estimated(y) for y in noisy]
    label = f"{label}, {len(pairs)} pictures"
    _, peer = theirs(python, "skimage nlm", noisy, [float(n.sigma) for n in noise], 1)
    found = {"none": noisy, "skimage nlm": peer}
    found |= {name: [ours(name, y, n) for y, n in zip(noisy, noise, strict=True)] for name in OURS}
    before = [metrics.psnr(c, y) for c, y in zip(clean, noisy, strict=True)]
    truth = [float(np.std(y - c)) for c, y in zip(clean, noisy, strict=True)]
    rows = []
    for name, estimates in found.items():
        after = [metrics.psnr(c, np.clip(e, 0, 1)) for c, e in zip(clean, estimates, strict=True)]
        row = {"picture": label, "method": name, **figures(clean, estimates)}
        row |= {"worst_gain": float(np.min(np.subtract(after, before))), "true_sigma": float(np.mean(truth))}
        rows.append(row | {"sigma": float(np.mean([n.sigma for n in noise]))})
    return rows


def unharmed(label: str, clean: list[np.ndarray]) -> list[dict[str, Any]]:
    """Return what estimated sigma does to clean pictures, and what a second run changes of the first."""
    rows = []
    for name in ("bm3d", "nlm"):
        scores, ratio = [], []
        for x in clean:
            scores.append(min(MOST, metrics.psnr(x, ours(name, x, estimated(x)))))
            noisy = with_noise(x)
            once = ours(name, noisy, estimated(noisy))
            twice = ours(name, once, estimated(once))
            ratio.append(float(np.std(twice - once) / np.std(once - noisy)))
        row = {"picture": label, "method": name, "psnr": float(np.mean(scores)), "worst_psnr": min(scores)}
        rows.append(row | {"second_run": max(ratio)})
    return rows


def pairs_of(data: Path, folder: str, most: int = 100) -> list[tuple[Path, Path]]:
    """Return noisy and clean files of the test part of a set of camera pictures."""
    splits = tomllib.loads((data / "splits.toml").read_text())
    noisy, clean = splits["pairs"][folder]
    files = sorted(f for f in splits["test"]["files"] if f.startswith(folder + "/") and f.endswith(noisy))
    return [(data / f, data / (f.removesuffix(noisy) + clean)) for f in files[:most]]


def everything(python: Path, data: Path) -> list[dict[str, Any]]:
    """Return the rows that ``--quick`` leaves out."""
    set12 = [load(p) for p in sorted((data / "set12").glob("*.png"))]
    rows = beside_peers(python, "Set12, mean", set12, ["skimage nlm", "skimage wavelet, 16 shifts", "skimage tv"])
    rows += automatic("Set12, mean", set12)
    for folder, label in {"sidd_val": "SIDD", "cc15": "CC15", "polyu": "PolyU"}.items():
        rows += real(python, label, pairs_of(data, folder, 10))
    test = tomllib.loads((data / "splits.toml").read_text())["test"]["files"]
    kodak = [load(data / f)[:256, :256] for f in test if f.startswith("kodak24_500/")]
    return rows + automatic("Kodak crops, mean", kodak) + unharmed("Kodak crops without noise", kodak)


def main() -> None:
    """Print and store all rows."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="camera.png and the kodim08 crop only")
    parser.add_argument("--data", type=Path, default=DATA)
    given = parser.parse_args()
    python = venv("image", REQUIRED)
    camera = load(Path(run_json(python, CAMERA)))
    names = ["PyPI bm3d", "skimage nlm", "skimage wavelet", "skimage wavelet, 16 shifts", "skimage tv"]
    rows = beside_peers(python, "camera.png", [camera], names)
    crop = load(given.data / "kodak24_500" / "kodim08.png")[:256, :256]
    rows += beside_peers(python, "kodim08[:256, :256], RGB", [crop], names)
    if not given.quick:
        rows += everything(python, given.data)
    for row in rows:
        row["readme"] = (
            COLUMNS if row["picture"].startswith(("camera", "kodim08")) and row["method"] in SHOWN else False
        )
    facts = {"sigma": "25/255, default_rng(0), unclipped", "peers": REQUIRED}
    save("image_quick" if given.quick else "image", rows, **facts)


if __name__ == "__main__":
    main()
