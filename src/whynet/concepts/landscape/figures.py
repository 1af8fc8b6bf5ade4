"""Pictures of the loss landscape: data in, matplotlib axes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure


@dataclass(frozen=True)
class Curve:
    """Values along lines to several networks.

    Attributes:
        label: what the lines have in common.
        values: `[networks, positions]`.
        low: lower ends of the intervals of the first; None for no band.
        high: upper ends.

    """

    label: str
    values: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None


STYLES = (("C1", "--"), ("C0", "-"), ("0.6", ":"))


def along_lines(
    figure: Figure,
    *,
    positions: Sequence[float],
    panels: Sequence[tuple[str, Sequence[Curve]]],
    end: str,
) -> None:
    """Draw values along straight lines in weight space, one panel for each kind of data.

    Args:
        figure: empty figure.
        positions: share of the way.
        panels: title and curves of each.
        end: name of the far end.

    """
    every = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for place, (axes, (title, curves)) in enumerate(zip(every, panels, strict=True)):
        for curve, (color, style) in zip(curves, STYLES, strict=False):
            for number, values in enumerate(curve.values):
                label = curve.label if number == 0 else None
                axes.plot(positions, values, style, color=color, linewidth=1.4, label=label)
            if curve.low is not None and curve.high is not None:
                axes.fill_between(
                    positions, curve.low, curve.high, color=color, alpha=0.18, linewidth=0
                )
        axes.set_title(title, fontsize="medium")
        axes.set_xticks([0, 0.5, 1], ["this\nnetwork", "average", end])
        if place == 0:
            axes.set_ylabel("loss")
            axes.legend(frameon=False, fontsize="small")
    every[0].set_ylim(bottom=0)
