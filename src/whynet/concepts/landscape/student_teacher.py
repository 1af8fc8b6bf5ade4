"""Networks Σ (w_i·x)₊ that copy networks of the same kind on Gaussian inputs, without samples.

With κ(u, v) = E (u·x)₊ (v·x)₊ = ‖u‖‖v‖ (sin θ + (π − θ) cos θ)/2π, θ their angle and x standard
normal (Cho and Saul 2009), half the mean squared difference of student W and teacher V is

    F(W) = ½ Σ κ(w_i, w_j) − Σ κ(w_i, v_j) + ½ Σ κ(v_i, v_j).

Its derivatives in closed form (Brutzkus and Globerson 2017, arXiv:1702.07966; Safran and Shamir
2018, arXiv:1712.08968; derived again and held against differences in the tests) have no
singularity where two units are parallel, which automatic differentiation of an angle has. All
functions are batched, in the dtype of their arguments.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class _Angles:
    """Lengths `[b, m]`, unit rows `[b, m, d]`, and of all pairs cosine, sine, angle `[b, m, n]`."""

    lengths: Tensor
    others: Tensor
    units: Tensor
    targets: Tensor
    cosine: Tensor
    sine: Tensor
    angle: Tensor


def _angles(first: Tensor, second: Tensor) -> _Angles:
    lengths, others = first.norm(dim=-1), second.norm(dim=-1)
    units, targets = first / lengths[..., None], second / others[..., None]
    cosine = (units @ targets.mT).clamp(-1, 1)
    sine = (1 - cosine.square()).sqrt()
    return _Angles(lengths, others, units, targets, cosine, sine, torch.atan2(sine, cosine))


def _with_itself(weights: Tensor) -> _Angles:
    """Return angles of all pairs of rows, with zero between a row and itself without round-off."""
    found = _angles(weights, weights)
    other = ~torch.eye(weights.shape[-2], dtype=torch.bool, device=weights.device)
    return _Angles(
        found.lengths, found.others, found.units, found.targets,
        torch.where(other, found.cosine, 1.0), found.sine * other, found.angle * other,
    )  # fmt: skip


def _overlap(a: _Angles) -> Tensor:
    """Return Σ κ over all pairs, `[b]`."""
    shape = a.sine + (math.pi - a.angle) * a.cosine
    return torch.einsum("bi,bij,bj->b", a.lengths, shape, a.others) / (2 * math.pi)


def population_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return F, `[b]`; rows of `student` `[b, m, d]` and `teacher` `[b, k, d]` are units."""
    own, mixed = _with_itself(student), _angles(student, teacher)
    return 0.5 * _overlap(own) - _overlap(mixed) + 0.5 * _overlap(_with_itself(teacher))


def population_gradient(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the gradient of F, `[b, m, d]`: ∂κ/∂u = (‖v‖ sin θ û + (π − θ) v)/2π."""
    others = torch.cat([student, teacher.expand(len(student), -1, -1)], 1)
    count = student.shape[1]
    sign = torch.ones(others.shape[1], dtype=student.dtype, device=student.device)
    sign[count:] = -1
    a = _angles(student, others)
    place = torch.arange(count, device=student.device)
    a.sine[:, place, place], a.angle[:, place, place] = 0.0, 0.0  # without round-off
    radial = (a.sine * (sign * a.others)[:, None]).sum(-1, keepdim=True)
    along = ((math.pi - a.angle) * sign) @ others
    return (radial * a.units + along) / (2 * math.pi)


def _same_unit(a: _Angles) -> Tensor:
    """Return 2π ‖u‖ Σ_j ∂²κ/∂u² less the part (π − θ) that cancels, `[b, m, d, d]`.

    Of one pair: ‖v‖ sin θ (I − û ûᵀ + n nᵀ), n the direction of v that is orthogonal to u.
    """
    eye = torch.eye(a.units.shape[-1], dtype=a.units.dtype, device=a.units.device)
    across = a.targets[:, None] - a.cosine[..., None] * a.units[:, :, None]  # sin θ times n
    weight = torch.where(a.sine > 0, a.others[:, None] / a.sine, 0.0)
    outer = torch.einsum("bij,bijd,bije->bide", weight, across, across)
    total = torch.einsum("bij,bj->bi", a.sine, a.others)[..., None, None]
    return total * (eye - a.units[..., :, None] * a.units[..., None, :]) + outer


def population_hessian(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the Hessian of F, `[b, m d, m d]`.

    Memory: some m² d² numbers a student. Where two units of the student are parallel the mixed
    block has its limit, (π − θ) I.
    """
    count, size = student.shape[-2:]
    own, mixed = _with_itself(student), _angles(student, teacher)
    eye = torch.eye(size, dtype=student.dtype, device=student.device)
    one, two = own.units[:, :, None], own.units[:, None]
    both = one[..., :, None] * two[..., None, :] + two[..., :, None] * one[..., None, :]
    same = one[..., :, None] * one[..., None, :] + two[..., :, None] * two[..., None, :]
    inverse = torch.where(own.sine > 0, 1 / own.sine, 0.0)[..., None, None]
    blocks = (math.pi - own.angle)[..., None, None] * eye
    blocks = blocks + inverse * (both - own.cosine[..., None, None] * same)
    place = torch.arange(count, device=student.device)
    own_block = (_same_unit(own) - _same_unit(mixed)) / own.lengths[..., None, None]
    blocks[:, place, place] = math.pi * eye + own_block
    return blocks.transpose(2, 3).flatten(3, 4).flatten(1, 2) / (2 * math.pi)


def descended(student: Tensor, teacher: Tensor, steps: int, rate: float) -> Tensor:
    """Return students after so many steps of gradient descent on F."""
    for _ in range(steps):
        student = student - rate * population_gradient(student, teacher)
    return student


NEAR, POLISHES, ROUND_OFF = 0.05, 12, 1e-14
"""Largest distance that a polish may go, its steps, and the gradient at which it ends."""


def polished(student: Tensor, teacher: Tensor) -> Tensor:
    """Return critical points beside the students, to round-off.

    Newton's steps with the Hessian's eigenvalues made positive, directions without curvature left
    alone. A student that would go farther than 0.05 stays where it is.
    """
    moved = student
    for _ in range(POLISHES):
        slope = population_gradient(moved, teacher).flatten(1)
        if float(slope.abs().max()) < ROUND_OFF:
            break
        values, vectors = torch.linalg.eigh(population_hessian(moved, teacher))
        inverse = torch.where(values.abs() > 1e-9, 1 / values.abs(), 0.0)
        step = vectors @ (inverse[..., None] * (vectors.mT @ slope[..., None]))
        moved = moved - step.reshape(moved.shape)
    near = (moved - student).flatten(1).norm(dim=1) < NEAR
    return torch.where(near[:, None, None], moved, student)
