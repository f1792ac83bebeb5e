# SPDX-License-Identifier: Apache-2.0
"""NIfTI-1, NIfTI-2 and Analyze 7.5: one file, gzip-ed, or a ``.hdr``/``.img`` pair; header kept to the byte."""

from __future__ import annotations

import math
import os
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid.core.errors import FormatError
from pellucid.core.lazy import np
from pellucid.core.types import Description, FormatTraits, Reader, Region, Writer
from pellucid.formats import nifti_header as headers
from pellucid.formats import volume_private
from pellucid.formats.bids import annotate as annotate
from pellucid.formats.bids import describe_folder as describe_folder
from pellucid.formats.bids import sidecar_name as sidecar_name
from pellucid.formats.companions import Companions, beside, gradients
from pellucid.formats.nifti_header import GZIP, Layout
from pellucid.formats.spool import Disk, Store, deflate, inflate, spool

if TYPE_CHECKING:
    from pellucid.core.types import Array

FORMAT = FormatTraits(
    name="nifti",
    title="NIfTI-1, NIfTI-2, Analyze 7.5",
    suffixes=(".nii", ".nii.gz", ".hdr", ".img", ".hdr.gz", ".img.gz"),
    integers="float32",
    keeps="every header byte but datatype, bitpix, scale and display range; extensions; .json .bval .bvec beside it",
)
BLOCK = 32 << 20  # bytes moved at once
anonymise, people = volume_private.nifti, volume_private.people


def recognise(head: bytes, name: str) -> float:
    """Return how certain the first 4,096 bytes (and the name) are to be ours, 0 to 1."""
    if head[:2] == GZIP:
        head = headers.inflated_head(head)
    found = headers.sniff(head)
    if found is not None and found[0] != "analyze":
        return 1.0
    stem = name.lower().removesuffix(".gz")
    if found is not None:  # a size field and plausible dimensions only: the name decides
        return 0.9 if stem.endswith(".hdr") else 0.3
    return 0.25 if stem.endswith(".img") else 0.0  # samples of a pair have no signature


def open(path: Path, **hints: Any) -> NiftiReader:
    """Read header and companions of ``path``; the samples stay where they are.

    Raises
    ------
    FormatError
        Not NIfTI, truncated, inconsistent, or gradients that do not fit.
    """
    return NiftiReader(Path(path))


