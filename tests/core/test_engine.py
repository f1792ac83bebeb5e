# SPDX-License-Identifier: Apache-2.0
"""Parts of the engine against closed answers: restoring, random fields, tiles, limits, stages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.core import commit, random, resources, restore, tiling
from pellucid.core.errors import OutputError, UsageError
from pellucid.core.types import Description, Traits


def described(dtype: str, slope: float = 1.0, inter: float = 0.0, **more: object) -> Description:
    return Description("x", (10,), ("x",), dtype, slope=slope, inter=inter, **more)  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.sampled_from(["uint8", "int8", "int16", "uint16", "int32"]),
    st.floats(1e-6, 1e6),
    st.floats(-1e5, 1e5),
    st.integers(0, 2**31),
)
def test_integers_survive_scale_and_back(dtype: str, slope: float, inter: float, seed: int) -> None:
    """Physical values in float64 come back to the very integers for any slope and intercept."""
    info = np.iinfo(dtype)
    stored = np.random.default_rng(seed).integers(info.min, info.max, 50, endpoint=True).astype(dtype)
    physical = stored.astype(np.float64) * slope + inter
    back, clipped = restore.stored(physical, described(dtype, slope, inter), (slice(0, 50),))
    wide = abs(inter) / slope > 2**40  # beyond float64's digits nothing can come back
    assert wide or (clipped == 0 and np.array_equal(back, stored))


def test_rounding_is_half_to_even_and_clipping_is_counted() -> None:
    values = np.array([0.5, 1.5, 2.5, -0.5, 300.0, -9.0, 254.4])
    back, clipped = restore.stored(values, described("uint8"), (slice(0, 7),))
    assert back.tolist() == [0, 2, 2, 0, 255, 0, 254] and clipped == 2


def test_rounding_has_no_bias() -> None:
    values = np.random.default_rng(0).uniform(10, 200, 200_000)
    back, _ = restore.stored(values, described("int16"), (slice(0, values.size),))
    assert abs(float(np.mean(back - values))) < 0.005  # of one stored step


def test_sound_of_24_bits_clips_at_24_bits() -> None:
    description = Description("wav", (3, 1), ("time", "channel"), "int32", acquisition={"bits": 24})
    back, clipped = restore.stored(np.array([[2.0**23], [-(2.0**24)], [5.0]]), description, (slice(0, 3), slice(0, 1)))
    assert back.ravel().tolist() == [2**23 - 1, -(2**23), 5] and clipped == 2


def test_nodata_and_nan_are_invalid() -> None:
    values = np.array([1.0, np.nan, -9.0, np.inf], np.float32)
    assert restore.valid(values, described("float32", nodata=-9.0)).tolist() == [True, False, False, False]
    assert restore.valid(np.array([1, 2], np.int16), described("int16")) is None


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(0, 200), st.integers(1, 90), st.integers(0, 150), st.integers(1, 70), st.integers(0, 2**40))
def test_noise_does_not_depend_on_the_region_asked_for(a: int, n: int, b: int, m: int, seed: int) -> None:
    whole = random.normal_field(seed, (slice(0, 300), slice(0, 230)))
    part = random.normal_field(seed, (slice(a, a + n), slice(b, b + m)))
    assert np.array_equal(part, whole[a : a + n, b : b + m])


def test_noise_is_standard_normal_and_frozen() -> None:
    field = random.normal_field(7, (slice(0, 100), slice(0, 100), slice(0, 40)))
    assert abs(field.mean()) < 0.006 and abs(field.std() - 1) < 0.005
    again = random.normal_field(7, (slice(0, 2), slice(0, 1), slice(0, 2)))
    assert np.array_equal(again, field[:2, :1, :2])
    assert not np.array_equal(random.normal_field(7, (slice(0, 3),), step=1), random.normal_field(7, (slice(0, 3),)))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.integers(1, 5000), st.integers(1, 400), st.integers(1, 40))
def test_cuts_cover_everything_on_the_stride(length: int, thickness: int, stride: int) -> None:
    starts = tiling.cuts(length, thickness, stride)
    assert starts[0] == 0 and starts == sorted(set(starts)) and starts[-1] < length
    assert all(s % stride == 0 for s in starts)


def test_the_grid_does_not_know_memory_or_threads() -> None:
    description = Description("x", (64, 64, 4000, 50), ("x", "y", "z", "volume"), "float32", slab=2)
    tiles = tiling.grid(description, Traits("m", "", (3,), joint=("volume",), halo=4, stride=3), None)
    assert tiles[0][2].start == 0 and tiles[-1][2].stop == 4000
    assert all(a[2].stop == b[2].start and b[2].start % 3 == 0 for a, b in zip(tiles, tiles[1:], strict=False))


@pytest.mark.parametrize(("text", "size"), [("2G", 2 << 30), ("512M", 512 << 20), ("1.5GiB", 3 << 29), ("100", 100)])
def test_amounts_of_memory(text: str, size: int) -> None:
    assert resources.parse_bytes(text) == size
    with pytest.raises(UsageError):
        resources.parse_bytes(text + "x")


def test_limits_of_this_process_are_positive() -> None:
    assert resources.threads() >= 1 and resources.memory_limit() > 1 << 20


def test_scheduler_limits_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_MEM_PER_CPU", "100")
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "3")
    assert resources.memory_limit() <= 0.7 * 300 * 1024**2


def test_a_stage_publishes_companions_first_and_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "new" / "a.dat"
    with commit.staged(target, force=False) as stage:
        stage.path.write_text("data")
        (stage.folder / "a.hdr").write_text("header")
        (stage.folder / "a.json").write_text("sidecar")
        assert not target.exists()
        moved = stage.publish(("a.json",))
    assert [p.name for p in moved] == ["a.hdr", "a.dat", "a.json"]
    assert sorted(p.name for p in target.parent.iterdir()) == ["a.dat", "a.hdr", "a.json"]
    with pytest.raises(OutputError, match="use --force"), commit.staged(target, force=False):
        pass


def test_an_exception_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.dat"
    target.write_text("old")
    with pytest.raises(KeyboardInterrupt), commit.staged(target, force=True) as stage:
        stage.path.write_text("half")
        raise KeyboardInterrupt
    assert [p.name for p in tmp_path.iterdir()] == ["a.dat"] and target.read_text() == "old"


def test_the_same_file_is_found_through_links(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    (tmp_path / "c").hardlink_to(tmp_path / "a")
    assert commit.same_file(tmp_path / "a", tmp_path / "b") and commit.same_file(tmp_path / "a", tmp_path / "c")
    assert not commit.same_file(tmp_path / "a", tmp_path / "d")


def test_hours_of_sound_are_few_tiles() -> None:
    description = Description("x", (3 * 3600 * 16000, 1), ("time", "channel"), "int16")
    tiles = tiling.grid(description, Traits("m", "", (1,), joint=("channel",), exact="stream"), None)
    assert len(tiles) < 3000 and tiles[-1][0].stop == description.shape[0]
