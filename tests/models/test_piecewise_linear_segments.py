from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from tests.models.piecewise import (
    Forward,
    dense,
    graph_of,
    interior,
    line,
    one_dimensional,
    pieces_of,
)
from torch import Tensor, nn

from whynet.core.errors import InputError
from whynet.core.outcome import NotApplicable
from whynet.models.piecewise_linear_segments import segment_pieces
from whynet.numerics.segment_pieces import SegmentPieces


def assert_rebuilds(
    module: nn.Module, pieces: SegmentPieces, starts: Tensor, ends: Tensor, count: int = 400
) -> None:
    """The pieces give the network back at random positions."""
    twin = module.double()
    generator = torch.Generator().manual_seed(1)
    t = torch.rand(count, generator=generator).double()
    segment = torch.randint(0, starts.shape[0], (count,), generator=generator)
    a, b = starts.double()[segment], ends.double()[segment]
    with torch.no_grad():
        expected = twin(line(a, b, t))
    gap = (pieces.evaluate(segment, t) - expected).abs().max()
    assert gap <= 1e-9 * max(1.0, float(expected.abs().max()))


# Closed forms


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_hidden_layer_breaks_at_minus_bias_over_weight(dtype: torch.dtype) -> None:
    weights, biases = [2.0, -4.0, 1.0, 8.0], [-1.0, 1.0, -2.0, -1.0]
    net = nn.Sequential(
        dense([[w] for w in weights], biases), nn.ReLU(), dense([[1.0, 3.0, 1.0, -1.0]], [0.5])
    ).to(dtype)
    pieces = one_dimensional(net)
    assert interior(pieces) == [0.125, 0.25, 0.5]
    assert pieces.switches.tolist() == [0, 1, 1, 1, 0]
    assert pieces.output_pieces().tolist() == [4]
    # Slopes -12, -20, -8, -6.
    assert pieces.slope_variation().tolist() == pytest.approx([8.0 + 12.0 + 2.0])


@pytest.mark.parametrize("depth", [1, 3, 6, 10])
def test_sawtooth_of_depth_k_has_two_to_the_k_pieces(depth: int) -> None:
    tent = [dense([[2.0], [4.0]], [0.0, -2.0]), nn.ReLU(), dense([[1.0, -1.0]], [0.0])]
    pieces = one_dimensional(nn.Sequential(*tent * depth))
    assert pieces.output_pieces().tolist() == [2**depth]
    expected = torch.arange(2**depth + 1) / 2**depth
    output_knots = pieces.is_output_breakpoint.clone()
    output_knots[0] = output_knots[-1] = True
    assert torch.equal(pieces.t[output_knots], expected.double())
    assert pieces.path_length().item() == pytest.approx(2**depth)


def test_absolute_values_fold() -> None:
    net = Forward(lambda _, x: (abs(x - 0.5) * 2 - 0.5).abs())
    pieces = one_dimensional(net)
    assert interior(pieces) == [0.25, 0.5, 0.75]
    assert pieces.outputs.flatten().tolist() == [0.5, 0.0, 0.5, 0.0, 0.5]


def test_duplicated_neurons_share_one_knot() -> None:
    layer = nn.Linear(7, 1)
    many = nn.Linear(7, 60)
    with torch.no_grad():
        scales = torch.logspace(-3, 3, 60).double()
        scales[::3] *= -1
        row, shift = layer.weight.double(), layer.bias.double()
        many.double()
        many.weight.copy_(scales[:, None] * row)
        many.bias.copy_(scales * shift)
    direction = row[0] / row[0].norm()
    far = 3 + torch.randn(1, 7, generator=torch.Generator().manual_seed(0)).double() / 9
    pieces = pieces_of(
        nn.Sequential(many, nn.ReLU(), nn.Linear(60, 3).double()),
        far - 20 * direction, far + 21 * direction,
    )  # fmt: skip
    assert pieces.activation_pieces().tolist() == [2]
    assert pieces.switches.tolist() == [0, 60, 0]


def widened(layers: list[nn.Linear]) -> list[nn.Linear]:
    """The same function with every hidden unit three times, at other scales, shuffled."""
    made, index, factor = [], torch.arange(layers[0].in_features), torch.ones(1).double()
    for number, layer in enumerate(layers):
        weight = layer.weight[:, index] * factor
        bias = layer.bias
        if number < len(layers) - 1:
            index = torch.randperm(3 * len(bias)) % len(bias)
            scale = torch.exp(2 * torch.randn(len(index))).double()
            weight, bias = weight[index] * scale[:, None], bias[index] * scale
            factor = 1 / (3 * scale)
        wide = nn.Linear(weight.shape[1], weight.shape[0]).double()
        wide.weight.data, wide.bias.data = weight.detach(), bias.detach()
        made.append(wide)
    return made


