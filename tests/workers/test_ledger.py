"""The ledger: every call that is over is in it, with what it used and what that cost, as far as that is known."""

from collections.abc import Iterator

import pytest

from schema.errors import JobStopped, LLMUnavailable
from schema.profiles import FREE, Prices
from schema.store.calls import Call
from tests.llm_server import LLMServer, Mode
from tests.workers.asking import Entered, Kept, judge, profile_of


@pytest.fixture
def server() -> Iterator[LLMServer]:
    with LLMServer() as running:
        yield running


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.endpoint.BACKOFF_S", 0.001)


def entered(server: LLMServer, prices: Prices) -> Call:
    book = Entered()
    judge(server, profile_of(server, prices=prices), purpose="judge", feature=7, ledger=book)
    (call,) = book
    return call


def test_a_call_is_entered_with_what_it_cost(server: LLMServer) -> None:
    call = entered(server, Prices(prompt=2.0, completion=10.0))
    assert (call.feature, call.purpose, call.profile, call.model) == (7, "judge", "test", "rules")
    assert (call.status, call.attempts, call.from_cache) == ("ok", 1, False)
    assert call.prompt_tokens > 100
    assert call.dollars == pytest.approx((call.prompt_tokens * 2 + call.completion_tokens * 10) / 1e6)


def test_cached_tokens_have_their_own_price_or_that_of_others() -> None:
    prices = Prices(prompt=2.0, cached_prompt=0.5, completion=10.0)
    assert prices.of(1_000_000, 400_000, 100_000) == pytest.approx(0.6 * 2 + 0.4 * 0.5 + 0.1 * 10)
    assert Prices(prompt=2.0, completion=0.0).of(1_000_000, 400_000, 5) == pytest.approx(2.0)


@pytest.mark.parametrize(("prices", "dollars"), [(Prices(), None), (Prices(prompt=1.0), None), (FREE, 0.0)])
def test_an_unknown_price_is_no_price(server: LLMServer, prices: Prices, dollars: float | None) -> None:
    assert entered(server, prices).dollars == dollars


def test_tokens_that_nobody_counted_have_no_price_unless_all_are_free(server: LLMServer) -> None:
    server.mode = "unmetered"
    assert entered(server, Prices(prompt=1.0, completion=1.0)).dollars is None
    assert entered(server, FREE).dollars == 0.0


@pytest.mark.parametrize(
    ("mode", "status", "attempts"),
    [("nonsense", "unparsed", 2), ("refuse", "refused", 1), ("small_context", "failed", 1)],
)
def test_a_call_without_an_answer_is_entered_as_well(server: LLMServer, mode: Mode, status: str, attempts: int) -> None:
    server.mode = mode
    call = entered(server, FREE)
    assert (call.status, call.attempts) == (status, attempts)


def test_what_was_broken_off_is_entered_with_what_was_paid_for(server: LLMServer) -> None:
    def stop() -> None:
        if server.requests:
            raise JobStopped("cancelled")

    book = Entered()
    server.mode = "error"
    with pytest.raises(LLMUnavailable):
        judge(server, ledger=book)
    server.requests.clear()
    server.mode = "nonsense"
    with pytest.raises(JobStopped):
        judge(server, ledger=book, on_attempt=stop)
    assert [(call.status, call.attempts) for call in book] == [("unavailable", 3), ("stopped", 1)]
    assert book[1].prompt_tokens > 0


def test_a_call_that_was_never_made_is_not_entered(server: LLMServer) -> None:
    def stop() -> None:
        raise JobStopped("cancelled")

    book = Entered()
    with pytest.raises(JobStopped):
        judge(server, ledger=book, on_attempt=stop)
    assert book == []


def test_an_answer_from_the_cache_is_entered_and_free(server: LLMServer) -> None:
    kept, book = Kept(), Entered()
    for _ in range(2):
        judge(server, cache=kept, ledger=book)
    call = book[1]
    assert (call.status, call.from_cache, call.attempts) == ("ok", True, 0)
    assert (call.prompt_tokens, call.completion_tokens) == (0, 0)
    assert [call.dollars for call in book] == [None, 0.0]
