# SPDX-License-Identifier: Apache-2.0
"""With ``--private``, nothing that names a person leaves the input: not in the data file, not beside it, not in words.

One person is planted wherever a header of each format takes a text (``planted.py``); then every byte of every
output is searched, unpacked too, in the encodings texts come in.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
import re
import shutil
import sys
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pellucid
from pellucid.cli import main
from pellucid.formats import identity, tiff_private
from tests.cli.conftest import Shell
from tests.cli.planted import CASES, DAY, SPELLED, WHO, dicom_us, nifti

HIDDEN = re.compile(rb"x[\x01\x5e\x9c\xda]")  # zlib streams
INLINE = re.compile(rb"data:image/png;base64,([A-Za-z0-9+/=]+)")


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run the command line within this process: one start of Python for all formats."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["pellucid", *map(str, words)])
        code = main._guarded(list(map(str, words)))
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


def layers(data: bytes, depth: int = 0) -> Iterator[bytes]:
    """Yield bytes as they are and as they unpack."""
    yield data
    if depth > 2:
        return
    found = [base64.b64decode(m[1]) for m in INLINE.finditer(data)]
    if data[:2] == b"\x1f\x8b":
        found.append(gzip.decompress(data))
    if data[:4] == b"PK\3\4":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            found += [archive.read(m) for m in archive.infolist()]
    for hit in HIDDEN.finditer(data[: 1 << 20]):
        try:
            found.append(zlib.decompressobj().decompress(data[hit.start() :], 1 << 20))
        except zlib.error:
            continue
    for inner in found:
        yield from layers(inner, depth + 1)


def spelled(data: bytes) -> list[str]:
    """Return the spellings of the person and the day that some bytes hold."""
    found = set()
    for layer in layers(data):
        low = layer.lower()
        for word in SPELLED:
            if any(word.encode(code) in low for code in ("utf-8", "utf-16-le", "utf-16-be")):
                found.add(word)
    return sorted(found)


def plant(case: str, folder: Path) -> tuple[str, Path, str]:
    """Return field, input and output name; folder and file name the person too."""
    field, suffix, write = CASES[case]
    home = folder / f"{WHO}_{DAY}"
    home.mkdir()
    source = home / f"{WHO}_scan{suffix}"
    write(source)
    return field, source, f"out{suffix}"


def files(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if p.is_file()]


@pytest.mark.parametrize("case", sorted(set(CASES) - {"jpeg"}))
def test_no_output_names_the_person(case: str, typed: Any, tmp_path: Path) -> None:
    field, source, name = plant(case, tmp_path)
    assert any(spelled(p.read_bytes()) for p in files(source.parent)), "nothing was planted"
    made = tmp_path / "made"
    made.mkdir()
    words = [field, "denoise", source, "-m", "identity", "--private", "-o", made / name]
    code, said = typed(*words, "--report", made / "r.html", "--status", made / "s.tsv", "--json")
    assert code == 0, said
    assert not spelled(said.encode()), said
    assert len(files(made)) >= 4
    for path in files(made):
        assert not spelled(path.read_bytes()), path.name
        assert not spelled(str(path.relative_to(made)).encode())
    assert np.array_equal(samples(source, field), samples(made / name, field))


def samples(path: Path, field: str) -> np.ndarray:
    reader = pellucid.open(path)
    values = reader.read(tuple(slice(0, n) for n in reader.description.shape))
    reader.close()
    return values


@pytest.mark.parametrize("case", ["nifti", "nrrd", "wav", "png", "tiff", "dicom_us", "hdf5", "mif"])
def test_without_it_the_data_file_keeps_everything_and_the_sidecar_still_names_nobody(
    case: str, typed: Any, tmp_path: Path
) -> None:
    field, source, name = plant(case, tmp_path)
    plain = source.rename(tmp_path / ("in" + name))
    code, said = typed(field, "denoise", plain, "-m", "identity", "-o", tmp_path / name)
    assert code == 0, said
    assert spelled((tmp_path / name).read_bytes())
    sidecar = (tmp_path / (name + ".pellucid.json")).read_text().replace(str(tmp_path), "")
    assert not spelled(sidecar.encode())


@pytest.mark.parametrize(
    ("case", "suffix"), [("nrrd", ".nhdr"), ("metaimage", ".mhd"), ("mif", ".mih"), ("mif", ".mif.gz"), ("mgz", ".mgz")]
)
def test_headers_of_their_own_and_packed_ones_are_cleaned_too(
    case: str, suffix: str, typed: Any, tmp_path: Path
) -> None:
    field, source, _ = plant(case, tmp_path)
    between, made = tmp_path / f"kept{suffix}", tmp_path / f"clean{suffix}"
    assert typed(field, "denoise", source, "-m", "identity", "-o", between)[0] == 0
    assert spelled(between.read_bytes())
    code, said = typed(field, "denoise", between, "-m", "identity", "--private", "-o", made)
    assert code == 0, said
    for path in tmp_path.glob("clean*"):
        assert not spelled(path.read_bytes()), path.name
    assert np.array_equal(samples(source, field), samples(made, field))


@pytest.mark.parametrize(
    ("case", "suffix"),
    [("jpeg", ".png"), ("png", ".tif"), ("tiff", ".png"), ("wav", ".flac"), ("flac", ".wav"), ("nifti", ".nrrd")]
    + [("nrrd", ".nii.gz"), ("dicom", ".nii.gz"), ("dicom_us", ".mkv"), ("metaimage", ".mif"), ("envi", ".tif")],
)
def test_another_format_takes_nobody_along(case: str, suffix: str, typed: Any, tmp_path: Path) -> None:
    field, source, _ = plant(case, tmp_path)
    (tmp_path / "made").mkdir()
    code, said = typed(field, "denoise", source, "-m", "identity", "--private", "-o", tmp_path / "made" / f"a{suffix}")
    assert code == 0 and not spelled(said.encode()), said
    for path in files(tmp_path / "made"):
        assert not spelled(path.read_bytes()), path.name


def test_a_developed_picture_names_nobody(typed: Any, tmp_path: Path) -> None:
    _, source, _ = plant("dng", tmp_path)
    (tmp_path / "made").mkdir()
    code, said = typed("raw", "develop", source, "--private", "-o", tmp_path / "made" / "a.tif", "--json")
    assert code == 0 and not spelled(said.encode()), said
    for path in files(tmp_path / "made"):
        assert not spelled(path.read_bytes()), path.name


def test_previews_inside_a_tiff_lose_their_texts_and_keep_their_pixels(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    exif = image.Exif()
    exif[315] = WHO
    picture, stream = image.fromarray(np.arange(48 * 40, dtype=np.uint8).reshape(40, 48)), io.BytesIO()
    picture.save(stream, "jpeg", exif=exif, comment=WHO.encode())
    path, data = tmp_path / "a.tif", stream.getvalue()
    path.write_bytes(b"II*\0" + bytes(12) + data)
    with path.open("r+b") as file:
        tiff_private._quiet(tiff_private.Editor(path, file), 16, len(data))
    after = path.read_bytes()[16:]
    assert spelled(data) and not spelled(after) and len(after) == len(data)
    assert np.array_equal(np.asarray(image.open(io.BytesIO(after))), np.asarray(image.open(io.BytesIO(data))))


def test_many_files_leave_rows_without_names(typed: Any, tmp_path: Path) -> None:
    _, good, _ = plant("png", tmp_path)
    bad = good.with_name(f"{WHO}_bad.png")
    bad.write_bytes(good.read_bytes()[:300])
    (tmp_path / "made").mkdir()
    words = ("image", "denoise", good, bad, "-m", "identity", "--private", "--keep-going", "-o", f"{tmp_path}/made/")
    code, said = typed(*words, "--status", tmp_path / "s.jsonl", "--json", "--verbose")
    assert code == 5, said
    rows = (tmp_path / "s.jsonl").read_bytes()
    assert rows.count(b"\n") == 2 and not spelled(rows) and not spelled(said.encode())
    for path in files(tmp_path / "made"):
        assert not spelled(path.read_bytes())


def test_a_dry_run_names_nobody(typed: Any, tmp_path: Path) -> None:
    field, source, name = plant("nifti", tmp_path)
    code, said = typed(field, "denoise", source, "--private", "--dry-run", "-o", name)
    assert code == 0 and '"plan"' in said and not spelled(said.encode())


def test_geometry_and_orientation_stay(typed: Any, tmp_path: Path) -> None:
    for case in ("nifti", "nrrd", "metaimage", "mif", "dicom", "geotiff", "dng", "ome"):
        (tmp_path / case).mkdir()
        field, source, name = plant(case, tmp_path / case)
        made = tmp_path / case / name
        assert typed(field, "denoise", source, "-m", "identity", "--private", "-o", made)[0] == 0
        one, other = (pellucid.open(p).description for p in (source, made))
        assert (one.shape, one.axes, one.units, one.kind) == (other.shape, other.axes, other.units, other.kind)
        assert one.spacing == pytest.approx(other.spacing, nan_ok=True)
        for key in ("affine", "wavelengths_nm", "crs", "transform", "cfa", "black", "white", "repetition_s"):
            if key in one.acquisition:
                assert np.all(np.asarray(one.acquisition[key]) == np.asarray(other.acquisition[key])), (case, key)


def test_a_cleaned_dicom_says_so_and_is_valid(typed: Any, tmp_path: Path) -> None:
    pydicom = pytest.importorskip("pydicom")
    field, source, name = plant("dicom", tmp_path)
    assert typed(field, "denoise", source, "-m", "identity", "--private", "-o", tmp_path / name)[0] == 0
    found = [pydicom.dcmread(p) for p in sorted((tmp_path / name).iterdir())]
    assert len({d.SeriesInstanceUID for d in found}) == 1 and len({d.SOPInstanceUID for d in found}) == 3
    for dataset in found:
        assert dataset.PatientIdentityRemoved == "YES" and "PS3.15" in dataset.DeidentificationMethod
        assert dataset.PatientName == "" and dataset.PatientID == "" and dataset.StudyDate == ""
        assert dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID
        assert all(dataset.get(k) is not None for k in ("RepetitionTime", "EchoTime", "ImageOrientationPatient"))
        block = dataset.private_block(0x0019, "SIEMENS MR HEADER")
        assert 0x0C in block and 0x10 not in block  # the b-value stays


def test_the_json_of_a_bids_file_keeps_its_technical_keys(typed: Any, tmp_path: Path) -> None:
    source = tmp_path / "sub-01_T1w.nii.gz"
    nifti(source)
    out = tmp_path / "out" / "sub-01_desc-clean_T1w.nii.gz"
    residual = tmp_path / "left.nii.gz"
    words = ("mri", "denoise", source, "-m", "identity", "--private", "-o", out, "--residual", residual)
    code, said = typed(*words)
    assert code == 0, said
    told = json.loads(out.with_name("sub-01_desc-clean_T1w.json").read_text())
    assert told["EchoTime"] == 0.08 and told["Modality"] == "MR" and told["Nested"] == {"FlipAngle": 7}
    for path in (*files(out.parent), *tmp_path.glob("left*")):
        assert not spelled(path.read_bytes()), path.name


def test_errors_do_not_name_the_file(typed: Any, shell: Shell, tmp_path: Path) -> None:
    _, source, _ = plant("dicom_us", tmp_path)
    source.write_bytes(source.read_bytes()[:-2000])
    for words in (
        ("ultrasound", "denoise", source, "--private"),
        ("ultrasound", "denoise", source, "--private", "--keep-going", "--json"),
        ("ultrasound", "denoise", f"{tmp_path}/{WHO}/none.dcm", "--private"),
        ("ultrasound", "denoise", source, source, "--private", "--debug"),
        ("ultrasound", "estimate", source, "--private"),
        ("mri", "denoise", source, "--private"),
    ):
        code, said = typed(*words)
        assert code in (4, 5), (words, said)
        assert said.strip() and not spelled(said.encode()), said
    shutil.copyfile(source, tmp_path / f"{WHO}.dcm")
    done = shell("ultrasound", "denoise", f"{WHO}.dcm", "--private", "--debug")
    assert done.returncode == 4 and not spelled((done.stdout + done.stderr).encode())


def test_info_hides_people_unless_asked(shell: Shell, tmp_path: Path) -> None:
    dicom_us(tmp_path / "echo.dcm")
    done = shell("info", "echo.dcm", "--json")
    assert done.returncode == 0 and not spelled(done.stdout.encode())
    done = shell("info", "echo.dcm", "--json", "--show-identity")
    assert done.returncode == 0 and "zaphodx42" in spelled(done.stdout.encode())


@pytest.mark.parametrize(
    ("key", "value", "stays"),
    [
        ("PatientName", "x", False),
        ("patient_id", 42, False),
        ("EchoTime", 0.08, True),
        ("SliceTiming", [0, 0.5], True),
        ("AcquisitionTime", "10:11:12", False),
        ("acquisition date", "1947-08-23", False),
        ("whatever", 19470823, False),
        ("whatever", "1947-08-23", False),
        ("gradient", "0.19470823 1 0", True),
        ("InstitutionAddress", "x", False),
        ("Manufacturer", "Siemens", True),
        ("SequenceName", "*tfl3d1", True),
        ("Seq_Frame0000_Timestamp", "0.04", True),
        ("Seq_Frame0000_ProbeToTrackerTransformStatus", "OK", True),
        ("Seq_Frame0000_Operator", "Jane", False),
        ("Unheard", "of Jane", False),
        ("SliceThickness", 2.5, True),
        ("source", "/home/jane/x.nii", False),
    ],
)
def test_keys_and_values(key: str, value: Any, stays: bool) -> None:
    assert (identity.cleaned(key, value) is not None) is stays
