"""The objective of a subject, and the plan to differentiate it, found once a subject."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from whynet.core.outcome import NotApplicable
from whynet.core.seeds import seed_from
from whynet.derivatives.objective import Network, Objective, in_training_mode
from whynet.derivatives.out_of_memory import Pieces
from whynet.derivatives.output_derivatives import output_derivatives
from whynet.derivatives.plan import Plan, choose_plan
from whynet.models.network_checks import select_output
from whynet.models.subject import Split, Subject

_PLANS: WeakKeyDictionary[Subject, Plan | NotApplicable] = WeakKeyDictionary()


def objective_from(
    subject: Subject,
    split: Split = "train",
    rows: int | None = None,
    *,
    places: Sequence[int] | None = None,
) -> Objective:
    """Return the mean loss of a subject over a split as a function of its trainable parameters.

    Args:
        subject: the network with its loss and data, in evaluation mode.
        split: which data.
        rows: use that many rows, evenly spread over the split; all by default.
        places: use the rows at these places instead.

    Cost: one forward pass over the rows, which counts what the loss scores.

    """
    examples = subject.examples(split)
    if places is not None:
        examples = examples.subset(list(places))
    elif rows is not None and rows < examples.count:
        examples = examples.subset([i * examples.count // rows for i in range(rows)])

    def batches() -> Iterator[tuple[Any, Any]]:
        yield from examples.batches(subject.batch_size, device=subject.device, dtype=subject.dtype)

    def call(network: Network, inputs: Any) -> Tensor:
        args = (
            inputs if isinstance(inputs, tuple) else () if isinstance(inputs, dict) else (inputs,)
        )
        kwargs = inputs if isinstance(inputs, dict) else {}
        return select_output(network(*args, **kwargs), subject.output)

    def loss_sum(outputs: Tensor, targets: Any) -> Tensor:
        return subject.loss.sums(outputs, targets)[0]

    likelihood = subject.loss.likelihood if subject.loss.built_in else None
    derivatives = None if likelihood is None else partial(output_derivatives, likelihood)
    objective = Objective(
        subject.module,
        subject.parameters,
        subject.frozen,
        loss_sum,
        batches,
        0.0,
        call,
        derivatives=derivatives,
    )
    return replace(objective, count=_count(subject, objective))


def training_objective_from(subject: Subject, split: Split = "train") -> Objective:
    """Return the objective that training differentiates, all rows in one batch.

    Batch normalization uses the statistics of the rows; nothing is dropped; weight decay, which
    belongs to the optimizer, is left to the caller.

    Args:
        subject: the network with its loss and data.
        split: which data; all of its rows are in memory at once.

    """
    module = in_training_mode(subject.module)
    rows = subject.examples(split).count
    if rows > subject.batch_size:
        subject = subject.replaced(subject.module, batch_size=rows)
    together = any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in module.modules())
    return replace(objective_from(subject, split), module=module, separable=not together)


def _count(subject: Subject, objective: Objective) -> float:
    """Count the scored examples or positions; only the loss knows which are scored."""

    def work(inputs: Any, targets: Any) -> Tensor:
        outputs = objective.forward(objective.parameters, inputs)
        return torch.tensor(subject.loss.sums(outputs, targets)[1], dtype=torch.float64)

    with torch.no_grad():
        return float(Pieces(objective).summed(work))


def plan_for(subject: Subject) -> Plan | NotApplicable:
    """Return the plan to differentiate a subject's training loss; probed once a subject."""
    if subject not in _PLANS:
        objective = objective_from(subject, "train" if subject.train is not None else "test")
        _PLANS[subject] = choose_plan(objective, seed_from("differentiation plan"))
    return _PLANS[subject]


def describe(plan: Plan) -> str:
    """Say how a network is differentiated and what the checks said, in one phrase."""
    ways = f"Second derivatives by {plan.way.replace('-', ' ')}."
    notes = " ".join(note for note in plan.notes if note != ways)
    return (
        f"{ways} One random direction against float64 differences: the Hessian product misses by "
        f"{plan.check:.1e}, the gradient by {plan.gradient_check:.1e}. {notes}".strip()
    )
