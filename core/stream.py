# SPDX-License-Identifier: Apache-2.0
"""From tiles in to tiles out: gather pass, method, restoring, in order, in bounded memory.

Reading is sequential and keeps the lines two neighbouring windows share, so that a file is decoded
once per pass. Tiles are computed by a few threads and leave in file order; which thread computes
what has no influence on the result.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pellucid.core import random, restore, tiling
from pellucid.core.errors import PellucidError
from pellucid.core.lazy import np
from pellucid.core.types import Description, Noise, Plan, Reader, Region, Result, Tile, products

if TYPE_CHECKING:
    from pellucid.core.measure import Measured
    from pellucid.core.types import Array

Report = Callable[[str, int, int], None]  # (what is being done, done, total)


@dataclass(frozen=True)
class Piece:
    """A finished part of the output: where, what is stored, and physical values before and after.

    Samples that are copied are the same before and after; they may be no number.
    """

    region: Region
    stored: Array
    before: Array
    after: Array
    maps: Mapping[str, Array] = field(default_factory=dict)
    facts: Mapping[str, float] = field(default_factory=dict)
    clipped: int = 0
    invalid: int = 0


@dataclass(frozen=True)
class Work:
    """What every tile of a run shares."""

    reader: Reader
    plan: Plan
    method: Any
    mask: Array | None = None  # user's mask over the whole spatial shape: True = denoise
    limit: Region | None = None  # --region: outside it samples are copied
    settled: Callable[[Any], None] | None = None  # told what the gather pass taught

    @property
    def description(self) -> Description:
        """Of the input."""
        assert self.plan.description is not None
        return self.plan.description

    @property
    def output(self) -> Description:
        """Of the output."""
        assert self.plan.output is not None
        return self.plan.output

    @property
    def good(self) -> list[int]:
        """Indices on the series axis that hold data."""
        bad = set(self.description.bad)
        return [i for i in range(self.description.shape[-1]) if i not in bad]


def stream(work: Work, measured: Measured, report: Report) -> Iterator[Piece]:
    """Yield the output in ascending order; sums go to ``measured``."""
    sequential = work.method.TRAITS.exact == "stream"
    apart = products(work.plan.options)  # files of their own: no figures of the run
    for piece in _sequential(work, report) if sequential else _tiled(work, report):
        measured.add(piece.before, piece.after)
        measured.count(dict(piece.facts))
        for name, values in piece.maps.items():
            if name not in apart:
                measured.note(name, values)
        measured.clipped += piece.clipped
        measured.invalid += piece.invalid
        yield piece
        del piece  # its arrays are as large as the tile: gone before the next is made


def _tiled(work: Work, report: Report) -> Iterator[Piece]:
    plan = work.plan
    carry = _gather(work, report) if work.method.TRAITS.passes == 2 else None
    if work.settled is not None:
        work.settled(carry)
    windows = Overlap(work.reader, work.description)
    shape = work.description.shape[: work.description.spatial]
    total, done = len(plan.tiles), 0
    waiting: deque[Future[Piece] | Piece] = deque()
    with ThreadPoolExecutor(plan.in_flight) as pool:
        for index, core in enumerate(plan.tiles):
            window = tiling.window(core, plan.halo, shape)
            args = (work, windows.read(window), core, window, carry, index)
            waiting.append(_piece(*args) if plan.in_flight == 1 else pool.submit(_piece, *args))
            del args
            if len(waiting) >= plan.in_flight:
                done += 1
                yield _result(waiting.popleft())
                report(plan.method, done, total)
        while waiting:
            done += 1
            yield _result(waiting.popleft())
            report(plan.method, done, total)


def _result(item: Future[Piece] | Piece) -> Piece:
    return item.result() if isinstance(item, Future) else item


class Overlap:
    """Read windows in ascending order; lines shared by two windows are read once."""

    def __init__(self, reader: Reader, description: Description) -> None:
        self.reader, self.description = reader, description
        self.last: tuple[Region, Array] | None = None

    def read(self, window: Region) -> Array:
        """Return stored samples of a spatial window, whole along the series."""
        axis = self.description.slab
        kept, self.last = self._kept(window), None  # the last window may go before the next is read
        if kept is None:
            values = self._read(window)
        elif kept.shape[axis] == window[axis].stop - window[axis].start:
            values = kept
        else:
            begin = window[axis].start + kept.shape[axis]
            rest = tuple(slice(begin, s.stop) if i == axis else s for i, s in enumerate(window))
            values = np.concatenate([kept, self._read(rest)], axis)
        self.last = (window, values)
        return values

    def _kept(self, window: Region) -> Array | None:
        """Return a copy of the lines of the last window that open this one."""
        if self.last is None:
            return None
        axis = self.description.slab
        (region, values), wanted = self.last, window[axis]
        same = all(a == b for i, (a, b) in enumerate(zip(region, window, strict=True)) if i != axis)
        if not (same and region[axis].start <= wanted.start < region[axis].stop <= wanted.stop):
            return None
        start = wanted.start - region[axis].start
        return values[(slice(None),) * axis + (slice(start, None),)].copy("K")

    def _read(self, window: Region) -> Array:
        return self.reader.read(tiling.full(window, self.description))


def _gather(work: Work, report: Report) -> Any:
    """Let the method see every tile once, without halo, in order."""
    carry = None
    for index, core in enumerate(work.plan.tiles):
        values, mask = _prepare(work, work.reader.read(tiling.full(core, work.description)), core)
        shape = work.description.shape[: work.description.spatial]
        joint = _all(mask) if work.description.series else mask
        if work.description.series and work.description.bad:
            values = values[..., work.good]
        carry = work.method.gather(Tile(values, core, core, shape, joint, None), carry, work.plan)
        del values, mask, joint
        report("looking", index + 1, len(work.plan.tiles))
    return work.method.settle(carry, work.plan)


def _prepare(work: Work, stored: Array, window: Region) -> tuple[Array, Array | None]:
    """Return physical values with invalid samples set to 0, and the mask (full shape of the values)."""
    description = work.description
    values = restore.physical(stored, description, tiling.full(window, description))
    ok = restore.valid(stored, description)
    if ok is not None and description.series and description.bad:
        ok[..., list(description.bad)] = True  # they are taken out, they must not spoil the good ones
    own = getattr(work.reader, "mask", None)
    flags = own(window) if own is not None else None
    if flags is not None:
        flags = np.broadcast_to(flags[..., None] if description.series else flags, values.shape)
        ok = flags.copy() if ok is None else ok & flags
    if work.mask is not None:
        inside = work.mask[window]
        inside = np.broadcast_to(inside[..., None] if description.series else inside, values.shape)
        ok = inside.copy() if ok is None else ok & inside
    if ok is not None and not ok.all():
        if _own(values, stored):
            np.copyto(values, 0, where=~ok)
        else:
            values = np.where(ok, values, values.dtype.type(0))
        return values, ok
    return values, None


def _all(mask: Array | None) -> Array | None:
    return None if mask is None else np.asarray(mask.all(-1))


def _piece(work: Work, stored: Array, core: Region, window: Region, carry: Any, index: int) -> Piece:
    """Denoise one tile and turn it back into stored samples."""
    before = tiling.crop(stored, core, window)
    if work.limit is not None and not _meets(core, work.limit):
        return _finish(work, core, before, None, None, Result(before))
    if work.method.TRAITS.stored:
        tile = Tile(stored, window, core, work.description.shape[: work.description.spatial])
        out = work.method.run(tile, None, work.plan, random.generator(work.plan.seed, index))
        return _finish(work, core, before, None, None, replace(out, values=tiling.crop(out.values, core, window)))
    values, mask = _prepare(work, stored, window)
    invalid = 0
    if mask is not None and work.description.series in work.method.TRAITS.joint:
        inner = tiling.crop(mask, core, window)
        invalid = int(inner.size - np.count_nonzero(inner))
        del inner
        mask = np.asarray(
            mask.all(-1, keepdims=True)
        )  # a pixel counts whole: a flag for each of its samples is not held
    result = _run(work, values, mask, (core, window), carry, index)
    result = replace(
        result,
        values=tiling.crop(result.values, core, window),
        maps={name: tiling.crop(m, core, window) for name, m in result.maps.items()},
    )
    ok = None if mask is None else tiling.crop(mask, core, window)
    piece = _finish(work, core, before, tiling.crop(values, core, window), ok, result)
    return replace(piece, invalid=invalid or piece.invalid)


def _run(work: Work, values: Array, mask: Array | None, place: tuple[Region, Region], carry: Any, index: int) -> Result:
    """Run the method on the joint series, or on one series index after the other."""
    core, window = place
    description, plan = work.description, work.plan
    shape = description.shape[: description.spatial]
    rng = random.generator(plan.seed, index)
    if description.series is None or description.series in work.method.TRAITS.joint:
        good = work.good if description.series and description.bad else None
        joint = _all(mask) if description.series else mask
        tile = Tile(values if good is None else values[..., good], window, core, shape, joint, carry)
        result: Result = work.method.run(tile, _of(plan.noise, good), plan, rng)
        if good is None:
            return result
        whole = values.copy()
        whole[..., good] = result.values
        return replace(result, values=whole)
    out = values.copy()
    maps: dict[str, Array] = {}
    facts: dict[str, float] = {}
    for i in work.good:
        tile = Tile(values[..., i], window, core, shape, None if mask is None else mask[..., i], carry)
        one = work.method.run(tile, _of(plan.noise, i), plan, rng)
        out[..., i] = one.values
        for name, value in one.maps.items():
            maps.setdefault(name, np.zeros_like(values, np.float32))[..., i] = value
        for name, value in one.facts.items():
            facts[name] = facts.get(name, 0) + value
    return Result(out, maps, facts)


def _of(noise: Noise | None, index: Any) -> Noise | None:
    """Return the noise of some series indices where sigma is one value per index."""
    if noise is None or index is None or getattr(noise.sigma, "ndim", 0) not in (1, 4):
        return noise
    return replace(noise, sigma=noise.sigma[..., index])


def _finish(work: Work, core: Region, source: Array, before: Array | None, mask: Array | None, result: Result) -> Piece:
    """Turn a cropped result into stored samples; copy what must not change from the source."""
    description, output = work.description, work.output
    region = tiling.full(core, description)
    if before is None:
        before = restore.physical(source, description, region)
    if result.values.shape != source.shape:
        raise PellucidError(f"{work.plan.method} returned shape {result.values.shape} for {source.shape}")
    same = output.dtype == description.dtype
    if work.method.TRAITS.stored or result.values is source:
        copied = source if same else restore.stored(before, output, region)[0]
        return Piece(region, copied, before, before, result.maps, result.facts)
    if not _finite(result.values):
        raise PellucidError(f"{work.plan.method} produced values that are not finite at {region}")
    invalid = 0 if mask is None else int(mask.size - np.count_nonzero(mask))
    keep = _kept(work, core, mask, source.shape)
    stored, clipped = restore.stored(result.values, output, region)
    after = result.values
    if output.nodata is not None and stored.dtype.kind in "iu":
        stored = _off_nodata(stored, output.nodata, mask)
    if keep is not None:
        copied = source if same else restore.stored(before, output, region)[0]
        if same and stored is after and _own(after, source, before) and _own(before, source, after):
            np.copyto(before, source, where=keep)  # as it came on both sides: no third copy of a tile
            np.copyto(after, source, where=keep)
            return Piece(region, after, before, after, result.maps, result.facts, clipped, invalid)
        stored = np.where(keep, copied, stored)
        if _own(after, before, source):
            np.copyto(after, before, where=keep)  # the method's own array
        else:
            after = np.where(keep, before, after)
    return Piece(region, stored, before, after, result.maps, result.facts, clipped, invalid)


def _own(values: Array, *others: Array) -> bool:
    """Return whether values may be written into without a trace in others."""
    return bool(values.flags.writeable) and not any(np.may_share_memory(values, other) for other in others)


def _finite(values: Array) -> bool:
    """Return whether all are finite, without a mask as long as the values."""
    if values.size == 0 or np.iscomplexobj(values):
        return bool(np.isfinite(values).all())
    return bool(np.isfinite(values.min()) and np.isfinite(values.max()))


def _kept(work: Work, core: Region, mask: Array | None, shape: tuple[int, ...]) -> Array | None:
    """Return where the source is copied: invalid samples, bad series indices, outside ``--region``."""
    keep = None if mask is None else ~mask
    if keep is not None and work.description.series in work.method.TRAITS.joint:
        keep = np.asarray(keep.any(-1, keepdims=True))
    if keep is not None and keep.shape != shape and (work.description.bad or work.limit is not None):
        keep = np.broadcast_to(keep, shape).copy()
    if work.description.series and work.description.bad:
        keep = np.zeros(shape, bool) if keep is None else keep
        keep[..., list(work.description.bad)] = True
    if work.limit is not None:
        inside = np.zeros(shape, bool)
        starts = [s.start for s in core] + [0] * (len(shape) - len(core))
        inside[
            tuple(slice(max(0, s.start - a), max(0, s.stop - a)) for s, a in zip(work.limit, starts, strict=True))
        ] = True
        keep = ~inside if keep is None else keep | ~inside
    return keep


def _off_nodata(stored: Array, nodata: float, mask: Array | None) -> Array:
    """Move valid samples that happen to round to the nodata value to its neighbour."""
    hit = stored == nodata
    if mask is not None:
        hit &= mask
    step = -1 if nodata >= np.iinfo(stored.dtype).max else 1
    if hit.any():  # the caller's own array: it was rounded a moment ago
        stored[hit] = int(nodata) + step
    return stored


def _meets(core: Region, limit: Region) -> bool:
    return all(c.start < s.stop and s.start < c.stop for c, s in zip(core, limit, strict=False))


def _sequential(work: Work, report: Report) -> Iterator[Piece]:
    """Feed a streaming method block by block; its output may lag behind its input."""
    description, plan, method = work.description, work.plan, work.method
    length = description.shape[0]
    source: deque[Array] = deque()
    done, carry = 0, None
    for index, core in enumerate(plan.tiles):
        stored = work.reader.read(tiling.full(core, description))
        source.append(stored)
        values, mask = _prepare(work, stored, core)
        joint = _all(mask) if description.series else mask
        tile = Tile(values, core, core, (length,), joint, carry)
        result = method.run(tile, plan.noise, plan, random.generator(plan.seed, index))
        carry = result.carry
        if len(result.values):
            yield _emit(work, source, done, result)
            done += len(result.values)
        report(plan.method, core[0].stop, length)
    result = method.finish(carry, plan)
    if len(result.values):
        yield _emit(work, source, done, result)
        done += len(result.values)
    if done != length:
        raise PellucidError(f"{plan.method} returned {done} of {length} samples")


def _emit(work: Work, source: deque[Array], done: int, result: Result) -> Piece:
    """Pair a stretch of output with its own input samples."""
    wanted, parts = len(result.values), []
    while wanted:
        head = source.popleft()
        parts.append(head[:wanted])
        if len(head) > wanted:
            source.appendleft(head[wanted:])
        wanted -= len(parts[-1])
    stored = np.concatenate(parts) if len(parts) > 1 else parts[0]
    core = (slice(done, done + len(stored)),)
    before, mask = _prepare(replace(work, mask=None), stored, core)
    return _finish(work, core, stored, before, mask, replace(result, carry=None))
