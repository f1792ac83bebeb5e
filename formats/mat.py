# SPDX-License-Identifier: Apache-2.0
"""Cubes in MATLAB files: level 5 (``mat5``) and 7.3, which is HDF5.

A cube is a three-axis array (line, sample, band), or a matrix bands x pixels (or pixels x bands)
with the image's sizes in variables of their own, as unmixing data sets keep it. All other
variables come back as they were: byte for byte in level 5.
"""

from __future__ import annotations

import math
import os
import threading
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid.core.errors import FormatError, UsageError
from pellucid.core.types import Description, FormatTraits, Reader, Region, Writer
from pellucid.formats import archive_private, mat5, mat73, rawblock, wavelengths

if TYPE_CHECKING:
    from pellucid.core.types import Array

FORMAT = FormatTraits(
    name="mat",
    title="MATLAB cube (.mat, level 5 and 7.3)",
    suffixes=(".mat",),
    keeps="every other variable, the array's layout (cube or bands x pixels) and whether it is compressed",
)
HDF5_AT = (0, 512)  # a 7.3 file has a 512-byte text block before its HDF5 signature
SIZE_NAMES = (
    ("nrow", "ncol"), ("lines", "cols"), ("nrows", "ncols"), ("rows", "cols"), ("lines", "samples"),
    ("h", "w"), ("height", "width"), ("nr", "nc"), ("m", "n"), ("row", "col"), ("nline", "nsample"),
)  # fmt: skip
WAVELENGTH_NAMES = ("wavelengths", "wavelength", "wavelen", "wvl", "wl", "wave", "lambda", "bands_nm")
DEEPER = 4  # how many times more bands tell a cube from abundance maps beside it


@dataclass(frozen=True)
class Found:
    """A variable of either level: its sizes as MATLAB says them."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    item: Any = None


@dataclass(frozen=True)
class Cube:
    """How a variable becomes (line, sample, band): file order (slowest first) and what each axis is."""

    shape: tuple[int, int, int]
    perm: tuple[int, int, int]
    note: str = ""

    @property
    def sizes(self) -> tuple[int, int, int]:
        """(line, sample, band)."""
        a, b, c = (self.shape[self.perm.index(i)] for i in range(3))
        return a, b, c


anonymise = archive_private.mat


def recognise(head: bytes, name: str) -> float:
    """Return how certain it is that these are the first bytes of a MATLAB file."""
    if head.startswith(b"MATLAB 7.3") or (head[124:128] in (b"\x00\x02IM", b"\x02\x00MI") and len(head) >= 128):
        return 0.95
    if head[126:128] in (b"IM", b"MI") and head[124:126] in (b"\x00\x01", b"\x01\x00"):
        return 0.95
    return 0.2 if Path(name).suffix.lower() == ".mat" else 0.0


def open(path: Path, *, key: str | None = None, **hints: Any) -> Reader:
    """Open the cube of a MATLAB file.

    Parameters
    ----------
    key : str, optional
        Name of the variable; needed where several could be the cube.

    Raises
    ------
    FormatError
        Not a MATLAB file, damaged, no cube in it, or several and no ``key``.
    """
    return MatReader(Path(path), key)


def splice(path: Path, source: Reader, output: Description) -> Writer:
    """Write the same file with another cube in the variable's place."""
    if not isinstance(source, MatReader):
        return compose(path, output)
    return MatWriter(Path(path), output, source)


def compose(path: Path, description: Description) -> Writer:
    """Write a level 5 file with a variable ``data`` and, where known, ``wavelengths`` and ``fwhm`` in nm."""
    return MatWriter(Path(path), description, None)


