"""Pictures of training: data in, matplotlib axes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure


@dataclass(frozen=True)
class Line:
    """One quantity over the steps.

    Attributes:
        label: of the axis.
        value: `[steps]`, NaN where it is unknown.
        low: lower ends.
        high: upper ends; infinite ones are drawn to the edge.
        logarithmic: whether the axis is.
        reference: a horizontal line, with its name.

    """

    label: str
    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    logarithmic: bool = False
    reference: tuple[float, str] | None = None


def over_steps(figure: Figure, steps: np.ndarray, lines: Sequence[Line]) -> None:
    """Draw quantities over the steps of a run, one under the other, steps by their logarithm.

    Args:
        figure: empty figure.
        steps: `[steps]`, from 0, which stands at the left edge.
        lines: the quantities, from above.

    """
    rows = np.atleast_1d(figure.subplots(len(lines), 1, sharex=True))
    for axes, line in zip(rows, lines, strict=True):
        _draw(axes, steps, line)
    rows[-1].set_xlabel("step")
    figure.align_ylabels(list(rows))


def _draw(axes: Axes, steps: np.ndarray, line: Line) -> None:
    positive = line.value > 0 if line.logarithmic else np.ones(len(steps), bool)
    there = np.isfinite(line.value) & positive
    x, value, low, high = steps[there], line.value[there], line.low[there], line.high[there]
    top = 10 * value.max(initial=1.0)
    high = np.where(np.isfinite(high), high, top)
    if line.logarithmic:
        low = np.maximum(low, value.min(initial=1.0) / 10)
    axes.fill_between(x, low, high, color="C0", alpha=0.25, linewidth=0)
    axes.plot(x, value, "o-", color="C0", markersize=3.5, linewidth=1.2)
    if line.reference is not None:
        level, name = line.reference
        axes.axhline(level, color="0.35", linewidth=1, linestyle="--")
        axes.annotate(
            name, (0.99, level), xycoords=("axes fraction", "data"), ha="right", va="bottom",
            fontsize="small", color="0.35",
        )  # fmt: skip
        if not line.logarithmic:
            axes.set_ylim(top=max(1.25 * level, 1.1 * high.max(initial=0.0)))
    axes.set_xscale("symlog", linthresh=1)
    axes.xaxis.set_major_formatter(lambda step, place: f"{step:,.0f}")
    axes.set_xlim(left=0)
    if line.logarithmic and len(x):
        axes.set_yscale("log")
    axes.set_ylabel(line.label)
