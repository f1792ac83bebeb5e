# SPDX-License-Identifier: Apache-2.0
"""Progress for people: a bar on a terminal, a line now and then in a log, nothing when quiet."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pellucid.core.stream import Report

STEP, PAUSE = 0.1, 30.0  # a plain line at most every 10 % and every 30 s


def silent(label: str, done: int, total: int) -> None:
    """Report nothing."""


@contextmanager
def progress(name: str, quiet: bool) -> Iterator[Report]:
    """Yield the report function for one file."""
    if quiet:
        yield silent
    elif sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        with _bar(name) as report:
            yield report
    else:
        yield _lines(name)


@contextmanager
def _bar(name: str) -> Iterator[Report]:
    state: dict[str, Any] = {}

    def report(label: str, done: int, total: int) -> None:
        if "bar" not in state:
            from rich.console import Console
            from rich.progress import Progress

            state["bar"] = Progress(console=Console(stderr=True), transient=True)
            state["bar"].start()
            state["task"] = state["bar"].add_task(name, total=total)
        state["bar"].update(state["task"], completed=done, total=total, description=f"{name}  {label}")

    try:
        yield report
    finally:
        if "bar" in state:
            state["bar"].stop()


def _lines(name: str) -> Report:
    last = {"time": time.monotonic(), "share": 0.0}

    def report(label: str, done: int, total: int) -> None:
        share, now = done / max(total, 1), time.monotonic()
        if done < total and share - last["share"] >= STEP and now - last["time"] >= PAUSE:
            last.update(time=now, share=share)
            print(f"pellucid: {name}: {label} {share:.0%}", file=sys.stderr, flush=True)

    return report
