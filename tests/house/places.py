"""Where things stand in the repository, for the tests of the house."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "whynet"
CONCEPTS = SOURCE / "concepts"

_MADE = {"out", "site", "dist", "build", "__pycache__", "node_modules"}


def tracked(*suffixes: str) -> Iterator[Path]:
    """Iterate over the files that belong to the repository, in order, by suffix or all."""
    yield from _below(ROOT, suffixes)


def _below(folder: Path, suffixes: tuple[str, ...]) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        hidden = path.name.startswith(".") and path.name not in (".ci", ".gitignore")
        if hidden or path.name in _MADE or path.name.endswith(".egg-info"):
            continue
        if path.is_dir():
            yield from _below(path, suffixes)
        elif not suffixes or path.suffix in suffixes:
            yield path


def short(path: Path) -> str:
    """Name a file by its path in the repository."""
    return path.relative_to(ROOT).as_posix()


def python(*words: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run this Python in a process of its own."""
    return subprocess.run(
        [sys.executable, *words], cwd=cwd, capture_output=True, text=True, check=False
    )
