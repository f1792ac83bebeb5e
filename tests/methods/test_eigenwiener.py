# SPDX-License-Identifier: Apache-2.0
"""Cine denoising: how near the truth, what happens to speckle, what is left alone."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import map_coordinates
from scipy.signal import fftconvolve

from pellucid.core.types import Description, Plan, Tile
from pellucid.domains.ultrasound import average, eigenwiener

SPECKLE = (slice(110, 190), slice(20, 130))


def cine(motion: float, shape: tuple[int, int] = (200, 150), frames: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """Return truth and measurement: speckle with a cyst, moving 2 px x ``motion`` and back, noise at -12 dB."""
    rng = np.random.default_rng(0)
    z, x = np.mgrid[0 : 2 * shape[0], 0 : 2 * shape[1]] / 2
    scatter = rng.standard_normal(z.shape) + 1j * rng.standard_normal(z.shape)
    scatter[(z - 60) ** 2 + (x - 75) ** 2 < 30**2] = 0
    a, b = np.mgrid[-24:25, -40:41]
    psf = np.exp(-4 * np.log(2) * ((a * 0.04 / 0.35) ** 2 + (b * 0.05 / 0.6) ** 2))
    field = fftconvolve(scatter, psf / np.sqrt(2 * np.square(psf).sum()), mode="same")
    z, x = np.mgrid[0 : shape[0], 0 : shape[1]].astype(float)
    clean = np.empty((*shape, frames), np.complex64)
    for t in range(frames):
        swing = np.sin(2 * np.pi * t / frames)
        deep, wide = motion * 2 * swing * (1 + 0.3 * z / shape[0]), motion * 1.5 * swing
        parts = [map_coordinates(p, [2 * (z + deep), 2 * (x + wide)], order=3, mode="nearest") for p in _parts(field)]
        clean[..., t] = (parts[0] + 1j * parts[1]) * np.exp(1j * 4 * np.pi * 5e6 / 1.54e6 * 0.08 * deep)
    noise = rng.standard_normal(clean.shape) + 1j * rng.standard_normal(clean.shape)
    return clean, (clean + 10 ** (-12 / 20) / np.sqrt(2) * noise).astype(np.complex64)


def _parts(field: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return field.real, field.imag


def nrmse(estimate: np.ndarray, truth: np.ndarray) -> float:
    return float(np.linalg.norm(np.abs(estimate) - np.abs(truth)) / np.linalg.norm(truth))


def snr(values: np.ndarray) -> float:
    part = np.abs(values[SPECKLE])
    return float((part.mean((0, 1)) / part.std((0, 1))).mean())


def run(values: np.ndarray, method: object = eigenwiener, kind: str = "iq", **options: object) -> np.ndarray:
    made = Description("array", values.shape, ("axial", "lateral", "frame"), str(values.dtype), kind)
    plan = Plan("x", method.Options(**options), description=made)
    tile = Tile.whole(values.astype(np.complex64 if np.iscomplexobj(values) else np.float32), spatial=2)
    return method.run(tile, None, plan, np.random.default_rng(0)).values


@pytest.mark.parametrize(("motion", "most"), [(0.0, 0.040), (0.2, 0.052), (1.0, 0.073)])
def test_a_noisy_cine_comes_near_the_truth_and_keeps_its_speckle(motion: float, most: float) -> None:
    truth, noisy = cine(motion)
    out = run(noisy)
    assert nrmse(out, truth) <= most
    assert snr(out) == pytest.approx(snr(truth), rel=0.01)
    smooth = np.apply_along_axis(lambda v: np.convolve(v, np.ones(5) / 5, "same"), 2, np.abs(noisy))
    for harmless in (noisy, np.zeros_like(noisy), smooth):
        assert nrmse(harmless, truth) > most


def test_a_clean_cine_is_left_as_it_is() -> None:
    truth, _ = cine(1.0)
    assert 20 * np.log10(np.linalg.norm(truth) / np.linalg.norm(run(truth) - truth)) >= 45


def test_a_second_run_changes_little() -> None:
    _, noisy = cine(0.2)
    once = run(noisy)
    twice = run(once)
    assert np.linalg.norm(twice - once) < 0.2 * np.linalg.norm(once - noisy)


def test_repeated_frames_stay_repeated_and_do_not_pass_for_signal() -> None:
    truth, noisy = cine(0.0, frames=16)
    index = np.sort(np.r_[np.arange(16), 3, 3, 9])
    out = run(noisy[..., index])
    for a, b in zip(range(len(index) - 1), index[1:] == index[:-1], strict=True):
        assert not b or np.array_equal(out[..., a], out[..., a + 1])
    assert nrmse(out, truth[..., index]) < 0.06


def test_transmits_are_denoised_apart() -> None:
    _, noisy = cine(0.0, frames=20)
    mixed = np.empty((*noisy.shape[:2], 20), np.complex64)
    mixed[..., ::2], mixed[..., 1::2] = noisy[..., :10], noisy[::-1, :, :10]
    made = Description("a", mixed.shape, ("time", "element", "frame"), "complex64", "channel", acquisition={"waves": 2})
    plan = Plan("x", eigenwiener.Options(), description=made)
    out = eigenwiener.run(Tile.whole(mixed, spatial=2), None, plan, np.random.default_rng(0)).values
    assert np.allclose(out[..., ::2], run(np.ascontiguousarray(noisy[..., :10])), atol=1e-5)


def test_a_display_cine_keeps_its_speckle_within_five_percent() -> None:
    truth, noisy = cine(1.0)
    grey, clean = (np.clip(255 + 255 / 60 * (20 * np.log10(np.abs(v) / 4)), 0, 255) for v in (noisy, truth))
    out = run(np.rint(grey), kind="bmode")

    def linear(v: np.ndarray) -> np.ndarray:
        return 10 ** ((v / 255 - 1) * 3)

    assert snr(linear(out)) == pytest.approx(snr(linear(grey)), rel=0.05)
    # at this level a guarded display cine gains nothing: noise alone keeps its mean amplitude
    assert nrmse(linear(out), linear(clean)) <= 1.005 * nrmse(linear(grey), linear(clean))


def test_averaging_helps_where_nothing_moves_and_returns_what_moves() -> None:
    truth, noisy = cine(0.0)
    assert nrmse(run(noisy, average), truth) < 0.6 * nrmse(noisy, truth)
    truth, noisy = cine(3.0)
    assert nrmse(run(noisy, average), truth) < 1.02 * nrmse(noisy, truth)
    assert snr(run(noisy, average)) == pytest.approx(snr(truth), rel=0.05)


def test_long_cines_are_done_in_groups() -> None:
    truth, noisy = cine(0.2, shape=(60, 60), frames=100)
    assert nrmse(run(noisy), truth) < 0.06
