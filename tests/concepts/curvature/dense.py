"""Dense curvature matrices in float64 by forward mode and plain formulas: the oracle of operators.

Only kernels are chosen by `whynet.derivatives`, whose own first ways are reverse mode twice.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from tests.cases import CASES, mean_loss
from torch import Tensor, nn
from torch.nn.functional import one_hot

from whynet.derivatives.exact_kernels import exact_kernels
from whynet.models.subject import Subject

REFUSED = ("sequence", "regression")
"""Cases whose loss forward over reverse refuses ("ZeroTensors are immutable")."""


def function_of(name: str) -> tuple[Callable[[Tensor], Tensor], Tensor, Tensor]:
    """Outputs on all training rows as a function of the flat parameters, the point, targets."""
    case = CASES[name]
    module = case.build().double()
    inputs, targets = case.train
    if isinstance(inputs, dict):
        inputs = {k: v.double() if v.is_floating_point() else v for k, v in inputs.items()}
    elif inputs.is_floating_point():
        inputs = inputs.double()
    parameters = {n: p.detach() for n, p in module.named_parameters() if p.requires_grad}
    sizes = [p.numel() for p in parameters.values()]

    def outputs(flat: Tensor) -> Tensor:
        pieces = zip(parameters.items(), flat.split(sizes), strict=True)
        held = {key: piece.reshape(p.shape) for (key, p), piece in pieces}
        given = ((), inputs) if isinstance(inputs, dict) else ((inputs,), {})
        found = torch.func.functional_call(module, held, *given)
        return found if case.output is None else found[case.output]

    return outputs, torch.cat([p.reshape(-1) for p in parameters.values()]), targets


@cache
def dense_jacobian(name: str) -> Tensor:
    """[examples, outputs..., P] by forward mode."""
    outputs, point, _ = function_of(name)
    with exact_kernels():
        return torch.func.jacfwd(outputs)(point).detach()


@cache
def dense_hessian(name: str) -> Tensor:
    """[P, P] of the mean training loss, forward over reverse, with PyTorch's own loss."""
    outputs, point, targets = function_of(name)

    def loss(flat: Tensor) -> Tensor:
        return mean_loss(CASES[name].loss, outputs(flat), targets)

    outer = torch.func.jacrev if name in REFUSED else torch.func.jacfwd
    with exact_kernels():
        return outer(torch.func.grad(loss))(point).detach()


def dense_gauss_newton(name: str) -> Tensor:
    """[P, P]: J' H J over the scored positions, H by its formula."""
    outputs, point, targets = function_of(name)
    jacobian = dense_jacobian(name)
    if CASES[name].loss == "mse":
        flat = jacobian.flatten(0, -2)
        return 2 * flat.T @ flat / len(flat)
    scores = outputs(point).detach()
    if CASES[name].loss == "bce":
        chance = scores.sigmoid().reshape(-1)
        flat = jacobian.flatten(0, -2)
        return (flat.T * (chance * (1 - chance))) @ flat / len(flat)
    rows = jacobian.flatten(0, -3)[targets.reshape(-1) != -100]
    chance = scores.softmax(-1).flatten(0, -2)[targets.reshape(-1) != -100]
    middle = torch.diag_embed(chance) - chance[:, :, None] * chance[:, None]
    return torch.einsum("ncp,ncd,ndq->pq", rows, middle, rows) / len(rows)


def example_gradients(name: str) -> Tensor:
    """[examples, P], gradient of the loss of each training row by the chain rule."""
    outputs, point, targets = function_of(name)
    jacobian, scores = dense_jacobian(name), outputs(point).detach()
    if CASES[name].loss == "mse":
        slope = 2 * (scores - targets.reshape(scores.shape)) / scores[0].numel()
    elif CASES[name].loss == "bce":
        slope = (scores.sigmoid() - targets.reshape(scores.shape)) / scores[0].numel()
    else:
        kept = (targets != -100).double()
        hot = one_hot(targets.clamp(min=0), scores.shape[-1])
        count = (
            kept.reshape(len(kept), -1).sum(1).clamp(min=1).reshape(-1, *[1] * (scores.ndim - 1))
        )
        slope = (scores.softmax(-1) - hot) * kept[..., None] / count
    return torch.einsum("nk,nkp->np", slope.flatten(1), jacobian.flatten(1, -2))


def subject(name: str, **options: object) -> Subject:
    return CASES[name].subject(dtype=torch.float64, batch_size=20, **options)


def miss(found: Tensor, wanted: Tensor) -> float:
    """Largest gap over the largest entry."""
    return float((found - wanted).abs().max() / wanted.abs().max())


class Smoothed(nn.Module):
    """Cross-entropy with smoothed labels, written out."""

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        logs = outputs.log_softmax(-1)
        right = logs.gather(1, targets[:, None])[:, 0]
        return -(0.9 * right + 0.1 * logs.mean(-1)).mean()
