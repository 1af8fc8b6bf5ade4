"""Intervals: coverage in simulation or by exact enumeration, closed forms, refusals."""

import math

import numpy as np
import pytest
from scipy import optimize, stats

from whynet.core.errors import InputError
from whynet.numerics.intervals import (
    difference_of_means,
    difference_of_proportions,
    half_widths,
    mean_t,
    newcombe_bounds,
    paired_difference,
    paired_difference_of_proportions,
    proportion,
    tango_bounds,
)


def covered(estimates, truth):
    return np.mean([e.low <= truth <= e.high for e in estimates])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("count", [30, 100])
def test_mean_t_covers(dtype, count):
    draws = [np.random.default_rng(s).gamma(9.0, size=count).astype(dtype) for s in range(1000)]
    estimates = [mean_t(d, unit="nats", over="probes") for d in draws]
    assert 0.93 <= covered(estimates, 9.0) <= 0.99
    assert {e.kind for e in estimates} == {"interval"}


def test_mean_t_matches_scipy():
    draws = np.random.default_rng(0).normal(size=40)
    ours, theirs = mean_t(draws, level=0.9), stats.ttest_1samp(draws, 0).confidence_interval(0.9)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))


def test_mean_t_of_few_or_equal_draws_is_a_hint():
    assert mean_t(np.arange(29.0)).kind == "indicative"
    assert mean_t(np.arange(30.0)).kind == "interval"
    one = mean_t([2.0])
    assert (one.value, one.low, one.high) == (2.0, -math.inf, math.inf)
    equal = mean_t(np.full(50, np.float32(0.1)))
    assert equal.kind == "indicative"
    assert 0 < equal.width < 1e-6
    zeros = mean_t(np.zeros(50))
    assert (zeros.kind, zeros.width) == ("indicative", 0.0)


def test_round_off_of_float32_is_inside():
    values = np.full(1000, 0.1, np.float32)
    values[0] = np.nextafter(np.float32(0.1), np.float32(1))
    assert mean_t(values).width >= 4e-8


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ([], "values: found dtype float64 of shape (0,); wanted a non-empty row of real numbers."),
        ([1.0, math.nan], "values: found 1 of 2 not finite; wanted finite numbers."),
        ([[1.0]], "values: found dtype float64 of shape (1, 1)"),
        ([1j], "values: found dtype complex128"),
    ],
)
def test_mean_t_refuses(values, sentence):
    with pytest.raises(InputError) as caught:
        mean_t(values)
    assert sentence in str(caught.value)


def test_level_is_checked():
    with pytest.raises(InputError, match="level: found 95"):
        mean_t([1.0, 2.0], level=95)


def test_paired_difference_and_welch_cover():
    paired, welch = [], []
    for seed in range(1000):
        rng = np.random.default_rng(seed)
        shared, noise = rng.normal(size=40), rng.normal(size=(2, 40))
        paired.append(paired_difference(shared + noise[0] + 0.5, shared + 0.3 * noise[1]))
        welch.append(difference_of_means(3 * rng.normal(size=30) + 1, rng.normal(size=90)))
    assert 0.93 <= covered(paired, 0.5) <= 0.99
    assert 0.93 <= covered(welch, 1.0) <= 0.99


def test_welch_matches_scipy_and_handles_no_spread():
    a, b = np.random.default_rng(1).normal(size=35), np.random.default_rng(2).normal(size=50) * 4
    ours = difference_of_means(a, b)
    theirs = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))
    assert difference_of_means(np.ones(40), np.zeros(40)).kind == "indicative"
    assert difference_of_means([1.0], b).high == math.inf


def test_paired_difference_of_booleans_and_shapes():
    assert paired_difference([True, False, True], [False, False, True]).value == pytest.approx(
        1 / 3
    )
    with pytest.raises(InputError, match="second: found shape"):
        paired_difference([1.0, 2.0], [1.0])


@pytest.mark.parametrize("trials", [1, 10, 100])
def test_clopper_pearson_never_covers_less_than_its_level(trials):
    bars = [proportion(k, trials) for k in range(trials + 1)]
    lows, highs = np.array([b.low for b in bars]), np.array([b.high for b in bars])
    for share in np.linspace(0, 1, 201):
        mass = stats.binom.pmf(np.arange(trials + 1), trials, share)
        assert mass[(lows <= share) & (share <= highs)].sum() >= 0.95 - 1e-12


def test_clopper_pearson_matches_scipy():
    ours, theirs = proportion(7, 50), stats.binomtest(7, 50).proportion_ci(method="exact")
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))
    assert ours.kind == "certified"
    assert proportion(0, 5).low == 0.0
    assert proportion(5, 5).high == 1.0
    with pytest.raises(InputError, match="successes: found 6; wanted 0 to 5"):
        proportion(6, 5)
    with pytest.raises(InputError, match="trials: found 0"):
        proportion(0, 0)


