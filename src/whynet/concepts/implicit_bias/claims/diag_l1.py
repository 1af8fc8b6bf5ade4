"""From ever smaller starts, diagonal linear networks approach the solution of least ℓ1 norm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from numpy.typing import NDArray

from whynet.concepts.implicit_bias import curves
from whynet.concepts.implicit_bias.bands import judged_within
from whynet.concepts.implicit_bias.diagonal_networks import sparse_regressions
from whynet.concepts.implicit_bias.theory.basis_pursuit import basis_pursuit, rate
from whynet.concepts.implicit_bias.theory.diagonal_potential import flow_limit
from whynet.core.claim import Cell, Claim, Control, Judgement, Parameter, Values

CLAIM = Claim(
    title="Small starts lead diagonal linear networks to least ℓ1 norm, at two rates",
    statement="""
Let β_α be where gradient flow of the network β = u^L − v^L from u = v = α ends (claim
diag-potential), and β̂ the solution of Xβ = y of least ℓ1 norm, unique. As α shrinks,

    ‖β_α − β̂‖ ∝ α^L            for L ≥ 3,
    ‖β_α − β̂‖ ∝ α^(2(1 − c))   for L = 2,

with c the largest |Xᵢᵀν| off the support of β̂, for the ν with Xᵢᵀν = sign β̂ᵢ on the support
that makes it least. The rates were derived for this project. No network is trained here: β_α is
computed by minimizing the potential, which makes starts visible that training takes too long for.
""",
    kind="theorem",
    cites=("woodworth2020", "chou2023", "vaskevicius2019"),
    answers=("breiman-overfit", "generalization", "seven-generalization", "seven-depth"),
    assumptions={
        "unique": "the solution of least ℓ1 norm is unique, with c < 1",
        "even-start": "all entries of u and v start at the same α",
        "small-start": "α is small enough for the limit",
    },
    parameters=(
        Parameter("rows", "int", "training rows", 2, 1000),
        Parameter("features", "int", "features", 3, 10_000),
        Parameter("sparsity", "int", "entries of the signal that are not zero", 1, 1000),
        Parameter("depth", "int", "L, the number of layers", 2, 4),
        Parameter("alpha", "float", "α, the largest of four starts, the last a quarter of it",
                  0.01, 1.0),
        Parameter("data", "choice", "whether a feature of the support has a copy",
                  choices=("gaussian", "repeated-feature")),
        Parameter("start", "choice", "how the start is spread over features",
                  choices=("even", "uneven")),
    ),
    presets={
        "smoke": {"rows": (20,), "features": (40,), "sparsity": (3,), "depth": (2, 3),
                  "alpha": (0.02,), "seeds": (10,)},
        "small": {"rows": (20, 30), "features": (50,), "sparsity": (3,), "depth": (2, 3, 4),
                  "alpha": (0.02,), "seeds": (20,)},
        "full": {"rows": (100,), "features": (300,), "sparsity": (5, 10), "depth": (2, 3, 4),
                 "alpha": (0.02, 0.01), "seeds": (20,)},
    },
    controls=(
        Control("repeated-feature", "unique", "data", "repeated-feature",
                "A feature of the support stands there twice; the flow shares its weight between "
                "both copies and stays away from the sparsest solution."),
        Control("uneven-start", "even-start", "start", "uneven",
                "Half of the features start at √α, so that another, weighted norm becomes least."),
        Control("large-start", "small-start", "alpha", 1.0,
                "From starts of order one the flow ends near the solution of least ℓ2 norm."),
    ),
    shape=("rows", "features", "depth"),
    group=80,
    cost="65 s on 2 cores shared by ten processes",
    tolerance="Supported where at every point of the grid the 95 % interval of the median over "
    "seeds of measured less predicted exponent lies within ±0.15; refuted where it lies outside at "
    "one. The exponent is the slope of log ‖β_α − β̂‖ over four α from α to α/4.",
)  # fmt: skip

CHANGED = ("depth", "alpha", "data", "start")
"""Parameters that the data do not depend on, up to the copy of a feature."""

BAND = 0.15
STARTS = np.geomspace(1.0, 0.25, 4)


def _problems(cells: Sequence[Cell]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return inputs and targets; where a cell says so, the last idle feature copies a used one."""
    problems = sparse_regressions(cells, shared=CHANGED)
    inputs = problems.inputs.copy()
    for place, cell in enumerate(cells):
        if cell.parameters["data"] == "repeated-feature":
            used = np.flatnonzero(problems.signal[place])
            idle = np.flatnonzero(problems.signal[place] == 0)
            inputs[place, :, idle[-1]] = inputs[place, :, used[0]]
    return inputs, problems.targets


def predict(cells: Sequence[Cell]) -> Sequence[Values]:
    """Return the exponent of the approach, from basis pursuit and its certificate alone."""
    found = []
    for cell, x, y in zip(cells, *_problems(cells), strict=True):
        solution = basis_pursuit(x, y)
        depth = int(cell.number("depth"))
        exponent = rate(depth, solution.off_support)
        found.append({"exponent": exponent, "off_support": solution.off_support})
    return found


def experiment(cells: Sequence[Cell]) -> Sequence[Values]:
    """Return distances from the solution of least ℓ1 norm, and the slope of their logarithms."""
    inputs, targets = _problems(cells)
    aims = np.stack([basis_pursuit(*pair).weights for pair in zip(inputs, targets, strict=True)])
    alpha = np.array([cell.number("alpha") for cell in cells])
    powers = np.stack([_powers(cell, aims.shape[1]) for cell in cells])
    depth = int(cells[0].number("depth"))
    distances = np.stack(
        [
            np.linalg.norm(
                flow_limit(inputs, targets, (part * alpha)[:, None] ** powers, depth) - aims, axis=1
            )
            for part in STARTS
        ],
        axis=1,
    )
    slopes = np.polyfit(np.log(STARTS), np.log(distances).T, 1)[0]
    return [
        {"exponent": float(slope), "distances": row}
        for slope, row in zip(slopes, distances, strict=True)
    ]


def _powers(cell: Cell, features: int) -> NDArray[Any]:
    """Return which power of `α` each feature starts at."""
    if cell.parameters["start"] == "even":
        return np.ones(features)
    generator = np.random.default_rng(cell.seed_for("start", shared=CHANGED))
    return np.where(generator.permutation(features) < features // 2, 0.5, 1.0)


def judge(measured: xr.Dataset, predicted: xr.Dataset) -> Judgement:
    """Judge the exponents."""
    gap = measured["exponent"] - predicted["exponent"]
    return judged_within(gap, -BAND, BAND, "measured less predicted exponent")


def draw(figure: Figure, measured: xr.Dataset, predicted: xr.Dataset) -> None:
    """Draw the exponent against the number of layers."""
    curves.against(
        figure,
        measured["exponent"],
        predicted["exponent"],
        along="depth",
        lines="rows",
        labels=("L, the number of layers", "exponent of the distance in α"),
    )
