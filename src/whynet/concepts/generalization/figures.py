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


def learning_curves(
    figure: Figure,
    panels: Sequence[tuple[str, Sequence[tuple[float, Estimate]], Estimate | None]],
    label: str,
) -> None:
    """Draw errors against factors, one panel an axis, all on one scale of errors.

    Args:
        figure: empty figure.
        panels: name, factors with their estimates, and what a doubling is foretold to reach.
        label: what the scale shows.

    """
    if not panels:
        figure.text(0.5, 0.5, "every run diverged", ha="center")
        return
    percent = panels[0][1][0][1].unit == "fraction"
    scale = 100.0 if percent else 1.0
    row = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (name, points, foretold) in zip(row, panels, strict=True):
        for factor, estimate in points:
            _bar(axes, factor, estimate, scale, "C0")
        axes.plot([f for f, _ in points], [scale * e.value for _, e in points], "o-", color="C0")
        factors = [factor for factor, _ in points]
        if foretold is not None:
            _bar(axes, 2.0, foretold, scale, "0.45")
            axes.plot(2.0, scale * foretold.value, "o", color="0.45", markerfacecolor="none")
            factors.append(2.0)
        axes.set_xscale("log", base=2)
        words = {0.125: "⅛", 0.25: "¼", 0.5: "½", 1.0: "1", 2.0: "2"}
        axes.set_xticks(factors, [words.get(factor, f"{factor:g}") for factor in factors])
        axes.set_xlim(min(factors) / 1.3, max(factors) * 1.3)
        axes.set_xlabel(name)
    row[0].set_ylabel(f"{label} (%)" if percent else label)


def paired_changes(
    figure: Figure, names: Sequence[str], panels: Sequence[tuple[str, Sequence[Estimate]]]
) -> None:
    """Draw what each change does to each score, dot and interval, beside no change.

    Args:
        figure: empty figure.
        names: of the changes, from top to bottom.
        panels: name of a score, and the changes of it; those that are unknown are left out.

    """
    if not panels:
        figure.text(0.5, 0.5, "every run diverged", ha="center")
        return
    row = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (label, estimates) in zip(row, panels, strict=True):
        axes.axvline(0, color="0.6", linewidth=1)
        percent = any(estimate.unit == "fraction" for estimate in estimates)
        scale = 100.0 if percent else 1.0
        for position, estimate in enumerate(reversed(estimates)):
            if np.isfinite([estimate.value, estimate.low, estimate.high]).all():
                ends = [scale * estimate.low, scale * estimate.high]
                axes.plot(ends, [position] * 2, color="C0", linewidth=2.5, solid_capstyle="butt")
                axes.plot(scale * estimate.value, position, "o", color="C0", markersize=5)
        axes.set_xlabel(f"{label} (points)" if percent else label)
        axes.grid(axis="x")
    row[0].set_yticks(range(len(names)), list(reversed(names)))
    row[0].set_ylim(-0.6, len(names) - 0.4)


def _bar(axes: Axes, x: float, estimate: Estimate, scale: float, color: str) -> None:
    if np.isfinite([estimate.low, estimate.high]).all():
        ends = [scale * max(estimate.low, 0.0), scale * estimate.high]
        axes.plot([x, x], ends, color=color, linewidth=2, solid_capstyle="butt")


def _end_label(axes: Axes, x: float, y: float, text: str, color: str, shift: int) -> None:
    axes.annotate(
        text, (x, y), xytext=(6, shift), textcoords="offset points", va="center", color=color
    )


def influence_ranks(figure: Figure, influence: np.ndarray, marked: int, unit: str) -> None:
    """Draw self-influences from the largest to the least, on logarithmic axes.

    Args:
        figure: empty figure.
        influence: `[rows]`, from the largest down.
        marked: how many of the first are drawn larger.
        unit: of the loss.

    """
    axes = figure.subplots()
    ranks = np.arange(1, len(influence) + 1)
    top = max(float(influence[0]), 1e-12)
    shown = influence > 1e-6 * top
    axes.loglog(ranks[shown], influence[shown], ".", color="0.45", markersize=3)
    first = shown & (ranks <= marked)
    axes.loglog(ranks[first], influence[first], "o", color="C0", markersize=4)
    axes.set_xlabel("training rows, largest first")
    axes.set_ylabel(f"loss without it less now ({unit})")
