# SPDX-License-Identifier: Apache-2.0
"""FreeSurfer volumes: ``.mgh`` and gzip-ed ``.mgz``; the header kept, and what follows the samples byte for byte.

Format: surfer.nmr.mgh.harvard.edu/fswiki/FsTutorial/MghFormat. Everything is big-endian.
"""

from __future__ import annotations

import io
import math
import zlib
from pathlib import Path
from typing import Any

from pellucid.core.errors import FormatError
from pellucid.core.lazy import np
from pellucid.core.types import Description, FormatTraits, Reader, Writer
from pellucid.formats import space, tracked, volume, volume_private, volume_write
from pellucid.formats.volume import Block, VolumeReader

FORMAT = FormatTraits(
    name="mgz",
    title="FreeSurfer MGH",
    suffixes=(".mgz", ".mgh", ".mgh.gz"),
    integers="float32",
    keeps="every header byte but the type, and the footer (TR, flip angle, TE, TI, tags) byte for byte",
)
GZIP = b"\x1f\x8b"
START = 284  # first byte of the samples
TYPES = {0: "u1", 1: "i4", 3: "f4", 4: "i2", 10: "u2"}  # mri.h MRI_UCHAR ...
CODES = {"uint8": "0", "int32": "1", "float32": "3", "int16": "4", "uint16": "10"}
anonymise = volume_private.mgz


def recognise(head: bytes, name: str) -> float:
    """Return how certain the first bytes are to be ours, 0 to 1: a version, a type, plausible sizes."""
    if head[:2] == GZIP:
        try:
            head = zlib.decompressobj(wbits=31).decompress(head, START)
        except zlib.error:
            return 0.0
    words = [int.from_bytes(head[i : i + 4], "big", signed=True) for i in range(0, 24, 4)]
    if len(head) < 30 or words[0] & 0xFF != 1 or words[0] >> 16 or min(words[1:5]) < 1 or words[5] not in TYPES:
        return 0.0
    return 0.95 if name.lower().endswith(FORMAT.suffixes) else 0.6


def open(path: Path, **hints: Any) -> MgzReader:
    """Read the header; the samples stay where they are.

    Raises
    ------
    FormatError
        Inconsistent, cut short, or a type no measurement has.
    """
    path = Path(path)
    with path.open("rb") as file:
        head = file.read(START)
    packed = head[:2] == GZIP
    if packed:
        try:
            head = b"".join(volume.unpack(Block(path, (1,), "u1", (0,), codec="gzip"), START))
        except (OSError, zlib.error) as error:
            raise FormatError(path, "gzip", f"is damaged ({error})", "copy it again") from None
    if len(head) < START:
        raise FormatError(path, "header", "ends early", "copy it again")
    header = _header(head)
    dims = tuple(int(n) for n in header["dims"])
    code = int(header["type"])
    if code not in TYPES or int(header["version"]) & 0xFF != 1:
        raise FormatError(path, "type", f"code {code} is no type of samples that is read")
    good = head[28:30] == b"\0\1"  # nibabel would fill in a default place
    sizes = dims if dims[3] != 1 else dims[:3]
    block = Block(path, sizes, ">" + TYPES[code], tuple(range(len(sizes))), skip=START, codec=_codec(packed))
    return MgzReader(path, block, _describe(header, block, good), head)


class MgzReader(VolumeReader):
    """An open FreeSurfer volume; header and footer stay verbatim."""

    def __init__(self, path: Path, block: Block, description: Description, head: bytes) -> None:
        super().__init__(path, block, description)
        self.head = head


def splice(path: Path, source: Reader, output: Description) -> Writer:
    """Start the same file with other samples; only the header's type may differ."""
    if not isinstance(source, MgzReader) or tuple(output.shape) != source.description.shape:
        return compose(path, output)
    code = int(volume_write.code_of(path, output.dtype, CODES, "type"))
    head = source.head[:20] + code.to_bytes(4, "big") + source.head[24:]
    return _writer(path, output, head, source.tail())


def compose(path: Path, description: Description) -> Writer:
    """Start a new file; ``acquisition["affine"]`` gives its place, ``repetition_s`` and ``echo_s`` the footer."""
    if np.any(np.asarray(description.slope) != 1) or np.any(np.asarray(description.inter) != 0):
        raise FormatError(path, "type", "has no scale", "choose --out-dtype float32")
    code = volume_write.code_of(path, description.dtype, CODES, "type")
    header = _header(bytes(START))
    shape = (*description.shape, 1)[:4]
    header["version"], header["type"], header["dims"] = 1, int(code), shape
    header["delta"] = [s or 1.0 for s in description.spacing[:3]] or 1.0
    affine = description.acquisition.get("affine")
    header["goodRASFlag"] = int(affine is not None)
    if affine is not None:
        steps, origin = space.vectors(affine)
        header["delta"] = np.linalg.norm(steps, axis=1)
        header["Mdc"] = space.unit(steps)  # one row an axis
        header["Pxyz_c"] = steps.T @ (np.array(shape[:3]) / 2) + origin  # of the centre
    facts = description.acquisition
    header["tr"] = 1e3 * float(facts.get("repetition_s") or 0)
    header["te"] = 1e3 * float(facts.get("echo_s") or 0)
    head, foot = io.BytesIO(), io.BytesIO()
    header.writehdr_to(head)
    header.writeftr_to(foot)
    start = head.getvalue()[:START].ljust(START, b"\0")
    return _writer(path, description, start, foot.getvalue()[-20:])


def _writer(path: Path, output: Description, head: bytes, tail: bytes) -> Writer:
    packed = path.name.lower().endswith(("z", ".gz"))
    dtype = np.dtype(output.dtype).newbyteorder(">").str
    block = Block(path, tuple(output.shape), dtype, tuple(range(len(output.shape))), codec=_codec(packed))
    return volume_write.VolumeWriter(block, volume_write.Target(lambda size: head, tail=tail, wrapped=packed))


def _codec(packed: bool) -> volume.Codec:
    return "gzip" if packed else "raw"


def _header(head: bytes) -> Any:
    """Return nibabel's header over the first bytes; unchecked, so nothing is repaired."""
    from nibabel.freesurfer.mghformat import MGHHeader

    size = MGHHeader.template_dtype.itemsize
    return MGHHeader(head[:size].ljust(size, b"\0")[: size - 20] + bytes(20), check=False)


def _describe(header: Any, block: Block, good: bool) -> Description:
    dtype = np.dtype(block.dtype).newbyteorder("=").name
    steps = [abs(float(v)) if math.isfinite(v) and v else None for v in header["delta"]]
    found = None
    if good:
        turn, centre = np.array(header["Mdc"], float), np.array(header["Pxyz_c"], float)
        rows = turn * np.array([s or 1.0 for s in steps])[:, None]
        middle = np.array(block.shape[:3]) / 2
        found = space.affine(rows.tolist(), (centre - rows.T @ middle).tolist())
    notes = [] if found else [("no-orientation", "its header says that its orientation is not known")]
    return Description(
        format="mgz",
        shape=block.shape,
        axes=("x", "y", "z", "volume")[: len(block.places)],
        dtype=dtype,
        spacing=(*steps, None)[: len(block.places)],
        units=("mm", "mm", "mm", None)[: len(block.places)],
        slab=2,
        out_dtype=tracked.default_type(dtype, True),
        acquisition=space.facts(found),
        witnesses={"dim": block.shape, "type": int(header["type"])},
        notes=tuple(notes),
    )
