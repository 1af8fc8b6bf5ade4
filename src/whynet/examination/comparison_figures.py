"""Pictures of a comparison: data in, matplotlib axes out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from whynet.concepts.generalization.figures import forest
from whynet.core.estimate import Estimate

_DECADES = 8.0


def losses(figure: Figure, first: np.ndarray, second: np.ndarray) -> None:
    """Draw every example by its loss under both networks.

    Args:
        figure: empty figure.
        first: `[examples]`, loss under A.
        second: `[examples]`, loss under B.

    """
    axes = figure.subplots()
    both = np.concatenate([first, second])
    if both.min() >= 0 and both.max() > 0:
        # Far below the largest loss all losses are none; zero has no place on a log scale.
        floor = both.max() / 10**_DECADES
        first, second = np.maximum(first, floor), np.maximum(second, floor)
        axes.set_xscale("log")
        axes.set_yscale("log")
        both = np.concatenate([first, second])
    ends = [float(both.min()), float(both.max())]
    axes.plot(ends, ends, color="0.6", linewidth=1, zorder=1)
    axes.scatter(first, second, s=9, alpha=0.5, color="C0", linewidths=0, zorder=2)
    for place, words, side in (((0.97, 0.05), "B does better", "right"),
                               ((0.03, 0.92), "A does better", "left")):  # fmt: skip
        axes.annotate(words, place, xycoords="axes fraction", ha=side, color="0.35",
                      fontsize="small")  # fmt: skip
    axes.set_xlabel("loss under A")
    axes.set_ylabel("loss under B")


def shares(figure: Figure, rows: Sequence[tuple[str, Estimate, bool]]) -> None:
    """Draw shares of examples with their intervals, one row each.

    Args:
        figure: empty figure.
        rows: name, estimate, and whether it is the sum of the others.

    """
    forest(figure, rows, "share of examples")
    figure.axes[0].set_xlim(left=0.0)


def layers(
    figure: Figure, names: Sequence[str], before: np.ndarray, after: np.ndarray | None
) -> None:
    """Draw the relative distance of the weights of each layer, before and after matching.

    Args:
        figure: empty figure.
        names: of the layers.
        before: `[layers]`.
        after: `[layers]` after matching neurons, or None.

    """
    axes = figure.subplots()
    places = np.arange(len(names))[::-1]
    if after is not None:
        axes.hlines(places, np.minimum(before, after), np.maximum(before, after), color="0.75")
        axes.plot(after, places, "o", color="C1", markersize=5, label="neurons matched")
    axes.plot(before, places, "o", color="C0", markersize=5, label="as they are")
    axes.axvline(2**0.5, color="0.45", linewidth=1, linestyle="--", label="unrelated")
    axes.set_yticks(places, [name[:40] for name in names])
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_xlim(0.0, max(1.5, 1.05 * float(np.max(before))))
    axes.set_xlabel("relative distance of the weights")
    axes.grid(axis="x")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.0 + 0.9 / (len(names) + 1.0)), ncols=3,
                frameon=False, fontsize="small")  # fmt: skip
