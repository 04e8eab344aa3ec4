import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from schema.labels import Estimate, Status
from workers.methods import statistics
from workers.methods.statistics import (
    Measurement,
    area_variance,
    auroc,
    auroc_estimate,
    bootstrap_mean,
    chance,
    difference,
    mean,
    measured,
    signed_gini,
    stream,
    unmeasured,
    wilson,
)

few_values = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=12)


@pytest.mark.parametrize(("successes", "n"), [(0, 1), (1, 1), (0, 10), (10, 10), (3, 10), (81, 263), (15, 148)])
def test_wilson_equals_scipy(successes, n):
    ours = wilson(successes, n)
    theirs = scipy.stats.binomtest(successes, n).proportion_ci(method="wilson")
    assert (ours.value, ours.n) == (successes / n, n)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_wilson_of_fewer_independent_trials_is_wider_about_the_same_share():
    ten, five = wilson(8, 10), wilson(8, 10, n_independent=5)
    assert five.value == ten.value == 0.8
    assert (five.low, five.high) == pytest.approx((wilson(4, 5).low, wilson(4, 5).high))
    assert five.low < ten.low < ten.high < five.high


@pytest.mark.parametrize("arguments", [(0, 0), (3, 2), (-1, 2), (math.nan, 2)])
def test_wilson_refuses_what_is_no_share(arguments):
    with pytest.raises(ValueError, match="successes"):
        wilson(*arguments)


def test_bootstrap_of_the_mean_equals_scipy_on_the_same_random_numbers():
    values = np.random.default_rng(1).exponential(size=37)
    ours = bootstrap_mean(values, seed=5)
    theirs = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=2000, method="percentile", rng=stream(5, "bootstrap"), vectorized=True
    ).confidence_interval
    assert ours.value == pytest.approx(values.mean(), rel=1e-15)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), rel=1e-12)


def test_bootstrap_in_chunks_equals_the_bootstrap_at_once(monkeypatch):
    values = np.random.default_rng(1).normal(size=50)
    whole = bootstrap_mean(values, seed=5, n_resamples=200)
    monkeypatch.setattr(statistics, "_RESAMPLED_AT_ONCE", 50 * 64)
    assert bootstrap_mean(values, seed=5, n_resamples=200) == whole


def test_bootstrap_repeats_with_its_seed_and_only_with_it():
    values = [0.1, 0.4, 0.9, 0.3, 0.2]
    assert bootstrap_mean(values, seed=1) == bootstrap_mean(values, seed=1)
    assert bootstrap_mean(values, seed=1) != bootstrap_mean(values, seed=2)


def test_one_value_and_equal_values_are_points_when_their_range_is_unknown():
    assert bootstrap_mean([0.7], seed=0) == Estimate(value=0.7, low=0.7, high=0.7, n=1)
    assert bootstrap_mean([0.7] * 9, seed=0) == Estimate(value=0.7, low=0.7, high=0.7, n=9)


def test_equal_values_in_a_known_range_keep_wilsons_doubt():
    ones, halves = (bootstrap_mean([value] * 20, seed=0, bounds=(0, 1)) for value in (1.0, 0.5))
    assert (ones.low, ones.high) == (pytest.approx(wilson(20, 20).low), 1.0)
    assert (halves.low, halves.high) == pytest.approx((0.5 - 0.5 * wilson(0, 20).high, 0.5 + 0.5 * wilson(0, 20).high))
    with pytest.raises(ValueError, match="outside"):
        bootstrap_mean([2.0], seed=0, bounds=(0, 1))


@pytest.mark.parametrize("values", [[], [math.nan], [1.0, math.inf], [[1.0, 2.0]]])
def test_no_values_and_values_that_are_not_finite_are_refused(values):
    with pytest.raises(ValueError, match=r"must be \(n,\)|NaN or infinite"):
        bootstrap_mean(values, seed=0)


def test_mean_is_the_same_in_any_order():
    values = [1e16, 1.0, -1e16, 0.1, 0.2, 0.3]
    assert len({mean(np.random.default_rng(i).permutation(values)) for i in range(20)}) == 1


