"""On the circle, a wide network learns each frequency at the rate of its kernel's eigenvalue."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from whynet.concepts.bands import Band, judge_bands
from whynet.concepts.harmonic import figures
from whynet.concepts.harmonic.circle_networks import (
    FREQUENCIES,
    RATE,
    decay_rates,
    residual_waves,
)
from whynet.concepts.harmonic.theory.circle import decay_per_step, eigenvalues_on_points
from whynet.core.claim import Cell, Claim, Control, Judgement, Parameter, Values

CLAIM = Claim(
    title="On the circle, low frequencies are learned first, at rates given in closed form",
    statement="""
A wide two-layer network f(x) = √(2/m) Σ a (w·x + b)₊ on evenly spread points of the unit circle,
loss ½ mean (f − y)², small outputs at first and small targets, so that its tangent kernel hardly
moves. Gradient descent with step η shrinks the wave of frequency k of the residual by the factor
1 − ηλₖ in each step, with

    λ₁ = 1/2,   λₖ = 2(k² + 3)/(π²(k² − 1)²) for even k,   0 for odd k ≥ 3

without biases; biases that start at 0 and are trained add 1/2 at k = 0, 2/π² at k = 1 and
2/(π²k²) at odd k ≥ 3. The time to learn a frequency thus grows as k². On n points λₖ stands for
the sum over all frequencies that look like k there, those that differ by multiples of n.
""",
    kind="theorem",
    cites=("basri2019", "jacot2018", "rahaman2019", "xu2020"),
    answers=("breiman-stop", "optimization", "generalization", "seven-features"),
    assumptions={
        "lazy": "targets are small, so that training hardly moves the kernel",
        "wide": "units cover all directions evenly, as infinitely many would",
        "even": "the data lie evenly on the circle",
    },
    parameters=(
        Parameter("bias", "choice", "biases of hidden units", choices=("none", "trained")),
        Parameter("rows", "int", "points on the circle", 24, 100_000),
        Parameter("width", "int", "hidden units, an even number", 4, 1_000_000),
        Parameter("amplitude", "float", "size of each wave of the target", 1e-6, 100.0),
        Parameter("steps", "int", "training steps", 2, 1_000_000),
        Parameter("start", "choice", "directions of the units",
                  choices=("stratified", "gaussian")),
        Parameter("density", "choice", "how the points are spread", choices=("even", "uneven")),
    ),
    presets={
        "smoke": {"bias": ("none",), "rows": (32,), "width": (128,), "amplitude": (0.01,),
                  "steps": (150,), "seeds": (10,)},
        "small": {"bias": ("none", "trained"), "rows": (64,), "width": (512,),
                  "amplitude": (0.05,), "steps": (400,), "seeds": (10,)},
        "full": {"bias": ("none", "trained"), "rows": (256,), "width": (2048, 8192),
                 "amplitude": (0.05,), "steps": (1000,), "seeds": (30,)},
    },
    controls=(
        Control("large-target", "lazy", "amplitude", 1.0,
                "Targets of size 1 move the kernel, and the rates with it."),
        Control("gaussian-start", "wide", "start", "gaussian",
                "Directions drawn at random cover the circle unevenly at this width; fast modes "
                "then leak into slow ones."),
        Control("uneven-data", "even", "density", "uneven",
                "With an uneven density the waves are no eigenfunctions."),
    ),
    shape=("bias", "rows", "width", "steps"),
    group=32,
    cost="about 30 s",
    tolerance="Of each run, the largest relative distance over frequencies of a wave's rate of "
    "decay from −ln(1 − ηλₖ) is at most 5 % in the mean over seeds; the rate is fitted while the "
    "wave is above 0.3 of its start.",
)  # fmt: skip

APART = 0.05


def predict(cells: Sequence[Cell]) -> Sequence[Values]:
    """Return each wave's rate of decay in a step, from the eigenvalues in closed form."""
    found = []
    for cell in cells:
        kind = str(cell.parameters["bias"])
        frequencies, rows = np.array(FREQUENCIES[kind]), int(cell.number("rows"))
        eigenvalues = eigenvalues_on_points(frequencies, rows, bias=kind == "trained")
        found.append({"rate": decay_per_step(eigenvalues, RATE)})
    return found


def experiment(cells: Sequence[Cell]) -> Sequence[Values]:
    """Train, and return each wave's rate of decay."""
    steps, sizes = residual_waves(cells)
    return [{"rate": rate} for rate in decay_rates(steps, sizes)]


def judge(measured: xr.Dataset, predicted: xr.Dataset) -> Judgement:
    """Judge the largest relative distance of a wave's rate from the predicted one."""
    apart: xr.DataArray = abs(measured["rate"] / predicted["rate"] - 1)
    rest = [n for n in apart.dims if n not in ("seed", "bias", "rate_0")]
    table = apart.stack(rest=rest).transpose("bias", "rest", "seed", "rate_0")
    bands = []
    for kind, over in zip(table["bias"].values.tolist(), table.values, strict=True):
        for number, values in enumerate(over):
            at = f", setting {number + 1}" if len(over) > 1 else ""
            label = f"largest distance of a rate from its prediction (biases {kind}{at})"
            bands.append(Band(label, values.max(1), high=APART, unit="fraction"))
    return judge_bands(bands)


def draw(figure: Figure, measured: xr.Dataset, predicted: xr.Dataset) -> None:
    """Draw rates over frequencies, and the closed form."""
    rest = [n for n in measured["rate"].dims if n not in ("seed", "bias", "rate_0")]
    one = measured["rate"].isel(dict.fromkeys(rest, 0)).transpose("bias", "seed", "rate_0")
    wanted = predicted["rate"].isel({**dict.fromkeys(rest, 0), "seed": 0})
    kinds = measured["bias"].values.tolist()
    figures.rates(
        figure,
        {f"biases: {kind}": (np.array(FREQUENCIES[kind]), values, line)
         for kind, values, line in zip(kinds, one.values, wanted.transpose("bias", "rate_0").values,
                                       strict=True)},
    )  # fmt: skip
