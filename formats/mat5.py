# SPDX-License-Identifier: Apache-2.0
"""MATLAB level 5 files, as far as numeric arrays need it; everything else is copied as bytes.

A file is 128 bytes of header and a row of elements, one a variable, each perhaps zlib-compressed.
Only real numeric arrays are decoded; cells, structures, objects and functions are never looked
into, so that nothing in a file can run or allocate beyond its declared and checked size.
Layout after "MAT-File Format", The MathWorks, chapter 1.
"""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid.core.errors import FormatError

if TYPE_CHECKING:
    from pellucid.core.types import Array

HEADER = 128
MATRIX, COMPRESSED = 14, 15
STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
COMPLEX, LOGICAL = 0x08, 0x02
PEEK = 4096  # bytes of a variable that hold flags, sizes and name (63 characters)
INFLATE_MOST = 1032  # largest ratio deflate reaches
LIMIT = (1 << 31) - 1  # bytes a variable may have in this file type
MAX_VARIABLES = 65536


@dataclass(frozen=True)
class Variable:
    """One element of the file; ``dtype`` is empty where it is no real numeric array.

    ``at`` and ``size`` are the element's place with its 8-byte tag; ``start`` is where the sample
    bytes begin (in the file, or in the inflated element), ``kept`` the type they are stored in.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    at: int
    size: int
    compressed: bool
    flags: int = 0
    start: int = 0
    nbytes: int = 0
    kept: str = ""
    small: bytes = b""  # samples of 4 bytes or fewer, packed into their own tag


def listing(path: Path) -> tuple[str, list[Variable]]:
    """Return byte order and all variables, in the file's order, no samples read.

    Raises
    ------
    FormatError
        Not such a file, or an element reaches beyond its end.
    """
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise FormatError(path, "file", error.strerror or "cannot be opened") from None
    try:
        return _walk(fd, path, os.fstat(fd).st_size)
    finally:
        os.close(fd)


def values(path: Path, order: str, variable: Variable) -> Array:
    """Return a variable's samples as one flat array in MATLAB's order, in its class's type."""
    import numpy as np

    out = np.empty(variable.nbytes // np.dtype(variable.kept).itemsize, order + variable.kept)
    if variable.small:
        out = np.frombuffer(variable.small, order + variable.kept)
    elif out.size:
        view = out.data.cast("B")
        with path.open("rb") as file:
            got = _inflate(file, variable, view, path) if variable.compressed else _plain(file, variable, view)
        if got < len(view):
            raise FormatError(path, variable.name, f"{got} of {len(view)} bytes are there", "copy the file again")
    return out.astype(variable.dtype, copy=False)


def element(order: str, variable: Variable, samples: Array) -> bytes | bytearray:
    """Return the bytes of an uncompressed element for a flat array of the variable's sizes."""
    import numpy as np

    kind = next(k for k, v in CLASSES.items() if v == samples.dtype.str[1:])
    samples = compact(samples)
    code = next(k for k, v in STORED.items() if v == samples.dtype.str[1:])
    flags = struct.pack(order + "IIII", 6, 8, (variable.flags & 0xFF00 & ~0x0A00) | kind, 0)
    sizes = struct.pack(f"{order}II{len(variable.shape)}i", 5, 4 * len(variable.shape), *variable.shape)
    name = variable.name.encode("latin-1", "replace")
    head = flags + _pad(sizes) + _pad(struct.pack(order + "II", 1, len(name)) + name)
    data = np.ascontiguousarray(samples, order + samples.dtype.str[1:])
    padding = -data.nbytes % 8
    total = len(head) + 8 + data.nbytes + padding
    out = bytearray(struct.pack(order + "II", MATRIX, total) + head + struct.pack(order + "II", code, data.nbytes))
    out += data.data.cast("B") if data.size else b""
    return out + bytes(padding)


def compact(samples: Array) -> Array:
    """Return doubles that are small integers in the smaller type MATLAB stores them in; others as they are."""
    import numpy as np

    if samples.dtype.kind != "f" or not samples.size:
        return samples
    low, high = float(samples.min()), float(samples.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        return samples
    for name in ("u1", "i1", "u2", "i2", "u4", "i4"):
        info = np.iinfo(name)
        if info.min <= low and high <= info.max:
            small = samples.astype(name)
            same = np.array_equal(small, samples) and not bool(np.any(np.signbit(samples) & (samples == 0)))
            return small if same else samples
    return samples


def header(text: str) -> bytes:
    """Return the 128 bytes a new file begins with."""
    return text.encode("ascii", "replace")[:116].ljust(116) + bytes(8) + struct.pack("<H", 0x0100) + b"IM"


def subsystem(head: bytes, order: str) -> int:
    """Return the position of the block that objects refer to, 0 where there is none."""
    raw = head[116:124]
    return 0 if not raw.strip(b" \0") else int(struct.unpack(order + "Q", raw)[0])


def _pad(data: bytes) -> bytes:
    """Return data padded to a multiple of 8 bytes."""
    return data + bytes(-len(data) % 8)


def _walk(fd: int, path: Path, size: int) -> tuple[str, list[Variable]]:
    """List the elements."""
    head = os.pread(fd, HEADER, 0)
    order = {b"IM": "<", b"MI": ">"}.get(head[126:128], "")
    if not order:
        raise FormatError(path, "first bytes", "not a MATLAB level 5 file" if head else "the file is empty")
    at = HEADER
    out: list[Variable] = []
    while at < size:
        tag = os.pread(fd, 8, at)
        if len(tag) < 8:
            raise FormatError(path, f"byte {at}", "the file ends inside a variable", "copy it again")
        kind, nbytes = struct.unpack(order + "II", tag)
        if at + 8 + nbytes > size:
            raise FormatError(
                path, f"byte {at}", f"a variable of {nbytes} bytes reaches beyond the end", "copy it again"
            )
        if kind not in (MATRIX, COMPRESSED) or len(out) > MAX_VARIABLES:
            raise FormatError(path, f"byte {at}", f"element of unknown type {kind}", "the file is damaged")
        out.append(_variable(fd, path, order, at, nbytes=nbytes, compressed=kind == COMPRESSED))
        at += 8 + nbytes
    return order, out


def _variable(fd: int, path: Path, order: str, at: int, *, nbytes: int, compressed: bool) -> Variable:
    """Read flags, sizes and name of one element."""
    other = Variable("", (), "", at, nbytes + 8, compressed)
    if compressed:
        try:
            body = zlib.decompressobj().decompress(os.pread(fd, min(nbytes, PEEK), at + 8), PEEK)
        except zlib.error:
            raise FormatError(path, f"byte {at}", "a compressed variable is damaged", "copy the file again") from None
        base = 0
    else:
        body, base = os.pread(fd, min(nbytes + 8, PEEK), at), at
    try:
        return _parse(other, body, order, path, base)
    except (struct.error, IndexError):
        return other


def _parse(other: Variable, body: bytes, order: str, path: Path, base: int) -> Variable:
    """Read the sub-elements of a matrix; anything but a real numeric array returns without type."""
    kind, inside = struct.unpack_from(order + "II", body, 0)
    if kind != MATRIX or body[8:16] != struct.pack(order + "II", 6, 8):
        return other
    (flags,) = struct.unpack_from(order + "I", body, 16)
    at, parts = 24, []
    for _ in range(2):
        code, length, where, at = _tag(body, at, order)
        parts.append(body[where : where + length])
    shape = struct.unpack(f"{order}{len(parts[0]) // 4}i", parts[0][: len(parts[0]) // 4 * 4])
    name = parts[1].decode("latin-1").rstrip("\0")
    dtype = CLASSES.get(flags & 0xFF, "")
    named = Variable(name, shape, "", other.at, other.size, other.compressed, flags)
    if not dtype or (flags >> 8) & (COMPLEX | LOGICAL) or any(n < 0 for n in shape) or len(shape) > 32:
        return named
    code, length, where, _ = _tag(body, at, order)
    kept = STORED.get(code, "")
    count = 1
    for n in shape:
        count *= n
    if not kept or length != count * int(kept[1:]):
        raise FormatError(path, name, f"{length} bytes of samples for sizes {shape}", "the file is damaged")
    room = other.size * INFLATE_MOST + PEEK if other.compressed else other.size
    if length > min(room, LIMIT) or count * int(dtype[1:]) > 8 * LIMIT or length > inside:
        raise FormatError(path, name, f"{length} bytes cannot come from {other.size}", "the file is damaged")
    small = body[where : where + length] if length <= 4 else b""
    return Variable(
        name, shape, dtype, other.at, other.size, other.compressed, flags, base + where, length, kept, small
    )


def _tag(body: bytes, at: int, order: str) -> tuple[int, int, int, int]:
    """Return (type, bytes, where they begin, where the next tag is) of a sub-element, small form too."""
    (word,) = struct.unpack_from(order + "I", body, at)
    if word >> 16:
        return word & 0xFFFF, word >> 16, at + 4, at + 8
    (length,) = struct.unpack_from(order + "I", body, at + 4)
    return word, length, at + 8, at + 8 + length + (-length % 8)


def _plain(file: Any, variable: Variable, view: memoryview) -> int:
    """Read samples that lie in the file as they are."""
    file.seek(variable.start)
    done = 0
    while done < len(view):
        got = file.readinto(view[done : done + (1 << 24)])
        if not got:
            break
        done += got
    return done


def _inflate(file: Any, variable: Variable, view: memoryview, path: Path) -> int:
    """Inflate an element straight into place, never more than was declared."""
    file.seek(variable.at + 8)
    left, inflater = variable.size - 8, zlib.decompressobj()
    skip, done = variable.start, 0
    try:
        while left and done < len(view):
            data = file.read(min(left, 1 << 20))
            if not data:
                break
            left -= len(data)
            while data and done < len(view):
                piece = inflater.decompress(data, 1 << 22)
                data = inflater.unconsumed_tail
                cut = min(skip, len(piece))
                skip -= cut
                part = piece[cut : cut + len(view) - done]
                view[done : done + len(part)] = part
                done += len(part)
                if not piece and not data:
                    break
    except zlib.error:
        raise FormatError(path, variable.name, "the compressed samples are damaged", "copy the file again") from None
    return done
