"""Data made by a user's code: `file.py:make_data`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.utils.data import DataLoader, Dataset

from whynet.core.errors import InputError
from whynet.models.data.examples import Examples
from whynet.models.load.user_code import fetch


def examples_from_code(reference: str, argument: str, announce: Callable[[str], None]) -> Examples:
    """Run a user's code and wrap the data it makes.

    Args:
        reference: `file.py:name` or `package.module:name`, where the name is data or a function
            without required arguments that returns it: a pair of arrays or tensors, a `Dataset`
            or a `DataLoader`.
        argument: name of the argument the reference came from.
        announce: called with `running code from <path>` before any code runs.

    Raises:
        InputError: the code fails, or what it makes is no data.

    """
    found = fetch(reference, argument, announce, called=_is_recipe)
    if found.value is None:
        raise InputError(
            argument, f"None from {found.name}", "data (is a return statement missing?)"
        )
    return Examples.from_any(found.value, argument)


def _is_recipe(value: Any) -> bool:
    return callable(value) and not isinstance(value, Dataset | DataLoader)
