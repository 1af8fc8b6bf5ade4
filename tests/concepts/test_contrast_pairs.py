"""Contrast pairs: lazy and rich, condensed and not, robust and fragile; and all of them at once."""

from __future__ import annotations

import copy
import itertools
from functools import cache

import torch
from tests.concepts.test_contrasts import (
    ASKED,
    PRAISE,
    found,
    halves,
    headlines,
    learned_parity,
    linear_enough,
    memorized_noise,
    network,
    overfit,
    parity,
    trained,
    untrained,
)
from torch import Tensor, nn

from whynet.concepts.measuring import measure
from whynet.core.measurement import Measurement
from whynet.models.retraining import Trainer
from whynet.models.subject import Subject


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
