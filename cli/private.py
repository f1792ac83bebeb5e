# SPDX-License-Identifier: Apache-2.0
"""Messages that name no file: with ``--private`` an error says what is wrong, not with which path."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pellucid.core.errors import PellucidError

SHORTEST, LONG = 3, 6  # letters of a name that is looked for in a message: alone, and within words


def hidden(text: str, paths: Iterable[object]) -> str:
    """Return a message with every path, name, stem and folder of ``paths`` replaced."""
    words: set[str] = set()
    for given in paths:
        path = Path(str(given))
        words |= {str(path), str(path.absolute()), str(path.parent), path.name, path.name.split(".")[0]}
    for word in sorted((w for w in words if len(w) >= SHORTEST), key=len, reverse=True):
        alone = rf"(?<!\w){re.escape(word)}(?!\w)"  # a short name may be part of an honest word
        text = text.replace(word, "input") if len(word) >= LONG else re.sub(alone, "input", text)
    return text


@contextmanager
def unnamed(private: bool, paths: Iterable[object]) -> Iterator[None]:
    """Run a block; with ``private`` whatever it raises loses its paths, and so does what it was raised from."""
    try:
        yield
    except PellucidError as error:
        if not private:
            raise
        named = [*paths, *([error.path] if error.path else [])]
        error.what, error.path = hidden(error.what, named), "input" if error.path else None
        error.hint = hidden(error.hint, named) if error.hint else None
        error.args = (error.what, error.path, error.hint)
        error.__cause__, error.__suppress_context__ = None, True
        raise
    except Exception as error:
        if not private:
            raise
        raise RuntimeError(type(error).__name__) from None
