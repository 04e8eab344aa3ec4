"""Validated LLM replies, per tenant, by the sha256 of everything that was asked."""

from typing import Any

from schema.store.database import Connection
from schema.store.queries import as_json, load_queries

_queries = load_queries("completions")


def get(connection: Connection, tenant_id: int, request_sha256: str) -> dict[str, Any] | None:
    """Return a stored reply, or None."""
    row = _queries.get(connection, tenant_id=tenant_id, request_sha256=request_sha256)
    return None if row is None else dict(row[0])


def put(connection: Connection, tenant_id: int, request_sha256: str, body: dict[str, Any]) -> None:
    """Keep a reply; the first one stays."""
    _queries.put(connection, tenant_id=tenant_id, request_sha256=request_sha256, body=as_json(body))
