# SPDX-License-Identifier: Apache-2.0
"""What every registered method promises. A method file that is added is tested here without being named."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pellucid.core import memory, plan, stream, tiling
from pellucid.core.measure import Measured
from pellucid.core.types import Noise
from pellucid.domains import registry

METHODS = registry.all_methods()
FIELD_OF = {n: f for f in reversed(registry.fields()) for s in registry.sights(f) for n in registry.methods_of(s)}
SIGMA = 0.1
EXACT = 1e-5  # of range: the promise for local methods
by_name = pytest.mark.parametrize("name", sorted(METHODS))


def axes_of(name: str) -> tuple[str, ...]:
    """Return axes a method works on: the richest spatial set of its field, and its joint series."""
    traits = METHODS[name].TRAITS
    declared = registry.field(FIELD_OF[name])
    spatial = next(s for s in declared.spatial if len(s) in traits.spatial)
    return (*spatial, declared.series) if declared.series in traits.joint and traits.needs_series else spatial


def sample(name: str, seed: int = 0) -> np.ndarray:
    """Return a smooth signal with an edge and noise of SIGMA, in the method's axes."""
    axes = axes_of(name)
    sizes = {"x": 24, "y": 22, "z": 36, "line": 61, "sample": 26, "time": 16000, "volume": 20, "band": 16, "channel": 3}
    sizes |= {"axial": 61, "lateral": 44, "frame": 12}
    if len(axes) == 2 and axes[0] == "y":
        sizes |= {"y": 61, "x": 44}
    shape = tuple(sizes[a] for a in axes)
    rng = np.random.default_rng(seed)
    grids = np.meshgrid(*[np.linspace(0, 1, n) for n in shape], indexing="ij")
    clean = 1.0 + sum(0.4 * np.sin((3 + i) * g + i) for i, g in enumerate(grids)) + 0.5 * (grids[0] > 0.55)
    if axes[0] == "time":
        clean = 0.3 * np.sin(2 * np.pi * 440 * grids[0]) * (np.sin(2 * np.pi * 3 * grids[0]) > 0)
        return (clean + 0.02 * rng.standard_normal(shape)).astype(np.float32)
    return (clean + SIGMA * rng.standard_normal(shape)).astype(np.float32)


def run(
    name: str, values: np.ndarray, *, thickness: int = 0, sigma: float = SIGMA, in_flight: int = 1, **options: Any
) -> np.ndarray:
    """Run a method through the engine on an array; ``thickness`` overrides the tiles."""
    method = METHODS[name]
    reader = memory.reader(values, axes_of(name), acquisition={"rate_hz": 16000.0})
    noise = Noise("gaussian", sigma, "given") if method.TRAITS.needs_sigma else None
    dtype = str(values.dtype) if method.TRAITS.stored else "float32"
    made = plan.make_plan(
        reader.description, method, method.Options(**options), noise=noise, out_dtype=dtype, extras={"rate_hz": 16000.0}
    )
    if thickness:
        starts = tiling.cuts(values.shape[0], thickness, method.TRAITS.stride)
        rest = tuple(slice(0, n) for n in values.shape[1 : reader.description.spatial])
        ends = [*starts[1:], values.shape[0]]
        made = replace(made, tiles=tuple((slice(a, b), *rest) for a, b in zip(starts, ends, strict=True)))
    made = replace(made, in_flight=in_flight)
    out = np.full(values.shape, np.nan, dtype)
    for piece in stream.stream(stream.Work(reader, made, method), Measured(), lambda *_: None):
        out[piece.region] = piece.stored
    return out


@by_name
def test_traits_speak_to_users(name: str) -> None:
    traits = METHODS[name].TRAITS
    assert traits.name == name
    assert traits.line.endswith(".") and traits.use and traits.avoid
    assert traits.cite or name == "identity"
    for option in METHODS[name].Options.__dataclass_fields__.values():
        assert option.metadata.get("help"), f"--{option.name} has no help"


@by_name
def test_output_is_finite_same_shape_and_the_input_untouched(name: str) -> None:
    values = sample(name)
    kept = values.copy()
    out = run(name, values)
    assert out.shape == values.shape and np.isfinite(out).all()
    assert np.array_equal(values, kept)


