"""Lint, format, types, layers and documentation: the tools say nothing."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from tests.house.places import python

TOOLS = {
    "lint": ("-m", "ruff", "check", "--no-cache", "--output-format=concise", "."),
    "format": ("-m", "ruff", "format", "--no-cache", "--check", "."),
    "types": ("-m", "mypy"),
    "layers": (
        "-c",
        "from importlinter.cli import lint_imports_command; lint_imports_command()",
        "--no-cache",
        "--no-logo",
    ),
}


@pytest.mark.parametrize("tool", TOOLS)
def test_tool_finds_nothing(tool: str) -> None:
    done = python(*TOOLS[tool])
    assert done.returncode == 0, done.stdout + done.stderr


def test_documentation_builds_without_a_warning(tmp_path: Path) -> None:
    done = python("-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site"))
    assert done.returncode == 0, done.stdout + done.stderr
    pages = [page.read_text(encoding="utf-8") for page in (tmp_path / "site").rglob("*.html")]
    assert pages
    for page in pages:
        for loads in ('<script src="http', '<script src="//', 'rel="stylesheet" href="http'):
            assert loads not in page


def test_torchvision_is_absent() -> None:
    assert importlib.util.find_spec("torchvision") is None
