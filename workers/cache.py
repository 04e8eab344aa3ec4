"""The cache of LLM replies, kept in Postgres, per tenant."""

from collections.abc import Mapping
from typing import Any

from schema.store import completions
from workers.engine import Context


class StoredCompletions:
    """What `workers.llm.complete` keeps validated replies in."""

    def __init__(self, context: Context, tenant_id: int) -> None:
        """Keep the replies of one tenant."""
        self._context = context
        self._tenant_id = tenant_id

    def get(self, sha256: str) -> Mapping[str, Any] | None:
        """Return the reply under a digest, or None."""
        with self._context.transaction() as connection:
            return completions.get(connection, self._tenant_id, sha256)

    def put(self, sha256: str, body: Mapping[str, Any]) -> None:
        """Keep a validated reply."""
        with self._context.transaction() as connection:
            completions.put(connection, self._tenant_id, sha256, dict(body))
