from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tests.models.piecewise import Forward, graph_of
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from whynet.core.errors import InputError
from whynet.core.outcome import NotApplicable
from whynet.models.piecewise_linear import (
    PiecewiseLinearGraph,
    is_piecewise_linear,
    piecewise_linear_graph,
)
from whynet.models.piecewise_linear_segments import segment_pieces
from whynet.numerics.segment_pieces import SegmentPieces


def refusal(module: nn.Module, shape: tuple[int, ...] = (4,)) -> str:
    answer = is_piecewise_linear(module.eval(), torch.zeros(shape))
    assert isinstance(answer, NotApplicable)
    return answer.reason


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 4, 2), nn.Hardtanh(), nn.Flatten(), nn.Linear(16, 4),
    )  # fmt: skip


def test_the_network_is_left_alone_and_the_graph_agrees() -> None:
    torch.manual_seed(0)
    net = convolutional().eval()
    state = {name: value.clone() for name, value in net.state_dict().items()}
    keys, random_state = set(net.__dict__), torch.get_rng_state()
    graph = graph_of(net, (2, 6, 6))
    assert set(net.__dict__) == keys
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert all(p.requires_grad and p.dtype == torch.float32 for p in net.parameters())
    points = torch.randn(7, 2, 6, 6)
    assert torch.allclose(graph.evaluate(points).float(), net(points), atol=1e-5)
    assert graph.units == 6 * 36 + 6 * 9 + 2 * 4 * 4
    assert graph.output_shape == (4,)


