# SPDX-License-Identifier: Apache-2.0
"""NumPy's .npy: one array, mapped from disk, never unpickled.

Format: NEP 1, versions 1 to 3. The file says nothing of its axes: the hint ``axes`` names them.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from pellucid.core.errors import FormatError
from pellucid.core.lazy import np
from pellucid.core.types import Description, FormatTraits, Reader, Region, Writer

if TYPE_CHECKING:
    from pellucid.core.types import Array

FORMAT = FormatTraits(
    name="npy",
    title="NumPy array",
    suffixes=(".npy",),
    keeps="the header: type, byte order, memory order",
)

MAGIC = b"\x93NUMPY"
LONGEST_HEADER = 1 << 16
KINDS = "biufc"  # bool, integers, floats, complex: what a measurement can be


@dataclass(frozen=True)
class Header:
    """What stands before the samples, and its bytes."""

    raw: bytes
    shape: tuple[int, ...]
    fortran: bool
    dtype: str  # with byte order

    @property
    def size(self) -> int:
        """Bytes of samples."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


def recognise(head: bytes, name: str) -> float:
    """Return 1 for the magic bytes."""
    return 1.0 if head[:6] == MAGIC else 0.0


def open(path: Path, **hints: Any) -> NpyReader:
    """Read the header; the hint ``axes`` names the axes, as ``"y,x"`` or a sequence."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            header = read_header(path, file)
            size = file.seek(0, 2)
    except OSError as error:
        raise FormatError(path, "file", error.strerror or "cannot be read") from error
    if size - len(header.raw) < header.size:
        what = f"shape {header.shape} needs {header.size} bytes, the file holds {size - len(header.raw)}"
        raise FormatError(path, f"byte {size}", what, "copy it again from its source")
    return NpyReader(path, describe(path, "npy", header, hints), header)


def read_header(path: object, file: IO[bytes], where: str = "header") -> Header:
    """Return the header of an array; nothing in it is executed, objects are refused."""
    from numpy.lib import format as npy

    start = file.read(8)
    if start[:6] != MAGIC or len(start) < 8 or start[6] not in (1, 2, 3):
        raise FormatError(path, where, "is no NumPy array of version 1 to 3")
    width = 2 if start[6] == 1 else 4
    raw = file.read(width)
    length = int.from_bytes(raw, "little")
    if length > LONGEST_HEADER:
        raise FormatError(path, where, f"says it is {length} bytes long")
    text = file.read(length)
    if len(text) != length:
        raise FormatError(path, where, "is cut short", "copy it again from its source")
    shape, fortran, dtype = _parse(path, where, text.decode("latin-1" if start[6] < 3 else "utf-8", "replace"))
    if dtype.hasobject or dtype.kind not in KINDS or dtype.names or dtype.subdtype:
        hint = "store plain numbers: numpy.save of an array of floats or integers"
        raise FormatError(path, where, f"samples of type {dtype} are not read", hint)
    if not shape or not all(shape):
        raise FormatError(path, where, f"shape {shape} holds no samples or no axis")
    return Header(start + raw + text, shape, fortran, str(npy.dtype_to_descr(dtype)))


def _parse(path: object, where: str, text: str) -> tuple[tuple[int, ...], bool, Any]:
    """Return shape, memory order and type from the literal dictionary of a header."""
    import ast

    try:
        facts = ast.literal_eval(text.strip())
        shape, fortran, descr = facts["shape"], facts["fortran_order"], facts["descr"]
        if not (isinstance(shape, tuple) and all(type(n) is int and 0 <= n < 1 << 62 for n in shape)):
            raise ValueError(shape)
        if not isinstance(fortran, bool) or not isinstance(descr, str | list):
            raise ValueError(descr)
        return shape, fortran, np.dtype(descr)
    except (ValueError, TypeError, SyntaxError, KeyError, MemoryError, RecursionError) as error:
        raise FormatError(path, where, "does not give shape, order and type") from error


def describe(path: object, format: str, header: Header, hints: dict[str, Any]) -> Description:
    """Return the neutral description: axes from the hint, or numbered for the field to name."""
    dtype = np.dtype(header.dtype)
    kind = {"b": "mask", "c": "complex"}.get(dtype.kind, "unknown")
    return Description(
        format=format,
        shape=header.shape,
        axes=axes_of(path, len(header.shape), hints.get("axes")),
        dtype=dtype.newbyteorder("=").name,
        kind=kind,
        spacing=(None,) * len(header.shape),
        units=(None,) * len(header.shape),
        slab=len(header.shape) - 1 if header.fortran else 0,
        out_dtype=dtype.newbyteorder("=").name,
        witnesses={"fortran_order": header.fortran, "descr": header.dtype},
    )


def axes_of(path: object, ndim: int, axes: Any) -> tuple[str, ...]:
    """Return names of axes from a hint (``"y,x"``, ``("y", "x")``), else ``axis0 axis1 ...``."""
    if not axes:
        return tuple(f"axis{k}" for k in range(ndim))
    names = tuple(n.strip() for n in (axes.replace(" ", ",").split(",") if isinstance(axes, str) else axes))
    names = tuple(n for n in names if n)
    if len(names) != ndim or len(set(names)) != ndim:
        raise FormatError(path, "axes", f"{', '.join(names)} do not name {ndim} axes", f"name {ndim} different ones")
    return names


@dataclass
class NpyReader:
    """Reader of one array; the file is mapped for each read, so nothing is held or locked."""

    path: Path
    description: Description
    header: Header
    offset: int = -1  # of the samples; -1: behind the header

    def read(self, region: Region) -> Array:
        """Return samples of a region in native byte order."""
        h = self.header
        start = len(h.raw) if self.offset < 0 else self.offset
        try:
            array = np.memmap(self.path, h.dtype, "r", start, h.shape, "F" if h.fortran else "C")
        except (OSError, ValueError) as error:
            raise FormatError(self.path, f"byte {start}", "the file changed or is cut short") from error
        return np.array(array[region], dtype=self.description.dtype, order="C")

    def close(self) -> None:
        """Nothing is held open."""


def splice(path: Path, source: Reader, output: Description) -> Writer:
    """Write the same array with other values: byte order and memory order stay."""
    header = getattr(source, "header", None)
    if not isinstance(header, Header):
        return compose(path, output)
    if (output.dtype, tuple(output.shape)) != (source.description.dtype, header.shape):
        order = np.dtype(header.dtype).byteorder
        header = make_header(output, header.fortran, order if order in "<>" else "=")
    return NpyWriter(path, header)


def compose(path: Path, description: Description) -> Writer:
    """Write a new array, rows last."""
    return NpyWriter(path, make_header(description))


def make_header(description: Description, fortran: bool = False, order: Any = "=") -> Header:
    """Return the header of a new array, padded to 64 bytes as NumPy does."""
    import io

    from numpy.lib import format as npy

    descr = npy.dtype_to_descr(np.dtype(description.dtype).newbyteorder(order))
    shape = tuple(int(n) for n in description.shape)
    raw = io.BytesIO()
    npy.write_array_header_1_0(raw, {"descr": descr, "fortran_order": fortran, "shape": shape})
    return Header(raw.getvalue(), shape, fortran, str(descr))


class NpyWriter:
    """Writer of one array; regions in any order."""

    def __init__(self, path: Path, header: Header) -> None:
        self.path, self.header = path, header
        self._lock = threading.Lock()
        with path.open("wb") as file:
            file.write(header.raw)
            file.truncate(len(header.raw) + header.size)
        order = "F" if header.fortran else "C"
        self._map: Any = np.memmap(path, header.dtype, "r+", len(header.raw), header.shape, order)  # type: ignore[call-overload]

    def write(self, region: Region, values: Array) -> None:
        """Store values at their place."""
        with self._lock:
            self._map[region] = values

    def close(self) -> None:
        """Flush to disk."""
        if self._map is not None:
            self._map.flush()
            self._map = None
