"""Runs that somebody follows: each is read once for all who follow it, when the database says that it changed.

One connection listens, however many follow, and the pool is lent for the moments of reading alone. While that
connection is lost, runs are read every second instead. Readers take the latest state when they are ready for it: a slow
one skips states and holds up nobody.
"""

import asyncio
import hashlib
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple
from uuid import UUID

import psycopg
import structlog
from fastapi.concurrency import run_in_threadpool

from schema.errors import DatabaseUnavailable, GlossariumError, NotFound, Unavailable
from schema.records import RUN_OVER, Run

CHANNEL = "glossarium_run"
"""The channel of the triggers in schema.sql; a notice is a run's id."""
MOST_READERS = 1000
REST_S = 1.0
"""Between two readings of a run, at least; four times as long as one takes, if that is more."""
POLL_S = 1.0
RESYNC_S = 15.0
"""Without a notice a run is read as rarely: deleting one gives none, and a lost notice costs no more than this."""
_LONGEST_REST_S = 10.0
_CHECK_S = 10.0
_FIRST_S = 8.0  # for the first reading: a little more than the pool waits for a connection
_RETRY_S = (1.0, 2.0, 5.0)
_READ_AT_ONCE = 2

_log = structlog.get_logger(__name__)
Read = Callable[[int, UUID], Run]


class Standing(NamedTuple):
    """How a run stands: equal states have equal ids, in whichever process."""

    id: str
    data: str
    over: bool


class Followed:
    """A run that somebody follows.

    standing:  the latest known; None before the first reading.
    gone:      why it can't be followed any more.
    """

    def __init__(self) -> None:
        self.standing: Standing | None = None
        self.gone: str | None = None
        self.n_readers = 0
        self.stirred = asyncio.Event()
        self._news = asyncio.Event()

    async def news(self, seen: str | None, timeout_s: float) -> Standing | None:
        """Return how the run stands if that is not what was seen, at once or when it changes; None if it takes longer.

        Raises: NotFound if the run is gone.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self.gone is None and (self.standing is None or self.standing.id == seen):
                    await self._news.wait()
        if self.gone is not None:
            raise NotFound(self.gone)
        return None if self.standing is None or self.standing.id == seen else self.standing

    def tell(self, run: Run) -> None:
        """Let readers know how the run stands."""
        data = run.model_dump_json(exclude={"usage", "dead"})
        standing = Standing(hashlib.sha256(data.encode()).hexdigest()[:16], data, run.state in RUN_OVER)
        if standing != self.standing:
            self.standing = standing
            self._wake()

    def end(self, why: str) -> None:
        """Let readers know that there is nothing to follow."""
        self.gone = why
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


class Following:
    """All runs that are followed in this process. Lives in the event loop."""

    def __init__(self, database_url: str, read: Read) -> None:
        """Name the database; nothing is connected before somebody follows a run.

        read: returns a run by tenant and id; called in a thread. Raises NotFound, Unavailable.
        """
        self._url = database_url
        self._read = read
        self._followed: dict[tuple[int, UUID], Followed] = {}
        self._tasks: dict[tuple[int, UUID], asyncio.Task[None]] = {}
        self._listener: asyncio.Task[None] | None = None
        self._reading = asyncio.Semaphore(_READ_AT_ONCE)
        self.listening = False

    async def enter(self, tenant_id: int, run_id: UUID) -> Followed:
        """Return a run to follow, once it was read; `leave` it afterwards.

        Raises: NotFound, Unavailable if it can't be read or too many follow.
        """
        if sum(one.n_readers for one in self._followed.values()) >= MOST_READERS:
            raise Unavailable(f"{MOST_READERS} follow runs here already; try again later, or look at the run instead")
        if self._listener is None:
            self._listener = asyncio.create_task(self._listen())
        key = (tenant_id, run_id)
        if key not in self._followed:
            self._followed[key] = Followed()
            self._tasks[key] = asyncio.create_task(self._keep(key, self._followed[key]))
        found = self._followed[key]
        found.n_readers += 1
        try:
            if found.standing is None and await found.news(None, _FIRST_S) is None:
                raise DatabaseUnavailable("Postgres does not answer; try again in a few seconds")
        except BaseException:
            self.leave(tenant_id, run_id, found)
            raise
        return found

    def leave(self, tenant_id: int, run_id: UUID, found: Followed) -> None:
        """Follow a run no more; it is no longer read when nobody does."""
        key = (tenant_id, run_id)
        found.n_readers -= 1
        if found.n_readers == 0 and self._followed.get(key) is found:
            del self._followed[key]
            self._tasks.pop(key).cancel()

    async def close(self) -> None:
        """Stop listening and reading."""
        tasks = [*self._tasks.values(), *([self._listener] if self._listener else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep(self, key: tuple[int, UUID], found: Followed) -> None:
        """Read a run whenever it may have changed, until it is over or gone."""
        loop = asyncio.get_running_loop()
        while found.gone is None and not (found.standing and found.standing.over):
            found.stirred.clear()
            async with self._reading:
                started = loop.time()
                await self._look(key, found)
                took_s = loop.time() - started
            await asyncio.sleep(min(max(REST_S, 4 * took_s), _LONGEST_REST_S))
            with suppress(TimeoutError):
                async with asyncio.timeout(RESYNC_S if self.listening else POLL_S):
                    await found.stirred.wait()

    async def _look(self, key: tuple[int, UUID], found: Followed) -> None:
        try:
            found.tell(await run_in_threadpool(self._read, *key))
        except NotFound as exc:
            found.end(str(exc))
        except (GlossariumError, psycopg.Error) as exc:  # the next look may go better
            _log.warning("a run that is followed can't be read", run=str(key[1]), error=str(exc))

    async def _listen(self) -> None:
        """Stir what changed; connect again for as long as it takes."""
        n_failed = 0
        while True:
            try:
                async with await self._connect() as connection:
                    await connection.execute(f"LISTEN {CHANNEL}")
                    n_failed = 0
                    self._set_listening(True)
                    await self._hear(connection)
            except (psycopg.Error, OSError, TimeoutError) as exc:
                _log.warning("nobody listens for runs; they are read every second", error=str(exc))
            self._set_listening(False)
            await asyncio.sleep(_RETRY_S[min(n_failed, len(_RETRY_S) - 1)])
            n_failed += 1

    async def _connect(self) -> "psycopg.AsyncConnection[tuple[object, ...]]":
        return await psycopg.AsyncConnection.connect(
            self._url, autocommit=True, connect_timeout=5, application_name="glossarium events"
        )

    async def _hear(self, connection: "psycopg.AsyncConnection[tuple[object, ...]]") -> None:
        """Take notices in; between them see that the connection lives, as one that went silent gives no sign."""
        while True:
            async for notice in connection.notifies(timeout=_CHECK_S):
                self._stir(notice.payload)
            async with asyncio.timeout(_CHECK_S):
                await connection.execute("SELECT 1")

    def _stir(self, run_id: str) -> None:
        for (_, id_), found in self._followed.items():
            if str(id_) == run_id:
                found.stirred.set()

    def _set_listening(self, listening: bool) -> None:
        """Note whether anybody listens; what changed since it last was so is not known."""
        self.listening = listening
        for found in self._followed.values():
            found.stirred.set()
