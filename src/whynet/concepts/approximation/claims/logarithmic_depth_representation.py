"""Every continuous piecewise-linear function is a rectified network of logarithmic depth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
import xarray as xr
from matplotlib.figure import Figure
from torch import Tensor, nn

from whynet.concepts.agreement import flat, judge_cases
from whynet.concepts.approximation import figures
from whynet.concepts.approximation.theory.maximum_networks import (
    difference_of_maxima,
    maxima_of_hidden_layer,
    shallow_difference_of_maxima,
)
from whynet.concepts.regions.planes import Plane
from whynet.concepts.regions.subdivision import PlaneRegions, subdivide
from whynet.core.claim import Cell, Claim, Control, Judgement, Parameter, Values
from whynet.core.outcome import NotApplicable

CLAIM = Claim(
    title="Piecewise-linear functions are rectified networks of logarithmic depth",
    statement="""
Every continuous piecewise-linear function of n variables is

    max_i (a_i·x + b_i) − max_j (c_j·x + d_j),

and so a rectified network: max(u, v) = (u − v)₊ + v₊ − (−v)₊ takes maxima in pairs, all of a level
in one hidden layer. With at most k terms in each maximum ⌈log₂ k⌉ hidden layers do; they are equal
on every cell, not near each other. Written as a sum of maxima of at most n + 1 terms first, as
every such function can be, it takes ⌈log₂(n + 1)⌉, however many pieces it has.
""",
    kind="theorem",
    cites=("arora2018b", "wang2005"),
    answers=("capacity", "seven-depth"),
    assumptions={"complete": "every affine piece of the function is a term of a maximum"},
    parameters=(
        Parameter("inputs", "int", "n", 2, 1000),
        Parameter("terms", "int", "k, terms of the larger maximum; of a network, the least power "
                  "of 2 from there on", 2, 256),
        Parameter("function", "choice", "what is represented: a difference of random maxima, or a "
                  "random network of one hidden layer", choices=("maxima", "hidden-layer")),
        Parameter("form", "choice", "maxima in pairs, or rewritten to such of at most n + 1 terms",
                  choices=("pairs", "few-terms")),
        Parameter("pieces", "choice", "terms that are built in", choices=("all", "one-dropped")),
    ),
    presets={
        "smoke": {"inputs": (2,), "terms": (6,), "function": ("maxima", "hidden-layer"),
                  "form": ("pairs", "few-terms"), "seeds": (10,)},
        "small": {"inputs": (2, 3), "terms": (5, 9, 16), "function": ("maxima", "hidden-layer"),
                  "form": ("pairs", "few-terms"), "seeds": (10,)},
        "full": {"inputs": (2, 3, 50), "terms": (5, 9, 16), "form": ("pairs", "few-terms"),
                 "function": ("maxima", "hidden-layer"), "seeds": (20,)},
    },
    controls=(
        Control("one-dropped", "complete", "pieces", "one-dropped",
                "The term that is largest in the middle of the square is left out, and the "
                "network is another function there."),
    ),
    shape=("inputs", "terms", "function", "form"),
    group=64,
    cost="about 15 s",
    version=2,
    tolerance="In every case the largest distance of network and function over a square in a "
    "random plane, bounded on each of its cells, is at most 1e-9 of the function's largest value "
    "there, and the hidden layers are ⌈log₂ k⌉, or ⌈log₂ min(k, n + 1)⌉ where rewritten; one "
    "exception refutes, and at least 17 cases without one support.",
)  # fmt: skip

NEAR: Final = 1e-9
"""Largest distance that is round-off, over the function's largest value."""

UNSHARED: Final = ("form", "pieces")
"""Parameters that function and plane do not depend on."""

SIDE: Final = 2.0
"""Half a side of the square."""

Terms = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Function:
    """A continuous piecewise-linear function, and the difference of maxima it is written as.

    Attributes:
        raised: terms of the first maximum, `[terms, inputs]` and `[terms]`.
        lowered: of the second.
        parts: what the function was drawn as, a sum of maxima: factor and terms of each.

    """

    raised: Terms
    lowered: Terms
    parts: tuple[tuple[float, Terms], ...]


