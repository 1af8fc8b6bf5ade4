"""What cheap models reach on the same data: a linear model, nearest neighbors, a constant."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from whynet.core.estimate import Estimate
from whynet.core.instrument import Instrument
from whynet.core.measurement import Measurement, Quantity
from whynet.core.outcome import NotApplicable
from whynet.models.data.token_counts import frequent_tokens, token_counts, tokens_of
from whynet.models.scores import IGNORED, has_one_label, labels_of
from whynet.models.subject import Subject
from whynet.numerics import intervals

INSTRUMENT = Instrument(
    title="cheap baselines on the same data, and the network's paired advantage over them",
    unit="fraction",
    needs=("train-data", "test-data"),
    cost="fitting a linear model on the training data: seconds for thousands of rows",
    cites=("clopper1934", "newcombe1998"),
    closed_form="logistic-labels",
)

NAMES = ("linear model", "nearest neighbor", "constant")
MOST_ROWS = 20_000
MOST_FEATURES = 5_000
MOST_TOKENS = 1_000
"""Tokens that are counted, the most frequent ones of the training data."""


@dataclass(frozen=True)
class State:
    """The subject, and per baseline the test scores beside the network's own."""

    subject: Subject
    own: np.ndarray | None = None
    theirs: tuple[np.ndarray, ...] = ()
    deviation: np.ndarray | None = None


def start(subject: Subject, seed: int) -> State | NotApplicable:
    """Check that cheap models can be fitted on rows of numbers or tokens with one target each."""
    if subject.loss.task == "other":
        return NotApplicable("This does not apply: the loss is neither of classes nor of squares.")
    outputs, _ = subject.outputs("test")
    if subject.loss.task != "regression" and not has_one_label(subject.loss, outputs):
        return NotApplicable("This does not apply: an example carries more than one label.")
    shape = subject.examples("train").input_shape or ()
    if not subject.examples("train").is_float:
        if tokens_of(subject.examples("train").take([0])[0]) is None:
            return NotApplicable(
                "This does not apply: the inputs are neither rows of numbers nor sequences of "
                "tokens, which cheap models read."
            )
    elif np.prod(shape) > MOST_FEATURES:
        return NotApplicable(
            f"This does not apply: inputs of {int(np.prod(shape)):,} numbers are too many for a "
            f"cheap baseline (at most {MOST_FEATURES:,})."
        )
    if subject.loss.task != "regression":
        if len(np.unique(_labels(subject, "train"))) < 2:
            return NotApplicable("This does not apply: the training data hold one class only.")
    elif not (np.ptp(_targets(subject, "test"), axis=0) > 0).any():
        return NotApplicable("This does not apply: the targets of the test data do not vary.")
    return State(subject)


def advance(state: State) -> State:
    """Fit the baselines on (at most 20,000 rows of) the training data and score the test data."""
    subject = state.subject
    train_x, test_x = _features(subject)
    if subject.loss.task == "regression":
        return _regression(subject, train_x, test_x)
    train_y, test_y = _labels(subject, "train"), _labels(subject, "test")
    outputs, _ = subject.outputs("test")
    answers = subject.loss.predictions(outputs).numpy().reshape(-1)[_rows(subject, "test")]
    own = (answers == test_y).astype(float)
    models = (
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=300)),
        KNeighborsClassifier(1),
        DummyClassifier(strategy="most_frequent"),
    )
    theirs = tuple(
        (_fitted(model, train_x, train_y).predict(test_x) == test_y).astype(float)
        for model in models
    )
    return State(subject, own, theirs)


def _regression(subject: Subject, train_x: np.ndarray, test_x: np.ndarray) -> State:
    train_y, test_y = _targets(subject, "train"), _targets(subject, "test")
    outputs, _ = subject.outputs("test")
    models = (
        make_pipeline(StandardScaler(), RidgeCV(np.logspace(-3, 3, 13))),
        KNeighborsRegressor(min(10, len(train_x))),
        DummyRegressor(),
    )
    given = outputs.double().numpy().reshape(len(test_y), -1)
    own = ((given - test_y) ** 2).mean(1)
    theirs = []
    for model in models:
        predicted = np.asarray(_fitted(model, train_x, train_y).predict(test_x))
        theirs.append(((predicted.reshape(test_y.shape) - test_y) ** 2).mean(1))
    return State(subject, own, tuple(theirs), ((test_y - test_y.mean(0)) ** 2).mean(1))


