"""References to code: `file.py:name` and `package.module:name`, taken apart without running."""

from __future__ import annotations

import ast
import os
import re
from dataclasses import dataclass
from pathlib import Path

from whynet.core.errors import InputError
from whynet.models.load.wording import printable, quoted

FILES_OF_DATA = (".npz", ".npy", ".csv", ".tsv", ".parquet", ".json", ".txt", ".toml")
FILES_OF_WEIGHTS = (".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".tar", ".pkl", ".pickle")
_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


@dataclass(frozen=True)
class Reference:
    """A reference to code, taken apart.

    Attributes:
        file: the Python file; None for an importable module.
        module: dotted name of the module; empty for a file.
        name: what is wanted from it.

    """

    file: Path | None
    module: str
    name: str


def is_code(reference: str) -> bool:
    """Whether resolving `reference` runs code (or unpickles): for networks, data and losses.

    >>> is_code("model.py:build"), is_code("model.pt2"), is_code("digits.npz")
    (True, True, False)
    >>> is_code("package.module:name"), is_code("cross_entropy")
    (True, False)
    """
    place, colon, _ = reference.rpartition(":")
    if not colon:
        return reference.endswith((".py", ".pt2"))
    return place.endswith((".py", ".pt2")) or bool(
        _DOTTED.fullmatch(place) and not place.endswith(FILES_OF_DATA + FILES_OF_WEIGHTS)
    )


def _example(argument: str) -> str:
    return "fit.py:train" if argument == "--train-with" else "model.py:build"


def parse_reference(reference: str, argument: str) -> Reference:
    """Take a reference to code apart.

    Raises:
        InputError: the name is missing, or it is no reference to code.

    """
    place, colon, name = reference.rpartition(":")
    if not colon:
        file = Path(reference)
        names = _listed(file)
        raise InputError(
            argument,
            f"{quoted(reference)} without a name{names}",
            f"the name after a colon, such as {_example(argument)}",
        )
    if not name.isidentifier():
        raise InputError(
            argument,
            f"{quoted(name)} after the colon of {quoted(reference)}",
            f"one Python name, such as {_example(argument)}",
        )
    if place.endswith(".py"):
        return Reference(Path(place), "", name)
    if _DOTTED.fullmatch(place):
        return Reference(None, place, name)
    raise InputError(
        argument,
        f"{quoted(reference)}",
        "a reference such as model.py:build or package.module:name",
    )


def _listed(file: Path) -> str:
    if file.suffix != ".py" or not os.access(file, os.R_OK) or not file.is_file():
        return ""
    names = defined_names(file)
    if isinstance(names, str):
        return f" ({names})"
    return f" (it defines {', '.join(names[:20])})" if names else " (it defines nothing)"


def defined_names(file: Path) -> list[str] | str:
    """Read the public top-level names of a Python file without running it.

    Returns:
        Functions as `name()`, those without required arguments first, then classes and
        variables; or a phrase that says why the file cannot be read.

    """
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return f"not readable as Python: {printable(str(error))}"
    ready: list[str] = []
    needy: list[str] = []
    other: list[str] = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            required = len(node.args.posonlyargs + node.args.args) - len(node.args.defaults)
            required += sum(default is None for default in node.args.kw_defaults)
            (needy if required else ready).append(f"{node.name}()")
        elif isinstance(node, ast.ClassDef):
            other.append(node.name)
        elif isinstance(node, ast.Assign):
            other += [target.id for target in node.targets if isinstance(target, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            other.append(node.target.id)
    return [name for name in ready + needy + other if not name.startswith("_")]
