"""The delete-group jackknife, against intervals that are known."""

from __future__ import annotations

import numpy as np
import pytest

from whynet.numerics.intervals import mean_t
from whynet.numerics.jackknife import delete_group, groups_of


def test_on_the_log_scale_a_geometric_mean_gets_its_t_interval() -> None:
    logs = np.random.default_rng(0).standard_normal(40)
    left = np.exp((logs.sum() - logs) / 39)
    found = delete_group(float(np.exp(logs.mean())), left, "log")
    wanted = mean_t(logs)
    assert np.log(found) == pytest.approx([wanted.value, wanted.low, wanted.high])


def test_the_bias_of_order_one_over_n_is_taken_away() -> None:
    """The plug-in variance is too small by (n - 1)/n; on the log scale nearly all of it returns."""
    values = np.random.default_rng(1).standard_normal(50)
    left = np.array([np.delete(values, i).var() for i in range(50)])
    value, low, high = delete_group(float(values.var()), left, "log")
    assert values.var() < value
    assert low < 1 < high


def test_groups_spread_every_class() -> None:
    classes = np.repeat([0, 1, 2], [40, 3, 17])
    groups = groups_of(classes, 10)
    assert np.ptp(np.bincount(groups)) == 0
    assert len(np.unique(groups[classes == 1])) == 3


def test_a_group_that_carries_nearly_all_is_treated_on_its_own_scale() -> None:
    """The logarithm of nearly nothing is no average; the bounds stay above zero."""
    values = np.array([100.0, 0.01, 0.02, 0.01])
    left = (values.sum() - values) / 3
    value, low, high = delete_group(float(values.mean()), left, "log")
    assert value == pytest.approx(values.mean())
    assert low == 0
    assert high > value
    assert delete_group(0.0, np.zeros(4), "log") == (0, 0, 0)
    assert delete_group(1.0, np.ones(4), "atanh") == pytest.approx((1, 1, 1))
