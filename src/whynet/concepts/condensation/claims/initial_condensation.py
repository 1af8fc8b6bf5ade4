"""From a tiny start neurons first align on few directions, as the activation at zero says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from numpy.typing import NDArray

from whynet.concepts.agreement import flat
from whynet.concepts.condensation.claim_figures import measured_over_predicted
from whynet.concepts.condensation.first_stage import MULTIPLICITY, distinct, grown
from whynet.core.claim import Cell, Claim, Control, Judgement, Parameter, State, Values
from whynet.numerics.intervals import proportion

CLAIM = Claim(
    title="From a tiny start neurons first align on at most twice as many directions as the "
    "multiplicity of their activation",
    statement="""
Let p be the order of the first derivative of the activation that is not 0 at 0: 1 for tanh and for
softplus − log 2, 2 for z tanh z, 3 for z² tanh z. Neurons a σ(w·x) start with tiny Gaussian
weights, and the residual is minus the targets. In the first stage, until a neuron has grown by
orders of magnitude but is still small, w turns to one of

    at most 2p directions,

where x, with its constant 1, has two entries. (With more entries this holds for p = 1, for p = 2
where the extreme eigenvalues of mean(y x xᵀ) are simple, and not for p = 3.)
""",
    kind="theorem",
    cites=("zhou2022",),
    answers=("breiman-parameters", "seven-features", "optimization"),
    assumptions={
        "small-start": "weights start so small that they grow by orders of magnitude while small",
        "two-entries": "an input has two entries, its constant included",
    },
    parameters=(
        Parameter("activation", "choice", "of the neurons, z its input",
                  choices=("tanh", "softplus", "z-tanh", "z2-tanh")),
        Parameter("neurons", "int", "of a network", 10, 100_000),
        Parameter("start", "float", "deviation of the weights; the stage ends at a norm of 0.01",
                  1e-8, 5e-3),
        Parameter("inputs", "choice", "points on a line, or the five axes of a space",
                  choices=("line", "five-axes")),
    ),
    presets={
        "smoke": {"activation": ("tanh", "z-tanh", "z2-tanh"), "neurons": (30,), "start": (1e-6,),
                  "seeds": (8,)},
        "small": {"activation": ("tanh", "softplus", "z-tanh", "z2-tanh"), "neurons": (100,),
                  "start": (1e-6,), "seeds": (20,)},
        "full": {"activation": ("tanh", "softplus", "z-tanh", "z2-tanh"), "neurons": (1000,),
                 "start": (1e-8, 1e-7, 1e-6), "seeds": (100,)},
    },
    controls=(
        Control("large-start", "small-start", "start", 3e-3,
                "Neurons grow by a factor of two or so in the stage, too little to turn."),
        Control("five-axes", "two-entries", "inputs", "five-axes",
                "Each axis is a direction that neurons of z² tanh z may keep, with either sign, "
                "ten in all; eigenvalues for z tanh z lie too near each other to choose between "
                "them. Only p = 1 has two directions as before."),
    ),
    shape=("activation", "neurons", "inputs"),
    group=20,
    cost="about 25 s of one core",
    tolerance="The directions of all neurons that reach a norm of 0.01, taken as one where their "
    "cosine exceeds 0.98, are at most 2p in at least 0.8 of all cases (Clopper–Pearson, 95 %). The "
    "theorem speaks of starts that tend to zero; from any one start, neurons near the edge between "
    "two directions, or of targets with two nearly equal eigenvalues, are still on their way.",
)  # fmt: skip

CHANGED = ("start", "inputs", "activation", "neurons")
"""Parameters that the targets do not depend on."""

ROWS, SIZE, NEARNESS = 40, 0.01, 0.98
LEAST = 0.5
"""Share of the neurons that must reach the size."""
OFTEN = 0.8
"""Share of all cases in which the bound is claimed to hold from a start that is not zero."""


def predict(cells: Sequence[Cell]) -> Sequence[Values]:
    """Return the largest number of directions."""
    return [
        {"directions": 2.0 * MULTIPLICITY[str(cell.parameters["activation"])]} for cell in cells
    ]


def _problem(cell: Cell) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return inputs with their constant, `[rows, features]`, and targets."""
    generator = np.random.default_rng(cell.seed_for("targets", shared=CHANGED))
    phases, shift = generator.uniform(0, 2 * np.pi, 2), generator.normal()
    if cell.parameters["inputs"] == "five-axes":
        return np.eye(5), generator.choice([-1.0, 1.0], 5) * generator.uniform(0.8, 1.2, 5)
    x = np.linspace(-1, 1, ROWS)
    targets = np.sin(3 * x + phases[0]) + 0.5 * np.cos(5 * x + phases[1]) + 0.2 * shift
    return np.stack([x, np.ones(ROWS)], 1), targets


def experiment(cells: Sequence[Cell]) -> Sequence[Values]:
    """Let all neurons grow, and count their directions."""
    inputs, targets = (np.stack(part) for part in zip(*map(_problem, cells), strict=True))
    count, features = int(cells[0].number("neurons")), inputs.shape[2]
    starts = []
    for cell in cells:
        generator = np.random.default_rng(cell.seed_for("start", shared=("start", "inputs")))
        starts.append(cell.number("start") * generator.standard_normal((count, features + 1)))
    start = np.stack(starts)
    directions, arrived = grown(
        str(cells[0].parameters["activation"]), inputs, targets, start[..., 0], start[..., 1:], SIZE
    )
    return [
        {"directions": float(distinct(own[there], NEARNESS)), "arrived": float(there.mean())}
        for own, there in zip(directions, arrived, strict=True)
    ]


def judge(measured: xr.Dataset, predicted: xr.Dataset) -> Judgement:
    """Judge that there are never more directions than predicted."""
    least = float(measured["arrived"].min())
    if least < LEAST:
        sentence = f"In one case only {least:.0%} of the neurons left the first stage."
        return Judgement("inconclusive", sentence)
    found, most = flat(measured["directions"]), flat(predicted["directions"])
    share = proportion(int((found <= most).sum()), found.size, over="random cases")
    sentence = (
        f"At most 2p directions in {share.value:.1%} of {found.size} cases [{share.low:.1%}, "
        f"{share.high:.1%}], in at least {OFTEN:.0%} claimed. There are {found.min():.0f} to "
        f"{found.max():.0f} directions; at least {least:.0%} of the neurons of a case grew to the "
        "end of the stage."
    )
    state: State = "inconclusive"
    if share.low >= OFTEN:
        state = "supported"
    elif share.high < OFTEN:
        state = "refuted"
    return Judgement(state, sentence, {"cases with at most 2p directions": share})


def draw(figure: Figure, measured: xr.Dataset, predicted: xr.Dataset) -> None:
    """Draw numbers of directions over the largest that are predicted."""
    pairs = {
        str(name): (flat(predicted["directions"].sel(activation=name)),
                    flat(measured["directions"].sel(activation=name)))
        for name in measured["activation"].values
    }  # fmt: skip
    measured_over_predicted(figure, pairs, "directions, at most")
