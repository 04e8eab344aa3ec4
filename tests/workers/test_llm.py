"""Calls to an LLM: typed outcomes, one repair, retries, and what an endpoint that misbehaves does to them."""

import gc
import socket
import threading
import time
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import structlog
from pydantic import SecretStr

from prompts import ask_for_choice, ask_for_sentences
from schema.errors import JobStopped, LLMUnavailable
from schema.labels import Status
from schema.profiles import Limits, LLMProfile
from tests.llm_server import LLMServer, Mode
from tests.workers.asking import ASK, KEY, Kept, judge, profile_of
from workers import circuit, endpoint, llm
from workers.answered import read_completion
from workers.llm import complete
from workers.parse import JudgeReply, Reply, sentences_reply
from workers.throttle import throttle_of


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "BACKOFF_S", 0.001)


@pytest.fixture
def server() -> Iterator[LLMServer]:
    with LLMServer() as running:
        yield running


# ------------------------------------------------------------------------------------------------------ what is asked


def test_a_valid_reply_is_ok_with_its_usage(server: LLMServer) -> None:
    done = judge(server)
    assert (done.status, done.attempts, done.model, done.reason) == (Status.OK, 1, "rules", None)
    assert done.value is not None
    assert done.value.choice == "B"
    assert done.usage.prompt_tokens > 100 > done.usage.completion_tokens > 0
    assert '"choice": "B"' in done.reply


def test_the_request_carries_the_schema_the_limits_and_the_seed(server: LLMServer) -> None:
    judge(server, temperature=0.7, seed=13, frequency_penalty=0.3)
    body = server.requests[0].body
    assert body["response_format"]["json_schema"]["schema"] == JudgeReply.json_schema()
    assert (body["max_tokens"], body["temperature"], body["seed"], body["model"]) == (60, 0.7, 13, "rules")
    assert body["messages"] == list(ASK.messages)
    assert body["frequency_penalty"] == 0.3


def test_no_frequency_penalty_is_sent_unless_asked_for(server: LLMServer) -> None:
    judge(server)
    assert "frequency_penalty" not in server.requests[0].body


# ---------------------------------------------------------------------------------------------- replies that are wrong


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("nonsense", "no JSON object"),
        ("wrong_shape", "reason: Field required"),
        ("truncated", "cut off"),
        ("whitespace", "cut off"),
        ("markup", "HTML"),
        ("empty", "no JSON object"),
        ("foreign", "no JSON object"),
        ("loop", "at most 300"),
    ],
)
def test_a_bad_reply_is_repaired_once_and_then_unparsed(server: LLMServer, mode: Mode, reason: str) -> None:
    server.mode = mode
    done = judge(server)
    assert (done.status, done.value, done.attempts) == (Status.UNPARSED, None, 2)
    assert done.reason is not None
    assert reason in done.reason
    assert bool(done.reply) == (mode != "empty")


def test_the_repair_tells_what_was_wrong_and_can_succeed(server: LLMServer) -> None:
    server.mode = "wrong_shape"
    server.misbehave = lambda number: number == 0
    done = judge(server)
    assert (done.status, done.attempts) == (Status.OK, 2)
    *asked, reply, repair = server.requests[1].body["messages"]
    assert asked == list(ASK.messages)
    assert reply == {"role": "assistant", "content": '{"answer": 42}'}
    assert "reason: Field required" in repair["content"]


def test_usage_counts_the_repair_as_well(server: LLMServer) -> None:
    once = judge(server).usage
    server.mode = "nonsense"
    twice = judge(server).usage
    assert twice.prompt_tokens > 2 * once.prompt_tokens


def test_a_flooded_reply_is_cut_before_it_is_sent_back(server: LLMServer) -> None:
    server.mode = "whitespace"
    judge(server)
    assert len(server.requests[1].body["messages"][-2]["content"]) <= llm.REPAIR_CHARS


def test_a_refusal_is_not_repaired(server: LLMServer) -> None:
    server.mode = "refuse"
    done = judge(server)
    assert (done.status, done.attempts, done.value) == (Status.REFUSED, 1, None)
    assert done.reply.startswith("I'm sorry")


