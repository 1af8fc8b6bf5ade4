"""What a command prints: numbers for programs, lines and tables for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from whynet.core.plain_text import printable


def print_json(content: Any) -> None:
    """Print strict JSON, in ASCII, so that no terminal or pipe can spoil it."""
    sys.stdout.write(json.dumps(content, indent=1, allow_nan=False) + "\n")


def print_line(text: str) -> None:
    """Print one line of text, foreign or not, without escape sequences; indented as it is."""
    print(" " * (len(text) - len(text.lstrip(" "))) + printable(text))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table; nothing in its cells is read as markup or reaches the terminal raw."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    if not console.is_terminal:
        # Nobody looks: whole lines are of more use to a program than folded cells.
        console.width = 400
    table = Table(*columns, box=None, padding=(0, 2, 0, 0))
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    console.print(table)


def say(message: object) -> None:
    """Print one line on the error stream."""
    print(f"whynet: {printable(str(message))}", file=sys.stderr)


def show_traceback(text: str) -> None:
    """Print a traceback on the error stream, for `--debug`."""
    for line in text.splitlines():
        indent = len(line) - len(line.lstrip(" "))
        print(" " * indent + printable(line), file=sys.stderr)
