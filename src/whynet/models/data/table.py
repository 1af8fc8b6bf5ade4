"""What tables of any format share: the target column, and classes written as words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from whynet.core.errors import InputError
from whynet.models.load.wording import listing, quoted, suggestion

TARGET = "--target"


def target_index(columns: Sequence[str], target: str | None, argument: str) -> int:
    """Return the position of the target column.

    Raises:
        InputError: names repeat, or the target is not among them, or is the only one.

    """
    twice = [name for name, count in Counter(columns).items() if count > 1]
    if twice:
        raise InputError(argument, f"the column {listing(twice)} more than once", "distinct names")
    if target is None:
        raise InputError(
            TARGET, "no target", f"the column to predict, one of {listing(columns, 10)}"
        )
    if target not in columns:
        raise InputError(
            TARGET,
            f"no column {quoted(target)}{suggestion(target, columns)}",
            f"one of {listing(columns, 10)}",
        )
    if len(columns) < 2:
        raise InputError(argument, "no column beside the target", "at least one column of inputs")
    return list(columns).index(target)


def feature_note(columns: Sequence[str]) -> str:
    """Say which columns are the inputs."""
    return f"Inputs are the columns {listing(columns, 12)}, in this order."


def encoded(cells: Sequence[str], column: str) -> tuple[np.ndarray[Any, Any], str]:
    """Number the classes of a column of words in sorted order; returns labels and a note."""
    classes = sorted(set(cells))
    number = {name: index for index, name in enumerate(classes)}
    labels = np.fromiter((number[cell] for cell in cells), dtype=np.int64, count=len(cells))
    shown = ", ".join(f"{quoted(name, 30)} = {index}" for index, name in enumerate(classes[:10]))
    more = f" and {len(classes) - 10} more" if len(classes) > 10 else ""
    return labels, f"The classes of {quoted(column)} were numbered in sorted order: {shown}{more}."


def integer_note(values: np.ndarray[Any, Any], columns: Sequence[str]) -> list[str]:
    """Name columns of integers that float64 cannot hold, which identifiers often are."""
    wide = np.abs(values).max(axis=0) >= 2.0**53
    names = [name for name, is_wide in zip(columns, wide, strict=True) if is_wide]
    return (
        [f"The columns {listing(names)} hold numbers of 2^53 and above, perhaps rounded."]
        if names
        else []
    )
