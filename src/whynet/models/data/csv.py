"""Comma-separated tables with a header: numbers in, one column out as the target."""

from __future__ import annotations

import csv
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from whynet.core.errors import InputError
from whynet.models.data.limits import check_declared
from whynet.models.data.table import encoded, feature_note, integer_note, target_index
from whynet.models.load.wording import printable, quoted

_INTEGER = re.compile(r"\s*[+-]?\d{1,18}\s*")
_MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "?", "-"})


def read_csv(
    path: Path, argument: str, target: str | None, limit: int | None = None
) -> tuple[Any, Any, list[str]]:
    """Read a table; returns inputs, targets and notes.

    Args:
        path: a table in UTF-8 with a header, commas between cells and points in numbers.
        argument: name of the argument the path came from.
        target: name of the target column; where it holds words, they are classes.
        limit: bytes of memory the table may need; half of the memory by default.

    Raises:
        InputError: the sentence names row, column and cell that is no number.

    """
    check_declared(4 * path.stat().st_size, path, argument, limit)
    try:
        columns = _header(path, argument)
        index = target_index(columns, target, argument)
        features = [i for i in range(len(columns)) if i != index]
        targets, notes = _targets(path, columns, index, argument)
        inputs = _numbers(path, columns, features, argument)
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            argument, f"{quoted(path)}: {printable(str(error), 120)}", "a table of text in UTF-8"
        ) from error
    if len(inputs) != len(targets):  # pragma: no cover - both readers skip the same empty lines
        raise InputError(argument, "rows that two readers count differently", "a plain table")
    names = [columns[i] for i in features]
    return inputs, targets, [*notes, feature_note(names), *integer_note(inputs, names)]


def _rows(path: Path) -> Iterator[list[str]]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        yield from (row for row in csv.reader(stream) if row)


def _header(path: Path, argument: str) -> list[str]:
    header = next(_rows(path), None)
    if header is None:
        raise InputError(argument, f"{quoted(path)}, an empty file", "a table with a header")
    if len(header) == 1:
        for mark, name in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
            if mark in header[0]:
                raise InputError(
                    argument,
                    f"{quoted(path)} with {name} between columns",
                    "commas between columns and points in numbers",
                )
    if all(_is_number(cell) for cell in header):
        raise InputError(
            argument, f"numbers in the first row of {quoted(path)}", "a header with column names"
        )
    return [cell.strip() for cell in header]


def _targets(
    path: Path, columns: list[str], index: int, argument: str
) -> tuple[np.ndarray[Any, Any], list[str]]:
    cells = []
    for number, row in enumerate(_rows(path)):
        if len(row) != len(columns):
            raise InputError(
                argument,
                f"{len(row)} cells in row {number} under {len(columns)} columns",
                "as many cells as columns in every row",
            )
        cells.append(row[index].strip())
    cells = cells[1:]
    if not cells:
        raise InputError(argument, f"0 rows in {quoted(path)}", "at least one row")
    column = columns[index]
    for number, cell in enumerate(cells, start=1):
        if cell.lower() in _MISSING:
            raise _no_number(cell, number, column, argument)
    words = [not _is_number(cell) for cell in cells]
    if all(words):
        labels, note = encoded(cells, column)
        return labels, [note]
    if any(words):
        number = words.index(True)
        raise _no_number(cells[number], number + 1, column, argument)
    if all(_INTEGER.fullmatch(cell) for cell in cells):
        return np.array([int(cell) for cell in cells], dtype=np.int64), []
    return np.array([float(cell) for cell in cells]), []


def _numbers(
    path: Path, columns: list[str], features: list[int], argument: str
) -> np.ndarray[Any, Any]:
    with path.open(encoding="utf-8-sig", newline="") as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reader = csv.reader(stream)
        while not next(reader):
            pass
        try:
            return np.loadtxt(
                stream, delimiter=",", quotechar='"', comments=None, usecols=features, ndmin=2
            )
        except ValueError as error:
            raise _first_flaw(path, columns, features, argument) or error from error


def _first_flaw(
    path: Path, columns: list[str], features: list[int], argument: str
) -> InputError | None:
    for number, row in enumerate(_rows(path)):
        for index in features if number else ():
            if not _is_number(row[index]) or row[index].strip().lower() in _MISSING:
                return _no_number(row[index].strip(), number, columns[index], argument)
    return InputError(argument, f"{quoted(path)}, which is no plain table", "numbers in every cell")


def _no_number(cell: str, row: int, column: str, argument: str) -> InputError:
    where = f"in row {row} of column {quoted(column)}"
    if cell.lower() in _MISSING:
        return InputError(
            argument, f"a missing cell ({quoted(cell, 20)}) {where}", "a value in every cell"
        )
    if re.fullmatch(r"[+-]?\d+,\d+", cell):
        return InputError(argument, f"the decimal comma of {quoted(cell, 20)} {where}", "points")
    return InputError(
        argument,
        f"the text {quoted(cell, 30)} {where}",
        "numbers (words are read as classes only in a target column that holds nothing else)",
    )


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell
