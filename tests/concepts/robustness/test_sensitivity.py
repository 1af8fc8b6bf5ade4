"""The question of robustness: fragile, robust and useless networks get unlike sentences."""

from __future__ import annotations

import torch
from matplotlib.figure import Figure as Canvas
from torch import Tensor, nn

from whynet.concepts.measuring import measure
from whynet.concepts.robustness.questions import sensitivity
from whynet.core.measurement import Measurement
from whynet.core.question import Panel, Results
from whynet.models.subject import Subject


def classes(features: int, shift: float, noise: float) -> tuple[Tensor, Tensor]:
    """Two classes that differ by `2 shift` in every feature."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(200) % 2
    signs = (2.0 * labels - 1)[:, None]
    return signs * shift + noise * torch.randn(200, features, generator=generator), labels


def voter(features: int) -> nn.Linear:
    """The sign of the mean."""
    module = nn.Linear(features, 2)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[-1.0], [1.0]]).expand(2, features) / features)
        module.bias.zero_()
    return module


def asked(module: nn.Module, data: tuple[Tensor, Tensor], *more: str) -> Panel:
    held = Subject(module, train=data, test=data)
    found = {}
    for name in ("adversarial-accuracy", "input-gradient", *more):
        one = measure(name, held)
        assert isinstance(one, Measurement)
        found[name] = one
    panel = sensitivity.ask(Results(held.facts, found, {}))
    for figure in panel.figures:
        canvas = Canvas(figsize=(7, figure.height), layout="constrained")
        figure.draw(canvas)
        canvas.draw_without_rendering()
    return panel


def test_many_weak_features_are_fragile() -> None:
    panel = asked(voter(400), classes(400, 0.15, 1.0))
    (finding,) = panel.findings
    assert finding.key == "fragile"
    assert finding.headline == "It is easily fooled."
    assert finding.label == "under attack at 0.2"
    assert finding.estimate.value < 0.3
    assert finding.references[0].name == "random noise"
    assert finding.references[0].low > 0.9
    assert "Changes of at most 0.2 in every entry (0.20 standard deviations" in finding.numbers
    assert len(panel.tables) == 2


def test_a_few_strong_features_are_robust() -> None:
    panel = asked(voter(2), classes(2, 1.0, 0.1))
    (finding,) = panel.findings
    assert finding.key == "withstands_attacks"
    assert finding.importance < 0.5
    assert "Nothing is guaranteed" in finding.advice


def test_a_network_no_better_than_a_constant_gets_no_praise() -> None:
    data = classes(2, 1.0, 0.1)
    constant = nn.Linear(2, 2)
    with torch.no_grad():
        constant.weight.zero_()
    for more in ((), ("baselines",)):
        panel = asked(constant, data, *more)
        assert panel.findings == ()
        assert "no better than a constant answer's" in panel.lead


def test_what_lies_between_is_said_in_the_panel_only() -> None:
    """Half of the accuracy is lost between a tenth and a fifth of the scale: no finding."""
    panel = asked(voter(4), classes(4, 0.45, 1.0))
    assert panel.findings == ()
    assert "leave at most" in panel.lead


def test_a_regression_has_gradients_alone() -> None:
    x, _ = classes(3, 1.0, 1.0)
    module = nn.Linear(3, 1)
    held = Subject(module, test=(x, x.sum(1, keepdim=True)), loss="mse")
    found = measure("input-gradient", held)
    assert isinstance(found, Measurement)
    panel = sensitivity.ask(Results(held.facts, {"input-gradient": found}, {}))
    assert panel.findings == ()
    assert panel.figures == ()
    (table,) = panel.tables
    assert [row[0] for row in table.rows] == [
        "norm of the gradient of the loss",
        "norm of the gradients of the outputs",
    ]
