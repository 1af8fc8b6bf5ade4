"""Progress on the terminal: bars where someone looks, silence in a log file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from whynet.core.plain_text import printable


@dataclass
class Bars:
    """Bars for training and for the examination; quiet ones where there is no terminal."""

    bars: Progress | None
    console: Console
    training: TaskID | None = None
    examining: TaskID | None = None

    def announce(self, message: str) -> None:
        """Say that the user's code runs; also where everything else is quiet."""
        self.console.print(printable(message), markup=False, highlight=False, soft_wrap=True)

    def trained(self, done: int, total: int, loss: float) -> None:
        """Show an epoch of training."""
        if self.bars is None:
            return
        if self.training is None:
            self.training = self.bars.add_task("training", total=total, note="")
        self.bars.update(self.training, completed=done, note=f"loss {loss:.4f}")

    def ran(self, name: str, done: int, total: int) -> None:
        """Show which instrument runs."""
        if self.bars is None:
            return
        if self.examining is None:
            self.examining = self.bars.add_task("examining", total=total, note="")
        self.bars.update(self.examining, completed=done, total=total, note=name)


@contextmanager
def bars(quiet: bool) -> Iterator[Bars]:
    """Show bars on the error stream while the body runs, where that is a terminal."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield Bars(None, console)
        return
    with Progress(
        TextColumn("{task.description:>10}"),
        BarColumn(bar_width=30),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=console,
    ) as shown:
        yield Bars(shown, console)
