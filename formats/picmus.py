# SPDX-License-Identifier: Apache-2.0
"""Plane-wave channel data in HDF5 as of the PICMUS challenge and of PyBF.

PICMUS: ``US/US_DATASET0000/data/{real,imag}`` of angles x channels x samples. PyBF: one data set a shot,
``data/rf_data/frame_k/shot_m`` of channels x samples. Angles become frames; ``waves`` says how many alternate.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pellucid.core.errors import FormatError
from pellucid.core.lazy import np
from pellucid.core.types import Description, FormatTraits, Reader
from pellucid.formats import echoes, hdf5_tree
from pellucid.formats.hdf5_private import anonymise as anonymise

FORMAT = FormatTraits(
    name="picmus",
    title="PICMUS and PyBF channel data (HDF5)",
    suffixes=(".hdf5", ".h5"),
    writes=("splice",),
    keeps="everything but the echoes, byte for byte",
)

SET = "US/US_DATASET0000"
SHOT = re.compile(r"data/rf_data/frame_(\d+)/shot_(\d+)$")
splice = echoes.splice


def recognise(head: bytes, name: str) -> float:
    """Return how certain it is: HDF5 with the data sets of either kind."""
    if not hdf5_tree.is_hdf5(head):
        return 0.0
    found = hdf5_tree.names(Path(name))
    return 0.97 if f"{SET}/data/real" in found or any(SHOT.match(n) for n in found) else 0.0


def open(path: Path, **hints: Any) -> Reader:
    """Open the echoes.

    Raises
    ------
    FormatError
        Neither layout, or shots that do not make whole frames.
    """
    path = Path(path)
    found = hdf5_tree.names(path)
    if f"{SET}/data/real" in found:
        return _picmus(path, found)
    shots = sorted((int(m[1]), int(m[2]), n) for n in found if (m := SHOT.match(n)))
    if not shots:
        raise FormatError(path, "HDF5", "holds neither PICMUS nor PyBF channel data", "name the data set's own field")
    return _pybf(path, found, shots)


def _picmus(path: Path, found: hdf5_tree.Names) -> Reader:
    """Return a reader of one PICMUS data set."""
    real, imag = f"{SET}/data/real", f"{SET}/data/imag"
    if len(found[real][0]) != 3:
        raise FormatError(path, real, f"has shape {found[real][0]}; angles x channels x samples are needed")
    modulation = echoes.single(path, f"{SET}/modulation_frequency", 0.0) or 0.0
    demodulated = modulation > 0 and found.get(imag, ((), ""))[0] == found[real][0]
    facts = _facts(path, {
        "fs_hz": f"{SET}/sampling_frequency", "c_m_s": f"{SET}/sound_speed", "t0_s": f"{SET}/initial_time",
        "prf_hz": f"{SET}/PRF",
    })  # fmt: skip
    angles = hdf5_tree.vector(path, f"{SET}/angles")
    if angles and len(angles) != found[real][0][0]:
        raise FormatError(path, f"{SET}/angles", f"{len(angles)} for {found[real][0][0]} transmits")
    facts |= {"angles_rad": angles} if angles else {}
    facts |= {"waves": found[real][0][0], "demodulation_hz": modulation if demodulated else None}
    facts["fc_hz"] = modulation or (facts.get("fs_hz", 0.0) / 4 or None)  # RF of the challenge: four samples a cycle
    facts["element_x_mm"] = _elements(path, found, found[real][0][1])
    part = echoes.Part(real, (2, 1, 0), imag if demodulated else "")
    return echoes.EchoReader(path, (part,), _made(facts))


def _elements(path: Path, found: hdf5_tree.Names, channels: int) -> list[float] | None:
    """Return the lateral places of the elements in mm, whichever way the geometry lies."""
    name = f"{SET}/probe_geometry"
    shape = found.get(name, ((), ""))[0]
    values = np.array(hdf5_tree.vector(path, name))
    if sorted(shape) != sorted((3, channels)) or not values.size:
        return None
    geometry = values.reshape(shape)
    return [float(v) * 1e3 for v in (geometry[0] if shape[0] == 3 else geometry[:, 0])]


def _pybf(path: Path, found: hdf5_tree.Names, shots: list[tuple[int, int, str]]) -> Reader:
    """Return a reader of one data set a shot."""
    frames, waves = {f for f, _, _ in shots}, {s for _, s, _ in shots}
    if len(shots) != len(frames) * len(waves) or {len(found[n][0]) for _, _, n in shots} != {2}:
        raise FormatError(path, "data/rf_data", "frames have different numbers of shots, or a shot is no matrix")
    facts = _facts(path, {"fs_hz": "data/f_sampling", "fc_hz": "trans_params/f_central"})
    shift = echoes.single(path, "data/correction_time_shift")
    if shift is not None:
        facts["t0_s"] = -shift
    pitch = echoes.single(path, "trans_params/x_pitch")
    if pitch:
        facts["pitch_mm"] = pitch * 1e3
    modes = [n for n in found if n.startswith("data/tx_mode/PW_")]
    angles = hdf5_tree.vector(path, modes[0]) if modes else []
    if len(angles) == len(waves):
        facts["angles_rad"] = angles
    facts["waves"] = len(waves)
    return echoes.EchoReader(path, tuple(echoes.Part(n, (1, 0)) for _, _, n in shots), _made(facts))


def _facts(path: Path, where: dict[str, str]) -> dict[str, Any]:
    return {key: value for key, name in where.items() if (value := echoes.single(path, name)) is not None}


def _made(facts: dict[str, Any]) -> Description:
    kept = {k: v for k, v in facts.items() if v is not None}
    return Description("picmus", (), ("time", "element"), "", "channel", acquisition=kept)
