"""Pictures of pieces: data in, matplotlib axes out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from whynet.core.estimate import Estimate


def profile(figure: Figure, position: np.ndarray, curve: np.ndarray, label: str) -> None:
    """Draw a network along one segment, with a tick where a unit switches.

    Args:
        figure: empty figure.
        position: `[knots]`, 0 at the first example and 1 at the second.
        curve: `[knots]`, the output there.
        label: what the vertical axis shows.

    """
    axes = figure.subplots()
    axes.plot(position, curve, color="C0", linewidth=1.6)
    axes.plot(position[1:-1], curve[1:-1], "o", color="C0", markersize=2.6)
    axes.axhline(0, color="0.6", linewidth=0.8)
    low = float(curve.min()) - 0.07 * float(np.ptp(curve) or 1.0)
    axes.vlines(
        position[1:-1], low, low + 0.04 * float(np.ptp(curve) or 1.0), color="0.45", linewidth=0.7
    )
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["one example", "¼", "½", "¾", "another"])
    axes.set_ylabel(label)


def counts(
    figure: Figure, rows: Sequence[tuple[str, Sequence[tuple[str, Estimate]]]], label: str
) -> None:
    """Draw a number of the trained network beside the same of its references, row by row.

    Args:
        figure: empty figure.
        rows: kind of place, and in each the network and its references, the network first.
        label: what the horizontal axis shows.

    """
    axes = figure.subplots()
    for place, (name, numbers) in enumerate(reversed(list(rows))):
        shifts = np.linspace(0.14, -0.14, len(numbers)) * max(1, len(numbers) - 1)
        for (word, estimate), shift in zip(numbers, shifts, strict=True):
            color = "C0" if word == numbers[0][0] else "0.45"
            axes.plot(
                [estimate.low, estimate.high],
                [place + shift] * 2,
                color=color,
                linewidth=2.5,
                solid_capstyle="butt",
            )
            axes.plot(estimate.value, place + shift, "o", color=color, markersize=5)
            axes.annotate(
                f"{word} {estimate.value:.3g}",
                (estimate.high, place + shift),
                xytext=(7, 0),
                textcoords="offset points",
                va="center",
                color=color,
                fontsize="small",
            )
        axes.annotate(
            name,
            (0, place),
            xycoords=("axes fraction", "data"),
            xytext=(-8, 0),
            textcoords="offset points",
            ha="right",
            va="center",
        )
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlim(left=0)
    axes.margins(x=0.25)
    axes.set_xlabel(label)
    axes.grid(axis="x")


def sizes(figure: Figure, radii: np.ndarray, unit: float) -> None:
    """Draw how large cells are: how many have a ball of which radius inside.

    Args:
        figure: empty figure.
        radii: `[cells]`.
        unit: half of the shortest side of the box, the largest that a radius can be.

    """
    axes = figure.subplots()
    edges = np.geomspace(min(float(radii.min()), unit / 10) / 1.001, unit * 1.001, 31)
    axes.hist(radii, edges.tolist(), color="C0", edgecolor="white", linewidth=0.5)
    axes.set_xscale("log")
    axes.set_xlabel("radius of a ball inside")
    axes.set_ylabel("cells")
