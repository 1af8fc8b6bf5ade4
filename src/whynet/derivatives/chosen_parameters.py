"""Parameters chosen by patterns of their names; the others are held fixed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from torch import nn

from whynet.core.errors import InputError
from whynet.derivatives.objective import Objective

Pattern = str | Sequence[str]
"""Names of parameters or of modules that hold them, with the wildcards `*`, `?` and `[...]`."""

SHOWN = 8
"""Names that a refusal lists."""


def restricted(objective: Objective, pattern: Pattern, argument: str = "parameters") -> Objective:
    """Return the objective as a function of some parameters alone; the others are constants.

    Args:
        objective: of all trainable parameters.
        pattern: one or several patterns. `encoder.0` stands for all that is inside it, `*.bias`
            for all biases; a tied parameter answers to each of its names and counts once.
        argument: what the refusal calls the pattern.

    Raises:
        InputError: a pattern that no trainable parameter answers to.

    """
    chosen = chosen_names(objective.module, tuple(objective.parameters), pattern, argument)
    held = {name: p for name, p in objective.parameters.items() if name not in chosen}
    return replace(
        objective,
        parameters={name: p for name, p in objective.parameters.items() if name in chosen},
        frozen={**objective.frozen, **held},
    )


def chosen_names(
    module: nn.Module, names: Sequence[str], pattern: Pattern, argument: str
) -> frozenset[str]:
    """Return which of the names answer to a pattern.

    Args:
        module: knows the other names of tied parameters, and frozen ones.
        names: to choose from.
        pattern: see `restricted`.
        argument: what the refusal calls it.

    Raises:
        InputError: a pattern that none of the names answers to.

    """
    patterns = (pattern,) if isinstance(pattern, str) else tuple(pattern)
    if not patterns:
        raise InputError(argument, "no pattern", "names or patterns of names")
    canonical = _canonical(module)
    found: set[str] = set()
    for one in patterns:
        every = {canonical[alias] for alias in canonical if _answers(alias, one)}
        mine = every & set(names)
        if not mine:
            frozen = f"{one!r}, which names frozen parameters only" if every else repr(one)
            listed = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
            raise InputError(argument, frozen, f"a pattern that one of {listed} answers to")
        found |= mine
    return frozenset(found)


def _canonical(module: nn.Module) -> dict[str, str]:
    """Map every name of every parameter to the first one."""
    first: dict[int, str] = {}
    return {
        name: first.setdefault(id(parameter), name)
        for name, parameter in module.named_parameters(remove_duplicate=False)
    }


def _answers(name: str, pattern: str) -> bool:
    """Whether a name, or that of a module around it, is of a pattern."""
    parts = name.split(".")
    return any(fnmatchcase(".".join(parts[: i + 1]), pattern) for i in range(len(parts)))
