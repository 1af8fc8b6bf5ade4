"""What happens if it is changed?"""

from __future__ import annotations

from functools import partial

import numpy as np

from whynet.concepts.generalization import figures
from whynet.core.estimate import Estimate, format_interval
from whynet.core.measurement import Measurement
from whynet.core.question import (
    Assumption,
    Cell,
    Figure,
    Finding,
    Panel,
    Question,
    Reference,
    Results,
    Table,
)

QUESTION = Question(
    title="What happens if it is changed?",
    short="Changes",
    uses=("interventions",),
    may_use=("removal-effect",),
    order=29,
)

TEMPERATURE, FASTER = "temperature", "step size ×4"

HELPS = {
    "step size ×¼": ("A smaller step size helps.", "Train with a quarter of the step size"),
    FASTER: ("A larger step size helps.", "Train with four times the step size"),
    "width ×½": ("A narrower network does better.", "Train with half the width"),
    "width ×2": ("A wider network does better.", "Train with twice the width"),
}
"""Change to the headline and to what to do where it helps."""


def ask(results: Results) -> Panel:
    """Say what each change that was tried does, and which of them helps."""
    measured: Measurement = results.measured["interventions"]
    names = [str(name) for name in measured.dataset["change"].values]
    score = "R²" if results.facts.task == "regression" else "accuracy"
    findings = (*_better(measured, names, score), *_faster(measured, names, score))
    return Panel(
        lead=_lead(measured, names, findings),
        method="Every change was tried on networks trained anew, against networks from the same "
        "seeds without it, on the same test examples. The temperature is tried on the network as "
        "it is, fitted on other test rows (5 folds). Intervals of changes to training are over "
        "seeds and examples together, that of the temperature over examples. A finding asks that "
        "all comparisons hold together (Bonferroni).",
        figures=(_figure(measured, names, score),),
        tables=(_table(measured, names, score, results.measured.get("removal-effect")),),
        assumptions=(
            Assumption("The training function trains as the user did", "cannot be checked"),
            Assumption("The examples are independent draws of one population", "cannot be checked"),
            Assumption(
                "Training as it is converges from every seed",
                "not met" if measured.estimate("base_diverged").value else "met",
            ),
        ),
        findings=findings,
    )


def _at(measured: Measurement, quantity: str, change: str) -> Estimate | None:
    """Return an entry where it is known."""
    if quantity not in measured.names:
        return None
    found = measured.estimate(quantity, change=change)
    return found if np.isfinite([found.value, found.low, found.high]).all() else None


def _seeds(measured: Measurement) -> int:
    return int(measured.estimate("seeds").value)


def _better(measured: Measurement, names: list[str], score: str) -> tuple[Finding, ...]:
    """Make a finding of each change of training that improves a score and worsens none.

    The temperature is told by the question about probabilities, and stands in the table only.
    """
    made = []
    for change in names:
        if change == TEMPERATURE:
            continue
        gain, loss = (_at(measured, f"{n}_joint", change) for n in ("score_change", "loss_change"))
        if loss is None or loss.low > 0 or (gain is not None and gain.high < 0):
            continue
        scored = gain is not None and gain.low > 0
        if not scored and loss.high >= 0:
            continue
        carried = gain if scored and gain is not None else loss
        headline, advice = HELPS[change]
        told = _effects(measured, change, score)
        made.append(
            Finding(
                key=f"change_{_slug(change)}",
                headline=headline,
                numbers=f"With {change}, {told}; {_seeds(measured)} training seeds, paired.",
                advice=f"{advice}, and judge the result on data that chose nothing: these test "
                "data have now chosen it.",
                estimate=carried,
                label=f"{score if scored else 'loss'} with {change}",
                references=(Reference("no change", 0.0, 0.0),),
                importance=0.6,
                instrument="interventions",
                cites=("dunn1961",),
                regardless=True,
            )
        )
    return tuple(made)


def _faster(measured: Measurement, names: list[str], score: str) -> tuple[Finding, ...]:
    """Make a finding where a larger step size gets to the same loss sooner, at no cost resolved."""
    if FASTER not in names:
        return ()
    share = _at(measured, "steps_share_joint", FASTER)
    loss, gain = (_at(measured, n, FASTER) for n in ("loss_change", "score_change"))
    worse = (loss is not None and loss.low > 0) or (gain is not None and gain.high < 0)
    if share is None or share.high >= 1 or worse:
        return ()
    return (
        Finding(
            key="step_size_has_room",
            headline="The step size has room.",
            numbers=f"Four times the step size reached the usual final training loss in "
            f"**{format_interval(share)}** of the steps ({_seeds(measured)} training seeds). "
            f"Trained to the end, {_effects(measured, FASTER, score)}.",
            advice="Train with a larger step size for fewer steps, and compare both networks on "
            "data that chose nothing.",
            estimate=share,
            label="share of the steps",
            references=(Reference("as it is", 1.0, 1.0),),
            importance=0.45,
            instrument="interventions",
            cites=("dunn1961",),
            regardless=True,
        ),
    )


