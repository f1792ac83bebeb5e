# SPDX-License-Identifier: Apache-2.0
"""zea's HDF5 files: raw channel data, beamformed samples, envelopes and images of cines.

Data sets keep frames first: ``raw_data`` (frame, transmit, time, element, 1 or 2), ``beamformed_data``
(frame, z, x, 1 or 2), ``envelope_data`` and ``image`` (frame, z, x), in ``data/`` or in ``tracks/*/data/``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pellucid.core.errors import FormatError, UsageError
from pellucid.core.lazy import np
from pellucid.core.types import Description, FormatTraits, Reader
from pellucid.formats import echoes, hdf5_tree
from pellucid.formats.hdf5_private import anonymise as anonymise

FORMAT = FormatTraits(
    name="zea",
    title="zea data (HDF5)",
    suffixes=(".hdf5", ".h5"),
    writes=("splice",),
    keeps="everything but the chosen data set, byte for byte",
)

FIVE = ("raw_data", "aligned_data")
NAMES = ("raw_data", "beamformed_data", "envelope_data", "image", "image/values", "aligned_data")
KINDS = {"envelope_data": "envelope", "image": "bmode", "image/values": "bmode"}
splice = echoes.splice


def recognise(head: bytes, name: str) -> float:
    """Return how certain it is: HDF5 with zea's data and scan."""
    if not hdf5_tree.is_hdf5(head):
        return 0.0
    names = hdf5_tree.names(Path(name))
    marked = any(n.startswith("scan/") or "/scan/" in n for n in names)
    return 0.96 if _sets(names) and (marked or any(n.startswith("probe/") for n in names)) else 0.0


def open(path: Path, *, key: str | None = None, **hints: Any) -> Reader:
    """Open one of the data sets: the rawest there is, or the one ``key`` names.

    Raises
    ------
    FormatError, UsageError
        None of zea's data sets, or of another number of axes.
    """
    path = Path(path)
    names = hdf5_tree.names(path)
    found = _sets(names)
    if key is not None:
        found = [n for n in found if n == key.strip("/") or n.endswith(f"data/{key}")]
    if not found:
        raise UsageError(f"has no data set {key or 'of zea'}", path, f"sets in it: {', '.join(_sets(names)) or 'none'}")
    name = found[0]
    base, _, last = name.rpartition("data/")
    shape = names[name][0]
    wanted = (5,) if last in FIVE else ((3, 4) if last == "beamformed_data" else (3,))
    if len(shape) not in wanted or (len(shape) > 3 and shape[-1] not in (1, 2)):
        raise FormatError(path, name, f"has shape {shape}, which is none of zea's")
    facts = _facts(path, f"{base}scan/", names)
    turns = hdf5_tree.vector(path, f"{base}scan/polar_angles")
    if last not in FIVE and "angles_rad" not in facts and len(turns) == shape[2] > 1:
        facts["line_angles_rad"] = turns  # one focused transmit a line
    made, part = _part(name, last, shape, facts)
    return echoes.EchoReader(path, (part,), made)


def _sets(names: hdf5_tree.Names) -> list[str]:
    """Return the data sets that can be opened, rawest first."""
    return [n for last in NAMES for n in sorted(names) if n == f"data/{last}" or n.endswith(f"/data/{last}")]


def _part(name: str, last: str, shape: tuple[int, ...], facts: dict[str, Any]) -> tuple[Description, echoes.Part]:
    """Return what the data set is and how it is turned."""
    if last in FIVE:
        pair = 4 if shape[4] == 2 else None
        facts["waves"] = shape[1]
        if pair is None:
            facts.pop("demodulation_hz", None)
        made = Description("zea", (), ("time", "element"), "", "channel", acquisition=facts, witnesses={"key": name})
        return made, echoes.Part(name, (2, 3, 0, 1), pair=pair)
    complex_samples = len(shape) == 4 and shape[3] == 2
    kind = KINDS.get(last) or ("iq" if complex_samples else "rf")
    axes = ("y", "x") if kind == "bmode" else ("axial", "lateral")
    made = Description("zea", (), axes, "", kind, acquisition=facts, witnesses={"key": name})
    return made, echoes.Part(name, (1, 2, 0), pair=3 if complex_samples else None)


def _facts(path: Path, scan: str, names: hdf5_tree.Names) -> dict[str, Any]:
    """Return the acquisition: scalars, plane-wave angles where every focus lies at infinity, elements."""
    facts: dict[str, Any] = {}
    for key, field in (
        ("fs_hz", "sampling_frequency"), ("fc_hz", "center_frequency"), ("c_m_s", "sound_speed"),
        ("demodulation_hz", "demodulation_frequency"),
    ):  # fmt: skip
        value = echoes.single(path, scan + field)
        if value:
            facts[key] = value
    starts = hdf5_tree.vector(path, scan + "initial_times")
    if starts:
        facts["t0_s"] = starts[0]
    distances = hdf5_tree.vector(path, scan + "focus_distances")
    plane = not distances or all(d == 0 or not np.isfinite(d) for d in distances)
    angles = hdf5_tree.vector(path, scan + "polar_angles")
    if angles and plane:
        facts |= {"angles_rad": angles, "wave_origin": "first"}
    geometry = f"{scan.removesuffix('scan/')}probe/probe_geometry"
    geometry = geometry if geometry in names else scan + "probe_geometry"
    shape = names.get(geometry, ((), ""))[0]
    if len(shape) == 2 and shape[1] == 3:
        places = hdf5_tree.vector(path, geometry)
        facts["element_x_mm"] = [v * 1e3 for v in places[0::3]]
    step = hdf5_tree.vector(path, scan + "time_to_next_transmit")
    if step and len(step) > 1:
        facts["prf_hz"] = 1 / step[0] if step[0] > 0 else None
    return {k: v for k, v in facts.items() if v is not None}
