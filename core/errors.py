# SPDX-License-Identifier: Apache-2.0
"""Errors a user can act on. Library code raises them; the shell alone turns them into exit codes."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """What the process returns to its caller."""

    DONE = 0
    BUG = 1
    USAGE = 2
    REFUSED = 3
    FORMAT = 4
    SOME_FAILED = 5
    OUTPUT = 6
    MISSING = 7
    TEMPORARY = 75


class PellucidError(Exception):
    """Root of all expected errors; its text is shown to the user as it is.

    Parameters
    ----------
    what : str
        What is wrong, in the words of the field.
    path : str or Path, optional
        File the message speaks of.
    hint : str, optional
        What to do about it.
    """

    code = Exit.BUG

    def __init__(self, what: str, path: object = None, hint: str | None = None) -> None:
        self.what, self.path, self.hint = what, path, hint
        super().__init__(what, path, hint)

    def __str__(self) -> str:
        parts = [str(p) for p in (self.path, self.what, self.hint) if p]
        return " ".join(": ".join(parts).split())


class UsageError(PellucidError, ValueError):
    """The command or call contradicts itself or names something that does not exist."""

    code = Exit.USAGE


class Refused(PellucidError):
    """A valid file that must not be denoised so."""

    code = Exit.REFUSED


class FormatError(PellucidError, ValueError):
    """Unreadable, truncated, inconsistent or hostile input.

    ``where`` names the byte, record, axis or header key.
    """

    code = Exit.FORMAT

    def __init__(self, path: object, where: str, what: str, hint: str | None = None) -> None:
        self.where = where
        PellucidError.__init__(self, f"{where}: {what}" if where else what, path, hint)
        self.args = (path, where, what, hint)


class OutputError(PellucidError, OSError):
    """The output exists, is read-only, or there is no room for it."""

    code = Exit.OUTPUT


class Missing(PellucidError, ImportError):  # type: ignore[misc]  # ImportError has a path too, of another kind
    """An extra, a model's weights or a device is not there."""

    code = Exit.MISSING
