"""Units whose reader reads others beside them: what removing them costs, and whole networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.concepts.condensation.planting import NETWORKS, network

from whynet import Subject, condense, load_resized
from whynet.concepts.condensation.approximate import _alone
from whynet.concepts.condensation.certificate import Balls, certify
from whynet.numerics.unit_elimination import Reading, eliminate


def test_a_unit_costs_what_refitting_all_that_is_left_leaves() -> None:
    """Against least squares on every subset: two features beside three units of two features."""
    generator = np.random.default_rng(0)
    rows = generator.standard_normal((60, 8)) @ generator.standard_normal((8, 8))
    weight = generator.standard_normal((3, 8))
    units = np.array([-1, 0, 1, 1, -1, 2, 2, 0])
    wanted = rows @ weight.T
    reading = Reading(rows.T @ rows / 60, weight, np.eye(3), units)
    found = eliminate([_alone(reading)], 3)
    gone: list[int] = []
    for step, unit in enumerate(found.order[:2]):
        costs = {}
        for trial in set(range(3)) - set(gone):
            left = rows[:, ~np.isin(units, [*gone, trial])]
            fitted = left @ np.linalg.lstsq(left, wanted, rcond=None)[0]
            costs[trial] = float(((fitted - wanted) ** 2).sum(1).mean())
        assert unit == min(costs, key=lambda one: costs[one])
        gone.append(int(unit))
        assert found.cost[step + 1] == pytest.approx(costs[int(unit)], rel=0.3 if step else 1e-6)


@pytest.mark.parametrize("name", ["fused, slices", "dense", "separable, normalized"])
def test_within_a_tolerance_units_of_every_form_go_and_the_error_is_the_one_measured(
    name: str,
) -> None:
    module, _ = network(name, 0)
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(24, *NETWORKS[name][1], generator=generator, dtype=torch.float64)
    with torch.no_grad():
        outputs = module(inputs)
    subject = Subject(module, train=(inputs, outputs), loss="mse")
    found = condense(subject, tolerance=0.6)
    assert found.reduced and found.chosen.largest <= 0.6
    assert found.chosen.parameters == sum(p.numel() for p in found.module.parameters())
    with torch.no_grad():
        gap = found.module(inputs) - outputs
        again = load_resized(module, found.module.state_dict(), inputs[:2])
        assert torch.equal(again(inputs), found.module(inputs))
    largest = float(gap.abs().max() / outputs.abs().max())
    assert largest == pytest.approx(found.chosen.largest, rel=1e-6)
    if name != "dense":  # bounds of so many channels take their time
        content = certify(subject, found.module, found.kept, balls=Balls(points=2))
        assert content["size"]["after"]["parameters"] == found.chosen.parameters
        assert content["errors"]["train"]["largest"] == pytest.approx(largest, rel=1e-6)
