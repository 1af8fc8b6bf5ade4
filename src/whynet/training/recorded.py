"""What a recorder measures of a network in training, at one step."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import torch
from torch.utils._pytree import tree_map

from whynet.core.estimate import Estimate, Kind
from whynet.core.outcome import NotApplicable
from whynet.core.seeds import seed_from
from whynet.derivatives.empirical_ntk import empirical_ntk, plan_ntk
from whynet.derivatives.exact_kernels import exact_kernels, kept_random_state
from whynet.derivatives.flat import Layout
from whynet.derivatives.ntk_plan import NtkPlan
from whynet.derivatives.objective import Objective
from whynet.derivatives.obstacles import obstacle
from whynet.derivatives.plan import Plan
from whynet.derivatives.products import CurvatureOperator, gradient, hessian
from whynet.derivatives.ways import loss_gradient
from whynet.models.batch_norm import batch_normalized, recalibrate
from whynet.models.features import features, find_head
from whynet.models.subject import Subject
from whynet.numerics import intervals
from whynet.numerics.class_geometry import covariance_ranks
from whynet.numerics.extreme_eigenvalues import extreme_eigenvalues
from whynet.numerics.jackknife import delete_group, groups_of
from whynet.numerics.kernel_matrices import centered, similarity
from whynet.numerics.noise_scale import LEAST_GROUPS, noise_scale
from whynet.numerics.plane_pictures import PlanePicture
from whynet.training import recorded_pieces, recorded_trace
from whynet.training.stability import Stability

Values = dict[str, Estimate | str]
"""Quantity to its estimate, or to the sentence that says why there is none."""

GROUPS: Final = 32
"""Groups of rows whose gradients give the noise scale."""

KERNEL_ROWS, KERNEL_GROUPS = 64, 16
MOST_KERNEL = 2e10
"""Multiplications of a kernel above which it is not computed."""

LANCZOS_STEPS: Final = 20
HELD: Final = 2**26
"""Gradient numbers that are held at once; beyond, gradients are computed twice."""

RANK_GROUPS: Final = 30
OVER = "draws of training rows"

MEASURED: Final[dict[str, tuple[str, ...]]] = {
    "loss": ("loss",),
    "norms": ("weight_norm", "distance_from_start", "gradient_norm"),
    "noise": ("noise_scale",),
    "sharpness": ("sharpness", "stability_limit", "sharpness_over_limit", "learning_rate"),
    "trace": ("trace",),
    "kernel": ("kernel_shape_drift", "kernel_trace_ratio"),
    "rank": ("feature_rank",),
    "pieces": recorded_pieces.QUANTITIES,
}
"""What can be asked for, to the quantities it gives."""


@dataclass(frozen=True)
class Fixed:
    """What stays the same through a recording.

    Attributes:
        subject: the network at the start, on the recorded rows.
        population: number of training rows that these were drawn from.
        order: random order of the recorded rows.
        kernel: how the kernel is computed and what it was at the start, or why there is none.
        seed: of the start vectors.

    """

    subject: Subject
    population: int
    order: np.ndarray
    kernel: tuple[NtkPlan, np.ndarray] | str
    seed: int


@dataclass(frozen=True)
class Now:
    """The network at one step.

    Attributes:
        fixed: what stays the same.
        subject: the network now, on the recorded rows.
        objective: what training differentiates, on these rows.
        plan: how it is differentiated twice, or why it cannot be.
        stability: the limits of the optimizer, or why none is known.

    """

    fixed: Fixed
    subject: Subject
    objective: Objective
    plan: Plan | NotApplicable
    stability: Stability | NotApplicable

    @cached_property
    def operator(self) -> CurvatureOperator:
        """The Hessian of the objective, without weight decay; where there is a plan."""
        assert isinstance(self.plan, Plan)
        return hessian(self.objective, self.plan)

    @cached_property
    def decay(self) -> torch.Tensor:
        """What weight decay adds to its diagonal, [P]."""
        known = {} if isinstance(self.stability, NotApplicable) else self.stability.decay
        own = self.subject.parameters.items()
        return self.operator.layout.flatten([torch.full_like(p, known.get(n, 0.0)) for n, p in own])


def measured(now: Now, wanted: tuple[str, ...]) -> tuple[Values, PlanePicture | None]:
    """Measure what is asked for; what fails gives its reason in place of a number.

    Returns:
        Every quantity, and a picture of the cells where they are counted.

    """
    found: Values = {}
    picture = None
    for name in wanted:
        try:
            if name == "pieces":
                subject, order = measurable(now.subject), now.fixed.order
                values, picture = recorded_pieces.pieces_of(subject, order)
            else:
                values = _FUNCTIONS[name](now)
            found |= values
        except Exception as error:  # noqa: BLE001 - the network is foreign code and may raise anything
            found |= dict.fromkeys(MEASURED[name], f"It failed: {obstacle(error)}.")
    return found, picture


def row_losses(now: Now) -> tuple[np.ndarray, float, bool]:
    """Return the loss of every row, their mean, and whether rows weigh the same in it."""
    objective = now.objective
    with exact_kernels(), torch.no_grad():
        inputs, targets = next(iter(objective.batches()))
        outputs = objective.forward(objective.parameters, inputs)
        each = now.subject.loss.per_example(outputs, targets).double().cpu().numpy()
        total, count = now.subject.loss.sums(outputs, targets)
    return each, float(total) / count, count == len(each)


def over_rows(values: np.ndarray, population: int, how: str, unit: str = "") -> Estimate:
    """Mean over rows drawn without replacement; exact where they are all there are."""
    mean = float(values.mean())
    if len(values) >= population:
        return Estimate(mean, mean, mean, "exact", 0.95, unit, how, "the training rows")
    found = intervals.mean_t(values, how=how, over=OVER)
    shrink = math.sqrt(1 - len(values) / population)
    half = shrink * (found.high - mean) if math.isfinite(found.high) else math.inf
    return Estimate(mean, mean - half, mean + half, found.kind, 0.95, unit, how, OVER)


def _loss(now: Now) -> Values:
    each, mean, alike = row_losses(now)
    how = "mean loss of the training objective, without weight decay and dropout"
    if not np.isfinite(each).all():
        return {"loss": "The loss is not finite."}
    found = over_rows(each, now.fixed.population, how)
    if alike:
        return {"loss": found}
    shift, kind = mean - found.value, found.kind if found.kind == "exact" else "indicative"
    low, high = found.low + shift, found.high + shift
    return {"loss": Estimate(mean, low, high, kind, 0.95, "", how, found.over)}


def exact(value: float, how: str, unit: str = "") -> Estimate:
    """Return a number without uncertainty."""
    return Estimate(value, value, value, "exact", 0.95, unit, how, "")


def _norms(now: Now) -> Values:
    layout = Layout.of(now.subject.parameters)
    here, start = (
        layout.flatten(tuple(subject.parameters.values())).double()
        for subject in (now.subject, now.fixed.subject)
    )
    slope = gradient(now.objective).double()
    return {
        "weight_norm": exact(float(here.norm()), "norm of the trained parameters"),
        "distance_from_start": exact(
            float((here - start).norm()), "norm of what the trained parameters moved by"
        ),
        "gradient_norm": exact(
            float(slope.norm()), "norm of the gradient of the loss on the recorded rows"
        ),
    }


def _noise(now: Now) -> Values:
    rows = len(now.fixed.order)
    count = min(GROUPS, rows // 2)
    if count < LEAST_GROUPS:
        return {"noise_scale": f"Fewer than {2 * LEAST_GROUPS} training rows are too few."}
    size = rows // count
    squares, overlaps = _products(now, now.fixed.order[: count * size].reshape(count, size))
    found = noise_scale(squares, overlaps, size, now.fixed.population)
    if not math.isfinite(found.value):
        return {"noise_scale": "The mean gradient cannot be told from zero among the noise."}
    return {"noise_scale": found}


def _products(now: Now, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return square norms of group gradients, and their inner products with the mean."""
    objective = now.objective
    point = tuple(objective.parameters.values())
    layout = Layout.of(objective.parameters)
    inputs, targets = next(iter(objective.batches()))
    share = objective.count * groups.size / len(now.fixed.order) / len(groups)

    def slope(group: np.ndarray) -> torch.Tensor:
        rows = torch.as_tensor(group, device=layout.device)
        chosen = tree_map(lambda leaf: leaf[rows], inputs)
        found = loss_gradient(objective, point, chosen, targets[rows])[2]
        return layout.flatten(found) / share

    with exact_kernels(), kept_random_state(point):
        if len(groups) * layout.size <= HELD:
            every = torch.stack([slope(group) for group in groups]).double()
            mean = every.mean(0)
            return (every**2).sum(1).cpu().numpy(), (every @ mean).cpu().numpy()
        mean = torch.zeros(layout.size, dtype=torch.float64, device=layout.device)
        for group in groups:
            mean += slope(group) / len(groups)
        pairs = [(g @ g, g @ mean) for g in (slope(group).double() for group in groups)]
    squares, overlaps = np.array([[float(a), float(b)] for a, b in pairs]).T
    return squares, overlaps


