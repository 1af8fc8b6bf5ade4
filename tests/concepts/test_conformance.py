"""Instruments and field tests hold what `whynet.testing.conformance` asks, on every network."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
import torch
from tests.cases import CASES
from torch import nn

from whynet.concepts.registry import instruments, load_instrument, load_measurer, measurers
from whynet.core.instrument import InstrumentModule
from whynet.core.measurement import Measurement
from whynet.models.subject import Subject
from whynet.testing import conformance
from whynet.testing.conformance import CHECKS, TOLERANCE, check_metadata, run_once

DTYPES = {"float32": torch.float32, "float64": torch.float64}
AXES: tuple[tuple[str, ...], ...] = (
    tuple(measurers()),
    tuple(CASES),
    tuple(DTYPES),
    tuple(CHECKS),
)
Row = tuple[str, ...]


def all_pairs(axes: tuple[Row, ...]) -> list[Row]:
    """Choose rows such that every pair of values of two axes stands in one of them.

    The two longest axes are crossed; in each row the others take the values that cover most
    pairs still open, ties by how rarely a value was used.
    """
    first, second, *rest = sorted(range(len(axes)), key=lambda axis: -len(axes[axis]))
    opened = {
        (i, a, j, b)
        for i, j in itertools.combinations(range(len(axes)), 2)
        for a in axes[i]
        for b in axes[j]
    }
    rows: list[Row] = []
    uses: dict[tuple[int, str], int] = {}
    for one, two in itertools.product(axes[first], axes[second]):
        best: Row = ()
        score: tuple[int, int] = (-1, 0)
        for others in itertools.product(*(axes[axis] for axis in rest)):
            chosen = {first: one, second: two, **dict(zip(rest, others, strict=True))}
            row = tuple(chosen[axis] for axis in range(len(axes)))
            fresh = len(pairs(row) & opened)
            used = sum(uses.get((axis, row[axis]), 0) for axis in rest)
            if (fresh, -used) > score:
                best, score = row, (fresh, -used)
        opened -= pairs(best)
        for axis in rest:
            uses[axis, best[axis]] = uses.get((axis, best[axis]), 0) + 1
        rows.append(best)
    return rows


def pairs(row: Row) -> set[tuple[int, str, int, str]]:
    return {(i, row[i], j, row[j]) for i, j in itertools.combinations(range(len(row)), 2)}


ROWS = all_pairs(AXES)


def test_every_pair_of_instrument_case_precision_and_check_is_covered() -> None:
    covered = set().union(*(pairs(row) for row in ROWS))
    for i, j in itertools.combinations(range(4), 2):
        for a, b in itertools.product(AXES[i], AXES[j]):
            assert (i, a, j, b) in covered, (a, b)
    assert len(ROWS) == len(AXES[0]) * len(AXES[1])


@pytest.mark.parametrize(("instrument", "case", "precision", "check"), ROWS)
def test_conformance(instrument: str, case: str, precision: str, check: str) -> None:
    def make(dtype: torch.dtype, batch_size: int = 512) -> Subject:
        return known(case, dtype=dtype, batch_size=batch_size)

    CHECKS[check](load_measurer(instrument), make, DTYPES[precision])


def known(case: str, **options: Any) -> Subject:
    """Return a case whose initial weights are known, and its training function where it has one."""
    held = CASES[case]
    return held.subject(initial=held.initial(), trainer=held.trainer(), **options)


@pytest.mark.parametrize("instrument", instruments())
def test_every_instrument_measures_some_case(instrument: str) -> None:
    """So that the conformance rows above see more than refusals."""
    module = load_instrument(instrument)
    for case in ("relu-mlp", "regression", "binary", "tokens"):
        if isinstance(run_once(module, known(case)), Measurement):
            return
    pytest.fail(f"{instrument} refuses every case that has everything")


@pytest.mark.parametrize("instrument", instruments())
def test_metadata(instrument: str) -> None:
    module = load_instrument(instrument)
    assert instruments()[instrument].metadata == module.INSTRUMENT
    check_metadata(module)


def permuted(module: nn.Module) -> nn.Module:
    """Return a copy of a chain of layers with the units of its hidden layers in another order."""
    copied = copy.deepcopy(module)
    chain = [child for child in copied.modules() if isinstance(child, nn.Linear)]
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for layer, following in itertools.pairwise(chain):
            order = torch.randperm(layer.out_features, generator=generator)
            layer.weight.copy_(layer.weight[order])
            layer.bias.copy_(layer.bias[order])
            following.weight.copy_(following.weight[:, order])
    return copied


INVARIANT = [n for n, entry in instruments().items() if entry.metadata.unit_permutation_invariant]


@pytest.mark.parametrize("case", ["relu-mlp", "tanh-mlp", "regression", "binary"])
@pytest.mark.parametrize("instrument", INVARIANT)
def test_the_order_of_hidden_units_moves_nothing(instrument: str, case: str) -> None:
    module = load_instrument(instrument)
    subject = CASES[case].subject(dtype=torch.float64, initial=CASES[case].initial())
    turned = subject.replaced(permuted(subject.module))
    assert not torch.equal(next(turned.module.parameters()), next(subject.module.parameters()))
    first, second = run_once(module, subject), run_once(module, turned)
    assert type(first) is type(second)
    if not isinstance(first, Measurement):
        return
    if instrument in ("hessian-spectrum", "gauss-newton-spectrum"):
        same_spectrum(first, second)
    else:
        conformance._same(first, second, TOLERANCE[torch.float64], "permuting units")


def same_spectrum(first: Measurement, second: Measurement) -> None:
    """Probes are drawn in the basis of the weights, so that only the intervals must meet."""
    for name in ("largest", "smallest", "trace"):
        one, two = first.estimate(name), second.estimate(name)
        assert one.low <= two.high
        assert two.low <= one.high
    norms = first.estimate("gradient_norm").value, second.estimate("gradient_norm").value
    assert norms[0] == pytest.approx(norms[1], rel=1e-9)


class Broken:
    """An instrument that breaks one promise; the suite must say which."""

    INSTRUMENT = instruments()["fit"].metadata

    def __init__(self, fault: str) -> None:
        self.fault = fault
        self.calls = 0
        self.good = load_instrument("fit")

    def start(self, subject: Subject, seed: int) -> object:
        if self.fault == "untouched":
            with torch.no_grad():
                next(subject.module.parameters()).add_(1.0)
        self.calls += 1
        self.batch_size = subject.batch_size
        self.dtype = subject.dtype
        return self.good.start(subject, seed)

    def advance(self, state: object) -> object:
        return self.good.advance(state)

    def read(self, state: object) -> object:
        if self.fault == "answers":
            return 1.0
        moves = {
            "same seed": self.calls,
            "batch split": self.batch_size,
            "precisions": 1 + (self.dtype == torch.float32),
        }
        measured = self.good.read(state)
        dataset = measured.dataset.copy(deep=True)
        if self.fault == "old state":
            moves["old state"] = self.calls
            self.calls += 1
        for name in ("loss", "loss_low", "loss_high"):
            dataset[name] = dataset[name] * moves.get(self.fault, 1)
        return Measurement(dataset)


@pytest.mark.parametrize("fault", CHECKS)
def test_the_suite_catches_an_instrument_that_breaks_a_promise(fault: str) -> None:
    broken: InstrumentModule = Broken(fault)  # type: ignore[assignment]

    def make(dtype: torch.dtype, batch_size: int = 512) -> Subject:
        return CASES["relu-mlp"].subject(dtype=dtype, batch_size=batch_size)

    with pytest.raises(AssertionError):
        CHECKS[fault](broken, make, torch.float32)
