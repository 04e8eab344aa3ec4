"""Webhooks over HTTP: have a URL told when something happens, and see what became of each delivery."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Body, Query, Response

from schema import targets
from schema.errors import Conflict
from schema.store import deliveries, webhooks
from schema.store.database import Connection
from schema.webhooks import (
    Delivery,
    DeliveryPage,
    DeliveryQuery,
    NewWebhook,
    Webhook,
    WebhookPage,
    WebhookPatch,
    WebhookSpec,
    secret_of,
)
from schema.wire import PageQuery
from service import examples, webhook_examples
from service.bodies import Strict
from service.cursors import NEWEST, Pager
from service.deps import Held, Repeatable, Tenant

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"], responses=examples.PROBLEMS)


@router.post("", status_code=201, responses=examples.created(webhook_examples.NEW_WEBHOOK))
def create_webhook(
    spec: Annotated[WebhookSpec, Body(openapi_examples=webhook_examples.WEBHOOK_SPECS), Strict()],
    held: Held,
    tenant_id: Tenant,
    intent: Repeatable,
    response: Response,
) -> NewWebhook:
    """Have a URL told when something happens. This answer alone has the secret that deliveries are signed with."""
    targets.locate(spec.url, held.settings.webhook_hosts)

    def work(connection: Connection) -> NewWebhook:
        id_, fresh = intent.claim(connection, spec.model_dump(mode="json"))
        secret = secret_of(held.settings.secret, id_)
        made = webhooks.create(connection, tenant_id, id_, spec) if fresh else webhooks.get(connection, tenant_id, id_)
        return NewWebhook(**dict(made), secret=secret)

    made = held.database.run(work)
    response.headers["Location"] = f"{router.prefix}/{made.id}"
    return made


@router.get("", responses=examples.ok(examples.page(webhook_examples.WEBHOOK)))
def list_webhooks(query: Annotated[PageQuery, Query()], held: Held, tenant_id: Tenant) -> WebhookPage:
    """List webhooks, newest first."""
    pager = Pager("webhooks", NEWEST, query.cursor)
    found = held.database.run(
        lambda connection: webhooks.page(connection, tenant_id, after=pager.after, limit=query.limit + 1)
    )
    return WebhookPage(**pager.cut(found, query.limit, lambda row: (row.created_at, row.id))._asdict())


@router.get("/{webhook_id}", responses=examples.ok(webhook_examples.WEBHOOK))
def get_webhook(webhook_id: UUID, held: Held, tenant_id: Tenant) -> Webhook:
    """Look at a webhook: whether it was disabled, and why."""
    return held.database.run(lambda connection: webhooks.get(connection, tenant_id, webhook_id))


@router.patch("/{webhook_id}", responses=examples.ok(webhook_examples.WEBHOOK))
def change_webhook(
    webhook_id: UUID,
    patch: Annotated[WebhookPatch, Body(openapi_examples=webhook_examples.WEBHOOK_PATCHES), Strict()],
    held: Held,
    tenant_id: Tenant,
) -> Webhook:
    """Pause a webhook, or take it up again: what it is owed by then is sent."""
    change = webhooks.pause if patch.paused else webhooks.resume
    return held.database.run(lambda connection: change(connection, tenant_id, webhook_id))


@router.delete("/{webhook_id}", status_code=204)
def delete_webhook(webhook_id: UUID, held: Held, tenant_id: Tenant) -> None:
    """Delete a webhook with all that it is owed."""
    held.database.run(lambda connection: webhooks.delete(connection, tenant_id, webhook_id))


@router.get("/{webhook_id}/deliveries", responses=examples.ok(examples.page(webhook_examples.DELIVERY)))
def list_deliveries(
    webhook_id: UUID, query: Annotated[DeliveryQuery, Query()], held: Held, tenant_id: Tenant
) -> DeliveryPage:
    """List what a webhook was told in the last 30 days and is to be told, newest first."""
    pager = Pager(["deliveries", webhook_id, query.state], NEWEST, query.cursor)

    def work(connection: Connection) -> list[Delivery]:
        webhooks.get(connection, tenant_id, webhook_id)
        return deliveries.page(connection, webhook_id, state=query.state, after=pager.after, limit=query.limit + 1)

    found = held.database.run(work)
    return DeliveryPage(**pager.cut(found, query.limit, lambda row: (row.created_at, row.id))._asdict())


@router.post("/{webhook_id}/test", status_code=201, responses=examples.created(webhook_examples.TEST_DELIVERY))
def test_webhook(webhook_id: UUID, held: Held, tenant_id: Tenant, intent: Repeatable) -> Delivery:
    """Send a notice that nothing happened, once, within seconds; its delivery says whether it arrived."""

    def work(connection: Connection) -> Delivery:
        found = webhooks.get(connection, tenant_id, webhook_id)
        id_, fresh = intent.claim(connection, None)
        if not fresh:
            return deliveries.get(connection, webhook_id, id_)
        if found.state != "active":
            raise Conflict(f"webhook {webhook_id} is {found.state}; resume it first")
        return deliveries.owe_test(connection, webhook_id, id_)

    return held.database.run(work)
