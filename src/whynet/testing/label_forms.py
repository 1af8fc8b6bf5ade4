"""Labels drawn from a network's own logits at a known temperature."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from scipy import optimize, special
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from whynet.core.seeds import seed_from
from whynet.models.subject import Subject
from whynet.testing.closed_forms import ClosedForm, Key

POPULATION, CLASSES, ROWS, TEMPERATURE, FOLDS = 4000, 3, 400, 2.0, 5
Split = tuple[np.ndarray, np.ndarray]


def logistic_labels() -> ClosedForm:
    """A linear network whose labels are drawn from its own logits at temperature 2.

    The population is a finite set of inputs, so that every true number is a finite sum. What is
    fitted to a draw (a temperature, cheap models) is fitted again here, and judged on all points.
    """
    points, chances = population()

    def subject(dtype: torch.dtype, draw: int) -> Subject:
        train, test = (
            (torch.tensor(points[rows], dtype=dtype), torch.tensor(labels))
            for rows, labels in drawn(points, chances, draw)
        )
        module = nn.Linear(CLASSES, CLASSES, bias=False)
        with torch.no_grad():
            module.weight.copy_(torch.eye(CLASSES))
        return Subject(module, train=train, test=test, dtype=dtype, name="logistic labels")

    def of_draw(instrument: str, draw: int) -> dict[Key, float]:
        train, test = drawn(points, chances, draw)
        if instrument == "calibration":
            return _saved(points, chances, test)
        return _beaten(points, chances, train) if instrument == "baselines" else {}

    return ClosedForm(subject, _truth(points, chances), over_examples=True, of_draw=of_draw)


def population() -> tuple[np.ndarray, np.ndarray]:
    """Return points, which are the network's logits, and the chances of their labels."""
    generator = np.random.default_rng(seed_from("logistic-labels"))
    points = 1.5 * generator.standard_normal((POPULATION, CLASSES))
    return points, special.softmax(points / TEMPERATURE, axis=1)


def drawn(points: np.ndarray, chances: np.ndarray, draw: int) -> tuple[Split, Split]:
    """Draw training and test data, each as indices of points and their labels."""
    random = np.random.default_rng(seed_from("logistic-labels", draw))

    def sample() -> Split:
        rows = random.integers(POPULATION, size=ROWS)
        return rows, (random.random((ROWS, 1)) > chances[rows].cumsum(1)).sum(1)

    return sample(), sample()


def _loss(points: np.ndarray, chances: np.ndarray, temperature: float) -> float:
    return float(-(chances * special.log_softmax(points / temperature, axis=1)).sum(1).mean())


def _truth(points: np.ndarray, chances: np.ndarray) -> dict[str, dict[Key, float]]:
    loss = _loss(points, chances, 1.0)
    accuracy = float(chances[np.arange(len(points)), points.argmax(1)].mean())
    confidence = float(special.softmax(points, axis=1).max(1).mean())
    fit: dict[Key, float] = {("loss_gap", ()): 0.0, ("accuracy_gap", ()): 0.0}
    for split in ("train", "test"):
        fit[("loss", (("split", split),))] = loss
        fit[("accuracy", (("split", split),))] = accuracy
    return {
        "fit": fit,
        "calibration": {
            ("overconfidence", ()): confidence - accuracy,
            ("temperature", ()): TEMPERATURE,
            ("loss", ()): loss,
            ("sure_mistakes", ()): _sure_mistakes(points, chances),
        },
        "margins": _margin_truth(points, chances),
        "baselines": {},
    }


def _sure_mistakes(points: np.ndarray, chances: np.ndarray) -> float:
    """Share of mistakes among predictions of at least 90 % confidence."""
    sure = special.softmax(points, axis=1).max(1) >= 0.9
    return float(1 - chances[sure, points[sure].argmax(1)].mean())


def _saved(points: np.ndarray, chances: np.ndarray, test: Split) -> dict[Key, float]:
    """What the temperatures of the folds save on the population, each a root of a derivative."""
    rows, labels = test
    losses = []
    for fold in range(FOLDS):
        others = np.arange(ROWS) % FOLDS != fold
        logits, chosen = points[rows[others]], labels[others]

        def slope(inverse: float, z: np.ndarray = logits, y: np.ndarray = chosen) -> float:
            expected = (special.softmax(inverse * z, axis=1) * z).sum(1)
            return float((expected - z[np.arange(len(y)), y]).mean())

        losses.append(_loss(points, chances, 1 / optimize.brentq(slope, 0.01, 100.0)))
    after = float(np.mean(losses))
    return {
        ("loss_at_temperature", ()): after,
        ("loss_saved", ()): _loss(points, chances, 1.0) - after,
    }


def _beaten(points: np.ndarray, chances: np.ndarray, train: Split) -> dict[Key, float]:
    """Accuracy on the population of cheap models fitted to a draw, and the network's lead."""
    rows, labels = train
    own = float(chances[np.arange(len(points)), points.argmax(1)].mean())
    truth: dict[Key, float] = {}
    for name, model in (
        ("linear model", make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))),
        ("nearest neighbor", KNeighborsClassifier(1)),
        ("constant", DummyClassifier()),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            answers = model.fit(points[rows], labels).predict(points)
        accuracy = float(chances[np.arange(len(points)), answers].mean())
        truth[("accuracy", (("baseline", name),))] = accuracy
        truth[("advantage", (("baseline", name),))] = own - accuracy
    return truth


def _margin_truth(points: np.ndarray, chances: np.ndarray) -> dict[Key, float]:
    """Quantiles of the margin over inputs and labels, weighted by the labels' chances."""
    others = np.stack(
        [np.delete(points, label, axis=1).max(1) for label in range(points.shape[1])], axis=1
    )
    margins, weights = (points - others).ravel(), chances.ravel()
    order = np.argsort(margins)
    mass = np.cumsum(weights[order]) / weights.sum()
    truth: dict[Key, float] = {}
    for level in (0.25, 0.5, 0.75):
        value = float(margins[order][np.searchsorted(mass, level)])
        for split in ("train", "test"):
            truth[("margin", (("split", split), ("quantile", level)))] = value
    return truth
