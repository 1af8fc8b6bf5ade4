"""How field tests compare and judge, on made-up predictions whose truth is known."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from tests.concepts.recipes import gaussian
from torch import Tensor, nn

from whynet.concepts.field_testing import (
    CONTROL,
    THEORY,
    about,
    checked,
    checks_in,
    distances,
    run_field_test,
)
from whynet.concepts.field_verdicts import control_state, judged_field
from whynet.concepts.registry import field_tests, load_field_test
from whynet.core.field_test import Broken, Check, FieldModule, FieldTest
from whynet.core.measurement import Measurement
from whynet.core.tags import TAGS
from whynet.models.retraining import Trainer
from whynet.models.subject import Subject

ABOUT = FieldTest(
    asks="Is it so?", predicts="values", items="test examples", needs=("test-data",),
    assumptions={"sound": "soundness"}, control=Broken("wrong", "soundness", "It is wrong."),
    cites=("lee2019",), cost="nothing",
)  # fmt: skip


def build() -> nn.Module:
    return nn.Linear(2, 1)


def nothing(model: nn.Module, inputs: Tensor, targets: Tensor) -> None:
    return


def subject(trainer: bool = True) -> Subject:
    x, y = gaussian(50, 2), gaussian(50, 1, seed=1)
    held = Trainer(build, nothing) if trainer else None
    return Subject(build(), train=(x, y), test=(x, y), loss="mse", trainer=held)


def module(
    measured: Any,
    theory: Any,
    control: Any,
    others: list[Any],
    rivals: Mapping[str, Any] | None = None,
) -> FieldModule:
    """Return a field test that says what it is told."""
    left = list(others)
    return cast(
        FieldModule,
        SimpleNamespace(
            FIELD_TEST=ABOUT,
            check_on=lambda subject, seed: (Check("sound", "met", "it is."),),
            predict_on=lambda subject, seed, broken=False: control if broken else theory,
            measure_on=lambda subject, seed: measured,
            another_on=lambda subject, other, seed: left.pop(0),
            rivals_on=lambda subject, seed: dict(rivals or {}),
        ),
    )


def noisy(size: float, seed: int, items: int = 200) -> np.ndarray:
    base = np.random.default_rng(0).standard_normal((items, 2))
    return base + size * np.random.default_rng(seed).standard_normal((items, 2))


def verdict(
    theory: float, control: float, others: list[float], items: int = 200, **rivals: float
) -> str:
    found = run_field_test(
        module(
            noisy(0, 0, items), noisy(theory, 1, items), noisy(control, 2, items),
            [noisy(size, 10 + k, items) for k, size in enumerate(others)],
            {name: noisy(size, 21, items) for name, size in rivals.items()},
        ),
        subject(),
        seeds=len(others),
    )  # fmt: skip
    return judged_field(found, ABOUT).state


@pytest.mark.parametrize(
    ("theory", "control", "others", "rivals", "state"),
    [
        (0.1, 0.9, [0.5, 0.4], {}, "explains"),
        (0.4, 0.9, [0.4], {}, "no better than another seed"),
        (0.4, 0.9, [0.7, 0.4], {}, "no better than another seed"),
        (0.4, 0.9, [0.1], {}, "does not explain"),
        (0.4, 0.9, [0.9, 0.1], {}, "does not explain"),
        (0.1, 0.2, [0.5], {}, "inconclusive"),
        (0.1, 0.1, [0.5], {}, "inconclusive"),
        (2.0, 3.0, [3.0], {}, "does not explain"),
        (0.2, 0.9, [0.5], {"simpler": 0.05}, "does not explain"),
        (0.2, 0.9, [0.5], {"simpler": 0.2}, "inconclusive"),
        (0.2, 0.9, [0.5], {"simpler": 0.6}, "explains"),
    ],
)
def test_verdicts(
    theory: float, control: float, others: list[float], rivals: dict[str, float], state: str
) -> None:
    assert verdict(theory, control, others, **rivals) == state


def test_few_items_decide_nothing() -> None:
    assert verdict(0.1, 0.9, [0.5], items=29) == "inconclusive"


def test_a_theory_that_is_as_far_as_another_seed_seldom_explains() -> None:
    """At the true null at most one in twenty is called explained."""
    explained = 0
    draws = 200
    for draw in range(draws):
        random = np.random.default_rng(1000 + draw)
        base, theory, control, other = random.standard_normal((4, 60, 2))
        made = module(base, base + 0.4 * theory, base + control, [base + 0.4 * other])
        found = run_field_test(made, subject(), seeds=1)
        explained += judged_field(found, ABOUT).state == "explains"
    assert explained <= 0.05 * draws


def test_a_wrong_measurement_flips_the_verdict() -> None:
    sound = module(noisy(0, 0), noisy(0.1, 1), noisy(0.9, 2), [noisy(0.5, 3)])
    assert judged_field(run_field_test(sound, subject(), seeds=1), ABOUT).state == "explains"
    wrong = module(noisy(0, 0)[::-1], noisy(0.1, 1), noisy(0.9, 2), [noisy(0.5, 3)])
    assert judged_field(run_field_test(wrong, subject(), seeds=1), ABOUT).state != "explains"


def test_labels_are_compared_by_whether_they_differ() -> None:
    random = np.random.default_rng(0)
    truth = random.integers(0, 3, 300)

    def changed(share: float, seed: int) -> np.ndarray:
        draws = np.random.default_rng(seed)
        return np.where(draws.random(300) < share, (truth + 1) % 3, truth)

    theory = changed(0.02, 1)
    made = module(truth, theory, changed(0.6, 2), [changed(0.2, 3)])
    found = run_field_test(made, subject(), seeds=1)
    assert isinstance(found, Measurement)
    assert judged_field(found, ABOUT).state == "explains"
    assert found.estimate("distance", prediction=THEORY).value == (theory != truth).mean()
    assert control_state(found) == "does not explain"
    most = np.bincount(truth).max() / 300
    assert found.estimate("distance", prediction="a constant").value == pytest.approx(1 - most)


def test_distances_are_those_of_the_formula_and_round_off_is_none() -> None:
    one, other = noisy(0.3, 1), noisy(0, 0)
    away = other - other.mean(0)
    expected = [
        float(np.sqrt(((a - b) ** 2).sum())) / np.mean([np.sqrt((c**2).sum()) for c in away])
        for a, b in zip(one, other, strict=True)
    ]
    np.testing.assert_allclose(distances(one, other), expected)
    near = other.astype(np.float32).astype(np.float64)
    assert distances(near, other, torch.float32).max() == 0
    assert distances(near, other, torch.float64).max() > 0


def test_without_a_recipe_there_is_no_reference() -> None:
    made = module(noisy(0, 0), noisy(0.1, 1), noisy(0.9, 2), [])
    found = run_field_test(made, subject(trainer=False), seeds=3)
    assert judged_field(found, ABOUT).state == "cannot be judged against another seed"


def test_a_recipe_that_gives_the_network_itself_is_no_reference() -> None:
    held = subject()
    state = held.module.state_dict()

    def same(model: nn.Module, inputs: Tensor, targets: Tensor) -> None:
        model.load_state_dict(state)

    again = Subject(
        held.module, train=held.train, test=held.test, loss="mse", trainer=Trainer(build, same)
    )
    made = module(noisy(0, 0), noisy(0.1, 1), noisy(0.9, 2), [noisy(0.5, 3)])
    found = run_field_test(made, again, seeds=1)
    assert isinstance(found, Measurement)
    assert judged_field(found, ABOUT).state == "cannot be judged against another seed"
    assert any("this very network" in note for note in found.notes)


def test_checks_are_read_back_from_the_notes() -> None:
    check = Check("sound", "cannot be checked", "nobody knows: not even we.")
    found = run_field_test(
        module(noisy(0, 0), noisy(0.1, 1), noisy(0.9, 2), [noisy(0.5, 3)]), subject(), seeds=1
    )
    assert isinstance(found, Measurement)
    assert checks_in(found) == (Check("sound", "met", "it is."),)
    noted = Measurement(found.dataset.assign_attrs(notes=[checked(check), "Another note: met."]))
    assert checks_in(noted) == (check,)


@pytest.mark.parametrize("name", field_tests())
def test_a_field_test_is_what_its_source_says(name: str) -> None:
    held = load_field_test(name)
    assert about(name) == held.FIELD_TEST
    assert set(held.FIELD_TEST.needs) <= set(TAGS)
    for function in ("check_on", "predict_on", "measure_on", "another_on", "rivals_on"):
        assert callable(getattr(held, function))
    assert {CONTROL, THEORY}.isdisjoint(held.FIELD_TEST.assumptions)


def test_every_seed_counts_and_not_only_the_nearest_on_average() -> None:
    """A seed that is farther on average, by a few items alone, is not shown to be farther."""
    base = noisy(0, 0)
    uneven = noisy(0.1, 4)
    uneven[:2] += 60.0
    made = module(base, noisy(0.1, 1), noisy(0.9, 2), [noisy(0.3, 3), uneven])
    found = run_field_test(made, subject(), seeds=2)
    assert isinstance(found, Measurement)
    distance = [found.estimate("distance", prediction=f"seed {k}").value for k in (1, 2)]
    assert distance[0] < distance[1]
    verdict = judged_field(found, ABOUT)
    assert verdict.state == "no better than another seed"
