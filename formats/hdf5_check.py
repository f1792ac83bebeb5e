# SPDX-License-Identifier: Apache-2.0
"""Whether a data set of an open HDF5 file may be read: what it holds, where that lies, how it is packed."""

from __future__ import annotations

import contextlib
import math
import os
from pathlib import Path
from typing import Any

from pellucid.core.errors import FormatError

LARGE = 64 << 20  # bytes a data set may claim without having stored any
HUGE = 1 << 30  # beyond this the stored bytes must be able to expand to the shape
RATIOS = {1: 1100, 2: 1, 3: 1}  # largest expansion by filter number: deflate's, shuffle's, checksum's
RATIO = 1 << 16  # of any other filter
LARGEST_CHUNK = 1 << 30


def check(path: Path, item: Any, *, records: bool = False) -> None:
    """Refuse a data set that cannot be read safely; ``records`` allows compound samples.

    Raises
    ------
    FormatError
        Samples outside the file, objects or texts, a filter that is not there, a shape that the stored
        bytes cannot fill, huge chunks.
    """
    where = item.name or "data set"
    if item.is_virtual or item.external:
        raise FormatError(path, where, "keeps its samples in other files", "store the data in the file itself")
    if item.dtype.kind not in "iufcb" and not (records and item.dtype.kind == "V"):
        raise FormatError(path, where, f"holds {type_name(item.dtype)}, not numbers")
    filters = _filters(item)
    for number, label in filters.items():
        if not _available(number):
            raise FormatError(path, where, f"is packed with {label}, which is not installed", "pip install hdf5plugin")
    stored, need = item.id.get_storage_size(), item.size * item.dtype.itemsize
    if stored > os.stat(path).st_size:
        raise FormatError(path, where, f"{stored} bytes are named, the file is shorter", "copy it again")
    if item.chunks is None and stored not in (0, need):
        raise FormatError(path, where, f"{stored} of {need} bytes are there", "copy the file again")
    if item.chunks is not None and math.prod(item.chunks) * item.dtype.itemsize > LARGEST_CHUNK:
        raise FormatError(path, where, "chunks larger than 1 GB", "store it again with smaller chunks")
    ratio = math.prod(RATIOS.get(number, RATIO) for number in filters) if filters else 1
    if need > LARGE and (stored == 0 or (need > HUGE and stored * ratio < need and not _sparse(item, need))):
        raise FormatError(path, where, f"promises {need} bytes and stores {stored}", "the file is damaged")


def library() -> Any:
    """Import h5py when it is needed; its classes carry no types."""
    import h5py

    module: Any = h5py
    return module


def type_name(dtype: Any) -> str:
    """Return a sample type's name."""
    if dtype.kind == "O":
        return "text" if library().check_string_dtype(dtype) else "object"
    if dtype.kind in "SU":
        return "text"
    return "record" if dtype.kind == "V" else str(dtype.newbyteorder("=").name)


def _filters(item: Any) -> dict[int, str]:
    """Return number and name of a data set's filters."""
    plist = item.id.get_create_plist()
    entries = [plist.get_filter(i) for i in range(plist.get_nfilters())]
    return {int(e[0]): (e[3] or b"").decode("latin-1").split(";")[0].strip() or f"filter {e[0]}" for e in entries}


def _available(number: int) -> bool:
    """Tell whether a filter can be run; hdf5plugin brings many where it is installed."""
    available = library().h5z.filter_avail
    if available(number):
        return True
    with contextlib.suppress(ImportError):
        import hdf5plugin  # noqa: F401

    return bool(available(number))


def _sparse(item: Any, need: int) -> bool:
    """Tell whether so few chunks were stored that the rest, fill values, explains the missing bytes."""
    if item.chunks is None or item.id.get_num_chunks() == 0:
        return False
    chunk = math.prod(item.chunks) * item.dtype.itemsize
    return bool(item.id.get_num_chunks() * chunk * 8 > need)  # an eighth at least was measured
