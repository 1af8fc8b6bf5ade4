"""Promises about the source itself: sizes, names, and what must stand in no file."""

from __future__ import annotations

import ast
import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from tests.house.places import ROOT, SOURCE, short, tracked

MOST_LINES, MOST_LINES_OF_A_FUNCTION = 400, 60
KERNELS = {"njit", "vectorize", "guvectorize"}
FORBIDDEN_STEMS = {"utils", "util", "common", "base", "helpers", "misc"}
BINARY = {".png", ".npz", ".npy", ".pt", ".pt2", ".safetensors", ".parquet", ".gz"}
# Written in pieces, so that this file does not hold what it looks for.
MACHINE = [f"/{place}/" for place in ("work", "home", "opt/pypi", "opt/wheels")]
REGISTRIES = ["pypi" + ".org", "python" + "hosted", "download." + "pytorch", "index" + "-url"]
PYTHON_FILES = list(tracked(".py"))


@pytest.mark.parametrize("path", PYTHON_FILES, ids=short)
def test_python_file_is_short_and_named_for_what_it_holds(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MOST_LINES
    assert path.stem not in FORBIDDEN_STEMS
    long = [
        f"{short(path)}:{node.lineno} {node.name}: {node.end_lineno - node.lineno + 1} lines"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > MOST_LINES_OF_A_FUNCTION
        and not _is_kernel(node)
    ]
    assert not long


def _is_kernel(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    names = {
        part.id if isinstance(part, ast.Name) else part.attr
        for decorator in node.decorator_list
        for part in ast.walk(decorator)
        if isinstance(part, ast.Name | ast.Attribute)
    }
    return bool(names & KERNELS)


def test_no_tracked_file_names_a_machine_or_a_registry() -> None:
    found = []
    for path in tracked():
        if path.suffix in BINARY:
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            found += [f"{short(path)}:{number} {w}" for w in MACHINE + REGISTRIES if w in line]
    assert not found


def test_templates_never_switch_escaping_off() -> None:
    templates = [path for path in tracked() if path.suffix in (".j2", ".html")]
    assert templates
    for path in templates:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"\|\s*safe\b|autoescape\s+false", text), short(path)
        assert "<script" not in text, short(path)


def test_nothing_is_left_for_later() -> None:
    marks = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    this = Path(__file__)
    found = [
        f"{short(path)}:{number}"
        for path in tracked(".py", ".md", ".toml", ".j2", ".css")
        if path != this
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if marks.search(line)
    ]
    assert not found


def test_every_package_holds_something() -> None:
    for folder in sorted(SOURCE.rglob("__init__.py")):
        others = [
            path
            for path in folder.parent.iterdir()
            if path.name not in ("__init__.py", "__pycache__")
            and (path.is_file() or any(path.rglob("*.py")))
        ]
        assert others, f"{short(folder.parent)} is an empty room"
        assert folder.read_text(encoding="utf-8").startswith('"""'), short(folder)


def test_every_folder_of_python_files_is_a_package() -> None:
    for path in SOURCE.rglob("*.py"):
        assert (path.parent / "__init__.py").is_file(), short(path.parent)


def test_constraints_pin_every_requirement() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    wanted = [*project["dependencies"], *(name for extra in extras for name in extra)]
    pinned = {
        _name(line)
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line
    }
    assert {_name(requirement) for requirement in wanted} <= pinned


def test_the_environment_is_the_pinned_one() -> None:
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            name, _, pinned = line.partition("==")
            assert version(name).split("+")[0] == pinned, name


def _name(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9._-]", requirement)[0].split("==")[0].lower().replace("_", "-")
