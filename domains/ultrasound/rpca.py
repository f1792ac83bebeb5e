# SPDX-License-Identifier: Apache-2.0
"""Clutter filter by robust principal components: tissue of low rank, blood sparse.

min |L|_* + lambda |S|_1 with L + S = C, by the inexact augmented Lagrangian method (Lin 2010, arXiv 1009.5055;
the model: Candes 2011, DOI 10.1145/1970392.1970395). Complex samples are shrunk by magnitude, so that phase, and
with it velocity, is kept. lambda = strength / sqrt(pixels): the customary strength of 1 leaves blood in the tissue.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pellucid.core.lazy import np
from pellucid.core.types import Noise, Plan, Result, Tile, Traits, option
from pellucid.domains.ultrasound.svd import ensembles

if TYPE_CHECKING:
    from pellucid.core.types import Array

GROWTH = 1.5  # of the penalty in each round: Lin 2010, section 4
START = 1.25  # penalty over 1 / largest singular value: ibid.
TOLERANCE = 1e-6  # of the norm: where rounds end
ROUNDS = 100

TRAITS = Traits(
    name="rpca",
    line="Clutter filter: splits a low-rank part (tissue) from a sparse one (blood).",
    spatial=(2,),
    joint=("frame",),
    needs_series=True,
    exact="global",
    complex=True,
    bytes_per_sample=64.0,
    equivariant=("scale",),
    cite=("10.1145/1970392.1970395",),
    use="vessels that fill little of the picture",
    avoid="blood far weaker than tissue, which stays in the tissue: svd finds it, and faster",
)


@dataclass(frozen=True)
class Options:
    """Settings of `run`."""

    strength: float = option(0.3, "Weight of sparseness, times 1 / sqrt(pixels); less moves more into the blood.")
    keep: str = option("blood", "What is kept; the two sum to the input.", choices=("blood", "tissue"))


def run(tile: Tile, noise: Noise | None, plan: Plan, rng: np.random.Generator) -> Result:
    """Split the whole file; masked samples are left out and stay."""
    options = plan.options if isinstance(plan.options, Options) else Options()
    frames = tile.values.shape[-1]
    flat = tile.values.reshape(-1, frames)
    used = slice(None) if tile.mask is None else tile.mask.ravel()
    out, rounds = flat.copy(), 0
    for part in ensembles(plan, frames):
        sparse, done = split(flat[used, part], options.strength)
        rounds += done
        out[used, part] = sparse if options.keep == "blood" else flat[used, part] - sparse
    return Result(out.reshape(tile.values.shape), facts={"rounds": float(rounds)})


def split(matrix: Array, strength: float) -> tuple[Array, int]:
    """Return the sparse part of a matrix (pixels, pulses) and the rounds it took.

    A matrix whose columns are all the same holds no blood: then the matrix itself is returned.
    """
    scale = float(np.abs(matrix).max()) if matrix.size else 0.0
    if not scale > 0 or matrix.shape[1] < 2 or bool((matrix == matrix[:, :1]).all()):
        return matrix, 0
    data = matrix / np.float32(scale)
    weight = strength / np.sqrt(max(data.shape))
    norm, largest = float(np.linalg.norm(data)), float(np.sqrt(np.linalg.eigvalsh(_gram(data))[-1]))
    dual = data / np.float32(max(largest, float(np.abs(data).max()) / weight))
    sparse, penalty = np.zeros_like(data), START / largest
    count = 0
    while count < ROUNDS:
        count += 1
        low = _singular(data - sparse + dual / np.float32(penalty), 1 / penalty)
        rest = data - low
        sparse = _soft(rest + dual / np.float32(penalty), weight / penalty)
        gap = rest - sparse
        dual = dual + np.float32(penalty) * gap
        penalty *= GROWTH
        if float(np.linalg.norm(gap)) < TOLERANCE * norm:
            break
    return np.asarray((data - low) * np.float32(scale)), count


def _gram(data: Array) -> Array:
    return np.asarray(data.conj().T @ data, np.complex128 if np.iscomplexobj(data) else np.float64)


def _singular(data: Array, level: float) -> Array:
    """Shrink singular values by ``level``, through the Gram matrix of the few columns."""
    values, vectors = np.linalg.eigh(_gram(data))
    size = np.sqrt(np.maximum(values, 0))
    share = np.maximum(1 - level / np.where(size > level, size, np.inf), 0) * (size > level)
    return np.asarray(data @ ((vectors * share) @ vectors.conj().T).astype(data.dtype))


def _soft(data: Array, level: float) -> Array:
    """Shrink magnitudes by ``level``; phases stay."""
    size = np.abs(data)
    return np.asarray(data * np.maximum(1 - level / np.where(size > level, size, np.inf), 0) * (size > level))
