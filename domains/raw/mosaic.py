# SPDX-License-Identifier: Apache-2.0
"""The way of every mosaic method: levels off, noise made one, planes packed; and back without bias."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pellucid.core.lazy import np
from pellucid.core.transforms import fill
from pellucid.core.types import Noise, Plan, Result, Tile
from pellucid.domains.raw import defects, sensor
from pellucid.domains.raw.vst import Stabiliser

if TYPE_CHECKING:
    from pellucid.core.types import Array

    Filter = Callable[[Tile, Mapping[str, Any]], Array]

PERIOD = 6  # samples; multiple of both patterns there are, 2 x 2 and 6 x 6
# red, the two greens, blue: a cosine transform of this order is sum, red - blue, red + blue - greens, green - green
ORDER = (0, 1, 1, 2)


@dataclass(frozen=True)
class Frame:
    """Levels of a window: everything that makes stored values signals, and signals values of unit noise."""

    cfa: Array
    black: Array  # over the window, dark frame included
    pedestal: Array  # over the window, without dark frame
    white: float
    stabilisers: tuple[tuple[Stabiliser, ...], ...]
    origin: tuple[int, int]
    scale: Any = None  # a map of sigma, where one was given

    @property
    def period(self) -> int:
        """Side of the pattern."""
        return len(self.cfa)

    def places(self, shape: tuple[int, ...]) -> list[tuple[Stabiliser, tuple[slice, slice]]]:
        """Return every position of the pattern: its transform, and its samples in the window."""
        p = self.period
        first = [(-o) % p for o in self.origin]
        return [
            (self.stabilisers[r][c], (slice((r + first[0]) % p, shape[0], p), slice((c + first[1]) % p, shape[1], p)))
            for r in range(p)
            for c in range(p)
        ]


def frame(tile: Tile, noise: Noise, plan: Plan) -> Frame:
    """Return the levels of a tile's window from what the field knows (``plan.extras``)."""
    cfa = np.asarray(plan.extras.get("cfa", sensor.RGGB), int)
    levels = np.broadcast_to(np.asarray(plan.extras.get("black", 0.0), np.float64), cfa.shape)
    origin = (tile.window[0].start, tile.window[1].start)
    shape = tile.values.shape[:2]
    pedestal = sensor.over(levels, shape, origin)
    dark = plan.extras.get("dark")
    black = pedestal if dark is None else pedestal + np.asarray(dark[tile.window], np.float32)
    made, scale = _stabilisers(noise, tile, levels)
    return Frame(cfa, black, pedestal, float(plan.extras.get("white", np.inf)), made, origin, scale)


def _stabilisers(noise: Noise, tile: Tile, levels: Array) -> tuple[tuple[tuple[Stabiliser, ...], ...], Any]:
    shape = levels.shape
    if noise.law == "poisson_gaussian" and "gain" in noise.params:
        gain, read = (np.broadcast_to(np.asarray(noise.params[k], np.float64), shape) for k in ("gain", "read"))
    else:
        sigma = np.asarray(noise.sigma, np.float64)
        if sigma.shape == tile.shape:  # a map: it is divided out, and the rest has unit noise
            unit = Stabiliser(0.0, 1.0)
            local = np.nan_to_num(sigma[tile.window]).astype(np.float32)
            return tuple((unit,) * shape[1] for _ in range(shape[0])), local
        gain, read = np.zeros(shape), np.full(shape, float(np.mean(sigma)))
    floors = np.where(levels > 0, -levels, -np.inf)
    return tuple(
        tuple(Stabiliser(*(float(a[r, c]) for a in (gain, read, floors))) for c in range(shape[1]))
        for r in range(shape[0])
    ), None


