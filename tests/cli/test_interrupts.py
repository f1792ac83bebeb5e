# SPDX-License-Identifier: Apache-2.0
"""Ended at any moment: the old file, nothing, or the complete new one; never a part."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

KILLS = int(os.environ.get("PELLUCID_KILLS", "6"))  # benchmarks/robust.py asks for 100


def visible(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))


@pytest.mark.parametrize("old", [False, True])
def test_killed_at_random_moments(shell: Any, volume: Callable[..., Path], old: bool) -> None:
    volume("a.nii.gz", shape=(40, 40, 30))
    words = ["mri", "denoise", "a.nii.gz", "-m", "wavelet", "--sigma", 30, "--force", "-q"]
    start = time.monotonic()
    assert shell(*words).returncode == 0
    whole = time.monotonic() - start
    out, sidecar = shell.folder / "a_denoised.nii.gz", shell.folder / "a_denoised.nii.gz.pellucid.json"
    new = out.read_bytes()
    for seed in range(KILLS):
        for path in (out, sidecar):
            path.unlink(missing_ok=True)
        if old:
            out.write_bytes(b"old")
        process = shell.start(*words)
        time.sleep(random.Random(seed).uniform(0, 1.1 * whole))
        process.kill()
        process.communicate()
        assert not out.exists() or out.read_bytes() in ([b"old", new] if old else [new])
        assert out.exists() or not old
    assert shell(*words).returncode == 0
    assert out.read_bytes() == new
    assert not [p for p in shell.folder.iterdir() if p.name.startswith(".")], "stale stages are cleared by the next run"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_with_its_own_code_and_leaves_nothing(
    shell: Any, volume: Callable[..., Path], number: signal.Signals
) -> None:
    volume("a.nii.gz", shape=(60, 60, 40))
    process = shell.start("mri", "denoise", "a.nii.gz", "-m", "tv", "--sigma", 30)
    stage = None
    for _ in range(2000):
        stage = next((p for p in shell.folder.iterdir() if p.name.endswith(".part")), None)
        if stage or process.poll() is not None:
            break
        time.sleep(0.005)
    assert stage is not None, process.communicate()
    process.send_signal(number)
    _, text = process.communicate(timeout=60)
    assert process.returncode == -number, text
    assert "Traceback" not in text
    assert [p.name for p in shell.folder.iterdir()] == ["a.nii.gz"]
