"""Pictures of generalization: data in, matplotlib axes out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from whynet.core.estimate import Estimate


def forest(figure: Figure, rows: Sequence[tuple[str, Estimate, bool]], label: str) -> None:
    """Draw estimates with their intervals, one row each, on one axis.

    Args:
        figure: empty figure.
        rows: name, estimate, and whether it is this network (accent) or a reference (grey).
        label: what the axis shows.

    """
    axes = figure.subplots()
    percent = rows[0][1].unit == "fraction"
    scale = 100.0 if percent else 1.0
    for position, (name, estimate, own) in enumerate(reversed(list(rows))):
        color = "C0" if own else "0.45"
        axes.plot(
            [scale * estimate.low, scale * estimate.high],
            [position, position],
            color=color,
            linewidth=2.5,
            solid_capstyle="butt",
        )
        axes.plot(scale * estimate.value, position, "o", color=color, markersize=5)
        axes.annotate(
            name,
            (0, position),
            xycoords=("axes fraction", "data"),
            xytext=(-8, 0),
            textcoords="offset points",
            ha="right",
            va="center",
            color=color,
        )
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlabel(f"{label} (%)" if percent else label)
    axes.grid(axis="x")


def margin_curves(
    figure: Figure, levels: np.ndarray, curves: Sequence[tuple[str, np.ndarray, np.ndarray]]
) -> None:
    """Draw quantiles of the margin with their bands; a negative margin is an error.

    Args:
        figure: empty figure.
        levels: `[quantiles]`, between 0 and 1.
        curves: name, values `[quantiles]`, bounds `[2, quantiles]`.

    """
    axes = figure.subplots()
    for index, (name, values, bounds) in enumerate(curves):
        color = f"C{index}"
        axes.fill_between(100 * levels, bounds[0], bounds[1], color=color, alpha=0.2, linewidth=0)
        axes.plot(100 * levels, values, "o-", color=color, markersize=3.5)
        # Neighboring curves end close together: their names step aside, up and down.
        shift = 6 if values[-1] == max(float(v[-1]) for _, v, _ in curves) else -6
        _end_label(axes, 100 * float(levels[-1]), float(values[-1]), name, color, shift)
    axes.axhline(0, color="0.3", linewidth=0.8)
    axes.annotate(
        "errors lie below",
        (1.0, 0),
        xycoords=("axes fraction", "data"),
        xytext=(0, -4),
        textcoords="offset points",
        ha="right",
        va="top",
        color="0.35",
        fontsize="small",
    )
    axes.set_xlabel("share of examples with a smaller margin (%)")
    axes.set_ylabel("margin (logits)")
    axes.set_xlim(0, 100)


def reliability(
    figure: Figure, confidence: np.ndarray, accuracy: np.ndarray, bounds: np.ndarray
) -> None:
    """Draw accuracy against confidence in bins of equal mass.

    Args:
        figure: empty figure.
        confidence: `[bins]`, mean confidence.
        accuracy: `[bins]`, share right.
        bounds: `[2, bins]`, interval of the share.

    """
    axes = figure.subplots()
    axes.plot([0, 100], [0, 100], color="0.6", linewidth=1)
    axes.plot(
        np.stack([100 * confidence] * 2),
        100 * bounds,
        color="C0",
        linewidth=2,
        solid_capstyle="butt",
    )
    axes.plot(100 * confidence, 100 * accuracy, "o", color="C0", markersize=5)
    low = max(0.0, 100 * float(min(confidence.min(), bounds[0].min())) - 4)
    axes.set_xlim(low, 101)
    axes.set_ylim(low, 103)
    axes.annotate(
        "as confident as right",
        (0.5 * (low + 100), 0.5 * (low + 100)),
        xytext=(-6, 6),
        textcoords="offset points",
        ha="right",
        color="0.35",
        fontsize="small",
    )
    axes.set_xlabel("mean confidence (%)")
    axes.set_ylabel("share right (%)")


def _end_label(axes: Axes, x: float, y: float, text: str, color: str, shift: int) -> None:
    axes.annotate(
        text, (x, y), xytext=(6, shift), textcoords="offset points", va="center", color=color
    )
