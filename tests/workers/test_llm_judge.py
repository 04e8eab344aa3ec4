import numpy as np
import pytest

from schema.labels import Status
from workers.methods.llm_judge import (
    LETTERS,
    control_features,
    control_trials,
    evaluate_output_llm,
    judge_trial,
    judge_trials,
    verdict,
)
from workers.methods.output_evaluation import Pool, TextSet, draw_pairs


def trials_of(feature, n=3, seed=0):
    sets = {i: TextSet({0.5: (f"text {i}",), -0.5: (f"not {i}",)}) for i in range(40)}
    pool = Pool(tuple(range(40)), np.eye(40), (frozenset({0.5, -0.5}),) * 40)
    pairs = draw_pairs(seed, feature, [i for i in range(40) if i != feature], pool).report
    return judge_trials(seed, feature, n, pairs, sets)


def test_a_judge_that_always_says_a_is_right_exactly_once_in_three_trials():
    for feature in range(30):
        for letter in LETTERS:
            result = evaluate_output_llm([verdict(trial, letter) for trial in trials_of(feature)])
            assert (result.estimate.value, result.success) == (pytest.approx(1 / 3), False)


def test_a_judge_that_guesses_is_right_one_time_in_three():
    generator = np.random.default_rng(0)
    guesses = [verdict(trial, LETTERS[generator.integers(3)]) for i in range(40) for trial in trials_of(i, 10)]
    assert np.mean(guesses) == pytest.approx(1 / 3, abs=0.06)


def test_a_judge_that_prefers_low_features_learns_nothing_from_the_order():
    places = [trial.features.index(min(trial.features)) for i in range(40) for trial in trials_of(i)]
    assert np.bincount(places, minlength=3).min() > 25


def test_a_trial_shows_the_set_under_its_letter_and_names_the_right_one():
    for trial in trials_of(5, 10):
        place = LETTERS.index(trial.correct)
        assert trial.features[place] == 5
        assert [s.amplified for s in trial.sets] == [(f"text {i}",) for i in trial.features]
        assert verdict(trial, trial.correct.lower())
        assert [verdict(trial, letter) for letter in LETTERS].count(True) == 1


def test_trials_have_fresh_distractors_and_repeat_with_their_seed():
    trials = trials_of(5)
    distractors = [i for trial in trials for i in trial.features if i != 5]
    assert len(set(distractors)) == 6
    assert trials == trials_of(5)
    assert trials != trials_of(5, seed=1)


def test_first_letters_differ_between_features():
    sets = {i: TextSet({}) for i in range(40)}
    firsts = [judge_trial(0, i, 0, (38, 39), sets).correct for i in range(38)]
    assert set(firsts) == set(LETTERS)


def test_an_unknown_letter_is_refused():
    for letter in ("D", "", "AB"):
        with pytest.raises(ValueError, match="A, B, C"):
            verdict(trials_of(1)[0], letter)


def test_trials_without_a_verdict_are_counted_and_take_no_part():
    result = evaluate_output_llm([True, Status.UNPARSED, True], [False, Status.REFUSED])
    assert (result.estimate.value, result.estimate.n, result.success) == (1.0, 2, True)
    assert (result.control.value, result.control.n) == (0.0, 1)
    assert (result.details["n_failed"], result.details["n_control_failed"]) == (1, 1)
    assert result.details["verdicts"] == [True, "unparsed", True]


def test_llm_score_without_control_is_lifted_over_one_third():
    result = evaluate_output_llm([True])
    assert (result.success, result.details["control_is"]) == (True, "chance")
    assert result.lift.value == pytest.approx(2 / 3)
    assert result.lift.low < 0


def test_no_verdict_at_all_is_the_commonest_failure():
    failed = evaluate_output_llm([Status.REFUSED, Status.UNPARSED, Status.UNPARSED])
    assert (failed.status, failed.estimate, failed.success) == (Status.UNPARSED, None, None)
    assert evaluate_output_llm([]).status is Status.NOT_APPLICABLE


def test_a_tenth_of_the_features_and_at_least_twenty_are_controlled():
    assert control_features(0, range(8), 3) == frozenset(range(8))
    assert len(control_features(0, range(100), 3)) == 20
    chosen = control_features(0, range(1001), 3)
    assert len(chosen) == 101
    assert chosen == control_features(0, list(reversed(range(1001))), 3)
    assert chosen != control_features(1, range(1001), 3)


def test_controls_see_every_letter_as_often_for_as_many_calls():
    for n_trials, n_asked in ((0, 0), (1, 3), (2, 3), (3, 3), (4, 6), (10, 12)):
        assert control_trials(n_trials) == n_asked
        calls = len(control_features(0, range(100), n_trials)) * n_asked
        assert 20 * n_trials <= calls < 20 * n_trials + 12
    for letter in LETTERS:
        asked = [verdict(trial, letter) for i in range(7) for trial in trials_of(i, control_trials(1))]
        assert np.mean(asked) == pytest.approx(1 / 3)
