# SPDX-License-Identifier: Apache-2.0
"""What a field says of itself. A field is data: no branches on pixels, no input or output."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid.core.lazy import np
from pellucid.core.types import Description, Noise, Reader

if TYPE_CHECKING:
    from pellucid.core.types import Array

PROBE_SAMPLES = 4_000_000  # what a refusal or an estimator may look at: 16 MB of float32


@dataclass(frozen=True)
class Subject:
    """One thing to denoise: a reader and what its field makes of it.

    Attributes
    ----------
    reader, description
        The primary file; axes in the field's order.
    options : mapping
        What the format was told, with the field's own flags as given.
    formats : tuple of str
        The field's formats: which writer a new suffix means.
    """

    reader: Reader
    description: Description
    options: Mapping[str, Any] = field(default_factory=dict)
    formats: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        """The file's path."""
        return self.reader.path

    @cached_property
    def probe(self) -> Array:
        """Return a central sample in physical units (float32), at most ``PROBE_SAMPLES`` samples.

        Whole along every axis but the slab axis, from which a central run is taken.
        """
        from pellucid.core.restore import physical

        region = probe_region(self.description)
        return physical(self.reader.read(region), self.description, region)


def probe_region(description: Description) -> tuple[slice, ...]:
    """Return a central region of at most ``PROBE_SAMPLES`` samples, cut along the slab axis first."""
    lengths = list(description.shape)
    order = [description.slab, *(i for i in range(description.spatial) if i != description.slab)]
    for axis in order:
        rest = max(1, int(np.prod(lengths)) // max(lengths[axis], 1))
        lengths[axis] = max(1, min(lengths[axis], PROBE_SAMPLES // rest))
    starts = [(n - m) // 2 for n, m in zip(description.shape, lengths, strict=True)]
    return tuple(slice(a, a + m) for a, m in zip(starts, lengths, strict=True))


@dataclass(frozen=True)
class Refusal:
    """Why a valid file must not be denoised so: shown with the file's name, exit code 3.

    ``soft`` refusals are overridden by ``--force-kind KIND`` (the kind the user says it is);
    ``estimable`` ones do not stop ``estimate``.
    """

    what: str
    hint: str
    soft: bool = True
    estimable: bool = False


@dataclass(frozen=True)
class Choice:
    """A default method under a named condition; the first that holds is taken."""

    method: str
    when: Callable[[Subject], bool]
    why: str  # shown by --dry-run: "4-D series with 68 volumes"


@dataclass(frozen=True)
class Phantom:
    """A small physical simulation: truth beside measurement.

    Parameters
    ----------
    truth, noisy : array
        Same shape, axes in the field's order, in the dtype a file of this field would store.
    description : Description
        Of ``noisy``; ``acquisition`` filled so that ``compose`` can write a meaningful header.
    noise : Noise
        What was added.
    """

    truth: Array
    noisy: Array
    description: Description
    noise: Noise
    mask: Array | None = None


@dataclass(frozen=True)
class Task:
    """A further verb of a field that walks the line of ``denoise`` with other methods.

    Parameters
    ----------
    name, line : str
        The verb and its line of help.
    word : str
        What outputs are called: ``<stem>_<word><suffix>``.
    changes : mapping
        Attributes of the field that differ: ``choose methods refuse warn estimate ...``.
    """

    name: str
    line: str
    word: str
    changes: Mapping[str, Any]


@dataclass(frozen=True)
class Converted:
    """What a conversion made: values as stored, what they are, and what a user should know."""

    values: Array
    description: Description
    facts: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Conversion:
    """A verb whose output lies on another grid than its input: a mosaic becomes a picture.

    Parameters
    ----------
    name, line, word : str
        As of a task.
    suffix : str
        Of the default output; any suffix that can be composed may be asked for.
    suffix_of : callable, optional
        ``(subject, options) -> suffix`` where it depends on the file.
    options : type
        Dataclass whose fields are made by ``core.types.option``; they become flags.
    run : callable
        ``(subject, options) -> Converted``.
    refuse : tuple of callables
        As of a field.
    formats : tuple of str
        Formats preferred for the output where two share a suffix.
    cite : tuple of str
        DOIs.
    """

    name: str
    line: str
    word: str
    suffix: str
    options: type
    run: Callable[[Subject, Any], Converted]
    refuse: tuple[Callable[[Subject], Refusal | None], ...] = ()
    formats: tuple[str, ...] = ()
    cite: tuple[str, ...] = ()
    suffix_of: Callable[[Subject, Any], str] | None = None


def always(subject: Subject) -> bool:
    """Hold for every subject: the condition of a field's last choice."""
    return True


@dataclass(frozen=True)
class Field:
    """The declaration of a field.

    Parameters
    ----------
    spatial : tuple of tuples
        Accepted spatial axes, longest first: ``(("x", "y", "z"), ("x", "y"))``.
    series : str, optional
        Name of the series axis.
    kind : str
        Kind assumed of a file that says nothing of itself (``.npy``).
    kinds : tuple of str
        Kinds only this field works on: they decide between fields that read the same format.
    choose : tuple of Choice
        Default method by named condition.
    methods : tuple of str
        Every method on offer, default first.
    refuse : tuple of callables
        ``(subject) -> Refusal | None``; named functions, robust to several witnesses.
    warn : tuple of callables
        ``(subject) -> (code, text) | None``.
    estimate : callable
        ``(subject, estimator) -> Noise`` for methods that need sigma and for the verb ``estimate``;
        ``estimator`` is one of ``estimators`` or ``""`` for the default order.
    law : callable, optional
        ``(subject) -> str``: the noise law of a file whose sigma is given; None means Gaussian.
    options : callable
        A function without body whose annotated keyword parameters (typer) are the field's own flags.
    extras : callable
        ``(subject) -> mapping``: facts handed to methods in ``Plan.extras``.
    simulate : callable
        ``(seed, case, size) -> Phantom``, ``size`` a tuple of spatial extents (series last where it is
        free) or None; ``cases`` names what ``simulate --case`` offers.
    from_rgb : callable, optional
        ``(rgb, seed) -> Phantom``: the measurement behind a clean sRGB picture, (y, x, 3) in [0, 1].
    sizes : mapping
        Extents by word: ``small`` is what ``demo`` and ``example`` use, ``full`` the published one.
    measure : callable
        ``(reference, estimate, description, mask) -> {name: value}`` full-reference metrics.
    judge : callable
        ``(before, after, description, noise) -> {name: value}`` reference-free numbers of a result.
    regions : callable, optional
        ``(values, description, path) -> {name: value}``: figures of regions a file draws (``evaluate --rois``).
    inspect : callable
        ``(values, description) -> {name: value}`` numbers of one file by itself.
    picture : callable
        ``(values, description) -> 2-D float array`` or (h, w, 3): the view the field looks at first.
    output_name : callable, optional
        ``(path, desc) -> path`` of the default output; None gives ``<stem>_<desc><suffix>``.
    word : str
        What outputs are called: ``<stem>_<word><suffix>``.
    tasks : tuple of Task
        Further verbs that walk the same line: ``despeckle``, ``destripe``.
    conversions : tuple of Conversion
        Verbs that change the grid: ``develop``, ``bmode``.
    closed : bool
        Only the methods listed are offered; otherwise every shared one that fits the axes is.
    gain : tuple of (metric, sentence)
        The metric ``demo`` quotes and a sentence a newcomer understands, with ``{before}``, ``{after}``.
    """

    name: str
    line: str
    spatial: tuple[tuple[str, ...], ...]
    series: str | None
    formats: tuple[str, ...]
    kind: str
    choose: tuple[Choice, ...]
    methods: tuple[str, ...]
    kinds: tuple[str, ...] = ()
    refuse: tuple[Callable[[Subject], Refusal | None], ...] = ()
    warn: tuple[Callable[[Subject], tuple[str, str] | None], ...] = ()
    estimate: Callable[[Subject, str], Noise] | None = None
    estimators: tuple[str, ...] = ()
    law: Callable[[Subject], str] | None = None
    options: Callable[..., Any] | None = None
    extras: Callable[[Subject], Mapping[str, Any]] | None = None
    simulate: Callable[..., Phantom] | None = None
    cases: tuple[str, ...] = ()
    from_rgb: Callable[[Array, int], Phantom] | None = None
    sizes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    measure: Callable[..., dict[str, float]] | None = None
    judge: Callable[..., dict[str, float]] | None = None
    inspect: Callable[[Any, Description], dict[str, float]] | None = None
    regions: Callable[[Any, Description, Path], dict[str, float]] | None = None
    picture: Callable[[Any, Description], Any] | None = None
    output_name: Callable[[Path, str], Path] | None = None
    word: str = "denoised"
    tasks: tuple[Task, ...] = ()
    conversions: tuple[Conversion, ...] = ()
    closed: bool = False
    gain: tuple[str, str] = ("psnr", "{before:.1f} dB before, {after:.1f} dB after")
