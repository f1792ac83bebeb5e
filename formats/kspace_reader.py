# SPDX-License-Identifier: Apache-2.0
"""What readers of k-space share: an encoding's sizes from the ISMRMRD header, planes made when they are asked for."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid.core.errors import FormatError, UsageError
from pellucid.core.types import Description, Region
from pellucid.formats import kspace, safe_xml

if TYPE_CHECKING:
    from pellucid.core.types import Array

KEYS = ("magnitude", "complex")
LARGEST = 8 << 30  # bytes of images a file may make
FEWEST_LINES = 0.55  # share of phase-encoding lines below which an image is aliased, not merely coarser


@dataclass(frozen=True)
class Encoding:
    """Matrix and field of view, (x, y, z), of what was measured and of what is wanted; centres of y and z."""

    matrix: tuple[int, int, int]
    fov: tuple[float, float, float]
    wanted: tuple[float, float, float]
    centre: tuple[int, int]
    trajectory: str
    bandwidth: float  # receiver's relative noise bandwidth


def encoding(path: object, text: str) -> Encoding:
    """Return the first encoding of an ISMRMRD header.

    Raises
    ------
    FormatError
        Not XML, entities, sizes missing or impossible.
    """
    root = safe_xml.parse(path, "header", text)
    first = root.find("encoding")
    if first is None:
        raise FormatError(path, "header", "has no encoding")

    def numbers(way: str) -> list[float]:
        try:
            values = [float(safe_xml.words(first, f"{way}/{axis}")) for axis in "xyz"]
        except ValueError:
            values = [math.nan]
        if not all(math.isfinite(v) and 0 < v < 1e6 for v in values):
            raise FormatError(path, f"header: {way}", "is missing or impossible")
        return values

    matrix = [int(v) for v in numbers("encodedSpace/matrixSize")]
    fov, wanted = numbers("encodedSpace/fieldOfView_mm"), numbers("reconSpace/fieldOfView_mm")
    centre = []
    for step, size in ((1, matrix[1]), (2, matrix[2])):
        word = safe_xml.words(first, f"encodingLimits/kspace_encoding_step_{step}/center", str(size // 2))
        centre.append(int(word) if word.isdigit() else size // 2)
    word = safe_xml.words(root, "acquisitionSystemInformation/relativeReceiverNoiseBandwidth", "1")
    try:
        bandwidth = float(word)
    except ValueError:
        bandwidth = 1.0
    return Encoding(
        (matrix[0], matrix[1], matrix[2]),
        (fov[0], fov[1], fov[2]),
        (wanted[0], wanted[1], wanted[2]),
        (centre[0], centre[1]),
        safe_xml.words(first, "trajectory").lower(),
        bandwidth if 0 < bandwidth <= 2 else 1.0,
    )


def wanted_kind(path: object, key: str | None) -> str:
    """Return ``magnitude`` or ``complex`` as ``--key`` asks."""
    if key in (None, *KEYS):
        return key or "magnitude"
    raise UsageError(f"makes no image named {key!r}", path, f"--key {' or '.join(KEYS)}")


class PlaneReader:
    """Images made plane by plane (2-D) or volume by volume (3-D); those that were made are kept.

    A subclass gives ``blocks``: how many there are along (z, volume), and ``coils(z, volume)``.
    """

    path: Path
    description: Description
    blocks: tuple[int, int]
    keep: tuple[int, int, int]  # z, y, x of one block

    def __init__(self, path: Path, kind: str) -> None:
        self.path, self.kind = Path(path), kind
        self._made: dict[tuple[int, int], Array] = {}
        self._lock = threading.RLock()

    def coils(self, z: int, volume: int) -> Array:
        """Return coil images (coil, z, y, x) of a block."""
        raise FormatError(self.path, "k-space", "cannot be read")

    def read(self, region: Region) -> Array:
        """Return a region of the images, axes x, y, z[, volume]."""
        import numpy as np

        x, y, z = region[:3]
        volumes = region[3] if len(region) > 3 else slice(0, 1)
        deep = self.keep[0]
        out = np.empty([s.stop - s.start for s in (x, y, z, volumes)], self.description.dtype)
        for v in range(volumes.start, volumes.stop):
            for block in range(z.start // deep, -(-z.stop // deep)) if z.stop > z.start else ():
                first, last = max(z.start, block * deep), min(z.stop, (block + 1) * deep)
                made = self._block(block, v)[:, :, first - block * deep : last - block * deep]
                out[:, :, first - z.start : last - z.start, v - volumes.start] = made[x, y]
        return out if len(region) > 3 else out[..., 0]

    def close(self) -> None:
        """Forget what was made."""
        self._made = {}

    def describe(self, format: str, coils: int, encoded: Encoding, notes: tuple[tuple[str, str], ...]) -> Description:
        """Return the neutral description of the images."""
        blocks, volumes = self.blocks
        shape: tuple[int, ...] = (self.keep[2], self.keep[1], self.keep[0] * blocks)
        step = [f / n for f, n in zip(encoded.fov, encoded.matrix, strict=True)]
        complex_ = self.kind == "complex"
        if math.prod(shape) * volumes * (8 if complex_ else 4) > LARGEST:
            raise FormatError(self.path, "header", f"asks for {volumes} volumes of {shape}", "the header is damaged")
        more = 1 if volumes > 1 else 0
        return Description(
            format=format,
            shape=(*shape, *(volumes,) * more),
            axes=("x", "y", "z", *("volume",) * more),
            dtype="complex64" if complex_ else "float32",
            kind=self.kind,
            spacing=(*step, *(None,) * more),
            units=("mm", "mm", "mm", *(None,) * more),
            slab=2,
            out_dtype="complex64" if complex_ else "float32",
            acquisition={} if complex_ else {"coils": coils},
            witnesses={"coils": coils, "matrix": encoded.matrix},
            notes=notes,
        )

    def _block(self, z: int, volume: int) -> Array:
        """Return a block's images (x, y, z)."""
        import numpy as np

        with self._lock, np.errstate(all="ignore"):  # samples of a damaged file may be any number
            if (z, volume) not in self._made:
                coils = self.coils(z, volume)
                made = kspace.combined(coils) if self.kind == "complex" else kspace.magnitude(coils)
                self._made[z, volume] = made.transpose(2, 1, 0)
            return self._made[z, volume]

    def __getstate__(self) -> Mapping[str, Any]:
        return {**{k: v for k, v in self.__dict__.items() if k != "_lock"}, "_made": {}}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.RLock()
