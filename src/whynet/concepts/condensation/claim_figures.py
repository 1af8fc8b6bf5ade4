"""Pictures of claims about condensation: data in, matplotlib axes out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray


def measured_over_predicted(
    figure: Figure, pairs: Mapping[str, tuple[NDArray[Any], NDArray[Any]]], words: str
) -> None:
    """Draw counts measured over counts predicted; a dot grows with the points it stands for.

    Args:
        figure: empty.
        pairs: family to predicted and measured counts.
        words: what is counted.

    """
    axes = figure.subplots()
    top = max(float(np.max(both)) for both in pairs.values())
    axes.plot([-0.5, top + 0.5], [-0.5, top + 0.5], color="#c6ccd5", lw=1, zorder=0)
    for place, (name, (wanted, found)) in enumerate(pairs.items()):
        points, count = np.unique(np.stack([wanted, found], 1), axis=0, return_counts=True)
        color = f"C{place}"
        axes.scatter(points[:, 0] + 0.12 * place, points[:, 1], 12 + 4 * count, color=color)
        axes.plot([], [], "o", markersize=5, color=color, label=name)
    axes.set_xlabel(f"{words}, predicted")
    axes.set_ylabel("measured")
    axes.legend(fontsize="small")
