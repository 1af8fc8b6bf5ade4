"""Intervals hold the truth as often as they claim, on subjects whose true numbers are known."""

from __future__ import annotations

import math

import pytest
import torch

from whynet.concepts.registry import instruments, load_instrument
from whynet.testing.closed_forms import closed_forms
from whynet.testing.conformance import Coverage, coverage

FORMS = {
    **{name: entry.metadata.closed_form for name, entry in instruments().items()},
    "baselines, regression": "finite-regression",
    "fit, regression": "finite-regression",
}
"""Instrument to its closed form; some have a second one."""

DRAWS = {
    **dict.fromkeys(
        (
            "adversarial-accuracy", "coordinate-check", "effective-dimension", "lazy-or-rich",
            "weight-change",
        ),
        12,
    ),
    **dict.fromkeys(
        (
            "bound-ingredients", "kernel-spectrum", "learning-curve", "neuron-similarity",
            "size-error", "training-record",
        ),
        20,
    ),
    **dict.fromkeys(
        (
            "baselines", "baselines, regression", "calibration", "gauss-newton-spectrum",
            "hessian-spectrum", "interventions", "removal-effect", "self-influence",
        ),
        40,
    ),
    "representation": 50,
    "mode-connectivity": 80,
    "segment-pieces": 200,
}  # fmt: skip
"""In the fast tests, where a draw takes a tenth of a second or a twentieth; `FEW` elsewhere."""

FEW = 100

MORE = ("margin_gradient_median", "effective_dimension", "relative ")
"""Quantities that cover more than they claim: one takes three values only, which order statistics
hold nearly always, and the interval of others holds the bracket of a finite number of steps too."""


def instrument_of(name: str) -> str:
    return name.split(",")[0]


def measured(name: str, dtype: torch.dtype, draws: range) -> dict[str, Coverage]:
    instrument = instrument_of(name)
    form = closed_forms()[FORMS[name]]
    return coverage(load_instrument(instrument), instrument, form, dtype, draws)


def judge(found: dict[str, Coverage], least: float, most: float) -> None:
    """Hold `interval` between two shares; the others to what they promise."""
    assert found
    for name, result in found.items():
        if result.kind == "exact":
            assert result.hits == result.draws, f"{name} is called exact, and is not"
        elif result.kind == "certified":
            # At least the level, up to three standard deviations of this count.
            noise = math.sqrt(result.draws * result.level * (1 - result.level))
            assert result.hits >= result.draws * result.level - 3 * noise, f"{name}: {result}"
        else:
            assert result.kind == "interval", f"{name} claims nothing that can be tested"
            upper = 1.0 if name.startswith(MORE) else most
            assert least <= result.share <= upper, f"{name} covers {result.share:.3f}"


@pytest.mark.parametrize("name", FORMS)
def test_coverage_of_a_few_draws(name: str) -> None:
    """And the first six in float32 hold the truth where those in float64 do, but for one."""
    draws = DRAWS.get(name, FEW)
    first = measured(name, torch.float64, range(6))
    narrow = measured(name, torch.float32, range(6))
    assert first.keys() == narrow.keys()
    for key, result in first.items():
        assert narrow[key].kind == result.kind, key
        assert abs(narrow[key].hits - result.hits) <= 1, key
    rest = measured(name, torch.float64, range(6, draws))
    # Three standard deviations of the count, since sixty quantities are judged at once.
    least = 0.95 - 3 * math.sqrt(0.05 * 0.95 / draws)
    # All of so few may well hit; that intervals are not too wide is for the thousand draws to say.
    judge({key: together(first, rest, key) for key in first | rest}, least, 1.0)


def together(first: dict[str, Coverage], rest: dict[str, Coverage], name: str) -> Coverage:
    """Add up counts; those that claim less are left out beside those that claim more."""
    parts = [found[name] for found in (first, rest) if name in found]
    most = [part for part in parts if part.kind != "indicative"] or parts
    assert len({part.kind for part in most}) == 1, name
    draws, hits = (sum(getattr(part, field) for part in most) for field in ("draws", "hits"))
    return Coverage(most[0].kind, draws, hits, most[0].level)


@pytest.mark.endurance
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("name", FORMS)
def test_coverage_of_a_thousand_draws(name: str, dtype: torch.dtype) -> None:
    judge(measured(name, dtype, range(1000)), 0.93, 0.99)


def test_every_instrument_has_truths_on_its_closed_form() -> None:
    for name in instruments():
        form = closed_forms()[FORMS[name]]
        assert {**form.truth[name], **form.of_draw(name, 0)}, name


@pytest.mark.parametrize(
    ("kind", "hits", "fine"),
    [
        ("interval", 180, False), ("interval", 190, True), ("interval", 200, False),
        ("certified", 200, True), ("certified", 170, False),
        ("exact", 199, False), ("exact", 200, True), ("indicative", 190, False),
    ],
)  # fmt: skip
def test_the_judge_can_say_no(kind: str, hits: int, fine: bool) -> None:
    found = {"number": Coverage(kind, 200, hits)}
    if fine:
        judge(found, 0.904, 0.995)
    else:
        with pytest.raises(AssertionError):
            judge(found, 0.904, 0.995)
