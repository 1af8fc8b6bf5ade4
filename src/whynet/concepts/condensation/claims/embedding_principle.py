"""Critical points of narrow networks stand inside wide ones, and how they bend there."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import xarray as xr
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from whynet.concepts.agreement import flat, judge_cases
from whynet.concepts.condensation import claim_figures
from whynet.concepts.condensation.critical_points import (
    critical_point,
    curvatures,
    loss,
    slopes,
)
from whynet.concepts.condensation.theory.splitting import new_curvatures
from whynet.core.claim import Cell, Claim, Control, Judgement, Parameter, Values

CLAIM = Claim(
    title="Every critical point of a narrow network is one of every wider network",
    statement="""
A neuron a f(w·x) of a critical point of a two-layer network is split into two with the same w and
outgoing weights α a and (1 − α) a, any real α. Then the wider network has the same outputs and the
same loss, its gradient is zero, and its Hessian has the negative, zero and positive eigenvalues of
the narrow one's and of α (1 − α) B besides, with

    B = mean of e a f''(w·x) x xᵀ,  e the errors,

and one more zero. So for α other than 0 and 1 a minimum stays one if α (1 − α) B is positive
definite and becomes a strict saddle if it has a negative eigenvalue.
""",
    kind="theorem",
    cites=("zhang2021b", "fukumizu2000"),
    answers=("optimization", "seven-optimization", "breiman-minima"),
    assumptions={
        "critical": "the narrow network stands at a critical point",
        "copied": "both copies have the incoming weights of the neuron",
        "shared": "the outgoing weights of the copies add up to that of the neuron",
    },
    parameters=(
        Parameter("neurons", "int", "neurons of the narrow network", 1, 4),
        Parameter("share", "float", "α, the share of the first copy", -10.0, 10.0),
        Parameter("inputs", "int", "inputs beside the bias", 1, 4),
        Parameter("start", "choice", "where the narrow network stands",
                  choices=("critical", "random")),
        Parameter("copy", "choice", "incoming weights of the second copy",
                  choices=("equal", "moved")),
        Parameter("outgoing", "choice", "outgoing weights of the copies",
                  choices=("shares", "doubled")),
    ),
    presets={
        "smoke": {"neurons": (1, 2), "share": (0.3, 1.0), "inputs": (1,), "seeds": (5,)},
        "small": {"neurons": (1, 2), "share": (-0.5, 0.3, 0.5, 1.0, 1.5), "inputs": (1, 2),
                  "seeds": (10,)},
        "full": {"neurons": (1, 2, 3), "share": (-2.0, -0.5, 0.0, 0.1, 0.3, 0.5, 1.0, 1.5, 3.0),
                 "inputs": (1, 2, 3), "seeds": (20,)},
    },
    controls=(
        Control("random-point", "critical", "start", "random",
                "A point that is not critical is not critical in the wider network either."),
        Control("moved-copy", "copied", "copy", "moved",
                "With other incoming weights outputs and gradient change."),
        Control("doubled", "shared", "outgoing", "doubled",
                "Two copies of the full outgoing weight say twice what the neuron said."),
    ),
    shape=("neurons", "inputs"),
    group=64,
    cost="about 10 s",
    tolerance="In every cell: the gradient of the wider network at most 1e-12, its loss changed by "
    "at most 1e-14, and the numbers of negative and positive eigenvalues (zero: below 1e-9 of the "
    "largest) exactly the predicted ones; one exception refutes, and at least 17 cells "
    "without one support.",
)  # fmt: skip

FLAT, SAME, ZERO = 1e-12, 1e-14, 1e-9
ROWS, DRAWS = 20, 20
BROKEN = ("share", "copy", "outgoing", "start")
"""Parameters that the data do not depend on."""


def task_of(cell: Cell) -> tuple[Tensor, Tensor, Tensor]:
    """Return inputs with a column of ones, targets, and the narrow network."""
    seed = cell.seed_for("task", shared=BROKEN)
    inputs, targets, narrow = _task(seed, int(cell.number("inputs")), int(cell.number("neurons")))
    if cell.parameters["start"] == "random":
        generator = torch.Generator().manual_seed(seed)
        narrow = torch.randn(narrow.shape, generator=generator, dtype=torch.float64)
    return inputs, targets, narrow


@lru_cache(maxsize=256)
def _task(seed: int, count: int, neurons: int) -> tuple[Tensor, Tensor, Tensor]:
    """Draw data until a critical point is found; all shares and variants stand on the same one."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(DRAWS):
        points = 2 * torch.rand(ROWS, count, generator=generator, dtype=torch.float64) - 1
        phase = 3 * torch.rand(count, generator=generator, dtype=torch.float64)
        targets = torch.sin(3 * points + phase).sum(1) + 0.5 * points.square().sum(1)
        inputs = torch.cat([points, torch.ones(ROWS, 1, dtype=torch.float64)], 1)
        narrow = critical_point(inputs, targets, neurons, generator)
        if narrow is not None:
            return inputs, targets, narrow
    raise RuntimeError(f"no critical point was found for {DRAWS} draws of the data")


