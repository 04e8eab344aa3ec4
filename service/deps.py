"""What endpoints are given: the pool, the blobs, the doorbell, who asks, the tenant and the idempotency key."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, NamedTuple, TypeVar
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import psycopg
from fastapi import Depends, Header, Path, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from psycopg_pool import ConnectionPool

from schema import recipes
from schema.blobs import Blobs
from schema.errors import DatabaseUnavailable, Forbidden, NotFound, Unavailable
from schema.records import Dictionary
from schema.settings import Settings
from schema.store import idempotency
from schema.store.database import Connection, lend, lend_autocommit
from service.auth import SAFE, Caller, Gate
from service.meaning import Embedder
from service.queue import Doorbell

T = TypeVar("T")
_BEARER = HTTPBearer(
    auto_error=False,
    scheme_name="api_key",
    description="`Authorization: Bearer glk_…`. What only reads needs the scope `read`, what changes something needs "
    "`submit`; keys and the audit log need `admin`.",
)
KEY_COOKIE = "glossarium_key"
"""Where the pages' browser keeps its key; no script can read it."""
_ATTEMPTS = 4
N_LONG = 4
"""Exports and imports at once: they hold a connection for as long as they take, and others need some too."""
_RETRIED = (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)


class Database:
    """The store, one transaction at a time. Endpoints commit before they answer: no `yield` dependency does that."""

    def __init__(self, pool: ConnectionPool[Connection]) -> None:
        self._pool = pool
        self._long = threading.BoundedSemaphore(N_LONG)

    def run(self, work: Callable[[Connection], T]) -> T:
        """Return what `work` returns, once its transaction is committed. Deadlocks are tried again.

        Raises: DatabaseUnavailable if Postgres does not answer.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                with lend(self._pool) as connection:
                    return work(connection)
            except DatabaseUnavailable as exc:
                if attempt == _ATTEMPTS or not isinstance(exc.__cause__, _RETRIED):
                    raise
            time.sleep(random.uniform(0, 0.05 * 2**attempt))  # apart, or the same two meet again
        raise AssertionError("unreachable")

    def look(self, work: Callable[[Connection], T]) -> T:
        """Return what `work` returns, which only reads. Each of its statements sees what is committed by then.

        Without a transaction, which would see no more and take two more round trips.

        Raises: DatabaseUnavailable if Postgres does not answer.
        """
        with lend_autocommit(self._pool) as connection:
            return work(connection)

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """Lend a connection that sees the store as it is now, however long it is read from; it can't write.

        Raises: Unavailable while as many others are lent as may be at once.
        """
        with self._long_work(), lend(self._pool) as connection:
            connection.isolation_level, connection.read_only = psycopg.IsolationLevel.REPEATABLE_READ, True
            try:
                yield connection
            finally:
                if not connection.closed:
                    connection.rollback()
                    connection.isolation_level = connection.read_only = None

    @contextmanager
    def long_transaction(self) -> Iterator[Connection]:
        """Lend a connection for a transaction that takes minutes: commits at the end, rolls back on an exception.

        Raises: as `snapshot`.
        """
        with self._long_work(), lend(self._pool) as connection:
            connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            yield connection

    @contextmanager
    def _long_work(self) -> Iterator[None]:
        if not self._long.acquire(blocking=False):
            raise Unavailable(f"{N_LONG} exports and imports are under way, and no more go at once; try again later")
        try:
            yield
        finally:
            self._long.release()


class Services(NamedTuple):
    """What an application holds for its whole life."""

    settings: Settings
    database: Database
    blobs: Blobs
    doorbell: Doorbell
    gate: Gate
    embedder: Embedder


async def services(request: Request) -> Services:
    """Return the application's services."""
    found: Services = request.app.state.services
    return found


def authenticated(
    request: Request,
    held: Annotated[Services, Depends(services)],
    bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)],
) -> Caller:
    """Return who asks, once they may: by the header, or by the cookie of who signed in on a page.

    Raises: Unauthorized, Forbidden or RateLimited, as `Gate`; Forbidden for a change that another site's page asks for.
    """
    text = bearer.credentials if bearer else request.cookies.get(KEY_COOKIE)
    if bearer is None and text is not None and request.method not in SAFE:
        check_own_page(request)
    caller = held.gate.identify(text, request.method, request.scope.get("endpoint"))
    held.gate.count(caller)
    request.state.caller = caller  # from here on, what it wants to change is noted whatever comes of it
    held.gate.admit(caller)
    return caller


def check_own_page(request: Request) -> None:
    """Refuse what a browser sends, with the cookie, for another site's page. Raises Forbidden."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site != "same-origin" and (site is not None or urlsplit(origin or "").netloc != request.headers.get("host")):
        raise Forbidden("the page of another site asked for this; open the pages of this service and do it there")


async def current_tenant(caller: Annotated[Caller, Depends(authenticated)]) -> int:
    """Return the tenant that the key of the request belongs to."""
    return caller.tenant_id


class Intent(NamedTuple):
    """A POST that may be repeated: its key, if the caller gave one."""

    tenant_id: int
    key: str | None
    target: str

    def claim(self, connection: Connection, body: object, id_: UUID | None = None) -> tuple[UUID, bool]:
        """Return the id of what the request makes (`id_`, or a new one), and whether it is still to be made.

        Raises: Conflict if the key came with another request before.
        """
        fresh = id_ or uuid4()
        if self.key is None:
            return fresh, True
        digest = recipes.digest({"target": self.target, "body": body})
        first = idempotency.claim(connection, self.tenant_id, self.key, digest, fresh)
        return first, first == fresh


async def intent(
    request: Request,
    tenant_id: Annotated[int, Depends(current_tenant)],
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=200,
            description="Any text of yours. The same key with the same request does nothing twice.",
        ),
    ] = None,
) -> Intent:
    """Return what a repeated POST is recognised by."""
    return Intent(tenant_id, idempotency_key, f"{request.method} {request.url.path}")


def check_index(dictionary: Dictionary, index: int) -> None:
    """Refuse an index that a dictionary does not have.

    Raises: NotFound with the value and the limit.
    """
    n_features = dictionary.spec.n_features
    if index >= n_features:
        raise NotFound(f"feature {index} of dictionary {dictionary.id}; must be 0..{n_features - 1}")


Held = Annotated[Services, Depends(services)]
Asker = Annotated[Caller, Depends(authenticated)]
Tenant = Annotated[int, Depends(current_tenant)]
Repeatable = Annotated[Intent, Depends(intent)]
Index = Annotated[int, Path(ge=0, le=2**31 - 1, description="the dictionary's own index of the feature")]
