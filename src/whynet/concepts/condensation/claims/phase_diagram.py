"""Two exponents of the start divide wide two-layer networks into those that condense and others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from numpy.typing import NDArray

from whynet.concepts.bands import Band, judge_bands, slopes
from whynet.concepts.condensation import phase_figures
from whynet.concepts.condensation.theory.phase_boundary import boundary, scales, slope
from whynet.concepts.condensation.two_layer_flow import FITTED, flows
from whynet.core.claim import Cell, Claim, Control, Judgement, Parameter, Values

CLAIM = Claim(
    title="Two exponents of the start decide whether a wide two-layer network condenses",
    statement="""
Networks f(x) = Σ a (w·x)₊ of growing width m start with Gaussian a and w of deviations β₁ and β₂,
where β₁ β₂ = m^(−γ) and β₁ / β₂ = m^(−γ'). Gradient flow on a squared loss, followed until the data
are fitted, moves the input weights by a relative distance ‖W_T − W₀‖/‖W₀‖ ~ m^S with

    S < 0 (linear) where γ < 1 or γ' > γ − 1,
    S > 0 (condensed) where γ > 1 and γ' < γ − 1,

and S = 0 (critical) on the boundary between them. The usual start with variance one over the fan-in
has γ = γ' = 1/2, the tangent kernel's parametrization γ = 1/2, γ' = 0, mean field γ = 1, γ' = 0.
These are exponents of a family; one network has none.
""",
    kind="theorem",
    cites=("luo2021",),
    answers=("breiman-parameters", "breiman-overfit", "seven-features", "optimization"),
    assumptions={
        "power-law": "the scales of the start are powers of the width",
        "squared-loss": "the loss is a squared error, which gradient flow brings below the same "
        "threshold in every network",
    },
    parameters=(
        Parameter("gamma", "float", "γ, −log(β₁ β₂) / log m", -2.0, 4.0),
        Parameter("gamma_prime", "float", "γ', −log(β₁ / β₂) / log m", -4.0, 4.0),
        Parameter("width", "int", "m, hidden units", 10, 1_000_000),
        Parameter("scales", "choice", "how β₁ and β₂ follow the width",
                  choices=("powers", "constant")),
    ),
    presets={
        "smoke": {"gamma": (0.5, 1.5), "gamma_prime": (0.0,), "width": (100, 400),
                  "seeds": (4,)},
        "small": {"gamma": (0.5, 0.75, 1.0, 1.25, 1.5, 1.75),
                  "gamma_prime": (-1.0, 0.0, 0.5), "width": (100, 400), "seeds": (8,)},
        "full": {"gamma": (0.5, 0.575, 0.65, 0.725, 0.8, 0.875, 0.95, 1.025, 1.1, 1.175, 1.25,
                           1.325, 1.4, 1.475, 1.55, 1.625, 1.7, 1.775, 1.85, 1.925, 2.0),
                 "gamma_prime": (-1.0, -0.9, -0.8, -0.7, -0.6, -0.5, -0.4, -0.3, -0.2, -0.1, 0.0,
                                 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
                 "width": (100, 1000, 10_000, 100_000), "seeds": (10,)},
    },
    controls=(
        Control("constant-scales", "power-law", "scales", "constant",
                "Every network starts with the scales that its exponents give at width 100. A "
                "wider one then starts with larger outputs, and moves less, on both sides of the "
                "boundary: what one network of one width does names no regime."),
    ),
    shape=("width",),
    group=128,
    cost="about 60 s of one core",
    tolerance="S is fitted over the widths for each seed. Supported where, by 95 % intervals over "
    "seeds, at least 0.9 of all points of the grid where scaling suggests |S| ≥ 0.2 have the sign "
    "the theorem gives, S passes zero within 0.25 in γ of the boundary at every γ' whose boundary "
    "lies 0.25 or more inside the grid, between points at most 0.5 apart, and within 0.15 in the "
    "mean over them. "
    "Refuted where one lies outside.",
)  # fmt: skip

CLEAR, SHARE = 0.2, 0.9
ROW, MEAN = 0.25, 0.15
APART = 0.5
"""Largest step in γ across the boundary between whose ends a passage through zero is placed."""
REFERENCE = 100
"""Width whose scales all networks have under the control."""


def predict(cells: Sequence[Cell]) -> Sequence[Values]:
    """Return the side of the boundary, where the boundary lies, and the slope scaling suggests."""
    found: list[Values] = []
    for cell in cells:
        gamma, other = cell.number("gamma"), cell.number("gamma_prime")
        edge = boundary(other)
        found.append({"boundary": edge, "side": float(np.sign(gamma - edge)),
                      "slope": slope(gamma, other)})  # fmt: skip
    return found


def experiment(cells: Sequence[Cell]) -> Sequence[Values]:
    """Follow the flow of all cells until they fit, and return how far input weights moved."""
    width = int(cells[0].number("width"))
    starts, deviations = [], []
    for cell in cells:
        shared = ("gamma", "gamma_prime", "scales")
        generator = np.random.default_rng(cell.seed_for("start", shared=shared))
        inner, outer = generator.standard_normal((width, 2)), generator.standard_normal(width)
        starts.append((outer, inner))
        size = REFERENCE if cell.parameters["scales"] == "constant" else width
        deviations.append(scales(cell.number("gamma"), cell.number("gamma_prime"), size))
    done = flows(starts, np.array(deviations))
    return [
        {"distance": float(distance), "loss": float(loss), "steps": float(steps)}
        for distance, loss, steps in zip(done.distance, done.loss, done.steps, strict=True)
    ]


def measured_slopes(measured: xr.Dataset) -> xr.DataArray:
    """Return S over γ, γ' and the seeds."""
    table = measured["distance"].isel(scales=0).transpose("width", "gamma", "gamma_prime", "seed")
    values = table.values
    fitted = slopes(measured["width"].values, values.reshape(len(values), -1))
    one = table.isel(width=0, drop=True)
    return one.copy(data=fitted.reshape(one.shape))


def crossings(gammas: NDArray[Any], found: NDArray[Any]) -> NDArray[Any]:
    """Return where S passes zero from below, between grid points along a line; NaN where nowhere.

    Args:
        gammas: ascending, `[points]`.
        found: S, `[points, seeds]`.

    Returns:
        `[seeds]`; the last passage, after which S stays positive.

    """
    places = np.full(found.shape[1], np.nan)
    for seed, row in enumerate(found.T):
        below = np.flatnonzero(row < 0)
        if len(below) and below[-1] + 1 < len(row):
            i = int(below[-1])
            share = row[i] / (row[i] - row[i + 1])
            places[seed] = gammas[i] + share * (gammas[i + 1] - gammas[i])
    return places


def judge(measured: xr.Dataset, predicted: xr.Dataset) -> Judgement:
    """Judge the signs of S away from the boundary, and where S passes zero."""
    measured, predicted = measured.sortby(["gamma", "width"]), predicted.sortby(["gamma", "width"])
    if measured.sizes["width"] < 2:
        return Judgement("not applicable", "One width has no exponent; give two or more.")
    missed = int((measured["loss"].values > FITTED).sum())
    if missed or not np.isfinite(measured["distance"].values).all():
        sentence = f"{missed:,} of {measured['loss'].size:,} runs did not fit their data."
        return Judgement("inconclusive", sentence)
    found = measured_slopes(measured)
    known = predicted.isel(scales=0, width=0, seed=0).transpose("gamma", "gamma_prime")
    clear = np.abs(known["slope"].values) >= CLEAR
    sides = known["side"].values[clear]
    if len(set(sides)) < 2:
        return Judgement("not applicable", "The grid has no clear point on one of the two sides.")
    right = (found.values[clear] * sides[:, None] > 0).mean(0)
    bands = [Band(f"share of {len(sides)} points with the predicted sign", right, SHARE, np.inf)]
    rows = _away(found, known)
    if rows:
        mean = np.mean(list(rows.values()), axis=0)
        bands.append(Band("γ of the boundary less the predicted one, mean", mean, -MEAN, MEAN))
    bands += [Band(f"the same at γ' = {at:g}", row, -ROW, ROW) for at, row in rows.items()]
    verdict = judge_bands(bands)
    gap = found.mean("seed").values[clear] - known["slope"].values[clear]
    rule = f"S differs from what scaling suggests by {np.sqrt((gap**2).mean()):.2f}"
    sentence = f"{verdict.sentence} {rule}, root mean square."
    return Judgement(verdict.state, sentence, verdict.numbers)


def _away(found: xr.DataArray, known: xr.Dataset) -> dict[float, NDArray[Any]]:
    """Return γ of the measured boundary less the predicted one by γ', one a seed.

    Rows whose band leaves the grid are left out: S may pass zero beyond it. Where S never passes
    zero in another row the whole extent of the grid stands in.
    """
    gammas, rows = found["gamma"].values, {}
    for place, other in enumerate(found["gamma_prime"].values.tolist()):
        edge = float(known["boundary"].values[0, place])
        below, above = gammas[gammas < edge], gammas[gammas > edge]
        inside = gammas[0] <= edge - ROW + 1e-9 and gammas[-1] >= edge + ROW - 1e-9
        if inside and len(below) and len(above) and above[0] - below[-1] <= APART:
            at = crossings(gammas, found.values[:, place])
            rows[other] = np.nan_to_num(at - edge, nan=float(np.ptp(gammas)))
    return rows


def draw(figure: Figure, measured: xr.Dataset, predicted: xr.Dataset) -> None:
    """Draw the measured diagram with the predicted boundary over it."""
    order = ["gamma", "gamma_prime", "width"]
    found = measured_slopes(measured.sortby(order)).mean("seed")
    known = predicted.sortby(order).isel(scales=0, width=0, seed=0)
    others = found["gamma_prime"].values
    at = [crossings(found["gamma"].values, found.values[:, [j]])[0] for j in range(len(others))]
    phase_figures.phase_diagram(
        figure, found["gamma"].values, others, found.values, np.array(at),
        known["boundary"].transpose("gamma", "gamma_prime").values[0],
    )  # fmt: skip
