# SPDX-License-Identifier: Apache-2.0
"""Nothing but the named output is ever touched: not a companion, not half of the input, not a namesake."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pellucid


def cube(folder: Path) -> None:
    """Write a small ENVI pair s.hdr and s.img."""
    rng = np.random.default_rng(0)
    np.save(folder / "c.npy", (500 + 50 * rng.standard_normal((20, 18, 12))).astype(np.int16))


def series(folder: Path) -> Path:
    """Write a small DICOM series into a folder of its own; return that folder."""
    pydicom = pytest.importorskip("pydicom")
    folder.mkdir()
    rng = np.random.default_rng(0)
    for z in range(5):
        d = pydicom.dataset.Dataset()
        d.file_meta = pydicom.dataset.FileMetaDataset()
        d.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        d.SOPClassUID = d.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
        d.SOPInstanceUID = d.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{z}"
        d.StudyInstanceUID, d.SeriesInstanceUID, d.Modality = "1.2.1", "1.2.2", "MR"
        d.ImageType, d.SeriesNumber, d.InstanceNumber, d.EchoTime = ["ORIGINAL", "PRIMARY", "M"], 1, z + 1, 30.0
        d.SamplesPerPixel, d.PhotometricInterpretation, d.Rows, d.Columns = 1, "MONOCHROME2", 12, 10
        d.BitsAllocated, d.BitsStored, d.HighBit, d.PixelRepresentation = 16, 16, 15, 0
        d.PixelSpacing, d.SliceThickness = [2.0, 2.0], 2.0
        d.ImagePositionPatient, d.ImageOrientationPatient = [0.0, 0.0, 2.0 * z], [1.0, 0, 0, 0, 1.0, 0]
        d.PixelData = rng.normal(500, 30, (12, 10)).astype(np.uint16).tobytes()
        d.save_as(folder / f"{z}.dcm", enforce_file_format=True)
    return folder


def held(folder: Path) -> dict[str, bytes]:
    """Return what a folder holds, at any depth."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    "words",
    [
        ["-o", "scan"],
        ["-o", "scan/"],
        ["-o", "scan/new"],
        ["-o", "o.nii", "--preview", "scan/1.dcm"],
        ["-o", "o.nii", "--residual", "scan/r.nii"],
        ["-o", "o.nii", "--report", "scan/1.dcm"],
    ],
)
def test_nothing_is_written_into_an_input_folder(shell: Any, words: list[str]) -> None:
    before = held(series(shell.folder / "scan"))
    done = shell("mri", "denoise", "scan", "-m", "wavelet", "--sigma", 10, *words, "--force")
    assert done.returncode == 6 and done.stderr.count("\n") == 1, done.stderr
    assert held(shell.folder / "scan") == before and [p.name for p in shell.folder.iterdir()] == ["scan"]


@pytest.mark.parametrize("again", ["out", "out/"])
def test_an_output_folder_is_met_again_not_written_into(shell: Any, again: str) -> None:
    series(shell.folder / "scan")
    words = ["mri", "denoise", "scan", "-m", "identity", "-o"]
    assert shell(*words, "out").returncode == 0
    before = held(shell.folder / "out")
    done = shell(*words, again)
    assert done.returncode == 6 and "exists" in done.stderr
    done = shell(*words, again, "--resume")
    assert done.returncode == 0 and "kept from before" in done.stderr
    assert held(shell.folder / "out") == before
    (shell.folder / "out" / "0.dcm").unlink()
    done = shell(*words, again, "--force")
    assert done.returncode == 0 and held(shell.folder / "out").keys() == before.keys()
    (shell.folder / "results").mkdir()
    assert shell(*words, "results").returncode == 0 and (shell.folder / "results" / "scan_denoised").is_dir()


def test_the_folder_one_stands_in_is_denoised_beside_it(shell: Any) -> None:
    shell.folder = series(shell.folder / "scan")
    done = shell("mri", "denoise", ".", "-m", "identity")
    assert done.returncode == 0 and (shell.folder.parent / "scan_denoised").is_dir(), done.stderr


@pytest.mark.parametrize("force", [[], ["--force"]])
@pytest.mark.parametrize(("source", "target"), [("s.img", "s.dat"), ("s.hdr", "s.img"), ("s.img", "s.hdr")])
def test_no_half_of_an_envi_input_is_replaced(shell: Any, force: list[str], source: str, target: str) -> None:
    cube(shell.folder)
    words = ["-m", "identity", "--axes", "line,sample,band"]
    assert shell("hyperspectral", "denoise", "c.npy", "-o", "s.img", *words).returncode == 0
    before = {p.name: p.read_bytes() for p in shell.folder.iterdir()}
    done = shell("hyperspectral", "denoise", source, "-o", target, "-m", "wavelet", "--sigma", 10, *force)
    assert done.returncode == 6, done.stderr
    assert {p.name: p.read_bytes() for p in shell.folder.iterdir()} == before


def test_an_existing_companion_is_kept(shell: Any) -> None:
    cube(shell.folder)
    (shell.folder / "x.hdr").write_text("mine")
    done = shell("hyperspectral", "denoise", "c.npy", "-o", "x.img", "-m", "identity", "--axes", "line,sample,band")
    assert done.returncode == 6 and "x.hdr: exists" in done.stderr
    assert (shell.folder / "x.hdr").read_text() == "mine" and not (shell.folder / "x.img").exists()


def test_namesakes_in_a_batch_do_not_replace_each_other(shell: Any, volume: Callable[..., Path]) -> None:
    names = [volume(f"{i}/dwi.nii.gz", seed=i).relative_to(shell.folder) for i in range(2)]
    words = ["-m", "identity", "-o", "out", "--jobs", 2, "--keep-going"]
    done = shell("mri", "denoise", *names, *words)
    assert done.returncode == 5 and "1 of 2 files done" in done.stderr


def test_one_infinite_voxel_does_not_switch_denoising_off(shell: Any, volume: Callable[..., Path]) -> None:
    import nibabel

    image = nibabel.load(volume())
    values = np.asarray(image.dataobj).astype(np.float32)
    values[3, 3, 3], values[5, 5, 5] = np.inf, np.nan
    nibabel.save(nibabel.Nifti1Image(values, image.affine), shell.folder / "odd.nii")
    done = shell("mri", "denoise", "odd.nii", "-o", "out.nii")
    assert done.returncode == 0, done.stderr
    reader = pellucid.open(shell.folder / "out.nii")
    after = reader.read(tuple(slice(0, n) for n in values.shape))
    assert np.isinf(after[3, 3, 3]) and np.isnan(after[5, 5, 5])
    ok = np.isfinite(values)
    assert np.std(after[ok] - values[ok]) > 10


def test_odd_requests_have_their_code(shell: Any, volume: Callable[..., Path]) -> None:
    volume()
    assert shell("mri", "denoise", "scan.nii.gz", "--force-kind", "banana").returncode == 2
    assert shell("mri", "denoise", "scan.nii.gz", "-m", "identity", "-o", "out", "--shard", "0/50000").returncode == 0
    assert shell("mri", "denoise", "scan.nii.gz", "--status", "nowhere/x.tsv", "-m", "identity").returncode == 6
    assert shell("mri", "denoise", "scan.nii.gz", "--mask", "absent.nii").returncode == 4
    assert shell("mri", "simulate", "-o", "a.nii", "--size", "12").returncode == 2
    (shell.folder / "pellucid.toml").write_text("mri = 3\n")
    assert shell("mri", "denoise", "scan.nii.gz").returncode == 2