def denoise(tile: Tile, noise: Noise, plan: Plan, filters: Filter, *, fix_defects: bool = False) -> Result:
    """Return a tile denoised by a filter of unit noise.

    Saturated photosites, defects and invalid samples are copied (defects are replaced where ``fix_defects``).
    """
    at = frame(tile, noise, plan)
    values = tile.values
    if not _noisy(at):
        return Result(values)
    ok = np.ones(values.shape, np.bool_) if tile.mask is None else tile.mask
    signal = values - at.black
    unit = stabilise(signal, at)
    if tile.mask is not None and not ok.all():
        unit = filled(unit, ok, at)
    bad = defects.isolated(unit, at.period)
    bad &= ok
    unit = defects.replaced(unit, bad, at.period)
    flat = filters(replace(tile, values=unit, mask=None if tile.mask is None else ok), {"cfa": at.cfa})
    clean = restored(flat, at)
    clean += at.pedestal
    keep = ~ok | (values >= at.white)
    if not fix_defects:
        keep |= bad
    if at.scale is not None:
        keep |= ~(at.scale > 0)
    copied = values if at.black is at.pedestal else np.where(ok, signal + at.pedestal, values)
    out = np.where(keep, copied, clean)
    saturated = ok & (values >= at.white)
    out[saturated] = values[saturated]
    facts = {"defects": float(np.count_nonzero(bad)), "saturated": float(np.count_nonzero(saturated))}
    return Result(out.astype(np.float32, copy=False), facts=facts)


def _noisy(at: Frame) -> bool:
    return all(s.gain > 0 or s.read > 0 for row in at.stabilisers for s in row)


def stabilise(signal: Array, at: Frame) -> Array:
    """Return a signal window at unit noise, float32."""
    if at.scale is not None:
        safe = np.where(at.scale > 0, at.scale, 1)
        return np.asarray(signal / safe, np.float32)
    out = np.empty(signal.shape, np.float32)
    for stabiliser, place in at.places(signal.shape):
        out[place] = stabiliser.forward(np.ascontiguousarray(signal[place]))
    return out


def restored(flat: Array, at: Frame) -> Array:
    """Return signals behind stabilised means."""
    if at.scale is not None:
        return np.asarray(flat * at.scale, np.float32)
    out = np.empty(flat.shape, np.float32)
    for stabiliser, place in at.places(flat.shape):
        out[place] = stabiliser.backward(np.ascontiguousarray(flat[place]))
    return out


def filled(unit: Array, ok: Array, at: Frame) -> Array:
    """Return a window whose invalid samples are the mean of valid ones of their position nearby."""
    out = unit.copy()
    for _, place in at.places(unit.shape):
        if not ok[place].all():
            out[place] = fill(unit[place], ok[place])
    return out


def packed(tile: Tile) -> tuple[Tile, tuple[int, int]]:
    """Return a Bayer window as four planes of half its side, and how many samples were added to make it even.

    The window begins at even coordinates of the file; a quad with no valid sample is invalid.
    """
    rows, cols = tile.values.shape
    odd = (rows % 2, cols % 2)
    values = _even(tile.values, odd)
    planes = np.stack([values[r::2, c::2] for r in (0, 1) for c in (0, 1)], -1)
    mask = None
    if tile.mask is not None:
        flags = _even(tile.mask, odd)
        mask = flags[::2, ::2] | flags[::2, 1::2] | flags[1::2, ::2] | flags[1::2, 1::2]
    halves = tuple(slice(w.start // 2, -(-w.stop // 2)) for w in tile.window)
    core = tuple(slice(w.start // 2, -(-w.stop // 2)) for w in tile.core)
    return Tile(planes, halves, core, tuple(-(-n // 2) for n in tile.shape), mask), odd


def _even(values: Array, odd: tuple[int, int]) -> Array:
    """Repeat the last line but one at an odd end: the one of the same colours."""
    if odd[0]:
        values = np.concatenate([values, values[-2:-1] if len(values) > 1 else values[-1:]])
    if odd[1]:
        last = values[:, -2:-1] if values.shape[1] > 1 else values[:, -1:]
        values = np.concatenate([values, last], axis=1)
    return values


def unpacked(planes: Array, odd: tuple[int, int]) -> Array:
    """Undo ``packed``."""
    rows, cols = 2 * planes.shape[0], 2 * planes.shape[1]
    out = np.empty((rows, cols), planes.dtype)
    for i, (r, c) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1))):
        out[r::2, c::2] = planes[..., i]
    return out[: rows - odd[0], : cols - odd[1]]


def order(cfa: Array, parity: tuple[int, int] = (0, 0)) -> list[int]:
    """Return the planes of a quad as red, green, green, blue, for a cosine transform along them."""
    colours = [int(cfa[(r + parity[0]) % 2, (c + parity[1]) % 2]) for r in (0, 1) for c in (0, 1)]
    return sorted(range(4), key=lambda i: (colours[i], i))
