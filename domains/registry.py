# SPDX-License-Identifier: Apache-2.0
"""Which fields and methods there are: found by file name, read only when asked."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from dataclasses import replace
from functools import cache
from types import ModuleType
from typing import Any

from pellucid.core.errors import UsageError
from pellucid.core.types import Traits
from pellucid.domains.declare import Conversion, Field


@cache
def fields() -> tuple[str, ...]:
    """Return the names of all fields: every folder here that holds a ``field.py``."""
    from pellucid import domains as room

    names = [i.name for i in pkgutil.iter_modules(room.__path__) if i.ispkg]
    return tuple(n for n in names if importlib.util.find_spec(f"pellucid.domains.{n}.field") is not None)


def field(name: str) -> Field:
    """Return a field's declaration; ``"FIELD VERB"`` is the field as one of its further verbs sees it.

    Raises
    ------
    UsageError
        There is no such field.
    """
    name, _, verb = name.partition(" ")
    return _as_seen(_declared(name), verb) if verb else _declared(name)


def _as_seen(declared: Field, verb: str) -> Field:
    task = next((t for t in declared.tasks if t.name == verb), None)
    if task is not None:
        return replace(declared, **{"word": task.word, "closed": True, "tasks": (), "conversions": (), **task.changes})
    made = conversion(f"{declared.name} {verb}")
    if made is None:
        raise UsageError(f"{declared.name} has no verb '{verb}'")
    return replace(declared, word=made.word, refuse=made.refuse, warn=())


def conversion(name: str) -> Conversion | None:
    """Return the conversion ``"FIELD VERB"`` names, None where the verb is none."""
    name, _, verb = name.partition(" ")
    return next((c for c in _declared(name).conversions if c.name == verb), None) if verb else None


def sights(name: str) -> tuple[Field, ...]:
    """Return a field and then what each of its tasks makes of it."""
    return (field(name), *(field(f"{name} {t.name}") for t in field(name).tasks))


def _declared(name: str) -> Field:
    if name in fields():
        declared: Field = importlib.import_module(f"pellucid.domains.{name}.field").FIELD
        return declared
    for entry in _entry_points("pellucid.fields", name):
        outside: Field = entry.load().FIELD
        return outside
    raise UsageError(f"there is no field '{name}'", hint=f"choose from {', '.join(fields())}")


def _entry_points(group: str, name: str) -> Any:
    from importlib.metadata import entry_points  # 20 ms, and only outside packages need it

    return entry_points(group=group, name=name)


@cache
def _shared() -> tuple[str, ...]:
    from pellucid.core import methods as room

    names = (i.name for i in pkgutil.iter_modules(room.__path__))
    return tuple(n for n in names if hasattr(importlib.import_module(f"pellucid.core.methods.{n}"), "TRAITS"))


def methods_of(declared: Field) -> tuple[str, ...]:
    """Return the methods a field offers: its own list first, then every shared one that fits its axes."""
    if declared.closed:
        return declared.methods
    others = [n for n in _shared() if n not in declared.methods and _fits(_traits(n), declared)]
    return (*declared.methods, *others)


def _fits(traits: Traits, declared: Field) -> bool:
    counts = {len(axes) for axes in declared.spatial}
    return bool(counts & set(traits.spatial)) and (not traits.needs_series or declared.series in traits.joint)


def _traits(name: str) -> Traits:
    traits: Traits = importlib.import_module(f"pellucid.core.methods.{name}").TRAITS
    return traits


def method(name: str, field_name: str) -> Any:
    """Return a method module by name: shared, the field's own, or an outside package's.

    Raises
    ------
    UsageError
        The field has no such method.
    """
    module = _find(name, field_name)
    if module is not None:
        return module
    offered = ", ".join(methods_of(field(field_name)))
    raise UsageError(f"{field_name} has no method '{name}'", hint=f"choose from {offered}")


def _find(name: str, field_name: str) -> ModuleType | None:
    if name in _shared():
        return importlib.import_module(f"pellucid.core.methods.{name}")
    plain = name.replace("-", "_")  # of "vst-nlm" the module is vst_nlm
    own = f"pellucid.domains.{field_name}.{plain}"
    if plain.isidentifier() and importlib.util.find_spec(own) is not None:
        module = importlib.import_module(own)
        return module if isinstance(getattr(module, "TRAITS", None), Traits) else None
    for entry in _entry_points("pellucid.methods", name):
        loaded: ModuleType = entry.load()
        return loaded
    return None


def all_methods() -> dict[str, Any]:
    """Return every method module by name, over all fields."""
    found = {name: importlib.import_module(f"pellucid.core.methods.{name}") for name in _shared()}
    for field_name in fields():
        for name in (n for seen in sights(field_name) for n in seen.methods):
            found.setdefault(name, method(name, field_name))
    return found
