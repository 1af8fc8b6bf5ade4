"""Metadata read from a source file without importing it."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TypeVar

Metadata = TypeVar("Metadata")


def read_metadata(path: Path, name: str, kind: type[Metadata]) -> Metadata:
    """Read `NAME = Kind(...)` from a source file; all its arguments must be literal keywords.

    Raises:
        ValueError: the file has no such assignment, or an argument is no literal.

    """
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    for node in tree.body:
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and node.targets[0].id == name
            and isinstance(node.value, ast.Call)
        ):
            arguments = {
                str(word.arg): ast.literal_eval(word.value) for word in node.value.keywords
            }
            return kind(**arguments)
    raise ValueError(f"{path.name} has no {name} = {kind.__name__}(...) at its top level")
