# SPDX-License-Identifier: Apache-2.0
"""The small files beside an image: ``.json``, ``.bval``, ``.bvec``. Read, checked, and carried byte for byte."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pellucid.core.errors import FormatError
from pellucid.formats import bids

GRADIENTS = ((".bval", ".bvec"), (".bvals", ".bvecs"))  # FSL's and dcm2niix's names


@dataclass(frozen=True)
class Companions:
    """What lies beside a file.

    Parameters
    ----------
    files : mapping
        Suffix to bytes, verbatim; the JSON only where nothing had to be merged into it.
    sidecar : mapping
        The JSON, inherited BIDS sidecars merged in.
    bvals : tuple of float, s/mm^2; bvecs : tuple of (x, y, z), one a volume
    """

    files: Mapping[str, bytes] = field(default_factory=dict)
    sidecar: Mapping[str, Any] = field(default_factory=dict)
    bvals: tuple[float, ...] | None = None
    bvecs: tuple[tuple[float, ...], ...] | None = None

    @property
    def acquisition(self) -> dict[str, Any]:
        """What the companions say, in neutral words."""
        facts: dict[str, Any] = {"bvals": self.bvals, "bvecs": self.bvecs}
        for key, name in (("RepetitionTime", "repetition_s"), ("EchoTime", "echo_s")):
            value = self.sidecar.get(key)
            if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
                facts[name] = float(value)
        return {key: value for key, value in facts.items() if value is not None}

    def write(self, image: Path) -> None:
        """Write the same files under ``image``'s stem."""
        stem = bids.split(image.name)[0]
        for suffix, content in self.files.items():
            image.with_name(stem + suffix).write_bytes(content)


def beside(image: Path, volumes: int) -> Companions:
    """Read what lies beside ``image`` and compare the counts with its ``volumes``.

    Raises
    ------
    FormatError
        Gradients that do not fit the volumes or are no numbers.
    """
    files: dict[str, bytes] = {}
    sidecars = bids.inherited(image, ".json")
    sidecar = bids.merged(sidecars)
    own = image.with_name(bids.split(image.name)[0] + ".json")
    if [p.absolute() for p in sidecars] == [own.absolute()] and own.stat().st_size <= bids.LIMIT:
        files[".json"] = own.read_bytes()
    elif sidecar:
        files[".json"] = (json.dumps(sidecar, indent=2, ensure_ascii=False) + "\n").encode()
    bvals = bvecs = None
    for value_suffix, vector_suffix in GRADIENTS:
        values, vectors = _nearest(image, value_suffix), _nearest(image, vector_suffix)
        if values is not None:
            files[value_suffix] = _read(values)
            bvals = _bvals(values, files[value_suffix], volumes)
        if vectors is not None:
            files[vector_suffix] = _read(vectors)
            bvecs = _bvecs(vectors, files[vector_suffix], volumes)
        if values is not None or vectors is not None:
            break
    return Companions(files, sidecar, bvals, bvecs)


def gradients(acquisition: Mapping[str, Any]) -> dict[str, bytes]:
    """Return ``.bval`` and ``.bvec`` texts of neutral facts, in FSL's layout (one row; three rows)."""
    files = {}
    if (bvals := acquisition.get("bvals")) is not None:
        files[".bval"] = (" ".join(f"{float(b):g}" for b in bvals) + "\n").encode()
    if (bvecs := acquisition.get("bvecs")) is not None:
        rows = zip(*bvecs, strict=True)
        files[".bvec"] = "".join(" ".join(f"{float(v):.9g}" for v in row) + "\n" for row in rows).encode()
    return files


def _nearest(image: Path, suffix: str) -> Path | None:
    found = bids.inherited(image, suffix)
    return found[-1] if found else None


def _read(path: Path) -> bytes:
    if path.stat().st_size > bids.LIMIT:
        raise FormatError(path, "", "is far too large for a gradient table")
    return path.read_bytes()


def _rows(path: Path, text: bytes) -> list[list[float]]:
    try:
        return [[float(v) for v in line.replace(b",", b" ").split()] for line in text.splitlines() if line.strip()]
    except ValueError as error:
        raise FormatError(path, "", f"holds something that is no number ({error})") from None


def _bvals(path: Path, text: bytes, volumes: int) -> tuple[float, ...]:
    values = tuple(v for row in _rows(path, text) for v in row)
    if len(values) != volumes:
        hint = "use the table that belongs to this file"
        raise FormatError(path, "", f"{len(values)} b-values for {volumes} volumes", hint)
    return values


def _bvecs(path: Path, text: bytes, volumes: int) -> tuple[tuple[float, ...], ...]:
    rows = _rows(path, text)
    if len(rows) == 3 and all(len(row) == volumes for row in rows):
        return tuple(zip(*rows, strict=True))
    if len(rows) == volumes and all(len(row) == 3 for row in rows):  # one direction a line
        return tuple(tuple(row) for row in rows)
    count = len(rows[0]) if len(rows) == 3 else len(rows)
    hint = "use the table that belongs to this file"
    raise FormatError(path, "", f"{count} gradient directions for {volumes} volumes", hint)
