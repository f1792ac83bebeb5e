# SPDX-License-Identifier: Apache-2.0
"""Non-local means of images and volumes, guided by a sliding cosine transform.

1. A first estimate of the samples: overlapping cosine blocks, thresholded, then Wiener-filtered with the
   thresholded ones as pilot (`pellucid.core.transforms.odct`).
2. Each noisy sample becomes the mean of the noisy samples near it, weighted by how alike the first
   estimate and its local mean are there (Manjon 2012, doi 10.1016/j.media.2011.04.003, eq. 5). Magnitudes
   with Rician noise are averaged as squares less ``2 sigma^2``, which is unbiased at any signal
   (Wiest-Daessle 2008, doi 10.1007/978-3-540-85990-1_21).
3. The answer is the mean of both estimates: their errors differ, so it beats either.

``guide="patch"`` compares patches of the noisy samples instead (Buades 2005, doi 10.1109/CVPR.2005.38).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from pellucid.core.lazy import fft, ndimage, np
from pellucid.core.noise import rician
from pellucid.core.transforms import EDGE, fill, odct
from pellucid.core.types import Description, Noise, Plan, Result, Tile, Traits, option

if TYPE_CHECKING:
    from pellucid.core.types import Array

PARTS = {"fast": 4, "default": 2, "best": 1}  # 1 / share of block positions used
SEARCH = {2: {"fast": 3, "default": 5, "best": 7}, 3: {"fast": 2, "default": 2, "best": 2}}  # samples
BETA = {
    "dct": {2: 0.1, 3: 0.2},
    "patch": {2: 0.25, 3: 0.5},
}  # tune images and Colin27, benchmarks/image_nlm, mri_volume
PATCH = {2: 2, 3: 1}  # samples; Buades 2005, Coupe 2008
COLOURED = {"margin": 1.3, "beta": 0.5}  # spectra are known less well than sigma: the same tune images
CORRELATED = 2.0  # patches of correlated noise differ more: tune images of SIDD, CC15 and PolyU
FAR = 1000.0  # sigma: exp(-FAR^2 / ...) is exactly 0 in float32
RUN = 32768  # samples a step: a dozen buffers of 128 kB stay in the second-level cache
XI_POINTS = 601  # theta 0 ... 12: interpolation error of xi below 1e-4


def _search(options: Options, dims: int) -> int:
    return options.search or SEARCH[dims][options.profile]


def _halo(options: Options, description: Description | None = None) -> int:
    """Return the reach of a result in samples: for a file's own number of axes, else for either."""
    reach = []
    for dims, edge in EDGE.items() if description is None else [(description.spatial, EDGE[description.spatial])]:
        blocks = 3 * (edge - 1) + 1  # filling in, two transforms, the local mean
        patch = (options.patch or PATCH[dims]) + edge - 1
        reach.append(_search(options, dims) + (patch if options.guide == "patch" else blocks))
    return max(reach)


TRAITS = Traits(
    name="nlm",
    line="Non-local means guided by a cosine transform; Gaussian or Rician noise.",
    spatial=(2, 3),
    joint=("channel",),
    needs_sigma=True,
    exact="local",
    halo=_halo,
    laws=("gaussian", "rician"),
    bytes_per_sample=160.0,
    # flips too where sides are even, and always with profile "best": the block lattice is then symmetric
    equivariant=("scale", "permute"),
    cite=("10.1016/j.media.2011.04.003", "10.1109/CVPR.2005.38", "10.1007/978-3-540-85990-1_21"),
    use="single images and volumes with white noise of known strength",
    avoid="noise with strong correlation between neighbours; series of 15 or more volumes, where mppca does more",
)


@dataclass(frozen=True)
class Options:
    """Settings of `run`."""

    profile: str = option("default", "Effort: share of cosine blocks and search range.", choices=tuple(PARTS))
    guide: str = option(
        "auto", "What weights come from; auto: dct, or patch for correlated noise.", choices=("auto", "dct", "patch")
    )
    beta: float = option(0.0, "Width of the weights, in noise variances; more smooths more. 0 chooses.")
    search: int = option(0, "Largest distance of averaged samples on each axis; more is slower. 0 chooses.")
    patch: int = option(0, "Radius of compared patches with guide patch, samples. 0 chooses.")


