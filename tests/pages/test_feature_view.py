"""What the feature page makes of evidence and scores, without a page."""

import pytest

from schema.evidence import Exemplars, Firing, Window
from schema.labels import Label, Score, Status
from service import examples
from service.pages.exemplars import groups, level_of, share_between, text_of, visible
from service.pages.verdicts import summary_of, verdicts_of, why

FIRING = Firing(
    n_tokens=100,
    n_firing=40,
    threshold=0.0,
    sum=60.0,
    max=4.0,
    histogram_edges=(0.0, 1.0, 2.0, 4.0),
    histogram=(20, 10, 10),
)
LABEL = Label(feature=1, text="boats", status=Status.OK, method="combined", description_id=1)
INPUT, OUTPUT = (Score.model_validate(example) for example in (examples.INPUT_SCORE, examples.OUTPUT_SCORE))
FAILED = {"success": False, "lift": -0.2, "lift_low": -0.4, "lift_high": -0.1}
LUCKY = {"lift_low": -0.1}
UNTESTED = Score(feature=1, kind="input", status=Status.NOT_APPLICABLE, recipe="r")


def test_shades_are_nine_equal_steps_above_the_threshold() -> None:
    assert [level_of(value, FIRING) for value in (-1.0, 0.0, 0.01, 0.44, 0.45, 2.0, 4.0, 9.0)] == [
        0,
        0,
        1,
        1,
        2,
        5,
        9,
        9,
    ]
    assert level_of(3.0, FIRING.model_copy(update={"max": 0.0})) == 9


def test_the_share_of_a_band_comes_from_the_histogram() -> None:
    # 20 tokens below 1, 10 from there to 2, and 10 evenly between 2 and 4.
    shares = [share_between(FIRING, *band) for band in ((0.0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1.0))]
    assert shares == pytest.approx([0.5, 0.25, 0.125, 0.125])
    assert share_between(FIRING.model_copy(update={"histogram": (0, 0, 0)}), 0.0, 1.0) is None


def test_a_window_is_in_one_band_only_and_the_same_words_count_once() -> None:
    def window(document: int, peak: float, word: str) -> Window:
        return Window(document=document, position=1, peak=1, tokens=("a", word), activations=(0.0, peak))

    strong = [window(i, 4.0 - i / 10, f" w{i}") for i in range(10)]
    weak = [window(20, 0.5, " weak"), window(21, 0.4, " weak"), strong[0]]
    nothing = {"silent": (), "hard_negatives": ()}
    half = {"top": strong, "uniform": weak, "weighted": weak, **nothing}
    none = {"top": (), "uniform": (), "weighted": (), **nothing}
    exemplars = Exemplars.model_validate({**FIRING.model_dump(), "describe": half, "score": none})
    found = groups(exemplars, everything=False)
    assert [(group.kind, len(group.shown), group.n_more) for group in found] == [("strongest", 8, 2), ("band", 1, 0)]
    assert found[1].shown[0].maximum == 0.5
    assert [group.n_more for group in groups(exemplars, everything=True)] == [0, 0]


def test_nothing_in_a_window_is_invisible_and_nothing_turns_it_round() -> None:
    assert visible("a b", blanks=False) == "a b"
    assert visible("a\n<b>", blanks=False) == 'a<i class="ws">⏎</i>&lt;b&gt;'
    assert visible(" a", blanks=True) == '<i class="sp"> </i>a'
    assert visible("\u202eabc", blanks=False) == '<i class="ws">\\u{202e}</i>abc'
    assert visible("\u0645\u200c\u06cc", blanks=False) == "\u0645\u200c\u06cc"


def test_tokens_that_fire_say_how_strongly() -> None:
    window = Window(document=0, position=1, peak=1, tokens=("the", " river", " bank"), activations=(0.0, 4.0, 0.5))
    assert text_of(window, FIRING) == (
        'the<mark class="a9" tabindex="0" title="4" data-value="4"><i class="sp"> </i>river</mark>'
        '<span class="a2" title="0.5"><i class="sp"> </i>bank</span>'
    )


@pytest.mark.parametrize(
    ("scores", "text", "tone"),
    [
        ({"input": INPUT, "output": OUTPUT}, "Passes both tests", "good"),
        ({"input": INPUT.model_copy(update=FAILED), "output": OUTPUT}, "Passes 1 of 2 tests: output", "busy"),
        (
            {"input": INPUT.model_copy(update=FAILED), "output": OUTPUT.model_copy(update=FAILED)},
            "Fails both tests",
            "bad",
        ),
        (
            {"input": INPUT.model_copy(update=LUCKY), "output": OUTPUT.model_copy(update=LUCKY)},
            "Passes both tests, but no more clearly than luck allows",
            "busy",
        ),
        ({"input": UNTESTED, "output": OUTPUT}, "Passes the output test; input not tested", "busy"),
        ({"output": OUTPUT.model_copy(update=FAILED)}, "Fails the output test; input not tested", "bad"),
        ({}, "Not tested", "plain"),
    ],
)
def test_the_tests_come_to_one_line(scores: dict[str, Score], text: str, tone: str) -> None:
    assert summary_of(LABEL, verdicts_of(scores)) == (text, tone)


def test_what_could_not_be_tested_is_a_status_and_no_number() -> None:
    verdict, _ = verdicts_of({"input": UNTESTED})
    assert (verdict.word, verdict.tone, verdict.against) == ("not applicable", "plain", "")


def test_a_label_says_why_it_is_the_label() -> None:
    standings = [{"candidate": "a", "low": 0.5}, {"candidate": "b", "low": 0.7}]
    assert "0.70, and the next 0.50 (a)" in str(why(LABEL.model_copy(update={"choice": {"standings": standings}})))
    assert "only description" in str(why(LABEL.model_copy(update={"choice": {"standings": standings[:1]}})))
    assert "A person wrote it" in str(why(LABEL.model_copy(update={"author": "ada"})))
    assert why(LABEL.model_copy(update={"choice": {"reason": "its judge's job failed"}})) == "its judge's job failed"
    assert why(None) is None
