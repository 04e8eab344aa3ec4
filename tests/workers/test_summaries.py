"""The figures of a report, each against one worked out by hand or by a slow reference."""

import math

import numpy as np
import pytest

from schema.labels import Estimate, Score, ScoreKind, Status
from workers.methods.statistics import bootstrap_mean
from workers.methods.summaries import RESAMPLED_UP_TO, Lows, Tally, extremes, mean_over, share_over


def score(kind: ScoreKind, value: float | None, **changes: object) -> Score:
    estimate = None if value is None else Estimate(value=value, low=0, high=1, n=10)
    fields = {"feature": 0, "kind": kind, "status": Status.OK, "estimate": estimate, "recipe": "r"}
    return Score.model_validate({**fields, **changes})


def test_a_share_of_features_has_wilsons_interval() -> None:
    share = share_over([1, 1, 1, 0])
    z = 1.959963984540054
    centre, spread = 0.75 + z * z / 8, z * math.sqrt(0.75 * 0.25 / 4 + z * z / 64)
    assert share is not None
    assert (share.value, share.n) == (0.75, 4)
    assert share.low == pytest.approx((centre - spread) / (1 + z * z / 4))
    assert share.high == pytest.approx((centre + spread) / (1 + z * z / 4))
    assert share_over([]) is None


def test_a_mean_over_few_features_is_bootstrapped_over_them() -> None:
    values = [0.0, 0.25, 0.5, 1.0]
    assert mean_over(values, (0, 1), seed=3) == bootstrap_mean(values, seed=3, bounds=(0, 1))
    assert mean_over([], (0, 1), seed=3) is None


def test_a_mean_of_ones_and_zeros_is_a_share() -> None:
    assert mean_over([1.0] * 3 + [0.0] * 17, (0, 1), seed=0) == share_over([1] * 3 + [0] * 17)
    lift = mean_over([1.0] * 3 + [-1.0], (-1, 1), seed=0)
    share = share_over([1, 1, 1, 0])
    assert lift is not None
    assert share is not None
    assert (lift.value, lift.n) == (0.5, 4)
    assert (lift.low, lift.high) == pytest.approx((2 * share.low - 1, 2 * share.high - 1))


def test_the_interval_of_many_features_is_the_bootstraps() -> None:
    values = np.random.default_rng(0).beta(0.5, 0.2, RESAMPLED_UP_TO + 1)
    fast, slow = mean_over(values, (0, 1), seed=0), bootstrap_mean(values, seed=0)
    assert fast is not None
    assert fast.value == slow.value
    width = slow.high - slow.low
    assert (fast.low, fast.high) == pytest.approx((slow.low, slow.high), abs=0.05 * width)
    everyone = mean_over(np.ones(RESAMPLED_UP_TO + 1), (0, 1), seed=0)
    assert everyone is not None
    assert everyone.low < 1


def test_only_ok_scores_count_and_the_others_are_counted_apart() -> None:
    tally = Tally("output")
    tally.add(score("output", 1.0, success=True, lift=0.5))
    tally.add(score("output", 0.5, success=False, lift=0.0))
    tally.add(score("output", None, status=Status.UNREACHABLE))
    tally.miss("unlabelled")
    summary = tally.summary(seed=0)
    assert summary.statuses == {"ok": 2, "unreachable": 1, "unlabelled": 1}
    assert summary.n_scored == 2
    assert summary.not_scored == {"unreachable": 1, "unlabelled": 1}
    for figure, value in ((summary.success, 0.5), (summary.value, 0.75), (summary.lift, 0.25)):
        assert figure is not None
        assert (figure.value, figure.n) == (value, 2)


def test_a_kind_without_a_yes_or_no_has_no_success() -> None:
    tally = Tally("detection")
    tally.add(score("detection", 0.8, lift=0.3))
    assert tally.summary(seed=0).success is None


def test_controls_are_what_was_measured_and_not_chance_by_definition() -> None:
    measured, by_definition = Estimate(value=0.2, low=0, high=1, n=5), Estimate(value=1 / 3, low=1 / 3, high=1 / 3, n=0)
    tally = Tally("output")
    tally.add(score("output", 1.0, control=measured))
    tally.add(score("output", 1.0, control=measured.model_copy(update={"value": 0.6})))
    tally.add(score("output", 1.0, control=by_definition))
    control = tally.control(seed=0)
    assert control is not None
    assert (control.figure, control.rate.value, control.rate.n) == ("value", pytest.approx(0.4), 2)
    assert (control.chance, control.contains_chance) == (1 / 3, True)
    alone = Tally("output")
    alone.add(score("output", 1.0, control=by_definition))
    assert alone.control(seed=0) is None


def test_a_control_that_is_too_good_does_not_contain_chance() -> None:
    tally = Tally("output_llm")
    for value in (0.8, 0.9, 1.0):
        tally.add(score("output_llm", 1.0, control=Estimate(value=value, low=0, high=1, n=5)))
    control = tally.control(seed=0)
    assert control is not None
    assert control.contains_chance is False


def test_the_control_of_the_input_side_is_a_share_of_successes() -> None:
    tally = Tally("input")
    for rate in (0.4, 0.6):
        details = {"control_success_rate": {"value": rate, "low": 0.0, "high": 1.0, "n": 20}}
        tally.add(score("input", 0.9, control=Estimate(value=0.99, low=0, high=1, n=20), details=details))
    control = tally.control(seed=0)
    assert control is not None
    assert (control.figure, control.rate.value, control.chance, control.contains_chance) == ("success", 0.5, None, None)


def test_the_best_and_the_worst_are_by_the_sum_of_both_sides() -> None:
    lows = [Lows(0, 0.1, 0.1), Lows(1, 0.5, None), Lows(2, -0.2, 0.1), Lows(3, 0.3, 0.2), Lows(4, 0.25, 0.25)]
    found = extremes(lows, 2)
    assert found.n_ranked == 4  # one has no output
    assert [low.feature for low in found.best] == [3, 4]
    assert [low.feature for low in found.worst] == [2, 0]


def test_no_feature_is_both_and_equals_go_by_index() -> None:
    found = extremes([Lows(feature, 0.5, None) for feature in range(3)], 2)
    assert [low.feature for low in found.best] == [0, 1]
    assert [low.feature for low in found.worst] == [2]


def test_a_side_that_no_label_was_measured_on_excludes_nobody() -> None:
    assert extremes([Lows(0, None, 0.2), Lows(1, None, None)], 5).n_ranked == 1
    assert extremes([Lows(0, None, None)], 5) == (0, (), ())
