"""Neurons of any network: what is found, what is recorded, and that nothing is left behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from whynet.models.neuron_moments import find_layers, outputs_without, record
from whynet.models.neurons import ACTIVATIONS, Firing, following
from whynet.models.preservation import fingerprint, global_state
from whynet.models.subject import Subject
from whynet.training.supervised import seeded

ROWS = 40


def firings(module: nn.Module, inputs: Tensor) -> tuple[list[Firing], list[str | None]]:
    """Run a network once; its output must be that of the plain network."""
    module.eval()
    seen: list[Firing] = []
    with torch.no_grad():
        plain = module(inputs.clone())
        with following(module, seen.append) as mode:
            output = module(inputs.clone())
    torch.testing.assert_close(output, plain, rtol=1e-5, atol=1e-6)
    return seen, [mode.is_activation(output)]


def subject(module: nn.Module, *shape: int, **options: Any) -> Subject:
    inputs = torch.randn(ROWS, *shape, generator=torch.Generator().manual_seed(5))
    targets = torch.arange(ROWS) % 2
    return Subject(module, train=(inputs, targets), test=(inputs[:20], targets[:20]), **options)


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        (nn.ReLU(), "relu"), (nn.ReLU(inplace=True), "relu"), (nn.LeakyReLU(), "leaky_relu"),
        (nn.LeakyReLU(inplace=True), "leaky_relu"), (nn.PReLU(), "prelu"), (nn.GELU(), "gelu"),
        (nn.SiLU(inplace=True), "silu"), (nn.Tanh(), "tanh"), (nn.Sigmoid(), "sigmoid"),
        (nn.ELU(inplace=True), "elu"), (nn.SELU(), "selu"), (nn.Softplus(), "softplus"),
        (nn.Hardtanh(), "hardtanh"), (nn.Mish(), "mish"), (nn.Softsign(), "softsign"),
    ],
)  # fmt: skip
def test_every_activation_module_is_known(layer: nn.Module, name: str) -> None:
    module = nn.Sequential(nn.Linear(3, 4), layer, nn.Linear(4, 2))
    seen, _ = firings(module, torch.randn(5, 3))
    assert [firing.activation for firing in seen] == [name]
    before = torch.nn.functional.linear(
        seen[0].inputs if seen[0].inputs is not None else torch.zeros(5, 3),
        module[0].weight, module[0].bias,
    )  # fmt: skip
    torch.testing.assert_close(seen[0].before, before.detach())


class Call(nn.Module):
    """A linear layer, a function, another linear layer."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.last = nn.Linear(4, 2)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.function(self.first(x)))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (torch.relu, "relu"), (torch.relu_, "relu"), (functional.relu, "relu"),
        (Tensor.relu, "relu"), (Tensor.relu_, "relu"), (torch.tanh, "tanh"),
        (Tensor.tanh_, "tanh"), (Tensor.sigmoid, "sigmoid"), (functional.gelu, "gelu"),
        (lambda z: z.clamp(min=0), "relu"), (lambda z: torch.clamp_min(z, 0), "relu"),
        (lambda z: z.clamp(-1, 1), "clamp"), (torch.sin, "sin"),
        (lambda z: functional.silu(z, inplace=True), "silu"),
        (lambda z: functional.dropout(z, 0.5, False).contiguous().relu(), "relu"),
        (lambda z: z.reshape(2, -1).relu().reshape(-1, 4), "relu"),
    ],
)  # fmt: skip
def test_functions_methods_and_in_place_variants(
    function: Callable[[Tensor], Tensor], name: str
) -> None:
    torch.manual_seed(0)
    module = Call(function)
    inputs = torch.randn(6, 3)
    seen, _ = firings(module, inputs)
    assert [(f.path, f.activation) for f in seen] == [("first", name)]
    assert seen[0].before.shape[-1] == 4
    torch.testing.assert_close(
        seen[0].before.reshape(6, 4), module.first(inputs).detach()
    )  # not what was written over it


@pytest.mark.parametrize(
    "function", [lambda z: (z + 1).relu(), lambda z: z[:, :2].repeat(1, 2).relu(), lambda z: z]
)
def test_what_is_not_followed_is_not_recorded(function: Callable[[Tensor], Tensor]) -> None:
    assert firings(Call(function), torch.randn(5, 3))[0] == []