def _counts(values: NDArray[Any]) -> tuple[float, float]:
    floor = ZERO * np.abs(values).max()
    return float((values < -floor).sum()), float((values > floor).sum())


def predict(cells: Sequence[Cell]) -> Sequence[Values]:
    """Return the numbers of negative and positive eigenvalues of the wider network's Hessian."""
    found: list[Values] = []
    for cell in cells:
        inputs, targets, narrow = task_of(cell)
        own = curvatures(narrow, inputs, targets)
        hidden = torch.tanh(inputs @ narrow[:, :-1].T)
        errors = (hidden @ narrow[:, -1] - targets).numpy()
        first = hidden[:, 0].numpy()
        bends = -2 * first * (1 - first**2)
        added = new_curvatures(
            errors, bends, inputs.numpy(), float(narrow[0, -1]), cell.number("share")
        )
        floor = ZERO * max(np.abs(own).max(), np.abs(added).max())
        found.append(
            {
                "negative": float((own < -floor).sum() + (added < -floor).sum()),
                "positive": float((own > floor).sum() + (added > floor).sum()),
            }
        )
    return found


def experiment(cells: Sequence[Cell]) -> Sequence[Values]:
    """Split the first neuron, and return gradient, change of the loss, and eigenvalues' signs."""
    found: list[Values] = []
    for cell in cells:
        inputs, targets, narrow = task_of(cell)
        share = cell.number("share")
        first, second = narrow[:1].clone(), narrow[:1].clone()
        doubled = cell.parameters["outgoing"] == "doubled"
        first[0, -1] *= 1.0 if doubled else share
        second[0, -1] *= 1.0 if doubled else 1 - share
        if cell.parameters["copy"] == "moved":
            second[0, :-1] += 0.1
        wide = torch.cat([first, second, narrow[1:]])
        flat = wide.reshape(-1)
        negative, positive = _counts(curvatures(wide, inputs, targets))
        gap = loss(flat, inputs, targets) - loss(narrow.reshape(-1), inputs, targets)
        found.append(
            {
                "gradient": float(slopes(flat, inputs, targets).norm()),
                "loss_change": float(gap.abs()),
                "negative": negative,
                "positive": positive,
            }
        )
    return found


def judge(measured: xr.Dataset, predicted: xr.Dataset) -> Judgement:
    """Judge gradient, loss and the signs of the curvatures at every point."""
    signs = [flat(measured[name]) == flat(predicted[name]) for name in ("negative", "positive")]
    gradient, change = flat(measured["gradient"]), flat(measured["loss_change"])
    return judge_cases(
        {
            "critical in the wide network": gradient <= FLAT,
            "the same loss": change <= SAME,
            "all curvatures of the predicted signs": signs[0] & signs[1],
        },
        f"The largest gradient at an embedded point is {gradient.max():.1e} (at most {FLAT:g} "
        f"claimed), the largest change of the loss {change.max():.1e} (at most {SAME:g}).",
    )


def draw(figure: Figure, measured: xr.Dataset, predicted: xr.Dataset) -> None:
    """Draw negative eigenvalues, measured over predicted."""
    pairs = {}
    for name, words in (("negative", "negative curvatures"), ("positive", "positive curvatures")):
        own = measured[name]
        pairs[words] = (predicted[name].transpose(*own.dims).values.ravel(), own.values.ravel())
    claim_figures.measured_over_predicted(figure, pairs, "eigenvalues of the Hessian")
