"""Metadata read from a source file without importing it."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

Metadata = TypeVar("Metadata")


def read_metadata(
    path: Path, name: str, kind: type[Metadata], parts: Mapping[str, type] | None = None
) -> Metadata:
    """Read `NAME = Kind(...)` from a source file; all its arguments must be literal keywords.

    Args:
        path: the source file.
        name: name of the assignment.
        kind: the class that is called there.
        parts: further classes that may be called inside it, by name, with literals.

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
            words = {str(w.arg): _evaluated(w.value, parts or {}) for w in node.value.keywords}
            return kind(**words)
    raise ValueError(f"{path.name} has no {name} = {kind.__name__}(...) at its top level")


def _evaluated(node: ast.expr, parts: Mapping[str, type]) -> Any:
    """Evaluate literals, and calls of the named classes on literals."""
    if isinstance(node, ast.Tuple | ast.List):
        values = [_evaluated(element, parts) for element in node.elts]
        return tuple(values) if isinstance(node, ast.Tuple) else values
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return {ast.literal_eval(k): _evaluated(v, parts) for k, v in pairs if k is not None}
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in parts:
        words = {str(w.arg): _evaluated(w.value, parts) for w in node.keywords}
        return parts[node.func.id](*(_evaluated(a, parts) for a in node.args), **words)
    return ast.literal_eval(node)
