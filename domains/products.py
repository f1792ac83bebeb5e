# SPDX-License-Identifier: Apache-2.0
"""Further files a method makes beside its result: images over the same grid, and tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid.core.errors import FormatError, Refused, UsageError
from pellucid.core.lazy import np
from pellucid.core.stream import Piece
from pellucid.core.types import Description, Plan, products
from pellucid.domains.declare import Subject
from pellucid.formats import find

if TYPE_CHECKING:
    from pellucid.core.types import Array, Region, Writer

GRID = ("transform", "crs")  # facts of the input that hold for images of another depth
TABLES = (".tsv", ".csv", ".npy", ".json")


def named(options: Any) -> dict[str, Path]:
    """Return option -> path of the further files that were asked for."""
    return {name: Path(getattr(options, name)) for name in products(options) if getattr(options, name)}


class Products:
    """The further files of one run, each staged when it is asked for and filled as the run goes.

    Raises
    ------
    UsageError
        A suffix that is not written.
    """

    def __init__(self, plan: Plan, subject: Subject, stage: Callable[[Path], Path]) -> None:
        self.plan = plan
        kinds = products(plan.options)
        self.images: list[Images] = []
        self.tables: dict[str, Path] = {}
        for name, path in named(plan.options).items():
            if kinds[name] == "table":
                if path.suffix.lower() not in TABLES:
                    raise UsageError(f"{_flag(name)} cannot be written so", path, f"end it in {' '.join(TABLES)}")
                self.tables[name] = stage(path)
            else:
                module = find.by_suffix(path, subject.formats)
                self.images.append(Images(name, stage(path), module, _grid(plan)))

    def settle(self, method: Any, state: Any) -> None:
        """Write the tables from what the gather pass taught."""
        if self.tables:
            found = method.products(state, self.plan)
            for name, path in self.tables.items():
                write_table(path, found[name])

    def write(self, piece: Piece) -> None:
        """Add a piece to the images."""
        for image in self.images:
            image.write(piece)

    def close(self) -> None:
        """Finish the images."""
        for image in self.images:
            image.close()


class Images:
    """Images over the spatial grid; how many is known with the first tile."""

    def __init__(self, name: str, path: Path, module: Any, grid: Description) -> None:
        self.name, self.path, self.module, self.grid = name, path, module, grid
        self.writer: Writer | None = None
        self.depth: tuple[int, ...] = ()
        self.skipped: list[Region] = []

    def write(self, piece: Piece) -> None:
        """Add a tile's images; not a number where the tile has none, as outside ``--region``."""
        place = piece.region[: self.grid.spatial]
        found = piece.maps.get(self.name)
        if found is None:
            self.skipped.append(place)
        elif self.writer is None:
            self._open(found.shape[len(place) :])
        if self.writer is None:
            return
        for region in self.skipped:
            self._put(region, np.full([*(s.stop - s.start for s in region), *self.depth], np.nan, np.float32))
        self.skipped.clear()
        if found is not None:
            self._put(place, np.ascontiguousarray(found, np.float32))

    def close(self) -> None:
        """Finish the file.

        Raises
        ------
        Refused
            There was nothing to write.
        """
        if self.writer is None:
            raise Refused(f"there are no images for {_flag(self.name)}: no signal", self.path, "leave it out")
        self.writer.close()

    def _open(self, depth: tuple[int, ...]) -> None:
        if 0 in depth:
            raise Refused(f"there are no images for {_flag(self.name)}: no signal", self.path, "leave it out")
        grid, self.depth = self.grid, depth
        if depth:
            grid = replace(grid, shape=(*grid.shape, *depth), axes=(*grid.axes, "band"))
            grid = replace(grid, spacing=(*grid.spacing, None), units=(*grid.units, None))
        try:
            self.writer = self.module.compose(self.path, replace(grid, format=self.module.FORMAT.name))
        except FormatError as error:
            title = self.module.FORMAT.title
            raise UsageError(f"{title} cannot hold this: {error.what}", self.path, error.hint) from error

    def _put(self, place: Region, values: Array) -> None:
        assert self.writer is not None
        self.writer.write((*place, *(slice(0, n) for n in self.depth)), values)


def write_table(path: Path, content: Array | Mapping[str, Array]) -> None:
    """Write a matrix, or columns under their names, as the suffix says; ``.npy`` of columns is a record array."""
    suffix = path.suffix.lower()
    columns = {k: np.asarray(v) for k, v in content.items()} if isinstance(content, Mapping) else None
    rows = np.asarray(content) if columns is None else np.column_stack([v.astype(object) for v in columns.values()])
    if suffix == ".npy":
        if columns is not None:
            kinds = [(name, v.dtype) for name, v in columns.items()]
            rows = np.array([tuple(row) for row in rows.tolist()], dtype=kinds)
        np.save(path, rows)
    elif suffix == ".json":
        ready = _plain(rows) if columns is None else {k: _plain(v) for k, v in columns.items()}
        path.write_text(json.dumps(ready) + "\n", encoding="utf-8")
    else:
        join = ("," if suffix == ".csv" else "\t").join
        lines = [] if columns is None else [join(columns)]
        lines += [join(_word(v) for v in row) for row in rows.tolist()]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _word(value: Any) -> str:
    return str(value) if isinstance(value, int | str) else f"{value:.10g}"


def _plain(values: Array) -> list[Any]:
    """Return nested lists, None for what is not a number: JSON has no word for it."""
    ready = values.astype(object)
    ready[~np.isfinite(values)] = None
    found: list[Any] = ready.tolist()
    return found


def _grid(plan: Plan) -> Description:
    """Return the description of one image over the input's spatial axes."""
    d = plan.description
    assert d is not None
    n = d.spatial
    facts = {k: v for k, v in d.acquisition.items() if k in GRID}
    return Description(
        d.format, d.shape[:n], d.axes[:n], "float32", spacing=d.spacing[:n], units=d.units[:n], acquisition=facts
    )


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
