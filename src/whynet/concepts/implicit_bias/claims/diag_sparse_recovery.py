"""Deep diagonal networks recover sparse signals from as few equations as basis pursuit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from whynet.concepts.implicit_bias import curves
from whynet.concepts.implicit_bias.bands import not_reached
from whynet.concepts.implicit_bias.diagonal_networks import flowed, sparse_regressions
from whynet.concepts.implicit_bias.theory.statistical_dimension import l1_statistical_dimension
from whynet.concepts.threshold_shares import judge_shares
from whynet.core.claim import Cell, Claim, Control, Judgement, Parameter, Values

CLAIM = Claim(
    title="Deep diagonal networks recover sparse signals from as few equations as basis pursuit",
    statement="""
A signal with s entries of ±1 among p, seen through m Gaussian equations without noise. The network
β = u^L − v^L, L ≥ 3, trained by gradient flow from a small start u = v = α, recovers it for most
draws as soon as m lies above, and fails for most draws where m lies below,

    δ(s, p) = min over τ ≥ 0 of  s(1 + τ²) + 2(p − s) [(1 + τ²) Φ(−τ) − τ φ(τ)],

the statistical dimension at which basis pursuit (least ℓ1 norm) changes from one to the other.
That the network shares this threshold is reported, not proved, at a positive α.
""",
    kind="phenomenon",
    cites=("amelunxen2014", "woodworth2020", "chou2023", "vaskevicius2019"),
    answers=(
        "breiman-overfit",
        "generalization",
        "capacity",
        "seven-generalization",
        "seven-dimension",
    ),
    assumptions={
        "small-start": "α is small against the signal, and all weights start there",
        "deep": "there are at least two layers, so that large entries move faster",
        "gaussian": "the entries of the equations are independent and Gaussian",
    },
    parameters=(
        Parameter("rows", "int", "m, the number of equations", 1, 10_000),
        Parameter("features", "int", "p", 2, 100_000),
        Parameter("sparsity", "int", "s", 1, 10_000),
        Parameter("depth", "int", "L, the number of layers", 2, 6),
        Parameter("alpha", "float", "α, where all weights start", 1e-3, 1e3),
    ),
    presets={
        "smoke": {"rows": (5, 19), "features": (40,), "sparsity": (3,), "depth": (3,),
                  "alpha": (0.01,), "seeds": (20,)},
        "small": {"rows": (12, 16, 20, 25, 29), "features": (100,), "sparsity": (5,),
                  "depth": (3,), "alpha": (0.01,), "seeds": (60,)},
        "full": {"rows": (10, 16, 20, 25, 28, 33, 38, 46, 56), "features": (100,),
                 "sparsity": (3, 5, 10, 20),
                 "depth": (3, 4), "alpha": (0.01,), "seeds": (200,)},
    },
    controls=(
        Control("large-start", "small-start", "alpha", 1.0,
                "From a start as large as the signal the flow ends near the interpolator of "
                "least ℓ2 norm, which is not sparse."),
    ),
    shape=("rows", "features", "depth"),
    group=60,
    cost="48 s on 2 cores shared by ten processes",
    tolerance="Supported where the share of recovered signals (relative error below 0.01) lies "
    "above one half at every number of equations at or above δ + 4, and below one half at every "
    "one at or below δ − 4, by 95 % intervals of Clopper and Pearson; refuted where one lies on "
    "the wrong side. Numbers in between decide nothing.",
)  # fmt: skip

CHANGED = ("depth", "alpha")
"""Parameters the data do not depend on."""

RECOVERED = 0.01
RESIDUAL = 1e-4
MARGIN = 4.0
"""Equations from the threshold within which nothing is decided."""


def predict(cells: Sequence[Cell]) -> Sequence[Values]:
    """Return the threshold, and which side of it a cell lies on (1 recovers, 0 does not)."""
    found = []
    for cell in cells:
        sparsity, features = int(cell.number("sparsity")), int(cell.number("features"))
        threshold = l1_statistical_dimension(sparsity, features)
        found.append({"threshold": threshold, "recovered": float(cell.number("rows") > threshold)})
    return found


def experiment(cells: Sequence[Cell]) -> Sequence[Values]:
    """Train, and return whether the signal was found."""
    problems = sparse_regressions(cells, shared=CHANGED)
    alpha = np.array([cell.number("alpha") for cell in cells])[:, None]
    ones = np.ones_like(problems.signal)
    depth = int(cells[0].number("depth"))
    found = flowed(
        problems.inputs,
        problems.targets,
        alpha * ones,
        ones,
        depth,
        residual=RESIDUAL,
        tolerance=1e-3,
    )
    errors = np.linalg.norm(found.weights - problems.signal, axis=1)
    errors /= np.linalg.norm(problems.signal, axis=1)
    return [
        {
            "error": float(error),
            "recovered": float(error < RECOVERED),
            "residual": float(residual),
        }
        for error, residual in zip(errors, found.residuals, strict=True)
    ]


def judge(measured: xr.Dataset, predicted: xr.Dataset) -> Judgement:
    """Judge the shares of recovered signals on both sides of the threshold."""
    missing = not_reached(measured["residual"] <= RESIDUAL, "come to a relative residual of 1e-4")
    if missing:
        return missing
    return judge_shares(
        measured["recovered"],
        predicted["threshold"],
        "rows",
        lambda rows, threshold: (
            int(np.sign(rows - threshold)) if abs(rows - threshold) >= MARGIN else 0
        ),
    )


def draw(figure: Figure, measured: xr.Dataset, predicted: xr.Dataset) -> None:
    """Draw the relative error against the number of equations, and the predicted threshold."""
    curves.against(
        figure,
        measured["error"],
        measured["error"],
        along="rows",
        lines="sparsity",
        labels=("m, the number of equations", "relative error of the signal"),
        logarithmic=(False, True),
    )
    for axes in figure.axes:
        for threshold in np.unique(predicted["threshold"].values):
            axes.axvline(float(threshold), color="k", lw=0.8, ls=":")
        if axes.get_legend() is not None:
            axes.legend(title="dotted: predicted threshold", frameon=False)
