"""What a deep narrow network draws without error, a shallow one of the same size cannot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import torch
import xarray as xr
from matplotlib.figure import Figure
from torch import Tensor, nn

from whynet.concepts.agreement import flat, judge_cases
from whynet.concepts.approximation import figures
from whynet.concepts.approximation.distances import integrated_gap
from whynet.concepts.approximation.theory.sawtooth_networks import (
    few_pieces_error_bound,
    turning_points,
    uneven_sawtooth,
)
from whynet.concepts.regions.polylines import along
from whynet.core.claim import Cell, Claim, Control, Judgement, Parameter, Values
from whynet.core.outcome import NotApplicable
from whynet.training.ensemble import Optimization, train_ensemble

CLAIM = Claim(
    title="Depth draws exponentially many teeth, which few units of one layer miss",
    statement="""
The tent of peak a rises from 0 to 1 on [0, a] and falls to 0 on [a, 1]; it takes two rectified
linear units. Tents of any peaks, k of them composed, are a network of 2 units a layer and 6k + 1
parameters. On [0, 1] it has exactly 2^k affine pieces and goes between 0 and 1 on each.

A network of one hidden layer with as many parameters has 2k units and at most p = 2k + 1 pieces.
No line comes nearer to two neighboring teeth than the one through their quarter points, and only
p − 1 such pairs can hold a break. So its distance from the sawtooth is, for equal teeth,

    ∫₀¹ |shallow − sawtooth| dx  ≥  1/4 − (p − 1) / 2^(k+1),

and for others the sum of the 2^(k−1) − p + 1 smallest distances of a pair from its best line. The
constant 1/2 has 1/4: exponentially many teeth are as good as noise to a shallow network.
""",
    kind="theorem",
    cites=("telgarsky2016", "arora2018b"),
    answers=("capacity", "seven-depth"),
    assumptions={
        "folds": "every layer folds the unit interval onto itself",
        "shallow": "the competitor has one hidden layer",
    },
    parameters=(
        Parameter("folds", "int", "k, layers of the sawtooth", 5, 14),
        Parameter("layers", "choice", "what the layers do", choices=("fold", "one-straight")),
        Parameter("competitor", "choice", "network of the same number of parameters",
                  choices=("shallow", "deep")),
    ),
    presets={
        "smoke": {"folds": (5,), "seeds": (17,)},
        "small": {"folds": (5, 7, 9), "seeds": (20,)},
        "full": {"folds": (5, 6, 7, 8, 9, 10, 11, 12), "seeds": (60,)},
    },
    controls=(
        Control("one-straight-layer", "folds", "layers", "one-straight",
                "One layer, drawn at random, passes the interval on instead of folding it, and "
                "half of the pieces are gone."),
        Control("deep-competitor", "shallow", "competitor", "deep",
                "A competitor of the same number of parameters, but of k layers, draws the "
                "sawtooth, and its distance is below the bound."),
    ),
    shape=("folds", "layers", "competitor"),
    group=64,
    cost="about 15 s",
    tolerance="In every case the pieces counted along [0, 1] are 2^k, and the competitor's "
    "distance, integrated exactly, is at least the bound; one exception refutes, and at least 17 "
    "cases without one support.",
)  # fmt: skip

LOW, HIGH = 0.3, 0.7
"""Between which peaks are drawn."""

STARTS: Final = 2
"""Shallow networks trained in each case; the best on the grid competes."""

STEPS, GRID = 250, 193
UNSHARED = ("layers", "competitor")
"""Parameters that the peaks do not depend on."""


def peaks_of(cell: Cell) -> list[float]:
    """Draw the peaks of a cell's tents."""
    generator = np.random.default_rng(cell.seed_for("peaks", shared=UNSHARED))
    drawn: list[float] = generator.uniform(LOW, HIGH, int(cell.number("folds"))).tolist()
    return drawn


def predict(cells: Sequence[Cell]) -> Sequence[Values]:
    """Return the number of pieces, and the lower bound on a shallow network's distance."""
    found: list[Values] = []
    for cell in cells:
        turns = turning_points(peaks_of(cell))
        pieces = 2 * len(peaks_of(cell)) + 1
        bound = few_pieces_error_bound(turns, pieces)
        found.append({"pieces": float(len(turns) - 1), "distance": bound})
    return found


def experiment(cells: Sequence[Cell]) -> Sequence[Values]:
    """Count the pieces of the deep networks, and measure how far the competitors are from them.

    The shallow competitors are trained on the true sawtooth, by Adam on the absolute error over
    a grid from several random starts. Their distance is integrated without a grid.
    """
    truths = [uneven_sawtooth(peaks_of(cell)) for cell in cells]
    if cells[0].parameters["competitor"] == "shallow":
        rivals = _trained(cells, truths)
    else:
        rivals = [uneven_sawtooth(peaks_of(cell)) for cell in cells]
    found: list[Values] = []
    for cell, truth, rival in zip(cells, truths, rivals, strict=True):
        deep = _straightened(cell) if cell.parameters["layers"] == "one-straight" else truth
        counted = along(deep, torch.tensor([[0.0], [1.0]], dtype=torch.float64))
        if isinstance(counted, NotApplicable):
            raise RuntimeError(counted.reason)
        sizes = {sum(p.numel() for p in net.parameters()) for net in (truth, rival)}
        if len(sizes) > 1:
            raise RuntimeError(f"networks of {sizes} parameters")
        distance = integrated_gap(truth, rival, 0.0, 1.0)
        found.append({"pieces": float(counted.output_pieces), "distance": distance})
    return found


