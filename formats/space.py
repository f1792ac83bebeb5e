# SPDX-License-Identifier: Apache-2.0
"""From axes and origins as formats write them to one affine, RAS in mm, and back; and gradients likewise.

RAS: first axis to the patient's right, second to the front, third to the head. ITK's formats count
left and back as positive (LPS). FSL's gradient tables are in image axes, x reversed where the affine's
determinant is positive (FSL course, diffusion: "radiological" convention).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pellucid.core.lazy import np

if TYPE_CHECKING:
    from pellucid.core.types import Array

Affine = tuple[tuple[float, ...], ...]
Rows = Any  # vectors of three: nested sequences or an array


def signs(space: str) -> tuple[float, float, float]:
    """Return what turns a space's coordinates (``"LPS"`` ...) into RAS."""
    return (-1.0 if space[0] == "L" else 1.0, -1.0 if space[1] == "P" else 1.0, -1.0 if space[2] == "I" else 1.0)


def affine(steps: Rows, origin: Sequence[float], space: str = "RAS") -> Affine | None:
    """Return the 4 x 4 affine of three step vectors (mm, one an axis) and the first voxel's place; None if singular."""
    found = np.eye(4)
    found[:3, :3] = np.array(steps, dtype=np.float64).T
    found[:3, 3] = origin
    found[:3] *= np.array(signs(space))[:, None]
    if not np.all(np.isfinite(found)) or abs(np.linalg.det(found[:3, :3])) == 0:
        return None
    return tuple(tuple(float(v) + 0.0 for v in row) for row in found)


def vectors(found: Any, space: str = "RAS") -> tuple[Array, Array]:
    """Return (three step vectors, origin) of an affine in another space."""
    turned = np.array(found, dtype=np.float64)[:3] * np.array(signs(space))[:, None]
    return turned[:, :3].T, turned[:, 3]


def orientation(found: Affine | None) -> str | None:
    """Return the axis codes of an affine (``"LAS"`` ...)."""
    if found is None:
        return None
    from nibabel import orientations

    name: Any = orientations.aff2axcodes  # untyped
    return "".join(str(code) for code in name(np.array(found)))


def facts(found: Affine | None) -> dict[str, Any]:
    """Return what ``acquisition`` says of an affine."""
    return {"orientation": orientation(found), "affine": found}


def unit(steps: Rows) -> Array:
    """Return step vectors of length 1."""
    rows = np.array(steps, dtype=np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1.0)


def to_image(world: Rows, found: Affine) -> tuple[tuple[float, ...], ...]:
    """Return gradient directions (RAS) in image axes, as FSL's tables hold them."""
    rows = np.array(world, dtype=np.float64) @ _axes(found).T
    return tuple(tuple(float(v) + 0.0 for v in row) for row in rows)


def to_world(image: Rows, found: Affine) -> Array:
    """Undo ``to_image``."""
    return np.array(image, dtype=np.float64) @ np.linalg.inv(_axes(found)).T


def _axes(found: Affine) -> Array:
    """Return the matrix from RAS directions to FSL's image axes."""
    steps, _ = vectors(found)
    left, _, right = np.linalg.svd(unit(steps))
    turn = left @ right  # the nearest rotation: sheared axes must not change a direction's length
    if np.linalg.det(steps) > 0:
        turn[0] = -turn[0]
    return turn


def text(value: float) -> str:
    """Return the shortest text that reads back as the same number; integers without a point."""
    value = float(value) + 0.0
    return f"{value:.0f}" if math.isfinite(value) and value == int(value) and abs(value) < 1e15 else repr(value)
