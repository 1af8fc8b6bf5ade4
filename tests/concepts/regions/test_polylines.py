"""`whynet.regions.along` against closed forms, and against the network itself."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import whynet
from whynet.concepts.regions import polylines
from whynet.core.outcome import NotApplicable


class Wedge(nn.Module):
    """|x| + |y|, with every unit four times."""

    def forward(self, x: Tensor) -> Tensor:
        return x.repeat(1, 4).abs().sum(1, keepdim=True) / 4


def walked(model: nn.Module, points: Tensor) -> polylines.PolylinePieces:
    found = whynet.regions.along(model, points)
    assert isinstance(found, polylines.PolylinePieces), found
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["f32", "f64"])
def test_a_square_around_a_wedge(dtype: torch.dtype) -> None:
    corners = torch.tensor([[-1, -1], [1, -1], [1, 1], [-1, 1], [-1, -1]], dtype=dtype)
    found = walked(Wedge(), corners)
    assert found.breakpoints.tolist() == pytest.approx([0.5, 1.5, 2.5, 3.5])
    assert found.segments.switches.max() == 4  # four copies switch at one point
    assert found.pieces == found.output_pieces == 8
    assert found.slopes[:, 0].tolist() == pytest.approx([-1, 1] * 4)
    assert found.slope_variation == pytest.approx(4 * 2)
    assert found.image_length == pytest.approx(8)
    assert found.complete


def test_pieces_of_a_wide_network_are_the_network_in_any_input_shape() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)
    )
    net.train()(torch.randn(20, 1, 6, 6))  # statistics; left in training mode
    points = 2 * torch.randn(3, 1, 6, 6)
    found = walked(net, points)
    assert net.training
    place = torch.linspace(0, 2, 201, dtype=torch.float64)
    segment = place.long().clamp(max=1)
    t = (place - segment)[:, None, None, None]
    a, b = points.double()[segment], points.double()[segment + 1]
    with torch.no_grad():
        exact = net.double().eval()(a + t * (b - a))
    torch.testing.assert_close(found.evaluate(place), exact, rtol=0, atol=1e-12)
    # Slopes against differences inside a piece, by distance in the input.
    left = found.segments.knots.pieces[3]
    low, width = found.segments.t[left], found.segments.width[left]
    inside = torch.stack([low + 0.25 * width, low + 0.75 * width])
    rise = found.evaluate(inside).diff(dim=0)[0] / (0.5 * width * found.lengths[0])
    torch.testing.assert_close(found.slopes[3], rise, rtol=1e-7, atol=1e-9)


def test_class_changes_of_one_logit_and_of_several() -> None:
    class Tent(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 0.5 - x.abs()

    class Three(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([-x, 0 * x + 0.25, x], 1)

    ends = torch.tensor([[-1.0], [1.0]])
    tent = walked(Tent(), ends).class_changes()
    assert [(c.before, c.after) for c in tent] == [(0, 1), (1, 0)]
    assert [float(c.point) for c in tent] == pytest.approx([-0.5, 0.5], abs=1e-15)
    three = walked(Three(), ends).class_changes()
    assert [(c.before, c.after, c.segment) for c in three] == [(0, 1, 0), (1, 2, 0)]
    assert [float(c.point) for c in three] == pytest.approx([-0.25, 0.25], abs=1e-15)


def test_an_interruption_keeps_the_finished_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    inner = polylines.segment_pieces

    def interrupted(*arguments: object) -> object:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return inner(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(polylines, "segment_pieces", interrupted)
    points = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    found = walked(Wedge(), points)
    assert not found.complete
    assert found.segments.segments == 64
    assert found.points.shape == (65, 2)


@pytest.mark.parametrize(
    ("model", "points", "words"),
    [
        (Wedge(), torch.zeros(1, 2), "at least two points"),
        (Wedge(), torch.full((2, 2), torch.nan), "not finite"),
        (nn.Linear(3, 1), torch.zeros(2, 2), r"points of shape \[2\], on which the network raises"),
        ("model", torch.zeros(2, 2), "a str; wanted an nn.Module"),
    ],
)
def test_bad_input_gets_one_sentence(model: nn.Module, points: Tensor, words: str) -> None:
    with pytest.raises(whynet.InputError, match=words):
        whynet.regions.along(model, points)


def test_weights_that_are_not_finite_and_smooth_activations() -> None:
    broken = nn.Linear(2, 1)
    nn.init.constant_(broken.bias, torch.nan)
    with pytest.raises(whynet.InputError, match="'bias' that are not finite"):
        whynet.regions.along(broken, torch.zeros(2, 2))
    answer = whynet.regions.along(nn.Sequential(nn.Linear(2, 2), nn.Tanh()), torch.zeros(2, 2))
    assert isinstance(answer, NotApplicable)
    assert "`1` is a Tanh, which is curved" in answer.reason
