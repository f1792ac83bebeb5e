# SPDX-License-Identifier: Apache-2.0
"""Many files: some broken, in shards, in processes, resumed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


def outputs(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.glob("*.nii.gz"))}


def test_two_broken_of_twenty_leave_eighteen_and_exit_5(shell: Any, volume: Callable[..., Path]) -> None:
    for i in range(18):
        volume(f"in/s{i:02}.nii.gz", shape=(8, 7, 6), seed=i)
    (shell.folder / "in/s18.nii.gz").write_bytes(b"\x1f\x8bbroken")
    (shell.folder / "in/s19.nii.gz").write_bytes(b"")
    files = sorted(str(p) for p in (shell.folder / "in").iterdir())
    done = shell("mri", "denoise", *files, "-m", "identity", "-o", "out", "--keep-going", "--status", "rows.tsv")
    assert done.returncode == 5, done.stderr
    assert len(outputs(shell.folder / "out")) == 18
    rows = [line.split("\t") for line in (shell.folder / "rows.tsv").read_text().splitlines()]
    assert rows[0][:4] == ["input", "output", "status", "code"] and len(rows) == 21
    assert [r[3] for r in rows[1:]].count("4") == 2 and all(r[7] for r in rows[1:] if r[3] == "4")


def test_without_keep_going_the_first_failure_ends_the_batch(shell: Any, volume: Callable[..., Path]) -> None:
    volume("a.nii.gz")
    (shell.folder / "b.nii.gz").write_bytes(b"")
    done = shell("mri", "denoise", "b.nii.gz", "a.nii.gz", "-m", "identity")
    assert done.returncode == 4 and not (shell.folder / "a_denoised.nii.gz").exists()


def test_shards_jobs_and_one_process_give_the_same_bytes(shell: Any, volume: Callable[..., Path]) -> None:
    files = [volume(f"in/s{i}.nii.gz", shape=(9, 8, 7), seed=i).name for i in range(5)]
    words = ["-m", "wavelet", "--sigma", 30, "-q"]
    names = [f"in/{f}" for f in files]
    assert shell("mri", "denoise", *names, *words, "-o", "one").returncode == 0
    assert shell("mri", "denoise", *names, *words, "-o", "jobs", "--jobs", 2).returncode == 0
    (shell.folder / "list.txt").write_text("\n".join(names))
    for i in range(3):
        done = shell("mri", "denoise", "--files-from", "list.txt", *words, "-o", "shards", "--shard", f"{i}/3")
        assert done.returncode == 0, done.stderr
    one = outputs(shell.folder / "one")
    assert len(one) == 5 and one == outputs(shell.folder / "jobs") == outputs(shell.folder / "shards")


def test_array_jobs_pick_their_shard(shell: Any, volume: Callable[..., Path], monkeypatch: Any) -> None:
    names = [volume(f"s{i}.nii.gz", shape=(6, 6, 6)).name for i in range(4)]
    for i in range(2):
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", str(i + 3))
        monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "2")
        monkeypatch.setenv("SLURM_ARRAY_TASK_MIN", "3")
        assert shell("mri", "denoise", *names, "-m", "identity", "-o", "out", "--shard", "auto", "-q").returncode == 0
    assert len(outputs(shell.folder / "out")) == 4


def test_resume_skips_only_what_is_intact_and_same(shell: Any, volume: Callable[..., Path]) -> None:
    volume("a.nii.gz")
    words = ["mri", "denoise", "a.nii.gz", "-m", "wavelet", "--resume", "--json"]
    assert shell(*words, "--sigma", 30).returncode == 0
    out = shell.folder / "a_denoised.nii.gz"
    first, stamp = out.read_bytes(), out.stat().st_mtime_ns
    again = shell(*words, "--sigma", 30)
    assert "kept from before" in again.stderr and out.stat().st_mtime_ns == stamp
    assert "kept" not in shell(*words, "--sigma", 31).stderr
    assert shell(*words, "--sigma", 30).returncode == 0 and out.read_bytes() == first
    out.write_bytes(first[:-4])
    assert "kept" not in shell(*words, "--sigma", 30).stderr and out.read_bytes() == first
    (shell.folder / "a_denoised.nii.gz.pellucid.json").unlink()
    assert shell(*words, "--sigma", 30).returncode == 6, "a file that is not ours is not replaced"


def test_a_tree_is_kept_below_the_output_folder(shell: Any, volume: Callable[..., Path]) -> None:
    for name in ("in/a/s.nii.gz", "in/b/s.nii.gz"):
        volume(name)
    done = shell(
        "mri", "denoise", "in/a/s.nii.gz", "in/b/s.nii.gz", "-m", "identity", "-o", "out", "--relative-to", "in"
    )
    assert done.returncode == 0, done.stderr
    assert (shell.folder / "out/a/s_denoised.nii.gz").exists() and (shell.folder / "out/b/s_denoised.nii.gz").exists()


def test_json_rows_are_one_object_a_line(shell: Any, volume: Callable[..., Path]) -> None:
    names = [volume(f"s{i}.nii.gz").name for i in range(2)]
    done = shell("mri", "denoise", *names, "-m", "identity", "-o", "out", "--json", "-q")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [r["schema"] for r in rows] == ["pellucid/row/1"] * 2 and all(r["code"] == 0 for r in rows)


def test_a_sidecar_repeats_its_run(shell: Any, volume: Callable[..., Path]) -> None:
    volume("a.nii.gz")
    shell("mri", "denoise", "a.nii.gz", "-m", "wavelet", "--sigma", 17)
    done = shell("mri", "denoise", "a.nii.gz", "--config", "a_denoised.nii.gz.pellucid.json", "-o", "b.nii.gz")
    assert done.returncode == 0, done.stderr
    assert (shell.folder / "b.nii.gz").read_bytes() == (shell.folder / "a_denoised.nii.gz").read_bytes()


def test_settings_come_from_flag_variable_and_file_in_that_order(
    shell: Any, volume: Callable[..., Path], monkeypatch: Any
) -> None:
    volume("a.nii.gz")
    (shell.folder / "pellucid.toml").write_text('method = "wavelet"\n[mri]\nsigma = "12"\n')

    def plan(*words: str) -> Any:
        return json.loads(shell("mri", "denoise", "a.nii.gz", "--dry-run", *words).stdout)["plan"]

    assert plan()["method"] == "wavelet" and plan()["noise"]["sigma"] == 12
    monkeypatch.setenv("PELLUCID_SIGMA", "13")
    assert plan()["noise"]["sigma"] == 13
    assert plan("--sigma", "14")["noise"]["sigma"] == 14
    (shell.folder / "pellucid.toml").write_text("treads = 2\n")
    done = shell("mri", "denoise", "a.nii.gz", "--dry-run")
    assert done.returncode == 2 and "did you mean 'threads'?" in done.stderr


def test_loops_dead_links_and_pipes_in_a_folder_are_passed_over(shell: Any, volume: Callable[..., Path]) -> None:
    volume("study/sub/a.nii.gz")
    study = shell.folder / "study"
    (study / "round").symlink_to(".")
    (study / "sub" / "up").symlink_to("../..")
    (study / "dead.nii").symlink_to("gone.nii")
    os.mkfifo(study / "pipe.nii")
    (study / "empty.nii").touch()
    done = shell("mri", "denoise", "study", "-m", "identity", "-o", "out")
    assert done.returncode == 0 and "1 of 1 files done" in done.stderr, done.stderr
    assert (shell.folder / "out" / "sub" / "a_denoised.nii.gz").exists()
    done = shell("mri", "info", "study/pipe.nii")
    assert done.returncode == 4 and "is no regular file" in done.stderr
