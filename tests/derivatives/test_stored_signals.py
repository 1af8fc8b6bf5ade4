"""Gauss-Newton products from stored signals: equal to differentiation, taken where they pay."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.derivatives.making import (
    cross_entropy,
    filled,
    labels,
    normal,
    objective,
    planned,
    small_objective,
    squared,
)
from tests.derivatives.watched_networks import NETWORKS, ROWS
from torch import Tensor, nn

from whynet.core.outcome import NotApplicable
from whynet.derivatives import kept_batches, signal_products
from whynet.derivatives.exact_kernels import exact_kernels
from whynet.derivatives.kept_batches import KeptBatches
from whynet.derivatives.objective import Objective, in_training_mode
from whynet.derivatives.plan import Plan
from whynet.derivatives.products import CurvatureOperator, gauss_newton
from whynet.derivatives.signal_products import first_columns, preparation, saving
from whynet.derivatives.stored_signals import SignalPlan, plan_signals, store_signals
from whynet.derivatives.ways import BatchProduct
from whynet.numerics.signal_sums import add_pushed, pull_signals

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}


def made(name: str, dtype: torch.dtype = torch.float64) -> Objective:
    make, data = NETWORKS[name]
    inputs = data()
    given = inputs.to(dtype) if inputs.is_floating_point() else inputs
    net = filled(make(), dtype).eval()
    if name == "series":
        return objective(net, given, normal(ROWS, 8, seed=3, dtype=dtype), squared, cuts=(4,))
    return objective(net, given, labels(ROWS, 3), cross_entropy, cuts=(4,))


def operator(
    of: Objective, *, plan: Plan | None = None, signals: bool | None = None, **options: int
) -> CurvatureOperator:
    plan = plan or planned(of)
    way = plan.gauss_newton
    assert not isinstance(way, NotApplicable), way.reason
    chosen = way if signals is None else replace(way, signals=signals)
    found = gauss_newton(of, plan, way=chosen, **options)
    assert not isinstance(found, NotApplicable)
    return found


def miss(found: Tensor, wanted: Tensor) -> float:
    return float((found.double() - wanted.double()).norm() / wanted.double().norm())


@pytest.mark.parametrize("name", NETWORKS)
def test_pushed_and_pulled_as_by_the_dense_jacobian(name: str) -> None:
    """Of kernels, tables, scales and shifts; tied, transposed, grouped, several places a row."""
    of = made(name)
    inputs, _ = next(iter(of.batches()))
    names, rows = tuple(of.parameters), len(inputs)

    def outputs(values: tuple[Tensor, ...]) -> Tensor:
        return of.forward(dict(zip(names, values, strict=True)), inputs).reshape(rows, -1)

    point = tuple(of.parameters.values())
    with exact_kernels():
        parts = torch.func.jacrev(outputs, chunk_size=1)(point)
    jacobian = torch.cat([part.flatten(2) for part in parts], dim=2)
    if name == "tokens":
        assert (inputs == 2).any()
        assert jacobian[:, :, 8:12].abs().max() == 0, "the padding row is held fixed"
    plan = plan_signals(of, inputs)
    assert plan is not None
    assert plan.linked
    assert plan.written or name == "series"
    stored = store_signals(of, plan, inputs)
    assert stored is not None
    for count in (1, 2, 7):
        vectors = tuple(normal(count, *p.shape, seed=i) for i, p in enumerate(point))
        flat = torch.cat([v.flatten(1) for v in vectors], dim=1)
        weights = normal(count, *stored.outputs.shape, seed=9)
        pulled = torch.cat([v.flatten(1) for v in stored.pull(weights)], dim=1)
        pushed = stored.push(vectors).flatten(2) if name == "series" else stored.push(vectors)
        assert miss(pushed, torch.einsum("ncp,kp->knc", jacobian, flat)) < 1e-13
        wanted = torch.einsum("ncp,knc->kp", jacobian, weights.reshape(count, rows, -1))
        assert miss(pulled, wanted) < 1e-13


@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("name", NETWORKS)
def test_both_ways_give_the_same_product(name: str, dtype: torch.dtype) -> None:
    of = made(name, dtype)
    plan = planned(of)
    plain = operator(of, plan=plan, signals=False)
    columns = normal(plain.size, 20, seed=4, dtype=dtype)
    wanted = plain.matmat(columns)
    assert not plain._batches.stored
    for kept in (None, 0, 1, 9):
        ours = operator(of, plan=plan, kept=kept)
        assert miss(ours.matmat(columns), wanted) < TOLERANCE[dtype]
        assert miss(ours.matvec(columns[:, 0]), wanted[:, 0]) < TOLERANCE[dtype]
        assert len(ours._batches.stored) == (2 if kept is None else min(kept, 2))


def kinds(batches: KeptBatches[BatchProduct], columns: int) -> list[str]:
    return [batches._choice(i, columns) for i in range(2)]


def test_signals_are_stored_once_as_many_vectors_would_have_paid_for_it() -> None:
    of = made("frames")
    inputs, _ = next(iter(of.batches()))
    plan = plan_signals(of, inputs)
    assert plan is not None
    first = first_columns(plan)
    assert 3 < first < 9
    ours = operator(of)
    for already in range(1, 12):
        ours.matvec(torch.ones(ours.size).double())
        assert bool(ours._batches.stored) == (already >= first)
        assert bool(ours._batches.graphs) == (already < first), "one or the other is kept"
    together = operator(of)
    together.matmat(torch.ones(together.size, 9).double())
    assert len(together._batches.stored) == 2
    asked = operator(of, kept=2)
    asked.matvec(torch.ones(asked.size).double())
    assert len(asked._batches.stored) == 2, "to keep batches was asked for"


def test_signals_that_do_not_fit_are_stored_for_one_call_of_many_vectors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    of = made("frames")
    wanted = operator(of).matmat(torch.ones(operator(of).size, 9).double())
    monkeypatch.setattr(kept_batches, "KEPT_BYTES", 0)
    row = 8 * (found.numbers if (found := plan_signals(of, normal(ROWS, 2, 2, 8, 8))) else 0)
    monkeypatch.setattr(signal_products, "BLOCK_BYTES", row)
    monkeypatch.setattr(signal_products, "CHANGE_BYTES", 0)
    ours = operator(of)
    assert miss(ours.matmat(torch.ones(ours.size, 9).double()), wanted) < 1e-13
    assert not ours._batches.stored
    assert kinds(ours._batches, 9) == ["signals", "signals"]
    assert kinds(ours._batches, 1) == ["keep", "pass"]


def test_they_are_taken_where_they_pay_by_shapes() -> None:
    """Wide layers and few outputs: yes; as many outputs as a vocabulary has: no."""

    def mlp(width: int, outputs: int) -> Objective:
        net = nn.Sequential(nn.Linear(8, width), nn.Tanh(), nn.Linear(width, outputs))
        return objective(filled(net), normal(6, 8), normal(6, outputs), squared)

    def plan(width: int, outputs: int) -> SignalPlan:
        of = mlp(width, outputs)
        found = plan_signals(of, normal(6, 8))
        assert found is not None
        return found

    assert [saving(plan(128, outputs)) > 0 for outputs in (1, 10, 400)] == [True, True, False]
    assert first_columns(plan(128, 400)) == float("inf")
    assert preparation(plan(128, 20)) > preparation(plan(128, 10))
    few, many = (planned(mlp(128, outputs)).gauss_newton for outputs in (10, 400))
    assert not isinstance(few, NotApplicable)
    assert not isinstance(many, NotApplicable)
    assert few.signals
    assert not many.signals


def test_they_are_tried_on_rows_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    of = made("frames")
    plan = plan_signals(of, normal(ROWS, 2, 2, 8, 8))
    assert plan is not None
    for rows, wanted in ((2.5, True), (0.5, False)):
        monkeypatch.setattr(signal_products, "BLOCK_BYTES", int(rows * 8 * plan.numbers))
        way = planned(of).gauss_newton
        assert not isinstance(way, NotApplicable)
        assert way.signals is wanted


def test_uses_that_are_not_known_and_rows_that_hang_together_are_differentiated() -> None:
    class Known(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(4, 5)
            self.odd = nn.Parameter(torch.zeros(5))

        def forward(self, x: Tensor) -> Tensor:
            return torch.atan2(self.inner(x), self.odd)

    of = objective(filled(Known()), normal(8, 4), normal(8, 5), squared)
    assert plan_signals(of, normal(8, 4)) is None
    together = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 2))
    module = in_training_mode(filled(together))
    mixed = objective(module, normal(8, 4), normal(8, 2), squared)
    for one in (of, mixed, replace(mixed, separable=False)):
        way = planned(one).gauss_newton
        assert not isinstance(way, NotApplicable)
        assert not way.signals


class Started(nn.Module):
    """A recurrent layer, plain, from a trained state, on packed rows, or with less shown."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.layer = nn.LSTM(3, 4, proj_size=2) if kind == "projected" else nn.GRU(3, 4)
        if kind == "state":
            self.state = nn.Parameter(torch.zeros(1, 1, 4))

    def forward(self, series: Tensor) -> Tensor:
        steps = series.transpose(0, 1)
        if self.kind == "state":
            start = self.state.expand(1, len(series), 4)
            return self.layer(steps, start)[0][-1]
        if self.kind == "packed":
            lengths = torch.full((len(series),), len(steps))
            packed = nn.utils.rnn.pack_padded_sequence(steps, lengths)
            return self.layer(packed)[1][0]
        return self.layer(steps)[0][-1]