def test_batch_norm_between_is_noted_and_its_output_recorded() -> None:
    module = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(True), nn.Flatten())
    module = nn.Sequential(module, nn.Linear(3 * 16, 2))
    inputs = torch.randn(4, 2, 6, 6)
    seen, _ = firings(module, inputs)
    assert [(f.path, f.normalized, f.before.shape) for f in seen] == [("0.0", True, (4, 4, 4, 3))]
    with torch.no_grad():
        wanted = module[0][1](module[0][0](inputs)).movedim(1, -1)  # type: ignore[index]
    torch.testing.assert_close(seen[0].before, wanted)


def test_channels_are_found_after_flattening_and_transposing() -> None:
    inputs = torch.randn(4, 1, 5, 5)
    flat = nn.Sequential(nn.Conv2d(1, 3, 2), nn.Flatten(), nn.ReLU(), nn.Linear(48, 2))
    seen, _ = firings(flat, inputs)
    with torch.no_grad():
        wanted = flat[0](inputs).movedim(1, -1).reshape(-1, 3)
    torch.testing.assert_close(seen[0].before, wanted)
    swapped = Call(lambda z: z.transpose(1, 2).relu().transpose(1, 2))
    seen, _ = firings(swapped, torch.randn(4, 7, 3))
    assert seen[0].before.shape == (4, 7, 4)


def test_a_transformer_network_is_seen_token_by_token() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    seen, _ = firings(layer, torch.randn(3, 5, 8))
    assert [(f.path, f.activation, f.before.shape) for f in seen] == [
        ("linear1", "relu", (3, 5, 16))
    ]


