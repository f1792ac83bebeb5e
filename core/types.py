# SPDX-License-Identifier: Apache-2.0
"""The values that pass from room to room: what a file holds, what a method wants, what it returns.

Axis convention, everywhere: **spatial axes first, at most one series axis last**.

========================  =======================  =============
field                     spatial axes             series axis
========================  =======================  =============
mri                       ``x, y, z``              ``volume``
hyperspectral             ``line, sample``         ``band``
speech                    ``time``                 ``channel``
image                     ``y, x``                 ``channel``
ultrasound                ``y, x``                 ``frame``
raw                       ``y, x``                 ``channel``
========================  =======================  =============
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[Any]

Region: TypeAlias = tuple[slice, ...]  # absolute, half-open, step 1, one slice per axis

SERIES = frozenset({"volume", "band", "channel", "frame"})  # axes that are never tiled
NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Description:
    """What a file holds, said in neutral words; the header itself stays with the reader.

    Parameters
    ----------
    format : str
        Name of the format module, e.g. ``"nifti"``.
    shape, axes : tuple
        Size and name of each axis of ``Reader.read``; spatial axes first, series axis last.
    dtype : str
        NumPy name of the *stored* samples, e.g. ``"int16"``.
    kind : str
        ``magnitude complex phase labels mask vector waveform radiance reflectance intensity rgb
        bmode envelope rf iq channel mosaic linear`` or ``unknown``.
    spacing, units : tuple
        Per axis: step (``None`` where it has no meaning) and its unit (``"mm"``, ``"s"``, ``"nm"``).
    slope, inter : float or array (series,)
        physical = stored * slope + inter.
    nodata : float, optional
        Stored value that means "no sample here".
    bad : tuple of int
        Indices on the series axis that hold no usable data; they are never touched.
    order : {"any", "forward"}
        Whether a writer accepts regions in any order or only along the first axis, ascending.
    slab : int
        Index of the axis along which a slab is cheapest to read.
    out_dtype : str
        Stored type of a default output: the same as ``dtype`` for scenes and sound, float32 for MRI.
    lossy : bool
        The samples were decoded from a lossy stream; the output is written losslessly.
    acquisition : mapping
        Neutral vocabulary: ``rate_hz wavelengths_nm fwhm_nm bvals bvecs repetition_s echo_s
        coordinate_system orientation bits ...``.
    witnesses : mapping
        Raw facts refusals and warnings look at (intent code, ImageType, file type ...).
    notes : tuple of (code, text)
        Warnings the reader has about the file.
    """

    format: str
    shape: tuple[int, ...]
    axes: tuple[str, ...]
    dtype: str
    kind: str = "unknown"
    spacing: tuple[float | None, ...] = ()
    units: tuple[str | None, ...] = ()
    slope: Any = 1.0
    inter: Any = 0.0
    nodata: float | None = None
    bad: tuple[int, ...] = ()
    order: Literal["any", "forward"] = "any"
    slab: int = 0
    out_dtype: str = ""
    lossy: bool = False
    acquisition: Mapping[str, Any] = field(default_factory=dict)
    witnesses: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[tuple[str, str], ...] = ()

    @property
    def series(self) -> str | None:
        """Name of the series axis, or None."""
        return self.axes[-1] if self.axes and self.axes[-1] in SERIES else None

    @property
    def spatial(self) -> int:
        """Number of spatial axes."""
        return len(self.axes) - (self.series is not None)

    def with_(self, **changes: Any) -> Description:
        """Return a copy with some fields replaced."""
        return replace(self, **changes)


class Reader(Protocol):
    """An open file: header read, samples not. Pickles by path; re-opens where it lands.

    A reader may also offer ``mask(region)``: over the spatial axes of a region, True where samples
    may be changed. All others leave as they came, bit for bit.
    """

    path: Path
    description: Description

    def read(self, region: Region) -> Array:
        """Return *stored* samples of a region: native byte order, axes as described."""
        ...

    def close(self) -> None:
        """Release the file."""
        ...


class Writer(Protocol):
    """A file in the making, inside a staging folder."""

    def write(self, region: Region, values: Array) -> None:
        """Store samples, already in the output's stored type."""
        ...

    def close(self) -> None:
        """Finish header and companions and flush to disk."""
        ...


