# SPDX-License-Identifier: Apache-2.0
"""ERDAS 7: GDAL agrees, every byte but the samples comes back, class maps say what they are."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pellucid.core.errors import FormatError
from pellucid.core.types import Description
from pellucid.formats import lan


def full(d: Description) -> tuple[slice, ...]:
    return tuple(slice(0, n) for n in d.shape)


def scene(path: Path, order: str = "<", calibrated: bool = True) -> np.ndarray:
    """Write a scene of 5 lines, 6 columns and 4 bands of 16 bits; return it as (line, sample, band)."""
    values = np.random.default_rng(0).integers(-500, 5000, (5, 4, 6)).astype(order + "i2")
    head = struct.pack(order + "6sHH6xii", b"HEAD74", 2, 4, 6, 5).ljust(112, b"\7") + struct.pack(
        order + "4f", 0, 0, 30, 20
    )
    path.write_bytes(head + values.tobytes() + b"behind")
    if calibrated:
        rows = "\n".join(f"{400 + 10 * i}.5\t9.{i}\t0.9" for i in range(4))
        path.with_suffix(".spc").write_text(f"FILE some_930111.ascii\n------\n{rows}\n")
    return values.transpose(0, 2, 1)


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_scene_comes_back_to_the_byte(tmp_path: Path, order: str) -> None:
    path = tmp_path / "a.lan"
    values = scene(path, order)
    reader = lan.open(path)
    d = reader.description
    assert (d.shape, d.axes, d.dtype) == ((5, 6, 4), ("line", "sample", "band"), "int16")
    assert d.acquisition["wavelengths_nm"] == [400.5, 410.5, 420.5, 430.5] and d.spacing == (20.0, 30.0, None)
    assert np.array_equal(reader.read(full(d)), values) and d.kind == "unknown"
    (tmp_path / "out").mkdir()
    writer = lan.splice(tmp_path / "out" / "a.lan", reader, d)
    for part in (slice(3, 5), slice(0, 3)):
        writer.write((part, *full(d)[1:]), values[part])
    writer.close()
    assert (tmp_path / "out" / "a.lan").read_bytes() == path.read_bytes()
    assert (tmp_path / "out" / "a.spc").read_bytes() == path.with_suffix(".spc").read_bytes()


def test_gdal_reads_the_same(tmp_path: Path) -> None:
    rasterio = pytest.importorskip("rasterio")
    values = scene(tmp_path / "a.lan")
    d = lan.open(tmp_path / "a.lan").description
    writer = lan.compose(tmp_path / "b.lan", d)
    writer.write(full(d), values)
    writer.close()
    for name in ("a.lan", "b.lan"):
        with rasterio.Env(GDAL_PAM_ENABLED="NO"), rasterio.open(tmp_path / name, driver="LAN") as dataset:
            assert np.array_equal(dataset.read().transpose(1, 2, 0), values)
    assert lan.open(tmp_path / "b.lan").description.acquisition == d.acquisition


def test_the_ground_truth_is_a_class_map(shared_data: Any, tmp_path: Path) -> None:
    path = shared_data("hyperspectral/lan/92AV3GT.GIS")
    reader = lan.open(path)
    d = reader.description
    values = reader.read(full(d))
    assert (d.shape, d.kind, d.witnesses["classes"]) == ((145, 145, 1), "labels", 17)
    assert np.bincount(values.ravel())[:4].tolist() == [10659, 54, 1434, 834]
    writer = lan.splice(tmp_path / "a.gis", reader, d)
    writer.write(full(d), values)
    writer.close()
    assert (tmp_path / "a.gis").read_bytes() == path.read_bytes()


def test_a_calibration_of_other_bands_is_left_alone(shared_data: Any, tmp_path: Path) -> None:
    scene(tmp_path / "a.lan", calibrated=False)
    (tmp_path / "a.spc").write_bytes(shared_data("hyperspectral/lan/92AV3C.spc").read_bytes())
    assert lan.open(tmp_path / "a.lan").description.acquisition == {}


@pytest.mark.parametrize(
    ("at", "value", "words"),
    [
        (6, 1, "share a byte"),
        (6, 7, "no sizes"),
        (8, 0, "no sizes"),
        (16, 0, "no sizes"),
        (20, 250, "ends after 5 of 250"),
    ],
)
def test_hostile_headers_end_in_a_worded_error(tmp_path: Path, at: int, value: int, words: str) -> None:
    scene(tmp_path / "a.lan")
    raw = bytearray((tmp_path / "a.lan").read_bytes())
    raw[at : at + 2] = value.to_bytes(2, "little")
    (tmp_path / "a.lan").write_bytes(bytes(raw))
    with pytest.raises(FormatError, match=words):
        lan.open(tmp_path / "a.lan")


def test_other_types_are_refused(tmp_path: Path) -> None:
    scene(tmp_path / "a.lan")
    reader = lan.open(tmp_path / "a.lan")
    with pytest.raises(FormatError, match="float32 cannot be stored"):
        lan.splice(tmp_path / "b.lan", reader, reader.description.with_(dtype="float32"))
