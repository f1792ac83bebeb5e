# SPDX-License-Identifier: Apache-2.0
"""NRRD: volumes, series, pictures and tracked frames, with the samples attached or in a file beside."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from pellucid.core.errors import FormatError
from pellucid.core.lazy import np
from pellucid.core.types import Description, FormatTraits, Reader, Writer
from pellucid.formats import nrrd_header, nrrd_meta, tracked, volume, volume_private, volume_write
from pellucid.formats.nrrd_header import Header
from pellucid.formats.volume import Block, Codec, VolumeReader

FORMAT = FormatTraits(
    name="nrrd",
    title="NRRD",
    suffixes=(".nrrd", ".nhdr"),
    integers="float32",
    keeps="every header line in its order, comments, unknown fields and key/value pairs (Seq_Frame..., DWMRI_...), "
    "encoding and byte order; type, endian, data file, line and byte skip may change",
)
SEVERAL = ("LIST", "%")  # samples in many files
BESIDE = {"raw": ".raw", "gzip": ".raw.gz", "bzip2": ".raw.bz2", "ascii": ".txt"}
anonymise = volume_private.nrrd


def recognise(head: bytes, name: str) -> float:
    """Return how certain the first bytes are to be ours, 0 to 1."""
    return 1.0 if head.startswith(nrrd_header.MAGIC) else 0.0


def open(path: Path, **hints: Any) -> NrrdReader:
    """Read the header; the samples stay where they are.

    Raises
    ------
    FormatError
        Not NRRD, inconsistent, cut short, or samples outside the header's folder.
    """
    path = Path(path)
    header = nrrd_header.load(path)
    known = nrrd_meta.axes(header)
    roles = nrrd_meta.roles(header, known)
    sizes, stored = known.sizes, _dtype(header)
    if "complex" in roles:
        if roles[0] != "complex" or sizes[0] != 2 or stored[1] != "f":
            raise FormatError(path, "kinds", "complex samples are read as pairs of floats along the first axis only")
        stored = f"{stored[0]}c{2 * int(stored[2:])}"
        known = nrrd_meta.Axes(sizes[1:], known.kinds[1:], known.steps[1:], known.spacings[1:], known.directed)
        roles, sizes = roles[1:], sizes[1:]
    layout = tracked.arrange(path, sizes, roles, header.pairs)
    block = _block(header, layout, stored)
    described = nrrd_meta.describe(header, known, layout, np.dtype(stored).newbyteorder("=").name)
    if described.dtype.startswith("complex"):
        described = described.with_(kind="complex")
    notes = (*described.notes, *volume.notes(block))
    return NrrdReader(path, block, described.with_(slab=block.slab, notes=notes), header)


class NrrdReader(VolumeReader):
    """An open NRRD file; the header stays verbatim."""

    def __init__(self, path: Path, block: Block, description: Description, header: Header) -> None:
        super().__init__(path, block, description)
        self.header = header


def splice(path: Path, source: Reader, output: Description) -> Writer:
    """Start the same file with other samples; a name in ``.nhdr`` puts them beside, any other attaches them."""
    if not isinstance(source, NrrdReader) or tuple(output.shape) != source.description.shape:
        return compose(path, output)
    header, block = source.header, source.block
    changes: dict[str, str | None] = {"line skip": None, "byte skip": None}
    order = block.dtype[0] if block.dtype[0] in "<>" else "<"
    dtype = order + np.dtype(output.dtype).str[1:]
    if np.dtype(dtype) != np.dtype(block.dtype):
        changes["type"] = volume_write.code_of(path, output.dtype, nrrd_header.NAMES, "type")
        if np.dtype(dtype).itemsize > 1 and block.codec != "ascii":
            changes["endian"] = "big" if order == ">" else "little"
    return _writer(path, header, Block(path, block.sizes, dtype, block.places, codec=block.codec), changes)


def compose(path: Path, description: Description) -> Writer:
    """Start a new file: raw, little-endian, LPS; ``acquisition`` gives affine and gradients."""
    keys = tracked.keys(path, description)
    name = volume_write.code_of(path, description.dtype, nrrd_header.NAMES, "type")
    fields, pairs = nrrd_meta.fields_of(description, name)
    fields += [("encoding", "raw"), ("endian", "little")]
    header = nrrd_header.compose(path, fields, [*pairs, *keys.items()])
    order = tracked.order(description.axes)
    block = Block(
        path,
        tuple(description.shape[d] for d in order),
        np.dtype(description.dtype).newbyteorder("<").str,
        tuple(order.index(d) for d in range(len(order))),
        spatial=description.spatial,
    )
    return _writer(path, header, block, {})


def _writer(path: Path, header: Header, block: Block, changes: Mapping[str, str | None]) -> Writer:
    """Return a writer of a header with changes, and the samples in the same file or beside it."""
    attached = not path.name.lower().endswith(".nhdr")
    data = path if attached else path.with_name(path.name[: -len(".nhdr")] + BESIDE[block.codec])
    text = header.with_({**changes, "data file": None if attached else data.name}).encode(attached=attached)
    made = Block(data, block.sizes, block.dtype, block.places, codec=block.codec, spatial=block.spatial)
    target = volume_write.Target(lambda packed: text, None if attached else path)
    return volume_write.VolumeWriter(made, target)


def _dtype(header: Header) -> str:
    """Return the NumPy type with byte order."""
    said = header.fields.get("type", "").lower()
    if said not in nrrd_header.TYPES:
        raise FormatError(header.path, "type", f"'{said[:40]}' is no type of samples that is read")
    code = nrrd_header.TYPES[said]
    endian = header.fields.get("endian", "").lower()
    text = header.fields.get("encoding", "").lower() in ("ascii", "txt", "text")
    if endian not in ("little", "big") and int(code[1:]) > 1 and not text:
        raise FormatError(header.path, "endian", "says nothing: little and big are possible", "add 'endian: little'")
    return (">" if endian == "big" else "<") + code


def _block(header: Header, layout: tracked.Roles, dtype: str) -> Block:
    """Return where the samples lie."""
    path = header.path
    said = header.fields.get("encoding", "").lower()
    if said not in nrrd_header.CODECS:
        raise FormatError(path, "encoding", f"'{said[:40]}' is not read", "save it as raw or gzip")
    codec = cast(Codec, nrrd_header.CODECS[said])
    name = header.fields.get("data file")
    if name is not None and (name.upper().startswith(SEVERAL[0]) or SEVERAL[1] in name):
        raise FormatError(path, "data file", "the samples are in several files", "join them with 'unu save'")
    data = volume.neighbour(path, name) if name is not None else path
    lines, skip = header.number("line skip", 0), header.number("byte skip", 0)
    offset = _after_lines(data, 0 if name is not None else header.size, lines)
    made = Block(data, layout.sizes, dtype, layout.places, offset=offset, codec=codec, spatial=layout.spatial)
    if skip == -1 and codec == "raw":  # the samples end the file
        skip = max(0, data.stat().st_size - offset - made.nbytes)
    if skip < 0 or lines < 0:
        raise FormatError(path, "byte skip", f"{min(skip, lines)} is no number of bytes or lines to skip")
    return Block(
        data, layout.sizes, dtype, layout.places, offset=offset, skip=skip, codec=codec, spatial=layout.spatial
    )


def _after_lines(path: Path, offset: int, lines: int) -> int:
    """Return the byte behind ``lines`` lines."""
    with path.open("rb") as file:
        file.seek(offset)
        for _ in range(min(lines, 1 << 20)):
            if not file.readline(1 << 20):
                break
        return file.tell()