def _fitted(model: Any, x: np.ndarray, y: np.ndarray) -> Any:
    with warnings.catch_warnings():
        # A linear baseline stopped at 300 steps is still a baseline.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(x, y)


def _rows(subject: Subject, split: Any) -> np.ndarray:
    """Rows that are scored; of the training data at most 20,000, evenly spread."""
    outputs, targets = subject.outputs(split)
    rows = np.arange(len(targets))
    if subject.loss.task != "regression":
        rows = rows[labels_of(targets, outputs, subject.loss).numpy().reshape(-1) != IGNORED]
    if split == "train" and len(rows) > MOST_ROWS:
        rows = rows[np.arange(MOST_ROWS) * len(rows) // MOST_ROWS]
    return rows


def _features(subject: Subject) -> tuple[np.ndarray, np.ndarray]:
    """Return what cheap models read of training and test data, `[rows, features]`: the inputs
    themselves; of sequences how often each token occurs."""
    train, test = (
        subject.examples(split).take(_rows(subject, split))[0] for split in ("train", "test")
    )
    if subject.examples("train").is_float:
        assert isinstance(train, Tensor) and isinstance(test, Tensor)
        return _flat(train), _flat(test)
    known, unseen = tokens_of(train), tokens_of(test)
    assert known is not None and unseen is not None
    vocabulary = frequent_tokens(*known, MOST_TOKENS)
    return token_counts(*known, vocabulary), token_counts(*unseen, vocabulary)


def _flat(inputs: Tensor) -> np.ndarray:
    return np.asarray(inputs.reshape(len(inputs), -1).to("cpu").double().numpy())


def _labels(subject: Subject, split: Any) -> np.ndarray:
    outputs, targets = subject.outputs(split)
    labels = labels_of(targets, outputs, subject.loss).numpy().reshape(-1)
    return np.asarray(labels[_rows(subject, split)])


def _targets(subject: Subject, split: Any) -> np.ndarray:
    _, targets = subject.outputs(split)
    flat = targets.double().numpy().reshape(len(targets), -1)
    return np.asarray(flat[_rows(subject, split)])


def read(state: State) -> Measurement:
    """Return each baseline's accuracy (or R²) and the network's paired advantage over it."""
    assert state.own is not None
    if state.subject.loss.task == "regression":
        scores, advantages = _compare_squares(state)
        name = "r_squared"
    else:
        scores = [intervals.proportion(int(t.sum()), len(t), over="examples") for t in state.theirs]
        advantages = [
            intervals.paired_difference_of_proportions(state.own > 0, theirs > 0, over="examples")
            for theirs in state.theirs
        ]
        name = "accuracy"
    return Measurement.of(
        {
            name: Quantity.stacked(scores, "baseline"),
            "advantage": Quantity.stacked(advantages, "baseline"),
        },
        coords={"baseline": list(NAMES)},
        cites=INSTRUMENT.cites,
        notes=_notes(state.subject),
    )


def _notes(subject: Subject) -> tuple[str, ...]:
    notes = []
    if not subject.examples("train").is_float:
        notes.append(
            "Cheap models read how often each token occurs in an example, not where (at most the "
            f"{MOST_TOKENS:,} most frequent tokens of the training data)."
        )
    if subject.examples("train").count > MOST_ROWS:
        notes.append(f"The baselines were fitted on {MOST_ROWS:,} training rows, evenly spread.")
    return tuple(notes)


def _compare_squares(state: State) -> tuple[list[Estimate], list[Estimate]]:
    """R² of each baseline; the advantage is the drop in the share of unexplained variance."""
    assert state.own is not None
    assert state.deviation is not None
    spread = state.deviation.mean()
    scores, advantages = [], []
    for theirs in state.theirs:
        ratio = theirs.mean() / spread
        scores.append(
            intervals.mean_t(
                1 - ratio - (theirs - ratio * state.deviation) / spread,
                how="t interval of the ratio's influence",
                over="examples",
            )
        )
        gain = (theirs - state.own) / spread
        correction = -gain.mean() * (state.deviation / spread - 1)
        advantages.append(
            intervals.mean_t(
                gain + correction,
                how="paired difference of R², t interval of the ratio's influence",
                over="examples",
            )
        )
    return scores, advantages
