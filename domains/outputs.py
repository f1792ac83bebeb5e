# SPDX-License-Identifier: Apache-2.0
"""Everything a run writes besides its samples: residual, noise map, pictures, the sidecar's document."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid.core import commit, restore, sidecar
from pellucid.core.errors import FormatError, OutputError, UsageError
from pellucid.core.lazy import np
from pellucid.core.measure import Measured
from pellucid.core.stream import Piece
from pellucid.core.types import Description, Plan, Traits
from pellucid.domains import pictures, products
from pellucid.domains.declare import Field, Subject, probe_region
from pellucid.domains.request import Request
from pellucid.formats import find

if TYPE_CHECKING:
    from pellucid.core.types import Array


def inputs(subject: Subject) -> tuple[Path, ...]:
    """Return every file an input consists of: what the reader names, and the other half of a pair."""
    reader = getattr(subject.reader, "inner", subject.reader)
    found = {v for v in getattr(reader, "__dict__", {}).values() if isinstance(v, Path)} | {subject.path}
    if subject.path.suffix.lower() in (".hdr", ".img"):
        found |= {subject.path.with_suffix(s) for s in (".hdr", ".img")}
    return tuple(sorted(p for p in found if p.exists()))


def check(subject: Subject, target: Path, request: Request, options: Any = None) -> None:
    """Refuse outputs that exist, that are the input itself, or that are each other.

    Raises
    ------
    OutputError
        Before anything is read or written.
    """
    wanted = [p for p in (target, request.residual, request.noise_out, request.preview, request.report) if p]
    wanted += products.named(options).values()
    for path in wanted:
        if any(commit.same_file(own, path) for own in inputs(subject)):
            raise OutputError("is the input itself", path, "choose another name with -o")
        if subject.path.is_dir() and subject.path.resolve() in path.resolve().parents:
            raise OutputError("lies in the input folder, which stays as it is", path, "choose a name outside it")
        if path.exists() and not request.force:
            raise OutputError("exists", path, "use --force to replace it")
    if len({p.resolve() for p in wanted}) < len(wanted):
        raise UsageError("two outputs have the same name", wanted[0])


def module(path: Path, subject: Subject) -> Any:
    """Return the format module that writes an output of this name: the input's own where the suffix stays."""
    own = find.module_of(subject.reader.description.format)
    name = path.name.lower()
    alike = any(name.endswith(s) for s in own.FORMAT.suffixes) or path.suffix == subject.path.suffix
    alike |= subject.path.is_dir() and not path.suffix
    return own if "splice" in own.FORMAT.writes and alike else find.by_suffix(path, subject.formats)


def writer(path: Path, subject: Subject, output: Description) -> Any:
    """Return a writer for the staged path: splice where the format stays, compose where it changes."""
    source = getattr(subject.reader, "inner", subject.reader)
    other = module(path, subject)
    try:
        if other.FORMAT.name == source.description.format and "splice" in other.FORMAT.writes:
            return other.splice(path, source, replace(output, axes=source.description.axes))
        return other.compose(path, replace(output, format=other.FORMAT.name))
    except FormatError as error:
        raise UsageError(f"{other.FORMAT.title} cannot hold this: {error.what}", path, error.hint) from error


def anonymise(path: Path, subject: Subject) -> None:
    """Take names, ids, dates and places of people out of a staged output, where its format can hold any."""
    strip = getattr(module(path, subject), "anonymise", None)
    if strip is not None:
        strip(path)


def sidecar_path(target: Path, format_name: str) -> Path:
    """Return where the sidecar of an output lies: formats with a JSON of their own (BIDS) say so."""
    named = getattr(find.module_of(format_name), "sidecar_name", lambda path: None)(target)
    return target.with_name(named or target.name + sidecar.SUFFIX)


def write_sidecar(staged: Path, source: Path, format_name: str, found: dict[str, Any], private: bool) -> str:
    """Write the sidecar into the stage; return its name."""
    annotate = getattr(find.module_of(format_name), "annotate", None)
    path = sidecar_path(staged, format_name)
    if annotate is None or not annotate(staged, source, found, private):
        sidecar.write(path, found)
    return path.name


