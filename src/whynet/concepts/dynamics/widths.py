"""One short training run of a network of some width: how far its activations moved."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from whynet.models.batch_norm import batch_normalized, recalibrate
from whynet.models.data.examples import Examples
from whynet.models.network_checks import select_output
from whynet.models.retraining import Diverged, Trainer, Variation
from whynet.models.subject import Subject

WIDTHS = (0.5, 1.0, 2.0, 4.0)
"""Factors on the widths at which activations are watched."""

RATE_WIDTHS = (0.5, 1.0, 2.0)
"""Those at which step sizes are tried."""

RATES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Factors on the step size. Short runs prefer larger ones than long ones do."""

MOST_LAYERS = 40


@dataclass(frozen=True)
class Run:
    """What one run did.

    Attributes:
        loss: mean training loss after it; infinite where it diverged.
        changes: layer to the root mean square change of its outputs, over rows and units.
        parameters: how many the network has.

    """

    loss: float
    changes: Mapping[str, float] = field(default_factory=dict)
    parameters: int = 0

    @property
    def finite(self) -> bool:
        """Whether the run ended in finite weights and loss."""
        return bool(np.isfinite(self.loss))


def short_run(
    subject: Subject,
    trainer: Trainer,
    variation: Variation,
    watched: Examples | None,
    judged: Examples,
) -> Run:
    """Train a network and compare its activations with those at its initial weights.

    Args:
        subject: gives loss, data, device and precision of the comparison.
        trainer: builds and trains the network.
        variation: seed, width, step size and steps.
        watched: rows that activations are compared on; None compares none.
        judged: rows that the loss is measured on.

    """
    try:
        done = trainer.run(variation, subject.examples("train"), device=subject.device)
    except Diverged:
        return Run(float("inf"))
    after = _prepared(subject, done.module)
    loss = _mean_loss(subject, after, judged)
    size = sum(parameter.numel() for parameter in after.parameters())
    changes: Mapping[str, float] = {}
    if watched is not None:
        before = _prepared(subject, done.module)
        before.load_state_dict(done.initial_state)
        changes = changed(subject, before, after, watched)
    return Run(loss if np.isfinite(loss) else float("inf"), changes, size)


def _prepared(subject: Subject, module: nn.Module) -> nn.Module:
    return copy.deepcopy(module).to(dtype=subject.dtype).eval().requires_grad_(False)


def _call(module: nn.Module, inputs: Any) -> Any:
    if isinstance(inputs, dict):
        return module(**inputs)
    return module(*(inputs if isinstance(inputs, tuple) else (inputs,)))


def _mean_loss(subject: Subject, module: nn.Module, rows: Examples) -> float:
    total, count = 0.0, 0
    with torch.no_grad():
        for inputs, targets in rows.batches(
            subject.batch_size, device=subject.device, dtype=subject.dtype
        ):
            outputs = select_output(_call(module, inputs), subject.output)
            total += float(subject.loss.per_example(outputs, targets).double().sum())
            count += len(targets)
    return total / count


def changed(
    subject: Subject, before: nn.Module, after: nn.Module, rows: Examples
) -> dict[str, float]:
    """Return the root mean square difference of every layer's outputs between two networks.

    Layers are the modules that hold parameters and no further modules, in the order in which
    they run; what they return is compared over all rows and units. Statistics of batch
    normalization are reset to those of the rows in both.

    Args:
        subject: gives device and precision.
        before: a network.
        after: one of the same form.
        rows: what both are run on.

    """
    inputs, targets = rows.take(range(rows.count), device=subject.device, dtype=subject.dtype)
    for module in (before, after):
        if batch_normalized(module):
            recalibrate(module, lambda: iter([(inputs, targets)]))
    first, second = _outputs(before, inputs), _outputs(after, inputs)
    found = {}
    for path, tensor in first.items():
        if path in second and second[path].shape == tensor.shape:
            gap = second[path].double() - tensor.double()
            found[path] = float(gap.square().mean().sqrt())
    return dict(list(found.items())[:MOST_LAYERS])


def _outputs(module: nn.Module, inputs: Any) -> dict[str, Tensor]:
    seen: dict[str, Tensor] = {}

    def hook(path: str) -> Callable[..., None]:
        def note(layer: nn.Module, args: Any, output: Any) -> None:
            value = output[0] if isinstance(output, tuple) and output else output
            if isinstance(value, Tensor) and value.is_floating_point():
                seen[path] = value.detach().clone()

        return note

    handles = [
        child.register_forward_hook(hook(path))
        for path, child in module.named_modules()
        if next(child.parameters(), None) is not None and next(child.children(), None) is None
    ]
    try:
        with torch.no_grad():
            _call(module, inputs)
    finally:
        for handle in handles:
            handle.remove()
    return seen
