# SPDX-License-Identifier: Apache-2.0
"""Camera raw: vst-nlm and vst-bm3d beside LibRaw's wavelet and FBDD, on unprocessed Kodak pictures.

A picture is taken back to light, its balance (2, 1, 1.6) undone, sampled as RGGB in [0, 1]; noise of variance
``a m + b`` is added (seed 1) and stored as DNG, black 512, white 15872. Every result is developed by the same
call of LibRaw 0.21.3 (AHD, camera colours, linear) and compared in sRGB code values with the development of the
clean mosaic, border 4. LibRaw's wavelet gets the best of its thresholds for each picture; ours estimate the noise
from the mosaic alone. Run from the repository root::

    python -m benchmarks.raw [--quick] [--data FOLDER]
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
from pellucid.core.types import Noise, Plan, Tile
from pellucid.domains import registry
from pellucid.domains.declare import Phantom, Subject
from pellucid.domains.raw import demosaic, noise, phantom, sensor
from pellucid.domains.raw.field import FIELD

DATA = Path(os.environ.get("PELLUCID_TEST_DATA", "../shared/data")) / "natural" / "kodak24_500"
LEVELS = {"low": (1e-3, 1e-6), "mid": (4e-3, 1.6e-5), "high": (1.2e-2, 1.44e-4)}
TEST = ("kodim01", "kodim03", "kodim05", "kodim07", "kodim08", "kodim13", "kodim19")
TUNE = ("kodim23",)
THRESHOLDS = (200, 300, 450, 600, 800, 1000, 1250, 1500, 2000, 3000)
OURS = ("vst-nlm", "vst-bm3d")
BORDER = 4
PEER = """
import time, numpy as np, rawpy
found = {}
for name, path, thr, fbdd in job["calls"]:
    with rawpy.imread(path) as raw:
        raw.raw_image  # unpacked before the clock starts
        start = time.process_time()
        rgb = raw.postprocess(demosaic_algorithm=rawpy.DemosaicAlgorithm.AHD, output_color=rawpy.ColorSpace.raw,
            user_wb=[2.0, 1.0, 1.6, 1.0], no_auto_bright=True, adjust_maximum_thr=0, user_flip=0, gamma=(1, 1),
            output_bps=16, noise_thr=thr or None, fbdd_noise_reduction=rawpy.FBDDNoiseReductionMode(fbdd))
        found[name] = time.process_time() - start
    np.save(path + "." + name + ".npy", rgb)
