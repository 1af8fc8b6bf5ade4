"""Rows left out by one Newton step: against exact formulas, and against really leaving them out."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.datasets import load_digits
from torch import Tensor, nn

from whynet.concepts.generalization import left_out_rows
from whynet.concepts.generalization.left_out_rows import LeftOut, left_out
from whynet.concepts.generalization.scored_training_rows import chance_of
from whynet.concepts.measuring import measure
from whynet.core.measurement import Measurement
from whynet.core.outcome import NotApplicable
from whynet.derivatives import damped_gauss_newton
from whynet.derivatives.empirical_ntk import gradients, plan_ntk
from whynet.models.subject import Subject
from whynet.numerics.left_out import pull, softmax_root, without_row
from whynet.testing.influence_forms import RIDGE, ROWS, population, ridge, ridge_rows

DECAY = 0.3
"""Penalty of the summed loss of the small networks."""


def test_a_row_left_out_of_ridge_regression_is_exact() -> None:
    points, targets = population()
    x, y = points[:ROWS], targets[:ROWS]
    weight = ridge(x, y)
    inverse = np.linalg.inv(2 * x.T @ x + RIDGE * np.eye(x.shape[1]))
    block = torch.tensor(np.einsum("ij,jk,ik->i", x, inverse, x))[:, None, None]
    residual = torch.tensor(x @ weight - y)[:, None]
    change, leverage = without_row(block, torch.full((ROWS, 1, 1), 2.0).double(), 2 * residual)
    for row in range(ROWS):
        kept = np.delete(np.arange(ROWS), row)
        really = x[row] @ ridge(x[kept], y[kept]) - y[row]
        assert float(residual[row, 0] + change[row, 0]) == pytest.approx(really, abs=1e-12)
        classic = residual[row, 0] / (1 - leverage[row])
        assert float(classic) == pytest.approx(really, abs=1e-12)


def test_roots_and_pulls() -> None:
    chances = torch.tensor([[0.7, 0.2, 0.1], [1.0, 0.0, 0.0]]).double()
    root = softmax_root(chances)
    wanted = torch.diag_embed(chances) - chances[:, :, None] * chances[:, None]
    assert torch.allclose(root @ root.transpose(1, 2), wanted, atol=1e-15)
    moved = torch.tensor([3.0, 4.0]).double()
    assert pull(-0.5 * moved, moved) == pytest.approx((0.5, 1.0))
    assert pull(moved, moved)[1] == pytest.approx(-1.0)
    assert pull(moved, 0 * moved) == (0.0, 0.0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_instrument_is_exact_on_a_linear_network(dtype: torch.dtype) -> None:
    form = ridge_rows()
    found = measure("self-influence", form.subject(dtype, 0))
    assert isinstance(found, Measurement)
    close = 1e-10 if dtype == torch.float64 else 1e-4
    for (name, labels), value in form.truth["self-influence"].items():
        estimate = found.estimate(name, **dict(labels))
        assert estimate.kind == "exact"
        assert estimate.value == pytest.approx(value, rel=close, abs=close)
    assert found.estimate("damping").value == pytest.approx(RIDGE / 1, rel=1e-3)
    assert found.estimate("balance").value == pytest.approx(1.0, abs=1e-6)


def fitted(module: nn.Module, x: Tensor, y: Tensor, start: nn.Module | None = None) -> nn.Module:
    """Train to the minimum of summed cross-entropy and a penalty, full batch, float64."""
    own = copy.deepcopy(start or module)
    optimizer = torch.optim.LBFGS(
        own.parameters(), max_iter=500, tolerance_grad=1e-6, tolerance_change=1e-12,
        history_size=50, line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(own(x), y, reduction="sum")
        loss = loss + DECAY / 2 * sum(p.square().sum() for p in own.parameters())
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    return own


@cache
def small() -> tuple[Subject, Tensor, Tensor, np.ndarray]:
    """A tanh network on 120 digits of three classes, twelve of them mislabeled on purpose."""
    pixels, labels = load_digits(n_class=3, return_X_y=True)
    generator = np.random.default_rng(5)
    rows = generator.permutation(len(pixels))[:420]
    x, y = torch.tensor(pixels[rows] / 16.0).double(), torch.tensor(labels[rows]).long()
    x = torch.nn.functional.avg_pool2d(x.reshape(-1, 1, 8, 8), 2).reshape(-1, 16)
    wrong = np.sort(generator.permutation(120)[:12])
    y[wrong] = (y[wrong] + torch.tensor(generator.integers(1, 3, 12))) % 3
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    trained = fitted(module, x[:120], y[:120])
    subject = Subject(trained, train=(x[:120], y[:120]), test=(x[120:], y[120:]))
    return subject, x[:120], y[:120], wrong


def test_against_leaving_rows_out_and_training_to_the_minimum() -> None:
    """Some twenty rows, the planted ones among them, are left out and the network trained again."""
    subject, x, y, wrong = small()
    found = left_out(subject)
    assert found.damping.rule == "pull"
    assert found.damping.value == pytest.approx(DECAY, rel=1e-4)
    rows = np.union1d(wrong, np.arange(0, 120, 12))
    really = []
    for row in rows:
        kept = torch.tensor([i for i in range(120) if i != row])
        other = fitted(subject.module, x[kept], y[kept])
        with torch.no_grad():
            really.append(nn.functional.cross_entropy(other(x[[row]]), y[[row]]).item())
    truth = np.array(really) - found.losses[0][rows]
    predicted = found.self_influence[rows]
    assert stats.spearmanr(predicted, truth).statistic > RANKS
    assert np.corrcoef(predicted, truth)[0, 1] > 0.95
    assert np.median(np.abs(predicted - truth)) < MEDIAN_GAP
    assert np.abs(predicted - truth).max() < LARGEST_GAP
    # The plain influence, without taking the row out of the curvature, says less.
    plain = naive(subject, found)[rows]
    assert np.abs(plain - truth).mean() > np.abs(predicted - truth).mean()


RANKS, MEDIAN_GAP, LARGEST_GAP = 0.97, 0.1, 1.0
"""With 39 rows: 0.996, 0.004 nats, 0.83 nats (the plain influence misses by 3 times as much)."""


def naive(subject: Subject, found: LeftOut) -> np.ndarray:
    """First-order influence g' M g with the row kept in the curvature, by autograd."""
    parameters = {n: p.clone() for n, p in subject.parameters.items()}
    inputs, targets = subject.examples("train").take(range(120))
    jacobian = torch.func.jacrev(lambda p: subject.forward(p, inputs))(parameters)
    flat = torch.cat([part.detach().flatten(2) for part in jacobian.values()], dim=2)
    chances = subject.outputs("train")[0].softmax(1)
    curvature = torch.diag_embed(chances) - chances[:, :, None] * chances[:, None]
    matrix = torch.einsum("nap,nab,nbq->pq", flat, curvature, flat)
    matrix += DECAY * torch.eye(len(matrix)).double()
    gradient = chances - nn.functional.one_hot(targets, 3)
    push = torch.einsum("nap,na->np", flat, gradient)
    return (push * torch.linalg.solve(matrix, push.T).T).sum(1).numpy()


