# SPDX-License-Identifier: Apache-2.0
"""Arrays as readers, so that Python callers walk the same line as files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pellucid.core.types import Description, Region

if TYPE_CHECKING:
    from pellucid.core.types import Array


@dataclass
class ArrayReader:
    """An array that answers like an open file."""

    values: Array
    description: Description
    path: Path = Path("array")

    def read(self, region: Region) -> Array:
        """Return a view of a region."""
        found: Array = self.values[region]
        return found

    def close(self) -> None:
        """Do nothing."""


def reader(values: Array, axes: tuple[str, ...], kind: str = "unknown", **facts: object) -> ArrayReader:
    """Wrap an array; ``facts`` are further fields of the description (spacing, acquisition ...)."""
    description = Description("array", tuple(values.shape), axes, str(values.dtype), kind)
    return ArrayReader(values, description.with_(**facts))
