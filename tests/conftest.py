# SPDX-License-Identifier: Apache-2.0
"""Fixtures every test may use."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

ROOT = Path(os.environ.get("PELLUCID_ROOT", Path(__file__).parent.parent))
SHARED = Path(os.environ.get("PELLUCID_TEST_DATA", ROOT.parent / "shared" / "data"))


@pytest.fixture
def shared_data() -> Callable[[str], Path]:
    """Return a function from a relative name to a real instrument file; skips where it is absent."""

    def find(name: str) -> Path:
        path = SHARED / name
        if not path.exists():
            pytest.skip("real instrument files are not on this machine")
        return path

    return find
