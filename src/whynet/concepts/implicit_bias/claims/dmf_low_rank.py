"""Products of several matrices complete low-rank matrices better than least nuclear norm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from whynet.concepts.bands import combined
from whynet.concepts.implicit_bias import curves
from whynet.concepts.implicit_bias.bands import judged_within
from whynet.concepts.implicit_bias.deep_linear import half_square_sum, product
from whynet.concepts.implicit_bias.theory.nuclear_completion import least_nuclear_norm
from whynet.core.claim import Cell, Claim, Control, Judgement, Parameter, Values
from whynet.numerics.effective_rank import entropic_rank
from whynet.training.gradient_flow import GradientFlow, flow_ensemble
from whynet.training.stopping import Below

CLAIM = Claim(
    title="Deep matrix factorization completes low-rank matrices from few entries",
    statement="""
Some entries of a matrix M of low rank are observed. A product W = W_N ⋯ W₁ of N ≥ 2 square factors
with small random entries follows gradient flow on the squared error of the observed entries. No
norm is penalized, and no factor is thin, so that W could be anything on the hidden entries. It is
reported that

    ‖W − M‖ on hidden entries  <  the same of the completion of least nuclear norm ‖·‖_*,

where the entries are too few for the latter, and that for N ≥ 3 the effective rank of W is that of
M. With one factor the hidden entries of W stay what they were, zero, and the relative error is 1.
""",
    kind="phenomenon",
    cites=("arora2019", "candes2009", "roy2007"),
    answers=("breiman-parameters", "breiman-overfit", "generalization", "seven-generalization",
             "seven-depth"),
    assumptions={
        "low-rank": "the rank of M is small beside its size",
        "factored": "W is a product of at least two factors",
        "small-start": "the entries of the factors are small at the start",
    },
    parameters=(
        Parameter("size", "int", "rows and columns of M", 10, 500),
        Parameter("rank", "int", "rank of M", 1, 500),
        Parameter("observed", "float", "share of the entries that is observed", 0.05, 0.95),
        Parameter("depth", "int", "N, the number of factors", 1, 6),
        Parameter("strength", "float", "scale of the product at the start; the entries of a factor "
                  "have standard deviation strength^(1/N) / √size", 1e-10, 10.0),
    ),
    presets={
        "smoke": {"size": (30,), "rank": (2,), "observed": (0.35,), "depth": (2,),
                  "strength": (1e-6,), "seeds": (7,)},
        "small": {"size": (30,), "rank": (2,), "observed": (0.35,), "depth": (2, 3),
                  "strength": (1e-6,), "seeds": (10,)},
        "full": {"size": (100,), "rank": (5,), "observed": (0.2, 0.25), "depth": (2, 3, 4),
                 "strength": (1e-4, 1e-6, 1e-8), "seeds": (20,)},
    },
    controls=(
        Control("full-rank", "low-rank", "rank", 500,
                "A matrix of full rank is not determined by a third of its entries, whatever is "
                "preferred."),
        Control("one-factor", "factored", "depth", 1,
                "Gradient flow on the matrix itself never moves a hidden entry."),
        Control("large-start", "small-start", "strength", 1.0,
                "What the factors start with fills the hidden entries and is not unlearned."),
    ),
    shape=("size", "depth"),
    group=40,
    cost="about 20 s of one core",
    tolerance="Supported where the 95 % intervals of the median over seeds lie within 0 to 0.9 for "
    "the error on hidden entries over that of least nuclear norm, and, for N ≥ 3, within 0.9 to "
    "1.1 for the effective rank of W over that of M; refuted where one lies outside.",
)  # fmt: skip

CHANGED = ("depth", "strength")
"""Parameters that matrix and observed entries do not depend on."""

ERROR = (0.0, 0.9)
RANK = (0.9, 1.1)

FITTED = 1e-6
"""Loss over the sum of squares of M at which a run ends."""

HORIZON = 1e4

STEPS = 400
"""Most steps of the integrator; low rank takes at most 146 at `small`, full rank is cut short."""


def _problem(cell: Cell) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return `M` with the norm of `size`, and which of its entries are observed."""
    size, rank = int(cell.number("size")), int(cell.number("rank"))
    generator = np.random.default_rng(cell.seed_for("matrix", shared=CHANGED))
    matrix = generator.standard_normal((size, rank)) @ generator.standard_normal((rank, size))
    seen = np.zeros(size * size, dtype=bool)
    count = round(cell.number("observed") * size * size)
    seen[generator.choice(size * size, count, replace=False)] = True
    return matrix * size / np.linalg.norm(matrix), seen.reshape(size, size)


