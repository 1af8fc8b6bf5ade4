"""Pictures of the directions of a layer's units: data in, matplotlib axes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure


@dataclass(frozen=True)
class Course:
    """One layer of `directions_over_training`.

    Attributes:
        name: of the layer (foreign text, already cut to a length that fits).
        counts: directions at every checkpoint.
        random: fewest and most of random layers at every checkpoint, or None where unknown.

    """

    name: str
    counts: Sequence[int]
    random: Sequence[tuple[int, int] | None]


def amplitude_orientation(
    figure: Figure, layers: Sequence[tuple[str, np.ndarray, np.ndarray, float]]
) -> None:
    """Draw what every unit contributes against where it points.

    Args:
        figure: empty figure.
        layers: name (foreign text, cut to a length that fits), angles in radians, contributions,
            and the share of similarity that the plane of the angles holds.

    """
    axes = np.atleast_1d(figure.subplots(len(layers), 1, sharex=True, squeeze=False)[:, 0])
    for axis, (name, angles, amounts, share) in zip(axes, layers, strict=True):
        degrees = np.degrees(angles)
        axis.vlines(degrees, 0, amounts, color="#0b6e99", linewidth=0.6, alpha=0.35)
        axis.plot(degrees, amounts, "o", color="#0b6e99", markersize=2.6, alpha=0.7)
        axis.set_ylim(0, 1.08)
        axis.set_ylabel("contribution")
        title = f"{name}: {len(angles)} active units; the plane holds {100 * share:.0f} %"
        axis.set_title(title, loc="left", fontsize=8, parse_math=False)
    axes[-1].set_xlim(-180, 180)
    axes[-1].set_xticks(range(-180, 181, 60))
    axes[-1].set_xlabel("orientation (degrees)")


def directions_over_training(
    figure: Figure, checkpoints: Sequence[str], layers: Sequence[Course]
) -> None:
    """Draw how many directions hold what a layer's units contribute, as training goes.

    Args:
        figure: empty figure.
        checkpoints: their names (foreign text, cut to a length that fits), in order.
        layers: in the order of the network.

    """
    axes = figure.subplots()
    places = np.arange(len(checkpoints))
    for number, layer in enumerate(layers):
        color = f"C{number % 8}"
        axes.plot(places, layer.counts, "o-", color=color, markersize=4, label=layer.name)
        known = [(place, ends) for place, ends in enumerate(layer.random) if ends is not None]
        if known:
            where = [place for place, _ in known]
            low, high = np.array([ends for _, ends in known], dtype=float).T
            axes.fill_between(
                where, low, high, color=color, alpha=0.18, linewidth=0,
                label=f"{layer.name}, random" if len(layers) < 4 else None,
            )  # fmt: skip
    axes.set_xticks(places, checkpoints, rotation=30 if len(checkpoints) > 4 else 0, ha="center")
    axes.set_ylim(bottom=0)
    axes.set_ylabel("directions that hold 99 %")
    axes.grid(axis="y")
    figure.legend(loc="outside upper center", ncols=2, frameon=False, fontsize="small")
