# SPDX-License-Identifier: Apache-2.0
"""HDF5 files without their people: personal attributes and texts go, and the file is written again.

HDF5 leaves the bytes of what is deleted in the file, so whatever stays is copied into a new one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pellucid.formats import hdf5_tree, identity
from pellucid.formats.hdf5_check import library

STRUCTURE = frozenset(
    "NAME CLASS DIMENSION_LIST REFERENCE_LIST _FillValue _Netcdf4Dimid _Netcdf4Coordinates _NCProperties _nc3_strict "
    "MATLAB_class MATLAB_fields MATLAB_int_decode MATLAB_object_decode MATLAB_sparse H5PATH axes units".split()
)
WORKERS = frozenset("operator user username author creator contact email owner investigator host hostname".split())
SCALES = ("DIMENSION_LIST", "REFERENCE_LIST")
MATLAB_TEXT = 116  # bytes of text at the start of a MAT-file
MATLAB = b"MATLAB 7.3 MAT-file"


def anonymise(path: Path) -> None:
    """Take personal attributes, texts and links out of a file; the samples' own array is never touched."""
    with hdf5_tree.opened(path, "r+") as file:
        found = _walk(file)
        for name, item in found:
            _attributes(name, item)
        for name, item in found:
            if name and isinstance(item, library().Dataset) and _says(name, item):
                del file[name]
        _links(file, [name for name, item in found if isinstance(item, library().Group)])
    _copied(path)


def scene(path: Path) -> None:
    """Take who worked on a scene, and paths, out of its attributes; place and time of the flight stay."""
    removed = 0
    with hdf5_tree.opened(path, "r+") as file:
        for _, item in _walk(file):
            for key, value in hdf5_tree.read_attributes(item).items():
                words = {w.lower() for w in identity.WORD.findall(key)}
                if key not in STRUCTURE and isinstance(value, str) and (words & WORKERS or identity.PATH.search(value)):
                    del item.attrs[key]
                    removed += 1
    if removed:
        _copied(path)


def _walk(file: Any) -> list[tuple[str, Any]]:
    """Return every object that hard links reach, the root first."""
    h5py = library()
    found, waiting, seen = [("", file)], [("", file)], {h5py.h5o.get_info(file.id).addr}
    while waiting and len(found) < hdf5_tree.MOST_ITEMS:
        base, group = waiting.pop()
        for key in list(group):
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                continue
            item, name = group[key], f"{base}/{key}".lstrip("/")
            address = h5py.h5o.get_info(item.id).addr
            if address in seen:
                continue
            seen.add(address)
            found.append((name, item))
            if isinstance(item, h5py.Group):
                waiting.append((name, item))
    return found


def _attributes(name: str, item: Any) -> None:
    for key in list(item.attrs):
        if key in STRUCTURE:
            continue
        try:
            value = item.attrs[key]
        except hdf5_tree.ERRORS:
            continue
        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
        own = identity.squeezed(key) == "name" and text == name.rpartition("/")[2]  # UFF repeats names of objects
        dated = isinstance(value, bytes | str) and identity.DAY.search(text) is not None
        if (identity.personal(key) and not own) or dated:
            del item.attrs[key]


def _says(name: str, item: Any) -> bool:
    """Whether a data set is a text, or a single number, that tells of a person by its name or its groups' names."""
    if item.shape is None:
        return False
    chars = item.attrs.get("MATLAB_class") in (b"char", "char")
    text = chars or item.dtype.kind in "SOU" and library().check_ref_dtype(item.dtype) is None
    short = item.size == 1 and item.dtype.kind in "iuf"
    if not (text or short):
        return False
    if item.dtype.kind == "S" and item.size == 1 and identity.DAY.search(item[()].decode("utf-8", "replace")):
        return True
    return any(identity.personal(part) for part in name.split("/")[-2:])


def _links(file: Any, groups: list[str]) -> None:
    """Drop links to other files: they are paths."""
    for name in groups:
        group = file[name] if name else file
        for key in list(group):
            if isinstance(group.get(key, getlink=True), library().ExternalLink):
                del group[key]


def _copied(path: Path) -> None:
    """Write everything that is left into a new file and put it in the old one's place."""
    h5py, new = library(), identity.beside(path)
    with hdf5_tree.opened(path) as old, hdf5_tree.worded(path):
        block = old.userblock_size
        with h5py.File(new, "w", userblock_size=block, locking=False) as file:
            options = h5py.h5p.create(h5py.h5p.OBJECT_COPY)
            options.set_copy_object(h5py.h5o.COPY_EXPAND_REFERENCE_FLAG)
            h5py.h5o.copy(old.id, b".", file.id, b"all", copypl=options)
            everything = file["all"]
            for key in list(everything):
                everything.move(key, f"/{key}") if key != "all" else None
            for key in old.attrs:
                if not old.attrs.get_id(key).dtype.hasobject or isinstance(old.attrs[key], str):
                    file.attrs.create(key, old.attrs[key], dtype=old.attrs.get_id(key).dtype)
            if not len(everything):
                del file["all"]
            _scales(old, file)
    if block:
        _userblock(path, new, block)
    identity.put(path, new)


def _scales(old: Any, new: Any) -> None:
    """Tie dimension scales again: a copy of their references leads nowhere."""
    sets = [(name, item) for name, item in _walk(old) if isinstance(item, library().Dataset)]
    tied = [(name, item) for name, item in sets if any(key in item.attrs for key in SCALES)]
    for name, _ in tied:
        for key in SCALES:
            if key in new[name].attrs:
                del new[name].attrs[key]
    for name, item in tied:
        if "DIMENSION_LIST" not in item.attrs:
            continue
        for axis, dimension in enumerate(item.dims):
            for scale in dimension.values():
                if scale.name and scale.name in new:
                    new[name].dims[axis].attach_scale(new[scale.name])


def _userblock(path: Path, new: Path, size: int) -> None:
    """Carry a MAT-file's block before the signature without its text of machine and day; zero any other."""
    with path.open("rb") as file:
        held = file.read(size)
    known = held.startswith(MATLAB)
    head = MATLAB.ljust(MATLAB_TEXT) + held[MATLAB_TEXT:128] if known else b""
    with new.open("r+b") as file:
        file.write(head.ljust(size, b"\0"))
