"""Figures of functions of one input: data in, axes out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

Array = NDArray[Any]


def curves(
    figure: Figure, points: Array, bands: Mapping[str, Array], predicted: Array, data: Array
) -> None:
    """Draw a predicted function over the functions of many runs.

    Args:
        figure: empty.
        points: where functions are known, `[points]`.
        bands: name to functions, `[runs, points]`; drawn from the 2.5 to the 97.5 percentile.
        predicted: `[points]`.
        data: `x` and `y` of the rows, `[2, rows]`.

    """
    axes = figure.subplots()
    for name, values in bands.items():
        low, high = np.percentile(values, [2.5, 97.5], axis=0)
        axes.fill_between(points, low, high, alpha=0.4, linewidth=0, label=f"{name}, 95 % of runs")
    axes.plot(points, predicted, "--", color="#20242b", linewidth=1.3, label="predicted")
    axes.plot(*data, "o", color="#20242b", markersize=5, label="data")
    axes.set_xlabel("input")
    axes.set_ylabel("output")
    axes.legend(fontsize="small")
