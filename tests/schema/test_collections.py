"""Which dictionaries of a collection read the corpus together, and how their budget is divided."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schema.budgets import NANO
from schema.collections import Member, passes, shares
from schema.errors import BadBudget
from schema.records import Budget


def test_dictionaries_of_one_subject_share_a_pass_wherever_they_stand() -> None:
    members = [Member("a", 10), Member("b", 10), Member("a", 10), Member("b", 10)]
    assert passes(members, most=100) == [[0, 2], [1, 3]]


def test_a_pass_holds_so_many_features_and_a_larger_dictionary_is_read_alone() -> None:
    members = [Member("a", size) for size in (60, 40, 1, 101, 99)]
    assert passes(members, most=100) == [[0, 1], [2], [3], [4]]
    assert passes([], most=100) == []


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 60)), max_size=30))
def test_every_dictionary_is_in_one_pass(sizes: list[tuple[str, int]]) -> None:
    members = [Member(*size) for size in sizes]
    found = passes(members, most=100)
    assert sorted(position for together in found for position in together) == list(range(len(members)))
    for together in found:
        assert len({members[position].subject for position in together}) == 1
        assert sum(members[position].n_features for position in together) <= 100


def test_a_budget_is_divided_by_features() -> None:
    whole = Budget(dollars=4, tokens=1000)
    assert shares(whole, [1, 3]) == [Budget(dollars=1, tokens=250), Budget(dollars=3, tokens=750)]
    assert shares(Budget(tokens=7), [1, 1]) == [Budget(tokens=3), Budget(tokens=3)]
    assert shares(None, [1, 3]) == [None, None]


@given(st.floats(0.01, 1000), st.lists(st.integers(1, 10_000), min_size=1, max_size=50))
def test_shares_never_exceed_the_budget_together(dollars: float, sizes: list[int]) -> None:
    whole = Budget(dollars=dollars)
    try:
        found = shares(whole, sizes)
    except BadBudget:
        assert dollars * min(sizes) / sum(sizes) < 1.1e-6
        return
    assert sum(round((share.dollars or 0) * NANO) for share in found if share) <= round(dollars * NANO)


@pytest.mark.parametrize("budget", [Budget(tokens=9), Budget(dollars=0.000009)])
def test_a_share_of_nothing_is_refused(budget: Budget) -> None:
    with pytest.raises(BadBudget, match="leaves one dictionary with 1 of 10 features less than a token or a millionth"):
        shares(budget, [9, 1])
