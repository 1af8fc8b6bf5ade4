"""What training a smaller network on adds: measured, said, and never a worse network."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from whynet import InputError, Subject, condense
from whynet.concepts.condensation.finetuning import finetune
from whynet.concepts.condensation.reduction import Condensed


@pytest.fixture(scope="module")
def found() -> Condensed:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(4, 30), nn.Tanh(), nn.Linear(30, 3)).eval()
        inputs = torch.randn(200, 4)
    with torch.no_grad():
        labels = module(inputs).argmax(1)
    with pytest.MonkeyPatch.context() as patch:  # units turned leave training nothing to add
        patch.setattr("whynet.concepts.condensation.direction_fit.MOST_PARAMETERS", 0)
        return condense(Subject(module, train=(inputs, labels), loss="cross_entropy"), units=4)


def test_it_lowers_the_error_it_names_and_leaves_the_given_networks(found: Condensed) -> None:
    large, small = (copy.deepcopy(m.state_dict()) for m in (found.subject.module, found.module))
    state = torch.get_rng_state()
    better, done = finetune(found, 300, rate=1e-2)
    assert torch.equal(state, torch.get_rng_state())
    for old, module in ((large, found.subject.module), (small, found.module)):
        assert all(torch.equal(old[name], value) for name, value in module.state_dict().items())
    assert done.taken is not None
    subject = found.subject
    before = subject.outputs("train")[0]
    after = subject.alone(better.module).outputs("train")[0]
    largest = float((after - before).abs().max() / before.abs().max())
    assert largest == pytest.approx(done.after[done.taken], rel=1e-5)
    assert largest < done.before
    assert better.chosen.largest == pytest.approx(largest, rel=1e-5)
    value, low, high = done.factor
    assert value == pytest.approx(math.prod(done.after) ** (1 / 3) / done.before)
    assert low < value < high
    assert f"{value:.3g} [" in done.sentence()
    again, same = finetune(found, 300, rate=1e-2)
    assert same == done or same.after == done.after
    assert all(
        torch.equal(again.module.state_dict()[k], v) for k, v in better.module.state_dict().items()
    )


def test_a_network_that_gets_worse_is_not_handed_over(found: Condensed) -> None:
    same, done = finetune(found, 3, rate=10.0)
    assert done.taken is None and same is found
    assert "none errs less, so the network without it is handed over" in done.sentence()


def test_bad_settings_are_refused(found: Condensed) -> None:
    with pytest.raises(InputError, match="finetune"):
        finetune(found, 0)
    linear = nn.Linear(4, 2)
    inputs = torch.randn(20, 4)
    plain = condense(Subject(linear, train=(inputs, inputs[:, :2]), loss="mse"))
    with pytest.raises(InputError, match="was not reduced"):
        finetune(plain, 5)
