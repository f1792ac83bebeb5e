# SPDX-License-Identifier: Apache-2.0
"""Exit codes and messages, as a script sees them."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest


def one_line(text: str) -> str:
    lines = [x for x in text.strip().splitlines() if x]
    assert len(lines) == 1, text
    assert lines[0].startswith("pellucid: ") and "Traceback" not in text
    return lines[0]


def test_done_is_0_and_says_one_line(shell: Any, volume: Callable[..., Path]) -> None:
    volume()
    done = shell("mri", "denoise", "scan.nii.gz", "-m", "wavelet", "--sigma", 30)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("scan.nii.gz -> scan_denoised.nii.gz") and "wavelet" in last and "sigma 30" in last
    assert sorted(p.name for p in shell.folder.iterdir()) == [
        "scan.nii.gz",
        "scan_denoised.nii.gz",
        "scan_denoised.nii.gz.pellucid.json",
    ]


def test_quiet_is_silent(shell: Any, volume: Callable[..., Path]) -> None:
    volume()
    done = shell("mri", "denoise", "scan.nii.gz", "-m", "identity", "-q")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["mri", "denoise"], 2, "no input file"),
        (["mri", "denoise", "scan.nii.gz", "--bogus"], 2, "No such option"),
        (["mri", "denoise", "scan.nii.gz", "-m", "nothing"], 2, "choose from mppca"),
        (["mri", "denoise", "scan.nii.gz", "--sigma", "-3"], 2, "no noise level"),
        (["mri", "denoise", "scan.nii.gz", "--region", "0:99,:,:"], 2, "x runs from 0 to 16"),
        (["mri", "denoise", "scan.nii.gz", "--shard", "3/2"], 2, "is no shard"),
        (["mri", "denoise", "scan.nii.gz", "-m", "nlm", "--shrink", "hard"], 2, "nlm has no option --shrink"),
        (["mri", "denoise", "scan.nii.gz", "--max-memory", "lots"], 2, "no amount of memory"),
        (["mri", "denoise", "scan.nii.gz", "--device", "toaster"], 2, "no device is called"),
        (["mri", "denoise", "absent.nii.gz"], 4, "there is no such file"),
        (["mri", "denoise", "empty.nii.gz"], 4, "is empty"),
        (["mri", "denoise", "cut.nii.gz"], 4, "cut.nii.gz"),
        (["mri", "denoise", "noise.bin"], 4, "format is not read"),
        (["mri", "denoise", "labels.nii.gz"], 3, "label map"),
        (["mri", "denoise", "scan.nii.gz", "-o", "scan.nii.gz", "--force"], 6, "is the input itself"),
        (["mri", "denoise", "scan.nii.gz", "-o", "there.nii.gz"], 6, "use --force"),
        (["nofield"], 2, "No such command"),
    ],
)
def test_failures_have_their_code_and_one_line(
    shell: Any, volume: Callable[..., Path], words: list[str], code: int, says: str
) -> None:
    import nibabel

    scan = volume()
    (shell.folder / "empty.nii.gz").write_bytes(b"")
    (shell.folder / "cut.nii.gz").write_bytes(scan.read_bytes()[:400])
    (shell.folder / "noise.bin").write_bytes(bytes(range(256)) * 20)
    (shell.folder / "there.nii.gz").write_bytes(b"mine")
    labels = np.repeat(np.arange(5, dtype=np.uint8), 5)[:, None, None] * np.ones((1, 20, 20), np.uint8)
    nibabel.save(nibabel.Nifti1Image(labels, np.eye(4)), shell.folder / "labels.nii.gz")
    before = {p.name: p.read_bytes() for p in shell.folder.iterdir()}
    done = shell(*words)
    assert done.returncode == code, done.stderr
    assert says in one_line(done.stderr), done.stderr
    assert {p.name: p.read_bytes() for p in shell.folder.iterdir()} == before, "a failure left something behind"


def test_force_replaces_and_force_kind_overrides_a_refusal(shell: Any, volume: Callable[..., Path]) -> None:
    volume()
    (shell.folder / "out.nii.gz").write_bytes(b"old")
    assert (
        shell("mri", "denoise", "scan.nii.gz", "-m", "wavelet", "--sigma", 5, "-o", "out.nii.gz", "--force").returncode
        == 0
    )
    assert (shell.folder / "out.nii.gz").read_bytes()[:2] == b"\x1f\x8b"


def test_strict_turns_a_warning_into_exit_3(shell: Any, volume: Callable[..., Path]) -> None:
    path = volume("neg.nii.gz")
    import nibabel

    image = nibabel.load(path)
    values = np.asarray(image.dataobj).astype(np.float32)
    values[:1, :5] -= 2000  # a few negative magnitudes: resampled data, not a field map
    nibabel.save(nibabel.Nifti1Image(values, image.affine), shell.folder / "neg.nii")
    done = shell("mri", "denoise", "neg.nii", "--strict", "-m", "nlm", "--sigma", 30)
    assert done.returncode == 3 and "leave out --strict" in done.stderr


def test_dry_run_prints_a_plan_and_writes_nothing(shell: Any, volume: Callable[..., Path]) -> None:
    volume(shape=(12, 12, 8, 20))
    done = shell("mri", "denoise", "scan.nii.gz", "--dry-run")
    plan = json.loads(done.stdout)
    assert plan["schema"] == "pellucid/plan/1" and plan["plan"]["method"] == "mppca"
    assert [p.name for p in shell.folder.iterdir()] == ["scan.nii.gz"]


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_read_only_folder_is_exit_6(shell: Any, volume: Callable[..., Path]) -> None:
    volume("in/scan.nii.gz")
    closed = shell.folder / "closed"
    closed.mkdir(mode=stat.S_IRUSR | stat.S_IXUSR)
    done = shell("mri", "denoise", "in/scan.nii.gz", "-m", "identity", "-o", "closed/out.nii.gz")
    assert done.returncode == 6 and "may not be written" in one_line(done.stderr)


def test_a_full_disk_is_exit_6(shell: Any, volume: Callable[..., Path]) -> None:
    volume()
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    import resource

    limit = 2000  # bytes a file may grow to: the kernel answers as a full quota would

    def small() -> None:
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    done = shell("mri", "denoise", "scan.nii.gz", "-m", "identity", preexec_fn=small)
    assert done.returncode == 6, done.stderr
    assert "too large" in one_line(done.stderr)
    assert [p.name for p in shell.folder.iterdir()] == ["scan.nii.gz"]


def test_a_closed_pipe_ends_quietly(shell: Any) -> None:
    import subprocess
    import sys

    command = f"{sys.executable} -m pellucid mri methods | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert done.stderr == "" and done.stdout.count("\n") == 1


def test_private_keeps_names_and_paths_out(shell: Any, volume: Callable[..., Path]) -> None:
    volume("Doe_Jane_19700101/scan_of_Jane.nii.gz")
    words = ["Doe_Jane_19700101/scan_of_Jane.nii.gz", "-o", "anon.nii.gz", "-m", "identity", "--private", "--json"]
    done = shell("mri", "denoise", *words)
    text = done.stdout + (shell.folder / "anon.nii.gz.pellucid.json").read_text()
    assert done.returncode == 0 and "Jane" not in text and "1970" not in text


def test_debug_shows_the_traceback(shell: Any) -> None:
    done = shell("mri", "denoise", "absent.nii.gz", "--debug")
    assert done.returncode == 4 and "Traceback" in done.stderr
