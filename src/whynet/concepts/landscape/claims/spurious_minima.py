"""A network that copies another of the same size often ends in a minimum that is not global."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import numpy as np
import torch
import xarray as xr
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from whynet.concepts.landscape import claim_figures
from whynet.concepts.landscape.student_teacher import (
    descended,
    polished,
    population_gradient,
    population_hessian,
    population_loss,
)
from whynet.concepts.landscape.theory.symmetric_minima import symmetric_loss
from whynet.core.claim import Cell, Claim, Control, Judgement, Parameter, Values
from whynet.core.estimate import Estimate
from whynet.numerics.intervals import proportion

CLAIM = Claim(
    title="A network that copies one of its own size often ends in a minimum that is not global",
    statement="""
A student Σ_i (w_i·x)₊ of k units learns a teacher Σ_i (v_i·x)₊ of k orthonormal units in k
dimensions by gradient descent on the population loss ½ E (student − teacher)², x standard normal,
from w_i ~ N(0, I/k). For k of 10 and more, at least one run in ten ends in a strict local minimum
with a positive loss: the gradient there vanishes to round-off and all eigenvalues of the Hessian
are positive. Most of these minima belong to families that theory knows from their symmetry: q of
the units point away from what they should copy, the others nearly copy theirs, with losses

    F_q(k) from six equations; F₁ falls like 1/k.

