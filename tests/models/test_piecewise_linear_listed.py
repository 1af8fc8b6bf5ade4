"""Every operation that exact geometry promises, read from the trace and held against itself."""

# ruff: noqa: E501 - a row is a line

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from tests.models.piecewise import Forward, graph_of, line
from torch import Tensor, nn

from whynet.models.piecewise_linear import is_piecewise_linear
from whynet.models.piecewise_linear_segments import segment_pieces
from whynet.numerics.segment_pieces import SegmentPieces


def batch_norm(features: int, axes: int = 1) -> nn.Module:
    part = (nn.BatchNorm1d if axes == 1 else nn.BatchNorm2d)(features)
    assert part.running_mean is not None and part.running_var is not None
    part.running_mean.normal_()
    part.running_var.uniform_(0.5, 2)
    nn.init.normal_(part.weight)
    nn.init.normal_(part.bias)
    return part


def behind(part: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(5, 6), part, nn.Linear(6, 2))


def maxout(largest: Callable[[Tensor], Tensor]) -> nn.Module:
    return Forward(
        lambda s, x: s.b(largest(s.a(x).reshape(-1, 4, 3))), a=nn.Linear(5, 12), b=nn.Linear(4, 2)
    )


def pooled(pool: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 3, 3), pool, nn.Flatten())


