# SPDX-License-Identifier: Apache-2.0
"""MetaImage (.mha, .mhd with .raw or .zraw): ITK's and PLUS's volumes, pictures and tracked frames.

Format: itk.org/Wiki/ITK/MetaIO/Documentation. Coordinates are LPS, mm; row i of TransformMatrix is the
direction of axis i.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pellucid.core.errors import FormatError
from pellucid.core.lazy import np
from pellucid.core.types import Description, FormatTraits, Reader, Writer
from pellucid.formats import meta_header, space, tracked, volume, volume_private, volume_write
from pellucid.formats.meta_header import Header
from pellucid.formats.volume import Block, VolumeReader

FORMAT = FormatTraits(
    name="metaimage",
    title="MetaImage",
    suffixes=(".mha", ".mhd"),
    integers="float32",
    keeps="every header line in its order, unknown and Seq_Frame... fields, compression and byte order; ElementType, "
    "CompressedDataSize, HeaderSize and ElementDataFile may change",
)
FIRST = re.compile(rb"\s*(ObjectType|ObjectSubType|NDims|Comment|Name|ID|TransformType)\s*=", re.IGNORECASE)
MATRIX = ("TransformMatrix", "Orientation", "Rotation")
ORIGIN = ("Offset", "Position", "Origin")
MOST_AXES = 10  # MetaIO's own limit
SIZE_WIDTH = 20  # places kept for CompressedDataSize, which is known only once the samples are written
anonymise = volume_private.metaimage


def recognise(head: bytes, name: str) -> float:
    """Return how certain the first bytes are to be ours, 0 to 1."""
    return 0.95 if FIRST.match(head) and b"NDims" in head else 0.0


def open(path: Path, **hints: Any) -> MetaReader:
    """Read the header; the samples stay where they are.

    Raises
    ------
    FormatError
        Inconsistent, cut short, or samples missing or outside the header's folder.
    """
    path = Path(path)
    header = meta_header.load(path)
    sizes, roles = _axes(header)
    layout = tracked.arrange(path, sizes, roles, header.fields)
    block = _block(header, layout)
    return MetaReader(path, block, _describe(header, layout, block), header)


class MetaReader(VolumeReader):
    """An open MetaImage; the header stays verbatim."""

    def __init__(self, path: Path, block: Block, description: Description, header: Header) -> None:
        super().__init__(path, block, description)
        self.header = header


def splice(path: Path, source: Reader, output: Description) -> Writer:
    """Start the same file with other samples; a name in ``.mhd`` puts them beside, any other attaches them."""
    if not isinstance(source, MetaReader) or tuple(output.shape) != source.description.shape:
        return compose(path, output)
    block = source.block
    dtype = block.dtype[0] + np.dtype(output.dtype).str[1:]
    changes: dict[str, str | None] = {"HeaderSize": None}
    if np.dtype(dtype) != np.dtype(block.dtype):
        changes["ElementType"] = volume_write.code_of(path, output.dtype, meta_header.CODES, "ElementType")
    changed = source.header.with_(changes)
    return _writer(path, changed, Block(path, block.sizes, dtype, block.places, codec=block.codec))


def compose(path: Path, description: Description) -> Writer:
    """Start a new file: uncompressed, little-endian, LPS; ``acquisition["affine"]`` gives its place."""
    keys = tracked.keys(path, description)
    code = volume_write.code_of(path, description.dtype, meta_header.CODES, "ElementType")
    order = tracked.order(description.axes)
    sizes = tuple(description.shape[d] for d in order)
    places = tuple(order.index(d) for d in range(len(order)))
    dtype = np.dtype(description.dtype).newbyteorder("<").str
    lines = _lines(description, order, code)
    header = meta_header.compose(path, [*lines[:-2], *keys.items(), *lines[-2:]])
    return _writer(path, header, Block(path, sizes, dtype, places, spatial=description.spatial))


def _writer(path: Path, header: Header, block: Block) -> Writer:
    attached = not path.name.lower().endswith(".mhd")
    packed = block.codec == "zlib"
    data = path if attached else path.with_name(path.name[: -len(".mhd")] + (".zraw" if packed else ".raw"))
    changed = header.with_({"ElementDataFile": "LOCAL" if attached else data.name})

    def text(size: int) -> bytes:
        room = {"CompressedDataSize": f"{size:<{SIZE_WIDTH}d}"} if packed else {}
        return changed.with_(room).encode()

    made = Block(data, block.sizes, block.dtype, block.places, codec=block.codec, spatial=block.spatial)
    return volume_write.VolumeWriter(made, volume_write.Target(text, None if attached else path))


def _axes(header: Header) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Return sizes and roles of the axes, components first."""
    count = header.number("NDims", 0)
    sizes = tuple(int(n) if abs(n) < 1e18 else 0 for n in header.numbers("DimSize", count))
    if not 1 <= count <= MOST_AXES or any(n < 1 for n in sizes):
        raise FormatError(header.path, "DimSize", f"{' '.join(map(str, sizes))[:60]} is no shape of an image")
    kinds = (header.fields.get("Kinds", "").lower().split() + ["domain"] * count)[:count]
    roles = tuple("series" if k in ("list", "time") else "space" for k in kinds)
    components = header.number("ElementNumberOfChannels", 1)
    if components < 1:
        raise FormatError(header.path, "ElementNumberOfChannels", f"{components} is no number of channels")
    if components == 1:
        return sizes, tracked.limit_space(roles)
    colour = components in (3, 4) and header.fields.get("ElementType") == "MET_UCHAR"
    role = "series" if components > tracked.MOST_COMPONENTS else "colour" if colour else "vector"
    return (components, *sizes), tracked.limit_space((role, *roles))


