"""What people write in a forward pass: state, data-dependent Python, custom functions, cuts."""

from __future__ import annotations

import copy

import torch
from tests.derivatives.torch_ops.small import Case, Cases, Small, bent, of
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class OldFunction(torch.autograd.Function):
    """tanh in the style without setup_context."""

    @staticmethod
    def forward(ctx, x):  # type: ignore[no-untyped-def]
        y = x.tanh()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):  # type: ignore[no-untyped-def]
        (y,) = ctx.saved_tensors
        return g * (1 - y * y)


class OnceFunction(OldFunction):
    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):  # type: ignore[no-untyped-def]
        (y,) = ctx.saved_tensors
        return g * (1 - y * y)


class NewFunction(torch.autograd.Function):
    """tanh with setup_context, without jvp."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x):  # type: ignore[no-untyped-def]
        return x.tanh()

    @staticmethod
    def setup_context(ctx, inputs, output):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx, g):  # type: ignore[no-untyped-def]
        (y,) = ctx.saved_tensors
        return g * (1 - y * y)


class DetachedBackward(NewFunction):
    """The first derivative is right, and hides its own dependence on the input."""

    @staticmethod
    def backward(ctx, g):  # type: ignore[no-untyped-def]
        (y,) = ctx.saved_tensors
        return g * (1 - y * y).detach()


class StraightThrough(NewFunction):
    @staticmethod
    def forward(x):  # type: ignore[no-untyped-def]
        return (2 * x).round() / 2

    @staticmethod
    def setup_context(ctx, inputs, output):  # type: ignore[no-untyped-def]
        pass

    @staticmethod
    def backward(ctx, g):  # type: ignore[no-untyped-def]
        return g


class RoundThrough(StraightThrough):
    """Rounds the weights; the loss behind it is linear."""


def in_place_index(m: nn.Module, x: Tensor) -> Tensor:
    y = (x @ m.W).tanh()
    y[0] = y[0] * 2
    return y


def in_place_input(m: nn.Module, x: Tensor) -> Tensor:
    x.mul_(2)
    return (x @ m.W).tanh()


def counted(m: nn.Module, x: Tensor) -> Tensor:
    m.count += 1
    return (x @ m.W).tanh()


def averaged(m: nn.Module, x: Tensor) -> Tensor:
    y = (x @ m.W).tanh()
    m.mean.mul_(0.9).add_(0.1 * y.detach().mean(0))
    return y


def remembered(m: nn.Module, x: Tensor) -> Tensor:
    m.last = (x @ m.W).tanh()
    return m.last


def by_item(m: nn.Module, x: Tensor) -> Tensor:
    return (x @ m.W) * m.W.sum().item()


def if_on_data(m: nn.Module, x: Tensor) -> Tensor:
    y = x @ m.W
    return y.tanh() if y.sum() > 0 else y.sin()


def asserted(m: nn.Module, x: Tensor) -> Tensor:
    y = x @ m.W
    assert torch.isfinite(y).all()
    return y.tanh()


def by_numpy(m: nn.Module, x: Tensor) -> Tensor:
    return (x @ m.W).tanh() * torch.from_numpy(m.W.detach().numpy().sum(keepdims=True)[0])


def by_data(m: nn.Module, x: Tensor) -> Tensor:
    y = x @ m.W
    return y.tanh() * y.data.sin()


def filled(m: nn.Module, x: Tensor) -> Tensor:
    y = torch.zeros(len(x), 4)
    y[:, :2] = (x @ m.W)[:, :2].tanh()
    y[:, 2:] = (x @ m.W)[:, 2:].sin()
    return y


def without_grad(m: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return (x @ m.W).tanh()


def in_inference(m: nn.Module, x: Tensor) -> Tensor:
    with torch.inference_mode():
        return (x @ m.W).tanh()


def in_autocast(m: nn.Module, x: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return (x @ m.W).tanh() @ m.W.T


def copied(m: nn.Module, x: Tensor) -> Tensor:
    return copy.deepcopy(m.part)(x).tanh() @ m.W


def hooked() -> Case:
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    net[0].register_forward_hook(lambda module, inputs, output: 2 * output)
    return Case(net, torch.randn(5, 3))


def partly_frozen() -> Case:
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    net[0].weight.requires_grad_(False)
    return Case(net, torch.randn(5, 3))


def answering(answer: object, read: object) -> object:
    def build() -> Case:
        net = Small(lambda m, x: answer((x @ m.W).tanh()), W=(3, 4))
        return Case(net, torch.randn(5, 3), None, bent, lambda network, x: read(network(x)))

    return build


def linear_rounded(m: nn.Module, x: Tensor) -> Tensor:
    return x @ RoundThrough.apply(m.W)


CASES: Cases = {
    "round_ste": of(linear_rounded),
    "inplace_op": of(lambda m, x: (x @ m.W).mul_(2).sin_()),
    "inplace_index": of(in_place_index),
    "inplace_input": of(in_place_input),
    "inplace_buffer_count": of(counted, count=torch.zeros(()).clone),
    "inplace_buffer_stat": of(averaged, mean=torch.zeros(4).clone),
    "attr_state": of(remembered),
    "item_in_forward": of(by_item),
    "if_on_data": of(if_on_data),
    "assert_on_data": of(asserted),
    "numpy_in_forward": of(by_numpy),
    "data_ptr_write(.data)": of(by_data),
    "zeros_then_fill": of(filled),
    "old_autograd_fn": of(lambda m, x: OldFunction.apply(x @ m.W)),
    "once_differentiable_fn": of(lambda m, x: OnceFunction.apply(x @ m.W)),
    "new_autograd_fn": of(lambda m, x: NewFunction.apply(x @ m.W)),
    "fn_detached_backward": of(lambda m, x: DetachedBackward.apply(x @ m.W)),
    "fn_straight_through": of(lambda m, x: StraightThrough.apply(x @ m.W)),
    "ckpt_reentrant": of(
        lambda m, x: checkpoint(lambda w: (x @ w).tanh(), m.W, use_reentrant=True)
    ),
    "ckpt_nonreentrant": of(
        lambda m, x: checkpoint(lambda w: (x @ w).tanh(), m.W, use_reentrant=False)
    ),
    "autocast_bf16": of(in_autocast),
    "no_grad_inside": of(without_grad),
    "inference_mode_inside": of(in_inference),
    "deepcopy_forward": of(copied, part=lambda: nn.Linear(3, 3)),
    "dict_output": answering(lambda y: {"logits": y}, lambda out: out["logits"]),
    "tuple_output": answering(lambda y: (y, y.sum()), lambda out: out[0]),
    "hook_forward": hooked,
    "frozen_params": partly_frozen,
}
