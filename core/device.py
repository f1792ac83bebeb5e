# SPDX-License-Identifier: Apache-2.0
"""The only room that names devices. Everything else takes its device from the plan or a tensor."""

from __future__ import annotations

from pellucid.core.errors import Missing, UsageError
from pellucid.core.lazy import torch


def resolve(wanted: str, able: tuple[str, ...]) -> str:
    """Return the device a method will run on.

    Parameters
    ----------
    wanted : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:<index>``.
    able : tuple of str
        Kinds of device the method's traits declare.

    Raises
    ------
    UsageError
        The word is no device, or the method does not run there.
    Missing
        There is no such device on this machine.
    """
    kind, _, index = wanted.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (index and not index.isdigit()):
        raise UsageError(f"no device is called '{wanted}'", hint="use auto, cpu, cuda or cuda:0")
    if kind == "cpu" or (kind == "auto" and "cuda" not in able):
        return "cpu"
    if "cuda" not in able:
        raise UsageError("this method runs on the CPU only", hint="use --device cpu or auto")
    count = int(torch.cuda.device_count()) if torch.cuda.is_available() else 0
    if kind == "auto":
        return "cuda:0" if count else "cpu"
    if int(index or 0) >= count:
        raise Missing(f"device {wanted} is not there ({count} found)", hint="use --device cpu")
    return f"cuda:{index or 0}"


def describe() -> list[str]:
    """Return one line per device torch can see, for ``doctor``."""
    names = [f"cpu: {torch.get_num_threads()} threads"]
    if torch.cuda.is_available():
        names += [f"cuda:{i}: {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
    return names
