# SPDX-License-Identifier: Apache-2.0
"""MP-PCA: denoise a series by the singular values of small patches, with the noise level read from them.

Every patch of N voxels by M volumes is split into signal and noise by the Marchenko-Pastur law (Veraart 2016,
doi:10.1016/j.neuroimage.2016.08.016; Cordero-Grande 2019, doi:10.1016/j.neuroimage.2019.06.039), its singular
values are shrunk optimally (Gavish & Donoho 2017, doi:10.1109/TIT.2017.2653801), and all patches that cover
a voxel are averaged (Manjon 2013, doi:10.1371/journal.pone.0073021). Not for data that were interpolated,
filtered or smoothed: their noise is no longer independent between voxels.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import frexp
from typing import TYPE_CHECKING, Any

from pellucid.core.errors import UsageError
from pellucid.core.estimate import marchenko_pastur
from pellucid.core.lazy import np
from pellucid.core.noise import rician
from pellucid.core.types import Description, Noise, Plan, Result, Tile, Traits, option

if TYPE_CHECKING:
    from pellucid.core.types import Array

LARGEST_CUBE = 9  # automatic patches stop here: N < M is handled, and the halo must be known before the file is
SMALLEST_SHORT_SIDE = 3  # eigenvalues below which nothing can be said of a patch
CHUNK_BYTES = 4 << 20  # of gathered patches: small enough for the cache, large enough to batch
TAPER = 0.4  # what a patch's outermost voxels lose of their say; diffusion phantom, seed 7: error -2 % at stride 3
MARGIN = 1.1  # on the estimated variance, for shrinkage only: too little noise costs more than too much; same -1 %
STRIDES = {"fast": 3, "default": 2, "best": 1}


@dataclass(frozen=True)
class Options:
    """Options of MP-PCA."""

    patch: str = option(
        "auto",
        "Patch size in voxels, one odd number or three (5,3,1). auto: the smallest odd cube with at least as many "
        "voxels as volumes. Larger finds less noise where anatomy is simple and blurs detail.",
    )
    profile: str = option(
        "default",
        "Overlap of the patches: fast every 3rd voxel, default every 2nd, best every one.",
        choices=("fast", "default", "best"),
    )
    stride: int = option(0, "Step between patches in voxels; 0 takes the profile's. Smaller is slower and smoother.")
    shrink: str = option(
        "frobenius",
        "How components are weighted: frobenius (least error), hard (keep or drop; least loss of fMRI contrast), "
        "threshold (keep or drop at the optimal threshold).",
        choices=("frobenius", "hard", "threshold"),
    )
    estimator: str = option(
        "exp2",
        "Noise estimator; median is free of patents, exp2-legacy repeats the scale of MRtrix3.",
        choices=marchenko_pastur.ESTIMATORS,
    )
    rician: str = option(
        "none",
        "Remove the noise floor of magnitudes after denoising: koay, or none for complex or high SNR.",
        choices=("none", "koay"),
    )
    coils: int = option(1, "Coils combined by the sum of squares, for --rician koay.")
    demean: bool = option(True, "Take each patch's mean spectrum out before the decomposition.")
    parity: bool = option(False, "Repeat MRtrix3 dwidenoise: one patch a voxel, hard truncation, no mean, its scale.")


def halo(options: Options, description: Description | None = None) -> int | tuple[int, ...]:
    """Return how far a patch that covers a voxel can reach; automatic patches have at most 9 voxels a side."""
    if description is None or options.parity:
        return max(_sizes(options.patch) or (LARGEST_CUBE,)) - 1
    return tuple(e - 1 for e in patch_size(options.patch, description.shape[:-1], description.shape[-1]))


TRAITS = Traits(
    name="mppca",
    line="MP-PCA: optimal shrinkage of the singular values of patches of a series.",
    spatial=(1, 2, 3),
    joint=("volume",),
    needs_series=True,
    exact="local",
    halo=halo,
    laws=("gaussian", "rician", "ncchi"),
    complex=True,
    maps=("noise", "rank"),
    thinnest=0.5,  # patches across both rims cost (thickness + halo) / thickness, little even then
    bytes_per_sample=24.0,
    equivariant=("scale", "flip", "permute"),
    cite=(
        "10.1016/j.neuroimage.2016.08.016",
        "10.1016/j.neuroimage.2019.06.039",
        "10.1109/TIT.2017.2653801",
        "10.1371/journal.pone.0073021",
    ),
    use="4-D series with 15 or more volumes, before any interpolation; the estimators exp1 and exp2 are covered by "
    "US patent 10,698,065, median and a given noise level are not",
    avoid="interpolated, zero-filled, filtered or single-volume data",
)


@dataclass(frozen=True)
class _Job:
    """One tile, ready to be cut into patches: arrays with three spatial axes, scaled to a peak near 1."""

    values: Array  # (x, y, z, volume)
    valid: Array  # (x, y, z), bool
    variance: Array | None  # (x, y, z), known noise variance (real + imaginary), else None
    size: tuple[int, ...]
    starts: tuple[Array, ...]  # per axis, relative to the window
    spans: tuple[dict[int, tuple[int, int]], ...]  # per axis: the part of a patch that is used, by its start
    options: Options


def run(tile: Tile, noise: Noise | None, plan: Plan, rng: np.random.Generator) -> Result:
    """Denoise one tile; maps ``noise`` (per channel) and ``rank`` come with it.

    ``noise`` is the standard deviation of the samples as they are (for magnitudes it falls to 0.655 sigma
    in the background); with ``rician="koay"`` it is sigma of the underlying Gaussian channel. A known
    ``noise.sigma`` takes the place of the estimate: one number, one per volume, or a map.
    """
    options = plan.options if isinstance(plan.options, Options) else Options()
    gain, sigma = _known(tile, noise)
    if sigma is not None and not np.any(sigma > 0):
        return _unchanged(tile, sigma)
    values = tile.values if gain is None else tile.values / gain
    valid = _valid(tile, options)
    values = np.where(valid[..., None], values, 0)
    peak = float(np.abs(values).max(initial=0))
    scale = 2.0 ** (frexp(peak)[1] if peak else 0)  # a power of two: exact, so tiles agree to the last bit
    channels = 2 if np.iscomplexobj(values) else 1
    # a map may hold nothing (0, NaN) outside the mask: each patch takes the mean over its own voxels
    variance = None if sigma is None else _solid(np.where(valid, np.nan_to_num(channels * (sigma / scale) ** 2), 0))
    size = patch_size(options.patch, tile.shape, values.shape[-1])
    starts, spans = _layout(tile, size, options)
    job = _Job(_solid(values / scale, 1), _solid(valid), variance, size, starts, spans, options)
    total, side, facts = _aggregate(job, max(1, plan.threads // max(1, plan.in_flight)))

    weight = side[..., 0].reshape(valid.shape)
    covered = valid & (weight > 0)
    side = side.reshape(*valid.shape, 3) / np.where(covered, weight, 1)[..., None]
    total = total.reshape(values.shape)
    total *= (scale / np.where(covered, weight, 1))[..., None]
    level = side[..., 1] * (scale / np.sqrt(channels)) if sigma is None else np.broadcast_to(sigma, valid.shape)
    if options.rician == "koay" and channels == 1:
        total, level = _remove_floor(total, level, options.coils, known=sigma is not None)
    if gain is not None:
        total *= gain
        level = level * np.sqrt(np.mean(gain**2, dtype=np.float64))
    out = np.where(covered[..., None], total, tile.values)
    core = tuple(slice(c.start - w.start, c.stop - w.start) for c, w in zip(tile.core, tile.window, strict=True))
    facts["voxels_unchanged"] = float(np.count_nonzero(~covered[core]))
    if channels == 1:
        facts["negative_samples"] = float(np.count_nonzero(out[core] < 0))
    maps = {
        "noise": np.where(covered, level, 0).astype(np.float32),
        "rank": np.where(covered, side[..., 2], 0).astype(np.float32),
    }
    return Result(out.astype(tile.values.dtype, copy=False), maps, facts)


def patch_size(text: Any, shape: tuple[int, ...], volumes: int) -> tuple[int, ...]:
    """Return the patch's size on three axes for a file of spatial ``shape``.

    Automatic: the smallest odd cube with at least as many voxels as volumes, at most 9 a side; axes too
    short for it are taken whole, and the others grow in turn.
    """
    shape = (*shape, 1, 1)[:3]
    given = _sizes(text)
    if given:
        return tuple(min(e, n) for e, n in zip(given * (3 // len(given)), shape, strict=True))
    edge = 3
    while edge < LARGEST_CUBE and np.prod([min(edge, n) for n in shape]) < volumes:
        edge += 2
    return tuple(min(edge, n) for n in shape)


def _sizes(text: Any) -> tuple[int, ...]:
    """Return the one or three odd sizes in ``text``, or () for automatic."""
    if str(text) in ("auto", "0"):
        return ()
    parts = tuple(int(p) if p.strip().isdigit() else 0 for p in str(text).split(","))
    if len(parts) not in (1, 3) or any(p % 2 == 0 for p in parts) or max(parts) < 2:
        raise UsageError(f"patch {text!r} is not a size", hint="one odd number such as 5, or three such as 5,3,1")
    return parts


def _known(tile: Tile, noise: Noise | None) -> tuple[Array | None, Array | None]:
    """Return a gain per volume (None for 1) and the known sigma: a scalar, a map of the window, or None."""
    if noise is None or noise.sigma is None:
        return None, None
    sigma = np.asarray(tile.noise_map(np.asarray(noise.sigma, dtype=np.float64)))
    if sigma.ndim == 0 or sigma.shape == tile.values.shape[:-1]:
        return None, sigma
    if sigma.shape != tile.values.shape[-1:]:
        raise UsageError(f"the noise level has shape {sigma.shape}", hint="give one number, one per volume, or a map")
    # equal noise in every volume by division; a volume without noise keeps the scale of the noisiest
    top = sigma.max(initial=0)
    return np.where(sigma > 0, sigma, top or 1.0).astype(np.float32), np.asarray(float(top > 0))


def _unchanged(tile: Tile, sigma: Array) -> Result:
    """Return the samples as they are: there is no noise."""
    zeros = np.zeros(tile.values.shape[:-1], np.float32)
    return Result(tile.values, {"noise": zeros, "rank": zeros}, {"voxels_unchanged": float(zeros.size)})


def _valid(tile: Tile, options: Options) -> Array:
    """Return which voxels take part: finite, inside the mask, and not constant along the series."""
    values = tile.values
    valid: Array = np.asarray(np.isfinite(values).all(axis=-1))
    if tile.mask is not None:
        valid = valid & tile.mask
    if not options.parity:
        valid = valid & (values != values[..., :1]).any(axis=-1)
    return valid


def _solid(array: Array, tail: int = 0) -> Array:
    """Return the array with three spatial axes, ``tail`` axes after them."""
    spatial = array.ndim - tail
    return array.reshape(*array.shape[:spatial], *(1,) * (3 - spatial), *array.shape[spatial:])


def _layout(tile: Tile, size: tuple[int, ...], options: Options) -> tuple[Any, Any]:
    """Return per axis the patch starts that touch the core, and the span of each patch that is used."""
    step = 1 if options.parity else options.stride or STRIDES[options.profile]
    starts, spans = [], []
    pad = 3 - len(tile.shape)
    one = (slice(0, 1),) * pad
    axes = zip((*tile.shape, *(1,) * pad), tile.window + one, tile.core + one, size, strict=True)
    for length, window, core, edge in axes:
        at = grid(length, edge, step)
        at = at[(at + edge > core.start) & (at < core.stop) & (at >= window.start) & (at + edge <= window.stop)]
        middle, last = edge // 2, length - edge
        # parity: the centre, and what lies beyond it where the window cannot move on
        used = {int(a): (0 if a == 0 else middle, edge if a == last else middle + 1) for a in at}
        spans.append({a - window.start: used[a] if options.parity else (0, edge) for a in used})
        starts.append(at - window.start)
    return tuple(starts), tuple(spans)


def grid(length: int, edge: int, step: int) -> Array:
    """Return the starts of the patches on an axis: every ``step`` from both ends, so that flips commute.

    Where the two halves meet further apart than ``step`` + 1, the gap is filled from both sides.
    """
    last = length - edge
    low = np.arange(0, last / 2 + 0.5, step)
    low = low[low <= last / 2].astype(np.int64)
    if last - 2 * low[-1] > step + 1:
        low = np.append(low, last // 2)
    return np.unique(np.concatenate([low, last - low]))


def _aggregate(job: _Job, threads: int) -> tuple[Array, Array, dict[str, float]]:
    """Sum all patches, weighted, into the tile: values (x, y, z, volume) and (weight, sigma, rank).

    Slabs are added in order whoever computed them, so threads do not change the sums.
    """
    shape = job.values.shape
    total = np.zeros(shape, job.values.dtype)
    side = np.zeros((*shape[:-1], 3))
    facts = {"patches": 0.0, "patches_failed": 0.0}
    firsts = [int(x) for x in job.starts[0]]
    with ThreadPoolExecutor(threads) as pool:
        for at in range(0, len(firsts), threads):
            for x, slab in zip(firsts[at:], pool.map(lambda x: _slab(job, x), firsts[at : at + threads]), strict=False):
                rows = slice(x, x + job.size[0])
                total[rows] += slab[0]
                side[rows] += slab[1]
                facts["patches"] += slab[2]
                facts["patches_failed"] += slab[3]
    return total, side, facts


def _slab(job: _Job, x: int) -> tuple[Array, Array, int, int]:
    """Denoise all patches that start at ``x``; return their weighted sums and the counts of all and failed."""
    ex, ey, ez = job.size
    block, valid = job.values[x : x + ex], job.valid[x : x + ex]
    total = np.zeros(block.shape, block.dtype)
    side = np.zeros((*valid.shape, 3))
    taper = _taper(job.size, 0.0 if job.options.parity else TAPER)
    places = [(int(y), int(z)) for y in job.starts[1] for z in job.starts[2]]
    volumes = block.shape[-1]
    many = max(1, CHUNK_BYTES // (ex * ey * ez * volumes * block.itemsize))
    failed = 0
    for at in range(0, len(places), many):
        chunk = places[at : at + many]
        patches = np.empty((len(chunk), ex, ey, ez, volumes), block.dtype)
        inside = np.empty((len(chunk), ex, ey, ez), bool)
        for i, (y, z) in enumerate(chunk):
            patches[i] = block[:, y : y + ey, z : z + ez]
            inside[i] = valid[:, y : y + ey, z : z + ez]
        given = None
        if job.variance is not None:
            known = job.variance[x : x + ex]
            sums = np.array([known[:, y : y + ey, z : z + ez].sum() for y, z in chunk])
            given = sums / np.maximum(inside.sum(axis=(1, 2, 3)), 1)
        flat = patches.reshape(len(chunk), -1, volumes)
        figures = _shrink(flat, inside.reshape(len(chunk), -1), given, job.options)
        failed += int(np.count_nonzero(figures[:, 0] == 0))
        patches *= taper[..., None]
        for i, (y, z) in enumerate(chunk):
            used = tuple(slice(*span[a]) for span, a in zip(job.spans, (x, y, z), strict=True))
            there = (used[0], slice(y + used[1].start, y + used[1].stop), slice(z + used[2].start, z + used[2].stop))
            total[there] += patches[i][used]
            side[there] += figures[i] * taper[used][..., None]
    return total, side, len(places), failed


def _taper(size: tuple[int, ...], depth: float) -> Array:
    """Return weights over a patch: 1 in the centre, falling with the square of the distance on each axis."""
    taper = np.ones(size, np.float32)
    for axis, edge in enumerate(size):
        at = np.linspace(-1, 1, edge) if edge > 1 else np.zeros(1)
        taper *= np.expand_dims(1 - depth * at**2, tuple(i for i in range(3) if i != axis)).astype(np.float32)
    return taper


def _shrink(patches: Array, inside: Array, variance: Array | None, options: Options) -> Array:
    """Replace each patch by its weighted estimate, in place; return (weight, weight sigma, weight rank).

    patches : (batch, N, M), rows are voxels, those not ``inside`` are zero; a failed patch gets weight 0.
    """
    count = inside.sum(axis=1)
    whole = bool((count == inside.shape[1]).all())
    demean = options.demean and not options.parity
    if demean:
        means = patches.sum(axis=1) / np.maximum(count, 1)[:, None].astype(np.float32)
        patches -= means[:, None]
        if not whole:
            patches *= inside[..., None]
    free = np.maximum(count - demean, 0)
    n, m = patches.shape[1:]
    long, short = np.maximum(free, m), np.minimum(free, m)
    wide = patches.astype(np.complex128 if np.iscomplexobj(patches) else np.float64)
    flipped = np.conj(wide.swapaxes(1, 2))
    gram = wide @ flipped if n < m else flipped @ wide
    values, vectors = np.linalg.eigh(gram / long[:, None, None])
    name = options.estimator
    if options.parity and name in ("exp1", "exp2"):
        name += "-legacy"
    rank, noise = marchenko_pastur.rank_and_variance(values, long, short, name, variance=variance)
    good = (noise > 0) & (short >= SMALLEST_SHORT_SIDE)
    level = np.where(good, noise, 1) * (MARGIN if variance is None else 1)
    kind = "hard" if options.parity else options.shrink
    factors = marchenko_pastur.shrinkage(values / level[:, None], rank, short / np.maximum(long, 1), kind)
    weight = np.ones(len(rank)) if options.parity else count / n / (1 + factors.sum(axis=1))
    weight[~good] = 0
    for i, patch in enumerate(patches):
        if not good[i]:
            patch[:] = 0
            continue
        kept = int(np.count_nonzero(factors[i]))
        basis = vectors[i, :, vectors.shape[2] - kept :].astype(patch.dtype)
        scaled = np.conj((basis * (weight[i] * factors[i, factors.shape[1] - kept :]).astype(np.float32)).T)
        patch[:] = basis @ (scaled @ patch) if n < m else (patch @ basis) @ scaled
        if demean:
            patch += weight[i].astype(np.float32) * means[i]
    return weight[:, None] * np.stack([np.ones(len(rank)), np.sqrt(noise), rank], axis=1)


def _remove_floor(total: Array, sd: Array, coils: int, *, known: bool) -> tuple[Array, Array]:
    """Return the signal under the denoised magnitude, and sigma per channel (Koay & Basser 2006)."""
    sigma = sd if known else rician.channel_sigma(total, sd, coils)
    for row, level in zip(total, np.asarray(sigma), strict=True):  # row by row: the inverse works in float64
        row[:] = rician.unbiased(row, level[..., None], coils)
    return total, sigma