def _straightened(cell: Cell) -> nn.Sequential:
    """Return the sawtooth with the output of one hidden layer replaced by its input."""
    network = uneven_sawtooth(peaks_of(cell))
    generator = np.random.default_rng(cell.seed_for("straight", shared=UNSHARED))
    following = network[2 * int(generator.integers(int(cell.number("folds")))) + 2]
    with torch.no_grad():
        next(following.parameters()).copy_(torch.tensor([[1.0, 0.0]], dtype=torch.float64))
    return network


def _shallow(parameters: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
    """Return the outputs, `[rows]`, of one network of one hidden layer at `[rows]`."""
    hidden = (inputs[:, None] * parameters["weight"] + parameters["bias"]).relu()
    return hidden @ parameters["outer"] + parameters["offset"]


def _absolute(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).abs().mean()


def _trained(cells: Sequence[Cell], truths: Sequence[nn.Module]) -> list[nn.Sequential]:
    """Train shallow networks of the same number of parameters, and return the best of each cell."""
    units = 2 * int(cells[0].number("folds"))
    starts = [_starts(cell, units) for cell in cells]
    parameters = {name: torch.cat([own[name] for own in starts]) for name in starts[0]}
    grid = torch.linspace(0, 1, GRID, dtype=torch.float64)
    with torch.no_grad():
        targets = torch.stack([truth(grid[:, None])[:, 0] for truth in truths])
    trained = train_ensemble(
        _shallow,
        parameters,
        grid,
        targets.repeat_interleave(STARTS, 0),
        _absolute,
        Optimization("adam", 0.01),
        steps=STEPS,
        per_member=("targets",),
    )
    losses = trained.losses.reshape(len(cells), STARTS)
    best = losses.argmin(1) + STARTS * torch.arange(len(cells))
    return [_network({n: p[at] for n, p in trained.parameters.items()}) for at in best]


def _starts(cell: Cell, units: int) -> dict[str, Tensor]:
    """Draw starts with kinks inside the interval, around the constant 1/2, `[starts, ...]`."""
    draw = np.random.default_rng(cell.seed_for("start", shared=UNSHARED))
    weight = draw.choice([-1.0, 1.0], (STARTS, units)) * draw.uniform(1, 8, (STARTS, units))
    return {
        "weight": torch.from_numpy(weight),
        "bias": torch.from_numpy(-weight * draw.uniform(0, 1, (STARTS, units))),
        "outer": torch.from_numpy(0.1 * draw.standard_normal((STARTS, units))),
        "offset": torch.full((STARTS, 1), 0.5, dtype=torch.float64),
    }


def _network(parameters: Mapping[str, Tensor]) -> nn.Sequential:
    units = len(parameters["weight"])
    hidden, outer = (nn.Linear(*s, dtype=torch.float64) for s in ((1, units), (units, 1)))
    with torch.no_grad():
        hidden.weight.copy_(parameters["weight"][:, None])
        hidden.bias.copy_(parameters["bias"])
        outer.weight.copy_(parameters["outer"][None])
        outer.bias.copy_(parameters["offset"])
    return nn.Sequential(hidden, nn.ReLU(), outer)


def judge(measured: xr.Dataset, predicted: xr.Dataset) -> Judgement:
    """Judge that all pieces are there, and that no competitor is below its bound."""
    bound, distance = flat(predicted["distance"]), flat(measured["distance"])
    if (bound <= 0).any():
        return Judgement("not applicable", "Fewer than 5 folds have no bound; give more.")
    ratio = distance / bound
    return judge_cases(
        {
            "2^k pieces": flat(measured["pieces"]) == flat(predicted["pieces"]),
            "a distance of at least its bound": ratio >= 1 - 1e-9,
        },
        f"The distance is {ratio.min():.2g} to {ratio.max():.2g} times the bound.",
    )


def draw(figure: Figure, measured: xr.Dataset, predicted: xr.Dataset) -> None:
    """Draw distances over their bounds, and pieces."""
    others = {n: 0 for n in measured["pieces"].dims if n not in ("folds", "seed")}
    tables = [
        table[name].isel(others).transpose("folds", "seed").values
        for name in ("distance", "pieces")
        for table in (measured, predicted)
    ]
    distance, bound, pieces, known = tables
    figures.errors_and_bounds(figure, measured["folds"].values, distance, bound, (pieces, known))
