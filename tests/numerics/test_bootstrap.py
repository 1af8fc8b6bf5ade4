"""Bootstrap: coverage on R^2 with a known population value, agreement with scipy, refusals."""

import numpy as np
import pytest
from scipy import stats

from whynet.core.errors import InputError
from whynet.numerics import bootstrap as module
from whynet.numerics.bootstrap import bootstrap


def r_squared(y, prediction):
    def statistic(w):
        mean = (w @ y / w.sum(1))[:, None]
        return 1 - w @ (y - prediction) ** 2 / (w * (y - mean) ** 2).sum(1)

    return statistic


def mean_of(y):
    return lambda w: w @ y / w.sum(1)


def test_r_squared_is_covered():
    hits = []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        x, noise = rng.normal(size=(2, 200))
        bar = bootstrap(r_squared(2 * x + noise, 2 * x), 200, seed=seed, draws=400)
        hits.append(bar.low <= 0.8 <= bar.high)
    assert 0.92 <= np.mean(hits) <= 0.98


def test_skewed_mean_agrees_with_scipy_bca():
    y = np.random.default_rng(3).exponential(size=150)
    ours = bootstrap(mean_of(y), 150, seed=0, draws=20000)
    theirs = stats.bootstrap(
        (y,), np.mean, n_resamples=20000, method="BCa", rng=np.random.default_rng(1)
    ).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.01)
    assert ours.value == pytest.approx(y.mean())
    assert ours.kind == "interval"


def test_same_seed_same_interval_whatever_the_chunks(monkeypatch):
    y = np.random.default_rng(0).normal(size=60)
    whole = bootstrap(mean_of(y), 60, seed=5)
    monkeypatch.setattr(module, "_ENTRIES", 600)
    pieces = bootstrap(mean_of(y), 60, seed=5)
    assert (whole.low, whole.high) == pytest.approx((pieces.low, pieces.high), rel=1e-12)
    assert bootstrap(mean_of(y), 60, seed=6).low != whole.low


def test_grouped_jackknife_above_a_thousand_examples():
    y = np.random.default_rng(4).exponential(size=2500)
    bar = bootstrap(mean_of(y), 2500, seed=0, draws=2000)
    error = y.std() / 50
    assert bar.low == pytest.approx(y.mean() - 1.96 * error, abs=0.3 * error)
    assert bar.high == pytest.approx(y.mean() + 1.96 * error, abs=0.3 * error)


def test_constant_statistic_and_few_examples_are_hints():
    flat = bootstrap(lambda w: np.ones(len(w)), 50, seed=0)
    assert (flat.kind, flat.width) == ("indicative", 0.0)
    assert bootstrap(mean_of(np.arange(20.0)), 20, seed=0).kind == "indicative"


def test_interval_holds_its_value_even_for_a_biased_statistic():
    y = np.arange(50.0)
    bar = bootstrap(lambda w: np.where(w > 0, y, -1.0).max(1), 50, seed=0)
    assert bar.low <= bar.value <= bar.high


def test_refusals():
    with pytest.raises(InputError, match="examples: found 1"):
        bootstrap(mean_of(np.ones(1)), 1, seed=0)
    with pytest.raises(InputError, match="draws: found 10"):
        bootstrap(mean_of(np.ones(5)), 5, seed=0, draws=10)
    with pytest.raises(InputError, match="level: found 1"):
        bootstrap(mean_of(np.ones(5)), 5, seed=0, level=1)
    with pytest.raises(InputError, match="statistic: found values of shape"):
        bootstrap(lambda w: w, 5, seed=0)
    with pytest.raises(InputError, match="not finite"):
        bootstrap(lambda w: np.full(len(w), np.nan), 5, seed=0)
