"""Pictures of kernels: data in, matplotlib axes out."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from whynet.core.estimate import Estimate


def scores(figure: Figure, rows: Sequence[tuple[str, Estimate, str]], label: str) -> None:
    """Draw estimates with their intervals on one axis, one row each.

    Args:
        figure: empty figure.
        rows: name, estimate and color.
        label: what the axis shows.

    """
    axes = figure.subplots()
    percent = rows[0][1].unit == "fraction"
    scale = 100.0 if percent else 1.0
    for position, (_, estimate, color) in enumerate(reversed(rows)):
        axes.plot(
            [scale * estimate.low, scale * estimate.high],
            [position, position],
            color=color,
            linewidth=2.5,
            solid_capstyle="butt",
        )
        axes.plot(scale * estimate.value, position, "o", color=color, markersize=5)
    axes.set_yticks(range(len(rows)), [name for name, _, _ in reversed(rows)])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlabel(f"{label} (%)" if percent else label)
    axes.grid(axis="x")
