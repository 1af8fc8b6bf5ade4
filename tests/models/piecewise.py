"""Small networks and their pieces, for the tests of the piecewise-linear view."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from whynet.models.piecewise_linear import PiecewiseLinearGraph, piecewise_linear_graph
from whynet.models.piecewise_linear_segments import segment_pieces
from whynet.numerics.segment_pieces import SegmentPieces


class Forward(nn.Module):
    """A module made of parts and a function of them."""

    def __init__(self, function: Callable[..., Tensor], **parts: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def graph_of(module: nn.Module, shape: tuple[int, ...]) -> PiecewiseLinearGraph:
    graph = piecewise_linear_graph(module.eval(), torch.zeros(shape))
    assert isinstance(graph, PiecewiseLinearGraph), graph
    return graph


def pieces_of(module: nn.Module, starts: Tensor, ends: Tensor, **limits: int) -> SegmentPieces:
    pieces = segment_pieces(graph_of(module, tuple(starts.shape[1:])), starts, ends, **limits)
    assert isinstance(pieces, SegmentPieces), pieces
    return pieces


def line(starts: Tensor, ends: Tensor, t: Tensor) -> Tensor:
    return starts + t.reshape(-1, *[1] * (starts.dim() - 1)) * (ends - starts)


def dense(weights: list[list[float]], biases: list[float], bias: bool = True) -> nn.Linear:
    layer = nn.Linear(len(weights[0]), len(weights), bias=bias)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weights))
        if bias:
            layer.bias.copy_(torch.tensor(biases))
    return layer


def one_dimensional(module: nn.Module, low: float = 0.0, high: float = 1.0) -> SegmentPieces:
    return pieces_of(module, torch.tensor([[low]]), torch.tensor([[high]]))


def interior(pieces: SegmentPieces) -> list[float]:
    return pieces.t[1:-1].tolist()
