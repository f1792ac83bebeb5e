# SPDX-License-Identifier: Apache-2.0
"""Siemens mosaics: one DICOM plane holds a whole volume, laid out as tiles. Read; written as NIfTI.

How many tiles hold slices, and which way the slices go, stands in Siemens' private header (CSA),
which nibabel parses. The position of such an object is that of the large plane's corner as if the
large plane lay where one slice lies; it is moved back by half the difference of their extents.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid.core.errors import FormatError
from pellucid.core.lazy import np
from pellucid.core.types import Description, FormatTraits, Region
from pellucid.formats import dicom, dicom_header, dicom_series
from pellucid.formats.dicom_header import Frame, Header
from pellucid.formats.dicom_series import Grid

if TYPE_CHECKING:
    from pellucid.core.types import Array

FORMAT = FormatTraits(
    name="dicom_mosaic",
    title="DICOM mosaic (Siemens)",
    suffixes=dicom.FORMAT.suffixes,
    writes=(),
    keeps="geometry, b values, repetition and echo time, into NIfTI",
    fallback=".nii.gz",
)
COPY = "convert the series with dcm2niix"


def recognise(head: bytes, name: str) -> float:
    """Return how certain the first 4,096 bytes are to be ours, 0 to 1."""
    return 1.0 if dicom.recognise(head, name) > dicom_header.LIKELY and dicom_header.is_mosaic(head) else 0.0


def recognise_folder(path: Path) -> float:
    """Return how certain a folder is to hold a series of mosaics: by its first files."""
    return dicom.score_folder(path, recognise)


def open(path: Path, **hints: Any) -> Any:
    """Read the headers of one mosaic (a volume) or of a folder of them (a series).

    Raises
    ------
    FormatError
        Damaged or cut short, several series, or the layout of the tiles is not told.
    Missing
        The extra is not installed.
    """
    return either(Path(path), str(hints.get("key") or ""))


def either(path: Path, key: str) -> MosaicReader | dicom.DicomReader:
    """Return the reader of the chosen series: folders may hold mosaics beside other series."""
    found = dicom.headers(path)
    chosen, _ = dicom_series.select(path, found, key)
    tiled = "MOSAIC" in chosen[0].types
    return MosaicReader(path, key, found) if tiled else dicom.DicomReader(path, key, found)


class MosaicReader:
    """An open mosaic or a series of them. Threads may read at the same time; pickles by path."""

    def __init__(self, path: Path, key: str = "", found: list[Header] | None = None) -> None:
        self.path, self.key = path, key
        self.headers = dicom.headers(path) if found is None else found
        chosen, notes = dicom_series.select(path, self.headers, key)
        if path.is_dir():
            dicom_series.check_alike(path, self.headers, chosen)
        self.frames = sorted(chosen, key=lambda f: f.order)
        layouts = [layout(self.headers[f.file]) for f in self.frames]
        self.count, normal = layouts[0]
        if any(n != self.count for n, _ in layouts):
            raise FormatError(path, "CSA", "its mosaics hold different numbers of slices", COPY)
        self.grid = _grid(path, self.headers[self.frames[0].file], self.frames, (self.count, normal))
        whole = dicom.describe(path, self.headers, self.grid, notes)
        columns, rows = (n // side(self.count) for n in whole.shape[:2])
        self.description: Description = replace(
            whole,
            format=FORMAT.name,
            shape=(columns, rows, self.count, *whole.shape[3:]),
            slab=2,
            out_dtype="float32",
            witnesses={k: v for k, v in whole.witnesses.items() if k != "sidecar"},
            notes=tuple(n for n in whole.notes if n[0] != "one-slice"),
        )

    def read(self, region: Region) -> Array:
        """Return stored samples of ``region``, native byte order, x fastest."""
        x, y, z, v = (*region, slice(0, 1))[:4]
        columns, rows = self.description.shape[:2]
        sizes = tuple(s.stop - s.start for s in (x, y, z, v))
        out = np.empty(sizes, dtype=self.description.dtype, order="F")
        for t in range(sizes[3]):
            frame = self.frames[v.start + t]
            plane = dicom_header.decode(self.headers[frame.file], frame.index)
            for k in range(sizes[2]):
                down, right = divmod(z.start + k, side(self.count))
                tile = plane[down * rows : (down + 1) * rows, right * columns : (right + 1) * columns]
                out[:, :, k, t] = tile[y, x].T
        return out.reshape(sizes[: len(region)], order="F")

    def close(self) -> None:
        """Nothing is held open."""

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "key": self.key}

    def __setstate__(self, state: dict[str, Any]) -> None:
        MosaicReader.__init__(self, state["path"], state["key"])


def side(count: int) -> int:
    """Return the number of tiles along an edge of the square that holds ``count`` of them."""
    return math.isqrt(count - 1) + 1


def layout(header: Header) -> tuple[int, Array]:
    """Return the number of slices and the direction they go (LPS), from the private header.

    Raises
    ------
    FormatError
        It is missing, damaged, or does not fit the size of the plane.
    """
    dataset = dicom_header.whole(header.path)
    with dicom_header.worded(header.path, "CSA"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # nibabel calls its DICOM readers experimental at import
            from nibabel.nicom import csareader
        csa = csareader.get_csa_header(dataset)
        count = csareader.get_n_mosaic(csa) if csa else None
        normal = csareader.get_slice_normal(csa) if csa else None
        if not count or normal is None or not np.isfinite(np.asarray(normal, float)).all():
            raise FormatError(header.path, "CSA", "does not tell how the tiles lie", COPY)
    edge = side(int(count))
    if count < 1 or any(n % edge for n in header.shape) or len(header.frames) != 1:
        raise FormatError(header.path, "CSA", f"{count} tiles do not fit {header.shape[1]} x {header.shape[0]}", COPY)
    return int(count), np.asarray(normal, float)


def _grid(path: object, header: Header, frames: Sequence[Frame], tiles: tuple[int, Array]) -> Grid:
    """Return the grid of a series of mosaics: planes are not separate, so each volume stands for all of its."""
    count, normal = tiles
    first, told = frames[0], header.facts
    if first.position is None or first.orientation is None or first.spacing is None:
        raise FormatError(path, "(0020,0032)", "a mosaic does not tell its position", COPY)
    row, column = np.array(first.orientation[:3]), np.array(first.orientation[3:])
    between_rows, between_columns = first.spacing
    length = abs(float(told.get("between_mm") or told.get("thickness_mm") or 1.0))
    share = 0.5 * (1 - 1 / side(count))
    corner = np.array(first.position)
    corner = corner + row * between_columns * header.shape[1] * share + column * between_rows * header.shape[0] * share
    affine = np.eye(4)
    affine[:3, :3] = np.stack([row * between_columns, column * between_rows, normal * length], axis=1)
    affine[:3, 3] = corner
    affine[:2] *= -1  # LPS to RAS
    return Grid((tuple(frames),), affine, (between_columns, between_rows, length))
