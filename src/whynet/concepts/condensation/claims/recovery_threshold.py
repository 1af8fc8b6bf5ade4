"""Three factors from a small start find a matrix of rank one from few equations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from matplotlib.figure import Figure
from torch import Tensor

from whynet.concepts.condensation.figures import shares_against
from whynet.concepts.condensation.theory.optimistic_sample_size import optimistic_matrix
from whynet.concepts.implicit_bias.deep_linear import product
from whynet.concepts.threshold_shares import judge_shares
from whynet.core.claim import Cell, Claim, Control, Judgement, Parameter, Values
from whynet.core.errors import InputError
from whynet.training.gradient_flow import GradientFlow, flow_ensemble
from whynet.training.stopping import Below

CLAIM = Claim(
    title="Deep factorization finds a low-rank matrix from nearly its optimistic sample size",
    statement="""
A d × d matrix M of rank r is seen through n Gaussian equations ⟨Aᵢ, M⟩ without noise. A product of
three square factors with small random entries, 3d² parameters, follows gradient flow on the squared
error. Below the optimistic sample size

    O = r (2d − r)

no start, however near, is drawn to M. Above it M can be found, which is no promise that it is. It
is reported that from a small start most runs find M as soon as n ≥ 1.5 O, although n is far below
the number of parameters, and even below the d² entries of M.
""",
    kind="phenomenon",
    cites=("zhang2025", "arora2019"),
    answers=("breiman-parameters", "breiman-overfit", "generalization", "seven-generalization",
             "seven-depth"),
    assumptions={
        "small-start": "the entries of the factors are small at the start",
        "gaussian": "the entries of the equations are independent and Gaussian",
    },
    parameters=(
        Parameter("size", "int", "d, rows and columns of M", 2, 100),
        Parameter("rank", "int", "r, the rank of M", 1, 100),
        Parameter("equations", "int", "n", 1, 10_000),
        Parameter("start", "float", "c; entries of a factor start with deviation c / √d, where M "
                  "has norm 1", 1e-4, 10.0),
    ),
    presets={
        "smoke": {"size": (4,), "rank": (1,), "equations": (6, 12), "start": (0.02,),
                  "seeds": (10,)},
        "small": {"size": (8,), "rank": (1,), "equations": (12, 14, 16, 18, 20, 23, 26),
                  "start": (0.02,), "seeds": (40,)},
        "full": {"size": (8, 16), "rank": (1, 2), "equations": (14, 22, 26, 30, 42, 46, 60, 90),
                 "start": (0.02,), "seeds": (100,)},
    },
    controls=(
        Control("large-start", "small-start", "start", 1.0,
                "What the factors start with is not unlearned where no equation sees it."),
    ),
    shape=("size", "equations"),
    group=40,
    cost="about 45 s of one core",
    tolerance="Supported where the share of runs that end within 0.02 of M lies above one half at "
    "every n of at least 1.5 O, and below one half at every n below O, by 95 % intervals of "
    "Clopper and Pearson; refuted where one lies on the wrong side. Numbers in between decide "
    "nothing.",
)  # fmt: skip

CHANGED = ("start", "equations")
"""Parameters that the matrix, the first equations and the directions of the start share."""

RECOVERED, ENOUGH = 0.02, 1.5
FITTED = 1e-7
"""Loss at which a run ends, where M has norm 1."""

HORIZON, STEPS = 1e5, 40
"""Time of the flow, and most steps of its integrator for each row of the matrix."""


def predict(cells: Sequence[Cell]) -> Sequence[Values]:
    """Return the optimistic sample size."""
    found: list[Values] = []
    for cell in cells:
        size, rank = int(cell.number("size")), int(cell.number("rank"))
        if rank > size:
            raise InputError("rank", str(rank), f"at most {size}, the size of the matrix")
        found.append({"threshold": float(optimistic_matrix(size, size, rank))})
    return found


def problem_of(cell: Cell) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw the matrix, the equations `[equations, size²]`, and the factors at the start."""
    size, rank, count = (int(cell.number(n)) for n in ("size", "rank", "equations"))
    matrices, equations, starts = (
        np.random.default_rng(cell.seed_for(purpose, shared=CHANGED))
        for purpose in ("matrix", "equations", "start")
    )
    matrix = matrices.standard_normal((size, rank)) @ matrices.standard_normal((rank, size))
    seen = equations.standard_normal((count, size * size))
    factors = cell.number("start") * starts.standard_normal((3, size, size)) / np.sqrt(size)
    return matrix / np.linalg.norm(matrix), seen, factors


def _seen(parameters: Any, equations: Tensor) -> Tensor:
    return equations @ product(parameters).reshape(-1)


def _half_mean_square(outputs: Tensor, targets: Tensor) -> Tensor:
    return 0.5 * ((outputs - targets) ** 2).mean()


def experiment(cells: Sequence[Cell]) -> Sequence[Values]:
    """Follow the flow until the equations hold, and look how far the product is from M."""
    matrices, seen, factors = (np.stack(p) for p in zip(*map(problem_of, cells), strict=True))
    targets = np.einsum("cnk,ck->cn", seen, matrices.reshape(len(cells), -1))
    result = flow_ensemble(
        _seen,
        {"factors": torch.as_tensor(factors)},
        torch.as_tensor(seen),
        torch.as_tensor(targets),
        _half_mean_square,
        times=(HORIZON,),
        flow=GradientFlow(method="chebyshev", relative_tolerance=1e-2),
        stop=Below("loss", FITTED),
        per_member=("inputs", "targets"),
        limit=STEPS * matrices.shape[-1],
    )
    found = product(result.parameters).numpy()
    errors = np.linalg.norm(found - matrices, axis=(1, 2))
    return [
        {"error": float(error), "recovered": float(error < RECOVERED), "loss": float(loss)}
        for error, loss in zip(errors, result.losses, strict=True)
    ]


def judge(measured: xr.Dataset, predicted: xr.Dataset) -> Judgement:
    """Judge the shares of recovered matrices below O, and from 1.5 O on."""
    return judge_shares(
        measured["recovered"],
        predicted["threshold"],
        "equations",
        lambda equations, least: 1 if equations >= ENOUGH * least else -int(equations < least),
    )


def draw(figure: Figure, measured: xr.Dataset, predicted: xr.Dataset) -> None:
    """Draw the share of recovered matrices against equations over the optimistic sample size."""
    names = [str(name) for name in measured["recovered"].dims if name != "seed"]
    found = measured["recovered"].stack(point=names).transpose("point", "seed")
    least = predicted["threshold"].stack(point=names).transpose("point", "seed").values[:, 0]
    shares_against(
        figure,
        found.coords["equations"].values / least,
        found.values,
        marks=(1.0, ENOUGH),
        label="equations over the optimistic sample size",
    )