print(json.dumps(found))
"""


def simulated(path: Path, level: str) -> Phantom:
    """Return the clean and the noisy mosaic of a picture, seed 1."""
    import imagecodecs

    return phantom.from_rgb(imagecodecs.imread(path.read_bytes()).astype(np.float64) / 255, 1, LEVELS[level])


def write_dng(path: Path, values: np.ndarray) -> None:
    """Write a mosaic as the plainest DNG LibRaw reads."""
    import tifffile

    matrix = [(int(round(v * 10000)), 10000) for v in (1, 0, 0, 0, 1, 0, 0, 0, 1)]
    tags = [
        (33421, "H", 2, (2, 2), True),
        (33422, "B", 4, bytes((0, 1, 1, 2)), True),
        (50706, "B", 4, bytes((1, 4, 0, 0)), True),
        (50707, "B", 4, bytes((1, 1, 0, 0)), True),
        (50708, "s", 0, "pellucid benchmark", True),
        (50714, "H", 1, phantom.BLACK, True),
        (50717, "H", 1, phantom.WHITE, True),
        (50721, "2i", 9, [n for pair in matrix for n in pair], True),
        (50778, "H", 1, 21, True),
    ]
    tifffile.imwrite(path, values, photometric=32803, extratags=tags, metadata=None)


def ours(name: str, values: np.ndarray, given: Noise | None = None) -> tuple[np.ndarray, Noise]:
    """Denoise a stored mosaic as the command would; the noise is estimated from it."""
    d = phantom.description(values.shape, np.array(sensor.RGGB))
    subject = Subject(SimpleNamespace(read=lambda region: values[region], path=Path("mosaic"), description=d), d)
    known = given or noise.estimate(subject)
    method = registry.method(name, "raw")
    plan = Plan(name, options=method.Options(), extras=FIELD.extras(subject))
    out = method.run(Tile.whole(values.astype(np.float32)), known, plan, np.random.default_rng(0)).values
    return np.clip(np.rint(out), 0, 65535).astype(np.uint16), known


def developed(python: Path, folder: Path, calls: list[tuple[str, Path, int, int]]) -> tuple[dict, dict]:
    """Return sRGB pictures and CPU seconds of LibRaw calls (name, DNG, wavelet threshold, FBDD mode)."""
    seconds = run_json(python, PEER, calls=[(n, str(p), t, f) for n, p, t, f in calls])
    found = {n: np.load(f"{p}.{n}.npy").astype(np.float64) / 65535 for n, p, _, _ in calls}
    cut = (slice(BORDER, -BORDER),) * 2
    return {n: demosaic.srgb(np.clip(v, 0, 1))[cut] for n, v in found.items()}, seconds


def picture(python: Path, path: Path, level: str, quick: bool) -> list[dict[str, Any]]:
    """Return the rows of one picture at one level."""
    made, rows = simulated(path, level), []
    values = made.noisy
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_dng(folder / "clean.dng", made.truth)
        write_dng(folder / "noisy.dng", values)
        calls = [("truth", folder / "clean.dng", 0, 0), ("none", folder / "noisy.dng", 0, 0)]
        calls += [("fbdd light", folder / "noisy.dng", 0, 1), ("fbdd full", folder / "noisy.dng", 0, 2)]
        calls += [(f"wavelet {t}", folder / "noisy.dng", t, 0) for t in THRESHOLDS]
        cpu, fitted = {}, {}
        for method in OURS[:1] if quick else OURS:
            cpu[method], (out, known) = cpu_time(lambda m=method: ours(m, values))
            fitted = {"gain": known.params["gain"], "read": known.params["read"]}
            write_dng(folder / f"{method}.dng", out)
            calls.append((method, folder / f"{method}.dng", 0, 0))
        write_dng(folder / "zero.dng", np.full_like(values, phantom.BLACK))
        calls.append(("zero", folder / "zero.dng", 0, 0))
        shown, seconds = developed(python, folder, calls)
    truth = shown.pop("truth")
    for method, view in shown.items():
        row = {"picture": path.stem, "level": level, "method": method}
        row["psnr"] = float(metrics.psnr(truth, view, data_range=1.0))
        row["cpu_s"] = cpu.get(method, seconds[method] - seconds["none"])
        rows.append(row | ({"estimated": fitted} if method == "vst-nlm" else {}))
    return rows


SHOWN = ("none", "fbdd light", "wavelet, best of each", "vst-nlm", "vst-bm3d")


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return means over the test pictures; of LibRaw's wavelet the best threshold of each picture."""
    found = []
    for level in dict.fromkeys(r["level"] for r in rows):
        own = [r for r in rows if r["level"] == level and r["picture"] in TEST]
        best = {}
        for r in own:
            key = "wavelet, best of each" if r["method"].startswith("wavelet") else r["method"]
            best[key, r["picture"]] = max(best.get((key, r["picture"]), -99.0), r["psnr"])
        for method in dict.fromkeys(k for k, _ in best):
            values = [v for (m, _), v in best.items() if m == method]
            row = {"picture": "mean of test", "level": level, "method": method, "psnr": float(np.mean(values))}
            row["readme"] = "picture,level,method,psnr" if level == "mid" and method in SHOWN else ""
            found.append(row)
    return found


def main() -> None:
    """Run and store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--data", type=Path, default=DATA)
    args = parser.parse_args()
    python = venv("raw", ["rawpy==0.24.0", "numpy"])
    rows = []
    for level in ("mid",) if args.quick else LEVELS:
        for name in TEST[:1] if args.quick else (*TUNE, *TEST):
            rows += picture(python, args.data / f"{name}.png", level, args.quick)
    save("raw_quick" if args.quick else "raw", [*summary(rows), *rows], peers={"rawpy": "0.24.0 (LibRaw 0.21.3)"})


if __name__ == "__main__":
    main()
