"""Bounds through smooth operations: no point of a ball breaks one, and small balls are tight."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.concepts.condensation.planting import network
from tests.models.test_difference_bounds import graph_of, in_balls, moved
from torch import Tensor, nn
from torch.nn import functional

from whynet import NotApplicable
from whynet.models import smooth_curves
from whynet.models.difference_bounds import Balls, JointBounds, Norm
from whynet.models.smooth_table import bounded_graph


class Attention(nn.Module):
    """Attention in one call, by a mask in which one query has no key but itself."""

    def __init__(self, mask: str) -> None:
        super().__init__()
        self.read, self.write, self.mask = nn.Linear(4, 12), nn.Linear(4, 2), mask
        seen = torch.rand(3, 3) > 0.5
        self.register_buffer("seen", seen | torch.eye(3, dtype=torch.bool))
        self.register_buffer("bias", torch.randn(3, 3).masked_fill(~self.seen, -torch.inf))

    def forward(self, tokens: Tensor) -> Tensor:
        query, key, value = self.read(tokens).chunk(3, -1)
        given = {
            "causal": {"is_causal": True},
            "boolean": {"attn_mask": self.seen},
            "added": {"attn_mask": self.bias},
            "none": {},
        }[self.mask]
        mixed = functional.scaled_dot_product_attention(query, key, value, **given)
        return self.write(mixed).mean(1)


class Written(nn.Module):
    """Operations as they are written out by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 6), nn.Linear(6, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        inner = 0.3 * self.first(inputs)
        scaled = inner * torch.rsqrt(inner.pow(2).mean(-1, keepdim=True) + 1e-3)
        gated = scaled * torch.sigmoid(1.702 * scaled) + torch.sin(inner) * inner * inner
        divided = gated / (1 + torch.exp(-inner)) + 1 / (2 + torch.tanh(gated))
        return functional.log_softmax(self.last(divided + (divided / 4) ** 3), dim=-1)


PLAIN = {
    "gelu": nn.GELU(),
    "tanh gelu": nn.GELU("tanh"),
    "silu": nn.SiLU(),
    "tanh": nn.Tanh(),
    "sigmoid": nn.Sigmoid(),
    "softplus": nn.Softplus(),
    "elu of 2": nn.ELU(2.0),
    "selu": nn.SELU(),
    "celu": nn.CELU(0.5),
    "softsign": nn.Softsign(),
    "mish": nn.Mish(),
    "logsigmoid": nn.LogSigmoid(),
    "glu": nn.GLU(),
    "softmax": nn.Softmax(-1),
    "layer norm": nn.LayerNorm(8),
    "rms norm": nn.RMSNorm(8),
    "group norm": nn.GroupNorm(2, 8),
}
NAMES = [*PLAIN, "written", *(f"attention {m}" for m in ("none", "causal", "boolean", "added"))]


def curved(name: str) -> tuple[nn.Module, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        if name in ("transformer", "gated"):
            return network(name, 0)
        if name == "written":
            return Written().double(), torch.randn(3, 3, dtype=torch.float64)
        if name.startswith("attention"):
            module: nn.Module = Attention(name.split()[1])
            return module.double(), torch.randn(3, 3, 4, dtype=torch.float64)
        middle = nn.Linear(4 if name == "glu" else 8, 5)
        parts = [nn.Linear(3, 8), copy.deepcopy(PLAIN[name]), middle, nn.GELU(), nn.Linear(5, 2)]
        return nn.Sequential(*parts).double(), torch.randn(3, 3, dtype=torch.float64)


def highest(
    module: nn.Module, other: nn.Module, centers: Tensor, radius: float, norm: Norm
) -> tuple[Tensor, Tensor, Tensor]:
    """Return bounds above and below the difference and above the first, [outputs, points]."""
    graphs = graph_of(module, centers[0]), graph_of(other, centers[0])
    shape = graphs[0].output_shape
    count = int(torch.tensor(shape).prod())
    unit = torch.eye(count, dtype=torch.float64).reshape(count, 1, *shape)
    radii = torch.full((len(centers),), radius, dtype=torch.float64)
    joint = JointBounds(*graphs, Balls(centers, radii, norm))
    return joint.highest(None, unit), -joint.highest(None, -unit), joint.highest(unit, None)


@pytest.mark.parametrize("name", [*NAMES, "transformer", "gated"])
def test_no_point_of_a_ball_breaks_a_bound(name: str) -> None:
    module, inputs = curved(name)
    centers, other = inputs[:2], moved(module, 0.05, 1)
    for radius, norm in ((1e-9, "l2"), (0.02, "linf"), (0.3, "l2"), (1.0, "linf")):
        above, below, own = highest(module, other, centers, radius, norm)  # type: ignore[arg-type]
        points = in_balls(centers, radius, norm, 200).flatten(0, 1)  # type: ignore[arg-type]
        with torch.no_grad():
            first = module(points)
            gap = (other(points) - first).reshape(200, len(centers), -1)
        first = first.reshape(200, len(centers), -1)
        assert bool((above + 1e-12 >= gap.amax(0).T).all())
        assert bool((below - 1e-12 <= gap.amin(0).T).all())
        assert bool((own + 1e-12 >= first.amax(0).T).all())
        if radius == 1e-9:  # a ball of a billionth is a point: the bound is the difference there
            # softplus of torch is not its own formula, by 2e-9.
            slack = 1e-8 if "softplus" in name else 1e-7 * float(gap.abs().max())
            assert bool((above - gap.amax(0).T <= slack).all())


@pytest.mark.parametrize("name", ["gelu", "silu", "tanh", "gated", "layer norm", "transformer"])
def test_a_bound_is_close_to_what_climbing_the_difference_reaches(name: str) -> None:
    module, inputs = curved(name)
    centers, other, radius = inputs[:3], moved(module, 0.02, 1), 0.02
    above, below, _ = highest(module, other, centers, radius, "linf")
    proven = torch.maximum(above.abs(), below.abs()).amax(0)
    reached = torch.zeros_like(proven)
    for sign in (1.0, -1.0):
        for output in range(len(above)):
            step = torch.zeros_like(centers)
            for _ in range(15):
                points = (centers + step).requires_grad_()
                gap = (other(points) - module(points)).flatten(1)[:, output]
                (slope,) = torch.autograd.grad(sign * gap.sum(), points)
                reached = torch.maximum(reached, gap.detach().abs())
                step = radius * slope.sign()
    assert bool((proven >= reached - 1e-12).all())
    assert float((proven / reached).max()) < 1.1


@pytest.mark.parametrize("name", ["gelu", "attention causal", "transformer", "written"])
def test_equal_networks_differ_by_nothing(name: str) -> None:
    module, inputs = curved(name)
    above, below, _ = highest(module, module, inputs[:2], 0.1, "linf")
    assert float(above.abs().max()) < 1e-12 and float(below.abs().max()) < 1e-12


def test_a_wrong_slope_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: with half the slopes of one function samples break the bound."""
    module, inputs = curved("tanh")
    other = moved(module, 0.05, 1)
    centers, points = inputs[:2], in_balls(inputs[:2], 0.02, "linf", 100)
    with torch.no_grad():
        gap = torch.stack([other(p) - module(p) for p in points]).amax(0).T
    assert bool((highest(module, other, centers, 0.02, "linf")[0] >= gap).all())
    wrong = smooth_curves.TANH.slope
    monkeypatch.setitem(vars(smooth_curves.TANH), "slope", lambda x: 0.5 * wrong(x))
    assert not bool((highest(module, other, centers, 0.02, "linf")[0] >= gap).all())


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), "TransformerEncoderLayer"),
        (nn.Hardshrink(), "jumps"),
        (nn.LocalResponseNorm(2), "no bound"),
    ],
)
def test_what_has_no_bound_is_refused_by_name(module: nn.Module, words: str) -> None:
    found = bounded_graph(module.eval(), torch.randn(3, 4, dtype=torch.float64))
    assert isinstance(found, NotApplicable)
    assert found.reason.startswith("No bound is offered for this network: ")
    assert words in found.reason and found.reason.count(".") <= 2
