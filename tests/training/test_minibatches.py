"""Orders of rows: every row once an epoch, from a stream of each member's own."""

import numpy as np
import pytest
import torch
from tests.training.ensembles import data, half_mean_square, same, start, two_layer

from whynet.core.errors import InputError
from whynet.training import minibatches
from whynet.training.ensemble import Optimization, train_ensemble
from whynet.training.minibatches import MemberOrders


def drawn(orders: MemberOrders, steps: int):
    return torch.cat([orders.next() for _ in range(steps)], 1).numpy()


@pytest.mark.parametrize("batch", [1, 3, 7, 10])
def test_each_epoch_holds_every_row_once(batch):
    rows = drawn(MemberOrders([5, 6], 10, batch), 10 * 4)
    epochs = rows[:, : 40 * batch // 10 * 10].reshape(2, -1, 10)
    assert (np.sort(epochs, axis=-1) == np.arange(10)).all()
    flat = {tuple(epoch) for epoch in epochs.reshape(-1, 10)}
    assert len(flat) > 0.9 * 2 * epochs.shape[1]


def test_an_order_depends_on_its_own_seed_alone(monkeypatch):
    whole = drawn(MemberOrders([3, 4, 5], 9, 4), 50)
    assert np.array_equal(whole[1:2], drawn(MemberOrders([4], 9, 4), 50))
    assert not np.array_equal(whole[0], whole[1])
    left = MemberOrders([3, 4, 5], 9, 4)
    first = drawn(left, 20)
    left.select([2, 0])
    second = drawn(left, 30)
    assert np.array_equal(np.concatenate([first[[2, 0]], second], 1), whole[[2, 0]])
    monkeypatch.setattr(minibatches, "AHEAD", 1)
    assert np.array_equal(whole, drawn(MemberOrders([3, 4, 5], 9, 4), 50))


def test_first_rows_are_uniform():
    """Chi-square over the first row of 2000 members: 11 degrees of freedom."""
    first = MemberOrders(range(2000), 12, 1).next()[:, 0].numpy()
    counts = np.bincount(first, minlength=12)
    assert ((counts - 2000 / 12) ** 2 / (2000 / 12)).sum() < 31.3  # 0.999 quantile


def test_training_takes_these_rows():
    parameters, (inputs, targets) = start(2), data()
    own = torch.stack([inputs, inputs + 1])
    rule = Optimization("sgd", 0.05)
    found = train_ensemble(
        two_layer,
        parameters,
        own,
        targets,
        half_mean_square,
        rule,
        steps=30,
        batch=5,
        seeds=[8, 9],
        per_member=("inputs",),
    )
    for number in range(2):
        orders = MemberOrders([8 + number], 17, 5)
        weights = {n: v[number].clone().requires_grad_() for n, v in parameters.items()}
        for _ in range(30):
            rows = orders.next()[0]
            outputs = two_layer(weights, own[number][rows])
            slopes = torch.autograd.grad(
                half_mean_square(outputs, targets[rows]), list(weights.values())
            )
            weights = {
                name: (value - 0.05 * slope).detach().requires_grad_()
                for (name, value), slope in zip(weights.items(), slopes, strict=True)
            }
        for name, value in weights.items():
            assert torch.allclose(found.parameters[name][number], value, rtol=0, atol=1e-13)


def test_the_global_generator_has_no_say():
    parameters, (inputs, targets) = start(2), data()

    def trained(seed):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - the global one is what is tested
        return train_ensemble(
            two_layer,
            parameters,
            inputs,
            targets,
            half_mean_square,
            Optimization("sgd", 0.1),
            steps=20,
            batch=3,
            seeds=[1, 2],
        ).parameters

    assert same(trained(0), trained(1))


def test_no_rows_are_refused():
    with pytest.raises(InputError, match="batch: found 0"):
        MemberOrders([1], 5, 0)
