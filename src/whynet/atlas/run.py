"""Running a claim: its grid and its controls, from the store, to a verdict."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from whynet.atlas.execution import INTERRUPTED, Execution, Progress, run_groups
from whynet.atlas.groups import Group, groups_of
from whynet.atlas.journal import Identity, Journal
from whynet.atlas.judging import CLAIM, Verdict, verdict_of
from whynet.atlas.pack import pack
from whynet.atlas.registry import ClaimEntry, find_claim, load_claim
from whynet.atlas.tables import table_of
from whynet.core.claim import Grid, Value, grid_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Record:
    """A claim that was run: its tables and its verdict.

    Attributes:
        entry: the claim.
        grids: variant (`""` for the claim, else a control's name) to its grid.
        tables: variant to measured and predicted values over the grid.
        verdict: what they say.
        failed: key of a cell to why it has no result.
        folder: where the store lies; None where it was a temporary one.
        stopped: why not all groups were run; empty where they were.

    """

    entry: ClaimEntry
    grids: Mapping[str, Grid]
    tables: Mapping[str, tuple[xr.Dataset, xr.Dataset]]
    verdict: Verdict
    failed: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None
    stopped: str = ""

    @property
    def interrupted(self) -> bool:
        """Whether somebody stopped the run before its end."""
        return self.stopped == INTERRUPTED

    @property
    def dataset(self) -> xr.Dataset:
        """What was measured, over the grid of the claim."""
        return self.tables[CLAIM][0]

    @property
    def predicted(self) -> xr.Dataset:
        """What the theory predicted, over the grid of the claim."""
        return self.tables[CLAIM][1]

    def figure(self, variant: str = CLAIM) -> Figure:
        """Draw the prediction over the measured points."""
        from whynet.pages.drawing import new_figure

        module = load_claim(self.entry.reference, self.entry.source)
        return new_figure(lambda figure: module.draw(figure, *self.tables[variant]))

    def _repr_html_(self) -> str:
        from whynet.atlas.page import render_claim

        return render_claim(self)


@dataclass(frozen=True)
class ClaimRunner:
    """A claim that can be run; what `whynet.claim(...)` returns."""

    entry: ClaimEntry

    def run(
        self,
        scale: str = "small",
        *,
        seeds: int | None = None,
        first_seed: int = 0,
        out: str | Path | None = None,
        execution: Execution | None = None,
        controls: bool = True,
        progress: Progress | None = None,
        **axes: Sequence[Value] | Value,
    ) -> Record:
        """Run the claim and its controls, and judge.

        Args:
            scale: preset of the grid: `smoke`, `small` or `full`.
            seeds: repetitions; those of the preset by default.
            first_seed: number of the first of them.
            out: folder of the store, which is resumed where it holds this claim; a temporary
                one by default.
            execution: how the groups run; one after the other in this process by default.
            controls: whether the controls run as well; without them nothing is supported.
            progress: told after every group.
            **axes: parameter to its value or values, in place of the preset's.

        Raises:
            InputError: an unknown scale or parameter, or a value out of range.
            StoreError: the folder holds something else, or is damaged.

        """
        changes = {name: _listed(values) for name, values in axes.items()}
        grid = grid_of(self.entry.id, self.entry.metadata, scale, changes, seeds, first_seed)
        with ExitStack() as stack:
            folder = Path(out) if out is not None else None
            place = folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
            return run_claim(
                self.entry,
                grids_of(self.entry, grid, controls=controls),
                place,
                execution=execution or Execution(),
                progress=progress,
                kept=folder is not None,
            )


def claim(reference: str) -> ClaimRunner:
    """Return a claim of the catalogue, or one of a user's file, ready to run.

    Args:
        reference: an id of `whynet atlas list`, or `my_claim.py:CLAIM`.

    Raises:
        InputError: there is no such claim.

    """
    return ClaimRunner(find_claim(reference, "reference"))


def _listed(values: Sequence[Value] | Value) -> Sequence[Value]:
    return (values,) if isinstance(values, str | int | float) else tuple(values)


def grids_of(entry: ClaimEntry, grid: Grid, *, controls: bool = True) -> dict[str, Grid]:
    """Return the grid of the claim, and the same grid under each of its controls."""
    grids = {CLAIM: grid}
    if controls:
        grids |= {control.name: grid.under(control) for control in entry.metadata.controls}
    return grids


def groups_of_all(entry: ClaimEntry, grids: Mapping[str, Grid]) -> list[Group]:
    """Return the groups of the claim and of its controls, each once, those of the claim first.

    So a run that ends before its time has the claim's own figure and numbers first; its controls
    are only of use beside them.
    """
    found = {g.id: g for grid in grids.values() for g in groups_of(entry.metadata, grid)}
    return list(found.values())


def run_claim(
    entry: ClaimEntry,
    grids: Mapping[str, Grid],
    folder: Path,
    *,
    execution: Execution,
    progress: Progress | None = None,
    announce: Callable[[str], None] | None = None,
    kept: bool = True,
) -> Record:
    """Run what a store does not hold yet, pack it, and judge.

    Args:
        entry: the claim.
        grids: variant to grid.
        folder: of the store.
        execution: how the groups run.
        progress: told after every group.
        announce: told before a user's code runs.
        kept: whether the folder outlives the call.

    """
    module = load_claim(entry.reference, entry.source, announce)
    identity = Identity(entry.id, entry.metadata.version, entry.source)
    with Journal.open(folder, identity) as journal:
        groups = groups_of_all(entry, grids)
        stopped = run_groups(entry, module, groups, journal, execution, progress)
        tables = tables_of(journal, grids)
        wanted = {cell.key for group in groups for cell in group.cells}
        failed = {key: reason for key, reason in journal.failed().items() if key in wanted}
        if kept and stopped != INTERRUPTED:  # who interrupts does not wait for a view
            pack(journal, folder, {name or "claim": pair for name, pair in tables.items()})
    verdict = verdict_of(module, entry.metadata, tables)
    return Record(entry, grids, tables, verdict, failed, folder if kept else None, stopped)


def tables_of(
    journal: Journal, grids: Mapping[str, Grid]
) -> dict[str, tuple[xr.Dataset, xr.Dataset]]:
    """Return measured and predicted values of every variant, from the journal."""
    failed = journal.failed()
    tables = {}
    for name, grid in grids.items():
        keys = [cell.key for cell in grid.cells()]
        records = journal.read(keys)
        measured: dict[str, Any] = {
            key: record.values for key, record in records.items() if record.state == "done"
        }
        predicted = journal.predictions(keys)
        tables[name] = (
            table_of(grid, measured, failed),
            table_of(grid, {key: predicted[key] for key in measured if key in predicted}, failed),
        )
    return tables
