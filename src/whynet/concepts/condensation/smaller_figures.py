"""Pictures of a network before and after it was made smaller: data in, matplotlib axes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from matplotlib.figure import Figure

ROUND_OFF: Final = 1e-9
"""Relative change of an output up to which it is none; it would squeeze a logarithmic axis."""


@dataclass(frozen=True)
class LayerUnits:
    """One layer of `side_by_side`.

    Attributes:
        name: of the layer (foreign text, already cut to a length that fits).
        stays: `[width]`, whether each unit of the network as it came is left.

    """

    name: str
    stays: np.ndarray


def side_by_side(figure: Figure, layers: Sequence[LayerUnits]) -> None:
    """Draw every unit as a square: the network as it came on the left, what is left on the right.

    Args:
        figure: empty figure.
        layers: in the order of the network.

    """
    axes = np.atleast_2d(figure.subplots(len(layers), 2, squeeze=False))
    for row, layer in zip(axes, layers, strict=True):
        width = len(layer.stays)
        across = max(1, int(np.ceil(np.sqrt(3 * width))))
        down = int(np.ceil(width / across))
        size = min(1.0, 1.0 if width < 400 else 0.9)
        left = layer.stays
        for axis, units in ((row[0], left), (row[1], np.ones(int(left.sum()), dtype=bool))):
            place = np.arange(len(units))
            for chosen, color in ((~units, "#c6ccd5"), (units, "#0b6e99")):
                x, y = place[chosen] % across, place[chosen] // across
                _squares(axis, x, y, 0.78 * size, color)
            axis.set_xlim(-1, across)
            axis.set_ylim(max(down, 2), -1)
            axis.set_aspect("equal")
            axis.set_axis_off()
        row[0].set_title(f"{layer.name}: {width} units", loc="left", fontsize=8)
        row[1].set_title(f"{int(left.sum())} stay", loc="left", fontsize=8)


def _squares(axis: object, x: np.ndarray, y: np.ndarray, size: float, color: str) -> None:
    from matplotlib.axes import Axes
    from matplotlib.collections import PolyCollection

    assert isinstance(axis, Axes)
    if not len(x):
        return
    corner = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * size / 2
    vertices = np.stack([x, y], 1)[:, None] + corner
    axis.add_collection(PolyCollection(list(vertices), facecolors=color, edgecolors="none"))


def size_against_error(
    figure: Figure,
    parameters: Sequence[int],
    errors: Sequence[float],
    tolerance: float,
    chosen: tuple[int, float],
) -> None:
    """Draw the error of every size tried, and the one chosen.

    Args:
        figure: empty figure.
        parameters: of each network, from large to small.
        errors: largest relative change of an output; where it is round-off, the size is marked.
        tolerance: the one asked for.
        chosen: parameters and error of the network handed over.

    """
    axes = figure.subplots()
    every = list(zip(parameters, errors, strict=True))
    shown = [(p, e) for p, e in every if e > ROUND_OFF]
    if shown:
        axes.plot(*zip(*shown, strict=True), "o-", ms=4)
        axes.set_yscale("log")
    if tolerance > ROUND_OFF:
        axes.axhline(tolerance, ls="--", color="#5f6a78", lw=1)
        axes.annotate(
            f"tolerance {tolerance:g}", (0.99, tolerance), xycoords=("axes fraction", "data"),
            textcoords="offset points", xytext=(0, 3), ha="right", va="bottom", fontsize=8,
            color="#5f6a78",
        )  # fmt: skip
    if chosen[1] > ROUND_OFF:
        axes.plot(*chosen, "o", ms=9, mfc="none", mec="#9a4817", mew=1.6)
        # Errors fall to the right, so that below and to the left of a point nothing is drawn.
        axes.annotate(
            "this network", chosen, textcoords="offset points", xytext=(-5, -8), ha="right",
            va="top", fontsize=8, color="#9a4817",
        )  # fmt: skip
    if max(parameters) > 50 * min(parameters):
        axes.set_xscale("log")
    else:
        axes.set_xlim(0, 1.05 * max(parameters))
    exact = [p for p, e in every if e <= ROUND_OFF]
    if exact and min(exact) < max(parameters):
        least = min(exact)
        axes.axvline(least, color="#2e7d4f", lw=1, ls=":")
        axes.annotate(
            "exact from here on", (least, 0.98), xycoords=("data", "axes fraction"),
            textcoords="offset points", xytext=(-4, 0), ha="right", va="top", fontsize=8,
            color="#24704a",
        )  # fmt: skip
    axes.set_xlabel("parameters")
    axes.set_ylabel("largest change of an output")
