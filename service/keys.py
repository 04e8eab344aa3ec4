"""API keys and the audit log over HTTP, for those who see to them."""

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Body, Query, Response
from pydantic import TypeAdapter

from schema.errors import InvalidInput
from schema.keys import AuditPage, AuditQuery, KeyPage, KeySpec, NewKey, make_credentials
from schema.store import audit, keys
from schema.store.database import Connection
from schema.wire import PageQuery
from service import examples, key_examples
from service.auth import needs
from service.bodies import Strict
from service.cursors import NEWEST, Pager
from service.deps import Held, Repeatable, Tenant

router = APIRouter(prefix="/v1", tags=["keys"], responses=examples.PROBLEMS)
_ENTRY = TypeAdapter(int)


@router.post("/keys", status_code=201, responses=examples.created(key_examples.NEW_KEY))
@needs("admin")
def create_key(
    spec: Annotated[KeySpec, Body(openapi_examples=key_examples.KEY_SPECS), Strict()],
    held: Held,
    tenant_id: Tenant,
    intent: Repeatable,
    response: Response,
) -> NewKey:
    """Make a key of your tenant. It is shown in this answer and never again."""
    if spec.expires_at is not None and spec.expires_at <= datetime.now(UTC):
        raise InvalidInput(f"expires_at={spec.expires_at.isoformat()} is over; name a time that is to come")

    def work(connection: Connection) -> NewKey:
        id_, fresh = intent.claim(connection, spec.model_dump(mode="json"))
        if not fresh:
            return NewKey(**dict(keys.get(connection, tenant_id, id_)), text=None)
        credentials = make_credentials(id_)
        return NewKey(**dict(keys.create(connection, tenant_id, spec, credentials)), text=credentials.text)

    response.headers["Cache-Control"] = "no-store"
    return held.database.run(work)


@router.get("/keys", responses=examples.ok(examples.page(key_examples.KEY)))
@needs("admin")
def list_keys(query: Annotated[PageQuery, Query()], held: Held, tenant_id: Tenant) -> KeyPage:
    """List the keys of your tenant, newest first, without their secrets; those that were revoked as well."""
    pager = Pager("keys", NEWEST, query.cursor)
    found = held.database.run(
        lambda connection: keys.page(connection, tenant_id, after=pager.after, limit=query.limit + 1)
    )
    return KeyPage(**pager.cut(found, query.limit, lambda row: (row.created_at, row.id))._asdict())


@router.delete("/keys/{key_id}", status_code=204)
@needs("admin")
def revoke_key(key_id: UUID, held: Held, tenant_id: Tenant) -> None:
    """Revoke a key: it is refused from now on, by other API processes after five seconds. It stays in the list."""
    held.database.run(lambda connection: keys.revoke(connection, tenant_id, key_id))
    held.gate.forget(key_id)


@router.get("/audit", responses=examples.ok(examples.page(key_examples.AUDIT_ENTRY)))
@needs("admin")
def list_audit(query: Annotated[AuditQuery, Query()], held: Held, tenant_id: Tenant) -> AuditPage:
    """List what was done in your tenant that changes something, or was refused, the latest first."""
    pager = Pager(["audit", query.key_id], _ENTRY, query.cursor)
    found = held.database.run(
        lambda connection: audit.page(
            connection, tenant_id, key_id=query.key_id, after=pager.after, limit=query.limit + 1
        )
    )
    return AuditPage(**pager.cut(found, query.limit, lambda row: row.id)._asdict())
