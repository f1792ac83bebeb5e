# SPDX-License-Identifier: Apache-2.0
"""The header block of NIfTI-1, NIfTI-2 and Analyze 7.5: found, checked, and said in neutral words.

Samples lie in Fortran order: x fastest, then y, z, and everything behind as one volume axis.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pellucid.core.errors import FormatError
from pellucid.core.lazy import np
from pellucid.core.types import Description
from pellucid.formats.spool import DEFLATE_MOST, inflate

Version = Literal["nifti1", "nifti2", "analyze"]

CODES = {  # datatype code -> NumPy name, nifti1.h
    2: "uint8", 4: "int16", 8: "int32", 16: "float32", 32: "complex64", 64: "float64",
    256: "int8", 512: "uint16", 768: "uint32", 1024: "int64", 1280: "uint64", 1792: "complex128",
}  # fmt: skip
COLOURS = {128: 3, 2304: 4}  # RGB24, RGBA32: bytes a sample
SPACE_UNITS = {1: "m", 2: "mm", 3: "um"}
TIME_SECONDS = {8: 1.0, 16: 1e-3, 24: 1e-6}
LABEL, MATRICES, VECTORS = 1002, (1004, 1005), (1003, 1006, 1007, 1008, 1009)  # nifti1.h NIFTI_INTENT_*
VECTOR_LENGTHS = (2, 3, 6)  # warps and tensors stored as (x, y, z, 1, n)
ORDERS: tuple[tuple[Literal["<", ">"], Literal["little", "big"]], ...] = (("<", "little"), (">", "big"))
GZIP = b"\x1f\x8b"
SIZES: dict[int, Version] = {348: "nifti1", 540: "nifti2"}


@dataclass(frozen=True)
class Layout:
    """Where the samples lie and what surrounds them.

    Parameters
    ----------
    block : bytes
        The header, verbatim. ``endian`` is ``"<"`` or ``">"``.
    header_path, data_path : Path
        The same but for pairs.
    offset : int
        First byte of the samples in ``data_path`` (decompressed).
    shape : tuple of int
        Always (x, y, z, volumes).
    itemsize : int
        Bytes a sample.
    """

    block: bytes
    endian: Literal["<", ">"]
    version: Version
    header_path: Path
    data_path: Path
    gzipped: bool
    offset: int
    shape: tuple[int, int, int, int]
    itemsize: int
    dtype: str

    @property
    def pair(self) -> bool:
        """Whether header and samples are two files."""
        return self.header_path != self.data_path

    @property
    def size(self) -> int:
        """Bytes from the start of the (decompressed) data file to the end of the samples."""
        return self.offset + math.prod(self.shape) * self.itemsize

    def header(self) -> Any:
        """Return a fresh nibabel header over the verbatim block; unchecked, so nothing is repaired."""
        return header_of(self.block, self.version, self.endian)


def header_of(block: bytes, version: Version, endian: str) -> Any:
    """Return a nibabel header over ``block``."""
    from nibabel.analyze import AnalyzeHeader
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    kinds: dict[str, Any] = {"nifti1": Nifti1Header, "nifti2": Nifti2Header, "analyze": AnalyzeHeader}
    return kinds[version](block, endianness=endian, check=False)


def sniff(head: bytes) -> tuple[Version, Literal["<", ">"], bool] | None:
    """Return (version, byte order, samples in the same file) of decompressed first bytes, or None."""
    for endian, order in ORDERS:
        version = SIZES.get(int.from_bytes(head[:4], order))
        if version == "nifti2" and head[4:8] in (b"n+2\0", b"ni2\0"):
            return "nifti2", endian, head[5:6] == b"+"
        if version == "nifti1" and len(head) >= 348:
            if head[344:348] in (b"n+1\0", b"ni1\0"):
                return "nifti1", endian, head[345:346] == b"+"
            if 1 <= int.from_bytes(head[40:42], order) <= 7:
                return "analyze", endian, False
    return None


def start(path: Path, count: int) -> tuple[bytes, bool]:
    """Return the first ``count`` decompressed bytes and whether the file is gzip-ed."""
    with path.open("rb") as file:
        head = file.read(count)
    if head[:2] != GZIP:
        return head, False
    try:
        return b"".join(inflate(path, count)), True
    except (OSError, zlib.error) as error:
        raise FormatError(path, "gzip", f"is damaged ({error})", "copy it again") from None


def inflated_head(head: bytes) -> bytes:
    """Return what the first bytes of a gzip stream decompress to, as far as they reach."""
    try:
        return zlib.decompressobj(wbits=31).decompress(head, 4096)
    except zlib.error:
        return b""


def load(path: Path) -> Layout:
    """Find header and samples of ``path`` and check every size before anything is allocated.

    Raises
    ------
    FormatError
        Empty, truncated, inconsistent, or a datatype no measurement has.
    """
    header_path, data_path = partners(path)
    head, zipped = start(header_path, 540)
    found = sniff(head)
    if not head:
        raise FormatError(header_path, "", "is empty", "copy it again")
    if found is None or (found[0] == "nifti2" and len(head) < 540):
        what = "ends inside the header" if len(head) < 348 or found else "is not NIfTI or Analyze"
        raise FormatError(header_path, "header", what, "copy it again")
    version, endian, single = found
    if single:
        data_path = header_path
    block = head[: 540 if version == "nifti2" else 348]
    header = header_of(block, version, endian)
    shape = _shape(header_path, header)
    dtype, itemsize = _sample(header_path, header)
    gzipped = zipped if single else _is_gzip(data_path)
    layout = Layout(
        block, endian, version, header_path, data_path, gzipped,
        _offset(header_path, header, single, version), shape, itemsize, dtype,
    )  # fmt: skip
    _check_size(layout)
    return layout


def partners(path: Path) -> tuple[Path, Path]:
    """Return header and data file of a path; the same path twice for single files."""
    for one, other in ((".hdr", ".img"), (".HDR", ".IMG")):
        for zipped in ("", ".gz"):
            if path.name.endswith(one + zipped):
                return path, _sibling(path, one + zipped, other)
            if path.name.endswith(other + zipped):
                return _sibling(path, other + zipped, one), path
    return path, path


def _sibling(path: Path, suffix: str, wanted: str) -> Path:
    stem = path.name[: -len(suffix)]
    for candidate in (path.with_name(stem + wanted), path.with_name(stem + wanted + ".gz")):
        if candidate.exists():
            return candidate
    raise FormatError(path, "", f"its other half {stem + wanted} is missing", "keep .hdr and .img together")


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == GZIP


def _shape(path: Path, header: Any) -> tuple[int, int, int, int]:
    dims = [int(n) for n in header["dim"]]
    if not 1 <= dims[0] <= 7:
        raise FormatError(path, "dim[0]", f"says {dims[0]} axes, 1 to 7 are possible")
    sizes = dims[1 : 1 + dims[0]]
    if any(n < 1 for n in sizes):
        raise FormatError(path, "dim", f"has an axis without samples: {tuple(sizes)}")
    sizes += [1] * (4 - len(sizes))
    return sizes[0], sizes[1], sizes[2], math.prod(sizes[3:])


def _sample(path: Path, header: Any) -> tuple[str, int]:
    code, bits = int(header["datatype"]), int(header["bitpix"])
    if code in COLOURS:
        return "uint8", COLOURS[code]
    if code not in CODES:
        raise FormatError(path, "datatype", f"code {code} is no type this format can hold measurements in")
    itemsize = np.dtype(CODES[code]).itemsize
    if bits not in (0, 8 * itemsize):
        raise FormatError(path, "bitpix", f"{bits} bits do not fit datatype {CODES[code]}")
    return CODES[code], itemsize


def _offset(path: Path, header: Any, single: bool, version: Version) -> int:
    value = float(header["vox_offset"])
    least = (544 if version == "nifti2" else 352) if single else 0
    if not math.isfinite(value) or value < 0 or value != int(value):
        raise FormatError(path, "vox_offset", f"{value} is no position in a file")
    return max(int(value), least)  # writers that leave 0 mean "right behind the header"


def _check_size(layout: Layout) -> None:
    have = layout.data_path.stat().st_size
    if layout.gzipped:
        have = have * DEFLATE_MOST + 64  # what could be inside at the very most
    if have < layout.size:
        raise truncated(layout, have)


def truncated(layout: Layout, have: int) -> FormatError:
    """Return the error of a file that holds only ``have`` bytes of what its header promises."""
    x, y, z, volumes = layout.shape
    whole, name = (volumes, "volumes") if volumes > 1 else (z, "slices")
    part = max(0, have - layout.offset) // (x * y * layout.itemsize * (z if volumes > 1 else 1))
    return FormatError(layout.data_path, "", f"ends after {part} of {whole} {name}", "copy it again")


def describe(layout: Layout, sidecar: Mapping[str, Any], acquisition: Mapping[str, Any]) -> Description:
    """Say a header in neutral words; ``sidecar`` is the merged JSON, ``acquisition`` what companions know."""
    header = layout.header()
    shape = layout.shape if layout.shape[3] > 1 else layout.shape[:3]
    slope, inter = scaling(header, layout)
    notes = list(_notes(header, layout))
    spacing, units, repetition = _steps(header, layout.version)
    facts: dict[str, Any] = {"orientation": _orientation(header, layout), "affine": _affine(header, layout)}
    facts |= {"repetition_s": repetition} if repetition and len(shape) == 4 else {}
    return Description(
        format="nifti",
        shape=shape,
        axes=("x", "y", "z", "volume")[: len(shape)],
        dtype=layout.dtype,
        kind=_kind(header, layout),
        spacing=(*spacing, repetition)[: len(shape)],
        units=(*units, "s")[: len(shape)],
        slope=slope,
        inter=inter,
        slab=2,
        out_dtype="float32" if np.dtype(layout.dtype).kind in "iu" else layout.dtype,
        acquisition={**facts, **acquisition},
        witnesses=_witnesses(header, layout, sidecar),
        notes=tuple(notes),
    )


def scaling(header: Any, layout: Layout) -> tuple[float, float]:
    """Return slope and intercept; 0 or NaN mean "none" (nifti1.h)."""
    if int(header["datatype"]) in COLOURS:
        return 1.0, 0.0
    if layout.version == "analyze":  # SPM keeps a scale where Analyze has an unused float
        slope, inter = float(np.frombuffer(layout.block[112:116], layout.endian + "f4")[0]), 0.0
    else:
        slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    if not math.isfinite(slope) or slope == 0:
        return 1.0, 0.0
    return slope, inter if math.isfinite(inter) else 0.0


def _kind(header: Any, layout: Layout) -> str:
    if int(header["datatype"]) in COLOURS:
        return "rgb"
    intent = 0 if layout.version == "analyze" else int(header["intent_code"])
    dims = [int(n) for n in header["dim"]]
    warp = dims[0] >= 5 and dims[4] == 1 and dims[5] in VECTOR_LENGTHS
    if intent in (*MATRICES, *VECTORS) or warp:
        return "vector"
    if intent == LABEL:
        return "labels"
    return "complex" if layout.dtype.startswith("complex") else "unknown"


def _steps(header: Any, version: Version) -> tuple[tuple[float | None, ...], tuple[str | None, ...], float | None]:
    pixdim = [float(v) for v in header["pixdim"]]
    code = 0 if version == "analyze" else int(header["xyzt_units"])
    steps = tuple(abs(v) if math.isfinite(v) and v != 0 else None for v in pixdim[1:4])
    unit = SPACE_UNITS.get(code & 7, "mm")  # unsaid means mm everywhere in this field
    seconds = pixdim[4] * TIME_SECONDS.get(code & 56, 1.0)
    return steps, (unit,) * 3, seconds if math.isfinite(seconds) and seconds > 0 else None


def _affine(header: Any, layout: Layout) -> tuple[tuple[float, ...], ...] | None:
    if layout.version == "analyze" or not (int(header["sform_code"]) or int(header["qform_code"])):
        return None
    from nibabel.spatialimages import HeaderDataError

    try:
        with np.errstate(all="ignore"):  # numbers that are none
            affine = header.get_sform() if int(header["sform_code"]) else header.get_qform()
    except (ValueError, HeaderDataError):  # a quaternion longer than one, a handedness that is neither
        return None
    return tuple(tuple(float(v) for v in row) for row in affine)


def _orientation(header: Any, layout: Layout) -> str | None:
    from nibabel import orientations

    name: Any = orientations.aff2axcodes  # untyped
    affine = _affine(header, layout)
    if affine is None or not np.all(np.isfinite(affine)) or np.linalg.matrix_rank(np.array(affine)[:3, :3]) < 3:
        return None
    return "".join(str(code) for code in name(np.array(affine)))


def _notes(header: Any, layout: Layout) -> list[tuple[str, str]]:
    notes = []
    if layout.version == "analyze":
        notes.append(("no-orientation", "Analyze 7.5 holds no orientation: left and right are not known"))
    elif not (int(header["sform_code"]) or int(header["qform_code"])):
        notes.append(("no-orientation", "sform and qform code are both 0: the orientation is not known"))
    steps = header["pixdim"][1 : 1 + min(int(header["dim"][0]), 7)]
    odd = [i for i, v in enumerate(steps, 1) if not math.isfinite(float(v))]
    if odd:
        which = ", ".join(f"pixdim[{i}]" for i in odd)
        notes.append(("pixdim", f"{which} is not a number: it is kept as it is"))
    extra = 0 if layout.gzipped else layout.data_path.stat().st_size - layout.size
    if extra > 0:
        notes.append(("trailing-bytes", f"{extra} bytes follow the last sample: they are not copied"))
    return notes


def _witnesses(header: Any, layout: Layout, sidecar: Mapping[str, Any]) -> dict[str, Any]:
    dims = tuple(int(n) for n in header["dim"])
    image_type = sidecar.get("ImageType", ())
    return {
        "intent": 0 if layout.version == "analyze" else int(header["intent_code"]),
        "datatype": int(header["datatype"]),
        "dim": dims[1 : 1 + dims[0]],
        "header": layout.version,
        "pair": layout.pair,
        "gzip": layout.gzipped,
        "descrip": bytes(header["descrip"].tobytes()).split(b"\0")[0].decode("latin-1"),
        "ImageType": tuple(str(v) for v in image_type) if isinstance(image_type, list) else (),
        "sidecar": dict(sidecar),
    }
