"""What a selection of features means."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schema.errors import BadSelection
from schema.selection import draw, parse_selection


def test_ranges_and_single_features_are_united_in_order() -> None:
    assert parse_selection("12, 3-5,4", 20).indices == [3, 4, 5, 12]


def test_all_is_every_feature() -> None:
    assert list(parse_selection("all", 4).indices or ()) == [0, 1, 2, 3]


def test_alive_is_left_to_the_corpus() -> None:
    assert parse_selection("alive", 4) == ("alive", None)


@given(st.integers(2, 300), st.integers(0, 99), st.data())
def test_a_shorter_draw_is_a_prefix_of_a_longer_one(n: int, seed: int, data: st.DataObject) -> None:
    whole = list(draw(n, seed))
    assert sorted(whole) == list(range(n))
    count = data.draw(st.integers(1, n))
    assert parse_selection(f"random:{count}:{seed}", n).indices == sorted(whole[:count])
    assert list(itertools.islice(draw(n, seed), count)) == whole[:count]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("4", "must be within 0..3"),
        ("2-1", "smallest first"),
        ("random:5:0", "asks for 5; the dictionary has 4"),
        ("random:1", "random:N:SEED"),
        ("", "is not understood; use all"),
        ("-1", "is not understood"),
        ("0;1", "is not understood"),
    ],
)
def test_a_bad_selection_names_value_and_limit(text: str, message: str) -> None:
    with pytest.raises(BadSelection, match=message):
        parse_selection(text, 4)