class MatReader:
    """The cube of a MATLAB file. A compressed level 5 variable is decoded once, whole, at the first read."""

    def __init__(self, path: Path, key: str | None = None) -> None:
        self.path, self.key = path, key
        self.hdf5 = is_hdf5(path)
        self.order = "<"
        if self.hdf5:
            found = [Found(*v) for v in mat73.listing(path)]
        else:
            self.order, items = mat5.listing(path)
            found = [Found(v.name, v.shape, v.dtype, v) for v in items if v.dtype]
        self.variable, self.cube = choose(path, found, key, self._scalar)
        self.description = self._describe(found)
        self._whole: Array | None = None
        self._lock = threading.Lock()

    def read(self, region: Region) -> Array:
        """Return stored samples of a (line, sample, band) region."""
        import numpy as np

        item = self.variable.item
        if self.hdf5 and len(self.variable.shape) == 3:
            return mat73.read(self.path, self.variable.name, self.cube.perm, region)
        if not self.hdf5 and not item.compressed and not item.small:
            layout = rawblock.Layout(self.cube.shape, self.cube.perm, self.order + item.kept, item.start)
            fd = os.open(self.path, os.O_RDONLY)
            try:
                return rawblock.read(fd, layout, region).astype(item.dtype, copy=False)
            except EOFError as error:
                raise FormatError(self.path, f"byte {error}", "the file ends early", "copy it again") from None
            finally:
                os.close(fd)
        with self._lock:
            if self._whole is None:
                flat = (
                    mat73.whole(self.path, self.variable.name)
                    if self.hdf5
                    else mat5.values(self.path, self.order, item)
                )
                self._whole = flat.reshape(self.cube.shape)
        return np.transpose(self._whole, np.argsort(self.cube.perm))[region].copy()

    def close(self) -> None:
        """Release what was decoded."""
        self._whole = None

    def __getstate__(self) -> Mapping[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_lock", "_whole")}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock, self._whole = threading.Lock(), None

    def _scalar(self, found: Found) -> float:
        """Return the value of a 1 x 1 variable."""
        return self._vector(found)[0]

    def _vector(self, found: Found) -> list[float]:
        """Return a short variable's values."""
        if self.hdf5:
            return mat73.vector(self.path, found.name)
        return [float(v) for v in mat5.values(self.path, self.order, found.item)]

    def _describe(self, found: list[Found]) -> Description:
        """Return the neutral description."""
        import numpy as np

        name, bands = np.dtype(self.variable.dtype).name, self.cube.sizes[2]
        acquisition: Mapping[str, Any] = {}
        for variable in found:
            if variable.name.lower() in WAVELENGTH_NAMES and math.prod(variable.shape) == bands:
                acquisition = wavelengths.spectral(self._vector(variable), "", None)
        notes = (("layout", self.cube.note),) if self.cube.note else ()
        return Description(
            format="mat",
            shape=self.cube.sizes,
            axes=("line", "sample", "band"),
            dtype=name,
            units=(None, None, "nm" if "wavelengths_nm" in acquisition else None),
            spacing=(None, None, None),
            out_dtype=name,
            acquisition=acquisition,
            witnesses={"key": self.variable.name, "matlab_shape": self.variable.shape, "bands": bands},
            notes=notes,
        )


class MatWriter:
    """The file in the making: the cube is gathered in MATLAB's order and written at the end."""

    def __init__(self, path: Path, output: Description, source: MatReader | None) -> None:
        import numpy as np

        self.path, self.output, self.source = path, output, source
        dtype = np.dtype(output.dtype)
        if dtype.str[1:] not in mat5.CLASSES.values():
            raise FormatError(path, "data type", f"{dtype.name} cannot be stored in a .mat file", "choose float32")
        lines, samples, bands = (*output.shape, 1)[:3]
        self.cube = source.cube if source else Cube((bands, samples, lines), (2, 1, 0))
        if math.prod(self.cube.shape) * dtype.itemsize > mat5.LIMIT - 4096 and not (source and source.hdf5):
            raise FormatError(path, "size", "a variable of a level 5 file ends at 2 GB", "write a GeoTIFF or ENVI file")
        self._sink: Any = None
        if source is not None and source.hdf5:
            self._sink = mat73.Sink(path, source.path, source.variable, self.cube, dtype)
        else:
            self._values = np.zeros(self.cube.shape, dtype)

    def write(self, region: Region, values: Array) -> None:
        """Store samples of a (line, sample, band) region."""
        import numpy as np

        region = (*region, slice(0, 1))[:3]
        values = np.reshape(values, [s.stop - s.start for s in region])
        place = tuple(region[i] for i in self.cube.perm)
        values = np.transpose(values, self.cube.perm)
        if self._sink is not None:
            self._sink.write(place, values)
        else:
            self._values[place] = values

    def close(self) -> None:
        """Write the file and flush it to disk."""
        if self._sink is not None:
            self._sink.close()
        elif self.source is None:
            self._compose()
        else:
            self._splice(self.source)
        fd = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def _compose(self) -> None:
        """Write a new level 5 file."""
        import numpy as np

        lines, samples, bands = self.cube.sizes
        with self.path.open("wb") as file:
            file.write(mat5.header("MATLAB 5.0 MAT-file, written by pellucid"))
            shape = (lines, samples, bands)
            file.write(mat5.element("<", mat5.Variable("data", shape, "", 0, 0, False), self._values.reshape(-1)))
            for name, key in (("wavelengths", "wavelengths_nm"), ("fwhm", "fwhm_nm")):
                vector = self.output.acquisition.get(key)
                if vector is not None:
                    item = mat5.Variable(name, (1, len(vector)), "", 0, 0, False)
                    file.write(mat5.element("<", item, np.array(vector, dtype=np.float64)))

    def _splice(self, source: MatReader) -> None:
        """Copy the source's bytes around the one variable."""
        item = source.variable.item
        data: bytes | bytearray = mat5.element(source.order, item, self._values.reshape(-1))
        if item.compressed:
            data = zlib.compress(data, 6)
            data = len(data).to_bytes(4, "little" if source.order == "<" else "big") + data
            data = (mat5.COMPRESSED).to_bytes(4, "little" if source.order == "<" else "big") + data
        before = os.open(source.path, os.O_RDONLY)
        after = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
        try:
            rawblock.copy(before, after, 0, item.at, 0)
            rawblock.append(after, data, item.at)
            end = item.at + item.size
            rawblock.copy(before, after, end, os.fstat(before).st_size, item.at + len(data))
            pointer = mat5.subsystem(os.pread(before, mat5.HEADER, 0), source.order)
            if pointer > item.at:  # objects find their data by position: it moved with the variable's size
                moved = pointer + len(data) - item.size
                rawblock.append(after, moved.to_bytes(8, "little" if source.order == "<" else "big"), 116)
        finally:
            os.close(before)
            os.close(after)


def is_hdf5(path: Path) -> bool:
    """Tell whether a file carries the HDF5 signature where a 7.3 file has it."""
    try:
        with path.open("rb") as file:
            head = file.read(520)
    except OSError as error:
        raise FormatError(path, "file", error.strerror or "cannot be opened") from None
    return any(head[at : at + 8] == b"\x89HDF\r\n\x1a\n" for at in HDF5_AT)


def choose(path: Path, found: list[Found], key: str | None, scalar: Any) -> tuple[Found, Cube]:
    """Return the cube's variable: the one named, else the only candidate."""
    sizes = _image_sizes(found, scalar)
    cubes = [(v, c) for v in found if (c := _cube(v, sizes)) is not None]
    if key is not None:
        named = [(v, c) for v, c in cubes if v.name == key]
        if not named:
            have = ", ".join(f"{v.name} {_times(v)}" for v, _ in cubes) or "none"
            raise UsageError(f"has no cube named {key!r}", path, f"cubes in it: {have}")
        return named[0]
    deep = [p for p in cubes if len(p[0].shape) == 3 or p[1].note]
    most = max((c.sizes[2] for _, c in deep), default=0)
    deep = [p for p in deep if DEEPER * p[1].sizes[2] > most]  # abundance maps share the pixels but have few "bands"
    best = deep or cubes
    if len(best) == 1:
        return best[0]
    if not best:
        raise FormatError(path, "variables", "no real three-axis array among them", "a cube is line x sample x band")
    have = ", ".join(f"{v.name} {_times(v)}" for v, _ in best)
    raise FormatError(path, "variables", f"several could be the cube: {have}", "name one with --key")


def _image_sizes(found: list[Found], scalar: Any) -> tuple[int, int] | None:
    """Return (lines, samples) from scalar variables such as nRow and nCol."""
    single = {v.name.lower(): v for v in found if math.prod(v.shape) == 1}
    for names in SIZE_NAMES:
        if all(n in single for n in names):
            rows, columns = (scalar(single[n]) for n in names)
            if 1 <= rows < 2**31 and 1 <= columns < 2**31 and rows == int(rows) and columns == int(columns):
                return int(rows), int(columns)
    return None


def _cube(variable: Found, sizes: tuple[int, int] | None) -> Cube | None:
    """Return how a variable is a cube; None where it is not."""
    shape = variable.shape
    if len(shape) == 3 and min(shape) > 0:
        return Cube((shape[2], shape[1], shape[0]), (2, 1, 0))
    if len(shape) != 2 or min(shape) < 2:
        return None
    if sizes is not None and shape[1] == sizes[0] * sizes[1]:
        note = f"{variable.name} is bands x pixels, pixels column by column ({sizes[0]} x {sizes[1]})"
        return Cube((sizes[1], sizes[0], shape[0]), (1, 0, 2), note)
    if sizes is not None and shape[0] == sizes[0] * sizes[1]:
        note = f"{variable.name} is pixels x bands, pixels column by column ({sizes[0]} x {sizes[1]})"
        return Cube((shape[1], sizes[1], sizes[0]), (2, 1, 0), note)
    return Cube((1, shape[1], shape[0]), (2, 1, 0))


def _times(variable: Found) -> str:
    """Return sizes as text."""
    return " x ".join(map(str, variable.shape))