def _block(header: Header, layout: tracked.Roles) -> Block:
    """Return where the samples lie."""
    path, said = header.path, header.fields.get("ElementType", "")
    if said not in meta_header.TYPES:
        raise FormatError(path, "ElementType", f"'{said[:40]}' is no type of samples that is read")
    big = header.flag("BinaryDataByteOrderMSB") or header.flag("ElementByteOrderMSB")
    dtype = (">" if big else "<") + meta_header.TYPES[said]
    name = header.fields.get("ElementDataFile", "")
    local = name.upper() == "LOCAL"
    if name.upper().startswith("LIST") or "%" in name:
        raise FormatError(path, "ElementDataFile", "the samples are in several files", "join them with SimpleITK")
    data = path if local else volume.neighbour(path, name)
    text = "BinaryData" in header.fields and not header.flag("BinaryData")
    packed = header.flag("CompressedData")
    held = header.number("CompressedDataSize", -1) if packed else -1
    made = Block(
        data, layout.sizes, dtype, layout.places, offset=header.size if local else 0,
        held=held if held > 0 else -1, codec="zlib" if packed else "ascii" if text else "raw", spatial=layout.spatial,
    )  # fmt: skip
    skip = 0 if local else header.number("HeaderSize", 0)
    if skip == -1:
        skip = max(0, data.stat().st_size - made.nbytes)
    if skip < 0:
        raise FormatError(path, "HeaderSize", f"{skip} is no number of bytes to skip")
    return Block(
        data, made.sizes, dtype, made.places, offset=made.offset + skip, held=made.held, codec=made.codec,
        spatial=layout.spatial,
    )  # fmt: skip


def _describe(header: Header, layout: tracked.Roles, block: Block) -> Description:
    dtype = np.dtype(block.dtype).newbyteorder("=").name
    first = 1 if header.number("ElementNumberOfChannels", 1) > 1 else 0  # components have no place in space
    count = header.number("NDims", 0)
    name = "ElementSpacing" if "ElementSpacing" in header.fields else "ElementSize"
    steps = header.numbers(name, count) if name in header.fields else (1.0,) * count
    facts: dict[str, Any] = {}
    if layout.volume:
        facts |= space.facts(_affine(header, steps))
    spacing: list[float | None] = [abs(steps[p - first]) or None for p in layout.spaces]
    if layout.series:
        spacing.append(None)
    return Description(
        format="metaimage",
        shape=layout.shape,
        axes=layout.names,
        dtype=dtype,
        kind=layout.kind,
        spacing=tuple(spacing),
        units=("mm",) * layout.spatial + ((None,) if layout.series else ()),
        slope=tracked.scale(layout.kind, dtype, layout.volume),
        slab=block.slab,
        notes=tuple(volume.notes(block)),
        out_dtype=tracked.default_type(dtype, layout.volume),
        acquisition=facts | tracked.facts(header.fields),
        witnesses={
            "dim": layout.dim,
            "modality": header.fields.get("Modality", ""),
            **tracked.witnesses(header.fields),
        },
    )


def _affine(header: Header, steps: tuple[float, ...]) -> space.Affine | None:
    """Return the affine of the first three axes; what is not said is what ITK takes for it."""
    count = len(steps)
    rows = next((header.numbers(n, count * count) for n in MATRIX if n in header.fields), tuple(np.eye(count).ravel()))
    origin = next((header.numbers(n, count) for n in ORIGIN if n in header.fields), (0.0,) * count)
    directions = [[v * steps[i] for v in rows[i * count : i * count + 3]] for i in range(3)]
    return space.affine(directions, origin[:3], "LPS")


def _lines(description: Description, order: list[int], code: str) -> list[tuple[str, str]]:
    """Return the lines of a new header."""
    colour = description.axes[-1] == "channel"
    inside = order[1:] if colour else order
    count = len(inside)
    known = [*description.spacing, *[None] * len(order)]
    steps = [float(known[d] or 1.0) for d in inside]
    matrix, origin = np.eye(count), np.zeros(count)
    affine = description.acquisition.get("affine")
    if affine is not None and description.spatial == 3:
        vectors, first = space.vectors(affine, "LPS")
        matrix[:3, :3], origin[:3] = space.unit(vectors), first
        steps[:3] = [float(v) for v in np.linalg.norm(vectors, axis=1)]
    kinds = [tracked.KINDS.get(description.axes[d], "domain") for d in inside]
    sizes = [str(description.shape[d]) for d in inside]
    return [
        ("ObjectType", "Image"),
        ("NDims", str(count)),
        ("BinaryData", "True"),
        ("BinaryDataByteOrderMSB", "False"),
        ("CompressedData", "False"),
        ("TransformMatrix", " ".join(space.text(v) for v in matrix.ravel())),
        ("Offset", " ".join(space.text(v) for v in origin)),
        ("CenterOfRotation", " ".join(["0"] * count)),
        ("ElementSpacing", " ".join(space.text(v) for v in steps)),
        ("DimSize", " ".join(sizes)),
        *([("Kinds", " ".join(kinds))] if "list" in kinds else []),
        *([("ElementNumberOfChannels", str(description.shape[-1]))] if colour else []),
        ("ElementType", code),
        ("ElementDataFile", "LOCAL"),
    ]