READABLE: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "weight norm": (nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 4)), nn.ReLU()), (4,)),
    "spectral norm": (parametrizations.spectral_norm(nn.Linear(4, 4)), (4,)),
    "constant folded": (Forward(lambda s, x: F.linear(x, s.a.weight * torch.sigmoid(s.a.bias)),
                                a=nn.Linear(4, 4)), (4,)),
    "split, stack and mean": (Forward(lambda _, x: torch.stack(x.split(2, 1)).mean(0)
                                      if False else torch.stack(x.split(2, 1), 1).mean(1)), (4,)),
    "shape arithmetic": (Forward(lambda _, x: x.reshape(x.shape[0], 2, x.shape[1] // 2)), (4,)),
    "negative scalar": (Forward(lambda _, x: (1 - x) / -3), (4,)),
    "identity": (nn.Identity(), (4,)),
    "matmul": (Forward(lambda s, x: x @ s.a.weight.t() + s.a.bias, a=nn.Linear(4, 4)), (4,)),
    "subclass": (type("Mine", (nn.ReLU,), {})(), (4,)),
    "pad and interpolate": (Forward(lambda _, x: F.interpolate(
        F.pad(x, (1, 0), value=-1.0), scale_factor=2, mode="linear")), (2, 4)),
    "cast": (Forward(lambda _, x: x.float().to(torch.float32).relu()), (4,)),
}  # fmt: skip


@pytest.mark.parametrize("name", READABLE)
def test_what_can_be_read(name: str) -> None:
    module, shape = READABLE[name]
    torch.manual_seed(0)
    points = torch.randn(3, *shape)
    graph = graph_of(module, shape)
    assert torch.allclose(graph.evaluate(points).float(), module(points), atol=1e-5)
    pieces = segment_pieces(graph, points[:1], points[1:2])
    assert isinstance(pieces, SegmentPieces)
    middle = pieces.evaluate(torch.tensor([0]), torch.tensor([0.3], dtype=torch.float64))
    expected = graph.evaluate(points[:1] + 0.3 * (points[1:2].double() - points[:1]))
    assert torch.allclose(middle, expected, rtol=0, atol=1e-12)


def branching(_: nn.Module, x: Tensor) -> Tensor:
    return x if x.sum() > 0 else -x


def written_in_place(_: nn.Module, x: Tensor) -> Tensor:
    y = x + 0
    torch.relu_(y)
    return y


def hooked() -> nn.Module:
    layer = nn.Linear(4, 4)
    layer.register_forward_hook(lambda *_: None)
    return nn.Sequential(layer)


REFUSED: dict[str, tuple[nn.Module, str]] = {
    "gelu": (nn.Sequential(nn.Linear(4, 4), nn.GELU()), "`1` is a GELU, which is curved"),
    "nested": (
        nn.Sequential(nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)), nn.ReLU()),
        "`0.1` is a LayerNorm, which divides by a statistic of its input",
    ),
    "softmax": (
        nn.Sequential(nn.Linear(4, 4), nn.Softmax(-1)),
        "give the network up to its logits",
    ),
    "function": (
        nn.Sequential(nn.Linear(4, 4), Forward(lambda _, x: F.silu(x))),
        "calls silu, which is curved",
    ),
    "square": (Forward(lambda _, x: x * x), "which multiplies two values"),
    "power": (Forward(lambda _, x: x**2), "calls pow, which is curved"),
    "quotient": (Forward(lambda _, x: 1 / (x + 9)), "divides by a value that depends on the input"),
    "attention": (nn.Sequential(nn.TransformerEncoderLayer(4, 1)), "which multiplies values"),
    "attention alone": (
        nn.TransformerEncoderLayer(4, 1),
        "it is a TransformerEncoderLayer, which",
    ),
    "recurrence": (nn.LSTM(4, 4), "it is a LSTM, which is not in whynet's table"),
    "branch": (Forward(branching), "its course depends on the values of its input"),
    "unknown": (Forward(lambda _, x: torch.cumsum(x, 1)), "calls cumsum, which is not in whynet's"),
    "in place": (Forward(written_in_place), "the traced graph gives other outputs"),
    "batch": (Forward(lambda _, x: x - x.mean(0, keepdim=True)), "the batch axis"),
    "batch mixing": (Forward(lambda _, x: x + x.flip(0)), "which mixes the examples of a batch"),
    "batch size": (Forward(lambda _, x: x * x.size(0)), "number of examples"),
    "hook": (hooked(), "`0` is a Linear, which carries a forward hook"),
    "jump": (nn.Threshold(1.0, 0.0), "which jumps"),
    "moving level": (Forward(lambda _, x: x.clamp(min=x[:, :1])), "a level that depends on"),
    "random": (Forward(lambda _, x: x + torch.randn(4)), "drawn at random"),
    "cubic": (nn.Sequential(nn.Unflatten(1, (1, 2, 2)), nn.Upsample(4, mode="bicubic")), "cubic"),
    "max of all": (Forward(lambda _, x: x - torch.max(x)), "largest over the examples of a batch"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_and_why(name: str) -> None:
    module, words = REFUSED[name]
    reason = refusal(module)
    assert reason.startswith("The network cannot be read as piecewise linear: ")
    assert reason.endswith(".")
    assert words in reason


class Cancelling(nn.Module):
    """A network minus its product written as one matrix: zero up to round-off."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.inner, self.outer = nn.Linear(4, 9), nn.Linear(9, 2)
        self.double()
        self.whole = nn.Parameter(self.outer.weight.detach() @ self.inner.weight.detach())
        offset = self.outer.weight.detach() @ self.inner.bias.detach()
        self.offset = nn.Parameter(offset + self.outer.bias.detach())

    def forward(self, x: Tensor) -> Tensor:
        gap = self.outer(self.inner(x)) - F.linear(x, self.whole, self.offset)
        return F.relu(gap)


@pytest.mark.parametrize("seed", range(10))
def test_what_cancels_up_to_round_off_is_no_mixing(seed: int) -> None:
    graph = piecewise_linear_graph(Cancelling(seed), torch.zeros(4))
    assert isinstance(graph, PiecewiseLinearGraph), graph
    assert float(graph.evaluate(torch.randn(20, 4)).abs().max()) < 1e-14


def test_a_little_mixing_is_seen() -> None:
    little = Forward(lambda _, x: x + 1e-8 * x.flip(0))
    assert "which mixes the examples of a batch" in refusal(little)


def test_batch_norm_and_dropout_in_training_mode_are_refused() -> None:
    for part, words in ((nn.BatchNorm1d(4), "`0` is a BatchNorm1d, which normalizes by statistics"),
                        (nn.Dropout(0.3), "`0` is a Dropout, which draws at random")):  # fmt: skip
        answer = piecewise_linear_graph(nn.Sequential(part).train(), torch.zeros(4))
        assert isinstance(answer, NotApplicable)
        assert words in answer.reason


def test_an_example_that_is_no_float_is_an_error() -> None:
    with pytest.raises(InputError, match="example_input"):
        piecewise_linear_graph(nn.Linear(3, 1), torch.zeros(3, dtype=torch.int64))
