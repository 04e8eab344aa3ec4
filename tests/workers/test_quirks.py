"""Endpoints that differ: what each refuses is changed once and then remembered; answers are found in odd places."""

from collections.abc import Iterator

import pytest

from schema.errors import LLMUnavailable
from schema.labels import Status
from tests.llm_server import LLMServer, Mode
from tests.workers.asking import ASK, Kept, judge, profile_of
from workers import quirks
from workers.answered import read_completion
from workers.quirks import Quirk, context_sizes


@pytest.fixture
def server() -> Iterator[LLMServer]:
    with LLMServer() as running:
        yield running


# ---------------------------------------------------------------------------------------- what is asked differently


def test_an_endpoint_without_schemas_is_asked_without_from_then_on(server: LLMServer) -> None:
    server.mode = "no_schema"
    first, second = judge(server), judge(server)
    assert (first.status, first.attempts) == (Status.OK, 2)
    assert (second.status, second.attempts) == (Status.OK, 1)
    assert "response_format" not in server.requests[2].body


def test_where_only_json_objects_are_known_one_is_asked(server: LLMServer) -> None:
    server.mode = "json_only"
    assert [judge(server, seed=seed).attempts for seed in range(2)] == [2, 1]
    assert server.requests[-1].body["response_format"] == {"type": "json_object"}


def test_a_reasoning_model_gets_the_limit_under_its_other_name_and_no_sampling(server: LLMServer) -> None:
    server.mode = "reasoning_model"
    done = [judge(server, temperature=0.7, frequency_penalty=0.5, seed=seed) for seed in range(2)]
    assert [(one.status, one.attempts) for one in done] == [(Status.OK, 4), (Status.OK, 1)]
    body = server.requests[-1].body
    assert body["max_completion_tokens"] == 60
    assert not {"max_tokens", "temperature", "frequency_penalty"} & set(body)
    assert body["response_format"]["type"] == "json_schema"


@pytest.mark.parametrize("mode", ["no_system", "no_system_500"])
def test_without_a_system_role_the_first_user_turn_carries_it(server: LLMServer, mode: Mode) -> None:
    server.mode = mode
    assert [judge(server, seed=seed).attempts for seed in range(2)] == [2, 1]
    asked, sent = list(ASK.messages), server.requests[-1].body["messages"]
    assert [message["role"] for message in sent] == [message["role"] for message in asked[1:]]
    assert sent[0]["content"] == asked[0]["content"] + "\n\n" + asked[1]["content"]
    assert sent[1:] == asked[2:]


def test_what_was_learnt_of_one_model_is_not_held_against_another(server: LLMServer) -> None:
    server.mode = "no_schema"
    judge(server)
    assert judge(server, profile_of(server, model="other")).attempts == 2


def test_what_a_profile_adds_is_sent_and_is_in_the_cache_key(server: LLMServer) -> None:
    kept = Kept()
    for extra in ({}, {"reasoning_effort": "low"}):
        judge(server, profile_of(server, extra=extra), cache=kept)
    assert server.requests[-1].body["reasoning_effort"] == "low"
    assert len(kept) == 2


@pytest.mark.parametrize(
    ("message", "tried", "quirk"),
    [
        ("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens'.", set(), Quirk.MAX_COMPLETION_TOKENS),
        ("temperature does not support 0.7", set(), Quirk.NO_TEMPERATURE),
        ("temperature does not support 0.7", {Quirk.NO_TEMPERATURE}, Quirk.NO_RESPONSE_FORMAT),
        ("unknown field", set(), Quirk.NO_RESPONSE_FORMAT),
        ("unknown field", {Quirk.NO_RESPONSE_FORMAT}, None),
        ("'response_format' of type 'json_schema' is not supported with this model", set(), Quirk.JSON_OBJECT),
        ("response_format type 'json_object' is unknown", {Quirk.JSON_OBJECT}, Quirk.NO_RESPONSE_FORMAT),
        ("Conversation roles must alternate user/assistant", set(), Quirk.NO_SYSTEM),
        ("the request exceeds the available context size", set(), None),
        ("maximum context length is 4096 tokens; max_tokens is 120", set(), None),
    ],
)
def test_what_a_400_names_is_changed(message: str, tried: set[Quirk], quirk: Quirk | None) -> None:
    assert quirks.diagnose(message, frozenset(tried)) == quirk


