"""Webhooks: whom to tell what, what is sent, and how it is signed; on the wire and in the store.

A *notice* is what a receiver is told. A *delivery* is a notice on its way to one webhook: it has an id that stays the
same however often it is sent.
"""

import hashlib
import hmac
from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import Field, SecretStr

from schema.errors import Unavailable
from schema.records import Record
from schema.schedules import Change, Reason
from schema.targets import MAX_URL
from schema.wire import PageQuery

Event = Literal["run.finished", "refresh.diff", "budget.reached"]
"""A run is done, failed or cancelled; a refresh is over and its diff written; a run paused by itself, at its budget."""

EVENTS: tuple[Event, ...] = ("run.finished", "refresh.diff", "budget.reached")
WebhookState = Literal["active", "paused", "disabled"]
DeliveryState = Literal["due", "delivered", "failed"]

DELIVERY_HEADER = "X-Glossarium-Delivery"
EVENT_HEADER = "X-Glossarium-Event"
SIGNATURE_HEADER = "X-Glossarium-Signature"


class WebhookSpec(Record):
    """What a user asks of a webhook."""

    url: str = Field(min_length=1, max_length=MAX_URL, examples=["https://hooks.example.com/glossarium"])
    events: tuple[Event, ...] = Field(EVENTS, min_length=1, max_length=10, description="what to tell of")


class WebhookPatch(Record):
    """What is to be changed of a webhook."""

    paused: bool = Field(description="false also takes a disabled webhook up again")


class Webhook(Record):
    """A stored webhook."""

    id: UUID
    spec: WebhookSpec
    state: WebhookState = Field(description="disabled: a delivery failed as often as it is tried; it waits for you")
    last_error: str | None = Field(description="why the last request failed; null once one succeeds")
    n_due: int = Field(description="deliveries that are still to be sent; they wait while it is paused or disabled")
    created_at: datetime


class NewWebhook(Webhook):
    """A webhook as it was made: the only answer that has its secret."""

    secret: str = Field(description="the key of the signatures; it can't be read again")


class RunNotice(Record):
    """What is told of a run, as it was when this happened."""

    run_id: UUID
    dictionary_id: UUID
    dictionary: str | None = Field(description="its name")
    state: str
    note: str | None = Field(description="why it failed or paused")
    n_features: int | None
    created_at: datetime
    finished_at: datetime | None


class DiffNotice(Record):
    """What is told of a refresh; the diff itself is at `/v1/schedules/{schedule_id}/refreshes/{refresh_id}/diff`."""

    schedule_id: UUID
    schedule: str | None = Field(description="its name")
    refresh_id: UUID
    dictionary_id: UUID
    run_id: UUID | None
    slot: datetime
    state: str
    note: str | None
    n_features: int | None
    reasons: dict[Reason, int]
    changes: dict[Change, int]


class Notice(Record):
    """The body of a request to a receiver."""

    id: UUID = Field(description="of the delivery: the same however often it is sent")
    event: Event | Literal["test"]
    created_at: datetime
    data: RunNotice | DiffNotice | None = Field(description="null in a test")


class Delivery(Notice):
    """A notice on its way to a webhook."""

    webhook_id: UUID
    state: DeliveryState = Field(description="failed: a test that did not arrive; all else stays due")
    attempts: int = Field(description="since it was recorded, or its webhook was last resumed")
    last_error: str | None
    due_at: datetime | None = Field(description="when it is tried next; null once it is over")
    delivered_at: datetime | None


class DeliveryQuery(PageQuery):
    """A page of deliveries."""

    state: DeliveryState | None = Field(None, description="only these")


class WebhookPage(Record):
    """Webhooks, newest first."""

    items: tuple[Webhook, ...]
    next_cursor: str | None


class DeliveryPage(Record):
    """Deliveries of a webhook, newest first; those of more than 30 days ago are forgotten."""

    items: tuple[Delivery, ...]
    next_cursor: str | None


def secret_of(installation: SecretStr, webhook_id: UUID) -> str:
    """Return the secret of a webhook. It is derived, not stored: the database alone gives no signature away.

    Raises: Unavailable if the installation has no secret to derive it from.
    """
    key = installation.get_secret_value().encode()
    if not key:
        raise Unavailable("webhooks are signed with keys that are derived from GLOSSARIUM_SECRET; set it everywhere")
    return "whsec_" + hmac.new(key, f"webhook {webhook_id}".encode(), hashlib.sha256).hexdigest()


def signature(secret: str, timestamp: int, body: bytes) -> str:
    """Return the signature header: `t=TIMESTAMP,v1=HMAC-SHA256 of "TIMESTAMP.BODY"`, in hexadecimal.

    timestamp:  of the request, seconds since 1970; a receiver refuses what is too old.
    """
    digest = hmac.new(secret.encode(), b"%d." % timestamp + body, hashlib.sha256).hexdigest()
    return f"t={timestamp},v1={digest}"
