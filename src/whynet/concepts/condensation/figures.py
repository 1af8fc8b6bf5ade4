"""Pictures of condensation: data in, matplotlib axes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure


@dataclass(frozen=True)
class LayerDots:
    """One row of `distinct_neurons`.

    Attributes:
        name: of the layer (foreign text, already cut to a length that fits).
        compared: units that are ever active.
        distinct: how many directions they have.
        null: the same for random directions, least to largest; None where unknown.
        initial: the same before training, as a share of the units that were active then; None
            where unknown.

    """

    name: str
    compared: int
    distinct: int
    null: tuple[float, float] | None
    initial: float | None


def distinct_neurons(figure: Figure, rows: Sequence[LayerDots]) -> None:
    """Draw distinct directions of each layer as a share of its active units, beside references.

    Args:
        figure: empty figure.
        rows: the layers, in the order of the network.

    """
    axes = figure.subplots()
    for position, row in enumerate(reversed(rows)):
        scale = 100 / max(row.compared, 1)
        if row.null is not None:
            axes.plot(
                [scale * row.null[0], scale * row.null[1]],
                [position, position],
                color="0.7",
                linewidth=7,
                solid_capstyle="butt",
                label="random directions" if position == 0 else None,
            )
        if row.initial is not None:
            axes.plot(
                100 * row.initial,
                position,
                "D",
                markerfacecolor="none",
                color="0.35",
                markersize=5.5,
                label="at initialization" if position == 0 else None,
            )
        axes.plot(
            scale * row.distinct,
            position,
            "o",
            color="C0",
            markersize=5,
            label="this network" if position == 0 else None,
        )
    axes.set_yticks(
        range(len(rows)),
        [f"layer {row.name}\n{row.distinct} of {row.compared}" for row in reversed(rows)],
        parse_math=False,
    )
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlim(0, 105)
    axes.set_xlabel("distinct directions, of the active units of the layer (%)")
    axes.grid(axis="x")
    figure.legend(loc="outside upper right", ncols=3, frameon=False, fontsize="small")


def similarity(figure: Figure, matrix: np.ndarray) -> None:
    """Draw the cosines between the neurons of a layer, ordered by group.

    Args:
        figure: empty figure.
        matrix: `[units, units]`, from -1 to 1.

    """
    axes = figure.subplots()
    drawn = axes.imshow(
        matrix, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest", rasterized=True
    )
    axes.grid(False)
    axes.set_xlabel("neuron, ordered by group")
    axes.set_ylabel("neuron")
    figure.colorbar(drawn, ax=axes, label="cosine on the data", ticks=[-1, 0, 1])
