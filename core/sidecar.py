# SPDX-License-Identifier: Apache-2.0
"""What a run leaves behind: one JSON beside the output, enough to repeat and to trust it."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pellucid.core.types import Noise, Plan, products

SCHEMA = "pellucid/sidecar/1"
SUFFIX = ".pellucid.json"
WHOLE = 256 * 1024**2  # larger files are hashed by sample: a third read of a large scene would cost minutes
BLOCKS, BLOCK = 64, 1024**2


def fingerprint(path: Path) -> dict[str, Any]:
    """Return name, size and SHA-256 of a file; beyond 256 MB of its size and 64 spread blocks of 1 MiB.

    Of a folder: the sum of sizes and the hash over its files' relative names and hashes.
    """
    if path.is_dir():
        return _folder(path)
    size = path.stat().st_size
    digest = hashlib.sha256()
    with path.open("rb") as file:
        if size <= WHOLE:
            while chunk := file.read(BLOCK):
                digest.update(chunk)
            kind = "sha256"
        else:
            digest.update(str(size).encode())
            for i in range(BLOCKS):
                file.seek((size - BLOCK) * i // (BLOCKS - 1))
                digest.update(file.read(BLOCK))
            kind = "sha256_of_64_blocks"
    return {"name": path.name, "bytes": size, kind: digest.hexdigest()}


def _folder(path: Path) -> dict[str, Any]:
    digest, size = hashlib.sha256(), 0
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        found = fingerprint(file)
        found["name"] = file.relative_to(path).as_posix()
        size += found["bytes"]
        digest.update(json.dumps(found, sort_keys=True).encode())
    return {"name": path.name, "bytes": size, "sha256_of_files": digest.hexdigest()}


def plan_facts(plan: Plan) -> dict[str, Any]:
    """Return the plan as the sidecar stores it; each parameter says where it came from."""
    options = asdict(plan.options) if is_dataclass(plan.options) and not isinstance(plan.options, type) else {}
    return {
        "method": plan.method,
        "why": plan.reason,
        "parameters": {
            k: {"value": v, "from": "given" if k in plan.given else "default"}
            for k, v in sorted(options.items())
            if k not in products(plan.options)  # further files change nothing of this one
        },
        "noise": _noise(plan.noise),
        "asked": dict(plan.asked),
        "dtype": plan.output.dtype if plan.output else None,
        "tiles": len(plan.tiles),
        "halo": list(plan.halo),
        "device": plan.device,
        "seed": plan.seed,
    }


def made_from(path: Path, source: Path) -> bool:
    """Tell whether the sidecar ``path`` says that its output was made from ``source`` as it is now."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        stored = stored.get("Pellucid", stored)["input"]
        return bool(all(stored.get(k) == v for k, v in fingerprint(source).items() if k != "name" or "name" in stored))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _noise(noise: Noise | None) -> dict[str, Any] | None:
    if noise is None:
        return None
    sigma = noise.sigma
    many = getattr(sigma, "size", 1) > 1
    facts: dict[str, Any] = {"model": noise.law, "from": noise.source, "unit": "input, per Gaussian channel"}
    if many:
        facts["sigma"] = {"median": float(sorted(sigma.ravel())[sigma.size // 2]), "values": int(sigma.size)}
    else:
        facts["sigma"] = None if sigma is None else float(sigma)
    if noise.estimator:
        facts["estimator"] = noise.estimator
    return {**facts, **dict(noise.params)}


def plan_hash(facts: Mapping[str, Any]) -> str:
    """Return a hash of everything in a plan that changes the result."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def versions(*names: str) -> dict[str, str]:
    """Return versions of Python, pellucid and the libraries that are loaded."""
    found = {"python": platform.python_version()}
    for name in ("pellucid", "numpy", "scipy", "torch", *names):
        if name in sys.modules or name == "pellucid":
            try:
                found[name] = version(name)
            except PackageNotFoundError:
                continue
    return found


def write(path: Path, document: Mapping[str, Any]) -> None:
    """Write a document with sorted keys."""
    path.write_text(json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def matches(path: Path, target: Path, source: Path, wanted: str) -> bool:
    """Tell whether the sidecar ``path`` says that ``target`` was made from ``source`` by the plan with hash
    ``wanted``, and whether both are still what it says."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        stored = stored.get("Pellucid", stored)
        same_plan = stored["plan_hash"] == wanted
        same_input = all(stored["input"].get(k) == v for k, v in fingerprint(source).items() if k != "name")
        same_output = all(stored["output"].get(k) == v for k, v in fingerprint(target).items() if k != "name")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    return bool(same_plan and same_input and same_output)
