"""Who asks, and whether they may: API keys, their scopes, and how often they come. Knows no endpoint."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from schema.errors import Forbidden, Unauthorized
from schema.keys import Scope, allows, parse_key
from schema.store.keys import StoredKey
from service.rates import Rates

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])

KNOWN_S = 5.0
"""For so long a key that was looked up is known; another process sees it revoked after that time."""
_MOST_KNOWN = 1000
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing."""
_UNKNOWN = "this API key is not known here"
_needed: dict[Callable[..., Any], Scope] = {}


class Caller(NamedTuple):
    """Whose request it is, and what it needs."""

    tenant_id: int
    key_id: UUID
    name: str
    scope: Scope
    needs: Scope
    is_change: bool


def needs(scope: Scope) -> Callable[[Endpoint], Endpoint]:
    """Return a decorator of endpoints that need another scope than their method says."""

    def mark(endpoint: Endpoint) -> Endpoint:
        _needed[endpoint] = scope
        return endpoint

    return mark


def scope_of(method: str, endpoint: Callable[..., Any] | None) -> Scope:
    """Return the scope that an endpoint needs: as marked, else `read` for what only reads and `submit` for the rest."""
    usual: Scope = "read" if method in SAFE else "submit"
    return usual if endpoint is None else _needed.get(endpoint, usual)


class Gate:
    """Lets keys in that are known, valid, and do not come too often."""

    def __init__(self, find: Callable[[UUID], StoredKey | None], rates: Rates) -> None:
        """Take what looks up a key by its id, and what counts requests."""
        self._find = find
        self._rates = rates
        self._known: dict[UUID, tuple[float, StoredKey]] = {}
        self._lock = threading.Lock()

    def identify(self, text: str | None, method: str, endpoint: Callable[..., Any] | None) -> Caller:
        """Return who comes with a key.

        Raises: Unauthorized if there is none, or it is not known, expired or revoked; DatabaseUnavailable.
        """
        if text is None:
            raise Unauthorized("no API key came: send `Authorization: Bearer glk_…`, or sign in at /sign-in")
        credentials = parse_key(text)
        stored = self._look_up(credentials.id)
        if not credentials.fits(stored.secret_sha256 if stored else bytes(32)) or stored is None:
            raise Unauthorized(_UNKNOWN)
        key = stored.key
        if key.revoked_at is not None:
            raise Unauthorized(f"key {key.id} was revoked at {key.revoked_at:%Y-%m-%d %H:%M:%S} UTC")
        if key.expires_at is not None and key.expires_at <= datetime.now(UTC):
            raise Unauthorized(f"key {key.id} expired at {key.expires_at:%Y-%m-%d %H:%M:%S} UTC")
        needed = scope_of(method, endpoint)
        is_change = method not in SAFE and needed != "read"
        return Caller(stored.tenant_id, key.id, key.name, key.scope, needed, is_change)

    def count(self, caller: Caller) -> None:
        """Count a request. Raises RateLimited."""
        self._rates.count(caller.key_id, "changes" if caller.is_change else "reads")

    def admit(self, caller: Caller) -> None:
        """Let a request in. Raises Forbidden if the key's scope does not suffice."""
        if not allows(caller.scope, caller.needs):
            raise Forbidden(
                f"key {caller.key_id} has the scope {caller.scope}, and this needs {caller.needs}; use another key"
            )

    def forget(self, key_id: UUID) -> None:
        """Look a key up again when it comes next."""
        with self._lock:
            self._known.pop(key_id, None)

    def _look_up(self, id_: UUID) -> StoredKey | None:
        known = self._known.get(id_)
        if known is not None and known[0] > time.monotonic():
            return known[1]
        stored = self._find(id_)
        with self._lock:
            self._known.pop(id_, None)
            if stored is not None:
                if len(self._known) >= _MOST_KNOWN:
                    self._known.pop(next(iter(self._known)))
                self._known[id_] = (time.monotonic() + KNOWN_S, stored)
        return stored
