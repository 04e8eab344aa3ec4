"""Prompt files: their layout, and that substitution is plain."""

import pytest

from prompts import load_prompt
from prompts.loader import _parse
from schema.errors import NotFound

FILE = """# system
Be brief.

# example user
1 + 1

# example assistant
2

# part left
L: $l

# part right
R: $r

# user
$parts
costs $$5, says $who
"""


def test_sections_become_system_examples_and_user_in_that_order() -> None:
    messages = _parse("x/y.v1", FILE).messages(l="1", r="2", who="me")
    assert [(m["role"], m["content"]) for m in messages] == [
        ("system", "Be brief."),
        ("user", "1 + 1"),
        ("assistant", "2"),
        ("user", "L: 1\n\nR: 2\ncosts $5, says me"),
    ]


def test_a_part_without_its_value_is_left_out() -> None:
    assert _parse("x/y.v1", FILE).messages(r="2", who="me")[-1]["content"] == "R: 2\ncosts $5, says me"


def test_substituted_text_is_not_scanned_again() -> None:
    messages = _parse("x/y.v1", FILE).messages(l="$who ${r} $$", r="2", who="me")
    assert "L: $who ${r} $$\n" in messages[-1]["content"]


def test_a_missing_value_is_an_error() -> None:
    with pytest.raises(KeyError):
        _parse("x/y.v1", FILE).messages(l="1", r="2")


def test_an_unknown_heading_is_named() -> None:
    with pytest.raises(ValueError, match="'sistem'"):
        _parse("x/y.v1", "# sistem\nBe brief.\n# user\nhello\n")


def test_sha256_is_of_the_whole_file() -> None:
    assert _parse("x/y.v1", FILE).sha256 != _parse("x/y.v1", FILE + "\n").sha256


@pytest.mark.parametrize("id", ["describe/nothing.v1", "../secrets", "describe/feature", "judge/output.v2.md"])
def test_an_id_that_is_no_prompt_is_not_found(id: str) -> None:
    with pytest.raises(NotFound, match="prompt"):
        load_prompt(id)


def test_a_prompt_is_read_once() -> None:
    assert load_prompt("describe/feature.v1") is load_prompt("describe/feature.v1")
