"""The objective that training differentiates: batch statistics, and nothing dropped."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn import functional

from whynet.derivatives.products import gradient, loss
from whynet.derivatives.subject_objective import objective_from, training_objective_from
from whynet.models.preservation import fingerprint
from whynet.models.subject import Subject


def subject(batch_size: int = 512) -> Subject:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.5), nn.Linear(6, 2)
    ).double()
    inputs = torch.randn(30, 4, dtype=torch.float64)
    return Subject(network, train=(inputs, (inputs[:, 0] > 0).long()), batch_size=batch_size)


def test_loss_and_gradient_are_those_with_batch_statistics() -> None:
    ours = subject()
    before = fingerprint(ours.module)
    network = copy.deepcopy(ours.module)
    network[1].train()  # type: ignore[index]
    inputs, targets = ours.examples("train").take(range(30))
    wanted = functional.cross_entropy(network(inputs), targets)
    slopes = torch.autograd.grad(wanted, list(network.parameters()))
    objective = training_objective_from(ours)
    torch.testing.assert_close(loss(objective), float(wanted.detach()))
    torch.testing.assert_close(gradient(objective), torch.cat([s.reshape(-1) for s in slopes]))
    assert abs(loss(objective) - loss(objective_from(ours))) > 1e-3
    assert fingerprint(ours.module) == before


def test_all_rows_are_one_batch_whatever_the_batch_size() -> None:
    torch.testing.assert_close(
        loss(training_objective_from(subject(7))), loss(training_objective_from(subject()))
    )


def test_without_batch_normalization_it_is_the_objective() -> None:
    network = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Dropout(0.5), nn.Linear(6, 2)).double()
    inputs = torch.randn(30, 4, dtype=torch.float64)
    plain = Subject(network, train=(inputs, (inputs[:, 0] > 0).long()))
    assert loss(training_objective_from(plain)) == loss(objective_from(plain))
