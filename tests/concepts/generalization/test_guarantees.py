"""What the bounds are made of, by hand; and what the panel says of networks that differ."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from tests.cases import CASES
from torch import nn

import whynet
from whynet.concepts.generalization.instruments.bound_ingredients import (
    DRAWS,
    MARGINS,
    NOISE,
    chain,
    matrices,
)
from whynet.concepts.measuring import measure
from whynet.core.measurement import Measurement
from whynet.core.outcome import NotApplicable
from whynet.core.question import Panel
from whynet.models.subject import Subject
from whynet.testing.bound_forms import RELATIVE


def taken(subject: Subject, rounds: int = 1, seed: int = 0) -> Measurement:
    found = measure("bound-ingredients", subject, rounds=rounds, seed=seed)
    assert isinstance(found, Measurement)
    return found


def with_start(name: str = "relu-mlp") -> Subject:
    case = CASES[name]
    return case.subject(dtype=torch.float64, initial=case.initial())


# ---- the instrument -----------------------------------------------------------------------


def test_counts_distance_and_margins_by_hand() -> None:
    case = CASES["relu-mlp"]
    found = taken(with_start())
    with torch.no_grad():
        scores = case.build()(case.test[0])
        leads = case.build()(case.train[0]).double()
    wrong = int((scores.argmax(1) != case.test[1]).sum())
    assert found.estimate("test_mistakes").value == wrong
    assert found.estimate("test_error").value == wrong / 32
    frequent = int(case.train[1].bincount().argmax())
    assert found.estimate("constant_error").value == (case.test[1] != frequent).double().mean()
    pairs = list(zip(case.build().parameters(), case.initial().parameters(), strict=True))
    distance = math.sqrt(sum(float((a - b).detach().double().square().sum()) for a, b in pairs))
    size = sum(b.numel() for _, b in pairs)
    unit = math.sqrt(sum(float(b.detach().double().square().sum()) for _, b in pairs) / size)
    assert found.estimate("distance").value == pytest.approx(distance, rel=1e-5)
    assert found.estimate("unit_of_noise").value == pytest.approx(unit, rel=1e-5)
    assert found.estimate("parameters").value == size
    right = leads.gather(1, case.train[1][:, None])
    rest = leads.scatter(1, case.train[1][:, None], -torch.inf).amax(1, keepdim=True)
    expected = [float((right - rest <= gamma).double().mean()) for gamma in MARGINS]
    np.testing.assert_allclose(found.values("margin_error"), expected)


def test_matrices_with_folded_biases_are_the_network() -> None:
    case = CASES["relu-mlp"]
    module, (inputs, _) = case.build().double(), case.train
    assert isinstance(inputs, torch.Tensor)
    layers = chain(module)
    assert layers is not None
    values = np.concatenate([inputs.double().numpy(), np.ones((len(inputs), 1))], axis=1)
    folded = matrices(layers, folded=True)
    for index, matrix in enumerate(folded):
        values = values @ matrix.T
        if index < len(folded) - 1:
            values = np.maximum(values, 0)
    with torch.no_grad():
        np.testing.assert_allclose(values, module(inputs.double()).numpy(), atol=1e-12)


def test_norms_by_hand() -> None:
    case, found = CASES["relu-mlp"], taken(with_start())
    now, before = (chain(m.double()) for m in (case.build(), case.initial()))
    assert now is not None
    assert before is not None
    for (name, layer), new, old in zip(
        now, matrices(now, True), matrices(before, True), strict=True
    ):
        assert layer.in_features + 1 == new.shape[1]
        largest = np.sqrt(np.linalg.eigvalsh(new.T @ new).max())
        assert found.estimate("spectral_norm", layer=name).value == pytest.approx(largest)
        rows = np.sqrt(((new - old) ** 2).sum(1)).sum()
        assert found.estimate("row_distance", layer=name).value == pytest.approx(rows, rel=1e-5)
    inputs = case.train[0]
    assert isinstance(inputs, torch.Tensor)
    length = math.sqrt(float(inputs.double().square().sum()) + len(inputs))
    assert found.estimate("input_norm").value == pytest.approx(length, rel=1e-6)
    assert found.estimate("width").value == 11


@pytest.mark.parametrize(
    ("module", "layers"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)), 2),
        (nn.Sequential(nn.Sequential(nn.Linear(4, 3), nn.LeakyReLU(0.2)), nn.Linear(3, 2)), 2),
        (nn.Linear(4, 2), 1),
        (nn.Sequential(nn.Linear(4, 3), nn.LeakyReLU(2.0), nn.Linear(3, 2)), 0),
        (nn.Sequential(nn.Linear(4, 3), nn.GELU(), nn.Linear(3, 2)), 0),
        (nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2)), 0),
        (nn.Sequential(nn.Conv1d(1, 2, 3), nn.Flatten(), nn.Linear(4, 2)), 0),
        (CASES["tied-weights"].build(), 0),
    ],
)
def test_only_plain_chains_have_norms(module: nn.Module, layers: int) -> None:
    assert len(chain(module) or []) == layers


def test_noise_is_that_of_the_closed_form_and_rounds_add_up() -> None:
    assert NOISE == RELATIVE
    one, two = taken(with_start()), taken(with_start(), rounds=2)
    assert two.estimate("draws").value == 2 * DRAWS
    for noise in NOISE:
        bar, shorter = (m.estimate("perturbed_error", noise=noise) for m in (one, two))
        assert shorter.width < bar.width
        assert bar.kind == "certified"
    other = taken(with_start(), seed=1)
    assert not np.array_equal(one.values("perturbed_error"), other.values("perturbed_error"))


@pytest.mark.parametrize(
    ("subject", "words"),
    [
        (lambda: CASES["relu-mlp"].subject(), "initial weights are not known"),
        (lambda: with_start("batch-norm"), "batch normalization"),
        (lambda: _frozen_elsewhere(), "frozen parameters are not those"),
        (lambda: _zero_start(), "all initial weights are zero"),
    ],
)
def test_no_prior_where_none_can_be_had(subject: object, words: str) -> None:
    found = taken(subject())  # type: ignore[operator]
    assert words in found.notes[0]
    assert found.notes[0].startswith("No PAC-Bayes bound: ")
    assert not {"perturbed_error", "distance"} & set(found.names)
    assert "test_mistakes" in found.names


def _frozen_elsewhere() -> Subject:
    case = CASES["frozen-parameters"]
    start = case.initial()
    with torch.no_grad():
        for parameter in start.parameters():
            parameter.add_(1.0)
    return case.subject(initial=start)


def _zero_start() -> Subject:
    case = CASES["relu-mlp"]
    start = case.initial()
    with torch.no_grad():
        for parameter in start.parameters():
            parameter.zero_()
    return case.subject(initial=start)


@pytest.mark.parametrize("name", ["regression", "sequence"])
def test_other_tasks_are_refused(name: str) -> None:
    assert isinstance(measure("bound-ingredients", CASES[name].subject()), NotApplicable)


# ---- the question -------------------------------------------------------------------------


def answered(subject: Subject) -> Panel:
    report = whynet.examine(subject, only=("guarantees",)).report
    assert not report.failed
    panel = report.answers[0].panel
    assert panel is not None
    return panel


def halfspace(rows: int, random_labels: bool = False, known: bool = True) -> Subject:
    """Two weights on points of the plane; few weights and many rows make PAC-Bayes useful."""
    generator = torch.Generator().manual_seed(rows)
    x, u = torch.randn(2, rows, 2, generator=generator)
    start, module = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        start.weight.copy_(torch.tensor([[0.5, -0.5], [-0.5, 0.5]]))
        module.weight.copy_(torch.tensor([[2.0, 1.5], [-2.0, -1.5]]))
        y, v = (module(inputs).argmax(1) for inputs in (x, u))
    if random_labels:
        y, v = torch.randint(2, (2, rows), generator=generator)
    return Subject(module, train=(x, y), test=(u, v), initial=start if known else None)


def test_a_useful_pac_bayes_bound_is_a_finding_of_low_importance() -> None:
    (finding,) = answered(halfspace(4000)).findings
    assert finding.key == "pac_bayes"
    assert finding.importance == 0.3
    assert finding.estimate.value < finding.estimate.high < finding.references[0].low
    assert finding.estimate.level == pytest.approx(1 - 0.05 / 3)


@pytest.mark.parametrize(
    "subject",
    [
        lambda: halfspace(4000, random_labels=True),
        lambda: halfspace(4000, known=False),
        lambda: halfspace(60, random_labels=True),
        with_start,
    ],
)
def test_nothing_else_is_a_finding(subject: object) -> None:
    assert not answered(subject()).findings  # type: ignore[operator]


def test_the_ladder_says_of_whom_and_what_it_assumes() -> None:
    panel = answered(halfspace(4000))
    rows = {str(row[0]): [str(cell) for cell in row] for row in panel.tables[0].rows}
    assert rows["test-set bound"][1:4] == ["this network", "0.1 %", "useful"]
    assert "noise" in rows["PAC-Bayes bound"][1]
    assert rows["PAC-Bayes bound"][3] == "useful"
    assert "saw none" in rows["PAC-Bayes bound"][4]
    assert rows["spectral norm bound"][3].startswith("vacuous")
    assert panel.lead.startswith("On unseen data its error is at most 0.1 %, by its test data.")
    unknown = answered(halfspace(4000, known=False))
    assert unknown.tables[0].rows[1][3] == "does not apply"
    assert "initial weights are not known" in unknown.tables[0].caption
    statuses = {a.text: a.status for a in unknown.assumptions}
    assert statuses["The weights before training are known"] == "not met"


def test_without_test_data_the_training_data_still_speak() -> None:
    full = halfspace(4000)
    subject = Subject(full.module, train=full.train, initial=full.initial.module)  # type: ignore[union-attr]
    panel = answered(subject)
    assert panel.lead.startswith("The training data guarantee")
    assert panel.tables[0].rows[0][3] == "does not apply"


def test_a_task_without_classes_is_told_so() -> None:
    answer = whynet.examine(CASES["regression"].subject(), only=("guarantees",)).report.answers[0]
    assert answer.panel is None
    assert answer.reason.endswith("this task has none.")
