"""The statistics of the comparison, its planted sets, and what was measured."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.quality import planted
from tests.quality.comparing import compare, rank_one
from tests.quality.writing import expectations, markdown

DOCS = Path(__file__).parents[2] / "docs"


def test_only_features_that_both_were_scored_on_count() -> None:
    found = compare({1: True, 2: True, 3: False, 9: True}, {1: True, 2: False, 3: False, 7: True})
    assert (found.n, found.first.value, found.second.value) == (3, pytest.approx(2 / 3), pytest.approx(1 / 3))
    assert (found.only_first, found.only_second) == (1, 0)


def test_mcnemar_looks_at_those_that_differ_alone() -> None:
    """Exact and two-sided: of 12 that differ, 10 or more, or 2 or fewer, for a fair coin."""
    first = {i: i < 60 for i in range(100)}
    second = {i: i < 50 or i in (60, 61) for i in range(100)}
    found = compare(first, second)
    assert (found.only_first, found.only_second) == (10, 2)
    assert found.p == pytest.approx(2 * (1 + 12 + 66) / 2**12)


def test_the_interval_of_the_difference_is_that_of_paired_differences() -> None:
    generator = np.random.default_rng(0)
    a, b = generator.random(400) < 0.7, generator.random(400) < 0.5
    found = compare(dict(enumerate(a.tolist())), dict(enumerate(b.tolist())))
    paired = a.astype(float) - b.astype(float)
    spread = 1.96 * paired.std(ddof=1) / np.sqrt(len(paired))
    assert found.difference.value == pytest.approx(paired.mean())
    assert found.difference.low == pytest.approx(paired.mean() - spread, abs=0.01)
    assert found.difference.high == pytest.approx(paired.mean() + spread, abs=0.01)


def test_arms_that_agree_say_nothing() -> None:
    found = compare({1: True, 2: False}, {1: True, 2: False})
    assert (found.p, found.difference.value) == (1.0, 0.0)


def test_arms_without_a_common_feature_are_refused() -> None:
    with pytest.raises(ValueError, match="share no feature"):
        compare({1: True}, {2: True})


def test_labels_find_their_own_at_rank_one_and_ties_share() -> None:
    first = np.eye(4)
    assert rank_one(first, first).value == 1.0
    assert rank_one(first, np.roll(first, 1, axis=0)).value == 0.0
    assert rank_one(np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([[1.0, 0.0], [0.0, 1.0]])).value == pytest.approx(0.5)


def test_planted_trials_put_the_right_set_in_every_place_as_often() -> None:
    trials = list(planted.trials(0, wrong=False))
    assert len(trials) == planted.N_ROUNDS * len(planted.CONCEPTS)
    assert {place: sum(t.correct == place for t in trials) for place in range(3)} == dict.fromkeys(range(3), 16)
    assert all(t.names[t.correct] == t.described and len(set(t.names)) == 3 for t in trials)


def test_a_wrong_description_is_of_none_of_the_three() -> None:
    assert all(t.described not in t.names for t in planted.trials(0, wrong=True))


@pytest.mark.parametrize("name", ["compared", "judged"])
def test_real_runs_used_within_a_fifth_of_the_tokens_that_are_expected_of_them(name: str) -> None:
    measured = json.loads((DOCS / "quality.json").read_text("utf-8"))
    rows = expectations(measured[name], name)
    assert [row.run.partition(",")[0] for row in rows] == ["published", "paper"]
    for row in rows:
        assert row.used > 40_000
        assert 0.8 <= row.expected / row.used <= 1.2, row


def test_the_page_says_what_was_measured() -> None:
    measured = json.loads((DOCS / "quality.json").read_text("utf-8"))
    assert (DOCS / "quality.md").read_text("utf-8") == markdown(measured)
