"""Webhooks: rows of whom to tell what. What they are owed is in `deliveries`."""

from datetime import datetime
from typing import Any
from uuid import UUID

from schema.errors import Conflict, NotFound
from schema.store.database import Connection
from schema.store.queries import load_queries
from schema.webhooks import Webhook, WebhookSpec

_queries = load_queries("webhooks")

MAX_WEBHOOKS = 100  # of a tenant: each finished run is a row for each of them


def create(connection: Connection, tenant_id: int, id_: UUID, spec: WebhookSpec) -> Webhook:
    """Store a webhook; whether its URL may be used is checked before.

    Raises: Conflict if the tenant has as many as it may.
    """
    n = _queries.count(connection, tenant_id=tenant_id)
    if n >= MAX_WEBHOOKS:
        raise Conflict(f"there are {n} webhooks; must be at most {MAX_WEBHOOKS}: delete one")
    _queries.insert(connection, id=id_, tenant_id=tenant_id, url=spec.url, events=sorted(set(spec.events)))
    return get(connection, tenant_id, id_)


def get(connection: Connection, tenant_id: int, id_: UUID) -> Webhook:
    """Return a webhook. Raises NotFound if this tenant has no such webhook."""
    for row in _queries.get(connection, tenant_id=tenant_id, id=id_):
        return _webhook(row)
    raise NotFound(f"no webhook {id_}")


def page(
    connection: Connection, tenant_id: int, *, after: tuple[datetime, UUID] | None = None, limit: int = 50
) -> list[Webhook]:
    """Return webhooks, newest first; `after` is the creation time and id of the last one seen."""
    before, after_id = after or (None, None)
    rows = _queries.page(connection, tenant_id=tenant_id, before=before, after_id=after_id, most=limit)
    return [_webhook(row) for row in rows]


def pause(connection: Connection, tenant_id: int, id_: UUID) -> Webhook:
    """Let a webhook rest; what it is owed waits. Raises NotFound."""
    _queries.pause(connection, tenant_id=tenant_id, id=id_)
    return get(connection, tenant_id, id_)


def resume(connection: Connection, tenant_id: int, id_: UUID) -> Webhook:
    """Let a webhook that was paused or disabled go on, with what it is owed. Raises NotFound."""
    if _queries.resume(connection, tenant_id=tenant_id, id=id_):
        _queries.renew(connection, id=id_)
    return get(connection, tenant_id, id_)


def delete(connection: Connection, tenant_id: int, id_: UUID) -> None:
    """Delete a webhook with all that it is owed. Raises NotFound."""
    if not _queries.delete(connection, tenant_id=tenant_id, id=id_):
        raise NotFound(f"no webhook {id_}")


def _webhook(row: tuple[Any, ...]) -> Webhook:
    id_, url, events, state, last_error, n_due, created_at = row
    return Webhook(
        id=id_,
        spec=WebhookSpec(url=url, events=events),
        state=state,
        last_error=last_error,
        n_due=n_due,
        created_at=created_at,
    )