def run(tile: Tile, noise: Noise | None, plan: Plan, rng: np.random.Generator) -> Result:
    """Denoise one tile; exact zeros of Rician data, masked samples and samples with sigma 0 are copied.

    ``noise.sigma`` may be a number, one value per channel, or a map over the spatial axes. In
    ``noise.params`` a ``stride`` above 1 says that neighbouring samples share their noise
    (`estimate.mad.correlated_sigma`), and ``spectrum`` what that makes of each cosine coefficient, in input
    units (`estimate.spectrum.noise_spectrum`; used by guide dct if sigma is a number).
    """
    options = plan.options if isinstance(plan.options, Options) else Options()
    assert noise is not None
    is_rician = noise.law == "rician"
    dims = len(tile.shape)
    values = tile.values if tile.values.ndim > dims else tile.values[..., None]
    scale, sigma = _levels(noise, tile, values.shape[-1])
    keep = np.any(values != 0, axis=-1) if is_rician else np.ones(values.shape[:-1], np.bool_)
    if tile.mask is not None:
        keep &= tile.mask
    noisy = scale > 0  # channels
    if not isinstance(sigma, float):
        keep &= sigma > 0
    out = values.astype(np.float32, copy=True)
    if keep.any() and noisy.any():
        unit = (values[..., noisy] / scale[noisy]).astype(np.float32)
        setting = _Setting(options, dims, tuple(w.start for w in tile.window), is_rician, *_colour(noise, noisy))
        estimate = _estimate(unit, keep, sigma, setting) * scale[noisy]
        out[..., noisy] = np.where(keep[..., None], estimate, out[..., noisy])
    return Result(out.reshape(tile.values.shape), facts={"copied": float(keep.size - keep.sum())})


def _colour(noise: Noise, noisy: Array) -> tuple[bool, Array | None]:
    """Return whether neighbours share their noise, and its spectrum in units of sigma with a margin."""
    spectrum = noise.params.get("spectrum")
    if spectrum is not None and np.ndim(noise.sigma) == 0 and noisy.all():  # opponent channels need one unit
        spectrum = np.asarray(spectrum, np.float64) * (COLOURED["margin"] / float(noise.sigma))
    else:
        spectrum = None
    return noise.params.get("stride", 1) > 1, spectrum


@dataclass(frozen=True)
class _Setting:
    """Options with the numbers that depend on the data's axes."""

    options: Options
    dims: int
    origin: tuple[int, ...]
    rician: bool
    correlated: bool = False
    spectrum: Array | None = None  # (channel, edge, ...), units of sigma

    @property
    def guide(self) -> str:
        chosen = self.options.guide
        if chosen == "auto":  # a white transform takes correlated noise for signal; a picture's own spectrum
            return "patch" if self.correlated else "dct"  # takes texture for noise: CC15 -0.9 dB, SIDD +2.0 dB
        return chosen

    @property
    def beta(self) -> float:
        if self.spectrum is not None and self.guide == "dct":
            power = float(np.mean(np.square(self.spectrum.reshape(len(self.spectrum), -1)[:, 1:])))
            return (self.options.beta or COLOURED["beta"]) * power
        wide = CORRELATED if self.correlated and self.guide == "patch" else 1.0
        return self.options.beta or BETA[self.guide][self.dims] * wide


def _levels(noise: Noise, tile: Tile, channels: int) -> tuple[Array, Any]:
    """Return the unit of each channel and sigma in that unit: 1.0, or a map over the window.

    The unit comes from the whole file, so that every tile computes in the same numbers.
    """
    sigma = np.asarray(noise.sigma, np.float64)
    if sigma.shape == tile.shape:
        sigma = np.where(np.isfinite(sigma), sigma, 0)
        top = sigma.max()
        local = sigma[tile.window] / (top if top > 0 else 1)
        return np.full(channels, top), local.astype(np.float32)
    return np.broadcast_to(sigma, (channels,)).astype(np.float64), 1.0


def _estimate(unit: Array, keep: Array, sigma: Any, setting: _Setting) -> Array:
    """Return the denoised samples in units of sigma; ``unit`` is (spatial..., channel)."""
    options, whole = setting.options, bool(keep.all())
    level = sigma if isinstance(sigma, float) or whole else fill(sigma, keep)
    clean = unit if whole else np.stack([fill(c, keep) for c in np.moveaxis(unit, -1, 0)], -1)
    noisy = unit**2 - 2 * np.square(level)[..., None] if setting.rician else unit
    if setting.guide == "patch":
        mean = _average(noisy, _patch_features(clean, keep, setting), level, setting)
        return np.sqrt(np.maximum(mean, 0)) if setting.rician else mean
    # opponent channels: the cosine transform along the channel axis packs colour into its first component
    mixed = fft.dct(clean, axis=-1, norm="ortho").astype(np.float32)
    part = PARTS[options.profile]
    for c in range(mixed.shape[-1]):
        colour = None if setting.spectrum is None else setting.spectrum[c]
        pilot = odct(mixed[..., c], level, origin=setting.origin, part=part, spectrum=colour)
        mixed[..., c] = odct(mixed[..., c], level, origin=setting.origin, part=part, pilot=pilot, spectrum=colour)
    mean = _average(noisy, _smooth_features(mixed, keep), level, setting)
    first = fft.idct(mixed, axis=-1, norm="ortho")
    if not setting.rician:
        return np.asarray(0.5 * (mean + first))
    return np.sqrt(np.maximum(0.5 * (mean + _signal_square(first, level)), 0))


def _signal_square(magnitude: Array, level: Any) -> Array:
    """Return the squared signal behind mean magnitudes: E[m]^2 - sigma^2 (2 - xi), Koay & Basser 2006."""
    theta = np.linspace(0, 12, XI_POINTS)
    sigma = np.broadcast_to(np.square(level), magnitude.shape[:-1])[..., None]
    ratio = magnitude if isinstance(level, float) else magnitude / np.maximum(level, 1e-30)[..., None]
    xi = np.interp(ratio, rician.normalised_mean(theta), rician.xi(theta)).astype(np.float32)
    return np.asarray(magnitude**2 - sigma * (2 - xi))