@settings(deadline=None)
@given(few_values, few_values)
def test_auroc_equals_sklearn_with_ties(positive, negative):
    labels = [1] * len(positive) + [0] * len(negative)
    assert auroc(positive, negative) == pytest.approx(roc_auc_score(labels, positive + negative), abs=1e-12)


@settings(deadline=None)
@given(few_values, few_values)
def test_auroc_equals_the_count_of_pairs(positive, negative):
    wins = sum(1.0 if p > n else 0.5 if p == n else 0.0 for p in positive for n in negative)
    assert auroc(positive, negative) == wins / (len(positive) * len(negative))


@settings(deadline=None)
@given(few_values, few_values)
def test_swapping_the_sides_mirrors_area_gini_and_interval(positive, negative):
    one, other = auroc_estimate(positive, negative), auroc_estimate(negative, positive)
    assert signed_gini(one.value) == pytest.approx(-signed_gini(other.value))
    assert (one.low, one.value, one.high) == pytest.approx((1 - other.high, 1 - other.value, 1 - other.low))


def test_auroc_by_hand():
    assert auroc([3, 1], [2, 1, 0]) == (3 + 1.5) / 6
    assert signed_gini(0.25) == -0.5


@settings(max_examples=50, deadline=None)
@given(few_values, few_values)
def test_bounds_of_an_area_are_where_it_lies_two_standard_errors_away(positive, negative):
    estimate = auroc_estimate(positive, negative)
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
    assert estimate.n == len(positive) + len(negative)
    for bound in (estimate.low, estimate.high):
        if 0 < bound < 1:
            error = statistics.Z * math.sqrt(area_variance(bound, (len(positive), len(negative))))
            assert abs(bound - estimate.value) == pytest.approx(error, abs=1e-6)


def test_perfect_separation_of_five_from_five_is_no_certainty():
    estimate = auroc_estimate([6, 7, 8, 9, 10], [1, 2, 3, 4, 5])
    assert estimate.value == estimate.high == 1.0
    assert estimate.low == pytest.approx(0.643, abs=0.001)


@pytest.mark.parametrize("shift", [0.0, 1.0, 2.0])
def test_interval_of_an_area_covers_the_truth_nineteen_times_of_twenty(shift):
    truth = scipy.stats.norm.cdf(shift / math.sqrt(2))
    generator = np.random.default_rng(0)
    estimates = [auroc_estimate(generator.normal(shift, size=5), generator.normal(size=5)) for _ in range(1000)]
    assert np.mean([e.low <= truth <= e.high for e in estimates]) >= 0.93


def test_difference_of_shares_is_newcombes_published_example():
    result = difference(wilson(56, 70), wilson(48, 80))
    assert (result.value, result.low, result.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)


def test_difference_to_a_known_chance_only_shifts_the_interval():
    estimate = wilson(7, 10)
    lift = difference(estimate, chance(1 / 3))
    assert (lift.low, lift.high) == pytest.approx((estimate.low - 1 / 3, estimate.high - 1 / 3))


def test_streams_of_other_purposes_and_keys_differ():
    draws = {stream(*key).random() for key in [(1, "a", 0), (1, "a", 1), (1, "b", 0), (2, "a", 0)]}
    assert len(draws) == 4
    assert stream(1, "a", 0).random() in draws


def test_measurement_becomes_a_score_with_its_lift():
    score = measured(wilson(9, 10), chance(1 / 3), {"x": 1}, success=True).score(
        7, "output", "r", description_id=3, method="combined"
    )
    assert (score.feature, score.status, score.success, score.details) == (7, Status.OK, True, {"x": 1})
    assert score.lift == pytest.approx(0.9 - 1 / 3)
    assert score.lift_low < score.lift < score.lift_high


def test_what_was_not_measured_has_a_reason_and_no_number():
    score = unmeasured(Status.DEAD, "never fired").score(7, "input", "r")
    assert (score.status, score.reason, score.estimate, score.lift, score.success) == (
        Status.DEAD, "never fired", None, None, None,
    )  # fmt: skip
    with pytest.raises(ValueError, match="another status"):
        unmeasured(Status.OK, "")


def test_measurements_share_no_details():
    assert Measurement(Status.DEAD).details == {}
    assert measured(wilson(1, 2), None, {}).lift is None
