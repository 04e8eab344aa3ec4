"""Detection, fuzzing and sensitivity: what is drawn, and what answers are worth."""

import re
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score

from schema.evidence import Exemplars, SplitExemplars, Window
from schema.labels import Status
from workers.methods.corpus_evaluation import (
    Item,
    detection_items,
    evaluate_answers,
    evaluate_sensitivity,
    fuzzing_items,
    mark,
)
from workers.methods.statistics import Measurement

THRESHOLD = 0.5


def window(name: str, activations: Sequence[float]) -> Window:
    peak = max(range(len(activations)), key=lambda i: activations[i])
    tokens = tuple(f" {name}{i}" for i in range(len(activations)))
    return Window(document=hash(name) % 2**31, position=peak, peak=peak, tokens=tokens, activations=tuple(activations))


def exemplars(n_firing: int = 12, n_silent: int = 12, n_hard: int = 12) -> Exemplars:
    """Return windows f… in which it fires on two tokens, silent ones s…, and hard negatives h…."""
    score = SplitExemplars(
        top=tuple(window(f"f{i}x", [0, 9 - i / 9, 0, 1, 0]) for i in range(n_firing)),
        uniform=(),
        weighted=(),
        silent=tuple(window(f"s{i}x", [0.0] * 5) for i in range(n_silent)),
        hard_negatives=tuple(window(f"h{i}x", [0.0] * 5) for i in range(n_hard)),
    )
    empty = SplitExemplars(top=(), uniform=(), weighted=(), silent=(), hard_negatives=())
    return Exemplars(
        n_tokens=1000,
        n_firing=n_firing,
        threshold=THRESHOLD,
        sum=1.0,
        max=9.0,
        histogram_edges=(),
        histogram=(),
        describe=empty,
        score=score,
    )


def drawn(found: tuple[Item, ...] | Measurement) -> tuple[Item, ...]:
    assert not isinstance(found, Measurement), found
    return found


def first_letters(items: Sequence[Item]) -> str:
    return "".join(sorted(item.text.strip().lstrip("<")[0] for item in items))


def test_detection_shows_as_many_contexts_of_either_side_and_half_the_negatives_are_hard() -> None:
    items = drawn(detection_items(exemplars(), 8, seed=0, feature=1))
    assert first_letters([item for item in items if item.positive]) == "ffff"
    assert first_letters([item for item in items if not item.positive]) == "hhss"


def test_positives_are_spread_over_the_activations() -> None:
    items = drawn(detection_items(exemplars(n_firing=9), 6, seed=0, feature=1))
    assert {item.text.split()[0] for item in items if item.positive} == {"f0x0", "f4x0", "f8x0"}


def test_the_order_is_of_the_feature_and_the_seed() -> None:
    orders = {
        tuple(item.positive for item in drawn(detection_items(exemplars(), 10, seed=seed, feature=feature)))
        for seed in range(4)
        for feature in range(4)
    }
    assert len(orders) > 8
    assert detection_items(exemplars(), 10, seed=3, feature=2) == detection_items(exemplars(), 10, seed=3, feature=2)


@pytest.mark.parametrize(("n_silent", "n_hard", "expected"), [(12, 0, "ssss"), (0, 12, "hhhh"[:2]), (3, 1, "hsss")])
def test_negatives_of_one_kind_make_up_for_the_other_where_they_can(n_silent: int, n_hard: int, expected: str) -> None:
    items = drawn(detection_items(exemplars(n_silent=n_silent, n_hard=n_hard), 8, seed=0, feature=1))
    assert first_letters([item for item in items if not item.positive]) == expected
    assert sum(item.positive for item in items) == len(expected)


def test_right_marks_are_where_it_fires_and_wrong_ones_are_not() -> None:
    items = drawn(fuzzing_items(exemplars(), 8, seed=0, feature=1))
    assert sum(item.positive for item in items) == 4
    for item in items:
        marked = {int(place) for text in re.findall(r"<<(.*?)>>", item.text) for place in re.findall(r"x(\d)", text)}
        assert len(marked) == 2
        if item.text.strip().lstrip("<").startswith("f"):
            assert marked == {1, 3} if item.positive else marked.isdisjoint({1, 3})
        else:
            assert not item.positive


