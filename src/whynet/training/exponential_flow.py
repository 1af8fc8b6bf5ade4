"""Steps of gradient flow that follow the linearized network exactly, for data of few outputs.

Let `f` be all outputs over the rows, `J` their Jacobian, `H` the Hessian of the loss in `f` and `S`
the speeds of the parameters. As long as `J` stays, `r = ∂L/∂f` obeys `dr/dt = -H J S Jᵀ r`, whose
solution is known: where a network is close to its linearization a step may be as long as all of
training, and how stiff the problem is plays no role. What the linearization leaves out is
integrated to second order (exponential time differencing with two stages, Cox and Matthews 2002,
linear part of the Gauss-Newton matrix as in exponential Rosenbrock methods, Hochbruck and Ostermann
2010), and is the error that steps are controlled by.

Cost: a step holds the Jacobian, `[members, outputs over all rows, parameters]`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.func import grad, hessian, jacrev, vmap

from whynet.core.errors import InputError
from whynet.training.ensemble_task import Task
from whynet.training.flow_run import Flattened
from whynet.training.optimizers import Stacked
from whynet.training.runge_kutta import Field, Flow, Method, Tolerance, excess

MOST: Final = 512
"""Outputs over all rows; matrices of this size are decomposed in every step."""


@dataclass(frozen=True)
class _Linear:
    """A network linearized at the state of each member.

    Attributes:
        jacobian: `J`, `[members, outputs, parameters]`.
        driven: `J S`.
        residual: `r`, `[members, outputs]`.
        kernel: `J S Jᵀ`.
        bend: `H`.

    """

    jacobian: Tensor
    driven: Tensor
    residual: Tensor
    kernel: Tensor
    bend: Tensor

    def pushed(self, by: Tensor) -> Tensor:
        """Return `-S Jᵀ by`, a velocity."""
        return -(by[:, None] @ self.driven)[:, 0]


def exponential_method(task: Task, flat: Flattened, speeds: Tensor | None) -> Method:
    """Return the method for members of a task.

    Args:
        task: rows must not see each other.
        flat: form of the table of parameters.
        speeds: of the table's columns, `[members, size]`.

    """
    outputs = _rows(task)
    out = vmap(task.forward, in_dims=(0, task.axes[0]))
    pull = vmap(grad(task.loss), in_dims=(0, task.axes[1]))
    bend = vmap(hessian(task.loss), in_dims=(0, task.axes[1]))

    def linear(state: Tensor) -> _Linear:
        parameters = flat.unpack(state)
        parts, _ = outputs(parameters, task.constants, task.inputs)
        members = len(state)
        jacobian = torch.cat(
            [
                parts[n].reshape(members, -1, s)
                for n, s in zip(flat.shapes, flat.sizes, strict=True)
            ],
            2,
        )
        found = out({**parameters, **task.constants}, task.inputs)
        residual = pull(found, task.targets).reshape(members, -1)
        matrix = bend(found, task.targets).reshape(members, residual.shape[1], -1)
        driven = jacobian if speeds is None else jacobian * speeds[:, None]
        return _Linear(jacobian, driven, residual, driven @ jacobian.transpose(1, 2), matrix)

    def attempt(
        field: Field, flow: Flow, step: Tensor, tolerance: Tolerance
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        now, length = linear(flow.state), step.to(flow.state.dtype)
        functions = _Functions(now, length)
        total = functions.integral(now.residual)
        first = flow.state + now.pushed(total)
        velocity, _ = field(flow.clock + step, first)
        left = now.residual - _times(now.bend, _times(now.kernel, total))
        missed = velocity - now.pushed(left)
        answer = functions.answer(_times(now.jacobian, missed))
        correction = length[:, None] * (missed / 2 - now.pushed(answer))
        state = first + correction
        velocity, loss = field(flow.clock + step, state)
        return state, velocity, loss, excess(correction, flow.state, state, tolerance)

    return Method(attempt, 1 / 2)


def check_rows(task: Task, start: Stacked) -> None:
    """Refuse what the method cannot do.

    Raises:
        InputError: more outputs than it can decompose, or outputs of a row that change with the
            other rows.

    """
    forward = vmap(task.forward, in_dims=(0, task.axes[0]))
    whole = forward({**start, **task.constants}, task.inputs)
    size = whole[0].numel()
    if size > MOST:
        found = f"{size:,} outputs over all rows"
        raise InputError("method", found, f"at most {MOST} for exponential steps")
    _, single = _rows(task)(start, task.constants, task.inputs)
    near = torch.finfo(whole.dtype).eps ** 0.5 * whole.abs().amax()
    if not bool(((single.reshape(whole.shape) - whole).abs() <= near).all()):
        found = "outputs of a row that depend on the other rows"
        raise InputError("forward", found, "independent rows for exponential steps")


def _rows(task: Task) -> Callable[[Stacked, Stacked, Tensor], tuple[Stacked, Tensor]]:
    """Return the function of Jacobians and outputs of every row of every member."""

    def of_row(parameters: Stacked, constants: Stacked, row: Tensor) -> tuple[Stacked, Tensor]:
        def outputs(own: Stacked) -> tuple[Tensor, Tensor]:
            found = task.forward({**own, **constants}, row[None]).reshape(-1)
            return found, found

        pair: tuple[Stacked, Tensor] = jacrev(outputs, has_aux=True)(parameters)
        return pair

    of_rows = vmap(of_row, in_dims=(None, None, 0))
    found: Callable[[Stacked, Stacked, Tensor], tuple[Stacked, Tensor]] = vmap(
        of_rows, in_dims=(0, 0, task.axes[0])
    )
    return found


class _Functions:
    """Functions of `h H K`, by the symmetric matrix `h H^½ K H^½` of the same eigenvalues."""

    def __init__(self, now: _Linear, length: Tensor) -> None:
        values, vectors = torch.linalg.eigh(now.bend)
        self.root = (vectors * values.clamp(min=0).sqrt()[:, None]) @ vectors.transpose(1, 2)
        rates, self.modes = torch.linalg.eigh(self.root @ now.kernel @ self.root)
        self.exponents = length[:, None] * rates.clamp(min=0)
        self.kernel, self.length = now.kernel, length[:, None]

    def _applied(self, values: Tensor, to: Tensor) -> Tensor:
        """Return `H^½ v(M) H^½` times vectors, `v` given at the eigenvalues of `M`."""
        inner = _times(self.modes.transpose(1, 2), _times(self.root, to))
        return _times(self.root, _times(self.modes, values * inner))

    def integral(self, residual: Tensor) -> Tensor:
        """Return `∫ exp(-s H K) r ds` over the step."""
        rest = self.length**2 * _second(self.exponents)
        return self.length * residual - self._applied(rest, _times(self.kernel, residual))

    def answer(self, moved: Tensor) -> Tensor:
        """Return what `φ₂` makes of `J N`, where `-S Jᵀ` brings it back: `h γ(hHK) H J N`."""
        return self._applied(self.length * _third(self.exponents), moved)


def _second(z: Tensor) -> Tensor:
    """Return `(1 - φ₁(-z)) / z = (z - 1 + exp(-z)) / z²`."""
    small = z < 1e-2
    safe = torch.where(small, torch.ones_like(z), z)
    series = 1 / 2 - z / 6 + z**2 / 24 - z**3 / 120 + z**4 / 720
    return torch.where(small, series, (safe + torch.expm1(-safe)) / safe**2)


def _third(z: Tensor) -> Tensor:
    """Return `(φ₂(-z) - ½) / z`, negated: `(½ - (z - 1 + exp(-z)) / z²) / z`."""
    small = z < 1e-1
    safe = torch.where(small, torch.ones_like(z), z)
    series = 1 / 6 - z / 24 + z**2 / 120 - z**3 / 720 + z**4 / 5040 - z**5 / 40320
    return torch.where(small, series, (1 / 2 - _second(safe)) / safe)


def _times(matrices: Tensor, vectors: Tensor) -> Tensor:
    return (matrices @ vectors[:, :, None])[:, :, 0]
