# SPDX-License-Identifier: Apache-2.0
"""Whether the HDF5 library survives a file: its headers are walked once in a child process.

libhdf5 reads damaged heaps and indices without checking all of them; some files end the process or
never return (https://github.com/HDFGroup/hdf5/issues lists such files by the dozen). What a child
has come through, the parent may do as well.
"""

from __future__ import annotations

import os
import signal
import time
import warnings
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from pellucid.core.errors import FormatError

SECONDS = 4.0  # a sound file of 20,000 objects takes one
MOST = 20_000  # objects looked at


def check(path: Path) -> None:
    """Walk a file's groups, attributes and chunk indices in a child; cached by path, time and size.

    Raises
    ------
    FormatError
        The child was ended by a signal, or did not come back.
    """
    try:
        status = os.stat(path)
    except OSError:
        return  # opening it says why
    if hasattr(os, "fork") and not _survived(str(path), status.st_mtime_ns, status.st_size):
        raise FormatError(path, "HDF5", "the library cannot read its headers", "the file is damaged: copy it again")


@lru_cache(maxsize=256)
def _survived(path: str, changed: int, size: int) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking beside threads: the child runs HDF5 alone
        child = os.fork()
    if child == 0:
        try:
            _walk(path)
        finally:
            os._exit(0)  # whatever Python raised, the parent will word it
    return not _signalled(child)


def _signalled(child: int) -> bool:
    """Return whether a child was ended by a signal, ours included."""
    limit, pause = time.monotonic() + SECONDS, 0.001
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.WIFSIGNALED(status)
        if time.monotonic() > limit:
            os.kill(child, signal.SIGKILL)
        time.sleep(pause)
        pause = min(2 * pause, 0.05)


def _walk(path: str) -> None:
    import h5py

    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1), os.dup2(null, 2)
    seen = 0

    def look(name: str, item: Any) -> bool | None:
        nonlocal seen
        seen += 1
        for key in item.attrs:
            _quietly(partial(item.attrs.__getitem__, key))
        if isinstance(item, h5py.Dataset):
            _quietly(lambda: item.chunks and item.id.get_num_chunks())
            _quietly(lambda: item.size < 1000 and h5py.check_string_dtype(item.dtype) and item[()])
        return True if seen > MOST else None

    with h5py.File(path, "r", locking=False) as file:
        look("/", file)
        file.visititems(look)


def _quietly(call: Any) -> None:
    """Run a call whose Python errors do not matter here."""
    try:
        call()
    except Exception:  # worded by the parent, which meets it again
        return
