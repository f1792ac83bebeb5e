# SPDX-License-Identifier: Apache-2.0
"""Ultrasound File Format of the UltraSound ToolBox (USTB), HDF5: channel data and beamformed images.

Objects are groups with an attribute ``class``; complex arrays are groups of ``real`` and ``imag``. MATLAB wrote
the axes, so they come back reversed. Only the samples of the chosen object are replaced in a copy of the file.
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
    name="uff",
    title="USTB ultrasound file format (.uff, HDF5)",
    suffixes=(".uff",),
    writes=("splice",),
    keeps="every other object of the file, byte for byte",
)

KNOWN = {"uff.channel_data": "channel", "uff.beamformed_data": "iq"}
splice = echoes.splice


def recognise(head: bytes, name: str) -> float:
    """Return how certain it is: HDF5 with an object's samples."""
    if not hdf5_tree.is_hdf5(head):
        return 0.0
    path = Path(name)
    if path.suffix.lower() == ".uff":
        return 0.97
    likely = any(n.count("/") in (1, 2) and "/data" in n for n in hdf5_tree.names(path))
    try:
        return 0.96 if likely and _objects(path) else 0.0
    except FormatError:
        return 0.0


def open(path: Path, *, key: str | None = None, **hints: Any) -> Reader:
    """Open an object; ``key`` names it where there are several.

    Raises
    ------
    FormatError, UsageError
        No channel or beamformed data, or several and no key.
    """
    path = Path(path)
    found = _objects(path)
    if key is not None and key in found:
        found = {key: found[key]}
    if not found or (key is not None and key not in found):
        raise UsageError(f"has no object {key or 'of channel or beamformed data'}", path, "see its groups with h5ls")
    chosen = [n for n, k in found.items() if k == "channel"] or list(found)
    if len(chosen) > 1:
        raise FormatError(path, "objects", f"several hold data: {', '.join(chosen)}", "name one with --key")
    name = chosen[0]
    return _channel(path, name) if found[name] == "channel" else _beamformed(path, name)


def _objects(path: Path) -> dict[str, str]:
    """Return the objects that hold data, by name: channel or iq."""
    found = {}
    for name in {n.split("/")[0] for n in hdf5_tree.names(path) if "/data" in n}:
        kind = KNOWN.get(str(hdf5_tree.attributes(path, name).get("class", "")))
        if kind:
            found[name] = kind
    return found


def _arrays(path: Path, name: str) -> tuple[str, str, tuple[int, ...]]:
    """Return the data sets of an object's samples, ``""`` for no imaginary part, and their shape."""
    found = hdf5_tree.names(path)
    for real, imag in ((f"{name}/data/real", f"{name}/data/imag"), (f"{name}/data", "")):
        if real in found:
            return real, imag if imag in found else "", found[real][0]
    raise FormatError(path, name, "holds no samples")


def _channel(path: Path, name: str) -> Reader:
    """Return a reader of ``[frame, wave,] channel, time``."""
    real, imag, shape = _arrays(path, name)
    if not 2 <= len(shape) <= 4:
        raise FormatError(path, real, f"has shape {shape}; time x channel x wave x frame are needed")
    last = len(shape) - 1
    order = (last, last - 1, *range(last - 1))  # frames slow, waves fast
    waves = shape[last - 2] if last >= 2 else 1
    facts: dict[str, Any] = {"waves": waves}
    for key, field in (
        ("fs_hz", "sampling_frequency"), ("t0_s", "initial_time"), ("c_m_s", "sound_speed"), ("prf_hz", "PRF"),
        ("demodulation_hz", "modulation_frequency"), ("fc_hz", "pulse/center_frequency"),
    ):  # fmt: skip
        value = echoes.single(path, f"{name}/{field}")
        if value:
            facts[key] = value
    facts.setdefault("t0_s", 0.0)
    if "fc_hz" not in facts and "demodulation_hz" in facts:
        facts["fc_hz"] = facts["demodulation_hz"]
    facts |= _probe(path, name, shape[last - 1])
    angles = _angles(path, name, waves)
    facts |= {"angles_rad": angles} if angles else {}
    made = Description("uff", (), ("time", "element"), "", "channel", acquisition=facts, witnesses={"key": name})
    return echoes.EchoReader(path, (echoes.Part(real, order, imag),), made)


