"""Wide networks of one input fit splines, whose weight the law of their units decides."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from numpy.typing import NDArray

from whynet.concepts.bands import Band, judge_bands, slopes
from whynet.concepts.claim_tables import along
from whynet.concepts.implicit_bias import spline_figures
from whynet.concepts.implicit_bias.theory import spline_limit as theory
from whynet.core.claim import Cell, Claim, Control, Judgement, Parameter, Values

CLAIM = Claim(
    title="Wide networks of one input fit splines",
    statement="""
Hidden units (Wx + B)₊ of one input with W and B drawn from a symmetric law, m of them, output
weights trained by gradient descent on squared loss from 0 to the end. As m grows the trained
function tends, with an error of about m^(−1/2), to the interpolator of least norm in the kernel
E[(Wx + B)₊(Wx' + B)₊]; and that is, up to the small cost of its affine part, the interpolator of
the data with the least

    ∫ g''(x)² / ζ(x) dx,    ζ(c) = ∫ |w|³ p_W(w) p_B(−cw) dw,

the weight being how many units bend at c. For W and B uniform up to a and b it is constant where
|c| ≤ b/a: the network draws the natural cubic spline. For normal ones it is
2σ_w³σ_b³/(π(σ_b² + σ_w²c²)²), and the curve bends more where more units do.
""",
    kind="theorem",
    cites=("jin2023",),
    answers=(
        "breiman-overfit",
        "generalization",
        "breiman-stop",
        "seven-generalization",
        "seven-physics",
    ),
    assumptions={
        "independent": "W and B are independent, each with the law of its negative",
        "zero-start": "the network computes 0 before training",
        "wide": "there are many units",
    },
    parameters=(
        Parameter("law", "choice", "law of W and B (a = 1, b = 2; deviations 1 and 2; 1 and 1/2)",
                  choices=("uniform", "gaussian", "gaussian-narrow")),
        Parameter("width", "int", "hidden units", 16, 1_000_000),
        Parameter("bends", "choice", "how B follows W", choices=("independent", "clustered")),
        Parameter("start", "choice", "output weights before training", choices=("zero", "random")),
    ),
    presets={
        "smoke": {"law": ("uniform",), "width": (200, 800, 3200, 12_800), "seeds": (40,)},
        "small": {"law": ("uniform", "gaussian", "gaussian-narrow"),
                  "width": (300, 1200, 4800, 19_200), "seeds": (60,)},
        "full": {"law": ("uniform", "gaussian", "gaussian-narrow"),
                 "width": (300, 1200, 4800, 19_200, 76_800, 307_200), "seeds": (100,)},
    },
    controls=(
        Control("clustered-bends", "independent", "bends", "clustered",
                "B is made a multiple of W, so that most units bend near 0; the weight is then "
                "not that of independent draws."),
        Control("random-start", "zero-start", "start", "random",
                "Output weights of deviation 30 compute something before training that stays in "
                "the function between the data."),
    ),
    shape=("width",),
    group=16,
    cost="about 10 s",
    tolerance="For each law the largest distance between trained function and kernel interpolator "
    "falls with an exponent between −0.62 and −0.38 over the width, and the largest distance from "
    "the spline at the largest width is below 0.05 in the mean (the data range over 1.4).",
)  # fmt: skip

DATA: Final = np.array([[-1, -0.6, -0.1, 0.3, 0.5, 1], [0.3, -0.5, 0.4, 0.9, -0.2, 0.1]])
POINTS: Final = np.linspace(-1, 1, 81)
SCALES: Final = {"uniform": (1.0, 2.0), "gaussian": (1.0, 2.0), "gaussian-narrow": (1.0, 0.5)}
EXPONENT, NEAR = (-0.62, -0.38), 0.05
RANDOM: Final = 30.0
"""Deviation of random output weights."""

CHANGED = ("bends", "start")
"""Parameters that the draws do not depend on."""


def predict(cells: Sequence[Cell]) -> Sequence[Values]:
    """Return the spline, and the kernel interpolator."""
    found: dict[str, Values] = {}
    for law in {str(cell.parameters["law"]) for cell in cells}:
        weight, bias = SCALES[law]
        uniform = law == "uniform"
        zetas = theory.uniform_weight if uniform else theory.gaussian_weight
        kernels = theory.uniform_kernel if uniform else theory.gaussian_kernel
        zeta = partial(zetas, weight=weight, bias=bias)
        kernel = partial(kernels, weight=weight, bias=bias)
        found[law] = {
            "spline": theory.weighted_spline(zeta, DATA, POINTS),
            "limit": theory.interpolator(kernel, DATA, POINTS),
        }
    return [found[str(cell.parameters["law"])] for cell in cells]


def hidden_units(cell: Cell) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Draw `W`, `B` and initial output weights of a cell, `[width]` each."""
    generator = np.random.default_rng(cell.seed_for("units", shared=CHANGED))
    law, width = str(cell.parameters["law"]), int(cell.number("width"))
    draw = generator.standard_normal
    if law == "uniform":
        w, b = generator.uniform(-1, 1, width), generator.uniform(-1, 1, width)
    else:
        w, b = draw(width), draw(width)
    outer = draw(width) * RANDOM * float(cell.parameters["start"] == "random")
    w, b = SCALES[law][0] * w, SCALES[law][1] * b
    if cell.parameters["bends"] == "clustered":
        b = -w * 3 * (b / SCALES[law][1]) ** 5
    return w, b, outer


def experiment(cells: Sequence[Cell]) -> Sequence[Values]:
    """Return the trained functions on a grid of points.

    Training output weights is linear, and gradient descent ends at the solution nearest to its
    start: it is computed as such.
    """
    x, y = DATA
    w, b, outer = (np.stack(parts) for parts in zip(*map(hidden_units, cells), strict=True))
    width = w.shape[1]
    at_data, at_points = (
        np.maximum(w[:, None, :] * p[:, None] + b[:, None, :], 0) / width**0.5 for p in (x, POINTS)
    )
    residual = y - np.einsum("bnm,bm->bn", at_data, outer)
    gram = at_data @ at_data.swapaxes(1, 2)
    moved = np.einsum("bnm,bn->bm", at_data, np.linalg.solve(gram, residual[..., None])[..., 0])
    values = np.einsum("bpm,bm->bp", at_points, outer + moved)
    return [{"values": own} for own in values]


def farthest(measured: xr.Dataset, predicted: xr.DataArray) -> xr.DataArray:
    """Return the largest distance from a predicted function, over the grid and seeds."""
    inner = str(predicted.dims[-1])
    renamed = measured["values"].rename({"values_0": inner})
    return ((renamed - predicted) ** 2).max(inner) ** 0.5


def judge(measured: xr.Dataset, predicted: xr.Dataset) -> Judgement:
    """Judge the exponent of the distance from the limit, and the distance from the spline."""
    widths = measured["width"].values
    if len(widths) < 2:
        return Judgement("not applicable", "One width has no exponent; give two or more.")
    limit, spline = (farthest(measured, predicted[name]) for name in ("limit", "spline"))
    bands = []
    for law in measured["law"].values.tolist():
        falls = slopes(widths, along(limit.sel(law=law), "width"))
        last = along(spline.sel(law=law), "width")[int(widths.argmax())]
        bands += [
            Band(f"exponent of the distance from the limit ({law})", falls, *EXPONENT),
            Band(f"largest distance from the spline ({law})", last, high=NEAR),
        ]
    return judge_bands(bands)


def draw(figure: Figure, measured: xr.Dataset, predicted: xr.Dataset) -> None:
    """Draw the spline, the networks of the least and of the largest width, and the data."""
    place = {name: 0 for name in measured["values"].dims if name not in ("seed", "values_0")}
    widths = measured["width"].values
    bands = {
        f"{widths[at]:,} units": measured["values"]
        .isel({**place, "width": int(at)})
        .transpose("seed", "values_0")
        .values
        for at in (widths.argmin(), widths.argmax())
    }
    spline = predicted["spline"].isel({**place, "seed": 0}).values.ravel()
    spline_figures.curves(figure, POINTS, bands, spline, DATA)
