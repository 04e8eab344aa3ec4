"""Idempotency keys: which request made which resource, so that a repeated request makes nothing twice."""

from uuid import UUID

from schema.errors import Conflict
from schema.store.database import Connection
from schema.store.queries import load_queries

KEPT_DAYS = 30
"""For how long a request can be repeated under its key."""

_queries = load_queries("idempotency")


def claim(connection: Connection, tenant_id: int, key: str, body_sha256: str, resource_id: UUID) -> UUID:
    """Return the resource that a key stands for: `resource_id` if the key is new, else the one that it made.

    A second request with the same key waits here until the first has committed or failed.

    Raises: Conflict if the key came with another body before.
    """
    names = {"tenant_id": tenant_id, "key": key}
    if _queries.claim(connection, **names, body_sha256=body_sha256, resource_id=resource_id) is not None:
        return resource_id
    first_body, first_resource = _queries.get(connection, **names)
    if first_body != body_sha256:
        raise Conflict(f"Idempotency-Key {key!r} came with another request before; use a new key for a new request")
    return UUID(str(first_resource))


def delete_old(connection: Connection, *, most: int, kept_days: int = KEPT_DAYS) -> None:
    """Delete up to `most` keys that came longer ago than they are kept."""
    _queries.delete_old(connection, kept_days=kept_days, most=most)
