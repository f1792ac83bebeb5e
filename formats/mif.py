# SPDX-License-Identifier: Apache-2.0
"""MRtrix images: ``.mif``, gzip-ed ``.mif.gz``, and ``.mih`` with its samples beside."""

from __future__ import annotations

import math
import re
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from pellucid.core.errors import FormatError
from pellucid.core.lazy import np
from pellucid.core.types import Description, FormatTraits, Reader, Writer
from pellucid.formats import mif_header, space, tracked, volume, volume_private, volume_write
from pellucid.formats.mif_header import Header
from pellucid.formats.volume import Block, VolumeReader

FORMAT = FormatTraits(
    name="mif",
    title="MRtrix image",
    suffixes=(".mif", ".mif.gz", ".mih"),
    integers="float32",
    keeps="every header line in its order (transform, dw_scheme, comments, history), strides and byte order; "
    "datatype, scaling and file may change",
)
GZIP = b"\x1f\x8b"
PLACE = re.compile(r"(.+?)(?:\s+(\d{1,15}))?")
STEP = 1 << 16  # bytes of a header read at once
ALIGN = 16  # bytes: where new samples begin, a multiple of the widest sample
anonymise = volume_private.mif


def recognise(head: bytes, name: str) -> float:
    """Return how certain the first bytes are to be ours, 0 to 1."""
    if head[:2] == GZIP:
        try:
            head = zlib.decompressobj(wbits=31).decompress(head, 64)
        except zlib.error:
            return 0.0
    return 1.0 if head.startswith(mif_header.MAGIC) else 0.0


def open(path: Path, **hints: Any) -> MifReader:
    """Read the header; the samples stay where they are.

    Raises
    ------
    FormatError
        Inconsistent, cut short, bits, or samples missing or outside the header's folder.
    """
    path = Path(path)
    header, packed = _load(path)
    sizes, vox = header.numbers("dim"), header.numbers("vox")
    if not sizes or len(sizes) > 16 or not all(1 <= n < 1e15 and n == int(n) for n in sizes):
        raise FormatError(path, "dim", f"{header.one('dim')[:60]} is no shape of an image")
    block = _block(header, packed, tuple(int(n) for n in sizes))
    return MifReader(path, block, _describe(header, block, tuple(int(n) for n in sizes), vox), header)


class MifReader(VolumeReader):
    """An open MRtrix image; the header stays verbatim."""

    def __init__(self, path: Path, block: Block, description: Description, header: Header) -> None:
        super().__init__(path, block, description)
        self.header = header


def splice(path: Path, source: Reader, output: Description) -> Writer:
    """Start the same file with other samples: strides, byte order and header lines are the source's."""
    if not isinstance(source, MifReader) or tuple(output.shape) != source.description.shape:
        return compose(path, output)
    block, before = source.block, source.description
    dtype = block.dtype[0] + np.dtype(output.dtype).str[1:]
    changes: dict[str, str | None] = {}
    if np.dtype(dtype) != np.dtype(block.dtype):
        changes["datatype"] = _code(path, dtype)
    if (output.slope, output.inter) != (before.slope, before.inter):
        changes["scaling"] = _scaling(output)
    made = Block(path, block.sizes, dtype, block.places, block.flips)
    return _writer(path, source.header.with_(changes), made)


def compose(path: Path, description: Description) -> Writer:
    """Start a new file: little-endian, x fastest, volumes last; ``acquisition`` gives transform and gradients."""
    shape = description.shape
    dtype = np.dtype(description.dtype).newbyteorder("<").str
    steps = [*description.spacing, *[None] * len(shape)]
    pairs = [
        ("dim", ",".join(map(str, shape))),
        ("vox", ",".join("nan" if s is None else space.text(s) for s in steps[: len(shape)])),
        ("layout", ",".join(f"+{i}" for i in range(len(shape)))),
        ("datatype", _code(path, dtype)),
    ]
    if (scaling := _scaling(description)) is not None:
        pairs.append(("scaling", scaling))
    affine = description.acquisition.get("affine")
    if affine is not None:
        turn, origin = space.vectors(affine)
        rows = np.column_stack([space.unit(turn).T, origin])
        pairs += [("transform", ",".join(space.text(v) for v in row)) for row in rows]
        pairs += _gradients(description)
    header = mif_header.compose(path, pairs)
    block = Block(path, tuple(shape), dtype, tuple(range(len(shape))), spatial=description.spatial)
    return _writer(path, header, block)