# ---------------------------------------------------------------------------------------------- endpoints that are down


@pytest.mark.parametrize("mode", ["down", "error", "rate_limited", "html", "flood"])
def test_a_failing_endpoint_is_asked_three_times_and_then_unavailable(server: LLMServer, mode: Mode) -> None:
    server.mode = mode
    with pytest.raises(LLMUnavailable) as raised:
        judge(server)
    assert len(server.requests) == 3
    assert server.base_url in str(raised.value)
    assert raised.value.retry_after_s >= 2


@pytest.mark.parametrize("mode", ["down", "error", "rate_limited", "html", "flood"])
def test_two_failures_are_survived(server: LLMServer, mode: Mode) -> None:
    server.mode = mode
    server.misbehave = lambda number: number < 2
    done = judge(server)
    assert (done.status, done.attempts) == (Status.OK, 3)


def test_nothing_listening_is_unavailable() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}/v1"
    nobody = LLMProfile(name="x", base_url=url, api_key=SecretStr(KEY), model="m", timeout_s=1)
    with pytest.raises(LLMUnavailable, match=r"can't be reached: .*refused"):
        complete(nobody, ASK.messages, JudgeReply, max_tokens=10)


def test_a_hanging_endpoint_is_given_up_after_the_read_timeout(server: LLMServer) -> None:
    server.mode = "hang"
    with pytest.raises(LLMUnavailable, match=r"did not answer in 0\.1 s"):
        complete(profile_of(server, timeout_s=0.1), ASK.messages, JudgeReply, max_tokens=10)
    assert len(server.requests) == 3


