# SPDX-License-Identifier: Apache-2.0
"""Ultrasound channel data in MATLAB files, level 5 and 7.3: an array of echoes and a structure of parameters.

``RF`` or ``IQ`` of samples x elements (x frames) beside ``param`` with ``fs``, ``fc``, ``pitch`` ..., as MUST and
PyMUST keep them. The array's bytes are replaced, everything else is carried as it is.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid.core.errors import FormatError, UsageError
from pellucid.core.lazy import np
from pellucid.core.types import Description, FormatTraits, Reader, Region, Writer
from pellucid.formats import archive_private, echoes, hdf5_tree, mat, mat5

if TYPE_CHECKING:
    from pellucid.core.types import Array

FORMAT = FormatTraits(
    name="mat_us",
    title="MATLAB channel data (.mat, level 5 and 7.3, with param)",
    suffixes=(".mat",),
    writes=("splice",),
    keeps="every other variable byte for byte, and whether the array is compressed",
)

ARRAYS = ("RF", "IQ", "SIG", "RFDATA", "IQDATA")  # names of the echoes in files of MUST
STRUCTURE = "param"
OTHER = ("record", "object", "text")  # types that are no real samples: complex ones of 7.3 are records
LARGEST_PARAM = 1 << 16  # bytes of a structure worth decoding; packed, it may grow a thousandfold
NAMES = {
    "fs": ("fs_hz", 1.0), "fc": ("fc_hz", 1.0), "c": ("c_m_s", 1.0), "PRF": ("prf_hz", 1.0), "t0": ("t0_s", 1.0),
    "pitch": ("pitch_mm", 1e3), "width": ("width_mm", 1e3), "bandwidth": ("bandwidth", 0.01),
    "Nelements": ("elements", 1),
}  # fmt: skip
anonymise = archive_private.mat


def recognise(head: bytes, name: str) -> float:
    """Return how certain it is: a level 5 file that holds echoes and their parameters."""
    if hdf5_tree.is_hdf5(head):
        return 0.97 if _echoes73(hdf5_tree.names(Path(name)), None) else 0.0
    if head[126:128] not in (b"IM", b"MI") or head[124:126] not in (b"\x00\x01", b"\x01\x00"):
        return 0.0
    try:
        _, items = mat5.listing(Path(name))
    except (FormatError, OSError):
        return 0.0
    names = {v.name for v in items}
    has = STRUCTURE in names and any(v.dtype and v.name.upper() in ARRAYS for v in items)
    return 0.97 if has else 0.0  # just above the cubes of `mat`


def open(path: Path, *, key: str | None = None, **hints: Any) -> Reader:
    """Open the echoes; ``key`` names another array.

    Raises
    ------
    FormatError, UsageError
        No such array, or parameters that make no sense.
    """
    path = Path(path)
    return _open73(path, key) if mat.is_hdf5(path) else MatEchoes(path, key)


def _echoes73(found: hdf5_tree.Names, key: str | None) -> list[str]:
    """Return the arrays of a 7.3 file that may be echoes; none where there are no parameters beside."""
    if f"{STRUCTURE}/fs" not in found:
        return []
    fits = [n for n, (shape, kind) in found.items() if len(shape) in (2, 3) and "/" not in n and kind not in OTHER]
    return [n for n in fits if n == key or (key is None and n.upper() in ARRAYS)]


def _open73(path: Path, key: str | None) -> Reader:
    """Open the echoes of a 7.3 file, whose axes are stored in reverse."""
    found = hdf5_tree.names(path)
    named = _echoes73(found, key)
    if not named:
        have = ", ".join(f"{n} {s[::-1]}" for n, (s, _) in found.items() if len(s) in (2, 3) and "/" not in n) or "none"
        raise UsageError(f"has no real echoes named {key or 'RF'} beside param", path, f"arrays in it: {have}")
    shape = found[named[0]][0][::-1]
    facts: dict[str, Any] = {}
    for name, (field, factor) in NAMES.items():
        value = echoes.single(path, f"{STRUCTURE}/{name}") if f"{STRUCTURE}/{name}" in found else None
        if value is not None:
            facts[field] = value * factor
    if "elements" in facts and int(facts["elements"]) != shape[1]:
        raise FormatError(path, STRUCTURE, f"counts {facts['elements']:.0f} elements, the array {shape[1]}")
    delays = hdf5_tree.vector(path, f"{STRUCTURE}/TXdelay") if f"{STRUCTURE}/TXdelay" in found else []
    if delays and max(delays) > min(delays):
        facts["steered"] = True
    pitch = facts.get("pitch_mm")
    made = Description(
        "mat_us", (), ("time", "element"), "", "channel", spacing=(None, pitch),
        units=(None, "mm" if pitch else None), acquisition=facts, witnesses={"key": named[0]},
    )  # fmt: skip
    return echoes.EchoReader(path, (echoes.Part(named[0], tuple(range(len(shape) - 1, -1, -1))),), made)


class MatEchoes:
    """Samples as (time, element[, frame]); decoded once, at the first read."""

    def __init__(self, path: Path, key: str | None) -> None:
        self.path = path
        self.order, items = mat5.listing(path)
        arrays = [v for v in items if v.dtype and len(v.shape) in (2, 3) and math.prod(v.shape) > 1]
        named = [v for v in arrays if v.name == key or (key is None and v.name.upper() in ARRAYS)]
        if not named:
            have = ", ".join(f"{v.name} {v.shape}" for v in arrays) or "none"
            raise UsageError(f"has no echoes named {key or 'RF or IQ'}", path, f"arrays in it: {have}")
        self.item = named[0]
        if any(v.name == STRUCTURE and v.size > LARGEST_PARAM for v in items):
            raise FormatError(path, STRUCTURE, "is larger than any set of parameters")
        self._whole: Array | None = None
        self.facts = _parameters(path)
        self.description = self._describe()

    @property
    def variable(self) -> Any:
        """The array as `mat.MatWriter` asks for it."""
        return mat.Found(self.item.name, self.item.shape, self.item.dtype, self.item)

    @property
    def cube(self) -> mat.Cube:
        """The array's layout: file order, slowest first."""
        shape = (*self.item.shape, 1)[:3]
        return mat.Cube((shape[2], shape[1], shape[0]), (2, 1, 0))

    hdf5 = False

    def read(self, region: Region) -> Array:
        """Return stored samples."""
        if self._whole is None:
            flat = mat5.values(self.path, self.order, self.item)
            self._whole = flat.reshape(self.item.shape[::-1]).T
        return self._whole[region].copy()

    def close(self) -> None:
        """Forget the samples."""
        self._whole = None

    def _describe(self) -> Description:
        shape, dtype = tuple(self.item.shape), np.dtype(self.item.dtype)
        facts = dict(self.facts)
        if "elements" in facts and int(facts["elements"]) != shape[1]:
            raise FormatError(self.path, STRUCTURE, f"counts {facts['elements']:.0f} elements, the array {shape[1]}")
        return Description(
            format="mat_us",
            shape=shape,
            axes=("time", "element", "frame")[: len(shape)],
            dtype=dtype.name,
            kind="channel",
            spacing=(None, facts.get("pitch_mm"), None)[: len(shape)],
            units=(None, "mm" if "pitch_mm" in facts else None, None)[: len(shape)],
            out_dtype=dtype.name,
            acquisition=facts,
            witnesses={"key": self.item.name},
        )


