"""Lexical descriptions: what tells is what is frequent where the feature fires and rare where it does not."""

import itertools
import math
import random
from collections.abc import Sequence

import pytest

from prompts.composing import Composition, NotApplicable
from schema.evidence import Agreement, Exemplars, SplitExemplars, TokenChange, TokenList, VocabularyProjection, Window
from schema.labels import Status
from tests.tiny import planted_features, tiny_corpus
from workers.methods.lexical import lexical_description, log_odds, telling_tokens

NOTHING = TokenList(ids=(), tokens=(), values=())
_documents = itertools.count()


def window(tokens: str | Sequence[str], peak: int, activation: float = 1.0) -> Window:
    """Return a window of tokens, written with | between them."""
    pieces = tuple(tokens.split("|")) if isinstance(tokens, str) else tuple(tokens)
    activations = tuple(activation if i == peak else 0.0 for i in range(len(pieces)))
    document = next(_documents)
    return Window(document=document, position=peak, peak=peak, tokens=pieces, activations=activations)


def exemplars(firing: Sequence[Window], silent: Sequence[Window]) -> Exemplars:
    split = SplitExemplars(top=tuple(firing), uniform=(), weighted=(), silent=tuple(silent), hard_negatives=())
    empty = SplitExemplars(top=(), uniform=(), weighted=(), silent=(), hard_negatives=())
    return Exemplars(
        n_tokens=1000,
        n_firing=len(firing),
        threshold=0.0,
        sum=sum(w.maximum for w in firing),
        max=max((w.maximum for w in firing), default=0.0),
        histogram_edges=(),
        histogram=(),
        describe=split,
        score=empty,
    )


def tokens(*pairs: tuple[str, float]) -> TokenList:
    return TokenList(
        ids=tuple(range(len(pairs))), tokens=tuple(t for t, _ in pairs), values=tuple(value for _, value in pairs)
    )


def projection(promoted: TokenList, suppressed: TokenList = NOTHING) -> VocabularyProjection:
    return VocabularyProjection(promoted=promoted, suppressed=suppressed, neighbours=(), cosines=(), centred=False)


def change(raised: TokenList, lowered: TokenList = NOTHING) -> TokenChange:
    return TokenChange(
        amplified_raised=raised,
        amplified_lowered=lowered,
        suppressed_raised=NOTHING,
        suppressed_lowered=NOTHING,
        strength_amplified=1.0,
        strength_suppressed=-1.0,
        n_contexts=1,
        n_positions=1,
        method="exact",
    )


def text_of(found: Composition | NotApplicable) -> str:
    assert isinstance(found, Composition), found
    return found.text


def test_log_odds_adds_half_an_observation_to_each_cell() -> None:
    # (3.5 / 1.5) / (1.5 / 8.5)
    assert log_odds(3, 4, 1, 9) == pytest.approx(math.log(3.5 / 1.5 * 8.5 / 1.5))
    assert log_odds(0, 0, 0, 0) == 0.0


def test_peaks_weigh_as_much_as_their_activations() -> None:
    # Weights 3, 1 and 2, scaled to sum 3: "a" has 1.5 + 1.0, "b" has 0.5. Background: 8 tokens, one of them "b".
    firing = [window("x| A", 1, 3.0), window("x| b", 1, 1.0), window("x|a", 1, 2.0)]
    silent = [window("x|x|b|x", 0), window("x|x|x|x", 0)]
    found = telling_tokens(firing, silent, lambda w: [w.tokens[w.peak]], least_share=0.1)
    assert [(t.key, t.share) for t in found] == [("a", pytest.approx(2.5 / 3))]
    assert found[0].log_odds == pytest.approx(math.log(3.0 / 1.0) - math.log(0.5 / 8.5))


def test_both_sides_are_told_in_one_sentence() -> None:
    firing = [window("he lived| in| Paris", 2, 9.0), window("went by train| in| Paris", 2, 8.0)]
    firing += [window("and so| in| London", 2, 5.0), window("seen| in| london", 2, 4.0)]
    silent = [window("some| of| the| text", 0)] * 3
    found = lexical_description(exemplars(firing, silent), projection(tokens((" France", 4.0), (" city", 3.0))), None)
    assert text_of(found) == 'fires on "Paris", "London" (after "in"); then promotes "France", "city"'
    assert found == Composition(text_of(found), '"Paris", "London" (after "in")', 'promotes "France", "city"')


def test_a_peak_that_is_as_frequent_in_silent_text_does_not_tell() -> None:
    firing = [window(f"w{i}| the", 1) for i in range(4)]
    silent = [window("the| a| the| b", 0)]
    found = lexical_description(exemplars(firing, silent), projection(tokens(("x", 1.0))), None)
    assert text_of(found) == 'promotes "x"'


def test_what_comes_before_tells_where_the_peaks_differ() -> None:
    firing = [window(f"x| visit| w{i}", 2) for i in range(20)]
    found = lexical_description(exemplars(firing, [window("x| a| b| c", 0)]), None, None)
    assert text_of(found) == 'fires after "visit"'


def test_words_nearby_tell_where_neither_peaks_nor_neighbours_do() -> None:
    firing = [window(f"the| court| of| w{i}| v{i}| the| law", 4) for i in range(20)]
    silent = [window("the| end| of| it", 0)] * 4
    assert text_of(lexical_description(exemplars(firing, silent), None, None)) == 'fires near "court", "law"'