class NiftiReader:
    """An open NIfTI file. Threads may read at the same time; pickles by path."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.layout = headers.load(path)
        except OSError as error:
            raise FormatError(path, "", f"cannot be read ({error.strerror or error})") from None
        self.companions = beside(path, self.layout.shape[3])
        self.description = headers.describe(self.layout, self.companions.sidecar, self.companions.acquisition)
        self._store: Store | None = None
        self._lock = threading.Lock()

    def read(self, region: Region) -> Array:
        """Return stored samples of ``region``, native byte order, Fortran layout."""
        if self.description.kind == "rgb":
            raise FormatError(self.path, "datatype", "holds colours, not measurements")
        dtype = np.dtype(self.layout.dtype).newbyteorder(self.layout.endian)
        sizes = tuple(s.stop - s.start for s in _four(region))
        out = np.empty(sizes, dtype=dtype.newbyteorder("="), order="F")
        store, columns = self._samples(), _four(region)[0]
        for offset, count, place, rows in _runs(self.layout.shape, region, self.layout.itemsize):
            raw = store.read(self.layout.offset + offset, count)
            if len(raw) < count:
                raise headers.truncated(self.layout, self.layout.offset + offset + len(raw))
            out[place] = np.frombuffer(raw, dtype).reshape(rows, order="F")[columns]
        return out.reshape(sizes[: len(region)], order="F")

    def lead(self) -> bytes:
        """Return the bytes between header block and samples: extensions and padding, verbatim."""
        skip = 0 if self.layout.pair else len(self.layout.block)
        return bytes(self._samples().read(skip, self.layout.offset - skip))

    def close(self) -> None:
        """Release file and spool; reading again opens them again."""
        with self._lock:
            if self._store is not None:
                self._store.close()
                self._store = None

    def _samples(self) -> Store:
        with self._lock:
            if self._store is None:
                self._store = (
                    self._inflated() if self.layout.gzipped else Disk(os.open(self.layout.data_path, os.O_RDONLY))
                )
            return self._store

    def _inflated(self) -> Store:
        layout, done = self.layout, 0
        store = spool(layout.size)
        try:
            for data in inflate(layout.data_path, layout.size):
                store.write(done, memoryview(data))
                done += len(data)
        except (OSError, zlib.error) as error:
            if isinstance(error, OSError) and error.errno:  # the disk's fault, not the file's
                raise
            raise FormatError(layout.data_path, "gzip", f"is damaged ({error})", "copy it again") from None
        if done < layout.size:
            raise headers.truncated(layout, done)
        return store

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        NiftiReader.__init__(self, state["path"])


def splice(path: Path, source: Reader, output: Description) -> Writer:
    """Start the same file with other samples: header bytes, extensions and companions are the source's.

    ``output.shape`` may be the spatial shape alone (a noise map): then gradients stay behind.
    """
    if not isinstance(source, NiftiReader):
        return compose(path, output)
    layout, before = source.layout, source.description
    header = layout.header()
    unchanged = (output.dtype, output.slope, output.inter) == (before.dtype, before.slope, before.inter)
    if not unchanged:
        _set_samples(header, output, layout.version)
    companions = source.companions
    if output.shape != before.shape:
        header["dim"] = [len(output.shape), *output.shape, *[1] * (7 - len(output.shape))]
        companions = Companions()
    lead = source.lead() if not layout.pair else b""
    extra = _after_header(layout) if layout.pair else b""
    gap = source.lead() if layout.pair else b""
    same = source if unchanged and output.shape == before.shape else None
    parts = _arrange(path, header, (layout.version, layout.pair), (lead, extra, gap))
    return NiftiWriter(path, header, parts, output, companions, same)


def compose(path: Path, description: Description) -> Writer:
    """Start a new NIfTI-1 file (NIfTI-2 beyond 32,767 samples an axis) from neutral words.

    ``acquisition["affine"]`` (4 x 4, RAS, mm) becomes sform and qform with code 1; without it both codes are 0.
    """
    big = max(description.shape) > 32767
    version: headers.Version = "nifti2" if big else "nifti1"
    header = headers.header_of(b"\0" * (540 if big else 348), version, "<")
    fresh = type(header)()
    fresh.set_data_shape(description.shape)
    steps = [s if s else 1.0 for s in description.spacing] or [1.0] * len(description.shape)
    fresh.set_zooms(steps[: len(description.shape)])
    fresh.set_xyzt_units("mm", "sec" if len(description.shape) > 3 else None)
    affine = description.acquisition.get("affine")
    if affine is not None:
        fresh.set_qform(np.array(affine), 1)
        fresh.set_sform(np.array(affine), 1)
    fresh["descrip"] = b"pellucid"
    _set_samples(fresh, description, version)
    fresh["vox_offset"] = 544 if big else 352
    companions = Companions(gradients(description.acquisition))
    parts = _arrange(path, fresh, (version, False), (b"\0\0\0\0", b"\0\0\0\0", b""))
    return NiftiWriter(path, fresh, parts, description, companions, None)


def _set_samples(header: Any, output: Description, version: headers.Version) -> None:
    """Write type, scale and display range of the new samples into the header."""
    codes = {name: code for code, name in headers.CODES.items()}
    if output.dtype not in codes:
        raise FormatError(None, "datatype", f"{output.dtype} cannot be stored in this format")
    header["datatype"], header["bitpix"] = codes[output.dtype], 8 * np.dtype(output.dtype).itemsize
    header["cal_min"] = header["cal_max"] = 0
    if version != "analyze":
        header["scl_slope"], header["scl_inter"] = float(output.slope), float(output.inter)


def _after_header(layout: Layout) -> bytes:
    """Return what follows the header block in the ``.hdr`` of a pair: its extensions."""
    return headers.start(layout.header_path, 1 << 26)[0][len(layout.block) :]


def _arrange(
    path: Path, header: Any, kind: tuple[headers.Version, bool], pieces: tuple[bytes, bytes, bytes]
) -> tuple[Path, Path, bytes, bytes]:
    """Return header file, data file, bytes behind the header block, bytes before the samples (pairs).

    Single files and pairs turn into each other when the output's name asks for it.
    """
    (version, was_pair), (lead, extra, gap) = kind, pieces
    stem = path.name.removesuffix(".gz")
    is_pair = stem.lower().endswith((".hdr", ".img"))
    if version == "analyze" and not is_pair:
        raise FormatError(path, "", "Analyze 7.5 is always a pair", "name the output .hdr or .img")
    if is_pair:
        zipped, upper = path.name[len(stem) :], stem.endswith((".HDR", ".IMG"))
        first, second = (stem[:-4] + s + zipped for s in ((".HDR", ".IMG") if upper else (".hdr", ".img")))
        if not was_pair:
            _set_magic(header, version, b"i1\0" if version == "nifti1" else b"i2\0")
            header["vox_offset"] = 0
        return path.with_name(first), path.with_name(second), extra if was_pair else lead, gap
    if was_pair:
        _set_magic(header, version, b"+1\0" if version == "nifti1" else b"+2\0")
        lead = extra.ljust(4, b"\0")
        lead += b"\0" * (-(len(header.binaryblock) + len(lead)) % 16)
        header["vox_offset"] = len(header.binaryblock) + len(lead)
    return path, path, lead, b""


def _set_magic(header: Any, version: headers.Version, tail: bytes) -> None:
    header["magic"] = b"n" + tail + (b"\r\n\x1a\n" if version == "nifti2" else b"")


class NiftiWriter:
    """A NIfTI file in the making; regions in any order, from any thread. ``close`` finishes it."""

    def __init__(
        self, path: Path, header: Any, parts: tuple[Path, Path, bytes, bytes], output: Description,
        companions: Companions, same: NiftiReader | None,
    ) -> None:  # fmt: skip
        self.path, self._header, self._companions = path, header, companions
        self._header_path, self._data_path, behind, gap = parts
        self._shape = (*output.shape, 1, 1, 1)[:3] + (math.prod(output.shape[3:]),)
        self._dtype = np.dtype(output.dtype).newbyteorder(header.endianness)
        ahead = gap if self._data_path != self._header_path else bytes(len(header.binaryblock)) + behind
        self._behind, self._offset = behind, len(ahead)
        self._size = self._offset + math.prod(self._shape) * self._dtype.itemsize
        self._zipped = path.name.lower().endswith(".gz")
        # a display range stays true only while no sample changes; watched where there is one to keep
        self._same = same if float(header["cal_min"]) or float(header["cal_max"]) else None
        self._store: Store = spool(self._size) if self._zipped else _create(self._data_path, self._size)
        self._store.write(0, memoryview(ahead))
        self._closed = False

    def write(self, region: Region, values: Array) -> None:
        """Store samples of ``region``, already in the output's type."""
        if self._same is not None and not np.array_equal(self._same.read(region), values, equal_nan=True):
            self._same = None
            self._header["cal_min"] = self._header["cal_max"] = 0
        x, y, z, v = _four(region)
        sizes = tuple(s.stop - s.start for s in (x, y, z, v))
        values = np.asarray(values).reshape(sizes)
        if sizes[3] == 1 or values.flags.f_contiguous:
            return self._put(region, values)
        for k in range(sizes[2]):  # turned slice by slice: within the cache, 3.5 times as fast as volume by volume
            self._put((x, y, slice(z.start + k, z.start + k + 1), v), np.asfortranarray(values[:, :, k : k + 1]))

    def _put(self, region: Region, values: Array) -> None:
        for offset, _, place, _ in _runs(self._shape, region, self._dtype.itemsize, whole_rows=False):
            block = values[place].astype(self._dtype, copy=False)
            self._store.write(self._offset + offset, memoryview(block.tobytes(order="F")))

    def close(self) -> None:
        """Write the header, compress where the name says so, write the companions, flush to disk."""
        if self._closed:
            return
        self._closed = True
        block = self._header.binaryblock
        if self._header_path == self._data_path:
            self._store.write(0, memoryview(block))
        else:
            _finish(self._header_path, block + self._behind, self._zipped)
        if self._zipped:
            with self._data_path.open("wb") as target:
                deflate(self._store, self._size, target)
                target.flush()
                os.fsync(target.fileno())
        elif isinstance(self._store, Disk):
            os.fsync(self._store.fd)
        self._store.close()
        self._companions.write(self.path)


