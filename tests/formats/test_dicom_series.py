# SPDX-License-Identifier: Apache-2.0
"""Loose DICOM planes become a grid by their positions alone; what makes no grid says why, with numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pellucid.core.errors import FormatError
from pellucid.formats import dicom, dicom_series

pydicom = pytest.importorskip("pydicom")

MR_CLASS = "1.2.840.10008.5.1.4.1.1.4"
SIZE = (6, 5)  # rows, columns


def make(path: Path, values: np.ndarray, **changes: Any) -> Path:
    """Write one classic MR object: (rows, columns) or (frames, rows, columns)."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    dataset, meta = Dataset(), FileMetaDataset()
    meta.TransferSyntaxUID = changes.pop("syntax", ExplicitVRLittleEndian)
    meta.MediaStorageSOPClassUID = changes.get("SOPClassUID", MR_CLASS)
    dataset.file_meta = meta
    facts: dict[str, Any] = {
        "ImageType": ["ORIGINAL", "PRIMARY", "M"],
        "SOPClassUID": MR_CLASS,
        "SOPInstanceUID": f"1.2.3.{sum(path.name.encode())}.{len(path.name)}",
        "Modality": "MR",
        "PatientName": "Nobody^Known",
        "PatientID": "secret-17",
        "StudyInstanceUID": "1.2.1",
        "SeriesInstanceUID": "1.2.2",
        "SeriesNumber": 7,
        "SeriesDescription": "phantom",
        "InstanceNumber": 1,
        "EchoTime": 30.0,
        "RepetitionTime": 2000.0,
        "SliceThickness": 3.0,
        "PixelSpacing": [2.0, 1.5],
        "ImagePositionPatient": [10.0, 20.0, 30.0],
        "ImageOrientationPatient": [1.0, 0, 0, 0, 1.0, 0],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": values.shape[-2],
        "Columns": values.shape[-1],
        "BitsAllocated": 8 * values.dtype.itemsize,
        "BitsStored": 8 * values.dtype.itemsize,
        "HighBit": 8 * values.dtype.itemsize - 1,
        "PixelRepresentation": int(values.dtype.kind == "i"),
    } | ({"NumberOfFrames": values.shape[0]} if values.ndim == 3 else {})
    for keyword, value in (facts | changes).items():
        if value is not None:
            setattr(dataset, keyword, value)
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.PixelData = values.tobytes()
    dataset["PixelData"].VR = "OW"
    dataset.save_as(path, enforce_file_format=True)
    return path


