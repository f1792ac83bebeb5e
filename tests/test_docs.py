# SPDX-License-Identifier: Apache-2.0
"""The documentation is run: console blocks as commands, python blocks as code, names against the registry."""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser

from pellucid.cli.fields import FIELDS, MORE, TOOLS, VERBS
from pellucid.core.errors import Exit
from pellucid.domains import registry
from pellucid.formats import find

ROOT = Path(os.environ.get("PELLUCID_ROOT", Path(__file__).parent.parent))
PAGES = [p for p in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))) if p.exists()]
SAMPLES = {
    "mri": "dwi.nii.gz",
    "ultrasound": "cine.mha",
    "hyperspectral": "scene.dat",
    "raw": "photo.dng",
    "speech": "voice.wav",
    "image": "picture.png",
}
NAMES = [name for name, _ in FIELDS]
FIGURE = re.compile(r"^\| `([\w.]+\.json)` \| ([^|]+) \| `(\w+)` \| ([\d.]+) \|$", re.M)

pytestmark = pytest.mark.skipif(
    not (ROOT / "docs").is_dir(), reason="the documentation is not beside the tests; PELLUCID_ROOT names the repository"
)


def words() -> str:
    return "\n".join(p.read_text(encoding="utf-8") for p in PAGES)


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One small simulated file of each field with its truth, and a ``pellucid`` on the path."""
    folder = tmp_path_factory.mktemp("samples")
    program = folder / "bin" / "pellucid"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pellucid "$@"\n')
    program.chmod(0o755)
    for field, name in SAMPLES.items():
        subprocess.run([program, "example", field, "-o", name], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture
def place(samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own with the sample files, entered."""
    folder = tmp_path / "work"
    shutil.copytree(samples, folder, ignore=shutil.ignore_patterns("bin"))
    monkeypatch.setenv("PATH", f"{samples / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "no-config"))
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(folder)
    return folder


def steps(block: str) -> list[tuple[str, str]]:
    """Split a console block into commands and what each is expected to say."""
    found: list[tuple[str, list[str]]] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif found:
            found[-1][1].append(line.rstrip())
    return [(command, "\n".join(lines).strip("\n")) for command, lines in found]


def agrees(expected: str, said: str) -> bool:
    """Compare; ``...`` stands for anything within a line, and alone on a line for any lines."""
    pattern = ""
    for line in expected.splitlines():
        if line.strip() == "...":
            pattern += r"(?:[^\n]*\n)*?"
        else:
            pattern += r"[^\n]*?".join(re.escape(part) for part in line.split("...")) + r"[ ]*\n"
    return re.fullmatch(pattern, said.rstrip("\n") + "\n" if said.strip() else "") is not None


def run_console(example: Example) -> None:
    """Run a block's commands one after the other; a failure must be shown, with its message."""
    code = 0
    for command, expected in steps(example.parsed):
        command = command.replace("$?", str(code))
        done = subprocess.run(
            command, shell=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120
        )
        code = done.returncode
        assert agrees(expected, done.stdout), f"$ {command}\nexpected:\n{expected}\n\nsaid:\n{done.stdout}"
        assert code == 0 or "pellucid: " in expected, f"$ {command} ended with {code}:\n{done.stdout}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_example_of_a_page_runs_as_shown(page: Path, place: Path) -> None:
    parsers = [CodeBlockParser(language="console", evaluator=run_console), PythonCodeBlockParser()]
    for example in Sybil(parsers).parse(page).examples():
        example.evaluate()


@pytest.mark.parametrize(
    ("expected", "said", "same"),
    [
        ("a ... c", "a b c\n", True),
        ("a\n...\nd", "a\nb\nc\nd\n", True),
        ("a\n...", "a\n", True),
        ("a", "a\nb\n", False),
        ("a ... c", "a b d\n", False),
        ("", "", True),
        ("", "something\n", False),
    ],
)
def test_expected_lines_are_compared_with_wildcards(expected: str, said: str, same: bool) -> None:
    assert agrees(expected, said) is same


def test_every_command_and_verb_is_written_about() -> None:
    text = words()
    for tool, _ in TOOLS:
        assert re.search(rf"pellucid {tool}\b", text), tool
    for field in NAMES:
        page = (ROOT / "docs" / f"{field}.md").read_text(encoding="utf-8")
        for verb, _ in (*VERBS, *MORE.get(field, ())):
            assert re.search(rf"pellucid {field} {verb}\b", page), (field, verb)


def test_every_method_has_its_section_and_every_paper_is_named() -> None:
    page = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    for name, module in registry.all_methods().items():
        assert re.search(rf"^## `{name}`", page, re.M), name
        for doi in module.TRAITS.cite:
            assert doi in page, (name, doi)
        for option in module.Options.__dataclass_fields__:
            assert f"`--{option.replace('_', '-')}" in page, (name, option)


def test_every_format_is_written_about_in_the_pages_of_its_fields() -> None:
    for field in NAMES:
        page = (ROOT / "docs" / f"{field}.md").read_text(encoding="utf-8")
        for name in registry.field(field).formats:
            for suffix in find.formats()[name].FORMAT.suffixes:
                assert f"`{suffix}`" in page, (field, name, suffix)


def test_every_exit_code_is_written_about() -> None:
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    for code in Exit:
        assert re.search(rf"^\| {code.value} \|", page, re.M), code


@pytest.mark.parametrize("field", NAMES)
def test_every_warning_code_of_a_field_is_explained(field: str) -> None:
    page = (ROOT / "docs" / f"{field}.md").read_text(encoding="utf-8")
    for check in {check for seen in registry.sights(field) for check in seen.warn}:
        for code in codes_of(check):
            assert f"`{code}`" in page, code


def codes_of(check: Callable[..., Any]) -> list[str]:
    """Return the codes a check may return: the first of each literal pair."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(check)))
    pairs = [n for n in ast.walk(tree) if isinstance(n, ast.Tuple) and len(n.elts) == 2]
    firsts = [n.elts[0].value for n in pairs if isinstance(n.elts[0], ast.Constant)]
    found = [c for c in firsts if isinstance(c, str) and re.fullmatch(r"[a-z]+(-[a-z]+)*", c)]
    assert found, f"{check.__name__} returns no literal code"
    return found


def test_every_refusal_of_a_field_is_explained() -> None:
    for field in NAMES:
        page = (ROOT / "docs" / f"{field}.md").read_text(encoding="utf-8")
        table = page.split("## Refusals", 1)[1].split("\n## ", 1)[0]
        rows = [line for line in table.splitlines() if line.startswith("| ") and "---" not in line]
        checks = {check for seen in registry.sights(field) for check in seen.refuse}
        assert len(rows) - 1 >= len(checks), field


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in target or target.startswith("#"):
            continue
        path, _, anchor = target.partition("#")
        assert (page.parent / path).exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.+)$", (page.parent / path).read_text(encoding="utf-8"), re.M)
            assert anchor in [re.sub(r"[^\w\- ]", "", t.lower()).strip().replace(" ", "-") for t in titles], target


def test_figures_quoted_from_benchmarks_are_those_of_the_committed_results() -> None:
    results = ROOT / "benchmarks" / "results"
    if not results.is_dir():
        pytest.skip("the benchmarks are not beside the tests")
    quoted = FIGURE.findall((ROOT / "docs" / "methods.md").read_text(encoding="utf-8"))
    assert quoted, "the table of figures is gone"
    for file, which, metric, figure in quoted:
        rows = json.loads((results / file).read_text(encoding="utf-8"))["rows"]
        wanted = dict(part.strip().split(" = ") for part in which.split(";"))
        found = [r[metric] for r in rows if all(str(r.get(k)) == v for k, v in wanted.items())]
        assert found, (file, which)
        digits = len(figure.partition(".")[2])
        assert f"{sum(found) / len(found):.{digits}f}" == figure, (file, which, metric)
