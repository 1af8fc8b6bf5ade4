"""Incoming weights fitted to the large network's function, never to labels."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from whynet import Subject, condense
from whynet.concepts.condensation.direction_fit import _Fit, _Units, can_be_fitted, fit_directions
from whynet.concepts.condensation.refitting import record
from whynet.models.channel_flow import channel_groups
from whynet.models.channel_nodes import Activated, Produced


def network(width: int, seed: int, activation: type[nn.Module] = nn.ReLU) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = nn.Sequential(nn.Linear(3, width), activation(), nn.Linear(width, 2))
        return module.double()


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh])
def test_units_near_those_of_the_large_network_find_them(activation: type[nn.Module]) -> None:
    large, small = network(3, 0, activation), network(3, 0, activation)
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(80, 3, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        for tensor in small.parameters():
            tensor += 0.05 * torch.randn(tensor.shape, generator=generator, dtype=torch.float64)

    def batches() -> Iterator[Tensor]:
        yield from inputs.split(30)

    def run(module: nn.Module, rows: Tensor) -> Tensor:
        return module(rows)  # type: ignore[no-any-return]

    original = record(large, ["2.weight"], batches, run)
    (group,) = [g for g in channel_groups(small, lambda: small(inputs[:2])) if g.path == "0"]
    assert can_be_fitted(group)
    with torch.no_grad():
        before = float((small(inputs) - large(inputs)).abs().max())
        assert fit_directions(small, group, original, batches, run, {})
        after = float((small(inputs) - large(inputs)).abs().max())
    assert after < 1e-8 < 1e-2 < before
    few = record(large, ["2.weight"], lambda: iter([inputs[:20]]), run)
    assert not fit_directions(small, group, few, lambda: iter([inputs[:20]]), run, {})


def test_the_normal_equations_are_those_of_the_jacobian() -> None:
    generator = torch.Generator().manual_seed(2)
    rows, wanted = (
        torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((40, 3), (40, 2))
    )
    units = _Units(*(torch.randn(s, generator=generator).double() for s in ((4, 3), (2, 5))))
    node = Activated(Produced(None), "tanh", torch.tanh)  # type: ignore[arg-type]
    fit = _Fit(node, rows, wanted, biased=True)

    def error(flat: Tensor) -> Tensor:
        hidden = torch.tanh(rows @ flat[:12].reshape(4, 3).T)
        hidden = torch.cat([hidden, hidden.new_ones(40, 1)], 1)
        return (hidden @ flat[12:].reshape(2, 5).T - wanted).flatten()

    flat = torch.cat([units.incoming.flatten(), units.outgoing.flatten()])
    jacobian = torch.autograd.functional.jacobian(error, flat)
    gram, slope, scale = fit._normal(units, *fit._forward(units))
    assert torch.allclose(gram * torch.outer(scale, scale), jacobian.T @ jacobian)
    assert torch.allclose(slope * scale, jacobian.T @ error(flat))


def test_a_network_that_only_agrees_on_its_data_is_not_replaced_by_its_target() -> None:
    """Random units whose outgoing weights interpolate two neurons' values on the data."""
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(60, 3, generator=generator, dtype=torch.float64)
    target = torch.relu(inputs @ torch.tensor([[1.0, -0.5, 0.3], [-0.4, 1, 0.7]]).double().T)
    target = target[:, :1] - target[:, 1:]
    large = nn.Sequential(nn.Linear(3, 200), nn.ReLU(), nn.Linear(200, 1, bias=False)).double()
    with torch.no_grad():
        large[0].weight.normal_(generator=generator)
        large[0].bias.normal_(generator=generator)
        hidden = torch.relu(large[0](inputs))
        large[2].weight.copy_(torch.linalg.lstsq(hidden, target, driver="gelsd").solution.T)
    subject = Subject(large, train=(inputs, target), loss="mse")
    found = condense(subject, tolerance=1e-3)
    assert found.layers[0].after > 6
    few = condense(subject, units=6)
    assert few.chosen.largest > 5e-3
