from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from tests.models.piecewise import Forward, line, pieces_of
from torch import Tensor, nn

from whynet.numerics.segment_pieces import SegmentPieces

# Independent oracle: dense sampling, hooks and bisection


def patterns(module: nn.Module, points: Tensor) -> Tensor:
    """Signs at ReLU-like modules and winners of max pools, by hooks: [N, units]."""
    seen: list[Tensor] = []

    def look(part: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        x = inputs[0]
        if isinstance(part, nn.MaxPool2d):
            _, index = F.max_pool2d(
                x, part.kernel_size, part.stride, part.padding, return_indices=True
            )
            seen.append(index.flatten(1))
        elif isinstance(part, nn.Hardtanh):
            seen.append(((x > part.min_val).long() + (x > part.max_val).long()).flatten(1))
        elif isinstance(part, nn.ReLU | nn.LeakyReLU | nn.PReLU):
            seen.append((x > 0).long().flatten(1))

    hooks = [part.register_forward_hook(look) for part in module.modules()]
    with torch.no_grad():
        module(points)
    for hook in hooks:
        hook.remove()
    return torch.cat(seen, 1)


def changes_by_bisection(module: nn.Module, start: Tensor, end: Tensor, samples: int) -> Tensor:
    """Every t where the pattern changes, by dense samples and bisection to 1e-12."""
    low = torch.linspace(0, 1, samples).double()[:-1]
    high = torch.linspace(0, 1, samples).double()[1:]
    for _ in range(44):
        ends = torch.cat([low, high])
        seen = patterns(module, line(start, end, ends))
        first, second = seen[: low.numel()], seen[low.numel() :]
        open_ = (first != second).any(1)
        low, high = low[open_], high[open_]
        if low.numel() == 0 or float((high - low).max()) < 1e-12:
            break
        middle = (low + high) / 2
        low, high = torch.cat([low, middle]), torch.cat([middle, high])
    return torch.sort((low + high) / 2).values


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


def assert_matches_oracle(
    module: nn.Module, starts: Tensor, ends: Tensor, samples: int = 1001
) -> int:
    """No change of pattern is missed, and none is invented; returns how many were compared."""
    pieces = pieces_of(module, starts, ends)
    assert_rebuilds(module, pieces, starts, ends)
    compared = 0
    for number in range(starts.shape[0]):
        a, b = starts[number : number + 1].double(), ends[number : number + 1].double()
        found = changes_by_bisection(module, a, b, samples)
        rows = slice(int(pieces.offsets[number]), int(pieces.offsets[number + 1]))
        t = pieces.t[rows]
        gaps = (found[:, None] - t[None, 1:-1]).abs()
        assert found.numel() == 0 or float(gaps.amin(1).max()) < 1e-10, "a change was missed"
        wide = (t.diff() > 1e-7).nonzero().flatten()
        middles = (t[:-1] + t.diff() / 2)[wide]
        seen = patterns(module, line(a, b, middles))
        inner = wide[1:][wide.diff() == 1] - 1
        place = torch.searchsorted(wide, inner)
        assert bool((seen[place] != seen[place + 1]).any(1).all()), "a knot was invented"
        for side in (0.001, 0.999):
            same = patterns(module, line(a, b, (t[:-1] + side * t.diff())[wide]))
            assert torch.equal(same, seen), "a pattern changes inside a piece"
        compared += found.numel()
    return compared


def small_mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 16), nn.LeakyReLU(), nn.Dropout(0.5),
        nn.Linear(16, 12), nn.Hardtanh(), nn.Linear(12, 8), nn.PReLU(8), nn.Linear(8, 3),
    )  # fmt: skip


def small_cnn() -> nn.Module:
    def forward(self: nn.Module, x: Tensor) -> Tensor:
        y = self.r1(self.b1(self.c1(x)))
        y = self.r2(self.p(self.c2(y) + y))
        left, right = y.chunk(2, dim=1)
        y = torch.cat([left - 2 * right, F.avg_pool2d(self.up(right), 2)], dim=1)
        y = self.r3(self.d(y))
        return self.out(y.view(x.size(0), -1))

    parts = {
        "c1": nn.Conv2d(2, 6, 3, padding=1, padding_mode="circular"), "b1": nn.BatchNorm2d(6),
        "r1": nn.ReLU(), "c2": nn.Conv2d(6, 6, 3, padding=1, bias=False),
        "p": nn.MaxPool2d(3, stride=2, padding=1), "r2": nn.LeakyReLU(0.1), "r3": nn.ReLU(),
        "up": nn.Upsample(scale_factor=2), "d": nn.ConvTranspose2d(6, 4, 2, stride=2),
        "out": nn.Linear(4 * 36, 4),
    }  # fmt: skip
    net = Forward(forward, **parts)
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
            nn.init.normal_(part.weight)
            nn.init.normal_(part.bias)
    return net


