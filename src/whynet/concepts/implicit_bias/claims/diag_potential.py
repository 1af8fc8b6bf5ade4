"""Gradient flow of a diagonal linear network minimizes an explicit potential."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from numpy.typing import NDArray

from whynet.concepts.implicit_bias import curves
from whynet.concepts.implicit_bias.bands import judged_within, not_reached
from whynet.concepts.implicit_bias.diagonal_networks import flowed, sparse_regressions
from whynet.concepts.implicit_bias.theory.diagonal_potential import flow_limit
from whynet.core.claim import Cell, Claim, Control, Judgement, Parameter, Values

CLAIM = Claim(
    title="Gradient flow of a diagonal linear network minimizes an explicit potential",
    statement="""
The network β = u^L − v^L, entry by entry, from u = v = α, on noiseless linear regression with
more features than rows. Gradient flow on ½‖Xβ − y‖² converges to

    β* = argmin { Q(β) : Xβ = y },   Q(β) = Σᵢ α^L q(βᵢ / α^L),   q' = h⁻¹,   q(0) = 0,

    h(z) = 2 sinh z                                      for L = 2,
    h(z) = (1 − z)^(−L/(L−2)) − (1 + z)^(−L/(L−2))       for L ≥ 3.

For L = 2 this is q(z) = 2 − √(4 + z²) + z arcsinh(z/2): like z²/4 for a large start, which picks
the interpolator of least Euclidean norm, and like |z| log |z| for a small one, which picks a
sparse interpolator.
""",
    kind="theorem",
    cites=("woodworth2020", "ghai2020", "chou2023"),
    answers=("breiman-overfit", "generalization", "seven-generalization"),
    assumptions={
        "overparametrized": "there are at least as many features as rows, and X has full row rank",
        "even-start": "all entries of u and v start at the same α > 0",
        "gradient-flow": "all weights follow the gradient at the same speed",
    },
    parameters=(
        Parameter("rows", "int", "training rows", 1, 10_000),
        Parameter("features", "int", "features", 2, 100_000),
        Parameter("sparsity", "int", "entries of the signal that are not zero", 1, 10_000),
        Parameter("depth", "int", "L, the number of layers", 2, 8),
        Parameter("alpha", "float", "α, where all weights start", 1e-3, 1e3),
        Parameter("start", "choice", "how the start is spread over features",
                  choices=("even", "uneven")),
        Parameter("speed", "choice", "how fast weights move along the gradient",
                  choices=("even", "uneven")),
    ),
    presets={
        "smoke": {"rows": (10,), "features": (20,), "sparsity": (2,), "depth": (2, 3),
                  "alpha": (1.0, 0.1), "seeds": (10,)},
        "small": {"rows": (20,), "features": (40,), "sparsity": (3,), "depth": (2, 3, 4),
                  "alpha": (1.0, 0.3, 0.1, 0.03), "seeds": (20,)},
        "full": {"rows": (100,), "features": (1000,), "sparsity": (10,), "depth": (2, 3, 4),
                 "alpha": (3.0, 1.0, 0.3, 0.1, 0.03, 0.01), "seeds": (20,)},
    },
    controls=(
        Control("uneven-start", "even-start", "start", "uneven",
                "Features start between α/3 and 3α, so that another, weighted potential is least."),
        Control("uneven-speed", "gradient-flow", "speed", "uneven",
                "Features move at speeds between 1/9 and 9, as under a preconditioner, and the "
                "path leaves the row space that the potential rests on."),
    ),
    shape=("rows", "features", "depth"),
    group=160,
    cost="30 s on 2 cores shared by ten processes",
    tolerance="Supported where at every point of the grid the 95 % interval of the median over "
    "seeds of ‖β − β*‖/‖β*‖ lies below 0.001; refuted where at one point it lies above, at a "
    "level that allows for the number of points. The flow is followed to a relative residual of "
    "1e-5 with an error of 1e-4 a step.",
)  # fmt: skip

NEAR = 1e-3
"""Relative distance from the predicted minimizer that counts as reached."""

RESIDUAL = 1e-5
CHANGED = ("depth", "alpha", "start", "speed")
"""Parameters the data do not depend on."""


def _spread(cells: Sequence[Cell], parameter: str, factor: float, features: int) -> NDArray[Any]:
    """Return ones, or where a cell asks for it factors from `1/factor` to `factor`."""
    rows = []
    for cell in cells:
        generator = np.random.default_rng(cell.seed_for(parameter, shared=CHANGED))
        exponents = generator.uniform(-1, 1, features)
        even = cell.parameters[parameter] == "even"
        rows.append(np.ones(features) if even else factor**exponents)
    return np.stack(rows)


def _limits(cells: Sequence[Cell]) -> NDArray[Any]:
    problems = sparse_regressions(cells, shared=CHANGED)
    alpha = np.array([cell.number("alpha") for cell in cells])
    return flow_limit(problems.inputs, problems.targets, alpha, int(cells[0].number("depth")))


def predict(cells: Sequence[Cell]) -> Sequence[Values]:
    """Return the ℓ1 norm of the predicted minimizer; its distance from itself is zero."""
    return [{"distance": 0.0, "l1": float(np.abs(limit).sum())} for limit in _limits(cells)]


def experiment(cells: Sequence[Cell]) -> Sequence[Values]:
    """Train, and return the relative distance from the predicted minimizer."""
    problems, limits = sparse_regressions(cells, shared=CHANGED), _limits(cells)
    features = limits.shape[1]
    alpha = np.array([cell.number("alpha") for cell in cells])[:, None]
    found = flowed(
        problems.inputs,
        problems.targets,
        alpha * _spread(cells, "start", 3.0, features),
        _spread(cells, "speed", 9.0, features),
        int(cells[0].number("depth")),
        residual=RESIDUAL,
    )
    return [
        {
            "distance": float(np.linalg.norm(weights - limit) / np.linalg.norm(limit)),
            "l1": float(np.abs(weights).sum()),
            "residual": float(residual),
            "time": float(time),
        }
        for weights, limit, residual, time in zip(
            found.weights, limits, found.residuals, found.times, strict=True
        )
    ]


def judge(measured: xr.Dataset, predicted: xr.Dataset) -> Judgement:
    """Judge by the relative distance at every point of the grid."""
    missing = not_reached(measured["residual"] <= RESIDUAL, "come to a relative residual of 1e-5")
    distance = measured["distance"] - predicted["distance"]
    return missing or judged_within(distance, 0.0, NEAR, "the relative distance from β*")


def draw(figure: Figure, measured: xr.Dataset, predicted: xr.Dataset) -> None:
    """Draw the ℓ1 norm of what was found over the predicted one, against the start's size."""
    curves.against(
        figure,
        measured["l1"],
        predicted["l1"],
        along="alpha",
        lines="depth",
        labels=("α, where all weights start", "ℓ1 norm of the interpolator"),
        logarithmic=(True, False),
    )
