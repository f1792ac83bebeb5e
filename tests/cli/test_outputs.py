# SPDX-License-Identifier: Apache-2.0
"""Residual, noise map, region, mask, pictures and report, and the same through Python."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import pellucid


def load(path: Path) -> np.ndarray:
    reader = pellucid.open(path)
    values = reader.read(tuple(slice(0, n) for n in reader.description.shape))
    reader.close()
    return values


def test_residual_is_what_was_removed(shell: Any, volume: Callable[..., Path]) -> None:
    scan = volume()
    done = shell("mri", "denoise", "scan.nii.gz", "--residual", "r.nii.gz", "--noise-out", "n.nii.gz", "-o", "o.nii.gz")
    assert done.returncode == 0, done.stderr
    before, after, removed = load(scan), load(shell.folder / "o.nii.gz"), load(shell.folder / "r.nii.gz")
    assert np.allclose(before - after, removed, atol=1e-3)
    assert load(shell.folder / "n.nii.gz").min() > 0


def test_outside_a_region_and_a_mask_nothing_changes(shell: Any, volume: Callable[..., Path]) -> None:
    import nibabel

    scan = volume()
    before = load(scan)
    mask = np.zeros(before.shape, np.uint8)
    mask[4:9] = 1
    nibabel.save(nibabel.Nifti1Image(mask, np.eye(4)), shell.folder / "mask.nii.gz")
    words = ["mri", "denoise", "scan.nii.gz", "-m", "wavelet", "--sigma", 30, "--out-dtype", "same"]
    assert shell(*words, "-o", "r.nii.gz", "--region", "4:9,:,2:11").returncode == 0
    assert shell(*words, "-o", "m.nii.gz", "--mask", "mask.nii.gz").returncode == 0
    inside = np.zeros(before.shape, bool)
    inside[4:9, :, 2:11] = True
    for name, part in (("r.nii.gz", inside), ("m.nii.gz", mask > 0)):
        after = load(shell.folder / name)
        assert after.dtype == before.dtype
        assert np.array_equal(after[~part], before[~part]) and not np.array_equal(after[part], before[part])


def test_a_noise_map_is_used(shell: Any, volume: Callable[..., Path]) -> None:
    scan = volume()
    np.save(shell.folder / "map.npy", np.full(load(scan).shape, 30, np.float32))
    words = ["mri", "denoise", "scan.nii.gz", "-m", "nlm"]
    assert shell(*words, "-o", "a.nii.gz", "--sigma", 30).returncode == 0
    done = shell(*words, "-o", "b.nii.gz", "--noise-in", "map.npy")
    assert done.returncode == 0, done.stderr
    assert np.allclose(load(shell.folder / "a.nii.gz"), load(shell.folder / "b.nii.gz"), rtol=1e-3, atol=0.5)
    np.save(shell.folder / "short.npy", np.ones((3, 3, 3), np.float32))
    done = shell(*words, "-o", "c.nii.gz", "--noise-in", "short.npy")
    assert done.returncode == 4 and "same grid" in done.stderr


def test_the_report_is_one_safe_page(shell: Any, volume: Callable[..., Path]) -> None:
    volume("a <b>&.nii.gz")
    words = ["-m", "wavelet", "--sigma", 30, "-o", "o.nii.gz", "--report", "r.html", "--preview", "p.png"]
    done = shell("mri", "denoise", "a <b>&.nii.gz", *words)
    assert done.returncode == 0, done.stderr
    page = (shell.folder / "r.html").read_text()
    assert "default-src 'none'" in page and "<script" not in page and "<b>" not in page
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert page.count("<img ") == 4 and all("alt=" in tag for tag in re.findall("<img [^>]*>", page))
    from PIL import Image

    with Image.open(shell.folder / "p.png") as picture:
        assert picture.size[0] > 3 * 200 and np.asarray(picture).std() > 20


def test_python_walks_the_same_line(shell: Any, volume: Callable[..., Path]) -> None:
    scan = volume()
    assert shell("mri", "denoise", "scan.nii.gz", "-m", "wavelet", "--sigma", 30, "-o", "a.nii.gz").returncode == 0
    outcome = pellucid.denoise(scan, field="mri", method="wavelet", sigma=30, out=shell.folder / "b.nii.gz")
    assert (shell.folder / "a.nii.gz").read_bytes() == outcome.path.read_bytes()
    array = pellucid.denoise(load(scan), field="mri", method="wavelet", sigma=30)
    assert np.array_equal(array, load(outcome.path))
    stored = json.loads((shell.folder / "b.nii.gz.pellucid.json").read_text())
    assert stored["plan"]["noise"]["sigma"] == 30 and stored["measured"]["residual"]["sd"] > 5


def test_python_names_unknown_options() -> None:
    import pytest

    with pytest.raises(ValueError, match="there is no option 'sigmma'"):
        pellucid.denoise(np.zeros((8, 8), np.float32), field="image", sigmma=3)


def test_a_sidecar_repeats_a_conversion_and_a_task(shell: Any) -> None:
    assert shell("example", "raw", "-o", "photo.dng").returncode == 0
    assert shell("raw", "develop", "photo.dng", "--exposure", "0.5", "-o", "one.png").returncode == 0
    assert shell("raw", "develop", "photo.dng", "--config", "one.png.pellucid.json", "-o", "two.png").returncode == 0
    assert (shell.folder / "one.png").read_bytes() == (shell.folder / "two.png").read_bytes()
    assert shell("example", "ultrasound", "-o", "cine.mha").returncode == 0
    assert shell("ultrasound", "despeckle", "cine.mha", "--strength", "0.9", "-o", "one.mha").returncode == 0
    words = ("ultrasound", "despeckle", "cine.mha", "--config", "one.mha.pellucid.json", "-o", "two.mha")
    assert shell(*words).returncode == 0
    assert (shell.folder / "one.mha").read_bytes() == (shell.folder / "two.mha").read_bytes()
