"""Pictures of claims about landscapes: data in, matplotlib axes out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from whynet.numerics.intervals import half_widths


def shares(
    figure: Figure,
    ratios: NDArray[Any],
    measured: Mapping[str, NDArray[Any]],
    predicted: Mapping[str, NDArray[Any]],
    *,
    labels: tuple[str, str],
) -> None:
    """Draw mean shares over seeds with t intervals, and the predicted ones where there are any.

    Args:
        figure: empty.
        ratios: `[ratios]`, on a logarithmic axis.
        measured: family to `[ratios, seeds]`.
        predicted: family to `[ratios]`; NaN where nothing is predicted.
        labels: of the axes.

    """
    axes = figure.subplots()
    for name, values in measured.items():
        half = half_widths(values, 1)
        (drawn, *_) = axes.errorbar(
            ratios, values.mean(1), half, fmt="o-", linewidth=0.6, markersize=4, label=name
        )
        axes.plot(ratios, predicted[name], "_", markersize=16, color=drawn.get_color())
    axes.set_xscale("log", base=2)
    axes.set_xticks(ratios, [f"{ratio:g}" for ratio in ratios])
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    axes.legend(fontsize="small", title="bars: predicted")


def values_by_seed(
    figure: Figure,
    measured: Mapping[str, NDArray[Any]],
    *,
    expected: float,
    labels: tuple[str, str],
    words: str = "as predicted",
) -> None:
    """Draw one number a seed, in ascending order, beside what it should be.

    Args:
        figure: empty.
        measured: family to `[seeds]`.
        expected: the number that is predicted.
        labels: of the axes.
        words: what that number is.

    """
    axes = figure.subplots()
    axes.axhline(expected, color="0.5", linewidth=1.0)
    for name, values in measured.items():
        axes.plot(np.arange(1, len(values) + 1), values, "o", markersize=4, label=name)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    # The numbers lie anywhere: inside the axes the legend would cover some.
    figure.legend(
        loc="outside upper center",
        ncols=2 if len(measured) > 1 else 1,
        frameon=False,
        fontsize="small",
        title=f"line: {expected:.3g}, {words}",
    )


def losses_and_levels(
    figure: Figure,
    measured: Mapping[str, NDArray[Any]],
    levels: Mapping[str, NDArray[Any]],
    *,
    labels: tuple[str, str],
) -> None:
    """Draw numbers in ascending order, a panel a family, and the levels they may stand at.

    Args:
        figure: empty.
        measured: family to `[runs]`, ascending.
        levels: family to `[levels]`.
        labels: of the axes.

    """
    panels = figure.subplots(1, len(measured), sharey=True, squeeze=False)[0]
    for axes, (name, values) in zip(panels, measured.items(), strict=True):
        for level in levels[name]:
            axes.axhline(level, color="0.6", linewidth=0.8)
        axes.plot((np.arange(len(values)) + 0.5) / len(values), values, "o", markersize=3)
        axes.set_title(name, fontsize="medium")
        axes.set_xlabel(labels[0])
    panels[0].set_ylabel(labels[1])
    figure.suptitle("lines: predicted", fontsize="small")


def lines_by_seed(
    figure: Figure,
    measured: Mapping[str, tuple[NDArray[Any], NDArray[Any]]],
    *,
    expected: float,
    labels: tuple[str, str],
) -> None:
    """Draw a number over time, one thin line a seed and a thick one for their mean.

    Args:
        figure: empty.
        measured: family to times `[times]` and numbers `[seeds, times]`.
        expected: where the lines are predicted to come to.
        labels: of the axes.

    """
    panels = figure.subplots(1, len(measured), sharey=True, squeeze=False)[0]
    for axes, (name, (times, values)) in zip(panels, measured.items(), strict=True):
        axes.axhline(expected, color="0.5", linewidth=1.0)
        axes.plot(times, values.T, color="C0", linewidth=0.4, alpha=0.6)
        axes.plot(times, values.mean(0), color="C0", linewidth=1.6)
        axes.set_title(name, fontsize="small")
        axes.set_xlabel(labels[0])
        axes.set_ylim(bottom=0)
    panels[0].set_ylabel(labels[1])
