"""What the network would say of each training row had it been left out."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from whynet.concepts.generalization.left_out_rows import LISTED, LeftOut, left_out, refusal
from whynet.concepts.generalization.scored_training_rows import MOST_ROWS, chance_of
from whynet.core.estimate import Estimate, Kind
from whynet.core.instrument import Instrument
from whynet.core.measurement import Measurement, Quantity
from whynet.core.outcome import NotApplicable
from whynet.models.scores import IGNORED, labels_of
from whynet.models.subject import Subject
from whynet.numerics import intervals

INSTRUMENT = Instrument(
    title="self-influence: what the network would say of each training row without it",
    unit="nats",
    needs=("train-data", "deterministic", "trainable"),
    cost="gradients of every output on every row twice, solves in up to 2,000 directions, and "
    "one training without 100 rows where that is possible: 6 s for 1,437 rows of 10 classes",
    cites=("feldman2020", "koh2017", "rad2020"),
    closed_form="ridge-rows",
    unit_permutation_invariant=False,  # the pull toward the start compares weight by weight
)

NO_CHANCE = 0.05
"""Chance of its own label below which a row is contradicted by the others."""

SPLITS = ("train", "test")


@dataclass(frozen=True)
class State:
    """The subject, and its rows left out once the one round has run."""

    subject: Subject
    found: LeftOut | None = None


def start(subject: Subject, seed: int) -> State | NotApplicable:
    """Refuse what has no rows that could be left out one by one."""
    refused = refusal(subject)
    return State(subject) if refused is None else refused


def advance(state: State) -> State:
    """Leave out every row, by one Newton step each."""
    return replace(state, found=left_out(state.subject))


def read(state: State) -> Measurement:
    """Return self-influence, answers and chances of every row, and what is memorized."""
    assert state.found is not None
    found = state.found
    order = found.suspects[:LISTED]
    quantities = _rows(found) | _summary(found)
    if found.labels is not None:
        quantities |= _classes(found) | _contradicted(state.subject, found)
    if len(order):
        quantities["suspects"] = Quantity(
            found.rows[order].astype(float),
            dims=("rank",),
            unit="row",
            how="rows that would be wrong left out, counted from 0, largest loss first",
        )
    return Measurement.of(
        quantities,
        coords={
            "row": found.rows.tolist(),
            "when": ["now", "left out"],
            **({"split": list(SPLITS)} if "contradicted" in quantities else {}),
            **({"rank": list(range(1, len(order) + 1))} if len(order) else {}),
        },
        cites=INSTRUMENT.cites,
        notes=_notes(state.subject, found),
    )


def _rows(found: LeftOut) -> dict[str, Quantity]:
    kind: Kind = "exact" if found.exact else "indicative"
    step = "one Newton step without the row"
    losses = np.stack(found.losses, axis=1)
    return {
        "self_influence": _plain(
            found.self_influence, ("row",), _unit(found), kind, f"loss left out less now, {step}"
        ),
        "loss": _plain(losses, ("row", "when"), _unit(found), kind, step),
        "leverage": _plain(
            found.leverage, ("row",), "", kind, "trace of the row's curvature and M"
        ),
    }


def _plain(values: np.ndarray, dims: tuple[str, ...], unit: str, kind: Kind, how: str) -> Quantity:
    """Return numbers whose error no interval is known for."""
    return Quantity(
        values, values, values, dims=dims, unit=unit, kind=kind, how=how, over="the training rows"
    )


def _unit(found: LeftOut) -> str:
    return "" if found.labels is None else "nats"


def _summary(found: LeftOut) -> dict[str, Quantity]:
    kind: Kind = "exact" if found.exact else "indicative"
    damping = found.damping
    summary = {
        "mean_loss": np.array([part.mean() for part in found.losses]),
        "effective_parameters": np.array(found.leverage.sum()),
    }
    return {
        "mean_loss": _plain(
            summary["mean_loss"], ("when",), _unit(found), kind, "mean over the rows"
        ),
        "effective_parameters": _plain(
            summary["effective_parameters"], (), "count", kind, "sum of the leverages"
        ),
        "damping": Quantity(damping.value, how=f"of the summed loss, by {damping.rule}"),
        "balance": Quantity(damping.cosine, how="cosine of the remaining gradient and the pull"),
        "condition": Quantity(damping.condition, how="largest over least damped eigenvalue"),
        "really_left_out": Quantity(
            float(damping.checked), unit="count", how="rows that one training was run without"
        ),
    } | _miss(found)


def _miss(found: LeftOut) -> dict[str, Quantity]:
    """Return how well rows that were really left out are predicted, where some were."""
    if not found.damping.checked:
        return {}
    how = "root mean square gap on them, of the outputs over the targets' spread"
    if found.labels is not None:
        how = "root mean square gap on them, of the probability of the own label"
    return {"miss": Quantity(found.damping.miss, how=f"{how}; the damping was chosen by it")}


def _classes(found: LeftOut) -> dict[str, Quantity]:
    assert found.labels is not None
    labels, (now, without) = found.labels, found.answers
    chances = np.stack([chance_of(part, labels) for part in (found.outputs, found.without)], axis=1)
    step = "one Newton step without the row"
    right = [
        _indicative(int((answers == labels).sum()), len(labels), "share right")
        for answers in (now, without)
    ]
    count = len(found.memorized)
    return {
        "label": Quantity(labels.astype(float), dims=("row",), how="class it is labeled with"),
        "answer": _plain(
            np.stack([now, without], axis=1).astype(float), ("row", "when"), "", "indicative", step
        ),
        "chance": _plain(chances, ("row", "when"), "fraction", "indicative", f"own label, {step}"),
        "right": Quantity.stacked(right, "when"),
        "memorized": _plain(
            np.array(float(count)), (), "count", "indicative", "right now, wrong left out"
        ),
        "memorized_share": Quantity.from_estimate(
            _indicative(count, len(labels), "share right now and wrong left out")
        ),
        "memorized_of_right": Quantity.from_estimate(
            _indicative(count, max(1, int((now == labels).sum())), "share of rows right now")
        ),
    }


def _contradicted(subject: Subject, found: LeftOut) -> dict[str, Quantity]:
    """Return how many labels get next to no chance: of rows left out, and of unseen examples."""
    if subject.test is None or found.labels is None:
        return {}
    given, targets = subject.outputs("test")
    labels = labels_of(targets, given, subject.loss).numpy().reshape(-1)
    scored = labels != IGNORED
    outputs = given.double().reshape(len(given), -1)[torch.as_tensor(scored)]
    counts = [
        (int((chance_of(part, own) < NO_CHANCE).sum()), len(own))
        for part, own in ((found.without, found.labels), (outputs, labels[scored]))
    ]
    if not counts[1][1]:
        return {}
    how = f"share whose own label gets less than {100 * NO_CHANCE:.0f} %"
    excess = intervals.difference_of_proportions(
        *counts[0], *counts[1], over="training rows and test examples"
    )
    return {
        "contradicted": Quantity.stacked([_indicative(*count, how) for count in counts], "split"),
        "contradicted_excess": Quantity.from_estimate(
            replace(excess, kind="indicative", how=f"{how}, left out less test, {excess.how}")
        ),
    }


def _indicative(count: int, rows: int, how: str) -> Estimate:
    """Return a share over the rows; what is predicted by a formula is no more than indicative."""
    found = intervals.proportion(count, rows, over="training rows")
    return replace(found, kind="indicative", how=f"{how}, {found.how}")


def _notes(subject: Subject, found: LeftOut) -> tuple[str, ...]:
    damping = found.damping
    held = {
        "pull": f"the pull toward {damping.toward} that the remaining gradient shows "
        f"(cosine {damping.cosine:.2f}, 1 at a minimum)",
        "retraining": f"one training without {damping.checked} random rows, whose answers are "
        f"predicted to {damping.miss:.2f} (root mean square)",
        "condition": f"the largest condition number that is allowed ({damping.condition:.0e})",
    }
    notes = [f"The damping {damping.value:.3g} of the summed loss comes from {held[damping.rule]}."]
    if found.layer:
        notes.append("Only the weights of the last linear layer are moved.")
    if found.neglected > 0.01:
        notes.append(
            f"Directions with {100 * found.neglected:.0f} % of the curvature were left out, which "
            "makes influences larger, never smaller."
        )
    if subject.examples("train").count > MOST_ROWS:
        notes.append(
            f"A seeded subset of {MOST_ROWS:,} training rows was used, and the curvature of the "
            "others left out, which makes influences larger."
        )
    return tuple(notes)
