"""Regression on a finite set of inputs and targets: every true score is a finite sum."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import RidgeCV
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from whynet.core.seeds import seed_from
from whynet.models.subject import Subject
from whynet.testing.closed_forms import ClosedForm, Key

POPULATION, FEATURES, ROWS = 4001, 3, 400


def finite_regression() -> ClosedForm:
    """A linear network that is a little off, on points and targets drawn from a finite set."""
    points, targets, weight = population()
    given = points @ weight

    def subject(dtype: torch.dtype, draw: int) -> Subject:
        module = nn.Linear(FEATURES, 1, bias=False)
        with torch.no_grad():
            module.weight.copy_(torch.tensor(weight)[None])
        train, test = (
            (torch.tensor(points[rows], dtype=dtype), torch.tensor(targets[rows], dtype=dtype))
            for rows in drawn(draw)
        )
        return Subject(module, train=train, test=test, loss="mse", dtype=dtype, name="regression")

    def of_draw(instrument: str, draw: int) -> dict[Key, float]:
        return _beaten(points, targets, given, drawn(draw)[0]) if instrument == "baselines" else {}

    truth = {"fit": _truth(targets, given), "baselines": {}}
    return ClosedForm(subject, truth, over_examples=True, of_draw=of_draw)


def population() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return points, their targets, and the weight of the network, rounded to float32."""
    generator = np.random.default_rng(seed_from("finite-regression"))
    points = generator.standard_normal((POPULATION, FEATURES))
    weight = np.array([1.0, -0.5, 0.25])
    bent = points @ weight + 0.3 * points[:, 0] ** 2
    return points, bent + 0.8 * generator.standard_normal(POPULATION), weight


def drawn(draw: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw the rows of the training and of the test data."""
    random = np.random.default_rng(seed_from("finite-regression", draw))
    return random.integers(POPULATION, size=ROWS), random.integers(POPULATION, size=ROWS)


def _r_squared(targets: np.ndarray, given: np.ndarray) -> float:
    return 1 - float(((targets - given) ** 2).mean() / targets.var())


def _truth(targets: np.ndarray, given: np.ndarray) -> dict[Key, float]:
    loss = float(((targets - given) ** 2).mean())
    truth: dict[Key, float] = {("loss_gap", ()): 0.0}
    for split in ("train", "test"):
        place = (("split", split),)
        truth[("loss", place)] = loss
        truth[("rmse", place)] = loss**0.5
        truth[("r_squared", place)] = _r_squared(targets, given)
    return truth


def _beaten(
    points: np.ndarray, targets: np.ndarray, given: np.ndarray, rows: np.ndarray
) -> dict[Key, float]:
    """Share of variance that cheap models fitted to a draw explain, and the network's lead."""
    own = _r_squared(targets, given)
    truth: dict[Key, float] = {}
    for name, model in (
        ("linear model", make_pipeline(StandardScaler(), RidgeCV(np.logspace(-3, 3, 13)))),
        ("nearest neighbor", KNeighborsRegressor(10)),
        ("constant", DummyRegressor()),
    ):
        answers = model.fit(points[rows], targets[rows]).predict(points)
        score = _r_squared(targets, np.asarray(answers))
        truth[("r_squared", (("baseline", name),))] = score
        truth[("advantage", (("baseline", name),))] = own - score
    return truth