def function_of(cell: Cell) -> Function:
    """Draw the function of a cell."""
    draw = torch.Generator().manual_seed(cell.seed_for("function", shared=UNSHARED))
    inputs, terms = int(cell.number("inputs")), int(cell.number("terms"))

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    if cell.parameters["function"] == "maxima":
        fewer = (terms + 1) // 2
        raised, lowered = (
            (normal(terms, inputs), normal(terms)),
            (
                normal(fewer, inputs),
                normal(fewer),
            ),
        )
        return Function(raised, lowered, ((1.0, raised), (-1.0, lowered)))
    units = 2 * (terms - 1).bit_length()
    hidden = normal(units, inputs), normal(units)
    signs = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(units // 2)
    outer = signs * (0.5 + normal(units).abs()), normal(1)[0]
    raised, lowered = maxima_of_hidden_layer(hidden, outer)
    none = torch.zeros(1, inputs, dtype=torch.float64), outer[1][None]
    rectified = (
        (
            float(factor),
            (torch.stack([torch.zeros_like(weight), weight]), torch.stack([0 * bias, bias])),
        )
        for factor, weight, bias in zip(outer[0], *hidden, strict=True)
    )
    return Function(raised, lowered, ((1.0, none), *rectified))


def plane_of(cell: Cell) -> Plane:
    """Draw a square in a plane through a random point."""
    generator = np.random.default_rng(cell.seed_for("plane", shared=UNSHARED))
    inputs = int(cell.number("inputs"))
    axes = np.linalg.qr(generator.standard_normal((inputs, 2)))[0].T
    corners = SIDE * np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    center = generator.standard_normal(inputs) / np.sqrt(inputs)
    return Plane(torch.from_numpy(center), torch.from_numpy(np.ascontiguousarray(axes)), corners)


def predict(cells: Sequence[Cell]) -> Sequence[Values]:
    """Return that there is no distance, and the number of hidden layers."""
    found: list[Values] = []
    for cell in cells:
        terms = int(cell.number("terms"))
        if cell.parameters["form"] == "few-terms":
            terms = min(terms, int(cell.number("inputs")) + 1)
        found.append({"distance": 0.0, "layers": float((terms - 1).bit_length())})
    return found


def experiment(cells: Sequence[Cell]) -> Sequence[Values]:
    """Build the networks, cut their squares, and bound the distance on every cell."""
    found: list[Values] = []
    for cell in cells:
        function, plane = function_of(cell), plane_of(cell)
        raised = function.raised
        if cell.parameters["pieces"] == "one-dropped":
            largest = (raised[0] @ plane.origin + raised[1]).argmax()
            kept = torch.arange(len(raised[1])) != largest
            raised = raised[0][kept], raised[1][kept]
        pairs = cell.parameters["form"] == "pairs"
        build = difference_of_maxima if pairs else shallow_difference_of_maxima
        network = build(raised, function.lowered)
        regions = _cut(network, plane)
        extrema = regions.extrema
        scale = float(np.abs([extrema.smallest, extrema.largest]).max())
        distance = distance_bound(function, regions)
        layers = sum(isinstance(layer, nn.ReLU) for layer in network)
        found.append(
            {
                "distance": distance / scale,
                "layers": float(layers),
                "cells": float(regions.count),
            }
        )
    return found


def _cut(network: nn.Module, plane: Plane) -> PlaneRegions:
    found = subdivide(network, plane)
    if isinstance(found, NotApplicable):
        raise RuntimeError(found.reason)
    return found


def distance_bound(function: Function, regions: PlaneRegions) -> float:
    """Bound the distance of a sum of maxima from a network over all cells of a polygon.

    On a cell the network is one affine function. Of each maximum the term is taken that is largest
    at the center of the cell's corners. A maximum less one of its terms is convex and at least 0,
    and so largest at a corner. The distance is at most what the chosen terms lack at a corner, plus
    the distance there of the two affine functions.
    """
    cells = regions.cells
    owner = np.repeat(np.arange(regions.count), np.diff(cells.offsets))
    corners = cells.vertices[cells.corners]
    centers = np.zeros((regions.count, 2))
    np.add.at(centers, owner, corners)
    centers /= np.diff(cells.offsets)[:, None]
    inputs = [regions.plane.inputs(points) for points in (corners, centers)]
    lacking, affine = np.zeros(len(corners)), np.zeros(len(corners))
    for factor, (weight, bias) in function.parts:
        at_corners, at_centers = ((points @ weight.T + bias).numpy() for points in inputs)
        own = np.take_along_axis(at_corners, at_centers.argmax(1)[owner][:, None], 1)[:, 0]
        lacking += abs(factor) * (at_corners.max(1) - own)
        affine += factor * own
    maps = cells.maps[owner, :, 0]
    network = (maps[:, :2] * corners).sum(1) + maps[:, 2]
    # What terms lack is largest at one corner and the affine gap at another: both over each cell.
    worst = np.zeros((2, regions.count))
    for row, values in zip(worst, (lacking, np.abs(network - affine)), strict=True):
        np.maximum.at(row, owner, values)
    return float(worst.sum(0).max())


def judge(measured: xr.Dataset, predicted: xr.Dataset) -> Judgement:
    """Judge that network and function are equal, and the depth, in every case."""
    distance = flat(measured["distance"])
    cells = flat(measured["cells"])
    return judge_cases(
        {
            "equal on all cells": distance <= flat(predicted["distance"]) + NEAR,
            "the stated hidden layers": flat(measured["layers"]) == flat(predicted["layers"]),
        },
        f"The largest distance is {distance.max():.1e} of the largest value, over "
        f"{int(cells.sum()):,} cells.",
    )


def draw(figure: Figure, measured: xr.Dataset, predicted: xr.Dataset) -> None:
    """Draw the distances of all cases."""
    families = {
        f"{terms} terms": flat(measured["distance"].sel(terms=terms))
        for terms in measured["terms"].values
    }
    figures.distances(
        figure,
        families,
        near=NEAR,
        label="largest distance from the function, over its largest value",
    )
