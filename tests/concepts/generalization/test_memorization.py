"""What removing suspects does, its interval, and when the question says something."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure as Canvas

from whynet.concepts.generalization.instruments.removal_effect import PAIRS
from whynet.concepts.generalization.questions import memorization
from whynet.concepts.measuring import measure
from whynet.core.errors import InputError
from whynet.core.measurement import Measurement, Quantity
from whynet.core.outcome import NotApplicable
from whynet.core.question import Finding, Results, SubjectFacts
from whynet.models.retraining import Variation
from whynet.numerics.crossed_means import crossed_mean
from whynet.testing.influence_forms import ROWS, population, retrained_ridge, ridge

FACTS = SubjectFacts("net", "net", 1, 1, "classification", 3, 100, 100, (2,), "cross_entropy")


@pytest.mark.parametrize("seeds", [3, 12])
@pytest.mark.parametrize("effects", [(1.0, 1.0, 1.0), (0.0, 1.0, 3.0), (2.0, 0.1, 0.5)])
def test_crossed_means_cover(seeds: int, effects: tuple[float, float, float]) -> None:
    generator, hits = np.random.default_rng(3), 0
    by_seed, by_example, rest = effects
    for _ in range(400):
        table = (
            by_seed * generator.standard_normal((seeds, 1))
            + by_example * generator.standard_normal((1, 80)) * 3
            + rest * generator.standard_normal((seeds, 80))
        )
        found = crossed_mean(table, over="both")
        hits += found.low <= 0 <= found.high
        assert found.kind == ("interval" if seeds >= 10 else "indicative")
    assert 0.91 <= hits / 400 <= 0.995


def test_crossed_means_refuse() -> None:
    with pytest.raises(InputError, match="table"):
        crossed_mean(np.ones((1, 5)), over="both")
    assert crossed_mean(np.ones((3, 5)), over="both").kind == "indicative"


def test_the_effect_of_removal_covers_the_truth_of_ridge_regression() -> None:
    """Noise of the weights is the same on average, so that the change is that of two ridge fits."""
    points, targets = population()
    form = retrained_ridge()
    hits, draws = 0, 16
    for draw in range(draws):
        found = measure("removal-effect", form.subject(torch.float64, draw), rounds=4)
        assert isinstance(found, Measurement)
        assert found.estimate("pairs").value == 4 * PAIRS
        hidden = measure("self-influence", form.subject(torch.float64, draw))
        assert isinstance(hidden, Measurement)
        gone = hidden.values("suspects").astype(int)
        kept = np.setdiff1d(np.arange(ROWS), gone)
        tested = slice(ROWS, None)
        losses = [
            ((points[tested] @ ridge(points[rows], targets[rows]) - targets[tested]) ** 2).mean()
            for rows in (kept, np.arange(ROWS))
        ]
        estimate = found.estimate("loss_change", rows="suspects")
        assert estimate.kind == "interval"
        hits += estimate.low <= losses[0] - losses[1] <= estimate.high
    assert hits >= 13  # of 95 %, three standard deviations less


def test_it_needs_a_training_function() -> None:
    form = retrained_ridge()
    subject = form.subject(torch.float64, 0)
    other = subject.retrained(Variation())
    refused = measure("removal-effect", other)
    assert isinstance(refused, NotApplicable)


def influence(
    right: float, memorized: int, contradicted: int, checked: int = 100, miss: float = 0.2
) -> Measurement:
    """Return a measurement of 100 rows with these numbers."""

    def plain(value: object, dims: tuple[str, ...] = ()) -> Quantity:
        return Quantity(value, value, value, dims=dims, kind="indicative")  # type: ignore[arg-type]

    share = memorized / 100
    excess = contradicted / 100 - 0.02
    wide = np.stack([np.full(100, 0.9), np.full(100, 0.1)], axis=1)
    return Measurement.of(
        {
            "self_influence": plain(np.linspace(3, 0.1, 100), ("row",)),
            "mean_loss": plain(np.array([0.1, 0.3]), ("when",)),
            "balance": Quantity(0.1),
            "really_left_out": Quantity(float(checked)),
            "miss": Quantity(miss),
            "label": Quantity(np.zeros(100), dims=("row",)),
            "answer": plain(wide.round(), ("row", "when")),
            "chance": plain(wide, ("row", "when")),
            "right": plain(np.array([right, right - share]), ("when",)),
            "memorized": plain(float(memorized)),
            "memorized_share": plain(share),
            "memorized_of_right": plain(share / max(right, 0.01)),
            "contradicted": plain(np.array([contradicted / 100, 0.02]), ("split",)),
            "contradicted_excess": Quantity(
                excess, excess - 0.03, excess + 0.03, kind="indicative"
            ),
            "suspects": Quantity(np.arange(5.0), dims=("rank",)),
        },
        coords={
            "row": list(range(100)),
            "when": ["now", "left out"],
            "split": ["train", "test"],
            "rank": list(range(1, 6)),
        },
    )


def findings(measured: Measurement) -> tuple[Finding, ...]:
    panel = memorization.ask(Results(FACTS, {"self-influence": measured}, {}))
    panel.figures[0].draw(Canvas())
    assert panel.lead
    return panel.findings


def test_contradicted_labels_make_a_finding_and_their_absence_takes_it_back() -> None:
    (finding,) = findings(influence(0.99, 8, 9))
    assert finding.headline.startswith("Some training labels contradict")
    assert finding.estimate.value == pytest.approx(0.09)
    assert "rows 0, 1, 2, 3, 4" in finding.advice
    assert not findings(influence(0.99, 8, 2))  # wrong measurement, no finding
    assert not findings(influence(0.99, 8, 9, checked=0))  # nobody checked the step
    assert not findings(influence(0.99, 8, 9, miss=0.88))  # and here the check failed


def test_random_labels_and_an_untrained_network() -> None:
    (finding,) = findings(influence(1.0, 88, 60))
    assert finding.headline.startswith("Most training rows")
    assert not findings(influence(0.1, 8, 60))
