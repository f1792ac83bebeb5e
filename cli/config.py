# SPDX-License-Identifier: Apache-2.0
"""Settings: flag > PELLUCID_* > --config > ./pellucid.toml > user's config.toml > default.

TOML tables narrow where a setting holds: top level everywhere, ``[mri]`` in a field,
``[mri.denoise]`` in one verb. ``--config`` also takes a sidecar and repeats its run.
"""

from __future__ import annotations

import inspect
import json
import os
import tomllib
from pathlib import Path
from typing import Any

from pellucid.cli.fields import FIELDS, MORE
from pellucid.core.errors import FormatError, UsageError

NAMES = frozenset(
    "out method sigma force preview noise_in noise_out estimator residual mask region report out_dtype key axes "
    "force_kind strict private json quiet verbose threads max_memory scratch device seed keep_going jobs resume "
    "shard relative_to status".split()
)
PREFIX = "PELLUCID_"
OWN = frozenset({"PELLUCID_SCRATCH", "PELLUCID_ROOT", "PELLUCID_TEST_DATA"})


def files(argv: list[str]) -> list[Path]:
    """Return the configuration files that apply, weakest first."""
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "pellucid" / "config.toml"
    found = [p for p in (home, Path("pellucid.toml")) if p.is_file()]
    for i, word in enumerate(argv):
        if word == "--config" and i + 1 < len(argv):
            found.append(Path(argv[i + 1]))
        elif word.startswith("--config="):
            found.append(Path(word.partition("=")[2]))
    return found


def settings(argv: list[str], field: str, verb: str) -> dict[str, tuple[Any, str]]:
    """Return name -> (value, where it comes from) for one verb.

    Raises
    ------
    UsageError
        A key is unknown.
    FormatError
        A file is neither TOML nor a sidecar.
    """
    merged: dict[str, tuple[Any, str]] = {}
    for path in files(argv):
        table = _load(path)
        inner = table[field] if isinstance(table.get(field), dict) else {}
        layers = [table, inner, inner[verb] if isinstance(inner.get(verb), dict) else {}]
        for layer in layers:
            for key, value in layer.items():
                if not isinstance(value, dict):
                    merged[_known(key, path, field)] = (value, str(path))
    for name, text in sorted(os.environ.items()):
        if name.startswith(PREFIX) and name not in OWN:
            key = name[len(PREFIX) :].lower()
            if key in NAMES or key in _own_options(field):
                merged[key] = (text, name)
    return merged


def _load(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise FormatError(path, "", f"cannot be read ({error.strerror})", "check the path") from error
    try:
        if path.suffix == ".json":
            return _of_sidecar(json.loads(text), path)
        return tomllib.loads(text)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FormatError(path, "", "is neither TOML nor a sidecar", str(error)) from error


def _of_sidecar(document: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return the settings that repeat a sidecar's run."""
    document = document.get("Pellucid", document)
    plan = document["plan"]
    table = {"method": plan["method"], "seed": plan["seed"]}
    table |= {k: v["value"] for k, v in plan["parameters"].items() if v["from"] == "given"}
    table |= {k: v for k, v in plan.get("asked", {}).items() if isinstance(v, str)}
    noise = plan.get("noise") or {}
    if noise.get("from") == "given":
        table["sigma"] = str(noise["sigma"])
    dtype = document["output"]["dtype"]
    if dtype != document["input"]["dtype"]:
        table["out_dtype"] = dtype
    return table


def _known(key: str, path: Path, field: str) -> str:
    name = key.replace("-", "_")
    if name in NAMES or name in _own_options(field):
        return name
    import difflib

    near = difflib.get_close_matches(name, sorted(NAMES), 1)
    raise UsageError(
        f"'{key}' is no setting", path, f"did you mean '{near[0]}'?" if near else "names are those of the options"
    )


def _own_options(field: str) -> set[str]:
    if field not in dict(FIELDS):
        return set()
    from pellucid.domains import registry

    declared = registry.field(field)
    kinds = [registry.method(n, field).Options for seen in registry.sights(field) for n in registry.methods_of(seen)]
    kinds += [conversion.options for conversion in declared.conversions]
    flags = set(inspect.signature(declared.options).parameters) if declared.options else set()
    return flags | {name for kind in kinds for name in kind.__dataclass_fields__}


def default_map(argv: list[str]) -> dict[str, Any]:
    """Return the parser's defaults for the field and verb that are being called."""
    words = [w for w in argv if not w.startswith("-")]
    if len(words) < 2 or words[0] not in dict(FIELDS):
        return {}
    if words[1] not in ("denoise", "estimate", "simulate", *dict(MORE.get(words[0], ()))):
        return {}
    found = settings(argv, words[0], words[1])
    return {words[0]: {words[1]: {name: value for name, (value, _) in found.items()}}}
