"""Gradient flow conserves the imbalance of a deep linear network's layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from whynet.concepts.implicit_bias import curves
from whynet.concepts.implicit_bias.bands import judged_within
from whynet.concepts.implicit_bias.theory.balancedness import drift_per_step_size, imbalances
from whynet.core.claim import Cell, Claim, Control, Judgement, Parameter, Values
from whynet.training.ensemble import Optimization, train_ensemble

CLAIM = Claim(
    title="Gradient flow conserves the imbalance of a deep linear network's layers",
    statement="""
For a product W = W_N ⋯ W₁ and any loss ℓ(W), gradient flow leaves every

    B_j = W_{j+1}ᵀ W_{j+1} − W_j W_jᵀ

as it is. One step of gradient descent of size η changes it by η² (G_{j+1}ᵀ G_{j+1} − G_j G_jᵀ),
with G_j the gradient by W_j, so that in a fixed time t = η · steps

    ‖B_j(t) − B_j(0)‖ = η ‖∫ (G_{j+1}ᵀ G_{j+1} − G_j G_jᵀ) dt‖ + O(η²):

half the step size, half the drift, and none in the limit.
""",
    kind="theorem",
    cites=("arora2018", "arora2019", "bah2022"),
    answers=("optimization", "seven-optimization"),
    assumptions={
        "linear": "nothing stands between the layers",
        "unregularized": "nothing but a loss of W pulls on the weights",
        "plain-steps": "every weight moves by the step size times its own gradient",
    },
    parameters=(
        Parameter("size", "int", "rows and columns of the matrices", 2, 500),
        Parameter("depth", "int", "N, the number of factors", 2, 8),
        Parameter("loss", "choice", "how W is compared with its target",
                  choices=("square", "log-cosh")),
        Parameter("learning_rate", "float", "η, the step size", 1e-6, 0.1),
        Parameter("time", "float", "η times the number of steps", 0.01, 1e4),
        Parameter("activation", "choice", "what stands between the layers",
                  choices=("none", "tanh")),
        Parameter("weight_decay", "choice", "coefficient of ½ of the squared weights",
                  choices=("none", "0.05")),
        Parameter("optimizer", "choice", "how it is trained",
                  choices=("gradient-descent", "adam")),
    ),
    presets={
        "smoke": {"size": (4,), "depth": (3,), "learning_rate": (0.005,), "time": (1.0,),
                  "seeds": (10,)},
        "small": {"size": (8,), "depth": (2, 3), "loss": ("square", "log-cosh"),
                  "learning_rate": (0.005, 0.0025), "time": (1.0,), "seeds": (10,)},
        "full": {"size": (50,), "depth": (2, 3, 4, 5), "loss": ("square", "log-cosh"),
                 "learning_rate": (0.005, 0.0025, 0.00125), "time": (10.0,),
                 "seeds": (20,)},
    },
    controls=(
        Control("tanh", "linear", "activation", "tanh",
                "With tanh between the layers their gradients no longer match, and the drift "
                "stays when the step size shrinks."),
        Control("weight-decay", "unregularized", "weight_decay", "0.05",
                "Weight decay shrinks all layers, and their imbalance with them."),
        Control("adam", "plain-steps", "optimizer", "adam",
                "Adam divides each entry by its own size, and layers grow by unlike amounts."),
    ),
    shape=("size", "depth", "loss", "learning_rate", "time", "activation", "weight_decay",
           "optimizer"),
    group=64,
    cost="47 s on 2 cores shared by ten processes",
    tolerance="Supported where at every point of the grid the 95 % interval of the median over "
    "seeds of the measured drift, over the predicted η ‖∫ …‖, lies within 0.9 to 1.1; refuted "
    "where it lies outside at one point.",
)  # fmt: skip

CHANGED = ("loss", "learning_rate", "time", "activation", "weight_decay", "optimizer")
"""Parameters that start and target do not depend on."""


def _start(cell: Cell) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the factors at the start and the target, Gaussian over the root of the size."""
    depth, size = int(cell.number("depth")), int(cell.number("size"))
    generator = np.random.default_rng(cell.seed_for("start", shared=CHANGED))
    drawn = generator.standard_normal((depth + 1, size, size)) / np.sqrt(size)
    return drawn[:-1], drawn[-1]


def predict(cells: Sequence[Cell]) -> Sequence[Values]:
    """Return the drift of the conserved matrices under gradient descent, to first order."""
    found = []
    for cell in cells:
        factors, target = _start(cell)
        time, loss = cell.number("time"), str(cell.parameters["loss"])
        drift = drift_per_step_size(factors, target, loss, time)
        found.append({"drift": cell.number("learning_rate") * drift})
    return found


def _square(outputs: Tensor, targets: Tensor) -> Tensor:
    return 0.5 * (outputs - targets).square().sum()


def _log_cosh(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).cosh().log().sum()


def _forward(activation: str, depth: int, parameters: Mapping[str, Tensor], at: Tensor) -> Tensor:
    whole = at
    for layer in range(depth):
        whole = parameters[f"w{layer}"] @ whole
        if activation == "tanh" and layer < depth - 1:
            whole = whole.tanh()
    return whole


def experiment(cells: Sequence[Cell]) -> Sequence[Values]:
    """Train by gradient descent, and return how far the conserved matrices moved."""
    first = cells[0]
    depth, rate = int(first.number("depth")), first.number("learning_rate")
    activation, decay = str(first.parameters["activation"]), first.parameters["weight_decay"]
    starts, targets = (np.stack(part) for part in zip(*map(_start, cells), strict=True))
    result = train_ensemble(
        lambda parameters, inputs: _forward(activation, depth, parameters, inputs),
        {f"w{layer}": torch.as_tensor(starts[:, layer]) for layer in range(depth)},
        torch.eye(starts.shape[-1], dtype=torch.float64),
        torch.as_tensor(targets),
        _square if first.parameters["loss"] == "square" else _log_cosh,
        Optimization(
            str(first.parameters["optimizer"]),  # type: ignore[arg-type]
            rate,
            0.0 if decay == "none" else float(decay),
        ),
        steps=round(first.number("time") / rate),
        per_member=("targets",),
    )
    ends = np.stack([result.parameters[f"w{layer}"].numpy() for layer in range(depth)], axis=1)
    found = []
    for start, end, loss in zip(starts, ends, result.losses.tolist(), strict=True):
        moved = (imbalances(end) - imbalances(start)).reshape(depth - 1, -1)
        found.append({"drift": float(np.linalg.norm(moved, axis=1).max()), "end": float(loss)})
    return found


def judge(measured: xr.Dataset, predicted: xr.Dataset) -> Judgement:
    """Judge the measured drift over the predicted one."""
    ratio = measured["drift"] / predicted["drift"]
    return judged_within(ratio, 0.9, 1.1, "measured over predicted drift")


def draw(figure: Figure, measured: xr.Dataset, predicted: xr.Dataset) -> None:
    """Draw the drift against the step size."""
    curves.against(
        figure,
        measured["drift"],
        predicted["drift"],
        along="learning_rate",
        lines="depth",
        labels=("η, the step size", "change of the conserved matrices"),
        logarithmic=(True, True),
    )