def test_both_ways_to_solve_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    subject, *_ = small()
    written = left_out(subject)
    monkeypatch.setattr(left_out_rows, "FEW_PARAMETERS", 0)
    monkeypatch.setattr(damped_gauss_newton, "STILL", 0.0)
    monkeypatch.setattr(damped_gauss_newton, "NEGLIGIBLE", 1e-12)
    spanned = left_out(subject.replaced(subject.module))
    assert np.allclose(written.self_influence, spanned.self_influence, rtol=1e-6, atol=1e-9)
    assert np.allclose(written.leverage, spanned.leverage, rtol=1e-6, atol=1e-9)


def test_leaving_directions_out_makes_influences_larger(monkeypatch: pytest.MonkeyPatch) -> None:
    subject, *_ = small()
    monkeypatch.setattr(left_out_rows, "FEW_PARAMETERS", 0)
    monkeypatch.setattr(damped_gauss_newton, "MOST_DIRECTIONS", 30)
    few = left_out(subject.replaced(subject.module))
    assert few.neglected > 0.01
    assert few.leverage.sum() > 0
    wide = left_out(subject)
    assert few.self_influence.mean() > wide.self_influence.mean()
    found = measure("self-influence", subject.replaced(subject.module))
    assert isinstance(found, Measurement)
    assert any("makes influences larger, never smaller" in note for note in found.notes)


