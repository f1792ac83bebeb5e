# SPDX-License-Identifier: Apache-2.0
"""ERDAS 7 files: ``.lan`` scenes and ``.gis`` maps, bands interleaved by line behind a header of 128 bytes.

Format: ERDAS 7.x "HEAD74", as GDAL's LAN driver documents it. A spectral calibration of the same stem
(``.spc``, rows of centre and width in nm) is read beside it and travels along.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid.core.errors import FormatError
from pellucid.core.lazy import np
from pellucid.core.types import Description, FormatTraits, Reader, Region, Writer
from pellucid.formats import rawblock

if TYPE_CHECKING:
    from pellucid.core.types import Array

FORMAT = FormatTraits(
    name="lan",
    title="ERDAS 7 LAN and GIS",
    suffixes=(".lan", ".gis"),
    keeps="every header byte, byte order, what follows the samples, a .spc beside; only uint8 and int16 can be stored",
)
MAGIC, OLD = b"HEAD74", b"HEADER"
SIZE = 128
PACKS = {0: "u1", 2: "i2"}  # 1 packs two samples of 4 bits into a byte
CALIBRATION = (".spc", ".SPC")
CALIBRATION_MOST = 1 << 20  # bytes
WIDEST_NM = (100.0, 20000.0)  # wavelengths a calibration may name


def recognise(head: bytes, name: str) -> float:
    """Return how certain the first bytes are to be ours, 0 to 1."""
    return 0.95 if head[:6] in (MAGIC, OLD) else 0.0


def open(path: Path, **hints: Any) -> LanReader:
    """Read the header and a calibration beside it.

    Raises
    ------
    FormatError
        Packed by 4 bits, no plausible sizes, or cut short.
    """
    return LanReader(Path(path))


class LanReader:
    """An open LAN or GIS file; reads by position, from any number of threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            self.head = file.read(SIZE)
            size = file.seek(0, 2)
        self.layout, classes = _layout(path, self.head)
        if size < self.layout.size:
            lines = max(0, size - SIZE) // self.layout.rows[1]
            what = f"ends after {lines} of {self.layout.shape[0]} lines"
            raise FormatError(path, "data", what, "copy it again")
        self.calibration = next((p for s in CALIBRATION if (p := path.with_suffix(s)).is_file()), None)
        self.description = _describe(self, classes)
        self._fd: int | None = None

    def read(self, region: Region) -> Array:
        """Return stored samples of a (line, sample, band) region in native byte order."""
        try:
            return rawblock.read(self._file(), self.layout, region)
        except EOFError as error:
            raise FormatError(self.path, f"byte {error}", "the file ends early", "copy it again") from None

    def close(self) -> None:
        """Release the file."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def _file(self) -> int:
        if self._fd is None:
            self._fd = os.open(self.path, os.O_RDONLY)
        return self._fd

    def __getstate__(self) -> Mapping[str, Any]:
        return {**self.__dict__, "_fd": None}

    def __del__(self) -> None:
        if getattr(self, "_fd", None) is not None:
            self.close()


def splice(path: Path, source: Reader, output: Description) -> Writer:
    """Start the same file with other samples; another type or shape makes a new header."""
    same = isinstance(source, LanReader) and tuple(output.shape) == source.description.shape
    if not same or output.dtype != source.description.dtype:
        return compose(path, output)
    assert isinstance(source, LanReader)
    table = source.calibration.read_bytes() if source.calibration else None
    writer = LanWriter(path, source.layout, source.head, table)
    writer.carry(source.path)
    return writer


def compose(path: Path, description: Description) -> Writer:
    """Start a new file, little-endian; wavelengths become a calibration beside it."""
    codes = {np.dtype(name).name: pack for pack, name in PACKS.items()}
    if description.dtype not in codes or np.any(np.asarray(description.slope) != 1):
        raise FormatError(path, "pack type", f"{description.dtype} cannot be stored", "name the output .dat or .tif")
    lines, columns, bands = (*description.shape, 1)[:3]
    pack = codes[description.dtype]
    head = struct.pack("<6sHH6xii", MAGIC, pack, bands, columns, lines)
    steps = [s or 0.0 for s in (*description.spacing, None, None)[:2]]
    head = head.ljust(120, b"\0") + struct.pack("<2f", steps[1], steps[0])
    centres, widths = (description.acquisition.get(k) for k in ("wavelengths_nm", "fwhm_nm"))
    table = None
    if centres is not None and len(centres) == bands:
        rows = zip(centres, widths if widths is not None else [1.0] * bands, strict=True)
        table = "".join(f"{c:f}\t{w:f}\n" for c, w in rows).encode()
    layout = rawblock.Layout((lines, bands, columns), (0, 2, 1), ("<" if pack else "|") + PACKS[pack], SIZE)
    return LanWriter(path, layout, head, table)


class LanWriter:
    """A file in the making; regions in any order."""

    def __init__(self, path: Path, layout: rawblock.Layout, head: bytes, calibration: bytes | None) -> None:
        self.path, self.layout, self.calibration = path, layout, calibration
        self._fd: int | None = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
        os.ftruncate(self._fd, layout.size)
        rawblock.append(self._fd, head, 0)

    def carry(self, source: Path) -> None:
        """Copy what follows the samples."""
        assert self._fd is not None, "the writer is closed"
        other = os.open(source, os.O_RDONLY)
        try:
            rawblock.copy(other, self._fd, self.layout.size, os.fstat(other).st_size, self.layout.size)
        finally:
            os.close(other)

    def write(self, region: Region, values: Array) -> None:
        """Store samples of a (line, sample, band) region."""
        assert self._fd is not None, "the writer is closed"
        if values.ndim == 2:
            region, values = (*region, slice(0, 1)), values[..., None]
        rawblock.write(self._fd, self.layout, region, values)

    def close(self) -> None:
        """Flush, and put the calibration beside."""
        fd, self._fd = self._fd, None
        if fd is None:
            return
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        if self.calibration is not None:
            self.path.with_suffix(CALIBRATION[0]).write_bytes(self.calibration)


def _layout(path: Path, head: bytes) -> tuple[rawblock.Layout, int]:
    """Return where samples lie and the number of classes; the byte order is the one that gives sizes."""
    if len(head) < SIZE or head[:6] not in (MAGIC, OLD):
        raise FormatError(path, "header", "is not ERDAS 7, or ends early", "copy it again")
    found = []
    for order in "<>":
        pack, bands = struct.unpack_from(order + "HH", head, 6)
        columns, lines = struct.unpack_from(order + ("ii" if head[:6] == MAGIC else "ff"), head, 16)
        sane = pack in (0, 1, 2) and 1 <= bands <= 4096 and all(1 <= n < 1e7 and n == int(n) for n in (columns, lines))
        if sane:
            (classes,) = struct.unpack_from(order + "H", head, 90)
            found.append((order, pack, bands, int(columns), int(lines), classes))
    if not found:
        raise FormatError(path, "header", "gives no sizes an image could have", "copy it again")
    order, pack, bands, columns, lines, classes = found[0]
    if pack not in PACKS:
        raise FormatError(path, "pack type", "two samples share a byte", "convert it with gdal_translate first")
    dtype = (order if pack else "|") + PACKS[pack]
    return rawblock.Layout((lines, bands, columns), (0, 2, 1), dtype, SIZE), classes


def _describe(reader: LanReader, classes: int) -> Description:
    layout, head = reader.layout, reader.head
    lines, bands, columns = layout.shape
    order = layout.dtype[0] if layout.dtype[0] in "<>" else "<"
    steps = [float(v) if math.isfinite(v) and v > 0 else None for v in struct.unpack_from(order + "2f", head, 120)]
    said = reader.path.suffix.lower() == ".gis" or classes > 0
    name = np.dtype(layout.dtype).newbyteorder("=").name
    return Description(
        format="lan",
        shape=(lines, columns, bands),
        axes=("line", "sample", "band"),
        dtype=name,
        kind="labels" if said and bands == 1 else "unknown",
        spacing=(steps[1], steps[0], None),
        units=(None, None, "nm"),
        out_dtype=name,
        acquisition=_wavelengths(reader.calibration, bands),
        witnesses={"classes": classes, "map_type": struct.unpack_from(order + "H", head, 88)[0]},
    )


def _wavelengths(path: Path | None, bands: int) -> dict[str, Any]:
    """Return centres and widths of a calibration that has a row for each band, else nothing."""
    if path is None or path.stat().st_size > CALIBRATION_MOST:
        return {}
    rows = []
    for line in path.read_text("latin-1").splitlines():
        try:
            row = [float(word) for word in line.split()]
        except ValueError:
            continue
        if len(row) >= 2 and WIDEST_NM[0] < row[0] < WIDEST_NM[1] and 0 < row[1] < row[0]:
            rows.append(row)
    if len(rows) != bands:
        return {}
    return {"wavelengths_nm": [row[0] for row in rows], "fwhm_nm": [row[1] for row in rows]}
