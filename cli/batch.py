# SPDX-License-Identifier: Apache-2.0
"""Many files: shards, processes, status rows. Results do not depend on any of them."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from pellucid.cli.main import Ended, say
from pellucid.cli.private import hidden, unnamed
from pellucid.cli.run import one
from pellucid.core import resources
from pellucid.core.errors import Exit, FormatError, OutputError, PellucidError, UsageError
from pellucid.core.types import products
from pellucid.domains.request import Request

COLUMNS = ("input", "output", "status", "code", "method", "sigma", "seconds", "message")
ARRAYS = (  # (index, count, first index) of array jobs: SLURM, PBS, SGE, Kubernetes
    ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MIN"),
    ("PBS_ARRAY_INDEX", "PBS_ARRAY_COUNT", "PBS_ARRAY_FIRST"),
    ("SGE_TASK_ID", "SGE_TASK_LAST", "SGE_TASK_FIRST"),
    ("JOB_COMPLETION_INDEX", "JOB_COMPLETION_COUNT", ""),
)


def collect(
    files: list[Path], files_from: str, shard: str, relative_to: Path | None, formats: tuple[str, ...] = ()
) -> list[Path]:
    """Return the inputs of this process: named, listed, then those of the shard.

    A folder that is one subject (a DICOM series) stays whole; any other stands for the files in it of ``formats``.

    Raises
    ------
    UsageError
        Nothing was named, or the shard is none.
    """
    paths = list(files)
    if files_from:
        stream = sys.stdin if files_from == "-" else _open(files_from)
        with stream:
            paths += [Path(text.rstrip("\r\n")) for text in stream if text.strip()]
    if not paths:
        raise UsageError("no input file was named", hint="name one or more files, or use --files-from")
    if formats:
        paths = [p for named in paths for p in _opened(named, formats)]
    if not shard:
        return paths
    index, count = _shard(shard)
    return [p for p in paths if _bucket(p, relative_to, count) == index]


def _opened(path: Path, formats: tuple[str, ...]) -> list[Path]:
    if not path.is_dir():
        return [path]
    from pellucid.formats import find

    found = find.inside(path, formats)
    if not found:
        raise FormatError(path, "", "holds no files of this field", "name the files, or another field")
    return found


def _open(name: str) -> Any:
    try:
        return open(name, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"the list cannot be read ({error.strerror})", name) from error


def _bucket(path: Path, relative_to: Path | None, count: int) -> int:
    """Return a file's shard by the hash of its name, so that a grown folder keeps its shards."""
    name = _relative(path, relative_to)
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % count


def _relative(path: Path, relative_to: Path | None) -> str:
    if relative_to is None:
        return path.as_posix()
    try:
        return path.resolve().relative_to(relative_to.resolve()).as_posix()
    except ValueError:
        raise UsageError("is not below --relative-to", path) from None


def _shard(text: str) -> tuple[int, int]:
    if text == "auto":
        for index, count, first in ARRAYS:
            if os.environ.get(index, "").isdigit() and os.environ.get(count, "").isdigit():
                start = int(os.environ.get(first, "0") or 0) if first else 0
                total = int(os.environ[count]) - (start - 1 if count == "SGE_TASK_LAST" else 0)
                return int(os.environ[index]) - start, total
        raise UsageError("--shard auto: this is no array job", hint="give --shard i/n")
    low, slash, high = text.partition("/")
    if not (slash and low.isdigit() and high.isdigit() and int(low) < int(high)):
        raise UsageError(f"--shard {text} is no shard", hint="write i/n with i from 0 to n-1")
    return int(low), int(high)


