"""The outputs of a wide network at its start are a Gaussian process."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from whynet.concepts.bands import Band, judge_bands
from whynet.concepts.claim_tables import along, families
from whynet.concepts.kernels import figures
from whynet.concepts.kernels.theory.infinite_width import relu_fourth_moment, wide_kernels
from whynet.concepts.kernels.wide_networks import draw_networks, outputs_of, sphere_points
from whynet.core.claim import Cell, Claim, Control, Judgement, Parameter, Values

CLAIM = Claim(
    title="The outputs of a wide network at its start are a Gaussian process",
    statement="""
A fully connected network with L hidden layers of width m, every layer z = σ_w W h/√fan + σ_b b
with independent standard normal W and b. Over draws of W and b its outputs at any points tend,
as m grows, to a Gaussian vector of mean 0 and covariance K after L hidden layers of

    K⁰ = σ_w² x·x'/d + σ_b²,     K ← σ_w² E[φ(z)φ(z')] + σ_b²   with (z, z') ~ N(0, K).

For rectified linear units without biases (σ_w² = 2) the fourth moment of one output is, at every
width, (1 + 5/m)^L times that of a Gaussian.
""",
    kind="theorem",
    cites=("lee2018", "matthews2018"),
    answers=("generalization", "breiman-overfit", "seven-generalization"),
    assumptions={
        "wide": "there are many units in every hidden layer",
        "finite-variance": "the entries of the weights are independent and have a variance",
        "start": "nothing has been trained yet",
    },
    parameters=(
        Parameter("activation", "choice", "what hidden units compute", choices=("relu", "erf")),
        Parameter("depth", "int", "hidden layers", 1, 20),
        Parameter("width", "int", "units of a hidden layer", 1, 65_536),
        Parameter("bias_scale", "float", "σ_b", 0.0, 10.0),
        Parameter("networks", "int", "draws of a cell", 2, 1_000_000),
        Parameter("weights", "choice", "law of the weights", choices=("gaussian", "heavy-tailed")),
    ),
    presets={
        "smoke": {"activation": ("relu",), "depth": (1,), "width": (200,), "bias_scale": (0.0,),
                  "networks": (800,), "seeds": (12,)},
        "small": {"activation": ("relu", "erf"), "depth": (1, 2), "width": (32, 128),
                  "bias_scale": (0.0,), "networks": (400,), "seeds": (20,)},
        "full": {"activation": ("relu", "erf"), "depth": (1, 2, 3, 4), "width": (32, 128, 512),
                 "bias_scale": (0.0, 0.1, 1.0), "networks": (2000,), "seeds": (30,)},
    },
    controls=(
        Control("narrow", "wide", "width", 2,
                "With two hidden units a layer the outputs have far heavier tails than a "
                "Gaussian."),
        Control("heavy-tailed", "finite-variance", "weights", "heavy-tailed",
                "Weights with 1.5 degrees of freedom have no variance, and their sums tend to a "
                "law that is not Gaussian."),
    ),
    undefined=("fourth",),
    shape=("depth", "width", "networks"),
    group=16,
    cost="about 15 s",
    tolerance="At the largest width, for each activation, depth and σ_b: second moments of the "
    "outputs, whitened by K, within 0.1 of the identity in each entry, the decimal logarithm of "
    "their mean within 0.05 of 0, and the fourth moment of the whitened outputs over that of a "
    "Gaussian between 0.75 and 1.35. Where the fourth moment at finite width is known, one "
    "output's over it is between 0.8 and 1.2 at every width.",
)  # fmt: skip

ROWS, FEATURES = 3, 4
SECOND, LOG_SIZE, JOINT, FINITE = 0.1, 0.05, (0.75, 1.35), (0.8, 1.2)
UNSHARED = ("width", "depth", "activation", "bias_scale", "weights", "networks")
"""Parameters that the points do not depend on."""

FAMILIES = ("activation", "depth", "bias_scale")
"""Axes whose values are judged one by one."""


def predict(cells: Sequence[Cell]) -> Sequence[Values]:
    """Return the covariance, and the fourth moment at finite width where it is known."""
    found: list[Values] = []
    for cell in cells:
        depth, bias_scale = int(cell.number("depth")), cell.number("bias_scale")
        activation = str(cell.parameters["activation"])
        points = sphere_points(cell, ROWS, FEATURES, shared=UNSHARED)
        kernels = wide_kernels(points, depth, activation, bias_scale=bias_scale)
        known = activation == "relu" and bias_scale == 0
        fourth = relu_fourth_moment(int(cell.number("width")), depth) if known else np.nan
        found.append({"covariance": kernels.covariance, "fourth": float(fourth)})
    return found


def experiment(cells: Sequence[Cell]) -> Sequence[Values]:
    """Return moments of the outputs over the networks of each cell.

    `second`: mean of the outputs' products; `square` and `fourth`: of the first output;
    `joint`: mean fourth moments of all outputs.
    """
    found: list[Values] = []
    for cell in cells:
        points = sphere_points(cell, ROWS, FEATURES, shared=UNSHARED)
        values = outputs_of(draw_networks(cell, FEATURES), points).numpy()
        pairs = np.einsum("bi,bj->bij", values, values)
        found.append(
            {
                "second": pairs.mean(0),
                "fourth": float((values[:, 0] ** 4).mean()),
                "joint": np.einsum("bij,bkl->ijkl", pairs, pairs) / len(values),
            }
        )
    return found


def whitened(
    measured: xr.Dataset, predicted: xr.Dataset
) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray]:
    """Return second moments, and joint and single fourth moments over those of a Gaussian."""
    covariance = predicted["covariance"]
    grid = covariance.dims[:-2]
    inverse = np.linalg.inv(covariance.values)
    root = np.linalg.cholesky(inverse)
    moments = measured["second"].transpose(*grid, ...).values
    second = root.swapaxes(-1, -2) @ moments @ root
    joint = measured["joint"].transpose(*grid, ...).values
    count = moments.shape[-1]
    fourth = np.einsum("...ij,...kl,...ijkl->...", inverse, inverse, joint)
    coords = {name: predicted[name] for name in grid}
    one = covariance.isel(covariance_0=0, covariance_1=0)
    single = (measured["fourth"] / (3 * one**2)).transpose(*grid)
    return (
        xr.DataArray(second, {**coords}, [*grid, "first", "other"]),
        xr.DataArray(fourth / (count * (count + 2)), coords, grid),
        single,
    )


def judge(measured: xr.Dataset, predicted: xr.Dataset) -> Judgement:
    """Judge the moments at the largest width, and one output's fourth moment at each."""
    second, joint, single = whitened(measured, predicted)
    bands = []
    for family in families(measured, FAMILIES):
        name = ", ".join(str(value) for value in family.values())
        wide = {**family, "width": measured["width"].values.max()}
        inner = second.sel(wide).transpose(..., "seed", "first", "other").values
        table = inner.reshape(-1, ROWS, ROWS)
        bands += [
            Band(f"second moment {i + 1}{j + 1} ({name})", table[:, i, j],
                 (i == j) - SECOND, (i == j) + SECOND)
            for i in range(ROWS) for j in range(i + 1)
        ]  # fmt: skip
        trace = np.log10(np.einsum("sii->s", table).clip(min=1e-300) / ROWS)
        bands.append(Band(f"log₁₀ of the mean square ({name})", trace, -LOG_SIZE, LOG_SIZE))
        bands.append(Band(f"fourth moment ({name})", joint.sel(wide).values.ravel(), *JOINT))
        for width in measured["width"].values:
            place = {**family, "width": width}
            ratio = (single.sel(place) / predicted["fourth"].sel(place)).values.ravel()
            if np.isfinite(ratio).all():
                label = f"fourth moment at width {width} over its prediction ({name})"
                bands.append(Band(label, ratio, *FINITE))
    return judge_bands(bands)


def draw(figure: Figure, measured: xr.Dataset, predicted: xr.Dataset) -> None:
    """Draw the fourth moments over the width, and their predictions."""
    _, _, single = whitened(measured, predicted)
    points, lines = {}, {}
    for family in families(measured, FAMILIES):
        name = ", ".join(str(v) for v in family.values())
        flat = along(single.sel(family), "width")
        points[name] = flat
        lines[name] = predicted["fourth"].sel(family).isel(seed=0).values.ravel()
    figures.predicted_points(
        figure,
        measured["width"].values,
        points,
        lines,
        labels=("width", "fourth moment over a Gaussian's"),
    )
