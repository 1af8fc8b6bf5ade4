"""Unlike networks get unlike findings, in another order; an untrained one gets no praise."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import Tensor, nn

import whynet
from whynet.core.question import Finding
from whynet.models.subject import Subject

Data = tuple[Tensor, Tensor]
PRAISE = (
    "It generalizes, and better than cheap models do.",
    "It generalizes, and it fits the training data much better than unseen ones.",
    "It withstands the attacks that were tried.",
    "It did more than its initial kernel can.",
    "Its training data alone guarantee that a noisy copy of it generalizes.",
)
ASKED = ("generalization", "calibration", "curvature")


def network(features: int, width: int = 48, classes: int = 2) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(features + width)
        return nn.Sequential(
            nn.Linear(features, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
            nn.Linear(width, classes),
        )  # fmt: skip


def trained(
    module: nn.Module, data: Data, steps: int, rate: float = 0.01, decay: float = 0.0
) -> nn.Module:
    optimizer = torch.optim.AdamW(module.parameters(), lr=rate, weight_decay=decay)
    with torch.enable_grad():
        for _ in range(steps):
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(data[0]), data[1]).backward()
            optimizer.step()
    return module.eval()


def parity(rows: int, seed: int, noise: int = 4) -> Data:
    """The sign of the product of two entries among others: no linear model learns it."""
    x = torch.randn(rows, 2 + noise, generator=torch.Generator().manual_seed(seed))
    return x, (x[:, 0] * x[:, 1] > 0).long()


def halves(rows: int, seed: int, flips: float = 0.0) -> Data:
    """Two classes on either side of a plane in 10 dimensions, some labels flipped."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 10, generator=generator)
    labels = (x.sum(1) > 0).long()
    flipped = torch.rand(rows, generator=generator) < flips
    return x, torch.where(flipped, 1 - labels, labels)


def headlines(subject: Subject, *only: str) -> list[str]:
    report = whynet.examine(subject, only=only or ASKED).report
    assert not report.failed
    importance = [finding.importance for finding in report.findings]
    assert importance == sorted(importance, reverse=True)
    return [finding.headline for finding in report.findings]


def found(subject: Subject, key: str, *only: str) -> Finding | None:
    report = whynet.examine(subject, only=only or ASKED).report
    return next((finding for finding in report.findings if finding.key == key), None)


@cache
def learned_parity() -> Subject:
    train, test = parity(3000, 0), parity(1000, 1)
    module = trained(network(6), train, steps=250, decay=0.1)
    return Subject(module, train=train, test=test, initial=network(6))


@cache
def memorized_noise() -> Subject:
    """The same inputs, network and optimizer; the labels are random."""
    (x, y), (u, v) = parity(300, 0), parity(1000, 1)
    generator = torch.Generator().manual_seed(5)
    train = x, torch.randint(2, y.shape, generator=generator)
    module = trained(network(6), train, steps=400)
    return Subject(module, train=train, test=(u, torch.randint(2, v.shape, generator=generator)))


@cache
def overfit() -> Subject:
    """Too few rows with flipped labels, fitted without an error."""
    train = halves(120, 0, flips=0.15)
    return Subject(
        trained(network(10), train, steps=400), train=train, test=halves(1000, 1, flips=0.15)
    )


@cache
def linear_enough() -> Subject:
    train = halves(3000, 0, flips=0.1)
    module = trained(nn.Sequential(nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, 2)), train, 150, 0.02)
    return Subject(module, train=train, test=halves(1000, 1, flips=0.1))


@cache
def untrained() -> Subject:
    return Subject(network(6), train=parity(3000, 0), test=parity(1000, 1))


def test_true_and_random_labels() -> None:
    true, random = headlines(learned_parity()), headlines(memorized_noise())
    assert "It generalizes, and better than cheap models do." in true
    assert random[0] == "It memorized the training data and learned nothing that carries over."
    assert not set(random) & set(PRAISE)
    assert true != random


def test_a_learned_parity_beats_linear_model_and_neighbors() -> None:
    finding = found(learned_parity(), "generalization", "generalization", "baselines", "fit")
    assert finding is not None
    assert {r.name for r in finding.references} >= {"linear model", "nearest neighbor"}
    assert all(finding.estimate.low > r.high for r in finding.references)


def test_overfitting_is_called_so() -> None:
    over, fine = headlines(overfit()), headlines(linear_enough())
    assert over[0] == "A linear model does better."
    assert not set(over) & set(PRAISE)
    assert over != fine


