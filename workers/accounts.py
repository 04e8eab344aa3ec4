"""What an LLM call is answered from, entered in and paid from, as `llm` sees it; a run's are kept in Postgres."""

from collections.abc import Mapping
from typing import Any, Protocol

from schema.budgets import Cost
from schema.store.calls import Call


class CompletionCache(Protocol):
    """Where validated replies are kept, by the sha256 of everything that was asked."""

    def get(self, sha256: str) -> Mapping[str, Any] | None:
        """Return what was put under a digest."""

    def put(self, sha256: str, body: Mapping[str, Any]) -> None:
        """Keep a validated reply."""


class Ledger(Protocol):
    """Where calls are entered, one row each."""

    def record(self, call: Call) -> None:
        """Enter a call that is over."""


class Purse(Protocol):
    """What pays for HTTP requests: each reserves what it can cost at most, and settles what it did cost."""

    def reserve(self, most: Cost) -> None:
        """Set an amount aside; what this raises ends the call."""

    def settle(self, most: Cost, cost: Cost | None) -> None:
        """Pay what a request cost of what was set aside for it; None if it was never sent."""


class _Bottomless:
    def reserve(self, most: Cost) -> None:
        """Allow it."""

    def settle(self, most: Cost, cost: Cost | None) -> None:
        """Forget it."""


BOTTOMLESS: Purse = _Bottomless()
"""Of calls that nobody pays for."""
