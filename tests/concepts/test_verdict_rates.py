"""Rules of judgement on made-up tables: they rarely support what does not hold, and have power."""

from __future__ import annotations

import pytest
from tests.concepts.verdict_rates import MOST_FALSE, MadeUp, made_up, share

from whynet.atlas.registry import claims

CASES = [(claim, case) for claim in claims() for case in made_up(claim)]


FEW, SLACK = 20, 0.1
"""Draws of the fast test, and by how much their share may pass its bound."""

every_case = pytest.mark.parametrize(
    ("claim", "case"), CASES, ids=[f"{claim}: {case.words}" for claim, case in CASES]
)


@every_case
def test_a_few_tables_are_called_what_they_are(claim: str, case: MadeUp) -> None:
    assert case.least - SLACK <= share(claim, case, FEW) <= case.most + SLACK


@pytest.mark.endurance
@every_case
def test_the_share_of_a_verdict_is_within_its_bounds(claim: str, case: MadeUp) -> None:
    assert case.least <= share(claim, case) <= case.most


@pytest.mark.parametrize("claim", claims())
def test_every_rule_is_tried_where_its_claim_holds_and_where_not(claim: str) -> None:
    supported = [case for case in made_up(claim) if case.state == "supported"]
    assert any(case.most <= MOST_FALSE and case.draws >= 200 for case in supported)
    assert any(case.least >= 0.8 for case in supported)