@pytest.mark.parametrize("depth", [2, 8])
def test_units_copied_in_every_layer_add_no_knots(depth: int) -> None:
    torch.manual_seed(depth)
    sizes = [8, *[20] * depth, 2]
    layers = [nn.Linear(n, m).double() for n, m in pairwise(sizes)]
    for layer in layers:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    starts, ends = 4 * torch.randn(6, 8), 4 * torch.randn(6, 8)
    slim, wide = (
        pieces_of(
            nn.Sequential(*[part for layer in stack for part in (layer, nn.ReLU())][:-1]),
            starts, ends,
        )
        for stack in (layers, widened(layers))
    )  # fmt: skip
    assert int(slim.activation_pieces().sum()) > 60
    assert torch.equal(slim.offsets, wide.offsets)
    assert torch.equal(3 * slim.switches, wide.switches)
    assert torch.equal(slim.is_output_breakpoint, wide.is_output_breakpoint)


def test_neurons_that_vanish_along_the_segment_do_not_switch() -> None:
    torch.manual_seed(3)
    layer = nn.Linear(1024, 50).double()
    starts, ends = torch.randn(1, 1024).double(), torch.randn(1, 1024).double()
    with torch.no_grad():  # hyperplanes that contain the segment: w a + b = w (b - a) = 0
        along = (ends - starts)[0] / (ends - starts).norm()
        layer.weight -= (layer.weight @ along)[:, None] * along
        layer.bias.copy_(-(layer.weight @ starts[0]))
        layer.weight[0], layer.bias[0] = along, -(along @ starts[0]) - 1.0
    pieces = pieces_of(nn.Sequential(layer, nn.ReLU(), nn.Linear(50, 2).double()), starts, ends)
    assert pieces.switches.tolist() == [0, 1, 0]


def test_zero_segment_is_one_piece() -> None:
    point = torch.ones(2, 3)
    pieces = pieces_of(nn.Sequential(nn.Linear(3, 9), nn.ReLU(), nn.Linear(9, 2)), point, point)
    assert pieces.activation_pieces().tolist() == [1, 1]


def test_knots_at_the_ends_are_no_breakpoints() -> None:
    net = nn.Sequential(dense([[1.0], [1.0], [1.0]], [0.0, -1.0, -0.5]), nn.ReLU())
    assert interior(one_dimensional(net)) == [0.5]


def test_near_knots_stay_apart_and_nearer_ones_merge() -> None:
    for gap, knots in ((1e-13, 2), (1e-17, 1)):
        net = nn.Sequential(nn.Linear(1, 2).double(), nn.ReLU())
        with torch.no_grad():
            net[0].weight.fill_(1.0)
            net[0].bias.copy_(torch.tensor([-1 / 3, -1 / 3 - gap], dtype=torch.float64))
        pieces = one_dimensional(net)
        assert pieces.activation_pieces().item() == knots + 1
        assert pieces.switches.sum() == 2


def test_a_hidden_switch_that_cancels_is_no_output_breakpoint() -> None:
    net = nn.Sequential(
        dense([[3.0], [-3.0], [1.0]], [-1.0, 1.0, -0.5]), nn.ReLU(), dense([[1.0, -1.0, 1.0]], [0])
    )
    pieces = one_dimensional(net)
    assert pieces.switches.tolist() == [0, 2, 1, 0]
    assert pieces.is_output_breakpoint.tolist() == [False, False, True, False]


