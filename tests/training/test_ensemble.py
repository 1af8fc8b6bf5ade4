"""The engine: members do not disturb each other, stop on their own, and are recorded."""

import numpy as np
import pytest
import torch
from tests.training.ensembles import (
    data,
    distance,
    half_mean_square,
    linear,
    member,
    relu_two_layer,
    same,
    start,
    two_layer,
)
from torch import nn
from torch.nn import functional

from whynet.core.errors import InputError
from whynet.models.families import convolutional, mlp, transformer
from whynet.models.families import linear as linear_family
from whynet.models.preservation import global_state
from whynet.training.ensemble import Above, Below, Optimization, stacked, train_ensemble
from whynet.training.supervised import seeded

DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
GD = Optimization("gradient-descent", 0.1)


def train(parameters, inputs, targets, optimization=GD, forward=two_layer, **options):
    return train_ensemble(
        forward, parameters, inputs, targets, half_mean_square, optimization, **options
    )


@DTYPES
def test_gradient_descent_on_a_linear_model_has_its_closed_form(dtype):
    inputs, targets = data(rows=5, inputs=8, dtype=dtype)
    weights = {"w": start(4, inputs=8, dtype=dtype)["w"][:, 0]}
    rates = torch.tensor([0.1, 0.2, 0.05, 0.3], dtype=dtype)
    found = train(weights, inputs, targets, Optimization("sgd", rates), linear, steps=50)
    wide, aim = inputs.double(), targets.double()
    for number, rate in enumerate(rates.double()):
        least = weights["w"][number].double()
        least = least + torch.linalg.pinv(wide) @ (aim - wide @ least)
        shrink = torch.eye(8).double() - rate * wide.T @ wide / 5
        error = torch.linalg.matrix_power(shrink, 50) @ (weights["w"][number].double() - least)
        difference = (found.parameters["w"][number].double() - least - error).abs().max()
        assert difference < (1e-12 if dtype == torch.float64 else 1e-5)
    assert found.state == ("finished",) * 4 and found.steps.tolist() == [50] * 4


@DTYPES
@pytest.mark.parametrize("engine", ["eager", "compiled"])
def test_one_number_a_member_has_its_closed_form(dtype, engine):
    """½ mean (w x)² shrinks w by 1 − η mean x² a step."""
    inputs = torch.tensor([1.0, 2.0, 3.0], dtype=dtype)
    weights = torch.tensor([1.0, -2.0, 0.5], dtype=dtype)
    found = train({"w": weights}, inputs, torch.zeros_like(inputs), GD,
                  lambda p, x: p["w"] * x, steps=20, engine=engine)  # fmt: skip
    shrunk = weights.double() * (1 - 0.1 * 14 / 3) ** 20
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(found.parameters["w"].double(), shrunk, rtol=tolerance, atol=0)


@DTYPES
@pytest.mark.parametrize("forward", [two_layer, relu_two_layer])
@pytest.mark.parametrize("batch", [None, 5])
def test_a_member_alone_has_the_bits_it_has_in_the_group(dtype, forward, batch):
    """Measured, not promised by PyTorch: bmm rounds a matrix alike in every stack from 2 on."""
    parameters, (inputs, targets) = start(7, dtype=dtype), data(dtype=dtype)
    seeds = list(range(10, 17))

    def trained(own, numbers):
        chosen = None if batch is None else [seeds[number] for number in numbers]
        rule = Optimization("adam", 0.01)
        return train(own, inputs, targets, rule, forward, steps=150, batch=batch, seeds=chosen)

    whole = trained(parameters, range(7))
    assert same(whole.parameters, trained(parameters, range(7)).parameters)
    for number in (0, 3, 6):
        alone = trained(member(parameters, number), [number])
        assert same(member(whole.parameters, number), alone.parameters)
        assert torch.equal(whole.losses[number : number + 1], alone.losses)
        assert np.array_equal(whole.records.loss[number], alone.records.loss[0])