@pytest.mark.parametrize("kind", ["plain", "state", "packed", "projected"])
def test_recurrent_layers_that_are_called_otherwise(kind: str) -> None:
    of = objective(filled(Started(kind)), normal(5, 4, 3), normal(5, 1), squared)
    assert (plan_signals(of, normal(5, 4, 3)) is not None) is (kind == "plain")


class Bent(nn.Module):
    """Uses its second layer only where a row of the batch is large."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 6)
        self.second = nn.Linear(6, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x).tanh()
        if x.abs().max() > 2:
            hidden = self.second(hidden).tanh()
        return self.head(hidden)


def test_rows_on_which_parameters_are_used_otherwise_are_differentiated() -> None:
    inputs = normal(30, 4).clamp(-1, 1)
    inputs[-1] = 3.0
    of = objective(filled(Bent()), inputs, labels(30, 3), cross_entropy, cuts=(20,))
    ours, plain = operator(of), operator(of, signals=False)
    columns = normal(ours.size, 30)
    assert miss(ours.matmat(columns), plain.matmat(columns)) < 1e-12
    assert len(ours._batches.stored) == 2
    assert ours._batches.stored[0][0][1].most is not None
    assert ours._batches.stored[1][0][1].most is None


def test_without_memory_for_signals_the_graphs_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    of = small_objective(cuts=(10,))
    wanted = operator(of, signals=False).matmat(torch.ones(43, 9).double())

    def never(*given: object) -> object:
        raise MemoryError

    monkeypatch.setattr(signal_products, "store_signals", never)
    ours = operator(of, signals=True)
    assert miss(ours.matmat(torch.ones(43, 9).double()), wanted) < 1e-13
    assert ours.notes
    assert ours._batches.signals is None


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("threads", [1, 3])
def test_compiled_sums(dtype: str, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("whynet.numerics.shared_rows.SHARED", 100)
    generator = np.random.default_rng(0)
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    for outputs, count in ((1, 1), (3, 4), (4, 7), (10, 8)):
        signals = generator.normal(size=(5, 3, outputs, 11)).astype(dtype)
        changes = generator.normal(size=(5, 3, count, 11)).astype(dtype)
        weights = generator.normal(size=(5, outputs, count)).astype(dtype)
        total, found = weights.astype("float64"), np.empty_like(changes)
        add_pushed(signals, changes, total, threads)
        pull_signals(signals, weights, found, threads)
        wanted = weights + np.einsum("ntcu,ntku->nck", signals, changes)
        assert np.allclose(total, wanted, rtol=tolerance, atol=10 * tolerance)
        wanted = np.einsum("ntcu,nck->ntku", signals, weights)
        assert np.allclose(found, wanted, rtol=tolerance, atol=10 * tolerance)
