"""How often rules of judgement call made-up tables what: false support, and power.

Every test of a claim holds `MADE_UP`: tables of a number pushed to where the claim no longer holds,
which may rarely be called supported, and tables of what the claim says, which are to be called so.

    python -m tests.concepts.verdict_rates

prints the table of `docs/evidence.md`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from whynet.atlas.registry import claims
from whynet.core.claim import State, grid_of

Tables = tuple[xr.Dataset, xr.Dataset]
"""What was measured, and what was predicted."""

Make = Callable[[np.random.Generator], Tables]

CASES, EXCEPTIONS = 17, 0.162
"""How many cases support an exact statement, and the share of exceptions that these exclude."""

MOST_FALSE = 0.05
"""Share of tables of a claim that does not hold which may be called supported."""


@dataclass(frozen=True)
class MadeUp:
    """Tables, and how often a rule may or must call them one verdict.

    Attributes:
        words: what is drawn, for the table.
        make: draws one.
        state: the verdict that is counted.
        least: smallest share.
        most: largest.
        draws: how many.

    """

    words: str
    make: Make = field(repr=False)
    state: State
    least: float = 0.0
    most: float = 1.0
    draws: int = 200


def frame(claim: str, scale: str) -> tuple[list[str], list[int], dict[str, Any]]:
    """Return names, sizes and coordinates of a claim's grid at a scale, seeds last."""
    grid = grid_of(claim, claims()[claim].metadata, scale)
    coords = {**{name: list(axis) for name, axis in grid.axes.items()}, "seed": grid.seed_numbers}
    shape = [*(len(axis) for axis in grid.axes.values()), grid.seeds]
    return [*grid.axes, "seed"], shape, coords


def at_null(words: str, make: Make, draws: int = 200) -> MadeUp:
    """Return tables where the claim does not hold, as near to it as can be."""
    return MadeUp(words, make, "supported", most=MOST_FALSE, draws=draws)


def holds(words: str, make: Make, least: float = 0.9, draws: int = 50) -> MadeUp:
    """Return tables where the claim holds; the share of support is the power of the rule."""
    return MadeUp(words, make, "supported", least, draws=draws)


def fails(words: str, make: Make, least: float = 0.9, draws: int = 50) -> MadeUp:
    """Return tables where the claim is clearly wrong, which are to be refuted."""
    return MadeUp(words, make, "refuted", least, draws=draws)


def exceptions(make: Callable[[np.ndarray], Tables]) -> tuple[MadeUp, ...]:
    """Return tables of an exact statement; `make` is told in which of the cases it is wrong."""

    def drawn(chance: float, cases: int) -> Make:
        return lambda generator: make(generator.random(cases) < chance)

    return (
        at_null("wrong in 16.2 % of all cases, 17 tried", drawn(EXCEPTIONS, CASES), 1000),
        holds("without exception, 17 tried", drawn(0.0, CASES), 1.0),
        fails("wrong in 16.2 % of all cases, 100 tried", drawn(EXCEPTIONS, 100), 0.95),
    )


def made_up(claim: str) -> tuple[MadeUp, ...]:
    """Return the tables that the test of a claim makes up."""
    entry = claims()[claim]
    module = importlib.import_module(
        f"tests.concepts.{entry.concept}.test_{claim.replace('-', '_')}"
    )
    return tuple(module.MADE_UP)


def share(claim: str, case: MadeUp, draws: int | None = None) -> float:
    """Return the share of draws, or of the first ones, that the claim's rule calls `case.state`."""
    rule: Any = importlib.import_module(claims()[claim].reference)
    generator = np.random.default_rng(0)
    states = [rule.judge(*case.make(generator)).state for _ in range(draws or case.draws)]
    return float(np.mean([state == case.state for state in states]))


def main() -> None:
    """Print one line a kind of table."""
    print("| claim | made up | verdict | share |\n|---|---|---|---|")
    for claim in claims():
        for case in made_up(claim):
            called = f"{share(claim, case):.1%} of {case.draws}".replace("%", " %")
            print(f"| `{claim}` | {case.words} | {case.state} | {called} |", flush=True)


if __name__ == "__main__":
    main()
