"""Pieces of networks whose kinks are known by construction."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.cases import CASES
from torch import nn

from whynet.concepts.measuring import measure
from whynet.core.measurement import Measurement
from whynet.core.outcome import NotApplicable
from whynet.models.subject import Subject

KINKS = (-0.5, 0.0, 0.25, 0.75)
PIECES = "segment-pieces"


def hinges(heights: tuple[float, ...] = (1.0, -2.0, 1.5, 3.0)) -> nn.Sequential:
    hidden, last = nn.Linear(1, len(KINKS)), nn.Linear(len(KINKS), 1)
    with torch.no_grad():
        hidden.weight.fill_(1.0)
        hidden.bias.copy_(-torch.tensor(KINKS))
        last.weight.copy_(torch.tensor(heights)[None])
        last.bias.fill_(0.5)
    return nn.Sequential(hidden, nn.ReLU(), last)


def between(*places: float, labels: list[float] | None = None) -> tuple[torch.Tensor, ...]:
    return torch.tensor(places)[:, None], torch.tensor(labels or [0.0] * len(places))


def taken(subject: Subject, seed: int = 0) -> Measurement:
    found = measure(PIECES, subject, seed=seed)
    assert isinstance(found, Measurement), found
    return found


@pytest.mark.parametrize(
    ("ends", "pieces"), [((-1.0, 1.0), 5), ((-0.4, 0.1), 2), ((0.3, 0.7), 1), ((0.1, 0.9), 3)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["f32", "f64"])
def test_known_kinks_are_counted(
    ends: tuple[float, float], pieces: int, dtype: torch.dtype
) -> None:
    found = taken(Subject(hinges(), test=between(*ends), loss="mse", dtype=dtype))
    assert found.estimate("pieces", pair="any").value == pieces
    assert found.estimate("output_pieces", pair="any").value == pieces
    assert found.estimate("length", pair="any").value == pytest.approx(ends[1] - ends[0])


def test_the_profile_bends_where_the_units_switch() -> None:
    found = taken(Subject(hinges(), test=between(-1.0, 1.0), loss="mse"))
    position, curve = found.dataset["position"].values, found.values("profile")
    kinks = 2 * position[1:-1] - 1
    wanted = np.sort(np.array(KINKS) * (1 if position[1] * 2 - 1 < -0.4 else -1))
    np.testing.assert_allclose(kinks, wanted, atol=1e-9)
    places = torch.tensor(2 * position - 1) * (1 if wanted[0] == KINKS[0] else -1)
    with torch.no_grad():
        outputs = hinges().double()(places.double()[:, None])[:, 0].numpy()
    np.testing.assert_allclose(curve, outputs, atol=1e-9)


def test_a_unit_that_is_not_read_adds_no_piece_to_the_output() -> None:
    module = hinges((1.0, 0.0, 1.5, 3.0))
    found = taken(Subject(module, test=between(-1.0, 1.0), loss="mse"))
    assert found.estimate("pieces", pair="any").value == 5
    assert found.estimate("output_pieces", pair="any").value == 4


def test_class_changes_are_the_zeros_of_the_logit() -> None:
    """A tent: negative at both ends and positive between them, two changes of the class."""
    hidden, last = nn.Linear(1, 3), nn.Linear(3, 1)
    with torch.no_grad():
        hidden.weight.fill_(1.0)
        hidden.bias.copy_(torch.tensor([1.0, 0.0, -1.0]))
        last.weight.copy_(torch.tensor([[1.0, -2.0, 1.0]]))
        last.bias.fill_(-0.5)
    module = nn.Sequential(hidden, nn.ReLU(), last)
    outside = torch.cat([-2 - torch.rand(40), 2 + torch.rand(40)])[:, None]
    inside = 0.2 * torch.rand(40, 1)
    labels = torch.cat([torch.zeros(80), torch.ones(40)])
    data = (torch.cat([outside, inside]), labels)
    found = taken(Subject(module, test=data, loss="bce"))
    assert found.estimate("class_changes", pair="different classes").value == 1
    same = found.estimate("class_changes", pair="same class").value
    leaves = found.estimate("leaves_class")
    assert 0 < same < 2
    assert leaves.kind == "certified"
    assert leaves.value == pytest.approx(same / 2)  # a segment through the tent changes twice


def test_few_rows_of_two_classes_still_have_segments() -> None:
    """No pair of different classes may be drawn from so few rows; nothing may break."""
    data = (torch.linspace(-1, 1, 6)[:, None], torch.tensor([0.0, 1.0, 0.0, 0.0, 1.0, 1.0]))
    for seed in range(20):
        found = taken(Subject(hinges(), test=data, loss="bce"), seed)
        assert set(found.dataset["pair"].values) <= {"same class", "different classes", "any"}


def test_pairs_are_of_the_classes_they_say() -> None:
    from whynet.concepts.regions.instruments import segment_pieces

    subject = CASES["relu-mlp"].subject()
    state = segment_pieces.start(subject, 0)
    assert not isinstance(state, NotApplicable)
    assert state.labels is not None
    drawn = segment_pieces._pairs(state, np.random.default_rng(0))
    for kind, same in (("same class", True), ("different classes", False)):
        rows = drawn[kind]
        assert len(rows) > 2
        assert ((state.labels[rows[:, 0]] == state.labels[rows[:, 1]]) == same).all()
    every = np.concatenate([*drawn.values()]).reshape(-1)
    assert len(np.unique(every)) == len(every)  # disjoint, hence independent


@pytest.mark.parametrize(
    ("case", "word"), [("tanh-mlp", "piecewise linear"), ("tokens", "tokens or structured")]
)
def test_where_it_does_not_apply(case: str, word: str) -> None:
    found = measure(PIECES, CASES[case].subject())
    assert isinstance(found, NotApplicable)
    assert word in found.reason or "tanh" in found.reason.lower()


def test_one_example_has_no_segment() -> None:
    found = measure(PIECES, Subject(hinges(), test=between(0.5), loss="mse"))
    assert isinstance(found, NotApplicable)
    assert "two examples" in found.reason


def test_equal_examples_have_no_segment() -> None:
    found = measure(PIECES, Subject(hinges(), test=between(0.5, 0.5, 0.5), loss="mse"))
    assert isinstance(found, NotApplicable)
    assert "same input" in found.reason


def test_the_only_pair_of_different_inputs_is_found() -> None:
    places = [0.5] * 9 + [-1.0]
    for labels, loss in (([0.0] * 10, "mse"), ([0.0] * 9 + [1.0], "bce")):
        data = between(*places, labels=labels)
        found = taken(Subject(hinges(), test=data, loss=loss))
        assert found.values("length").tolist() == [pytest.approx(1.5)]


def test_rows_that_are_not_scored_have_no_class() -> None:
    case = CASES["relu-mlp"]
    inputs, labels = case.test
    kept = labels.clone()
    kept[:4] = -100
    found = taken(case.subject(test=(inputs, kept)))
    assert list(found.dataset["pair"].values) == ["same class", "different classes"]