def _load(path: Path) -> tuple[Header, bool]:
    """Return the header and whether the whole file is gzip-ed."""
    with path.open("rb") as file:
        raw = file.read(2)
        if raw == GZIP:
            text = bytearray()
            try:
                for data in volume.unpack(Block(path, (1,), "u1", (0,), codec="gzip"), mif_header.MOST):
                    text += data
                    found = text.find(b"\nEND\n", max(0, len(text) - len(data) - 5))
                    if found >= 0 or not text.startswith(mif_header.MAGIC[: len(text)]):
                        break
            except (OSError, zlib.error) as error:
                raise FormatError(path, "gzip", f"is damaged ({error})", "copy it again") from None
            return mif_header.parse(path, bytes(text)), True
        text = bytearray(raw)
        while text.find(b"\nEND\n", max(0, len(text) - STEP - 5)) < 0 and len(text) < mif_header.MOST:
            more = file.read(STEP)
            text += more
            if not more or not text.startswith(mif_header.MAGIC[: len(text)]):
                break
    return mif_header.parse(path, bytes(text)), False


def _block(header: Header, packed: bool, sizes: tuple[int, ...]) -> Block:
    """Return where the samples lie: axes of length 1 beyond the third are left out, others beyond the fourth joined."""
    path, count = header.path, len(sizes)
    order, backwards = mif_header.strides(header, count)
    series = [i for i in order if i > 2 and sizes[i] > 1]
    kept = [i for i in order if i < 3 or i in series[:1]]
    if len(series) > 1:
        adjacent = [i for i in order if i < 3 or i in series]
        first = adjacent.index(series[0])
        if adjacent[first : first + len(series)] != series or backwards & set(series):
            raise FormatError(path, "layout", f"the axes {series} of its series lie apart", "reorder with mrconvert")
    lengths = [math.prod(sizes[j] for j in series) if i in series else sizes[i] for i in kept]
    spatial = [kept.index(i) if i < count else -1 for i in range(3)]
    places = (*spatial, *([kept.index(series[0])] if series else []))
    flips = frozenset(d for d in range(3) if d in backwards)
    flips |= frozenset({3} if series and series[0] in backwards else ())
    name, skip = _place(header)
    data = path if name == "." else volume.neighbour(path, name)
    if name == "." and skip < header.size:
        raise FormatError(path, "file", f"samples cannot begin at byte {skip}, inside the header")
    return Block(
        data, tuple(lengths), mif_header.dtype(header), places, flips, skip=skip, codec="gzip" if packed else "raw"
    )


def _place(header: Header) -> tuple[str, int]:
    """Return the name of the file that holds the samples, ``"."`` for the header's own, and their first byte."""
    found = PLACE.fullmatch(header.one("file"))
    if found is None:
        raise FormatError(header.path, "file", f"'{header.one('file')[:60]}' names no place of samples")
    if header.all("file")[1:] or "*" in found[1] or "[" in found[1]:
        raise FormatError(header.path, "file", "the samples are in several files", "join them with mrconvert")
    return found[1], int(found[2] or 0)


