"""The part of the Python client that is about the installation: who is told of what happens, who may ask, who asked."""

from collections.abc import Iterator
from uuid import UUID

from schema.keys import AuditEntry, AuditPage, Key, KeyPage, KeySpec, NewKey
from schema.webhooks import (
    Delivery,
    DeliveryPage,
    DeliveryState,
    NewWebhook,
    Webhook,
    WebhookPage,
    WebhookPatch,
    WebhookSpec,
)
from service.transport import Transport


class AdminClient(Transport):
    """What a client does with webhooks, API keys and the audit log."""

    # Webhooks

    def create_webhook(self, spec: WebhookSpec, idempotency_key: str | None = None) -> NewWebhook:
        """Have a URL told when something happens; what comes back has the secret, which can't be read again."""
        return self._post("/v1/webhooks", NewWebhook, spec, idempotency_key)

    def webhooks(self) -> Iterator[Webhook]:
        """Yield webhooks, newest first."""
        for page in self._pages("/v1/webhooks", WebhookPage, {}):
            yield from page.items

    def webhook(self, webhook_id: UUID) -> Webhook:
        """Return a webhook."""
        return self._get(f"/v1/webhooks/{webhook_id}", Webhook)

    def change_webhook(self, webhook_id: UUID, patch: WebhookPatch) -> Webhook:
        """Pause a webhook, or take it up again with what it is owed."""
        return self._patch(f"/v1/webhooks/{webhook_id}", Webhook, patch)

    def delete_webhook(self, webhook_id: UUID) -> None:
        """Delete a webhook with all that it is owed."""
        self._send("DELETE", f"/v1/webhooks/{webhook_id}")

    def deliveries(self, webhook_id: UUID, state: DeliveryState | None = None) -> Iterator[Delivery]:
        """Yield what a webhook was told and is to be told, newest first."""
        for page in self._pages(f"/v1/webhooks/{webhook_id}/deliveries", DeliveryPage, {"state": state}):
            yield from page.items

    def test_webhook(self, webhook_id: UUID, idempotency_key: str | None = None) -> Delivery:
        """Have a notice that nothing happened sent, once; `deliveries` says whether it arrived."""
        return self._post(f"/v1/webhooks/{webhook_id}/test", Delivery, idempotency_key=idempotency_key)

    # Keys

    def create_key(self, spec: KeySpec, idempotency_key: str | None = None) -> NewKey:
        """Make a key; `text` of the answer is the only place where it is shown."""
        return self._post("/v1/keys", NewKey, spec, idempotency_key)

    def api_keys(self) -> Iterator[Key]:
        """Yield keys, newest first."""
        for page in self._pages("/v1/keys", KeyPage, {}):
            yield from page.items

    def revoke_key(self, key_id: UUID) -> None:
        """Refuse a key from now on."""
        self._send("DELETE", f"/v1/keys/{key_id}")

    def audit(self, key_id: UUID | None = None) -> Iterator[AuditEntry]:
        """Yield what was done that changes something, the latest first; with one key if it is given."""
        for page in self._pages("/v1/audit", AuditPage, {"key_id": key_id}):
            yield from page.items
