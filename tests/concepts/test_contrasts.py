"""Unlike networks get unlike findings, in another order; an untrained one gets no praise."""

from __future__ import annotations

import copy
import itertools
from functools import cache

import pytest
import torch
from torch import Tensor, nn

import whynet
from whynet.concepts.measuring import measure
from whynet.core.measurement import Measurement
from whynet.core.question import Finding
from whynet.models.retraining import Trainer
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
        "It is no better than a linear model on these data.", "A linear model does better.",
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


class Scaled(nn.Module):
    """A network minus itself at the start, times a number; a large one makes training lazy."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = network(6)
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                layer.reset_parameters()
        self.start = copy.deepcopy(self.layers).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = 100.0 * (self.layers(x) - self.start(x))
        return out


def descended(module: nn.Module, x: Tensor, y: Tensor) -> nn.Module:
    weights = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(weights, lr=2e-5, momentum=0.9)
    with torch.enable_grad():
        for _ in range(80):
            optimizer.zero_grad()
            torch.autograd.backward(nn.functional.cross_entropy(module(x), y))
            optimizer.step()
    return module.eval()


def small_start() -> nn.Module:
    module = network(6)
    for layer in module:
        if isinstance(layer, nn.Linear):
            layer.reset_parameters()
            layer.weight.data.mul_(0.5)
    return module


def seeded_start(build: type[nn.Module] | object) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module: nn.Module = build()  # type: ignore[operator]
    return module


@cache
def lazy() -> Subject:
    """Scaled output and small steps: its tangent kernel stays where it was."""
    train, start = parity(400, 0), seeded_start(Scaled)
    module = descended(copy.deepcopy(start), *train)
    known = Trainer(Scaled, descended)
    return Subject(module, train=train, test=parity(1500, 1), initial=start, trainer=known)


@cache
def rich() -> Subject:
    """The same task and width from small weights: its tangent kernel turns to the task."""

    def train_it(module: nn.Module, x: Tensor, y: Tensor) -> nn.Module:
        return trained(module, (x, y), steps=300, decay=0.1)

    train, start = parity(400, 0), seeded_start(small_start)
    module = train_it(copy.deepcopy(start), *train)
    known = Trainer(small_start, train_it)
    return Subject(module, train=train, test=parity(600, 1), initial=start, trainer=known)


def two_layers(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(6, width), nn.ReLU(), nn.Linear(width, 2))


@cache
def narrow() -> Subject:
    """Six units, each of its own."""
    start = seeded_start(lambda: two_layers(6))
    module = trained(copy.deepcopy(start), parity(600, 0), steps=600, rate=0.02, decay=0.1)
    return Subject(module, train=parity(600, 0), test=parity(600, 1), initial=start)


@cache
def condensed() -> Subject:
    """The same function by eight copies of every unit."""
    first, _, last = narrow().module
    wide = two_layers(48)
    with torch.no_grad():
        wide[0].weight.copy_(first.weight.repeat(8, 1))
        wide[0].bias.copy_(first.bias.repeat(8))
        wide[2].weight.copy_(last.weight.repeat(1, 8) / 8)
        wide[2].bias.copy_(last.bias)
    start = seeded_start(lambda: two_layers(48))
    return Subject(wide, train=parity(600, 0), test=parity(600, 1), initial=start)


def separated() -> Subject:
    """Two classes far apart in one entry, and the linear model that looks at it alone."""
    generator = torch.Generator().manual_seed(2)
    labels = torch.randint(2, (900,), generator=generator)
    x = 0.3 * torch.randn(900, 10, generator=generator)
    x[:, 0] += 3.0 * (2.0 * labels - 1)
    module = nn.Linear(10, 2, bias=False)
    with torch.no_grad():
        module.weight.zero_()
        module.weight[1, 0] = 1.0
    return Subject(module, train=(x[:500], labels[:500]), test=(x[500:], labels[500:]))


def numbers(instrument: str, subject: Subject) -> Measurement:
    found = measure(instrument, subject)
    assert isinstance(found, Measurement), found
    return found


def test_a_lazy_and_a_rich_network() -> None:
    asked = ("kernel", "lazy-or-rich", "baselines")
    one, two = (found(subject, "kernel", *asked) for subject in (lazy(), rich()))
    assert one is not None
    assert two is not None
    assert one.headline == "A kernel method would do the same."
    assert two.headline == "It did more than its initial kernel can."
    assert "Another seed reaches" in one.numbers
    drift = [numbers("lazy-or-rich", s).estimate("shape_drift") for s in (lazy(), rich())]
    assert drift[0].high < 0.01 < 0.1 < drift[1].low


def test_a_condensed_network_and_one_of_unlike_units() -> None:
    asked = ("condensation", "neuron-similarity")
    one, two = (found(subject, "condensed", *asked) for subject in (condensed(), overfit()))
    assert one is not None
    assert two is None


def test_a_redundant_network_and_one_that_needs_its_units() -> None:
    """An eighth of eight copies each reproduces all; of the six themselves, most are needed."""
    wide, slim = (numbers("size-error", subject) for subject in (condensed(), narrow()))
    layer = {"layer": "0", "method": "chosen"}
    assert wide.estimate("relative_error", share=0.125, **layer).high < 1e-3
    assert slim.estimate("relative_error", share=0.354, **layer).low > 0.1
    one, two = (found(subject, "could_be_smaller", "size") for subject in (condensed(), narrow()))
    assert one is not None
    assert two is None or two.importance < one.importance


def test_a_collapsed_representation_and_one_that_is_not() -> None:
    """Long training on few rows without noise collapses the classes; before it they overlap."""
    train, start = halves(120, 0), network(10)
    module = trained(copy.deepcopy(start), train, steps=600, rate=0.02)
    subject = Subject(module, train=train, test=halves(600, 1), initial=start)
    assert subject.initial is not None
    late, early = (numbers("representation", s) for s in (subject, subject.initial))
    for split in ("train", "test"):
        inside = [m.estimate("nc1", split=split) for m in (late, early)]
        assert inside[0].high < inside[1].low
    assert headlines(subject, "representation") == []


def test_bounds_hold_for_true_labels_and_say_nothing_of_random_ones() -> None:
    asked = ("guarantees", "bound-ingredients")
    one, two = (found(s, "pac_bayes", *asked) for s in (narrow(), memorized_noise()))
    assert one is not None
    assert two is None
    assert found(untrained(), "pac_bayes", *asked) is None


def test_cheap_models_are_beaten_matched_and_ahead() -> None:
    """The lead over a linear model: on a parity, on a plane, and of an untrained network."""
    lead = {
        name: numbers("baselines", subject).estimate("advantage", baseline=model)
        for name, subject, model in (
            ("parity", learned_parity(), "linear model"),
            ("plane", linear_enough(), "linear model"),
            ("untrained", untrained(), "nearest neighbor"),
        )
    }
    assert lead["parity"].low > 0.2
    assert lead["plane"].high < 0.05
    assert lead["untrained"].high < 0


def test_a_robust_network_and_a_fragile_one() -> None:
    asked = ("sensitivity", "adversarial-accuracy", "input-gradient", "fit")
    for subject in (separated(), narrow()):
        assert numbers("fit", subject).estimate("accuracy", split="test").value > 0.9
    assert found(narrow(), "fragile", *asked) is not None
    assert found(separated(), "fragile", *asked) is None


def test_unlike_networks_get_unlike_reports() -> None:
    """The whole examination: no two of them get the same findings in the same order."""
    networks = {
        "random labels": memorized_noise(), "overfit": overfit(), "a plane": linear_enough(),
        "untrained": untrained(), "lazy": lazy().alone(), "rich": rich().alone(),
        "condensed": condensed(), "linear": separated(),
    }  # fmt: skip
    asked = (*ASKED, "condensation", "size", "sensitivity", "guarantees", "representation")
    reports = {name: headlines(subject, *asked) for name, subject in networks.items()}
    for one, two in itertools.combinations(reports, 2):
        assert reports[one] != reports[two], (one, two)
    for name in ("random labels", "untrained", "overfit"):
        assert not set(reports[name]) & set(PRAISE), name
    assert reports["condensed"].index("Its neurons repeat each other.") == 1
    assert headlines(condensed(), *asked) == reports["condensed"]