# Name: how it is built, shape of an input, whether it bends.
LISTED: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], bool]] = {
    "Linear": (lambda: nn.Linear(5, 2), (5,), False),
    "Linear without bias": (lambda: nn.Linear(5, 2, bias=False), (5,), False),
    "Conv1d": (lambda: nn.Conv1d(4, 6, 3, stride=2, padding=2, groups=2, dilation=2), (4, 9), False),
    "Conv2d": (lambda: nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2, dilation=2), (4, 9, 8), False),
    "depthwise Conv2d": (lambda: nn.Conv2d(3, 6, (3, 1), groups=3, padding="same"), (3, 5, 4), False),
    "BatchNorm1d": (lambda: behind(batch_norm(6)), (5,), False),
    "BatchNorm2d": (lambda: nn.Sequential(nn.Conv2d(2, 3, 2), batch_norm(3, 2)), (2, 4, 4), False),
    "ReLU": (lambda: behind(nn.ReLU()), (5,), True),
    "ReLU in place": (lambda: behind(nn.ReLU(inplace=True)), (5,), True),
    "LeakyReLU": (lambda: behind(nn.LeakyReLU(0.3)), (5,), True),
    "PReLU": (lambda: behind(nn.PReLU(6)), (5,), True),
    "Hardtanh": (lambda: behind(nn.Hardtanh(-0.5, 0.7)), (5,), True),
    "ReLU6": (lambda: nn.Sequential(nn.Linear(5, 6), Forward(lambda _, x: 9 * x), nn.ReLU6()), (5,), True),
    "absolute value": (lambda: behind(Forward(lambda _, x: x.abs())), (5,), True),
    "torch.abs": (lambda: behind(Forward(lambda _, x: torch.abs(x))), (5,), True),
    "Maxout by amax": (lambda: maxout(lambda x: x.amax(2)), (5,), True),
    "Maxout by max along an axis": (lambda: maxout(lambda x: x.max(dim=2).values), (5,), True),
    "Maxout by torch.max and [0]": (lambda: maxout(lambda x: torch.max(x, 2)[0]), (5,), True),
    "minimum along an axis": (lambda: maxout(lambda x: x.min(2, keepdim=True)[0].squeeze(2)), (5,), True),
    "Maxout by torch.maximum": (lambda: maxout(
        lambda x: torch.maximum(torch.maximum(x[..., 0], x[..., 1]), x[..., 2])), (5,), True),
    "MaxPool2d": (lambda: pooled(nn.MaxPool2d(3, stride=2, padding=1)), (2, 7, 7), True),
    "MaxPool1d": (lambda: nn.Sequential(nn.Conv1d(2, 3, 3), nn.MaxPool1d(2, dilation=2)), (2, 9), True),
    "AvgPool2d": (lambda: pooled(nn.AvgPool2d(2, padding=1, count_include_pad=False)), (2, 7, 7), False),
    "AvgPool1d": (lambda: nn.Sequential(nn.Conv1d(2, 3, 3), nn.AvgPool1d(2)), (2, 9), False),
    "AdaptiveAvgPool2d": (lambda: pooled(nn.AdaptiveAvgPool2d((2, 3))), (2, 7, 7), False),
    "Flatten": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), (3, 4), False),
    "residual addition": (lambda: Forward(lambda s, x: x + s.b(F.relu(s.a(x))),
                                          a=nn.Linear(5, 6), b=nn.Linear(6, 5)), (5,), True),
    "concatenation": (lambda: Forward(lambda s, x: torch.cat([x, F.relu(s.a(x)), -x], dim=1),
                                      a=nn.Linear(5, 6)), (5,), True),
    "constant affine operations": (lambda: Forward(
        lambda s, x: ((2 * x - s.a.bias) / 3 + 1) * s.a.weight[0], a=nn.Linear(5, 5)), (5,), False),
    "Identity": (lambda: behind(nn.Identity()), (5,), False),
    "Dropout": (lambda: behind(nn.Dropout(0.4)), (5,), False),
    "functional Dropout": (lambda: behind(Forward(lambda s, x: F.dropout(x, 0.4, s.training))), (5,), False),
}  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["f32", "f64"])
@pytest.mark.parametrize("name", LISTED)
def test_the_graph_and_its_pieces_are_the_network(name: str, dtype: torch.dtype) -> None:
    build, shape, bends = LISTED[name]
    torch.manual_seed(1)
    module = build().eval().to(dtype)
    graph = graph_of(module, shape)
    points = 3 * torch.randn(8, *shape, dtype=dtype)
    twin = module.double()
    with torch.no_grad():
        exact = twin(points.double())
    scale = float(exact.abs().max())
    assert float((graph.evaluate(points) - exact).abs().max()) <= 1e-13 * scale
    pieces = segment_pieces(graph, points[:4], points[4:])
    assert isinstance(pieces, SegmentPieces)
    assert bool((pieces.output_pieces() > 1).any()) == bends
    segment = torch.arange(4).repeat_interleave(50)
    t = torch.linspace(0, 1, 50, dtype=torch.float64).repeat(4)
    a, b = points[:4].double()[segment], points[4:].double()[segment]
    with torch.no_grad():
        along = twin(line(a, b, t))
    assert float((pieces.evaluate(segment, t) - along).abs().max()) <= 1e-12 * scale


CURVED = {
    "GELU": (nn.GELU(), "`part.1` is a GELU, which is curved; exact pieces need ReLU"),
    "LayerNorm": (nn.LayerNorm(4), "`part.1` is a LayerNorm, .* BatchNorm in evaluation mode is"),
    "Softmax": (nn.Softmax(-1), "`part.1` is a Softmax, .* up to its logits"),
    "cumsum": (Forward(lambda _, x: x.cumsum(1)), "`part.1` calls cumsum, .* write it with linear"),
    "sign": (Forward(lambda _, x: x.sign()), "`part.1` calls sign, which jumps; examine the part"),
    "places": (Forward(lambda _, x: x.max(1)[1]), "`part.1` calls getitem for the places of max"),
}  # fmt: skip


@pytest.mark.parametrize("name", CURVED)
def test_a_refusal_names_path_operation_and_what_to_do(name: str) -> None:
    part, words = CURVED[name]
    net = Forward(lambda s, x: s.part(x), part=nn.Sequential(nn.Linear(4, 4), part)).eval()
    answer = is_piecewise_linear(net, torch.zeros(4))
    assert not isinstance(answer, bool)
    assert re.search(words, answer.reason), answer.reason
