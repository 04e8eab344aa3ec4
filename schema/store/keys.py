"""API keys: rows that hold the sha256 of a secret, and the tenants that keys belong to."""

from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from schema.errors import NotFound
from schema.keys import Credentials, Key, KeySpec
from schema.store.database import Connection
from schema.store.queries import load_queries

_queries = load_queries("keys")


class StoredKey(NamedTuple):
    """A key as it is recognised by."""

    key: Key
    tenant_id: int
    secret_sha256: bytes


def create(connection: Connection, tenant_id: int, spec: KeySpec, credentials: Credentials) -> Key:
    """Store a new key; of its secret only the sha256."""
    row = _queries.insert(
        connection,
        id=credentials.id,
        tenant_id=tenant_id,
        secret_sha256=credentials.digest,
        **spec.model_dump(),
    )
    return _key(row)


def get(connection: Connection, tenant_id: int, id_: UUID) -> Key:
    """Return a key. Raises NotFound if this tenant has no such key."""
    row = _queries.get(connection, tenant_id=tenant_id, id=id_)
    if row is None:
        raise NotFound(f"no key {id_}")
    return _key(row)


def find(connection: Connection, id_: UUID) -> StoredKey | None:
    """Return the key of any tenant that somebody comes with, None if there is none; that it came is noted."""
    row = _queries.find(connection, id=id_)
    if row is None:
        return None
    *fields, tenant_id, secret_sha256, is_long_ago = row
    if is_long_ago:
        _queries.touch(connection, id=id_)
    return StoredKey(_key(tuple(fields)), tenant_id, secret_sha256)


def page(
    connection: Connection, tenant_id: int, *, after: tuple[datetime, UUID] | None = None, limit: int = 50
) -> list[Key]:
    """Return keys, newest first; `after` is the creation time and id of the last one seen."""
    before, after_id = after or (None, None)
    rows = _queries.page(connection, tenant_id=tenant_id, before=before, after_id=after_id, most=limit)
    return [_key(row) for row in rows]


def revoke(connection: Connection, tenant_id: int, id_: UUID) -> None:
    """Refuse a key from now on; once more changes nothing. Raises NotFound if this tenant has no such key."""
    if not _queries.revoke(connection, tenant_id=tenant_id, id=id_):
        raise NotFound(f"no key {id_}")


def tenant(connection: Connection, name: str) -> int:
    """Return the id of the tenant of a name, which is made if there is none."""
    _queries.lock_tenants(connection)
    known = _queries.tenant(connection, name=name)
    return int(_queries.insert_tenant(connection, name=name) if known is None else known)


def _key(row: tuple[Any, ...]) -> Key:
    id_, name, scope, created_at, expires_at, revoked_at, used_at = row
    return Key(
        id=id_,
        name=name,
        scope=scope,
        created_at=created_at,
        expires_at=expires_at,
        revoked_at=revoked_at,
        used_at=used_at,
    )
