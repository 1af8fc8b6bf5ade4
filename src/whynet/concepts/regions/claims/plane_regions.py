"""How many cells a plane is cut into by a network at its start."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
import xarray as xr
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import nn

from whynet.concepts.agreement import judge_cases
from whynet.concepts.bands import combined, family_bands, judge_bands
from whynet.concepts.regions import claim_figures
from whynet.concepts.regions.planes import Plane
from whynet.concepts.regions.random_networks import HE, relu_network, widths_of
from whynet.concepts.regions.subdivision import subdivide
from whynet.concepts.regions.theory.plane_cells_at_initialization import (
    arrangement_cells,
    expected_plane_cells,
)
from whynet.core.claim import Cell, Claim, Control, Judgement, Parameter, Values
from whynet.core.outcome import NotApplicable

CLAIM = Claim(
    title="At the start a plane has about as many cells as half the square of the units",
    statement="""
A rectified network at its start, weights of variance 2/fan and biases of variance σ_b², cuts a
convex polygon of a plane of its input space into

    1 + ½ E[walls that end at the border] + Σ over pairs of units E[crossings of their walls]

cells in the mean, as the widths grow. The first mean is an arctangent along every edge, the second
an integral over the polygon by the formula of Kac and Rice for two independent Gaussian fields. On
a whole plane through the origin two units of a layer cross once in the mean, at any depth, and N
units make about N²/2 cells, not exponentially many. With one hidden layer the walls are lines, and
each single network has exactly

    1 + lines that meet the polygon + crossings of two of them inside.
""",
    kind="theorem",
    cites=("rice1944", "adler2007", "zaslavsky1975", "hanin2019b"),
    answers=("capacity", "seven-depth", "breiman-parameters"),
    assumptions={
        "biases": "the biases have the deviation the formula is told",
        "independent": "all units are drawn independently",
        "wide": "there are many units in every hidden layer",
        "start": "nothing has been trained yet",
    },
    parameters=(
        Parameter("depth", "int", "hidden layers", 1, 20),
        Parameter("width", "int", "units of a hidden layer", 2, 4096),
        Parameter("bias_scale", "float", "σ_b", 0.01, 100.0),
        Parameter("inputs", "int", "dimension of the input", 2, 10_000),
        Parameter("side", "float", "half a side of the square", 0.01, 1e3),
        Parameter("biases", "choice", "deviation of the biases", choices=("stated", "doubled")),
        Parameter("units", "choice", "how they are drawn", choices=("independent", "opposite")),
    ),
    presets={
        "smoke": {"depth": (1, 2), "width": (64,), "bias_scale": (1.0,), "inputs": (4,),
                  "side": (8.0,), "seeds": (40,)},
        "small": {"depth": (1, 2, 3), "width": (64,), "bias_scale": (1.0,), "inputs": (4,),
                  "side": (8.0,), "seeds": (100,)},
        "full": {"depth": (1, 2, 3, 4), "width": (64, 128, 256), "bias_scale": (0.3, 1.0),
                 "inputs": (2, 16), "side": (8.0,), "seeds": (300,)},
    },
    controls=(
        Control("doubled-biases", "biases", "biases", "doubled",
                "Larger biases push the walls out of the square, and there are fewer cells."),
        Control("opposite-units", "independent", "units", "opposite",
                "Every second unit is the negative of another: they share their wall, and a "
                "layer cuts like one of half as many units."),
    ),
    undefined=("arrangement",),
    shape=("depth", "width", "inputs"),
    group=64,
    cost="about 15 s",
    tolerance="At the largest width, for each depth, σ_b, dimension and side: cells counted "
    "exactly over their expected number are 0.93 to 1.07 in the mean over networks; and with one "
    "hidden layer each count equals that of its lines, one exception refutes, at least 17 cases "
    "without one support.",
)  # fmt: skip

LOW, HIGH = 0.93, 1.07
UNSHARED = ("biases", "units")
"""Parameters that weights and plane do not depend on."""

FAMILIES: Final = ("depth", "bias_scale", "inputs", "side")
"""Axes whose values are judged one by one."""

Array = NDArray[Any]


def plane_of(cell: Cell) -> tuple[Array, Array, Array]:
    """Draw the center and the orthonormal axes of a cell's square, and its corners."""
    generator = np.random.default_rng(cell.seed_for("plane", shared=UNSHARED))
    inputs, side = int(cell.number("inputs")), cell.number("side")
    axes = np.linalg.qr(generator.standard_normal((inputs, 2)))[0].T
    corners = side * np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    return generator.standard_normal(inputs), np.ascontiguousarray(axes), corners


def network_of(cell: Cell, bias_scale: float) -> nn.Sequential:
    """Draw the network of a cell."""
    generator = np.random.default_rng(cell.seed_for("network", shared=UNSHARED))
    return relu_network(generator, int(cell.number("inputs")), widths_of(cell), bias_scale)


def predict(cells: Sequence[Cell]) -> Sequence[Values]:
    """Return the expected cells, and with one hidden layer those of the network's lines."""
    found: list[Values] = []
    for cell in cells:
        origin, axes, corners = plane_of(cell)
        widths, bias_scale = widths_of(cell), cell.number("bias_scale")
        expected = expected_plane_cells(
            origin, axes, corners, widths, weight_scale=HE, bias_scale=bias_scale
        )
        exact = np.nan
        if len(widths) == 1:
            first = network_of(cell, bias_scale)[0]
            weight, bias = (p.detach().numpy() for p in first.parameters())
            exact = float(arrangement_cells(weight @ axes.T, weight @ origin + bias, corners))
        found.append({"cells": expected, "arrangement": exact})
    return found


def experiment(cells: Sequence[Cell]) -> Sequence[Values]:
    """Draw the network of each cell, and count the cells of its square."""
    found: list[Values] = []
    for cell in cells:
        doubled = cell.parameters["biases"] == "doubled"
        network = network_of(cell, cell.number("bias_scale") * (1 + doubled))
        if cell.parameters["units"] == "opposite":
            _make_opposite(network)
        origin, axes, corners = plane_of(cell)
        plane = Plane(torch.from_numpy(origin), torch.from_numpy(axes), corners)
        regions = subdivide(network, plane, max_cells=20_000_000)
        if isinstance(regions, NotApplicable) or not regions.complete:
            raise RuntimeError("the square was not cut to the end")
        found.append({"cells": float(regions.count)})
    return found


@torch.no_grad()
def _make_opposite(network: nn.Sequential) -> None:
    """Make the second half of every hidden layer the negative of the first."""
    for layer in list(network.children())[:-1]:
        for part in layer.parameters():
            half = len(part) // 2
            part[-half:] = -part[:half]


def judge(measured: xr.Dataset, predicted: xr.Dataset) -> Judgement:
    """Judge the mean ratio family by family, and each network of one hidden layer."""
    ratio = measured["cells"] / predicted["cells"]
    bands = family_bands(ratio, FAMILIES, "counted over expected cells", LOW, HIGH)
    mean = judge_bands(bands)
    lines = predicted["arrangement"]
    known = np.isfinite(lines.values)
    if not known.any():
        return mean
    counted = measured["cells"].transpose(*lines.dims).values
    same = judge_cases(
        {"as many cells as those of the lines": counted[known] == lines.values[known]}
    )
    return combined(mean, same)


def draw(figure: Figure, measured: xr.Dataset, predicted: xr.Dataset) -> None:
    """Draw counted and expected cells over the depth, for each width."""
    claim_figures.over_depths(figure, measured["cells"], predicted["cells"], "cells of the square")
