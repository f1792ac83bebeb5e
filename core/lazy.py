# SPDX-License-Identifier: Apache-2.0
"""Heavy libraries, imported at their first use.

Method and field modules declare traits and options that the command line reads for ``--help``.
Taking ``np``, ``torch`` ... from here lets those declarations load in a millisecond, while type
checkers still see the real modules. Never use these names at a module's top level (constants,
decorators, default arguments): that would load the library at once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__all__ = ["fft", "ndimage", "np", "special", "torch"]

if TYPE_CHECKING:
    import numpy as np
    import torch
    from scipy import fft, ndimage, special
else:

    class _Lazy:
        """Stand in for a module; each attribute is cached after its first look-up."""

        def __init__(self, name: str) -> None:
            self.__dict__["_name"] = name

        def __getattr__(self, attribute: str) -> Any:
            value = getattr(importlib.import_module(self.__dict__["_name"]), attribute)
            self.__dict__[attribute] = value
            return value

    np = _Lazy("numpy")
    torch = _Lazy("torch")
    fft = _Lazy("scipy.fft")
    ndimage = _Lazy("scipy.ndimage")
    special = _Lazy("scipy.special")
