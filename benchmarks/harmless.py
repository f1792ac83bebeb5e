# SPDX-License-Identifier: Apache-2.0
"""Do no harm: what is clean stays clean, and a second run changes little, by the default of every field.

Files go through ``pellucid.denoise`` with automatic noise level. PSNR is of the output against the input, peak =
the input's range. Second run: root mean square of its change over that of the first run's. Phantoms and the cube
of rank 5 are gated (45 dB, 0.2); recordings and photographs, never free of noise themselves, are reported.
Run from the repository root::

    python -m benchmarks.harmless [--quick] [--only FIELD] [--data FOLDER]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import save
from pellucid.core.types import Description
from pellucid.domains import compare, line, names, registry
from pellucid.domains.declare import Phantom
from pellucid.domains.request import Request
from pellucid.formats import find

DATA = Path(os.environ.get("PELLUCID_TEST_DATA", "../shared/data"))
LEAST_DB = 45.0
MOST_AGAIN = 0.2
MOST_DB = 200.0  # stands for an output equal to the input
SIZES: dict[str, dict[str, tuple[int, ...]]] = {
    "mri": {"t1": (64, 72, 48), "": (32, 32, 16)},
    "image": {"": (256, 256)},
    "ultrasound": {"cyst": (256, 200), "doppler": (200, 160, 32)},
    "hyperspectral": {"": (64, 64, 80)},
}
UNTRUE = {"cyst", "doppler"}  # the truth of a verb that takes something away is no clean measurement
REAL = {
    "mri": ("mri/mrtrix_reference/dwi.nii.gz", "mri/nifti_odd/S0_10slices.nii.gz"),
    "hyperspectral": ("hyperspectral/mat/jasperRidge2_R198.mat",),
    "speech": ("speech/real/dfn_48k_noisy_snr0.flac",),
    "speech dereverb": ("speech/real/ami_wsj20_array1_4ch.flac",),
    "image": ("natural/cc15/d800_iso3200_2_real.png", "natural/sidd_val/34_noisy.png"),
    "ultrasound": ("ultrasound/sequences/NwirePhantomFreehandCropped.igs.mha",),
    "ultrasound despeckle": ("ultrasound/sequences/UltrasonixLinearScanConvertedData.igs.mha",),
    "ultrasound clutter": ("ultrasound/clarius/carotid_iq.raw",),
    "raw": ("raw/colorchart.dng",),
}
NOT_WRITTEN = {".jpg": ".png", ".mat": ".npy"}
PHOTOGRAPHS = ("bsds500_train/", "kodak24_500/")


def harmed(path: Path, sight: str, folder: Path) -> dict[str, Any]:
    """Denoise a clean file; return method and PSNR of output against input."""
    before, after, method = _runs(path, sight, folder, 1)
    error = float(np.mean(np.abs(after[0] - before) ** 2))
    span = float(np.ptp(np.abs(before)) if np.iscomplexobj(before) else np.ptp(before))
    return {"method": method, "psnr": min(MOST_DB, float(10 * np.log10(span**2 / error))) if error else MOST_DB}


def again(path: Path, sight: str, folder: Path) -> dict[str, Any]:
    """Denoise a file twice; return method and the second change over the first."""
    before, after, method = _runs(path, sight, folder, 2)
    first, second = (float(np.sqrt(np.mean(np.abs(b - a) ** 2))) for a, b in ((before, after[0]), tuple(after)))
    return {"method": method, "second_run": second / first if first else 0.0}


def _runs(path: Path, sight: str, folder: Path, times: int) -> tuple[np.ndarray, list[np.ndarray], str]:
    declared, current, found, method = registry.field(sight), path, [], ""
    before = samples(path, sight)
    for k in range(times):
        stem, suffix = names.split(path.name)
        target = folder / f"{sight.replace(' ', '_')}_{stem}_{k}{NOT_WRITTEN.get(suffix, suffix)}"
        outcome = line.denoise(current, declared, Request(out=target, force=True), lambda *_: None)
        method = method or outcome.document["plan"]["method"]
        current = outcome.path
        found.append(samples(current, sight))
    return before, found, str(method)


def samples(path: Path, sight: str) -> np.ndarray:
    """Return a file's samples in physical units, float64 or complex128; invalid ones as 0."""
    _, values = compare.load(path, registry.field(sight), Request())
    return np.nan_to_num(values.astype(np.result_type(values.dtype, np.float64)), posinf=0.0, neginf=0.0)


def written(made: Phantom, sight: str, folder: Path, name: str) -> tuple[Path, Path]:
    """Write a phantom in the field's first format that is written from nothing; return noisy and clean paths."""
    for module in (find.module_of(n) for n in registry.field(sight).formats):
        kinds = getattr(module.FORMAT, "writes", ())
        complex_ok = not np.iscomplexobj(made.noisy) or module.FORMAT.name in ("nifti", "npy")
        if "compose" in kinds and complex_ok:
            path = folder / f"{name}{module.FORMAT.suffixes[0]}"
            return compare.write_phantom(made, path, registry.field(sight).formats, force=True)
    raise SystemExit(f"{sight} has no format to write")


