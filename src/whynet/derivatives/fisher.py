"""Fisher matrices and the covariance of gradients, each as the Gauss-Newton matrix of something.

With z_i the outputs of example i, l_i its loss, J_i the Jacobian of z_i and N the examples:

- exact: (1/N) sum J_i' E[s s'] J_i with s the slope of the loss in z at a target drawn from the
  model. For the named losses E[s s'] is the second derivative of the loss (Martens 2014,
  arXiv:1412.1193), so that this is their Gauss-Newton matrix.
- Monte-Carlo: s s' averaged over drawn targets in the place of E[s s']: the Gauss-Newton matrix of
  half the squares of the numbers s'z, with s held fixed.
- empirical: (1/N) sum g_i g_i' of the gradients of the examples' own losses at their true targets:
  the Gauss-Newton matrix of half the squares of l_i. It is no approximation of the first two away
  from a fit (Kunstner, Balles and Hennig 2019, arXiv:1905.12558).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from whynet.core.outcome import NotApplicable
from whynet.core.seeds import seed_from
from whynet.derivatives.exact_kernels import exact_kernels, kept_random_state
from whynet.derivatives.gauss_newton import GaussNewtonPlan
from whynet.derivatives.gauss_newton_plan import choose_gauss_newton
from whynet.derivatives.linear_operator import LinearOperator
from whynet.derivatives.objective import Network, Objective
from whynet.derivatives.output_derivatives import (
    OutputDerivatives,
    drawn_slopes,
    output_derivatives,
)
from whynet.derivatives.plan import THRESHOLD, Plan, make_probe
from whynet.derivatives.products import CurvatureOperator, gauss_newton, gradient
from whynet.models.fitting_rows import row_count
from whynet.models.losses import Loss
from whynet.numerics.long_products import long_product

FisherKind = Literal["exact", "monte-carlo", "empirical"]

NO_MODEL = (
    "The loss {name} is not known to be a negative log-likelihood, so that no targets can be drawn "
    "from it; the empirical Fisher matrix needs none."
)


def half_squares(outputs: Tensor, targets: Any) -> Tensor:
    """Half the sum of the squares of the outputs: its second derivative is the identity."""
    return outputs.square().sum() / 2


def _of_half_squares(outputs: Tensor, targets: Any) -> OutputDerivatives:
    return OutputDerivatives(lambda tangent: tangent, lambda: outputs)


def squares_of(objective: Objective, count: float) -> Objective:
    """Return the objective whose Gauss-Newton matrix is J'J / count, J that of the outputs."""
    return replace(objective, loss_sum=half_squares, derivatives=_of_half_squares, count=count)


def exact_fisher_objective(objective: Objective, loss: Loss) -> Objective | NotApplicable:
    """Return the objective whose Gauss-Newton matrix is the exact Fisher matrix of a loss.

    Args:
        objective: the mean of that loss.
        loss: its likelihood must be known.

    """
    if loss.likelihood is None:
        return NotApplicable(NO_MODEL.format(name=loss.name))
    if loss.built_in:
        return objective
    likelihood = loss.likelihood

    def curvature_alone(outputs: Tensor, targets: Any) -> OutputDerivatives:
        # Targets of a loss that is not built in may be smoothed: its slope is another.
        return replace(output_derivatives(likelihood, outputs, targets), slope=None)

    return replace(objective, derivatives=curvature_alone)


def sampled_fisher_objective(
    objective: Objective, loss: Loss, draws: int, seed: int
) -> Objective | NotApplicable:
    """Return the objective whose Gauss-Newton matrix is a Monte-Carlo Fisher matrix.

    The targets are drawn once a batch, from a seed of its own; each pass over the data draws the
    same. Cost: one more forward pass a batch.

    Args:
        objective: the mean of the loss.
        loss: its likelihood must be known.
        draws: targets of each scored position.
        seed: of the draws.

    """
    likelihood = loss.likelihood
    if likelihood is None:
        return NotApplicable(NO_MODEL.format(name=loss.name))

    def batches() -> Iterator[tuple[Any, Any]]:
        for index, (inputs, targets) in enumerate(objective.batches()):
            with torch.no_grad():
                outputs = objective.forward(objective.parameters, inputs)
            generator = torch.Generator().manual_seed(seed_from("fisher", seed, index))
            slopes = drawn_slopes(likelihood, outputs, targets, draws, generator)
            yield (inputs, slopes.movedim(0, 1) / draws**0.5), targets

    def call(network: Network, pair: Any) -> Tensor:
        inputs, slopes = pair
        weighted: Tensor = slopes * objective.call(network, inputs)[:, None]
        return weighted.sum(-1) if likelihood == "categorical" else weighted

    return squares_of(replace(objective, batches=batches, call=call), objective.count)


