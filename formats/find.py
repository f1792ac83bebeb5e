# SPDX-License-Identifier: Apache-2.0
"""Which format a file is in: content decides first, the suffix second."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from pellucid.core.errors import FormatError, UsageError
from pellucid.core.types import FormatTraits, Reader

HEAD = 4096  # bytes a format may look at
APART = ("derivatives", "sourcedata", "code", "stimuli")  # folders of a BIDS dataset that hold no raw data
SURE, LIKELY = 0.5, 0.2  # below LIKELY nobody claims the file

# Suffixes users bring that are not read yet: the line says what to do instead.
ELSEWHERE = {
    ".vrt": "a VRT only points to other files: denoise those, or make one GeoTIFF with gdal_translate",
    ".raw": "has no header: say what it holds with --encoding (sound) or --width --height --bits --cfa (camera)",
    ".m4a": "AAC is not read: convert it to WAV first, for instance with ffmpeg",
}


@cache
def formats() -> dict[str, ModuleType]:
    """Return all format modules by name: every module of this folder that declares FORMAT."""
    from pellucid import formats as room

    found = {}
    for info in pkgutil.iter_modules(room.__path__):
        module = importlib.import_module(f"pellucid.formats.{info.name}")
        if isinstance(getattr(module, "FORMAT", None), FormatTraits):
            found[module.FORMAT.name] = module
    return found


def module_of(name: str) -> Any:
    """Return a format module by name; its file has the same name, and the others are not imported."""
    return importlib.import_module(f"pellucid.formats.{name}")


def by_suffix(path: Path, preferred: tuple[str, ...] = ()) -> Any:
    """Return the format that composes files of this name; where two share a suffix, the preferred one.

    Raises
    ------
    UsageError
        No format writes such a suffix.
    """
    name = path.name.lower()
    fits = [
        (len(suffix), module.FORMAT.name in preferred, module)
        for module in formats().values()
        for suffix in module.FORMAT.suffixes
        if name.endswith(suffix) and "compose" in module.FORMAT.writes
    ]
    if not fits:
        raise UsageError("no format that is written has this suffix", path, "see 'pellucid list formats'")
    return max(fits, key=lambda fit: fit[:2])[2]


def candidates(path: Path) -> list[tuple[float, str]]:
    """Return (certainty, format name), surest first; certainties below ``LIKELY`` are left out.

    Raises
    ------
    FormatError
        The file is missing, a folder, unreadable or empty.
    """
    if path.is_dir():
        asked = ((getattr(module, "recognise_folder", None), name) for name, module in formats().items())
        scored = [(float(recognise(path)), name) for recognise, name in asked if recognise is not None]
    else:
        head = _head(path)
        scored = [(float(module.recognise(head, str(path))), name) for name, module in formats().items()]
    return sorted((pair for pair in scored if pair[0] >= LIKELY), key=lambda pair: (-pair[0], pair[1]))


def inside(folder: Path, wanted: tuple[str, ...]) -> list[Path]:
    """Return what a folder holds for a field: subjects that are folders (a DICOM series) whole, else files.

    Derived data are left out: what BIDS keeps apart, and whatever has a sidecar of ours beside it.
    """
    if any(name in wanted for _, name in candidates(folder)):
        return [folder]
    found: list[Path] = []
    for path in _listed(folder):
        if path.name.startswith(".") or path.name in APART:
            continue
        if path.is_dir():
            found += [] if _loops(path) else inside(path, wanted)
        elif _holds(path) and not _ours(path) and any(name in wanted for _, name in candidates(path)):
            found.append(path)
    return found


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise FormatError(folder, "", f"cannot be read ({error.strerror})", "check its permissions") from error


def _loops(path: Path) -> bool:
    """Tell whether a link leads to a folder it lies in; walking on would never end."""
    return path.is_symlink() and path.resolve() in path.parent.resolve().joinpath("x").parents


def _holds(path: Path) -> bool:
    """Tell whether this is a file with something in it: no dead link, no pipe, not empty."""
    return path.is_file() and path.stat().st_size > 0


def _ours(path: Path) -> bool:
    return path.with_name(path.name + ".pellucid.json").exists() or "_desc-denoised" in path.name


def open_file(path: Path, wanted: tuple[str, ...] = (), **hints: Any) -> Reader:
    """Open a file by content; ``hints`` (key, axes, rate, channels, encoding) go to the format.

    Parameters
    ----------
    wanted : tuple of str
        Formats the calling field reads; others give a worded error.

    Raises
    ------
    FormatError
        Nothing here reads it, or it is truncated, inconsistent or hostile.
    """
    if hints.get("encoding"):
        return _open(module_of("pcm"), path, hints)
    found = candidates(path)
    if not found:
        raise FormatError(path, "", *_unread(path))
    name = found[0][1]
    if wanted and name not in wanted:
        usable = [n for _, n in found if n in wanted]
        if not usable and found[0][0] < SURE:  # another field's guess by name is no finding
            raise FormatError(path, "", *_unread(path))
        if not usable:
            title = module_of(name).FORMAT.title
            raise FormatError(
                path, "", f"is {title}, which this field does not read", "see 'pellucid info' for its field"
            )
        name = usable[0]
    return _open(module_of(name), path, hints)


def _open(module: Any, path: Path, hints: dict[str, Any]) -> Reader:
    reader: Reader = module.open(path, **hints)
    return reader


def _head(path: Path) -> bytes:
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):  # reading a pipe may wait for ever
            raise FormatError(path, "", "is no regular file", "copy what it gives to a file first")
        with path.open("rb") as file:
            head = file.read(HEAD)
    except FileNotFoundError:
        raise FormatError(path, "", "there is no such file", "check the path") from None
    except IsADirectoryError:
        raise FormatError(path, "", "is a folder", "name the file inside it") from None
    except OSError as error:
        raise FormatError(path, "", f"cannot be read ({error.strerror})", "check its permissions") from error
    if not head:
        raise FormatError(path, "", "is empty", "copy it again")
    return head


def _unread(path: Path) -> tuple[str, str]:
    if path.is_dir():
        return "is a folder that is no series and no scene", "name the files inside it"
    name = path.name.lower()
    for suffix, line in ELSEWHERE.items():
        if name.endswith(suffix) or name.endswith(suffix + ".gz"):
            what, _, hint = line.partition(": ")
            return what, hint
    return "its format is not read", "see 'pellucid list formats'"
