# SPDX-License-Identifier: Apache-2.0
"""fastMRI k-space files (.h5), read as images: inverse transform, oversampling removed, coils combined.

Layout: Zbontar et al. 2018, arXiv:1811.08839: ``kspace`` (slice[, coil], readout, phase) complex64
and an ISMRMRD header. Read only; the result is a NIfTI file.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid.core.errors import FormatError
from pellucid.core.types import FormatTraits, Reader
from pellucid.formats import hdf5_tree, kspace
from pellucid.formats.kspace_reader import FEWEST_LINES, PlaneReader, encoding, wanted_kind

if TYPE_CHECKING:
    from pellucid.core.types import Array

FORMAT = FormatTraits(
    name="fastmri",
    title="fastMRI k-space (.h5)",
    suffixes=(".h5",),
    writes=(),
    keeps="voxel sizes; the images that are made of the k-space are written as NIfTI",
    fallback=".nii.gz",
)
DATA, HEADER = "kspace", "ismrmrd_header"
RECONSTRUCTIONS = ("reconstruction_rss", "reconstruction_esc")


def recognise(head: bytes, name: str) -> float:
    """Return how certain it is that this is a fastMRI file: complex ``kspace`` beside a header."""
    if not hdf5_tree.is_hdf5(head):
        return 0.0
    found = hdf5_tree.names(Path(name))
    shape, kind = found.get(DATA, ((), ""))
    return 0.97 if HEADER in found and len(shape) in (3, 4) and kind.startswith("complex") else 0.0


def open(path: Path, *, key: str | None = None, **hints: Any) -> Reader:
    """Open a file; ``key`` is ``magnitude`` (root of the sum of squares over coils) or ``complex``.

    Raises
    ------
    FormatError
        Damaged, hostile, or undersampled: such k-space must be reconstructed first.
    """
    return FastmriReader(Path(path), wanted_kind(path, key))


class FastmriReader(PlaneReader):
    """Slices made of their k-space one at a time."""

    def __init__(self, path: Path, kind: str) -> None:
        super().__init__(path, kind)
        with hdf5_tree.opened(path):  # what is damaged is said here
            pass
        text = hdf5_tree.text(path, HEADER)
        if not text:
            raise FormatError(path, HEADER, "is missing or no text", "the file is not a fastMRI file")
        encoded = encoding(path, text)
        self.samples = hdf5_tree.Samples(path, DATA)
        shape = self.samples.shape
        if len(shape) not in (3, 4) or not self.samples.dtype.startswith("complex") or 0 in shape:
            raise FormatError(path, DATA, f"is {self.samples.dtype} of {shape}", "complex slices are expected")
        readout, phase = shape[-2:]
        self.blocks = (shape[0], 1)
        self.keep = (
            1,
            kspace.keep(readout, encoded.fov[0], encoded.wanted[0]),
            kspace.keep(phase, encoded.fov[1], encoded.wanted[1]),
        )
        self._sampled()
        coils = shape[1] if len(shape) == 4 else 1
        how = (
            "one coil"
            if coils == 1
            else f"{coils} coils, root of the sum of squares"
            if kind == "magnitude"
            else f"{coils} coils"
        )
        done = f"images were made of k-space ({how}); coils were not whitened, the file has no noise scan"
        made = self.describe("fastmri", coils, encoded, (("reconstructed", done),))
        y_step, x_step = encoded.fov[0] / readout, encoded.fov[1] / phase
        thick = encoded.fov[2] / encoded.matrix[2]
        self.description = made.with_(spacing=(x_step, y_step, thick))

    def coils(self, z: int, volume: int) -> Array:
        """Return coil images of a slice."""
        values = self.samples.read((z,))
        values = values.reshape((-1, 1, *values.shape[-2:]))
        return kspace.images(values, self.keep)

    def close(self) -> None:
        """Release the file."""
        super().close()
        self.samples.close()

    def _sampled(self) -> None:
        """Refuse k-space with too few lines."""
        shape = self.samples.shape
        middle = self.samples.read((shape[0] // 2,)).reshape(-1, *shape[-2:])
        lines = (middle != 0).any(axis=(0, 1))
        inner = lines[lines.argmax() : len(lines) - lines[::-1].argmax()]
        share = float(inner.mean()) if lines.any() else 0.0
        if share < 1.0 and (share < FEWEST_LINES or not _one_run(lines)) or not math.isfinite(share):
            what = (
                f"{1 - share:.0%} of the phase-encoding lines inside the sampled range are missing: it is undersampled"
            )
            raise FormatError(self.path, DATA, what, "reconstruct the images first")


def _one_run(lines: Array) -> bool:
    """Tell whether the sampled lines lie side by side."""
    return int((lines[1:] & ~lines[:-1]).sum()) + int(lines[0]) <= 1
