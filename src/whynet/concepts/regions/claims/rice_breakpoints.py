"""How many breakpoints a network has along a segment at its start, from a formula of Rice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from numpy.typing import NDArray

from whynet.concepts.bands import family_bands, judge_bands
from whynet.concepts.regions import claim_figures
from whynet.concepts.regions.random_networks import (
    HE,
    relu_network,
    switches_along,
    widths_of,
)
from whynet.concepts.regions.theory.breakpoints_at_initialization import (
    expected_breakpoints,
    expected_breakpoints_bound,
)
from whynet.core.claim import Cell, Claim, Control, Judgement, Parameter, Values

CLAIM = Claim(
    title="Breakpoints along a segment at the start are as many as Rice's formula says",
    statement="""
A rectified network at its start: weights of variance 2/fan, biases of variance σ_b², layers of
widths n_l. Along a segment x(t) in n₀ dimensions every unit of layer l is, as the widths grow, a
Gaussian process of variance K_l = 2‖x‖²/n₀ + l σ_b², with C = 2 x·x'/n₀ and D = 2‖x'‖²/n₀ in every
layer. By Rice's formula the expected number of switches of all units is

    Σ_l n_l ∫ √(K_l D − C²) / (π K_l) dt,

an arctangent. The first layer is exact at every width. Over a whole line each unit switches once in
the mean, at any depth: at its start a deep network has no more pieces than a shallow one of as
many units, and none of the exponentially many that it could have.
""",
    kind="theorem",
    cites=("rice1944", "hanin2019"),
    answers=("capacity", "seven-depth", "breiman-parameters"),
    assumptions={
        "biases": "the biases have the deviation the formula is told",
        "widths": "the layers have as many units as the formula is told",
        "wide": "there are many units in every hidden layer",
        "start": "nothing has been trained yet",
    },
    parameters=(
        Parameter("depth", "int", "hidden layers", 1, 20),
        Parameter("width", "int", "n_l, units of a hidden layer", 1, 4096),
        Parameter("bias_scale", "float", "σ_b", 0.01, 100.0),
        Parameter("inputs", "int", "n₀", 1, 10_000),
        Parameter("spread", "float", "deviation of the entries of the segments' ends", 0.01, 1e5),
        Parameter("biases", "choice", "deviation of the biases", choices=("stated", "doubled")),
        Parameter("units", "choice", "units of the layers", choices=("stated", "half")),
    ),
    presets={
        "smoke": {"depth": (2,), "width": (48,), "bias_scale": (1.0,), "inputs": (4,),
                  "spread": (2.0,), "seeds": (64,)},
        "small": {"depth": (1, 2, 3, 4), "width": (64,), "bias_scale": (1.0,), "inputs": (4,),
                  "spread": (2.0,), "seeds": (100,)},
        "full": {"depth": (1, 2, 3, 4, 6, 8), "width": (64, 128, 256), "bias_scale": (0.3, 1.0),
                 "inputs": (2, 16), "spread": (1.0, 100.0), "seeds": (100,)},
    },
    controls=(
        Control("doubled-biases", "biases", "biases", "doubled",
                "Larger biases keep units on one side, and there are fewer breakpoints."),
        Control("half-the-units", "widths", "units", "half",
                "With half the units in every layer there are about half the breakpoints."),
    ),
    shape=("depth", "width", "inputs"),
    group=64,
    cost="about 15 s",
    version=2,
    tolerance="At the largest width, for each depth, σ_b, n₀ and spread: switches counted exactly "
    "along four segments of each network, over their expected number, are 0.95 to 1.05 in the mean "
    "over networks.",
)  # fmt: skip

LOW, HIGH = 0.95, 1.05
SEGMENTS: Final = 4
"""In each network."""

UNSHARED = ("biases", "units")
"""Parameters that weights and segments do not depend on."""

FAMILIES = ("depth", "bias_scale", "inputs", "spread")
"""Axes whose values are judged one by one."""


def ends_of(cell: Cell) -> tuple[NDArray[Any], NDArray[Any]]:
    """Draw both ends of a cell's segments, `[segments, inputs]` each."""
    generator = np.random.default_rng(cell.seed_for("segments", shared=UNSHARED))
    shape = (2, SEGMENTS, int(cell.number("inputs")))
    starts, ends = cell.number("spread") * generator.standard_normal(shape)
    return starts, ends


def predict(cells: Sequence[Cell]) -> Sequence[Values]:
    """Return the expected switches over all segments of a cell, and Hanin and Rolnick's bound."""
    found: list[Values] = []
    for cell in cells:
        widths, bias_scale = widths_of(cell), cell.number("bias_scale")
        both = [
            sum(
                formula(start, end, widths, weight_scale=HE, bias_scale=bias_scale)
                for start, end in zip(*ends_of(cell), strict=True)
            )
            for formula in (expected_breakpoints, expected_breakpoints_bound)
        ]
        found.append({"switches": float(both[0]), "bound": float(both[1])})
    return found


def experiment(cells: Sequence[Cell]) -> Sequence[Values]:
    """Draw a network for each cell, and count its switches along the segments."""
    found: list[Values] = []
    for cell in cells:
        generator = np.random.default_rng(cell.seed_for("network", shared=UNSHARED))
        bias_scale = cell.number("bias_scale") * (1 + (cell.parameters["biases"] == "doubled"))
        widths = widths_of(cell)
        if cell.parameters["units"] == "half":
            widths = [max(1, width // 2) for width in widths]
        network = relu_network(generator, int(cell.number("inputs")), widths, bias_scale)
        found.append({"switches": float(switches_along(network, *ends_of(cell)).sum())})
    return found


def judge(measured: xr.Dataset, predicted: xr.Dataset) -> Judgement:
    """Judge the counted over the expected number at the largest width, family by family."""
    ratio = measured["switches"] / predicted["switches"]
    bands = family_bands(ratio, FAMILIES, "counted over expected switches", LOW, HIGH)
    judged = judge_bands(bands)
    if "bound" not in predicted:
        return judged
    times = (predicted["bound"] / predicted["switches"]).values
    beside = (
        f"The bound of Hanin and Rolnick on the expected number is {np.nanmin(times):.1f} to "
        f"{np.nanmax(times):.1f} times as large."
    )
    return replace(judged, sentence=f"{judged.sentence} {beside}")


def draw(figure: Figure, measured: xr.Dataset, predicted: xr.Dataset) -> None:
    """Draw counted and expected switches over the depth, for each width."""
    counted, expected = (table["switches"] / SEGMENTS for table in (measured, predicted))
    claim_figures.over_depths(figure, counted, expected, "switches along a segment")
