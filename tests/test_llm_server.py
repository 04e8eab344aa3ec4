"""The rules of the fake LLM: they carry a planted feature from evidence to scores, and carry nothing else."""

import random

from prompts import ask_for_choice, ask_for_sentences
from tests.llm_server import answer, embedding, words
from tests.tiny import Planted, planted_features
from workers.parse import JudgeReply, parse_reply, sentences_reply

SECRET = b"secret"


def description_of(feature: Planted) -> str:
    triggers, promoted = (", ".join(f'"{word}"' for word in group) for group in (feature.triggers, feature.promoted))
    return f"fires on {triggers}; then promotes {promoted}"


def texts_of(feature: Planted) -> list[str]:
    return [f"the {word} was near a {word}" for word in feature.promoted]


def chosen(sets: list[list[str]], description: str) -> int:
    ask = ask_for_choice(sets, description, SECRET)
    reply = parse_reply(answer(list(ask.messages), JudgeReply.json_schema()), JudgeReply)
    return "ABC".index(reply.choice)


def test_sentences_hold_the_trigger_words_and_neutral_ones_hold_none_of_the_description() -> None:
    feature = planted_features()[0]
    ask = ask_for_sentences(description_of(feature), 5, SECRET)
    answer_type = sentences_reply(5)
    reply = parse_reply(answer(list(ask.messages), answer_type.json_schema()), answer_type)
    assert all(set(words(sentence)) & set(feature.triggers) for sentence in reply.activating)
    assert not any(set(words(sentence)) & set(words(description_of(feature))) for sentence in reply.neutral)


def test_the_right_description_chooses_its_own_set_and_a_wrong_one_does_so_by_chance() -> None:
    rng = random.Random(0)
    features = list(planted_features())
    right, wrong = 0, 0
    for _ in range(60):
        own, a, b, other = rng.sample(features, 4)
        order = rng.sample([own, a, b], 3)
        sets = [texts_of(feature) for feature in order]
        right += order[chosen(sets, description_of(own))] is own
        wrong += order[chosen(sets, description_of(other))] is own
    assert right == 60
    assert 10 <= wrong <= 30


def test_without_a_schema_the_question_is_told_from_the_system_turn() -> None:
    ask = ask_for_choice([["apple"], ["pear"], ["plum"]], "promotes plum", SECRET)
    assert parse_reply(answer(list(ask.messages), None), JudgeReply).choice == "C"


def test_texts_that_share_words_have_close_embeddings() -> None:
    a, b, c = (embedding(text) for text in ("a red apple", "the red apple", "some green pears"))
    assert sum(x * y for x, y in zip(a, b, strict=True)) > sum(x * y for x, y in zip(a, c, strict=True))