@pytest.mark.parametrize("build", [small_mlp, small_cnn])
def test_nothing_is_missed_against_bisection(build: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    net = build().eval()
    shape = (5,) if build is small_mlp else (2, 6, 6)
    starts, ends = 2 * torch.randn(4, *shape), 2 * torch.randn(4, *shape)
    assert assert_matches_oracle(net, starts, ends, 301) > 60


def test_two_hundred_random_networks_without_a_miss() -> None:
    compared = 0
    for seed in range(200):
        torch.manual_seed(seed)
        sizes = torch.randint(1, 9, (int(torch.randint(2, 6, ())),)).tolist()
        kinks = [nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.Hardtanh]
        layers: list[nn.Module] = []
        for i, (n, m) in enumerate(pairwise(sizes)):
            layers += [nn.Linear(n, m), kinks[(seed + i) % 4]()]
        net = nn.Sequential(*layers, nn.Linear(sizes[-1], 2)).eval()
        starts, ends = 3 * torch.randn(1, sizes[0]), 3 * torch.randn(1, sizes[0])
        compared += assert_matches_oracle(net, starts, ends, 201)
    assert compared > 700


def test_pool_of_rectified_values_with_ties() -> None:
    torch.manual_seed(1)
    net = nn.Sequential(
        nn.Conv2d(1, 3, 3),
        nn.ReLU(),
        nn.MaxPool2d(2, ceil_mode=True),
        nn.Flatten(),
        nn.Linear(27, 2),
    )
    starts, ends = torch.randn(3, 1, 7, 7), torch.randn(3, 1, 7, 7)
    pieces = pieces_of(net, starts, ends)
    assert_rebuilds(net, pieces, starts, ends)
    # A window of zeros in which one unit wakes up is a switch of that unit alone.
    assert int(pieces.switches.max()) == 1
    assert bool((pieces.switches[pieces.is_output_breakpoint] > 0).all())


def test_adaptive_and_one_dimensional_pools_rebuild() -> None:
    torch.manual_seed(1)
    net = nn.Sequential(
        nn.Conv1d(2, 4, 3, padding=2, padding_mode="reflect"), nn.MaxPool1d(3, 2, 1), nn.ReLU(),
        nn.AdaptiveMaxPool1d(3), nn.Flatten(), nn.ConstantPad1d(2, -1.0), nn.Linear(16, 2),
    )  # fmt: skip
    starts, ends = torch.randn(5, 2, 11), torch.randn(5, 2, 11)
    assert_rebuilds(net, pieces_of(net, starts, ends), starts, ends)


def test_changes_of_argmax_against_bisection() -> None:
    torch.manual_seed(5)
    net = nn.Sequential(nn.Linear(4, 30), nn.ReLU(), nn.Linear(30, 30), nn.ReLU(), nn.Linear(30, 6))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(2)
        net[4].bias -= net(5 * torch.randn(99, 4)).mean(0)
    starts, ends = 6 * torch.randn(5, 4), 6 * torch.randn(5, 4)
    changes = pieces_of(net, starts, ends).argmax_changes()
    twin = net.double()
    assert changes.t.numel() > 8
    for number in range(5):
        rows = slice(int(changes.offsets[number]), int(changes.offsets[number + 1]))
        a, b = starts[number : number + 1].double(), ends[number : number + 1].double()
        grid = torch.linspace(0, 1, 20001).double()
        with torch.no_grad():
            best = twin(line(a, b, grid)).argmax(1)
            low, high = grid[:-1][best.diff() != 0], grid[1:][best.diff() != 0]
            lead = best[:-1][best.diff() != 0]
            for _ in range(45):
                middle = (low + high) / 2
                same = twin(line(a, b, middle)).argmax(1) == lead
                low, high = torch.where(same, middle, low), torch.where(same, high, middle)
        assert changes.t[rows].tolist() == pytest.approx(low.tolist(), abs=1e-12)
        assert torch.equal(changes.before[rows], lead)
        assert torch.equal(changes.after[rows], best[1:][best.diff() != 0])