def test_what_is_marked_wrongly_is_never_also_marked_rightly() -> None:
    items = drawn(fuzzing_items(exemplars(), 12, seed=0, feature=1))
    names = [re.sub(r"[<> ]", "", item.text)[:4] for item in items]
    assert len(set(names)) == len(names)


def test_a_feature_that_fires_on_every_token_has_no_wrong_marks_but_on_hard_negatives() -> None:
    always = exemplars(n_firing=8, n_hard=4)
    score = always.score.model_copy(update={"top": tuple(window(f"f{i}x", [2.0, 3.0, 2.0]) for i in range(8))})
    items = drawn(fuzzing_items(always.model_copy(update={"score": score}), 8, seed=0, feature=1))
    assert first_letters([item for item in items if not item.positive]) == "hh"


@pytest.mark.parametrize(
    ("known", "status"),
    [
        (exemplars(n_firing=0), Status.DEAD),
        (exemplars(n_firing=1), Status.TOO_RARE),
        (exemplars(n_silent=1, n_hard=0), Status.TOO_RARE),
    ],
)
def test_too_few_contexts_are_a_status(known: Exemplars, status: Status) -> None:
    found = detection_items(known, 8, seed=0, feature=1)
    assert isinstance(found, Measurement)
    assert found.status == status
    assert found.reason


@pytest.mark.parametrize(
    ("places", "text"),
    [([0], "<<a>> b c"), ([1, 2], "a <<b c>>"), ([0, 2], "<<a>> b <<c>>"), ([], "a b c"), ([0, 1, 2], "<<a b c>>")],
)
def test_neighbouring_marks_are_one(places: list[int], text: str) -> None:
    of_three = Window(document=0, position=0, peak=0, tokens=("a", " b", " c"), activations=(1.0, 1.0, 1.0))
    assert mark(of_three, places) == text


ITEMS = [Item(str(i), i < 4) for i in range(8)]


def test_balanced_accuracy_by_hand() -> None:
    answers = [True, True, True, False, False, False, True, True]
    found = evaluate_answers(ITEMS, answers)
    assert found.estimate is not None
    assert found.estimate.value == (3 / 4 + 2 / 4) / 2
    assert found.estimate.low < 0.5 < found.estimate.value < found.estimate.high
    assert found.details == {
        "n_positive": 4,
        "n_negative": 4,
        "right_positive": 3,
        "right_negative": 2,
        "n_failed": 0,
    }


@pytest.mark.parametrize("always", [True, False])
def test_a_judge_that_always_says_the_same_is_at_chance(always: bool) -> None:
    found = evaluate_answers(ITEMS, [always] * 8)
    assert found.estimate is not None
    assert found.estimate.value == 0.5
    assert found.lift is not None
    assert found.lift.value == 0.0


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=40))
def test_balanced_accuracy_equals_scikit_learn(pairs: list[tuple[bool, bool]]) -> None:
    items = [Item("", truth) for truth, _ in pairs]
    found = evaluate_answers(items, [answer for _, answer in pairs])
    if len({truth for truth, _ in pairs}) == 1:
        assert found.status == Status.NOT_APPLICABLE
        return
    assert found.estimate is not None
    expected = balanced_accuracy_score([truth for truth, _ in pairs], [answer for _, answer in pairs])
    assert found.estimate.value == pytest.approx(expected)
    assert found.estimate.low <= found.estimate.value <= found.estimate.high


def test_answers_that_failed_take_no_part_and_are_counted() -> None:
    answers: list[bool | Status] = [True] * 4 + [False, Status.UNPARSED, False, Status.UNPARSED]
    found = evaluate_answers(ITEMS, answers)
    assert found.estimate is not None
    assert (found.estimate.value, found.estimate.n, found.details["n_failed"]) == (1.0, 6, 2)
    lost = evaluate_answers(ITEMS, [Status.REFUSED] * 8)
    assert (lost.status, lost.estimate) == (Status.REFUSED, None)


def test_sensitivity_is_the_share_that_fires_against_that_of_others_texts() -> None:
    found = evaluate_sensitivity([1.0, 2.0, 0.0, 0.5], [[0.0, 1.0], [0.0, 0.0], []], threshold=0.5, seed=0)
    assert found.estimate is not None
    assert found.control is not None
    assert (found.estimate.value, found.control.value, found.details["n_controls"]) == (0.5, 0.25, 2)
    assert evaluate_sensitivity([], [], threshold=0.0, seed=0).status == Status.NOT_APPLICABLE
