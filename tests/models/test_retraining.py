"""Training again: what varies, what is remembered, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from whynet.core.errors import InputError
from whynet.models.data.examples import Examples
from whynet.models.preservation import global_state
from whynet.models.retraining import Diverged, Trainer, Variation
from whynet.models.subject import Subject
from whynet.training.builtin import builtin_names, load_builtin


def made(width_factor: float = 1.0) -> nn.Module:
    width = round(4 * width_factor)
    return nn.Sequential(nn.Linear(3, width), nn.ReLU(), nn.Linear(width, 1))


def train(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    seed: int = 0,
    learning_rate_factor: float = 1.0,
    steps_factor: float = 1.0,
    log: Any = None,
) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05 * learning_rate_factor)
    for step in range(round(10 * steps_factor)):
        loss = (model(inputs).squeeze(1) - targets).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if log is not None:
            log(step + 1, {"loss": loss.item(), "optimizer": optimizer})


@pytest.fixture
def data() -> Examples:
    generator = np.random.default_rng(0)
    x = generator.standard_normal((20, 3)).astype(np.float32)
    return Examples.from_arrays(x, x.sum(1))


def weights(module: nn.Module) -> Tensor:
    return torch.cat([p.detach().reshape(-1) for p in module.parameters()])


def test_the_same_variation_is_the_same_network_and_comes_from_memory(data: Examples) -> None:
    trainer, calls = Trainer(made, train), []
    world = global_state()
    first = trainer.run(Variation(seed=3), data)
    assert trainer.run(Variation(seed=3), data) is first
    again = Trainer(made, lambda *args, **o: calls.append(1) or train(*args, seed=0)).run(
        Variation(seed=3), data
    )
    assert calls == [1] and torch.equal(weights(first.module), weights(again.module))
    assert global_state() == world
    assert not first.module.training and all(p.grad is None for p in first.module.parameters())


def test_variations_differ_as_they_say(data: Examples) -> None:
    trainer = Trainer(made, train)
    assert trainer.varies == {"width", "learning_rate", "steps"} and trainer.logs
    base = trainer.run(Variation(seed=1), data)
    assert not torch.equal(weights(base.module), weights(trainer.run(Variation(2), data).module))
    wide = trainer.run(Variation(seed=1, width=2.0), data).module
    assert isinstance(wide, nn.Sequential) and wide[0].out_features == 8
    # Twice the length from the same start passes through the same point.
    seen: dict[int, float] = {}

    def log(model: nn.Module) -> Any:
        return lambda step, values: seen.__setitem__(step, values["loss"])

    trainer.run(Variation(seed=1, steps=2.0), data, log=log)
    assert sorted(seen) == list(range(1, 21))
    half: dict[int, float] = {}
    trainer.run(
        Variation(seed=1), data, log=lambda model: lambda s, v: half.__setitem__(s, v["loss"])
    )
    assert half == {step: seen[step] for step in range(1, 11)}
    few = trainer.run(Variation(seed=1, rows=(4, 2)), data)
    inputs, targets = data.take([4, 2])
    for one, two in zip(few.train.take([0, 1]), (inputs, targets), strict=True):
        assert torch.equal(one, two)


def test_initial_weights_are_those_before_training(data: Examples) -> None:
    trainer = Trainer(made, train)
    done = trainer.run(Variation(seed=5), data)
    fresh = trainer.fresh(Variation(seed=5))
    for name, value in fresh.state_dict().items():
        assert torch.equal(value, done.initial_state[name])


def test_a_function_may_return_the_network(data: Examples) -> None:
    other = made()
    assert Trainer(made, lambda m, x, y: other).run(Variation(), data).module is other


def test_weights_that_are_not_finite_are_a_divergence(data: Examples) -> None:
    def explode(model: nn.Module, inputs: Tensor, targets: Tensor) -> None:
        with torch.no_grad():
            next(model.parameters())[0, 0] = float("nan")

    with pytest.raises(Diverged, match="weights that are not finite"):
        Trainer(made, explode).run(Variation(), data)
    with pytest.raises(Diverged):
        Trainer(made, train).run(Variation(learning_rate=1e30), data)


@pytest.mark.parametrize(
    ("variation", "words"),
    [
        (Variation(width=2.0), "build: found no argument 'width_factor'"),
        (Variation(learning_rate=2.0), "train: found no argument 'learning_rate_factor'"),
        (Variation(steps=2.0), "train: found no argument 'steps_factor'"),
    ],
)
def test_what_cannot_be_varied_is_refused(data: Examples, variation: Variation, words: str) -> None:
    plain = Trainer(lambda: made(), lambda model, inputs, targets: None)
    assert plain.varies == frozenset() and not plain.logs
    with pytest.raises(InputError, match=words):
        plain.run(variation, data)
    with pytest.raises(InputError, match="no argument 'log'"):
        plain.run(Variation(), data, log=lambda model: lambda step, values: None)


@pytest.mark.parametrize(
    ("functions", "argument"),
    [
        ((made(), train), "build"),
        ((None, train), "build"),
        ((made, None), "train"),
        ((made, lambda model: None), "train"),
        ((made, lambda model, inputs, targets, epochs: None), "train"),
    ],
)
def test_functions_of_another_form_are_refused(functions: Any, argument: str) -> None:
    with pytest.raises(InputError) as refused:
        Trainer(*functions)
    assert refused.value.argument == argument


def test_a_build_that_makes_no_network(data: Examples) -> None:
    with pytest.raises(InputError, match="a function returning int"):
        Trainer(lambda: 3, train).run(Variation(), data)  # type: ignore[arg-type, return-value]


def test_a_subject_is_trained_again_and_the_new_one_is_not(data: Examples) -> None:
    subject = Subject(made, train=data, test=data, loss="mse", trainer=Trainer(made, train))
    again = subject.retrained(Variation(seed=2, shuffled=True))
    assert again.tags >= {"initialization"} and "retrainable" not in again.tags
    assert again.train is not None and again.train.sha256 != data.sha256
    with pytest.raises(InputError, match="trainer: found no training function"):
        again.retrained(Variation())


@pytest.mark.parametrize("name", ["breast-cancer-mlp", "digits-cnn"])
def test_seed_zero_of_a_built_in_subject_is_the_built_in_network(name: str) -> None:
    built = load_builtin(name)
    subject = Subject(
        built.module, train=built.train, test=built.test, loss=built.loss, trainer=built.trainer
    )
    again = subject.retrained(Variation(seed=0))
    assert torch.equal(weights(subject.module), weights(again.module))
    assert built.trainer.varies == {"width", "learning_rate", "steps"} and built.trainer.logs


@pytest.mark.parametrize("name", builtin_names())
def test_built_in_widths_scale(name: str) -> None:
    trainer = load_builtin(name, module_state=load_state(name)).trainer
    sizes = [
        sum(p.numel() for p in trainer.fresh(Variation(width=factor)).parameters())
        for factor in (0.5, 1.0, 2.0)
    ]
    assert sizes[0] < sizes[1] < sizes[2]


def load_state(name: str) -> Mapping[str, Tensor]:
    from whynet.training.builtin import builtin_module

    return builtin_module(name).build().state_dict()
