"""The curvature matrices of a subject as operators, each known by its products.

All are of the mean loss over a split, in evaluation mode and without weight decay, unless said
otherwise. The way of differentiating is found by a probe and held against float64 differences
before the first product (`whynet.derivatives`).
"""

from __future__ import annotations

from typing import get_args

from whynet.core.errors import InputError
from whynet.core.outcome import NotApplicable
from whynet.derivatives import fisher as fishers
from whynet.derivatives import jacobian as jacobians
from whynet.derivatives import products
from whynet.derivatives.chosen_parameters import Pattern, restricted
from whynet.derivatives.fisher import FisherKind, GradientCovariance
from whynet.derivatives.jacobian import JacobianOperator
from whynet.derivatives.objective import Objective
from whynet.derivatives.plan import Plan
from whynet.derivatives.products import CurvatureOperator
from whynet.derivatives.subject_objective import objective_from, plan_for
from whynet.models.subject import Split, Subject

WANTED = "a network and a loss that this matrix can be taken of"


def hessian(
    subject: Subject,
    *,
    parameters: Pattern = "*",
    split: Split = "train",
    rows: int | None = None,
) -> CurvatureOperator:
    """Return the Hessian of the mean loss as an operator: `hessian(subject) @ v`.

    Args:
        subject: the network with its loss and data.
        parameters: which ones, by patterns of their names (`"*.weight"`, `"encoder.0"`).
        split: which data.
        rows: use that many rows, evenly spread; all by default.

    Returns:
        [P, P] in the subject's precision; vectors are flat, in the order of `layout.names`.

    Raises:
        InputError: no such data or parameters, or no right way of differentiating was found; the
            sentence names what stands in the way.

    Cost: see `CurvatureOperator`.

    """
    objective, plan = _prepared(subject, parameters, split, rows)
    return products.hessian(objective, plan)


def gauss_newton(
    subject: Subject,
    *,
    parameters: Pattern = "*",
    split: Split = "train",
    rows: int | None = None,
) -> CurvatureOperator:
    """Return the generalized Gauss-Newton matrix (1/N) sum J' H J, arguments as `hessian`.

    H is the second derivative of the loss in the outputs (Schraudolph 2002); the matrix is positive
    semidefinite where the loss is convex in the outputs.
    """
    objective, plan = _prepared(subject, parameters, split, rows)
    return _or_refused(products.gauss_newton(objective, plan))


def fisher(
    subject: Subject,
    *,
    kind: FisherKind = "exact",
    draws: int = 1,
    seed: int = 0,
    parameters: Pattern = "*",
    split: Split = "train",
    rows: int | None = None,
) -> CurvatureOperator:
    """Return a Fisher matrix, (1/N) sum of J' E[s s'] J with s the slope of the loss.

    Args:
        subject: the network with its loss and data.
        kind: `exact` takes the expectation over targets of the network's own model; `monte-carlo`
            draws them; `empirical` takes the gradients of the examples at their true targets
            (Kunstner, Balles and Hennig 2019, arXiv:1905.12558, say why it is another matrix).
        draws: targets drawn of each scored position.
        seed: of the draws.
        parameters: which ones, by patterns of their names.
        split: which data.
        rows: use that many rows, evenly spread; all by default.

    Raises:
        InputError: as `hessian`; or the loss is not known to be a negative log-likelihood.

    """
    if kind not in get_args(FisherKind):
        raise InputError("kind", repr(kind), f"one of {', '.join(get_args(FisherKind))}")
    if draws < 1:
        raise InputError("draws", str(draws), "at least 1")
    loss = subject.loss
    if loss.likelihood and not loss.built_in and len(subject.output_shape) != 2:
        shape = f"outputs of shape {list(subject.output_shape)} with the loss {loss.name}"
        raise InputError("subject", shape, "outputs [N, C], or the built-in cross_entropy")
    objective, plan = _prepared(subject, parameters, split, rows)
    return _or_refused(fishers.fisher(objective, plan, loss, kind, draws=draws, seed=seed))


def jacobian(
    subject: Subject,
    *,
    parameters: Pattern = "*",
    split: Split = "train",
    rows: int | None = None,
) -> JacobianOperator:
    """Return the Jacobian [M, P] of the outputs on all examples; arguments as `hessian`.

    Rows are ordered by example, then by output; `J @ v` and `J.adjoint @ u`. The empirical neural
    tangent kernel is `J @ (J.adjoint @ u)`.
    """
    objective, plan = _prepared(subject, parameters, split, rows)
    found = jacobians.jacobian(objective, plan)
    if isinstance(found, NotApplicable):
        raise InputError("subject", found.reason.rstrip("."), WANTED)
    return found


def gradient_covariance(
    subject: Subject,
    *,
    parameters: Pattern = "*",
    split: Split = "train",
    rows: int | None = None,
) -> GradientCovariance:
    """Return the covariance of the gradients of single examples; arguments as `hessian`.

    (1/N) sum g g' less the product of their mean, with g the gradient of an example's own loss:
    what the noise of a gradient from one example is.
    """
    objective, plan = _prepared(subject, parameters, split, rows)
    found = fishers.gradient_covariance(objective, plan, subject.loss)
    if isinstance(found, NotApplicable):
        raise InputError("subject", found.reason.rstrip("."), WANTED)
    return found


def _prepared(
    subject: Subject, parameters: Pattern, split: Split, rows: int | None
) -> tuple[Objective, Plan]:
    subject.examples(split)
    if rows is not None and rows < 1:
        raise InputError("rows", str(rows), "at least 1")
    plan = plan_for(subject)
    if isinstance(plan, NotApplicable):
        raise InputError("subject", plan.reason.rstrip("."), WANTED)
    return restricted(objective_from(subject, split, rows), parameters), plan


def _or_refused(found: CurvatureOperator | NotApplicable) -> CurvatureOperator:
    if isinstance(found, NotApplicable):
        raise InputError("subject", found.reason.rstrip("."), WANTED)
    return found
