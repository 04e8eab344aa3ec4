"""The pulse of a process: one thread and one connection that keep the leases of all its jobs, and see when to stop.

A lease is renewed as long as its job's progress moves. Every few seconds it is looked up whether the run was paused or
cancelled and whether the job is still ours; what was found is raised where the job next says that work goes on.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import structlog

from schema.errors import GlossariumError, JobStopped, LeaseLost
from schema.settings import Settings
from schema.store import database, jobs
from schema.store.database import Connection
from schema.store.jobs import Job

_log = structlog.get_logger()
_STATEMENT_TIMEOUT_MS = 10_000


class Progress:
    """How far a job is. Moving it renews the lease; it raises where the run was paused or cancelled."""

    def __init__(self, begin: Callable[[], None] = lambda: None) -> None:
        """Call `begin` before the first move, which is when the work itself begins."""
        self.done = 0
        self.moves = 1  # the start of an attempt is progress
        self.stopped: GlossariumError | None = None
        self._begin: Callable[[], None] | None = begin
        self.between: Callable[[], None] = lambda: None  # called after each move: work of others may go first
        self._lock = threading.Lock()

    def advance(self, units: int = 0) -> None:
        """Say that work went on; units are what the job counts (features, shards).

        Raises: JobStopped if the run was paused or cancelled, LeaseLost if another worker has the job.
        """
        with self._lock:
            begin, self._begin = self._begin, None
            if begin is not None:
                begin()
            self.done += units
            self.moves += 1
        if self.stopped is not None:
            raise self.stopped
        self.between()

    def live(self) -> None:
        """Say that the worker lives and does something else for a moment."""
        with self._lock:
            self.moves += 1


class _Held:
    """A job in hand."""

    def __init__(self, job: Job, progress: Progress, lease_s: float) -> None:
        self.job, self.progress, self.lease_s = job, progress, lease_s
        self._seen = 0
        self._renewed_at = time.monotonic()

    def is_due(self, heartbeat_s: float) -> bool:
        """Return whether the lease is to be renewed: not too soon, and only for work that went on."""
        return self.progress.moves != self._seen and time.monotonic() - self._renewed_at >= heartbeat_s

    def renew(self, connection: Connection) -> None:
        """Renew the lease. Raises LeaseLost."""
        seen = self.progress.moves
        jobs.heartbeat(connection, self.job, lease_s=self.lease_s, progress=self.progress.done)
        self._seen, self._renewed_at = seen, time.monotonic()


class Pulse:
    """Looks after the jobs that a process has in hand; its thread lives as long as there are any."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._held: dict[int, _Held] = {}
        self._over = threading.Event()

    @contextmanager
    def holding(self, job: Job, progress: Progress, lease_s: float) -> Iterator[None]:
        """Keep a job's lease for as long as the `with` block lasts."""
        with self._lock:
            if not self._held:
                self._over = threading.Event()
                threading.Thread(target=self._beat, args=(self._over,), name="pulse", daemon=True).start()
            self._held[job.id] = _Held(job, progress, lease_s)
        try:
            yield
        finally:
            with self._lock:
                del self._held[job.id]
                if not self._held:
                    self._over.set()

    def _beat(self, over: threading.Event) -> None:
        every_s = min(self._settings.watch_s, self._settings.heartbeat_s)
        while not over.wait(every_s):
            try:
                with self._connect() as connection, database.translated():
                    while not over.is_set():
                        self._look_after(connection)
                        over.wait(every_s)
            except (GlossariumError, psycopg.Error) as exc:
                _log.warning("heartbeat missed", error=str(exc))

    def _connect(self) -> Connection:
        return database.connect(
            self._settings.database_url, autocommit=True, statement_timeout_ms=_STATEMENT_TIMEOUT_MS
        )

    def _look_after(self, connection: Connection) -> None:
        with self._lock:
            held = list(self._held.values())
        states = jobs.run_states(connection, [one.job for one in held])
        for one in held:
            try:
                one.progress.stopped = _why_stop(one.job, states.get(one.job.id)) or one.progress.stopped
                if one.progress.stopped is None and one.is_due(self._settings.heartbeat_s):
                    one.renew(connection)
            except LeaseLost as exc:
                one.progress.stopped = exc


def _why_stop(job: Job, run_state: str | None) -> GlossariumError | None:
    if run_state is None:
        return LeaseLost(f"job {job.id} ({job.stage}) was taken over")
    return JobStopped(f"the run is {run_state}") if run_state in ("paused", "cancelled", "failed") else None
