"""Pictures of networks of several widths and starts: data in, matplotlib axes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator


@dataclass(frozen=True)
class Line:
    """Numbers at every width from one start; NaN where unknown.

    Attributes:
        name: how the start is called.
        values: `[widths]`.
        low: lower ends of the bars.
        high: upper ends.
        before: the same before training; None where there is none.

    """

    name: str
    values: np.ndarray
    low: np.ndarray
    high: np.ndarray
    before: np.ndarray | None = None


def ladder(
    figure: Figure, *, widths: Sequence[float], changes: Sequence[Line], directions: Sequence[Line]
) -> None:
    """Draw how far weights moved against width, and how many directions are left.

    Args:
        figure: empty.
        widths: factors on the width.
        changes: one line a start.
        directions: the same; empty where no layer of neurons was found.

    """
    every = figure.subplots(1, 2 if directions else 1, squeeze=False)[0]
    _lines(every[0], widths, changes)
    every[0].set(xlabel="factor on the width", ylabel="change over the start")
    if directions:
        _lines(every[1], widths, directions)
        every[1].set(xlabel="factor on the width", ylabel="directions")
        every[1].plot([], [], "--", color="0.5", linewidth=1, label="before training")
    handles, labels = every[-1].get_legend_handles_labels()
    figure.legend(
        handles, labels, frameon=False, fontsize="small", loc="outside lower center",
        ncols=min(4, len(labels)), columnspacing=1.2, handlelength=1.6,
    )  # fmt: skip


def _lines(axes: Axes, widths: Sequence[float], lines: Sequence[Line]) -> None:
    for number, line in enumerate(lines):
        # A bar over three seeds may reach far; what the eye needs is where the points lie.
        ends = np.clip([line.low, line.high], line.values / 2, line.values * 2)
        axes.errorbar(
            widths, line.values, yerr=np.abs(ends - line.values), fmt="o-", color=f"C{number}",
            markersize=3.5, linewidth=1.2, elinewidth=0.8, label=line.name,
        )  # fmt: skip
        if line.before is not None:
            axes.plot(widths, line.before, "--", color=f"C{number}", linewidth=0.9, alpha=0.7)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(list(widths), [f"{width:g}" for width in widths])
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())


def effects(
    figure: Figure,
    *,
    names: Sequence[str],
    values: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    words: str,
) -> None:
    """Draw what other starts change, one bar each around zero.

    Args:
        figure: empty.
        names: of the starts.
        values: `[starts]`; NaN where unknown.
        low: lower ends.
        high: upper ends.
        words: what is changed, for the axis.

    """
    axes = figure.subplots()
    places = np.arange(len(names))[::-1]
    axes.axvline(0, color="#9aa3b2", linewidth=1)
    axes.errorbar(
        values, places, xerr=[values - low, high - values], fmt="o", color="C0", capsize=3
    )
    for place, value in zip(places, values, strict=True):
        if np.isnan(value):
            axes.text(0.02, place, "a run diverged", transform=axes.get_yaxis_transform(),
                      va="center", fontsize="small", color="0.4")  # fmt: skip
    axes.set_yticks(places, list(names))
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_xlabel(words)
