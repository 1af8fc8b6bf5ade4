"""How strongly the weights of a trained network are held where they are.

- Where the remaining gradient is balanced by a pull toward zero or toward the initial weights (a
  minimum of a penalized loss), the damping is that of the pull;
- else, where the network can be trained again, some rows are really left out once, together, and
  the damping is the one that predicts best what the network so trained says of them;
- else it is the least-squares pull all the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from whynet.concepts.generalization.scored_training_rows import ScoredRows, chance_of
from whynet.core.errors import InputError
from whynet.core.seeds import seed_from
from whynet.derivatives.damped_gauss_newton import Solver
from whynet.models.retraining import Variation
from whynet.numerics.left_out import pull, without_row

WORST_CONDITION = 1e6
"""Largest condition number; the damping is raised until it holds."""

BALANCED = 0.9
"""Cosine between the remaining gradient and the pull from which on the pull is believed."""

MOST_TRIED = 100
"""Rows that are left out together."""


@dataclass(frozen=True)
class Damping:
    """How strongly the weights are held.

    Attributes:
        value: damping of the summed loss.
        rule: `pull` or `retraining`; `condition` where only the condition number sets it.
        toward: what the weights are pulled to, `zero` or `start`.
        cosine: between what is left of the gradient and the pull; 1 at a minimum.
        condition: largest over least eigenvalue of the damped Gauss-Newton matrix.
        checked: rows that were really left out; 0 where none were.
        miss: root mean square gap between predicted and real answers on them: of the probability
            of the own label, or of the outputs over the targets' spread. NaN where there are none.

    """

    value: float
    rule: str
    toward: str
    cosine: float
    condition: float = 1.0
    checked: int = 0
    miss: float = float("nan")


def pulled(rows: ScoredRows, names: list[str]) -> Damping:
    """Return the damping that explains the remaining gradient best.

    A network trained to the end with weight decay is where the gradient balances the pull toward
    zero; one held to its start, toward that. Of the two, the one that points along the gradient
    more closely is taken.
    """
    network = rows.network
    gradient = _gradient(rows, names)
    ends = {"zero": torch.zeros_like(gradient)}
    initial = network.initial
    if initial is not None:
        ends["start"] = torch.cat([initial.parameters[name].flatten() for name in names])
    here = torch.cat([network.parameters[name].flatten() for name in names])
    found = {toward: pull(gradient, here - end) for toward, end in ends.items()}
    toward = max(found, key=lambda name: found[name][1])
    value, cosine = found[toward]
    return Damping(max(0.0, value), "pull", toward, cosine)


def _gradient(rows: ScoredRows, names: list[str]) -> Tensor:
    """Return the gradient of the summed loss in some of the parameters."""
    network = rows.network
    held = {name: network.parameters[name].clone().requires_grad_() for name in names}
    total = torch.zeros(sum(tensor.numel() for tensor in held.values()), dtype=network.dtype)
    with torch.enable_grad():
        for inputs, targets in network.batches("train"):
            outputs = network.forward({**network.parameters, **held}, inputs)
            value = network.loss.sums(outputs, targets)[0]
            parts = torch.autograd.grad(value, list(held.values()), materialize_grads=True)
            total += torch.cat([part.flatten() for part in parts]).cpu()
    return total


def conditioned(damping: Damping, largest: float) -> Damping:
    """Raise the damping until the condition number holds."""
    least = largest / (WORST_CONDITION - 1)
    rule = damping.rule if damping.value >= least else "condition"
    value = max(damping.value, least, float(np.finfo(float).tiny))
    return replace(damping, value=value, rule=rule, condition=1 + largest / value)


def tenth_of(rows: ScoredRows) -> np.ndarray:
    """Draw a tenth of the rows to leave out."""
    count = min(max(2, len(rows.rows) // 10), MOST_TRIED)
    generator = np.random.default_rng(seed_from("left-out rows"))
    return np.sort(generator.permutation(len(rows.rows))[:count])


def calibrated(rows: ScoredRows, solver: Solver, damping: Damping, tenth: np.ndarray) -> Damping:
    """Choose the damping that predicts best what a network trained without some rows says."""
    network = rows.network
    left = np.setdiff1d(np.arange(network.examples("train").count), rows.rows[tenth])
    try:
        other = network.retrained(Variation(seed=1, rows=tuple(int(row) for row in left)))
    except InputError:  # a training function that needs all rows, or diverged
        return damping
    with torch.no_grad():
        really = other.forward(other.parameters, rows.inputs(tenth)).reshape(len(tenth), -1).cpu()
    misses: dict[float, float] = {}

    def best(*powers: float) -> float:
        for power in powers:
            if power not in misses and -6 <= power <= 0:
                value = 10.0**power * solver.largest
                misses[power] = _miss(rows, solver.group(tenth, value), tenth, really)
        return min(misses, key=lambda power: misses[power])

    power, before = best(-3.0), float("nan")
    while power != before:  # downhill in decades, then half a decade to either side
        power, before = best(power - 1, power + 1), power
    power = best(power - 0.5, power + 0.5)
    return replace(
        damping,
        value=10.0**power * solver.largest,
        rule="retraining",
        checked=len(tenth),
        miss=misses[power],
    )


def _miss(rows: ScoredRows, block: Tensor, tenth: np.ndarray, really: Tensor) -> float:
    """Root mean square gap between what leaving rows out predicts and what was found."""
    own = rows.root[tenth] @ rows.root[tenth].transpose(1, 2)
    curvature = torch.block_diag(*own)  # type: ignore[no-untyped-call]
    change, _ = without_row(block[None], curvature[None], rows.gradient[tenth].reshape(1, -1))
    predicted = rows.outputs[tenth] + change.reshape(len(tenth), -1)
    if rows.labels is None:
        scale = rows.targets.std(0, correction=0).clamp(min=1e-12)
        return float(((predicted - really) / scale).square().mean().sqrt())
    gap = chance_of(predicted, rows.labels[tenth]) - chance_of(really.double(), rows.labels[tenth])
    return float(np.sqrt((gap**2).mean()))
