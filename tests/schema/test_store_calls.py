"""The ledger in a real Postgres: rows, and what they add up to."""

import uuid

import pytest

from schema.store import calls
from schema.store.calls import Call
from schema.store.database import Connection

CALL = Call(
    feature=3,
    purpose="write",
    profile="large",
    model="m",
    status="ok",
    attempts=1,
    prompt_tokens=100,
    cached_tokens=40,
    completion_tokens=20,
    dollars=0.5,
    latency_s=1.5,
    from_cache=False,
)
FREE = CALL._replace(attempts=0, prompt_tokens=0, cached_tokens=0, completion_tokens=0, dollars=0.0, from_cache=True)


def enter(connection: Connection, run_id: uuid.UUID, *entered: Call) -> None:
    for call in entered:
        calls.put(connection, 1, run_id, call)


def test_a_run_without_calls_used_nothing(connection: Connection, run_id: uuid.UUID) -> None:
    usage = calls.usage(connection, run_id)
    assert (usage.calls, usage.prompt_tokens, usage.dollars, usage.by_purpose) == (0, 0, 0, ())


def test_calls_add_up_by_purpose_and_status(connection: Connection, run_id: uuid.UUID) -> None:
    judged = CALL._replace(purpose="judge", status="unparsed", attempts=2, dollars=0.25)
    enter(connection, run_id, CALL, CALL, FREE, judged)
    enter(connection, uuid.uuid4(), CALL)
    usage = calls.usage(connection, run_id)
    assert (usage.calls, usage.from_cache, usage.attempts) == (4, 1, 4)
    assert (usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens) == (300, 120, 60)
    assert usage.dollars == pytest.approx(1.25)
    assert [(row.purpose, row.status, row.calls, row.from_cache) for row in usage.by_purpose] == [
        ("judge", "unparsed", 1, 0),
        ("write", "ok", 3, 1),
    ]
    assert usage.by_purpose[1].seconds == pytest.approx(4.5)


def test_one_price_that_is_not_known_makes_the_sum_unknown(connection: Connection, run_id: uuid.UUID) -> None:
    enter(connection, run_id, CALL, CALL._replace(purpose="judge", dollars=None))
    usage = calls.usage(connection, run_id)
    assert usage.dollars is None
    assert [row.dollars for row in usage.by_purpose] == [None, 0.5]


def test_the_ledger_outlives_the_run(connection: Connection, run_id: uuid.UUID) -> None:
    enter(connection, run_id, CALL)
    connection.execute("DELETE FROM dictionary")
    assert calls.usage(connection, run_id).calls == 1
