"""Pictures of condensation: data in, matplotlib axes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from whynet.core.estimate import Estimate
from whynet.numerics.intervals import proportion

LEAST_HALF = 1.6
"""Half the width of the bar of random layers that all have one number, so that it is seen, in %."""


@dataclass(frozen=True)
class LayerDots:
    """One row of `distinct_neurons`.

    Attributes:
        name: of the layer (foreign text, already cut to a length that fits).
        compared: units that are ever active.
        distinct: how many directions they have.
        null: the same for random directions, least to largest; None where unknown.
        initial: the same before training, as a share of the units that were active then; None
            where unknown.

    """

    name: str
    compared: int
    distinct: int
    null: tuple[float, float] | None
    initial: float | None


def distinct_neurons(figure: Figure, rows: Sequence[LayerDots]) -> None:
    """Draw distinct directions of each layer as a share of its active units, beside references.

    Args:
        figure: empty figure.
        rows: the layers, in the order of the network.

    """
    axes = figure.subplots()
    for position, row in enumerate(reversed(rows)):
        scale = 100 / max(row.compared, 1)
        if row.null is not None:
            middle = scale * (row.null[0] + row.null[1]) / 2
            half = max(scale * (row.null[1] - row.null[0]) / 2, LEAST_HALF)
            axes.plot(
                [middle - half, middle + half],
                [position, position],
                color="0.7",
                linewidth=7,
                solid_capstyle="butt",
                label="random directions" if position == 0 else None,
            )
        if row.initial is not None:
            axes.plot(
                100 * row.initial,
                position,
                "D",
                markerfacecolor="none",
                color="0.35",
                markersize=5.5,
                label="at initialization" if position == 0 else None,
            )
        axes.plot(
            scale * row.distinct,
            position,
            "o",
            color="C0",
            markersize=5,
            label="this network" if position == 0 else None,
        )
    axes.set_yticks(
        range(len(rows)),
        [f"layer {row.name}\n{row.distinct} of {row.compared}" for row in reversed(rows)],
        parse_math=False,
    )
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlim(0, 105)
    axes.set_xlabel("distinct directions, of the active units of the layer (%)")
    axes.grid(axis="x")
    figure.legend(loc="outside upper right", ncols=3, frameon=False, fontsize="small")


def similarity(figure: Figure, matrix: np.ndarray) -> None:
    """Draw the cosines between the neurons of a layer, ordered by group.

    Args:
        figure: empty figure.
        matrix: `[units, units]`, from -1 to 1.

    """
    axes = figure.subplots()
    drawn = axes.imshow(
        matrix, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest", rasterized=True
    )
    axes.grid(False)
    axes.set_xlabel("neuron, ordered by group")
    axes.set_ylabel("neuron")
    figure.colorbar(drawn, ax=axes, label="cosine on the data", ticks=[-1, 0, 1])


def log_forest(figure: Figure, rows: Sequence[tuple[str, Estimate, bool]], label: str) -> None:
    """Draw estimates with their bars on a logarithmic axis, one a line.

    Args:
        figure: empty figure.
        rows: name, estimate and whether it is of this network rather than a reference.
        label: what the axis shows.

    """
    axes = figure.subplots()
    smallest = min((e.value for _, e, _ in rows if e.value > 0), default=1.0)
    floor = 0.1 * smallest
    for position, (_, estimate, own) in enumerate(reversed(rows)):
        low, value, high = (max(x, floor) for x in (estimate.low, estimate.value, estimate.high))
        color = "C0" if own else "0.45"
        high = min(high, 1e6 * value)
        axes.plot([low, high], [position, position], color=color, linewidth=1.6)
        axes.plot(
            value, position, "o" if own else "D", color=color, markersize=5,
            markerfacecolor=color if own else "none",
        )  # fmt: skip
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    grid = np.outer(10.0 ** np.arange(-12, 12), (1, 2, 5)).ravel()
    ticks = grid[max(0, int(np.searchsorted(grid, low)) - 1) : int(np.searchsorted(grid, high)) + 1]
    axes.set_xlim(ticks[0], ticks[-1])
    shown = ticks[:: 1 if len(ticks) <= 8 else 3]
    axes.set_xticks(shown, [f"{tick:g}" for tick in shown])
    axes.minorticks_off()
    axes.set_yticks(range(len(rows)), [name for name, _, _ in reversed(rows)], parse_math=False)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlabel(label)
    axes.grid(axis="x")


def stable_ranks(figure: Figure, rows: Sequence[tuple[str, float, float | None]]) -> None:
    """Draw the stable rank of each weight matrix, beside that before training.

    Args:
        figure: empty figure.
        rows: name of the layer (foreign text), stable rank, and the same before training; None
            where unknown.

    """
    axes = figure.subplots()
    for position, (_, now, before) in enumerate(reversed(rows)):
        first = position == 0
        if before is not None:
            axes.plot(
                before, position, "D", markerfacecolor="none", color="0.35", markersize=5.5,
                label="at initialization" if first else None,
            )  # fmt: skip
        axes.plot(
            now, position, "o", color="C0", markersize=5, label="this network" if first else None
        )
    names = [f"layer {name}" for name, _, _ in reversed(rows)]
    axes.set_yticks(range(len(rows)), names, parse_math=False)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlim(left=0)
    axes.set_xlabel("stable rank")
    axes.grid(axis="x")
    figure.legend(loc="outside upper right", ncols=2, frameon=False, fontsize="small")


def size_curves(
    figure: Figure,
    kept: np.ndarray,
    curves: Sequence[tuple[str, np.ndarray, tuple[np.ndarray, np.ndarray]]],
) -> None:
    """Draw the error of the outputs against the units that stay, one curve for each way.

    Args:
        figure: empty figure.
        kept: `[sizes]`, units that stay.
        curves: name, error as a share `[sizes]`, and its lower and upper bounds.

    """
    axes = figure.subplots()
    styles = (("C0", "-", "o"), ("C1", "--", "s"), ("0.45", ":", "^"), ("0.35", "-.", "D"))
    for (name, error, (low, high)), (color, line, marker) in zip(curves, styles, strict=False):
        there = np.isfinite(error)
        floor = 1e-4  # in percent: below, nothing is worth telling apart
        middle, bottom, top = (
            np.maximum(100 * values[there], floor) for values in (error, low, np.minimum(high, 1e4))
        )
        axes.plot(kept[there], middle, line, marker=marker, color=color, markersize=4, label=name)
        axes.fill_between(kept[there], bottom, top, color=color, alpha=0.15, linewidth=0)
    axes.set_xscale("log")
    axes.set_yscale("log")
    ticks = np.unique(kept)
    axes.set_xticks(ticks, [f"{tick:.0f}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("units that stay")
    axes.set_ylabel("error of the outputs (%)")
    axes.grid()
    figure.legend(loc="outside upper center", ncols=2, frameon=False, fontsize="small")


def shares_against(
    figure: Figure, sizes: np.ndarray, hits: np.ndarray, *, marks: Sequence[float], label: str
) -> None:
    """Draw shares of successes with their intervals against a size.

    Args:
        figure: empty.
        sizes: `[points]`.
        hits: 1 or 0, `[points, seeds]`.
        marks: where vertical lines stand.
        label: of the horizontal axis.

    """
    axes = figure.subplots()
    shares = [proportion(int(row.sum()), row.size) for row in hits]
    middle = np.array([share.value for share in shares])
    ends = np.array([[share.low, share.high] for share in shares]).T
    axes.errorbar(sizes, middle, np.abs(ends - middle), fmt="o", capsize=3, markersize=5)
    for mark in marks:
        axes.axvline(mark, color="#5b6472", linewidth=0.9, linestyle=":")
    axes.axhline(0.5, color="#5b6472", linewidth=0.6)
    axes.set(xlabel=label, ylabel="share of runs that succeed", ylim=(-0.03, 1.03))
