# SPDX-License-Identifier: Apache-2.0
"""Few eigenimages hold the scene: whiten, keep the signal subspace, filter all its images at once.

Band noise by regression from one Gram matrix, whitening, rank from the Marchenko-Pastur edge, the joint
collaborative filter on the k eigenimages, and back. After the idea of FastHyDe (Zhuang & Bioucas-Dias,
IEEE JSTARS 11 (2018) 730, DOI 10.1109/JSTARS.2018.2796570), with the noise whitened, the rank found and one
match for all images. Stripes, dead columns and impulses are taken out first where a test finds them.
Not for resampled (orthorectified) scenes, whose noise is no longer white in space.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pellucid.core.errors import Refused
from pellucid.core.estimate.regression import signal_subspace
from pellucid.core.lazy import ndimage, np, special, torch
from pellucid.core.types import Noise, Plan, Result, Tile, Traits, option
from pellucid.domains.hyperspectral import gram, joint, protect, robust, shrink

if TYPE_CHECKING:
    from pellucid.core.types import Array

GUARD_LEVEL = 1e-3  # share of pure-noise pixels the guard restores
GUARD_WINDOW = 15  # pixels over which the removed energy is averaged to know what is usual

PROFILES = {
    "default": joint.Knobs(),
    "best": joint.Knobs(stride=3, reach=12, step=1, group=64, chunk=32),
}


@dataclass(frozen=True)
class Options:
    """Options of ``lowrank``; the defaults need no thought."""

    profile: str = option(
        "default",
        "speed against quality: fast is a third of the work, best ten times",
        choices=("fast", "default", "best"),
    )
    rank: int = option(0, "eigenimages kept; 0 finds the number; too few loses materials, too many keeps noise")
    mixed: str = option(
        "auto", "remove stripes, dead columns and impulses: auto tests for them", choices=("auto", "on", "off")
    )
    guard: bool = option(True, "restore pixels whose removed part is too large for noise (rare targets)")
    protect: str = option("", "signatures to keep whatever happens: CSV or ENVI spectral library", path=True)
    spatial: str = option(
        "auto", "filter of the eigenimages; none only projects", choices=("auto", "joint", "wavelet", "none")
    )
    along: str = option("line", "axis the sensor flew along: stripes run that way", choices=("line", "sample"))
    eigenimages: str = option(
        "", "write the denoised eigenimages, strongest first, in units of noise", path=True, product="images"
    )
    noise_covariance: str = option(
        "", "write the noise covariance of the bands: .tsv .csv .npy .json", path=True, product="table"
    )
    snr: str = option(
        "", "write mean, noise and their ratio for every band: .tsv .csv .npy .json", path=True, product="table"
    )


def _halo(options: Any, description: Any = None) -> int:
    options = options or Options()
    reach = {"joint": _knobs(options).halo, "wavelet": shrink.HALO, "none": 0}[_spatial(options)]
    return reach + (GUARD_WINDOW // 2 if options.guard and reach else 0) + (options.mixed != "off")


TRAITS = Traits(
    name="lowrank",
    line="Whitened signal subspace with a joint filter on its eigenimages; finds noise and rank itself.",
    spatial=(2,),
    joint=("band",),
    needs_series=True,
    exact="local",
    halo=_halo,
    passes=2,
    laws=("gaussian",),
    devices=("cpu", "cuda"),
    thickness=128,
    bytes_per_sample=4.0,  # eigenimages, a tenth to a third of the bands
    equivariant=("scale",),
    cite=("10.1109/JSTARS.2018.2796570", "10.1109/TIP.2007.901238", "10.1109/TGRS.2008.918089"),
    use="radiance or reflectance in sensor geometry, ten bands or more",
    avoid="orthorectified or otherwise resampled scenes",
)


@dataclass(frozen=True)
class State:
    """What the gather pass taught: everything ``run`` needs of the whole scene.

    ``mean`` and ``sigma`` (band,) in input units, ``basis`` (band, k) orthonormal in whitened units,
    ``kept`` (band, m) whitened signatures to protect, ``repair`` the mixed-noise corrections,
    ``correlation`` (band, band) of the noise where it was asked for.
    """

    mean: Array
    sigma: Array
    basis: Array
    kept: Array | None = None
    repair: robust.Repair | None = None
    correlation: Array | None = None

    @property
    def weight(self) -> Array:
        """1 / sigma, 0 for bands that do not vary."""
        return np.divide(1.0, self.sigma, out=np.zeros_like(self.sigma), where=self.sigma > 0)


def gather(tile: Tile, carry: gram.Statistics | None, plan: Plan) -> gram.Statistics:
    """Add a tile to the sums of the scene."""
    options = plan.options or Options()
    tile = _scaled(tile, plan.noise)
    if carry is None:
        carry = gram.start(tile, across=1 if options.along == "line" else 0)
    gram.add(carry, tile, impulses=options.mixed != "off")
    return carry


def settle(carry: gram.Statistics, plan: Plan) -> State:
    """Return noise, subspace and corrections of the scene.

    Raises
    ------
    Refused
        Not one pixel is valid.
    """
    if carry.count == 0:
        raise Refused("the scene holds no valid pixel: there is nothing to denoise", hint="check nodata and mask")
    options = plan.options or Options()
    sigma = _given(plan.noise, len(carry.shift))
    repair = None
    if options.mixed != "off":
        repair, space, mean = robust.repair(carry, sigma, rank=options.rank, forced=options.mixed == "on")
    if repair is None:
        mean, covariance, freedom = carry.covariance()
        space = signal_subspace(covariance, freedom, sigma, rank=options.rank)
    kept = protect.signatures(options.protect, plan.extras, space.sigma) if options.protect else None
    found = State(mean, space.sigma, space.basis, kept, repair)
    if not options.noise_covariance:
        return found
    seen = carry.covariance()[1] if repair is None else repair.covariance
    return replace(found, correlation=_correlation(seen, found))


def products(state: State, plan: Plan) -> dict[str, Any]:
    """Return the noise covariance (input units squared), and mean, noise and their ratio over bands."""
    bands = len(state.mean)
    known = plan.extras.get("wavelengths_nm", ())
    ratio = np.divide(state.mean, state.sigma, out=np.full(bands, np.nan), where=state.sigma > 0)
    decibels = np.full(bands, np.nan)
    np.log10(np.abs(ratio), out=decibels, where=np.abs(ratio) > 0)
    table = {
        "band": np.asarray(plan.extras.get("bands", range(bands))) + 1,
        **({"wavelength_nm": np.asarray(known, float)} if len(known) == bands else {}),
        **{"mean": state.mean, "sigma": state.sigma, "snr": ratio, "snr_db": 20 * decibels},
    }
    found: dict[str, Any] = {"snr": table}
    if state.correlation is not None:
        found["noise_covariance"] = state.correlation * np.outer(state.sigma, state.sigma)
    return found


def _correlation(covariance: Array, state: State) -> Array:
    """Return how the noise of bands hangs together: what lies outside the signal subspace, white noise inside it.

    Whitened C = E L E' + N outside the subspace; inside, noise and signal cannot be told apart and it counts as
    white. The diagonal is 1: each band's level is ``state.sigma``, which damage and spikes did not touch.
    """
    white, basis = covariance * np.outer(state.weight, state.weight), state.basis
    outside = np.eye(len(white)) - basis @ basis.T
    noise = outside @ white @ outside + basis @ basis.T
    level = np.sqrt(np.maximum(np.diag(noise), np.finfo(np.float64).tiny))
    noise /= np.outer(level, level)
    noise[np.diag_indices(len(noise))] = state.sigma > 0
    return noise


def run(tile: Tile, noise: Noise | None, plan: Plan, rng: np.random.Generator) -> Result:
    """Denoise one tile: project, filter the eigenimages, guard, rebuild."""
    options = plan.options or Options()
    if tile.carry is None:
        plan = replace(plan, noise=noise if noise is not None else plan.noise)
        tile = replace(tile, carry=settle(gather(tile, None, plan), plan))
    state: State = tile.carry
    facts = _spectral_facts(state) if all(s.start == 0 for s in tile.core) else {}
    if not (state.sigma > 0).any():
        return Result(tile.values.copy(), facts=facts)
    known = plan.noise if plan.noise is not None else noise
    scaled = _scaled(tile, known)
    images, replaced = _project(scaled, state)
    if state.repair is not None:
        facts["replaced"] = float(replaced)
    if tile.mask is not None:
        images[~tile.mask] = 0
    filtered = _filter(images, scaled, plan, options)
    if options.guard and _spatial(options) != "none" and images.shape[-1]:
        restored = _suspicious(images, filtered, tile.mask)
        filtered[restored] = images[restored]
        facts["restored"] = float(restored[_inner(tile)].sum())
    del images
    out = _rebuild(filtered, scaled, state)
    maps = {"eigenimages": _shown(filtered, scaled.mask)} if options.eigenimages else {}
    return Result(_unscaled(out, tile, scaled, known), maps, facts)


def _shown(images: Array, mask: Array | None) -> Array:
    """Return the eigenimages, not a number where nothing was measured."""
    return images if mask is None else np.where(mask[..., None], images, np.float32(np.nan))


def _spectral_facts(state: State) -> dict[str, float]:
    """Return the rank, and signal-to-noise over bands: mean spectrum over noise, dB."""
    facts = {"rank": float(state.basis.shape[1])}
    live = (state.sigma > 0) & (state.mean != 0)
    if live.any():
        ratio = 20 * np.log10(np.abs(state.mean[live]) / state.sigma[live])
        facts |= {
            f"snr_db_{k}": float(v)
            for k, v in zip(("least", "median", "most"), np.percentile(ratio, (0, 50, 100)), strict=True)
        }
    return facts


def kernel_for_purity(device: Any) -> Any:
    """Run the tensor part on small tensors made on ``device``."""
    images = torch.zeros((3, 20, 20), device=device)
    frame = joint.Frame((0, 0), (20, 20), ((0, 20), (0, 20)))
    return joint.denoise(images, frame, joint.Knobs(), torch.ones((20, 20), dtype=torch.bool, device=device))


def _knobs(options: Options) -> joint.Knobs:
    return PROFILES.get(options.profile, PROFILES["default"])


def _spatial(options: Options) -> str:
    if options.spatial != "auto":
        return options.spatial
    return "wavelet" if options.profile == "fast" else "joint"


def _given(noise: Noise | None, bands: int) -> Array | None:
    """Return the noise of every band where it was given; 1 where the samples were divided by a map."""
    if noise is None or noise.sigma is None:
        return None
    sigma = np.asarray(noise.sigma, dtype=np.float64)
    return np.ones(bands) if sigma.ndim == 2 else np.broadcast_to(sigma, (bands,)).copy()


def _scaled(tile: Tile, noise: Noise | None) -> Tile:
    """Divide by a spatial noise map, so that the noise is the same everywhere."""
    level = None if noise is None else tile.noise_map(noise.sigma)
    if np.ndim(level) != 2:
        return tile
    level = np.asarray(level, dtype=np.float32)
    safe = np.where(level > 0, level, 1)
    valid = level > 0 if tile.mask is None else tile.mask & (level > 0)
    return replace(tile, values=tile.values / safe[..., None], mask=valid)


def _unscaled(out: Array, tile: Tile, scaled: Tile, noise: Noise | None) -> Array:
    if scaled is tile or noise is None:
        return out
    level = np.asarray(tile.noise_map(noise.sigma), dtype=np.float32)[..., None]
    return np.where(level > 0, out * level, tile.values)


def _parts(tile: Tile, first: int, last: int) -> list[slice]:
    """Cut lines into pieces small enough for work in float64."""
    step = max(1, gram.CHUNK // max(tile.values.shape[1], 1))
    return [slice(i, min(i + step, last)) for i in range(first, last, step)]


def _project(tile: Tile, state: State) -> tuple[Array, int]:
    """Return eigenimages (line, sample, k), float32, and how many samples of the core were predicted.

    float64 inside, line by line, so that a tile's shape cannot matter.
    """
    matrix = state.basis * state.weight[:, None]
    out = np.empty((*tile.values.shape[:2], matrix.shape[1]), dtype=np.float32)
    inner, replaced = _inner(tile), 0
    for part in _parts(tile, 0, len(out)):
        values = tile.values[part]
        if state.repair is not None:
            values, lost = robust.mend(tile, state, state.repair, part)
            first, last = max(part.start, inner[0].start), min(part.stop, inner[0].stop)
            replaced += int(lost[max(first - part.start, 0) : max(last - part.start, 0), inner[1]].sum())
        for line, target in zip(values, out[part], strict=True):
            target[:] = (line - state.mean) @ matrix
    return out, replaced


def _filter(images: Array, tile: Tile, plan: Plan, options: Options) -> Array:
    kind = _spatial(options)
    if kind == "none" or images.shape[-1] == 0:
        return images.copy()
    if kind == "wavelet":
        return shrink.denoise(images, tile.mask)
    stack = torch.from_numpy(np.ascontiguousarray(images.transpose(2, 0, 1))).to(plan.device)
    frame = joint.Frame(
        tuple(s.start for s in tile.window),
        tuple(tile.shape),
        tuple((s.start - GUARD_WINDOW // 2, s.stop + GUARD_WINDOW // 2) for s in tile.core),
    )
    valid = None if tile.mask is None else torch.from_numpy(tile.mask).to(plan.device)
    return joint.denoise(stack, frame, _knobs(options), valid).cpu().numpy().transpose(1, 2, 0).copy()


def _suspicious(images: Array, filtered: Array, mask: Array | None) -> Array:
    """Return pixels whose removed energy is beyond chi-square: something rarer than noise was there."""
    k = images.shape[-1]
    removed = np.empty(images.shape[:2])
    for target, noisy, clean in zip(removed, images, filtered, strict=True):
        target[:] = np.square(noisy - clean, dtype=np.float64).sum(-1)
    usual = ndimage.uniform_filter(removed, GUARD_WINDOW) / k
    found = removed > usual * special.chdtri(k, GUARD_LEVEL)
    return found if mask is None else found & mask


def _rebuild(filtered: Array, tile: Tile, state: State) -> Array:
    """Return mean + sigma E z, with protected signatures added back; bands without variance as they came.

    Lines outside the core stay zero and cost no memory: they are cut off by the engine.
    """
    matrix, live = state.basis.T * state.sigma, state.sigma > 0
    out = np.zeros(tile.values.shape, dtype=np.float32)
    inner = _inner(tile)
    for part in _parts(tile, inner[0].start, inner[0].stop):
        clean, lost = tile.values[part], None
        if state.kept is not None and state.repair is not None:
            clean, lost = robust.mend(tile, state, state.repair, part)
        for i in range(part.start, part.stop):
            estimate = filtered[i].astype(np.float64) @ matrix + state.mean
            if state.kept is not None:
                seen = None if lost is None else ~lost[i - part.start]
                removed = (clean[i - part.start] - estimate) * state.weight
                estimate += state.sigma * protect.restore(removed, state.kept, seen)
            out[i] = np.where(live, estimate, tile.values[i])
    return out


def _inner(tile: Tile) -> tuple[slice, slice]:
    a, b = (
        slice(core.start - window.start, core.stop - window.start)
        for core, window in zip(tile.core, tile.window, strict=True)
    )
    return a, b
