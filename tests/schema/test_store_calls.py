"""The ledger in a real Postgres: rows, and what they add up to."""

import uuid
from datetime import UTC, date, datetime, timedelta

import pytest

from schema.store import calls
from schema.store.calls import Call, Group
from schema.store.database import Connection
from schema.usage import UsageFilter, UsageRow

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


NOON = datetime(2026, 2, 3, 12, tzinfo=UTC)


def at(connection: Connection, moment: datetime, run_id: uuid.UUID, *entered: Call) -> None:
    """Enter calls as if they had ended at a moment."""
    enter(connection, run_id, *entered)
    connection.execute("UPDATE call SET created_at = %s WHERE created_at > now() - interval '1 hour'", (moment,))


def test_usage_is_by_day_purpose_and_model_and_only_the_tenants_own(connection: Connection, run_id: uuid.UUID) -> None:
    judged = CALL._replace(purpose="judge", model="large", dollars=None)
    at(connection, NOON - timedelta(days=1), run_id, CALL)
    at(connection, NOON.replace(hour=0, minute=0), run_id, CALL, FREE)
    at(connection, NOON.replace(hour=23, minute=59), run_id, judged, CALL)
    at(connection, NOON, uuid.uuid4(), CALL._replace(purpose="judge"))
    connection.execute("INSERT INTO tenant (id, name) VALUES (2, 'other')")
    calls.put(connection, 2, run_id, CALL)
    every = UsageFilter()
    rows = calls.daily(connection, 1, every)
    today, before = date(2026, 2, 3), date(2026, 2, 2)
    assert [(row.day, row.purpose, row.model, row.calls, row.from_cache, row.dollars) for row in rows] == [
        (today, "judge", "large", 1, 0, None),
        (today, "judge", "m", 1, 0, 0.5),
        (today, "write", "m", 3, 1, 1.0),
        (before, "write", "m", 1, 0, 0.5),
    ]
    assert (rows[2].prompt_tokens, rows[2].cached_tokens, rows[2].completion_tokens) == (200, 80, 40)
    walked: list[UsageRow] = []
    while more := calls.daily(connection, 1, every, after=group(walked[-1]) if walked else None, limit=1):
        walked += more
    assert walked == rows
    total = calls.totals(connection, 1, every)
    assert (total.calls, total.from_cache, total.prompt_tokens, total.dollars) == (6, 1, 500, None)


def group(row: UsageRow) -> Group:
    return Group(row.day, row.purpose, row.model)


def test_usage_is_filtered_by_run_dictionary_and_time(connection: Connection, run_id: uuid.UUID) -> None:
    at(connection, NOON, run_id, CALL, CALL)
    at(connection, NOON - timedelta(days=1), uuid.uuid4(), CALL)

    def n_calls(**filters: object) -> int:
        asked = UsageFilter.model_validate(filters)
        assert sum(row.calls for row in calls.daily(connection, 1, asked)) == calls.totals(connection, 1, asked).calls
        return calls.totals(connection, 1, asked).calls

    (dictionary_id,) = connection.execute("SELECT dictionary_id FROM run").fetchone() or (None,)
    assert (n_calls(), n_calls(run_id=run_id), n_calls(dictionary_id=dictionary_id)) == (3, 2, 2)
    assert (n_calls(dictionary_id=uuid.uuid4()), n_calls(run_id=uuid.uuid4())) == (0, 0)
    assert (n_calls(since=NOON), n_calls(until=NOON), n_calls(since=NOON, until=NOON)) == (2, 1, 0)
    nothing = calls.totals(connection, 1, UsageFilter(run_id=uuid.uuid4()))
    assert (nothing.attempts, nothing.dollars) == (0, 0.0)