def test_a_body_that_drips_is_given_up(server: LLMServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.mode = "flood"
    monkeypatch.setattr(endpoint, "BODY_TIMEOUT_S", -1.0)
    with pytest.raises(LLMUnavailable, match="did not answer"):
        judge(server)


def test_a_short_retry_after_is_waited_for(server: LLMServer) -> None:
    server.mode, server.retry_after_s = "rate_limited", 0.3
    server.misbehave = lambda number: number == 0
    done = judge(server)
    assert done.status == Status.OK
    assert done.latency_s >= 0.3


def test_a_long_retry_after_gives_the_job_back_at_once(server: LLMServer) -> None:
    server.mode, server.retry_after_s = "rate_limited", 90.0
    with pytest.raises(LLMUnavailable) as raised:
        judge(server)
    assert raised.value.retry_after_s == 90.0
    assert len(server.requests) == 1


@pytest.mark.parametrize(("mode", "advice"), [("no_credit", "add credit"), ("unauthorized", "check the API key")])
def test_what_an_operator_must_mend_waits_long_and_says_so(server: LLMServer, mode: Mode, advice: str) -> None:
    server.mode = mode
    with pytest.raises(LLMUnavailable, match=advice) as raised:
        judge(server)
    assert raised.value.retry_after_s >= 300
    assert len(server.requests) == 1


def test_an_endpoint_that_fails_all_calls_is_left_alone_and_then_probed(
    server: LLMServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(circuit, "FAILURES", 6)
    monkeypatch.setattr(circuit, "OPEN_S", 0.5)
    server.mode = "error"
    for _ in range(2):
        with pytest.raises(LLMUnavailable, match="HTTP 500"):
            judge(server)
    with pytest.raises(LLMUnavailable, match="failed 6 times in a row") as raised:
        judge(server)
    assert (len(server.requests), raised.value.retry_after_s) == (6, 1.0)
    time.sleep(0.6)
    with pytest.raises(LLMUnavailable, match="failed 7 times in a row"):
        judge(server)  # its first attempt is the probe
    assert len(server.requests) == 7
    server.mode = "ok"
    time.sleep(0.6)
    assert [judge(server, seed=seed).status for seed in range(2)] == [Status.OK, Status.OK]


@pytest.mark.parametrize("back", [True, False])
def test_one_call_probes_and_the_others_wait_for_its_outcome(
    server: LLMServer, monkeypatch: pytest.MonkeyPatch, back: bool
) -> None:
    monkeypatch.setattr(circuit, "FAILURES", 3)
    server.mode = "error"
    with pytest.raises(LLMUnavailable):
        judge(server)
    endpoint.health_of(server.base_url).circuit._shut_until = 0.0
    server.mode, server.slow_s = ("ok" if back else "error"), 0.5
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(judge, server, seed=seed) for seed in range(8)]
        time.sleep(0.25)
        assert len(server.requests) == 4
    failed = [one.exception() for one in asked]
    assert len(server.requests) == (11 if back else 4)
    assert all(isinstance(exc, LLMUnavailable) != back for exc in failed)


def test_an_endpoint_that_limits_the_rate_is_well(server: LLMServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(circuit, "FAILURES", 2)
    server.mode = "rate_limited"
    with pytest.raises(LLMUnavailable, match="HTTP 429"):
        judge(server)
    server.mode = "ok"
    assert judge(server).status == Status.OK


def test_retries_are_a_tenth_of_the_calls(server: LLMServer) -> None:
    server.mode = "rate_limited"
    for _ in range(60):
        with pytest.raises(LLMUnavailable):
            judge(server)
    assert 60 < len(server.requests) <= 60 + circuit.RETRIES_AT_FIRST + 6


def test_a_profiles_rate_is_kept_by_all_calls(server: LLMServer) -> None:
    limited = profile_of(server, name="limited", limits=Limits(requests_per_minute=300))  # 5 a second; 50 may burst
    started = time.monotonic()
    with ThreadPoolExecutor(16) as pool:
        done = list(pool.map(lambda seed: judge(server, limited, seed=seed).status, range(56)))
    assert time.monotonic() - started >= 1.0
    assert done == [Status.OK] * 56


def test_tokens_are_reserved_before_and_settled_after(server: LLMServer) -> None:
    limited = profile_of(server, name="counted", limits=Limits(tokens_per_minute=600))  # 100 may burst; 10 a second
    used = judge(server, limited).usage
    tokens = throttle_of(limited)._tokens
    assert tokens is not None
    assert 100 - tokens._level == pytest.approx(used.prompt_tokens + used.completion_tokens, abs=20)


def test_a_huge_body_is_not_read_whole(server: LLMServer) -> None:
    judge(server)
    server.mode = "flood"
    gc.collect()
    tracemalloc.start()
    with pytest.raises(LLMUnavailable, match="larger than 1000000 bytes"):
        judge(server)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000


# ----------------------------------------------------------------------------------------------------------- the cache


def test_the_same_question_is_asked_once(server: LLMServer) -> None:
    kept = Kept()
    first, second = judge(server, cache=kept), judge(server, cache=kept)
    assert len(server.requests) == 1
    assert second.attempts == 0
    assert (second.status, second.value, second.reply, second.usage) == (
        Status.OK,
        first.value,
        first.reply,
        first.usage,
    )


def test_whatever_decides_the_answer_is_in_the_key(server: LLMServer) -> None:
    kept = Kept()
    other = ask_for_choice([["a"], ["b"], ["c"]], "d", b"secret")
    judge(server, cache=kept)
    for change in ({"seed": 1}, {"temperature": 0.5}, {"max_tokens": 61}, {"frequency_penalty": 1}):
        judge(server, cache=kept, **change)
    complete(profile_of(server), other.messages, JudgeReply, max_tokens=60, cache=kept)
    complete(profile_of(server, model="other"), ASK.messages, JudgeReply, max_tokens=60, cache=kept)
    assert len(kept) == len(server.requests) == 7


def test_the_key_and_the_purpose_of_a_call_are_not_in_the_cache_key(server: LLMServer) -> None:
    kept = Kept()
    judge(server, cache=kept, purpose="judge")
    complete(profile_of(server, api_key=SecretStr("another")), ASK.messages, JudgeReply, max_tokens=60, cache=kept)
    assert len(server.requests) == 1


@pytest.mark.parametrize("mode", ["nonsense", "refuse", "markup", "truncated"])
def test_only_valid_replies_are_kept(server: LLMServer, mode: Mode) -> None:
    kept = Kept()
    server.mode = mode
    judge(server, cache=kept)
    assert not kept


def test_a_repaired_reply_is_kept_under_the_first_question(server: LLMServer) -> None:
    kept = Kept()
    server.mode = "nonsense"
    server.misbehave = lambda number: number == 0
    judge(server, cache=kept)
    assert judge(server, cache=kept).attempts == 0


# ------------------------------------------------------------------------------------------------- around every request


def test_every_attempt_is_announced_before_it_is_made(server: LLMServer) -> None:
    seen: list[int] = []
    server.mode = "error"
    with pytest.raises(LLMUnavailable):
        judge(server, on_attempt=lambda: seen.append(len(server.requests)))
    assert seen == [0, 1, 2]


def test_a_stopped_job_makes_no_further_request(server: LLMServer) -> None:
    def stop() -> None:
        if server.requests:
            raise JobStopped("cancelled")

    server.mode = "error"
    with pytest.raises(JobStopped):
        judge(server, on_attempt=stop)
    assert len(server.requests) == 1


def test_threads_share_a_client_and_get_their_own_answers(server: LLMServer) -> None:
    def ask(word: str) -> str:
        messages = ask_for_sentences(f'fires on "{word}"', 2, b"secret").messages
        done = complete(profile_of(server), messages, sentences_reply(2), max_tokens=100)
        return done.value.activating[0] if done.value else done.reply

    words = ["".join(chr(97 + int(d)) for d in f"{i:03}") for i in range(40)]
    before = threading.active_count()
    with ThreadPoolExecutor(8) as pool:
        sentences = list(pool.map(ask, words))
    assert all(word in sentence for word, sentence in zip(words, sentences, strict=True))
    assert threading.active_count() - before < 50  # those of the server's connections


@pytest.fixture
def every_level() -> Iterator[None]:
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(0))
    yield
    structlog.configure(**before)


@pytest.mark.usefixtures("every_level")
def test_neither_keys_nor_prompts_are_logged_above_debug(server: LLMServer) -> None:
    with structlog.testing.capture_logs() as logs:
        judge(server)
        server.mode = "unauthorized"
        with pytest.raises(LLMUnavailable) as raised:
            judge(server)
    loud = [entry for entry in logs if entry["log_level"] != "debug"]
    assert loud
    assert "apples" not in repr(loud)
    assert KEY not in repr(logs)
    assert KEY not in str(raised.value)


def test_an_error_that_repeats_the_key_is_redacted(server: LLMServer) -> None:
    assert endpoint.shorten(f"incorrect key {KEY}", SecretStr(KEY)) == "incorrect key [key]"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("2", 2.0), ("0.5", 0.5), ("-3", 0.0), ("99999", 3600.0), ("soon", None), ("nan", None), ("", None)],
)
def test_retry_after_is_read_as_seconds(value: str, seconds: float | None) -> None:
    import httpx2

    assert endpoint._retry_after_s(httpx2.Headers({"retry-after": value})) == seconds


def test_retry_after_may_be_a_date() -> None:
    import httpx2

    headers = httpx2.Headers({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"})
    assert endpoint._retry_after_s(headers) == 0.0


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"choices": []},
        {"choices": [{}]},
        {"choices": [{"message": {"content": None}}]},
        {"choices": "x", "usage": 3},
    ],
)
def test_a_completion_without_content_is_an_empty_reply(body: dict[str, Any]) -> None:
    answered = read_completion(body, "m")
    assert (answered.text, answered.model, answered.usage) == ("", "m", None)


def test_a_refusal_field_is_a_refusal() -> None:
    body = {"choices": [{"message": {"content": None, "refusal": "no"}, "finish_reason": "stop"}]}
    assert read_completion(body, "m").finish_reason == "content_filter"


def test_replies_are_generic() -> None:
    assert issubclass(sentences_reply(3), Reply)
