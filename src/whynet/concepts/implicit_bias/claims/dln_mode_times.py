"""Deep linear networks learn the modes of a matrix one after the other, at predicted times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
from whynet.concepts.implicit_bias.theory.linear_modes import half_time, strengths
from whynet.core.claim import Cell, Claim, Control, Judgement, Parameter, Values
from whynet.numerics.effective_rank import entropic_rank, nuclear_rank
from whynet.training.gradient_flow import GradientFlow, flow_ensemble

CLAIM = Claim(
    title="Deep linear networks learn the modes of a matrix one after the other",
    statement="""
A product W = W_N ⋯ W₁ of N square matrices that all start at the same multiple of the identity,
W(0) = σ₀ I, is fitted to a positive semidefinite matrix M by gradient flow on ½‖W − M‖². In the
eigenvector of M with eigenvalue λ the strength σ of W follows

    σ' = N σ^(2 − 2/N) (λ − σ),   σ(0) = σ₀,

so that it is half learned at T = ∫ dσ / (N σ^(2 − 2/N) (λ − σ)), taken from σ₀ to λ/2: large
modes first. The effective rank of W climbs from mode to mode as these curves say.
""",
    kind="theorem",
    cites=("saxe2014", "arora2019", "chou2024", "roy2007"),
    answers=("breiman-parameters", "breiman-stop", "optimization", "seven-features", "seven-depth"),
    assumptions={
        "identical-start": "all factors start at the same multiple of the identity",
        "semidefinite": "no eigenvalue of M is negative",
        "small-start": "σ₀ lies below half of each eigenvalue that is to be learned",
    },
    parameters=(
        Parameter("size", "int", "rows and columns of M", 3, 2000),
        Parameter("depth", "int", "N, the number of factors", 2, 8),
        Parameter("strength", "float", "σ₀, the product at the start", 1e-6, 0.3),
        Parameter("target", "choice", "the sign of the second eigenvalue of M",
                  choices=("semidefinite", "indefinite")),
        Parameter("start", "choice", "how the factors start", choices=("identity", "random")),
    ),
    presets={
        "smoke": {"size": (4,), "depth": (3,), "strength": (0.03,), "seeds": (10,)},
        "small": {"size": (10,), "depth": (2, 3, 4), "strength": (0.01, 0.003), "seeds": (10,)},
        "full": {"size": (100,), "depth": (2, 3, 4, 5), "strength": (1e-2, 1e-3, 1e-4),
                 "seeds": (20,)},
    },
    controls=(
        Control("indefinite", "semidefinite", "target", "indefinite",
                "The second eigenvalue is negative, and no factor that starts positive there can "
                "pass zero, so that this mode is never learned."),
        Control("random-start", "identical-start", "start", "random",
                "Factors of the same norm with Gaussian entries start partly across the modes, "
                "which are learned later."),
    ),
    shape=("size", "depth", "start"),
    group=40,
    cost="53 s on 2 cores shared by ten processes",
    tolerance="Supported where the 95 % intervals of the median over seeds of measured over "
    "predicted half time lie within 0.9 to 1.1 for all modes, and those of measured over "
    "predicted effective rank (entropic, and nuclear over spectral norm) within 0.97 to 1.03 at "
    "the midpoints between half times and at the end; refuted where one lies outside. A mode "
    "that is not half learned at 2.2 times the last predicted half time counts as that late.",
)  # fmt: skip

CHANGED = ("depth", "strength", "target", "start")
"""Parameters that eigenvalues and eigenvectors do not depend on."""

MODES = 3
RECORDS = 100
HORIZON = 2.2
"""Times the last predicted half time: where the flow ends."""


@dataclass(frozen=True)
class _Targets:
    """Matrices to fit, `[cells, size, size]`, with their leading modes.

    Attributes:
        eigenvalues: without their sign, `[cells, modes]`, about 5, 2.5 and 1.
        vectors: `[cells, size, modes]`.
        matrices: `M`.

    """

    eigenvalues: NDArray[Any]
    vectors: NDArray[Any]
    matrices: NDArray[Any]


def _targets(cells: Sequence[Cell]) -> _Targets:
    values, vectors, matrices = [], [], []
    for cell in cells:
        generator = np.random.default_rng(cell.seed_for("target", shared=CHANGED))
        own = np.array([5.0, 2.5, 1.0]) * generator.uniform(0.8, 1.2, MODES)
        size = int(cell.number("size"))
        basis = np.linalg.qr(generator.standard_normal((size, MODES)))[0]
        signs = np.array([1.0, 1.0 if cell.parameters["target"] == "semidefinite" else -1.0, 1.0])
        values.append(own)
        vectors.append(basis)
        matrices.append((basis * own * signs) @ basis.T)
    return _Targets(np.stack(values), np.stack(vectors), np.stack(matrices))


def _looks(half_times: NDArray[Any]) -> NDArray[Any]:
    """Return when effective ranks are looked at: between half times, and after the last."""
    between = np.sqrt(half_times[:-1] * half_times[1:])
    return np.append(between, 2 * half_times[-1])


def predict(cells: Sequence[Cell]) -> Sequence[Values]:
    """Return half times of the modes, and effective ranks between them and at the end."""
    found = []
    for cell, eigenvalues in zip(cells, _targets(cells).eigenvalues, strict=True):
        start, depth = cell.number("strength"), int(cell.number("depth"))
        times = np.array([half_time(float(own), start, depth) for own in eigenvalues])
        whole = np.zeros(int(cell.number("size")))
        whole[:MODES] = eigenvalues
        climbed = strengths(whole, start, depth, _looks(times))
        found.append(
            {
                "half_times": times,
                "entropic_rank": entropic_rank(climbed),
                "nuclear_rank": nuclear_rank(climbed),
            }
        )
    return found


def _start(cell: Cell) -> NDArray[Any]:
    """Return the factors at the start, `[depth, size, size]`."""
    depth, size = int(cell.number("depth")), int(cell.number("size"))
    scale = cell.number("strength") ** (1 / depth)
    if cell.parameters["start"] == "identity":
        return np.stack([scale * np.eye(size)] * depth)
    generator = np.random.default_rng(cell.seed_for("start", shared=CHANGED))
    return np.asarray(scale * generator.standard_normal((depth, size, size)) / np.sqrt(size))


def experiment(cells: Sequence[Cell]) -> Sequence[Values]:
    """Follow the flow, and return when modes were half learned, and effective ranks."""
    targets, plans = _targets(cells), predict(cells)
    planned = np.array([np.asarray(plan["half_times"]) for plan in plans])
    horizon = HORIZON * float(planned.max())
    times = np.geomspace(0.2 * float(planned.min()), horizon, RECORDS)
    vectors = torch.as_tensor(targets.vectors)

    def along(parameters: dict[str, Tensor]) -> Tensor:
        whole = product(parameters)
        return torch.einsum("bdm,bde,bem->bm", vectors, whole, vectors)

    result = flow_ensemble(
        lambda parameters, inputs: product(parameters) @ inputs,
        {"factors": torch.as_tensor(np.stack([_start(cell) for cell in cells]))},
        torch.eye(int(cells[0].number("size")), dtype=torch.float64),
        torch.as_tensor(targets.matrices),
        half_square_sum,
        times=times.tolist(),
        flow=GradientFlow(relative_tolerance=1e-5),
        record={"along": along, "spectrum": lambda p: torch.linalg.svdvals(product(p))},
        per_member=("targets",),
    )
    learned, spectra = (result.records[name].values for name in ("along", "spectrum"))
    found = []
    for member, plan in enumerate(planned):
        looks, spectrum = np.log(_looks(plan)), spectra[member]
        half = targets.eigenvalues[member] / 2
        found.append(
            {
                "half_times": _crossings(times, learned[member], half, HORIZON * plan[-1]),
                "entropic_rank": np.interp(looks, np.log(times), entropic_rank(spectrum)),
                "nuclear_rank": np.interp(looks, np.log(times), nuclear_rank(spectrum)),
            }
        )
    return found


def _crossings(
    times: NDArray[Any], learned: NDArray[Any], half: NDArray[Any], latest: float
) -> NDArray[Any]:
    """Return when each mode first reached its half, between records along a straight line."""
    found = np.full(len(half), latest)
    for mode, aim in enumerate(half):
        above = np.flatnonzero(learned[:, mode] >= aim)
        if len(above) and above[0] > 0:
            last = int(above[0])
            below, over = learned[last - 1, mode], learned[last, mode]
            share = (aim - below) / (over - below)
            found[mode] = times[last - 1] + share * (times[last] - times[last - 1])
    return np.asarray(np.minimum(found, latest))


def judge(measured: xr.Dataset, predicted: xr.Dataset) -> Judgement:
    """Judge half times and effective ranks against what was predicted."""
    ratio = measured / predicted
    return combined(
        judged_within(ratio["half_times"], 0.9, 1.1, "measured over predicted half time"),
        judged_within(ratio["entropic_rank"], 0.97, 1.03, "the same ratio of entropic ranks"),
        judged_within(ratio["nuclear_rank"], 0.97, 1.03, "the same ratio of nuclear ranks"),
    )


def draw(figure: Figure, measured: xr.Dataset, predicted: xr.Dataset) -> None:
    """Draw half times of the three modes against the depth, predicted and measured."""
    modes = {"half_times_0": ["first", "second", "third"]}
    curves.against(
        figure,
        measured["half_times"].assign_coords(modes).rename(half_times_0="mode"),
        predicted["half_times"].assign_coords(modes).rename(half_times_0="mode"),
        along="depth",
        lines="mode",
        labels=("number of factors", "time until half learned"),
        logarithmic=(False, True),
    )
