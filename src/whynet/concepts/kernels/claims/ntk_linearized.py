"""A wide network is trained to the function that its linearization is trained to."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import xarray as xr
from matplotlib.figure import Figure

from whynet.concepts.bands import Band, judge_bands, slopes
from whynet.concepts.claim_tables import named_along
from whynet.concepts.kernels import figures
from whynet.concepts.kernels.theory.linearized_descent import after_descent
from whynet.concepts.kernels.two_layers import learning_rates, problems, trained
from whynet.core.claim import Cell, Claim, Control, Judgement, Parameter, Values

CLAIM = Claim(
    title="A wide network is trained to the function that its linearization is trained to",
    statement="""
A two-layer network f(x) = m^(−1/2) Σ a φ(w·x) of width m with standard normal a and w, tangent
kernel Θ at the start, trained by T steps of gradient descent η on ½ mean (f − y)² over n rows. As
m grows, with η λmax(Θ)/n fixed, the trained function tends to that of the linearized network,
known before training:

    f_T(x) → f₀(x) + Θ(x, X) Θ⁻¹ (I − (I − ηΘ/n)^T) (y − f₀(X)),

on points that were not trained on as well.
""",
    kind="theorem",
    cites=("lee2019", "jacot2018", "chizat2019"),
    answers=(
        "optimization",
        "generalization",
        "breiman-minima",
        "seven-optimization",
        "seven-generalization",
    ),
    assumptions={
        "scaling": "the sum over units is divided by the root of the width",
        "wide": "there are many units",
        "fixed-time": "the number of steps does not grow with the width",
    },
    parameters=(
        Parameter("activation", "choice", "what hidden units compute", choices=("tanh", "relu")),
        Parameter("rows", "int", "training rows", 2, 10_000),
        Parameter("width", "int", "hidden units, an even number", 4, 1_000_000),
        Parameter("steps", "int", "training steps", 1, 1_000_000),
        Parameter("scaling", "choice", "what the sum over units is divided by",
                  choices=("ntk", "mean-field")),
        Parameter("start", "choice", "whether the network computes 0 before training",
                  choices=("plain", "antisymmetric")),
    ),
    presets={
        "smoke": {"activation": ("tanh",), "rows": (10,), "width": (64, 256, 1024),
                  "steps": (60,), "seeds": (12,)},
        "small": {"activation": ("tanh", "relu"), "rows": (20,), "width": (64, 256, 1024),
                  "steps": (300,), "seeds": (12,)},
        "full": {"activation": ("tanh", "relu"), "rows": (200,),
                 "width": (256, 1024, 4096, 16_384), "steps": (2000,), "seeds": (30,)},
    },
    controls=(
        Control("mean-field", "scaling", "scaling", "mean-field",
                "Divided by the width itself, the network moves far from its start and learns "
                "features, at every width."),
    ),
    shape=("activation", "rows", "width", "steps", "scaling", "start"),
    group=32,
    cost="about 30 s",
    tolerance="On 20 points that were not trained on, the distance between trained and linearized "
    "function over the distance that training moved it: below 0.1 at the largest width in the "
    "mean, and falling over the width with an exponent below −0.25, fitted for each seed.",
)  # fmt: skip

NEAR, EXPONENT = 0.1, -0.25


def predict(cells: Sequence[Cell]) -> Sequence[Values]:
    """Return the function of the linearized network on further points, and its start."""
    given = problems(cells)
    start = given.start
    first, before = (given.forward(start, x).numpy() for x in (given.inputs, given.other))
    _, after = after_descent(
        given.kernel(start, given.inputs, given.inputs).numpy(),
        given.kernel(start, given.other, given.inputs).numpy(),
        (first, before),
        given.targets.numpy(),
        rate=learning_rates(given).numpy(),
        steps=int(cells[0].number("steps")),
    )
    return [{"before": b, "after": a} for b, a in zip(before, after, strict=True)]


def experiment(cells: Sequence[Cell]) -> Sequence[Values]:
    """Train, and return the function on further points."""
    given = problems(cells)
    after = trained(given, int(cells[0].number("steps")))
    with torch.no_grad():
        values = given.forward(after, given.other).numpy()
    return [{"after": own} for own in values]


def apart(measured: xr.Dataset, predicted: xr.Dataset) -> xr.DataArray:
    """Return how far the functions end apart, over how far the linearized one moved."""
    miss = ((measured["after"] - predicted["after"]) ** 2).sum("after_0")
    before = predicted["before"].rename({"before_0": "after_0"})
    moved = ((predicted["after"] - before) ** 2).sum("after_0")
    return (miss / moved) ** 0.5


def judge(measured: xr.Dataset, predicted: xr.Dataset) -> Judgement:
    """Judge the distance at the largest width, and its exponent."""
    widths = measured["width"].values
    if len(widths) < 2:
        return Judgement("not applicable", "One width has no exponent; give two or more.")
    bands = []
    distances = named_along(apart(measured, predicted), "width", named="activation")
    for name, values in distances.items():
        last = values[int(widths.argmax())]
        bands += [
            Band(f"distance from the linearized function ({name})", last, high=NEAR),
            Band(f"its exponent over the width ({name})", slopes(widths, values), high=EXPONENT),
        ]
    return judge_bands(bands)


def draw(figure: Figure, measured: xr.Dataset, predicted: xr.Dataset) -> None:
    """Draw the distance over the width."""
    figures.power_laws(
        figure,
        measured["width"].values,
        named_along(apart(measured, predicted), "width", named="activation"),
        exponent=-0.5,
        labels=("width", "distance from the linearized function"),
    )
