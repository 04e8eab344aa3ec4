"""Replies to typed answers: tolerant around the answer, strict in it, and never another exception."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schema.errors import BadReply, Refused
from schema.labels import Status
from workers.parse import DescriptionReply, JudgeReply, Reply, SentencesReply, parse_reply, sentences_reply, shortened

GOOD = {"trigger": "Paris: names of cities", "effect": "France"}
TWO = sentences_reply(2)


def description(**changes: object) -> str:
    return json.dumps({**GOOD, **changes})


def test_a_plain_reply_is_read() -> None:
    assert parse_reply(json.dumps(GOOD), DescriptionReply).model_dump() == GOOD


@pytest.mark.parametrize(
    "around",
    [
        "```json\n{}\n```",
        "Here is the description:\n\n{}",
        "{}\n\nI hope this helps!",
        '<think>Perhaps {{a}}? No: {{"trigger": 1}}</think>\n{}',
        "Let {{x}} be the feature. {}",
    ],
)
def test_what_surrounds_the_answer_is_ignored(around: str) -> None:
    text = around.replace("{{", "\1").replace("}}", "\2").replace("{}", json.dumps(GOOD))
    assert parse_reply(text.replace("\1", "{").replace("\2", "}"), DescriptionReply).trigger == GOOD["trigger"]


def test_runs_of_blanks_become_one() -> None:
    assert parse_reply(description(trigger=" names\n\n of\tcities "), DescriptionReply).trigger == "names of cities"


def test_unknown_fields_are_dropped() -> None:
    assert parse_reply(description(confidence=0.9), DescriptionReply).model_dump() == GOOD


@pytest.mark.parametrize("text", ["No clear pattern.", "There is no obvious pattern here.", "no pattern"])
def test_no_clear_pattern_is_an_answer_with_a_status(text: str) -> None:
    assert parse_reply(description(trigger=text, effect=text), DescriptionReply).status == Status.NO_PATTERN


def test_a_facet_without_a_pattern_is_empty_and_the_other_stays() -> None:
    reply = parse_reply(description(trigger="is, are: no clear pattern"), DescriptionReply)
    assert (reply.trigger, reply.effect, reply.status) == ("", "France", Status.OK)


def test_a_description_without_either_facet_says_nothing() -> None:
    assert parse_reply(description(trigger="", effect=""), DescriptionReply).status == Status.NO_PATTERN


def test_one_facet_is_enough() -> None:
    assert parse_reply(description(trigger=""), DescriptionReply).status == Status.OK


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"trigger": ";}", "effect": "..."}, "no word"),
        ({"trigger": "x" * 241}, "trigger: .*at most 240"),
        ({"effect": "[<data 0541ac6cfdb9>]"}, "copies the prompt's delimiter: <data"),
        ({"effect": "the end of a verb; the end of a verb; the end of a verb"}, "repeats itself"),
        ({"trigger": "holds no word"}, "copies the prompt: holds no word"),
        ({"effect": "answer again, with the JSON object only"}, "copies the prompt: answer again"),
        ({"trigger": 7}, "trigger: .*string"),
        ({"trigger": None}, "trigger: .*string"),
        ({"trigger": ["a"]}, "trigger: .*string"),
        ({"effect": "a\x00b"}, "control character U\\+0000"),
        ({"effect": "a\x1b[31m"}, "control character U\\+001B"),
        ({"effect": "\u202eevil"}, "control character U\\+202E"),
        ({"effect": "<script>alert(1)</script>"}, "HTML: <script>"),
        ({"effect": "<img src=x onerror=alert(1)>"}, "HTML"),
        ({"effect": "&#60;b&#62;"}, "HTML"),
        ({"effect": "see https://example.com"}, "link"),
        ({"effect": "see www.example.com"}, "link"),
        ({"effect": "click javascript:alert(1)"}, "link"),
    ],
)
def test_a_bad_field_is_named(changes: dict[str, object], reason: str) -> None:
    with pytest.raises(BadReply, match=reason):
        parse_reply(description(**changes), DescriptionReply)


@pytest.mark.parametrize(
    "text", ["a < b and c > d", "List<int>", "the mark <<a>>", "x := y", "C++ std::vector", "12:30"]
)
def test_code_and_marks_are_neither_html_nor_links(text: str) -> None:
    assert parse_reply(description(trigger=text), DescriptionReply).trigger == text


def test_lone_surrogates_are_refused() -> None:
    with pytest.raises(BadReply):
        parse_reply('{"trigger": "\\ud800", "effect": ""}', DescriptionReply)


@pytest.mark.parametrize("text", ["", "   ", "I think it is about cities.", "[1, 2]", '{"trigger": "a"', "{" * 500])
def test_a_reply_without_the_object_is_malformed(text: str) -> None:
    with pytest.raises(BadReply, match="holds no JSON object"):
        parse_reply(text, DescriptionReply)


def test_a_missing_field_is_named() -> None:
    with pytest.raises(BadReply, match="effect: Field required"):
        parse_reply('{"trigger": "a"}', DescriptionReply)


def test_a_reply_cut_at_the_limit_is_malformed_even_if_it_parses() -> None:
    with pytest.raises(BadReply, match="cut off"):
        parse_reply(json.dumps(GOOD), DescriptionReply, "length")


@pytest.mark.parametrize("text", ["Lo siento, perdón: Spanish apologies", "对不起: apologies", "désolé: regret"])
def test_words_of_regret_are_no_refusal(text: str) -> None:
    assert parse_reply(description(trigger=text), DescriptionReply).trigger == text


def test_an_answer_in_another_language_is_kept_as_it_is() -> None:
    text = "河流, 小溪: 水道的名称"
    assert parse_reply(description(trigger=text), DescriptionReply).trigger == text


@pytest.mark.parametrize(
    "text",
    [
        '{"déclencheur": "Paris", "effet": "France"}',  # the fields translated
        "这个特征似乎与河流有关。",
        "trigger: Paris\neffect: France",  # YAML
        "<answer><trigger>Paris</trigger><effect>France</effect></answer>",
        "{'trigger': 'Paris', 'effect': 'France'}",  # Python
    ],
)
def test_an_answer_in_another_language_than_that_of_the_form_is_malformed(text: str) -> None:
    with pytest.raises(BadReply) as raised:
        parse_reply(text, DescriptionReply)
    assert not isinstance(raised.value, Refused)


def test_a_whitespace_flood_is_malformed() -> None:
    with pytest.raises(BadReply, match="40 blanks"):
        parse_reply('{"trigger": "a",' + "\n" * 100 + '"effect": "b"}', DescriptionReply)


def test_an_over_long_reply_is_not_searched() -> None:
    with pytest.raises(BadReply, match="20000 are read"):
        parse_reply("x" * 20_001, DescriptionReply)


def test_deep_nesting_is_malformed() -> None:
    with pytest.raises(BadReply):
        parse_reply('{"trigger":' * 3000, DescriptionReply)


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't assist with that request.",
        "I cannot help with this.",
        "Sorry, I am unable to provide a description.",
        "As an AI language model, I don't have access to the feature.",
        "I apologize, but I won't describe this content.",
        description(effect="I cannot provide a summary."),
        description(trigger="I\u2019m sorry, I can\u2019t help with that."),
        "Lo siento, pero no puedo ayudar con eso.",
        "Je suis désolé, mais je ne peux pas répondre à cette demande.",
        "Es tut mir leid, aber ich kann dabei nicht helfen.",
        "Desculpe, mas não posso ajudar com isso.",
        "Mi dispiace, ma non posso farlo.",
        "Извините, но я не могу вам помочь.",
        description(trigger="对不起 我无法回答这个问题。"),
        "申し訳ありませんが、そのご要望にはお応えできません。",
        "죄송하지만 도와드릴 수 없습니다.",
    ],
)
def test_a_refusal_is_told_from_nonsense(text: str) -> None:
    with pytest.raises(Refused):
        parse_reply(text, DescriptionReply)


def test_the_content_filter_is_a_refusal() -> None:
    with pytest.raises(Refused, match="content filter"):
        parse_reply("", DescriptionReply, "content_filter")


@pytest.mark.parametrize("text", ['apologies such as "I\'m sorry"', "phrases like I cannot help", "I do not know"])
def test_a_description_of_refusals_is_none(text: str) -> None:
    assert parse_reply(description(trigger=text), DescriptionReply).status == Status.OK


def test_sentences_are_read() -> None:
    reply = parse_reply('{"activating": ["I see Rome.", "Go to Oslo."], "neutral": ["Eat.", "Sleep now."]}', TWO)
    assert isinstance(reply, SentencesReply)
    assert reply.activating == ("I see Rome.", "Go to Oslo.")
    assert reply.neutral == ("Eat.", "Sleep now.")


@pytest.mark.parametrize(
    ("activating", "neutral", "reason"),
    [
        (["a b"], ["c d", "e f"], "activating: .*at least 2"),
        (["a b", "c d", "e f"], ["g h", "i j"], "activating: .*at most 2"),
        (["a b", "c d"], "g h", "neutral: "),
        (["a b", "c d"], ["c d", "a b"], "are the same"),
        (["a b", "a b"], ["a b", "e f"], "are the same"),
        (["a b", "!?"], ["c d", "e f"], "no word"),
        (["a b", "x" * 201], ["c d", "e f"], "activating.1: .*at most 200"),
        (["a b", "see http://x.y"], ["c d", "e f"], "link"),
        (["a b", 5], ["c d", "e f"], "activating.1: .*string"),
    ],
)
def test_wrong_sentences_are_named(activating: object, neutral: object, reason: str) -> None:
    with pytest.raises(BadReply, match=reason):
        parse_reply(json.dumps({"activating": activating, "neutral": neutral}), TWO)


def test_a_sentence_may_say_that_someone_cannot_help() -> None:
    text = '{"activating": ["I cannot help you.", "Go to Oslo."], "neutral": ["Eat.", "Sleep now."]}'
    assert parse_reply(text, TWO).activating[0] == "I cannot help you."


def test_a_choice_is_read() -> None:
    reply = parse_reply('{"reason": "C has court and judge.", "choice": "C"}', JudgeReply)
    assert (reply.reason, reply.choice) == ("C has court and judge.", "C")


@pytest.mark.parametrize("choice", ["D", "a", "Set A", "", 1, None])
def test_a_choice_outside_the_three_is_malformed(choice: object) -> None:
    with pytest.raises(BadReply, match="choice"):
        parse_reply(json.dumps({"reason": "so", "choice": choice}), JudgeReply)


@pytest.mark.parametrize("answer", [DescriptionReply, TWO, JudgeReply])
def test_schemas_close_the_object_and_require_every_field_in_order(answer: type[Reply]) -> None:
    schema = answer.json_schema()
    assert schema["additionalProperties"] is False
    assert schema["required"] == list(schema["properties"])


def test_the_judge_is_asked_for_its_reason_first() -> None:
    assert list(JudgeReply.json_schema()["properties"]) == ["reason", "choice"]


def test_the_schema_asks_for_the_number_of_sentences() -> None:
    field = sentences_reply(5).json_schema()["properties"]["activating"]
    assert (field["minItems"], field["maxItems"]) == (5, 5)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from([*GOOD, "activating", "neutral", "choice"]), inner),
)


@given(text=st.text() | JSON.map(json.dumps), answer=st.sampled_from([DescriptionReply, TWO, JudgeReply]))
def test_anything_at_all_is_an_answer_or_a_bad_reply(text: str, answer: type[Reply]) -> None:
    outcome: object
    try:
        outcome = parse_reply(text, answer)
    except BadReply as exc:
        outcome = str(exc)
    assert isinstance(outcome, answer) or (isinstance(outcome, str) and 0 < len(outcome) < 400)


@given(st.fixed_dictionaries({name: st.text(max_size=80) for name in GOOD}))
def test_an_accepted_description_holds_what_the_reply_said(fields: dict[str, str]) -> None:
    try:
        reply = parse_reply(json.dumps(fields), DescriptionReply)
    except BadReply:
        return
    assert {name: getattr(reply, name) for name in GOOD} == {name: " ".join(fields[name].split()) for name in GOOD}


@pytest.mark.parametrize("answer", [DescriptionReply, JudgeReply, sentences_reply(3)])
def test_shortened_answers_are_asked_for_shorter(answer: type[Reply]) -> None:
    usual, short = (text_lengths(one.json_schema()) for one in (answer, shortened(answer, 0.5)))
    assert usual
    assert short == [round(length / 2) for length in usual]
    assert shortened(answer, 0.5) is shortened(answer, 0.5)
    assert shortened(answer, 1.0).json_schema() == answer.json_schema()


def test_a_text_longer_than_was_asked_for_is_taken() -> None:
    reply = json.dumps({"reason": "x" * 79, "choice": "A"})
    assert parse_reply(reply, shortened(JudgeReply, 0.3)).choice == "A"


def text_lengths(schema: dict[str, Any]) -> list[int]:
    """Return the lengths that a schema asks texts to keep to."""
    fields = [one for field in schema["properties"].values() for one in (field, field.get("items", {}))]
    return [one["maxLength"] for one in fields if "maxLength" in one]