def test_overfitting_without_a_better_model_in_sight() -> None:
    """The same on so few test rows that the linear model's lead is not resolved."""
    train = halves(250, 0, flips=0.15)
    module = trained(network(10), train, steps=400)
    subject = Subject(module, train=train, test=halves(100, 1, flips=0.15))
    assert headlines(subject, "generalization")[0] == (
        "It overfits: what it gained on the training data it does not keep on unseen ones."
    )


def test_a_task_that_a_linear_model_solves_earns_the_network_no_praise() -> None:
    sentences = headlines(linear_enough(), "generalization", "fit", "baselines")
    assert sentences[0] in (
        "It is not clearly better than a linear model on these data.",
        "A linear model does better.",
    )  # fmt: skip


def test_an_untrained_network_gets_no_praise() -> None:
    sentences = headlines(untrained(), *ASKED, "sensitivity", "condensation", "pieces")
    assert sentences[0] == "It has not learned anything that carries over to unseen data."
    assert not set(sentences) & set(PRAISE)
    assert not any("generalizes" in sentence for sentence in sentences)


def test_temperature_turns_the_finding_around() -> None:
    """A linear network at its true temperature, and with its logits multiplied and divided."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(2000, 10, generator=generator)
    logits = torch.stack([torch.zeros(2000), 1.5 * x.sum(1) / 10**0.5], dim=1)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]

    def scaled(by: float) -> Subject:
        module = nn.Linear(10, 2, bias=False)
        with torch.no_grad():
            module.weight.zero_()[1] = by * 1.5 / 10**0.5
        return Subject(module, test=(x, labels))

    sentences = {by: headlines(scaled(by), "calibration", "fit") for by in (0.3, 1.0, 3.0)}
    own = {
        "It is overconfident.",
        "It is less sure than it could be.",
        "Where it is sure, it is wrong more often than it says.",
    }
    assert [s for s in sentences[3.0] if s in own] == [
        "It is overconfident.",
        "Where it is sure, it is wrong more often than it says.",
    ]
    assert [s for s in sentences[0.3] if s in own] == ["It is less sure than it could be."]
    assert not set(sentences[1.0]) & own
    finding = found(scaled(3.0), "calibration", "calibration")
    assert finding is not None
    assert finding.estimate.low <= 3.0 <= finding.estimate.high


def test_overconfidence_makes_an_order_of_its_own() -> None:
    """The same decisions, with logits ten times as large: one sentence more, before others."""
    base = linear_enough()
    module = nn.Sequential(base.module, nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        module[1].weight.copy_(10 * torch.eye(2))
    loud = Subject(module, train=base.train, test=base.test)
    quiet_sentences, loud_sentences = headlines(base), headlines(loud)
    assert "It is overconfident." in loud_sentences
    assert "It is overconfident." not in quiet_sentences
    assert loud_sentences[0] == quiet_sentences[0]


class Saddle(nn.Module):
    """Logits a b x: at a = b = 0 every loss of labels that follow x has a saddle."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor([start]))
        self.b = nn.Parameter(torch.tensor([start]))

    def forward(self, x: Tensor) -> Tensor:
        lead = self.a * self.b * x[:, :1]
        return torch.cat([torch.zeros_like(lead), lead], dim=1)


def test_a_saddle_and_a_minimum() -> None:
    x, _ = halves(600, 0)
    generator = torch.Generator().manual_seed(9)
    labels = (torch.rand(600, generator=generator) < torch.sigmoid(2 * x[:, 0])).long()
    data = (x, labels)
    minimum = trained(Saddle(1.0), data, steps=300, rate=0.05)
    at_saddle = found(Subject(Saddle(0.0), train=data), "negative_curvature", "curvature",
                      "hessian-spectrum")  # fmt: skip
    assert at_saddle is not None
    assert at_saddle.headline == "It did not end at a minimum."
    assert at_saddle.estimate.value == pytest.approx(1.0, rel=1e-4)
    at_minimum = found(Subject(minimum, train=data), "negative_curvature", "curvature",
                       "hessian-spectrum")  # fmt: skip
    assert at_minimum is None


def test_what_is_most_wrong_stands_first() -> None:
    """Uselessness before overconfidence, overconfidence before single mistakes."""
    assert headlines(memorized_noise())[:3] == [
        "It memorized the training data and learned nothing that carries over.",
        "It is overconfident, and its probabilities say nothing.",
        "Where it is sure, it is wrong more often than it says.",
    ]
    useless, beaten, praised = (
        found(subject, "generalization", "generalization", "fit", "baselines")
        for subject in (untrained(), linear_enough(), learned_parity())
    )
    assert useless is not None
    assert beaten is not None
    assert praised is not None
    assert useless.importance > beaten.importance > praised.importance
