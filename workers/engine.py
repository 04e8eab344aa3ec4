"""Carries one job out: claim, heartbeat, the stage's room, and one transaction that writes its results and its end.

Knows leases and failures; does not know what a stage computes.
"""

import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NamedTuple

import structlog
from psycopg_pool import ConnectionPool

from schema import profiles
from schema.errors import (
    DatabaseUnavailable,
    InvalidInput,
    JobStopped,
    LeaseLost,
    LLMUnavailable,
    StorageFull,
    Unavailable,
)
from schema.graph import NewJob
from schema.settings import Settings
from schema.stages import QUEUES, Queue, Stage
from schema.store import database, jobs
from schema.store.database import Connection
from schema.store.jobs import Job
from workers.pulse import Progress, Pulse
from workers.trials import Trials

_log = structlog.get_logger()
_PAUSE_S = 1.0

_ROOMS: dict[Stage, tuple[str, str]] = {
    Stage.INGEST: ("workers.ingest", "ingest"),
    Stage.EXEMPLARS: ("workers.evidence", "collect_exemplars"),
    Stage.MERGE: ("workers.evidence", "merge_exemplars"),
    Stage.STEERING: ("workers.steering", "steer_block"),
    Stage.DESCRIBE: ("workers.describe", "describe_block"),
    Stage.RANK: ("workers.rank", "rank_block"),
    Stage.WRITE: ("workers.write", "write_block"),
    Stage.ACTIVATE: ("workers.activate", "activate_block"),
    Stage.JUDGE: ("workers.judge", "judge_block"),
    Stage.PUBLISH: ("workers.publish", "publish_block"),
    Stage.REPORT: ("workers.report", "report_run"),
}


class Outcome(NamedTuple):
    """What a stage leaves: how to write its results, what later stages read of it, and jobs that it gives rise to."""

    write: Callable[[Connection], None]
    result: dict[str, Any] | None = None
    more: Sequence[NewJob] = ()


class Context(NamedTuple):
    """What a stage's room is given."""

    settings: Settings
    job: Job
    progress: Progress
    pool: ConnectionPool[Connection]

    @property
    def secret(self) -> bytes:
        """Return the server's secret, which authenticates quotations in prompts."""
        return self.settings.secret.get_secret_value().encode()

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Lend a connection for one transaction."""
        with database.lend(self.pool) as connection:
            yield connection

    @contextmanager
    def statements(self) -> Iterator[Connection]:
        """Lend a connection on which every statement is a transaction of its own."""
        with database.lend_autocommit(self.pool) as connection:
            yield connection


Room = Callable[[Context], Outcome]


class Engine:
    """Claims jobs for one process and carries them out."""

    def __init__(self, settings: Settings, pool: ConnectionPool[Connection], *, owner: str) -> None:
        self._settings = settings
        self._pool = pool
        self._owner = owner
        self._pulse = Pulse(settings)
        self._trials = Trials(settings, pool)

    def work(self, stages: Sequence[Stage], ring: Callable[[list[Queue]], bool]) -> bool:
        """Carry out one ready job of some stages; return whether there was one.

        Where the stages need the subject, a trial that waits for it goes first: one, so that jobs have their turn.

        ring is called with queues that have ready jobs: at once for those that this claim left, then for what the
        finished job made ready.
        """
        queue = QUEUES[stages[0]]
        tried = queue == "subject" and self._trials.work()
        lease_s = profiles.lease_s(self._settings) if queue == "llm" else self._settings.lease_s
        with database.lend_autocommit(self._pool) as connection:
            job = jobs.claim(connection, stages, owner=self._owner, lease_s=lease_s)
        if job is None:
            return tried
        ring([queue])
        with structlog.contextvars.bound_contextvars(run=str(job.run_id), job=job.id, stage=str(job.stage)):
            ring(self._carry_out(job, lease_s))
        return True

    def _carry_out(self, job: Job, lease_s: float) -> list[Queue]:
        """Run the job's room and settle the job whatever happens; the task wrapper, so it catches everything."""
        progress = Progress(lambda: self._begin(job))
        if QUEUES[job.stage] == "subject":
            progress.between = self._trials.between_batches(job.run_id, progress.live)
        started = time.monotonic()
        try:
            with self._pulse.holding(job, progress, lease_s):
                outcome = _room(job.stage)(Context(self._settings, job, progress, self._pool))
                with database.lend(self._pool) as connection:
                    outcome.write(connection)
                    queues = jobs.finish(connection, job, outcome.result, outcome.more)
                    jobs.clear_note(connection, job)
        except Exception as exc:
            return self._settle(job, exc)
        _log.info("job done", block=job.block, seconds=round(time.monotonic() - started, 2))
        # Other runs of its corpus pass may have waited for it, which no dependency says.
        return sorted({*queues, QUEUES[job.stage]}) if job.stage == Stage.EXEMPLARS else queues

    def _begin(self, job: Job) -> None:
        with database.lend(self._pool) as connection:
            jobs.begin(connection, job)

    def _settle(self, job: Job, exc: Exception) -> list[Queue]:
        match exc:
            case LeaseLost():
                _log.warning("lease lost", error=str(exc))
                return []
            case JobStopped():
                return self._give_back(job, str(exc), 0)
            case LLMUnavailable():
                return self._give_back(job, str(exc), exc.retry_after_s)
            case DatabaseUnavailable():
                return self._give_back(job, str(exc), 1)
            case Unavailable() | StorageFull():
                return self._give_back(job, str(exc), 10)
            case InvalidInput():
                return self._fail(job, str(exc), final=True)
            case _:
                _log.error("job failed", error=repr(exc), trace=traceback.format_exc())
                return self._fail(job, f"{type(exc).__name__}: {exc}", final=False)

    def _give_back(self, job: Job, reason: str, delay_s: float) -> list[Queue]:
        _log.warning("job given back", reason=reason, delay_s=delay_s)
        again_at = time.monotonic() + delay_s  # however long it takes to tell Postgres

        def tell(connection: Connection) -> list[Queue]:
            jobs.give_back(connection, job, reason=reason, delay_s=max(0.0, again_at - time.monotonic()))
            return []

        return self._report(tell)

    def _fail(self, job: Job, reason: str, *, final: bool) -> list[Queue]:
        return self._report(lambda connection: jobs.fail(connection, job, reason=reason, final=final))

    def _report(self, tell: Callable[[Connection], list[Queue]]) -> list[Queue]:
        """Tell Postgres what became of a job, and again while it can't be: else the job waits for its lease to end."""
        until = time.monotonic() + self._settings.lease_s
        while True:
            try:
                with database.lend(self._pool) as connection:
                    return tell(connection)
            except (Unavailable, StorageFull) as exc:
                _log.warning("not told what became of a job", error=str(exc))
            if time.monotonic() > until:
                return []
            time.sleep(_PAUSE_S)


def _room(stage: Stage) -> Room:
    """Return a stage's function; rooms are imported when first needed, so that only subject workers load torch."""
    module, name = _ROOMS[stage]
    room: Room = getattr(import_module(module), name)
    return room
