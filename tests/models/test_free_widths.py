"""Networks with widths written into their code are traced so that they run with others."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn

from whynet import load_resized
from whynet.models.architecture import describe_architecture
from whynet.models.free_widths import free_widths


class Written(nn.Module):
    """Layers with numbers written between them; some parameters and a buffer are out of the way."""

    def __init__(self, then: Callable[[Written, Tensor], Tensor], width: int = 8) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 8), nn.Linear(width, 2)
        self.other, self.more = nn.Linear(5, 2), nn.Linear(4, 5)
        self.scale = nn.Parameter(torch.rand(8) + 0.5)
        self.register_buffer("known", torch.ones(3), persistent=False)
        self.then = then

    def forward(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        if mask is not None:
            inputs = inputs * mask
        return self.then(self, torch.tanh(self.first(inputs * self.known)))


CASES: dict[str, tuple[Callable[[Written, Tensor], Tensor], int]] = {
    "view": (lambda m, x: m.last(x.view(-1, 8)), 8),
    "sizes of the batch": (lambda m, x: m.last(x.reshape((x.size(0), 8)) * m.scale), 8),
    "two axes": (lambda m, x: m.last(x[:, None].expand(-1, 3, 8).reshape(-1, 24)), 24),
    "slices": (lambda m, x: m.last(x[:, :3]) + m.other(x[:, 3:8]), 3),
    "from the end": (lambda m, x: m.last(x[..., :-5]) + m.other(x[..., -5:]), 3),
    "split": (lambda m, x: m.last(x.split(4, 1)[0] * x.split(4, dim=1)[1]), 4),
    "pieces": (lambda m, x: m.last(x.split([3, 5], 1)[0]) + m.other(x.split([3, 5], 1)[1]), 3),
    "chunk": (lambda m, x: m.last(x.chunk(2, 1)[0]) + m.other(m.more(x.chunk(2, 1)[1])), 4),
    "unflatten": (lambda m, x: m.last(x.unflatten(1, (8, 1)).flatten(1)), 8),
}


@pytest.mark.parametrize("name", CASES)
def test_numbers_that_are_widths_become_sizes(name: str) -> None:
    between, width = CASES[name]
    module = Written(between, width).double().eval()
    inputs = torch.randn(2, 3, dtype=torch.float64)
    found = free_widths(module, lambda network: network(inputs), inputs)
    assert found.traced and isinstance(found.module, fx.GraphModule), found.reason
    assert found.fixed == frozenset()
    assert found.module.state_dict().keys() == module.state_dict().keys()
    assert dict(found.module.named_buffers()).keys() == dict(module.named_buffers()).keys()
    # It bears the name of the user's class, also when it was copied.
    assert "(Written)" in describe_architecture(found.module)
    assert "(Written)" in describe_architecture(copy.deepcopy(copy.deepcopy(found.module)))
    many = torch.randn(7, 3, dtype=torch.float64)
    with torch.no_grad():
        assert torch.equal(found.module(many), module(many))


def test_what_has_no_trace_stays_fixed_with_the_reason() -> None:
    def branching(module: Written, hidden: Tensor) -> Tensor:
        count = 8 if hidden.shape[0] < 10**6 else 0
        return module.last(hidden.view(-1, count))

    heads = Written(lambda m, x: m.last(x.view(-1, 2, 4).transpose(1, 2).reshape(-1, 8)))
    inputs = torch.randn(2, 3)
    for module, said in (
        (Written(branching), "its trace fails (TraceError)"),
        (heads, "it does not follow from sizes of its parameters"),
    ):
        found = free_widths(module.eval(), lambda network: network(inputs), inputs)
        assert (found.fixed, found.reason) == (frozenset({"first"}), said)
        assert found.module is module


def test_a_smaller_network_is_loaded_with_an_example() -> None:
    module = Written(lambda m, x: m.last(x.view(-1, 8) * m.scale)).eval()
    state = module.state_dict()
    small = {
        **state,
        "first.weight": state["first.weight"][:5],
        "first.bias": state["first.bias"][:5],
        "scale": state["scale"][:5],
        "last.weight": state["last.weight"][:, :5],
    }
    inputs = torch.randn(4, 3)
    loaded = load_resized(module, small, inputs)
    hidden = torch.tanh(module.first(inputs))[:, :5] * module.scale[:5]
    wanted = hidden @ module.last.weight[:, :5].T + module.last.bias
    assert torch.allclose(loaded(inputs), wanted)
    assert tuple(module.first.weight.shape) == (8, 3)
    exported = torch.export.export(loaded, (inputs,)).module()
    assert torch.allclose(exported(inputs), wanted)
