"""The tangent kernel of a wide network at its start is what a recursion over layers gives."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr
from matplotlib.figure import Figure

from whynet.concepts.bands import Band, judge_bands, slopes
from whynet.concepts.claim_tables import along, families
from whynet.concepts.kernels import figures
from whynet.concepts.kernels.theory.infinite_width import wide_kernels
from whynet.concepts.kernels.wide_networks import draw_networks, sphere_points, tangent_kernels
from whynet.core.claim import Cell, Claim, Control, Judgement, Parameter, Values

CLAIM = Claim(
    title="The tangent kernel of a wide network at its start follows a recursion over layers",
    statement="""
A fully connected network with L hidden layers of width m, every layer z = σ_w W h/√fan + σ_b b
with independent standard normal W and b. As m grows, the neural tangent kernel at the start
tends to a kernel Θ that no longer depends on the draw, and deviates from it by about m^(−1/2):

    K⁰ = Θ⁰ = σ_w² x·x'/d + σ_b²
    K  ←  σ_w² E[φ(z)φ(z')] + σ_b²        with (z, z') ~ N(0, K)
    Θ  ←  K + σ_w² Θ E[φ'(z)φ'(z')]       once for each hidden layer.
""",
    kind="theorem",
    cites=("jacot2018", "lee2018"),
    answers=("optimization", "breiman-overfit", "seven-architecture"),
    assumptions={
        "finite-variance": "the entries of the weights are independent and have a variance",
        "parametrization": "the factors 1/√fan stand outside the trained weights",
        "start": "nothing has been trained yet",
    },
    parameters=(
        Parameter("activation", "choice", "what hidden units compute", choices=("relu", "erf")),
        Parameter("depth", "int", "hidden layers", 1, 20),
        Parameter("width", "int", "units of a hidden layer", 1, 65_536),
        Parameter("bias_scale", "float", "σ_b", 0.0, 10.0),
        Parameter("networks", "int", "draws of a cell", 2, 10_000),
        Parameter("weights", "choice", "law of the weights", choices=("gaussian", "heavy-tailed")),
        Parameter("parametrization", "choice", "where the factors 1/√fan stand",
                  choices=("ntk", "standard")),
    ),
    presets={
        "smoke": {"activation": ("relu",), "depth": (1,), "width": (32, 64, 256),
                  "bias_scale": (0.1,), "networks": (48,), "seeds": (12,)},
        "small": {"activation": ("relu", "erf"), "depth": (1, 2, 3), "width": (32, 96, 256),
                  "bias_scale": (0.1,), "networks": (16,), "seeds": (20,)},
        "full": {"activation": ("relu", "erf"), "depth": (1, 2, 3, 4, 6),
                 "width": (64, 256, 1024, 4096), "bias_scale": (0.0, 0.1, 1.0),
                 "networks": (32,), "seeds": (30,)},
    },
    controls=(
        Control("heavy-tailed", "finite-variance", "weights", "heavy-tailed",
                "Weights with 1.5 degrees of freedom have no variance, so that no sum of them "
                "settles."),
        Control("standard", "parametrization", "parametrization", "standard",
                "With the factors inside the weights the kernel grows with the width instead of "
                "settling."),
    ),
    shape=("depth", "width", "networks"),
    group=16,
    cost="about 15 s",
    tolerance="For each activation, depth and σ_b: the root mean square deviation from Θ falls "
    "with an exponent between −0.6 and −0.4, and at the largest width the mean kernel projected on "
    "Θ is between 0.95 and 1.05 of it and their relative distance below 0.1 (geometric mean).",
)  # fmt: skip

ROWS, FEATURES = 6, 4
EXPONENT, MEAN, LOG_DISTANCE = (-0.6, -0.4), (0.95, 1.05), -1.0
UNSHARED = ("width", "depth", "activation", "bias_scale", "weights", "networks", "parametrization")
"""Parameters that the points do not depend on."""

FAMILIES = ("activation", "depth", "bias_scale")
"""Axes whose values are judged one by one."""


def predict(cells: Sequence[Cell]) -> Sequence[Values]:
    """Return the kernel of the recursion."""
    found = []
    for cell in cells:
        points = sphere_points(cell, ROWS, FEATURES, shared=UNSHARED)
        kernels = wide_kernels(
            points,
            int(cell.number("depth")),
            str(cell.parameters["activation"]),
            bias_scale=cell.number("bias_scale"),
        )
        found.append({"kernel": kernels.tangent})
    return found


def experiment(cells: Sequence[Cell]) -> Sequence[Values]:
    """Return the mean kernel of a cell's networks, and the mean of the kernels' squared norm."""
    found: list[Values] = []
    for cell in cells:
        points = sphere_points(cell, ROWS, FEATURES, shared=UNSHARED)
        kernels = tangent_kernels(draw_networks(cell, FEATURES), points)
        square = torch.linalg.matrix_norm(kernels).square().mean()
        found.append({"kernel": kernels.mean(0).numpy(), "square": float(square)})
    return found


def deviations(
    measured: xr.Dataset, predicted: xr.Dataset
) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray]:
    """Return, over the grid and seeds, three numbers in units of the predicted kernel's norm.

    The root mean square distance of a network's kernel, the projection of the mean kernel, and
    the distance of the mean kernel.
    """
    inner = [f"kernel_{axis}" for axis in range(2)]
    size = (predicted["kernel"] ** 2).sum(inner)
    along = (measured["kernel"] * predicted["kernel"]).sum(inner) / size
    square = measured["square"] / size - 2 * along + 1
    apart = ((measured["kernel"] - predicted["kernel"]) ** 2).sum(inner) / size
    return square.clip(min=0) ** 0.5, along, apart**0.5


def judge(measured: xr.Dataset, predicted: xr.Dataset) -> Judgement:
    """Judge exponents, and the mean kernel at the largest width."""
    each, mean, apart = deviations(measured, predicted)
    widths = measured["width"].values
    if len(widths) < 2:
        return Judgement("not applicable", "One width has no exponent; give two or more.")
    bands = []
    for family in families(measured, FAMILIES):
        name = ", ".join(str(value) for value in family.values())
        one = along(each.sel(family), "width")
        wide = {**family, "width": widths.max()}
        bands += [
            Band(f"exponent of the deviation ({name})", slopes(widths, one), *EXPONENT),
            Band(f"mean kernel ({name})", mean.sel(wide).values.ravel(), *MEAN),
            Band(f"log₁₀ distance of the mean kernel ({name})",
                 np.log10(apart.sel(wide).values.ravel()), high=LOG_DISTANCE),
        ]  # fmt: skip
    return judge_bands(bands)


def draw(figure: Figure, measured: xr.Dataset, predicted: xr.Dataset) -> None:
    """Draw the deviation over the width, and a line of slope -1/2."""
    each, _, _ = deviations(measured, predicted)
    curves = {
        ", ".join(str(v) for v in family.values()): along(each.sel(family), "width")
        for family in families(measured, FAMILIES)
    }
    figures.power_laws(
        figure,
        measured["width"].values,
        curves,
        exponent=-0.5,
        labels=("width", "relative deviation from Θ"),
    )