class Extras:
    """Optional outputs of a run; each is staged like the main one and published just before it."""

    def __init__(self, stack: ExitStack, subject: Subject, plan: Plan, request: Request, maps: tuple[str, ...]) -> None:
        self.subject, self.plan, self.request, self.maps = subject, plan, request, maps
        self.pictures: dict[str, Any] = {}
        self.stages: list[commit.Stage] = []
        self.residual = self.noise = None
        assert plan.output is not None
        self.products = products.Products(plan, subject, lambda path: self._stage(stack, path))
        if request.residual:
            flat = replace(plan.output, dtype=_float(plan.output.dtype), slope=1.0, inter=0.0, nodata=None)
            self.residual = writer(self._stage(stack, request.residual), subject, flat)
        if request.noise_out:
            self.noise = self._noise_writer(stack, request.noise_out)

    def _stage(self, stack: ExitStack, path: Path) -> Path:
        stage = stack.enter_context(commit.staged(path, force=self.request.force))
        stage.inputs = inputs(self.subject)
        self.stages.append(stage)
        return stage.path

    def _noise_writer(self, stack: ExitStack, path: Path) -> Any:
        """Open the noise map: over the spatial axes, or over the file's own where the method maps each series."""
        output = self.plan.output
        assert output is not None
        if "noise" not in self.maps and (self.plan.noise is None or self.plan.noise.sigma is None):
            raise UsageError(f"{self.plan.method} makes no noise map", hint="leave out --noise-out")
        spatial = replace(
            output,
            shape=output.shape[: output.spatial],
            axes=output.axes[: output.spatial],
            spacing=output.spacing[: output.spatial],
            units=output.units[: output.spatial],
            dtype="float32",
            slope=1.0,
            inter=0.0,
            nodata=None,
            bad=(),
        )
        return writer(self._stage(stack, path), self.subject, spatial)

    def write(self, piece: Piece) -> None:
        """Add a piece to the residual and the noise map."""
        if self.residual is not None:
            self.residual.write(piece.region, _removed(piece))
        if self.noise is not None:
            region = piece.region[: self.subject.description.spatial]
            self.noise.write(region, self._sigma(piece, region))
        self.products.write(piece)

    def _sigma(self, piece: Piece, region: Any) -> Array:
        found = piece.maps.get("noise")
        shape = tuple(s.stop - s.start for s in region)
        if found is not None:
            return np.ascontiguousarray(found if found.shape == shape else np.median(found, axis=-1), np.float32)
        assert self.plan.noise is not None
        sigma = self.plan.noise.sigma
        if getattr(sigma, "ndim", 0) == len(shape):
            return np.asarray(sigma[region], np.float32)
        return np.full(shape, np.median(sigma), np.float32)

    def close(self) -> None:
        """Finish the writers."""
        for open_writer in (self.residual, self.noise):
            if open_writer is not None:
                open_writer.close()
        for stage in self.stages if self.request.private else ():  # they carry the input's header too
            anonymise(stage.path, self.subject)
        self.products.close()

    def draw(self, stack: ExitStack, field: Field, staged: Path, document: dict[str, Any]) -> None:
        """Draw before, after and residual from the staged output, as ``--preview`` and ``--report`` ask."""
        if not (self.request.preview or self.request.report):
            return
        before, after = self.views(staged)
        assert field.picture is not None
        self.pictures = pictures.panels(field.picture, before, after, self.subject.description)
        if self.request.preview:
            pictures.write_png(self._stage(stack, self.request.preview), self.pictures)
        if self.request.report:
            from pellucid.domains import report

            path = self._stage(stack, self.request.report)
            path.write_text(report.page(self.pictures, document, before, after), encoding="utf-8")

    def views(self, staged: Path) -> tuple[Array, Array]:
        """Return a central physical sample of input and output."""
        assert self.plan.output is not None
        region = probe_region(self.subject.description)
        reader = find.open_file(staged, (), **dict(self.subject.options))
        try:
            after = restore.physical(reader.read(region), self.plan.output, region)
        finally:
            reader.close()
        return self.subject.probe, after

    def publish(self) -> None:
        """Rename the extra outputs into place."""
        for stage in self.stages:
            stage.publish()


def _removed(piece: Piece) -> Array:
    """Return before - after, 0 where samples were copied, numbers or not."""
    with np.errstate(invalid="ignore"):
        found: Array = (piece.before - piece.after).astype(_float(str(piece.before.dtype)))
    found[~np.isfinite(found)] = 0
    return found


def _float(dtype: str) -> str:
    kind = np.dtype(dtype)
    return "complex64" if kind.kind == "c" else "float64" if kind.itemsize == 8 else "float32"


def document(
    subject: Subject, plan: Plan, traits: Traits, request: Request, *, measured: Measured, staged: Path
) -> dict[str, Any]:
    """Return the sidecar's document."""
    facts = sidecar.plan_facts(plan)
    found: dict[str, Any] = {
        "schema": sidecar.SCHEMA,
        "pellucid": {"version": sidecar.versions()["pellucid"]},
        "command": list(request.command),
        "input": {**sidecar.fingerprint(subject.path), **_facts(subject.description)},
        "output": {**sidecar.fingerprint(staged), **_facts(plan.output)},
        "plan": facts,
        "plan_hash": sidecar.plan_hash(facts),
        "exactness": traits.exact,
        "measured": measured.summary(),
        "warnings": [{"code": c, "text": t} for c, t in plan.warnings],
        "versions": sidecar.versions(),
        "threads": plan.threads,
        "cite": list(traits.cite),
        "generative": traits.output == "sample",
    }
    if request.private:
        found.pop("command")
        for part in ("input", "output"):
            found[part].pop("name")
    return found


def _facts(description: Description | None) -> dict[str, Any]:
    assert description is not None
    return {
        "format": description.format,
        "shape": list(description.shape),
        "axes": list(description.axes),
        "dtype": description.dtype,
        "kind": description.kind,
    }
