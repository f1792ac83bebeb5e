# SPDX-License-Identifier: Apache-2.0
"""A block of samples behind a text header: plain or compressed, in the header's file or beside it.

NRRD, MetaImage, MRtrix and FreeSurfer files differ in their headers only; where their samples lie is
said by a `Block`, and one reader serves them all. The writer is in ``volume_write``.
"""

from __future__ import annotations

import bz2
import itertools
import math
import os
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pellucid.core.errors import FormatError
from pellucid.core.lazy import np
from pellucid.core.types import Description, Region
from pellucid.formats import plausible
from pellucid.formats.spool import CHUNK, DEFLATE_MOST, READ, Disk, Store, spool

if TYPE_CHECKING:
    from pellucid.core.types import Array

Codec = Literal["raw", "gzip", "zlib", "bzip2", "ascii"]
ANY_WRAPPER = 47  # zlib: largest window, gzip or zlib wrapper told apart by its first bytes
BZIP2_MOST = 1e6  # a block of 46 bytes can stand for 46 MB of one value (run lengths before and after sorting)
BLOCK = 32 << 20  # bytes moved at once
GAP = 1 << 16  # bytes of a row that are read rather than skipped
MOST_SAMPLES = 1 << 62
PAUSE = b" \t\r\n,"  # between numbers in text


