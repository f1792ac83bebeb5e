# SPDX-License-Identifier: Apache-2.0
"""Open damaged copies of a file, in a process of its own: ``python mutate.py FORMAT FILE COUNT HINTS``.

Each copy must end in a worded error or in a result, within ten seconds and two gigabytes. What the
process prints is a JSON list of what went wrong.
"""

from __future__ import annotations

import json
import resource
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.core.errors import PellucidError
from pellucid.formats import find

LIMIT = 3 << 30  # bytes of address space: libraries map about one
SECONDS = 10
MANY = 2e7  # samples: a larger, consistent claim is a large file, not a fault


def damaged(data: bytes, rng: np.random.Generator, kind: int) -> bytes:
    """Return a copy: bytes changed in the header or anywhere, blocks zeroed or filled, doubled, cut, or prolonged."""
    out = bytearray(data)
    span = min(len(out), 1024) if kind % 2 == 0 else len(out)
    if kind % 10 < 6:
        for _ in range(int(rng.integers(1, 9))):
            out[int(rng.integers(0, span))] = int(rng.integers(0, 256))
    elif kind % 10 == 6:
        at = int(rng.integers(0, span))
        out[at : at + 64] = bytes([int(rng.choice([0, 255]))]) * len(out[at : at + 64])
    elif kind % 10 == 7:
        at = int(rng.integers(0, span))
        out[at:at] = out[at : at + 200]
    elif kind % 10 == 8:
        out = out[: int(rng.integers(1, len(out)))]
    else:
        out += bytes(rng.integers(0, 256, 1000, np.uint8))
    return bytes(out)


def attempt(path: Path, hints: dict[str, Any]) -> str:
    """Return what went wrong, nothing where a result or a worded error came."""
    try:
        reader = find.open_file(path, (), **hints)
        try:
            shape = reader.description.shape
            if np.prod([float(n) for n in shape]) < MANY:
                values = reader.read(tuple(slice(0, n) for n in shape))
                if values.shape != shape:
                    return f"described as {shape}, read as {values.shape}"
        finally:
            reader.close()
    except PellucidError as error:
        return f"two lines: {error}" if "\n" in str(error) else ""
    except MemoryError:
        return "asked for more than the memory limit"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def main(source: Path, count: int, hints: dict[str, Any]) -> list[str]:
    """Return a line for every copy that went wrong."""
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT))
    rng, faults = np.random.default_rng(4), []
    data = source.read_bytes()
    with tempfile.TemporaryDirectory() as name:
        for other in source.parent.glob(source.name.split(".")[0] + ".*"):
            shutil.copy(other, name)
        path = Path(name) / source.name
        for i in range(count):
            path.write_bytes(damaged(data, rng, i))
            signal.alarm(SECONDS)
            print(i, file=sys.stderr, flush=True)  # the last number seen is the copy that ended the process
            fault = attempt(path, hints)
            signal.alarm(0)
            faults += [f"{i}: {fault}"] if fault else []
    return faults


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3]))))