def example_losses(objective: Objective, loss: Loss) -> Objective:
    """Return the objective whose outputs are the losses of the examples.

    Its Gauss-Newton matrix is the second moment of the gradients of the examples' losses
    (`Loss.per_example`: for sequences the mean over the scored positions of a row).
    """

    def batches() -> Iterator[tuple[Any, Any]]:
        for inputs, targets in objective.batches():
            yield (inputs, targets), targets

    def call(network: Network, pair: Any) -> Tensor:
        return loss.per_example(objective.call(network, pair[0]), pair[1])

    rows = sum(row_count(inputs) for inputs, _ in objective.batches())
    return squares_of(replace(objective, batches=batches, call=call), float(rows))


def mean_of_outputs(objective: Objective) -> Objective:
    """Return an objective of example losses as their mean."""
    return replace(objective, loss_sum=lambda outputs, targets: outputs.sum(), derivatives=None)


def fisher(
    objective: Objective,
    plan: Plan,
    loss: Loss,
    kind: FisherKind,
    *,
    draws: int = 1,
    seed: int = 0,
    kept: int | None = None,
) -> CurvatureOperator | NotApplicable:
    """Return a Fisher matrix as an operator, or why there is none.

    Args:
        objective: the mean of the loss.
        plan: how it is differentiated.
        loss: says what is drawn and what the loss of an example is.
        kind: `exact`, `monte-carlo` or `empirical`.
        draws: targets drawn of each scored position, for `monte-carlo`.
        seed: of the draws.
        kept: as in `gauss_newton`.

    """
    if kind == "exact":
        made = exact_fisher_objective(objective, loss)
        # What the plan found for smoothed labels differentiates the loss by autograd.
    elif kind == "monte-carlo":
        made = sampled_fisher_objective(objective, loss, draws, seed)
    else:
        made = example_losses(objective, loss)
    if isinstance(made, NotApplicable):
        return made
    if made is objective:
        return gauss_newton(objective, plan, kept=kept)
    return planned_gauss_newton(made, plan, kept=kept)


def planned_gauss_newton(
    objective: Objective, plan: Plan, *, kept: int | None = None
) -> CurvatureOperator | NotApplicable:
    """Return the Gauss-Newton matrix of a derived objective, by a way that is checked for it."""
    way = gauss_newton_way(objective, plan)
    if isinstance(way, NotApplicable):
        return way
    return gauss_newton(objective, plan, kept=kept, way=way)


def gauss_newton_way(objective: Objective, plan: Plan) -> GaussNewtonPlan | NotApplicable:
    """Find how the outputs of a derived objective are differentiated, against differences."""
    tensors = [*objective.parameters.values(), *objective.frozen.values()]
    seed = seed_from("derived objective")
    with kept_random_state(tensors), exact_kernels(onednn=plan.onednn):
        torch.default_generator.manual_seed(seed)
        probe = make_probe(objective, seed)
        if isinstance(probe, NotApplicable):
            return probe
        return choose_gauss_newton(probe, THRESHOLD)


class GradientCovariance(LinearOperator):
    """The covariance of the gradients of the examples' losses, [P, P]; 1/N, mean taken away.

    Args:
        moment: the second moment of the gradients.
        mean: [P], their mean.

    """

    def __init__(self, moment: CurvatureOperator, mean: Tensor) -> None:
        self._moment = moment
        self.mean = mean
        self.layout = moment.layout

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns, (P, P)."""
        return self._moment.shape

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the products."""
        return self._moment.dtype

    @property
    def device(self) -> torch.device:
        """Where products live."""
        return self._moment.device

    @property
    def symmetric(self) -> bool:
        """The matrix equals its transpose."""
        return True

    @property
    def notes(self) -> tuple[str, ...]:
        """Whether memory ran out."""
        return self._moment.notes

    def matmat(self, columns: Tensor) -> Tensor:
        """Multiply columns [P, k]; returns [P, k]."""
        given = columns.to(self.device, self.dtype)
        along = long_product(self.mean[None], given)[0].to(given)
        return self._moment.matmat(given) - self.mean[:, None] * along

    def adjoint_matmat(self, columns: Tensor) -> Tensor:
        """Multiply by the transposed matrix, which is the same."""
        return self.matmat(columns)

    def block(self, pattern: Any) -> GradientCovariance:
        """Return the block of some parameters; see `CurvatureOperator.block`."""
        entries = self._moment.entries(pattern).to(self.device)
        return GradientCovariance(self._moment.block(pattern), self.mean[entries])


def gradient_covariance(
    objective: Objective, plan: Plan, loss: Loss, *, kept: int | None = None
) -> GradientCovariance | NotApplicable:
    """Return the covariance of the gradients of single examples, or why there is none.

    Args:
        objective: the mean of the loss.
        plan: how it is differentiated.
        loss: says what the loss of an example is.
        kept: as in `gauss_newton`.

    """
    made = example_losses(objective, loss)
    moment = planned_gauss_newton(made, plan, kept=kept)
    if isinstance(moment, NotApplicable):
        return moment
    return GradientCovariance(moment, gradient(mean_of_outputs(made)))