@dataclass(frozen=True)
class Block:
    """Where samples lie.

    Parameters
    ----------
    path : Path
        The file that holds them.
    sizes : tuple of int
        Of the file's axes, fastest first.
    dtype : str
        NumPy type with byte order.
    places : tuple of int
        For each axis as described, the file's axis; -1 for an axis of length 1 the file does not have.
    flips : frozenset of int
        Axes as described that the file holds backwards.
    offset, held : int
        First byte in the file, and how many bytes from there are samples (-1: to the end).
    skip : int
        Bytes before the samples once they are decompressed.
    spatial : int
        How many of the axes as described are spatial.
    """

    path: Path
    sizes: tuple[int, ...]
    dtype: str
    places: tuple[int, ...]
    flips: frozenset[int] = frozenset()
    offset: int = 0
    held: int = -1
    skip: int = 0
    codec: Codec = "raw"
    spatial: int = 3

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes as described."""
        return tuple(self.sizes[p] if p >= 0 else 1 for p in self.places)

    @property
    def nbytes(self) -> int:
        """Bytes of the samples."""
        return math.prod(self.sizes) * int(np.dtype(self.dtype).itemsize)

    @property
    def slab(self) -> int:
        """Index, as described, of the spatial axis that is slowest in the file."""
        spatial = self.places[: self.spatial]
        return max(range(len(spatial)), key=lambda d: spatial[d])

    def region(self, region: Region) -> tuple[slice, ...]:
        """Return a region in file order, slowest axis first."""
        found = [slice(0, 1)] * len(self.sizes)
        for d, place in enumerate(self.places):
            if place >= 0:
                n, s = self.sizes[place], region[d]
                found[place] = slice(n - s.stop, n - s.start) if d in self.flips else s
        return tuple(found[::-1])

    def described(self, values: Array) -> Array:
        """Return samples in file order (slowest first) with their axes as described: a view."""
        last = len(self.sizes) - 1
        out = values.transpose([last - p for p in self.places if p >= 0])
        for d, place in enumerate(self.places):
            if place < 0:
                out = np.expand_dims(out, d)
        return out[tuple(slice(None, None, -1 if d in self.flips else 1) for d in range(len(self.places)))]

    def stored(self, values: Array) -> Array:
        """Undo ``described``."""
        out = values[tuple(slice(None, None, -1 if d in self.flips else 1) for d in range(len(self.places)))]
        out = out[tuple(0 if p < 0 else slice(None) for p in self.places)]
        there = [p for p in self.places if p >= 0]
        return out.transpose([there.index(p) for p in range(len(self.sizes) - 1, -1, -1)])


def check(path: object, block: Block) -> None:
    """Compare what a header promises with what the file can hold, before anything is allocated.

    Raises
    ------
    FormatError
        An axis without samples, or more samples than bytes.
    """
    if not block.sizes or any(n < 1 for n in block.sizes) or math.prod(block.sizes) > MOST_SAMPLES:
        raise FormatError(path, "sizes", f"{' x '.join(map(str, block.sizes))[:60]} is no shape of an image")
    there = block.path.stat().st_size - block.offset
    held = min(there, block.held) if block.held >= 0 else there
    wanted = block.nbytes + block.skip
    if block.codec == "raw":
        if there < wanted:
            raise cut_short(block, max(there - block.skip, 0))
    elif block.codec == "ascii":
        if 2 * math.prod(block.sizes) - 1 > held:
            raise FormatError(path, "data", f"{held} bytes of text cannot hold so many samples", "copy it again")
    else:
        most = BZIP2_MOST if block.codec == "bzip2" else DEFLATE_MOST
        if block.held > there:
            raise FormatError(
                block.path, "data", f"{block.held} bytes are promised, {there} are there", "copy it again"
            )
        plausible.check(path, wanted, max(held, 0), most)


def notes(block: Block) -> list[tuple[str, str]]:
    """Return a remark on bytes that follow plain samples and are not copied."""
    if block.codec != "raw":
        return []
    extra = block.path.stat().st_size - block.offset - block.skip - block.nbytes
    return [("trailing-bytes", f"{extra} bytes follow the last sample: they are not copied")] if extra > 0 else []


def cut_short(block: Block, have: int) -> FormatError:
    """Return the error of a file that holds only ``have`` bytes of samples."""
    whole = math.prod(block.sizes)
    part = have // int(np.dtype(block.dtype).itemsize)
    return FormatError(block.path, "data", f"ends after {part} of {whole} samples", "copy it again")


def unpack(block: Block, most: int) -> Iterator[bytes]:
    """Yield the decompressed bytes of a block in chunks, ``most`` in all; a stream that ends early yields less.

    Raises
    ------
    zlib.error, OSError
        The stream is damaged.
    """
    with block.path.open("rb") as file:
        file.seek(block.offset)
        left = block.held if block.held >= 0 else block.path.stat().st_size

        def more() -> bytes:
            nonlocal left
            data = file.read(min(READ, left))
            left -= len(data)
            return data

        yield from _bzip2(more, most) if block.codec == "bzip2" else _deflated(more, most)


def _deflated(more: Any, most: int) -> Iterator[bytes]:
    stream, waiting = zlib.decompressobj(wbits=ANY_WRAPPER), b""
    while most > 0:
        waiting = waiting or more()
        if stream.eof:  # concatenated members, or padding
            waiting = waiting.lstrip(b"\0")
            if not waiting:
                return
            stream = zlib.decompressobj(wbits=ANY_WRAPPER)
        elif not waiting:
            return
        data = stream.decompress(waiting, min(CHUNK, most))
        waiting = stream.unused_data if stream.eof else stream.unconsumed_tail
        most -= len(data)
        yield data
    while not stream.eof:  # past the last sample: the checksum
        waiting = waiting or more()
        if not waiting:
            raise zlib.error("the checksum at its end is missing")
        if stream.decompress(waiting, 1):
            return  # more samples than the header promised
        waiting = stream.unconsumed_tail


def _bzip2(more: Any, most: int) -> Iterator[bytes]:
    stream = bz2.BZ2Decompressor()
    while most > 0:
        raw = more() if stream.needs_input else b""
        if stream.needs_input and not raw:
            return
        data = stream.decompress(raw, min(CHUNK, most))
        most -= len(data)
        yield data
        if stream.eof:
            rest = stream.unused_data or more()
            if not rest.startswith(b"BZh"):
                return
            stream, data = bz2.BZ2Decompressor(), b""
            data = stream.decompress(rest, min(CHUNK, most)) if most > 0 else b""
            most -= len(data)
            yield data


def numbers(block: Block) -> Store:
    """Return samples written as text, as bytes of the block's type in memory."""
    dtype = np.dtype(block.dtype)
    whole = math.prod(block.sizes)
    store, done, rest = spool(block.nbytes), 0, b""
    with block.path.open("rb") as file:
        file.seek(block.offset + block.skip)
        while done < whole:
            data = file.read(CHUNK)
            text = rest + data
            cut = len(text) if not data else max(text.rfind(bytes([c])) for c in PAUSE) + 1
            words, rest = text[:cut].replace(b",", b" ").split()[: whole - done], text[cut:]
            try:
                values = np.array(words, "S32").astype(dtype) if words else np.empty(0, dtype)
            except (ValueError, OverflowError) as error:
                raise FormatError(block.path, "data", f"holds something that is no number ({error})") from None
            store.write(done * dtype.itemsize, memoryview(values.tobytes()))
            done += len(words)
            if not data and done < whole:
                raise cut_short(block, done * dtype.itemsize)
    return store