def _stacked(cells: Sequence[Cell]) -> tuple[NDArray[Any], NDArray[Any]]:
    matrices, seen = zip(*(_problem(cell) for cell in cells), strict=True)
    return np.stack(matrices), np.stack(seen)


def _hidden_error(found: NDArray[Any], matrices: NDArray[Any], seen: NDArray[Any]) -> NDArray[Any]:
    """Return `‖found − M‖ / ‖M‖` over hidden entries."""
    away = np.where(seen, 0, found - matrices)
    whole = np.where(seen, 0, matrices)
    return np.asarray(np.linalg.norm(away, axis=(-2, -1)) / np.linalg.norm(whole, axis=(-2, -1)))


def predict(cells: Sequence[Cell]) -> Sequence[Values]:
    """Return the error of least nuclear norm on hidden entries, and the effective rank of M."""
    matrices, seen = _stacked(cells)
    nuclear = least_nuclear_norm(matrices, seen, tolerance=1e-3, limit=3000)
    errors = _hidden_error(nuclear.matrices, matrices, seen)
    ranks = entropic_rank(np.linalg.svd(matrices, compute_uv=False))
    return [
        {"hidden_error": float(error), "effective_rank": float(rank), "gap": float(gap)}
        for error, rank, gap in zip(errors, ranks, nuclear.gap, strict=True)
    ]


def _start(cell: Cell) -> NDArray[Any]:
    """Return the factors at the start, `[depth, size, size]`; a single one starts at zero."""
    depth, size = int(cell.number("depth")), int(cell.number("size"))
    if depth == 1:
        return np.zeros((1, size, size))
    scale = cell.number("strength") ** (1 / depth)
    generator = np.random.default_rng(cell.seed_for("start", shared=CHANGED))
    return np.asarray(scale * generator.standard_normal((depth, size, size)) / np.sqrt(size))


def experiment(cells: Sequence[Cell]) -> Sequence[Values]:
    """Follow the flow until the observed entries are fitted, and look at the hidden ones."""
    matrices, seen = _stacked(cells)
    size = matrices.shape[-1]

    def forward(parameters: Any, observed: Tensor) -> Tensor:
        return product(parameters) * observed

    result = flow_ensemble(
        forward,
        {"factors": torch.as_tensor(np.stack([_start(cell) for cell in cells]))},
        torch.as_tensor(seen.astype(float)),
        torch.as_tensor(np.where(seen, matrices, 0)),
        half_square_sum,
        times=(HORIZON,),
        flow=GradientFlow(method="chebyshev", relative_tolerance=1e-3),
        stop=Below("loss", FITTED * size**2),
        per_member=("inputs", "targets"),
        limit=STEPS,
    )
    found = product(result.parameters).numpy()
    errors = _hidden_error(found, matrices, seen)
    ranks = entropic_rank(np.linalg.svd(found, compute_uv=False))
    fits = np.linalg.norm(np.where(seen, found - matrices, 0), axis=(-2, -1)) / size
    return [
        {"hidden_error": float(error), "effective_rank": float(rank), "observed_error": float(fit)}
        for error, rank, fit in zip(errors, ranks, fits, strict=True)
    ]


def judge(measured: xr.Dataset, predicted: xr.Dataset) -> Judgement:
    """Judge errors on hidden entries beside those of least nuclear norm, and effective ranks."""
    ratio = measured / predicted
    judgements = [
        judged_within(
            ratio["hidden_error"], *ERROR, "the hidden entries' error over least nuclear norm's"
        )
    ]
    deep = ratio["effective_rank"].sel(depth=ratio["depth"] >= 3)
    if deep.size:
        judgements.append(judged_within(deep, *RANK, "measured over true effective rank"))
    return combined(*judgements)


def draw(figure: Figure, measured: xr.Dataset, predicted: xr.Dataset) -> None:
    """Draw errors on hidden entries against the depth, beside those of least nuclear norm."""
    curves.against(
        figure,
        measured["hidden_error"],
        predicted["hidden_error"],
        along="depth",
        lines="observed",
        labels=("number of factors", "relative error on hidden entries"),
        logarithmic=(False, True),
    )
