"""Pictures of approximation: data in, matplotlib axes out."""

from __future__ import annotations

from collections.abc import Mapping
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


def distances(
    figure: Figure, families: Mapping[str, NDArray[Any]], *, near: float, label: str
) -> None:
    """Draw how distances of all cases are distributed, on a logarithmic axis.

    Args:
        figure: empty.
        families: name to distances, `[cases]`; zeros stand at 1e-17.
        near: up to where they count as round-off.
        label: what is measured.

    """
    axes = figure.subplots()
    for name, values in families.items():
        shown = np.sort(np.maximum(values, 1e-17))
        share = (np.arange(len(shown)) + 1) / len(shown)
        axes.plot(shown, share, "o-", markersize=3, drawstyle="steps-post", label=name)
    axes.axvline(near, color="#5b6472", linestyle="--", linewidth=0.8)
    axes.annotate(
        "round-off ", (near, 0.02), ha="right", xycoords=("data", "axes fraction"), fontsize="small"
    )
    axes.set_xscale("log")
    axes.set_ylim(0, 1.02)
    axes.set_xlabel(label)
    axes.set_ylabel("share of the cases")
    axes.legend(fontsize="small")