@dataclass(frozen=True)
class FormatTraits:
    """What a format module declares of itself.

    ``integers`` says what a default output of integer input becomes; ``writes`` which of
    ``splice`` (same file, other values) and ``compose`` (new file from a description) it offers.
    """

    name: str
    title: str
    suffixes: tuple[str, ...]
    writes: tuple[Literal["splice", "compose"], ...] = ("splice", "compose")
    integers: Literal["same", "float32"] = "same"
    keeps: str = ""  # one line for docs: what travels, and the allowed differences
    fallback: str = ""  # suffix of the default output where the format itself is not written
    pipe: bool = False  # can be read from and written to a stream


@dataclass(frozen=True)
class Noise:
    """What is known of the noise.

    Parameters
    ----------
    law : str
        ``gaussian rician ncchi poisson_gaussian speckle ...`` (``core/noise``).
    sigma : float or array
        Standard deviation per Gaussian channel, input units: a scalar, one per series index
        ``(series,)``, or a map over the spatial axes (whole file; ``Tile.noise_map`` slices it).
    source : {"given", "file", "estimated"}
    estimator : str
        Name of the estimator where estimated.
    params : mapping
        Further parameters of the law: ``coils``, ``gain`` ...
    """

    law: str = "gaussian"
    sigma: Any = None
    source: Literal["given", "file", "estimated"] = "estimated"
    estimator: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Traits:
    """What a method declares of itself; help, planning, docs, sidecar and contract tests read it.

    Parameters
    ----------
    name, line : str
        Name in the command line and one line of help.
    spatial : tuple of int
        Numbers of spatial axes it accepts.
    joint : tuple of str
        Series axes it mixes (then the whole series arrives last in ``values``); any other series
        axis is looped over by the engine, one index at a time.
    needs_series : bool
        The joint series axis must be there.
    needs_sigma : bool
        ``noise.sigma`` must be known before ``run``; the field's estimator supplies it.
    exact : {"pointwise", "local", "blockwise", "global", "stream"}
        ``local``: equal to the whole-image result given its halo. ``stream``: fed along the first
        axis in blocks of any length with a carry; ``run`` may return fewer or more samples than
        it got and ``finish`` returns the rest; the sum equals the input's length.
    halo : int or callable(options, description) -> int or tuple
        Samples needed around a tile on each spatial axis.
    stride : int
        Period of the method's absolute grid; tile origins are multiples of it.
    thickness : int
        Preferred extent of a tile along the slab axis, without halo.
    thinnest : float
        Least extent of a tile in halos, where memory asks for thin ones.
    passes : int
        1, or 2 where ``gather`` must see the whole file first.
    laws : tuple of str
        Noise laws it understands.
    complex : bool
        Accepts complex samples.
    stored : bool
        Wants samples as stored, not as physical float32 (``identity`` only).
    devices : tuple of str
        Kinds of device its code runs on.
    output : {"mean", "sample"}
    maps : tuple of str
        Names of the maps in ``Result.maps`` (``noise``, ``rank`` ...).
    bytes_per_sample : float
        Working memory per float32 sample of a tile's window, for the planner.
    equivariant : tuple of str
        Declared symmetries for contract tests: ``scale shift flip permute``.
    cite : tuple of str
        DOIs. ``use`` / ``avoid``: one sentence each for users.
    """

    name: str
    line: str
    spatial: tuple[int, ...]
    joint: tuple[str, ...] = ()
    needs_series: bool = False
    needs_sigma: bool = False
    exact: Literal["pointwise", "local", "blockwise", "global", "stream"] = "local"
    halo: int | Callable[[Any, Description], int | tuple[int, ...]] = 0
    stride: int = 1
    thickness: int = 64
    thinnest: float = 2.0
    passes: int = 1
    laws: tuple[str, ...] = ("gaussian",)
    complex: bool = False
    stored: bool = False
    devices: tuple[str, ...] = ("cpu",)
    output: Literal["mean", "sample"] = "mean"
    maps: tuple[str, ...] = ()
    bytes_per_sample: float = 16.0
    equivariant: tuple[str, ...] = ()
    cite: tuple[str, ...] = ()
    use: str = ""
    avoid: str = ""