@by_name
@pytest.mark.parametrize("thickness", [7, 16, 23])
def test_tiled_equals_whole(name: str, thickness: int) -> None:
    traits = METHODS[name].TRAITS
    values = sample(name)
    if traits.exact in ("blockwise", "global"):
        pytest.skip("declared to need the whole file")
    if traits.exact == "stream":
        thickness *= 160
    whole, tiled = run(name, values, thickness=10**9), run(name, values, thickness=thickness)
    assert np.abs(whole - tiled).max() <= EXACT * np.ptp(values)


@by_name
def test_threads_do_not_change_a_bit(name: str) -> None:
    values = sample(name)
    thickness = 12 if METHODS[name].TRAITS.exact != "stream" else 4000
    one = run(name, values, thickness=thickness)
    two = run(name, values, thickness=thickness, in_flight=1 if METHODS[name].TRAITS.exact == "stream" else 3)
    assert np.array_equal(one, two)


@by_name
@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_scaled_data_give_scaled_results(name: str, factor: float) -> None:
    traits = METHODS[name].TRAITS
    if "scale" not in traits.equivariant:
        pytest.skip("declares no equivariance to scale")
    values = sample(name)
    plain = run(name, values)
    scaled = run(name, (values * np.float32(factor)), sigma=SIGMA * factor) / factor
    assert np.abs(plain - scaled).max() <= 2e-4 * np.ptp(values)


@by_name
def test_invalid_samples_stay_and_do_not_spread(name: str) -> None:
    values = sample(name)
    if values.ndim == 1:
        pytest.skip("sound has no invalid samples: they are counted and passed through by its own test")
    hole = (slice(10, 13), slice(4, 9))
    values[hole] = np.nan
    out = run(name, values)
    assert np.isnan(out[hole]).all()
    rest = np.ones(values.shape, bool)
    rest[hole] = False
    assert np.isfinite(out[rest]).all()


@by_name
def test_zero_sigma_returns_the_input(name: str) -> None:
    if not METHODS[name].TRAITS.needs_sigma:
        pytest.skip("finds its noise level itself")
    values = sample(name)
    assert np.abs(run(name, values, sigma=0.0) - values).max() <= EXACT * np.ptp(values)


@by_name
@pytest.mark.parametrize("level", [0.0, 3.75])
def test_a_constant_stays_a_constant(name: str, level: float) -> None:
    if METHODS[name].TRAITS.exact == "stream" and level:
        pytest.skip("a constant pressure is no sound")
    values = np.full(sample(name).shape, level, np.float32)
    assert np.abs(run(name, values) - level).max() <= 1e-4 * max(level, 1)


@by_name
def test_declared_flips_commute(name: str) -> None:
    if "flip" not in METHODS[name].TRAITS.equivariant:
        pytest.skip("declares no equivariance to flips")
    values = sample(name)
    for axis in range(len(axes_of(name)) - (METHODS[name].TRAITS.needs_series)):
        flipped = np.flip(run(name, np.ascontiguousarray(np.flip(values, axis))), axis)
        assert np.abs(flipped - run(name, values)).max() <= 1e-4 * np.ptp(values), f"axis {axis}"


@by_name
def test_small_files_do_not_break_it(name: str) -> None:
    values = sample(name)
    spatial = len(axes_of(name)) - (axes_of(name)[-1] in ("volume", "band", "channel", "frame"))
    for extent in (1, 2, 5):
        cut = np.ascontiguousarray(values[(slice(0, extent),) * spatial])
        assert np.isfinite(run(name, cut)).all()


@by_name
def test_devices_are_never_mixed(name: str) -> None:
    """Every tensor lives where the plan says: fake tensors on an accelerator raise where devices mix."""
    traits = METHODS[name].TRAITS
    if traits.devices == ("cpu",):
        pytest.skip("runs on the CPU only")
    torch = pytest.importorskip("torch")
    purity = getattr(METHODS[name], "kernel_for_purity", None)
    assert purity is not None, f"{name} declares other devices but offers no kernel_for_purity() to trace"
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(allow_non_fake_inputs=False):
        out = purity(torch.device("cuda"))
    for tensor in out if isinstance(out, tuple) else (out,):
        assert tensor.device.type == "cuda"
