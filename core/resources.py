# SPDX-License-Identifier: Apache-2.0
"""How many threads and how much memory this process may use: affinity, cgroup v1 and v2, schedulers."""

from __future__ import annotations

import os
import re
from pathlib import Path

from pellucid.core.errors import UsageError

SHARE_OF_MEMORY = 0.7  # left over: the interpreter, libraries, the page cache of the files themselves
_UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}


def threads() -> int:
    """Return the processors this process may use: least of affinity and cgroup quota."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        count = os.cpu_count() or 1
    quota = _cpu_quota()
    return max(1, min(count, int(quota)) if quota else count)


def memory_limit() -> int:
    """Return 70 % of the bytes this process may use: least of MemAvailable, cgroup and scheduler."""
    limits = [_available(), *_cgroup_limits(), *_scheduler_limits()]
    known = [value for value in limits if value]
    return int(SHARE_OF_MEMORY * min(known)) if known else 2 * 1024**3


def parse_bytes(text: str) -> int:
    """Return bytes of ``"2G"``, ``"512M"``, ``"1.5GiB"``.

    Raises
    ------
    UsageError
        The text is no size.
    """
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([KMGT]?)(?:i?B)?\s*", text, re.IGNORECASE)
    if not match:
        raise UsageError(f"'{text}' is no amount of memory", hint="write for instance 2G or 512M")
    return int(float(match[1]) * _UNITS[match[2].upper()])


def _cpu_quota() -> float | None:
    words = _text("/sys/fs/cgroup/cpu.max").split()
    if len(words) == 2 and words[0].isdigit():
        return max(1.0, int(words[0]) / int(words[1]))
    quota = _text("/sys/fs/cgroup/cpu/cpu.cfs_quota_us").strip()
    period = _text("/sys/fs/cgroup/cpu/cpu.cfs_period_us").strip()
    if quota.isdigit() and period.isdigit():
        return max(1.0, int(quota) / int(period))
    return None


def _available() -> int | None:
    match = re.search(r"MemAvailable:\s+(\d+) kB", _text("/proc/meminfo"))
    return int(match[1]) * 1024 if match else None


def _cgroup_limits() -> list[int]:
    texts = (_text("/sys/fs/cgroup/memory.max"), _text("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
    return [int(t) for t in texts if t.strip().isdigit() and int(t) < 1 << 60]


def _scheduler_limits() -> list[int]:
    node = os.environ.get("SLURM_MEM_PER_NODE", "")
    per_cpu = os.environ.get("SLURM_MEM_PER_CPU", "")
    cpus = os.environ.get("SLURM_CPUS_PER_TASK", "1")
    found = []
    if node.isdigit():
        found.append(int(node) * 1024**2)
    if per_cpu.isdigit() and cpus.isdigit():
        found.append(int(per_cpu) * int(cpus) * 1024**2)
    return [f for f in found if f]


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
