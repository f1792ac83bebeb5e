# SPDX-License-Identifier: Apache-2.0
"""BM3D: similar patches are stacked, filtered together and put back.

Dabov, Foi, Katkovnik and Egiazarian, IEEE TIP 16(8) 2007 (10.1109/TIP.2007.901238); parts and
parameters also after Lebrun, IPOL 2012 (10.5201/ipol.2012.l-bm3d). Two stages: a hard threshold
gives a basic estimate; matching on that and an empirical Wiener filter give the final one.

Everything is said in large steps. The 2-D transform of *every* patch is taken once, so that a group is
a gather of rows; estimates are added up as coefficients, so that one inverse transform per patch
position is enough (the transform is linear). Distances are one squared difference image and one box
sum per offset.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from pellucid.core.lazy import np, torch
from pellucid.core.transforms import fill
from pellucid.core.types import Noise, Plan, Result, Tile, Traits, option

if TYPE_CHECKING:
    from torch import Tensor

SIDE = 8  # samples, side of a patch; Dabov, table I, normal profile
BETA = 2.0  # of the Kaiser window that patches are added with; the same place
CHUNK = 128  # groups filtered at once: half a megabyte stays in the cache
STRIP = 16  # rows of references matched at once, for the same reason
TINY = 1e-30  # of a variance, in units of the largest; keeps 0 / 0 out


@dataclass(frozen=True)
class Options:
    """How far to look, how much to remove."""

    step: int = option(4, "samples between reference patches; less is slower and a little better", choices=(2, 3, 4, 6))
    search: int = option(16, "radius of the search in samples; more finds more repeats and is slower")
    group: int = option(16, "patches in a group; more suits repeated patterns", choices=(4, 8, 16, 32))
    threshold: float = option(2.7, "hard threshold in units of sigma; more removes more")


def halo(options: Options) -> int:
    """Return the farthest sample that moves a result: in each stage patch, search, search, patch."""
    return 2 * (2 * options.search + 2 * SIDE)


TRAITS = Traits(
    name="bm3d",
    line="BM3D: filters similar patches together; keeps texture; colours jointly.",
    spatial=(2,),
    joint=("channel",),
    needs_sigma=True,
    halo=halo,
    devices=("cpu", "cuda"),
    bytes_per_sample=1200.0,
    equivariant=("scale", "shift"),
    cite=("10.1109/TIP.2007.901238", "10.5201/ipol.2012.l-bm3d"),
    use="photographs, micrographs and other pictures with repeated structure",
    avoid="noise that is strongly correlated between neighbours, pictures smaller than 32 samples",
)


class _Lattice(NamedTuple):
    """Where references stand in a window, and its size."""

    rows: list[int]
    cols: list[int]
    size: tuple[int, int]

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
    whole = [max(SIDE, n) for n in tile.shape]
    grid = [_references(w, n, (plan.options or Options()).step) for w, n in zip(tile.window, whole, strict=True)]
    lattice = _Lattice(grid[0], grid[1], (planes.shape[1], planes.shape[2]))
    device = torch.device(plan.device)
    clean = estimate(
        torch.as_tensor(np.ascontiguousarray(planes), device=device),
        torch.as_tensor(variance, device=device),
        lattice,
        plan.options or Options(),
    )
    out = np.moveaxis(clean.cpu().numpy(), 0, -1)[: x.shape[0], : x.shape[1]] * np.float32(unit)
    if sigma.ndim == 2:
        out = np.where(sigma[..., None] > 0, out, x)
    return Result(np.ascontiguousarray(out.reshape(tile.values.shape)))


def estimate(planes: Tensor, variance: Tensor, lattice: _Lattice, options: Options) -> Tensor:
    """Return planes (channel, y, x) denoised; variance is (), (channel,) or (y, x)."""
    mix = _cosines(len(planes), planes.device)  # of three channels: sum, red - blue, green - others
    noisy = torch.tensordot(mix, planes, 1)
    level = _levels(variance, mix, lattice)
    spectra = [_spectra(plane) for plane in noisy]
    groups = _match(noisy[0], lattice, options, thin=1)
    basic = torch.stack(
        [
            _spread(*_threshold(s, groups, v, options.threshold), plane)
            for s, v, plane in zip(spectra, level, noisy, strict=True)
        ]
    )
    # the basic estimate is smooth: every second sample is enough. (Noisy data need all of them: matching
    # on smoothed samples picks patches whose coarse noise agrees, and keeps it: -.15 dB on tuning pictures.)
    groups = _match(basic[0], lattice, options, thin=2 if options.step % 2 == 0 else 1)
    final = torch.stack(
        [
            _spread(*_wiener(s, _spectra(pilot), groups, v), plane)
            for s, pilot, v, plane in zip(spectra, basic, level, noisy, strict=True)
        ]
    )
    return torch.tensordot(mix.T, final, 1)


def _references(window: slice, length: int, step: int) -> list[int]:
    """Starts of reference patches inside a window: absolute multiples of ``step`` and the file's last."""
    stop = max(window.stop, SIDE if window.start == 0 else 0)  # a file smaller than a patch was padded to one
    first = -(-window.start // step) * step
    at = list(range(first, min(stop, length) - SIDE + 1, step))
    last = length - SIDE
    if window.start <= last <= stop - SIDE and last % step:
        at.append(last)
    return [a - window.start for a in at]


def _levels(variance: Tensor, mix: Tensor, lattice: _Lattice) -> list[Tensor]:
    """Noise variance of each mixed channel: () or, of a map, the mean over each reference patch."""
    if variance.ndim < 2:
        return list(mix.square() @ variance.expand(len(mix)))
    mean = torch.nn.functional.avg_pool2d(variance[None, None], SIDE, 1)[0, 0]
    rows, cols = (torch.tensor(a, device=mix.device) for a in (lattice.rows, lattice.cols))
    return [mean[rows][:, cols].reshape(-1, 1, 1)] * len(mix)


def _spectra(plane: Tensor) -> Tensor:
    """2-D transform of the patch at every position: (position, 64)."""
    kernel = _atoms(plane.device).view(-1, 1, SIDE, SIDE).contiguous(memory_format=torch.channels_last)
    image = plane[None, None].contiguous(memory_format=torch.channels_last)
    out = torch.nn.functional.conv2d(image, kernel)
    return out.permute(0, 2, 3, 1).reshape(-1, SIDE * SIDE)


def _match(image: Tensor, lattice: _Lattice, options: Options, thin: int) -> Tensor:
    """Positions of the patches nearest to each reference (eqs. 5 and 9), itself first: (reference, group)."""
    reach = options.search
    padded = image
    if thin == 2:  # sums of 2 x 2 samples stand for them
        padded = torch.nn.functional.pad(image[None, None], (0, 1, 0, 1), mode="replicate")[0, 0]
        padded = padded[:-1] + padded[1:]
        padded = padded[:, :-1] + padded[:, 1:]
    padded = torch.nn.functional.pad(padded[None, None], (reach, reach + 2) * 2, mode="replicate")[0, 0]
    strips = [
        torch.cat([_nearest(padded, rows, cols, lattice, options, thin=thin) for cols in _runs(lattice.cols)], dim=1)
        for run in _runs(lattice.rows)
        for rows in (run[i : i + STRIP] for i in range(0, len(run), STRIP))
    ]
    return torch.cat(strips).view(-1, options.group)


def _runs(at: list[int]) -> list[list[int]]:
    """Split off the file's last position where it breaks the step."""
    irregular = len(at) > 2 and at[-1] - at[-2] != at[1] - at[0]
    return [at[:-1], at[-1:]] if irregular or len(at) == 2 else [at]


def _nearest(
    padded: Tensor, rows: list[int], cols: list[int], lattice: _Lattice, options: Options, *, thin: int
) -> Tensor:
    """Positions nearest to a regular rectangle of references: (row, col, group)."""
    reach, span, device = options.search, 2 * options.search + 1, padded.device
    height, width = rows[-1] - rows[0] + SIDE, cols[-1] - cols[0] + SIDE
    corner = (rows[0] + reach, cols[0] + reach)
    here = padded[corner[0] : corner[0] + height : thin, corner[1] : corner[1] + width : thin].contiguous()
    distance = torch.full((len(rows), len(cols), span, span), math.inf, device=device)
    for dy in range(-reach, reach + 1):
        inside = [k for k, row in enumerate(rows) if 0 <= row + dy <= lattice.size[0] - SIDE]
        if not inside:
            continue
        band = padded[corner[0] + dy : corner[0] + dy + height : thin]
        for phase in range(thin):
            first = corner[1] - reach + phase
            there = band[:, first : first + width + 2 * reach - 2 * phase : thin].contiguous()
            difference = there.unfold(1, here.shape[1], 1).transpose(0, 1) - here  # (dx, y, x)
            sums = _box(difference.square_(), rows, cols, thin)[:, inside[0] : inside[-1] + 1]
            distance[inside[0] : inside[-1] + 1, :, dy + reach, phase::thin] = sums.permute(1, 2, 0)
    for j, col in enumerate(cols):
        distance[:, j, :, : max(0, reach - col)] = math.inf
        distance[:, j, :, span - max(0, col + reach - lattice.size[1] + SIDE) :] = math.inf
    distance[:, :, reach, reach] = -1
    nearest = torch.topk(distance.view(len(rows), len(cols), -1), options.group, dim=-1, largest=False)
    own = torch.tensor(rows, device=device)[:, None] * lattice.width + torch.tensor(cols, device=device)
    shift = (nearest.indices // span - reach) * lattice.width + nearest.indices % span - reach
    return own[..., None] + shift.masked_fill(nearest.values.isinf(), 0)  # too few patches: repeat the reference


def _box(values: Tensor, rows: list[int], cols: list[int], thin: int) -> Tensor:
    """Sums over patches that begin at the references, the first one at the array's corner."""
    for axis, at in ((1, rows), (2, cols)):
        step = (at[1] - at[0]) // thin if len(at) > 1 else 1
        stop = (len(at) - 1) * step + 1
        pieces = [values.narrow(axis, k, stop) for k in range(SIDE // thin)]
        pieces = [p[:, ::step] if axis == 1 else p[:, :, ::step] for p in pieces]
        values = pieces[0].clone()
        for piece in pieces[1:]:
            values += piece
    return values


def _threshold(spectra: Tensor, groups: Tensor, variance: Tensor, factor: float) -> tuple[Tensor, Tensor]:
    """Hard-threshold groups (eqs. 6, 7); weights are one over the number of coefficients kept (eq. 10)."""
    haar = _haar(groups.shape[1], spectra.device)
    total, weights = torch.zeros_like(spectra), spectra.new_zeros(len(spectra))
    limit = factor * variance.sqrt()
    for index, at in _chunks(groups):
        group = haar @ spectra.index_select(0, index).view(-1, len(haar), SIDE * SIDE)
        keep = group.abs() > (limit if limit.ndim == 0 else limit[at])
        keep[:, 0, 0] = True  # the mean belongs to the signal
        weight = 1 / keep.sum((1, 2), dtype=torch.float32)
        _add(total, weights, index, (haar.T @ group.mul_(keep), weight))
    return total, weights


def _wiener(spectra: Tensor, pilot: Tensor, groups: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Wiener-filter groups (eqs. 8, 9); weights are one over the filter's energy (eq. 11)."""
    haar = _haar(groups.shape[1], spectra.device)
    total, weights = torch.zeros_like(spectra), spectra.new_zeros(len(spectra))
    for index, at in _chunks(groups):
        shape = (-1, len(haar), SIDE * SIDE)
        power = (haar @ pilot.index_select(0, index).view(shape)).square_()
        gain = power / (power + (variance if variance.ndim == 0 else variance[at])).clamp_(min=TINY)
        gain[:, 0, 0] = 1
        group = haar @ spectra.index_select(0, index).view(shape)
        weight = 1 / gain.square().sum((1, 2))
        _add(total, weights, index, (haar.T @ group.mul_(gain), weight))
    return total, weights


def _chunks(groups: Tensor) -> Iterator[tuple[Tensor, slice]]:
    """Some groups at a time: flat positions, and which groups."""
    for start in range(0, len(groups), CHUNK):
        at = slice(start, start + CHUNK)
        yield groups[at].reshape(-1), at


def _add(total: Tensor, weights: Tensor, index: Tensor, filtered: tuple[Tensor, Tensor]) -> None:
    """Add weighted coefficients where their patches came from."""
    group, weight = filtered
    total.index_add_(0, index, group.mul_(weight[:, None, None]).view(-1, SIDE * SIDE))
    weights.index_add_(0, index, weight.repeat_interleave(group.shape[1]))


def _spread(total: Tensor, weights: Tensor, noisy: Tensor) -> Tensor:
    """Transform back and average overlapping patches under a Kaiser window (eq. 12)."""
    height, width = noisy.shape[0] - SIDE + 1, noisy.shape[1] - SIDE + 1
    window = torch.as_tensor(np.kaiser(SIDE, BETA).astype(np.float32), device=noisy.device)
    patches = (_atoms(noisy.device).T * torch.outer(window, window).view(-1, 1)) @ total.T
    out, norm, rows = torch.zeros_like(noisy), torch.zeros_like(noisy), noisy.new_zeros(height, noisy.shape[1])
    for x in range(SIDE):
        rows[:, x : x + width] += window[x] * weights.view(height, width)
    for y in range(SIDE):
        norm[y : y + height] += window[y] * rows
        for x in range(SIDE):
            out[y : y + height, x : x + width] += patches[y * SIDE + x].view(height, width)
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
