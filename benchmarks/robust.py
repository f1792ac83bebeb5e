# SPDX-License-Identifier: Apache-2.0
"""Promises that take minutes: memory of large files, reads, kills, a full disk.

python -m benchmarks.robust [kills] [disk] [series] [strips] [tiles] [sound]
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import textwrap
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import ONE_THREAD, save

MB = 1024**2
CHILD = """
import json, resource, sys, time
from pathlib import Path
from pellucid.domains import line, registry
from pellucid.domains.request import Request
from pellucid.formats import {module} as module
count = [0]
reader = getattr(module, "{reader}")
plain = reader.read
def read(self, region):
    values = plain(self, region)
    if self.path == Path({path!r}):
        count[0] += values.nbytes
    return values
reader.read = read
start, clock = time.process_time(), time.perf_counter()
wanted = Request(out=Path({out!r}), force=True, threads={threads}, **{more})
line.denoise(Path({path!r}), registry.field("{field}"), wanted, lambda *a: None)
peak = next(int(x.split()[1]) for x in open("/proc/self/status") if x.startswith("VmHWM"))
row = {{"cpu_s": time.process_time() - start, "wall_s": time.perf_counter() - clock}}
print(json.dumps({{**row, "peak_mb": peak / 1024, "read_bytes": count[0]}}))
"""


def measured(path: Path, field: str, module: str, reader: str, **more: Any) -> dict[str, float]:
    """Denoise a file in a fresh process; return CPU seconds, peak memory and how often the file was read."""
    import json

    threads = more.pop("threads", 1)
    code = CHILD.format(
        path=str(path), out=str(path.with_name("out_" + path.name)), field=field, module=module, reader=reader,
        more=more, threads=threads,
    )  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **ONE_THREAD}
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def kills(folder: Path) -> list[dict[str, Any]]:
    """Kill a run at 100 random moments, half of them with an old output in place."""
    command = [sys.executable, "-m", "pytest", "-q", "tests/cli/test_interrupts.py", "--timeout", "3000"]
    done = subprocess.run(command, env={**os.environ, "PELLUCID_KILLS": "50"}, capture_output=True, text=True)
    return [{"what": "kill -9 at 100 random moments, 3 signals", "result": done.stdout.strip().splitlines()[-1]}]


def disk(folder: Path) -> list[dict[str, Any]]:
    """Fill a 2 MB tmpfs (needs the right to mount)."""
    small = folder / "small"
    small.mkdir()
    source = folder / "a.nii"
    _series(source, (64, 64, 64, 4))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", small], check=True)
    try:
        command = [sys.executable, "-m", "pellucid", "mri", "denoise", source, "-m", "identity", "-o", small / "b.nii"]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        left = [p.name for p in small.iterdir()]
    finally:
        subprocess.run(["umount", small], check=True)
    return [{"what": "2 MB disk", "code": done.returncode, "says": done.stderr.strip(), "left": str(left)}]


def _series(path: Path, shape: tuple[int, ...]) -> None:
    """Write a float32 NIfTI volume by volume."""
    import nibabel

    header = nibabel.Nifti1Header()
    header.set_data_shape(shape)
    header.set_data_dtype(np.float32)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    rng = np.random.default_rng(0)
    base = 100 * (1 + np.indices(shape[:3], np.float32).sum(0) / 100)
    with path.open("wb") as file:
        file.write(header.binaryblock + bytes(4))
        for i in range(shape[3]):
            volume = base * np.float32(1 + 0.3 * np.sin(i)) + rng.standard_normal(shape[:3], np.float32) * 5
            file.write(volume.astype(np.float32).tobytes("F"))


def series(folder: Path) -> list[dict[str, Any]]:
    """Denoise 128 x 128 x 128 x 200 float32 (1.7 GB)."""
    rows, large = [], folder / "large.nii"
    _series(large, (128, 128, 128, 200))
    size = large.stat().st_size
    for method, options in (("identity", {}), ("mppca", {"profile": "fast"})):
        row = measured(large, "mri", "nifti", "NiftiReader", method=method, method_options=options)
        row["reads"] = row.pop("read_bytes") / size
        rows.append({"what": f"{method} 128^3 x 200 float32, 1.7 GB", **row})
    return rows


def threads(folder: Path) -> list[dict[str, Any]]:
    """Denoise a series on one and on two threads."""
    rows, path = [], folder / "small.nii"
    _series(path, (80, 80, 96, 30))
    for count in (1, 2):
        row = measured(path, "mri", "nifti", "NiftiReader", threads=count, method="mppca")
        rows.append({"what": f"mppca 80 x 80 x 96 x 30, {count} threads", **row})
    return rows


def strips(folder: Path) -> list[dict[str, Any]]:
    """Denoise 2048 x 2048 x 200 float32 (3.3 GB) stored in strips."""
    return _scene(folder / "strips.tif", {})


def tiles(folder: Path) -> list[dict[str, Any]]:
    """Denoise 2048 x 2048 x 200 float32 (3.3 GB) stored in tiles of 256 x 256."""
    return _scene(folder / "tiles.tif", {"tiled": True, "blockxsize": 256, "blockysize": 256})


def _scene(path: Path, layout: dict[str, Any], lines: int = 2048) -> list[dict[str, Any]]:
    """Denoise a scene of six materials and white noise, 2048 samples wide; and its first 512 lines (839 MB)."""
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning

    warnings.simplefilter("ignore", NotGeoreferencedWarning)
    rows, samples, bands = [], 2048, 200
    for extent in (512, lines):
        rng = np.random.default_rng(0)
        spectra = np.cumsum(rng.standard_normal((6, bands)), 1).astype(np.float32) * 20 + 1000
        profile = {"driver": "GTiff", "width": samples, "height": extent, "count": bands, "dtype": "float32"}
        with rasterio.open(path, "w", **profile, interleave="band", BIGTIFF="IF_SAFER", **layout) as file:
            for top in range(0, extent, 256):
                y, x = np.mgrid[top : top + 256, 0:samples]
                share = np.stack([1 + np.sin(x / (40 + 9 * i) + i) * np.cos(y / (50 + 7 * i)) for i in range(6)], -1)
                clean = (share.astype(np.float32) @ spectra) / 6
                block = clean + 10 * rng.standard_normal(clean.shape, np.float32)
                file.write(np.moveaxis(block, -1, 0), window=((top, top + 256), (0, samples)))
        row = measured(path, "hyperspectral", "geotiff", "GeotiffReader")
        row["reads"] = row.pop("read_bytes") / (extent * samples * bands * 4)
        size = extent * samples * bands * 4 / 1e9
        rows.append({"what": f"lowrank {extent} x 2048 x 200 float32, {size:.1f} GB, {path.stem}", **row})
        path.with_name("out_" + path.name).unlink()
    return rows


def sound(folder: Path) -> list[dict[str, Any]]:
    """Denoise a 3-hour WAV."""
    import soundfile

    path, rate, hours = folder / "long.wav", 16000, 3
    rng = np.random.default_rng(0)
    minute = np.arange(60 * rate) / rate
    voice = 0.2 * np.sin(2 * np.pi * 220 * minute) * (np.sin(2 * np.pi * 2.5 * minute) > 0)
    with soundfile.SoundFile(path, "w", rate, 1, "PCM_16") as file:
        for _ in range(60 * hours):
            file.write(voice + 0.02 * rng.standard_normal(minute.size))
    row = measured(path, "speech", "pcm", "Interleaved")
    row["rtf"] = row["cpu_s"] / (3600 * hours)
    row["reads"] = row.pop("read_bytes") / (rate * 3600 * hours * 2)
    return [{"what": "omlsa, 3 hours at 16 kHz", **row}]


PARTS: dict[str, Callable[[Path], list[dict[str, Any]]]] = {
    "kills": kills,
    "disk": disk,
    "series": series,
    "threads": threads,
    "strips": strips,
    "tiles": tiles,
    "sound": sound,
}


def main() -> None:
    """Run the named parts, or all."""
    wanted = [w for w in sys.argv[1:] if w in PARTS] or list(PARTS)
    for part in wanted:
        with tempfile.TemporaryDirectory(dir=os.environ.get("PELLUCID_SCRATCH")) as folder:
            save(f"robust_{part}", PARTS[part](Path(folder)), note=textwrap.shorten(PARTS[part].__doc__ or "", 80))


if __name__ == "__main__":
    main()
