"""Figures of implicit bias: data in, axes out."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

FLOOR = 1e-17
"""Where distances that are zero are drawn."""


def distances(figure: Figure, values: NDArray[Any], *, near: float, label: str) -> None:
    """Draw how the distances of all runs are distributed, on a logarithmic axis.

    Args:
        figure: empty.
        values: `[runs]`, at least 0.
        near: up to where the claim counts as reached.
        label: what is measured.

    """
    axes = figure.subplots()
    shown = np.sort(np.maximum(values, FLOOR))
    axes.semilogx(shown, (np.arange(len(shown)) + 1) / len(shown), drawstyle="steps-post")
    axes.axvspan(FLOOR, near, color="#c6ccd5", alpha=0.5, lw=0)
    axes.text(near, 0.03, "predicted ", ha="right", va="bottom", fontsize="small")
    axes.set_xlim(FLOOR, max(10 * float(shown[-1]), 10 * near))
    axes.set_ylim(0, 1.02)
    axes.set_xlabel(label)
    axes.set_ylabel("share of the runs")
