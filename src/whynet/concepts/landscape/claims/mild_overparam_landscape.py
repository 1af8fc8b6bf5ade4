"""With a few times more weights than rows, most activation regions hold no bad critical point."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import ceil
from typing import Any, Final

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from numpy.typing import NDArray

from whynet.concepts.bands import Band, judge_bands
from whynet.concepts.landscape import claim_figures
from whynet.concepts.landscape.region_ranks import onto
from whynet.concepts.landscape.theory.full_rank_regions import full_rank_share
from whynet.core.claim import Cell, Claim, Control, Judgement, Parameter, Values
from whynet.numerics.dichotomies import dichotomies

CLAIM = Claim(
    title="Mildly overparametrized networks have no bad critical point in most of their regions",
    statement="""
A network Σ_j v_j (w_j·x + b_j)₊ with m hidden units, v_j ≠ 0, squared loss on n rows in general
position. Where it is fixed which units are active at which rows, the outputs are linear in the
hidden weights with a Jacobian J, and the gradient is Jᵀe, e the errors. If J has rank n, every
critical point of the region has e = 0 and is a global minimum. Of all regions, counted,

    most have rank n once m is a few times n over the inputs, and none where m (inputs + 1) < n.

For one input the share is, up to a term exponentially small in m, the probability that m uniform
draws out of n places leave no two neighboring ones of the first n − 1 empty: 1 − ε at about
m = (n/2) log(n/ε).
""",
    kind="theorem",
    cites=("karhadkar2024", "zaslavsky1975"),
    answers=("optimization", "seven-optimization", "breiman-minima"),
    assumptions={
        "enough": "there are a few times as many hidden weights as rows",
        "generic": "the rows are in general position",
        "counted": "regions are counted alike, whatever their volume",
    },
    parameters=(
        Parameter("inputs", "int", "inputs of the network", 1, 6),
        Parameter("rows", "int", "n", 2, 200),
        Parameter("ratio", "float", "hidden weights and biases over rows", 0.05, 100.0),
        Parameter("data", "choice", "the rows", choices=("generic", "repeated-row")),
        Parameter("regions", "choice", "how regions are drawn", choices=("counted", "by-volume")),
    ),
    presets={
        "smoke": {"inputs": (1, 2), "rows": (12,), "ratio": (3.0, 8.0), "seeds": (20,)},
        "small": {"inputs": (1, 2), "rows": (12, 30), "ratio": (2.0, 4.0, 8.0), "seeds": (20,)},
        "full": {"inputs": (1, 2, 3), "rows": (20, 40, 80), "ratio": (1.0, 2.0, 3.0, 4.0, 8.0),
                 "seeds": (40,)},
    },
    controls=(
        Control("too-few", "enough", "ratio", 0.9,
                "With fewer weights than rows no Jacobian has full row rank."),
        Control("repeated-row", "generic", "data", "repeated-row",
                "Two equal rows have equal outputs, and no Jacobian reaches all errors."),
        Control("by-volume", "counted", "regions", "by-volume",
                "Normal weights meet regions by their volume, most of it in few regions, and "
                "full rank is rarer than by count."),
    ),
    undefined=("low", "high"),
    shape=("inputs", "rows"),
    group=64,
    cost="about 15 s",
    tolerance="At the largest ratio, for each number of inputs and rows, the mean share of regions "
    "of full rank is at least 0.9; with one input it is at every ratio within 0.05 of the bounds "
    "of the closed form. 100 regions a seed.",
)  # fmt: skip

MOST, NEAR = 0.9, 0.05
DRAWS: Final = 100
"""Regions of a cell."""

UNSHARED = ("ratio", "data", "regions")
"""Parameters that the rows do not depend on."""


def units_of(cell: Cell) -> int:
    """Return m: the largest number with fewer weights than rows below a ratio of 1, else enough."""
    weights = cell.number("ratio") * cell.number("rows")
    units = weights / (cell.number("inputs") + 1)
    return max(1, int(units) if cell.number("ratio") < 1 else ceil(units))


def predict(cells: Sequence[Cell]) -> Sequence[Values]:
    """Return bounds on the share of regions of full rank, for one input."""
    found: list[Values] = []
    for cell in cells:
        low, high = np.nan, np.nan
        if cell.number("inputs") == 1:
            low, high = full_rank_share(int(cell.number("rows")), units_of(cell))
        found.append({"low": low, "high": high})
    return found


def points_of(cell: Cell) -> NDArray[Any]:
    """Draw the rows with a last column of ones, `[rows, inputs + 1]`."""
    generator = np.random.default_rng(cell.seed_for("rows", shared=UNSHARED))
    rows = int(cell.number("rows"))
    drawn = generator.standard_normal((rows, int(cell.number("inputs"))))
    return np.concatenate([drawn, np.ones((rows, 1))], axis=1)


def experiment(cells: Sequence[Cell]) -> Sequence[Values]:
    """Draw regions, and return the share of them whose Jacobian has full row rank.

    Each unit has one of all patterns of the rows, so that regions are tuples of patterns. Where a
    row is repeated, the patterns are those of the different rows.
    """
    found: list[Values] = []
    for cell in cells:
        points, units = points_of(cell), units_of(cell)
        generator = np.random.default_rng(cell.seed_for("regions", shared=("data",)))
        if cell.parameters["regions"] == "counted":
            different = points[:-1] if cell.parameters["data"] == "repeated-row" else points
            every = dichotomies(different)
            patterns = every[generator.integers(len(every), size=(DRAWS, units))]
        else:
            weights = generator.standard_normal((DRAWS, units, points.shape[1]))
            patterns = weights @ points.T > 0
        if cell.parameters["data"] == "repeated-row":
            points[-1] = points[0]
            patterns = np.concatenate([patterns[..., : len(points) - 1], patterns[..., :1]], -1)
        found.append({"share": float(onto(patterns.swapaxes(1, 2), points).mean())})
    return found


def _name(inputs: int, rows: int) -> str:
    return f"{inputs} input{'s' if inputs > 1 else ''}, {rows} rows"


def judge(measured: xr.Dataset, predicted: xr.Dataset) -> Judgement:
    """Judge the share at the largest ratio, and those of one input at every ratio."""
    most = measured["ratio"].values.max()
    bands = []
    for inputs, rows in product(measured["inputs"].values, measured["rows"].values):
        place = {"inputs": inputs, "rows": rows}
        name = _name(inputs, rows)
        share = measured["share"].sel(place)
        bands.append(
            Band(f"share of full rank ({name}, ratio {most:g})",
                 share.sel(ratio=most).values.ravel(), low=MOST, unit="fraction")
        )  # fmt: skip
        if inputs == 1:
            above, below = (share - predicted[end].sel(place) for end in ("high", "low"))
            for ratio in measured["ratio"].values:
                words = f"({name}, ratio {ratio:g})"
                bands += [
                    Band(f"share above the predicted one {words}",
                         above.sel(ratio=ratio).values.ravel(), high=NEAR, unit="fraction"),
                    Band(f"share less the predicted one {words}",
                         below.sel(ratio=ratio).values.ravel(), low=-NEAR, unit="fraction"),
                ]  # fmt: skip
    return judge_bands(bands)


def draw(figure: Figure, measured: xr.Dataset, predicted: xr.Dataset) -> None:
    """Draw the shares over the ratio, for each number of inputs and rows."""
    rest = dict.fromkeys(("data", "regions"), 0)
    shares, lines = {}, {}
    for inputs, rows in product(measured["inputs"].values, measured["rows"].values):
        name = _name(inputs, rows)
        place = {"inputs": inputs, "rows": rows}
        own = measured["share"].isel(rest).sel(place).transpose("ratio", "seed")
        known = predicted["high"].isel(rest).sel(place).isel(seed=0)
        order = np.argsort(measured["ratio"].values)
        shares[name], lines[name] = own.values[order], known.values[order]
    claim_figures.shares(
        figure,
        np.sort(measured["ratio"].values),
        shares,
        lines,
        labels=("hidden weights over rows", "share of regions of full rank"),
    )