# ---------------------------------------------------------------------------------------------- where the answer is


@pytest.mark.parametrize("mode", ["fenced", "misplaced", "parts"])
def test_an_answer_in_an_odd_place_is_read(server: LLMServer, mode: Mode) -> None:
    server.mode = mode
    done = judge(server)
    assert (done.status, done.attempts) == (Status.OK, 1)
    assert done.value is not None
    assert done.value.choice == "B"


def test_a_draft_in_the_reasoning_is_no_answer_and_the_reason_says_what_to_do(server: LLMServer) -> None:
    server.mode = "thinking"
    done = judge(server)
    assert (done.status, done.value, done.attempts) == (Status.UNPARSED, None, 1)
    assert done.reason is not None
    assert "reasoning took all tokens" in done.reason


def test_reasoning_that_ends_without_an_answer_is_an_empty_reply() -> None:
    message = {"content": None, "reasoning": 'The form is {"choice": "A"}.'}
    answered = read_completion({"choices": [{"message": message, "finish_reason": "stop"}]}, "m")
    assert (answered.text, answered.only_reasoned) == ("", False)


def test_a_schema_that_is_not_enforced_is_repaired(server: LLMServer) -> None:
    server.mode = "wrong_shape"
    server.misbehave = lambda number: number == 0
    assert (judge(server).status, len(server.requests)) == (Status.OK, 2)


def test_where_a_schema_makes_whitespace_the_repair_does_without_and_the_next_call_with(server: LLMServer) -> None:
    server.mode = "schema_floods"
    assert [judge(server, seed=seed).status for seed in range(2)] == [Status.OK, Status.OK]
    assert ["response_format" in request.body for request in server.requests] == [True, False, True, False]


# ---------------------------------------------------------------------------------------------- what can't be helped


@pytest.mark.parametrize("mode", ["small_context", "small_context_llama"])
def test_a_context_that_is_too_small_names_both_sizes_and_is_not_asked_again(server: LLMServer, mode: Mode) -> None:
    server.mode = mode
    done = judge(server)
    assert (done.status, done.attempts, len(server.requests)) == (Status.FAILED, 1, 1)
    assert done.reason is not None
    needs = "412" if mode == "small_context" else "352"
    assert f"need {needs} tokens, and rules at {server.base_url} holds 64" in done.reason


@pytest.mark.parametrize(
    ("message", "needs", "holds"),
    [
        ("request (4096 tokens) exceeds the available context size (2048 tokens), try increasing it", 4096, 2048),
        (
            "the maximum context length is 128000 tokens. However, your messages resulted in 130011 tokens.",
            130011,
            128000,
        ),
        ("Requested token count exceeds the model's maximum context length of 8192 tokens.", None, 8192),
        ("the prompt is larger than the context window", None, None),
    ],
)
def test_sizes_are_read_off_what_servers_say(message: str, needs: int | None, holds: int | None) -> None:
    assert context_sizes(message, None) == (needs, holds)


def test_another_refusal_is_not_about_the_context() -> None:
    assert context_sizes("temperature must be below 2", {"code": 400}) is None


def test_what_surely_does_not_fit_is_not_sent(server: LLMServer) -> None:
    done = judge(server, profile_of(server, context_tokens=100))
    assert (done.status, done.attempts, server.requests) == (Status.FAILED, 0, [])
    assert done.reason is not None
    assert done.reason.endswith("holds 100")


def test_a_missing_model_waits_for_the_operator_and_is_named(server: LLMServer) -> None:
    server.mode = "no_model"
    with pytest.raises(LLMUnavailable, match=r'model.s name\. It said: .*model "rules" not found') as raised:
        judge(server)
    assert raised.value.retry_after_s >= 300
    assert len(server.requests) == 1
