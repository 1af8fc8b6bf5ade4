"""What README and documentation tell the reader to type exists."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
import textwrap
from pathlib import Path

import pytest
from tests.house.places import ROOT, short, tracked

from whynet.atlas.registry import find_claim
from whynet.cli.atlas import parse_axes
from whynet.cli.main import COMMANDS
from whynet.cli.parser import Parser

PAGES = list(tracked(".md"))
FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```", flags=re.MULTILINE | re.DOTALL)


def blocks(path: Path, *languages: str) -> list[str]:
    text = path.read_text(encoding="utf-8")
    return [textwrap.dedent(body) for _, name, body in FENCE.findall(text) if name in languages]


def commands(path: Path) -> list[list[str]]:
    """Return the command lines of a page's shell blocks, as words."""
    lines = "\n".join(blocks(path, "sh", "bash", "console")).replace("\\\n", " ").splitlines()
    return [shlex.split(line.removeprefix("$ "), comments=True) for line in lines if line.strip()]


@pytest.mark.parametrize("path", PAGES, ids=short)
def test_commands_exist(path: Path) -> None:
    targets = set(
        re.findall(r"^([a-z-]+):(?!=)", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    )
    parser = Parser(prog="whynet")
    parser.add_argument("--version", action="store_true")
    rooms = parser.add_subparsers(dest="command", parser_class=Parser)
    for name in COMMANDS:
        module = importlib.import_module(f"whynet.cli.{name}")
        module.add_arguments(rooms.add_parser(name))
    for words in commands(path):
        if words and words[0] == "make":
            named = {word for word in words[1:] if "=" not in word}
            assert named <= targets, words
        if words and words[0].endswith("whynet") and not {"--help", "--list"} & set(words):
            read, rest = parser.parse_known_args(words[1:])
            if rest:  # parameters of a claim
                assert read.command == "atlas" and read.action == "run" and not read.on, words
                about = find_claim(read.claim).metadata if ":" not in read.claim else None
                assert about is None or parse_axes(rest, about), words


@pytest.mark.parametrize("path", PAGES, ids=short)
def test_python_is_python(path: Path) -> None:
    for block in blocks(path, "python"):
        ast.parse(block)


def test_the_readme_begins_with_the_two_commands() -> None:
    lines = [" ".join(words) for words in commands(ROOT / "README.md")]
    assert lines[:2] == ["make examine", "make test"]


def test_local_links_of_pages_outside_the_documentation_lead_somewhere() -> None:
    for path in PAGES:
        if ROOT / "docs" in path.parents:
            continue  # the strict build of the documentation checks these
        for link in re.findall(r"\]\(([^)#\s]+)", path.read_text(encoding="utf-8")):
            if not link.startswith("http"):
                assert (path.parent / link).exists(), f"{short(path)}: {link}"


def test_the_license_and_the_citation_agree_with_the_project() -> None:
    import tomllib

    import yaml

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["license"] == project["license"] == "Apache-2.0"
    assert citation["version"] == project["version"]
    assert "Apache License" in (ROOT / "LICENSE").read_text()
    assert importlib.import_module("whynet").__version__ == project["version"]
