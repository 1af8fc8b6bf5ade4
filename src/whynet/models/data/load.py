"""The data a reference names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from whynet.core.errors import InputError
from whynet.models.data.csv import read_csv
from whynet.models.data.examples import Examples
from whynet.models.data.npy import read_npy
from whynet.models.data.npz import read_npz
from whynet.models.data.parquet import read_parquet
from whynet.models.data.python_source import examples_from_code
from whynet.models.data.table import TARGET
from whynet.models.load.paths import existing_file
from whynet.models.load.reference import is_code
from whynet.models.load.wording import quoted

KINDS = "data.npz, X.npy,y.npy, table.csv, table.parquet or data.py:make_data"


def load_data(
    reference: str,
    *,
    argument: str,
    target: str | None = None,
    announce: Callable[[str], None],
) -> Examples:
    """Load the data a reference names.

    Args:
        reference: `data.npz`, `X.npy,y.npy`, `table.csv`, `table.parquet` or `file.py:name`.
        argument: name of the argument the reference came from.
        target: name of the target column of a table.
        announce: called with `running code from <path>` before a user's code runs; only
            `file.py:name` does.

    Raises:
        InputError: there is no such data, or it is not sound; the sentence says what is wrong.

    """
    code = is_code(reference) and not reference.endswith(".pt2")
    suffix = Path(reference).suffix
    table = suffix in (".csv", ".parquet") and not code
    if target is not None and not table:
        raise InputError(
            TARGET, f"{quoted(target)} for {quoted(reference)}", "a .csv or .parquet file beside it"
        )
    if code:
        return examples_from_code(reference, argument, announce)
    if suffix == ".npy":
        return Examples.from_arrays(*read_npy(reference, argument), argument)
    path = existing_file(reference, argument, KINDS)
    if suffix == ".npz":
        return Examples.from_arrays(*read_npz(path, argument), argument)
    if suffix == ".csv":
        inputs, targets, notes = read_csv(path, argument, target)
        return Examples.from_arrays(inputs, targets, argument, notes)
    if suffix == ".parquet":
        inputs, targets, notes = read_parquet(path, argument, target)
        return Examples.from_arrays(inputs, targets, argument, notes)
    found = f"{quoted(reference)}, of the unknown kind {quoted(suffix)}"
    raise InputError(argument, found, f"one of {KINDS}")
