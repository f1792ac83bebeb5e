# SPDX-License-Identifier: Apache-2.0
"""BM3D: similar patches are stacked, filtered together and put back.

Dabov, Foi, Katkovnik and Egiazarian, IEEE TIP 16(8) 2007 (10.1109/TIP.2007.901238); parts and
parameters also after Lebrun, IPOL 2012 (10.5201/ipol.2012.l-bm3d). Two stages: a hard threshold
gives a basic estimate; matching on that and an empirical Wiener filter give the final one.

Everything is said in large steps. The 2-D transform of *every* patch is taken once, so that a group is
a gather of rows; estimates are added up as coefficients, so that one inverse transform per patch
position is enough (the transform is linear). Distances are products of the same table.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from pellucid.core.lazy import np, torch
from pellucid.core.transforms import fill
from pellucid.core.types import Description, Noise, Plan, Result, Tile, Traits, option

if TYPE_CHECKING:
    from torch import Tensor

    _Sums = tuple[Tensor, Tensor]  # weighted coefficients (position, 64), weights (position,)

SIDE = 8  # samples, side of a patch; Dabov, table I, normal profile
BETA = 2.0  # of the Kaiser window that patches are added with; the same place
CHUNK = 128  # groups filtered at once: half a megabyte stays in the cache
STRIP = 16  # rows of patches transformed at once, for the same reason
BLOCK = (4, 8)  # references matched at once; measured against 4 x 4, 8 x 8 and 8 x 16
TINY = 1e-6  # sigma, in units of the largest: less counts as this


@dataclass(frozen=True)
class Options:
    """How far to look, how much to remove."""

    step: int = option(
        4,
        "samples between reference patches, one more in the first stage; less is slower and a little better",
        choices=(2, 3, 4, 6),
    )
    search: int = option(19, "radius of the search in samples; more finds more repeats and is slower")
    group: int = option(16, "patches in a group; more suits repeated patterns", choices=(4, 8, 16, 32))
    threshold: float = option(2.7, "hard threshold in units of sigma; more removes more")


def halo(options: Options, description: Description | None = None) -> int:
    """Return the farthest sample that moves a result: in each stage patch, search, search, patch."""
    return 2 * (2 * options.search + 2 * SIDE)


TRAITS = Traits(
    name="bm3d",
    line="BM3D: filters similar patches together; keeps texture; colours jointly.",
    spatial=(2,),
    joint=("channel",),
    needs_sigma=True,
    halo=halo,
    bytes_per_sample=900.0,
    thickness=256,
    equivariant=("scale", "shift"),
    cite=("10.1109/TIP.2007.901238", "10.5201/ipol.2012.l-bm3d"),
    use="photographs, micrographs and other pictures with repeated structure",
    avoid="noise that is strongly correlated between neighbours, pictures smaller than 32 samples",
)


class _Lattice(NamedTuple):
    """Where references stand in a window, the window's size, its absolute first sample, and their step."""

    rows: list[int]
    cols: list[int]
    size: tuple[int, int]
    origin: tuple[int, int]
    step: int

    @property
    def width(self) -> int:
        """Patch positions in a row."""
        return self.size[1] - SIDE + 1


def run(tile: Tile, noise: Noise | None, plan: Plan, rng: np.random.Generator) -> Result:
    """Estimate twice: by a threshold, then by the Wiener filter that the first estimate gives."""
    assert noise is not None
    sigma = np.asarray(tile.noise_map(noise.sigma), np.float32)
    unit = float(np.max(noise.sigma))  # of the whole file: tiles must agree
    if not unit > 0:
        return Result(tile.values)
    x = tile.values.reshape(*tile.values.shape[:2], -1)  # (y, x, channel)
    if tile.mask is not None:
        x = np.stack([fill(x[..., c], tile.mask) for c in range(x.shape[-1])], axis=-1)
    short = [(0, max(0, SIDE - n)) for n in x.shape[:2]]
    planes = np.pad(np.moveaxis(x, -1, 0) / np.float32(unit), [(0, 0), *short], mode="edge")
    variance = np.square(sigma / unit)
    if variance.ndim == 2:
        variance = np.pad(variance, short, mode="edge")
    device, options = torch.device(plan.device), plan.options or Options()
    clean = estimate(
        torch.as_tensor(np.ascontiguousarray(planes), device=device),
        torch.as_tensor(variance, device=device),
        [_lattice(tile, step) for step in (options.step + 1, options.step)],
        options,
    )
    out = np.moveaxis(clean.cpu().numpy(), 0, -1)[: x.shape[0], : x.shape[1]] * np.float32(unit)
    if sigma.ndim == 2:
        out = np.where(sigma[..., None] > 0, out, x)
    return Result(np.ascontiguousarray(out.reshape(tile.values.shape)))


