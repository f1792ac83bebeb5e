# SPDX-License-Identifier: Apache-2.0
"""Camera raw: CPU seconds and memory of a 24-megapixel mosaic, from file to file on one thread.

Run from the repository root::

    python -m benchmarks.raw_speed [--quick]
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.peers import cpu_of_command, save
from pellucid.domains.raw import phantom

FULL, QUICK = (4000, 6000), (1000, 1500)
TILE = (1000, 1500)
SHOWN = "method,megapixels,cpu_s,peak_gb"


def main() -> None:
    """Run and store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    shape, rows = (QUICK if quick else FULL), []
    one = phantom.simulate(0, "unprocessed", TILE).noisy
    values = np.tile(one, (shape[0] // TILE[0], shape[1] // TILE[1]))
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "mosaic.npy"
        np.save(source, values)
        for method in ("vst-nlm",) if quick else ("vst-nlm", "vst-bm3d"):
            words = ["raw", "denoise", source, "-o", source.with_name(f"{method}.npy"), "-m", method]
            command = [sys.executable, "-m", "pellucid", *map(str, words), "--black", "512", "--cfa", "RGGB"]
            seconds = cpu_of_command([*command, "--threads", "1", "-q"])
            peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024**2
            rows.append(
                {"method": method, "megapixels": values.size / 1e6, "cpu_s": seconds, "peak_gb": peak, "readme": SHOWN}
            )
    save("raw_speed_quick" if quick else "raw_speed", rows, threads=1)


if __name__ == "__main__":
    main()
