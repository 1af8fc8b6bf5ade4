from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from whynet.core.errors import InputError
from whynet.models.preservation import fingerprint, global_state
from whynet.training.supervised import Recipe, seeded, train


def network(seed: int = 0) -> nn.Module:
    with seeded(seed):
        return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 2))


def rows(count: int = 33) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(count, 4, generator=generator)
    return inputs, (inputs[:, 0] > 0).long()


def trained(recipe: Recipe, **options: Any) -> tuple[nn.Module, tuple[float, ...]]:
    module = network()
    result = train(module, *rows(), functional.cross_entropy, recipe, **options)
    return module, result.losses


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_training_is_deterministic_and_leaves_the_global_state_alone(optimizer: Any) -> None:
    recipe = Recipe(optimizer, learning_rate=0.02, batch_size=8, epochs=3, seed=5)
    before = global_state()
    first, losses = trained(recipe)
    assert global_state() == before
    torch.manual_seed(99)
    second, again = trained(recipe)
    assert fingerprint(first) == fingerprint(second)
    assert losses == again
    assert len(losses) == 3
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(("momentum", "decay"), [(0.9, 1e-2), (0.9, 0.0), (0.0, 1e-2), (0.0, 0.0)])
def test_steps_without_a_log_are_those_of_torch_bit_for_bit(momentum: float, decay: float) -> None:
    """With a log the optimizer of torch steps, whose state the log may read."""
    recipe = Recipe("sgd", 0.05, momentum, decay, batch_size=8, epochs=4, seed=5)
    plain, losses = trained(recipe)
    logged, again = trained(recipe, log=lambda step, about: None)
    assert losses == again
    for one, two in zip(plain.parameters(), logged.parameters(), strict=True):
        assert torch.equal(one, two)


def test_a_parameter_without_a_gradient_stays() -> None:
    class Aside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Linear(4, 2), nn.Parameter(torch.ones(3))

        def forward(self, inputs: Tensor) -> Tensor:
            out: Tensor = self.used(inputs)
            return out

    module = Aside()
    recipe = Recipe(weight_decay=0.1, batch_size=8, epochs=2)
    train(module, *rows(), functional.cross_entropy, recipe)
    assert torch.equal(module.unused, torch.ones(3))


def test_the_seed_changes_the_order_of_the_rows() -> None:
    states = [trained(Recipe(epochs=1, batch_size=8, seed=seed))[0].state_dict() for seed in (0, 1)]
    assert not torch.equal(states[0]["0.weight"], states[1]["0.weight"])


def test_the_result_says_where_it_began_and_how_many_steps_it_took() -> None:
    module = network()
    result = train(module, *rows(), functional.cross_entropy, Recipe(batch_size=8, epochs=2))
    assert result.steps == 2 * 5
    for name, value in network().state_dict().items():
        assert torch.equal(result.initial_state[name], value)
    assert not module.training
    assert all(parameter.grad is None for parameter in module.parameters())


def test_full_batch_sgd_is_gradient_descent_with_weight_decay() -> None:
    inputs, targets = rows()
    module = nn.Linear(4, 2)
    weight = module.weight.detach().clone()
    bias = module.bias.detach().clone()
    leaf = weight.clone().requires_grad_()
    loss = functional.cross_entropy(inputs @ leaf.T + bias, targets)
    (gradient,) = torch.autograd.grad(loss, leaf)
    recipe = Recipe(learning_rate=0.3, momentum=0.0, weight_decay=0.1, batch_size=999, epochs=1)
    train(module, inputs, targets, functional.cross_entropy, recipe)
    torch.testing.assert_close(module.weight.detach(), weight - 0.3 * (gradient + 0.1 * weight))


