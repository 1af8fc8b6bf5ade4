"""Pictures of kernels: data in, matplotlib axes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from whynet.core.estimate import Estimate
from whynet.numerics.intervals import half_widths


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


def power_laws(
    figure: Figure,
    sizes: NDArray[Any],
    curves: Mapping[str, NDArray[Any]],
    *,
    exponent: float,
    labels: tuple[str, str],
) -> None:
    """Draw values over sizes on logarithmic axes: means, their spread, and the predicted slope.

    Args:
        figure: empty figure.
        sizes: `[sizes]`.
        curves: name to values `[sizes, seeds]`, positive.
        exponent: the slope that is predicted; its line begins at the first curve's first point.
        labels: of the two axes.

    """
    axes = figure.subplots()
    for name, values in curves.items():
        center = np.exp(np.log(values).mean(1))
        axes.plot(sizes, center, "o-", markersize=4, label=name)
        axes.fill_between(sizes, values.min(1), values.max(1), alpha=0.15, linewidth=0)
    start = max(float(np.exp(np.log(values[0]).mean())) for values in curves.values())
    line = 1.3 * start * (sizes / sizes[0]) ** exponent
    axes.plot(sizes, line, "--", color="#5b6472", label=f"predicted slope {exponent:g}")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    axes.legend(fontsize="small")


def predicted_points(
    figure: Figure,
    sizes: NDArray[Any],
    points: Mapping[str, NDArray[Any]],
    lines: Mapping[str, NDArray[Any]],
    *,
    labels: tuple[str, str],
) -> None:
    """Draw means over seeds with their t intervals, and what is predicted of them.

    Args:
        figure: empty figure.
        sizes: `[sizes]`, on a logarithmic axis.
        points: name to values `[sizes, seeds]`.
        lines: name to predicted values `[sizes]`; NaN where nothing is predicted.
        labels: of the two axes.

    """
    axes = figure.subplots()
    for name, values in points.items():
        half = half_widths(values, 1)
        (drawn, *_) = axes.errorbar(sizes, values.mean(1), half, fmt="o", markersize=4, label=name)
        axes.plot(sizes, lines[name], "--_", markersize=14, color=drawn.get_color())
    axes.set_xscale("log")
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    axes.legend(fontsize="small", title="dashed: predicted")


def errors_above_bound(
    figure: Figure,
    sizes: NDArray[Any],
    errors: Mapping[str, NDArray[Any]],
    least: NDArray[Any],
    *,
    labels: tuple[str, str],
) -> None:
    """Draw mean errors over seeds with their t intervals, and the least that kernels can have.

    Args:
        figure: empty figure.
        sizes: `[sizes]`, on a logarithmic axis whose ticks they are.
        errors: name to values `[sizes, seeds]`.
        least: `[sizes]`.
        labels: of the two axes.

    """
    axes = figure.subplots()
    for name, values in errors.items():
        axes.errorbar(sizes, values.mean(1), half_widths(values, 1), fmt="o-", ms=4, label=name)
    axes.plot(sizes, least, "--", color="0.45", label="least of any kernel")
    axes.set_xscale("log")
    axes.set_xticks(sizes, [f"{size:g}" for size in sizes])
    axes.minorticks_off()
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    axes.legend(fontsize="small")
