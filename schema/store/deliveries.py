"""Deliveries: notices to webhooks, written in the transaction of what they tell of, and sent later by any worker.

They are sent at least once. What can't be sent is tried for a day; then its webhook is disabled, and all that it is
owed waits until somebody resumes it.
"""

import random
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from schema.errors import NotFound
from schema.store.database import Connection
from schema.store.queries import load_queries
from schema.webhooks import Delivery, DeliveryState, Event, Notice

_queries = load_queries("deliveries")

DELAYS_S = (30, 120, 600, 1800, 7200, 21_600, 54_000)
"""After each failed attempt but the last: eight in all, over a day."""
KEPT_DAYS = 30
_JITTER = 0.2  # of a delay, to both sides: what failed together is not tried again together


class Claimed(NamedTuple):
    """A delivery to be sent now; nobody else sends to its webhook meanwhile."""

    notice: Notice
    webhook_id: UUID
    url: str
    attempt: int


def tell_of_run(connection: Connection, run_id: UUID, event: Event) -> None:
    """Owe a notice of a run, as it is now, to every webhook that wants it."""
    _queries.tell_of_run(connection, run_id=run_id, event=event)


def tell_of_refresh(connection: Connection, refresh_id: UUID) -> None:
    """Owe a notice of a refresh, whose diff is written, to every webhook that wants it."""
    _queries.tell_of_refresh(connection, refresh_id=refresh_id)


def owe_test(connection: Connection, webhook_id: UUID, id_: UUID) -> Delivery:
    """Owe a notice that nothing happened to a webhook; it is tried once."""
    _queries.owe_test(connection, webhook_id=webhook_id, id=id_)
    return get(connection, webhook_id, id_)


def get(connection: Connection, webhook_id: UUID, id_: UUID) -> Delivery:
    """Return a delivery. Raises NotFound if the webhook has no such delivery."""
    row = _queries.get(connection, webhook_id=webhook_id, id=id_)
    if row is None:
        raise NotFound(f"no delivery {id_} of webhook {webhook_id}")
    return _delivery(row)


def claim(connection: Connection, *, most: int, lease_s: float) -> list[Claimed]:
    """Return deliveries that are due, one a webhook at most; a sender that dies loses them after `lease_s`."""
    rows = list(_queries.claim(connection, most=most, lease_s=lease_s))
    return [Claimed(_notice(row[:4]), *row[4:]) for row in rows]


def settle(connection: Connection, sent: Claimed, error: str | None) -> bool:
    """Record what came of an attempt; return whether its webhook is disabled because of it.

    error:  why it failed, None if it arrived.

    Where somebody else has taken the delivery up meanwhile, nothing is recorded.
    """
    is_test = sent.notice.event == "test"
    disable = error is not None and not is_test and sent.attempt > len(DELAYS_S)
    names = {"id": sent.notice.id, "attempt": sent.attempt}
    if error is None:
        recorded = _queries.delivered(connection, **names)
    elif is_test:
        recorded = _queries.give_up(connection, **names, error=error)
    else:
        recorded = _queries.retry(connection, **names, error=error, delay_s=_delay_s(sent.attempt))
    if recorded:
        _queries.release(connection, webhook_id=sent.webhook_id, error=error, disable=disable)
    return bool(recorded) and disable


def forget(connection: Connection) -> int:
    """Delete deliveries of long ago, whatever became of them, and return how many."""
    n: int = _queries.forget(connection, days=KEPT_DAYS)
    return n


def page(
    connection: Connection,
    webhook_id: UUID,
    *,
    state: DeliveryState | None = None,
    after: tuple[datetime, UUID] | None = None,
    limit: int = 50,
) -> list[Delivery]:
    """Return deliveries of a webhook, newest first; `after` is the creation time and id of the last one seen."""
    before, after_id = after or (None, None)
    rows = _queries.page(connection, webhook_id=webhook_id, state=state, before=before, after_id=after_id, most=limit)
    return [_delivery(row) for row in rows]


def _delay_s(attempt: int) -> float:
    return DELAYS_S[min(attempt, len(DELAYS_S)) - 1] * random.uniform(1 - _JITTER, 1 + _JITTER)


def _notice(row: tuple[Any, ...]) -> Notice:
    return Notice(**dict(zip(Notice.model_fields, row, strict=True)))


def _delivery(row: tuple[Any, ...]) -> Delivery:
    return Delivery(**dict(zip(Delivery.model_fields, row, strict=True)))
