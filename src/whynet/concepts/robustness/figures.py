"""Pictures of robustness: data in, matplotlib axes out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from whynet.core.estimate import Estimate

Curve = tuple[str, np.ndarray, np.ndarray]
"""Name, values `[radii]`, bounds `[2, radii]`."""


def accuracy_curves(
    figure: Figure, radii: np.ndarray, curves: Sequence[Curve], constant: float
) -> None:
    """Draw accuracy against the size of the change, with bands.

    Args:
        figure: empty figure.
        radii: `[radii]`, ascending, 0 first.
        curves: the first one is drawn in the accent color, the others in greys.
        constant: accuracy of the best constant answer.

    """
    axes = figure.subplots()
    places = np.arange(len(radii))
    looks = [("C0", "-", "o"), ("0.35", "--", "s"), ("0.6", ":", "^"), ("0.75", "-.", "v")]
    for (name, values, bounds), (color, line, marker) in zip(curves, looks, strict=False):
        axes.fill_between(
            places, 100 * bounds[0], 100 * bounds[1], color=color, alpha=0.15, linewidth=0
        )
        axes.plot(
            places, 100 * values, line, marker=marker, color=color, markersize=4.5, label=name
        )
    axes.axhline(100 * constant, color="0.3", linewidth=0.8)
    axes.annotate(
        "best constant answer",
        (0, 100 * constant),
        xytext=(2, 3),
        textcoords="offset points",
        color="0.35",
        fontsize="small",
    )
    axes.set_xticks(places, [f"{radius:g}" for radius in radii])
    axes.set_xlabel("largest change of an entry of the input (units of the data)")
    axes.set_ylabel("accuracy (%)")
    axes.set_ylim(0, 103)
    axes.grid(axis="y")
    figure.legend(loc="outside upper right", ncols=3, frameon=False, fontsize="small")


def accuracy_bars(figure: Figure, bars: Sequence[tuple[str, Estimate]], constant: float) -> None:
    """Draw accuracies under each other, with their intervals.

    Args:
        figure: empty figure.
        bars: names and accuracies, from above; the last one is drawn in the accent color.
        constant: accuracy of the best constant answer.

    """
    axes = figure.subplots()
    for place, (_, one) in enumerate(reversed(bars)):
        color = "C0" if place == 0 else "0.45"
        axes.plot([100 * one.low, 100 * one.high], [place, place], color=color, linewidth=2)
        axes.plot([100 * one.value], [place], "o", color=color, markersize=6)
    axes.axvline(100 * constant, color="0.3", linewidth=0.8)
    axes.annotate(
        "best constant answer",
        (100 * constant, len(bars) - 0.5),
        xytext=(3, -2),
        textcoords="offset points",
        va="top",
        color="0.35",
        fontsize="small",
    )
    axes.set_yticks(range(len(bars)), [name for name, _ in reversed(bars)])
    axes.set_ylim(-0.5, len(bars) - 0.5)
    axes.set_xlim(0, 103)
    axes.set_xlabel("accuracy (%)")
    axes.grid(axis="x")
