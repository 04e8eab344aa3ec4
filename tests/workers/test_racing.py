"""Which descriptions go on to the expensive tests."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.methods.racing import Contestant, survivors

READS = Contestant(1, "reads well", input=0.9, output=0.2)
STEERS = Contestant(2, "steers well", input=0.4, output=0.8)
NEITHER = Contestant(3, "neither", input=0.5, output=0.3)
UNTESTED = Contestant(4, "untested", input=None, output=None)
ALL = [NEITHER, READS, UNTESTED, STEERS]


@pytest.mark.parametrize(("n", "ids"), [(1, (2,)), (2, (2, 1)), (3, (2, 1, 3)), (9, (2, 1, 3, 4))])
def test_the_best_of_each_facet_survive_by_turns(n: int, ids: tuple[int, ...]) -> None:
    assert survivors(ALL, n) == ids


def test_a_single_place_goes_to_the_best_of_both_sides_together() -> None:
    both = Contestant(6, "both, second on either side", input=0.8, output=0.7)
    assert survivors([*ALL, both], 2) == (2, 1)
    assert survivors([*ALL, both], 1) == (6,)


def test_without_a_limit_all_survive() -> None:
    assert set(survivors(ALL, None)) == {1, 2, 3, 4}


def test_one_that_is_best_of_both_takes_one_place() -> None:
    best = Contestant(5, "best", input=1.0, output=1.0)
    assert survivors([*ALL, best], 2) == (5, 2)


def test_ties_go_to_the_shorter_text() -> None:
    short, long = Contestant(7, "ab", 0.5, 0.5), Contestant(6, "abc", 0.5, 0.5)
    assert survivors([long, short], 1) == (7,)


def test_nobody_is_a_race_too() -> None:
    assert survivors([], 2) == ()


@given(st.permutations(ALL), st.integers(1, 5))
def test_the_order_makes_no_difference(contestants: list[Contestant], n: int) -> None:
    assert survivors(contestants, n) == survivors(ALL, n)
