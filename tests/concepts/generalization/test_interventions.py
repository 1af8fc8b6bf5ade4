"""Interventions: known effects are met and covered, and findings are of changes that help."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure as Canvas
from torch import Tensor, nn

from whynet.concepts.generalization.questions import interventions as question
from whynet.concepts.measuring import measure
from whynet.core.estimate import Estimate
from whynet.core.measurement import Measurement, Quantity
from whynet.core.outcome import NotApplicable
from whynet.core.question import Panel, Results
from whynet.models.retraining import Trainer
from whynet.models.subject import Subject
from whynet.testing.learning_forms import RATE, STEPS, build, curve, train, trained_again

DRAWS = 100
FACTORS = {
    "step size ×¼": {"rate": 0.25},
    "step size ×4": {"rate": 4.0},
    "width ×½": {"width": 0.5},
    "width ×2": {"width": 2.0},
}


def found(subject: Subject, **options: int) -> Measurement:
    measured = measure("interventions", subject, **options)
    assert isinstance(measured, Measurement)
    return measured


def asked(subject: Subject, measured: Measurement | None = None) -> Panel:
    return question.ask(Results(subject.facts, {"interventions": measured or found(subject)}))


def drawn(panel: Panel) -> None:
    for figure in panel.figures:
        figure.draw(Canvas(figsize=(5.4, figure.height)))


@cache
def draws() -> tuple[Measurement, ...]:
    return tuple(found(trained_again(torch.float64, draw)) for draw in range(DRAWS))


@pytest.mark.parametrize("quantity", ["loss_change", "score_change"])
@pytest.mark.parametrize("change", FACTORS)
def test_known_effects_are_met_and_covered(change: str, quantity: str) -> None:
    known = curve()
    truth = known.loss(**FACTORS[change]) - known.loss()
    if quantity == "score_change":
        truth = known.error() - known.error(**FACTORS[change])
    entries = [m.estimate(quantity, change=change) for m in draws()]
    hits = np.mean([e.low <= truth <= e.high for e in entries])
    assert hits >= 0.93 - 3 * (0.93 * 0.07 / DRAWS) ** 0.5
    if quantity == "loss_change":  # 1 - R² is a ratio, biased by one over the examples
        values = np.array([e.value for e in entries])
        assert abs(values.mean() - truth) <= 4 * values.std(ddof=1) / DRAWS**0.5


def test_joint_intervals_hold_the_others() -> None:
    for measured in draws()[:20]:
        for name in ("loss_change", "score_change", "steps_share"):
            inner, outer = measured.bounds(name), measured.bounds(f"{name}_joint")
            there = np.isfinite(inner[0])
            assert (outer[0][there] <= inner[0][there]).all()
            assert (outer[1][there] >= inner[1][there]).all()
        assert measured.dataset["loss_change_joint"].attrs["level"] == pytest.approx(1 - 0.05 / 8)


def test_steps_to_the_usual_loss_are_counted() -> None:
    """Squared distances shrink by (1 - rate)² a step; two steps are averaged, 5 % of forty."""
    usual, faster = ((1 - RATE * f) ** (2 * np.arange(STEPS)) for f in (1.0, 4.0))
    goal = usual[-2:].sum()
    step = next(t for t in range(2, STEPS) if faster[t - 2 : t].sum() <= goal)
    for measured in draws()[:5]:
        share = measured.estimate("steps_share", change="step size ×4")
        assert share.value == pytest.approx(step / STEPS)
        assert np.isnan(measured.estimate("steps_share", change="step size ×¼").value)
        assert np.isnan(measured.estimate("steps_share", change="width ×2").value)


def test_precisions_and_seeds() -> None:
    first, again = (found(trained_again(torch.float32, 1)) for _ in range(2))
    assert first.dataset.identical(again.dataset)
    wide = found(trained_again(torch.float64, 1))
    assert first.values("loss_change") == pytest.approx(wide.values("loss_change"), abs=1e-5)
    other = found(trained_again(torch.float32, 1), seed=1)
    assert (other.values("loss_change") != first.values("loss_change")).all()
    longer = found(trained_again(torch.float32, 1), rounds=4)
    assert longer.dataset["loss_change"].attrs["kind"] == "interval"
    assert first.dataset["loss_change"].attrs["kind"] == "indicative"


def test_the_base_run_is_the_same_as_without_a_log() -> None:
    """A trainer that does not log measures the same changes, and no steps."""

    def quiet(model: nn.Module, x: Tensor, y: Tensor, learning_rate_factor: float = 1.0) -> None:
        train(model, x, y, learning_rate_factor=learning_rate_factor)

    logged = trained_again(torch.float32, 2)
    assert logged.trainer is not None
    silent = logged._with(logged.module, trainer=Trainer(build, quiet, label=logged.trainer.label))
    one, two = found(logged), found(silent)
    assert "steps_share" not in two.names
    assert (one.values("loss_change") == two.values("loss_change")).all()


# ---- the question -----------------------------------------------------------------------


class Bias(nn.Module):
    """Answers every input by one bias."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(0.1 * torch.randn(100))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.bias + 0 * inputs[:, :1]


