"""Logarithmic schedules."""

import math

import numpy as np
import pytest

from whynet.core.errors import InputError
from whynet.training.schedule import (
    checked_steps,
    checked_times,
    logarithmic_steps,
    logarithmic_times,
)
from whynet.training.stopping import Below


@pytest.mark.parametrize("steps", [0, 1, 2, 9, 10, 99, 1000, 12345, 10**7])
@pytest.mark.parametrize("per_decade", [1, 10, 37])
def test_steps_are_whole_increasing_and_evenly_spaced(steps, per_decade):
    found = logarithmic_steps(steps, per_decade)
    assert found[0] == 0 and found[-1] == steps and list(found) == sorted(set(found))
    assert len(found) <= 3 + per_decade * (math.log10(max(steps, 1)) + 1)
    late = [step for step in found if step > 30 * per_decade]
    ratios = np.diff(np.log10(late))[:-1] if len(late) > 2 else np.array([])
    assert np.allclose(ratios, 1 / per_decade, rtol=0.2)


def test_ten_thousand_steps_are_looked_at_about_forty_times():
    assert len(logarithmic_steps(10_000)) == 39


def test_times_reach_from_the_first_to_the_last():
    found = logarithmic_times(1e-3, 1e100, 2)
    assert found[0] == 0 and found[1] == 1e-3 and found[-1] == 1e100
    assert np.allclose(np.diff(np.log10(found[1:])), 0.5)
    assert logarithmic_times(1e-200, 1e300)[-1] == 1e300


@pytest.mark.parametrize(
    "call",
    [
        lambda: logarithmic_steps(-1),
        lambda: logarithmic_steps(5, 0),
        lambda: logarithmic_times(0.0, 1.0),
        lambda: logarithmic_times(1.0, 1.0),
        lambda: logarithmic_times(1.0, 2.0, 0),
        lambda: checked_steps([3, 1], 5),
        lambda: checked_steps([-1], 5),
        lambda: checked_times([-1.0]),
        lambda: checked_times([math.inf]),
        lambda: checked_times([math.nan]),
        lambda: Below("loss", math.nan),
        lambda: Below("loss", 1.0, every=0),
    ],
)
def test_what_is_no_schedule_is_refused(call):
    with pytest.raises(InputError):
        call()
