# SPDX-License-Identifier: Apache-2.0
"""Sliding cosine transform denoising (ODCT) of images and volumes.

Every block of 8 x 8 or 4 x 4 x 4 samples whose origin lies on a lattice is cosine-transformed, its small
coefficients are dropped (hard threshold) or all are weighted by a pilot (empirical Wiener filter), and the
blocks are averaged, sparse ones counting more (Manjon 2012, doi 10.1016/j.media.2011.04.003; Yaroslavsky 1991).

The lattice is fixed to absolute coordinates, so that any tile gives the bits of the whole. The transform
along the last axis is shared by all blocks that start on the same sample; the other axes are one product
with their Kronecker matrix. Samples are stored by phase (coordinate modulo the block's edge): then the
same element of all blocks is one contiguous run.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any, TypeAlias

from pellucid.core.lazy import fft, ndimage, np

if TYPE_CHECKING:
    from pellucid.core.types import Array

Parts: TypeAlias = list[tuple[tuple[slice, ...], tuple[slice, ...], int]]

EDGE = {2: 8, 3: 4}  # samples; 64 coefficients a block either way
RUN = 1024  # blocks per product: buffers of 256 kB stay in the second-level cache
SLIDE = 32768  # samples: the same for running sums
HARD = 2.7  # sigma; Manjon 2012, section 2.2


def lattice(dims: int, part: int) -> list[tuple[int, ...]]:
    """Return the block shifts of a lattice that holds ``1/part`` (1, 2 or 4) of all positions.

    ``part`` 2 keeps even coordinate sums (symmetric under permutation), 4 keeps ``(i + 2j + 3k) mod 4 == 0``.
    """
    weights = (1, 1, 1) if part <= 2 else (1, 2, 3)
    every = product(range(EDGE[dims]), repeat=dims)
    chosen = [s for s in every if sum(a * b for a, b in zip(weights, s, strict=False)) % part == 0]
    return sorted(chosen, key=lambda s: s[::-1])  # by last phase: a quarter of the bands at a time fits the cache


def odct(
    values: Array,
    sigma: Any,
    *,
    origin: tuple[int, ...],
    part: int = 1,
    threshold: float = HARD,
    pilot: Array | None = None,
    spectrum: Array | None = None,
) -> Array:
    """Return ``values`` denoised by thresholded, or pilot-weighted, overlapping cosine blocks.

    Parameters
    ----------
    values : array (y, x) or (x, y, z), float32
        A window of the file; mirrored at its faces by one block.
    sigma : float or array of the same shape
        Noise standard deviation; a map is averaged over each block.
    origin : tuple of int
        Absolute coordinate of the window's first sample; results depend on it only through the lattice.
    part : int
        1 uses all block positions, 2 and 4 a half and a quarter of them: faster, a little worse.
    threshold : float
        Coefficients below ``threshold * sigma`` are dropped; more removes more. The mean is always kept.
    pilot : array of the same shape, optional
        A first estimate: coefficients are then multiplied by ``P^2 / (P^2 + sigma^2)`` instead.
    spectrum : array (edge,) * dims, optional
        Noise of each coefficient in units of sigma, for noise that is not white.

    Returns
    -------
    array of the shape of ``values``, float32
    """
    dims = values.ndim
    edge = EDGE[dims]
    grid = _Grid(values.shape, origin, edge)
    if spectrum is not None:
        grid.colour = spectrum.reshape(-1, edge, 1).astype(np.float32)
    signal = grid.bands(values)
    guide = None if pilot is None else grid.bands(pilot)
    level = grid.level(sigma)
    total = np.zeros_like(signal)
    weight = np.zeros((edge,) * dims + (grid.size,), np.float32)
    for shift in lattice(dims, part):
        _blocks(grid, shift, (signal, guide, level), threshold, (total, weight))
    return grid.back(total, weight)


class _Grid:
    """Samples of a window ordered by phase: ``(edge,) * dims`` phases, then a flat coarse index."""

    def __init__(self, shape: tuple[int, ...], origin: tuple[int, ...], edge: int) -> None:
        self.shape, self.edge, self.dims = shape, edge, len(shape)
        before = [edge + first % edge for first in origin]
        length = [-(-(b + n + edge) // edge) * edge for b, n in zip(before, shape, strict=True)]
        self.pad = [(b, size - b - n) for b, n, size in zip(before, shape, length, strict=True)]
        self.coarse = tuple(size // edge for size in length)
        steps = [int(np.prod(self.coarse[a + 1 :])) for a in range(self.dims)]
        self.steps = steps  # of the coarse index
        self.fine = [int(np.prod(length[a + 1 :])) for a in range(self.dims)]  # of the padded samples
        self.blocks = int(np.prod(self.coarse))
        self.runs = -(-self.blocks // RUN)
        # products always take RUN columns: a column's bits must not depend on how many stand beside it
        self.size = self.runs * RUN + sum(steps)
        inside = np.zeros(self.coarse, np.float32)
        inside[tuple(slice(0, n - 1) for n in self.coarse)] = 1  # the last coarse index would wrap around
        self.inside = np.zeros(self.runs * RUN, np.float32)
        self.inside[: self.blocks] = inside.ravel()
        self.matrix = fft.dct(np.eye(edge), axis=0, norm="ortho")
        kron = self.matrix
        for _ in range(self.dims - 2):
            kron = np.kron(kron, self.matrix)
        self.kron = kron.astype(np.float32)
        self.colour: Array | None = None  # noise of a coefficient in units of sigma

    def phases(self, padded: Array) -> Array:
        """Return ``(phase..., flat)`` of an array of the padded shape."""
        split = padded.reshape([n for c in self.coarse for n in (c, self.edge)])
        order = (*range(1, 2 * self.dims, 2), *range(0, 2 * self.dims, 2))
        out = np.zeros((self.edge,) * self.dims + (self.size,), np.float32)
        out[..., : self.blocks] = split.transpose(order).reshape(*out.shape[:-1], self.blocks)
        return out

    def unphase(self, stored: Array) -> Array:
        """Undo ``phases``."""
        split = stored[..., : self.blocks].reshape((self.edge,) * self.dims + self.coarse)
        order = [a for pair in zip(range(self.dims, 2 * self.dims), range(self.dims), strict=True) for a in pair]
        return split.transpose(order).reshape([c * self.edge for c in self.coarse])

    def bands(self, values: Array) -> Array:
        """Return the cosine bands along the last axis at every start: ``(last phase, band, phase..., flat)``."""
        padded = np.pad(values.astype(np.float32, copy=False), self.pad, mode="symmetric")
        out = np.empty((self.edge, self.edge, *(self.edge,) * (self.dims - 1), self.size), np.float32)
        for band, row in enumerate(self.matrix):
            out[:, band] = np.moveaxis(self.phases(_slide(padded, row)), self.dims - 1, 0)
        return out

    def level(self, sigma: Any) -> Array | float:
        """Return sigma per block: a float, or ``(phase..., flat)``."""
        if np.ndim(sigma) == 0:
            return float(sigma)
        mean = np.pad(np.asarray(sigma, np.float32), self.pad, mode="symmetric")
        for axis in range(self.dims):
            mean = _slide(mean, np.full(self.edge, 1 / self.edge), self.fine[axis])
        return self.phases(mean)

    def parts(self, shift: tuple[int, ...]) -> Parts:
        """Return the rectangles (in the block, in the phases, flat offset) that make up a block's leading axes."""
        sides = []
        for s, step in zip(shift[:-1], self.steps, strict=False):
            side = [(slice(0, self.edge - s), slice(s, self.edge), 0)]
            if s:
                side.append((slice(self.edge - s, self.edge), slice(0, s), step))
            sides.append(side)
        return [
            (tuple(p[0] for p in pick), tuple(p[1] for p in pick), sum(p[2] for p in pick)) for pick in product(*sides)
        ]

    def back(self, total: Array, weight: Array) -> Array:
        """Return the weighted mean of all blocks, cut to the window."""
        bands = np.moveaxis(total, 0, self.dims)  # (band, phase..., last phase, flat)
        numerator = np.zeros([c * self.edge for c in self.coarse], np.float32)
        for band, row in enumerate(self.matrix):
            numerator += _slide(self.unphase(bands[band]), row, back=True)
        denominator = self.unphase(weight)
        for axis in range(self.dims):
            denominator = _slide(denominator, np.ones(self.edge), self.fine[axis], back=True)
        cut = tuple(slice(b, b + n) for (b, _), n in zip(self.pad, self.shape, strict=True))
        out: Array = numerator[cut] / denominator[cut]
        return out


