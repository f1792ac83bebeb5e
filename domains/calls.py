# SPDX-License-Identifier: Apache-2.0
"""The public functions: ``pellucid.denoise(path_or_array, field="mri")`` and relatives."""

from __future__ import annotations

import os
from dataclasses import fields as dataclass_fields
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid.core import memory, plan
from pellucid.core.errors import UsageError
from pellucid.core.lazy import np
from pellucid.core.measure import Measured
from pellucid.core.stream import Report, Work, stream
from pellucid.core.types import Noise, Reader, Traits, products
from pellucid.domains import describe, line, look, names, registry
from pellucid.domains.declare import Field, Subject
from pellucid.domains.request import Request
from pellucid.formats import find

if TYPE_CHECKING:
    from pellucid.core.types import Array

_SHARED = frozenset(f.name for f in dataclass_fields(Request)) - {"method_options", "field_options"}


def _quiet(label: str, done: int, total: int) -> None:
    """Report nothing."""


def denoise(
    source: str | os.PathLike[str] | Array, *, field: str, report: Report = _quiet, **options: Any
) -> line.Outcome | Array:
    """Denoise a file into a file, or an array into an array.

    Parameters
    ----------
    source : path or array
        A path is denoised as ``pellucid FIELD denoise`` does. An array has the field's axes: spatial
        first, the series last (mri ``(x, y, z[, volume])``, hyperspectral ``(line, sample, band)``,
        speech ``(time[, channel])``, image ``(y, x[, channel])``), any real type, or complex for mri.
    field : str
        ``mri``, ``hyperspectral``, ``speech`` or ``image``.
    report : callable
        Called as ``report(label, done, total)``.
    **options
        ``method``, ``sigma`` (a number, a map for arrays, or ``"auto"``), ``mask``, ``threads``,
        ``max_memory``, ``device``, ``seed``, ``out``, ``force`` ..., options of the method, and for
        arrays facts of the acquisition such as ``rate_hz``.

    Returns
    -------
    Outcome or array
        For a path the outcome with its ``path`` and sidecar ``document``; for an array the
        denoised array, float32 (complex64 if complex), same shape.

    Raises
    ------
    pellucid.core.errors.PellucidError
        Subclasses of ValueError, OSError and ImportError where these fit.

    Examples
    --------
    >>> import numpy as np, pellucid
    >>> noisy = 1 + 0.1 * np.random.default_rng(0).standard_normal((64, 64), np.float32)
    >>> clean = pellucid.denoise(noisy, field="image", method="wavelet", sigma=0.1)
    >>> bool(clean.std() < 0.03)
    True
    """
    declared = registry.field(field)
    if isinstance(source, str | os.PathLike):
        return line.denoise(Path(source), declared, _request(declared, options), report)
    return _array(np.asarray(source), declared, options, report)


def _request(declared: Field, options: dict[str, Any]) -> Request:
    """Sort keyword options into shared ones, the field's own and the method's."""
    import inspect

    own = set(inspect.signature(declared.options).parameters) if declared.options else set()
    known = {f.name for m in registry.methods_of(declared) for f in _fields(m, declared.name)}
    shared = {k: v for k, v in options.items() if k in _SHARED}
    for key in ("out", "noise_in", "noise_out", "residual", "mask", "preview", "report", "scratch"):
        if shared.get(key) is not None and not isinstance(shared[key], np.ndarray):
            shared[key] = Path(shared[key])
    unknown = set(options) - _SHARED - own - known
    if unknown:
        raise UsageError(f"there is no option '{sorted(unknown)[0]}'", hint="see help(pellucid.denoise)")
    return Request(
        **{**shared, "sigma": str(shared.get("sigma", "auto"))},
        method_options={k: v for k, v in options.items() if k in known and k not in _SHARED and k not in own},
        field_options={k: v for k, v in options.items() if k in own},
    )


def _fields(method: str, field_name: str) -> Any:
    return dataclass_fields(registry.method(method, field_name).Options)


def _array(values: Array, declared: Field, options: dict[str, Any], report: Report) -> Array:
    """Walk the line from array to array."""
    facts = {k: options.pop(k) for k in ("rate_hz", "wavelengths_nm", "bits") if k in options}
    sigma, mask = options.pop("sigma", "auto"), options.pop("mask", None)
    request = _request(declared, options)
    axes = tuple(f"axis{i}" for i in range(values.ndim))
    reader = memory.reader(np.ascontiguousarray(values), axes, acquisition=facts)
    subject = describe.subject_of(reader, declared, request.field_options)
    describe.refuse(subject, declared, request.force_kind or declared.kind)
    name = request.method or next(c.method for c in declared.choose if c.when(subject))
    method = registry.method(name, declared.name)
    apart = sorted(products(method.Options) & request.method_options.keys())
    if apart:
        raise UsageError(f"{apart[0]} names a file that is written beside a file", hint="denoise a path")
    complex_in = np.iscomplexobj(values)
    made = plan.make_plan(
        subject.description,
        method,
        names.make_options(method, dict(request.method_options)),
        noise=_known(sigma, subject, declared, method.TRAITS, request.estimator),
        out_dtype=str(values.dtype) if method.TRAITS.stored else "complex64" if complex_in else "float32",
        threads=request.threads,
        max_memory=line.names_bytes(request.max_memory),
        device_name=request.device,
        seed=request.seed,
        extras=declared.extras(subject) if declared.extras else {},
    )
    assert made.output is not None
    out = np.empty(values.shape, made.output.dtype)
    work = Work(subject.reader, made, method, None if mask is None else np.asarray(mask, bool))
    for piece in stream(work, Measured(), report):
        out[piece.region] = piece.stored
    return out


def _known(sigma: Any, subject: Subject, declared: Field, traits: Traits, estimator: str) -> Noise | None:
    if traits.stored:
        return None
    law = declared.law(subject) if declared.law else "gaussian"
    if not isinstance(sigma, str):
        level = np.asarray(sigma, np.float32)
        return Noise(law, float(level) if level.ndim == 0 else level, "given")
    given = names.parse_sigma(sigma)
    if given is not None:
        return Noise(law, given, "given")
    if traits.needs_sigma and declared.estimate is not None:
        return declared.estimate(subject, estimator)
    return None


def open(path: str | os.PathLike[str], **hints: Any) -> Reader:
    """Open any file pellucid reads: header now, samples by ``read(region)``.

    Raises
    ------
    pellucid.core.errors.FormatError
        It cannot be read.
    """
    return find.open_file(Path(path), (), **hints)


def info(path: str | os.PathLike[str], field: str = "") -> dict[str, Any]:
    """Return what ``pellucid info --json`` prints."""
    return look.info(Path(path), registry.field(field) if field else None, Request())


def estimate(path: str | os.PathLike[str], *, field: str, estimator: str = "") -> dict[str, Any]:
    """Return what ``pellucid FIELD estimate --json`` prints."""
    return look.estimate(Path(path), registry.field(field), replace(Request(), estimator=estimator))


def methods(field: str = "") -> dict[str, Traits]:
    """Return name -> traits of every method, or of one field's, its default first."""
    if field:
        return {n: registry.method(n, field).TRAITS for n in registry.methods_of(registry.field(field))}
    return {name: module.TRAITS for name, module in registry.all_methods().items()}
