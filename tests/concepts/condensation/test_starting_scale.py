"""What is said of movement over widths and of other starts, and that it follows the numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure as Canvas
from tests.concepts.condensation.laddering import (
    descend,
    measured,
    parities,
    parity,
    phase,
    subject_of,
    wide,
)
from torch import Tensor, nn

from whynet.concepts.condensation.questions import starting_scale
from whynet.core.measurement import Measurement
from whynet.core.question import Panel, Results
from whynet.models.subject import Subject


def asked(subject: Subject, found: Measurement) -> Panel:
    panel = starting_scale.ask(Results(subject.facts, {"weight-change": found}))
    for figure in panel.figures:
        canvas = Canvas(figsize=(5.4, figure.height), layout="constrained")
        figure.draw(canvas)
        canvas.draw_without_rendering()
    return panel


def test_lazy_and_rich_families_are_told_apart() -> None:
    said = {}
    for gamma in (0.5, 1.75):
        subject, found = phase(gamma, torch.float64)
        panel = asked(subject, found)
        said[gamma] = (panel.lead, [finding.key for finding in panel.findings])
        assert panel.assumptions[1].status == "met"
    assert "as in the linear regime" in said[0.5][0]
    assert "as in the condensed regime" in said[1.75][0]
    assert [keys for _, keys in said.values()] == [["features_move_less"], ["features_move_more"]]


def test_a_small_start_learns_a_parity_that_a_large_one_does_not() -> None:
    subject, found = parities()
    small, large = (found.estimate("score_change", other=s) for s in (0.125, 4.0))
    assert small.low > 0 > large.value
    ratios = [found.estimate("direction_ratio", other=s) for s in (0.125, 4.0)]
    assert ratios[0].high < 0.8 < 0.95 < ratios[1].low
    panel = asked(subject, found)
    assert "From a start ×0.125, accuracy changes by" in panel.lead
    assert "No regime can be named: one width was trained" in panel.lead
    assert [finding.key for finding in panel.findings] == [
        "another_start_predicts_better", "smaller_start_condenses",
    ]  # fmt: skip
    assert panel.assumptions[1].status == "cannot be checked"


def altered(found: Measurement, **numbers: tuple[float, float, float]) -> Measurement:
    dataset = found.dataset.copy(deep=True)
    for name, three in numbers.items():
        for suffix, value in zip(("", "_low", "_high"), three, strict=True):
            dataset[name + suffix][...] = value
    return Measurement(dataset)


NAN = (math.nan, math.nan, math.nan)


@pytest.mark.parametrize(
    ("law", "words", "key"),
    [
        ((0.0, -0.05, 0.05), "move as far at every width", None),
        ((-0.1, -0.3, 0.1), "The regime cannot be told", None),
        ((-0.2, -0.3, -0.1), "as in the linear regime", "features_move_less"),
        ((0.2, 0.1, 0.3), "as in the condensed regime", "features_move_more"),
        (NAN, "not every width could be trained", None),
    ],
)
def test_a_regime_is_named_only_from_the_interval_of_the_exponent(
    law: tuple[float, float, float], words: str, key: str | None
) -> None:
    subject, found = phase(0.5, torch.float64)
    panel = asked(subject, altered(found, furthest_slope=law))
    assert words in panel.lead
    assert [finding.key for finding in panel.findings] == ([key] if key else [])
    assert panel.lead.count("regime") == 1 or key is None


@pytest.mark.parametrize(
    ("change", "ratio", "keys"),
    [
        ((0.05, 0.02, 0.08), (0.9, 0.8, 1.1), ["another_start_predicts_better"]),
        ((0.05, -0.02, 0.1), (0.4, 0.3, 0.5), ["smaller_start_condenses"]),
        ((-0.05, -0.08, -0.02), (0.4, 0.3, 0.5), []),
        ((0.0, -0.02, 0.02), (0.7, 0.6, 0.8), []),
        (NAN, NAN, []),
    ],
)
def test_what_is_advised_follows_the_effects(
    change: tuple[float, float, float], ratio: tuple[float, float, float], keys: list[str]
) -> None:
    subject, found = parities()
    found = altered(found, score_change_joint=change, score_change=change, direction_ratio=ratio)
    panel = asked(subject, found)
    assert [finding.key for finding in panel.findings] == keys
    for finding in panel.findings:
        assert "nan" not in finding.numbers + finding.advice
    if not keys and math.isnan(change[0]):
        assert "From a start ×4 a run diverged." in panel.lead


def test_training_that_gets_further_at_some_width_is_said() -> None:
    subject, found = phase(0.5, torch.float64)
    dataset = found.dataset.copy(deep=True)
    for suffix in ("", "_low", "_high"):
        dataset[f"train_loss{suffix}"][...] = [[0.2, 0.1, 0.05]]
    panel = asked(subject, Measurement(dataset))
    assert panel.assumptions[1].status == "not met"
    assert "0.200, 0.100, 0.0500" in panel.assumptions[1].text


def test_runs_that_diverge_are_counted_and_nothing_is_said_of_them() -> None:
    def explodes(model: nn.Module, inputs: Tensor, targets: Tensor) -> None:
        descend(model, inputs, targets)
        with torch.no_grad():
            if model.get_parameter("2.weight").abs().max() > 20 or len(model[0].weight) > 64:  # type: ignore[index]
                next(model.parameters()).fill_(math.inf)

    train, test = parity()
    subject = subject_of(wide, explodes, torch.float32, train, test=test, loss="cross_entropy")
    found = measured(subject, widths=(1, 2), scales=(1,))
    assert found.values("diverged").tolist() == [[0, 3]]
    assert np.isnan(found.values("furthest_slope")).all()
    assert np.isfinite(found.values("change", width=1.0)).all()
    assert "No regime can be named: not every width" in asked(subject, found).lead
