"""The Gauss-Newton matrix from the side of the outputs: H^1/2 J J' H^1/2 / N.

It has the eigenvalues of J' H J / N that are not zero, and as many rows as there are outputs of
all examples: the small side where examples are few and parameters many.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from whynet.core.outcome import NotApplicable
from whynet.derivatives.empirical_ntk import empirical_ntk, plan_ntk
from whynet.models.subject import Subject

MOST_OUTPUTS = 1500
"""Examples times outputs up to which the kernel is made."""

MOST_WORK = 2e11
"""Multiplications that it may cost."""


def gauss_newton_kernel(subject: Subject, rows: int) -> np.ndarray | NotApplicable:
    """Return the kernel on the training rows that the training objective is averaged over.

    Args:
        subject: the network; its loss must treat rows apart and be convex in the outputs, as all
            named losses do. Float64 is wanted where small eigenvalues matter.
        rows: use that many rows, evenly spread; all where there are no more.

    Returns:
        `[rows * outputs, rows * outputs]`, float64, or why it is not made: too large.

    """
    examples = subject.examples("train")
    count = min(rows, examples.count)
    if count * int(np.prod(subject.output_shape[1:])) > MOST_OUTPUTS:
        return NotApplicable("This does not apply: examples times outputs are too many.")
    places = [i * examples.count // count for i in range(count)]
    inputs, targets = examples.take(places, device=subject.device, dtype=subject.dtype)
    plan = plan_ntk(subject, inputs)
    if 2.0 * (count * plan.outputs) ** 2 * plan.pair_work / plan.outputs > MOST_WORK:
        return NotApplicable("This does not apply: outputs times parameters are too many.")
    with torch.no_grad():
        outputs = subject.forward(subject.parameters, inputs)
    roots, scored = _roots(subject, outputs, targets)
    kernel = empirical_ntk(subject, inputs, form="full", plan=plan).double()
    turned = torch.einsum("iab,ibjc,jcd->iajd", roots, kernel, roots)
    size = count * plan.outputs
    return np.asarray(turned.reshape(size, size).cpu().numpy() / scored)


def _roots(subject: Subject, outputs: Tensor, targets: Any) -> tuple[Tensor, float]:
    """Return square roots `[rows, C, C]` of the loss's second derivatives, and what is scored."""
    with torch.enable_grad():
        leaf = outputs.detach().clone().requires_grad_()
        total, scored = subject.loss.sums(leaf, targets)
        (slope,) = torch.autograd.grad(total, leaf, create_graph=True)
        flat = slope.reshape(len(leaf), -1)
        columns = [
            torch.autograd.grad(one, leaf, retain_graph=True, materialize_grads=True)[0]
            for one in flat.sum(0)
        ]
    curved = torch.stack([c.reshape(len(leaf), -1) for c in columns], dim=2).double()
    values, vectors = torch.linalg.eigh((curved + curved.mT) / 2)
    # Second derivatives of convex losses: what is negative is round-off.
    roots = values.clamp(min=0).sqrt()
    return vectors @ (roots[:, :, None] * vectors.mT), float(scored)
