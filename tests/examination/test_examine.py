from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.examination.small import small_subject

from whynet.concepts.generalization.instruments import calibration, fit
from whynet.concepts.registry import measurers, questions
from whynet.core.errors import InputError
from whynet.core.measurement import Measurement
from whynet.examination.examine import choose, examine


def test_everything_is_asked_by_default() -> None:
    asked, wanted = choose()
    assert set(asked) == set(questions())
    assert set(wanted) == {
        name for q in asked.values() for name in (*q.uses, *q.may_use)
    } <= set(measurers())  # fmt: skip


def test_an_instrument_alone_brings_the_questions_it_suffices_for() -> None:
    asked, wanted = choose(only=["fit"])
    assert list(asked) == ["generalization"] and wanted == ("fit",)
    asked, wanted = choose(only=["generalization"])
    assert list(asked) == ["generalization"] and set(wanted) == {"fit", "baselines", "margins"}
    asked, wanted = choose(skip=["fit"])
    assert "generalization" not in asked and "fit" not in wanted
    asked, wanted = choose(skip=["baselines"])
    assert "generalization" in asked and "baselines" not in wanted


@pytest.mark.parametrize(
    ("words", "argument"),
    [
        ({"only": ["fti"]}, "only"),
        ({"skip": ["fti"]}, "skip"),
        ({"only": ["baselines"]}, "only"),
        ({"skip": list(questions())}, "skip"),
        ({"rounds": {"fti": 1}}, "rounds"),
        ({"rounds": {"fit": 0}}, "rounds"),
        ({"rounds": {"fit": 2}}, "rounds"),
        ({"rounds": {"fit": True}}, "rounds"),
        ({"rounds": {"segment-pieces": 1.0}}, "rounds"),
    ],
)
def test_a_choice_that_cannot_be_is_refused_before_anything_runs(
    words: dict[str, Any], argument: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("whynet.examination.examine.run_tasks", None)
    with pytest.raises(InputError) as refused:
        examine(small_subject(), **words)
    assert refused.value.argument == argument


def test_an_examination_measures_as_the_instruments_do() -> None:
    from whynet.concepts.measuring import measure

    done = examine(small_subject(), only=["calibration", "fit"], seed=4)
    assert done.rounds == {"fit": 1, "calibration": 1} and done.seed == 4
    for name in done.rounds:
        outcome, alone = done.report.outcomes[name], measure(name, small_subject(), seed=4)
        assert isinstance(outcome, Measurement) and isinstance(alone, Measurement)
        assert outcome.dataset.identical(alone.dataset)
    assert done.report.others["initial"].keys() == {"fit", "calibration"}
    receipt = done.report.answers[0].receipts[0]
    assert receipt.command == "whynet.measure('fit', subject, rounds=1, seed=4)"


def test_the_world_is_as_it_was_after_any_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(state: Any) -> Any:
        torch.manual_seed(99)
        torch.set_num_threads(1)
        raise KeyboardInterrupt

    def fail(state: Any) -> Any:
        torch.rand(3)
        raise RuntimeError

    before = torch.random.get_rng_state()
    weights = {k: v.clone() for k, v in small_subject().module.state_dict().items()}
    for broken in (fail, stop):
        monkeypatch.setattr(calibration, "advance", broken)
        done = examine(small_subject(), only=["fit", "calibration"])
        assert done.report.interrupted is (broken is stop)
        assert done.report.answers[0].state == "answered"
        assert torch.equal(torch.random.get_rng_state(), before)
    for name, value in small_subject().module.state_dict().items():
        assert torch.equal(value, weights[name])


def test_what_a_question_lacks_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from whynet.core.outcome import NotApplicable

    monkeypatch.setattr(fit, "start", lambda subject, seed: NotApplicable("Not today."))
    answers = {
        a.id: a for a in examine(small_subject(), only=["fit", "calibration"]).report.answers
    }
    assert (answers["generalization"].state, answers["generalization"].reason) == (
        "not applicable", "Not today.",
    )  # fmt: skip
    assert answers["calibration"].state == "answered"
