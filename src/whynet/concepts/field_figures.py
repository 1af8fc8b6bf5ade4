"""Pictures of field tests: data in, matplotlib axes out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from matplotlib.figure import Figure

from whynet.core.estimate import Estimate

DEEPEST: Final = 1e-5
"""Least distance of the axis, relative to the largest; what is nearer is drawn there."""


def distances(figure: Figure, rows: Sequence[tuple[str, Estimate, str]], label: str) -> None:
    """Draw distances with their intervals on one logarithmic axis, one row each.

    Args:
        figure: empty figure.
        rows: name, estimate and color.
        label: what the axis shows.

    """
    axes = figure.subplots()
    largest = max(estimate.high for _, estimate, _ in rows) or 1.0
    values = [e.value for _, e, _ in rows if e.value > DEEPEST * largest]
    least = min([0.5 * value for value in values] or [DEEPEST * largest])
    for position, (_, estimate, color) in enumerate(reversed(rows)):
        low, value, high = (max(v, least) for v in (estimate.low, estimate.value, estimate.high))
        axes.plot(
            [low, high], [position, position], color=color, linewidth=2.5, solid_capstyle="butt"
        )
        axes.plot(value, position, "o" if value > least else "<", color=color, markersize=5)
    axes.set_xscale("log")
    axes.set_xlim(0.9 * least, 1.2 * largest)
    axes.set_yticks(range(len(rows)), [name for name, _, _ in reversed(rows)])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlabel(label)
    axes.grid(axis="x")