With two more units than the teacher there are next to none.
""",
    kind="theorem",
    cites=("safran2018", "arjevani2020"),
    answers=("optimization", "seven-optimization", "breiman-minima"),
    assumptions={
        "tight": "the student has no more units than the teacher",
        "blind": "the start does not know the teacher",
    },
    parameters=(
        Parameter("units", "int", "k, units of the teacher and inputs", 3, 64),
        Parameter("extra", "int", "units of the student beyond k", 0, 64),
        Parameter("steps", "int", "steps of gradient descent", 1, 1_000_000),
        Parameter("start", "choice", "of the student", choices=("random", "near-teacher")),
    ),
    presets={
        "smoke": {"units": (10,), "extra": (0,), "steps": (2000,), "seeds": (40,)},
        "small": {"units": (10, 14), "extra": (0,), "steps": (6000,), "seeds": (60,)},
        "full": {"units": (10, 15, 20), "extra": (0,), "steps": (40_000,), "seeds": (400,)},
    },
    controls=(
        Control("two-more", "tight", "extra", 2,
                "Two units more than the teacher's open a way down out of the known minima."),
        Control("near-teacher", "blind", "start", "near-teacher",
                "Near the teacher's units, the loss leads to them."),
    ),
    shape=("units", "extra", "steps"),
    group=60,
    cost="about 15 s",
    tolerance="A run is counted where loss > 1e-3, no entry of the gradient exceeds 1e-10 and all "
    "eigenvalues of the Hessian exceed 1e-4. Supported where for each k at least one run in ten "
    "is, and at least 75 % of those counted have a loss within 1e-9 of F₁, F₂ or F₃ "
    "(Clopper–Pearson, 95 %).",
)  # fmt: skip

OFTEN, KNOWN = 0.1, 0.75
BAD, STATIONARY, CURVED, SAME = 1e-3, 1e-10, 1e-4, 1e-9
TURNED: Final = (1, 2, 3)
BESIDE: Final = 0.1
"""Standard deviation around the teacher of the entries of a start that knows it."""


@cache
def _levels(units: int) -> tuple[float, ...]:
    return tuple(symmetric_loss(units, min(turned, units - 1)) for turned in TURNED)


def predict(cells: Sequence[Cell]) -> Sequence[Values]:
    """Return the losses of the minima that are known from their symmetry."""
    return [{"levels": np.array(_levels(int(cell.number("units"))))} for cell in cells]


def _starts(cells: Sequence[Cell]) -> Tensor:
    """Draw students, `[cells, units + extra, units]`; more units leave the first ones the same."""
    units, extra = (int(cells[0].number(name)) for name in ("units", "extra"))
    found = []
    for cell in cells:
        generator = np.random.default_rng(
            cell.seed_for("start", shared=("start", "extra", "steps"))
        )
        drawn = generator.standard_normal((units + extra, units))
        known = cell.parameters["start"] == "near-teacher"
        near = BESIDE * drawn
        near[:units] += np.eye(units)
        found.append(near if known else drawn / units**0.5)
    return torch.from_numpy(np.stack(found))


def experiment(cells: Sequence[Cell]) -> Sequence[Values]:
    """Descend, and return loss, gradient and least curvature at the end.

    Runs that end high go on to the critical point beside. The step size is 2/k: the largest
    curvature grows like k/4.
    """
    units, steps = (int(cells[0].number(name)) for name in ("units", "steps"))
    teacher = torch.eye(units, dtype=torch.float64)[None]
    student = descended(_starts(cells), teacher, steps, 2 / units)
    high = population_loss(student, teacher) > BAD
    if bool(high.any()):
        student[high] = polished(student[high], teacher)
    losses = population_loss(student, teacher).tolist()
    gradients = population_gradient(student, teacher).abs().amax((1, 2)).tolist()
    lowest = torch.linalg.eigvalsh(population_hessian(student, teacher))[:, 0].tolist()
    return [
        {"loss": loss, "gradient": gradient, "lowest": low}
        for loss, gradient, low in zip(losses, gradients, lowest, strict=True)
    ]


def spurious(measured: xr.Dataset) -> xr.DataArray:
    """Return which runs ended in a strict local minimum that is not global."""
    stationary = measured["gradient"] < STATIONARY
    return (measured["loss"] > BAD) & stationary & (measured["lowest"] > CURVED)


def judge(measured: xr.Dataset, predicted: xr.Dataset) -> Judgement:
    """Judge how often runs end in a spurious minimum, and how many of those are known."""
    levels = predicted["levels"].rename({"levels_0": "turned"})
    if not bool(np.isfinite(measured["loss"]).all()):
        return Judgement("inconclusive", "Some runs ended in numbers that are not finite.")
    found = spurious(measured)
    known = found & (abs(measured["loss"] - levels) < SAME).any("turned")
    numbers: dict[str, Estimate] = {}
    for units in measured["units"].values:
        own = found.sel(units=units).values.ravel()
        numbers[f"runs in a spurious minimum (k = {units})"] = _share(own)
    wanted = dict.fromkeys(numbers, OFTEN)
    if bool(found.any()):
        name = "spurious minima with a loss that is known"
        numbers[name], wanted[name] = _share(known.values[found.values]), KNOWN
    said = "; ".join(
        f"{name} {e.value:.0%} [{e.low:.0%}, {e.high:.0%}], at least {wanted[name]:.0%} claimed"
        for name, e in numbers.items()
    )
    if any(e.high < wanted[name] for name, e in numbers.items()):
        return Judgement("refuted", f"Fewer than claimed: {said}.", numbers)
    if any(e.low < wanted[name] for name, e in numbers.items()):
        return Judgement("inconclusive", f"More seeds would tell: {said}.", numbers)
    return Judgement("supported", f"As claimed: {said}.", numbers)


def _share(hits: NDArray[Any]) -> Estimate:
    return proportion(int(hits.sum()), hits.size, over="training seeds")


def draw(figure: Figure, measured: xr.Dataset, predicted: xr.Dataset) -> None:
    """Draw the loss at the end of each run, and the losses that are known."""
    rest = dict.fromkeys(("extra", "steps", "start"), 0)
    ends, lines = {}, {}
    for units in measured["units"].values:
        name = f"k = {units}"
        ends[name] = np.sort(measured["loss"].isel(rest).sel(units=units).values)
        lines[name] = predicted["levels"].isel(rest).sel(units=units).isel(seed=0).values
    claim_figures.losses_and_levels(
        figure, ends, lines, labels=("share of runs, by their loss", "loss at the end")
    )
