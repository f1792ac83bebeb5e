# SPDX-License-Identifier: Apache-2.0
"""What every registered format promises. A format file that is added is tested here without being named."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pellucid.core.errors import FormatError
from pellucid.core.types import Description
from pellucid.domains import registry
from pellucid.formats import find

FORMATS = find.formats()
WRITTEN = [n for n, m in FORMATS.items() if "compose" in m.FORMAT.writes]
CUTS = 20
HINTS: dict[str, dict[str, Any]] = {"pcm": {"encoding": "s16le", "rate": 16000, "channels": 2}}
FACTS: dict[str, dict[str, Any]] = {
    "speech": {"rate_hz": 16000, "bits": 16, "subtype": "PCM_16"},
    "hyperspectral": {"wavelengths_nm": [400.0 + 10 * i for i in range(5)]},
}
# where a format does not hold its field's first axes
AXES = {"dicom_us": ("y", "x", "frame"), "video": ("y", "x", "frame")}
by_name = pytest.mark.parametrize("name", sorted(WRITTEN))


def field_of(name: str) -> str:
    return next(f for f in registry.fields() if name in registry.field(f).formats)


def example(name: str, folder: Path) -> tuple[Path, np.ndarray]:
    """Compose a small file of a format; return its path and the stored samples."""
    declared = registry.field(field_of(name))
    sizes = {"x": 9, "y": 8, "z": 7, "volume": 4, "line": 9, "sample": 8, "band": 5, "time": 900, "channel": 2}
    sizes |= {"axial": 9, "lateral": 8, "frame": 3}
    if declared.name == "raw":
        sizes |= {"y": 26, "x": 34}  # LibRaw takes nothing smaller than 22 samples a side
    axes = declared.spatial[0] if declared.name in ("image", "raw") else (*declared.spatial[0], declared.series)
    axes = AXES.get(name, axes)
    shape = tuple(sizes[a] for a in axes)
    dtype = "int16" if declared.name in ("mri", "speech", "hyperspectral") else "uint8"
    dtype = "uint16" if declared.name == "raw" else dtype
    values = np.random.default_rng(1).integers(1, 200, shape).astype(dtype)
    module = FORMATS[name]
    slope = {"int16": 2.0**-15, "uint8": 1 / 255}[dtype] if declared.name in ("speech", "image") else 1.0
    path = folder / f"example{module.FORMAT.suffixes[0]}"
    made = Description(name, shape, axes, dtype, slope=slope, acquisition=FACTS.get(declared.name, {}))
    writer = module.compose(path, made)
    writer.write(tuple(slice(0, n) for n in shape), values)
    writer.close()
    return path, values


def opened(name: str, path: Path) -> Any:
    return find.open_file(path, (), **HINTS.get(name, {}))


def everything(description: Description) -> tuple[slice, ...]:
    return tuple(slice(0, n) for n in description.shape)


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_traits_are_complete(name: str) -> None:
    traits = FORMATS[name].FORMAT
    assert traits.name == name and traits.title and traits.suffixes
    assert all(s.startswith(".") and s == s.lower() for s in traits.suffixes)
    assert traits.keeps, "what travels is not said"
    assert traits.writes or traits.fallback, "neither written nor told what is written instead"


@by_name
def test_what_was_composed_reads_back(name: str, tmp_path: Path) -> None:
    path, values = example(name, tmp_path)
    reader = opened(name, path)
    try:
        assert reader.description.format == name
        assert np.array_equal(reader.read(everything(reader.description)).reshape(values.shape), values)
    finally:
        reader.close()


@by_name
def test_a_region_equals_the_slice_of_the_whole(name: str, tmp_path: Path) -> None:
    path, _ = example(name, tmp_path)
    reader = opened(name, path)
    whole = reader.read(everything(reader.description))
    rng = np.random.default_rng(2)
    for _ in range(12):
        starts = [int(rng.integers(0, n)) for n in whole.shape]
        region = tuple(slice(a, int(rng.integers(a + 1, n + 1))) for a, n in zip(starts, whole.shape, strict=True))
        assert np.array_equal(reader.read(region), whole[region]), region
    reader.close()


@by_name
def test_readers_travel_between_processes(name: str, tmp_path: Path) -> None:
    path, _ = example(name, tmp_path)
    reader = opened(name, path)
    whole = reader.read(everything(reader.description))
    copy = pickle.loads(pickle.dumps(reader))
    reader.close()
    assert np.array_equal(copy.read(everything(copy.description)), whole)
    copy.close()


@by_name
def test_spliced_samples_are_the_only_change(name: str, tmp_path: Path) -> None:
    if "splice" not in FORMATS[name].FORMAT.writes:
        pytest.skip("never spliced")
    path, _ = example(name, tmp_path)
    reader = opened(name, path)
    stored = reader.read(everything(reader.description))
    (tmp_path / "stage").mkdir()
    target = tmp_path / "stage" / path.name
    writer = FORMATS[name].splice(target, reader, reader.description)
    half = stored.shape[0] // 2
    for part in (slice(0, half), slice(half, stored.shape[0])):
        writer.write((part, *everything(reader.description)[1:]), np.ascontiguousarray(stored[part]))
    writer.close()
    again = opened(name, target)
    assert np.array_equal(again.read(everything(again.description)), stored)
    kept = ("shape", "axes", "dtype", "kind", "spacing", "units", "nodata", "bad")
    assert all(getattr(again.description, k) == getattr(reader.description, k) for k in kept)
    again.close()
    reader.close()


@by_name
def test_content_decides_without_a_suffix(name: str, tmp_path: Path) -> None:
    if name in ("pcm", "envi"):
        pytest.skip("raw samples say nothing of themselves; ENVI is a pair found by name")
    path, _ = example(name, tmp_path)
    bare = tmp_path / "nameless"
    bare.write_bytes(path.read_bytes())
    assert find.candidates(bare)[0][1] == name


@by_name
def test_truncated_files_end_in_a_worded_error(name: str, tmp_path: Path) -> None:
    path, values = example(name, tmp_path)
    data = path.read_bytes()
    for i in range(CUTS):
        cut = path.with_name(f"cut{i}{''.join(path.suffixes)}")
        cut.write_bytes(data[: len(data) * i // CUTS])
        for other in path.parent.glob("example.*"):
            if other != path:
                (path.parent / f"cut{i}{''.join(other.suffixes)}").write_bytes(other.read_bytes())
        try:
            reader = opened(name, cut)
            got = reader.read(everything(reader.description))
            reader.close()
        except FormatError as error:
            assert "\n" not in str(error) and str(cut) in str(error)
            continue
        assert got.size < values.size or name == "pcm" or np.array_equal(got.reshape(values.shape), values), i


@by_name
def test_random_damage_ends_in_a_worded_error_or_a_result(name: str, tmp_path: Path) -> None:
    path, _ = example(name, tmp_path)
    data = bytearray(path.read_bytes())
    rng = np.random.default_rng(3)
    for i in range(50):
        damaged = bytearray(data)
        for _ in range(int(rng.integers(1, 6))):
            damaged[int(rng.integers(0, min(len(damaged), 600)))] = int(rng.integers(0, 256))
        path.write_bytes(bytes(damaged))
        try:
            reader = opened(name, path)
            try:
                if np.prod([float(n) for n in reader.description.shape]) < 1e7:
                    reader.read(everything(reader.description))
            finally:
                reader.close()
        except FormatError as error:
            assert "\n" not in str(error), i
