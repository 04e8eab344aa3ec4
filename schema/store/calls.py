"""The ledger of LLM calls: what each cost, and what a run's cost together."""

from datetime import date
from typing import NamedTuple
from uuid import UUID

from schema.records import CallCount, Usage
from schema.store import spending
from schema.store.database import Connection
from schema.store.queries import load_queries
from schema.usage import CallTotals, UsageFilter, UsageRow

_queries = load_queries("calls")

LATENCY_BOUNDS_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0)
"""Of the buckets in which calls are tallied, from the first to the last but one. Other ones need a migration."""


class Call(NamedTuple):
    """A call that is over. Answered from the cache, it made no attempt, used no tokens and cost nothing.

    status:   of the answer, or `unavailable` and `stopped` where there was none.
    dollars:  of what was answered; None where the price is not known.
    """

    feature: int | None
    purpose: str
    profile: str
    model: str
    status: str
    attempts: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    dollars: float | None
    latency_s: float
    from_cache: bool


def put(connection: Connection, tenant_id: int, run_id: UUID, call: Call) -> None:
    """Enter a call of a run, and count it in the tallies of the run and of all calls."""
    bounds = list(LATENCY_BOUNDS_S)
    _queries.put(connection, tenant_id=tenant_id, run_id=run_id, bounds=bounds, **call._asdict())


def usage(connection: Connection, run_id: UUID) -> Usage:
    """Return what the calls of a run used, in all and by purpose and status, and what it may still spend."""
    rows = [
        CallCount(**dict(zip(CallCount.model_fields, row, strict=True)))
        for row in _queries.usage(connection, run_id=run_id)
    ]
    prices = [row.dollars for row in rows]
    return Usage(
        calls=sum(row.calls for row in rows),
        from_cache=sum(row.from_cache for row in rows),
        attempts=sum(row.attempts for row in rows),
        prompt_tokens=sum(row.prompt_tokens for row in rows),
        cached_tokens=sum(row.cached_tokens for row in rows),
        completion_tokens=sum(row.completion_tokens for row in rows),
        dollars=None if None in prices else sum(price for price in prices if price is not None),
        by_purpose=tuple(rows),
        spending=spending.summary(connection, run_id),
    )


class Group(NamedTuple):
    """What the calls of a row of usage have in common."""

    day: date
    purpose: str
    model: str


def totals(connection: Connection, tenant_id: int, filters: UsageFilter) -> CallTotals:
    """Return what all calls of a tenant used together, as far as they are asked for."""
    row = _queries.totals(connection, tenant_id=tenant_id, **_asked(filters))
    return CallTotals(**dict(zip(CallTotals.model_fields, row, strict=True)))


def daily(
    connection: Connection, tenant_id: int, filters: UsageFilter, *, after: Group | None = None, limit: int = 50
) -> list[UsageRow]:
    """Return what a tenant's calls used by day, purpose and model, the latest day first; `after` is the last seen."""
    day, purpose, model = after or (None, None, None)
    place = {"after_day": day, "after_purpose": purpose, "after_model": model, "most": limit}
    rows = _queries.daily(connection, tenant_id=tenant_id, **_asked(filters), **place)
    return [UsageRow(**dict(zip(UsageRow.model_fields, row, strict=True))) for row in rows]


def _asked(filters: UsageFilter) -> dict[str, object]:
    return {name: getattr(filters, name) for name in UsageFilter.model_fields}
