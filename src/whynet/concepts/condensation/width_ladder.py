"""One training run of some width from some start: how far its weights moved, and what it became.

How far a layer moved is the part of its change that is not along its start, relative to the start:
weight decay shrinks every start alike and would look like a movement that no width changes. Where
both sides of a matrix grow with the width, lengths are spectral norms, since a change of few
directions vanishes beside the length of a square random matrix even where features move (Yang,
Simon and Bernstein 2023, arXiv:2310.17813).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from scipy.sparse.linalg import svds
from torch import Tensor, nn

from whynet.concepts.condensation.layer_directions import direction_counts
from whynet.concepts.condensation.reduction import condense
from whynet.concepts.condensation.workplace import called
from whynet.models.batch_norm import batch_normalized, recalibrated_on
from whynet.models.retrained_scores import Scores, scores_of
from whynet.models.retraining import Diverged, Retrained, Trainer, Variation
from whynet.models.starting_weights import drawn_parameters
from whynet.models.subject import Split, Subject

WIDTHS: Final = (0.5, 1.0, 2.0)
"""Factors on the widths of a round."""

SCALES: Final = (0.25, 1.0, 4.0)
"""Factors on the weights that training starts from."""

MOST_LAYERS: Final = 40
MOST_SINGULAR: Final = 1024
"""Smaller side of a matrix up to which its spectral norm is that of a full decomposition."""


@dataclass(frozen=True)
class Layer:
    """A layer whose weights its builder drew.

    Attributes:
        path: foreign text.
        names: its parameters.
        square: the one whose two sides grow with the width; None where there is none.

    """

    path: str
    names: tuple[str, ...]
    square: str | None


@dataclass(frozen=True)
class Run:
    """What one run did; a run that diverged has an infinite loss and nothing else.

    Attributes:
        loss: mean training loss after it.
        first_loss: before it.
        across: layer to the part of its change that is not along its start, over the start.
        whole: layer to the length of its change over that of its start.
        directions: layer of neurons to how many directions hold what its units contribute, after
            training and before.
        scores: of the test data, where there are any.
        kept: units that `condense` leaves of all layers that may lose any; None where not asked.

    """

    loss: float
    first_loss: float = math.inf
    across: Mapping[str, float] = field(default_factory=dict)
    whole: Mapping[str, float] = field(default_factory=dict)
    directions: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    scores: Scores | None = None
    kept: int | None = None

    @property
    def finite(self) -> bool:
        """Whether the run ended in finite weights and loss."""
        return math.isfinite(self.loss)


def layers_of(subject: Subject, widths: Sequence[float]) -> tuple[Layer, ...]:
    """Return the layers with drawn weights in the order in which they run, the last one last.

    What starts at zero, such as the shifts of normalizations and matrices of branches, has no
    relative change and is left out, but for a last layer.

    Args:
        subject: one that can be trained again.
        widths: factors; of two or more the shapes say which sides grow.

    """
    trainer = subject.trainer
    assert trainer is not None
    ends = [trainer.fresh(Variation(width=width)) for width in (min(widths), max(widths))]
    drawn = [drawn_parameters(module) for module in ends]
    owners: dict[str, list[str]] = {}
    for name in drawn[0]:
        owners.setdefault(name.rpartition(".")[0], []).append(name)
    largest = {p: max((drawn[0][n] for n in names), key=torch.numel) for p, names in owners.items()}
    zero = [path for path, parameter in largest.items() if not bool(parameter.any())]
    flat = [path for path in zero if largest[path].ndim < 2]
    order = _in_order(subject, ends[0], [path for path in owners if path not in flat])
    kept = [path for path in order[:-1] if path not in zero][: MOST_LAYERS - 1] + order[-1:]
    found = []
    for path in kept:
        shapes = [{name: one[name].shape for name in owners[path] if name in one} for one in drawn]
        square = [name for name in shapes[0] if _both_grow(shapes[0][name], shapes[1].get(name))]
        found.append(Layer(path, tuple(owners[path]), square[0] if square else None))
    return tuple(found)


def _both_grow(small: torch.Size, large: torch.Size | None) -> bool:
    if large is None or len(small) != len(large) or len(small) < 2:
        return False
    return small[0] < large[0] and small[1:].numel() < large[1:].numel()


def _in_order(subject: Subject, module: nn.Module, paths: list[str]) -> list[str]:
    """Put modules in the order in which they first run; what never runs as a module comes first."""
    seen: dict[str, None] = {}

    def note(path: str, *_: Any) -> None:
        seen.setdefault(path)

    handles = [
        module.get_submodule(path).register_forward_hook(partial(note, path)) for path in paths
    ]
    inputs, _ = subject.examples("train").take(
        range(min(2, subject.examples("train").count)), device=subject.device, dtype=subject.dtype
    )
    try:
        with torch.no_grad():
            called(module.to(subject.device, subject.dtype).eval(), inputs, subject.output)
    finally:
        for handle in handles:
            handle.remove()
    return [*(path for path in paths if path not in seen), *seen]


def climb(
    subject: Subject,
    trainer: Trainer,
    variation: Variation,
    layers: Sequence[Layer],
    tolerance: float | None = None,
) -> Run:
    """Train one network, and compare it with its start.

    Args:
        subject: gives loss, data, device and precision.
        trainer: builds and trains the network.
        variation: seed, width and start.
        layers: as `layers_of` returns them.
        tolerance: largest change of an output, of the largest, to which the trained network is made
            smaller; None to leave that out.

    Cost: one training run, and four passes over the data.

    """
    try:
        done = trainer.run(variation, subject.examples("train"), device=subject.device)
    except Diverged:
        return Run(math.inf)
    after = subject.alone(done.module, train=done.train)
    loss, before = _mean_loss(after, "train"), _before(subject, done)
    if not math.isfinite(loss):
        return Run(math.inf)
    scores = scores_of(after) if subject.test is not None else None
    if scores is not None and not np.isfinite(scores.loss).all():
        return Run(math.inf)
    across, whole = moved(done, layers)
    counts = [{} if one is None else direction_counts(one) for one in (after, before)]
    return Run(
        loss,
        math.inf if before is None else _mean_loss(before, "train"),
        across,
        whole,
        {path: (counts[0][path], counts[1][path]) for path in counts[0] if path in counts[1]},
        scores,
        None if tolerance is None else units_kept(after, tolerance),
    )


def units_kept(subject: Subject, tolerance: float) -> int:
    """Count the units that are left of all layers that may lose any, at a tolerance."""
    return sum(la.after for la in condense(subject, tolerance=tolerance).layers if not la.reason)


def _before(subject: Subject, done: Retrained) -> Subject | None:
    """Return the network before training; None where batch normalization cannot be recalibrated."""
    module = copy.deepcopy(done.module).to(subject.device, subject.dtype)
    module.load_state_dict(done.initial_state)
    known = not batch_normalized(module) or recalibrated_on(
        module, done.train, subject.batch_size, subject.device, subject.dtype
    )
    return subject.alone(module, train=done.train) if known else None


def _mean_loss(subject: Subject, split: Split) -> float:
    outputs, targets = subject.outputs(split)
    with torch.no_grad():
        return float(subject.loss.per_example(outputs, targets).double().mean())


def moved(done: Retrained, layers: Sequence[Layer]) -> tuple[dict[str, float], dict[str, float]]:
    """Return how far each layer moved across its start, and in all, relative to the start.

    With start A and end B, the first is ‖B − αA‖/‖A‖ with α = ⟨A, B⟩/⟨A, A⟩, in spectral norms
    where both sides grow with the width; the second is ‖B − A‖/‖A‖. All in float64.
    """
    ends = dict(done.module.named_parameters())
    across, whole = {}, {}
    for layer in layers:
        names = [name for name in layer.names if name in ends]
        pairs = [(_flat(done.initial_state[name]), _flat(ends[name].detach())) for name in names]
        start, end = (torch.cat([pair[k] for pair in pairs]) for k in (0, 1))
        size = float(start.norm())
        if size == 0:
            continue
        whole[layer.path] = float((end - start).norm()) / size
        if layer.square in names:
            assert layer.square is not None
            one, two = (_flat(t) for t in (done.initial_state[layer.square], ends[layer.square]))
            shape = ends[layer.square].flatten(1).shape
            rest = _across(one, two.detach()).reshape(shape)
            across[layer.path] = _spectral(rest) / _spectral(one.reshape(shape))
        else:
            across[layer.path] = float(_across(start, end).norm()) / size
    return across, whole


def _flat(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", torch.float64).reshape(-1)


def _across(start: Tensor, end: Tensor) -> Tensor:
    # Of the difference, so that nothing is lost where the end lies near the start.
    change = end - start
    return change - start * (start @ change / (start @ start))


def _spectral(matrix: Tensor) -> float:
    values = matrix.numpy()
    if min(values.shape) <= MOST_SINGULAR or not values.any():
        return float(np.linalg.norm(values, 2))
    # Started at one vector, so that the same matrix has the same norm.
    first = np.ones(min(values.shape)) / math.sqrt(min(values.shape))
    return float(svds(values, k=1, v0=first, tol=1e-8, return_singular_vectors=False)[0])
