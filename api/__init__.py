# SPDX-License-Identifier: Apache-2.0
"""pellucid makes scientific measurements clearer.

>>> import pellucid
>>> sorted(name for name in pellucid.__all__ if not name.startswith("_"))
['denoise', 'estimate', 'info', 'methods', 'open']
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"

__all__ = ["__version__", "denoise", "estimate", "info", "methods", "open"]


def __getattr__(name: str) -> Any:
    """Import the public functions at their first use; ``import pellucid`` itself loads nothing."""
    if name in __all__:
        from pellucid.domains import calls

        return getattr(calls, name)
    raise AttributeError(f"module 'pellucid' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
