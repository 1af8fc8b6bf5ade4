"""Short ways to objectives and dense matrices for the tests of derivatives."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from whynet.core.outcome import NotApplicable
from whynet.derivatives.objective import Objective, objective_of
from whynet.derivatives.plan import Plan, choose_plan
from whynet.derivatives.products import CurvatureOperator, gauss_newton, hessian


def squared(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).square().sum()


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs, targets, reduction="sum")


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def labels(count: int, classes: int) -> Tensor:
    return torch.arange(count) * 7 % classes


def filled(module: nn.Module, dtype: torch.dtype = torch.float64, seed: int = 1) -> nn.Module:
    """Cast a module and draw its parameters from a seed."""
    module = module.to(dtype)
    with torch.no_grad():
        for index, parameter in enumerate(module.parameters()):
            parameter.copy_(0.5 * normal(*parameter.shape, seed=100 * seed + index))
    return module


def objective(
    module: nn.Module, inputs: Tensor, targets: Tensor, loss: object, cuts: Sequence[int] = ()
) -> Objective:
    """An objective over rows, cut into batches before the given rows."""
    edges = [0, *cuts, len(inputs)]
    spans = list(pairwise(edges))
    return objective_of(
        module, loss, lambda: [(inputs[a:b], targets[a:b]) for a, b in spans], len(inputs)
    )


def planned(made: Objective) -> Plan:
    plan = choose_plan(made, 0)
    assert isinstance(plan, Plan), plan.reason
    return plan


def dense(operator: CurvatureOperator) -> Tensor:
    return operator.matmat(torch.eye(operator.size, dtype=operator.layout.dtype))


def dense_hessian(made: Objective, **options: int) -> Tensor:
    return dense(hessian(made, planned(made), **options))


def dense_gauss_newton(made: Objective, **options: int) -> Tensor:
    operator = gauss_newton(made, planned(made), **options)
    assert not isinstance(operator, NotApplicable), operator.reason
    return dense(operator)


def small_network(dtype: torch.dtype = torch.float64) -> nn.Module:
    return filled(nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)), dtype)


def small_objective(dtype: torch.dtype = torch.float64, cuts: Sequence[int] = ()) -> Objective:
    inputs = normal(30, 4, seed=5, dtype=dtype)
    return objective(small_network(dtype), inputs, labels(30, 3), cross_entropy, cuts)
