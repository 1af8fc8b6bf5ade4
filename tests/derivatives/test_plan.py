"""Choosing a plan: refusals with their sentence, and nothing changed afterwards."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tests.derivatives.making import (
    cross_entropy,
    dense,
    filled,
    labels,
    normal,
    objective,
    planned,
    small_network,
    small_objective,
    squared,
)
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from whynet.core.outcome import NotApplicable
from whynet.derivatives.exact_kernels import default_dtype, exact_kernels
from whynet.derivatives.objective import Objective, objective_of
from whynet.derivatives.plan import choose_plan
from whynet.derivatives.products import gauss_newton, hessian


def refusal(made: Objective) -> str:
    plan = choose_plan(made, 0)
    assert isinstance(plan, NotApplicable), plan
    assert plan.reason.endswith(".")
    assert "\n" not in plan.reason
    return plan.reason


def state() -> tuple[object, ...]:
    return (
        torch.backends.mha.get_fastpath_enabled(),
        torch.backends.cuda.flash_sdp_enabled(),
        torch.backends.cuda.math_sdp_enabled(),
        torch.backends.mkldnn.enabled,
        torch.get_default_dtype(),
        torch.get_rng_state().tolist(),
        torch.is_grad_enabled(),
        torch.get_num_threads(),
    )


class Failing(nn.Module):
    """Fails at the call of a given number, and in float64 always."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        torch.rand(3)
        if self.weight.dtype == torch.float64:
            raise RuntimeError("no float64 here\nat all")
        return x * self.weight


def test_everything_is_as_before_also_after_a_failure() -> None:
    x = normal(20, 4, seed=5, dtype=torch.float32)
    net = small_network(torch.float32)
    before = state()
    made = objective(net, x, labels(20, 3), cross_entropy)
    kept = {name: value.clone() for name, value in net.state_dict().items()}
    rows = x.clone()
    plan = planned(made)
    hessian(made, plan).matvec(torch.ones(43))
    failing = objective(Failing(), x[:, :3], x[:, :3], squared)
    assert refusal(failing) == (
        "The derivatives cannot be checked, for the network does not run in float64: "
        "RuntimeError: no float64 here at all."
    )
    assert state() == before
    assert torch.equal(x, rows)
    for name, value in net.state_dict().items():
        assert torch.equal(value, kept[name])
    for part in (net, made.module):
        assert all(parameter.grad is None for parameter in part.parameters())
    assert not any(parameter.requires_grad for parameter in made.parameters.values())


def test_flags_come_back_after_an_exception() -> None:
    before = state()
    with pytest.raises(ZeroDivisionError), exact_kernels(onednn=False):
        assert not torch.backends.mha.get_fastpath_enabled()
        assert not torch.backends.cuda.flash_sdp_enabled()
        assert not torch.backends.mkldnn.enabled
        raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError), default_dtype(torch.float64):
        assert torch.ones(1).dtype == torch.float64
        raise ZeroDivisionError
    assert state() == before


def test_the_same_seed_gives_the_same_plan() -> None:
    assert planned(small_objective()) == planned(small_objective())


def test_the_plan_of_a_sound_network() -> None:
    plan = planned(small_objective())
    assert plan.way == "reverse-over-reverse"
    assert max(plan.check, plan.gradient_check, plan.curvature_check) < 1e-6
    assert not isinstance(plan.gauss_newton, NotApplicable)
    assert plan.gauss_newton.check < 1e-6
    assert plan.vmap
    assert plan.notes == ("Second derivatives by reverse over reverse.",)


