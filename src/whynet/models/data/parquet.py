"""Parquet tables, where the extra `parquet` is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from whynet.core.errors import InputError
from whynet.models.data.limits import check_declared
from whynet.models.data.table import encoded, feature_note, integer_note, target_index
from whynet.models.load.wording import printable, quoted


def read_parquet(
    path: Path, argument: str, target: str | None, limit: int | None = None
) -> tuple[Any, Any, list[str]]:
    """Read a table; returns inputs, targets and notes.

    Args:
        path: a Parquet file whose columns hold numbers; the target column may hold words.
        argument: name of the argument the path came from.
        target: name of the target column.
        limit: bytes of memory the table may need; half of the memory by default.

    Raises:
        InputError: pyarrow is missing, the file is damaged, or a column holds something else.

    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise InputError(
            argument,
            f"{quoted(path)}, a Parquet file, without pyarrow to read it",
            "pip install 'whynet[parquet]'",
        ) from error
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            rows, columns = file.metadata.num_rows, list(file.schema_arrow.names)
            check_declared(rows * len(columns) * 8, path, argument, limit)
            index = target_index(columns, target, argument)
            table = file.read()
    except InputError:
        raise
    except (pyarrow.ArrowException, OSError, ValueError, MemoryError) as error:
        raise InputError(
            argument,
            f"{quoted(path)}, which is damaged ({printable(str(error), 120)})",
            "a whole Parquet file",
        ) from error
    if table.num_rows == 0:
        raise InputError(argument, f"0 rows in {quoted(path)}", "at least one row")
    names = [name for i, name in enumerate(columns) if i != index]
    features = [_numbers(table.column(name), name, argument) for name in names]
    targets, notes = _targets(table.column(index), columns[index], argument)
    inputs = np.column_stack(features).astype(np.float64)
    return inputs, targets, [*notes, feature_note(names), *integer_note(inputs, names)]


def _check_whole(column: Any, name: str, argument: str) -> None:
    if column.null_count:
        raise InputError(
            argument,
            f"{column.null_count} missing cells in column {quoted(name)}",
            "a value in every cell",
        )


def _numbers(column: Any, name: str, argument: str) -> np.ndarray[Any, Any]:
    _check_whole(column, name, argument)
    array = column.to_numpy()
    if array.dtype.kind not in "iufb":
        raise InputError(
            argument, f"the column {quoted(name)} of type {column.type}", "columns of numbers"
        )
    return np.asarray(array)


def _targets(column: Any, name: str, argument: str) -> tuple[np.ndarray[Any, Any], list[str]]:
    _check_whole(column, name, argument)
    cells = column.to_pylist() if column.to_numpy().dtype.kind not in "iufb" else None
    if cells is None:
        return np.array(column.to_numpy()), []
    if not all(isinstance(cell, str) for cell in cells):
        raise InputError(
            argument, f"the column {quoted(name)} of type {column.type}", "numbers or words"
        )
    labels, note = encoded(cells, name)
    return labels, [note]
