"""Swapped tokens against trying all swaps, and the vectors they are named by."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure as Canvas
from tests.case_networks import MaskedTokens
from tests.cases import CASES
from torch import Tensor, nn

from whynet.concepts.measuring import measure
from whynet.concepts.robustness.instruments.input_gradient import nearest_token
from whynet.concepts.robustness.instruments.token_swaps import swappable
from whynet.concepts.robustness.questions import sensitivity
from whynet.core.measurement import Measurement
from whynet.core.outcome import NotApplicable
from whynet.core.question import Panel, Results
from whynet.models.subject import Subject
from whynet.models.token_vectors import TokenVectors, token_vectors
from whynet.testing.token_forms import Bag

DTYPES = [torch.float32, torch.float64]


def bag(votes: list[float], bias: float = 0.0) -> Bag:
    """Each token votes with its number; the sign of the sum is the answer."""
    return Bag(np.array(votes)[:, None], np.ones(1), bias)


def measured(subject: Subject, name: str = "token-swaps") -> Measurement:
    found = measure(name, subject)
    assert isinstance(found, Measurement)
    return found


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["tokens", "masked-tokens"])
def test_no_swap_is_worse_than_the_worst_of_all(name: str, dtype: torch.dtype) -> None:
    """A row that falls falls to some swap of one token that counts; others are left alone."""
    subject = CASES[name].subject(dtype)
    found = measured(subject)
    inputs, labels = CASES[name].test
    tokens = inputs["tokens"] if isinstance(inputs, dict) else inputs
    counted = inputs["mask"] if isinstance(inputs, dict) else torch.ones_like(tokens).bool()

    def right(swapped: Tensor) -> Tensor:
        batch = {**inputs, "tokens": swapped} if isinstance(inputs, dict) else swapped
        return subject.forward(subject.parameters, batch).argmax(1) == labels

    clean = right(tokens)
    stands = clean.clone()
    for place in range(tokens.shape[1]):
        for token in range(7):
            swapped = tokens.clone()
            swapped[:, place] = torch.where(counted[:, place], token, swapped[:, place])
            stands &= right(swapped)
    assert found.estimate("accuracy").value == pytest.approx(float(clean.double().mean()))
    least = float(stands.double().mean())
    value = found.estimate("swapped_accuracy").value
    assert least <= value <= found.estimate("random_accuracy").value
    assert value <= least + 0.1  # which the gradient finds nearly all of


def test_marks_of_the_two_ends_and_padding_are_left_alone() -> None:
    """Token 5 opens and 6 closes each row, 0 fills up; they alone decide, and cannot be swapped."""
    draw = np.random.default_rng(0)
    rows = np.zeros((60, 8), dtype=np.int64)
    for i, length in enumerate(draw.integers(3, 8, 60)):
        rows[i, : length + 1] = [5, *draw.integers(1, 5, length - 1), 6]
    tokens = torch.tensor(rows)
    mask = tokens > 0
    module = MaskedTokens()
    data = ({"tokens": tokens, "mask": mask}, torch.zeros(60, dtype=torch.long))
    subject = Subject(module, train=data, test=data)
    vocabulary, fixed = swappable(subject)
    assert vocabulary.tolist() == [1, 2, 3, 4]
    assert fixed.tolist() == [5, 6]
    assert any("left alone (2)" in note for note in measured(subject).notes)


def test_rows_without_a_token_to_swap_stand() -> None:
    tokens = torch.tensor([[5, 6], [5, 6], [1, 5], [2, 5]])  # 5 stands once in each row
    data = (tokens, torch.tensor([1.0, 1.0, 1.0, 0.0]))
    votes = [0.0, 1.0, -1.0, 0.0, 0.0, 0.5, 0.0]
    found = measured(Subject(bag(votes), train=data, test=data, loss="bce"))
    assert found.estimate("accuracy").value == 1
    assert found.estimate("swapped_accuracy").value == 0  # each can be told to be the other


@pytest.mark.parametrize("dtype", DTYPES)
def test_vectors_stand_for_their_tokens(dtype: torch.dtype) -> None:
    subject = CASES["masked-tokens"].subject(dtype)
    held = token_vectors(subject)
    assert isinstance(held, TokenVectors)
    inputs, _ = next(subject.batches("test"))
    vectors, forward = held.of(subject, inputs)
    assert torch.equal(forward(vectors), subject.forward(subject.parameters, inputs))
    moved = vectors.clone()
    moved[~inputs["mask"]] += 1  # what the mask leaves out is no input
    assert torch.equal(forward(moved), forward(vectors))
    x = vectors.requires_grad_()
    (slope,) = torch.autograd.grad(forward(x)[:, 0].sum(), x)
    step = torch.randn_like(vectors) * (1e-3 if dtype == torch.float32 else 1e-6)
    change = (forward(vectors.detach() + step) - forward(vectors.detach() - step))[:, 0].sum() / 2
    assert float((slope * step).sum().detach()) == pytest.approx(float(change.detach()), rel=2e-2)
    assert not held.layer._forward_hooks


class Twice(nn.Module):
    """Two tables read the same tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Embedding(7, 3), nn.Embedding(7, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        return (self.one(tokens) + self.two(tokens)).sum(1)


def test_what_has_no_tokens_to_swap_says_so() -> None:
    sequence = measure("token-swaps", CASES["sequence"].subject())
    assert isinstance(sequence, NotApplicable)
    assert "more than one label" in sequence.reason
    numbers = measure("token-swaps", CASES["relu-mlp"].subject())
    assert isinstance(numbers, NotApplicable)
    assert "no embedding layer" in numbers.reason
    data = CASES["tokens"].test
    subject = Subject(Twice(), test=data)
    assert "movable-inputs" not in subject.tags
    assert isinstance(token_vectors(subject), NotApplicable)
    assert "read by 2" in token_vectors(subject).reason


@pytest.mark.parametrize("dtype", DTYPES)
def test_distances_of_a_bag_in_vectors(dtype: torch.dtype) -> None:
    """The score is a sum over T vectors of w'e: its gradient has the norm |w| sqrt(T)."""
    draw = np.random.default_rng(1)
    drawn = draw.standard_normal((10, 3)).astype(np.float32).astype(float)
    vectors, weight = drawn[:9], drawn[9]
    tokens = torch.tensor(draw.integers(9, size=(41, 5)))
    score = (vectors @ weight)[tokens.numpy()].sum(1)
    data = (tokens, torch.tensor((score > 0).astype(float)))
    subject = Subject(Bag(vectors, weight, 0.0), test=data, loss="bce", dtype=dtype)
    found = measured(subject, "input-gradient")
    reach = np.linalg.norm(weight) * np.sqrt(5)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    assert found.estimate("margin_gradient", norm="l2").value == pytest.approx(reach, rel=tolerance)
    wanted = np.median(np.abs(score)) / reach
    assert found.estimate("distance", change="l2").value == pytest.approx(wanted, rel=tolerance)
    seen = np.unique(tokens.numpy())
    gaps = np.linalg.norm(vectors[seen][:, None] - vectors[None], axis=2)
    gaps[np.arange(len(seen)), seen] = np.inf
    nearest = np.sort(gaps.min(1))[(len(seen) - 1) // 2]
    assert found.estimate("token_distance").value == pytest.approx(nearest, rel=tolerance)
    held = token_vectors(subject)
    assert isinstance(held, TokenVectors)
    assert nearest_token(subject, held.table) == pytest.approx(nearest, rel=tolerance)


def asked(votes: list[float], rows: int = 200, positions: int = 9, seed: int = 0) -> Panel:
    tokens = torch.tensor(np.random.default_rng(seed).integers(len(votes), size=(rows, positions)))
    labels = (torch.tensor(votes)[tokens].sum(1) > 0).float()
    return panel_of(bag(votes), (tokens, labels))


def panel_of(module: nn.Module, data: tuple[Tensor, Tensor]) -> Panel:
    subject = Subject(module, train=data, test=data, loss="bce")
    found = {name: measured(subject, name) for name in ("token-swaps", "input-gradient")}
    panel = sensitivity.ask(Results(subject.facts, found, {}))
    for figure in panel.figures:
        canvas = Canvas(figsize=(7, figure.height), layout="constrained")
        figure.draw(canvas)
        canvas.draw_without_rendering()
    return panel


def test_one_loud_token_decides() -> None:
    """One token of forty outvotes all others: rarely drawn at random, always found."""
    panel = asked([100.0, *np.linspace(-1.5, -0.5, 39)])
    (finding,) = panel.findings
    assert finding.key == "one_token_decides"
    assert finding.estimate.value < 0.3
    assert finding.references[0].name == "random swaps"
    assert finding.references[0].low > finding.estimate.high
    assert len(panel.tables) == 2
    assert panel.tables[1].rows[-1][0] == "distance of a token from the nearest other"


def test_many_equal_votes_withstand_a_swap() -> None:
    votes = [-1.0, 1.0]
    tokens = torch.tensor(np.random.default_rng(2).random((200, 101)) < 0.5).long()
    tokens[:100] = (torch.rand(100, 101, generator=torch.Generator().manual_seed(0)) < 0.7).long()
    tokens[100:] = (torch.rand(100, 101, generator=torch.Generator().manual_seed(1)) < 0.3).long()
    labels = (torch.tensor(votes)[tokens].sum(1) > 0).float()
    (finding,) = panel_of(bag(votes), (tokens, labels)).findings
    assert finding.key == "withstands_swaps"


def test_a_useless_network_gets_no_sentence() -> None:
    tokens = torch.tensor(np.random.default_rng(3).integers(6, size=(200, 5)))
    labels = (torch.rand(200, generator=torch.Generator().manual_seed(2)) < 0.5).float()
    panel = panel_of(bag([1.0, -1.0, 0.5, -0.5, 0.2, -0.2]), (tokens, labels))
    assert panel.findings == ()
    assert "nothing to fool" in panel.lead
