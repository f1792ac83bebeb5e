# SPDX-License-Identifier: Apache-2.0
"""Cubes kept as one or more data sets of an HDF5 file: read as one, written back into a copy of the file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid.core.errors import FormatError, UsageError
from pellucid.core.types import Description, Region
from pellucid.formats import hdf5_tree

if TYPE_CHECKING:
    from pellucid.core.types import Array

PROBED = 32  # lines of a flag layer that tell whether a whole band is flagged
FEW = 0.1  # share of flagged bands up to which a pixel is denoised: every detector has dead elements somewhere
MOSTLY = 0.5  # share of flagged pixels above which a band's flags say nothing about single pixels


@dataclass(frozen=True)
class Layer:
    """A quality layer over (line, sample): entry ``index`` of a third axis, flagged where it holds ``marks``."""

    samples: hdf5_tree.Samples
    index: int | None = None
    marks: float | None = None  # None: any value but 0

    def flagged(self, lines: slice, samples: slice) -> Array:
        """Return which pixels are flagged."""
        third = () if self.index is None else (slice(self.index, self.index + 1),)
        found = self.samples.read((lines, samples, *third))
        found = found.reshape(found.shape[:2])
        flags: Array = found != 0 if self.marks is None else found == self.marks
        return flags


class CubeReader:
    """Data sets of one file, joined along the last described axis.

    Parameters
    ----------
    parts : sequence of (name, perm)
        Data set and the described axis that each of its axes is.
    flags : sequence of (name, perm)
        One layer for each part, its non-zero entries marking defective samples, or none at all.
    """

    description: Description

    def __init__(
        self,
        path: Path,
        parts: Sequence[tuple[str, tuple[int, ...]]],
        *,
        flags: Sequence[tuple[str, tuple[int, ...]]] = (),
    ) -> None:
        self.path = Path(path)
        self.parts = [(hdf5_tree.Samples(self.path, name), perm) for name, perm in parts]
        self.flags = [(hdf5_tree.Samples(self.path, name), perm) for name, perm in flags]
        shapes = [_described(samples.shape, perm) for samples, perm in self.parts]
        if len({(s[:-1], p.dtype) for s, (p, _) in zip(shapes, self.parts, strict=True)}) > 1:
            raise FormatError(self.path, self.parts[1][0].name, "differs in size or type from the first cube")
        self.lengths = [s[-1] for s in shapes]
        self.shape = (*shapes[0][:-1], sum(self.lengths))
        self.dtype = self.parts[0][0].dtype
        self.layers: tuple[Layer, ...] = ()  # chosen by the user
        self._telling: list[Array] | None = None

    @property
    def block(self) -> tuple[int, ...]:
        """Extent of a chunk along each spatial axis, 1 without chunks."""
        samples, perm = self.parts[0]
        return _described(samples.chunks or (1,) * len(perm), perm)[:-1]

    def read(self, region: Region) -> Array:
        """Return stored samples, axes as described."""
        import numpy as np

        found = [
            _turned(samples.read(tuple(place[i] for i in perm)), perm)
            for (samples, perm), _, place in self.places(region)
        ]
        if not found:
            return np.empty([s.stop - s.start for s in region], self.dtype)
        return found[0] if len(found) == 1 else np.concatenate(found, axis=-1)

    def places(self, region: Region) -> Iterator[tuple[tuple[hdf5_tree.Samples, tuple[int, ...]], slice, Region]]:
        """Yield each part that a region touches, its share of the region's last axis, and its own region."""
        first = 0
        last = region[-1]
        for part, length in zip(self.parts, self.lengths, strict=True):
            start, stop = max(last.start, first), min(last.stop, first + length)
            if start < stop:
                yield (
                    part,
                    slice(start - last.start, stop - last.start),
                    (
                        *region[:-1],
                        slice(start - first, stop - first),
                    ),
                )
            first += length

    def mask(self, region: Region) -> Array | None:
        """Return over (line, sample) where few usable bands and no layer are flagged; None without any."""
        import numpy as np

        lines, samples = region[:2]
        valid = None
        if self.flags:
            if self._telling is None:
                self._telling = self._find_telling()
            stacks = [self._flags(i, lines, samples)[..., bands] for i, bands in enumerate(self._telling)]
            valid = pixels(np.concatenate(stacks, axis=-1))
        return without(valid, (layer.flagged(lines, samples) for layer in self.layers))

    def _flags(self, index: int, lines: slice, samples: slice) -> Array:
        """Return a layer's flags (line, sample, band)."""
        layer, perm = self.flags[index]
        by_axis = (lines, samples, slice(None))
        flagged = _turned(layer.read(tuple(by_axis[i] for i in perm)), perm) != 0
        return flagged if flagged.ndim == 3 else flagged[..., None]

    def _find_telling(self) -> list[Array]:
        """Return the bands of each layer whose flags speak of pixels."""
        found, first = [], 0
        for i, length in enumerate(self.lengths):
            middle = max(0, (self.shape[0] - PROBED) // 2)
            probe = self._flags(i, slice(middle, min(self.shape[0], middle + PROBED)), slice(0, self.shape[1]))
            found.append(telling(probe, [b - first for b in self.description.bad]))
            first += length
        return found

    def close(self) -> None:
        """Release the file."""
        for samples in (*(s for s, _ in (*self.parts, *self.flags)), *(layer.samples for layer in self.layers)):
            samples.close()


class CubeWriter:
    """A copy of the source's file whose cube is filled anew; everything else travels byte for byte."""

    def __init__(self, path: Path, source: CubeReader, dtype: str | None = None) -> None:
        self.path, self.source = Path(path), source
        first, *others = [samples.name for samples, _ in source.parts]
        self.sinks = {first: hdf5_tree.replace(source.path, self.path, first, dtype)}
        self.sinks.update({name: hdf5_tree.Sink(self.path, name, dtype) for name in others})

    def write(self, region: Region, values: Array) -> None:
        """Store samples, axes as described."""
        import numpy as np

        values = np.reshape(values, [s.stop - s.start for s in region])
        for (samples, perm), share, place in self.source.places(region):
            part = np.transpose(values[..., share], perm)
            self.sinks[samples.name].write(tuple(place[i] for i in perm), part)

    def attributes(self, changes: Mapping[str, Any]) -> None:
        """Set attributes of the cube's data sets."""
        for sink in self.sinks.values():
            sink.attributes(changes)

    def close(self) -> None:
        """Finish the file and flush it to disk."""
        sinks, self.sinks = self.sinks, {}
        for sink in sinks.values():
            sink.close()


def splice(path: Path, source: CubeReader, output: Description) -> CubeWriter:
    """Return a writer into a copy of a mission's file, whose scaling is fixed by its own rules.

    Raises
    ------
    FormatError
        Another sample type or scale is asked for.
    """
    import numpy as np

    before = source.description
    same = np.array_equal(before.slope, output.slope) and np.array_equal(before.inter, output.inter)
    if output.dtype != before.dtype or not same:
        what = f"this product stores {before.dtype} by a fixed rule, {output.dtype} is asked for"
        raise FormatError(path, "data type", what, "name an output ending in .tif or .h5")
    return CubeWriter(path, source)


def telling(probe: Array, bad: Sequence[int]) -> Array:
    """Return the bands whose flags (line, sample, band) speak of pixels: usable, and not flagged everywhere."""
    import numpy as np

    usable = ~np.isin(np.arange(probe.shape[-1]), bad)
    found: Array = usable & (probe.mean(axis=(0, 1)) <= MOSTLY)
    return found


def pixels(flagged: Array) -> Array:
    """Return which pixels may be changed: a few flagged bands are denoised with the rest, many are not."""
    valid: Array = flagged.sum(axis=-1) <= FEW * flagged.shape[-1]
    return valid


def without(valid: Array | None, flags: Iterable[Array]) -> Array | None:
    """Return pixels that are valid so far (None: all) and flagged in no layer."""
    for flagged in flags:
        valid = ~flagged if valid is None else valid & ~flagged
    return valid


def chosen(path: Path, text: str, known: Iterable[str]) -> list[str]:
    """Return the quality layers that ``--quality`` names, in order.

    Raises
    ------
    UsageError
        The product has no such layer.
    """
    have = list(known)
    found = [word.strip().lower() for word in text.split(",") if word.strip()]
    for word in found:
        if word not in have:
            hint = f"layers in it: {', '.join(have)}" if have else "make a map of the pixels that count, for --mask"
            raise UsageError(f"has no quality layer '{word}'", path, hint)
    return list(dict.fromkeys(found))


def _described(shape: tuple[int, ...], perm: tuple[int, ...]) -> tuple[int, ...]:
    """Return sizes by described axis."""
    return tuple(shape[perm.index(i)] for i in range(len(perm)))


def _turned(values: Array, perm: tuple[int, ...]) -> Array:
    """Return samples in file order as described."""
    import numpy as np

    return np.transpose(values, np.argsort(perm))
