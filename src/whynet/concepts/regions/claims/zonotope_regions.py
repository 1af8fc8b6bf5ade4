"""Support functions of zonotopes have as many linear pieces as their hyperplanes have cones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
import xarray as xr
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn

from whynet.concepts.agreement import flat, judge_cases
from whynet.concepts.approximation.theory.zonotope_networks import unit_polygon, zonotope_network
from whynet.concepts.regions import claim_figures
from whynet.concepts.regions.boxes import cells_in_box
from whynet.concepts.regions.planes import Plane
from whynet.concepts.regions.subdivision import subdivide
from whynet.concepts.regions.theory.region_bounds import central_arrangement_regions
from whynet.core.claim import Cell, Claim, Control, Judgement, Parameter, Values
from whynet.core.outcome import NotApplicable
from whynet.models.piecewise_linear_segments import segment_pieces
from whynet.models.piecewise_linear_source import graph_from

CLAIM = Claim(
    title="Folded zonotopes have as many linear pieces as their cones have folds",
    statement="""
For m directions b_j in general position in ℝⁿ, the function

    γ(x) = Σ_j |⟨b_j, x⟩|,

the support function of a zonotope, takes one hidden layer of 2m rectified units and has exactly

    2 Σ_{i<n} C(m−1, i)

linear pieces, one for each cone of the hyperplanes orthogonal to the b_j. Followed by k tents, of 2
more units each, it has 2^k times as many where γ ≤ 1: width gives pieces by a power of the
dimension, depth by doubling all of them.
""",
    kind="theorem",
    cites=("arora2018b", "zaslavsky1975", "montufar2014"),
    answers=("capacity", "seven-depth", "seven-dimension"),
    assumptions={
        "generic": "any n of the directions are independent",
        "folds": "every tent folds the unit interval onto itself",
    },
    parameters=(
        Parameter("inputs", "int", "n, dimension of the input", 2, 6),
        Parameter("directions", "int", "m", 3, 200),
        Parameter("folds", "int", "k, tents after the sum", 0, 12),
        Parameter("position", "choice", "of the directions", choices=("generic", "two-parallel")),
        Parameter("layers", "choice", "what the tents do", choices=("fold", "one-straight")),
    ),
    presets={
        "smoke": {"inputs": (2, 3), "directions": (5,), "folds": (2,), "seeds": (9,)},
        "small": {"inputs": (2, 3, 4), "directions": (4, 9, 16), "folds": (1, 3),
                  "seeds": (12,)},
        "full": {"inputs": (2, 3, 4), "directions": (4, 9, 20, 40), "folds": (1, 3, 5),
                 "seeds": (20,)},
    },
    controls=(
        Control("two-parallel", "generic", "position", "two-parallel",
                "One direction is a multiple of another: they share their hyperplane, and its "
                "cones are missing."),
        Control("one-straight-layer", "folds", "layers", "one-straight",
                "One tent, drawn at random, passes the interval on instead of folding it, and "
                "half of the pieces are gone."),
    ),
    shape=("inputs", "directions", "folds"),
    group=64,
    cost="about 6 s",
    tolerance="In every case the pieces counted exactly equal the number stated; one exception "
    "refutes, and at least 17 cases without one support.",
)  # fmt: skip

UNSHARED: Final = ("position", "layers")
"""Parameters that the directions do not depend on."""


def predict(cells: Sequence[Cell]) -> Sequence[Values]:
    """Return the number of cones times that of the folds."""
    found: list[Values] = []
    for cell in cells:
        inputs, count = int(cell.number("inputs")), int(cell.number("directions"))
        cones = central_arrangement_regions(count, inputs)
        found.append({"pieces": float(cones * 2 ** int(cell.number("folds")))})
    return found


def directions_of(cell: Cell) -> Tensor:
    """Draw the directions of a cell, `[directions, inputs]`, of lengths between 1/2 and 2."""
    generator = np.random.default_rng(cell.seed_for("directions", shared=UNSHARED))
    shape = int(cell.number("directions")), int(cell.number("inputs"))
    drawn = generator.standard_normal(shape)
    drawn *= generator.uniform(0.5, 2, (shape[0], 1)) / np.linalg.norm(drawn, axis=1)[:, None]
    if cell.parameters["position"] == "two-parallel":
        drawn[1] = -1.5 * drawn[0]
    return torch.from_numpy(drawn)


def experiment(cells: Sequence[Cell]) -> Sequence[Values]:
    """Count the linear pieces where γ ≤ 1.

    In the plane as connected sets of one affine map of the polygon γ ≤ 1. In more dimensions all
    cones meet a box around the origin, whose cells are found; along a segment from the origin to
    γ = 1 inside each cone the folds are counted.
    """
    found: list[Values] = []
    for cell in cells:
        directions = directions_of(cell)
        network = zonotope_network(directions, int(cell.number("folds")))
        if cell.parameters["layers"] == "one-straight":
            _straighten(network, cell)
        count = _pieces_in_the_plane if directions.shape[1] == 2 else _pieces_in_space
        found.append({"pieces": float(count(network, directions))})
    return found


def _straighten(network: nn.Sequential, cell: Cell) -> None:
    """Let one tent pass on what enters it."""
    generator = np.random.default_rng(cell.seed_for("straight", shared=UNSHARED))
    folds = int(cell.number("folds"))
    if folds:
        following = network[3 + 2 * int(generator.integers(folds)) + 2]
        with torch.no_grad():
            next(following.parameters()).copy_(torch.tensor([[1.0, 0.0]], dtype=torch.float64))


def _pieces_in_the_plane(network: nn.Module, directions: Tensor) -> int:
    corners = unit_polygon(directions).numpy()
    plane = Plane(torch.zeros(2), torch.eye(2), _convex(corners))
    found = subdivide(network, plane)
    if isinstance(found, NotApplicable) or not found.complete:
        raise RuntimeError("the plane was not cut to the end")
    return found.linear_regions


def _convex(corners: NDArray[Any]) -> NDArray[Any]:
    """Leave out corners that repeat the one before, as parallel directions do."""
    apart = np.linalg.norm(corners - np.roll(corners, 1, 0), axis=1) > 1e-9
    return np.asarray(corners[apart])


def _pieces_in_space(network: nn.Sequential, directions: Tensor) -> int:
    """Count the folds along a segment in each cone."""
    ends = torch.ones(directions.shape[1], dtype=torch.float64)
    cones = cells_in_box(network[:3], -ends, ends, max_cells=1_000_000)
    if isinstance(cones, NotApplicable) or not cones.complete:
        raise RuntimeError("the box was not cut to the end")
    inside = torch.as_tensor(cones.cells.centers)
    ends = inside / (inside @ directions.T).abs().sum(1, keepdim=True)
    graph = graph_from(network, ends[0])
    if isinstance(graph, NotApplicable):
        raise RuntimeError(graph.reason)
    pieces = segment_pieces(graph, torch.zeros_like(ends), ends)
    if isinstance(pieces, NotApplicable):
        raise RuntimeError(pieces.reason)
    return int(pieces.output_pieces().sum())


def judge(measured: xr.Dataset, predicted: xr.Dataset) -> Judgement:
    """Judge that the numbers are equal in every case."""
    counted, known = flat(measured["pieces"]), flat(predicted["pieces"])
    least, most = (f"{round(value):,}" for value in (known.min(), known.max()))
    sentence = f"The numbers stated are {least} to {most}."
    return judge_cases({"exactly the stated number of pieces": counted == known}, sentence)


def draw(figure: Figure, measured: xr.Dataset, predicted: xr.Dataset) -> None:
    """Draw counted against stated numbers."""
    labels = ("pieces stated", "pieces counted")
    families = {
        f"{inputs} inputs": (
            flat(predicted["pieces"].sel(inputs=inputs)),
            flat(measured["pieces"].sel(inputs=inputs)),
        )
        for inputs in measured["inputs"].values
    }
    claim_figures.equal_numbers(figure, families, labels=labels)