def phantoms(sight: str, folder: Path, quick: bool) -> Iterator[dict[str, Any]]:
    """Yield the rows of a field's simulations, or of one of its further verbs."""
    declared, sizes = registry.field(sight), SIZES.get(sight.split()[0], {})
    for case in declared.cases[:1] if quick else declared.cases:
        if declared.word == "denoised" and case in UNTRUE:
            continue
        assert declared.simulate is not None
        made = declared.simulate(seed=0, case=case, size=sizes.get(case, sizes.get("")))
        noisy, clean = written(made, sight, folder, f"{sight.replace(' ', '_')}_{case}")
        if declared.word == "denoised":
            yield _row(sight, f"phantom {case}, clean", harmed(clean, sight, folder), gated=True)
        yield _row(sight, f"phantom {case}, noisy", again(noisy, sight, folder), gated=True)


def smooth_cube() -> Phantom:
    """Return a cube of rank 5 with noise of 1e-6, 100 x 100 x 100."""
    y, x = np.mgrid[:100, :100] / 100
    maps = np.stack([np.ones_like(y), np.sin(3 * x), np.cos(4 * y), np.sin(5 * x * y), np.cos(6 * (x + y))], -1)
    centres = np.linspace(0.1, 0.9, 5)
    cube = maps @ np.exp(-(((np.linspace(0, 1, 100) - centres[:, None]) / 0.2) ** 2))
    cube = cube / np.abs(cube).max() + 1e-6 * np.random.default_rng(0).standard_normal(cube.shape)
    facts = {"wavelengths_nm": np.linspace(420, 2450, 100).tolist()}
    axes = ("line", "sample", "band")
    made = Description("envi", cube.shape, axes, "float32", kind="reflectance", acquisition=facts)
    values = cube.astype(np.float32)
    return Phantom(values, values, made, registry.field("hyperspectral").simulate(seed=0).noise)  # type: ignore[misc]


def further(sight: str, folder: Path, data: Path, quick: bool) -> Iterator[dict[str, Any]]:
    """Yield a field's own clean things: cube, template brain, photographs, studio speech, IQ of one scene."""
    if sight == "hyperspectral":
        path = written(smooth_cube(), sight, folder, "smooth")[1]
        yield _row(sight, "cube of rank 5, sigma 1e-6", harmed(path, sight, folder), gated=True)
    if sight == "mri" and not quick:
        path = _colin(folder)
        yield _row(sight, "Colin27, 8 bits", harmed(path, sight, folder))
        yield _row(sight, "Colin27, 8 bits", again(path, sight, folder))
    if sight == "image":
        tune = tomllib.loads((data / "natural/splits.toml").read_text())["tune"]["files"]
        files = [data / "natural" / f for f in tune if f.startswith(PHOTOGRAPHS)]
        yield _many(sight, "photographs (BSDS JPEG, Kodak)", files[-2:] if quick else files, folder)
    if sight == "speech":
        files = sorted((data / "speech/clean/tune").glob("*.flac"))
        yield _many(sight, "LibriSpeech, clean", files[:2] if quick else files, folder)


def _many(sight: str, name: str, files: list[Path], folder: Path) -> dict[str, Any]:
    found = [harmed(f, sight, folder) for f in files]
    values = [f["psnr"] for f in found]
    facts = {"method": found[0]["method"], "psnr": float(np.mean(values)), "worst_psnr": min(values)}
    return _row(sight, f"{name}, {len(files)} files", facts | {"psnrs": values})


def _colin(folder: Path) -> Path:
    import nibabel

    from benchmarks.mri_volume import colin

    path = folder / "colin.nii"
    nibabel.save(nibabel.Nifti1Image(colin()[0].astype(np.uint8), np.eye(4)), path)
    return path


def real(sight: str, folder: Path, data: Path) -> Iterator[dict[str, Any]]:
    """Yield the second run on measured files."""
    for name in REAL.get(sight, ()):
        yield _row(sight, Path(name).name, again(data / name, sight, folder), gated=True)


def _row(sight: str, what: str, found: dict[str, Any], *, gated: bool = False) -> dict[str, Any]:
    row = {"field": sight, "what": what, **found}
    if gated and "psnr" in found:
        row |= {"gate": f">= {LEAST_DB:g} dB", "holds": bool(found["psnr"] >= LEAST_DB)}
    if gated and "second_run" in found:
        row |= {"gate": f"< {MOST_AGAIN:g}", "holds": bool(found["second_run"] < MOST_AGAIN)}
    if what.startswith("phantom") and not what.startswith(f"phantom {registry.field(sight).cases[0]},"):
        row["readme"] = False
    else:
        row["readme"] = (
            "field,what,method,psnr,worst_psnr,gate" if "psnr" in found else "field,what,method,second_run,gate"
        )
    print(row, flush=True)
    return row


def main() -> None:
    """Run all fields and their further verbs; store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="first phantom of each field, few files")
    parser.add_argument("--only", default="", help="one field, not stored")
    parser.add_argument("--data", type=Path, default=DATA)
    given = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for name in [given.only] if given.only else registry.fields():
        sights = [name, *(f"{name} {t.name}" for t in registry.field(name).tasks)]
        for sight in sights:
            with tempfile.TemporaryDirectory() as room:
                folder = Path(room)
                rows += phantoms(sight, folder, given.quick)
                rows += further(sight, folder, given.data, given.quick)
                rows += real(sight, folder, given.data)
    if not given.only:
        save("harmless_quick" if given.quick else "harmless", rows)


if __name__ == "__main__":
    main()
