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


def slice_of_loss(figure: Figure, *, positions: np.ndarray, loss: np.ndarray, axis: str) -> None:
    """Draw the loss on a line as a curve, on a plane as contours; the network is marked.

    Args:
        figure: empty figure.
        positions: `[points]`, along each axis.
        loss: `[points]` or `[points, points]`; positive ones on a logarithmic scale.
        axis: what the axes are, a phrase.

    """
    axes = figure.subplots()
    finite = np.where(np.isfinite(loss), loss, np.nan)
    log = bool(np.nanmin(finite) > 0 and np.nanmax(finite) > 30 * np.nanmin(finite))
    axes.set_xlabel(axis if loss.ndim == 1 else f"first {axis}")
    middle = len(positions) // 2
    if loss.ndim == 1:
        axes.plot(positions, finite, color="C0", linewidth=1.6)
        axes.plot([0], [finite[middle]], "o", color="C1", markersize=6, label="this network")
        axes.set_ylabel("loss")
        if log:
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=0 if np.nanmin(finite) >= 0 else None)
        axes.legend(frameon=False)
        return
    low, high = float(np.nanmin(finite)), float(np.nanmax(finite))
    high = high if high > low else low + 1e-12 + abs(low) * 1e-6
    levels = np.geomspace(low, high, 13) if log else np.linspace(low, high, 13)
    filled = axes.contourf(
        positions, positions, finite.T, levels=levels, cmap="viridis_r",
        norm="log" if log else "linear",
    )  # fmt: skip
    axes.contour(positions, positions, finite.T, levels=levels, colors="white", linewidths=0.5)
    axes.plot([0], [0], "o", color="C1", markersize=6, markeredgecolor="white")
    bar = figure.colorbar(filled, ax=axes, label="loss", format="%.3g")
    bar.set_ticks(levels[::3].tolist(), labels=[f"{level:.3g}" for level in levels[::3]])
    bar.ax.minorticks_off()
    axes.set_ylabel(f"second {axis}")
    axes.set_aspect("equal")
