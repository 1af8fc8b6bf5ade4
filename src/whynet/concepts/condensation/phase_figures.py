"""Pictures of initial scales and what they lead to: data in, matplotlib axes out."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray


def phase_diagram(
    figure: Figure,
    gammas: NDArray[Any],
    others: NDArray[Any],
    slopes: NDArray[Any],
    measured: NDArray[Any],
    predicted: NDArray[Any],
) -> None:
    """Draw slopes over two exponents, where they pass zero, and the predicted boundary.

    Args:
        figure: empty.
        gammas: ascending, `[gammas]`.
        others: `γ'`, ascending, `[others]`.
        slopes: exponent of the relative distance, `[gammas, others]`.
        measured: γ at which they pass zero, `[others]`; NaN where nowhere.
        predicted: γ of the boundary, `[others]`.

    """
    axes = figure.subplots()
    top = max(1.0, float(np.abs(slopes).max()))
    mesh = axes.pcolormesh(
        _edges(gammas), _edges(others), slopes.T, cmap="PuOr_r", vmin=-top, vmax=top
    )
    bar = figure.colorbar(mesh, ax=axes, shrink=0.9)
    bar.set_label("S")
    low, high = _edges(others)[[0, -1]]
    line = np.array([low, *[x for x in (0.0,) if low < x < high], high])
    axes.plot(1 + np.maximum(line, 0), line, color="black", lw=2, label="predicted boundary")
    axes.plot(measured, others, "o", ms=5, mfc="white", mec="black", label="measured: S = 0")
    axes.set_xlim(*_edges(gammas)[[0, -1]])
    axes.set_ylim(low, high)
    axes.set(xlabel="γ", ylabel="γ'")
    box = {"boxstyle": "round,pad=0.25", "fc": "white", "ec": "none", "alpha": 0.85}
    for place, words in (((0.1, 0.9), "linear"), ((0.9, 0.1), "condensed")):
        side = "left" if place[0] < 0.5 else "right"
        axes.text(*place, words, transform=axes.transAxes, ha=side, bbox=box)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)


def _edges(centers: NDArray[Any]) -> NDArray[Any]:
    """Return the edges of cells around points of a line."""
    if len(centers) == 1:
        return np.array([centers[0] - 0.25, centers[0] + 0.25])
    between = (centers[1:] + centers[:-1]) / 2
    first, last = 2 * centers[0] - between[0], 2 * centers[-1] - between[-1]
    return np.array([first, *between, last])