def _smooth_features(mixed: Array, keep: Array) -> list[tuple[Array, int]]:
    """Return the first estimate and its local mean, far away from everything where samples are kept out."""
    features = []
    for c in np.moveaxis(mixed, -1, 0):
        for feature in (c, ndimage.uniform_filter(c, 3, mode="nearest")):
            # two features a channel share the distance: each is halved
            features.append((np.where(keep, feature * np.float32(0.5**0.5), feature.min() - 2 * FAR), 0))
    return features


def _patch_features(clean: Array, keep: Array, setting: _Setting) -> list[tuple[Array, int]]:
    """Return the noisy channels, to be compared patch by patch, and a feature that bars kept-out samples."""
    radius = setting.options.patch or PATCH[setting.dims]
    channels = [(np.ascontiguousarray(c), radius) for c in np.moveaxis(clean, -1, 0)]
    return [*channels, (np.where(keep, 0, -2 * FAR).astype(np.float32), 0)]


def _average(noisy: Array, features: list[tuple[Array, int]], level: Any, setting: _Setting) -> Array:
    """Return the mean of ``noisy`` over the search window, weighted by exp(-distance / (2 beta sigma^2)).

    Each pair of samples is visited once and serves both. Padded arrays are walked as flat runs, so that an
    offset is one number; padding is as far away as a kept-out sample.
    """
    search, radius = _search(setting.options, setting.dims), max(p for _, p in features)
    pad = [(search + radius,) * 2] * setting.dims
    width = float(np.sqrt(0.5 / (setting.beta * noisy.shape[-1])))
    flat = [(_padded(f * np.float32(width), pad, p > 0), p) for f, p in features]
    shape = [n + a + b for n, (a, b) in zip(noisy.shape[:-1], pad, strict=True)]
    steps = [int(np.prod(shape[a + 1 :])) for a in range(setting.dims)]
    around = product(range(-search, search + 1), repeat=setting.dims)
    ahead = [sum(a * b for a, b in zip(o, steps, strict=True)) for o in around if o > (0,) * setting.dims]
    sources = [np.pad(c, pad).ravel() for c in np.moveaxis(noisy, -1, 0)]
    sums, weight = [c.copy() for c in sources], np.ones_like(sources[0])
    inverse = None if isinstance(level, float) else np.pad(1 / np.maximum(level, 1e-30), pad, mode="edge").ravel()
    # patches of pure noise differ by 2 sigma^2 a channel: that much is no difference
    bias = 0.0 if radius == 0 else 2 * noisy.shape[-1] * width**2
    margin = radius * sum(steps)
    end = weight.size - margin - max(ahead)
    buffer, room = np.empty(RUN, np.float32), np.empty((2, RUN + 2 * margin), np.float32)
    for start in range(margin, end, RUN):
        here = slice(start, min(start + RUN, end))
        for step in ahead:
            there = slice(here.start + step, here.stop + step)
            w = _distance(flat, here, step, steps, room)
            if inverse is not None:
                w *= inverse[here]
                w *= inverse[there]
            if bias:
                np.maximum(np.subtract(w, np.float32(bias), out=w), 0, out=w)
            np.exp(np.negative(w, out=w), out=w)
            weight[here] += w
            weight[there] += w
            term = buffer[: w.size]
            for source, total in zip(sources, sums, strict=True):
                total[here] += np.multiply(w, source[there], out=term)
                total[there] += np.multiply(w, source[here], out=term)
    cut = tuple(slice(a, -b) for a, b in pad)
    return np.stack([(total / weight).reshape(shape)[cut] for total in sums], -1)


def _padded(feature: Array, pad: list[tuple[int, int]], mirror: bool) -> Array:
    """Return the flat padded feature: mirrored where patches look at it, else far away."""
    if mirror:
        return np.pad(feature, pad, mode="symmetric").astype(np.float32).ravel()
    return np.pad(feature, pad, constant_values=feature.min() - 2 * FAR).astype(np.float32).ravel()


def _distance(flat: list[tuple[Array, int]], here: slice, step: int, steps: list[int], room: Array) -> Array:
    """Return the summed squared differences between a run and the run ``step`` further, averaged over patches."""
    total: Array | None = None
    for feature, radius in flat:
        margin = radius * sum(steps)
        run = slice(here.start - margin, here.stop + margin)
        d = room[0 if total is None else 1, : run.stop - run.start]
        np.subtract(feature[run], feature[run.start + step : run.stop + step], out=d)
        np.multiply(d, d, out=d)
        for stride in steps if radius else ():
            n = d.size - 2 * radius * stride
            d = sum((d[k * stride : k * stride + n] for k in range(1, 2 * radius + 1)), d[:n].copy())
            d /= 2 * radius + 1
        total = d if total is None else np.add(total, d, out=total)
    assert total is not None
    return total