def place(request: Request, path: Path, many: bool, relative_to: Path | None) -> Request:
    """Return the request of one file: with several inputs ``-o`` is a folder whose tree may be kept.

    Raises
    ------
    UsageError
        Options that name a single file were given for several.
    """
    if not many:
        return request
    for name in ("noise_out", "residual", "preview", "report"):
        if getattr(request, name):
            raise UsageError(f"--{name.replace('_', '-')} names one file, several inputs were given")
    if request.out is None:
        return request
    folder = request.out / Path(_relative(path, relative_to)).parent if relative_to else request.out
    return replace(request, out=folder, out_folder=True)


def single(request: Request, field_name: str) -> None:
    """Refuse options of methods that name a further output file, where several inputs were given.

    Raises
    ------
    UsageError
        One was given.
    """
    from pellucid.domains import registry

    for name in registry.methods_of(registry.field(field_name)):
        for option in products(registry.method(name, field_name.partition(" ")[0]).Options):
            if request.method_options.get(option):
                raise UsageError(f"--{option.replace('_', '-')} names one file, several inputs were given")


def attempt(path: Path, field_name: str, request: Request, relative_to: Path | None, **how: Any) -> dict[str, Any]:
    """Return a file's row; an expected error becomes a row with its code, an unexpected one names its type."""
    many = how.pop("many")
    try:
        with unnamed(request.private, (path, relative_to or path)):
            return one(path, field_name, place(request, path, many, relative_to), **how)
    except PellucidError as error:
        return _failed(path, int(error.code), str(error), request)
    except Exception as error:  # one broken file must not end the batch; the type is kept
        return _failed(path, int(Exit.BUG), f"{path}: a bug in pellucid: {type(error).__name__}: {error}", request)


def _failed(path: Path, code: int, message: str, request: Request) -> dict[str, Any]:
    name = "" if request.private else str(path)
    message = hidden(message, [path]) if request.private else message
    return {**dict.fromkeys(COLUMNS), "input": name, "status": "failed", "code": code, "message": message}


def rows(
    paths: list[Path], field_name: str, request: Request, *, jobs: int, relative_to: Path | None, **how: Any
) -> Iterator[dict[str, Any]]:
    """Yield a row per file, in order."""
    if jobs == 1:
        yield from (attempt(p, field_name, request, relative_to, **how) for p in paths)
        return
    share = replace(request, threads=max(1, (request.threads or resources.threads()) // jobs))
    how["quiet"] = True
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_child) as pool:
        try:
            yield from pool.map(
                partial(attempt, field_name=field_name, request=share, relative_to=relative_to, **how), paths
            )
        except BaseException:
            for process in list((pool._processes or {}).values()):  # no public way to end running tasks
                process.terminate()
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _child() -> None:
    """Let a worker clean up its part files when it is told to end."""

    def stop(number: int, frame: object) -> None:
        raise Ended(number)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class Status:
    """A row per file as it finishes, TSV or JSONL."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        if path is None:
            return
        try:
            path.write_text("" if path.suffix == ".jsonl" else "\t".join(COLUMNS) + "\n", encoding="utf-8")
        except OSError as error:
            raise OutputError(f"cannot be written ({error.strerror})", path, "name another --status file") from error

    def add(self, row: dict[str, Any]) -> None:
        """Append one row and flush it."""
        if self.path is None:
            return
        short = {k: row.get(k) for k in COLUMNS}
        text = (
            json.dumps(short, sort_keys=True)
            if self.path.suffix == ".jsonl"
            else "\t".join("" if v is None else " ".join(str(v).split()) for v in short.values())
        )
        with self.path.open("a", encoding="utf-8") as file:
            file.write(text + "\n")


def code_of(found: list[int], keep_going: bool) -> int:
    """Return the exit code of a batch."""
    failed = [c for c in found if c]
    if not failed:
        return int(Exit.DONE)
    return int(Exit.SOME_FAILED) if keep_going and len(found) > 1 else failed[0]


def summary(found: list[int]) -> None:
    """Print the closing line of a batch."""
    failed = sum(1 for c in found if c)
    say(f"pellucid: {len(found) - failed} of {len(found)} files done" + (f", {failed} failed" if failed else ""))
