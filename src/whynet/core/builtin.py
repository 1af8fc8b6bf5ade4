"""The shape of a built-in subject: real data and a network trained on them by whynet."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class BuiltIn:
    """What a list of built-in subjects shows; all fields are literals in the subject's file.

    Attributes:
        title: network and data, a phrase.
        family: id of the network's family, a file of `whynet.models.families`.
        loss: `cross_entropy`, `bce` or `mse`.
        data: where the data are from, how many rows train and test, how they were scaled.
        notes: sentences a reader of results on this subject must know.

    """

    title: str
    family: str
    loss: str
    data: str
    notes: tuple[str, ...] = ()


def read_builtin(path: Path) -> BuiltIn:
    """Read `SUBJECT = BuiltIn(...)` from a source file without importing it.

    Args:
        path: a file of `whynet.training.subjects`.

    Raises:
        ValueError: the file has no such assignment, or an argument is not a literal.

    """
    for node in ast.parse(path.read_text(encoding="utf-8"), filename=str(path)).body:
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and node.targets[0].id == "SUBJECT"
            and isinstance(node.value, ast.Call)
        ):
            words = {str(word.arg): ast.literal_eval(word.value) for word in node.value.keywords}
            return BuiltIn(**words)
    raise ValueError(f"{path.name} has no SUBJECT = BuiltIn(...) at its top level")