def subject_of(rate: float, steps: int = 40) -> Subject:
    """Gradient descent towards the mean of a hundred outputs; it diverges above a rate of 2."""
    generator = torch.Generator().manual_seed(9)
    center = torch.randn(100, generator=generator)
    y = center + 0.1 * torch.randn(300, 100, generator=generator)

    def descend(
        model: Bias,
        inputs: Tensor,
        targets: Tensor,
        learning_rate_factor: float = 1.0,
        log: Any = None,
    ) -> None:
        goal = targets.mean(0)
        with torch.no_grad():
            for step in range(steps):
                if log is not None:
                    log(step + 1, {"loss": ((model.bias - goal) ** 2).mean()})
                model.bias.add_(rate * learning_rate_factor * (goal - model.bias))

    data = {"train": (torch.zeros(200, 1), y[:200]), "test": (torch.zeros(100, 1), y[200:])}
    return Subject(Bias(), loss="mse", trainer=Trainer(Bias, descend), **data)


def keys(panel: Panel) -> list[str]:
    return [finding.key for finding in panel.findings]


def test_a_step_size_that_is_too_small_is_found_so() -> None:
    panel = asked(subject_of(rate=0.01))
    assert keys(panel) == ["change_step_size_fourfold", "step_size_has_room"]
    assert panel.findings[0].headline == "A larger step size helps."
    drawn(panel)


def test_a_step_size_that_gets_there_only_has_room() -> None:
    panel = asked(subject_of(rate=0.22, steps=400))
    assert keys(panel) == ["step_size_has_room"]
    assert panel.findings[0].estimate.high < 1


def test_a_step_size_at_its_limit_diverges_with_a_larger_one() -> None:
    panel = asked(subject_of(rate=1.0, steps=400))
    assert not panel.findings
    assert "With step size ×4 training diverges in 3 of 3 seeds." in panel.lead
    assert any("3 of 3" in row for row in panel.tables[0].rows)
    drawn(panel)


def test_training_that_always_diverges_compares_nothing() -> None:
    panel = asked(subject_of(rate=12.0, steps=400))
    assert not panel.findings
    assert "Training as it is diverges in 3 of 3 seeds." in panel.lead
    assert panel.assumptions[-1].status == "not met"
    drawn(panel)


def test_a_wrong_measurement_flips_the_finding() -> None:
    subject = subject_of(rate=0.01)
    measured = found(subject)
    turned = measured.dataset.copy(deep=True)
    for name in ("score_change", "loss_change"):
        for stem in (name, f"{name}_joint"):
            low, high = -turned[f"{stem}_high"], -turned[f"{stem}_low"]
            turned[stem] = -turned[stem]
            turned[f"{stem}_low"], turned[f"{stem}_high"] = low, high
            for suffix in ("", "_low", "_high"):
                turned[stem + suffix].attrs = measured.dataset[stem + suffix].attrs
    assert keys(asked(subject, Measurement(turned))) == ["change_step_size_quarter"]


def test_what_is_resolved_alone_but_not_among_all_is_no_finding() -> None:
    subject = subject_of(rate=0.01)
    measured = found(subject).dataset.copy(deep=True)
    for name, wide in (("score_change_joint", "low"), ("loss_change_joint", "high")):
        measured[f"{name}_{wide}"] = 0 * measured[name] + (-1e6 if wide == "low" else 1e6)
    measured["steps_share_joint_high"] = 0 * measured["steps_share_joint"] + 1.5
    assert not asked(subject, Measurement(measured)).findings


def test_without_a_training_function_only_a_temperature_is_tried() -> None:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(400, 3, generator=generator)
    y = torch.multinomial(torch.softmax(x, 1), 1, generator=generator)[:, 0]
    sure = nn.Linear(3, 3, bias=False)
    with torch.no_grad():
        sure.weight.copy_(4 * torch.eye(3))
    subject = Subject(sure, test=(x, y))
    measured, calibration = found(subject), measure("calibration", subject)
    assert isinstance(calibration, Measurement)
    change = measured.estimate("loss_change", change="temperature")
    saved: Estimate = calibration.estimate("loss_saved")
    assert (change.value, change.low, change.high) == pytest.approx(
        (-saved.value, -saved.high, -saved.low)
    )
    assert change.kind == "interval"
    assert change.high < 0
    panel = asked(subject, measured)
    assert not panel.findings  # the question about probabilities tells it
    assert "Nothing was trained again" in panel.tables[0].caption
    drawn(panel)


def test_refusals() -> None:
    y = torch.randn(40, 1)
    refused = measure("interventions", Subject(nn.Linear(1, 1), test=(y, y), loss="mse"))
    assert isinstance(refused, NotApplicable)
    assert "no training function" in refused.reason
    few = measure("interventions", Subject(nn.Linear(1, 2), test=(y[:5], torch.zeros(5).long())))
    assert isinstance(few, NotApplicable)
    assert "5 test examples are too few" in few.reason


def test_removing_suspects_stands_in_the_table_where_it_was_measured() -> None:
    subject = trained_again(torch.float32, 0)
    change = Quantity([0.1, 0.2], [0.0, 0.1], [0.2, 0.3], ("rows",), kind="indicative")
    removal = Measurement.of(
        {"removed": Quantity(7.0), "loss_change": change}, coords={"rows": ["suspects", "random"]}
    )
    measured = {"interventions": found(subject), "removal-effect": removal}
    (table,) = question.ask(Results(subject.facts, measured)).tables
    names = [row[0] for row in table.rows]
    assert names[-2:] == ["without 7 suspects", "without 7 random rows"]
    assert table.rows[-2][2] == removal.estimate("loss_change", rows="suspects")