def _parameters(path: Path) -> dict[str, Any]:
    """Return the numbers of ``param``; steered transmits (delays that differ) are said, not guessed."""
    from scipy.io import loadmat

    try:
        found = loadmat(path, variable_names=[STRUCTURE], simplify_cells=True).get(STRUCTURE)
    except Exception as error:  # scipy raises many kinds on damaged structures
        raise FormatError(path, STRUCTURE, " ".join(f"cannot be read ({error})".split())[:200]) from None
    if not isinstance(found, dict):
        raise FormatError(path, STRUCTURE, "is no structure", "name a cube's field instead")
    facts: dict[str, Any] = {}
    for name, (key, factor) in NAMES.items():
        value = np.asarray(found.get(name, np.nan), dtype=object)
        number = value.ravel()[0] if value.size else np.nan
        if isinstance(number, int | float | np.number) and math.isfinite(float(number)):
            facts[key] = float(number) * factor
    delays = found.get("TXdelay")
    if isinstance(delays, np.ndarray) and delays.dtype.kind in "iuf" and delays.size and np.ptp(delays):
        facts["steered"] = True
    return facts


def splice(path: Path, source: Reader, output: Description) -> Writer:
    """Write the same file with other echoes."""
    if isinstance(source, echoes.EchoReader):
        return echoes.splice(path, source, output)
    if not isinstance(source, MatEchoes):
        raise FormatError(path, "format", "is only written from channel data of this kind", "name the output .npy")
    flat: Any = source
    return mat.MatWriter(Path(path), output, flat)