def series(folder: Path, depths: Any, *, volumes: int = 1, **changes: Any) -> np.ndarray:
    """Write one plane a depth (mm) and volume, names in random order; return (x, y, z[, volume])."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(4)
    names = rng.permutation(len(depths) * volumes)
    out = rng.integers(0, 4000, (len(depths), volumes, *SIZE)).astype("uint16")
    for k, depth in enumerate(depths):
        for v in range(volumes):
            n = int(names[k * volumes + v])
            own = {key: value(k, v) if callable(value) else value for key, value in changes.items()}
            facts = {
                "ImagePositionPatient": [10.0, 20.0, float(depth)],
                "InstanceNumber": 1 + v * len(depths) + k,
            } | own
            make(folder / f"IM{n:04d}.dcm", out[k, v], SOPInstanceUID=f"1.2.3.4.{n}", **facts)
    ordered = out[np.argsort(depths)].transpose(3, 2, 0, 1)
    return ordered if volumes > 1 else ordered[..., 0]


def everything(reader: Any) -> tuple[slice, ...]:
    return tuple(slice(0, n) for n in reader.description.shape)


def test_planes_are_sorted_by_position_whatever_files_are_called(tmp_path: Path) -> None:
    wanted = series(tmp_path / "s", [9, 0, 6, 3], InstanceNumber=1, SliceLocation=5.0)
    reader = dicom.open(tmp_path / "s")
    assert np.array_equal(reader.read(everything(reader)), wanted)
    assert reader.description.spacing == (1.5, 2.0, 3.0)


def test_the_affine_takes_samples_to_where_the_header_says_they_lie(tmp_path: Path) -> None:
    series(tmp_path / "s", [0, 3, 6])
    affine = dicom.open(tmp_path / "s").description.acquisition["affine"]
    assert np.allclose(affine @ [0, 0, 0, 1], [-10, -20, 0, 1])  # LPS (10, 20, 0) is RAS (-10, -20, 0)
    assert np.allclose(affine @ [4, 5, 2, 1], [-10 - 4 * 1.5, -20 - 5 * 2.0, 6, 1])


def test_volumes_are_told_apart_and_ordered_by_instance(tmp_path: Path) -> None:
    wanted = series(tmp_path / "s", [0, 3, 6], volumes=4)
    reader = dicom.open(tmp_path / "s")
    assert reader.description.axes == ("x", "y", "z", "volume") and reader.description.spacing[3] == 2.0
    assert np.array_equal(reader.read(everything(reader)), wanted)


def test_b_values_and_directions_come_in_the_axes_of_the_grid(tmp_path: Path) -> None:
    b = [0.0, 1000.0, 1000.0]
    g = [[0.0, 0, 0], [1.0, 0, 0], [0, 0.6, 0.8]]
    series(
        tmp_path / "s", [0, 3], volumes=3, DiffusionBValue=lambda k, v: b[v],
        DiffusionGradientOrientation=lambda k, v: g[v],
    )  # fmt: skip
    facts = dicom.open(tmp_path / "s").description.acquisition
    assert facts["bvals"] == (0.0, 1000.0, 1000.0)
    # rows run to the left, columns to the back, slices up: x of FSL is flipped where the axes are right-handed
    assert np.allclose(facts["bvecs"], [[0, 0, 0], [-1, 0, 0], [0, 0.6, 0.8]])


def test_volumes_that_mix_b_values_are_refused(tmp_path: Path) -> None:
    series(tmp_path / "s", [0, 3], volumes=2, DiffusionBValue=lambda k, v: 1000.0 * ((k + v) % 2))
    with pytest.raises(FormatError, match="volume 1 have different b values \\(0 and 1000\\)"):
        dicom.open(tmp_path / "s")


def test_a_missing_plane_is_named_with_its_gap(tmp_path: Path) -> None:
    series(tmp_path / "s", [0, 3, 9, 12, 15])
    with pytest.raises(FormatError, match="planes 2 and 3 are 6 mm apart, the others 3 mm: 1 is missing"):
        dicom.open(tmp_path / "s")


def test_a_missing_plane_of_one_volume_is_counted(tmp_path: Path) -> None:
    series(tmp_path / "s", [0, 3, 6], volumes=3)
    doomed = next(p for p in (tmp_path / "s").iterdir() if pydicom.dcmread(p).ImagePositionPatient[2] == 3)
    doomed.unlink()
    with pytest.raises(FormatError, match="of 3 positions 2 have 3 planes, but position 2 has 2"):
        dicom.open(tmp_path / "s")


def test_the_same_image_twice_is_refused_with_both_names(tmp_path: Path) -> None:
    series(tmp_path / "s", [0, 3, 6])
    (tmp_path / "s" / "copy.dcm").write_bytes((tmp_path / "s" / "IM0000.dcm").read_bytes())
    with pytest.raises(FormatError, match="the same image twice: IM0000.dcm and copy.dcm"):
        dicom.open(tmp_path / "s")


def test_a_localiser_is_refused_with_the_count_of_its_orientations(tmp_path: Path) -> None:
    axes = [[1.0, 0, 0, 0, 1.0, 0], [1.0, 0, 0, 0, 0, -1.0], [0, 1.0, 0, 0, 0, -1.0]]
    series(tmp_path / "s", [0, 3, 6], ImageOrientationPatient=lambda k, v: axes[k])
    with pytest.raises(FormatError, match="3 orientations"):
        dicom.open(tmp_path / "s")


def test_several_series_are_listed_without_identifiers_and_one_is_chosen(tmp_path: Path) -> None:
    wanted = series(tmp_path / "s", [0, 3, 6], SeriesInstanceUID="1.2.9", SeriesNumber=12, SeriesDescription="T1")
    make(tmp_path / "s" / "other.dcm", np.ones(SIZE, "uint16"))
    with pytest.raises(FormatError) as error:
        dicom.open(tmp_path / "s")
    text = str(error.value)
    assert "2 series" in text and "12 'T1' (3 files)" in text and "7 'phantom' (1 file)" in text and "1.2." not in text
    reader = dicom.open(tmp_path / "s", key="12")
    assert np.array_equal(reader.read(everything(reader)), wanted)


def test_echoes_are_told_apart_although_instance_numbers_repeat(tmp_path: Path) -> None:
    echo = [4.92, 7.38]
    wanted = series(tmp_path / "s", [0, 3], volumes=2, EchoTime=lambda k, v: echo[v], InstanceNumber=lambda k, v: k)
    with pytest.raises(FormatError, match="2 echo times \\(e1 4.92 ms, e2 7.38 ms\\)"):
        dicom.open(tmp_path / "s")
    reader = dicom.open(tmp_path / "s", key="e2")
    assert np.array_equal(reader.read(everything(reader)), wanted[..., 1])


def test_magnitudes_are_taken_from_among_phases(tmp_path: Path) -> None:
    kinds = [["ORIGINAL", "PRIMARY", "M"], ["ORIGINAL", "PRIMARY", "P"]]
    wanted = series(tmp_path / "s", [0, 3], volumes=2, ImageType=lambda k, v: kinds[v])
    reader = dicom.open(tmp_path / "s")
    assert np.array_equal(reader.read(everything(reader)), wanted[..., 0]) and reader.description.notes[0][0] == "mixed"
    phase = dicom.open(tmp_path / "s", key="P")
    assert phase.description.kind == "phase" and np.array_equal(phase.read(everything(phase)), wanted[..., 1])


def test_scales_may_differ_between_volumes_but_within_one_samples_become_floats(tmp_path: Path) -> None:
    series(tmp_path / "s", [0, 3], volumes=2, RescaleSlope=lambda k, v: 1.0 + v, RescaleIntercept=0)
    description = dicom.open(tmp_path / "s").description
    assert list(description.slope) == [1.0, 2.0] and description.dtype == "uint16"
    wanted = series(tmp_path / "t", [0, 3], RescaleSlope=lambda k, v: 1.0 + k, RescaleIntercept=lambda k, v: -5 * k)
    reader = dicom.open(tmp_path / "t")
    assert np.array_equal(reader.read(everything(reader)), wanted * np.array([1.0, 2.0]) - np.array([0.0, 5.0]))
    with pytest.raises(FormatError, match="differ in scale"):
        dicom.splice(tmp_path / "u", reader, reader.description)


def test_sizes_that_differ_are_counted(tmp_path: Path) -> None:
    series(tmp_path / "s", [0, 3])
    make(tmp_path / "s" / "z.dcm", np.ones((4, 5), "uint16"), ImagePositionPatient=[10.0, 20.0, 6.0])
    with pytest.raises(FormatError, match="different sizes: 2 of 5 x 6 and 1 of 5 x 4"):
        dicom.open(tmp_path / "s")


def test_an_oblique_direction_along_a_row_is_x_alone() -> None:
    turn = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1.0]])
    affine = np.eye(4)
    affine[:3, :3] = np.diag([-1.0, -1, 1]) @ turn * 2.0
    found = dicom_series.bvecs(affine, [turn[:, 0], turn[:, 1], turn[:, 2]])
    assert np.allclose(found, [[-1, 0, 0], [0, 1, 0], [0, 0, 1]])


@pytest.mark.parametrize(
    ("group", "creator", "element", "vr", "value"),
    [
        (0x0019, "SIEMENS MR HEADER", 0x0C, "IS", 700),
        (0x0043, "GEMS_PARM_01", 0x39, "IS", [1_000_000_700, 8, 0, 0]),
        (0x2001, "Philips Imaging DD 001", 0x03, "FL", 700.0),
    ],
)
def test_b_values_are_found_where_the_vendors_put_them(
    tmp_path: Path, group: int, creator: str, element: int, vr: str, value: Any
) -> None:
    series(tmp_path / "s", [0, 3], volumes=2)
    for path in (tmp_path / "s").iterdir():
        dataset = pydicom.dcmread(path)
        weighted = dataset.InstanceNumber > 2  # the second volume
        zero = [0, 8, 0, 0] if isinstance(value, list) else 0
        dataset.private_block(group, creator, create=True).add_new(element, vr, value if weighted else zero)
        dataset.save_as(path)
    assert dicom.open(tmp_path / "s").description.acquisition["bvals"] == (0.0, 700.0)


def test_planes_evenly_too_far_apart_are_told(tmp_path: Path) -> None:
    series(tmp_path / "s", [0, 6, 12])
    assert "gaps" in [code for code, _ in dicom.open(tmp_path / "s").description.notes]


def test_colliding_numbers_of_series_are_told_apart_by_their_place(tmp_path: Path) -> None:
    series(tmp_path / "s", [0, 3], volumes=2, SeriesInstanceUID=lambda k, v: f"1.2.{v + 5}")
    with pytest.raises(FormatError, match="#1 'phantom' \\(2 files\\), #2 'phantom' \\(2 files\\)"):
        dicom.open(tmp_path / "s")
    assert dicom.open(tmp_path / "s", key="#2").description.shape == (5, 6, 2)


def test_a_word_that_names_nothing_is_an_error(tmp_path: Path) -> None:
    series(tmp_path / "s", [0, 3])
    with pytest.raises(FormatError, match="'nonsense' names no series, part or echo"):
        dicom.open(tmp_path / "s", key="nonsense")


def test_planes_without_positions_have_no_order_unless_they_share_a_file(tmp_path: Path) -> None:
    series(tmp_path / "s", [0, 3], ImagePositionPatient=None)
    with pytest.raises(FormatError, match="positions are missing"):
        dicom.open(tmp_path / "s")
    frames = np.arange(90, dtype="uint16").reshape(3, *SIZE)
    reader = dicom.open(make(tmp_path / "one.dcm", frames, ImagePositionPatient=None))
    assert np.array_equal(reader.read(everything(reader)), frames.transpose(2, 1, 0))
    assert "affine" not in reader.description.acquisition
    assert [code for code, _ in reader.description.notes] == ["no-orientation"]