class PlainWeightNorm(nn.Module):
    """What `weight_norm` computes, written out."""

    def __init__(self, like: nn.Module) -> None:
        super().__init__()
        self.bias = nn.Parameter(like.bias.detach().clone())
        self.g = nn.Parameter(like.parametrizations.weight.original0.detach().clone())
        self.v = nn.Parameter(like.parametrizations.weight.original1.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(
            x, self.g * self.v / self.v.norm(dim=1, keepdim=True), self.bias
        ).tanh()


def test_weight_norm_is_caught_and_its_differences_are_right() -> None:
    layer = filled(parametrizations.weight_norm(nn.Linear(3, 3)))
    x, y = normal(12, 3), normal(12, 3, seed=2)
    made = objective(nn.Sequential(layer, nn.Tanh()), x, y, squared)
    plan = planned(made)
    assert plan.way == "finite-differences"
    assert "reverse-over-reverse is wrong" in plan.notes[1]
    written_out = objective(PlainWeightNorm(layer), x, y, squared)
    wanted = dense(hessian(written_out, planned(written_out)))
    found = dense(hessian(made, plan))
    assert (found - wanted).abs().max() < 1e-6 * wanted.abs().max()


def test_a_smaller_defect_in_a_small_layer_is_seen() -> None:
    """The weight-normed layer is a hundredth of the parameters of this network."""
    net = filled(
        nn.Sequential(
            nn.Linear(30, 40), nn.Tanh(), nn.Linear(40, 3), nn.Tanh(),
            parametrizations.weight_norm(nn.Linear(3, 3)), nn.Tanh(),
        )
    )  # fmt: skip
    plan = planned(objective(net, normal(20, 30), normal(20, 3, seed=2), squared))
    assert plan.way == "finite-differences"


@pytest.mark.filterwarnings("ignore:Complex modules")
def test_refusals() -> None:
    x, y = normal(8, 3), normal(8, 3, seed=2)
    frozen = filled(nn.Linear(3, 3)).requires_grad_(False)
    assert refusal(objective(frozen, x, y, squared)) == (
        "The network has no trainable parameter to differentiate by."
    )
    linear = filled(nn.Linear(3, 3))
    assert refusal(objective_of(linear, squared, lambda: [], 8)) == (
        "There are no data to differentiate the loss on."
    )
    assert refusal(objective(linear, x / 0, y, squared)) == (
        "The loss is not finite on the first rows of the data."
    )
    assert refusal(objective(linear, x, y, lambda o, t: (o - t).square())) == (
        "The loss of a batch has shape (8, 3); a sum is needed."
    )
    assert refusal(objective(nn.Linear(3, 3).to(torch.complex128), x, y, squared)) == (
        "The parameter weight is complex; products need real ones."
    )
    noisy = nn.Sequential(linear, nn.Dropout(0.5))
    assert "(it draws random numbers in Dropout)" in refusal(objective(noisy, x, y, squared))


def test_a_gradient_that_is_not_finite_is_named() -> None:
    net = filled(nn.Linear(3, 3))
    made = objective(net, torch.zeros(4, 3).double(), torch.zeros(4, 3).double(), _norms)
    made.parameters["bias"].zero_()
    assert refusal(made) == "The gradient of the loss is not finite at weight."


def _norms(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).abs().sqrt().sum()


def test_a_network_bound_to_its_batch_size() -> None:
    class Bound(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            if len(x) != 40:
                raise ValueError("forty rows")
            return self.layer(x).tanh()

    planned(objective(filled(Bound()), normal(40, 3), normal(40, 2), squared))


def test_float32_attributes_and_loss_weights_follow_to_float64() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 3)
            self.scale = torch.tensor([[1.0, 2, 3], [0, 1, 0], [0, 0, 1]])

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x) @ self.scale + torch.zeros(3)

    weighted = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2, 3]), reduction="sum")
    x = normal(9, 3, dtype=torch.float32)
    plan = planned(objective(filled(Scaled(), torch.float32), x, labels(9, 3), weighted))
    assert plan.check < 1e-5


def test_gauss_newton_refusal_is_returned() -> None:
    made = small_objective()
    plan = planned(made)
    nothing = NotApplicable("Not here.")
    assert gauss_newton(made, replace(plan, gauss_newton=nothing)) == nothing


def test_recurrent_float32_in_forward_mode_without_onednn() -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.LSTM(2, 3, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x)[0][:, -1]

    net = filled(Last(), torch.float32)
    x, y = normal(5, 4, 2, dtype=torch.float32), normal(5, 3, dtype=torch.float32)
    made = objective(net, x, y, squared)
    plan = choose_plan(made, 0, ways=("forward-over-reverse",))
    assert not isinstance(plan, NotApplicable), plan.reason
    found = dense(hessian(made, plan))
    wanted = dense(hessian(made, planned(made)))
    assert (found - wanted).abs().max() < 1e-4 * wanted.abs().max()
    assert torch.backends.mkldnn.enabled


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_many_kinks_are_no_defect(dtype: torch.dtype) -> None:
    """Wide ReLU networks have kinks within any step of a difference; the plan is reverse mode."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 2048), nn.ReLU(), nn.Linear(2048, 10)).to(dtype)
    made = objective(net, normal(16, 64, dtype=dtype), labels(16, 10), cross_entropy)
    for seed in range(3):
        plan = choose_plan(made, seed)
        assert not isinstance(plan, NotApplicable), plan.reason
        assert plan.way == "reverse-over-reverse", plan.notes


class SlightlyWrong(torch.autograd.Function):
    """tanh whose derivative is three percent too large."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.tanh()

    @staticmethod
    def setup_context(ctx: object, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: object, cotangent: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return 1.03 * cotangent * (1 - y * y)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_gradient_that_is_three_percent_off_is_refused(dtype: torch.dtype) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(4, 5), nn.Linear(5, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(SlightlyWrong.apply(self.first(x)))

    made = objective(filled(Net(), dtype), normal(30, 4, dtype=dtype), labels(30, 3), cross_entropy)
    for seed in range(3):
        plan = choose_plan(made, seed)
        assert isinstance(plan, NotApplicable)
        assert "custom functions in its graph: SlightlyWrong." in plan.reason
