"""The panel on theories: what applies, what another seed says, and what the panel then states."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tests.concepts.recipes import descent, trained, wave
from tests.examination.small import small_subject
from torch.nn import functional

from whynet.concepts.field_testing import about, run_field_test
from whynet.concepts.field_verdicts import judged_field
from whynet.concepts.generalization.questions import theories
from whynet.concepts.implicit_bias.field_tests import dln_balanced
from whynet.concepts.registry import field_tests
from whynet.core.measurement import Measurement
from whynet.core.outcome import Failed
from whynet.core.question import Panel
from whynet.examination.examine import Examination, examine
from whynet.examination.manifest import Request, measure_command
from whynet.examination.page import render_page
from whynet.models.families import mlp
from whynet.models.subject import Subject


def wide() -> Subject:
    """A wide network with its recipe, of which two theories speak."""
    recipe = descent(functional.mse_loss, 0.02, 1000)
    data = (wave(40, 1), wave(60, 2))
    return trained(lambda: mlp.build(3, (40,), 1), recipe, data, "mse", torch.float32)


def asked(examination: Examination) -> Panel:
    (answer,) = examination.report.answers
    assert answer.state == "answered", answer.reason
    assert answer.panel is not None
    return answer.panel


def test_all_field_tests_are_asked_for() -> None:
    assert set(theories.QUESTION.may_use) == set(field_tests())


def test_the_panel_says_what_the_field_tests_say() -> None:
    subject = wide()
    examination = examine(subject, only=["theories"])
    panel = asked(examination)
    tried = {row[0]: row for row in panel.tables[0].rows}
    why = {str(row[0]).partition(":")[0]: str(row[1]) for row in panel.tables[1].rows}
    for name in ("dln-balanced", "ntk-linearized"):
        found = run_field_test(name, subject, seeds=1)
        assert isinstance(found, Measurement)
        verdict = judged_field(found, about(name))
        assert tried[name][1] == verdict.state
        assert tried[name][2] == found.estimate("distance", prediction="theory")
        assert tried[name][3] == found.estimate("distance", prediction="seed 1")
        assert verdict.sentence == why[name]
        assert name in panel.lead
    assert set(why) == set(field_tests())
    assert "this task has none" in why["max-margin-logistic"]
    assert "(interpolates), and that fails here" in why["min-norm-interpolation"]
    assert {a.status for a in panel.assumptions} == {"met", "cannot be checked"}
    page = render_page(examination.report)
    assert "Which theories explain what training did?" in page
    assert "arXiv:1806.00900" in page


def test_a_round_trains_one_further_seed() -> None:
    examination = examine(wide(), only=["theories"], rounds={"dln-balanced": 2})
    found = examination.report.outcomes["dln-balanced"]
    assert isinstance(found, Measurement)
    assert [n for n in found.dataset["prediction"].values if str(n).startswith("seed")] == [
        "seed 1", "seed 2",
    ]  # fmt: skip


def test_without_a_recipe_there_is_no_verdict_and_nothing_is_praised() -> None:
    panel = asked(examine(small_subject(), only=["dln-balanced"]))
    assert panel.findings == ()
    states = {row[1] for row in panel.tables[0].rows}
    assert states & {"cannot be judged against another seed", "inconclusive"} == states
    assert panel.lead.startswith("No theory that was tried is known to explain it")


def test_where_nothing_is_to_be_trained_again_no_theory_is_tried() -> None:
    examination = examine(wide(), seeds=0, skip=["curvature"])
    assert not set(examination.rounds) & set(field_tests())
    states = {answer.id: answer.state for answer in examination.report.answers}
    assert states["theories"] == "not reached"


def test_where_none_applies_the_answer_says_why_each_does_not() -> None:
    held = small_subject()
    unknown = Subject(held.module, test=held.test)
    (answer,) = examine(unknown, only=["theories"]).report.answers
    assert answer.state == "not applicable"
    for name in theories.QUESTION.may_use:
        assert f"{name}: This does not apply" in answer.reason


def test_a_field_test_that_raises_loses_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def raises(*words: object, **options: object) -> None:
        raise RuntimeError("no luck")

    monkeypatch.setattr(dln_balanced, "predict_on", raises)
    examination = examine(wide(), only=["theories"])
    assert isinstance(examination.report.outcomes["dln-balanced"], Failed)
    assert [row[0] for row in asked(examination).tables[0].rows] == ["ntk-linearized"]
    (answer,) = examine(wide(), only=["dln-balanced"]).report.answers
    assert (answer.state, answer.reason) == ("failed", "dln-balanced: RuntimeError: no luck")


def test_the_receipt_is_the_command_that_tries_the_claim() -> None:
    request = Request(target="m.py:f", train_with="fit.py:train", seed=2)
    command = measure_command(request, "dln-balanced", 3, "out/weights.safetensors")
    assert command == (
        "whynet atlas run dln-balanced --on m.py:f --weights out/weights.safetensors "
        "--train-with fit.py:train --seed 2 --seeds 3"
    )
    assert measure_command(replace(request, seed=0), "fit", 1, None).startswith("whynet measure")
