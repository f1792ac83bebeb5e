# SPDX-License-Identifier: Apache-2.0
"""Echoes kept in HDF5, whatever the order of their axes: what PICMUS, PyBF, UFF and zea files share.

A part is one data set, or one for each of real and imaginary part; its axes become two spatial ones and a series.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid.core.errors import FormatError
from pellucid.core.lazy import np
from pellucid.core.types import Description, Reader, Region, Writer
from pellucid.formats import hdf5_tree

if TYPE_CHECKING:
    from pellucid.core.types import Array


@dataclass(frozen=True)
class Part:
    """Where echoes lie.

    Parameters
    ----------
    real, imag : str
        Data sets; ``imag`` empty for real samples, or where ``pair`` is set.
    order : tuple of int
        Axes of the data set (after splitting) that become time or axial, element or lateral, then the
        series from slow to fast.
    pair : int, optional
        Axis of two, real and imaginary.
    split : (axis, (slow, fast)), optional
        An axis that counts the pixels of a grid.
    """

    real: str
    order: tuple[int, ...]
    imag: str = ""
    pair: int | None = None
    split: tuple[int, tuple[int, int]] | None = None


def single(path: Path, name: str, default: float | None = None) -> float | None:
    """Return a scalar, however many axes of one it is wrapped in."""
    found = hdf5_tree.vector(path, name, 16)
    return found[0] if found and math.isfinite(found[0]) else default


class EchoReader:
    """Samples of parts, one behind the other along the series."""

    def __init__(self, path: Path, parts: tuple[Part, ...], made: Description) -> None:
        self.path, self.parts = path, parts
        self._samples = {n: hdf5_tree.Samples(path, n) for p in parts for n in (p.real, p.imag) if n}
        kinds = {np.dtype(s.dtype) for s in self._samples.values()}
        shapes = {s.shape for s in self._samples.values()}
        if len(kinds) > 1 or len(shapes) > 1:
            raise FormatError(path, parts[0].real, "and the data sets beside it differ in type or size")
        self.stored, first = kinds.pop(), parts[0]
        if self.stored.kind not in "iufc" or (self.stored.kind == "c" and (first.imag or first.pair is not None)):
            raise FormatError(path, first.real, f"samples of type {self.stored} are no echoes")
        self.complex = bool(first.imag) or first.pair is not None or self.stored.kind == "c"
        sizes = [self._split_shape(first)[i] for i in first.order]
        series = math.prod(sizes[2:]) * len(parts)
        shape = (*sizes[:2], series) if series > 1 else tuple(sizes[:2])
        facts: dict[str, Any] = dict(made.acquisition)
        dtype = self.stored
        if self.complex and self.stored.kind != "c":
            if self.stored.kind in "iu":
                facts["parts"] = self.stored.name
            dtype = np.dtype("complex128" if self.stored == np.float64 else "complex64")
        missing = (None,) * len(shape)
        self.description = made.with_(
            shape=shape,
            axes=(*made.axes[:2], "frame")[: len(shape)],
            dtype=dtype.name,
            out_dtype=dtype.name,
            spacing=(*made.spacing, *missing)[: len(shape)],
            units=(*made.units, *missing)[: len(shape)],
            acquisition=facts,
        )

    def _split_shape(self, part: Part) -> tuple[int, ...]:
        """Return a data set's shape with the counted grid as two axes."""
        shape = self._samples[part.real].shape
        if part.split is None:
            return shape
        axis, (slow, fast) = part.split
        if slow * fast != shape[axis]:
            raise FormatError(self.path, part.real, f"{shape[axis]} pixels are no grid of {fast} x {slow}")
        return (*shape[:axis], slow, fast, *shape[axis + 1 :])

    def read(self, region: Region) -> Array:
        """Return stored samples; parts as integers come as complex64."""
        whole = np.concatenate([self._part(p, region) for p in self.parts], axis=2)
        return np.ascontiguousarray(whole[:, :, region[2]] if len(region) > 2 else whole[:, :, 0])

    def _part(self, part: Part, region: Region) -> Array:
        """Return one part ``(first, second, series)``, cut along the spatial axes."""
        shape = self._samples[part.real].shape
        cut = [slice(0, n) for n in shape]
        if part.split is None:
            cut[part.order[0]], cut[part.order[1]] = region[0], region[1]
        values = self._samples[part.real].read(tuple(cut))
        target = np.dtype(self.description.dtype)
        if part.imag:
            values = values.astype(target) + 1j * self._samples[part.imag].read(tuple(cut)).astype(target)
        elif part.pair is not None:
            values = np.moveaxis(values, part.pair, -1)[..., None, :]  # keeps the numbering of axes
            values = np.moveaxis(values[..., 0].astype(target) + 1j * values[..., 1], -1, part.pair)
        if part.split is not None:
            values = values.reshape(self._split_shape(part))
            cut2 = [slice(None)] * values.ndim
            cut2[part.order[0]], cut2[part.order[1]] = region[0], region[1]
            values = values[tuple(cut2)]
        rest = tuple(i for i in range(values.ndim) if i not in part.order)
        values = values.transpose(*part.order, *rest)
        return np.asarray(values, target).reshape(*values.shape[:2], -1)

    def close(self) -> None:
        """Release the file."""
        for samples in self._samples.values():
            samples.close()


