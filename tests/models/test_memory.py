"""The batch that a memory affords."""

from __future__ import annotations

import pytest
import torch
from tests.cases import CASES
from torch import nn

from whynet.core.errors import InputError
from whynet.models import memory
from whynet.models.memory import PASSES, affordable_batch, bytes_per_row, usual_batch
from whynet.models.preservation import fingerprint
from whynet.models.subject import Subject


def wide(batch_size: int = 512, width: int = 1000) -> Subject:
    module = nn.Sequential(nn.Linear(10, width), nn.Tanh(), nn.Linear(width, 2))
    data = (torch.randn(64, 10), torch.arange(64) % 2)
    return Subject(module, train=data, batch_size=batch_size)


def test_a_row_holds_what_autograd_keeps() -> None:
    """Tanh keeps its output, the second layer its input (the same numbers), the first its own."""
    row = bytes_per_row(wide())
    assert 4 * 1000 <= row <= 4 * (2 * 1000 + 10 + 2) + 64
    assert bytes_per_row(wide(width=2000)) == pytest.approx(2 * row, rel=0.1)
    assert bytes_per_row(wide().in_precision(torch.float64)) == pytest.approx(2 * row, rel=0.1)


def test_more_memory_affords_more_rows_up_to_the_batch_size() -> None:
    subject = wide()
    sizes = [affordable_batch(subject, amount * 2**16) for amount in range(5, 200, 5)]
    assert sizes == sorted(sizes)
    assert 1 <= sizes[0] < sizes[5]
    assert sizes[-1] == 512
    assert affordable_batch(wide(batch_size=3), 2**30) == 3


def test_a_row_more_needs_the_bytes_of_a_row() -> None:
    subject = wide()
    row = PASSES * bytes_per_row(subject)
    start = affordable_batch(subject, 2**20)
    assert affordable_batch(subject, 2**20 + row) == start + 1
    assert affordable_batch(subject, 2**20 - row) == start - 1


def test_the_usual_batch_is_the_subjects_own_or_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = wide()
    assert usual_batch(subject) == 512
    bound = 100 * PASSES * bytes_per_row(subject)
    monkeypatch.setattr(memory, "USUAL", bound)
    assert 80 <= usual_batch(subject) == affordable_batch(subject, bound) < 100
    monkeypatch.setattr(memory, "USUAL", 1)
    assert usual_batch(subject) == 1


def test_the_weights_of_every_pass_are_counted() -> None:
    subject = wide()
    weights = 4 * (10 * 1000 + 1000 + 1000 * 2 + 2)
    least = PASSES * (weights + bytes_per_row(subject))
    assert affordable_batch(subject, least) == 1
    with pytest.raises(InputError):
        affordable_batch(subject, least - 1)


def test_too_little_is_refused_with_what_is_needed() -> None:
    with pytest.raises(InputError) as caught:
        affordable_batch(wide(), 2**12)
    assert caught.value.argument == "--memory"
    needed = float(caught.value.wanted.split(" MiB")[0].removeprefix("at least "))
    assert affordable_batch(wide(), int((needed + 0.06) * 2**20)) >= 1


@pytest.mark.parametrize("case", ["masked-tokens", "tokens", "dict-output", "lstm", "batch-norm"])
def test_every_kind_of_input_has_a_size_and_is_left_alone(case: str) -> None:
    subject = CASES[case].subject()
    before = fingerprint(subject.module)
    assert bytes_per_row(subject) > 0
    assert fingerprint(subject.module) == before
