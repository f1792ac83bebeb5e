# SPDX-License-Identifier: Apache-2.0
"""Sound through pipes equals the same sound through files."""

from __future__ import annotations

import io
import subprocess
import sys
from typing import Any

import numpy as np
import pytest


def voice(seconds: float = 2.5, rate: int = 16000) -> np.ndarray:
    t = np.arange(int(seconds * rate)) / rate
    tone = 0.3 * np.sin(2 * np.pi * 300 * t) * (np.sin(2 * np.pi * 3 * t) > 0)
    return np.round(32767 * (tone + 0.01 * np.random.default_rng(0).standard_normal(t.size))).astype("<i2")


def piped(folder: Any, data: bytes, *words: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "pellucid", "speech", "denoise", "-", "-o", "-", *words]
    return subprocess.run(command, cwd=folder, input=data, capture_output=True, timeout=120, check=False)


@pytest.mark.parametrize("tail", [b"", b"\x01"])
def test_raw_samples_through_a_pipe_equal_the_file(shell: Any, tail: bytes) -> None:
    samples = voice()
    (shell.folder / "a.raw").write_bytes(samples.tobytes())
    words = ["--raw", "s16le", "--rate", "16000", "--raw-channels", "1"]
    done = shell("speech", "denoise", "a.raw", "-o", "b.raw", *words)
    assert done.returncode == 0, done.stderr
    through = piped(shell.folder, samples.tobytes() + tail, *words)
    assert through.returncode == 0, through.stderr
    from_file = np.frombuffer((shell.folder / "b.raw").read_bytes(), "<i2").astype(int)
    from_pipe = np.frombuffer(through.stdout, "<i2").astype(int)
    assert len(from_pipe) == len(samples)
    assert np.abs(from_pipe - from_file).max() <= 1
    assert not np.array_equal(from_pipe, samples)


def test_a_wav_of_unknown_length_is_read_to_its_end(shell: Any) -> None:
    import soundfile

    samples, memory = voice(), io.BytesIO()
    soundfile.write(memory, samples, 16000, format="WAV", subtype="PCM_16")
    data = bytearray(memory.getvalue())
    data[4:8] = data[40:44] = b"\xff\xff\xff\xff"
    done = piped(shell.folder, bytes(data))
    assert done.returncode == 0, done.stderr
    header = done.stdout.index(b"data") + 8
    assert len(done.stdout) - header == 2 * len(samples)


def test_a_pipe_that_is_no_sound_is_exit_4(shell: Any) -> None:
    done = piped(shell.folder, b"not a sound at all, really")
    assert done.returncode == 4 and done.stdout == b"" and b"is no WAV" in done.stderr


def test_other_fields_cannot_be_piped(shell: Any) -> None:
    done = shell("mri", "denoise", "-")
    assert done.returncode == 2 and "cannot be piped" in done.stderr


def test_a_closed_output_is_no_reason_to_fail(shell: Any) -> None:
    command = [sys.executable, "-m", "pellucid", "list", "formats"]
    words = ["sh", "-c", '"$@" >&-', "sh", *command]
    done = subprocess.run(words, cwd=shell.folder, stderr=subprocess.PIPE, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
