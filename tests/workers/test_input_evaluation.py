import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schema.labels import Estimate, Status
from workers.methods.input_evaluation import (
    SentenceActivations,
    evaluate_dead_input,
    evaluate_input,
    halve_sentences,
    succeeds,
)

floats = st.floats(-1e3, 1e3, width=32)


def sentences(activating, neutral):
    return SentenceActivations(np.array(activating, dtype=float), np.array(neutral, dtype=float))


SILENT = sentences([0] * 5, [0] * 5)
PERFECT = sentences([3, 4, 5, 2, 9], [0, 0, 1, 0, 0])


def test_hand_worked_case():
    others = [SILENT, sentences([1, 1], [0, 1]), sentences([0], [2])]
    result = evaluate_input(sentences([4, 0, 3], [2, 0, 0]), others, threshold=0.5, seed=0)
    assert result.estimate.value == pytest.approx((3 + 1 + 3) / 9)  # 4 and 3 win all, 0 ties twice
    assert result.estimate.n == 6
    assert result.control.value == pytest.approx((0.5 + 0.75 + 0) / 3)
    assert result.lift.value == pytest.approx(7 / 9 - 1.25 / 3)
    assert result.success is True
    assert result.details["gini"] == pytest.approx(2 * 7 / 9 - 1)
    assert result.details["firing_share"] == pytest.approx(2 / 3)
    assert result.details["n_controls"] == 3
    assert Estimate.model_validate(result.details["control_success_rate"]).value == pytest.approx(1 / 3)
    assert result.details["activating"] == [4, 0, 3]


def test_a_feature_silent_on_all_ten_fails_at_chance():
    result = evaluate_input(SILENT, [SILENT] * 20, threshold=0, seed=0)
    assert (result.success, result.estimate.value, result.lift.value) == (False, 0.5, 0.0)
    assert result.lift.low < 0 < result.lift.high


def test_equal_means_fail():
    assert not succeeds(sentences([1, 3], [2, 2]))
    assert succeeds(sentences([1, 3.001], [2, 2]))


def test_backwards_description_fails_with_a_negative_gini():
    result = evaluate_input(sentences([0, 0], [1, 2]), [], threshold=0, seed=0)
    assert (result.success, result.details["gini"]) == (False, -1.0)


def test_success_looks_at_means_where_the_area_looks_at_ranks():
    result = evaluate_input(sentences([100, 0, 0], [1, 1, 1]), [], threshold=0, seed=0)
    assert result.success is True
    assert result.estimate.value == pytest.approx(1 / 3)


def test_planted_feature_lifts_clear_of_its_control():
    result = evaluate_input(PERFECT, [SILENT] * 20, threshold=0, seed=0)
    assert (result.success, result.estimate.value, result.lift.value) == (True, 1.0, 0.5)
    assert result.lift.low > 0.1


def test_sentences_that_are_there_twice_change_no_verdict():
    rng = np.random.default_rng(0)
    for _ in range(50):
        one = sentences(rng.integers(0, 4, 5), rng.integers(0, 4, 5))
        twice = SentenceActivations(np.repeat(one.activating, 2), np.repeat(one.neutral, 2))
        before, after = (evaluate_input(each, [SILENT] * 3, threshold=0, seed=0) for each in (one, twice))
        assert after.success == before.success
        assert after.estimate.value == pytest.approx(before.estimate.value)
        assert after.lift.value == pytest.approx(before.lift.value)


def test_activations_can_be_negative():
    result = evaluate_input(sentences([-1, -2], [-3, -4]), [], threshold=0, seed=0)
    assert (result.success, result.details["firing_share"]) == (True, 0.0)


def test_without_other_sentences_there_is_no_control_and_no_lift():
    result = evaluate_input(PERFECT, [sentences([1], [])], threshold=0, seed=0)
    assert (result.control, result.lift, result.details["n_controls"]) == (None, None, 0)


@pytest.mark.parametrize(("activating", "neutral"), [([], []), ([1], []), ([], [1])])
def test_missing_sentences_are_a_status_that_counts_them(activating, neutral):
    result = evaluate_input(sentences(activating, neutral), [PERFECT], threshold=0, seed=0)
    assert result.status is Status.NOT_APPLICABLE
    assert f"{len(activating)} activating and {len(neutral)} neutral" in result.reason


def test_activations_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="1 values that are NaN"):
        evaluate_input(sentences([1, math.nan], [0, 0]), [], threshold=0, seed=0)


def test_dead_feature_stays_dead_unless_a_sentence_fires_it():
    dead = evaluate_dead_input(SILENT, [SILENT], threshold=0, seed=0)
    assert (dead.status, dead.estimate, dead.details) == (Status.DEAD, None, {"revived": False})
    revived = evaluate_dead_input(PERFECT, [SILENT], threshold=0, seed=0)
    assert (revived.status, revived.success, revived.details["revived"]) == (Status.OK, True, True)


@settings(deadline=None)
@given(st.lists(floats, min_size=1, max_size=8), st.lists(floats, min_size=1, max_size=8), st.randoms())
def test_the_order_of_sentences_changes_no_verdict(activating, neutral, random):
    one = evaluate_input(sentences(activating, neutral), [], threshold=0, seed=0)
    random.shuffle(activating)
    random.shuffle(neutral)
    other = evaluate_input(sentences(activating, neutral), [], threshold=0, seed=0)
    assert (one.estimate, one.success, one.details["firing_share"]) == (
        other.estimate, other.success, other.details["firing_share"],
    )  # fmt: skip


@settings(deadline=None)
@given(st.lists(floats, min_size=1, max_size=8), st.randoms())
def test_the_same_values_on_both_sides_never_succeed_by_rounding(values, random):
    shuffled = list(values)
    random.shuffle(shuffled)
    assert not succeeds(sentences(values, shuffled))


@settings(deadline=None)
@given(st.integers(0, 12), st.integers(0, 12), st.integers(0, 50))
def test_halves_are_disjoint_and_whole_and_the_odd_sentence_is_reported(n_activating, n_neutral, feature):
    whole = sentences(range(n_activating), range(100, 100 + n_neutral))
    halves = halve_sentences(whole, seed=3, feature=feature)
    for all_of_side, choose, report in zip(whole, *halves, strict=True):
        assert sorted([*choose, *report]) == list(all_of_side)
        assert 0 <= len(report) - len(choose) <= 1


def test_halves_are_the_same_for_every_description_of_a_feature_and_differ_between_features():
    one = [tuple(halve_sentences(PERFECT, seed=0, feature=f).choose.activating) for f in range(12)]
    again = [tuple(halve_sentences(PERFECT, seed=0, feature=f).choose.activating) for f in range(12)]
    assert one == again
    assert len(set(one)) > 3
