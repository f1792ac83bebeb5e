# SPDX-License-Identifier: Apache-2.0
"""Ultrasound before the picture: clutter filters, cine denoising, beamforming; peers in the same run.

    python -m benchmarks.ultrasound_rf [--quick] [--data FOLDER]

FOLDER holds ``clarius/carotid_iq.raw``, ``rf/PWI_disk.mat`` and ``rf/pybf_fieldii_pw3.hdf5``.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import peers
from pellucid.core.types import Plan, Tile
from pellucid.domains.ultrasound import beamform, eigenwiener, rpca, svd
from pellucid.formats import clarius, mat_us

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "methods"))  # the simulations the tests hold up too
import test_clutter  # noqa: E402
import test_eigenwiener  # noqa: E402
from test_clutter import TISSUE, VESSEL, clutter, contrast, gcnr  # noqa: E402

FRESH = (201, 202, 203)  # seeds no rule was tuned on (those: 101 to 104)
DAS = """
import numpy as np, time, scipy.io, pymust
m = scipy.io.loadmat(job["mat"], simplify_cells=True)
p = pymust.utils.Param()
for k, v in m["param"].items():
    setattr(p, k, v)
p.fnumber = None  # the automatic one
p.t0 = np.atleast_1d(np.asarray(p.t0, float))
p.TXdelay = np.atleast_2d(np.asarray(p.TXdelay, float))
start = time.process_time()
iq = pymust.rf2iq(m["RF"].astype(float), p)
x, z = np.meshgrid(np.linspace(-12.5e-3, 12.5e-3, 251), np.linspace(10e-3, 35e-3, 251))
matrix = pymust.dasmtx(1j * np.array(iq.shape[:2]), x, z, p, "linear")
image = (matrix @ iq.reshape(-1, iq.shape[2], order="F")).reshape(251, 251, -1, order="F")
print(json.dumps({"seconds": time.process_time() - start, "out": np.save(job["out"], image) or job["out"]}))
"""

DATA = Path(os.environ.get("PELLUCID_TEST_DATA", "../shared/data")) / "ultrasound"
README = {
    "carotid": "task,method,rank,contrast_db,gcnr,seconds",
    "cine": "task,motion,method,nrmse,speckle_snr,seconds",
    "das": "task,method,correlation,seconds",
}


def clutter_rows(data: Path, quick: bool) -> list[dict[str, Any]]:
    """Return the real ensemble by every method, and the simulated vessels."""
    reader = clarius.open(data / "clarius/carotid_iq.raw")
    values = reader.read(tuple(slice(0, n) for n in reader.description.shape))
    wanted: list[tuple[str, Any, dict[str, Any]]] = [("svd automatic", svd, {})]
    wanted += [(f"svd rank {k}", svd, {"rank": k}) for k in (1, 2, 3, 4, 6)]
    wanted += [(f"svd blocks of {b}", svd, {"block": b}) for b in (40, 60, 80)]
    wanted += [(f"rpca {s}", rpca, {"strength": s}) for s in (0.1, 0.3, 1.0)]
    rows = [_real("none", values, 0.0, {})]
    for name, method, options in wanted:
        seconds, (out, facts) = peers.cpu_time(lambda m=method, o=options: clutter(values, m, **o))
        rows.append(_real(name, out, seconds, facts))
    seeds = (0,) if quick else (0, *FRESH)
    for seed, case in [(s, c) for s in seeds for c in test_clutter.CASES[:: 6 if quick else 1]]:
        noisy, inside = test_clutter.vessel(*case, seed=seed)
        found, facts = clutter(noisy)
        by_rank = {k: contrast(clutter(noisy, rank=k)[0], inside, ~inside) for k in range(1, 9)}
        best = max(by_rank, key=by_rank.__getitem__)
        loss = by_rank[best] - contrast(found, inside, ~inside)
        rows.append(
            {"task": "vessel", "case": str(case), "seed": seed, "rank": facts["rank"], "best": best}
            | {"contrast_db": by_rank[best] - loss, "loss_db": loss}
        )
    return rows


def _real(name: str, out: np.ndarray, seconds: float, facts: dict[str, float]) -> dict[str, Any]:
    row = {"task": "carotid", "method": name, "contrast_db": contrast(out, VESSEL, TISSUE), "gcnr": gcnr(out)}
    return row | {"seconds": seconds, "rank": facts.get("rank")}


def cine_rows(quick: bool) -> list[dict[str, Any]]:
    """Return the error of the envelope and the speckle SNR of cines that move more and more."""
    rows = []
    for motion in (0.0, 0.2, 1.0):
        truth, noisy = test_eigenwiener.cine(motion, (200, 150) if quick else (400, 300))
        seconds, out = peers.cpu_time(lambda v=noisy: test_eigenwiener.run(v))
        smooth = np.apply_along_axis(lambda v: np.convolve(v, np.ones(5) / 5, "same"), 2, np.abs(noisy))
        for name, estimate, cost in (("input", noisy, 0.0), ("eigenwiener", out, seconds), ("mean of 5", smooth, 0.0)):
            error, snr = test_eigenwiener.nrmse(estimate, truth), test_eigenwiener.snr(estimate)
            row = {"task": "cine", "motion": motion, "method": name, "nrmse": error, "speckle_snr": snr}
            rows.append(row | {"true_snr": test_eigenwiener.snr(truth), "seconds": cost})
    shape = (160, 120, 30) if quick else (800, 600, 30)
    values = np.random.default_rng(0).rayleigh(size=shape).astype(np.float32)
    plan = Plan("eigenwiener", eigenwiener.Options())
    tile, rng = Tile.whole(values, spatial=2), np.random.default_rng(0)
    seconds, _ = peers.cpu_time(lambda: eigenwiener.run(tile, None, plan, rng))
    return [*rows, {"task": "cine speed", "shape": list(shape), "seconds": seconds}]


def das_rows(data: Path) -> list[dict[str, Any]]:
    """Return the image of the rotating disk beside PyMUST's."""
    reader = mat_us.open(data / "rf/PWI_disk.mat")
    values = reader.read((slice(0, 334), slice(0, 128), slice(0, 32)))
    array = beamform.Array1D.of(reader.description.acquisition, 128)
    grid = (np.linspace(10e-3, 35e-3, 251), np.linspace(-12.5e-3, 12.5e-3, 251))
    seconds, made = peers.cpu_time(lambda: beamform.image(beamform.demodulate(values, array), array, grid))
    python = peers.venv("pymust", ["pymust==0.1.9"])
    with tempfile.TemporaryDirectory() as folder:
        job = {"mat": str(reader.path), "out": f"{folder}/image.npy"}
        found = peers.run_json(python, DAS, **job)
        other = np.load(job["out"])
    same = beamform.image(beamform.demodulate(values, array), array, grid, 1.1248)  # PyMUST's coarser search
    row = {"task": "das", "method": "pellucid", "seconds": seconds, "correlation": alike(made, other)}
    row["correlation_same_aperture"] = alike(same, other)
    return [row, {"task": "das", "method": "pymust 0.1.9", "seconds": found["seconds"]}]


def alike(made: np.ndarray, other: np.ndarray, range_db: float = 30.0) -> float:
    """Return the correlation of two images in dB over the range the authors show."""
    shown = [np.clip(20 * np.log10(np.abs(v) / np.abs(v).max() + 1e-9), -range_db, 0).ravel() for v in (made, other)]
    return float(np.corrcoef(*shown)[0, 1])


def main() -> None:
    """Run everything and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--data", type=Path, default=DATA)
    given = parser.parse_args()
    rows = [*clutter_rows(given.data, given.quick), *cine_rows(given.quick), *das_rows(given.data)]
    for row in rows:
        row["readme"] = README.get(row["task"], "") if row.get("motion") in (None, 1.0) else ""
    peers.save("ultrasound_rf_quick" if given.quick else "ultrasound_rf", rows)


if __name__ == "__main__":
    main()