def _blocks(grid: _Grid, shift: tuple[int, ...], sources: Any, threshold: float, sums: tuple[Array, Array]) -> None:
    """Filter all blocks of one shift and add them to the sums."""
    (signal, guide, level), (total, weight), edge = sources, sums, grid.edge
    parts, last, n = grid.parts(shift), shift[-1], edge ** (grid.dims - 1)
    block = np.empty((edge,) * (grid.dims - 1) + (edge, RUN), np.float32)  # leading axes, band, run
    coefficients, scratch, kept = (np.empty((n, edge, RUN), t) for t in (np.float32, np.float32, np.bool_))
    lead = tuple(range(1, grid.dims))  # bring the band behind the leading phases

    def forward(bands: Array, start: int, out: Array) -> None:
        for here, there, offset in parts:
            at: tuple[Any, ...] = (last, slice(None), *there, slice(start + offset, start + offset + RUN))
            piece = bands[at]
            block[here] = piece.transpose(*lead, 0, grid.dims)
        np.matmul(grid.kron, block.reshape(n, -1), out=out.reshape(n, -1))

    for start in range(0, grid.runs * RUN, RUN):
        run = slice(start, start + RUN)
        origin: tuple[Any, ...] = (*shift, run)
        sigma: Any = level if isinstance(level, float) else level[origin]
        if grid.colour is not None:
            sigma = sigma * grid.colour
        forward(signal, start, coefficients)
        if guide is None:
            np.abs(coefficients, out=scratch)
            np.greater(scratch, threshold * sigma, out=kept)
            kept[0, 0] = True
            share = grid.inside[run] / np.add.reduce(kept.view(np.uint8), (0, 1), dtype=np.uint8)
            np.multiply(coefficients, kept, out=coefficients)
        else:
            forward(guide, start, scratch)
            np.multiply(scratch, scratch, out=scratch)
            np.divide(scratch, scratch + np.square(np.maximum(sigma, np.finfo(np.float32).tiny ** 0.5)), out=scratch)
            scratch[0, 0] = 1
            share = grid.inside[run] / np.einsum("ijk,ijk->k", scratch, scratch)
            np.multiply(coefficients, scratch, out=coefficients)
        np.multiply(coefficients, share, out=coefficients)
        weight[origin] += share
        np.matmul(grid.kron.T, coefficients.reshape(n, -1), out=block.reshape(n, -1))
        for here, there, offset in parts:
            at: tuple[Any, ...] = (last, slice(None), *there, slice(start + offset, start + offset + RUN))
            piece = total[at]
            piece += block[here].transpose(grid.dims - 1, *range(grid.dims - 1), grid.dims)


