"""Where a wide model computes what a narrow one does, it has no more directions than that one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from whynet.concepts.agreement import flat, judge_cases
from whynet.concepts.condensation.embedded_targets import (
    RECTIFIED,
    TANH,
    network_tangents,
    numerical_rank,
    padded_factors,
    product_tangents,
    split_network,
)
from whynet.concepts.condensation.theory.optimistic_sample_size import (
    optimistic_matrix,
    optimistic_neurons,
)
from whynet.core.claim import Cell, Claim, Control, Judgement, Parameter, Values
from whynet.core.errors import InputError

CLAIM = Claim(
    title="A wide model at a simple target has as few directions as the narrowest one",
    statement="""
The model rank at parameters θ is the dimension of the span of the derivatives of f(·; θ) by its
parameters. The least model rank among all θ that compute a target is its optimistic sample size:
with fewer equations no start, however near, is drawn to the target. Where the target is written
into a wide model with copies of its neurons, or with zeros around its factors, the model rank is

    r (d₁ + d₂ − r)   for products of two or more matrices at a target of rank r, d₁ × d₂,
    k (d + 1)         for two layers without bias, a smooth activation, d inputs, k neurons,

whatever the width: width is free, what the target needs is not.
""",
    kind="theorem",
    cites=("zhang2025", "zhang2022"),
    answers=("breiman-parameters", "breiman-overfit", "generalization", "seven-generalization",
             "capacity"),
    assumptions={
        "embedded": "the units that the target does not need are copies of the others, or zero",
        "generic": "the activation is smooth and has no symmetry of scale",
    },
    parameters=(
        Parameter("model", "choice", "what is wide",
                  choices=("two-factors", "three-factors", "network")),
        Parameter("inputs", "int", "d, the inputs; a matrix has d columns and d + 1 rows", 2, 12),
        Parameter("complexity", "int", "rank r of the target, or its neurons k", 1, 6),
        Parameter("width", "int", "inner width of the model", 2, 200),
        Parameter("units", "choice", "units that the target does not need",
                  choices=("copies", "idle")),
        Parameter("activation", "choice", "of the network", choices=("tanh", "rectified")),
    ),
    presets={
        "smoke": {"model": ("two-factors", "three-factors", "network"), "inputs": (4,),
                  "complexity": (1, 2), "width": (7,), "seeds": (4,)},
        "small": {"model": ("two-factors", "three-factors", "network"), "inputs": (4, 6),
                  "complexity": (1, 2, 3), "width": (8, 16, 40), "seeds": (10,)},
        "full": {"model": ("two-factors", "three-factors", "network"), "inputs": (4, 8, 12),
                 "complexity": (1, 2, 3, 4), "width": (12, 48, 200), "seeds": (40,)},
    },
    controls=(
        Control("idle-units", "embedded", "units", "idle",
                "The function is the same, but units that nothing reads have input weights of "
                "their own; reading them is one more direction each."),
        Control("rectified", "generic", "activation", "rectified",
                "A rectified unit is a sum of its own derivatives by its input weights, so that "
                "its output weight is no direction more. Networks have a smaller rank; products of "
                "matrices have no activation."),
    ),
    shape=("model", "inputs", "complexity", "width"),
    group=64,
    cost="about 10 s",
    tolerance="In every case the numerical rank of the derivatives (all entries of a product; ten "
    "times as many random inputs as the predicted rank for a network) is the predicted one; one "
    "exception refutes, and at least 17 cases without one support.",
)  # fmt: skip

CHANGED = ("units", "activation")
"""Parameters the target does not depend on."""

ROWS = 10
"""Random inputs of a network, for each direction that is predicted."""


def _sizes(cell: Cell) -> tuple[int, int, int]:
    inputs, complexity, width = (
        int(cell.number(name)) for name in ("inputs", "complexity", "width")
    )
    if complexity > min(width, inputs):
        most = min(width, inputs)
        raise InputError("complexity", str(complexity), f"at most {most}, the width and inputs")
    return inputs, complexity, width


def predict(cells: Sequence[Cell]) -> Sequence[Values]:
    """Return the optimistic sample size."""
    found: list[Values] = []
    for cell in cells:
        inputs, complexity, _ = _sizes(cell)
        if cell.parameters["model"] == "network":
            rank = optimistic_neurons(inputs, complexity)
        else:
            rank = optimistic_matrix(inputs + 1, inputs, complexity)
        found.append({"rank": float(rank)})
    return found


def experiment(cells: Sequence[Cell]) -> Sequence[Values]:
    """Write a random target into a wide model, and count the directions it has there."""
    found: list[Values] = []
    for cell in cells:
        generator = np.random.default_rng(cell.seed_for("target", shared=CHANGED))
        inputs, complexity, width = _sizes(cell)
        idle = cell.parameters["units"] == "idle"
        if cell.parameters["model"] == "network":
            weights, outer = split_network(generator, inputs, complexity, width, idle=idle)
            x = generator.standard_normal((ROWS * complexity * (inputs + 1), inputs))
            activation = TANH if cell.parameters["activation"] == "tanh" else RECTIFIED
            tangents = network_tangents(x, weights, outer, activation)
        else:
            depth = 2 if cell.parameters["model"] == "two-factors" else 3
            sizes = (inputs, *[width] * (depth - 1), inputs + 1)
            tangents = product_tangents(padded_factors(generator, sizes, complexity, idle=idle))
        rank, kept, dropped = numerical_rank(tangents)
        parameters = float(tangents.shape[1])
        found.append(
            {"rank": float(rank), "kept": kept, "dropped": dropped, "parameters": parameters}
        )
    return found


def judge(measured: xr.Dataset, predicted: xr.Dataset) -> Judgement:
    """Judge that the ranks are equal in every case."""
    kept, dropped = float(measured["kept"].min()), float(measured["dropped"].max())
    sentence = (
        f"The models have up to {int(measured['parameters'].max()):,} parameters; singular values "
        f"that count are at least {kept:.1e} of the largest, the others at most {dropped:.1e}."
    )
    equal = flat(measured["rank"]) == flat(predicted["rank"])
    return judge_cases({"exactly the predicted model rank": equal}, sentence)


def draw(figure: Figure, measured: xr.Dataset, predicted: xr.Dataset) -> None:
    """Draw ranks against predicted ranks, and the numbers of parameters above them."""
    axes = figure.subplots()
    for place, model in enumerate(measured["model"].values):
        known, found, most = (
            flat(table[name].sel(model=model))
            for table, name in (
                (predicted, "rank"), (measured, "rank"), (measured, "parameters")
            )
        )  # fmt: skip
        known = known * 1.02 ** (-1, 1, 0)[place]  # products side by side
        axes.plot(known, most, "_", color=f"C{place}", markersize=7)
        label = str(model).replace("-", " ")
        axes.plot(known, found, "o", color=f"C{place}", markersize=4, alpha=0.6, label=label)
    ends = [float(predicted["rank"].min()), float(predicted["rank"].max())]
    axes.plot(ends, ends, color="#5b6472", linewidth=1, zorder=0)
    axes.set(xlabel="predicted model rank", ylabel="measured; dashes: parameters")
    axes.set(xscale="log", yscale="log")
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(ScalarFormatter())
    axes.legend(frameon=False, loc="upper left")
