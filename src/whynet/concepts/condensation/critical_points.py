"""Critical points of small two-layer tanh networks, to round-off, and their Hessians."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import optimize
from torch import Tensor

_STARTS: Final = 10
_FARTHEST: Final = 1e2
_FLAT: Final = 1e-13
_POLISHES: Final = 30


def loss(parameters: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
    """Return half the mean squared error of `sum a_k tanh(w_k·x)`; parameters `[m, features + 1]`.

    A row holds the incoming weights of a neuron and, last, its outgoing weight.
    """
    weights = parameters.reshape(-1, inputs.shape[1] + 1)
    outputs = torch.tanh(inputs @ weights[:, :-1].T) @ weights[:, -1]
    return 0.5 * (outputs - targets).square().mean()


def slopes(parameters: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
    """Return the gradient, in the shape of the parameters."""
    held = parameters.detach().clone().requires_grad_()
    with torch.enable_grad():
        (found,) = torch.autograd.grad(loss(held, inputs, targets), held)
    return found


def curvatures(parameters: Tensor, inputs: Tensor, targets: Tensor) -> NDArray[Any]:
    """Return the eigenvalues of the Hessian, ascending, by differentiating twice."""
    return np.asarray(np.linalg.eigvalsh(_hessian(parameters.reshape(-1), inputs, targets).numpy()))


def _hessian(flat: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
    found: Tensor = torch.autograd.functional.hessian(  # type: ignore[no-untyped-call]
        lambda point: loss(point, inputs, targets), flat.detach()
    )
    return found


def critical_point(
    inputs: Tensor, targets: Tensor, neurons: int, generator: torch.Generator
) -> Tensor | None:
    """Find a critical point with a gradient below 1e-13, where the network is not degenerate.

    Quasi-Newton steps, then Newton's on the gradient with a pseudo-inverse. Starts that run off to
    infinity are dropped; None where all do.
    """
    for _ in range(_STARTS):
        start = torch.randn(neurons, inputs.shape[1] + 1, generator=generator, dtype=torch.float64)
        point = _descended(start, inputs, targets)
        for _ in range(_POLISHES):
            flat = point.reshape(-1)
            step = slopes(flat, inputs, targets)
            if float(step.norm()) < _FLAT / 10 or float(flat.norm()) > _FARTHEST:
                break
            square = _hessian(flat, inputs, targets)
            point = (flat - torch.linalg.pinv(square, rtol=1e-12) @ step).reshape(point.shape)
        flat_enough = float(slopes(point.reshape(-1), inputs, targets).norm()) < _FLAT
        alive = float(point[:, -1].abs().min()) > 1e-2
        if flat_enough and alive and float(point.norm()) < _FARTHEST:
            return point
    return None


def _descended(start: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
    points, wanted = inputs.numpy(), targets.numpy()

    def value(flat: NDArray[Any]) -> tuple[float, NDArray[Any]]:
        weights = flat.reshape(start.shape)
        hidden = np.tanh(points @ weights[:, :-1].T)
        errors = hidden @ weights[:, -1] - wanted
        back = errors[:, None] * (1 - hidden**2) * weights[:, -1]
        slope = np.concatenate([back.T @ points, (hidden.T @ errors)[:, None]], 1) / len(errors)
        return float(0.5 * (errors**2).mean()), slope.ravel()

    found = optimize.minimize(value, start.reshape(-1).numpy(), jac=True, method="L-BFGS-B",
                              options={"maxiter": 500, "ftol": 0, "gtol": 1e-12})  # fmt: skip
    return torch.from_numpy(found.x).reshape(start.shape)
