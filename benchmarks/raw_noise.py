# SPDX-License-Identifier: Apache-2.0
"""Camera raw: what calibration and estimation find of noise that is known.

Calibration: stacks of 8 levels x 2 flats and 16 darks of 512 x 512 by the ELD model of a Canon 5D Mark IV, 1 % PRNU,
50 dead photosites. Estimation: unprocessed pictures, predicted over true variance at the median signal; a colour
chart's upper half, checked on its lower half. Run from the repository root::

    python -m benchmarks.raw_noise [--quick] [--data FOLDER]
"""

from __future__ import annotations

import argparse
import json
import os
import tomllib
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import cpu_time, save
from benchmarks.raw import LEVELS, TEST, simulated
from pellucid.domains.raw import calibrate, eld, noise, phantom, sensor, vst

DATA = Path(os.environ.get("PELLUCID_TEST_DATA", "../shared/data"))
RGGB = np.array(sensor.RGGB)
WHITE = 16383.0
GAINS = (0.5, 2.0, 8.0)


def stack(camera: eld.Camera, rng: np.random.Generator) -> tuple[calibrate.Stack, set[tuple[int, int]]]:
    """Return a simulated stack and its dead photosites."""
    shape = (512, 512)
    sensitivity = 1 + 0.01 * rng.standard_normal(shape)
    dead = rng.choice(sensitivity.size, 50, replace=False)
    sensitivity.ravel()[dead] = 0

    def shot(level: float) -> np.ndarray:
        seen = eld.expose(np.full(shape, level), camera, rng, sensitivity=sensitivity)
        return np.clip(np.rint(seen + 512), 0, WHITE).astype(np.float32)

    flats = [shot(level) for level in np.linspace(0.03, 0.8, 8) * (WHITE - 512) for _ in range(2)]
    made = calibrate.Stack(calibrate.pair(flats), [shot(0.0) for _ in range(16)], RGGB, {}, WHITE)
    return made, {(int(i) // 512, int(i) % 512) for i in dead}


def calibrations(table: dict[str, Any], seeds: int) -> list[dict[str, Any]]:
    """Return relative errors of what is found of stacks."""
    rows = []
    for gain in GAINS:
        for seed in range(seeds):
            rng = np.random.default_rng(seed)
            camera = eld.draw(table, gain, rng)
            made, dead = stack(camera, rng)
            seconds, found = cpu_time(lambda made=made: calibrate.measure(made))
            defects = {tuple(d) for d in found["defects"]}
            rows.append(
                {
                    "test": "calibrate",
                    "gain": gain,
                    "seed": seed,
                    "gain_error": float(np.mean(found["gain"]) / gain - 1),
                    "read_error": float(np.mean(found["read"]) / camera.read - 1),
                    "row_error": found["row"] / camera.row - 1,
                    "prnu_error": found["prnu"] / 0.01 - 1,
                    "lambda_error": found["tukey_lambda"] - camera.shape,
                    "dead_missed": len(dead - defects),
                    "dead_false": len(defects - dead),
                    "cpu_s": seconds,
                }
            )
    return rows


def pictures(folder: Path, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return predicted over true variance of unprocessed pictures at their median signal."""
    rows = []
    seen = sensor.Sensor(RGGB, np.full((2, 2), float(phantom.BLACK)), float(phantom.WHITE))
    for level in LEVELS:
        for name in names:
            made = simulated(folder / name, level)
            true = made.noise.params
            for estimator in ("", "blocks", "patches"):
                found, by = noise.fit(made.noisy.astype(np.float32), seen, (0, 0), estimator)
                x = max(found.level, 0.0)
                told = float(np.mean(found.gain * x + found.read**2)) / (true["gain"] * x + true["read"] ** 2)
                row = {"test": "estimate", "picture": Path(name).stem, "level": level, "estimator": estimator or "auto"}
                rows.append(row | {"by": by, "variance_ratio": told})
    return rows


def chart(path: Path) -> list[dict[str, Any]]:
    """Return the line of a chart's upper half, and the variance after the transform on its lower half."""
    import rawpy

    with rawpy.imread(str(path)) as raw:
        values = raw.raw_image_visible.astype(np.float32)
    seen = sensor.Sensor(RGGB, np.full((2, 2), 2056.0), 15000.0)
    found, by = noise.fit(values[:578], seen)
    gain, read = float(found.gain.mean()), float(found.read.mean())
    rows = [{"test": "chart", "gain": gain, "read": read, "by": by}]
    unit, lower = vst.Stabiliser(gain, read), values[578:]
    for r in range(2):
        for c in range(2):
            plane = lower[r::2, c::2] - 2056
            mean, own, _ = noise.block_statistics(plane + 1000)
            _, fine, whole = noise.block_statistics(unit.forward(plane) + 1000)
            flat = whole <= noise.FLAT * fine
            for part in np.array_split(np.argsort(mean[flat]), 5):
                level = float(np.median(mean[flat][part])) - 1000
                sd = float(np.sqrt(np.median(own[flat][part])))
                facts = {"position": f"{r}{c}", "signal": level, "sd": sd}
                facts["predicted_sd"] = float(np.sqrt(gain * max(level, 0) + read**2))
                rows.append({"test": "chart held out", **facts, "variance_after": float(np.median(fine[flat][part]))})
    return rows


def main() -> None:
    """Run and store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--data", type=Path, default=DATA)
    args = parser.parse_args()
    table = json.loads((args.data / "raw" / "eld_camera_params.json").read_text())["CanonEOS5D4"]
    rows = calibrations(table, 1 if args.quick else 5)
    splits = tomllib.loads((args.data / "natural" / "splits.toml").read_text())
    tune = tuple(f for f in splits["tune"]["files"] if f.startswith(("bsds", "kodak")))
    names = tune[:1] if args.quick else (*tune, *(f"kodak24_500/{n}.png" for n in TEST))
    rows += pictures(args.data / "natural", names) + chart(args.data / "raw" / "colorchart.dng")
    save("raw_noise_quick" if args.quick else "raw_noise", rows)


if __name__ == "__main__":
    main()
