# SPDX-License-Identifier: Apache-2.0
"""What a user asks for: the shared options of every verb, as one frozen value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HINT_OF_FLAG = {"raw": "encoding", "raw_channels": "channels"}  # --channels belongs to methods


@dataclass(frozen=True)
class Request:
    """Options of ``denoise`` and its relatives; names are those of the command line.

    ``method_options`` and ``field_options`` hold only what was given.
    """

    method: str = ""
    out: Path | None = None
    out_folder: bool = False  # ``out`` is a folder even if it does not exist yet
    sigma: str = "auto"  # a number, N/255 or auto
    estimator: str = ""
    noise_in: Path | None = None
    noise_out: Path | None = None
    residual: Path | None = None
    mask: Path | None = None
    region: str = ""
    preview: Path | None = None
    report: Path | None = None
    out_dtype: str = ""
    key: str = ""
    axes: str = ""
    force: bool = False
    force_kind: str = ""
    strict: bool = False
    private: bool = False
    threads: int = 0
    max_memory: str = ""
    scratch: Path | None = None
    device: str = "auto"
    seed: int = 0
    command: tuple[str, ...] = ()
    method_options: Mapping[str, Any] = field(default_factory=dict)
    field_options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def hints(self) -> dict[str, Any]:
        """What formats may need to be told."""
        given = {"key": self.key, "axes": tuple(a.strip() for a in self.axes.split(",")) if self.axes else ()}
        told = {HINT_OF_FLAG.get(k, k): v for k, v in self.field_options.items()}
        return {k: v for k, v in {**given, **told}.items() if v not in ("", None, (), 0)}
