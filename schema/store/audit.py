"""The audit log: who did what that changes something, when, and with what outcome. Rows are added, never changed."""

from typing import Any
from uuid import UUID

from schema.keys import AuditEntry
from schema.store.database import Connection
from schema.store.queries import load_queries

_queries = load_queries("audit")
_MOST_PATH = 500


def put(connection: Connection, tenant_id: int, key_id: UUID, method: str, path: str, status: int) -> None:
    """Note a request and the HTTP status of its answer; of the path its beginning, and nothing that follows a `?`."""
    short = path[:_MOST_PATH].replace("\0", "")
    _queries.put(connection, tenant_id=tenant_id, key_id=key_id, method=method, path=short, status=status)


def page(
    connection: Connection, tenant_id: int, *, key_id: UUID | None = None, after: int | None = None, limit: int = 50
) -> list[AuditEntry]:
    """Return what was done, the latest first; `after` is the id of the last entry seen."""
    rows = _queries.page(connection, tenant_id=tenant_id, key_id=key_id, before=after, most=limit)
    return [_entry(row) for row in rows]


def _entry(row: tuple[Any, ...]) -> AuditEntry:
    id_, at, key_id, key_name, method, path, status = row
    return AuditEntry(id=id_, at=at, key_id=key_id, key_name=key_name, method=method, path=path, status=status)