@dataclass(frozen=True)
class Plan:
    """Everything a run will do, decided before the first sample is read; stored in the sidecar."""

    method: str
    options: Any = None
    reason: str = ""
    noise: Noise | None = None
    tiles: tuple[Region, ...] = ()  # spatial cores, absolute
    halo: tuple[int, ...] = ()
    memory: int = 0  # bytes expected at the peak
    in_flight: int = 1
    threads: int = 1
    device: str = "cpu"
    seed: int = 0
    description: Description | None = None  # of the input
    output: Description | None = None
    names: Mapping[str, Path] = field(default_factory=dict)
    warnings: tuple[tuple[str, str], ...] = ()
    given: tuple[str, ...] = ()  # options of the method that were given, not defaulted
    asked: Mapping[str, Any] = field(default_factory=dict)  # what else changes the result: region, mask, kind
    extras: Mapping[str, Any] = field(default_factory=dict)  # field facts for methods: rate_hz, wavelengths_nm


@dataclass(frozen=True)
class Tile:
    """What a method gets.

    Parameters
    ----------
    values : array, float32 (complex64 where the file is complex), physical units
        Window with halo: spatial axes first, the joint series last. Invalid samples hold 0.
    window, core : Region
        Absolute spatial extent of ``values`` and of the part that is kept.
    shape : tuple of int
        Spatial shape of the whole file. The window is clipped at the file's true border.
    mask : bool array over the window's spatial axes, optional
        True = valid; invalid samples must not influence others and are copied afterwards.
    carry : any
        What ``settle`` made of the gather pass, or the previous block's carry of a stream.
    """

    values: Array
    window: Region
    core: Region
    shape: tuple[int, ...]
    mask: Array | None = None
    carry: Any = None

    @classmethod
    def whole(cls, values: Array, *, spatial: int | None = None, mask: Array | None = None, carry: Any = None) -> Tile:
        """Wrap a whole array as a single tile; ``spatial`` defaults to all axes."""
        shape = values.shape if spatial is None else values.shape[:spatial]
        everything = tuple(slice(0, n) for n in shape)
        return cls(values, everything, everything, tuple(shape), mask, carry)

    def noise_map(self, sigma: Any) -> Any:
        """Slice a sigma map over the whole file to this window; scalars and vectors pass through."""
        return sigma[self.window] if getattr(sigma, "shape", None) == self.shape else sigma


@dataclass(frozen=True)
class Result:
    """What a method returns: the estimate over the tile's *window* (the engine crops to the core).

    ``maps`` have the window's spatial shape; one that an option of product ``images`` names may have
    a further axis, last. ``facts`` are counters, summed over tiles into the sidecar. ``carry`` is the
    next block's carry of a stream.
    """

    values: Array
    maps: Mapping[str, Array] = field(default_factory=dict)
    facts: Mapping[str, float] = field(default_factory=dict)
    carry: Any = None


class Method(Protocol):
    """The shape of a method module.

    ``run`` is required. ``gather(tile, carry, plan) -> carry`` sees every tile once, without halo,
    in order, before the first ``run``; ``settle(carry, plan) -> state`` closes that pass.
    ``finish(carry, plan) -> Result`` flushes a stream. ``products(state, plan) -> {option: content}``
    answers options of product ``table`` from the state: a matrix, or named columns of equal length.
    """

    TRAITS: Traits
    Options: type

    def run(self, tile: Tile, noise: Noise | None, plan: Plan, rng: np.random.Generator) -> Result:
        """Denoise one tile."""
        ...


def option(default: Any, help: str, **metadata: Any) -> Any:
    """Declare a field of a method's ``Options``: default, help (unit, effect of more, of less).

    ``choices=(...)`` limits the values; ``path=True`` marks a file. ``product`` marks a file that is
    written beside the result and changes nothing of it: ``"images"`` (over the spatial grid, from
    ``Result.maps``) or ``"table"`` (from the method's ``products``, after the gather pass).
    """
    return field(default=default, metadata={"help": help, **metadata})


def products(options: Any) -> dict[str, str]:
    """Return name -> ``"images"`` or ``"table"`` of the options that name a further output."""
    known = getattr(options, "__dataclass_fields__", {})
    return {name: f.metadata["product"] for name, f in known.items() if "product" in f.metadata}