def estimate(planes: Tensor, variance: Tensor, lattices: list[_Lattice], options: Options) -> Tensor:
    """Return planes (channel, y, x) denoised; variance is (), (channel,) or (y, x); a lattice for each stage."""
    mix = _cosines(len(planes), planes.device)  # of three channels: sum, red - blue, green - others
    noisy = torch.tensordot(mix, planes, 1)
    scale = torch.ones_like(noisy[:, :1, :1])
    if variance.ndim < 2:  # from here on sigma is 1, or the level of a group where there is a map
        scale = (mix.square() @ variance.expand(len(mix))).sqrt().clamp(min=TINY)[:, None, None]
    noisy /= scale
    first, second = lattices
    levels = [_levels(variance, lattice) if variance.ndim == 2 else None for lattice in lattices]
    spectra = [_spectra(plane) for plane in noisy]
    sums = torch.empty_like(spectra[0]), spectra[0].new_empty(len(spectra[0]))
    basic = torch.empty_like(noisy)
    groups = _match(spectra[0], first, options.search, options.group)
    for c, plane in enumerate(noisy):
        # the stages' lattices differ: 5 then 4 samples is .04 dB better than 4 twice, and quicker (tuning pictures)
        _threshold(spectra[c], groups, levels[0], options.threshold, out=sums)
        basic[c] = _spread(*sums, plane, first.origin[0])
    for c, plane in enumerate(noisy):
        pilot = _spectra(basic[c])
        groups = _match(pilot, second, options.search, options.group) if c == 0 else groups
        _wiener(spectra[c], pilot, groups, levels[1], out=sums)
        noisy[c] = _spread(*sums, plane, first.origin[0])
    return torch.tensordot(mix.T, noisy * scale, 1)


def _lattice(tile: Tile, step: int) -> _Lattice:
    """Lay references on a tile; a file smaller than a patch counts as one patch."""
    rows, cols = (_references(w, max(SIDE, n), step) for w, n in zip(tile.window, tile.shape, strict=True))
    size = [max(SIDE, w.stop - w.start) for w in tile.window]
    return _Lattice(rows, cols, (size[0], size[1]), (tile.window[0].start, tile.window[1].start), step)


