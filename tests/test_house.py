# SPDX-License-Identifier: Apache-2.0
"""The house keeps its rules: who imports whom, how large rooms grow, what a command costs."""

from __future__ import annotations

import ast
import importlib
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

import pellucid

HOME = Path(pellucid.__file__).parent
ROOMS = ("cli", "core", "domains", "formats")
FIELD_NAMES = ("mri", "ultrasound", "hyperspectral", "raw", "speech", "image")
MODULES = sorted(p for room in ROOMS for p in (HOME / room).rglob("*.py"))
MOST_LINES, MEDIAN_LINES, MOST_FUNCTION, MEDIAN_FUNCTION, MOST_POSITIONAL = 400, 150, 60, 12, 5


def names_of(path: Path) -> str:
    return ".".join(("pellucid", *path.relative_to(HOME).with_suffix("").parts)).removesuffix(".__init__")


def imports(tree: ast.AST) -> list[tuple[str, bool]]:
    """Return (module, at module level) of every import."""
    top = {id(n) for n in ast.iter_child_nodes(tree)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(a.name, id(node) in top) for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            found += [(f"{node.module}.{a.name}", id(node) in top) for a in node.names]
    return found


def room_of(name: str) -> str:
    parts = name.split(".")
    return parts[1] if parts[0] == "pellucid" and len(parts) > 1 else ""


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(HOME)))
def test_imports_go_one_way(path: Path) -> None:
    room, tree = path.relative_to(HOME).parts[0], ast.parse(path.read_text())
    for name, top in imports(tree):
        other = room_of(name)
        if room == "core":
            assert other in ("", "core"), f"core imports {name}"
        if room == "formats":
            allowed = ("pellucid.core.errors", "pellucid.core.types", "pellucid.core.lazy", "pellucid.formats")
            assert not other or name.startswith(allowed), f"formats imports {name}"
            assert not name.startswith("torch"), "formats know no torch"
        if room == "domains":
            own = path.relative_to(HOME).parts[1]
            assert other != "cli", f"domains import {name}"
            parts = name.split(".")
            if other == "domains" and len(parts) > 3 and (HOME / "domains" / parts[2]).is_dir():
                assert parts[2] == own, f"{own} imports {name}"
        if room == "cli" and top:
            assert name.split(".")[0] not in ("torch", "numpy", "scipy"), f"cli imports {name} at the top"
        assert name.split(".")[0] != "click", "Typer carries its own copy of click"


THIRD_PARTY = {  # owner modules of third-party readers, by folder or file
    "rasterio": ("formats/",),
    "nibabel": ("formats/",),
    "h5py": ("formats/",),
    "soundfile": ("formats/",),
    "tifffile": ("formats/",),
    "imagecodecs": ("formats/",),
    "pydicom": ("formats/",),
    "nrrd": ("formats/",),
    "rawpy": ("formats/",),
    "rich": ("cli/",),
    "typer": ("cli/", "domains/"),
}


@pytest.mark.parametrize("library", THIRD_PARTY)
def test_third_party_readers_stay_in_their_room(library: str) -> None:
    for path in MODULES:
        used = any(name.split(".")[0] == library for name, _ in imports(ast.parse(path.read_text())))
        assert not used or str(path.relative_to(HOME)).startswith(THIRD_PARTY[library]), f"{path} imports {library}"


def test_modules_and_functions_stay_small() -> None:
    lengths = {p: len(p.read_text().splitlines()) for p in MODULES}
    assert max(lengths.values()) <= MOST_LINES, max(lengths, key=lengths.__getitem__)
    assert statistics.median(lengths.values()) <= MEDIAN_LINES
    sizes = []
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                size = (node.end_lineno or node.lineno) - node.lineno + 1
                sizes.append(size)
                assert size <= MOST_FUNCTION, f"{path}:{node.lineno} {node.name} has {size} lines"
    assert statistics.median(sizes) <= MEDIAN_FUNCTION


def test_functions_take_few_positional_arguments() -> None:
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and "options" not in path.name and "verbs" not in str(path):
                names = [a.arg for a in (*node.args.posonlyargs, *node.args.args) if a.arg not in ("self", "cls")]
                annotated = sum("Annotated" in ast.dump(a) for a in node.args.args)  # the shell's declarations
                assert len(names) - annotated <= MOST_POSITIONAL + 1, f"{path}:{node.lineno} {node.name}{names}"


def test_public_names_have_docstrings() -> None:
    for path in MODULES:
        tree = ast.parse(path.read_text())
        assert ast.get_docstring(tree), f"{path} says nothing of itself"
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{path}:{node.lineno} {node.name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(HOME)))
def test_every_module_imports(path: Path) -> None:
    assert importlib.import_module(names_of(path))


def loaded_after(code: str) -> set[str]:
    """Return which heavy libraries are loaded after some code in a fresh interpreter."""
    heavy = "torch numpy scipy librosa rdkit rasterio nibabel h5py soundfile rich tifffile PIL pydicom rawpy nrrd"
    script = f"{code}\nimport sys\nprint(*[m for m in '{heavy}'.split() if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split("\n")[-2].split())


WORDS = ["--help", "list formats", *(f"{f} {v}--help" for f in FIELD_NAMES for v in ("", "denoise "))]


@pytest.mark.parametrize("words", WORDS)
def test_help_loads_no_heavy_library(words: str) -> None:
    code = f"from pellucid.cli.main import _guarded\nassert _guarded({words.split()!r}) == 0"
    assert loaded_after(code) == set()


def test_importing_the_package_loads_nothing() -> None:
    assert (
        loaded_after("import pellucid, pellucid.core.types, pellucid.domains.registry as r; r.all_methods()") == set()
    )
