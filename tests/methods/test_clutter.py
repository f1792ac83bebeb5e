# SPDX-License-Identifier: Apache-2.0
"""Clutter filters: closed forms, the real Doppler ensemble, eighteen simulated vessels."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from scipy.signal import fftconvolve

from pellucid.core.types import Description, Plan, Tile
from pellucid.domains.ultrasound import rpca, svd, svd_blocks
from pellucid.formats import clarius

VESSEL, TISSUE = (slice(85, 145), slice(20, 90)), (slice(200, 330), slice(10, 90))
CASES = list(product((12, 32, 64), (1e-3, 4e-3, 10e-3), (0.08, 0.3)))


def clutter(values: np.ndarray, method: object = svd, ensemble: int = 0, **options: object) -> tuple[np.ndarray, dict]:
    facts = {"ensemble": ensemble} if ensemble else {}
    axes = ("axial", "lateral", "frame")
    made = Description("array", values.shape, axes, str(values.dtype), "iq", acquisition=facts)
    plan = Plan(method.TRAITS.name, method.Options(**options), description=made)
    result = method.run(Tile.whole(values, spatial=2), None, plan, np.random.default_rng(0))
    return result.values, dict(result.facts)


def contrast(values: np.ndarray, vessel: object, tissue: object) -> float:
    power = np.square(np.abs(values)).mean(-1)
    return float(10 * np.log10(power[vessel].mean() / power[tissue].mean()))


def gcnr(values: np.ndarray) -> float:
    decibels = 10 * np.log10(np.square(np.abs(values)).mean(-1))
    a, b = decibels[VESSEL].ravel(), decibels[TISSUE].ravel()
    edges = np.linspace(min(a.min(), b.min()), max(a.max(), b.max()), 257)
    ha, hb = (np.histogram(v, edges)[0] / v.size for v in (a, b))
    return float(1 - np.minimum(ha, hb).sum())


def speckle(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Return complex speckle of unit power: white scatterers under a small point spread function."""
    z, x = np.mgrid[-6:7, -5:6]
    psf = np.exp(-4 * np.log(2) * ((z / 4) ** 2 + (x / 4) ** 2))
    white = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    return fftconvolve(white, psf / np.sqrt(2 * np.square(psf).sum()), mode="same")