def _slug(change: str) -> str:
    words = {"×¼": "quarter", "×½": "half", "×2": "double", "×4": "fourfold"}
    return "_".join(words.get(word, word) for word in change.split())


def _effects(measured: Measurement, change: str, score: str) -> str:
    """Write the paired effects of a change, each at 95 %."""
    parts = []
    gain, loss = (_at(measured, name, change) for name in ("score_change", "loss_change"))
    if gain is not None:
        parts.append(f"{score} on unseen data changes by {_points(gain)}")
    if loss is not None:
        parts.append(f"test loss by {_signed(loss)}")
    return " and ".join(parts) or "nothing could be compared"


def _points(change: Estimate) -> str:
    value, low, high = (
        f"{100 * x:+.1f}".replace("-", "−") for x in (change.value, change.low, change.high)
    )
    return f"{value} points [{low}, {high}]"


def _signed(change: Estimate) -> str:
    text = format_interval(change)
    return f"+{text}" if change.value > 0 else text


def _lead(measured: Measurement, names: list[str], findings: tuple[Finding, ...]) -> str:
    """Say what was tried, what it did, and what diverged."""
    sentences = [finding.numbers.replace("**", "") for finding in findings]
    if not findings:
        tried = ", ".join(names)
        sentences.append(f"Tried: {tried}. {_temperature(measured, names)}")
        if names != [TEMPERATURE]:
            sentences.append(
                "No change of training improves on training as it is by an amount that can be "
                f"resolved with {_seeds(measured)} seeds."
            )
    seeds = _seeds(measured)
    for name in names:
        failed = int(measured.estimate("diverged", change=name).value)
        if failed:
            sentences.append(f"With {name} training diverges in {failed} of {seeds} seeds.")
    failed = int(measured.estimate("base_diverged").value)
    if failed:
        sentences.append(f"Training as it is diverges in {failed} of {seeds} seeds.")
    return " ".join(" ".join(sentences).split())


def _temperature(measured: Measurement, names: list[str]) -> str:
    change = _at(measured, "loss_change", TEMPERATURE) if TEMPERATURE in names else None
    if change is None:
        return ""
    return f"A temperature changes the test loss by {_signed(change)}."


def _figure(measured: Measurement, names: list[str], score: str) -> Figure:
    panels = []
    for quantity, label in (
        ("score_change", f"change of {score}"),
        ("loss_change", "change of test loss"),
    ):
        if quantity not in measured.names:
            continue
        estimates = [measured.estimate(quantity, change=name) for name in names]
        if any(np.isfinite(e.low) for e in estimates):
            panels.append((label, estimates))
    return Figure(
        "interventions",
        partial(figures.paired_changes, names=names, panels=panels),
        "What each change does, paired by training seed and test example. More accuracy and less "
        "loss are better. Bars: 95 % each.",
        "; ".join(f"{name}: {_effects(measured, name, score)}" for name in names),
        height=0.9 + 0.35 * len(names),
    )


def _table(
    measured: Measurement, names: list[str], score: str, removal: Measurement | None
) -> Table:
    rows: list[tuple[Cell, ...]] = []
    quantities = ("score_change", "loss_change", "steps_share")
    shown = [quantity for quantity in quantities if quantity in measured.names]
    reached = any(_at(measured, "steps_share", name) is not None for name in names)
    for name in names:
        trained = name != TEMPERATURE
        cells: list[Cell] = [
            _at(measured, quantity, name) or _absent(quantity, trained, reached)
            for quantity in shown
        ]
        failed = int(measured.estimate("diverged", change=name).value)
        cells.append(f"{failed} of {_seeds(measured)}" if trained else "not trained")
        rows.append((name, *cells))
    if removal is not None:
        rows += _removals(removal, shown)
    titles = {
        "score_change": f"change of {score}",
        "loss_change": "change of test loss",
        "steps_share": "steps to the usual final training loss, of the usual ones",
    }
    columns = ("change", *(titles[quantity] for quantity in shown), "diverged")
    note = "A temperature moves no decision, so that accuracy stays as it is."
    notes = (note, *measured.notes) if TEMPERATURE in names else measured.notes
    return Table(columns, tuple(rows), " ".join(notes))


def _absent(quantity: str, trained: bool, reached: bool) -> str:
    """Say why a cell has no number; `reached` is whether losses of some change are known."""
    if quantity == "steps_share" and trained:
        return "not reached" if reached else "not known"
    if not trained and quantity != "loss_change":
        return "unchanged" if quantity == "score_change" else "–"
    return "not known"


def _removals(removal: Measurement, shown: list[str]) -> list[tuple[Cell, ...]]:
    """Return what training without the suspects, and without random rows, changes."""
    named = {"score_change": "accuracy_change", "loss_change": "loss_change"}
    count = int(removal.estimate("removed").value)
    rows: list[tuple[Cell, ...]] = []
    for which, words in (("suspects", "suspects"), ("random", "random rows")):
        cells: list[Cell] = []
        for quantity in shown:
            name = named.get(quantity, "")
            known = name in removal.names
            cells.append(removal.estimate(name, rows=which) if known else "–")
        rows.append((f"without {count} {words}", *cells, "–"))
    return rows
