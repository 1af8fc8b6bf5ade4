"""What removing the suspects does: trained again with and without them, in pairs."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from whynet.concepts.generalization.left_out_rows import left_out, refusal
from whynet.core.estimate import Estimate
from whynet.core.instrument import Instrument
from whynet.core.measurement import Measurement, Quantity
from whynet.core.outcome import NotApplicable
from whynet.core.seeds import seed_from
from whynet.models.retraining import Variation
from whynet.models.scores import correct
from whynet.models.subject import Subject
from whynet.numerics.crossed_means import crossed_mean

INSTRUMENT = Instrument(
    title="effect of training without the suspects, beside as many random rows",
    unit="fraction",
    needs=("train-data", "test-data", "retrainable", "deterministic", "trainable"),
    cost="self-influence once, and nine trainings a round (three seeds; all rows, without the "
    "suspects, without random ones)",
    cites=("feldman2020", "koh2017"),
    closed_form="retrained-ridge",
    rounds=20,
    draws=True,
)

PAIRS = 3
"""Seeds of a round."""

SETS = ("suspects", "random")


@dataclass(frozen=True)
class State:
    """What was removed, and what the networks trained again did on every test example.

    Attributes:
        subject: the network as it was given.
        seed: of the random rows.
        rows: rows that can be removed at random.
        removed: the suspects.
        losses: `[seeds, 3, examples]`: all rows, without the suspects, without random ones.
        right: the same, share right; empty in regression.

    """

    subject: Subject
    seed: int
    rows: np.ndarray
    removed: np.ndarray
    losses: tuple[np.ndarray, ...] = ()
    right: tuple[np.ndarray, ...] = ()
    rounds: int = 0


def start(subject: Subject, seed: int) -> State | NotApplicable:
    """Find the suspects."""
    refused = refusal(subject)
    if refused is not None:
        return refused
    if subject.examples("test").count < 2:
        return NotApplicable("This does not apply: fewer than two test examples.")
    found = left_out(subject)
    if not len(found.suspects):
        return NotApplicable(
            "This does not apply: no training row would be wrong left out, so that none is removed."
        )
    return State(subject, seed, found.rows, found.rows[found.suspects])


def advance(state: State) -> State:
    """Train three seeds on all rows, without the suspects, and without random ones."""
    losses, right = [], []
    for seed in range(PAIRS * state.rounds + 1, PAIRS * (state.rounds + 1) + 1):
        generator = np.random.default_rng(seed_from("removal-effect", state.seed, seed))
        drawn = generator.permutation(state.rows)[: len(state.removed)]
        scores = [_scores(state.subject, seed, gone) for gone in (None, state.removed, drawn)]
        losses.append(np.stack([one[0] for one in scores]))
        right.append(np.stack([one[1] for one in scores]))
    return replace(
        state,
        losses=(*state.losses, *losses),
        right=(*state.right, *right),
        rounds=state.rounds + 1,
    )


def _scores(subject: Subject, seed: int, gone: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Train without some rows; return loss and share right of every test example."""
    rows = None
    if gone is not None:
        left = np.setdiff1d(np.arange(subject.examples("train").count), gone)
        rows = tuple(int(row) for row in left)
    other = subject.retrained(Variation(seed=seed, rows=rows))
    outputs, targets = other.outputs("test")
    with torch.no_grad():
        loss = other.loss.per_example(outputs, targets).double().numpy()
    if "classification" not in other.loss.task:
        return loss, np.zeros(0)
    return loss, np.asarray(correct(other.loss, outputs, targets).numpy())


def read(state: State) -> Measurement:
    """Return paired changes of loss and accuracy, and how far the two removals differ."""
    quantities = {
        "removed": Quantity(
            float(len(state.removed)), unit="count", how="suspects that were removed"
        ),
        "pairs": Quantity(float(len(state.losses)), unit="count", how="seeds trained in pairs"),
    } | _changes("loss", np.stack(state.losses), "")
    if state.right[0].size:
        quantities |= _changes("accuracy", np.stack(state.right), "fraction")
    return Measurement.of(
        quantities,
        coords={"rows": list(SETS)},
        cites=INSTRUMENT.cites,
        notes=(
            f"Of each of {len(state.losses)} seeds three networks were trained: on all rows, "
            f"without the {len(state.removed)} suspects, without as many random ones.",
        ),
    )


def _changes(name: str, scores: np.ndarray, unit: str) -> dict[str, Quantity]:
    """Return the change by each removal, and that by the suspects less that by random rows."""

    def change(first: np.ndarray, second: np.ndarray, what: str) -> Estimate:
        return crossed_mean(
            first - second,
            unit=unit,
            how=f"{name} {what}, same seeds and examples",
            over="training seeds and test examples",
        )

    everything, without, random = scores[:, 0], scores[:, 1], scores[:, 2]
    return {
        f"{name}_change": Quantity.stacked(
            [change(part, everything, "less that with all rows") for part in (without, random)],
            "rows",
        ),
        f"{name}_contrast": Quantity.from_estimate(
            change(without, random, "without the suspects less that without random rows")
        ),
    }
