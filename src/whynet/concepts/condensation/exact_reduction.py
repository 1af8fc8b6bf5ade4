"""All exact moves, until none is left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from whynet.concepts.condensation.exact_moves import (
    drop_ignored,
    fold_constants,
    merge_proportional,
)
from whynet.concepts.condensation.linear_path import use_linear_path
from whynet.concepts.condensation.workplace import Move, Workplace
from whynet.models.channel_nodes import Group

MOST_ROUNDS: Final = 50

MOVES: Final[dict[str, Callable[[Workplace, Group], int]]] = {
    "ignored": drop_ignored,
    "constant": fold_constants,
    "proportional": merge_proportional,
    "linear path": use_linear_path,
}


def reduce_exactly(
    place: Workplace, order: Sequence[str] = tuple(MOVES)
) -> tuple[tuple[Move, ...], tuple[Group, ...]]:
    """Make every exact move until none is left.

    Args:
        place: the network, changed in place.
        order: names of `MOVES`; each is tried on every group, in this order.

    Returns:
        What was done, and the groups that are left.

    """
    done: list[Move] = []
    groups = place.groups()
    for _ in range(MOST_ROUNDS):
        before = len(done)
        for name in order:
            for index in range(len(groups)):
                group = groups[index]
                if group.refusal is None and group.width > group.least:
                    removed = MOVES[name](place, group)
                    if removed:
                        done.append(Move(name, group.path, removed))
                        groups = place.groups()  # what others read may have changed
        if len(done) == before:
            break
    return tuple(done), groups
