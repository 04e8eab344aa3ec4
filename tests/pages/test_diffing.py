"""Word diffs: what was there, what is, and none of it as markup."""

import re

from service.pages.diffing import MOST_WORDS, word_diff

_TAGS = re.compile(r"</?bdi>")


def _inside(old: str, new: str) -> str:
    return _TAGS.sub("", word_diff(old, new))


def test_words_that_came_and_went_are_marked() -> None:
    assert _inside("names of rivers", "names of boats") == "names of <del>rivers</del><ins>boats</ins>"
    assert _inside("names of rivers", "names of large rivers") == "names of <ins>large </ins>rivers"
    assert _inside("", "boats") == "<ins>boats</ins>"
    assert _inside("boats", "") == "<del>boats</del>"
    assert _inside("boats", "boats") == "boats"


def test_what_is_said_is_text_and_apart_from_what_is_around_it() -> None:
    diff = word_diff("<b>one</b>", "<i>one</i>")
    assert "<b>" not in diff
    assert "<i>" not in diff
    assert diff.startswith("<bdi>")
    assert diff.endswith("</bdi>")


def test_long_texts_are_shown_whole() -> None:
    old, new = "a " * MOST_WORDS, "b " * MOST_WORDS
    assert _inside(old, new) == f"<del>{old}</del><ins>{new}</ins>"
    assert _inside(old, old) == old
