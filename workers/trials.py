"""Trials between other work: people wait for them, so a worker looks for one before each job and between its batches.

Free of torch: the room that computes is imported when a worker that has a subject takes the first one.
"""

import time
import traceback
from collections.abc import Callable
from importlib import import_module
from uuid import UUID

import psycopg
import structlog
from psycopg_pool import ConnectionPool

from schema.errors import GlossariumError
from schema.settings import Settings
from schema.store import database, trials
from schema.store.database import Connection
from schema.store.trials import Claimed
from schema.trials import ActivationsSpec, Continuations, SteeringSpec, TextActivations

_log = structlog.get_logger()
LOOK_S = 0.5
"""Between two looks for a trial while a job is in hand: each is one small query."""


class Trials:
    """Carries out trials in the process that has the subject; one at a time, in the thread that computes."""

    def __init__(self, settings: Settings, pool: ConnectionPool[Connection]) -> None:
        self._settings = settings
        self._pool = pool

    def work(self, beside: UUID | None = None, lives: Callable[[], None] = lambda: None) -> bool:
        """Carry out the trial that has waited longest, and return whether there was one.

        beside:  the run whose job is in hand: only a trial of its subject is taken then.
        lives:   is called in the middle of it, for the lease of that job.
        Raises:  as `lend`.
        """
        with database.lend_autocommit(self._pool) as connection:
            trial = trials.claim(connection, beside)
        if trial is None:
            return False
        with structlog.contextvars.bound_contextvars(trial=str(trial.id)):
            self._carry_out(trial, lives)
        return True

    def between_batches(self, run_id: UUID, lives: Callable[[], None]) -> Callable[[], None]:
        """Return what a job of a run calls between its batches: a look for a trial, twice a second at most.

        lives:  keeps the lease of the job.
        """
        looked_at = time.monotonic()

        def look() -> None:
            nonlocal looked_at
            if time.monotonic() - looked_at < LOOK_S:
                return
            try:
                self.work(run_id, lives)
            except (GlossariumError, psycopg.Error) as exc:  # the job finds out by itself whether it can go on
                _log.warning("not looked for trials", error=str(exc))
            looked_at = time.monotonic()

        return look

    def _carry_out(self, trial: Claimed, lives: Callable[[], None]) -> None:
        """Do what a trial asks for, and say what came of it or why nothing did; never raises."""
        started = time.monotonic()
        try:
            result = self._compute(trial, lives)
            if result is not None:
                with database.lend(self._pool) as connection:
                    trials.finish(connection, trial.id, result)
        except Exception as exc:  # as the engine does with jobs: whatever it is, the trial has to say it
            self._fail(trial, exc)
        else:
            _log.info("trial done", seconds=round(time.monotonic() - started, 2))

    def _compute(self, trial: Claimed, lives: Callable[[], None]) -> TextActivations | Continuations | None:
        """Return what came of a trial; None if nobody wants it any more once its dictionary is loaded."""
        opened = import_module("workers.opened").open_uploaded(self._settings, trial.dictionary)
        lives()
        with database.lend(self._pool) as connection:
            if trials.is_over(connection, trial.id):
                return None
        room = import_module("workers.trying")
        match trial.spec:
            case ActivationsSpec():
                found: TextActivations = room.read_activations(opened, trial.spec)
                return found
            case SteeringSpec():
                written: Continuations = room.continue_prompt(opened, trial.feature, trial.spec)
                return written

    def _fail(self, trial: Claimed, exc: Exception) -> None:
        """Say why nothing came of a trial. While the database is away, its time runs out instead."""
        known = isinstance(exc, GlossariumError)
        if not known:
            _log.error("trial failed", error=repr(exc), trace=traceback.format_exc())
        error = type(exc).__name__ if known else GlossariumError.__name__
        reason = str(exc) if known else f"{type(exc).__name__}; the worker's log has the details"
        try:
            with database.lend(self._pool) as connection:
                trials.fail(connection, trial.id, error=error, reason=reason)
        except (GlossariumError, psycopg.Error) as unheard:
            _log.warning("not told what became of a trial", error=str(unheard))
