"""Gradient descent on least squares finds the interpolator nearest to its start."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from whynet.concepts.implicit_bias import figures
from whynet.concepts.implicit_bias.linear_regression import regressions, trained
from whynet.concepts.implicit_bias.theory.minimum_norm import nearest_interpolator
from whynet.core.claim import Cell, Claim, Control, Judgement, Parameter, Values
from whynet.core.estimate import Estimate

CLAIM = Claim(
    title="Gradient descent on least squares finds the interpolator nearest to its start",
    statement="""
Linear regression with more features than rows, X of full row rank, loss L(w) = ½‖Xw − y‖².
Gradient descent with a step size below 2/λmax(XᵀX), with or without momentum, converges to

    w* = w₀ + X⁺(y − X w₀),

the solution of Xw = y that lies nearest to the start w₀ in the Euclidean norm: every gradient
lies in the row space of X, so that what w₀ has outside of it never moves.
""",
    kind="theorem",
    cites=("zhang2017", "gunasekar2018"),
    answers=("breiman-overfit", "generalization", "seven-generalization"),
    assumptions={
        "overparametrized": "there are at least as many features as rows, and X has full row rank",
        "span": "every step is a combination of gradients, that lies in the row space of X",
        "unregularized": "nothing but the loss pulls on the weights",
    },
    parameters=(
        Parameter("rows", "int", "training rows", 1, 100_000),
        Parameter("features", "int", "features", 1, 1_000_000),
        Parameter("start", "float", "size of the start's entries", 0.0, 1e6),
        Parameter("optimizer", "choice", "how it is trained",
                  choices=("gradient-descent", "momentum", "adam")),
        Parameter("weight_decay", "choice", "coefficient of ½‖w‖²", choices=("none", "0.01")),
        Parameter("steps", "int", "training steps", 1, 10_000_000),
    ),
    presets={
        "smoke": {"rows": (10,), "features": (50,), "start": (0.5,), "steps": (2000,),
                  "optimizer": ("gradient-descent",), "seeds": (3,)},
        "small": {"rows": (40,), "features": (200,), "start": (0.0, 0.5), "steps": (5000,),
                  "optimizer": ("gradient-descent", "momentum"), "seeds": (20,)},
        "full": {"rows": (1000,), "features": (10_000,), "start": (0.0, 0.5), "steps": (20_000,),
                 "optimizer": ("gradient-descent", "momentum"), "seeds": (20,)},
    },
    controls=(
        Control("adam", "span", "optimizer", "adam",
                "Adam divides each entry of a step by its own size and so leaves the row space."),
        Control("weight-decay", "unregularized", "weight_decay", "0.01",
                "Weight decay pulls every entry to zero, those outside the row space included."),
    ),
    shape=("rows", "features", "optimizer", "steps"),
    group=64,
    cost="about 5 s",
    tolerance="Supported where every run ends within 1e-8 of w*, relative to its norm; refuted "
    "where every run ends farther than 1e-3 from it; the bands are those of the catalogue.",
)  # fmt: skip

NEAR, FAR = 1e-8, 1e-3
"""Relative distance from the predicted solution that counts as reached, and as missed."""

CHANGED = ("optimizer", "weight_decay", "steps")
"""Parameters the data and the start do not depend on."""


def predict(cells: Sequence[Cell]) -> Sequence[Values]:
    """Return the nearest interpolator's norm, and its distance from the start."""
    problems = regressions(cells, shared=CHANGED)
    limits = nearest_interpolator(problems.inputs, problems.targets, problems.start)
    return [{"distance": 0.0, "norm": float(np.linalg.norm(limit))} for limit in limits]


def experiment(cells: Sequence[Cell]) -> Sequence[Values]:
    """Train, and return the relative distance from the nearest interpolator."""
    problems = regressions(cells, shared=CHANGED)
    limits = nearest_interpolator(problems.inputs, problems.targets, problems.start)
    found = np.empty_like(limits)
    decays = [cell.parameters["weight_decay"] for cell in cells]
    for decay in sorted(set(map(str, decays))):
        chosen = np.flatnonzero([str(own) == decay for own in decays])
        part = type(problems)(
            problems.inputs[chosen], problems.targets[chosen], problems.start[chosen]
        )
        first = cells[int(chosen[0])]
        found[chosen] = trained(
            part,
            str(first.parameters["optimizer"]),
            0.0 if decay == "none" else float(decay),
            int(first.number("steps")),
        )
    residuals = np.einsum("bnd,bd->bn", problems.inputs, found) - problems.targets
    return [
        {
            "distance": float(np.linalg.norm(weights - limit) / np.linalg.norm(limit)),
            "norm": float(np.linalg.norm(weights)),
            "loss": float(0.5 * residual @ residual),
        }
        for weights, limit, residual in zip(found, limits, residuals, strict=True)
    ]


def judge(measured: xr.Dataset, predicted: xr.Dataset) -> Judgement:
    """Judge by the largest and the least relative distance over all runs."""
    distances = measured["distance"].values - predicted["distance"].values
    largest, least = float(distances.max()), float(distances.min())
    numbers = {
        "largest distance": Estimate(largest, largest, largest, "exact", over="all runs"),
        "least distance": Estimate(least, least, least, "exact", over="all runs"),
    }
    runs = distances.size
    if largest <= NEAR:
        sentence = f"All {runs} runs end within {largest:.1e} of the predicted solution."
        return Judgement("supported", sentence, numbers)
    if least > FAR:
        sentence = f"All {runs} runs end at least {least:.1e} away from the predicted solution."
        return Judgement("refuted", sentence, numbers)
    sentence = (
        f"Runs end between {least:.1e} and {largest:.1e} away from the predicted solution; "
        "more steps would tell."
    )
    return Judgement("inconclusive", sentence, numbers)


def draw(figure: Figure, measured: xr.Dataset, predicted: xr.Dataset) -> None:
    """Draw the relative distances of all runs."""
    figures.distances(
        figure,
        measured["distance"].values.ravel(),
        near=NEAR,
        label="relative distance from the nearest interpolator",
    )