def test_an_activation_that_is_the_output_is_not_hidden() -> None:
    class Probability(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.hidden, self.out = nn.Linear(3, 4), nn.Linear(4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return torch.sigmoid(self.out(torch.tanh(self.hidden(x))))[:, 0]

    inputs = torch.randn(ROWS, 3)
    held = Subject(Probability(), train=(inputs, torch.rand(ROWS)), loss="mse")
    assert [layer.path for layer in find_layers(held)] == ["hidden"]


def test_every_form_of_a_function_has_one_name() -> None:
    assert ACTIVATIONS[torch.relu] == ACTIVATIONS[functional.relu] == ACTIVATIONS[Tensor.relu_]
    assert len(set(ACTIVATIONS.values())) == 28


def test_network_and_global_state_are_left_as_found_also_after_a_failure() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    before, state = fingerprint(module), global_state()

    def fail(firing: Firing) -> None:
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"), torch.no_grad(), following(module, fail):
        module(torch.ones(2, 3))
    assert fingerprint(module) == before
    assert global_state() == state
    held = subject(module, 3)
    before = fingerprint(held.module)
    record(held, find_layers(held))
    assert fingerprint(held.module) == before
    assert global_state() == state


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("batch_size", [7, 512])
def test_moments_are_those_of_all_rows(dtype: torch.dtype, batch_size: int) -> None:
    with seeded(1):
        module = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 2))
    held = subject(module, 5, dtype=dtype, batch_size=batch_size)
    (found,) = record(held, find_layers(held))
    inputs, _ = held.examples("train").take(range(ROWS))
    z = (inputs.double() @ module[0].weight.double().T + module[0].bias.double()).detach().numpy()
    a = np.maximum(z, 0)
    np.testing.assert_allclose(found.second, z.T @ z / ROWS, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(found.activity_second, a.T @ a / ROWS, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(found.peak, a.max(0), rtol=1e-5)
    np.testing.assert_allclose(found.most, z.max(0), rtol=1e-5)
    np.testing.assert_allclose(found.bend, np.abs(a - z).max(0), rtol=1e-5, atol=1e-7)
    assert found.inputs is not None
    assert sorted(map(tuple, found.inputs.astype(np.float32))) == sorted(map(tuple, inputs.numpy()))
    assert len(found.sample) == ROWS == len(set(found.sample_example))


@pytest.mark.parametrize(
    "convolution",
    [
        nn.Conv2d(2, 3, 3), nn.Conv2d(2, 3, 3, padding=1, stride=2),
        nn.Conv2d(2, 3, (3, 2), padding="same", dilation=(1, 2)),
        nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"),
    ],
)  # fmt: skip
def test_patches_reproduce_what_a_convolution_computes(convolution: nn.Conv2d) -> None:
    module = nn.Sequential(convolution, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    module = nn.Sequential(*module, nn.Linear(3, 2))
    held = subject(module, 2, 6, 6)
    (found,) = record(held, find_layers(held))
    assert found.inputs is not None
    kernel = convolution.weight.detach().flatten(1).numpy()
    assert convolution.bias is not None
    again = found.inputs @ kernel.T + convolution.bias.detach().numpy()
    # Positions of sample and inputs are the same seeded ones.
    np.testing.assert_allclose(again, found.sample, rtol=1e-4, atol=1e-5)
    assert len(again) == len(found.sample_example) > ROWS


def test_grouped_convolutions_and_reused_layers() -> None:
    module = nn.Sequential(nn.Conv1d(4, 8, 3, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(32, 2))
    held = subject(module, 4, 6)
    layers = find_layers(held)
    assert layers[0].grouped
    assert record(held, layers)[0].inputs is None

    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.step, self.out = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            for _ in range(3):
                x = torch.tanh(self.step(x))
            return self.out(x)  # type: ignore[no-any-return]

    looped = subject(Loop(), 4)
    (layer,) = find_layers(looped)
    assert layer.calls == 3
    (found,) = record(looped, (layer,))
    assert found.rows == 3 * ROWS == len(found.sample)


def test_silenced_units_are_those_that_are_named() -> None:
    with seeded(2):
        module = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(True), nn.Flatten(), nn.Linear(48, 2))
    held = subject(module, 1, 6, 6)
    (pair,) = outputs_without(held, {"0": np.array([1])}, "test")
    cut = nn.Sequential(*module)
    weights = cut[3].weight.detach().clone()
    weights[:, 16:32] = 0
    inputs, _ = held.examples("test").take(range(20))
    with torch.no_grad():
        hidden = module[:3](inputs)
        torch.testing.assert_close(pair[0], module(inputs))
        torch.testing.assert_close(pair[1], hidden @ weights.T + module[3].bias)


class GatedBlock(nn.Module):
    """Gates and values of two layers, or of one that is taken apart."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.gate, self.up, self.both = nn.Linear(4, 5), nn.Linear(4, 5), nn.Linear(4, 10)
        self.down, self.how = nn.Linear(5, 2), how

    def forward(self, tokens: Tensor) -> Tensor:
        if self.how == "apart":
            gates, values = self.gate(tokens), self.up(tokens)
        elif self.how == "chunk":
            gates, values = self.both(tokens).chunk(2, dim=-1)
        else:
            made = self.both(tokens)
            values, gates = made[..., :5], made[..., 5:]
        return self.down(values * functional.silu(gates))


@pytest.mark.parametrize("how", ["apart", "chunk", "slices"])
def test_units_of_a_gated_block_are_its_products(how: str) -> None:
    torch.manual_seed(0)
    module = GatedBlock(how)
    tokens = torch.randn(3, 6, 4)
    read: list[Tensor] = []
    module.down.register_forward_hook(lambda layer, args, output: read.append(args[0]))
    seen, _ = firings(module, tokens)
    path = "up" if how == "apart" else "both"
    assert [firing.path for firing in seen] == ["gate"] * (how == "apart") + [path]
    assert seen[-1].activation == "silu gate"
    assert torch.equal(seen[-1].inputs, tokens)
    halves = module.both(tokens).split(5, dim=-1)
    gates = {"apart": module.gate(tokens), "chunk": halves[0], "slices": halves[1]}[how]
    assert torch.equal(seen[-1].gates.before, gates)
    assert torch.equal(seen[-1].gates.activate(gates), nn.functional.silu(gates))
    assert torch.equal(seen[-1].after, read[0]) and torch.equal(seen[-1].before, read[0])
    with torch.no_grad(), following(module, lambda _: None, silenced={path: torch.tensor([1, 4])}):
        module(tokens)
    silent = read[0].clone()
    silent[..., [1, 4]] = 0
    assert torch.equal(read[-1], silent)
