"""Pictures of frequencies: data in, matplotlib axes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from numpy.typing import NDArray

from whynet.numerics.intervals import half_widths

Array = NDArray[Any]


def rates(figure: Figure, curves: Mapping[str, tuple[Array, Array, Array]]) -> None:
    """Draw rates of decay over frequencies with t intervals, and what is predicted.

    Args:
        figure: empty figure.
        curves: name to frequencies `[k]`, measured rates `[seeds, k]` and predicted rates `[k]`.

    """
    axes = figure.subplots()
    for name, (frequencies, values, line) in curves.items():
        half = half_widths(values, 0)
        (drawn, *_) = axes.errorbar(
            frequencies, values.mean(0), half, fmt="o", markersize=4, label=name
        )
        axes.plot(frequencies, line, "--", color=drawn.get_color())
    axes.set_yscale("log")
    axes.set_xlabel("frequency k")
    axes.set_ylabel("decay rate per step")
    axes.legend(fontsize="small", title="dashed: closed form")


def paired_times(figure: Figure, smooth: Array, rough: Array, names: Sequence[str]) -> None:
    """Draw when the rough part settles over when the smooth part does.

    Args:
        figure: empty figure.
        smooth: times, `[runs, filters]`.
        rough: times, likewise.
        names: of the filters.

    """
    axes = figure.subplots()
    for place, name in enumerate(names):
        axes.plot(smooth[:, place], rough[:, place], "o", markersize=4, label=name)
    ends = [max(0.1, min(smooth.min(), rough.min())), max(smooth.max(), rough.max())]
    axes.plot(ends, ends, "--", color="#5b6472", label="equal times; predicted: above")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("steps until the smooth part settles")
    axes.set_ylabel("steps until the rough part settles")
    axes.legend(fontsize="small", title="width of the filter")
