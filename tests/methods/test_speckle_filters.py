# SPDX-License-Identifier: Apache-2.0
"""The other speckle filters, OBNLM, SRAD, Lee, Kuan and Frost: closed forms, and each smooths speckle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from pellucid.core.types import Noise, Plan, Tile
from pellucid.domains import registry
from pellucid.domains.ultrasound import lee, levels, metrics, phantom

EXTRAS = {"kind": "bmode", "db_per_unit": 60.0, "peak": 1.0, "psf": (4.4, 6.0)}
CASES = [("obnlm", {}), ("srad", {}), ("lee", {}), ("lee", {"form": "kuan"}), ("lee", {"form": "frost"})]


def run(name: str, values: np.ndarray, mask: Any = None, extras: Any = EXTRAS, **options: Any) -> np.ndarray:
    method = registry.method(name, "ultrasound")
    plan = Plan(name, options=method.Options(**options), extras=extras)
    sigma = 5.57 if extras["kind"] == "envelope" else 5.57 / 60
    return method.run(Tile.whole(values, mask=mask), Noise("speckle", sigma), plan, np.random.default_rng(0)).values


@pytest.fixture(scope="module")
def case() -> tuple[np.ndarray, np.ndarray]:
    found = phantom.cyst(2, (256, 200))
    return np.clip(1 + 20 * np.log10(found.envelope) / 60, 0, 1).astype(np.float32), found.truth_db


@pytest.mark.parametrize(("name", "options"), CASES)
def test_error_falls_and_zero_and_identity_do_not_pass(case, name, options):
    shown, truth = case
    error = lambda v: float(np.std(v * 60 - 60 - truth))  # noqa: E731
    limit = 0.7 * error(shown)
    assert error(run(name, shown, **options)) < limit
    assert error(0 * shown) > limit and error(shown) > limit


def test_obnlm_beats_every_blur_at_edges_and_over_all(case):
    """Of Gaussian blurs those that smooth as much wash edges out; the other filters here are no better than blur."""
    shown, truth = case
    steep = np.hypot(*np.gradient(truth)) > 1  # dB a sample
    blurs = [ndimage.gaussian_filter(shown, s) for s in (1, 1.5, 2, 2.5, 3, 4, 6)]
    for where in (steep, np.ones_like(steep)):
        ours, *others = (np.std((v * 60 - 60 - truth)[where]) for v in (run("obnlm", shown), shown, 0 * shown, *blurs))
        assert ours < 0.95 * min(others)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_masked_samples_influence_nothing(case, name, options):
    shown = np.ascontiguousarray(case[0][:80, :80])
    mask = np.ones(shown.shape, bool)
    mask[30:40, 20:50] = False
    found = []
    for value in (0, 0.7):
        values = shown.copy()
        values[~mask] = value
        found.append(run(name, values, mask, **options))
    assert np.allclose(found[0][mask], found[1][mask], atol=1e-6)


def test_srad_keeps_the_mean_of_an_envelope(case):
    envelope = 10 ** ((case[0] - 1) * 3)
    found = run("srad", envelope.astype(np.float32), extras={"kind": "envelope", "peak": 1.0, "psf": (4.4, 6.0)})
    assert found.mean() == pytest.approx(envelope.mean(), rel=0.02)


def test_srad_smooths_more_with_more_steps(case):
    few, many = (np.std(run("srad", case[0], iterations=n)[140:250]) for n in (20, 150))
    assert many < few < np.std(case[0][140:250])


def test_lee_of_speckle_weaker_than_said_is_the_local_mean():
    values = (1 + 0.01 * np.random.default_rng(0).standard_normal((40, 40))).astype(np.float32)
    plan = Plan("lee", options=lee.Options(), extras={"kind": "envelope", "peak": 1.1})
    found = lee.run(Tile.whole(values), Noise("speckle", levels.SPECKLE_DB), plan, np.random.default_rng(0)).values
    assert found[20, 20] == pytest.approx(values[17:24, 17:24].mean(), rel=1e-5)


def test_speckle_snr_rises(case):
    envelope = lambda v: 10 ** ((v[140:250, 10:190].astype(float) - 1) * 3)  # noqa: E731
    assert metrics.speckle_snr(envelope(run("obnlm", case[0]))) > 1.5 * metrics.speckle_snr(envelope(case[0]))
