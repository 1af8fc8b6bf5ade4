"""The largest sharpness at which steps of an optimizer are stable, from its settings.

On a quadratic with eigenvalue h the steps of gradient descent and its relatives are a linear
recurrence of two terms, z^2 - trace z + det = 0, which grows once 1 + trace + det < 0. With step
size s, momentum m and dampening d of PyTorch that is, for `SGD`, h > 2 (1 + m) / ((1 - d) s), with
Nesterov's momentum h > 2 (1 + m) / ((1 + 2 m) s). For `Adam` with its second moments held still h
is an eigenvalue of P^-1/2 H P^-1/2, and the limit (2 + 2 b1) / ((1 - b1) s), 38 / s at b1 = 0.9;
decoupled decay w (`AdamW`) takes (1 + b1) / (1 - b1) w away. See Cohen et al. (2021, 2022).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from whynet.core.outcome import NotApplicable


@dataclass(frozen=True)
class Stability:
    """What limits the steps of an optimizer, parameter by parameter.

    Attributes:
        rule: how steps are taken, a phrase.
        scaling: by parameter, what its second derivatives are multiplied with (both sides by the
            square root) so that 1 is the limit; 0 where the optimizer does not move it.
        decay: by parameter, the factor of half its square norm that is part of the objective.
        learning_rate: step size; NaN where groups differ.
        limit: the limit of the sharpness itself; NaN where groups differ, or where the sharpness
            that counts is preconditioned.
        plain: whether scaling is one number for all parameters.

    """

    rule: str
    scaling: dict[str, Tensor]
    decay: dict[str, float]
    learning_rate: float
    limit: float
    plain: bool


def gradient_limit(
    learning_rate: float, momentum: float = 0.0, dampening: float = 0.0, *, nesterov: bool = False
) -> float:
    """Largest stable eigenvalue of the Hessian for (heavy-ball or Nesterov) gradient descent.

    >>> gradient_limit(0.1), gradient_limit(0.1, 0.5)
    (20.0, 30.0)
    """
    if nesterov:
        return 2 * (1 + momentum) / ((1 + 2 * momentum) * learning_rate)
    return 2 * (1 + momentum) / ((1 - dampening) * learning_rate)


def adam_limit(learning_rate: float, beta1: float = 0.9, decoupled_decay: float = 0.0) -> float:
    """Largest stable eigenvalue of the preconditioned Hessian for Adam.

    >>> round(adam_limit(1.0))
    38
    """
    return (2 / learning_rate - decoupled_decay) * (1 + beta1) / (1 - beta1)


def stability_of(optimizer: Any, parameters: Mapping[str, Tensor]) -> Stability | NotApplicable:
    """Read an optimizer's settings and state.

    Args:
        optimizer: of PyTorch, also inside the wrappers of Lightning and Accelerate.
        parameters: the trained parameters by name, the very tensors that the optimizer holds.

    Returns:
        The limits, or the sentence that says why none is known.

    """
    while not _known(optimizer) and _inner(optimizer) is not None:
        optimizer = _inner(optimizer)
    if not isinstance(optimizer, torch.optim.Optimizer):
        return NotApplicable("No optimizer was given to the recorder, so that no limit is known.")
    kind = _known(optimizer)
    if not kind:
        name = type(optimizer).__name__
        return NotApplicable(f"The stability limit of the optimizer {name} is not known.")
    names = {id(tensor): name for name, tensor in parameters.items()}
    scaling = {name: torch.zeros_like(tensor) for name, tensor in parameters.items()}
    decay = dict.fromkeys(parameters, 0.0)
    held = [g for g in optimizer.param_groups if any(id(p) in names for p in g["params"])]
    if not held:
        return NotApplicable("The optimizer holds none of the network's parameters.")
    if any(group.get("maximize") for group in held):
        return NotApplicable("The optimizer maximizes, so that there is no stability limit.")
    keys = ("momentum", "nesterov", "betas")
    if len({repr([group.get(key) for key in keys]) for group in held}) > 1:
        return NotApplicable("Groups of parameters differ in momentum: no limit is known.")
    limits = [_limit(kind, group) for group in held]
    if min(limits) <= 0:
        return NotApplicable("The decay is too large for the step size: no step is stable.")
    if all(math.isinf(limit) for limit in limits):
        return NotApplicable("The step size is 0, at which every step is stable.")
    if kind == "adam" and not optimizer.state:
        return NotApplicable("Adam has taken no step yet, so that it has no preconditioner.")
    for group, limit in zip(held, limits, strict=True):
        coupled = not _decoupled(group)
        for parameter in group["params"]:
            if id(parameter) not in names:
                continue
            name = names[id(parameter)]
            scale = _preconditioned(optimizer, group, parameter) if kind == "adam" else 1.0
            scaling[name] = torch.zeros_like(scaling[name]) + scale / limit
            decay[name] = float(group["weight_decay"]) if coupled else 0.0
    rates = {float(group["lr"]) for group in held}
    whole = all(id(p) in {id(q) for g in held for q in g["params"]} for p in parameters.values())
    plain = kind == "sgd" and len(set(limits)) == 1 and whole
    return Stability(
        _rule(kind, held[0]),
        scaling,
        decay,
        rates.pop() if len(rates) == 1 else math.nan,
        limits[0] if plain else math.nan,
        plain,
    )


def _inner(optimizer: Any) -> Any:
    """Return the optimizer inside a wrapper."""
    return getattr(optimizer, "optimizer", None)


def _known(optimizer: Any) -> str:
    kinds = {torch.optim.SGD: "sgd", torch.optim.Adam: "adam", torch.optim.AdamW: "adam"}
    return kinds.get(type(optimizer), "")


def _decoupled(group: Mapping[str, Any]) -> bool:
    return bool(group.get("decoupled_weight_decay", False))


def _limit(kind: str, group: Mapping[str, Any]) -> float:
    rate = float(group["lr"])
    if rate == 0:
        return math.inf
    if kind == "adam":
        decay = float(group["weight_decay"]) if _decoupled(group) else 0.0
        return adam_limit(rate, float(group["betas"][0]), decay)
    return gradient_limit(
        rate, float(group["momentum"]), float(group["dampening"]), nesterov=bool(group["nesterov"])
    )


def _preconditioned(
    optimizer: torch.optim.Optimizer, group: Mapping[str, Any], parameter: Tensor
) -> Tensor | float:
    """Return 1 / P of a parameter, with both corrections of the bias of running means."""
    state = optimizer.state.get(parameter)
    if not state:  # it never had a gradient, and does not move
        return 0.0
    steps, (beta1, beta2) = float(state["step"]), (float(beta) for beta in group["betas"])
    second = state["max_exp_avg_sq" if group["amsgrad"] else "exp_avg_sq"].detach()
    root = (second / (1 - beta2**steps)).sqrt() + float(group["eps"])
    inverse: Tensor = 1 / (root * (1 - beta1**steps)).clamp(min=1e-30)
    return inverse.to(parameter.dtype)


def _rule(kind: str, group: Mapping[str, Any]) -> str:
    if kind == "adam":
        return "AdamW" if _decoupled(group) else "Adam"
    if not float(group["momentum"]):
        return "gradient descent"
    return "Nesterov's momentum" if group["nesterov"] else "heavy-ball momentum"