def test_pieces_of_one_word_are_shown_as_the_word() -> None:
    firing = [window("in| Strat|ford| today", 2), window("at| Strat|ford", 2)]
    assert 'fires on "Stratford"' in text_of(lexical_description(exemplars(firing, []), None, None))


def test_a_piece_of_many_words_is_shown_as_the_piece() -> None:
    firing = [window(f"a| {word}|ing| b", 2) for word in ("walk", "talk", "sing", "jump")]
    assert 'fires on "ing"' in text_of(lexical_description(exemplars(firing, [window("x| y", 0)]), None, None))


def test_blank_tokens_are_named_and_line_breaks_count_once() -> None:
    firing = [window("a|\n", 1), window("b|\n    ", 1), window("c|\n\n", 1)]
    assert text_of(lexical_description(exemplars(firing, [window("x| y", 0)]), None, None)) == "fires on newline"


def test_token_change_is_preferred_to_the_vocabulary() -> None:
    found = lexical_description(None, projection(tokens(("v", 1.0))), change(tokens(("t", 1.0))))
    assert text_of(found) == 'promotes "t"'


def test_the_vocabulary_is_preferred_to_a_linear_token_change_that_disagrees_with_the_exact_one() -> None:
    agreement = Agreement(overlap=0.35, cosine=0.9, n_features=16)
    linear = change(tokens(("t", 1.0))).model_copy(update={"method": "linear", "agreement": agreement})
    assert text_of(lexical_description(None, projection(tokens(("v", 1.0))), linear)) == 'promotes "v"'


def test_the_tail_of_a_list_and_broken_tokens_do_not_tell() -> None:
    listed = tokens(
        (" red", 4.0), ("Red", 3.9), ("\ufffd", 3.0), (" blue", 2.0), (" gray", 0.9), ("x", 0.0), ("y", -1.0)
    )
    assert text_of(lexical_description(None, projection(listed), None)) == 'promotes "red", "blue"'


def test_suppression_is_told_in_the_effect_and_in_the_text_where_there_is_nothing_else() -> None:
    lowered = tokens((" war", -2.0), (" army", -1.5), (" of", -0.1))
    both = lexical_description(None, projection(tokens((" peace", 1.0)), lowered), None)
    assert both == Composition('promotes "peace"', "", 'promotes "peace"; suppresses "war", "army"')
    assert text_of(lexical_description(None, projection(NOTHING, lowered), None)) == 'suppresses "war", "army"'


def test_a_dead_feature_has_the_output_side_only() -> None:
    dead = exemplars([], [window("x| y", 0)])
    assert text_of(lexical_description(dead, projection(tokens(("a", 1.0))), None)) == 'promotes "a"'


def test_nothing_that_tells_is_no_pattern() -> None:
    firing = [window(f"w{i}| v{i}| u{i}", 1) for i in range(20)]
    found = lexical_description(exemplars(firing, [window("x| y", 0)]), projection(NOTHING), None)
    assert isinstance(found, NotApplicable)
    assert found.status == Status.NO_PATTERN


def reference(firing: Sequence[Window], silent: Sequence[Window]) -> list[str]:
    """Return the telling peak tokens, slowly: one pass over everything for every token."""
    total = sum(w.maximum for w in firing)
    background = [t.strip().lower() for w in silent for t in w.tokens]
    found = []
    for key in {w.tokens[w.peak].strip().lower() for w in firing}:
        y = sum(w.maximum for w in firing if w.tokens[w.peak].strip().lower() == key) / total * len(firing)
        b, n_b = background.count(key), len(background)
        odds = (y + 0.5) / (len(firing) - y + 0.5) / ((b + 0.5) / (n_b - b + 0.5))
        if odds >= 4 and y / len(firing) >= max(0.1, 3 * b / n_b):
            found.append((-y, -odds, key))
    return [key for *_, key in sorted(found)]


@pytest.mark.parametrize("seed", range(5))
def test_telling_tokens_match_a_slow_reference(seed: int) -> None:
    rng = random.Random(seed)
    words = [f" w{i}" for i in range(12)]
    weights = [rng.random() ** 8 for _ in words]
    firing = [window(rng.choices(words, weights, k=5), 2, rng.random() + 0.1) for _ in range(30)]
    silent = [window(rng.choices(words, k=20), 0) for _ in range(6)]
    found = telling_tokens(firing, silent, lambda w: [w.tokens[w.peak]], least_share=0.1)
    assert [t.key for t in found] == reference(firing, silent)
    assert found


def test_planted_triggers_and_promoted_words_are_recovered() -> None:
    documents = [[f" {word}" for word in document.split()] for document in tiny_corpus(60)]
    for feature in planted_features()[::4]:
        places = [
            (d, i) for d, text in enumerate(documents) for i, t in enumerate(text) if _bare(t) in feature.triggers
        ]
        firing = [window(documents[d][max(0, i - 8) : i + 5], min(i, 8)) for d, i in places]
        silent = [window(text[:30], 0) for text in documents if not {_bare(t) for t in text} & set(feature.triggers)]
        promoted = tokens(*((f" {word}", 1.0) for word in feature.promoted), (" noise", 0.2))
        found = lexical_description(exemplars(firing[:20], silent[:20]), projection(promoted), None)
        assert isinstance(found, Composition)
        assert {word.strip(' ".,') for word in found.trigger.split(" (")[0].split(", ")} == set(feature.triggers)
        assert found.effect == "promotes " + ", ".join(f'"{word}"' for word in feature.promoted)


def _bare(token: str) -> str:
    return token.strip(" .,")