def _sharpness(now: Now) -> Values:
    stability = now.stability
    unknown = stability.reason if isinstance(stability, NotApplicable) else ""
    found: Values = dict.fromkeys(MEASURED["sharpness"], unknown)
    if isinstance(stability, Stability):
        found["learning_rate"] = _rate(stability)
        found["stability_limit"] = (
            exact(stability.limit, f"largest stable sharpness, {stability.rule}")
            if stability.plain
            else "The limit is one of the preconditioned Hessian; see the ratio."
        )
    if isinstance(now.plan, NotApplicable):
        return found | dict.fromkeys(("sharpness", "sharpness_over_limit"), now.plan.reason)
    layout = now.operator.layout

    def product(vector: torch.Tensor) -> torch.Tensor:
        return now.operator.matvec(vector) + now.decay * vector

    if isinstance(stability, NotApplicable) or stability.plain:
        found["sharpness"] = largest = _largest(product, layout, now.fixed.seed)
        if isinstance(stability, Stability):
            found["sharpness_over_limit"] = _divided(largest, stability.limit)
        return found
    scaling = [stability.scaling[name] for name in now.subject.parameters]
    root = layout.flatten([part.to(layout.device) for part in scaling]).sqrt()
    ratio = _largest(lambda v: root * product(root * v), layout, now.fixed.seed)
    found["sharpness"] = "What counts here is the preconditioned Hessian; see the ratio."
    found["sharpness_over_limit"] = _divided(ratio, 1.0)
    return found