def test_planted_labels_are_found_and_the_plain_loss_finds_them_as_well() -> None:
    """At a regularized minimum the mislabeled rows are not fitted: their loss shows them too."""
    subject, _, y, wrong = small()
    found = left_out(subject)
    ranked = (found.losses[1], found.self_influence, found.losses[0])
    hits = [len(set(np.argsort(-values)[:12]) & set(wrong)) for values in ranked]
    assert hits[0] >= 9  # at random 12 of 120 hold 1.2 of them
    assert hits[0] >= hits[1]
    assert hits[2] >= hits[0] - 1
    listed = set(found.suspects)
    assert len(listed & set(wrong)) >= 9
    assert len(set(found.memorized) & set(wrong)) < 6  # most are wrong already
    chances = chance_of(found.without, y.numpy())
    assert np.median(chances[wrong]) < 0.2 < 0.7 < np.median(np.delete(chances, wrong))


def test_only_the_last_layer_where_gradients_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    subject, *_ = small()
    monkeypatch.setattr(left_out_rows, "GRADIENTS", 0)
    found = measure("self-influence", subject.replaced(subject.module))
    assert isinstance(found, Measurement)
    assert "Only the weights of the last linear layer are moved." in found.notes
    whole = left_out(subject)
    assert found.estimate("effective_parameters").value < whole.leverage.sum()


def test_refusals_are_sentences() -> None:
    x, y = torch.randn(5, 3), torch.tensor([0, 1, 0, 1, 0])
    few = measure("self-influence", Subject(nn.Linear(3, 2), train=(x, y)))
    assert few == NotApplicable("This does not apply: fewer than 10 training rows.")
    odd = Subject(nn.Linear(3, 2), train=(x, y), loss=lambda out, target: out.square().mean())
    refused = measure("self-influence", odd)
    assert isinstance(refused, NotApplicable)
    assert refused.reason.endswith("the loss is neither of classes nor of squares.")


def test_the_last_layer_alone_records_nothing_before_it() -> None:
    subject, x, _, _ = small()
    every = plan_ntk(subject, x[:3])
    alone = every.only(every.layers[-1])
    found = gradients(subject, x[:20], alone)
    assert alone.watched == {"2.weight", "2.bias"}
    assert len(alone.keys) == 1 < len(every.keys)
    wanted = torch.zeros(20, 3, 20, 3).double()
    hidden = torch.tanh(subject.module[0](x[:20]))  # type: ignore[index]
    gram = hidden @ hidden.T + 1
    for output in range(3):
        wanted[:, output, :, output] = gram
    assert torch.allclose(found.products(found, "full"), wanted, atol=1e-12)


def test_no_more_rows_run_at_once_than_a_batch_has(monkeypatch: pytest.MonkeyPatch) -> None:
    subject, x, y, _ = small()
    narrow = Subject(subject.module, train=(x, y), batch_size=16)
    seen: list[int] = []
    forward = Subject.forward

    def watched(self: Subject, parameters: Any, inputs: Any) -> Any:
        seen.append(len(inputs))
        return forward(self, parameters, inputs)

    monkeypatch.setattr(Subject, "forward", watched)
    found = left_out(narrow)
    assert len(found.rows) == 120
    assert max(seen) <= 16