def runs(
    shape: tuple[int, ...], region: tuple[slice, ...], itemsize: int, *, whole_rows: bool
) -> Iterator[tuple[int, tuple[int, ...], tuple[slice, ...]]]:
    """Yield contiguous stretches that cover a region of a C-ordered array.

    Each is (offset in samples, shape of the stretch, its place in the region). With ``whole_rows`` short
    rows are read whole, whatever the region asks of the fastest axis.
    """
    last = len(shape) - 1
    full = [s.start == 0 and s.stop == n for s, n in zip(region, shape, strict=True)]
    full[last] |= whole_rows and shape[last] * itemsize <= GAP
    split = max((i for i, whole in enumerate(full) if not whole), default=0)
    inner = shape[split + 1 :]
    stride = math.prod(inner)
    step = max(1, BLOCK // (stride * itemsize))
    strides = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
    cut = region[split]
    for outer in itertools.product(*(range(s.start, s.stop) for s in region[:split])):
        base = sum(i * strides[k] for k, i in enumerate(outer))
        place = tuple(slice(i - s.start, i - s.start + 1) for i, s in zip(outer, region[:split], strict=True))
        for start in range(cut.start, cut.stop, step):
            count = min(step, cut.stop - start)
            here = slice(start - cut.start, start - cut.start + count)
            yield base + start * stride, (*(1,) * split, count, *inner), (*place, here)


class VolumeReader:
    """An open volume. Threads may read at the same time; pickles by path."""

    def __init__(self, path: Path, block: Block, description: Description) -> None:
        self.path, self.data_path, self.block, self.description = path, block.path, block, description
        check(path, block)
        self._store: Store | None = None
        self._lock = threading.Lock()

    def read(self, region: Region) -> Array:
        """Return stored samples of ``region``, native byte order."""
        block = self.block
        order, shape, item = block.region(region), block.sizes[::-1], np.dtype(block.dtype).itemsize
        out = np.empty([max(0, s.stop - s.start) for s in order], np.dtype(block.dtype).newbyteorder("="))
        store, start = self._samples()
        for at, stretch, place in runs(shape, order, item, whole_rows=True):
            count = math.prod(stretch) * item
            raw = store.read(start + at * item, count)
            if len(raw) < count:
                raise cut_short(block, at * item + len(raw))
            values = np.frombuffer(raw, block.dtype).reshape(stretch)
            out[place] = values[..., order[-1]] if len(place) < len(shape) else values
        return block.described(out)

    def tail(self) -> bytes:
        """Return what follows the samples in their decompressed file, up to a mebibyte."""
        block, most = self.block, 1 << 20
        if block.codec == "raw":
            with block.path.open("rb") as file:
                file.seek(block.offset + block.skip + block.nbytes)
                return file.read(most)
        end, at, kept = block.skip + block.nbytes, 0, b""
        for data in unpack(block, end + most):
            kept += data[max(0, end - at) :] if at + len(data) > end else b""
            at += len(data)
        return kept

    def close(self) -> None:
        """Release file and spool; reading again opens them again."""
        with self._lock:
            if self._store is not None:
                self._store.close()
                self._store = None

    def _samples(self) -> tuple[Store, int]:
        """Return a store and where in it the samples begin."""
        block = self.block
        with self._lock:
            if self._store is None:
                if block.codec == "raw":
                    self._store = Disk(os.open(block.path, os.O_RDONLY))
                else:
                    self._store = numbers(block) if block.codec == "ascii" else self._unpacked()
            return self._store, block.offset + block.skip if block.codec == "raw" else 0

    def _unpacked(self) -> Store:
        block = self.block
        store, done = spool(block.nbytes), -block.skip
        try:
            for data in unpack(block, block.nbytes + block.skip):
                first = max(0, -done)
                if first < len(data):
                    store.write(done + first, memoryview(data)[first:])
                done += len(data)
        except (OSError, zlib.error) as error:
            if isinstance(error, OSError) and error.errno:  # the disk's fault, not the file's
                raise
            raise FormatError(block.path, block.codec, f"is damaged ({error})", "copy it again") from None
        if done < block.nbytes:
            raise cut_short(block, max(done, 0))
        return store

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if not k.startswith("_")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _store=None, _lock=threading.Lock())


def neighbour(path: Path, name: str) -> Path:
    """Return a data file named by a header: in the header's own folder, nowhere else.

    Raises
    ------
    FormatError
        The name leads elsewhere, or there is no such file.
    """
    plain = name.removeprefix("./")
    if not plain or plain in (".", "..") or "/" in plain or "\\" in plain or "\0" in plain or len(plain) > 255:
        what = f"its samples lie in '{name[:80]}', outside the header's folder"
        raise FormatError(path, "data file", what, "put both into one folder and name the file alone")
    found = path.with_name(plain)
    if not found.is_file():
        raise FormatError(path, "data file", f"'{plain[:80]}' is missing", "put it beside the header")
    return found
