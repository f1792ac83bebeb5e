# SPDX-License-Identifier: Apache-2.0
"""vst-bm3d: what it shares with vst-nlm is tested there; here are its limits and its texture."""

from __future__ import annotations

import numpy as np
import pytest

from pellucid.core.errors import UsageError
from pellucid.core.types import Noise, Plan, Tile
from pellucid.domains import registry
from pellucid.domains.raw import phantom, sensor

GIVEN = Noise("poisson_gaussian", 50.0, params={"gain": 3.2, "read": 12.0})


def run(values, name="vst-bm3d", **extras):
    method = registry.method(name, "raw")
    plan = Plan(name, options=method.Options(), extras={"cfa": np.array(sensor.RGGB), "black": 512.0, **extras})
    return method.run(Tile.whole(values.astype(np.float32)), GIVEN, plan, np.random.default_rng(0)).values


def test_a_six_by_six_pattern_is_refused_in_words():
    with pytest.raises(UsageError, match="vst-nlm"):
        run(np.ones((36, 36)), cfa=np.array(sensor.XTRANS))


def test_repeated_texture_is_kept():
    made = phantom.simulate(0, "eld", (240, 320))
    stripes = (slice(30, 90), slice(200, 280))
    error = [
        float(np.square(e[stripes] - made.truth[stripes].astype(float)).mean())
        for e in (run(made.noisy), made.noisy.astype(float))
    ]
    assert error[0] < 0.2 * error[1]


def test_colours_are_filtered_together():
    made = phantom.simulate(0, "unprocessed", (120, 160))
    joint = run(made.noisy)
    assert joint.shape == made.noisy.shape and np.isfinite(joint).all()