def _create(path: Path, size: int) -> Disk:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
    os.ftruncate(fd, size)
    return Disk(fd)


def _finish(path: Path, content: bytes, zipped: bool) -> None:
    with path.open("wb") as target:
        if zipped:
            store = spool(len(content))
            store.write(0, memoryview(content))
            deflate(store, len(content), target)
        else:
            target.write(content)
        target.flush()
        os.fsync(target.fileno())


def _four(region: Region) -> tuple[slice, slice, slice, slice]:
    """Return a region of the (x, y, z, volumes) layout."""
    x, y, z, v = (*region, slice(0, 1))[:4]
    return x, y, z, v


def _runs(
    shape: tuple[int, ...], region: Region, itemsize: int, *, whole_rows: bool = True
) -> Iterator[tuple[int, int, tuple[slice, ...], tuple[int, int, int, int]]]:
    """Yield contiguous runs of bytes that cover ``region``: offset, bytes, place within it, shape of the run.

    With ``whole_rows`` a run spans full rows of x, whatever the region asks of x: fewer, longer reads.
    """
    nx, ny, nz, _ = shape
    x, y, z, v = _four(region)
    full_x = whole_rows or (x.start == 0 and x.stop == nx)
    columns = slice(0, x.stop - x.start)
    step = max(1, BLOCK // (nx * ny * itemsize)) if full_x and y.stop - y.start == ny else 1
    for volume in range(v.start, v.stop):
        for k in range(z.start, z.stop, step):
            deep = min(step, z.stop - k)
            plane = (volume * nz + k) * ny
            here = slice(k - z.start, k - z.start + deep), slice(volume - v.start, volume - v.start + 1)
            if full_x:
                rows = (nx, y.stop - y.start, deep, 1)
                count = math.prod(rows) * itemsize
                yield (plane + y.start) * nx * itemsize, count, (columns, slice(0, rows[1]), *here), rows
                continue
            for j in range(y.start, y.stop):
                one = (columns.stop, 1, 1, 1)
                offset = ((plane + j) * nx + x.start) * itemsize
                yield offset, one[0] * itemsize, (columns, slice(j - y.start, j - y.start + 1), *here), one
