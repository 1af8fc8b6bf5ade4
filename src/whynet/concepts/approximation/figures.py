"""Pictures of approximation: data in, matplotlib axes out."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray


def errors_and_bounds(
    figure: Figure,
    folds: NDArray[Any],
    errors: NDArray[Any],
    bounds: NDArray[Any],
    counts: tuple[NDArray[Any], NDArray[Any]],
) -> None:
    """Draw errors over their lower bounds, and counted pieces over those that are known.

    Args:
        figure: empty.
        folds: `[folds]`.
        errors: `[folds, seeds]`.
        bounds: `[folds, seeds]`.
        counts: counted pieces, and known ones, `[folds, seeds]` each.

    """
    left, right = figure.subplots(1, 2)
    shift = np.linspace(-0.2, 0.2, errors.shape[1])
    place = folds[:, None] + shift
    left.plot(place.ravel(), errors.ravel(), "o", markersize=3, label="measured")
    left.plot(place.ravel(), bounds.ravel(), "_", color="#5b6472", label="lower bound")
    left.set_ylim(bottom=0)
    left.set_ylabel("distance from the sawtooth, integrated")
    right.plot(place.ravel(), counts[0].ravel(), "o", markersize=3, label="counted")
    right.plot(folds, counts[1][:, 0], "_", markersize=22, color="#5b6472", label="predicted")
    right.set_yscale("log", base=2)
    right.set_ylabel("affine pieces of the deep network")
    for axes in (left, right):
        axes.set_xticks(folds)
        axes.set_xlabel("folds")
        axes.legend(fontsize="small")
    figure.tight_layout()
