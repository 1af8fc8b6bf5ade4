"""A finding stands only outside the bands of networks that learned nothing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from whynet.core.estimate import Estimate
from whynet.core.measurement import Measurement, Quantity
from whynet.core.question import (
    SEEDS,
    SHUFFLED,
    UNTRAINED,
    Finding,
    Panel,
    Question,
    Results,
    SubjectFacts,
)
from whynet.examination import standing
from whynet.examination.standing import beside_references, reference_table

FACTS = SubjectFacts("n", "a", 1, 1, "classification", 2, 5, 5, (3,), "cross_entropy")
QUESTION = Question(title="Is it?", short="It", uses=("thing",), references=("thing",))


def measured(value: float, spread: float = 0.05, kind: Any = "interval") -> Measurement:
    low, high = value - spread, value + spread
    return Measurement.of({"share": Quantity(value, low, high, unit="fraction", kind=kind)})


def finding(own: Measurement, **changes: Any) -> Finding:
    values: dict[str, Any] = {
        "key": "large",
        "headline": "It is large.",
        "numbers": "Large.",
        "advice": "",
        "estimate": own.estimate("share"),
        "label": "share",
        "importance": 0.5,
        "instrument": "thing",
        "read": lambda other: other.estimate("share"),
    }
    return Finding(**{**values, **changes})


def ask(results: Results, **changes: Any) -> Panel:
    """Find what is above one half."""
    own = results.measured["thing"]
    large = own.estimate("share").low > 0.5
    return Panel("", "", findings=(finding(own, **changes),) if large else ())


@pytest.fixture(autouse=True)
def question(monkeypatch: pytest.MonkeyPatch) -> None:
    module = SimpleNamespace(QUESTION=QUESTION, ask=ask)
    monkeypatch.setattr(standing, "load_question", lambda name: module)


def results(own: float, **views: Any) -> Results:
    found = {
        name: tuple({"thing": measured(v)} for v in value)
        if isinstance(value, list)
        else {"thing": measured(value)}
        for name, value in views.items()
    }
    return Results(FACTS, {"thing": measured(own)}, **found)


def judged(given: Results, **changes: Any) -> tuple[Panel, tuple[str, ...]]:
    return beside_references("it", ask(given, **changes), given)


def test_a_finding_outside_every_band_stands_with_the_bands_on_its_strip() -> None:
    panel, aside = judged(results(0.9, initial=0.2, shuffled=0.1, seeds=[0.88, 0.93, 0.4]))
    (found,) = panel.findings
    assert aside == ()
    bands = {r.name: (round(r.low, 6), round(r.high, 6)) for r in found.references}
    assert bands == {UNTRAINED: (0.15, 0.25), SHUFFLED: (0.05, 0.15), SEEDS: (0.4, 0.93)}
    assert found.numbers.endswith("2 of 3 other seeds show the same.")


@pytest.mark.parametrize(
    ("views", "which"),
    [({"initial": 0.85}, "before training"), ({"shuffled": 0.95}, "shuffled labels")],
)
def test_what_a_network_that_learned_nothing_shows_is_no_finding(
    views: dict[str, float], which: str
) -> None:
    panel, aside = judged(results(0.9, **views))
    assert panel.findings == () and len(aside) == 1
    assert "It is large." in aside[0] and which in aside[0]
    # Just outside the band it stands again.
    assert judged(results(0.9, **dict.fromkeys(views, 0.79)))[0].findings


def test_a_warning_stands_regardless() -> None:
    panel, aside = judged(results(0.9, initial=0.9), regardless=True)
    assert len(panel.findings) == 1 and aside == ()


def test_a_control_that_is_only_a_hint_sets_nothing_aside() -> None:
    given = Results(
        FACTS, {"thing": measured(0.9)}, {"thing": measured(0.9, 0.5, kind="indicative")}
    )
    assert beside_references("it", ask(given), given)[0].findings


def test_other_seeds_are_no_control() -> None:
    panel, aside = judged(results(0.9, seeds=[0.9]))
    assert aside == () and panel.findings[0].numbers.endswith("Another seed shows the same.")
    panel, _ = judged(results(0.9, seeds=[0.2, 0.3]))
    assert panel.findings[0].numbers.endswith("None of 2 other seeds shows the same.")


def test_without_references_nothing_changes() -> None:
    given = results(0.9)
    panel = ask(given)
    assert beside_references("it", panel, given) == (panel, ())
    assert reference_table(QUESTION, given) is None


def test_a_number_that_cannot_be_read_comes_from_the_same_finding_there() -> None:
    panel, _ = judged(results(0.9, initial=0.7, shuffled=0.2), read=None)
    # The untrained network gives the finding as well, with 0.7; the shuffled one does not.
    assert [r.name for r in panel.findings[0].references] == [UNTRAINED]


def test_a_reference_that_fails_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(other: Measurement) -> Estimate:
        raise KeyError("gone")

    panel, aside = judged(results(0.9, initial=0.9), read=fail)
    assert len(panel.findings) == 1 and aside == ()


def test_the_table_puts_small_numbers_side_by_side() -> None:
    table = reference_table(QUESTION, results(0.9, initial=0.2, seeds=[0.8, 0.85]))
    assert table is not None
    assert table.columns == ("number", "this network", UNTRAINED, f"{SEEDS} (least to largest)")
    ((name, own, before, seeds),) = table.rows
    assert name == "share" and own == measured(0.9).estimate("share")
    assert before == measured(0.2).estimate("share") and seeds == "80.0 to 85.0 %"