def _trace(now: Now) -> Values:
    if isinstance(now.plan, NotApplicable):
        return {"trace": now.plan.reason}
    return {"trace": recorded_trace.trace_of(now.operator, now.decay, now.fixed.seed)}


def _rate(stability: Stability) -> Estimate | str:
    if math.isfinite(stability.learning_rate):
        return exact(stability.learning_rate, "step size of the optimizer")
    return "Groups of parameters have step sizes of their own."


def _largest(
    product: Callable[[torch.Tensor], torch.Tensor], layout: Layout, seed: int
) -> Estimate:
    return extreme_eigenvalues(
        product,
        layout.size,
        steps=min(LANCZOS_STEPS, layout.size),
        seed=seed,
        dtype=layout.dtype,
        device=layout.device,
    ).top[0]


def _divided(found: Estimate, limit: float) -> Estimate:
    numbers = (found.value / limit, found.low / limit, found.high / limit)
    return Estimate(*numbers, found.kind, found.level, "ratio", found.how, found.over)


def measurable(subject: Subject) -> Subject:
    """Return the network in evaluation mode, batch normalization recalibrated on the rows."""
    if not batch_normalized(subject.module):
        return subject
    module = copy.deepcopy(subject.module)
    recalibrate(module, lambda: subject.batches("train"))
    return subject.replaced(module)


