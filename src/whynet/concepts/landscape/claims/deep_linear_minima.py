"""Descent on a deep linear network never ends in a bad local minimum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
import xarray as xr
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from whynet.concepts.bands import Band, judge_bands
from whynet.concepts.landscape import claim_figures
from whynet.concepts.landscape.theory.deep_linear_minima import least_loss
from whynet.core.claim import Cell, Claim, Control, Judgement, Parameter, Values
from whynet.training.ensemble import Optimization, train_ensemble

CLAIM = Claim(
    title="Descent on a deep linear network never ends in a bad local minimum",
    statement="""
A product W = W_N ⋯ W₁ of N matrices whose narrowest has width r is fitted to a matrix M with
distinct singular values s₁ > s₂ > … by ½‖W − M‖². Every local minimum is global, with the loss

    ½ Σ_{i > r} s_i²,

and every other critical point is a saddle, so that descent from a generic start ends at that loss.
""",
    kind="theorem",
    cites=("baldi1989", "kawaguchi2016"),
    answers=("optimization", "seven-optimization", "breiman-minima"),
    assumptions={
        "linear": "there is no activation between the matrices",
        "even": "all entries of the error count alike",
    },
    parameters=(
        Parameter("size", "int", "rows and columns of M", 3, 50),
        Parameter("depth", "int", "N, the number of matrices", 2, 5),
        Parameter("width", "int", "r, the width of all hidden layers", 1, 40),
        Parameter("activation", "choice", "between the matrices", choices=("none", "relu")),
        Parameter("weighting", "choice", "of the entries", choices=("even", "uneven")),
    ),
    presets={
        "smoke": {"size": (4,), "depth": (3,), "width": (2,), "seeds": (8,)},
        "small": {"size": (6,), "depth": (2, 3), "width": (2, 3), "seeds": (20,)},
        "full": {"size": (10,), "depth": (2, 3, 4), "width": (2, 4, 6), "seeds": (100,)},
    },
    controls=(
        Control("relu", "linear", "activation", "relu",
                "With ReLU between the matrices outputs cannot be negative before the last one, "
                "and descent ends at other losses."),
        Control("uneven", "even", "weighting", "uneven",
                "Where entries count differently, the best approximation of a rank is another one, "
                "and there are local minima (Srebro and Jaakkola 2003)."),
    ),
    shape=("size", "depth", "width", "activation"),
    group=100,
    cost="about 30 s",
    tolerance="Supported where the mean over seeds of the final loss over the predicted one, less "
    "1, lies within 1e-3 of 0 for each size, depth and width; 400 steps of Adam.",
)  # fmt: skip

NEAR: Final = 1e-3
STEPS: Final = 400
RATE: Final = 0.05
CHANGED = ("depth", "width", "activation", "weighting")
"""Parameters that the matrix M does not depend on."""


def targets_of(cells: Sequence[Cell]) -> NDArray[Any]:
    """Draw matrices with singular values 1 to 3, evenly spaced and a little moved, turned."""
    found = []
    for cell in cells:
        generator = np.random.default_rng(cell.seed_for("target", shared=CHANGED))
        size = int(cell.number("size"))
        left, right = (np.linalg.qr(generator.standard_normal((size, size)))[0] for _ in "lr")
        values = np.linspace(3, 1, size) + generator.uniform(-0.1, 0.1, size)
        found.append((left * values) @ right.T)
    return np.stack(found)


def predict(cells: Sequence[Cell]) -> Sequence[Values]:
    """Return the loss of all local minima."""
    pairs = zip(cells, targets_of(cells), strict=True)
    return [{"loss": least_loss(target, int(cell.number("width")))} for cell, target in pairs]


def _starts(cells: Sequence[Cell]) -> dict[str, Tensor]:
    """Draw the matrices at the start, `[cells, out, in]` each, of norm about that of one factor."""
    size, depth, width = (int(cells[0].number(name)) for name in ("size", "depth", "width"))
    ends = [size, *[width] * (depth - 1), size]
    found: dict[str, list[NDArray[Any]]] = {f"matrix{layer}": [] for layer in range(depth)}
    for cell in cells:
        generator = np.random.default_rng(
            cell.seed_for("start", shared=("activation", "weighting"))
        )
        for layer in range(depth):
            shape = ends[layer + 1], ends[layer]
            found[f"matrix{layer}"].append(generator.standard_normal(shape) / shape[1] ** 0.5)
    return {name: torch.as_tensor(np.stack(parts)) for name, parts in found.items()}


def experiment(cells: Sequence[Cell]) -> Sequence[Values]:
    """Descend from a random start, and return the loss where it ends."""
    size = int(cells[0].number("size"))
    bent = cells[0].parameters["activation"] == "relu"
    weights = np.ones((len(cells), size, size))
    for index, cell in enumerate(cells):
        if cell.parameters["weighting"] == "uneven":
            generator = np.random.default_rng(cell.seed_for("weights", shared=CHANGED))
            weights[index] = generator.choice([0.1, 1.9], (size, size))

    def forward(parameters: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
        reached, names = inputs, [name for name in parameters if name.startswith("matrix")]
        for name in names:
            reached = parameters[name] @ reached
            if bent and name != names[-1]:
                reached = reached.relu()
        return reached * parameters["roots"]

    roots = torch.as_tensor(np.sqrt(weights))
    result = train_ensemble(
        forward,
        _starts(cells),
        torch.eye(size, dtype=torch.float64),
        torch.as_tensor(targets_of(cells)) * roots,
        lambda outputs, targets: 0.5 * (outputs - targets).square().sum(),
        Optimization("adam", RATE),
        steps=STEPS,
        schedule=(),
        per_member=("targets",),
        constants={"roots": roots},
    )
    return [{"loss": float(loss)} for loss in result.losses]


def _names(measured: xr.Dataset) -> list[tuple[str, dict[str, Any]]]:
    grid = [
        {"size": size, "depth": depth, "width": width}
        for size in measured["size"].values
        for depth in measured["depth"].values
        for width in measured["width"].values
    ]
    return [(f"{g['depth']} matrices of size {g['size']}, width {g['width']}", g) for g in grid]


def judge(measured: xr.Dataset, predicted: xr.Dataset) -> Judgement:
    """Judge the final loss over the predicted one, less 1."""
    excess = measured["loss"] / predicted["loss"] - 1
    return judge_bands(
        [
            Band(f"final over predicted loss, less 1 ({name})", excess.sel(place).values.ravel(),
                 low=-NEAR, high=NEAR)
            for name, place in _names(measured)
        ]
    )  # fmt: skip


def draw(figure: Figure, measured: xr.Dataset, predicted: xr.Dataset) -> None:
    """Draw final over predicted losses, seed by seed."""
    rest = dict.fromkeys(("activation", "weighting"), 0)
    excess = (measured["loss"] / predicted["loss"] - 1).isel(rest)
    claim_figures.values_by_seed(
        figure,
        {name: np.sort(excess.sel(place).values.ravel()) for name, place in _names(measured)},
        expected=0.0,
        labels=("seed, by its loss", "final over predicted loss, less 1"),
    )