def _references(window: slice, length: int, step: int) -> list[int]:
    """Starts of reference patches inside a window: absolute multiples of ``step`` and the file's last."""
    stop = max(window.stop, SIDE if window.start == 0 else 0)  # a file smaller than a patch was padded to one
    first = -(-window.start // step) * step
    at = list(range(first, min(stop, length) - SIDE + 1, step))
    last = length - SIDE
    if window.start <= last <= stop - SIDE and last % step:
        at.append(last)
    return [a - window.start for a in at]


def _levels(variance: Tensor, lattice: _Lattice) -> Tensor:
    """Noise level of each group, of a map: the root of the mean over its reference patch."""
    mean = torch.nn.functional.avg_pool2d(variance[None, None], SIDE, 1)[0, 0]
    rows, cols = (torch.tensor(a, device=variance.device) for a in (lattice.rows, lattice.cols))
    return mean[rows][:, cols].reshape(-1, 1, 1).sqrt().clamp(min=TINY)


def _spectra(plane: Tensor) -> Tensor:
    """2-D transform of the patch at every position: (position, 64)."""
    # a convolution gives a patch the same bits wherever it stands; a product of all patches does not
    # strides say "channels last" outright, which one channel leaves open: the numbers of a patch lie side by side
    (height, width), plane = plane.shape, plane.contiguous()
    kernel = _atoms(plane.device).as_strided((SIDE * SIDE, 1, SIDE, SIDE), (SIDE * SIDE, 1, SIDE, 1))
    image = plane.as_strided((1, 1, height, width), (height * width, 1, width, 1), plane.storage_offset())
    return torch.nn.functional.conv2d(image, kernel).permute(0, 2, 3, 1).contiguous().view(-1, SIDE * SIDE)


def _match(spectra: Tensor, lattice: _Lattice, search: int, group: int) -> Tensor:
    """Positions of the patches nearest to each reference (eqs. 5 and 9), itself first: (reference, group).

    ``|a - b|^2 = |a|^2 + |b|^2 - 2 a b``: one matrix product for a block of references and all it may meet.
    The patches' means are compared apart, for else a bright picture would drown the differences.
    """
    table = spectra.view(-1, lattice.width, SIDE * SIDE)
    while group > (2 * search + 1) ** 2:  # a power of two, for the Haar transform
        group //= 2
    area = _Area(table, lattice.step, search, group)
    rows = _blocks(lattice.rows, lattice.origin[0], lattice.step, BLOCK[0])
    cols = _blocks(lattice.cols, lattice.origin[1], lattice.step, BLOCK[1])
    strips = [torch.cat([area.nearest(row, col) for col in cols], dim=1) for row in rows]
    return torch.cat(strips).view(-1, group)


def _blocks(at: list[int], origin: int, step: int, most: int) -> list[tuple[int, range]]:
    """Cut references into blocks: where each begins, and which of its ``most`` places are taken.

    Blocks begin at absolute multiples, so that a reference has the same place in any tile: the bits of a
    matrix product may depend on it. The file's last position may break the step: a block of its own.
    """
    found: dict[int, list[int]] = {}
    for place in at:
        absolute = place + origin
        start = absolute // (step * most) * (step * most) if absolute % step == 0 else absolute
        found.setdefault(start - origin, []).append((absolute - start) // step)
    return [(start, range(taken[0], taken[-1] + 1)) for start, taken in found.items()]


class _Area:
    """The surroundings of a block of references, in buffers that are used again."""

    def __init__(self, table: Tensor, step: int, search: int, group: int) -> None:
        self.table, self.step, self.reach, self.group = table, step, search, group
        self.span = 2 * search + 1
        self.size = [(n - 1) * step + self.span for n in BLOCK]
        self.patches = table.new_zeros(*self.size, SIDE * SIDE)
        self.products = table.new_empty(BLOCK[0] * BLOCK[1], self.size[0] * self.size[1])
        self.rim = [search + (n - 1) * step for n in BLOCK]
        edges = (self.rim[1], self.rim[1], self.rim[0], self.rim[0])
        power = torch.linalg.vector_norm(table[..., 1:], dim=-1).square_()
        self.power = torch.nn.functional.pad(power, edges, value=math.inf)  # outside the picture
        self.mean = torch.nn.functional.pad(table[..., 0], edges)
        offset = torch.arange(-search, search + 1, device=table.device)
        self.shifts = (offset[:, None] * table.shape[1] + offset).flatten()
        down, along = (step * torch.arange(n, device=table.device) for n in BLOCK)
        self.places = down[:, None] * table.shape[1] + along

    def nearest(self, rows: tuple[int, range], cols: tuple[int, range]) -> Tensor:
        """Positions nearest to the references of a block: (row, col, group)."""
        reach, step, start = self.reach, self.step, (rows[0], cols[0])
        inside = [
            (max(0, f - reach), min(f - reach + s, n))
            for f, s, n in zip(start, self.size, self.table.shape, strict=False)
        ]
        there = tuple(slice(a, b) for a, b in inside)
        here = tuple(slice(a - f + reach, b - f + reach) for (a, b), f in zip(inside, start, strict=True))
        self.patches[here] = self.table[there]
        own = self.patches[tuple(slice(reach, reach + n * step, step) for n in BLOCK)].reshape(-1, SIDE * SIDE)
        mean = own[:, 0].clone().view(*BLOCK, 1, 1)
        own[:, 0] = 0
        torch.mm(own, self.patches.view(-1, SIDE * SIDE).T, out=self.products)
        apart = self._windows(self.mean, start) - mean
        distance = torch.addcmul(self._windows(self.power, start), apart, apart).sub_(self._seen(), alpha=2)
        distance[:, :, reach, reach] = -math.inf
        taken = tuple(slice(places.start, places.stop) for _, places in (rows, cols))
        found = torch.topk(distance[taken].flatten(2), self.group, dim=-1, largest=False)
        shift = self.shifts[found.indices]
        if [b - a for a, b in inside] != self.size:  # too few: the reference again
            shift.masked_fill_(found.values == math.inf, 0)
        return shift.add_((self.places[taken] + (start[0] * self.table.shape[1] + start[1]))[..., None])

    def _windows(self, values: Tensor, start: tuple[int, int]) -> Tensor:
        """What each reference of a block sees of a whole map with its rim: (row, col, dy, dx), without a copy."""
        down, step = values.stride(0), self.step
        first = (start[0] + self.rim[0] - self.reach) * down + start[1] + self.rim[1] - self.reach
        return values.as_strided((*BLOCK, self.span, self.span), (step * down, step, down, 1), first)

    def _seen(self) -> Tensor:
        """The products of each reference of a block with what it sees: (row, col, dy, dx), without a copy."""
        step, down, whole = self.step, self.size[1], self.products.stride(0)
        strides = (BLOCK[1] * whole + step * down, whole + step, down, 1)
        return self.products.as_strided((*BLOCK, self.span, self.span), strides)


def _threshold(spectra: Tensor, groups: Tensor, level: Tensor | None, limit: float, *, out: _Sums) -> None:
    """Hard-threshold groups (eqs. 6, 7); weights are one over the number of coefficients kept (eq. 10)."""
    haar = _haar(groups.shape[1], spectra.device)
    for index, at in _chunks(groups, out):
        group = haar @ spectra.index_select(0, index).view(-1, len(haar), SIDE * SIDE)
        group = group if level is None else group / level[at]
        mean = group[:, 0, 0].clone()  # belongs to the signal
        group = torch.nn.functional.hardshrink(group, limit)
        group[:, 0, 0] = mean
        weight = 1 / group.flatten(1).sign().abs_().sum(1).clamp_(min=1)
        _add(out, index, haar.T @ (group if level is None else group * level[at]), weight)


def _wiener(spectra: Tensor, pilot: Tensor, groups: Tensor, level: Tensor | None, *, out: _Sums) -> None:
    """Wiener-filter groups (eqs. 8, 9); weights are one over the filter's energy (eq. 11)."""
    haar = _haar(groups.shape[1], spectra.device)
    for index, at in _chunks(groups, out):
        gain = haar @ pilot.index_select(0, index).view(-1, len(haar), SIDE * SIDE)
        gain = (gain if level is None else gain / level[at]).square_()
        gain /= gain + 1
        gain[:, 0, 0] = 1
        group = haar @ spectra.index_select(0, index).view(-1, len(haar), SIDE * SIDE)
        weight = 1 / gain.square().flatten(1).sum(1)
        _add(out, index, haar.T @ group.mul_(gain), weight)


def _chunks(groups: Tensor, out: _Sums) -> Iterator[tuple[Tensor, slice]]:
    """Some groups at a time: flat positions, and which groups. Sums begin at zero."""
    for total in out:
        total.zero_()
    for start in range(0, len(groups), CHUNK):
        at = slice(start, start + CHUNK)
        yield groups[at].reshape(-1), at


def _add(out: _Sums, index: Tensor, group: Tensor, weight: Tensor) -> None:
    """Add weighted coefficients where their patches came from."""
    out[0].index_add_(0, index, group.mul_(weight[:, None, None]).view(-1, SIDE * SIDE))
    out[1].index_add_(0, index, weight.repeat_interleave(group.shape[1]))


def _spread(total: Tensor, weights: Tensor, noisy: Tensor, origin: int) -> Tensor:
    """Transform back and average overlapping patches under a Kaiser window (eq. 12)."""
    width = noisy.shape[1] - SIDE + 1
    window = torch.as_tensor(np.kaiser(SIDE, BETA).astype(np.float32), device=noisy.device)
    atoms = _atoms(noisy.device).T * torch.outer(window, window).view(-1, 1)
    out, norm = torch.zeros_like(noisy), torch.zeros_like(noisy)
    for start in range(-(origin % STRIP), noisy.shape[0] - SIDE + 1, STRIP):  # absolute: sums keep their order
        y0 = max(start, 0)
        part = slice(y0 * width, (start + STRIP) * width)
        patches, weight = (atoms @ total[part].T).view(SIDE, SIDE, -1, width), weights[part].view(-1, width)
        rows = weight.new_zeros(len(weight), noisy.shape[1])
        for x in range(SIDE):
            rows[:, x : x + width] += window[x] * weight
        for y in range(SIDE):
            band = slice(y0 + y, y0 + y + len(weight))
            norm[band] += window[y] * rows
            for x in range(SIDE):
                out[band, x : x + width] += patches[y, x]
    # only the rim of a window that is no border of the file can be without a patch; it is cropped later
    return torch.where(norm > 0, out / norm, noisy)


def _atoms(device: torch.device) -> Tensor:
    """The 2-D cosine transform of a patch as a matrix: (coefficient, sample)."""
    cosines = _cosines(SIDE, device)
    return torch.kron(cosines, cosines)


def _cosines(n: int, device: torch.device) -> Tensor:
    """Orthonormal DCT-II (frequency, sample); of red, green, blue: the opponent colours."""
    k, i = np.arange(n)[:, None], np.arange(n)
    matrix = np.cos(np.pi * (2 * i + 1) * k / (2 * n)) * np.where(k > 0, 2 / n, 1 / n) ** 0.5
    return torch.as_tensor(matrix.astype(np.float32), device=device)


def _haar(n: int, device: torch.device) -> Tensor:
    """Orthonormal Haar transform; ``n`` is a power of two."""
    matrix = np.ones((1, 1))
    while len(matrix) < n:
        matrix = np.concatenate([np.kron(matrix, [1, 1]), np.kron(np.eye(len(matrix)), [1, -1])]) / math.sqrt(2)
    return torch.as_tensor(matrix.astype(np.float32), device=device)
