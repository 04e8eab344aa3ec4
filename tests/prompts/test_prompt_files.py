"""The shipped prompts: their examples are answers that our own parser takes, and they are short."""

from pathlib import Path
from typing import get_args

import pytest

import prompts
from prompts import ContextKind, ask_about_contexts, ask_for_choice, ask_for_sentences, load_prompt
from workers.parse import (
    DescriptionReply,
    JudgeReply,
    Reply,
    SentencesReply,
    SummaryReply,
    contexts_reply,
    parse_reply,
    similar_reply,
)

FOLDER = Path(prompts.__file__).parent
IDS = sorted(str(path.relative_to(FOLDER)).removesuffix(".md") for path in FOLDER.rglob("*.v*.md"))
ANSWERS: dict[str, type[Reply]] = {
    "describe/feature": DescriptionReply,
    "describe/paper_max_activating": SummaryReply,
    "describe/paper_vocabulary": SummaryReply,
    "describe/paper_combined": SummaryReply,
    "write/sentences": SentencesReply,
    "write/similar": similar_reply(3),
    "judge/output": JudgeReply,
    "judge/detection": contexts_reply(3),
    "judge/fuzzing": contexts_reply(3),
}
ASKING = [id for id in IDS if id.split(".")[0] in ANSWERS]
SECRET = b"secret"


def test_describers_and_both_evaluations_have_a_prompt() -> None:
    assert {
        "describe/feature.v1",
        "describe/revise.v1",
        "describe/paper_max_activating.v1",
        "describe/paper_vocabulary.v1",
        "describe/paper_token_change.v1",
        "describe/paper_combined.v1",
        "write/sentences.v2",
        "write/similar.v1",
        "judge/output.v2",
        "judge/detection.v1",
        "judge/fuzzing.v1",
        "repair/reply.v1",
    } <= set(IDS)


@pytest.mark.parametrize("id", IDS)
def test_a_prompt_file_ends_in_a_user_turn(id: str) -> None:
    assert load_prompt(id).user


@pytest.mark.parametrize("id", ASKING)
def test_the_examples_are_pairs_whose_answers_parse(id: str) -> None:
    examples = load_prompt(id).examples
    assert [turn["role"] for turn in examples] == ["user", "assistant"] * (len(examples) // 2)
    assert examples
    for turn in examples[1::2]:
        assert parse_reply(turn["content"], ANSWERS[id.split(".")[0]])


@pytest.mark.parametrize("id", [id for id in ASKING if "/paper_" not in id])
def test_what_calls_share_is_short(id: str) -> None:
    # The bundled model reads about 180 tokens a second, of about 3.7 characters each; a shared prefix is read once.
    prompt = load_prompt(id)
    assert len(prompt.system) <= 190 * 3.7
    assert sum(len(turn["content"]) for turn in prompt.examples) <= 300 * 3.7


def test_the_writer_sees_the_description_alone() -> None:
    prompt, messages = ask_for_sentences("Fires on $n rivers.", 5, SECRET)
    assert messages[:-1] == prompt.messages(description="", n="")[:-1]
    assert '"Fires on $n rivers."' in messages[-1]["content"]
    assert "5 activating and 5 neutral" in messages[-1]["content"]


def test_judgements_of_the_same_sets_share_all_but_the_description() -> None:
    sets = [["one\n  two"], ["three"], ["four"]]
    first, second = (ask_for_choice(sets, text, SECRET).messages for text in ("cities", "rivers"))
    assert first[:-1] == second[:-1]
    shared = first[-1]["content"].split("Description")[0]
    assert second[-1]["content"].startswith(shared)
    assert '["one two"]' in shared
    assert shared.index('"one two"') < shared.index('"three"') < shared.index('"four"')


@pytest.mark.parametrize("kind", get_args(ContextKind))
def test_questions_about_the_same_contexts_share_all_but_the_description(kind: ContextKind) -> None:
    first, second = (ask_about_contexts(kind, ["a <<b>>\n", "c"], text, SECRET).messages for text in ("x", "y"))
    assert first[:-1] == second[:-1]
    shared = first[-1]["content"].split("Description")[0]
    assert second[-1]["content"].startswith(shared)
    assert '{"t1": "a <<b>>"}\n{"t2": "c"}' in shared