def _probe(path: Path, name: str, channels: int) -> dict[str, Any]:
    """Return where the elements are: stored places, or a linear array's pitch."""
    shape = hdf5_tree.names(path).get(f"{name}/probe/geometry", ((), ""))[0]
    if len(shape) == 2 and shape[1] == channels:
        values = np.array(hdf5_tree.vector(path, f"{name}/probe/geometry")).reshape(shape)
        return {"element_x_mm": [float(v) * 1e3 for v in values[0]]}
    pitch = echoes.single(path, f"{name}/probe/pitch")
    return {"pitch_mm": pitch * 1e3} if pitch else {}


def _angles(path: Path, name: str, waves: int) -> list[float]:
    """Return the steering of plane waves, empty where sources lie at a finite distance or are not said."""
    angles = []
    for i in range(1, waves + 1):
        base = f"{name}/sequence/sequence_{i:04d}/source" if waves > 1 else f"{name}/sequence/source"
        far = hdf5_tree.vector(path, f"{base}/distance")
        angle = echoes.single(path, f"{base}/azimuth")
        if angle is None or (far and np.isfinite(far[0])):
            return []
        angles.append(angle)
    return angles


def _beamformed(path: Path, name: str) -> Reader:
    """Return a reader of ``[frame, wave, channel,] pixel`` on a grid whose depth runs fastest."""
    real, imag, shape = _arrays(path, name)
    x, z = (hdf5_tree.vector(path, f"{name}/scan/{axis}_axis") for axis in "xz")
    sector = not (x and z)
    if sector:
        x, z = (hdf5_tree.vector(path, f"{name}/scan/{axis}_axis") for axis in ("azimuth", "depth"))
    last, pixels = len(shape) - 1, len(x) * len(z)
    if not pixels or pixels not in (shape[last], shape[0]):
        raise FormatError(path, f"{name}/scan", f"{shape[last]} pixels lie on no grid of its axes")
    steps = tuple(float(g[-1] - g[0]) / (len(g) - 1) * 1e3 if len(g) > 1 else None for g in (z, x))
    if pixels == shape[last]:
        part = echoes.Part(real, (last + 1, last, *range(last)), imag, split=(last, (len(x), len(z))))
    else:  # pixels first, as pyuff-ustb writes beamformed data
        part = echoes.Part(real, (1, 0, *range(last + 1, 1, -1)), imag, split=(0, (len(x), len(z))))
    facts: dict[str, Any] = {}
    if sector:
        steps = (steps[0], None)
        facts |= {"line_angles_rad": list(x), "first_mm": z[0] * 1e3 + _radius(path, f"{name}/scan/origin", x)}
    frequency = echoes.single(path, f"{name}/modulation_frequency")
    if frequency:
        facts["fc_hz"] = frequency
    made = Description(
        "uff", (), ("axial", "lateral"), "", "iq" if imag else "rf", spacing=steps,
        units=("mm", "mm" if steps[1] else None), acquisition=facts, witnesses={"key": name},
    )  # fmt: skip
    return echoes.EchoReader(path, (part,), made)


def _radius(path: Path, origin: str, angles: list[float]) -> float:
    """Return how far from the apex the lines of a sector begin, mm: 0 unless each has an origin of its own."""
    if len(angles) < 2 or f"{origin}/{origin.rpartition('/')[2]}_0002/distance" not in hdf5_tree.names(path):
        return 0.0
    name = origin.rpartition("/")[2]
    found = []
    for i in range(1, len(angles) + 1):
        base = f"{origin}/{name}_{i:04d}"
        found.append(tuple(echoes.single(path, f"{base}/{key}") or 0.0 for key in ("distance", "azimuth")))
    across = np.array([d * np.sin(a) for d, a in found])  # mm across the face: R sin(angle) of lines from one apex
    slopes = np.sin(angles)
    return float((across * slopes).sum() / max(np.square(slopes).sum(), np.finfo(float).tiny) * 1e3)
