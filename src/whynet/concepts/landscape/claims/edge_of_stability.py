"""Descent with a large step raises the sharpness up to the limit of stability, and stays there."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from whynet.concepts.bands import Band, judge_bands
from whynet.concepts.landscape import claim_figures
from whynet.concepts.landscape.sharpness_runs import LATE, watched
from whynet.core.claim import Cell, Claim, Control, Judgement, Parameter, Values
from whynet.training.stability import gradient_limit

CLAIM = Claim(
    title="Gradient descent trains at the edge of stability",
    statement="""
Along an eigenvector of the Hessian with eigenvalue λ, gradient descent with step size η and
momentum μ on a quadratic grows once

    λ > 2 (1 + μ)/η.

On a network the largest eigenvalue λ (the sharpness) of the loss over all rows rises in the course
of training with all rows until it is there. It then neither runs away nor falls back, but stays
around the limit, whichever the step size and the momentum, while the loss goes on falling.
""",
    kind="phenomenon",
    cites=("cohen2021",),
    answers=("optimization", "seven-optimization"),
    assumptions={
        "all-rows": "every step is on all rows",
        "features": "all layers are trained, so that the sharpness can rise",
        "long": "training goes on until descent with tiny steps would have passed the limit",
    },
    parameters=(
        Parameter("rows", "int", "training digits of a network", 20, 1437),
        Parameter("width", "int", "units of each of two hidden layers", 1, 10_000),
        Parameter("rate", "float", "η, step size", 1e-6, 100.0),
        Parameter("momentum", "float", "μ, heavy ball", 0.0, 0.99),
        Parameter("steps", "int", "training steps", 20, 10_000_000),
        Parameter("batch", "choice", "rows of a step", choices=("all", "few")),
        Parameter("trained", "choice", "which layers", choices=("all", "last-layer")),
    ),
    presets={
        "smoke": {"rows": (60,), "width": (12,), "rate": (0.5,), "momentum": (0.0,),
                  "steps": (500,), "seeds": (5,)},
        "small": {"rows": (60,), "width": (16,), "rate": (0.35, 0.5), "momentum": (0.0, 0.3),
                  "steps": (1500,), "seeds": (8,)},
        "full": {"rows": (500,), "width": (64,), "rate": (0.1, 0.2, 0.4),
                 "momentum": (0.0, 0.5, 0.9), "steps": (20_000,), "seeds": (20,)},
    },
    controls=(
        Control("few-rows", "all-rows", "batch", "few",
                "Steps on 5 rows at a time end where the sharpness is well below the limit."),
        Control("last-layer", "features", "trained", "last-layer",
                "With fixed features the loss is a quadratic, whose sharpness is one number and "
                "knows no step size."),
        Control("small-step", "long", "rate", 0.02,
                "The limit of a small step is far above what the sharpness reaches in this time."),
    ),
    shape=("rows", "width", "steps", "batch", "trained"),
    group=40,
    cost="about 30 s",
    tolerance="For each step size and momentum, over the second half of training and in the mean "
    "over seeds: sharpness over the limit 0.85 to 1.15, sharpness at the start over the limit at "
    "most 0.8, mean loss in the second half over that in the first at most 0.8.",
)  # fmt: skip

AT_THE_EDGE, BELOW, FALLEN = (0.85, 1.15), 0.8, 0.8


def predict(cells: Sequence[Cell]) -> Sequence[Values]:
    """Return the largest eigenvalue at which steps on a quadratic do not grow."""
    return [
        {"limit": gradient_limit(cell.number("rate"), cell.number("momentum"))} for cell in cells
    ]


def experiment(cells: Sequence[Cell]) -> Sequence[Values]:
    """Train, and return the sharpness over training and the loss."""
    seen = watched(cells)
    return [
        {
            "sharpness": sharpness,
            "step": seen.steps.astype(np.float64),
            "late": float(sharpness[-LATE:].mean()),
            "start": float(sharpness[0]),
            "fallen": float(losses[-LATE:].mean() / losses[1:-LATE].mean()),
        }
        for sharpness, losses in zip(seen.sharpness, seen.losses, strict=True)
    ]


def _places(measured: xr.Dataset) -> list[tuple[str, dict[str, Any]]]:
    pairs = product(measured["rate"].values, measured["momentum"].values)
    return [(f"η = {rate:g}, μ = {m:g}", {"rate": rate, "momentum": m}) for rate, m in pairs]


def judge(measured: xr.Dataset, predicted: xr.Dataset) -> Judgement:
    """Judge the sharpness over its limit at the start and late, and how the loss falls."""
    bands = []
    for name, place in _places(measured):
        own = measured.sel(place)
        limit = predicted["limit"].sel(place)
        bands += [
            Band(f"late sharpness over the limit ({name})", (own["late"] / limit).values.ravel(),
                 *AT_THE_EDGE),
            Band(f"sharpness at the start over the limit ({name})",
                 (own["start"] / limit).values.ravel(), high=BELOW),
            Band(f"loss in the second half over that in the first ({name})",
                 own["fallen"].values.ravel(), high=FALLEN),
        ]  # fmt: skip
    return judge_bands(bands)


def draw(figure: Figure, measured: xr.Dataset, predicted: xr.Dataset) -> None:
    """Draw the sharpness over its limit in the course of training, one line a network."""
    rest = dict.fromkeys(("rows", "width", "steps", "batch", "trained"), 0)
    lines = {}
    for name, place in _places(measured):
        own = measured.isel(rest).sel(place)
        limit = predicted["limit"].isel(rest).sel(place)
        ratio = (own["sharpness"] / limit).transpose("seed", "sharpness_0")
        lines[name] = own["step"].isel(seed=0).values, ratio.values
    claim_figures.lines_by_seed(
        figure, lines, expected=1.0, labels=("step", "sharpness over the limit")
    )
