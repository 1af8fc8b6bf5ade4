"""The unit of work: cells of equal shape, cut by the grid alone."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from whynet.core.claim import Cell, Claim, Grid


@dataclass(frozen=True)
class Group:
    """Cells that run together and are committed in one transaction.

    Attributes:
        id: a hash of its cells; the same for the same cells everywhere.
        cells: in canonical order.

    """

    id: str
    cells: tuple[Cell, ...]


def groups_of(claim: Claim, grid: Grid) -> list[Group]:
    """Cut a grid into groups; a function of the grid, never of what remains to be done.

    Cells of a group agree in the parameters that decide shapes; there are at most
    `claim.group` of them, in the canonical order of the grid.
    """
    shapes: dict[tuple[object, ...], list[Cell]] = {}
    for cell in grid.cells():
        shapes.setdefault(tuple(cell.parameters[name] for name in claim.shape), []).append(cell)
    return [
        _group(cells[start : start + claim.group])
        for cells in shapes.values()
        for start in range(0, len(cells), claim.group)
    ]


def _group(cells: Sequence[Cell]) -> Group:
    digest = hashlib.sha256("\n".join(cell.key for cell in cells).encode()).hexdigest()
    return Group(digest[:16], tuple(cells))


def remaining(groups: Sequence[Group], finished: Collection[str]) -> list[Group]:
    """Return the groups that hold a cell that is not finished; they run whole."""
    done = set(finished)
    return [group for group in groups if any(cell.key not in done for cell in group.cells)]
