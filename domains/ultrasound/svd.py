# SPDX-License-Identifier: Apache-2.0
"""Clutter filter by singular values: tissue moves together and slowly, blood does neither.

The Casorati matrix (pulses x pixels) of an ensemble is projected off its first k left singular vectors, which
come from the small Gram matrix of the pulses (Demene 2015, DOI 10.1109/TMI.2015.2428634). k counts the leading
vectors whose Doppler centroid is below a cut-off; spatial similarity (Baranger 2018, DOI
10.1109/TMI.2018.2789499) was measured to fail when tissue moves fast. Where the next singular values are nearly
equal, tissue and blood are mixed in their vectors and a centroid means nothing: those go that together hold what
tissue would show next, the first vector times the next polynomial of time. The whole file is looked at first, so
that tiles give exactly what the whole gives.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pellucid.core.lazy import np
from pellucid.core.types import Noise, Plan, Result, Tile, Traits, option
from pellucid.domains.ultrasound import svd_blocks

if TYPE_CHECKING:
    from pellucid.core.types import Array

SHOWN = 8  # components whose centroid and singular value are recorded
CHUNK = 65_536  # pixels summed at a time
NOTHING_ELSE = 1e-12  # of the power: what rounding leaves of identical frames (float32 squared, with margin)
ALIKE_DB = 1.0  # singular values nearer than this mix: measured, 0.7 to 1.5 give the same ranks
HELD = 0.8  # share of the expected component that mixed vectors must hold: measured, 0.6 to 0.8 give the same ranks
MIXED = 3  # vectors that may be mixed
WEAK = 0.01  # of the usual power of a block: below, its first component need not be tissue
CLOSE = 0.25  # of the cut-off: blood and tissue whose centroids are nearer than this are hard to tell apart

TRAITS = Traits(
    name="svd",
    line="Clutter filter: removes the leading singular vectors of slow Doppler centroid; finds their number.",
    spatial=(2,),
    joint=("frame",),
    needs_series=True,
    exact="local",
    passes=2,
    complex=True,
    bytes_per_sample=24.0,
    equivariant=("scale", "flip"),
    cite=("10.1109/TMI.2015.2428634", "10.1109/TMI.2018.2789499", "10.1109/TMI.2016.2605819"),
    use="Doppler ensembles and fast cines of IQ or RF, to see blood without tissue",
    avoid="display images, whose logarithm does not add, and fewer than 6 pulses",
)


@dataclass(frozen=True)
class Options:
    """Settings of `run`."""

    rank: int = option(0, "Components counted as tissue; more removes slower blood too. 0 finds the number.")
    cutoff: float = option(
        0.05, "Doppler centroid below which a leading component is tissue, cycles a pulse; more removes more."
    )
    keep: str = option("blood", "What is kept; the two sum to the input.", choices=("blood", "tissue"))
    block: int = option(0, "Side of blocks filtered on their own, samples; less follows local motion. 0: the whole.")


@dataclass(frozen=True)
class Component:
    """One left singular vector: its singular value in dB below the first and its Doppler centroid."""

    level_db: float
    centroid: float  # cycles a pulse, 0 to 0.5


@dataclass(frozen=True)
class State:
    """Projection of every ensemble, ``(pulses, rank)`` orthonormal, and what is known of its components."""

    bases: tuple[Array, ...]
    components: tuple[Component, ...] = ()  # of the first ensemble
    facts: dict[str, float] = field(default_factory=dict)
    blocks: dict[svd_blocks.Place, tuple[Array, ...]] = field(default_factory=dict)


def ensembles(plan: Plan, frames: int) -> list[slice]:
    """Return the runs of frames that were pulsed without a break: whole ensembles where the file says so."""
    known = plan.description.acquisition.get("ensemble") if plan.description is not None else None
    length = int(known or frames)
    if length < 2 or frames % length:
        length = frames
    return [slice(i, i + length) for i in range(0, frames, length)]


def gather(tile: Tile, carry: Any, plan: Plan) -> Any:
    """Add a tile to the Gram matrices of the ensembles, of every block where there are blocks."""
    frames = tile.values.shape[-1]
    runs = ensembles(plan, frames)
    if side := _side(plan):
        return svd_blocks.gather(tile, carry, runs, side)
    flat = tile.values.reshape(-1, frames)
    kind = np.complex128 if np.iscomplexobj(flat) else np.float64
    carry = carry if carry is not None else [np.zeros((r.stop - r.start,) * 2, kind) for r in runs]
    for at in range(0, len(flat), CHUNK):
        block = flat[at : at + CHUNK]
        if tile.mask is not None:
            block = block[tile.mask.ravel()[at : at + CHUNK]]
        block = block.astype(kind)
        for run_of, gram in zip(runs, carry, strict=True):
            part = block[:, run_of]
            gram += part.T @ part.conj()
    return carry


def _side(plan: Plan) -> int:
    """Return the side of the blocks, 0 for none."""
    asked = plan.options.block if isinstance(plan.options, Options) else 0
    return max(asked, svd_blocks.SMALLEST) if asked > 0 else 0


def settle(carry: Any, plan: Plan) -> State:
    """Return the projections: eigenvectors of the Gram matrices, as many as are slow."""
    options = plan.options if isinstance(plan.options, Options) else Options()
    if not isinstance(carry, dict):
        return _settled(carry, options)
    power = {place: float(np.trace(sum(grams)).real) for place, grams in carry.items()}
    weak = float(np.median(list(power.values()))) * WEAK  # so little that it may be blood alone
    found = {place: _settled(grams, options, least=int(power[place] > weak)) for place, grams in carry.items()}
    ranks = [basis.shape[1] for state in found.values() for basis in state.bases]
    facts = {"rank": float(np.median(ranks)), "rank_lowest": float(min(ranks)), "rank_highest": float(max(ranks))}
    return State((), (), facts | {"blocks": float(len(found))}, {place: s.bases for place, s in found.items()})


def _settled(carry: list[Array], options: Options, least: int = 1) -> State:
    """Return the projections of the ensembles of one place; ``least`` components are always tissue."""
    bases: list[Array] = []
    ranks: list[int] = []
    first: tuple[Component, ...] = ()
    for gram in carry:
        values, vectors = np.linalg.eigh(gram)
        values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]
        found = tuple(
            Component(float(10 * np.log10(max(v, 1e-300) / max(values[0], 1e-300))), centroid(u))
            for v, u in zip(values, vectors.T, strict=True)
        )
        rank = leading(found, options.cutoff, least)
        rank = min(options.rank or rank + mixed(values, vectors, rank), len(values) - 1)
        nothing = values[1:].sum() <= NOTHING_ELSE * len(values) * values[0]
        bases.append(vectors[:, : 0 if nothing else rank])
        ranks.append(bases[-1].shape[1])
        first = first or found
    return State(tuple(bases), first, _facts(first, ranks, options))


def leading(components: tuple[Component, ...], cutoff: float, least: int = 1) -> int:
    """Return how many of the first components are slower than the cut-off; at least ``least``."""
    for count, component in enumerate(components):
        if component.centroid >= cutoff:
            return max(count, least)
    return max(len(components), least)


def mixed(values: Array, vectors: Array, rank: int) -> int:
    """Return how many components after the first ``rank`` hold tissue mixed with blood; 0 of real samples."""
    if not 0 < rank < len(values) - 1 or not np.iscomplexobj(vectors) or not values[rank] > 0:
        return 0
    carrier = np.exp(1j * np.angle(vectors[:, :1]))
    times = np.linspace(-1, 1, len(values))
    expected = np.linalg.qr(np.polynomial.legendre.legvander(times, rank) * carrier)[0][:, rank]
    expected = expected - vectors[:, :rank] @ (vectors[:, :rank].conj().T @ expected)
    share = np.square(np.abs(expected.conj() @ vectors[:, rank : rank + MIXED])) / np.vdot(expected, expected).real
    enough = np.flatnonzero(np.cumsum(share) >= HELD)
    if not enough.size:
        return 0
    count = int(enough[0]) + 1
    last = values[rank + max(count, 2) - 1]  # one alone, far above the next, is no mixture
    return count if last > values[rank] * 10 ** (-ALIKE_DB / 10) else 0


def centroid(vector: Array) -> float:
    """Return a temporal vector's Doppler centroid in cycles a pulse, 0 to 0.5.

    Phase of the lag-1 autocorrelation; for real samples, whose spectrum is symmetric, the frequency of the
    cosine with the same autocorrelation.
    """
    ahead, behind = vector[1:], vector[:-1]
    lag = np.vdot(behind, ahead)
    if np.iscomplexobj(vector):
        return float(abs(np.angle(lag)) / (2 * np.pi))
    power = np.linalg.norm(ahead) * np.linalg.norm(behind)
    return float(np.arccos(np.clip(lag / power if power > 0 else 1.0, -1, 1)) / (2 * np.pi))


def _facts(components: tuple[Component, ...], ranks: list[int], options: Options) -> dict[str, float]:
    """Return what the sidecar records: rank, centroids, singular values, and whether the split is doubtful."""
    facts = {"rank": float(np.median(ranks)), "ensembles": float(len(ranks))}
    for i, component in enumerate(components[:SHOWN], 1):
        facts[f"centroid_{i}"] = round(component.centroid, 5)
        facts[f"singular_{i}_db"] = round(component.level_db, 2)
    rank = ranks[0]
    if 0 < rank < len(components):
        gap = components[rank].centroid - max(c.centroid for c in components[:rank])
        facts["overlap"] = float(gap < CLOSE * options.cutoff)
    return facts


def run(tile: Tile, noise: Noise | None, plan: Plan, rng: np.random.Generator) -> Result:
    """Filter one tile; masked samples hold 0 and stay so, frames that are all the same are returned."""
    options = plan.options if isinstance(plan.options, Options) else Options()
    state = tile.carry if isinstance(tile.carry, State) else settle(gather(tile, None, plan), plan)
    frames = tile.values.shape[-1]
    if state.blocks:
        kept = svd_blocks.tissue(tile, state.blocks, ensembles(plan, frames), _side(plan))
        facts = state.facts if all(s.start == 0 for s in tile.core) else {}
        return Result(kept if options.keep == "tissue" else tile.values - kept, facts=facts)
    flat = tile.values.reshape(-1, frames)
    out = flat.copy()
    for run_of, basis in zip(ensembles(plan, frames), state.bases, strict=True):
        if not basis.shape[1]:
            continue
        part = flat[:, run_of]
        tissue = (part @ basis.conj().astype(flat.dtype)) @ basis.T.astype(flat.dtype)
        out[:, run_of] = tissue if options.keep == "tissue" else part - tissue
    at_origin = all(s.start == 0 for s in tile.core)
    return Result(out.reshape(tile.values.shape), facts=state.facts if at_origin else {})