def vessel(pulses: int, tissue_m_s: float, flow_m_s: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return IQ (200, 160, pulses) and where blood is: PRF 2 kHz, 5 MHz, blood at -40 dB, noise at -55 dB."""
    rng = np.random.default_rng(seed)
    z, x = np.mgrid[0:200, 0:160].astype(float)
    away = np.abs(z - 100 - 0.1 * (x - 80)) / 22
    inside = away < 1
    k, times = 4 * np.pi * 5e6 / 1540, np.arange(pulses) / 2000
    still = speckle(rng, z.shape) * np.where(inside, 10 ** (-25 / 20), 1)
    moved = tissue_m_s / (2 * np.pi * 3) * np.sin(2 * np.pi * 3 * times)
    out = still[..., None] * np.exp(1j * k * moved * (1 + 0.3 * z[..., None] / 200))
    speed = flow_m_s * np.cos(np.deg2rad(72)) * np.maximum(1 - away**2, 0)
    # scatterers move with the flow: successive fields share what has not left the resolution cell (0.3 mm)
    blood = speckle(rng, z.shape)
    for i in range(pulses):
        out[..., i] += 0.01 * inside * blood * np.exp(1j * k * speed * times[i])
        kept = np.exp(-flow_m_s * np.maximum(1 - away**2, 0) / 2000 / 0.6e-3)
        blood = kept * blood + np.sqrt(1 - kept**2) * speckle(rng, z.shape)
    noise = rng.standard_normal(out.shape) + 1j * rng.standard_normal(out.shape)
    return (out + 10 ** (-55 / 20) / np.sqrt(2) * noise).astype(np.complex64), inside


def test_a_static_scene_and_a_rotating_one_are_told_apart_exactly() -> None:
    rng = np.random.default_rng(1)
    tissue, blood = (rng.standard_normal((40, 30, 1)) + 1j * rng.standard_normal((40, 30, 1)) for _ in range(2))
    turning = np.exp(2j * np.pi * 0.25 * np.arange(12))
    blood[:, :15] = 0
    tissue[:, 15:] = 0  # so that the two are orthogonal
    values = (100 * tissue + blood * turning).astype(np.complex64)
    out, facts = clutter(values)
    assert facts["rank"] == 1 and facts["centroid_2"] == pytest.approx(0.25, abs=1e-3)
    assert np.abs(out - blood * turning).max() < 1e-3
    kept, _ = clutter(values, keep="tissue")
    assert np.abs(out + kept - values).max() < 1e-3


def test_each_ensemble_is_filtered_on_its_own() -> None:
    values, _ = vessel(12, 4e-3, 0.3)
    other = np.concatenate([values, 3 * values[::-1]], -1)
    out, facts = clutter(other, ensemble=12)
    assert facts["ensembles"] == 2
    assert np.allclose(out[..., :12], clutter(values)[0], atol=1e-5)


def test_real_rf_is_filtered_as_its_complex_form_is() -> None:
    values, inside = vessel(32, 1e-3, 0.3)
    carrier = np.exp(2j * np.pi * 0.2 * np.arange(200))[:, None, None]
    out, facts = clutter((values * carrier).real.astype(np.float32))
    found = contrast(out, inside, ~inside)
    assert facts["rank"] >= 1 and found > contrast(values, inside, ~inside) + 20


def test_the_carotid_ensemble_gives_rank_two_and_its_vessel(shared_data: Callable[[str], Path]) -> None:
    reader = clarius.open(shared_data("ultrasound/clarius/carotid_iq.raw"))
    values = reader.read(tuple(slice(0, n) for n in reader.description.shape))
    out, facts = clutter(values)
    assert facts["rank"] == 2 and facts["overlap"] == 0
    assert contrast(out, VESSEL, TISSUE) >= 17.5 and gcnr(out) >= 0.985
    phase = np.angle((out[..., 1:] * out[..., :-1].conj()).sum(-1))[VESSEL]
    assert np.median(phase) / np.pi * 38.5 == pytest.approx(15.1, abs=0.5)
    for harmless in (values, np.ones_like(values), values - values.mean(-1, keepdims=True)):  # identity, flat, mean
        assert contrast(harmless, VESSEL, TISSUE) < 1


@pytest.mark.parametrize("case", [*CASES[::5], (32, 4e-3, 0.3)], ids=str)  # the last: blood and tissue mixed
def test_the_rank_found_is_the_best_or_costs_less_than_a_decibel(case: tuple[int, float, float]) -> None:
    values, inside = vessel(*case)
    found, facts = clutter(values)
    best = max(contrast(clutter(values, rank=k)[0], inside, ~inside) for k in range(1, 8))
    assert best - contrast(found, inside, ~inside) <= 1.0, facts


def test_robust_components_separate_a_sparse_vessel() -> None:
    rng = np.random.default_rng(2)
    tissue = (rng.standard_normal((30, 30, 1)) + 1j * rng.standard_normal((30, 30, 1))) * 5
    blood = np.zeros((30, 30, 16), np.complex64)
    blood[10:13] = np.exp(2j * np.pi * rng.random((3, 30, 16)))
    out, _ = clutter((tissue + blood).astype(np.complex64), rpca, strength=0.5)
    inside = np.zeros((30, 30), bool)
    inside[10:13] = True
    assert contrast(out, inside, ~inside) > 10 + contrast(tissue + blood, inside, ~inside)
    kept, _ = clutter((tissue + blood).astype(np.complex64), rpca, strength=0.5, keep="tissue")
    assert np.abs(out + kept - tissue - blood).max() < 1e-4


def test_mixed_components_are_found_only_where_singular_values_are_alike() -> None:
    times = np.linspace(-1, 1, 32)
    carrier = np.exp(2j * np.pi * 0.015 * np.arange(32))
    tissue = np.linalg.qr(np.polynomial.legendre.legvander(times, 2) * carrier[:, None])[0]
    blood = np.exp(2j * np.pi * 0.25 * np.arange(32)) / np.sqrt(32)
    blood -= tissue @ (tissue.conj().T @ blood)
    blood /= np.linalg.norm(blood)
    turned = np.stack([tissue[:, 2] + blood, tissue[:, 2] - blood], 1) / np.sqrt(2)
    rest = np.linalg.qr(np.concatenate([tissue[:, :2], turned, np.eye(32)], 1))[0]
    vectors = np.concatenate([tissue[:, :2], turned, rest[:, 4:32]], 1)
    values = np.concatenate([[1.0, 1e-2, 1e-5, 0.9e-5], np.full(28, 1e-7)])
    assert svd.mixed(values, vectors, 2) == 2
    values[3] = 1e-6  # ten decibels apart: not a mixture, the centroid was right
    assert svd.mixed(values, vectors, 2) == 0
    assert svd.mixed(values, np.abs(vectors), 2) == 0 and svd.mixed(values, vectors, 31) == 0


@pytest.mark.parametrize("size", [1, 5, 40, 41, 104])
@pytest.mark.parametrize("side", [8, 9, 50])
def test_weights_of_blocks_sum_to_one(size: int, side: int) -> None:
    total = np.zeros(size)
    for _, cut, weight in svd_blocks._along(slice(0, size), size, side // 2):
        total[cut] += weight
    assert np.allclose(total, 1)


def test_tissue_that_moves_apart_is_filtered_better_in_blocks() -> None:
    slow, inside = vessel(32, 1e-3, 0.3, seed=5)
    values = slow.copy()
    values[:, 55:], values[:, 110:] = (
        vessel(32, 10e-3, 0.3, seed=6)[0][:, 55:],
        vessel(32, -8e-3, 0.3, seed=7)[0][:, 110:],
    )
    best = max(contrast(clutter(values, rank=k)[0], inside, ~inside) for k in range(1, 9))
    found, facts = clutter(values, block=50)
    assert contrast(found, inside, ~inside) > best + 0.4
    assert facts["rank_lowest"] < facts["rank_highest"] and facts["blocks"] > 20
    kept, _ = clutter(values, block=50, keep="tissue")
    assert np.abs(found + kept - values).max() < 1e-5 * np.abs(values).max()


def test_tiles_of_blocks_give_what_the_whole_gives() -> None:
    values, _ = vessel(12, 4e-3, 0.3)
    plan = Plan("svd", svd.Options(block=40))
    parts = [slice(0, 70), slice(70, 133), slice(133, 200)]
    everything = slice(0, 160)
    carry = None
    for part in parts:
        tile = Tile(values[part], (part, everything), (part, everything), (200, 160))
        carry = svd.gather(tile, carry, plan)
    state, rng = svd.settle(carry, plan), np.random.default_rng(0)
    tiled = [
        svd.run(Tile(values[p], (p, everything), (p, everything), (200, 160), carry=state), None, plan, rng).values
        for p in parts
    ]
    assert np.abs(np.concatenate(tiled) - clutter(values, block=40)[0]).max() < 1e-5 * np.abs(values).max()


def test_the_carotid_gains_by_blocks(shared_data: Callable[[str], Path]) -> None:
    reader = clarius.open(shared_data("ultrasound/clarius/carotid_iq.raw"))
    values = reader.read(tuple(slice(0, n) for n in reader.description.shape))
    out, facts = clutter(values, block=60)
    assert contrast(out, VESSEL, TISSUE) >= 17.9 and gcnr(out) >= 0.99 and facts["rank"] == 2