def _slide(values: Array, taps: Array, step: int = 1, back: bool = False) -> Array:
    """Return sums over ``taps``, ``step`` flat samples apart, ahead of (or, transposed, behind) each sample.

    Sums that run over an axis' end mix in the next line; blocks there have no weight and are cut off.
    """
    flat, out = np.ascontiguousarray(values).ravel(), np.zeros(values.size, np.float32)
    scratch = np.empty(SLIDE, np.float32)
    for start in range(0, flat.size, SLIDE):
        stop = min(start + SLIDE, flat.size)
        for k, tap in enumerate(taps.astype(np.float32)):
            first, last = (max(start, k * step), stop) if back else (start, min(stop, flat.size - k * step))
            if last <= first:
                continue
            there = slice(first - k * step, last - k * step) if back else slice(first + k * step, last + k * step)
            out[first:last] += np.multiply(flat[there], tap, out=scratch[: last - first])
    return out.reshape(values.shape)


def fill(values: Array, keep: Array) -> Array:
    """Return ``values`` with samples outside ``keep`` replaced by the mean of kept ones within a block's reach.

    Nothing of the replaced values survives. Where no kept sample is near, 0 stands in: no block that holds a
    kept sample sees it.
    """
    size = 2 * EDGE[values.ndim] - 1
    share = ndimage.uniform_filter(keep.astype(np.float64), size, mode="constant")
    mean = ndimage.uniform_filter(np.where(keep, values, 0).astype(np.float64), size, mode="constant")
    near = share > 0.5 / size**values.ndim  # running sums leave rounding errors where there is nothing
    mean = np.divide(mean, share, out=np.zeros_like(mean), where=near)
    return np.where(keep, values, mean).astype(np.float32)