@pytest.mark.parametrize(("dtype", "batch"), [(torch.float64, None), (torch.float32, 4)])
def test_a_stopped_member_keeps_its_bits_whatever_the_others_do(dtype, batch):
    parameters, (inputs, targets) = start(6, dtype=dtype), data(dtype=dtype)
    thresholds = torch.tensor([0.2, 0.0, 0.1, 0.05, 0.15, 0.08], dtype=dtype)
    options = {"batch": batch, "seeds": list(range(6))} if batch else {}

    sgd = Optimization("sgd", 0.1)

    def until(steps):
        stop = Below("loss", thresholds, every=1)
        return train(parameters, inputs, targets, sgd, steps=steps, stop=stop, **options)

    long, short = until(1500), until(700)
    assert long.state[1] == "out of steps" and long.steps[1] == 1500
    stopped = [n for n in range(6) if short.state[n] == "converged"]
    assert len(stopped) >= 3 and len({int(short.steps[n]) for n in stopped}) == len(stopped)
    for number in stopped:
        assert same(member(long.parameters, number), member(short.parameters, number))
        assert long.steps[number] == short.steps[number]
        # The same steps without any criterion, all members running, no compaction.
        options_alone = dict(options, schedule=())
        count = int(short.steps[number])
        free = train(parameters, inputs, targets, sgd, steps=count, **options_alone)
        assert same(member(long.parameters, number), member(free.parameters, number))
    assert bool((short.losses[stopped] <= thresholds[stopped]).all())


def test_stopping_is_at_the_first_step_that_meets_the_criterion():
    parameters, (inputs, targets) = start(3), data()
    every = train(parameters, inputs, targets, steps=300, schedule=range(301))
    for threshold in (0.3, 0.05):
        stop = Below("loss", threshold)
        found = train(parameters, inputs, targets, steps=300, stop=stop)
        for number in range(3):
            meeting = np.flatnonzero(every.records.loss[number].values <= threshold)
            wanted = meeting[0] if len(meeting) else 300
            assert found.steps[number] == wanted
            assert found.state[number] == ("converged" if len(meeting) else "out of steps")


def test_criteria_on_observables_and_gradients():
    parameters, (inputs, targets) = start(3), data()
    record = {"size": lambda p: p["a"].norm(dim=1)}
    first = record["size"](parameters)
    stop = Above("size", first + 0.1, every=10)
    found = train(parameters, inputs, targets, steps=500, stop=stop, record=record)
    arrived = [n for n in range(3) if found.state[n] == "converged"]
    assert arrived and all(found.steps[n] % 10 == 0 for n in arrived)
    assert bool((record["size"](found.parameters)[arrived] >= first[arrived] + 0.1).all())

    stop = Below("gradient", 0.02, every=5)
    found = train(parameters, inputs, targets, steps=5000, stop=stop)
    assert found.state == ("converged",) * 3 and bool((found.steps % 5 == 0).all())
    own = {n: v.clone().requires_grad_() for n, v in member(found.parameters, 0).items()}
    loss = half_mean_square(two_layer({n: v[0] for n, v in own.items()}, inputs), targets)
    gradients = torch.autograd.grad(loss, list(own.values()))
    assert torch.cat([g.flatten() for g in gradients]).norm() <= 0.02


@DTYPES
@pytest.mark.parametrize("batch", [None, 4])
def test_a_member_that_diverges_is_frozen_and_flagged_and_the_others_go_on(dtype, batch):
    parameters, (inputs, targets) = start(4, dtype=dtype), data(dtype=dtype)
    rates = torch.tensor([0.1, 1e6, 0.1, 0.05], dtype=dtype)
    options = {"batch": batch, "seeds": [0, 1, 2, 3]} if batch else {}
    weights = {"w": parameters["w"][:, 0]}
    sgd = Optimization("sgd", rates)
    found = train(weights, inputs, targets, sgd, linear, steps=200, **options)
    assert found.state == ("finished", "not finite", "finished", "finished")
    assert 0 < found.steps[1] < 200
    assert bool(torch.isfinite(found.parameters["w"]).all())
    calm = Optimization("sgd", torch.tensor([0.1, 0.1, 0.1, 0.05], dtype=dtype))
    wanted = train(weights, inputs, targets, calm, linear, steps=200, **options)
    for number in (0, 2, 3):
        assert same(member(found.parameters, number), member(wanted.parameters, number))