def _describe(header: Header, block: Block, sizes: tuple[int, ...], vox: tuple[float, ...]) -> Description:
    dtype = np.dtype(block.dtype).newbyteorder("=").name
    steps = [abs(v) if math.isfinite(v) and v else None for v in (*vox, *[math.nan] * 4)[:4]]
    scaling = header.numbers("scaling") or (0.0, 1.0)
    if len(scaling) != 2 or not all(math.isfinite(v) for v in scaling):
        raise FormatError(header.path, "scaling", f"'{header.one('scaling')[:40]}' is not offset and scale")
    rows = header.table("transform", 4)
    found = None
    if len(rows) >= 3:
        turn = np.array(rows)[:3]
        found = space.affine([turn[:, i] * (steps[i] or 1.0) for i in range(3)], list(turn[:, 3]))
    notes = [] if found else [("no-orientation", "it has no transform: left and right are not known")]
    facts = space.facts(found)
    scheme = header.table("dw_scheme", 4)
    if found and scheme and len(scheme) == block.shape[-1]:
        facts["bvals"] = tuple(row[3] for row in scheme)
        facts["bvecs"] = space.to_image(space.unit([row[:3] for row in scheme]), found)
    if len(block.places) == 4 and steps[3]:
        facts["repetition_s"] = steps[3]
    return Description(
        format="mif",
        shape=block.shape,
        axes=("x", "y", "z", "volume")[: len(block.places)],
        dtype=dtype,
        kind="complex" if dtype.startswith("complex") else "unknown",
        spacing=tuple(steps[: len(block.places)]),
        units=("mm", "mm", "mm", "s")[: len(block.places)],
        slope=scaling[1] or 1.0,
        inter=scaling[0],
        slab=block.slab,
        out_dtype=tracked.default_type(dtype, True),
        acquisition=facts,
        witnesses={"dim": (*sizes, 1, 1)[: max(3, len(sizes))], "layout": header.one("layout")},
        notes=(*notes, *volume.notes(block)),
    )


def _scaling(description: Description) -> str | None:
    slope, inter = description.slope, description.inter
    if np.ndim(slope) or np.ndim(inter):
        raise FormatError(None, "scaling", "one scale for each volume cannot be stored", "choose --out-dtype float32")
    return None if (slope, inter) == (1.0, 0.0) else f"{space.text(inter)},{space.text(slope)}"


def _code(path: Path, dtype: str) -> str:
    name = volume_write.code_of(path, dtype, mif_header.CODES, "datatype")
    order = "" if np.dtype(dtype).itemsize == 1 else "BE" if dtype[0] == ">" else "LE"
    return name + order


def _gradients(description: Description) -> list[tuple[str, str]]:
    bvals, bvecs = (description.acquisition.get(k) for k in ("bvals", "bvecs"))
    if bvals is None or bvecs is None or description.series != "volume" or len(bvals) != description.shape[-1]:
        return []
    world = space.to_world(bvecs, description.acquisition["affine"])
    return [("dw_scheme", ",".join(space.text(v) for v in (*g, b))) for g, b in zip(world.tolist(), bvals, strict=True)]


def _writer(path: Path, header: Header, block: Block) -> Writer:
    name = path.name.lower()
    if name.endswith(".mih"):
        data = path.with_name(path.name[: -len(".mih")] + ".dat")
        text = header.with_({"file": data.name}).encode()
        target = volume_write.Target(lambda packed: text, path)
    else:
        data, text = path, _attached(header)
        target = volume_write.Target(lambda packed: text, wrapped=name.endswith(".gz"))
    codec: volume.Codec = "gzip" if name.endswith(".gz") else "raw"
    made = Block(data, block.sizes, block.dtype, block.places, block.flips, codec=codec, spatial=block.spatial)
    return volume_write.VolumeWriter(made, target)


def _attached(header: Header) -> bytes:
    """Return a header that says where its samples begin, and the zeros up to there."""
    header = header if header.lines[-1] else replace(header, lines=(*header.lines[:-1], "END"))
    size, found = len(header.encode()), PLACE.fullmatch(header.one("file"))
    said = int(found[2] or 0) if found is not None and found[1] == "." else 0
    same = size <= said < size + 4096
    offset = said if same else -(-(size + 32) // ALIGN) * ALIGN
    return header.with_({} if same else {"file": f". {offset}"}).encode().ljust(offset, b"\0")