KINKS: dict[str, tuple[nn.Module, list[float]]] = {
    "leaky": (nn.LeakyReLU(0.2), [0.5]),
    "prelu": (nn.PReLU(1, 0.3), [0.5]),
    "rrelu": (nn.RReLU(), [0.5]),
    "relu6": (nn.ReLU6(), [0.5, 0.8]),
    "hardtanh": (nn.Hardtanh(-2, 3), [0.4, 0.65]),
    "hardsigmoid": (nn.Hardsigmoid(), [0.35, 0.65]),
    "softshrink": (nn.Softshrink(1.0), [0.45, 0.55]),
    "threshold": (nn.Threshold(1.0, 1.0), [0.55]),
    "clamp": (Forward(lambda _, x: torch.clamp(x, min=-4.0, max=4.0)), [0.3, 0.7]),
    "clip": (Forward(lambda _, x: x.clip(max=2)), [0.6]),
    "clamp_min": (Forward(lambda _, x: x.clamp_min(1.0)), [0.55]),
    "clamp_tensor": (Forward(lambda _, x: x.clamp(min=torch.tensor([1.0]))), [0.55]),
    "maximum": (Forward(lambda _, x: torch.maximum(x, -2 * x + 3)), [0.55]),
    "minimum": (Forward(lambda _, x: torch.minimum(x, torch.tensor([1.0]))), [0.55]),
    "max_of_two": (Forward(lambda _, x: torch.max(x, 2 * x)), [0.5]),
    "amax": (Forward(lambda _, x: torch.cat([x, 0 * x, 3 * x - 8], 1).amax(1)), [0.5, 0.7]),
    "amin": (Forward(lambda _, x: torch.cat([x, x - x + 2], 1).amin(-1, keepdim=True)), [0.6]),
    "functional": (Forward(lambda _, x: F.leaky_relu(F.relu(x - 1), 0.5)), [0.55]),
    "in_place": (nn.ReLU(inplace=True), [0.5]),
}


@pytest.mark.parametrize("name", KINKS)
def test_every_kind_of_kink(name: str) -> None:
    module, expected = KINKS[name]
    net = Forward(
        lambda self, x: self.kink(self.inner(x)), inner=dense([[20.0]], [-10.0]), kink=module
    )
    pieces = one_dimensional(net)
    assert pieces.t[pieces.is_output_breakpoint].tolist() == pytest.approx(expected, abs=1e-14)
    assert pieces.switches.clamp(max=1).sum() == pieces.is_output_breakpoint.sum()
    assert_rebuilds(net, pieces, torch.tensor([[0.0]]), torch.tensor([[1.0]]))


@pytest.mark.parametrize("width", [1, 7, 40])
def test_one_hidden_layer_has_at_most_width_plus_one_pieces(width: int) -> None:
    torch.manual_seed(width)
    net = nn.Sequential(nn.Linear(3, width), nn.ReLU(), nn.Linear(width, 2))
    pieces = pieces_of(net, 9 * torch.randn(50, 3), 9 * torch.randn(50, 3))
    assert int(pieces.activation_pieces().max()) <= width + 1


# Batches, memory, guards


def test_groups_and_cuts_do_not_change_the_pieces() -> None:
    torch.manual_seed(2)
    net = nn.Sequential(nn.Linear(3, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 2))
    starts, ends = 5 * torch.randn(6, 3), 5 * torch.randn(6, 3)
    whole = pieces_of(net, starts, ends)
    small = pieces_of(net, starts, ends, max_values=40 * 12)
    alone = [pieces_of(net, starts[i : i + 1], ends[i : i + 1]) for i in range(6)]
    assert int(whole.activation_pieces().min()) > 12
    assert torch.equal(whole.offsets, small.offsets)
    assert torch.equal(whole.switches, small.switches)
    assert torch.equal(whole.is_output_breakpoint, small.is_output_breakpoint)
    assert torch.allclose(whole.t, small.t, rtol=0, atol=1e-12)
    assert torch.allclose(whole.outputs, small.outputs, rtol=0, atol=1e-11)
    assert torch.allclose(whole.t, torch.cat([one.t for one in alone]), rtol=0, atol=1e-13)
    assert torch.allclose(small.width, small.t.diff(append=small.t[-1:]).clamp(min=0), atol=1e-12)


def test_too_many_pieces_is_a_sentence() -> None:
    tent = [dense([[2.0], [4.0]], [0.0, -2.0]), nn.ReLU(), dense([[1.0, -1.0]], [0.0])]
    graph = graph_of(nn.Sequential(*tent * 40), (1,))
    answer = segment_pieces(
        graph, torch.zeros(1, 1), torch.ones(1, 1), max_pieces=3000, max_values=4096
    )
    assert isinstance(answer, NotApplicable)
    assert "more than 3,000 linear pieces" in answer.reason
    few = segment_pieces(
        graph_of(nn.Sequential(*tent * 3), (1,)), torch.zeros(1, 1), torch.ones(1, 1), max_pieces=7
    )
    assert isinstance(few, NotApplicable)


def test_wrong_segments_are_refused() -> None:
    graph = graph_of(nn.Linear(3, 2), (3,))
    with pytest.raises(InputError, match=r"starts: found a tensor of shape \(2, 4\)"):
        segment_pieces(graph, torch.zeros(2, 4), torch.zeros(2, 4))
    with pytest.raises(InputError, match="ends: found values that are not finite"):
        segment_pieces(graph, torch.zeros(1, 3), torch.full((1, 3), math.nan))
