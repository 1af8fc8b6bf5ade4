"""Margins by hand, baselines by fitting them directly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tests.cases import CASES, Case
from torch import nn

from whynet.concepts.generalization.instruments.margins import LEVELS, margin, quantiles
from whynet.concepts.measuring import measure
from whynet.core.measurement import Measurement
from whynet.core.outcome import NotApplicable
from whynet.models.losses import load_loss
from whynet.models.subject import Subject


def taken(instrument: str, subject: Subject) -> Measurement:
    found = measure(instrument, subject)
    assert isinstance(found, Measurement)
    return found


def test_margins_by_hand() -> None:
    scores = torch.tensor([[3.0, 1.0, 2.5], [0.0, -1.0, 4.0], [1.0, 1.0, 0.0]])
    labels = torch.tensor([0, 1, 1])
    by_hand = torch.tensor([0.5, -5.0, 0.0])
    assert torch.equal(margin(load_loss("cross_entropy"), scores, labels), by_hand)
    logits = torch.tensor([[2.0], [-3.0], [1.0]])
    found = margin(load_loss("bce"), logits, torch.tensor([1.0, 0.0, 0.0]))
    assert torch.equal(found, torch.tensor([2.0, 3.0, -1.0]))


def test_quantiles_and_their_ranks() -> None:
    values = np.random.default_rng(0).permutation(np.arange(1000.0))
    found = quantiles(values)
    middle = list(LEVELS).index(0.5)
    np.testing.assert_allclose(np.asarray(found.value)[middle], 499.5)
    low, high = np.asarray(found.low)[middle], np.asarray(found.high)[middle]
    # Ranks low + 1 and high + 1 enclose the median unless the count below it is extreme.
    inside = stats.binom.cdf(high, 1000, 0.5) - stats.binom.cdf(low, 1000, 0.5)
    assert 0.95 <= inside <= 0.96
    assert found.kind == "interval"
    assert quantiles(values[:50]).kind == "indicative"


def test_margins_of_a_network() -> None:
    case = CASES["relu-mlp"]
    found = taken("margins", case.subject(dtype=torch.float64))
    with torch.no_grad():
        scores = case.build()(case.test[0]).double().numpy()
    rows = np.arange(len(scores))
    right = scores[rows, case.test[1]].copy()
    scores[rows, case.test[1]] = -np.inf
    np.testing.assert_allclose(
        found.values("margin", split="test"), np.quantile(right - scores.max(1), LEVELS), atol=1e-6
    )


def flat(case: Case) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    (x, y), (u, v) = case.data()
    assert isinstance(x, torch.Tensor)
    assert isinstance(u, torch.Tensor)
    return (
        x.flatten(1).double().numpy(), y.numpy(), u.flatten(1).double().numpy(), v.numpy()
    )  # fmt: skip


@pytest.mark.parametrize("name", ["relu-mlp", "convolution", "binary"])
def test_classification_baselines(name: str) -> None:
    case = CASES[name]
    x, y, u, v = flat(case)
    found = taken("baselines", case.subject(dtype=torch.float64))
    own = taken("fit", case.subject(dtype=torch.float64)).estimate("accuracy", split="test").value
    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300)).fit(x, y)
    constant = np.bincount(y.astype(int)).argmax()
    wanted = {
        "linear model": linear.score(u, v),
        "nearest neighbor": KNeighborsClassifier(1).fit(x, y).score(u, v),
        "constant": (v == constant).mean(),
    }
    for baseline, score in wanted.items():
        assert found.estimate("accuracy", baseline=baseline).value == pytest.approx(score)
        ahead = found.estimate("advantage", baseline=baseline)
        assert ahead.value == pytest.approx(own - score)
        assert ahead.low < ahead.high


@pytest.mark.parametrize("name", ["tokens", "masked-tokens"])
def test_baselines_on_tokens_read_how_often_each_occurs(name: str) -> None:
    case = CASES[name]
    (x, y), (u, v) = case.data()

    def counted(inputs: object) -> np.ndarray:
        whole = inputs if isinstance(inputs, dict) else {"tokens": inputs}
        rows = whole["tokens"].numpy()
        mask = whole.get("mask", torch.ones(rows.shape)).numpy() != 0
        return np.stack([[((row == t) & on).sum() for t in range(7)]
                         for row, on in zip(rows, mask, strict=True)])  # fmt: skip

    found = taken("baselines", case.subject())
    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
    wanted = {
        "linear model": linear.fit(counted(x), y).score(counted(u), v),
        "nearest neighbor": KNeighborsClassifier(1).fit(counted(x), y).score(counted(u), v),
    }
    for baseline, score in wanted.items():
        assert found.estimate("accuracy", baseline=baseline).value == pytest.approx(score)
    assert "how often each token occurs" in found.notes[0]


def test_regression_baselines() -> None:
    case = CASES["regression"]
    x, y, u, v = flat(case)
    found = taken("baselines", case.subject(dtype=torch.float64))
    linear = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-3, 3, 13))).fit(x, y)
    wanted = {
        "linear model": linear.score(u, v),
        "nearest neighbor": KNeighborsRegressor(10).fit(x, y).score(u, v),
        "constant": 1 - ((v - y.mean()) ** 2).mean() / v.var(),
    }
    own = taken("fit", case.subject(dtype=torch.float64)).estimate("r_squared", split="test").value
    for baseline, score in wanted.items():
        estimate = found.estimate("r_squared", baseline=baseline)
        assert estimate.value == pytest.approx(score, abs=1e-6)
        ahead = found.estimate("advantage", baseline=baseline)
        assert ahead.value == pytest.approx(own - score, abs=1e-6)


@pytest.mark.parametrize(
    ("case", "options", "word"),
    [
        ("relu-mlp", {"train": None}, "training data"),
        ("relu-mlp", {"test": None}, "test data"),
    ],
)
def test_where_baselines_do_not_apply(case: str, options: dict[str, object], word: str) -> None:
    found = measure("baselines", CASES[case].subject(**options))
    assert isinstance(found, NotApplicable)
    assert word in found.reason


def test_wide_inputs_are_no_cheap_baseline() -> None:
    data = (torch.randn(12, 5001), torch.arange(12) % 2)
    found = measure("baselines", Subject(nn.Linear(5001, 2), train=data, test=data))
    assert isinstance(found, NotApplicable)
    assert "5,001 numbers" in found.reason


def test_rows_that_are_not_scored_count_nowhere() -> None:
    """Labels of -100 beside rows with one label each: the same numbers as without the rows."""
    case = CASES["relu-mlp"]
    (x, y), (u, v) = case.data()
    assert isinstance(x, torch.Tensor)
    assert isinstance(u, torch.Tensor)
    skipped = {"train": (torch.cat([x[:5], x]), torch.cat([torch.full((5,), -100), y])),
               "test": (torch.cat([u, u[:3]]), torch.cat([v, torch.full((3,), -100)]))}  # fmt: skip
    for instrument in ("margins", "baselines", "calibration", "fit"):
        plain, with_rows = (
            taken(instrument, case.subject(dtype=torch.float64, **options))
            for options in ({}, skipped)
        )
        name = {"margins": "margin", "calibration": "temperature"}.get(instrument, "accuracy")
        np.testing.assert_allclose(with_rows.values(name), plain.values(name), rtol=1e-9)


def test_sorted_data_are_not_cut_to_their_first_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    from whynet.concepts.generalization.instruments import baselines

    monkeypatch.setattr(baselines, "MOST_ROWS", 12)
    case = CASES["relu-mlp"]
    x, y = case.train
    order = y.argsort(stable=True)
    found = taken("baselines", case.subject(train=(x[order], y[order])))
    assert any("12 training rows, evenly spread" in note for note in found.notes)
    assert found.estimate("accuracy", baseline="linear model").value > 0.4
