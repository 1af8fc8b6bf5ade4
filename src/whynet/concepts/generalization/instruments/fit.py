"""Loss and accuracy, or R² and RMSE, on the data it was trained on and on data it never saw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from whynet.core.estimate import Estimate
from whynet.core.instrument import Instrument
from whynet.core.measurement import Measurement, Quantity
from whynet.core.outcome import NotApplicable
from whynet.models.data.repeated_rows import seen_rows
from whynet.models.losses import Loss
from whynet.models.scores import correct, has_one_label
from whynet.models.subject import Split, Subject
from whynet.numerics import intervals

INSTRUMENT = Instrument(
    title="loss and accuracy (or R² and RMSE) on training and test data, and their gap",
    unit="fraction",
    needs=(),
    cost="one forward pass over the data",
    cites=("clopper1934", "newcombe1998"),
    closed_form="logistic-labels",
)


@dataclass(frozen=True)
class Scores:
    """What every example of a split scored, on the CPU in float64."""

    loss: np.ndarray
    right: np.ndarray | None
    squared_error: np.ndarray | None
    deviation: np.ndarray | None
    one_label: bool


@dataclass(frozen=True)
class State:
    """The subject; once the one round has run, its scores and how many test rows were seen."""

    subject: Subject
    scores: dict[str, Scores]
    seen: int = 0


def start(subject: Subject, seed: int) -> State | NotApplicable:
    """Prepare; nothing is drawn, so the seed has no part in it."""
    if subject.train is None and subject.test is None:
        return NotApplicable("This does not apply: neither training nor test data were given.")
    return State(subject, {})


def advance(state: State) -> State:
    """Score every example of every split."""
    subject = state.subject
    splits: list[Split] = [s for s in ("train", "test") if getattr(subject, s) is not None]
    seen = 0
    if subject.train is not None and subject.test is not None:
        seen = seen_rows(subject.test, subject.train)
    return State(subject, {split: score(subject, split) for split in splits}, seen)


def score(subject: Subject, split: Split) -> Scores:
    """Score every example of a split: its loss, and whether it is right or how far off."""
    outputs, targets = subject.outputs(split)
    loss: Loss = subject.loss
    each = loss.per_example(outputs, targets).double().numpy()
    right = squared = deviation = None
    one_label = True
    if "classification" in loss.task:
        right = correct(loss, outputs, targets).numpy()
        one_label = has_one_label(loss, outputs)
    elif loss.task == "regression":
        wanted = targets.double().reshape(len(targets), -1).numpy()
        given = outputs.double().reshape(len(outputs), -1).numpy()
        squared = ((given - wanted) ** 2).mean(1)
        deviation = ((wanted - wanted.mean(0)) ** 2).mean(1)
    return Scores(each, right, squared, deviation, one_label)


def read(state: State) -> Measurement:
    """Return loss and accuracy or R² and RMSE a split, and the gap between the splits."""
    scores = state.scores
    quantities = {
        "loss": Quantity.stacked(
            [
                intervals.mean_t(s.loss, how="mean over examples", over="examples")
                for s in scores.values()
            ],
            "split",
        ),
    }
    if all(s.right is not None for s in scores.values()):
        quantities["accuracy"] = Quantity.stacked([_accuracy(s) for s in scores.values()], "split")
    if all(s.squared_error is not None for s in scores.values()):
        quantities["rmse"] = Quantity.stacked([_rmse(s) for s in scores.values()], "split")
        if all(_varies(s) for s in scores.values()):
            quantities["r_squared"] = Quantity.stacked(
                [r_squared(s.squared_error, s.deviation) for s in scores.values()], "split"
            )
    if len(scores) == 2:
        quantities |= _gaps(scores["train"], scores["test"])
        quantities["seen_test_rows"] = Quantity(
            float(state.seen), unit="count", how="test rows whose inputs are a training row's"
        )
    return Measurement.of(quantities, coords={"split": list(scores)}, cites=INSTRUMENT.cites)


def _varies(scores: Scores) -> bool:
    return scores.deviation is not None and float(scores.deviation.mean()) > 0


def _accuracy(scores: Scores) -> Estimate:
    right = scores.right
    assert right is not None
    if scores.one_label:
        return intervals.proportion(int(right.sum()), len(right), over="examples")
    return intervals.mean_t(
        right,
        unit="fraction",
        how="mean over examples of the share of right positions",
        over="examples",
    )


def _rmse(scores: Scores) -> Estimate:
    assert scores.squared_error is not None
    square = intervals.mean_t(scores.squared_error, over="examples")
    value, low, high = (max(x, 0.0) ** 0.5 for x in (square.value, square.low, square.high))
    how = "root of the interval of the mean square"
    return Estimate(value, low, high, square.kind, how=how, over="examples")


def r_squared(squared_error: np.ndarray | None, deviation: np.ndarray | None) -> Estimate:
    """Share of the targets' variance that is explained, with its interval over examples.

    The interval is Student's t on the influence function of the ratio of the two means, since
    numerator and denominator share their examples.
    """
    assert squared_error is not None
    assert deviation is not None
    spread = deviation.mean()
    ratio = squared_error.mean() / spread
    influence = 1 - ratio - (squared_error - ratio * deviation) / spread
    return intervals.mean_t(influence, how="t interval of the ratio's influence", over="examples")


def _gaps(train: Scores, test: Scores) -> dict[str, Quantity]:
    """Training minus test for scores, test minus training for the loss: positive is a gap."""
    gaps = {
        "loss_gap": Quantity.from_estimate(
            intervals.difference_of_means(
                test.loss, train.loss, how="test minus training, Welch", over="examples"
            )
        )
    }
    if train.right is not None and test.right is not None:
        if train.one_label:
            gap = intervals.difference_of_proportions(
                int(train.right.sum()),
                len(train.right),
                int(test.right.sum()),
                len(test.right),
                how="training minus test, Newcombe's hybrid score",
                over="examples",
            )
        else:
            gap = intervals.difference_of_means(
                train.right,
                test.right,
                unit="fraction",
                how="training minus test, Welch",
                over="examples",
            )
        gaps["accuracy_gap"] = Quantity.from_estimate(gap)
    return gaps