def order_of_rows(draws: int, epochs: int) -> list[Tensor]:
    """Return the batches of 33 numbered rows, to a network that draws random numbers."""
    seen: list[Tensor] = []

    class Recorder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(()))

        def forward(self, inputs: Tensor) -> Tensor:
            seen.append(inputs)
            torch.rand(draws)
            return self.weight * inputs

    values = torch.arange(33.0)
    recipe = Recipe(learning_rate=1e-6, batch_size=8, epochs=epochs)
    train(Recorder(), values, values, functional.mse_loss, recipe)
    return seen


def test_every_row_is_seen_once_an_epoch() -> None:
    seen = order_of_rows(draws=0, epochs=1)
    assert [len(part) for part in seen] == [7, 7, 7, 6, 6]
    assert sorted(torch.cat(seen).tolist()) == list(range(33))


def test_the_order_of_the_rows_does_not_depend_on_what_dropout_draws() -> None:
    plain, drawing = order_of_rows(draws=0, epochs=2), order_of_rows(draws=5, epochs=2)
    assert torch.equal(torch.cat(plain), torch.cat(drawing))
    assert not torch.equal(torch.cat(plain[:5]), torch.cat(plain[5:]))


def test_progress_is_told_after_each_epoch() -> None:
    told: list[tuple[int, int, float]] = []
    _, losses = trained(Recipe(epochs=3), progress=lambda *said: told.append(said))
    assert told == [(1, 3, losses[0]), (2, 3, losses[1]), (3, 3, losses[2])]


def test_an_interruption_propagates_and_leaves_nothing_behind() -> None:
    def interrupt(done: int, total: int, loss: float) -> None:
        raise KeyboardInterrupt

    module, before = network(), global_state()
    with pytest.raises(KeyboardInterrupt):
        train(module, *rows(), functional.cross_entropy, Recipe(), progress=interrupt)
    assert global_state() == before
    assert not module.training
    assert all(parameter.grad is None for parameter in module.parameters())


def test_zero_epochs_leave_the_network_at_its_start() -> None:
    module, losses = trained(Recipe(epochs=0))
    assert losses == ()
    assert torch.equal(module.state_dict()["0.weight"], network().state_dict()["0.weight"])


def test_a_diverging_loss_is_refused_with_the_step_size() -> None:
    inputs, _ = rows()
    with pytest.raises(InputError) as error:
        train(
            nn.Linear(4, 1),
            inputs,
            inputs[:, :1],
            functional.mse_loss,
            Recipe(learning_rate=1e20, epochs=5),
        )
    assert str(error.value).startswith("learning_rate: found 1e+20, at which the loss became ")
    assert error.value.wanted == "a smaller step size, or inputs and targets of order one"


def test_data_that_do_not_fit_are_refused() -> None:
    inputs, targets = rows()
    sentence = "targets: found 32 targets for 33 inputs; wanted one target for each row."
    with pytest.raises(InputError, match=sentence):
        train(network(), inputs, targets[:-1], functional.cross_entropy, Recipe())
    with pytest.raises(InputError, match="0 targets for 0 inputs"):
        train(network(), inputs[:0], targets[:0], functional.cross_entropy, Recipe())
    frozen = network().requires_grad_(False)
    with pytest.raises(InputError, match="module: found no trainable parameter"):
        train(frozen, inputs, targets, functional.cross_entropy, Recipe())


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("optimizer", "lbfgs"),
        ("learning_rate", 0.0),
        ("learning_rate", math.nan),
        ("learning_rate", math.inf),
        ("momentum", 1.0),
        ("momentum", -0.1),
        ("weight_decay", -1.0),
        ("weight_decay", math.inf),
        ("batch_size", 0),
        ("epochs", -1),
    ],
)
def test_a_recipe_refuses_settings_out_of_range(argument: str, value: Any) -> None:
    with pytest.raises(InputError) as error:
        Recipe(**{argument: value})
    assert error.value.argument == argument
    assert repr(value) in error.value.found


def test_seeded_restores_every_generator() -> None:
    before = global_state()
    with seeded(7):
        first = torch.randn(3)
    assert global_state() == before
    with seeded(7):
        assert torch.equal(torch.randn(3), first)