def start_kernel(subject: Subject, order: np.ndarray) -> tuple[NtkPlan, np.ndarray] | str:
    """Choose how kernels are computed, and compute the first; or say why there is none."""
    rows = min(KERNEL_ROWS, len(order))
    if rows < KERNEL_GROUPS:
        return f"Fewer than {KERNEL_GROUPS} training rows are too few for a kernel."
    inputs = _kernel_inputs(subject, order)
    plan = plan_ntk(subject, inputs)
    if 2.0 * rows * rows * plan.pair_work > MOST_KERNEL:
        return f"Outputs times parameters are too many for the kernel of {rows} rows."
    return plan, _kernel(subject, plan, order)


def _kernel_inputs(subject: Subject, order: np.ndarray) -> object:
    rows = np.sort(order[:KERNEL_ROWS])
    return subject.examples("train").take(rows, device=subject.device, dtype=subject.dtype)[0]


def _kernel(subject: Subject, plan: NtkPlan, order: np.ndarray) -> np.ndarray:
    found = empirical_ntk(subject, _kernel_inputs(subject, order), plan=plan)
    return np.asarray(found.double().cpu().numpy())


def _drift(now: Now) -> Values:
    if isinstance(now.fixed.kernel, str):
        return dict.fromkeys(MEASURED["kernel"], now.fixed.kernel)
    plan, before = now.fixed.kernel
    here = _kernel(measurable(now.subject), plan, now.fixed.order)
    groups = groups_of(np.zeros(len(here)), KERNEL_GROUPS)
    whole, left = _compared(here, before), []
    for group in range(KERNEL_GROUPS):
        kept = np.ix_(groups != group, groups != group)
        left.append(_compared(here[kept], before[kept]))
    said = "The kernel is zero or constant on the recorded rows."
    found: Values = {}
    for place, (name, how, most) in enumerate((
        ("kernel_shape_drift", "1 - CKA of the centered kernels now and at the start", 1.0),
        ("kernel_trace_ratio", "trace of the kernel now over that at the start", math.inf),
    )):  # fmt: skip
        every = np.array([one[place] for one in left])
        if not np.isfinite([whole[place], *every]).all():
            found[name] = said
            continue
        bounds = np.clip(delete_group(whole[place], every, "log"), 0, most)
        value, low, high = (float(bound) for bound in bounds)
        unit = "" if place == 0 else "ratio"
        found[name] = Estimate(value, low, high, "indicative", 0.95, unit, how, OVER)
    return found


def _compared(here: np.ndarray, before: np.ndarray) -> tuple[float, float]:
    drift = 1 - similarity(centered(here), centered(before))
    trace = float(np.trace(before))
    ratio = float(np.trace(here)) / trace if trace > 0 else math.nan
    return (0.0 if drift < 1e-12 else drift), ratio


def _rank(now: Now) -> Values:
    subject = measurable(now.subject)
    head = find_head(subject, "train")
    if isinstance(head, NotApplicable):
        return {"feature_rank": head.reason.removeprefix("This does not apply: ").capitalize()}
    rows = features(subject, head, "train", len(now.fixed.order)).rows
    count = min(RANK_GROUPS, len(rows))
    rank, left = covariance_ranks(rows, groups_of(np.zeros(len(rows)), count))
    if not np.isfinite([rank, *left]).all():
        return {"feature_rank": "The features do not differ between rows."}
    bounds = np.clip(delete_group(rank, left, "log"), 1, rows.shape[1])
    value, low, high = (float(bound) for bound in bounds)
    kind: Kind = "interval" if len(rows) >= 3 * RANK_GROUPS else "indicative"
    how = "(tr S)² / tr S² of the last features' covariance S, delete-group jackknife"
    return {"feature_rank": Estimate(value, low, high, kind, 0.95, "count", how, OVER)}


def vector_seed(seed: int) -> int:
    """Return the seed of the start vectors of a recording."""
    return seed_from("recorder", seed, "start vector")


_FUNCTIONS: Final[Mapping[str, Callable[[Now], Values]]] = {
    "loss": _loss,
    "norms": _norms,
    "noise": _noise,
    "sharpness": _sharpness,
    "trace": _trace,
    "kernel": _drift,
    "rank": _rank,
}
