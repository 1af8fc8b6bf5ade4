"""Every rule moves each member as torch.optim moves a network of its own."""

import pytest
import torch
from tests.training.ensembles import data, half_mean_square, start, two_layer

from whynet.core.errors import InputError
from whynet.training.ensemble import Optimization, train_ensemble

MEMBERS, STEPS = 3, 100
RATES = torch.tensor([0.01, 0.003, 0.02], dtype=torch.float64)
DECAYS = torch.tensor([0.0, 0.1, 0.01], dtype=torch.float64)
PEERS = {
    "gradient-descent": lambda p, lr, wd: torch.optim.SGD(p, lr=lr, weight_decay=wd),
    "sgd": lambda p, lr, wd: torch.optim.SGD(p, lr=lr, weight_decay=wd),
    "momentum": lambda p, lr, wd: torch.optim.SGD(p, lr=lr, weight_decay=wd, momentum=0.9),
    "nesterov": lambda p, lr, wd: torch.optim.SGD(
        p, lr=lr, weight_decay=wd, momentum=0.9, nesterov=True
    ),
    "rmsprop": lambda p, lr, wd: torch.optim.RMSprop(p, lr=lr, weight_decay=wd),
    "adam": lambda p, lr, wd: torch.optim.Adam(p, lr=lr, weight_decay=wd),
    "adamw": lambda p, lr, wd: torch.optim.AdamW(p, lr=lr, weight_decay=wd),
}


def by_torch(rule, parameters, inputs, targets, number):
    """Train one member by torch.optim, without any of the engine."""
    own = {n: v[number].clone().requires_grad_() for n, v in parameters.items()}
    optimizer = PEERS[rule](list(own.values()), float(RATES[number]), float(DECAYS[number]))
    for _ in range(STEPS):
        optimizer.zero_grad()
        half_mean_square(two_layer(own, inputs), targets).backward()
        optimizer.step()
    return {name: value.detach() for name, value in own.items()}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("rule", PEERS)
def test_a_rule_is_that_of_torch_optim(rule, dtype):
    parameters = start(MEMBERS, dtype=dtype)
    inputs, targets = data(dtype=dtype)
    found = train_ensemble(
        two_layer,
        parameters,
        inputs,
        targets,
        half_mean_square,
        Optimization(rule, RATES, DECAYS),
        steps=STEPS,
    )
    # Round-off, amplified by 100 steps of rules that divide by small averages.
    allowed = 1e-11 if dtype == torch.float64 else 2e-4
    for number in range(MEMBERS):
        wanted = by_torch(rule, parameters, inputs, targets, number)
        for name, value in wanted.items():
            assert found.parameters[name].dtype == dtype
            assert torch.allclose(found.parameters[name][number], value, rtol=0, atol=allowed)
            assert not torch.allclose(parameters[name][number], value, rtol=0, atol=0.01)


def test_per_member_momentum():
    parameters, (inputs, targets) = start(2), data()
    momentum = torch.tensor([0.0, 0.9], dtype=torch.float64)

    def trained(optimization):
        return train_ensemble(
            two_layer, parameters, inputs, targets, half_mean_square, optimization, steps=20
        ).parameters["w"]

    both = trained(Optimization("momentum", 0.01, momentum=momentum))
    assert torch.equal(both[0], trained(Optimization("sgd", 0.01))[0])
    assert torch.equal(both[1], trained(Optimization("momentum", 0.01))[1])


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"rule": "lion", "learning_rate": 1.0}, "rule: found 'lion'"),
        ({"rule": "sgd", "learning_rate": 0.0}, "learning_rate: found 0.0"),
        ({"rule": "sgd", "learning_rate": torch.tensor([1.0, -1.0])}, "learning_rate: found"),
        ({"rule": "sgd", "learning_rate": float("nan")}, "learning_rate: found nan"),
        ({"rule": "sgd", "learning_rate": 1.0, "weight_decay": -1.0}, "weight_decay: found -1.0"),
        ({"rule": "momentum", "learning_rate": 1.0, "momentum": 1.0}, "momentum: found 1.0"),
        ({"rule": "adam", "learning_rate": 1.0, "betas": (0.9, 1.0)}, "betas: found 1.0"),
    ],
)
def test_a_setting_out_of_its_range_is_refused(settings, sentence):
    with pytest.raises(InputError, match=sentence):
        Optimization(**settings)


def test_settings_of_another_number_of_members_are_refused():
    parameters, (inputs, targets) = start(3), data()
    rates = torch.tensor([0.1, 0.2])
    with pytest.raises(InputError, match="learning_rate: found a tensor of shape"):
        train_ensemble(
            two_layer,
            parameters,
            inputs,
            targets,
            half_mean_square,
            Optimization("sgd", rates),
            steps=1,
        )
