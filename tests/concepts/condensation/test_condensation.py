"""The question of condensation: unlike networks get unlike sentences."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from matplotlib.figure import Figure as Canvas
from torch import Tensor, nn

from whynet.concepts.condensation.questions import condensation
from whynet.concepts.measuring import measure
from whynet.core.measurement import Measurement
from whynet.core.question import Panel, Results
from whynet.models.subject import Subject


def network(weight: Tensor, bias: Tensor) -> nn.Sequential:
    module = nn.Sequential(
        nn.Linear(weight.shape[1], len(weight)), nn.ReLU(), nn.Linear(len(weight), 2)
    )
    with torch.no_grad():
        module[0].weight.copy_(weight)
        module[0].bias.copy_(bias)
    return module


def asked(module: nn.Module, initial: nn.Module | None) -> Panel:
    generator = torch.Generator().manual_seed(4)
    rows = torch.randn(200, 8, generator=generator)
    labels = torch.arange(200) % 2
    held = Subject(module, train=(rows, labels), test=(rows, labels), initial=initial)
    found = measure("neuron-similarity", held)
    assert isinstance(found, Measurement)
    before = {}
    if held.initial is not None:
        before["neuron-similarity"] = measure("neuron-similarity", held.initial)
    return condensation.ask(Results(held.facts, {"neuron-similarity": found}, before))


def draw(panel: Panel) -> None:
    for figure in panel.figures:
        canvas = Canvas(figsize=(7, figure.height), layout="constrained")
        figure.draw(canvas)
        canvas.draw_without_rendering()


@pytest.fixture(scope="module")
def random_layer() -> nn.Sequential:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(24, 8, generator=generator)
    return network(weight, torch.randn(24, generator=generator))


@pytest.fixture(scope="module")
def condensed_layer(random_layer: nn.Sequential) -> nn.Sequential:
    generator = torch.Generator().manual_seed(1)
    kept = random_layer[0].weight.detach()[:4].repeat(6, 1)
    weight = kept + 0.02 * torch.randn(24, 8, generator=generator)
    return network(weight, random_layer[0].bias.detach()[:4].repeat(6))


def test_a_condensed_network_is_told_so(
    condensed_layer: nn.Sequential, random_layer: nn.Sequential
) -> None:
    panel = asked(condensed_layer, random_layer)
    (finding,) = panel.findings
    assert finding.key == "condensed"
    assert finding.headline == "Its neurons repeat each other."
    assert "**4 of its 24** active hidden neurons are (nearly) distinct" in finding.numbers
    assert "before training there were 24" in finding.numbers
    assert "off it, neurons that look alike may differ" in finding.advice
    assert "about 4 could do their work on these data" in finding.advice
    assert [reference.name for reference in finding.references] == [
        "random layers", "at initialization",
    ]  # fmt: skip
    assert finding.estimate.value == 4
    draw(panel)


def test_a_random_network_is_not(random_layer: nn.Sequential) -> None:
    panel = asked(random_layer, random_layer)
    assert panel.findings == ()
    assert "compute 24 distinct functions" in panel.lead
    draw(panel)


def test_a_network_that_started_condensed_is_not_told_so(condensed_layer: nn.Sequential) -> None:
    assert asked(condensed_layer, condensed_layer).findings == ()


def test_without_initial_weights_the_null_alone_decides(condensed_layer: nn.Sequential) -> None:
    panel = asked(condensed_layer, None)
    assert [finding.key for finding in panel.findings] == ["condensed"]
    assert "before training" not in panel.findings[0].numbers
    statuses = {a.text: a.status for a in panel.assumptions}
    assert statuses["It was measured before training too"] == "not met"


def test_dead_units_are_reported_with_the_effect_of_holding_them_at_zero(
    random_layer: nn.Sequential,
) -> None:
    bias = random_layer[0].bias.detach().clone()
    bias[:5] = -100.0
    panel = asked(network(random_layer[0].weight.detach(), bias), random_layer)
    (finding,) = panel.findings
    assert finding.key == "dead_units"
    assert finding.headline == "Part of it never fires."
    assert finding.numbers == (
        "**5 of its 24** hidden units never fire on the training data. Held at zero on a copy, "
        "they change no output on the test data."
    )
    draw(panel)


def test_dead_units_that_unseen_data_reach_are_not_to_be_removed(
    random_layer: nn.Sequential,
) -> None:
    bias = random_layer[0].bias.detach().clone()
    bias[:5] = -100.0
    module = network(random_layer[0].weight.detach(), bias)
    rows = torch.randn(100, 8, generator=torch.Generator().manual_seed(3))
    labels = torch.arange(100) % 2
    held = Subject(module, train=(rows, labels), test=(100 * rows, labels))
    found = measure("neuron-similarity", held)
    panel = condensation.ask(Results(held.facts, {"neuron-similarity": found}, {}))
    (finding,) = panel.findings
    assert finding.headline == "Part of it fires only on unseen data."
    assert "Do not remove them" in finding.advice


def test_results_on_hostile_layer_names_draw(random_layer: nn.Sequential) -> None:
    panel = asked(random_layer, None)
    figure = dataclasses.replace(panel.figures[0])
    rows = figure.draw.keywords["rows"]  # type: ignore[attr-defined]
    hostile = [dataclasses.replace(row, name="$x^{") for row in rows]
    canvas = Canvas(figsize=(7, 3), layout="constrained")
    figure.draw.func(canvas, rows=hostile)  # type: ignore[attr-defined]
    canvas.draw_without_rendering()