def test_a_start_that_is_not_finite_takes_no_step():
    parameters, (inputs, targets) = start(3), data()
    parameters["a"][1, 0] = torch.nan
    found = train(parameters, inputs, targets, steps=10)
    assert found.state == ("finished", "not finite", "finished")
    assert found.steps.tolist() == [10, 0, 10] and bool(torch.isnan(found.losses[1]))


def test_data_labels_and_constants_of_each_member():
    parameters, (inputs, targets) = start(3), data()
    own_inputs = torch.stack([inputs, 2 * inputs, inputs.flip(0)])
    own_targets = torch.stack([targets, -targets, targets])
    scale = {"scale": torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)}

    def forward(p, x):
        return p["scale"] * two_layer(p, x)

    found = train(
        parameters,
        own_inputs,
        own_targets,
        forward=forward,
        steps=40,
        per_member=("inputs", "targets"),
        constants=scale,
    )
    for number in range(3):
        factor = float(scale["scale"][number])
        alone = train(
            member(parameters, number),
            own_inputs[number],
            own_targets[number],
            forward=lambda p, x, factor=factor: factor * two_layer(p, x),
            steps=40,
        )
        assert distance(member(found.parameters, number), alone.parameters) < 1e-13
    assert "scale" not in found.parameters


def test_records_follow_the_schedule_and_end_where_members_stopped():
    parameters, (inputs, targets) = start(3), data()
    record = {"a": lambda p: p["a"], "size": lambda p: p["a"].norm(dim=1)}
    stop = Below("loss", 0.2)
    found = train(parameters, inputs, targets, steps=1000, stop=stop, record=record)
    table = found.records
    assert table.loss.dims == ("member", "step") and table.a.shape == (3, len(table.step), 12)
    assert int(table.step[0]) == 0 and int(table.step[-1]) == 1000 and len(table.step) < 40
    assert np.array_equal(table.a[:, 0], parameters["a"])
    assert np.array_equal(table.a[:, -1], found.parameters["a"])
    assert np.allclose(table.loss[:, -1], found.losses, rtol=1e-12)
    for number in range(3):
        after = table.loss[number][table.step.values >= int(found.steps[number])]
        assert np.allclose(after, found.losses[number], rtol=1e-12)
    # Records are what a run of so many steps comes to.
    for step in (1, 10, 100):
        there = train(parameters, inputs, targets, steps=step, stop=stop)
        assert np.array_equal(table.a.sel(step=step), there.parameters["a"])
        assert np.allclose(table.loss.sel(step=step), there.losses, rtol=1e-12)


def test_recording_changes_nothing_and_none_is_possible():
    parameters, (inputs, targets) = start(3), data()
    plain = train(parameters, inputs, targets, steps=70, schedule=())
    watched = train(parameters, inputs, targets, steps=70, schedule=range(71))
    assert same(plain.parameters, watched.parameters) and len(watched.records.step) == 71
    assert len(plain.records.step) == 0
    assert train(parameters, inputs, targets, steps=0).steps.tolist() == [0, 0, 0]


def test_nothing_global_and_nothing_given_is_touched():
    parameters, (inputs, targets) = start(3), data()
    before = global_state(), {n: v.clone() for n, v in parameters.items()}
    sgd, stop = Optimization("sgd", 0.1), Below("loss", 0.1)
    train(parameters, inputs, targets, sgd, steps=30, batch=4, seeds=[1, 2, 3], stop=stop)
    assert before[0] == global_state() and same(before[1], parameters)


