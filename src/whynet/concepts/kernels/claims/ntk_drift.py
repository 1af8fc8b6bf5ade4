"""The wider a network, the less its tangent kernel moves in training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from whynet.concepts.bands import Band, judge_bands, slopes
from whynet.concepts.claim_tables import named_along
from whynet.concepts.kernels import figures
from whynet.concepts.kernels.two_layers import distance, problems, trained
from whynet.core.claim import Cell, Claim, Control, Judgement, Parameter, Values

CLAIM = Claim(
    title="The wider a network, the less its tangent kernel moves in training",
    statement="""
A two-layer network f(x) = m^(−1/2) Σ a φ(w·x) of width m with standard normal a and w, trained for
a fixed number of steps ½/λmax(Θ₀/n) on ½ mean (f − y)², with targets that do not depend on m. From
start to end,

    ‖θ_T − θ₀‖/‖θ₀‖ ~ m^(−1/2),
    ‖Θ_T − Θ₀‖/‖Θ₀‖ ~ m^(−1) for smooth φ, between m^(−1) and m^(−3/4) for rectified units,

the second because a share of about m^(−1/2) of the units changes sign on some row.
""",
    kind="theorem",
    cites=("jacot2018", "chizat2019", "lee2019"),
    answers=("optimization", "breiman-minima", "breiman-parameters", "seven-optimization"),
    assumptions={
        "scaling": "the sum over units is divided by the root of the width",
        "fixed-time": "the number of steps does not grow with the width",
    },
    parameters=(
        Parameter("activation", "choice", "what hidden units compute", choices=("tanh", "relu")),
        Parameter("rows", "int", "training rows", 2, 10_000),
        Parameter("width", "int", "hidden units, an even number", 4, 1_000_000),
        Parameter("steps", "int", "training steps", 1, 1_000_000),
        Parameter("scaling", "choice", "what the sum over units is divided by",
                  choices=("ntk", "mean-field")),
    ),
    presets={
        "smoke": {"activation": ("tanh",), "rows": (10,), "width": (64, 128, 256, 512),
                  "steps": (60,), "seeds": (24,)},
        "small": {"activation": ("tanh", "relu"), "rows": (20,), "width": (128, 256, 512, 1024),
                  "steps": (300,), "seeds": (24,)},
        "full": {"activation": ("tanh", "relu"), "rows": (200,),
                 "width": (256, 1024, 4096, 16_384), "steps": (2000,), "seeds": (30,)},
    },
    controls=(
        Control("mean-field", "scaling", "scaling", "mean-field",
                "Divided by the width itself, the same outputs need parameters that move by as "
                "much as they are large, at every width; so do targets that grow with the root "
                "of the width, which is the same training in other units."),
    ),
    shape=("activation", "rows", "width", "steps", "scaling"),
    group=32,
    cost="about 30 s",
    tolerance="Exponents over the width, fitted for each seed: of the parameters' move between "
    "−0.56 and −0.44, of the kernel's between −1.3 and −0.8 for tanh and between −1.05 and −0.65 "
    "for rectified units.",
)  # fmt: skip

MOVE = (-0.56, -0.44)
DRIFT = {"tanh": (-1.3, -0.8), "relu": (-1.05, -0.65)}
EXPONENTS = {"tanh": -1.0, "relu": -0.75}


def predict(cells: Sequence[Cell]) -> Sequence[Values]:
    """Return the exponents."""
    return [
        {"drift_exponent": EXPONENTS[str(cell.parameters["activation"])], "move_exponent": -0.5}
        for cell in cells
    ]


def experiment(cells: Sequence[Cell]) -> Sequence[Values]:
    """Train, and return the relative moves of kernel and parameters, and the loss that is left."""
    given = problems(cells, points=0)
    after = trained(given, int(cells[0].number("steps")))
    kernels = [given.kernel(p, given.inputs, given.inputs) for p in (after, given.start)]
    flat = [
        np.concatenate([p["w"].flatten(1).numpy(), p["a"].numpy()], 1) for p in (after, given.start)
    ]
    moves = np.linalg.norm(flat[0] - flat[1], axis=1) / np.linalg.norm(flat[1], axis=1)
    drifts = distance(kernels[0], kernels[1], kernels[1])
    outputs = given.forward(after, given.inputs)
    left = distance(outputs, given.targets, given.targets)
    return [
        {"drift": float(d), "move": float(m), "left": float(r)}
        for d, m, r in zip(drifts, moves, left, strict=True)
    ]


def judge(measured: xr.Dataset, predicted: xr.Dataset) -> Judgement:
    """Judge the exponents over the width."""
    widths = measured["width"].values
    if len(widths) < 2:
        return Judgement("not applicable", "One width has no exponent; give two or more.")
    bands = []
    for what, word in (("drift", "kernel's drift"), ("move", "parameters' move")):
        for name, values in named_along(measured[what], "width", named="activation").items():
            band = MOVE if what == "move" else DRIFT[name.split(",")[0]]
            label = f"exponent of the {word} ({name})"
            bands.append(Band(label, slopes(widths, values), *band))
    return judge_bands(bands)


def draw(figure: Figure, measured: xr.Dataset, predicted: xr.Dataset) -> None:
    """Draw the drift of the kernel over the width, and the predicted slope."""
    figures.power_laws(
        figure,
        measured["width"].values,
        named_along(measured["drift"], "width", named="activation"),
        exponent=float(predicted["drift_exponent"].values.ravel()[0]),
        labels=("width", "relative drift of the tangent kernel"),
    )
