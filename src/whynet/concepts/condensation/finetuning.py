"""A smaller network trained on, and what that adds.

The network is trained towards the outputs of the large one on the training data, by Adam with a
step that falls to zero (Kingma and Ba 2014; distillation: Hinton, Vinyals and Dean 2015). Labels
are not looked at, so that scores on them stay a check. Several orders of the examples are tried;
what is handed over is the one of the least largest error on the training data, or the network as
it was where none errs less.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from torch import nn

from whynet.concepts.condensation.reduction import MOST_EXAMPLES, Condensed
from whynet.concepts.condensation.workplace import called
from whynet.core.errors import InputError
from whynet.models.features import bounded
from whynet.models.preservation import preserved
from whynet.models.scores import correct
from whynet.models.subject import Subject
from whynet.numerics.intervals import mean_t

SEEDS: Final = 3
"""Orders of the examples."""

RATE: Final = 1e-3
"""Step size of Adam at the start."""

BATCH: Final = 64


@dataclass(frozen=True, eq=False)
class Finetuned:
    """What training on added.

    Attributes:
        steps: of Adam, for each seed.
        rate: step size at the start.
        before: largest relative change of an output on the training data, without it.
        after: `[seeds]`, the same with it, one for each order of the examples.
        score: what is scored: `accuracy` or `loss`, on the test data where there are any.
        score_before: without it.
        score_after: `[seeds]`, with it.
        taken: the seed whose network is handed over; None where none errs less than without.

    """

    steps: int
    rate: float
    before: float
    after: tuple[float, ...]
    score: str
    score_before: float
    score_after: tuple[float, ...]
    taken: int | None

    @property
    def factor(self) -> tuple[float, float, float]:
        """Error with over without it: geometric mean over seeds, and its interval."""
        found = mean_t(np.log(np.asarray(self.after) / max(self.before, 1e-300)), over="seeds")
        return math.exp(found.value), math.exp(found.low), math.exp(found.high)

    def sentence(self) -> str:
        """Say what it added."""
        value, low, high = self.factor
        done = (
            f"Trained on for {self.steps:,} steps towards the large network's outputs, the largest "
            f"change of an output is {value:.3g} [{low:.3g}, {high:.3g}] times that of "
            f"{self.before:.2e} without ({len(self.after)} orders of the examples)"
        )
        scores = mean_t(np.asarray(self.score_after), over="seeds")
        done += (
            f"; {self.score} {self.score_before:.4g} without, {scores.value:.4g} "
            f"[{scores.low:.4g}, {scores.high:.4g}] with"
        )
        if self.taken is None:
            return f"{done}: none errs less, so the network without it is handed over."
        return f"{done}; that of {self.after[self.taken]:.2e} is handed over."


def finetune(
    found: Condensed, steps: int, *, seeds: int = SEEDS, rate: float = RATE
) -> tuple[Condensed, Finetuned]:
    """Train a smaller network towards the outputs of the large one.

    Args:
        found: as `condense` returned it; not changed.
        steps: of Adam on batches of 64 examples, for each seed.
        seeds: orders of the examples, at least 2.
        rate: step size at the start.

    Returns:
        The condensation with the better network, and what training added. The network runs in
        evaluation mode throughout, so that statistics of batch normalization stay.

    Raises:
        InputError: a number out of range, or a network that was not reduced.

    Cost: `seeds * steps` steps, and a pass over the data for each seed.

    """
    if steps < 1 or seeds < 2 or not 0 < rate < math.inf:
        raise InputError("finetune", f"{steps} steps, {seeds} seeds", "at least 1 and 2")
    if not found.reduced:
        raise InputError("finetune", "a network that was not reduced", "a smaller network")
    with preserved():
        before = _error(found.subject, found.module)[0]
        made = [_trained(found, steps, seed, rate) for seed in range(seeds)]
        errors = [_error(found.subject, module) for module in made]
        scores = [_score(found.subject, module) for module in (found.module, *made)]
    after = tuple(error[0] for error in errors)
    best = int(np.argmin(after))
    taken = best if after[best] < before else None
    score = _score_name(found.subject)
    done = Finetuned(steps, rate, before, after, score, scores[0], tuple(scores[1:]), taken)
    if taken is None:
        return found, done
    chosen = replace(found.chosen, largest=after[best], root_mean_square=errors[best][1])
    return replace(found, module=made[best], chosen=chosen), done


def _error(subject: Subject, module: nn.Module) -> tuple[float, float]:
    before = subject.outputs("train")[0].double()
    gap = subject.alone(module).outputs("train")[0].double() - before
    size = before.abs().max().clamp_min(1e-300)
    return float(gap.abs().max() / size), float(gap.norm() / before.norm().clamp_min(1e-300))


def _score_name(subject: Subject) -> str:
    return "accuracy" if "classification" in subject.loss.task else "loss"


def _score(subject: Subject, module: nn.Module) -> float:
    outputs, targets = subject.alone(module).outputs(subject.any_split)
    if _score_name(subject) == "accuracy":
        return float(correct(subject.loss, outputs, targets).double().mean())
    return float(subject.loss.per_example(outputs, targets).detach().double().mean())


def _trained(found: Condensed, steps: int, seed: int, rate: float) -> nn.Module:
    subject = found.subject
    data = bounded(subject.examples("train"), MOST_EXAMPLES, "finetune")
    module = copy.deepcopy(found.module).to(subject.device).eval()
    generator = torch.Generator().manual_seed(seed)
    moved = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(moved, lr=rate)
    fall = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    order: list[int] = []
    for _ in range(steps):
        if not order:
            order = torch.randperm(data.count, generator=generator).tolist()
        rows, order = order[:BATCH], order[BATCH:]
        inputs, _ = data.take(rows, device=subject.device, dtype=subject.dtype)
        with torch.no_grad():
            wanted = called(subject.module, inputs, subject.output)
        with torch.enable_grad():
            gap = called(module, inputs, subject.output) - wanted
            loss = gap.square().mean() / wanted.square().mean().clamp_min(1e-30)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        fall.step()
    return module
