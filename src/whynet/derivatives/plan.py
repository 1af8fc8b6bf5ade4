"""Which way of differentiating a network is right, found by trying on a few rows.

PyTorch is silently wrong in places (a parametrized `weight_norm` differentiated twice, forward
mode of `scatter_reduce`), and refuses in others. Each way is therefore held against float64
central differences of the gradient, the gradient against differences of the loss, and the product
against second differences of the loss; the first way that agrees is the plan.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from whynet.core.outcome import NotApplicable
from whynet.core.seeds import seed_from
from whynet.derivatives.differences import precision
from whynet.derivatives.exact_kernels import exact_kernels, kept_random_state
from whynet.derivatives.flat import Vector, norm
from whynet.derivatives.gauss_newton import GaussNewtonPlan
from whynet.derivatives.gauss_newton_plan import choose_gauss_newton
from whynet.derivatives.objective import Objective, first_rows, held_fixed
from whynet.derivatives.obstacles import (
    custom_functions,
    obstacle,
    random_parts,
    rejected,
    renormalized,
)
from whynet.derivatives.probe import ROWS, SHRINK, Probe, find_epsilon
from whynet.derivatives.single_pass import single_pass
from whynet.derivatives.ways import WAYS, BatchProduct, Way, hessian_way, loss_gradient
from whynet.models.fitting_rows import row_count

THRESHOLD = 1e-2
"""Relative miss above which a derivative is refused: honest ones stay below 5e-4, the smallest
known defect of an operation is 2e-2."""

WIDE_THRESHOLD = 1e-3
"""The same where the product is computed in float64: honest ones stay below 1e-6."""

RANDOM_CALLS = 8
"""Calls that must agree where a network draws random numbers."""


@dataclass(frozen=True)
class Plan:
    """Which way of differentiating this network is right, and how that was checked.

    Attributes:
        way: how Hessian products are computed.
        check: relative miss of a product with one random direction against a float64 central
            difference of the gradient (for `finite-differences`: against one of twice the step).
        gradient_check: relative miss of the gradient against float64 differences of the loss.
        curvature_check: relative miss of `v^T H v` against second differences of the loss, beyond
            what kinks within the step explain.
        vmap: whether many vectors can be taken at once.
        gauss_newton: how Gauss-Newton products are computed, or why there are none.
        onednn: whether oneDNN kernels are used.
        once: whether a single pass (`single_pass`) gives the same for batches that are not kept.
        bytes_per_example: memory that the graphs of loss and gradient keep for one example.
        notes: sentences about what was found and done.

    """

    way: Way
    check: float
    gradient_check: float
    curvature_check: float
    vmap: bool
    gauss_newton: GaussNewtonPlan | NotApplicable
    onednn: bool = True
    once: bool = False
    bytes_per_example: float = 0.0
    notes: tuple[str, ...] = ()


def choose_plan(
    objective: Objective, seed: int, ways: Sequence[Way] = WAYS
) -> Plan | NotApplicable:
    """Find the first way of differentiating an objective that agrees with differences.

    Flags, random state and the objective are as before afterwards, also after a failure.

    Args:
        objective: what is differentiated.
        seed: seed of the random directions.
        ways: which ways to try, in order.

    Returns:
        The plan, or the one sentence that says why no way is right.

    Cost: on the first 16 rows, some 20 float64 losses, 6 float64 gradients, and some 6 products
    for each way that is tried; a float64 copy of the network.

    """
    if not objective.parameters:
        return NotApplicable("The network has no trainable parameter to differentiate by.")
    for name, parameter in objective.parameters.items():
        if parameter.is_complex():
            return NotApplicable(f"The parameter {name} is complex; products need real ones.")
    if reason := rejected(objective.module):
        return NotApplicable(f"The network cannot be differentiated: {reason}.")
    tensors = [*objective.parameters.values(), *objective.frozen.values()]
    with kept_random_state(tensors), exact_kernels():
        torch.default_generator.manual_seed(seed_from("plan", seed))
        probe = make_probe(objective, seed)
        if isinstance(probe, NotApplicable):
            return probe
        gradient_check = _best(probe.gradient_miss)
        if gradient_check > THRESHOLD:
            return _untrue_gradient(probe, gradient_check)
        return _try_ways(probe, gradient_check, ways)


def make_probe(objective: Objective, seed: int) -> Probe | NotApplicable:
    """Cut the probing rows and check all that must hold before a derivative makes sense."""
    batch = next(iter(objective.batches()), None)
    if batch is None:
        return NotApplicable("There are no data to differentiate the loss on.")
    inputs, targets = first_rows(*batch, ROWS)
    try:
        if failed := _impure(objective, inputs, targets):
            return failed
    except Exception:  # noqa: BLE001 - a network may be bound to its batch size: take all of it
        inputs, targets = batch
    try:
        if failed := _impure(objective, inputs, targets):
            return failed
        point = tuple(objective.parameters.values())
        value, _, gradient = loss_gradient(objective, point, inputs, targets)
        if norm(gradient) == 0:
            inputs, targets = batch
            value, _, gradient = loss_gradient(objective, point, inputs, targets)
    except Exception as error:  # noqa: BLE001 - the network is foreign code and may raise anything
        return NotApplicable(
            f"The gradient of the loss cannot be computed: {obstacle(error)}{_hint(error)}."
        )
    for name, piece in zip(objective.parameters, gradient, strict=True):
        if not torch.isfinite(piece).all():
            return NotApplicable(f"The gradient of the loss is not finite at {name}.")
    return _with_wide_copy(objective, inputs, targets, float(value.detach()), gradient, seed)


def _with_wide_copy(
    objective: Objective, inputs: Any, targets: Any, value: float, gradient: Vector, seed: int
) -> Probe | NotApplicable:
    try:
        wide = objective.wide()
        epsilon, _ = find_epsilon(wide, inputs)
        probe = Probe(objective, wide, inputs, targets, value, gradient, seed, epsilon)
        probe.value = probe.loss_at(probe.wide_point)
        probe.rounding = abs(probe.value - value) / max(abs(value), 1e-300)
    except Exception as error:  # noqa: BLE001 - the network is foreign code and may raise anything
        return NotApplicable(
            "The derivatives cannot be checked, for the network does not run in float64: "
            f"{obstacle(error)}."
        )
    if not math.isclose(probe.value, value, rel_tol=1e-2, abs_tol=1e-6):
        return NotApplicable(
            "The derivatives cannot be checked: the same network in float64 has a loss of "
            f"{probe.value:.4g} where it has {value:.4g}."
        )
    return probe


def _impure(objective: Objective, inputs: Any, targets: Any) -> NotApplicable | None:
    """Call the loss twice, more often where it draws; say if it edits, varies or is not finite."""
    values: list[float] = []
    before = torch.get_rng_state()
    while len(values) < (2 if torch.equal(torch.get_rng_state(), before) else RANDOM_CALLS):
        parameters = {n: p.clone() for n, p in objective.parameters.items()}
        with torch.no_grad():
            loss = objective.loss(parameters, inputs, targets)
        if loss.numel() != 1:
            shape = (*loss.shape,)
            return NotApplicable(f"The loss of a batch has shape {shape}; a sum is needed.")
        for name, parameter in objective.parameters.items():
            if not torch.equal(parameters[name], parameter):
                return _edited(objective.module, name)
        values.append(float(loss))
    if not all(math.isfinite(value) for value in values):
        return NotApplicable("The loss is not finite on the first rows of the data.")
    if not math.isclose(min(values), max(values), rel_tol=_same_calls(objective)):
        parts = random_parts(objective.module)
        named = f" (it draws random numbers in {', '.join(parts)})" if parts else ""
        return NotApplicable(
            f"Two calls of the network on the same input differ{named}; "
            "a curvature needs one fixed function."
        )
    return None


def _same_calls(objective: Objective) -> float:
    """Relative difference of two calls that round-off explains (LAPACK varies with alignment)."""
    return 1e3 * max(precision(p) for p in objective.parameters.values())


def _edited(module: nn.Module, name: str) -> NotApplicable:
    paths = renormalized(module)
    why = f" (max_norm of {', '.join(paths)})" if paths else ""
    return NotApplicable(f"The forward pass edits the parameter {name}{why}.")


def _untrue_gradient(probe: Probe, miss: float) -> NotApplicable:
    loss, _, _ = loss_gradient(probe.objective, probe.point, probe.inputs, probe.targets)
    names = custom_functions(loss)
    named = f"; custom functions in its graph: {', '.join(names)}" if names else ""
    return NotApplicable(
        f"Autograd's gradient is not the derivative of the loss (it misses by {miss:.1%}), as with "
        "straight-through estimators, detached values, `.item()`, or a kink exactly at these "
        f"parameters{named}."
    )


def _try_ways(probe: Probe, gradient_check: float, ways: Sequence[Way]) -> Plan | NotApplicable:
    said: list[str] = []
    recurrent = any(isinstance(part, nn.RNNBase) for part in probe.objective.module.modules())
    for way in ways:
        for onednn in (True, False) if recurrent else (True,):
            with exact_kernels(onednn=onednn):
                tried = _try_way(probe, way)
                if isinstance(tried, str):
                    said.append(f"{way} {tried}")
                    continue
                check, curvature_check, product = tried
                return Plan(
                    way,
                    check,
                    gradient_check,
                    curvature_check,
                    probe.agrees_at_once(product),
                    choose_gauss_newton(probe, THRESHOLD),
                    onednn,
                    way != "finite-differences" and _single_pass_agrees(probe),
                    _graph_bytes(probe, keep=way == "reverse-over-reverse"),
                    _notes(probe, way, said, onednn),
                )
    return NotApplicable(f"No way of taking second derivatives is right here: {'; '.join(said)}.")


def _try_way(probe: Probe, way: Way) -> tuple[float, float, BatchProduct] | str:
    """Check one way; returns its misses and products, or what is wrong with it."""
    try:
        product = hessian_way(probe.objective, way)(probe.inputs, probe.targets)
        check = _best(lambda attempt: _product_check(probe, way, product, attempt))
        curvature = _best(lambda attempt: probe.value_miss(product.one, attempt))
        asymmetry = probe.asymmetry(product.one)
    except Exception as error:  # noqa: BLE001 - operations refuse with whatever type they like
        return f"fails ({obstacle(error)})"
    if not math.isfinite(check + curvature + asymmetry):
        return "is not finite"
    wide = way == "finite-differences" or probe.coarse < 1e-12
    threshold = WIDE_THRESHOLD if wide else THRESHOLD
    if check > threshold:
        if way == "finite-differences":
            return f"depends on the step by {check:.1%}"
        return f"is wrong (it misses differences of the gradient by {check:.1%})"
    if curvature > threshold:
        return f"misses second differences of the loss by {curvature:.1%}"
    if asymmetry > threshold:
        return f"is not symmetric, by {asymmetry:.1%} (the gradient is no derivative around here)"
    return check, curvature, product


def _single_pass_agrees(probe: Probe) -> bool:
    """Whether a product in a single pass agrees with differences of the gradient."""
    product = single_pass(probe.objective, gauss_newton=False)

    def miss(attempt: int) -> float:
        direction, wanted, _ = probe.reference(attempt)
        found = product(probe.inputs, probe.targets, probe.narrow(direction))
        return probe.product_miss(found, wanted, attempt)

    try:
        return _best(miss) <= (WIDE_THRESHOLD if probe.coarse < 1e-12 else THRESHOLD)
    except Exception:  # noqa: BLE001 - operations refuse forward mode with whatever type they like
        return False


def _product_check(probe: Probe, way: Way, product: BatchProduct, attempt: int) -> float:
    direction, wanted, own = probe.reference(attempt)
    if way == "finite-differences":
        return max(own, probe.product_miss(product.one(probe.narrow(direction)), wanted, attempt))
    return probe.product_miss(product.one(probe.narrow(direction)), wanted, attempt)


def _best(miss: Callable[[int], float]) -> float:
    """Smallest miss over the attempts; stops at the first that passes."""
    least = math.inf
    for attempt in range(len(SHRINK)):
        least = min(least, miss(attempt))
        if least <= THRESHOLD:
            break
    return least


def _graph_bytes(probe: Probe, *, keep: bool) -> float:
    """Bytes that the graphs of loss and gradient keep, per row of the probe."""
    kept: dict[int, int] = {}
    own = {parameter.untyped_storage().data_ptr() for parameter in probe.point}

    def count(tensor: Tensor) -> Tensor:
        if tensor.layout == torch.strided:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        graph = loss_gradient(probe.objective, probe.point, probe.inputs, probe.targets, keep=keep)
    del graph  # it must live until here: memory that is freed would be counted once for two
    return sum(kept.values()) / row_count(probe.inputs)


def _notes(probe: Probe, way: Way, said: Sequence[str], onednn: bool) -> tuple[str, ...]:
    notes = [f"Second derivatives by {way.replace('-', ' ')}."]
    if said:
        notes.append(f"Passed over: {'; '.join(said)}.")
    kinds = (nn.MultiheadAttention, nn.TransformerEncoderLayer)
    if any(isinstance(part, kinds) for part in probe.objective.module.modules()):
        notes.append("Attention used the math kernel.")
    if probe.rounding > 1e2 * probe.coarse:
        notes.append(
            "The network computes in lower precision on its way: its loss differs by "
            f"{probe.rounding:.1e} from the same network's in float64."
        )
    if not onednn:
        notes.append("oneDNN was off.")
    if fixed := held_fixed(probe.objective):
        notes.append(f"The padding rows of {', '.join(fixed)} are held fixed.")
    _, image, _ = probe.reference(0)
    if norm(image) <= 1e-8 * norm(probe.gradient) / probe.scale:
        notes.append("The loss is linear in the parameters: its Hessian is zero.")
    return tuple(notes)


def _hint(error: Exception) -> str:
    text = str(error)
    if "does not require grad" in text:
        return " (the loss is cut off from the parameters, as by no_grad, detach or inference mode)"
    if "use_reentrant" in text:
        return " (switch activation checkpointing off while measuring)"
    return ""
