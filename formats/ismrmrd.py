# SPDX-License-Identifier: Apache-2.0
"""ISMRMRD raw data (.h5, .mrd), Cartesian and fully sampled, read as images; the result is a NIfTI file.

Inati et al. 2017 (10.1002/mrm.26089). Coils are whitened with the file's noise scans, readout
oversampling is removed, averages are averaged, coils are combined.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid.core.errors import FormatError
from pellucid.core.types import FormatTraits, Reader
from pellucid.formats import hdf5_tree, kspace
from pellucid.formats.kspace_reader import FEWEST_LINES, PlaneReader, encoding, wanted_kind

if TYPE_CHECKING:
    from pellucid.core.types import Array

FORMAT = FormatTraits(
    name="ismrmrd",
    title="ISMRMRD raw data (.h5, .mrd)",
    suffixes=(".h5", ".mrd"),
    writes=(),
    keeps="voxel sizes; the images that are made of the k-space are written as NIfTI",
    fallback=".nii.gz",
)
NOISE, REVERSE = 1 << 18, 1 << 21  # ISMRMRD flags 19 and 22, counted from 1
NOT_IMAGING = sum(1 << (n - 1) for n in (19, 20, 23, 24, 26, 27, 28, 29, 30, 31))  # calibration, navigators ...
MOST_ROWS = 5_000_000
MOST_PADDING = 4  # times the samples of a line that a matrix may be wide
MOST_NOISE = 256  # noise scans that are read
SERIES = ("repetition", "contrast", "phase", "set")  # counters that make volumes


def recognise(head: bytes, name: str) -> float:
    """Return how certain it is that this is ISMRMRD: a header ``xml`` beside acquisitions ``data``."""
    if not hdf5_tree.is_hdf5(head):
        return 0.0
    return 0.97 if _group(hdf5_tree.names(Path(name))) is not None else 0.0


def open(path: Path, *, key: str | None = None, **hints: Any) -> Reader:
    """Open a file; ``key`` is ``magnitude`` (root of the sum of squares over coils) or ``complex``.

    Raises
    ------
    FormatError
        Damaged, hostile, not Cartesian, or undersampled: such data must be reconstructed first.
    """
    return IsmrmrdReader(Path(path), wanted_kind(path, key))


def _group(found: hdf5_tree.Names) -> str | None:
    """Return the group that holds acquisitions and their header."""
    for name, (shape, kind) in found.items():
        group = name.removesuffix("/data")
        if group != name and kind == "record" and len(shape) == 1 and f"{group}/xml" in found:
            return group
    return None


class IsmrmrdReader(PlaneReader):
    """Slices or volumes made of their acquisitions one at a time."""

    def __init__(self, path: Path, kind: str) -> None:
        super().__init__(path, kind)
        with hdf5_tree.opened(path):  # what is damaged is said here
            pass
        group = _group(hdf5_tree.names(path))
        if group is None:
            raise FormatError(path, "groups", "hold no acquisitions with a header", "images inside are not read")
        self.rows = hdf5_tree.Samples(path, f"{group}/data", records=True)
        if self.rows.shape[0] > MOST_ROWS:
            raise FormatError(path, "data", f"{self.rows.shape[0]} acquisitions", "the file is damaged")
        self.encoded = encoding(path, hdf5_tree.text(path, f"{group}/xml"))
        if self.encoded.trajectory not in ("cartesian", ""):
            raise FormatError(
                path, "trajectory", f"{self.encoded.trajectory} is not read", "reconstruct the images first"
            )
        self._index()
        size_x, size_y, size_z = self.encoded.matrix
        fov, wanted = self.encoded.fov, self.encoded.wanted
        self.keep = (
            kspace.keep(size_z, fov[2], wanted[2]),
            kspace.keep(size_y, fov[1], wanted[1]),
            kspace.keep(size_x, fov[0], wanted[0]),
        )
        self.whiten, self.scans = self._whitener()
        made = self.describe("ismrmrd", self.channels, self.encoded, self._notes())
        if self.whiten is not None:  # unit noise, less what averages take away
            made = made.with_(acquisition={**made.acquisition, "sigma": 1 / math.sqrt(self.averages)})
        self.description = made

    def coils(self, z: int, volume: int) -> Array:
        """Return coil images of a slice (2-D) or volume (3-D)."""
        import numpy as np

        size_x, size_y, size_z = self.encoded.matrix
        values = np.zeros((self.channels, size_z, size_y, size_x), np.complex64)
        count = np.zeros((size_z, size_y, 1), np.float32)
        rows = self.where.get((z, volume), [])
        for row in self._read(rows):
            head, line = row["head"], self._line(row)
            y = int(head["idx"]["kspace_encode_step_1"]) + size_y // 2 - self.encoded.centre[0]
            at = int(head["idx"]["kspace_encode_step_2"]) + (size_z // 2 - self.encoded.centre[1]) * (size_z > 1)
            start = size_x // 2 - (int(head["center_sample"]) - int(head["discard_pre"]))
            if not (0 <= y < size_y and 0 <= at < size_z and 0 <= start and start + line.shape[1] <= size_x):
                raise FormatError(
                    self.path, "data", "an acquisition lies outside the encoded matrix", "the file is damaged"
                )
            values[:, at, y, start : start + line.shape[1]] += line
            count[at, y] += 1
        values /= np.maximum(count, 1)
        return kspace.images(values, self.keep, self.whiten)

    def close(self) -> None:
        """Release the file."""
        super().close()
        self.rows.close()

    def _index(self) -> None:
        """Sort acquisitions by slice and volume; refuse too few lines."""
        import numpy as np

        try:
            heads = self._heads()
            flags, idx = heads["flags"], heads["idx"]
            imaging = np.flatnonzero((flags & np.uint64(NOT_IMAGING)) == 0)
            self.noise_rows = [int(i) for i in np.flatnonzero(flags & np.uint64(NOISE))][:MOST_NOISE]
            counters = np.stack([idx[imaging][name] for name in SERIES], axis=1)
            steps = np.stack([idx[imaging][f"kspace_encode_step_{i}"] for i in (1, 2)], axis=1)
            slices = idx[imaging]["slice"].astype(int)
        except (KeyError, ValueError, IndexError, TypeError):
            raise FormatError(self.path, "data", "is no list of acquisitions", "the file is damaged") from None
        if imaging.size == 0:
            raise FormatError(self.path, "data", "holds no imaging acquisitions")
        channels = np.unique(heads["active_channels"][imaging])
        if len(channels) != 1 or not 0 < channels[0] < 1024:
            raise FormatError(self.path, "data", "acquisitions differ in coils", "reconstruct the images first")
        self.channels = int(channels[0])
        if self.encoded.matrix[0] > MOST_PADDING * int(heads["number_of_samples"][imaging].max()):
            raise FormatError(
                self.path, "header", "its matrix is far wider than the lines are", "the header is damaged"
            )
        self.dwell = float(heads["sample_time_us"][imaging[0]])
        series, volume = np.unique(counters, axis=0, return_inverse=True)
        self.where: dict[tuple[int, int], list[int]] = {}
        for row, z, v in zip(imaging, slices, np.ravel(volume), strict=True):
            self.where.setdefault((int(z), int(v)), []).append(int(row))
        self.blocks = (int(slices.max()) + 1, len(series))
        lines = len(np.unique(steps, axis=0)) / (self.encoded.matrix[1] * self.encoded.matrix[2])
        places = np.column_stack((counters, steps, slices))
        self.averages = len(places) / len(np.unique(places, axis=0))
        gaps = any(_gaps(steps[:, i]) for i in (0, 1))
        if gaps or lines < FEWEST_LINES:
            what = f"{lines:.0%} of the phase-encoding lines are there: it is undersampled"
            raise FormatError(self.path, "data", what, "reconstruct the images first")
        self.lines = lines

    def _heads(self) -> Array:
        """Return the headers of all acquisitions."""
        import numpy as np

        with hdf5_tree.opened(self.path) as file:
            found = hdf5_tree.find(self.path, file, self.rows.name)
            if not _as_specified(found.dtype):  # HDF5 itself falls over lists of damaged types
                raise FormatError(self.path, "data", "is no list of acquisitions", "the file is damaged")
            return np.asarray(found.fields("head")[()])

    def _read(self, rows: Sequence[int]) -> list[Any]:
        """Return acquisitions, runs of neighbours at once."""
        found: list[Any] = []
        start = 0
        for i in range(1, len(rows) + 1):
            if i == len(rows) or rows[i] != rows[i - 1] + 1:
                found += list(self.rows.read((slice(rows[start], rows[i - 1] + 1),)))
                start = i
        return found

    def _line(self, row: Any) -> Array:
        """Return an acquisition's samples (coil, sample) without those to be discarded."""
        import numpy as np

        head, flat = row["head"], np.asarray(row["data"])
        count, channels = int(head["number_of_samples"]), int(head["active_channels"])
        if flat.dtype.kind != "f" or flat.size != 2 * count * channels:
            raise FormatError(
                self.path, "data", "an acquisition's samples contradict its header", "the file is damaged"
            )
        line: Array = flat.astype(np.float32).view(np.complex64).reshape(channels, count)
        line = line[:, int(head["discard_pre"]) : count - int(head["discard_post"])]
        return line[:, ::-1] if int(head["flags"]) & REVERSE else line

    def _whitener(self) -> tuple[Array | None, int]:
        """Return the whitening matrix and from how many noise scans it is."""
        import numpy as np

        if not self.noise_rows:
            return None, 0
        rows = self._read(self.noise_rows)
        lines = [self._line(row) for row in rows]
        lines = [line for line in lines if line.shape[0] == self.channels]
        if not lines:
            return None, 0
        dwell = float(rows[0]["head"]["sample_time_us"])
        ratio = dwell / self.dwell if dwell > 0 and self.dwell > 0 else 1.0
        matrix = kspace.whitener(np.concatenate(lines, axis=1), ratio / self.encoded.bandwidth)
        return matrix, len(lines) if matrix is not None else 0

    def _notes(self) -> tuple[tuple[str, str], ...]:
        """Return what was done to make images."""
        how = (
            f"coils whitened by {self.scans} noise scans" if self.scans else "coils not whitened, no usable noise scan"
        )
        many = "root of the sum of squares" if self.kind == "magnitude" else "sensitivities of their own smooth part"
        coils = "one coil" if self.channels == 1 else f"{self.channels} coils by the {many}"
        notes = [("reconstructed", f"images were made of k-space: {how}, {coils}; orientation is not taken over")]
        if self.lines < 1:
            notes.append(
                ("partial-fourier", f"{1 - self.lines:.0%} of the outer lines were not measured: zeros stand there")
            )
        return tuple(notes)


def _as_specified(dtype: Any) -> bool:
    """Tell whether acquisitions are a header and two lists of float32."""
    from pellucid.formats.hdf5_check import library

    if set(dtype.names or ()) != {"head", "traj", "data"} or not dtype["head"].names:
        return False
    return all(library().check_vlen_dtype(dtype[n]) == "float32" for n in ("traj", "data"))


def _gaps(steps: Array) -> bool:
    """Tell whether counters leave out values between their least and largest."""
    import numpy as np

    found = np.unique(steps)
    return bool(found.size != int(found[-1]) - int(found[0]) + 1)