FAMILIES = {
    "mlp": (lambda: mlp.build(6, [7, 5], 3), (6,)),
    "mlp-ntk": (lambda: mlp.build(6, [8], 3, "gelu", parametrization="ntk"), (6,)),
    "linear": (lambda: linear_family.build(6, 3), (6,)),
    "convolutional": (lambda: convolutional.build((1, 4, 4), [3], 3), (1, 4, 4)),
    "convolutional-norm": (
        lambda: convolutional.build((1, 4, 4), [3], 3, batch_norm=True).eval(),
        (1, 4, 4),
    ),
    "transformer": (
        lambda: transformer.build((1, 4, 4), 2, 3, width=8, depth=1, heads=2),
        (1, 4, 4),
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_networks_of_every_family_train_as_by_themselves(family):
    build, shape = FAMILIES[family]
    with seeded(3):
        modules = [build().double() for _ in range(3)]
        inputs = torch.randn(9, *shape, dtype=torch.float64)
    targets = torch.arange(9) % 3
    forward, parameters, constants = stacked(modules)
    rule = Optimization("adamw", 0.003, 0.01)
    found = train_ensemble(
        forward,
        parameters,
        inputs,
        targets,
        functional.cross_entropy,
        rule,
        steps=25,
        constants=constants,
    )
    start_losses = found.records.loss[:, 0].values
    for number, module in enumerate(modules):
        with torch.no_grad():
            first = functional.cross_entropy(module(inputs), targets)
        assert np.isclose(start_losses[number], float(first), rtol=1e-12)
        optimizer = torch.optim.AdamW(module.parameters(), lr=0.003, weight_decay=0.01)
        for _ in range(25):
            optimizer.zero_grad()
            functional.cross_entropy(module(inputs), targets).backward()
            optimizer.step()
        for name, value in module.named_parameters():
            assert torch.allclose(found.parameters[name][number], value, rtol=0, atol=1e-9)


def test_a_module_can_be_given_itself():
    with seeded(0):
        module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1), nn.Flatten(0))
    _, parameters, _ = stacked([module.double()] * 2)
    inputs, targets = data()
    kept = {name: value.detach().clone() for name, value in module.named_parameters()}
    found = train(parameters, inputs, targets, forward=module, steps=5)
    assert same(kept, dict(module.named_parameters()))
    assert same(member(found.parameters, 0), member(found.parameters, 1))
    with pytest.raises(InputError, match="parameters: found 'other'"):
        train({"other": parameters["0.weight"]}, inputs, targets, forward=module, steps=5)


def refused(sentence, parameters=None, inputs=None, targets=None, **options):
    given, own = data()
    parameters = start(3) if parameters is None else parameters
    with pytest.raises(InputError, match=sentence):
        train(
            parameters,
            given if inputs is None else inputs,
            own if targets is None else targets,
            **{"steps": 5, **options},
        )


def test_arguments_that_do_not_fit_are_refused():
    inputs, targets = data()
    refused("parameters: found none", parameters={})
    refused("first axes of", parameters={"a": torch.zeros(2, 3), "b": torch.zeros(3, 3)})
    refused("one floating dtype", parameters={"w": torch.zeros(2, 3, dtype=torch.int64)})
    refused("inputs: found torch.float32", inputs=inputs.float())
    refused("targets: found 16 targets for 17 inputs", targets=targets[1:])
    refused("steps: found -1", steps=-1)
    refused("schedule: found", schedule=(0, 6))
    refused("batch: found 4; wanted none; gradient descent", batch=4, seeds=[1, 2, 3])
    sgd = Optimization("sgd", 0.1)
    refused("seeds: found none", batch=4, optimization=sgd)
    refused("batch: found 18; wanted 1 to 17", batch=18, seeds=[1, 2, 3], optimization=sgd)
    refused("stop: found 'size'", stop=Below("size", 1.0))
    refused("record: found 'loss'", record={"loss": lambda p: p["a"]})
    refused("record: found 'one' of shape", record={"one": lambda p: p["a"].sum()})
    refused("per_member: found 'rows'", per_member=("rows",))
    refused("engine: found 'fast'", engine="fast")
    refused("inputs: found those of 17 members", per_member=("inputs",))
    with pytest.raises(InputError, match="loss: found a result of shape"):
        train_ensemble(two_layer, start(2), inputs, targets, lambda f, y: f - y, sgd, steps=1)


def test_random_numbers_in_the_forward_pass_are_refused():
    module = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 1), nn.Flatten(0))
    forward, parameters, _ = stacked([module.double()] * 2)
    refused("forward: found random numbers drawn inside", parameters=parameters, forward=forward)
    with pytest.raises(InputError, match="network 1 of other tensors"):
        stacked([nn.Linear(2, 2), nn.Linear(2, 3)])