@pytest.mark.parametrize(("n1", "n2"), [(100, 100), (300, 100), (1000, 300)])
def test_newcombe_covers_exactly(n1, n2):
    first, second = np.meshgrid(np.arange(n1 + 1.0), np.arange(n2 + 1.0), indexing="ij")
    _, low, high = newcombe_bounds(first, n1, second, n2, 0.95)
    for p1, p2 in [(0.5, 0.5), (0.9, 0.8), (0.97, 0.95), (0.98, 0.98), (0.3, 0.6)]:
        mass = stats.binom.pmf(first, n1, p1) * stats.binom.pmf(second, n2, p2)
        share = mass[(low <= p1 - p2) & (p1 - p2 <= high)].sum()
        assert 0.93 <= share <= 0.99, (p1, p2, share)


def test_newcombe_published_example():
    # Newcombe 1998, table II, example (a): 56/70 - 48/80, method 10.
    bar = difference_of_proportions(56, 70, 48, 80)
    assert (bar.low, bar.high) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert difference_of_proportions(5, 10, 5, 100).kind == "indicative"
    with pytest.raises(InputError, match="trials_second"):
        difference_of_proportions(1, 2, 0, 0)


@pytest.mark.parametrize("examples", [300, 500, 1000])
def test_tango_covers_exactly_where_discordances_are_rare(examples):
    first, second = np.meshgrid(np.arange(80.0), np.arange(80.0), indexing="ij")
    low, high = tango_bounds(first, second, examples, 0.95)
    shares = []
    for discordant in np.linspace(0.005, 0.03, 11):
        for share in np.linspace(0.5, 1, 11):
            truth = discordant * (2 * share - 1)
            total = stats.binom.pmf(first + second, examples, discordant)
            mass = total * stats.binom.pmf(first, first + second, share)
            inside = (low <= truth) & (truth <= high)
            assert mass.sum() > 1 - 1e-9
            shares.append(mass[inside].sum())
    assert min(shares) >= 0.929
    assert 0.945 <= np.mean(shares) <= 0.98


def score(d, b, c, n):
    """Tango's statistic, with the constrained likelihood maximized numerically."""

    def loss(q):
        p = q + d
        return -(b * math.log(p) + c * math.log(q) + (n - b - c) * math.log1p(-p - q))

    edges = max(0, -d) + 1e-9, (1 - d) / 2 - 1e-9
    q = optimize.minimize_scalar(loss, bounds=edges, method="bounded", options={"xatol": 1e-13}).x
    return (b - c - n * d) / math.sqrt(n * (2 * q + d * (1 - d)))


@pytest.mark.parametrize(("b", "c", "n"), [(12, 2, 50), (3, 1, 300), (1, 9, 40)])
def test_tango_inverts_its_score_test(b, c, n):
    low, high = tango_bounds(np.float64(b), np.float64(c), n, 0.95)
    z = stats.norm.ppf(0.975)
    assert score(float(low), b, c, n) == pytest.approx(z, abs=1e-4)
    assert score(float(high), b, c, n) == pytest.approx(-z, abs=1e-4)


def test_tango_at_the_edges():
    same = np.ones(300, bool)
    bar = paired_difference_of_proportions(same, same)
    z2 = stats.norm.ppf(0.975) ** 2
    assert (bar.low, bar.high) == pytest.approx((-z2 / (300 + z2), z2 / (300 + z2)))
    opposite = paired_difference_of_proportions(same, ~same)
    assert (opposite.value, opposite.high) == (1.0, 1.0)
    swapped = paired_difference_of_proportions(~same, same)
    assert swapped.low == -1.0
    assert swapped.high == pytest.approx(-opposite.low)


def test_tango_refuses_what_is_not_boolean():
    with pytest.raises(InputError, match="right_first: found dtype int64"):
        paired_difference_of_proportions([1, 0], [True, False])
    with pytest.raises(InputError, match="right_second: found 1 examples"):
        paired_difference_of_proportions([True, False], [True])


def test_half_widths_are_those_of_single_means():
    values = np.random.default_rng(0).normal(size=(4, 31, 3))
    widths = half_widths(values, 1, 0.9)
    assert widths.shape == (4, 3)
    for place in np.ndindex(4, 3):
        bar = mean_t(values[place[0], :, place[1]], level=0.9)
        assert widths[place] == pytest.approx(bar.high - bar.value)
    assert np.isnan(half_widths(values[:, :1], 1)).all()
