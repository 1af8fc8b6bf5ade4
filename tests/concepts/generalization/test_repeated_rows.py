"""Test rows that were trained on are counted, and said."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from whynet.concepts.generalization.questions import generalization
from whynet.concepts.measuring import measure
from whynet.core.measurement import Measurement
from whynet.core.question import Results
from whynet.models.data.examples import Examples
from whynet.models.data.repeated_rows import fingerprints, seen_rows
from whynet.models.subject import Subject

GENERATOR = np.random.default_rng(0)
ROWS = GENERATOR.standard_normal((3000, 7))


def examples(rows: np.ndarray) -> Examples:
    return Examples.from_arrays(rows, np.arange(len(rows)) % 3)


def test_fingerprints_are_those_of_the_values() -> None:
    plain = fingerprints(examples(ROWS))
    assert len(np.unique(plain)) == 3000
    order = GENERATOR.permutation(3000)
    np.testing.assert_array_equal(fingerprints(examples(ROWS[order])), plain[order])
    single = ROWS.astype(np.float32)
    np.testing.assert_array_equal(
        fingerprints(examples(single)), fingerprints(examples(single.astype(np.float64)))
    )
    zeros = np.zeros((1, 7))
    assert fingerprints(examples(zeros)) == fingerprints(examples(-zeros))


@pytest.mark.parametrize("change", [1e-15, -1.0, 1e300])
def test_the_least_change_of_an_entry_is_another_row(change: float) -> None:
    moved = ROWS[:100].copy()
    moved[:, 3] += change * np.maximum(np.abs(moved[:, 3]), 1.0)
    assert seen_rows(examples(moved), examples(ROWS)) == 0


def test_rows_with_the_same_entries_in_another_place_differ() -> None:
    assert seen_rows(examples(ROWS[:, ::-1].copy()), examples(ROWS)) == 0
    assert seen_rows(examples(np.eye(7)), examples(np.roll(np.eye(7), 1, axis=1)[:6])) == 6


@pytest.mark.parametrize("shared", [0, 1, 40])
def test_they_are_counted_whatever_their_labels_and_a_finding_says_so(shared: int) -> None:
    test = np.concatenate([ROWS[:shared], GENERATOR.standard_normal((100 - shared, 7))])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Linear(7, 3)
    subject = Subject(
        network,
        train=(ROWS.astype(np.float32), np.arange(3000) % 3),
        test=(test.astype(np.float32), np.zeros(100, dtype=np.int64)),
    )
    measured = measure("fit", subject)
    assert isinstance(measured, Measurement)
    assert measured.estimate("seen_test_rows").value == shared
    panel = generalization.ask(Results(subject.facts, {"fit": measured}))
    found = {finding.key: finding for finding in panel.findings}
    assert ("seen_test_rows" in found) == (shared > 0)
    status = {a.text: a.status for a in panel.assumptions}["No test row is a training row"]
    assert status == ("not met" if shared else "met")
    if shared:
        assert found["seen_test_rows"].importance == (0.5 if shared == 1 else 0.96)
