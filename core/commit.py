# SPDX-License-Identifier: Apache-2.0
"""How files come into being: staged beside their target, verified, then renamed into place.

A run writes into ``.NAME.HOST.PID.part/`` in the target's own folder (the same file system), where
files already carry their final names, so that readers verify exactly what will be published.
At every instant the target is absent, the old file, or the complete new one.
"""

from __future__ import annotations

import errno
import filecmp
import os
import shutil
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pellucid.core.errors import OutputError, PellucidError

OLD = ".replaced"  # what a published folder takes the place of, until the stage is gone


class Stage:
    """A private folder beside a target; ``publish`` moves its files into place, the target last."""

    def __init__(self, target: Path) -> None:
        self.target, self.force = target, False
        host = socket.gethostname().split(".")[0]
        self.folder = target.parent / f".{target.name}.{host}.{os.getpid()}.part"
        self.inputs: tuple[Path, ...] = ()  # files that no companion may replace, whatever --force says

    @property
    def path(self) -> Path:
        """Where to write the target."""
        return self.folder / self.target.name

    def open(self, force: bool) -> None:
        """Refuse an existing target, clear what a killed run left, make the folder.

        Raises
        ------
        OutputError
            The target exists, or the folder cannot be written.
        """
        self.force = force
        if self.target.exists() and not force:
            raise OutputError("exists", self.target, "use --force to replace it")
        try:
            self.target.parent.mkdir(parents=True, exist_ok=True)
            _clear_stale(self.target)
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(mode=0o700)
        except OSError as error:
            raise OutputError(_reason(error), self.target.parent, "choose another folder with -o") from error

    def publish(self, last: Iterable[str] = ()) -> list[Path]:
        """Flush everything and rename: companions first, then the target, then the names in ``last``."""
        present = self.ready(tuple(last))
        mask = os.umask(0)
        os.umask(mask)
        for path in (part for top in present for part in _tree(top)):
            os.chmod(path, (0o777 if path.is_dir() else 0o666) & ~mask)
            _sync(path)
        moved = []
        for path in present:
            there = self.target.parent / path.name
            self._place(path, there, path.name in last)
            moved.append(there)
        shutil.rmtree(self.folder)
        _sync(self.target.parent)
        return moved

    def _place(self, path: Path, there: Path, replaces: bool) -> None:
        """Rename one file or folder; what came there meanwhile is not replaced unless ``force`` was given."""
        if there.is_dir():  # a folder cannot be renamed onto a folder that holds files
            os.replace(there, self.folder / OLD)
        elif not (self.force or replaces or path.is_dir()):
            try:
                os.link(path, there)  # unlike a rename, fails where another run was faster
            except FileExistsError:
                if not filecmp.cmp(path, there, shallow=False):
                    raise OutputError("exists", there, "use --force to replace it") from None
            except OSError:
                os.replace(path, there)  # a file system without links
            return
        os.replace(path, there)

    def ready(self, last: tuple[str, ...] = ()) -> list[Path]:
        """Return what is staged in the order of publishing; refuse what must not be replaced.

        Raises
        ------
        OutputError
            A companion is part of the input, or exists with other content and ``force`` was not given.
        """
        tail = [self.target.name, *last]
        names = sorted(p.name for p in self.folder.iterdir() if p.name not in (OLD, *tail)) + tail
        present = [self.folder / name for name in names if (self.folder / name).exists()]
        for path in present:
            there = self.target.parent / path.name
            if any(same_file(there, own) for own in self.inputs):
                raise OutputError("is part of the input", there, "choose another name with -o")
            other = path.name not in last and there.exists() and not filecmp.cmp(path, there, shallow=False)
            if other and not self.force:
                raise OutputError("exists", there, "use --force to replace it")  # a companion, or came meanwhile
        return present

    def discard(self) -> None:
        """Remove everything staged."""
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def staged(target: Path, *, force: bool) -> Iterator[Stage]:
    """Open a stage; on any exception, signals included, nothing of it remains.

    Raises
    ------
    OutputError
        The target exists without ``force``, or the disk refuses.
    """
    stage = Stage(target)
    stage.open(force)
    try:
        yield stage
    except PellucidError as error:
        stage.discard()
        if str(stage.folder) in str(error.path):
            error.path = target  # users know the output, not where it was staged
        raise
    except OSError as error:
        stage.discard()
        if error.errno not in _DISK:
            raise
        raise OutputError(_reason(error), target, "nothing was written") from error
    except BaseException:
        stage.discard()
        raise


_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EFBIG, errno.ENOENT}
_WORDS = {
    errno.ENOSPC: "no space is left on the disk",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "this folder may not be written",
    errno.EPERM: "this folder may not be written",
    errno.EFBIG: "the file would be too large for this file system",
    errno.ENOTDIR: "is not a folder",
}


def _tree(path: Path) -> list[Path]:
    """Return a file, or a folder with everything in it, the folder last."""
    return [*path.rglob("*"), path] if path.is_dir() else [path]


def _reason(error: OSError) -> str:
    return _WORDS.get(error.errno or 0, f"cannot be written ({error.strerror or type(error).__name__})")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _clear_stale(target: Path) -> None:
    """Remove stages that dead processes of this host left for the same target."""
    host = socket.gethostname().split(".")[0]
    prefix = f".{target.name}.{host}."
    for entry in target.parent.iterdir():
        pid = entry.name[len(prefix) : -len(".part")]
        if entry.name.startswith(prefix) and entry.name.endswith(".part") and pid.isdigit() and not _alive(int(pid)):
            shutil.rmtree(entry, ignore_errors=True)


def _alive(pid: int) -> bool:
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def same_file(a: Path, b: Path) -> bool:
    """Tell whether two paths name the same file, through links and inodes."""
    try:
        return a.resolve() == b.resolve() or (b.exists() and a.exists() and os.path.samefile(a, b))
    except OSError:
        return False
