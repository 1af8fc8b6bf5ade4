"""Two-layer networks and their initial kernels on targets that hang on few hidden directions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
import xarray as xr
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from whynet.concepts.bands import Band, judge_bands, slopes
from whynet.concepts.claim_tables import along
from whynet.concepts.kernels.figures import errors_above_bound
from whynet.concepts.kernels.theory.dimension_bound import least_error
from whynet.core.claim import Cell, Judgement, Values
from whynet.numerics.kernel_matrices import regression
from whynet.training.ensemble import Optimization, train_ensemble

Array = NDArray[Any]
Stacked = dict[str, Tensor]

TESTED: Final = 600
"""Unseen rows."""

PACE: Final = 0.5
"""Learning rate over the width, in the scaling in which features move."""

LAZY: Final = 1000.0
"""What outputs are multiplied by, and rates divided by the square of, where features stay."""

LEARNED, FACTOR, EXPONENT = 0.35, 1.4, 0.6
"""Bands: largest error of the network, least factor in rows, least exponent of that factor."""

UNSHARED: Final = ("width", "steps", "scaling", "start")
"""Parameters that data do not depend on."""

Draw = Callable[[np.random.Generator, int, int], Array]
Target = Callable[[Array], Array]


@dataclass(frozen=True)
class Hidden:
    """Where inputs come from and what is asked of them.

    Attributes:
        draw: generator, rows and dimension to inputs of squared norm `dimension`.
        target: inputs to targets of mean 0 and variance 1.
        directions: number of coordinates that the target hangs on, the first ones.

    """

    draw: Draw
    target: Target
    directions: int


def rows_of_cell(cell: Cell) -> int:
    """Return the number of training rows."""
    return int(cell.number("ratio") * cell.number("dimension"))


def bound(cell: Cell, size: int) -> Values:
    """Return the least error of any kernel method, and the size of the family."""
    return {"least": least_error(rows_of_cell(cell), size), "size": float(size)}


def errors(cells: Sequence[Cell], problem: Hidden) -> Sequence[Values]:
    """Train the networks of a group and fit their kernels; mean squared errors on unseen rows.

    A network is `f(x) = α/m Σ a φ(w·x) + α b/√m` of width m with rectified units, trained with all
    its parameters by gradient descent on ½ mean (f − y)². Half of the units are drawn, the others
    are the same with opposite a, so that all outputs start at 0. Its kernel is fitted by kernel
    regression with the ridge that serves rows left out one at a time best.
    """
    first = cells[0]
    inputs, targets, unseen, wanted, start = _drawn(cells, problem)
    width, steps = int(first.number("width")), int(first.number("steps"))
    alpha = LAZY if first.parameters["scaling"] == "lazy" else 1.0

    def forward(parameters: Any, x: Tensor) -> Tensor:
        hidden = torch.relu(x @ parameters["w"].transpose(-1, -2))
        summed = torch.einsum("...nm,...m->...n", hidden, parameters["a"])
        shifted: Tensor = alpha * (summed / width + parameters["b"] / width**0.5)
        return shifted

    result = train_ensemble(
        forward,
        start,
        inputs,
        targets,
        lambda outputs, y: 0.5 * (outputs - y).square().mean(),
        Optimization("gradient-descent", PACE * width / alpha**2),
        steps=steps,
        schedule=(0, steps),
        per_member=("inputs", "targets"),
    )
    found: list[Values] = []
    for place in range(len(cells)):
        end = {name: value[place] for name, value in result.parameters.items()}
        own = {name: value[place] for name, value in start.items()}
        miss = forward(end, unseen[place]) - wanted[place]
        kernel, cross = (
            _kernel(own, x, inputs[place], alpha).numpy() for x in (inputs[place], unseen[place])
        )
        fitted = regression(kernel, cross, targets[place][:, None].numpy())
        other = fitted.chosen[:, 0] - wanted[place].numpy()
        found.append({"network": float(miss.square().mean()), "kernel": float((other**2).mean())})
    return found


def _kernel(own: Stacked, left: Tensor, right: Tensor, alpha: float) -> Tensor:
    """Return the tangent kernel of one network at its start."""
    w, a = own["w"], own["a"]
    first, second = left @ w.T, right @ w.T
    values = torch.relu(first) @ torch.relu(second).T
    slopes_ = ((first > 0) * a.square()) @ (second > 0).to(a).T
    return alpha**2 * ((values + slopes_ * (left @ right.T)) / len(a) ** 2 + 1 / len(a))


def _drawn(
    cells: Sequence[Cell], problem: Hidden
) -> tuple[Tensor, Tensor, Tensor, Tensor, Stacked]:
    """Draw training rows, targets, unseen rows, their targets, and starts of all cells."""
    dimension, width = (int(cells[0].number(name)) for name in ("dimension", "width"))
    rows = rows_of_cell(cells[0])
    inputs, starts = [], []
    for cell in cells:
        generator = np.random.default_rng(cell.seed_for("data", shared=(*UNSHARED, "target")))
        inputs.append(problem.draw(generator, rows + TESTED, dimension))
        generator = np.random.default_rng(
            cell.seed_for("start", shared=("scaling", "steps", "target", "start"))
        )
        w = generator.standard_normal((width // 2, dimension))
        if cells[0].parameters["start"] == "aligned":
            w[:, problem.directions :] = 0
        w /= np.sqrt((w**2).mean(0).sum())  # of unit variance along the inputs
        starts.append(np.concatenate([w, w]))
    both = torch.from_numpy(np.stack(inputs))
    targets = torch.from_numpy(np.stack([problem.target(x) for x in inputs]))
    signs = torch.cat([torch.ones(width // 2), -torch.ones(width // 2)]).double()
    start = {
        "w": torch.from_numpy(np.stack(starts)),
        "a": signs.expand(len(cells), -1).clone(),
        "b": torch.zeros(len(cells), dtype=torch.float64),
    }
    return both[:, :rows], targets[:, :rows], both[:, rows:], targets[:, rows:], start


def factor_in_rows(measured: xr.Dataset, predicted: xr.Dataset) -> xr.DataArray:
    """Return the rows that a kernel needs at least for the network's error, over the network's."""
    rows = measured["ratio"] * measured["dimension"]
    return (1 - measured["network"]).clip(min=1e-6) * predicted["size"] / rows


def judge_hidden(measured: xr.Dataset, predicted: xr.Dataset) -> Judgement:
    """Judge errors of network and kernel at each dimension, and how the gap grows."""
    dimensions = measured["dimension"].values
    if len(dimensions) < 2:
        return Judgement("not applicable", "One dimension has no exponent; give two or more.")
    factor, bands = factor_in_rows(measured, predicted), []
    for ratio in measured["ratio"].values:
        own = {"ratio": ratio}
        above = measured["kernel"] - predicted["least"]
        for dimension in dimensions:
            place = {**own, "dimension": dimension}
            name = f"{dimension} dimensions, {ratio} rows each"
            error = measured["network"].sel(place).values.ravel()
            bands += [
                Band(f"error of the network ({name})", error, high=LEARNED),
                Band(f"error of its kernel less the bound ({name})",
                     above.sel(place).values.ravel(), low=0.0),
            ]  # fmt: skip
        grown = along(factor.sel(own), "dimension")
        last = grown[int(dimensions.argmax())]
        bands += [
            Band(f"rows that a kernel needs over the network's ({ratio} rows each)", last,
                 low=FACTOR),
            Band(f"its exponent over the dimension ({ratio} rows each)",
                 slopes(dimensions, grown), low=EXPONENT),
        ]  # fmt: skip
    return judge_bands(bands)


def draw_hidden(figure: Figure, measured: xr.Dataset, predicted: xr.Dataset) -> None:
    """Draw the errors of network and kernel over the dimension, and the bound."""
    ratio = {"ratio": measured["ratio"].values[0]}
    least = along(predicted["least"].sel(ratio), "dimension")[:, 0]
    points = {name: along(measured[name].sel(ratio), "dimension") for name in ("network", "kernel")}
    errors_above_bound(
        figure,
        measured["dimension"].values,
        points,
        least,
        labels=("dimension", "error on unseen rows"),
    )