class EchoWriter:
    """A copy of the source with other echoes; they are gathered and stored at the end."""

    def __init__(self, path: Path, source: EchoReader, output: Description) -> None:
        held = source.description
        if tuple(output.shape) != tuple(held.shape) or np.dtype(output.dtype).kind != np.dtype(held.dtype).kind:
            real = np.dtype(output.dtype).kind in "iuf" and not source.complex
            if tuple(output.shape) != tuple(held.shape) or not real:
                what = f"the file holds {held.dtype} of shape {held.shape}, not {output.dtype} {tuple(output.shape)}"
                raise FormatError(path, "samples", what, "name the output .npy")
        self.path, self.source = path, source
        self.retyped = None if output.dtype == held.dtype else output.dtype
        self._values: Array | None = np.zeros(output.shape, output.dtype)

    def write(self, region: Region, values: Array) -> None:
        """Store samples."""
        assert self._values is not None
        self._values[region] = values

    def close(self) -> None:
        """Copy the source, replace its echoes, flush to disk."""
        if self._values is None:
            return
        values, self._values = self._values, None
        values = values if values.ndim == 3 else values[:, :, None]
        count = values.shape[2] // len(self.source.parts)
        copied = False
        for k, part in enumerate(self.source.parts):
            block = self._turned(part, values[:, :, k * count : (k + 1) * count])
            for name, samples in self._stored(part, block).items():
                retyped = None if self.source.complex else self.retyped
                if copied:
                    sink = hdf5_tree.Sink(self.path, name, retyped)
                else:
                    sink = hdf5_tree.replace(self.source.path, self.path, name, retyped)
                    copied = True
                sink.write(tuple(slice(0, n) for n in samples.shape), samples)
                sink.close()

    def _turned(self, part: Part, block: Array) -> Array:
        """Return a block in the data set's order of axes; a pair of parts still as one complex sample."""
        shape = self.source._split_shape(part)
        rest = tuple(i for i in range(len(shape)) if i not in part.order)
        order = (*part.order, *rest)
        sizes = [1 if i == part.pair else shape[i] for i in order]
        turned = block.reshape(sizes).transpose(np.argsort(order))
        if part.split is not None:
            axis = part.split[0]
            turned = turned.reshape(*turned.shape[:axis], -1, *turned.shape[axis + 2 :])
        return turned

    def _stored(self, part: Part, block: Array) -> Mapping[str, Array]:
        """Return what goes into each data set."""
        kind = self.source.stored
        if not self.source.complex or kind.kind == "c":
            return {part.real: block}
        real, imag = block.real, block.imag
        if kind.kind in "iu":
            limits = np.iinfo(kind)
            real, imag = (np.clip(np.rint(v), limits.min, limits.max) for v in (real, imag))
        if part.imag:
            return {part.real: real.astype(kind), part.imag: imag.astype(kind)}
        assert part.pair is not None
        return {part.real: np.concatenate([real, imag], axis=part.pair).astype(kind)}


def splice(path: Path, source: Reader, output: Description) -> Writer:
    """Write the same file with other echoes."""
    if not isinstance(source, EchoReader):
        raise FormatError(path, "format", "is only written from a file of its own kind", "name the output .npy")
    return EchoWriter(Path(path), source, output)
